"""What the first pass over a song finds: levels, offsets, places, timbres.

Mid and side are M = (L + R) / 2 and S = (L - R) / 2.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...audio import Block, Reader, rechunk
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


EXCERPTS, EXCERPT_S = 6, 8
"""The first pass runs the network on at most this many pieces, evenly spread over the song, of this many seconds."""

MAX_KEPT_PIECES = 48
"""Pieces from which these excerpts are chosen, silent ones included: 384 seconds."""

QUIET_DB = -20.0
"""Pieces this far below the mean power are no excerpts."""


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
    angle: how far mid and side are rotated, in radians: to the bass's place, or, where it has none, to left and right
    (APART); heard: how many of the two signals the network reads, 1 or 2; places: those of guitars that are elsewhere
    than the bass, or None; timbres: what `timbre.learn_timbres` gives; guitars:
    in stereo with places what `wiener.learn_guitars` gives; beam: how much of the signal across is added to what the
    network reads, in every second (see `places.find_beam`).
    """

    levels: np.ndarray
    offsets: np.ndarray
    angle: float
    heard: int
    places: Places | None
    timbres: Sequence[Pair]
    guitars: Sequence[Guitars]
    beam: np.ndarray

    @property
    def again(self) -> bool:
        """Whether a second pass is worth its time: the network reads one signal, and places tell nothing more."""
        return self.heard == 1 and not self.places

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


def first_pass(low: Reader) -> FirstPass:
    """Read a song once, at the network's sample rate."""
    rate = low.sample_rate
    step = max(1, -(-low.frames // (EXCERPT_S * rate * MAX_KEPT_PIECES)))
    powers: list[np.ndarray] = []
    means: list[np.ndarray] = []
    moments: list[np.ndarray] = []
    kept: list[np.ndarray] = []
    seconds = (mid_side(block) for block in rechunk(low.blocks(), rate))
    for number in itertools.count():
        piece = list(itertools.islice(seconds, EXCERPT_S))
        if not piece:
            break
        powers.extend(map(_power, piece))
        means.extend(second.mean(axis=1, dtype=np.float64) for second in piece)
        moments.extend(map(_moments, piece))
        if number % step == 0:
            kept.append(np.concatenate(piece, axis=1))
    by_piece = [piece.var(axis=1, dtype=np.float64).sum() for piece in kept]
    enough = min(np.sum(powers) / len(powers) * 10 ** (QUIET_DB / 10), max(by_piece))
    loud = [piece for piece, power in zip(kept, by_piece, strict=True) if power >= enough]
    return FirstPass(np.array(powers), np.array(means), np.array(moments), loud[:: max(1, -(-len(loud) // EXCERPTS))])


def mid_side(block: Block) -> np.ndarray:
    """Mid and side, float32 (2, n), of a mono or stereo block."""
    left, right = block[0], block[-1]
    left, right = left * np.float32(0.5), right * np.float32(0.5)
    return np.stack([left + right, left - right])


def centred(block: Block) -> Block:
    """`block` without the mean of each channel."""
    result: Block = block - block.mean(axis=1, keepdims=True, dtype=np.float64)
    return result


def _moments(block: Block) -> np.ndarray:
    """Power of mid, of side, and their product, without the DC offset, (3,)."""
    mid, side = block - block.mean(axis=1, keepdims=True, dtype=np.float64)
    return np.array([mid @ mid, side @ side, mid @ side])


def _power(block: Block) -> np.ndarray:
    """Power of each channel without its DC offset, at least a hundredth of the power with it."""
    samples = block.astype(np.float64)
    result: np.ndarray = np.maximum(samples.var(axis=1), np.square(samples).mean(axis=1) / 100)
    return result


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
