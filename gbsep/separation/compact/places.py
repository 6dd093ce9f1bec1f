"""Where bass and guitars are panned, and how that improves the separation.

Conventions
- Mid and side, M = (L + R) / 2 and S = (L - R) / 2, as spectra (frames, bins). A source panned by level alone lies on a
  line through the origin of (M, S). Its place is the angle of that line: 0 in the centre, degrees in [-90, 90).
- `find_bass` and `find_guitars` find the places in the `Picture` that `look` makes of a song. A bin that only one
  instrument sounds in shows that instrument's place exactly, so places are the peaks of histograms of angles (Yilmaz &
  Rickard, "Blind separation of speech mixtures via time-frequency masking", 2004). Bins that a first estimate gives to
  the bass show the bass's place, bins that it gives to the guitar show the guitars' places.
- Rotated by the bass's place, the picture is `towards`, the signal from there, and `across`, which holds no bass.
- `find_beam` finds a sum of the two that has less of the guitars, for the network to read.
- What places do for an estimate of the bass is in `wiener`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from .spectra import power_of

BIN_DEG = 0.02
"""Width of a bin of the histograms; their peaks are resolved to BROAD such bins."""
BROAD = 25

BASS, GUITARS = 0.85, 0.17
"""Part of the mixture's level that the estimate has at least in a bass bin, and at most in a guitar bin."""

IN_LINE, BASS_IN_LINE = 0.999, 0.97
"""How closely a bin must lie on a line, the channels in phase or in opposite phase, for a guitar and for the bass that
has a place; 1 is exactly. One channel that is late bends all lines."""

MIN_FROM_BASS_DEG, MIN_APART_DEG = 1.0, 3.0
"""Least distance of a guitar's place from the bass's, and of two guitars' places from each other."""

FOCUS, WORST_FOCUS = 0.25, 0.1
"""Part of the bass's power that must be near its place for it to have one, in the song and in its worst piece."""

MOST = 0.5
"""Part of the power of mid and side that the bass has in a bass bin: elsewhere a guitar may hide in the other one."""

AUDIBLE = 0.03
"""The quieter of mid and side is heard for the bass, too, from this part of the louder's power on."""

ALONE = 1e-3
"""Part of the bass's power that the other of mid and side has at most where one has it alone."""

STRAIGHT = 0.6
"""Part of the bass's power near its place that must lie on a line, in the song and in its worst piece."""

MIN_PIECE = 0.1
"""Pieces with less than this part of the mean piece's bass, or guitars, are ignored."""

MAX_GUITARS, MIN_GUITAR, MIN_NEAR_BASS = 4, 0.02, 0.04
"""At most so many guitars get a place, each with at least this part of the guitars' level; how much of it those at the
bass's place have at least, to count as guitars."""

BEAM_NOISE = 0.002
"""Part of the power towards the bass that a beam counts as across it: a beam that needs very much of what is across the
bass would be noise, and the bass itself where it is not quite at its place."""

MAX_PLACELESS = 0.75
"""With more of the guitars' power without a place nothing is taken out: who knows where the others are."""

BEAM_S, BEAM_OFF, BEAM_ON = 1, 0.5, 0.9
"""Seconds on either side that tell whether the song's beam is good for what plays there; parts of it that would be
best there, at which it is off and on."""

CLOSE_DEG = 4.0
"""A guitar nearer to the bass's place is close to it."""

PLACELESS = 0.1
"""Least part of the guitars' power that is taken to have no place."""

ALL_AT_ONE, ALL_AT_MORE = 2 / 3, 1 / 2
"""Part of the guitars' level in bins that lie at one place, or at one of several, when none is without a place. It is
never all, as notes overlap; those of several guitars more. Where it is less, more of their power has no place."""

TINY = 1e-9
"""Power that counts as none; the mixture's RMS is about one."""


@dataclass(frozen=True)
class Places:
    """Places in degrees, the guitars' relative to the bass's; `placeless` is the part of their power without one."""

    bass: float
    guitars: tuple[float, ...]
    placeless: float


@dataclass(frozen=True, eq=False)
class Picture:
    """Histograms of angles, one for each piece of a song.

    bass: the power of bins that show the bass; straight: of those that lie on a line; guitars: the level of bins that
    show a guitar and lie on a line; levels: that of all bins that show a guitar, one number for each piece. estimates:
    the power of the bass in mid and in side, of pieces in which both are heard.
    """

    bass: list[np.ndarray]
    straight: list[np.ndarray]
    guitars: list[np.ndarray]
    levels: list[float]
    estimates: list[tuple[float, float]]


