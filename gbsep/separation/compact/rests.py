"""Who rests and who plays: what is surely one instrument's goes to it whole."""

from __future__ import annotations

import numpy as np

from .config import Config
from .places import power_of

SHUT_DB, OPEN_DB = -16.0, -12.0
"""Part of the mixture's power below which a stem is taken to rest, and above which it is left as it is."""

REST_FRAMES = 16
"""Spectra on either side that such a power is a weighted mean of."""

LOW_HZ = 65.0, 85.0
"""Below the first of them all is the bass's while it plays, above the second what the network says."""

PLAYS = 0.05, 0.1
"""Part of the power below which the bass is not taken to play, and above which it is."""


def lows_kept(config: Config, mixture: np.ndarray, bass: np.ndarray) -> np.ndarray:
    """`bass` (frames, bins), and all of `mixture` at the lowest frequencies while it plays: no guitar is there."""
    hz = np.arange(config.bins) * config.sample_rate / config.n_fft
    playing = _gradual(_shares(mixture, bass)[0], *PLAYS)[:, np.newaxis]
    result: np.ndarray = bass + (1 - _gradual(hz, *LOW_HZ)) * playing * (mixture - bass)
    return result


def rests_settled(mixture: np.ndarray, bass: np.ndarray) -> np.ndarray:
    """`bass` (frames, bins): all of `mixture` in its bins where the guitar rests, none where the bass does.

    Between SHUT_DB and OPEN_DB of the mixture's power in these bins the change is gradual.
    """
    share_db = 10 * np.log10(_shares(mixture, bass) + 1e-30)
    bass_open, guitar_open = _gradual(share_db, SHUT_DB, OPEN_DB)[..., np.newaxis]
    result: np.ndarray = bass_open * (bass + (1 - guitar_open) * (mixture - bass))
    return result


def _gradual(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """From 0 at `low` to 1 at `high`."""
    return np.clip((value - low) / (high - low), 0, 1).astype(np.float32)


def _shares(mixture: np.ndarray, bass: np.ndarray) -> np.ndarray:
    """Parts of the power that bass and guitar have around every frame, (2, frames)."""
    window = np.hanning(2 * REST_FRAMES + 3)[1:-1]
    powers = [power_of(spectra).sum(axis=1) for spectra in (bass, mixture - bass)]
    smooth = np.stack([np.convolve(one, window)[REST_FRAMES : REST_FRAMES + len(one)] for one in powers])
    result: np.ndarray = smooth / (smooth.sum(axis=0) + 1e-12)
    return result
