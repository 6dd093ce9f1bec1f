"""Other sample rates: linear phase, time-aligned, block by block (soxr, https://sourceforge.net/p/soxr)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from ..audio import Block, Reader, rechunk
from ..errors import AudioError


def resample(reader: Reader, sample_rate: int) -> Reader:
    """The signal at another sample rate, round(frames * sample_rate / reader.sample_rate) frames long (at least one).

    Linear phase and time-aligned (soxr, very high quality). The same rate gives the same reader.
    """
    if sample_rate == reader.sample_rate:
        return reader
    frames = max(1, round(reader.frames * sample_rate / reader.sample_rate))

    def blocks(block_frames: int) -> Iterator[Block]:
        changed = resample_blocks(reader.blocks(), reader.sample_rate, sample_rate, reader.channels, frames)
        return rechunk(changed, block_frames)

    return Reader(sample_rate, reader.channels, frames, blocks)


def resample_blocks(
    blocks: Iterable[Block], from_rate: float, to_rate: float, channels: int, frames: int
) -> Iterator[Block]:
    """`blocks` at another sample rate, exactly `frames` frames long in all.

    A rate and back again may miss the length by half a frame of the other rate; so much is cut off the end or padded
    with zeros. Raises AudioError when more is missing or left over. The same rate passes through untouched.
    """
    slack = int(np.ceil(to_rate / from_rate)) + 1
    at = 0
    for block in blocks if from_rate == to_rate else _soxr(blocks, from_rate, to_rate, channels):
        over = at + block.shape[1] - frames
        if over > slack:
            raise AudioError(f"resampling gives more than the {frames} frames asked for")
        at += block.shape[1]
        kept = block[:, : block.shape[1] - max(0, over)]
        if kept.shape[1]:
            yield kept
    if frames - at > slack:
        raise AudioError(f"resampling gives {at} frames, {frames} were asked for")
    if frames > at:
        yield np.zeros((channels, frames - at), np.float32)


def _soxr(blocks: Iterable[Block], from_rate: float, to_rate: float, channels: int) -> Iterator[Block]:
    import soxr

    stream = soxr.ResampleStream(from_rate, to_rate, channels, dtype="float32", quality="VHQ")
    for block in blocks:
        yield np.ascontiguousarray(stream.resample_chunk(np.ascontiguousarray(block.T)).T)
    yield np.ascontiguousarray(stream.resample_chunk(np.zeros((0, channels), np.float32), last=True).T)
