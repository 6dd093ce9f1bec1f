"""What the first pass over a song finds: levels, offsets, places, timbres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .places import Places
from .timbre import Pair
from .wiener import Guitars

LEVEL_S = 4
"""Seconds on either side over which levels are averaged, by a Hann window: in dB, so that a loud neighbour does not
make the network read a quiet passage far too quiet, which does more harm than too loud."""

FAINT_DB = -50.0
"""Least level of a second, relative to the mean power."""

OFFSET_S = 2
"""Seconds on either side over which the offset of a second is a median, so that it keeps steps, such as the start of
music with an offset."""


@dataclass(frozen=True, eq=False)
class FirstPass:
    """What the first pass over a song collects.

    powers and means: of mid and side in every second, shape (n, 2); moments: the powers without an offset, and the
    product of mid and side, (n, 3); pieces: mid and side (2, frames) of the excerpts that the network is run on.
    """

    powers: np.ndarray
    means: np.ndarray
    moments: np.ndarray
    pieces: list[np.ndarray]


@dataclass(frozen=True, eq=False)
class Song:
    """What is known of a song before it is separated.

    levels: RMS of mid and side together in every second; offsets: DC offset of mid and side in every second (n, 2);
    angle: the signal that the network reads, in radians: the bass's place, or else the louder of mid (0) and side
    (pi / 2); places: None for mono, or what `find_places` gives; timbres: what `timbre.learn_timbres` gives; guitars:
    in stereo with places what `wiener.learn_guitars` gives; beam: how much of the signal across is added to what the
    network reads, in every second (see `places.find_beam`).
    """

    levels: np.ndarray
    offsets: np.ndarray
    angle: float
    places: Places | None
    timbres: Sequence[Pair]
    guitars: Sequence[Guitars]
    beam: np.ndarray

    def level(self, start: int, frames: int, sample_rate: int) -> np.ndarray:
        """The level around every frame, float32 (frames,)."""
        result: np.ndarray = np.exp(_per_frame(np.log(self.levels), start, frames, sample_rate)).astype(np.float32)
        return result

    def beam_around(self, start: int, frames: int, sample_rate: int) -> np.ndarray:
        """The beam around every frame, float32 (frames,)."""
        return _per_frame(self.beam, start, frames, sample_rate).astype(np.float32)

    def offset(self, start: int, frames: int, sample_rate: int) -> np.ndarray:
        """The offset of mid and side around every frame, float32 (2, frames)."""
        both = [_per_frame(offset, start, frames, sample_rate) for offset in self.offsets.T]
        return np.stack(both).astype(np.float32)


def _per_frame(values: np.ndarray, start: int, frames: int, sample_rate: int) -> np.ndarray:
    """Values of whole seconds, linearly interpolated from their middles to single frames."""
    second = (np.arange(start, start + frames) + 0.5) / sample_rate - 0.5
    result: np.ndarray = np.interp(second, np.arange(len(values)), values)
    return result


def offsets_of(means: np.ndarray) -> np.ndarray:
    """Song.offsets (n, 2) from the means of mid and side in every second (n, 2)."""
    padded = np.pad(means, ((OFFSET_S, OFFSET_S), (0, 0)), mode="edge")
    result: np.ndarray = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * OFFSET_S + 1, axis=0), axis=-1)
    return result


def levels_of(powers: np.ndarray) -> np.ndarray:
    """Song.levels (n,) from the powers of every second (n,)."""
    log_power = np.log(np.maximum(powers, max(powers.mean() * 10 ** (FAINT_DB / 10), 1e-60)))
    window = np.hanning(2 * LEVEL_S + 3)[1:-1]
    return np.exp(np.convolve(np.pad(log_power, LEVEL_S, mode="edge"), window / window.sum(), mode="valid") / 2)
