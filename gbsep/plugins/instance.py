"""A plug-in at work, as gbsep sees it: opened for one signal, fed block by block.

What can go wrong is listed in sandbox.py; besides, output with NaN or infinity and a latency that changes are
a PluginError. An instance that has failed is closed.
"""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..audio import Block, check_finite
from ..errors import AudioError, ParameterError, PluginError
from .sandbox import MEMORY_LIMIT_BYTES, Limit, Sandbox, limit
from .scan import PluginInfo
from .worker import channel
from .worker.parameters import Value

Changes = Sequence[tuple[int, Mapping[str, Value]]]
"""Automation within a block: (frame of the block, parameters that hold from there on), in order of the frames."""


class _Sent(NamedTuple):
    """A part of a block on its way through the plug-in: where it lies meanwhile, and where it will go.

    `changed` are the parameters that change in it.
    """

    slot: int
    out: Block
    part: slice
    changed: Set[str]


class PluginInstance:
    """A fresh instance of one plug-in, for one signal. Close it, or use it in a `with` statement.

    label: what messages call it; channels: of the signal, which its blocks have, followed by `key_channels` for the
    side chain; latency_frames: by how much `process` delays; values: every parameter before the first block, as the
    plug-in shows it; class_id, version: what the plug-in calls itself.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        about: Mapping[str, str],
        started: Mapping[str, Any],
        block_limit: Limit,
        key_channels: int = 0,
    ):
        self._sandbox, self._block_limit = sandbox, block_limit
        self.label, self.channels, self.key_channels = sandbox.label, sandbox.channels - key_channels, key_channels
        self.class_id, self.version = about["class_id"], about["version"]
        self.latency_frames: int = started["latency_frames"]
        self.values: dict[str, Value] = started["values"]
        self._fetched_frames = 0

    def process(self, block: Block, changes: Changes = ()) -> Block:
        """The next block, shape (channels + key_channels, n), to one of (channels, n), delayed by `latency_frames`.

        How a signal goes through a plug-in with other channels, worker/layout.py says. A value of `changes` that
        the plug-in cannot represent is rounded by it; one outside its range is a ParameterError.
        """
        return next(self.stream([(block, changes)]))

    def stream(self, pieces: Iterable[tuple[Block, Changes]]) -> Iterator[Block]:
        """Yield `process(block, changes)` for each piece, in order.

        While the plug-in works, the next block is fetched and the previous one is used, so the transfer to its process
        and back costs almost no time. A stream that is not read to its end closes the instance, which has then
        processed more than was taken from it.
        """
        sent: deque[_Sent] = deque()
        try:
            for block, changes in pieces:
                self._check(block)
                out = np.empty((self.channels, block.shape[1]), np.float32)
                for begin in range(0, max(block.shape[1], 1), channel.SLOT_FRAMES):
                    if len(sent) == channel.SLOTS:
                        yield from self._fetch(sent.popleft())
                    slot = (sent[-1].slot + 1) % channel.SLOTS if sent else 0
                    part = slice(begin, min(begin + channel.SLOT_FRAMES, block.shape[1]))
                    inside = [(at - begin, dict(values)) for at, values in changes if part.start <= at < part.stop]
                    sent.append(_Sent(slot, out, part, {name for _, values in inside for name in values}))
                    self._submit(sent[-1], block, inside)
            while sent:
                yield from self._fetch(sent.popleft())
        except ParameterError:
            self.close()
            raise
        finally:
            if sent:
                self.close()

    def _check(self, block: Block) -> None:
        rows = self.channels + self.key_channels
        if block.ndim != 2 or block.shape[0] != rows:
            raise AudioError(f"plug-in {self.label!r} was opened for blocks of shape ({rows}, n), not {block.shape}")

    def _submit(self, piece: _Sent, block: Block, changes: Changes) -> None:
        frames = piece.part.stop - piece.part.start
        self._sandbox.slot(piece.slot, frames)[:] = block[:, piece.part]
        self._sandbox.send("process", self._block_limit, "process", slot=piece.slot, frames=frames, changes=changes)

    def _fetch(self, piece: _Sent) -> Iterator[Block]:
        """Take one piece out; the whole block, once it is there."""
        latency_frames = self._sandbox.wait("process", self._block_limit)
        if latency_frames != self.latency_frames:
            changed = f"; what changes it cannot be automated: {', '.join(sorted(piece.changed))}" * bool(piece.changed)
            self._sandbox.fail(
                "process", f"its latency changed from {self.latency_frames} to {latency_frames} frames{changed}"
            )
        piece.out[:, piece.part] = self._sandbox.slot(piece.slot, piece.part.stop - piece.part.start)[: self.channels]
        try:
            check_finite(piece.out[:, piece.part], self._fetched_frames)
        except AudioError as error:
            self._sandbox.fail("process", str(error))
        self._fetched_frames += piece.part.stop - piece.part.start
        if piece.part.stop == piece.out.shape[1]:
            yield piece.out

    def save_state(self) -> bytes:
        """The state at the first frame, for `open_plugin(state=...)`: a .vstpreset, or raw for Audio Units."""
        return base64.b64decode(self._sandbox.ask("save state", self._block_limit, "save"))

    def close(self) -> None:
        """End the process. May be called again."""
        self._sandbox.close()

    def __enter__(self) -> PluginInstance:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def open_plugin(
    plugin: PluginInfo | str | Path,
    sample_rate: int,
    channels: int,
    parameters: Mapping[str, Value] | None = None,
    state: bytes | None = None,
    *,
    load_timeout_s: float | None = None,
    block_timeout_s: float | None = None,
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
    where: str = "",
    key_channels: int = 0,
) -> PluginInstance:
    """A fresh instance of a plug-in, or of the only one in a file, for a signal of `channels` (1 or 2) channels.

    With `key_channels` (1 or 2) its side-chain bus is fed from the rows of each block that follow the signal's.

    `state` is restored first, then `parameters` are set by their text values and read back. `load_timeout_s` holds for
    each of loading, restoring and setting, `block_timeout_s` for each 65536 frames; without them
    GBSEP_PLUGIN_TIMEOUT does, or 30 s. `where` in a chain it stands is for messages.
    Raises ParameterError, PluginCrashed, PluginTimeout, PluginError.
    """
    if isinstance(plugin, PluginInfo) and plugin.reason:
        raise PluginError(f"{plugin.path} is in quarantine: {plugin.reason}")
    path, name = (plugin.path, plugin.name) if isinstance(plugin, PluginInfo) else (Path(plugin), None)
    load_limit = limit("load_timeout_s", load_timeout_s)
    block_limit = limit("block_timeout_s", block_timeout_s)
    sandbox = Sandbox(name or path.stem, channels + key_channels, memory_limit_bytes, where)
    try:
        about = sandbox.ask(
            "load",
            load_limit,
            "load",
            path=str(path.absolute()),
            name=name,
            sample_rate=sample_rate,
            channels=channels,
            key_channels=key_channels,
        )
        if state is not None:
            sandbox.ask("restore state", load_limit, "state", data=base64.b64encode(state).decode())
        started = sandbox.ask("set parameters", load_limit, "start", values=dict(parameters or {}))
    except BaseException:
        sandbox.close()
        raise
    return PluginInstance(sandbox, about, started, block_limit, key_channels)
