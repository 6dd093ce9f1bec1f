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
