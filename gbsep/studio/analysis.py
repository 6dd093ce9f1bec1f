"""Tempo, beats and key of a recording, where they can be told: librosa's beat tracker, and a key profile over chroma.

Its loudness too, to which the page's mix is compared.

Reference: C. Krumhansl: Cognitive foundations of musical pitch, 1990 (the profiles of major and minor).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ParameterError
from ..io.read import open_reader
from ..io.resample import resample
from ..measure.levels import as_json, measure

RATE = 22_050
LONGEST_S = 180.0
"""So much of a song is listened to, from its beginning; the beats after it are an even grid."""

MAX_BEATS = 30_000

NAMES = ("C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B")
_MAJOR = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
_MINOR = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)
CLEAR = 0.6
"""The least correlation with a profile by which a key is told."""


def told_of(path: Path) -> dict[str, Any]:
    """What `tempo_and_key` tells, and the loudness in LUFS; None for silence."""
    stamp = path.stat()
    return {**tempo_and_key(path), "loudness_lufs": _loudness(path, stamp.st_size, stamp.st_mtime_ns)}


@lru_cache(maxsize=1000)
def _loudness(path: Path, size: int, modified_ns: int) -> float | None:
    try:
        return as_json(measure(open_reader(path)).loudness_lufs)
    except ParameterError:  # a sample rate that loudness is not defined for
        return None


def tempo_and_key(path: Path) -> dict[str, Any]:
    """Tempo in beats per minute and the beats in seconds, the key; None where they cannot be told."""
    stamp = path.stat()
    return _heard(path, stamp.st_size, stamp.st_mtime_ns)


@lru_cache(maxsize=64)
def _heard(path: Path, size: int, modified_ns: int) -> dict[str, Any]:
    nothing: dict[str, Any] = {"bpm": None, "beats": [], "key": None}
    try:
        import librosa
    except ImportError:  # the smallest way to install gbsep goes without
        return nothing
    reader = resample(open_reader(path, 0.0, LONGEST_S), RATE)
    mono = np.concatenate([block.mean(0) for block in reader.blocks()])
    if len(mono) < 4 * RATE or not np.any(np.abs(mono) > 1e-4):
        return nothing
    onset = librosa.onset.onset_strength(y=mono, sr=RATE)
    bpm, beats = librosa.beat.beat_track(onset_envelope=onset, sr=RATE, units="time")
    chroma = librosa.feature.chroma_stft(y=mono, sr=RATE, n_fft=8192, tuning=0.0).mean(1)
    tempo = float(np.atleast_1d(bpm)[0])
    known = tempo > 0 and len(beats) > 7
    if known:
        step = float(np.median(np.diff(beats[-16:])))
        shape = open_reader(path)
        count = max(0, int((shape.frames / shape.sample_rate - beats[-1]) / step))
        beats = np.append(beats, beats[-1] + step * np.arange(1, min(count, MAX_BEATS) + 1))
    return {
        "bpm": round(tempo, 1) if known else None,
        "beats": [round(float(beat), 3) for beat in beats] if known else [],
        "key": key_of(chroma),
    }


def key_of(chroma: np.ndarray) -> str | None:
    """The key whose profile the twelve pitch classes fit best, or None where none fits.

    >>> key_of(np.roll(np.array(_MINOR), 9))
    'A minor'
    """
    fits = [
        (float(np.corrcoef(chroma, np.roll(profile, tonic))[0, 1]), f"{NAMES[tonic]} {mode}")
        for mode, profile in (("major", _MAJOR), ("minor", _MINOR))
        for tonic in range(12)
    ]
    best, name = max(fits)
    return name if best >= CLEAR else None
