"""What the network hears of a stem: how loud every third of a semitone is, through windows of three lengths.

The long window tells low pitches apart, the short one tells when a note begins. Frames lie HOP_LENGTH apart, frame n is
centred on sample n * HOP_LENGTH, and outside of the stem there is silence. Pitches are MIDI note numbers, 69 is the A
that the song is tuned to.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

SAMPLE_RATE = 11025
HOP_LENGTH = 128
WINDOWS = (4096, 1536, 512)
"""Lengths of the windows, in samples at SAMPLE_RATE."""
MARGIN = WINDOWS[0] // 2
"""Samples that the first and the last frame see on either side."""

LOWEST_MIDI = 16
BINS_PER_SEMITONE = 3
BINS = 96 * BINS_PER_SEMITONE

FLOOR = 1e-4
"""Magnitude that is silence to the network, where a stem's usual RMS is LEVEL."""
LEVEL = 0.1

FRAMES_PER_S = SAMPLE_RATE / HOP_LENGTH


def spectra(wave: np.ndarray, cents: float = 0.0) -> np.ndarray:
    """Float32 (frames, windows, BINS), 0 at silence and about 1 at the loudest partials, of `wave` (n,).

    `wave` has MARGIN samples before its first frame and after its last. `cents` is by how much the song is sharp.
    """
    from scipy import fft

    frames = (len(wave) - 2 * MARGIN) // HOP_LENGTH + 1
    made = np.empty((frames, len(WINDOWS), BINS), np.float32)
    for number, length in enumerate(WINDOWS):
        inner = wave[MARGIN - length // 2 :]
        cut = np.lib.stride_tricks.sliding_window_view(inner, length)[::HOP_LENGTH][:frames]
        bins = fft.rfft(cut * _window(length), axis=-1)
        power = np.square(bins.real) + np.square(bins.imag)
        made[:, number] = (_bank(length, round(cents, 1)) @ power.T).T
    loudness: np.ndarray = np.log10(np.sqrt(made) + np.float32(FLOOR)) / np.float32(-np.log10(FLOOR)) + np.float32(1)
    return loudness


@lru_cache(len(WINDOWS))
def _window(length: int) -> np.ndarray:
    window = np.hanning(length + 1)[:-1]
    scaled: np.ndarray = (window * 2 / window.sum()).astype(np.float32)
    return scaled


@lru_cache(4 * len(WINDOWS))
def _bank(length: int, cents: float) -> Any:
    """Sparse (BINS, length // 2 + 1): triangles as wide as the steps of the pitch axis, at least as wide as a bin."""
    from scipy import sparse

    step = 1 / BINS_PER_SEMITONE
    middle = 440.0 * 2 ** ((LOWEST_MIDI + step * np.arange(BINS) - 69 + cents / 100) / 12)
    bin_hz = SAMPLE_RATE / length
    half = np.maximum(middle * (2 ** (step / 12) - 1), bin_hz)
    hz = bin_hz * np.arange(length // 2 + 1)
    weights = np.maximum(0, 1 - abs(hz - middle[:, np.newaxis]) / half[:, np.newaxis])
    return sparse.csr_matrix(weights.astype(np.float32))
