"""Other sample rates: linear phase, time-aligned, block by block (soxr, https://sourceforge.net/p/soxr)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ..audio import Block, Reader, rechunk
from ..errors import AudioError


def resampled_frames(frames: int, from_rate: int, to_rate: int) -> int:
    """How many frames a signal has at another sample rate: at least one."""
    return max(1, round(frames * to_rate / from_rate))


def resample(reader: Reader, sample_rate: int) -> Reader:
    """The signal at another sample rate, as long as before; see `resampled_frames`.

    Linear phase and time-aligned (soxr, very high quality). The same rate gives the same reader.
    """
    if sample_rate == reader.sample_rate:
        return reader
    frames = resampled_frames(reader.frames, reader.sample_rate, sample_rate)

    def blocks(block_frames: int) -> Iterator[Block]:
        changed = resample_blocks(reader.blocks(), reader.sample_rate, sample_rate, reader.channels, frames)
        return rechunk(changed, block_frames)

    return Reader(sample_rate, reader.channels, frames, blocks)


def resample_blocks(
    blocks: Iterable[Block], from_rate: float, to_rate: float, channels: int, frames: int
) -> Iterator[Block]:
    """`blocks` at another sample rate, exactly `frames` frames long in all; see Stream."""
    stream = Stream(from_rate, to_rate, channels, frames)
    for block in blocks:
        changed = stream.take(block)
        if changed.shape[1]:
            yield changed
    rest = stream.end()
    if rest.shape[1]:
        yield rest


class Stream:
    """Brings blocks to another sample rate, one after the other, exactly `frames` frames in all.

    A rate and back again may miss the length by half a frame of the other rate; so much is cut off the end or padded
    with zeros. `take` and `end` raise AudioError when more is left over or missing. The same rate passes through
    untouched.
    """

    def __init__(self, from_rate: float, to_rate: float, channels: int, frames: int):
        self._channels, self._frames, self._at = channels, frames, 0
        self._slack = int(np.ceil(to_rate / from_rate)) + 1
        self._soxr: Any = None
        if from_rate != to_rate:
            import soxr

            self._soxr = soxr.ResampleStream(from_rate, to_rate, channels, dtype="float32", quality="VHQ")

    def take(self, block: Block) -> Block:
        """What comes out when `block` goes in, which may be nothing."""
        return self._cut(block if self._soxr is None else self._through(np.ascontiguousarray(block.T)))

    def end(self) -> Block:
        """What is left at the end."""
        nothing = np.zeros((self._channels, 0), np.float32)
        last = self._cut(nothing if self._soxr is None else self._through(nothing.T, last=True))
        missing = self._frames - self._at
        if missing > self._slack:
            raise AudioError(f"resampling gives {self._at} frames, {self._frames} were asked for")
        return np.concatenate([last, np.zeros((self._channels, max(0, missing)), np.float32)], axis=1)

    def _through(self, samples: np.ndarray, last: bool = False) -> Block:
        return np.ascontiguousarray(self._soxr.resample_chunk(samples, last=last).T)

    def _cut(self, block: Block) -> Block:
        over = self._at + block.shape[1] - self._frames
        if over > self._slack:
            raise AudioError(f"resampling gives more than the {self._frames} frames asked for")
        self._at += block.shape[1]
        return block[:, : block.shape[1] - max(0, over)]