def fuller(piece: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of mid and side the one with more of the bass, and the bass in that; `piece` is as for `look`."""
    one = int(np.argmax(power_of(piece[2:]).sum(axis=(1, 2))))
    return piece[one], piece[2 + one]


def look(pieces: Iterable[np.ndarray]) -> Picture:
    """What pieces of a song show, complex (4, frames, bins): mid, side, and the bass in each of them.

    An estimate of the bass may be silence in one of the two, where that has little of the sound.
    """
    picture = Picture([], [], [], [], [])
    for piece in pieces:
        mid, side, *basses = piece
        mixture_power, bass_power = map(power_of, fuller(piece))
        mid_power, side_power, mid_bass, side_bass = map(power_of, (mid, side, *basses))
        power, across = mid_power + side_power, 2 * (mid * side.conj()).real
        degrees = np.degrees(0.5 * np.arctan2(across, mid_power - side_power))
        line = (mid_power - side_power) ** 2 + across**2
        is_bass = (bass_power > BASS**2 * mixture_power) & (bass_power < mixture_power / BASS**2)
        is_bass &= mid_bass + side_bass > MOST * power
        is_straight = is_bass & (line > (np.float32(BASS_IN_LINE) * power) ** 2)
        is_guitar = bass_power < GUITARS**2 * power
        in_line = is_guitar & (line > (np.float32(IN_LINE) * power) ** 2)
        picture.bass.append(_histogram(degrees[is_bass], power[is_bass]))
        picture.straight.append(_histogram(degrees[is_straight], power[is_straight]))
        picture.guitars.append(_histogram(degrees[in_line], np.sqrt(power[in_line])))
        picture.levels.append(float(np.sqrt(power[is_guitar]).sum()))
        if both_are_heard(mid_power.sum(), side_power.sum()):
            picture.estimates.append((float(mid_bass.sum()), float(side_bass.sum())))
    return picture


def both_are_heard(mid: float, side: float) -> bool:
    """Whether both have enough power for the bass to be looked for in each of them."""
    return bool(min(mid, side) > AUDIBLE * max(mid, side))


def find_bass(picture: Picture) -> float | None:
    """The bass's place in degrees; None where it is wide, moves, is late in one channel, or never has a bin alone."""
    bass = sum(picture.bass, np.zeros(_BINS))
    place = next(iter(_peaks(bass, FOCUS * bass.sum())), None)
    totals = [histogram.sum() for histogram in picture.bass]
    if place is None or _in_line(picture.bass, totals, [place]) < WORST_FOCUS:
        # It may still be in mid or in side alone, with a guitar all over the other one.
        mid, side = np.sum(picture.estimates or [(1.0, 1.0)], axis=0)
        return 0.0 if side < ALONE * mid else 90.0 if mid < ALONE * side else None
    near = [_near(histogram, [place]) for histogram in picture.bass]
    return place if _in_line(picture.straight, near, [place]) > STRAIGHT else None


def find_guitars(picture: Picture, bass: float) -> Places | None:
    """The guitars' places beside the bass's; None where all guitars that have one share the bass's."""
    guitars, level = sum(picture.guitars, np.zeros(_BINS)), sum(picture.levels)
    apart = [
        peak
        for peak in _peaks(guitars, MIN_GUITAR * level)
        if MIN_FROM_BASS_DEG < (peak - bass) % 180 < 180 - MIN_FROM_BASS_DEG
    ]
    if not apart and _peaks(guitars, MIN_NEAR_BASS * level):
        return None
    full = ALL_AT_ONE if len(apart) == 1 else ALL_AT_MORE
    placeless = max(PLACELESS, 1 - _in_line(picture.guitars, picture.levels, apart) / full)
    return Places(bass, tuple((peak - bass + 90) % 180 - 90 for peak in apart), placeless)


def find_beam(moments: np.ndarray, places: Places) -> np.ndarray:
    """How much of `across`, added to `towards`, leaves least of the guitars: for every second, (n,).

    `moments` (n, 3) are the powers of mid and side and their product, in every second. `across` holds no bass, so what
    it has in common with `towards` is guitars, and the sum of the two keeps the bass whole: the adaptive beamformer of
    Griffiths & Jim ("An alternative approach to linearly constrained adaptive beamforming", 1982). A guitar that is
    alone is silent in it. It is 0 with guitars around the bass, where too little is known of their places, and while
    guitars sound for which it would be no good.
    """
    if _between(places.guitars) or places.placeless > MAX_PLACELESS:
        return np.zeros(len(moments))
    along, aside = np.cos(np.radians(places.bass)), np.sin(np.radians(places.bass))
    mid, side, both = moments.T
    whole = along**2 * mid + aside**2 * side + 2 * along * aside * both
    power = aside**2 * mid + along**2 * side - 2 * along * aside * both
    common = (along**2 - aside**2) * both + along * aside * (side - mid)
    power = np.maximum(power + BEAM_NOISE * whole, TINY * moments.sum() + 1e-30)
    beam = -common.sum() / power.sum()
    window = np.hanning(2 * BEAM_S + 3)[1:-1]
    here = -np.convolve(common, window, mode="same") / np.convolve(power, window, mode="same")
    good = np.clip((here / (beam or 1.0) - BEAM_OFF) / (BEAM_ON - BEAM_OFF), 0, 1)
    around = np.lib.stride_tricks.sliding_window_view(np.pad(good, BEAM_S, mode="edge"), 2 * BEAM_S + 1)
    result: np.ndarray = beam * around.min(axis=-1)
    return result


def _in_line(histograms: Sequence[np.ndarray], totals: Sequence[float], places: Sequence[float]) -> float:
    """Part of the total that is near the places; that of the worst piece where it has less than half as much."""
    held = [_near(histogram, places) for histogram in histograms]
    whole = sum(held) / max(sum(totals), TINY)
    shares = [part / total for part, total in zip(held, totals, strict=True) if total > MIN_PIECE * np.mean(totals)]
    worst = min(shares, default=0.0)
    return float(whole if worst > whole / 2 else worst)


def _near(histogram: np.ndarray, places: Sequence[float]) -> float:
    """The total of a histogram near the places."""
    wide = round(1.5 * BROAD)
    near = (int((place + 90) / BIN_DEG) + np.arange(-wide, wide + 1) for place in places)
    return float(sum(histogram[bins % _BINS].sum() for bins in near))


_BINS = round(180 / BIN_DEG)


def _histogram(degrees: np.ndarray, weights: np.ndarray) -> np.ndarray:
    bins = ((degrees.astype(np.float64) + 90) / BIN_DEG).astype(np.int64).clip(0, _BINS - 1)
    return np.bincount(bins, weights.astype(np.float64), _BINS)


def _median(histogram: np.ndarray, start: int, stop: int) -> float:
    """Weighted median, in degrees, of bins `start` to `stop`, which wrap around."""
    bins = np.arange(start, stop)
    below = np.cumsum(histogram[bins % _BINS])
    middle = bins[min(int(np.searchsorted(below, below[-1] / 2)), len(bins) - 1)]
    return float((middle + 0.5) * BIN_DEG - 90)


def _peaks(histogram: np.ndarray, least: float) -> list[float]:
    """Degrees of the highest peaks, highest first, each with a weight of `least` or more."""
    broad = histogram.reshape(-1, BROAD).sum(axis=1)
    height = sum(np.roll(broad, step) for step in (-1, 0, 1))
    apart = round(MIN_APART_DEG / (BROAD * BIN_DEG))
    found: list[float] = []
    while len(found) < MAX_GUITARS and height.max() >= max(least, TINY):
        top = int(height.argmax())
        near = _median(histogram, (top - 1) * BROAD, (top + 2) * BROAD)
        # Again with the peak in the middle, so that the background on both sides of it cancels.
        first = int((near + 90) / BIN_DEG) - BROAD - BROAD // 2
        found.append(_median(histogram, first, first + 3 * BROAD))
        height[np.arange(top - apart, top + apart + 1) % len(height)] = 0
    return found


def _between(guitars: Sequence[float]) -> bool:
    """Whether the bass is between guitars, or close to one."""
    sides = {degrees > 0 for degrees in guitars}
    return len(sides) == 2 or any(abs(degrees) < CLOSE_DEG for degrees in guitars)
