"""One effect over a stream of blocks: latency taken off, parameters moved by automation.

Lanes are applied in steps of AUTOMATION_STEP_S by two instances of the effect that get the same input: while one fades
in, the other fades out, and each takes a new value only when it is silent. So nothing clicks, and between two steps the
output, not the parameter, is interpolated. The steps begin at the lanes' points; a jump of "hold" is faded in the step
after it. (Lanes of BrickwallLimiter act earlier by its look-ahead.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from itertools import chain as concatenated
from itertools import count, islice, pairwise, repeat, starmap, tee
from pathlib import Path
from typing import Any

import numpy as np

from ..audio import Block, Reader, rechunk
from ..plugins import host
from .automation import Automation
from .plugin import PluginReport
from .processor import Changes, Processor

AUTOMATION_STEP_S = 0.008
"""A gain moving by 60 dB in a second is then -68 dB away from one that moves by frames."""
BUFFER_FRAMES = 8192
"""Frames that an effect is given at a time: Pedalboard's own default."""

Opener = Callable[[Mapping[str, Any], int], AbstractContextManager[Processor]]
"""Gives a fresh instance with fixed parameters; no block, nor any piece between changes, will be shorter than the
frames that it is told."""


@dataclass(frozen=True)
class Run:
    """What all nodes of a running chain share; `frames` counts the tail too."""

    sample_rate: int
    channels: int
    frames: int
    start_s: float
    sidechains: Mapping[str, Reader] = field(repr=False)
    report: Callable[[PluginReport], None]
    folder: Path | None

    def times_s(self, first_frame: int, frames: int) -> np.ndarray:
        return self.start_s + np.arange(first_frame, first_frame + frames) / self.sample_rate


def processed(
    blocks: Iterator[Block], open_: Opener, params: Mapping[str, Any], run: Run, block_frames: int = BUFFER_FRAMES
) -> Iterator[Block]:
    """The signal through an effect, without its latency: silence follows the signal until all has come out."""
    lanes = {name: value for name, value in params.items() if isinstance(value, Automation)}
    signal = concatenated(blocks, silence(BUFFER_FRAMES, run.channels))
    with ExitStack() as instances:
        if lanes:
            step_frames = max(8, round(AUTOMATION_STEP_S * run.sample_rate))
            begin = {name: float(lane.at(np.array(run.start_s))) for name, lane in lanes.items()}
            pair = [instances.enter_context(open_({**params, **begin}, step_frames // 2 - 1)) for _ in range(2)]
            outputs, latency_frames = _automated(signal, pair, lanes, step_frames, run), pair[0].latency_frames
        else:
            processor = instances.enter_context(open_(params, block_frames))
            outputs = _outputs(processor, ((block, ()) for block in rechunk(signal, block_frames)))
            latency_frames = processor.latency_frames
        yield from cut(outputs, run.frames, latency_frames)


def _automated(
    signal: Iterator[Block], pair: Sequence[Processor], lanes: Mapping[str, Automation], step_frames: int, run: Run
) -> Iterator[Block]:
    """The signal through two instances of an effect whose parameters follow the lanes; see the module's conventions.

    The lanes are read at nodes. Between two of them the output moves from the values at the one to those at the other:
    the first instance has the values of the even nodes and is alone there, the second those of the odd ones.
    """
    groups, for_first, for_second = tee(_groups(signal, lanes, step_frames, pair[0].latency_frames, run), 3)
    firsts = _outputs(pair[0], ((group.block, group.changes[0]) for group in for_first))
    seconds = _outputs(pair[1], ((group.block, group.changes[1]) for group in for_second))
    for edges, first, second in zip((group.edges for group in groups), firsts, seconds, strict=True):
        share = np.interp(np.arange(edges[-1] - first.shape[1], edges[-1]), edges, np.arange(len(edges)) % 2)
        yield first + share.astype(np.float32) * (second - first)


@dataclass(frozen=True)
class _Group:
    """A block from one node to another, the nodes in between, and what changes there in each of two instances."""

    block: Block
    edges: np.ndarray
    changes: tuple[Changes, Changes]


def _groups(
    signal: Iterator[Block], lanes: Mapping[str, Automation], step_frames: int, latency_frames: int, run: Run
) -> Iterator[_Group]:
    nodes = _nodes(lanes, step_frames, latency_frames, run)
    steps = 2 * max(1, BUFFER_FRAMES // (2 * step_frames))
    now: list[dict[str, float]] = [{}, {}]
    held, end = np.zeros((run.channels, 0), np.float32), next(nodes)
    while True:
        group = np.array([end, *islice(nodes, steps)])
        end = group[-1]
        edges = group - group[0]
        while held.shape[1] < edges[-1]:
            held = np.concatenate([held, next(signal)], axis=1)
        block, held = held[:, : edges[-1]], held[:, edges[-1] :]
        times_s = run.start_s + (group - latency_frames) / run.sample_rate
        # A jump of "hold" lies just behind its node, so that it is faded from there to the next.
        late_s = {name: 0.5 / run.sample_rate * (lane.shape == "hold") for name, lane in lanes.items()}
        values = {name: lane.at(times_s - late_s[name]).tolist() for name, lane in lanes.items()}
        changes: tuple[list[Any], list[Any]] = ([], [])
        for turn in (0, 1):
            for step in (0, *range(1 + turn, steps, 2)):
                wanted = {name: at_nodes[step + (step + turn) % 2] for name, at_nodes in values.items()}
                if wanted != now[turn]:
                    changes[turn].append((int(edges[step]), wanted))
                    now[turn] = wanted
        yield _Group(block, edges, changes)


def _nodes(lanes: Mapping[str, Automation], step_frames: int, latency_frames: int, run: Run) -> Iterator[int]:
    """Where the lanes are read: at their points and, without end, in equal steps of at most `step_frames`."""
    points_s = {time_s for lane in lanes.values() for time_s, _ in lane.points}
    corners = [0]
    for time_s in sorted(points_s):
        corner = round((time_s - run.start_s) * run.sample_rate) + latency_frames
        if corners[-1] + step_frames <= corner <= run.frames + latency_frames:
            corners.append(corner)
    for start, stop in pairwise(corners):
        steps = math.ceil((stop - start) / step_frames)
        yield from (start + step * (stop - start) // steps for step in range(steps))
    yield from count(corners[-1], step_frames)


def _outputs(processor: Processor, pieces: Iterable[tuple[Block, Changes]]) -> Iterator[Block]:
    """The output for each block and its changes. A plug-in works on a block while the next is made."""
    if isinstance(processor, host.PluginInstance):
        return processor.stream(pieces)
    return starmap(processor.process, pieces)


def silence(frames: int, channels: int) -> Iterator[Block]:
    return repeat(np.zeros((channels, frames), np.float32))


def cut(blocks: Iterable[Block], frames: int, skip: int = 0) -> Iterator[Block]:
    """`frames` frames, after the first `skip`."""
    for block in blocks:
        kept = block[:, skip : skip + frames]
        skip -= min(skip, block.shape[1])
        frames -= kept.shape[1]
        if kept.shape[1]:
            yield kept
        if not frames:
            return
