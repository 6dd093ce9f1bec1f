"""Two guitars apart by their places in the stereo picture.

A source panned by level alone lies on a line through the origin of mid and side, M = (L + R) / 2 and S = (L - R) / 2.
Its place is the angle of that line in degrees: 0 in the centre, 45 hard left, -45 hard right, beyond that in opposite
phase. Two such sources in two channels can be told apart exactly; what strays from their lines (reverb, artefacts of a
separator) makes it less exact, the nearer they are to each other.

- `find_lines` finds the places: a bin that only one guitar sounds in lies on its line, so places are the peaks of a
  histogram of angles (Yilmaz & Rickard, "Blind separation of speech mixtures via time-frequency masking", 2004).
- `split` estimates the guitars' powers bin by bin and takes the posterior mean of what comes from each place: a
  multichannel Wiener filter (Duong, Vincent & Gribonval, "Under-determined reverberant audio source separation using a
  full-rank spatial covariance model", 2010). What no place explains goes to both in equal parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft
import scipy.ndimage

from ...audio import Block, Reader, rechunk
from ..compact.song import mid_side
from ..compact.spectra import power_of
from ..inference import window

N_FFT, HOP = 4096, 1024

BLOCK, CONTEXT = 2**17, 12 * HOP
"""Frames split at a time, and those before and after that a frame may depend on."""

BIN_DEG, NEAR_DEG, APART_DEG, AROUND_DEG = 0.5, 1.0, 8.0, 12.0
"""Width of a bin of the histogram; what belongs to a peak; least distance of two places; what a peak stands out of."""

IN_LINE = 0.99
"""How closely a bin must lie on a line, the channels in phase or in opposite phase; 1 is exactly."""

MIN_SHARE, MIN_OF_LOUDEST = 0.02, 0.12
"""Least part of the level that lies at a place, and least part of that at the loudest place: less is its skirt."""

MAX_LINES = 4

MOVING, SPREAD_DEG = (0.5, 0.5), 4.0
"""Part of the level on lines from which it is looked at, and part of that more than SPREAD_DEG away from all places
from which the guitars move. One that swings from side to side has 0.98 and 0.69, others 0.25 of the second at most."""

MIN_TOLD = 0.05
"""Least part of the level that lies at places. Where less does, the guitars are wide or move."""

STRAY, DRY, WET = (1e-4, 1e-2), 0.7, 0.3
"""Part of a bin's power that is taken to lie at no place: the first where at least DRY of the level is at places, the
second where no more than WET is (rooms, choruses)."""

ROUNDS, SMOOTHED = 2, 2
"""Rounds of the filter; bins before and after over which powers are averaged."""

TINY = 1e-12


@dataclass(frozen=True)
class Line:
    """A place in degrees, and the part of the level that lies exactly there."""

    degrees: float
    share: float


def find_lines(guitar: Reader) -> list[Line]:
    """The places in a stereo recording, the loudest first; none in silence."""
    bins = round(180 / BIN_DEG)
    histogram, total = np.zeros(bins), 0.0
    for block in rechunk(guitar.blocks(), BLOCK):
        if block.shape[1] < N_FFT:
            block = np.pad(block, ((0, 0), (0, N_FFT - block.shape[1])))
        mid, side = spectra_of(mid_side(block), step=2 * HOP)
        across, along = 2 * (mid * side.conj()).real, power_of(mid) - power_of(side)
        power = power_of(mid) + power_of(side)
        in_line = along**2 + across**2 > (np.float32(IN_LINE) * power) ** 2
        level = np.sqrt(power)
        degrees = np.degrees(0.5 * np.arctan2(across[in_line], along[in_line]))
        at = ((degrees + 90) / BIN_DEG).astype(np.int64) % bins
        histogram += np.bincount(at, level[in_line].astype(np.float64), bins)
        total += float(level.sum())
    histogram /= max(total, TINY)
    found = _peaks(histogram)
    return [] if len(found) > 1 and _moving(histogram, found) else found


def _moving(histogram: np.ndarray, lines: Sequence[Line]) -> bool:
    """Whether most of what lies on lines is on the way from one place to another."""
    degrees = (np.arange(len(histogram)) + 0.5) * BIN_DEG - 90
    off = [abs((degrees - line.degrees + 90) % 180 - 90) for line in lines]
    level, away = float(histogram.sum()), float(histogram[np.min(off, axis=0) > SPREAD_DEG].sum())
    return level > MOVING[0] and away > MOVING[1] * level


def _peaks(histogram: np.ndarray) -> list[Line]:
    """Peaks that stand out of what is around them, the highest first; each with what lies at it."""
    bins, near, apart, around = (round(degrees / BIN_DEG) for degrees in (180, NEAR_DEG, APART_DEG, AROUND_DEG))
    at = np.arange(-near, near + 1)
    summed = np.array([histogram[(top + at) % bins].sum() for top in range(bins)])
    shares = summed - scipy.ndimage.median_filter(summed, 2 * around + 1, mode="wrap")
    found: list[Line] = []
    while len(found) < MAX_LINES:
        top = int(np.argmax(shares))
        share = float(shares[top])
        if share < max(MIN_SHARE, MIN_OF_LOUDEST * (found[0].share if found else 0.0)):
            break
        middle = float(np.average(top + at, weights=histogram[(top + at) % bins])) + 0.5
        found.append(Line((middle * BIN_DEG) % 180 - 90, share))
        shares[np.arange(top - apart, top + apart + 1) % bins] = 0
    return found


def alone(guitar: Reader) -> Iterator[tuple[Block, Block]]:
    """All in the first, nothing in the second, in the blocks of `split`."""
    for block in rechunk(guitar.blocks(), BLOCK):
        yield block, np.zeros_like(block)


def split(guitar: Reader, lines: Sequence[Line], first: Sequence[bool]) -> Iterator[tuple[Block, Block]]:
    """The guitar in two, by its places; `first` says which belong to the first. Blocks of (2, n), float32.

    The two sum to the guitar.
    """
    wet = (DRY - sum(line.share for line in lines)) / (DRY - WET)
    stray = float(STRAY[0] * (STRAY[1] / STRAY[0]) ** min(1.0, max(0.0, wet)))
    directions = _directions(lines)
    take = window(guitar.blocks())
    for start in range(0, guitar.frames, BLOCK):
        piece = take(start - CONTEXT, BLOCK + 2 * CONTEXT)
        wanted = slice(CONTEXT, CONTEXT + min(BLOCK, guitar.frames - start))
        whole, one = piece[:, wanted], _first(piece, directions, np.array(first), stray)[:, wanted]
        yield one, whole - one


def _first(piece: np.ndarray, directions: np.ndarray, first: np.ndarray, stray: float) -> np.ndarray:
    """What comes from the places of the first guitar: (2, frames), exact but for CONTEXT frames at either end."""
    spectra = spectra_of(mid_side(piece), HOP)
    placed = _placed(spectra, directions, stray)
    one, other = (np.einsum("ij,jfb->ifb", directions[:, which], placed[which]) for which in (first, ~first))
    mid, side = waves_of((spectra + one - other) / 2, piece.shape[1])
    result: np.ndarray = np.stack([mid + side, mid - side])
    return result


def placed_at(spectra: np.ndarray, lines: Sequence[Line], stray: float) -> np.ndarray:
    """What comes from each place: (lines, frames, bins) of mid and side (2, frames, bins)."""
    return _placed(spectra, _directions(lines), stray)


def _directions(lines: Sequence[Line]) -> np.ndarray:
    radians = np.radians([line.degrees for line in lines])
    directions: np.ndarray = np.stack([np.cos(radians), np.sin(radians)]).astype(np.float32)
    return directions


def _placed(spectra: np.ndarray, directions: np.ndarray, stray: float) -> np.ndarray:
    """What comes from each place: (places, frames, bins) of mid and side (2, frames, bins)."""
    mid, side = spectra
    placed: np.ndarray = np.einsum("ij,jfb->ifb", np.linalg.pinv(directions), spectra)
    astray = np.float32(stray / 2) * _smoothed(power_of(spectra)).sum(axis=0) + np.float32(TINY)
    for _ in range(ROUNDS):
        powers = _smoothed(power_of(placed))
        along, sideways, crossed = (
            np.tensordot(weights, powers, 1)
            for weights in (directions[0] ** 2, directions[1] ** 2, directions[0] * directions[1])
        )
        along, sideways = along + astray, sideways + astray
        # The mixture times the inverse of its covariance; times a place's own covariance that is what comes from there.
        whitened = np.stack([sideways * mid - crossed * side, along * side - crossed * mid])
        whitened /= along * sideways - crossed**2
        placed = powers * np.einsum("ji,jfb->ifb", directions, whitened)
    return placed


_WINDOW = np.hanning(N_FFT + 1)[:-1].astype(np.float32)


def spectra_of(signals: np.ndarray, step: int) -> np.ndarray:
    """(signals, spectra, bins) of (signals, frames); what is left at the end is left out."""
    pieces = np.lib.stride_tricks.sliding_window_view(signals, N_FFT, axis=1)[:, ::step]
    result: np.ndarray = scipy.fft.rfft(pieces * _WINDOW, axis=2)
    return result


def waves_of(spectra: np.ndarray, frames: int) -> np.ndarray:
    """The inverse of `spectra_of` with HOP: exact where N_FFT / HOP windows overlap."""
    hops = N_FFT // HOP
    pieces = scipy.fft.irfft(spectra, N_FFT, axis=2) * (_WINDOW * np.float32(HOP / (_WINDOW**2).sum()))
    signals, count = pieces.shape[:2]
    result = np.zeros((signals, max(count + hops, -(-frames // HOP)), HOP), np.float32)
    for part in range(hops):
        result[:, part : part + count] += pieces[:, :, part * HOP : (part + 1) * HOP]
    return result.reshape(signals, -1)[:, :frames]


def _smoothed(powers: np.ndarray) -> np.ndarray:
    """Powers averaged over neighbouring spectra, silence beyond the ends."""
    width = 2 * SMOOTHED + 1
    sums = np.cumsum(np.pad(powers, ((0, 0), (SMOOTHED + 1, SMOOTHED), (0, 0))), axis=1, dtype=np.float64)
    result: np.ndarray = ((sums[:, width:] - sums[:, :-width]) / width).astype(np.float32)
    return result
