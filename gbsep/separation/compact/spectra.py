"""Spectra, their power, and smoothing over frames."""

from __future__ import annotations

import numpy as np
import scipy  # its parts, which take long to load, are loaded when they are first asked for

from ...audio import overlap_add
from .config import Config


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


def spectrum(config: Config, waves: np.ndarray) -> np.ndarray:
    """Spectra, complex64 (channels, frames, n_fft // 2 + 1), of waves (channels, n); centred windows, zero padding."""
    padded = np.pad(waves, ((0, 0), (config.n_fft // 2, config.n_fft // 2)))
    cut = np.lib.stride_tricks.sliding_window_view(padded, config.n_fft, axis=1)[:, :: config.hop_length]
    result: np.ndarray = scipy.fft.rfft(cut * (_window(config) * np.float32(2.0 / config.n_fft)), axis=-1)
    return result


def waves(config: Config, spectra: np.ndarray, length: int) -> np.ndarray:
    """The inverse of `spectrum`, float32 (channels, length); highest bins that are missing in `spectra` are zero."""
    window = _window(config) * np.float32(config.n_fft / 2.0)
    cut = scipy.fft.irfft(spectra, config.n_fft, axis=-1) * window
    power = np.broadcast_to(_window(config) ** 2, cut.shape[-2:])
    start = config.n_fft // 2
    made = np.zeros((len(cut), length), np.float32)
    summed = (overlap_add(windows, config.hop_length)[..., start : start + length] for windows in (cut, power))
    added, weight = summed
    made[:, : added.shape[-1]] = added / np.maximum(weight, np.float32(1e-11))
    return made


def _window(config: Config) -> np.ndarray:
    return np.hanning(config.n_fft + 1)[:-1].astype(np.float32)
