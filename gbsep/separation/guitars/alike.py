"""What the places of a stereo recording have to do with each other: a rhythm played twice around a lead, or an echo.

A rhythm guitar that was played twice, once for each side, and a lead between the two are the usual way to mix rock.
Both takes play the same notes at nearly the same time, so hardly a frequency belongs to one of them alone, and mostly
no place is found for either (see `places`). What tells is that left and right do the same, the centre something else:

- the takes lie as far out as the widest frequencies do, where the lead rests;
- the sounds of these two places and of the centre are compared as levels of semitones over time. Left and right go
  together, but not wholly (one take made wide would be the same on both sides), and the centre goes with neither (the
  reverb of a guitar in the centre goes with it);
- in the centre a place is found: without a lead there is none.

Where guitars are found on both sides and in the centre, these are their places, and only left and right are compared.
An echo at another place is like its guitar some time before.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...audio import Reader, rechunk
from ..compact.song import mid_side
from ..compact.spectra import power_of
from .places import BLOCK, HOP, N_FFT, Line, placed_at, spectra_of

MAX_BLOCKS, MIN_S = 32, 3.0
"""Blocks that are heard, evenly spread over the song: 95 seconds; and the least length of a song in seconds."""

LOWEST_HZ, HIGHEST_HZ = 80.0, 4000.0

WIDE_BANDS, WIDE_SPECTRA, WIDE_PART, WIDE_LEVEL = 12, 2, 0.8, 1e-3
"""Bands and spectra over which widths are averaged, which part of them is narrower than the takes are, and the least
power of those that count, relative to the loudest."""

MIN_DEG, MAX_DEG, INWARD_DEG = 18.0, 45.0, 4.0
"""Where takes may lie, from the centre, and how much further in they are looked for: taken for wider than they are,
more of them leaks into the lead."""

SEMITONES = 61
"""From LOWEST_HZ on."""

ECHO_SPECTRA, MIN_ECHO, MIN_LATER = 24, 0.4, 0.15
"""Spectra after which what repeats a place is still its echo: 1.1 seconds; the least correlation with it, and how much
more that is than at the same time. Two guitars had 0.15 at most, echoes 0.45 and 0.95."""

ALIKE, LIKE_CENTRE, LESS_ALIKE = (0.3, 0.9), (0.36, 0.47), 0.25
"""Correlation of the takes, and the most that they may have with the centre: the second where it is LESS_ALIKE less
than that of the takes. With a lead it was mostly 0.2 to 0.46, and then 0.7 to 0.8 between the takes. Single guitars in
wide rooms or with echoes had 0.38 at least, and hardly more between the sides; one that is delayed on one side has 0.94
between them. Two guitars that play something else have 0.25 at most. So half of the takes are known, and of 112
recordings of other kinds none is taken for such."""

MIN_CENTRE = 0.05
"""Least part of the level at the lead's place."""

CLEAR = 0.15
"""Part of the level from which a place on a side is that of a guitar of its own: a take shares it with the other."""

ASIDE_DEG = 8.0
"""What is further out than this lies on a side."""

STRAY = 1e-3


