"""Power of spectra, and smoothing over frames."""

from __future__ import annotations

import numpy as np


def power_of(spectra: np.ndarray) -> np.ndarray:
    """Squared magnitudes of complex spectra, without the square root that `abs` takes."""
    result: np.ndarray = spectra.real**2 + spectra.imag**2
    return result


def smoothed(values: np.ndarray, frames: int) -> np.ndarray:
    """Sums of `values` (n,), float64, over `frames` on either side, weighted by a Hann window; silence at the ends."""
    window = np.hanning(2 * frames + 3)[1:-1]
    return np.convolve(values, window)[frames : frames + len(values)]


def moving_mean(powers: np.ndarray, frames: int) -> np.ndarray:
    """Moving average over `frames` on either side, silence beyond the ends, from sums of one, two, four, ... frames."""
    length, width = powers.shape[-2], 2 * frames + 1
    sums = np.pad(powers, [(0, 0)] * (powers.ndim - 2) + [(frames, frames), (0, 0)])
    total, size, done = np.zeros_like(powers), 1, 0
    while True:
        if width & size:
            total += sums[..., done : done + length, :]
            done += size
        if done == width:
            result: np.ndarray = total / np.float32(width)
            return result
        sums = sums[..., :-size, :] + sums[..., size:, :]
        size *= 2
