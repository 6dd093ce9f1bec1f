"""A plug-in at work, as gbsep sees it: opened for one signal, fed block by block.

What can go wrong is listed in gbsep.host.sandbox; besides, output with NaN or infinity is a PluginError. After any of
these but ParameterError the instance is closed.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..audio import Block, check_finite
from ..errors import AudioError, PluginError
from . import channel
from .parameters import PluginParameter, Value
from .sandbox import MEMORY_LIMIT_BYTES, Sandbox

LOAD_TIMEOUT_S = 30.0
BLOCK_TIMEOUT_S = 30.0

Changes = Sequence[tuple[int, Mapping[str, Value]]]
"""Automation within a block: (frame of the block, parameters that hold from there on), in order of the frames."""


class PluginInstance:
    """A fresh instance of one plug-in, for one signal. Close it, or use it in a `with` statement.

    label: what messages call it; latency_frames: by how much `process` delays; values: every parameter as the plug-in
    showed it before the first block, for the record; class_id, version: what the plug-in calls itself.
    """

    def __init__(self, sandbox: Sandbox, about: Mapping[str, str], started: Mapping[str, Any], block_timeout_s: float):
        self._sandbox, self._block_timeout_s = sandbox, block_timeout_s
        self.label, self.channels = sandbox.label, sandbox.channels
        self.class_id, self.version = about["class_id"], about["version"]
        self.latency_frames: int = started["latency_frames"]
        self.values: dict[str, Value] = started["values"]
        self._frames = 0

    def process(self, block: Block, changes: Changes = ()) -> Block:
        """The next block of the signal, delayed by `latency_frames`: same shape, new array.

        A mono plug-in treats the channels of a stereo signal each by itself; a stereo plug-in gets a mono signal on
        both channels, and the mean of what it makes of them comes back. The first block sets the longest piece that
        the plug-in gets at once (at most 8192 frames), so it should not be the shortest.
        """
        if block.ndim != 2 or block.shape[0] != self.channels:
            raise AudioError(
                f"plug-in {self.label!r} was opened for blocks of shape ({self.channels}, n), not {block.shape}"
            )
        out = np.empty(block.shape, np.float32)
        waiting: list[tuple[int, slice]] = []
        for number, begin in enumerate(range(0, block.shape[1], channel.SLOT_FRAMES)):
            if len(waiting) == channel.SLOTS:
                self._fetch(out, *waiting.pop(0))
            slot, piece = number % channel.SLOTS, slice(begin, min(begin + channel.SLOT_FRAMES, block.shape[1]))
            self._submit(block, slot, piece, changes)
            waiting.append((slot, piece))
        for slot, piece in waiting:
            self._fetch(out, slot, piece)
        try:
            check_finite(out, self._frames)
        except AudioError as error:
            self.close()
            raise PluginError(f"plug-in {self.label!r} failed during process: {error}") from None
        self._frames += block.shape[1]
        return out

    def _submit(self, block: Block, slot: int, piece: slice, changes: Changes) -> None:
        frames = piece.stop - piece.start
        self._sandbox.slot(slot, frames)[:] = block[:, piece]
        inside = [(at - piece.start, dict(values)) for at, values in changes if piece.start <= at < piece.stop]
        self._sandbox.send("process", self._block_timeout_s, "process", slot=slot, frames=frames, changes=inside)

    def _fetch(self, out: Block, slot: int, piece: slice) -> None:
        self._sandbox.wait("process", self._block_timeout_s)
        out[:, piece] = self._sandbox.slot(slot, piece.stop - piece.start)

    def set(self, name: str, value: Value) -> Value:
        """Set one parameter from the next block on; the value as read back."""
        return self._sandbox.ask("set parameters", self._block_timeout_s, "set", values={name: value})[name]

    def reset(self) -> None:
        """Make the instance anew: nothing heard yet, the state and parameters given by `open_plugin` and `set`."""
        self._sandbox.ask("process", self._block_timeout_s, "reset")
        self._frames = 0

    def parameters(self) -> tuple[PluginParameter, ...]:
        """Every parameter as it is now."""
        rows = self._sandbox.ask("read parameters", self._block_timeout_s, "describe")
        return tuple(PluginParameter(**row | {"choices": tuple(row["choices"])}) for row in rows)

    def save_state(self) -> bytes:
        """The state as it is now, for `open_plugin(state=...)`: a .vstpreset, or raw where the format has none."""
        return base64.b64decode(self._sandbox.ask("save state", self._block_timeout_s, "save"))

    def close(self) -> None:
        """End the process. May be called again."""
        self._sandbox.close()

    def __enter__(self) -> PluginInstance:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def open_path(
    path: Path,
    name: str | None,
    sample_rate: int,
    channels: int,
    parameters: Mapping[str, Value] | None = None,
    state: bytes | None = None,
    *,
    load_timeout_s: float = LOAD_TIMEOUT_S,
    block_timeout_s: float = BLOCK_TIMEOUT_S,
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
) -> PluginInstance:
    """Load the plug-in `name` of the file `path`, which may be None when there is only one in it.

    `sample_rate` in Hz, `channels` 1 or 2 are those of the signal; `state` first, then `parameters`. `load_timeout_s`
    holds for each of loading, restoring the state and setting parameters, `block_timeout_s` for 65536 frames.
    """
    sandbox = Sandbox(name or path.stem, channels, memory_limit_bytes)
    try:
        about = sandbox.ask(
            "load", load_timeout_s, "load", path=str(path), name=name, sample_rate=sample_rate, channels=channels
        )
        if state is not None:
            sandbox.ask("restore state", load_timeout_s, "state", data=base64.b64encode(state).decode())
        if parameters:
            sandbox.ask("set parameters", load_timeout_s, "set", values=dict(parameters))
        started = sandbox.ask("process", block_timeout_s, "start")
    except BaseException:
        sandbox.close()
        raise
    return PluginInstance(sandbox, about, started, block_timeout_s)


def stream(
    instance: PluginInstance, blocks: Iterable[Block], automation: Callable[[int, int], Changes] | None = None
) -> Iterator[Block]:
    """`blocks` through a plug-in, its latency taken out: as many frames come out as went in, each at its own time.

    `automation(first_frame, frames)` gives the changes within a block.
    """
    late, begin = instance.latency_frames, 0
    for block in blocks:
        frames = block.shape[1]
        out = instance.process(block, automation(begin, frames) if automation else ())
        begin += frames
        ready = max(frames - late, 0)
        late -= frames - ready
        if ready:
            yield out[:, frames - ready :]
    tail = min(instance.latency_frames, begin)
    if tail:
        flushed = instance.process(np.zeros((instance.channels, instance.latency_frames), np.float32))
        yield flushed[:, -tail:]
