"""The spectrogram of HTDemucs and its inverse, on numpy: what torch computes, without loading it.

A piece of `frames` has one column for every hop of a quarter of the window. Its edges are mirrored, and the highest
frequency, which the network does not see, is left out.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy.fft
import scipy.signal

HOPS = 4
"""Hops in a window."""


def spectrum(mixture: np.ndarray, n_fft: int) -> np.ndarray:
    """(channels, frames) as real and imaginary parts by turns: (2 * channels, n_fft / 2, columns), float32."""
    hop, channels, columns = n_fft // HOPS, mixture.shape[0], -(-mixture.shape[1] // (n_fft // HOPS))
    edge = hop // 2 * 3
    padded = np.pad(mixture, ((0, 0), (edge, edge + columns * hop - mixture.shape[1])), mode="reflect")
    pieces = np.lib.stride_tricks.sliding_window_view(padded, n_fft, axis=1)[:, ::hop]
    bins = scipy.fft.rfft(pieces * _window(n_fft), axis=2)[:, :, : n_fft // 2] / np.float32(np.sqrt(n_fft))
    parts = np.stack([bins.real, bins.imag], axis=1).reshape(2 * channels, columns, n_fft // 2)
    return np.ascontiguousarray(parts.transpose(0, 2, 1), np.float32)


def wave(parts: np.ndarray, frames: int) -> np.ndarray:
    """The inverse: (..., 2 * channels, n_fft / 2, columns) as (..., channels, frames), float32."""
    *outer, rows, half, columns = parts.shape
    n_fft, hop = 2 * half, 2 * half // HOPS
    result = np.empty((int(np.prod(outer)) * rows // 2, frames), np.float32)
    # Overlapping windows, two columns of nothing before and after, as the network does not see those.
    total = _overlapped(np.broadcast_to(_window(n_fft) ** 2, (columns + HOPS, n_fft)))
    first = n_fft // 2 + hop // 2 * 3
    for row, (real, imaginary) in enumerate(parts.reshape(-1, 2, half, columns)):
        bins = np.zeros((columns, half + 1), np.complex64)
        bins[:, :half].real, bins[:, :half].imag = real.T, imaginary.T
        pieces = scipy.fft.irfft(bins, n_fft, axis=1) * (_window(n_fft) * np.float32(np.sqrt(n_fft)))
        summed = _overlapped(np.pad(pieces, ((HOPS // 2, HOPS // 2), (0, 0))))
        result[row] = (summed[first : first + frames]) / total[first : first + frames]
    return result.reshape(*outer, rows // 2, frames)


def _overlapped(pieces: np.ndarray) -> np.ndarray:
    """The sum of pieces (count, n_fft) that begin a hop apart."""
    count, n_fft = pieces.shape
    hop = n_fft // HOPS
    result = np.zeros((count + HOPS - 1, hop), np.float32)
    for quarter in range(HOPS):
        result[quarter : quarter + count] += pieces[:, quarter * hop : (quarter + 1) * hop]
    return result.reshape(-1)


@lru_cache(maxsize=4)
def _window(n_fft: int) -> np.ndarray:
    result: np.ndarray = scipy.signal.get_window("hann", n_fft).astype(np.float32)
    return result
