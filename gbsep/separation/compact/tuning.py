"""The tuning of a song, to which the network's pitches are moved: it knows the semitones of A = 440 Hz best.

Every spectral peak shows how far it is from the nearest semitone, by the phase that its bin gains from frame to frame
(Flanagan & Golden, "Phase vocoder", 1966). These distances are angles on a circle of 100 cents, and their mean
direction is the tuning (Dressler & Streich, "Tuning frequency estimation using circular statistics", 2007).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from .config import Config

CONCERT_A_HZ = 440.0

LOW_HZ, HIGH_HZ = 60.0, 1000.0
"""Range of the peaks used: below, partials are not resolved; above, those of stiff strings are too sharp."""

FAINT_IN_FRAME, FAINT_IN_PIECE = 0.03, 1e-3
"""Part of the highest peak's magnitude below which a peak is ignored."""

AGREEMENT = 0.3
"""Length of the mean direction, 0 to 1, below which a song has no tuning, such as drums and noise."""


def tuning_cents(pieces: Iterable[np.ndarray], config: Config) -> float:
    """Cents, -50 to 50, by which a song is sharp of A = 440 Hz; 0 where it has no pitch.

    Each piece holds spectra from `spectra.spectrum`, complex (channels, frames, n_fft // 2 + 1).
    """
    total, weights = 0j, 0.0
    for spectra in pieces:
        magnitude = abs(spectra)
        inner = magnitude[..., 1:-1]
        peaks = (inner > magnitude[..., :-2]) & (inner >= magnitude[..., 2:])
        peaks &= inner > FAINT_IN_FRAME * inner.max(axis=-1, keepdims=True)
        peaks &= inner > FAINT_IN_PIECE * inner.max(initial=0.0)
        channel, frame, number = np.nonzero(peaks[:, 1:])
        now, before = spectra[channel, frame + 1, number + 1], spectra[channel, frame, number + 1]
        turn = 2 * np.pi * config.hop_length / config.n_fft
        gained = np.angle(now) - np.angle(before) - turn * (number + 1)
        beside = ((gained + np.pi) % (2 * np.pi) - np.pi) / turn
        hz = (number + 1 + beside) * config.sample_rate / config.n_fft
        kept = (abs(beside) < 1) & (hz > LOW_HZ) & (hz < HIGH_HZ)
        weight = np.sqrt(abs(now[kept]))
        total += np.sum(weight * np.exp(2j * np.pi * 12 * np.log2(hz[kept] / CONCERT_A_HZ)), dtype=np.complex128)
        weights += float(weight.sum())
    return float(np.angle(total)) / (2 * np.pi) * 100 if abs(total) > AGREEMENT * weights else 0.0


def tuned(config: Config, cents: float) -> Config:
    """The Config for a song that is `cents` sharp: its pitches move, its weights stay."""
    return replace(config, lowest_hz=config.lowest_hz * 2 ** (cents / 1200))
