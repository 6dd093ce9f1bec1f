"""How a note begins: struck, on a string that sounds already, or on one that is held mute.

The network hears that notes are struck and seldom anything else. So a few figures are measured where a note begins, the
network's odds among them, and a logistic regression decides (`scripts/train_kinds.py`): what the short window gains
there, how the level rises and falls, whether the pitch goes on, and what sounded before. A slide to a note from nowhere
is not told from a stroke.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .features import BINS
from .line import KINDS

BEFORE, AFTER = 4, 16
"""Frames before and from a note's first that are looked at."""
NEAR = 7
"""Semitones within which a hand slurs or slides."""
THIRDS = tuple(slice(BINS * part // 3, BINS * (part + 1) // 3) for part in range(3))
SURER = 2.0
"""By how much the logarithm of its odds must be higher: most notes are struck."""
MEASURES = 13
"""How many figures there are."""


def shapes() -> dict[str, tuple[int, ...]]:
    """Name and shape of the regression's arrays."""
    return {"kind.w": (MEASURES, len(KINDS)), "kind.b": (len(KINDS),)}


def measures(
    onsets: np.ndarray,
    frames: np.ndarray,
    kinds: np.ndarray,
    level_db: np.ndarray,
    spectra: np.ndarray,
    frame: int,
    pitch: int,
) -> np.ndarray:
    """Float64 (MEASURES,) of the note of `pitch` (from 0) that begins at `frame`; `level_db` is (frames, 1), `spectra`
    (frames, windows, BINS), the others are probabilities. Beyond either end all stays as it is there."""
    at = np.clip(np.arange(frame - BEFORE, frame + AFTER), 0, len(onsets) - 1)
    level = level_db[at, 0]
    short = spectra[at, 2]
    sure = np.clip(kinds[at], 1e-9, 1 - 1e-6)
    odds = np.log(sure / (1 - sure))[BEFORE - 1 : BEFORE + 2].mean(axis=0)
    sounding = frames[at]
    near = [other for other in range(pitch - NEAR, pitch + NEAR + 1) if other != pitch and 0 <= other < frames.shape[1]]
    new = short[BEFORE - 2 : BEFORE + 4].max(axis=0)
    gained = np.maximum(0, new - short[:2].mean(axis=0))
    return np.array(
        [
            *(odds[1:] - odds[0]),
            onsets[at[BEFORE - 1 : BEFORE + 2], max(0, pitch - 1) : pitch + 2].max(),
            sounding[BEFORE + 4 : BEFORE + 14, pitch].mean(),
            level[BEFORE : BEFORE + 6].max() - level[: BEFORE - 1].mean(),
            level[BEFORE : BEFORE + 6].max(),
            level[BEFORE : BEFORE + 6].max() - level[-4:].mean(),
            *(gained[part].mean() for part in THIRDS),
            (new - short[-4:].mean(axis=0)).mean(),
            sounding[:BEFORE, near].mean(axis=0).max(),
        ],
        np.float64,
    )


def kind_of(measured: np.ndarray, weights: Mapping[str, Any]) -> str:
    """The likeliest of KINDS; another than the first only where it is likelier by SURER."""
    odds = measured @ weights["kind.w"] + weights["kind.b"]
    odds[0] += SURER
    return KINDS[int(np.argmax(odds))]