def find_doubled(guitar: Reader, lines: Sequence[Line]) -> list[Line] | None:
    """Both takes and the lead, left, right and centre, in a stereo recording; None where it has no such.

    `lines` are the places that were found in it, the loudest first.
    """
    around = _around(lines)
    centre_share = max((line.share for line in lines if abs(line.degrees) <= ASIDE_DEG), default=0.0)
    aside = any(line.share > CLEAR for line in lines if abs(line.degrees) > ASIDE_DEG)
    if centre_share < MIN_CENTRE or (aside and not around):
        return None
    pieces = _pieces(guitar)
    if not pieces:
        return None
    degrees = _width(pieces, guitar.sample_rate)
    if degrees < MIN_DEG and not around:
        return None
    inward = degrees - INWARD_DEG
    three = around or [Line(inward, 0.4), Line(-inward, 0.4), Line(0.0, 0.2)]
    left, right, centre = _semitones(pieces, three, guitar.sample_rate)
    alike = _correlation(left, right, 0)
    if not ALIKE[0] <= alike <= ALIKE[1]:
        return None
    like_centre = max(_correlation(centre, left + right, late) for late in range(ECHO_SPECTRA // 2))
    most = LIKE_CENTRE[1] if like_centre <= alike - LESS_ALIKE else LIKE_CENTRE[0]
    return three if around or like_centre <= most else None


def is_echo(guitar: Reader, lines: Sequence[Line]) -> bool:
    """Whether one of the two loudest places repeats the other some time later."""
    pieces = _pieces(guitar)
    if not pieces:
        return False
    one, two = _semitones(pieces, lines[:2], guitar.sample_rate)
    later = max(_correlation(*pair, late) for pair in ((one, two), (two, one)) for late in range(2, ECHO_SPECTRA))
    return later > max(MIN_ECHO, _correlation(one, two, 0) + MIN_LATER)


def _around(lines: Sequence[Line]) -> list[Line]:
    """The loudest places left, right and in the centre; nothing where one of them lacks."""
    sides = [[line for line in lines if sign * line.degrees > ASIDE_DEG][:1] for sign in (1, -1)]
    three = [*sides[0], *sides[1], *[line for line in lines if abs(line.degrees) <= ASIDE_DEG][:1]]
    return three if len(three) == 3 else []


def _pieces(guitar: Reader) -> list[np.ndarray]:
    """Mid and side of blocks that sound, each (2, frames); none of a recording that is too short to compare."""
    if guitar.frames < MIN_S * guitar.sample_rate:
        return []
    step = max(1, -(-guitar.frames // (BLOCK * MAX_BLOCKS)))
    blocks = (block for number, block in enumerate(rechunk(guitar.blocks(), BLOCK)) if number % step == 0)
    return [mid_side(block) for block in blocks if block.shape[1] >= N_FFT and block.any()]


def _width(pieces: Sequence[np.ndarray], sample_rate: int) -> float:
    """How far from the centre the widest sounds are, in degrees."""
    highest = min(HIGHEST_HZ, sample_rate / 2)
    edges = np.unique(np.round(np.geomspace(LOWEST_HZ, highest, WIDE_BANDS + 1) * N_FFT / sample_rate).astype(int))
    found = []
    for piece in pieces:
        powers = power_of(spectra_of(piece, 2 * HOP))[:, :, : edges[-1]]
        bands = np.add.reduceat(powers, edges[:-1], axis=2)
        found.append(np.add.reduceat(bands, np.arange(0, bands.shape[1], WIDE_SPECTRA), axis=1).reshape(2, -1))
    mid, side = np.concatenate(found, axis=1)
    power = mid + side
    heard = power > WIDE_LEVEL * power.max()
    if not heard.any():
        return 0.0
    share = np.quantile(side[heard] / power[heard], WIDE_PART)
    return min(MAX_DEG, float(np.degrees(np.arcsin(np.sqrt(share)))))


def _semitones(pieces: Sequence[np.ndarray], lines: Sequence[Line], sample_rate: int) -> np.ndarray:
    """Levels of what comes from each place, less their means over time: (lines, pieces, spectra, SEMITONES)."""
    hz = np.arange(N_FFT // 2 + 1) * sample_rate / N_FFT
    at = np.round(12 * np.log2(np.maximum(hz, 1.0) / LOWEST_HZ)).astype(int)
    sums = ((at[:, np.newaxis] == np.arange(SEMITONES)) & (hz[:, np.newaxis] < HIGHEST_HZ)).astype(np.float32)
    count = max(1, (BLOCK - N_FFT) // (2 * HOP) + 1)
    levels = np.zeros((len(lines), len(pieces), count, SEMITONES), np.float32)
    for number, piece in enumerate(pieces):
        placed = placed_at(spectra_of(piece, 2 * HOP), lines, STRAY)
        levels[:, number, : placed.shape[1]] = np.sqrt(power_of(placed) @ sums)
    result: np.ndarray = levels - levels.mean(axis=(1, 2), keepdims=True)
    return result


def _correlation(one: np.ndarray, other: np.ndarray, late: int) -> float:
    """Of levels (pieces, spectra, semitones), the `other` so many spectra later."""
    one, other = one[:, : one.shape[1] - late], other[:, late:]
    strength = np.sqrt(np.square(one).sum(dtype=np.float64) * np.square(other).sum(dtype=np.float64))
    return float((one * other).sum(dtype=np.float64) / strength) if strength else 0.0
