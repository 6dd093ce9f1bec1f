"""What there is to know of a song before it is separated: levels, offsets, places, timbres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .places import Places
from .timbre import Pair

LEVEL_S = 4
"""The level of a second is a mean over so many seconds on either side, weighted by a Hann window, of levels in dB: a
quiet passage beside a loud one is not heard too quiet, which does more harm than too loud."""

FAINT_DB = -50.0
"""No second counts as fainter than that, against the mean power."""

OFFSET_S = 2
"""The offset of a second is the median of the means of it and so many on either side: where music with an offset
begins, it does so within a second."""


@dataclass(frozen=True, eq=False)
class Reading:
    """What was heard of a song at first.

    powers and means: of mid and side in every second (n, 2); pieces: mid and side (2, frames) of what is looked at more
    closely.
    """

    powers: np.ndarray
    means: np.ndarray
    pieces: list[np.ndarray]


@dataclass(frozen=True, eq=False)
class Song:
    """What there is to know of a song before it is separated.

    levels: of every second, the RMS of mid and side together; offsets: of every second, those of mid and side (n, 2);
    angle: what the network is to hear, in radians: the bass's place, or else the louder of mid (0) and side (pi / 2);
    places: None for mono, and as of `look`; timbres: as of `timbre.learnt`.
    """

    levels: np.ndarray
    offsets: np.ndarray
    angle: float
    places: Places | None
    timbres: Sequence[Pair]

    def level(self, start: int, frames: int, sample_rate: int) -> np.ndarray:
        """The level around every frame, float32 (frames,)."""
        result: np.ndarray = np.exp(_between_seconds(np.log(self.levels), start, frames, sample_rate)).astype(
            np.float32
        )
        return result

    def offset(self, start: int, frames: int, sample_rate: int) -> np.ndarray:
        """The offset of mid and side around every frame, float32 (2, frames)."""
        both = [_between_seconds(one, start, frames, sample_rate) for one in self.offsets.T]
        return np.stack(both).astype(np.float32)


def _between_seconds(values: np.ndarray, start: int, frames: int, sample_rate: int) -> np.ndarray:
    """Values of the seconds of a song, interpolated from their middles to its frames."""
    second = (np.arange(start, start + frames) + 0.5) / sample_rate - 0.5
    result: np.ndarray = np.interp(second, np.arange(len(values)), values)
    return result


def offsets_of(means: np.ndarray) -> np.ndarray:
    """Offsets as of Song from the means of its seconds."""
    padded = np.pad(means, ((OFFSET_S, OFFSET_S), (0, 0)), mode="edge")
    result: np.ndarray = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * OFFSET_S + 1, axis=0), axis=-1)
    return result


def levels_of(powers: np.ndarray) -> np.ndarray:
    """Levels as of Song from the powers of its seconds."""
    heard = np.log(np.maximum(powers, max(powers.mean() * 10 ** (FAINT_DB / 10), 1e-60)))
    window = np.hanning(2 * LEVEL_S + 3)[1:-1]
    return np.exp(np.convolve(np.pad(heard, LEVEL_S, mode="edge"), window / window.sum(), mode="valid") / 2)
