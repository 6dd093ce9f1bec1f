"""A chain at work over blocks: routing, dry and wet, side chains, plug-ins, finiteness.

The conventions are those of chain.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from itertools import chain as concatenated
from itertools import tee
from pathlib import Path
from typing import Any

import numpy as np

from ..arguments import checked
from ..audio import Audio, Block, Reader, check_finite, join, rechunk
from ..errors import AudioError, ParameterError, PluginError
from ..io.spool import Spool
from ..params import TAIL_S
from ..plugins import host
from .automation import Automation
from .builtin import Builtin, render_whole
from .butterworth import Butterworth, filter_blocks_zero_phase, sos_of
from .check import check_chain, passes_through
from .ducker import ducker_gains
from .nodes import Effect, Node, Parallel
from .parse import parse_chain
from .plugin import Plugin, PluginReport, bypassed, locate
from .stream import AUTOMATION_STEP_S, BUFFER_FRAMES, Run, cut, processed, silence
from .table import spec_of

PLUGIN_FRAMES = 2**16
"""Frames that the process of a plug-in is given at a time: large, so that the way there and back costs little."""


@checked
def apply_chain(
    audio: Audio,
    chain: tuple[Node, ...] | list[Any],
    tail_s: float = 0.0,
    warn: Callable[[str], None] = lambda message: None,
    sidechains: Mapping[str, Audio] | None = None,
    allow_plugin_paths: bool = False,
) -> Audio:
    """A chain, as a list of JSON objects or from `parse_chain`, over a signal in memory: a signal `tail_s` longer.

    Raises what `parse_chain` and `apply_blocks` raise, and ParameterError for a tail outside TAIL_S.

    >>> apply_chain(Audio(np.ones((1, 3)), 44100), [{"effect": "Invert"}]).samples.tolist()
    [[-1.0, -1.0, -1.0]]
    """
    nodes = chain if isinstance(chain, tuple) else parse_chain(chain)
    tail_frames = round(float(TAIL_S.check(tail_s)) * audio.sample_rate)
    blocks = apply_blocks(
        audio.reader().blocks(),
        nodes,
        audio.sample_rate,
        audio.channels,
        audio.frames,
        tail_frames,
        warn,
        {name: key.reader() for name, key in (sidechains or {}).items()},
        report=lambda report: warn(report.bypassed) if report.bypassed else None,
        allow_plugin_paths=allow_plugin_paths,
    )
    return Audio(join(blocks), audio.sample_rate)


def apply_blocks(
    blocks: Iterable[Block],
    nodes: Iterable[Node],
    sample_rate: int,
    channels: int,
    frames: int,
    tail_frames: int = 0,
    warn: Callable[[str], None] = lambda message: None,
    sidechains: Mapping[str, Reader] | None = None,
    start_s: float = 0.0,
    report: Callable[[PluginReport], None] = lambda report: None,
    folder: Path | None = None,
    allow_plugin_paths: bool = False,
) -> Iterator[Block]:
    """The chain over `frames` frames that come in blocks of any size: exactly frames + tail_frames come out.

    `sidechains` are the stems by name, for effects with a key. `start_s` is where in the song the first frame lies.
    `warn` takes the warnings of `check_chain`, whose errors are raised at once. `report` is called for each plug-in
    that is loaded or bypassed. `folder` is for what has to wait on disk.

    While the chain runs, AudioError names the effect and the frame when something is not finite, and is raised when the
    blocks are not `frames` long; PluginError and ParameterError come from plug-ins.
    """
    nodes, sidechains = tuple(nodes), sidechains or {}
    for name, reader in sidechains.items():
        if reader.sample_rate != sample_rate:
            raise AudioError(f"side chain {name!r} is at {reader.sample_rate} Hz, the chain at {sample_rate} Hz")
    for message in check_chain(nodes, sample_rate, sidechains, allow_plugin_paths=allow_plugin_paths):
        warn(message)
    run = Run(sample_rate, channels, frames + tail_frames, start_s, sidechains, report, folder)
    return run_blocks(blocks, nodes, run, tail_frames)


def run_blocks(blocks: Iterable[Block], nodes: tuple[Node, ...], run: Run, tail_frames: int = 0) -> Iterator[Block]:
    """As `apply_blocks` does, for a chain that `check_chain` has let pass: run.frames come out, the tail with them."""
    frames = run.frames - tail_frames
    return _through(_with_tail(blocks, run.channels, frames, tail_frames), nodes, "chain", run)


def _with_tail(blocks: Iterable[Block], channels: int, frames: int, tail_frames: int) -> Iterator[Block]:
    seen = 0
    for block in blocks:
        seen += block.shape[1]
        yield block
    if seen != frames:
        raise AudioError(f"a chain was promised {frames} frames and given {seen}")
    for start in range(0, tail_frames, BUFFER_FRAMES):
        yield np.zeros((channels, min(BUFFER_FRAMES, tail_frames - start)), np.float32)


def _through(blocks: Iterator[Block], nodes: tuple[Node, ...], where: str, run: Run) -> Iterator[Block]:
    if nodes:
        blocks = _finite(blocks, f"the input of {where}")
    for index, node in enumerate(nodes):
        here = f"{where}[{index}]"
        blocks = _finite(_mixed(blocks, node, here, run), f"the output of {here}, {node.name}")
    return blocks


def _finite(blocks: Iterable[Block], what: str) -> Iterator[Block]:
    frame = 0
    for block in blocks:
        try:
            check_finite(block, frame)
        except AudioError as error:
            raise AudioError(f"{what}: {error}") from None
        yield block
        frame += block.shape[1]


def _mixed(blocks: Iterator[Block], node: Node, where: str, run: Run) -> Iterator[Block]:
    if node.wet == 1.0:
        yield from _stage(blocks, node, where, run)
        return
    dry, processed_in = tee(blocks)
    wet = _stage(processed_in, node, where, run)
    frame = 0
    for before, after in zip(rechunk(dry, BUFFER_FRAMES), rechunk(wet, BUFFER_FRAMES), strict=True):
        share = np.float32(_by_frame(node.wet, run.times_s(frame, before.shape[1])))
        yield before + share * (after - before)
        frame += before.shape[1]


def _stage(blocks: Iterator[Block], node: Node, where: str, run: Run) -> Iterator[Block]:
    if isinstance(node, Effect) and passes_through(node, run.sample_rate):
        return blocks
    stage: Stage = _STAGES.get(node.name, _builtin)
    return stage(blocks, node, where, run)


def _by_frame(value: float | Automation, times_s: np.ndarray) -> np.ndarray | float:
    return value.at(times_s, AUTOMATION_STEP_S) if isinstance(value, Automation) else value


def _parallel(blocks: Iterator[Block], node: Parallel, where: str, run: Run) -> Iterator[Block]:
    branches = [
        rechunk(_through(copy, branch.chain, f"{where}.branches[{number}].chain", run), BUFFER_FRAMES)
        for number, (branch, copy) in enumerate(zip(node.branches, tee(blocks, len(node.branches)), strict=True))
    ]
    frame = 0
    for together in zip(*branches, strict=True):
        times_s = run.times_s(frame, together[0].shape[1])
        total = np.zeros(together[0].shape)
        for branch, block in zip(node.branches, together, strict=True):
            total += block * 10 ** (_by_frame(branch.mix_db, times_s) / 20)
        yield total.astype(np.float32)
        frame += total.shape[1]


def _builtin(blocks: Iterator[Block], node: Effect, where: str, run: Run) -> Iterator[Block]:
    if not spec_of(node.name).streams:
        whole = join(blocks)
        return iter([render_whole(node.name, node.params, whole, run.sample_rate)])
    return processed(
        blocks,
        lambda params, frames: nullcontext(Builtin(node.name, params, run.sample_rate, frames)),
        node.params,
        run,
    )


def _butterworth(blocks: Iterator[Block], node: Effect, where: str, run: Run) -> Iterator[Block]:
    if node.params["zero_phase"]:
        return filter_blocks_zero_phase(blocks, sos_of(node.params, run.sample_rate))
    return processed(blocks, lambda params, frames: nullcontext(Butterworth(params, run.sample_rate)), node.params, run)


def _duck(blocks: Iterator[Block], node: Effect, where: str, run: Run) -> Iterator[Block]:
    params = {**node.params}
    reader = run.sidechains[str(params.pop("sidechain"))]
    key = _key(reader, run)
    gains = (gain[np.newaxis] for gain in ducker_gains(key, params, run.sample_rate, run.start_s))
    for block, gain in zip(rechunk(blocks, BUFFER_FRAMES), rechunk(gains, BUFFER_FRAMES), strict=True):
        yield (block * gain).astype(np.float32)


def _plugin(blocks: Iterator[Block], node: Plugin, where: str, run: Run) -> Iterator[Block]:
    return (_hosted if node.on_failure == "fail" else _hosted_or_bypassed)(blocks, node, where, run)


def _hosted(blocks: Iterator[Block], node: Plugin, where: str, run: Run) -> Iterator[Block]:
    info, opened, channels = locate(node), False, run.channels
    key = run.sidechains[node.sidechain] if node.sidechain is not None else None

    def open_(parameters: Mapping[str, Any], frames: int) -> host.PluginInstance:
        nonlocal opened
        try:
            instance = host.open_plugin(
                info,
                run.sample_rate,
                channels,
                parameters,
                node.state,
                load_timeout_s=node.load_timeout_s,
                block_timeout_s=node.block_timeout_s,
                where=where if node.on_failure == "fail" else "",
                key_channels=key.channels if key else 0,
            )
        except ParameterError as error:
            allowed = f"{error.allowed} ({node.label})"
            raise ParameterError(f"{where}.parameters.{error.name}", error.value, allowed, error.unit) from None
        if not opened:
            about = instance.class_id, instance.version, instance.latency_frames, instance.values
            run.report(PluginReport(where, info.name, *about))
        opened = True
        return instance

    if key is not None:
        blocks = _with_key(blocks, key, run)
    wide = replace(run, channels=channels + (key.channels if key else 0))
    yield from processed(blocks, open_, node.parameters, wide, PLUGIN_FRAMES)


def _with_key(blocks: Iterator[Block], key: Reader, run: Run) -> Iterator[Block]:
    """Blocks with the rows of a side chain's key below those of the signal; the key is silent beyond its end."""
    keys = _key(key, run)
    for block, key_block in zip(rechunk(blocks, BUFFER_FRAMES), rechunk(keys, BUFFER_FRAMES), strict=True):
        yield np.concatenate([block, key_block])


def _key(reader: Reader, run: Run) -> Iterator[Block]:
    return cut(concatenated(reader.blocks(), silence(BUFFER_FRAMES, reader.channels)), run.frames)


def _hosted_or_bypassed(blocks: Iterator[Block], node: Plugin, where: str, run: Run) -> Iterator[Block]:
    with Spool(["dry", "wet"], run.sample_rate, run.channels, run.folder) as spool:
        for block in blocks:
            spool.write({"dry": block})
        chosen = "wet"
        try:
            for block in _hosted(spool.reader("dry").blocks(), node, where, run):
                spool.write({"wet": block})
        except PluginError as error:
            run.report(PluginReport(where, node.label, bypassed=bypassed(where, node, error)))
            chosen = "dry"
        yield from spool.reader(chosen).blocks()


Stage = Callable[[Iterator[Block], Any, str, Run], Iterator[Block]]
"""Runs a node: (blocks, node, JSON path, run) to blocks as long as before."""

_STAGES: dict[str, Stage] = {
    "Butterworth": _butterworth,
    "Ducker": _duck,
    "Parallel": _parallel,
    "Plugin": _plugin,
}
"""How nodes that are no Pedalboard built-ins are run."""
