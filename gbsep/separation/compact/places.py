"""Where bass and guitars stand in the stereo picture, and what that tells of who plays what.

Conventions
- Mid and side, M = (L + R) / 2 and S = (L - R) / 2, as spectra (frames, bins). A source panned by level alone lies on a
  line through the origin of (M, S): its place is that line's angle, 0 in the centre, degrees in [-90, 90).
- `look` finds the places: a bin that one instrument has to itself tells that instrument's place exactly, so places are
  the peaks of histograms of angles (Yilmaz & Rickard, "Blind separation of speech mixtures via time-frequency masking",
  2004). What a first estimate of the bass calls bass gives the bass's, what it calls guitar those of the guitars.
- Turned by the bass's place, the picture is `towards`, what comes from there, and `across`, in which the bass is not.
- `by_place` refines an estimate of the bass: in every bin, bass and guitars are Gaussian sources of known places and
  estimated powers, and the bass is its posterior mean, a multichannel Wiener filter (Duong, Vincent & Gribonval,
  "Under-determined reverberant audio source separation using a full-rank spatial covariance model", 2010). Each
  guitar's power is weighed by its part of the power around in time, so that a partial belongs to whoever plays it for
  longer than one frame; what has no place of its own (reverb, chorus, delays from side to side) is one more source,
  whose covariance is the local one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

BIN_DEG = 0.02
"""Resolution of the histograms, and BROAD of their bins together that of their peaks."""
BROAD = 25

BASS, GUITARS = 0.85, 0.17
"""Where the estimate is at least this part of the mixture's level a bin is the bass's, up to that part the guitars'."""

IN_LINE = 0.999
"""How well a guitar's bin must keep to a line: in phase, or in opposite phase, in both channels."""

NEAR_DEG, APART_DEG = 1.0, 3.0
"""What is near a place, and how far from each other two guitars' places are at least."""

FOCUS, STEADY = 0.25, 0.1
"""Part of the bass's power that must be near its place for it to have one, in the song and in its worst piece."""

HEARD = 0.1
"""Pieces with less than this part of the mean piece's bass, or guitars, do not count."""

MOST, LEAST = 4, 0.04
"""So many guitars are placed at most, each with at least this part of what is the guitars'."""

ROUNDS = 3
AROUND, NEXT = 32, 2
"""Frames on either side that a guitar's part of the power, and every power, are means over."""

LOOK = ROUNDS * max(AROUND, NEXT)
"""Frames on either side that `by_place` can depend on."""

PLACELESS = 0.1
"""Part of the guitars' power that is always granted to what has no place. More is where less than half of the guitars'
is in line with a place; all never is, as they cover up each other's bins."""

WIDTH = 1e-4
"""How far every source strays from its line, in power."""

SLAB = 32
"""So many bins are refined at once: what is worked on then stays in the processor's cache."""

TINY = 1e-9
"""In power, where the mixture's RMS is about one."""


@dataclass(frozen=True)
class Places:
    """In degrees; the guitars' are seen from the bass's. `placeless` is the part of their power that has no place."""

    bass: float
    guitars: tuple[float, ...]
    placeless: float


