"""Instruments that rest: while only one of the two plays, all of the mixture is its own."""

from __future__ import annotations

import numpy as np

from .config import Config
from .spectra import power_of, smoothed

SHUT_DB, OPEN_DB = -16.0, -12.0
"""A stem whose share of the power is below the first is taken to rest; above the second it is left as it is."""

REST_FRAMES = 16
"""Frames on either side over which such a share is averaged, by a Hann window."""

LOW_HZ = 65.0, 85.0
"""While the bass plays, all below the first is bass; above the second the network's estimate counts."""

PLAYING = 0.05, 0.1
"""Share of the power below which the bass does not play, and above which it does."""


def keep_lows(config: Config, mixture: np.ndarray, bass: np.ndarray) -> np.ndarray:
    """`bass` (frames, bins) with all of `mixture` at the lowest frequencies while it plays: no guitar reaches there."""
    hz = np.arange(config.bins) * config.sample_rate / config.n_fft
    playing = _gradual(_shares(mixture, bass)[0], *PLAYING)[:, np.newaxis]
    result: np.ndarray = bass + (1 - _gradual(hz, *LOW_HZ)) * playing * (mixture - bass)
    return result


def settle_rests(mixture: np.ndarray, bass: np.ndarray) -> np.ndarray:
    """`bass` (frames, bins), set to `mixture` where the guitar rests and to silence where the bass rests.

    Between a share of SHUT_DB and one of OPEN_DB the change is gradual.
    """
    share_db = 10 * np.log10(_shares(mixture, bass) + 1e-30)
    bass_open, guitar_open = _gradual(share_db, SHUT_DB, OPEN_DB)[..., np.newaxis]
    result: np.ndarray = bass_open * (bass + (1 - guitar_open) * (mixture - bass))
    return result


def _gradual(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """A ramp from 0 at `low` to 1 at `high`, float32."""
    return np.clip((value - low) / (high - low), 0, 1).astype(np.float32)


def _shares(mixture: np.ndarray, bass: np.ndarray) -> np.ndarray:
    """Shares of the power that bass and guitar have around every frame, shape (2, frames)."""
    powers = [power_of(spectra).sum(axis=1) for spectra in (bass, mixture - bass)]
    smooth = np.stack([smoothed(power, REST_FRAMES) for power in powers])
    result: np.ndarray = smooth / (smooth.sum(axis=0) + 1e-12)
    return result
