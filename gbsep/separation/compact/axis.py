"""The pitch axis: where the harmonics of a pitch lie in the linear spectrum, and maps from one to the other."""

from __future__ import annotations

import numpy as np

from .config import Config


def harmonic_bins(config: Config) -> np.ndarray:
    """The fractional bin of every harmonic of every pitch, (gathered * pitches,)."""
    pitch_hz = config.lowest_hz * 2 ** (np.arange(config.pitches) / config.bins_per_octave)
    return np.outer(np.arange(1, config.gathered + 1), pitch_hz).ravel() * config.n_fft / config.sample_rate


def spread(config: Config) -> np.ndarray:
    """Matrix (bins, harmonics * pitches) that writes harmonics to bins."""
    bin_hz = np.maximum(np.arange(config.bins), 0.5) * config.sample_rate / config.n_fft
    pitches = [config.bins_per_octave * np.log2(bin_hz / h / config.lowest_hz) for h in range(1, config.harmonics + 1)]
    return np.concatenate([interpolation(places, config.pitches) for places in pitches], axis=1)


def interpolation(places: np.ndarray, length: int) -> np.ndarray:
    """Matrix (len(places), length) that reads a signal of `length` at fractional places; zero outside it."""
    matrix = np.zeros((len(places), length))
    inside = np.flatnonzero((places >= 0) & (places <= length - 1))
    low = np.minimum(np.floor(places[inside]).astype(int), length - 2)
    fraction = places[inside] - low
    matrix[inside, low] = 1 - fraction
    matrix[inside, low + 1] = fraction
    return matrix
