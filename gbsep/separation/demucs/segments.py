"""Segments of a track that overlap, as Demucs takes and weights them."""

from __future__ import annotations

import numpy as np

from ...audio import Reader


def triangle(frames: int) -> np.ndarray:
    """Demucs' weights of a segment: rising to 1 in the middle, falling after it, nowhere 0.

    >>> triangle(4)
    array([0.5, 1. , 1. , 0.5], dtype=float32)
    """
    rising, falling = np.arange(1, frames // 2 + 1), np.arange(frames - frames // 2, 0, -1)
    weights = np.concatenate([rising, falling]).astype(np.float32)
    result: np.ndarray = weights / weights.max()
    return result


def mean_and_std(reader: Reader) -> tuple[np.float32, np.float32]:
    """Mean and standard deviation of the mono sum, as the Demucs command line normalises a track by."""
    frames, mean, squares = 0, 0.0, 0.0
    for block in reader.blocks():
        mono = block.mean(axis=0, dtype=np.float64)
        # Chan, Golub & LeVeque 1979: combining the sums of squares of two parts.
        delta = mono.mean() - mean
        squares += ((mono - mono.mean()) ** 2).sum() + delta**2 * frames * mono.size / (frames + mono.size)
        frames += mono.size
        mean += delta * mono.size / frames
    return np.float32(mean), np.float32(np.sqrt(squares / max(1, frames - 1)) + 1e-8)
