"""How close an estimate is to the true stem.

Conventions: reference is the truth, estimate what a separator gave; both are whole tracks of one shape and rate.

Reference: Y. Mitsufuji et al., Music Demixing Challenge 2021, Frontiers in Signal Processing 1 (2022): the SDR of a
whole track, without the filters that BSS Eval allows.
"""

from __future__ import annotations

import math

import numpy as np

from .audio import Audio
from .errors import AudioError


def sdr(reference: Audio, estimate: Audio) -> float:
    """Signal-to-distortion ratio in dB over all frames and channels: 10 log10(sum r^2 / sum (r - e)^2).

    Infinite for identical signals, -inf for a silent reference. Raises AudioError when the shapes or rates differ.

    >>> truth = Audio(np.ones(100), 44100)
    >>> round(sdr(truth, Audio(np.full(100, 0.9), 44100)), 3)
    20.0
    """
    if reference.samples.shape != estimate.samples.shape or reference.sample_rate != estimate.sample_rate:
        raise AudioError(f"{reference} cannot be compared with {estimate}")
    signal = float(np.sum(reference.samples.astype(np.float64) ** 2))
    error = float(np.sum((reference.samples.astype(np.float64) - estimate.samples) ** 2))
    if signal == 0:
        return -math.inf
    return math.inf if error == 0 else 10 * math.log10(signal / error)