def look(pieces: Iterable[np.ndarray]) -> Places | None:
    """Places in a song, from pieces of it, complex (4, frames, bins): mid, side, one of these, the bass found in that.

    None where the bass has no place of its own: where it is wide, moves, never has a bin to itself, or shares its place
    with all guitars that have one.
    """
    bass_of: list[np.ndarray] = []
    guitars_of: list[np.ndarray] = []
    unshared_of: list[float] = []
    for mid, side, heard, estimate in pieces:
        mid_power, side_power, heard_power, estimated = map(power_of, (mid, side, heard, estimate))
        power, across = mid_power + side_power, 2 * (mid * side.conj()).real
        degrees = np.degrees(0.5 * np.arctan2(across, mid_power - side_power))
        straight = (mid_power - side_power) ** 2 + across**2 > (np.float32(IN_LINE) * power) ** 2
        ours = (estimated > BASS**2 * heard_power) & (estimated < heard_power / BASS**2)
        theirs = estimated < GUITARS**2 * power
        bass_of.append(_histogram(degrees[ours], power[ours]))
        guitars_of.append(_histogram(degrees[theirs & straight], np.sqrt(power[theirs & straight])))
        unshared_of.append(float(np.sqrt(power[theirs]).sum()))
    bass, guitars = sum(bass_of, np.zeros(_BINS)), sum(guitars_of, np.zeros(_BINS))
    place = next(iter(_peaks(bass, FOCUS * bass.sum())), None)
    if place is None or _in_line(bass_of, [one.sum() for one in bass_of], [place]) < STEADY:
        return None
    peaks = _peaks(guitars, LEAST * sum(unshared_of))
    apart = [one for one in peaks if NEAR_DEG < (one - place) % 180 < 180 - NEAR_DEG]
    if peaks and not apart:
        return None
    placeless = max(PLACELESS, 1 - 2 * _in_line(guitars_of, unshared_of, apart))
    return Places(place, tuple((one - place + 90) % 180 - 90 for one in apart), placeless)


def _in_line(histograms: Sequence[np.ndarray], totals: Sequence[float], places: Sequence[float]) -> float:
    """Part of all pieces' totals that is near the places; where the worst piece has less than half of it, its part."""
    wide = round(1.5 * BROAD)
    near = [int((place + 90) / BIN_DEG) + np.arange(-wide, wide + 1) for place in places]
    held = [sum(histogram[bins % _BINS].sum() for bins in near) for histogram in histograms]
    whole = sum(held) / max(sum(totals), TINY)
    heard = [part / total for part, total in zip(held, totals, strict=True) if total > HEARD * np.mean(totals)]
    worst = min(heard, default=0.0)
    return float(whole if worst > whole / 2 else worst)


_BINS = round(180 / BIN_DEG)


def _histogram(degrees: np.ndarray, weights: np.ndarray) -> np.ndarray:
    bins = ((degrees.astype(np.float64) + 90) / BIN_DEG).astype(np.int64).clip(0, _BINS - 1)
    return np.bincount(bins, weights.astype(np.float64), _BINS)


def _median(histogram: np.ndarray, start: int, stop: int) -> float:
    """Degrees that half of the weight in bins `start` to `stop` is below; bins go round."""
    bins = np.arange(start, stop)
    below = np.cumsum(histogram[bins % _BINS])
    middle = bins[min(int(np.searchsorted(below, below[-1] / 2)), len(bins) - 1)]
    return float((middle + 0.5) * BIN_DEG - 90)


def _peaks(histogram: np.ndarray, least: float) -> list[float]:
    """Degrees of the highest peaks, highest first, that hold `least` or more."""
    broad = histogram.reshape(-1, BROAD).sum(axis=1)
    height = sum(np.roll(broad, step) for step in (-1, 0, 1))
    apart = round(APART_DEG / (BROAD * BIN_DEG))
    found: list[float] = []
    while len(found) < MOST and height.max() >= max(least, TINY):
        top = int(height.argmax())
        near = _median(histogram, (top - 1) * BROAD, (top + 2) * BROAD)
        # Once more with the peak in the middle, so that what lies on both sides of it cancels.
        first = int((near + 90) / BIN_DEG) - BROAD - BROAD // 2
        found.append(_median(histogram, first, first + 3 * BROAD))
        height[np.arange(top - apart, top + apart + 1) % len(height)] = 0
    return found


def by_place(
    towards: np.ndarray,
    across: np.ndarray,
    bass: np.ndarray,
    guitars: Sequence[float],
    placeless: float,
    threads: int = 1,
) -> np.ndarray:
    """A better estimate of the bass than `bass`, complex64 (frames, bins), in the picture turned by the bass's place.

    `guitars` and `placeless` are as in Places.
    """
    made = np.empty_like(bass)

    def refine(start: int) -> None:
        slab = slice(start, start + SLAB)
        made[:, slab] = _refined(towards[:, slab], across[:, slab], bass[:, slab], guitars, placeless)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(refine, range(0, bass.shape[1], SLAB)))
    return made


def _refined(
    towards: np.ndarray, across: np.ndarray, bass: np.ndarray, guitars: Sequence[float], placeless: float
) -> np.ndarray:
    """`by_place` for some of the bins: they know nothing of each other."""
    radians = np.radians(np.array(guitars, np.float64))
    directions = np.stack([np.cos(radians), np.sin(radians)])
    lines, solution = (matrix.astype(np.float32) for matrix in (directions, np.linalg.pinv(directions)))
    # Two dimensions show what is on no line; one line hides half of it, two lines all.
    hidden = {0: 1.0, 1: 2.0}.get(len(guitars), 0.0)
    loose = np.stack([towards - bass, across])
    placed = _times(solution, loose)
    off_line = loose - _times(lines, placed)
    unplaced = np.float32(hidden) * power_of(off_line).sum(axis=0) + np.float32(placeless) * power_of(loose).sum(axis=0)
    for _ in range(ROUNDS):
        powers = np.concatenate([power_of(placed), unplaced[np.newaxis]])
        part = _mean(powers, AROUND)
        powers = _mean(powers, NEXT) * part / (part.sum(axis=0) + np.float32(TINY))
        bass_power = _mean(power_of(bass), NEXT)
        between = loose[0] * loose[1].conj()
        own_t, own_a, real, imaginary = _mean(np.stack([*power_of(loose), between.real, between.imag]), AROUND)
        # The covariance of what has no place, and with it that of the mixture: (tt, ta), (conj(ta), aa).
        spread = powers[-1] / (own_t + own_a + np.float32(TINY))
        loose_tt, loose_aa, loose_ta = own_t * spread, own_a * spread, (real + 1j * imaginary) * spread
        along, sideways, crossed = _times(np.stack([lines[0] ** 2, lines[1] ** 2, lines[0] * lines[1]]), powers[:-1])
        astray = np.float32(WIDTH) * (bass_power + powers.sum(axis=0)) + np.float32(TINY)
        tt, aa, ta = along + loose_tt + bass_power + astray, sideways + loose_aa + astray, crossed + loose_ta
        # The mixture through the inverse of its covariance: times a source's own covariance, that is the source.
        whitened = np.stack([aa * towards - ta * across, tt * across - ta.conj() * towards]) / (tt * aa - power_of(ta))
        bass = bass_power * whitened[0]
        placed = powers[:-1] * _times(lines.T, whitened)
        loose = np.stack(
            [
                loose_tt * whitened[0] + loose_ta * whitened[1],
                loose_ta.conj() * whitened[0] + loose_aa * whitened[1],
            ]
        )
        unplaced = power_of(loose).sum(axis=0)
    return bass


def _times(matrix: np.ndarray, spectra: np.ndarray) -> np.ndarray:
    """`matrix` (n, m) times `spectra` (m, frames, bins)."""
    made = np.zeros((len(matrix), *spectra.shape[1:]), spectra.dtype)
    for one, row in zip(made, matrix, strict=True):
        for factor, spectrum in zip(row, spectra, strict=True):
            one += factor * spectrum
    return made


def power_of(spectra: np.ndarray) -> np.ndarray:
    """Squared magnitudes, without the root that `abs` would take."""
    result: np.ndarray = spectra.real**2 + spectra.imag**2
    return result


def _mean(powers: np.ndarray, frames: int) -> np.ndarray:
    """Means over so many frames on either side, silence beyond the ends, from sums of one, two, four, ... frames."""
    length, width = powers.shape[-2], 2 * frames + 1
    sums = np.pad(powers, [(0, 0)] * (powers.ndim - 2) + [(frames, frames), (0, 0)])
    total, size, done = np.zeros_like(powers), 1, 0
    while True:
        if width & size:
            total += sums[..., done : done + length, :]
            done += size
        if done == width:
            result: np.ndarray = total / np.float32(width)
            return result
        sums = sums[..., :-size, :] + sums[..., size:, :]
        size *= 2
