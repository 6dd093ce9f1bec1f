"""The bass by its place: a multichannel Wiener filter, whose guitars are made of a few spectra each.

In every bin, bass and guitars are Gaussian sources of known places and estimated powers, and the bass is its posterior
mean (Duong, Vincent & Gribonval, "Under-determined reverberant audio source separation using a full-rank spatial
covariance model", 2010). Two channels tell no more than two sources in a bin, so what is known of the powers decides:

- The bass has the power that the network gave it. Guitars to the left and right that play at once are a bass in the
  middle to geometry, not to the network.
- What is left without that bass, projected on the guitars' places, is a first estimate of each guitar's power. It is
  weighted by the guitar's share of the power over NEAR_FRAMES and LONG_FRAMES, so that a partial belongs to whoever
  plays it for longer than one frame.
- What bass and guitars share is wrong in that estimate, now one way, now the other. A guitar sounds alike wherever it
  plays the same notes, so each has SPECTRA spectra of its own, learnt on excerpts of the song, and its magnitudes are a
  sum of them: non-negative matrix factorisation for the Kullback-Leibler divergence (Lee & Seung, 2001), as in Ozerov
  & Fevotte, "Multichannel nonnegative matrix factorization in convolutive mixtures", 2010, with known places.
- The filter then tells the powers anew (expectation maximisation, as in the first paper), and once more is enough.
- Sound without a place of its own (reverb, chorus, ping-pong delay) is one more source, whose covariance is the local
  one.

Conventions: all spectra are complex64 (frames, bins) in the picture rotated by the bass's place, `towards` it and
`across` it. But for the averages of shares and covariances, frames are independent of each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ..compute import one_blas_thread
from ..nmf import factorise, random_components
from .places import TINY, Places
from .spectra import moving_mean, power_of

Guitars = tuple[np.ndarray, ...]
"""The spectra of each guitar, float32 (SPECTRA, bins), each with a sum of 1."""

SPECTRA, SUBSETS = 24, 3
"""Spectra of a guitar, and how many subsets of the frames have spectra of their own. The estimates are averaged: an
error that one takes for a spectrum is seldom in the others."""

LEARNING_UPDATES, UPDATES = 30, 6
"""Updates of spectra and activations on the excerpts, and of a piece's activations in each round."""

ROUNDS = 2
"""Times that the filter is applied."""

TOLD = 0.5
"""How far the bass's power moves between the rounds, in dB, from the network's to what the filter tells."""

LONG_FRAMES, NEAR_FRAMES, SHORT_FRAMES = 32, 2, 1
"""Frames on either side over which a guitar's share of the power is averaged, both ways, and the bass's power."""

CONTEXT_FRAMES = LONG_FRAMES
"""Frames on either side that an output frame of `refine_by_place` can depend on."""

PLACELESS_COUNTED = 0.2
"""Part of the power without a place that counts: the rest is found in the guitars' spectra, too."""

SPREAD = 1e-4
"""Part of its power by which every source strays from its line."""

FAINT = np.float32(1e-5)
"""Magnitude that is added to a guitar's before its spectra are fitted."""

BINS_AT_ONCE, FRAMES_AT_ONCE = 32, 256
"""Bins that are averaged at once, and frames that are filtered, so that they stay in the processor's cache."""

SMALL = np.float32(TINY)


@dataclass(frozen=True, eq=False)
class _Seen:
    """What is seen in a picture before its guitars are fitted, each float32 (frames, bins).

    guitars (n, frames, bins) and unplaced: powers; bass: that of the estimate; local: the powers towards and across,
    and real and imaginary part of their product, around every frame, relative to the sum of both powers.
    """

    guitars: np.ndarray
    unplaced: np.ndarray
    bass: np.ndarray
    local: np.ndarray


def learn_guitars(
    towards: np.ndarray, across: np.ndarray, bass: np.ndarray, places: Places, threads: int = 1
) -> list[Guitars]:
    """The spectra of a song's guitars, for every subset of the frames of its excerpts.

    The result does not depend on the number of threads.
    """
    levels = np.sqrt(_seen(towards, across, bass, places, threads).guitars)
    subsets = range(min(SUBSETS if places.guitars else 1, len(bass)))
    with one_blas_thread():
        return [tuple(_learn(level[subset::SUBSETS], subset) for level in levels) for subset in subsets]


def refine_by_place(
    towards: np.ndarray,
    across: np.ndarray,
    bass: np.ndarray,
    places: Places,
    guitars: Sequence[Guitars],
    threads: int = 1,
) -> np.ndarray:
    """A refined estimate of `bass`; `guitars` are those of `learn_guitars`. Without any, it is `bass`."""
    if not guitars:
        return bass
    seen = _seen(towards, across, bass, places, threads)
    lines = _lines(places).astype(np.float32)

    def refine(start: int) -> np.ndarray:
        block = slice(start, start + FRAMES_AT_ONCE)
        here = _Seen(seen.guitars[:, block], seen.unplaced[block], seen.bass[block], seen.local[:, block])
        filtered = (_filtered(towards[block], across[block], here, lines, spectra) for spectra in guitars)
        result: np.ndarray = sum(filtered) / np.float32(len(guitars))
        return result

    with one_blas_thread(), ThreadPoolExecutor(threads) as pool:
        return np.concatenate([bass[:0], *pool.map(refine, range(0, len(bass), FRAMES_AT_ONCE))])


def _filtered(towards: np.ndarray, across: np.ndarray, seen: _Seen, lines: np.ndarray, spectra: Guitars) -> np.ndarray:
    """The bass in some frames, by one subset's spectra."""
    bass, powers, unplaced = seen.bass, seen.guitars, seen.unplaced
    means = np.zeros_like(towards)
    for number in range(ROUNDS):
        fitted = [_fitted(np.sqrt(power), own) ** 2 for power, own in zip(powers, spectra, strict=True)]
        powers = np.array(fitted).reshape(-1, *bass.shape)
        # The covariance of what has no place, and with it that of the mixture: (tt, ta), (conj(ta), aa).
        loose_tt, loose_aa, real, imaginary = seen.local * unplaced
        loose_ta = real + np.complex64(1j) * imaginary
        along, sideways, slanted = _times(np.stack([lines[0] ** 2, lines[1] ** 2, lines[0] * lines[1]]), powers)
        astray = np.float32(SPREAD) * (bass + powers.sum(axis=0) + unplaced) + SMALL
        tt, aa, ta = along + loose_tt + bass + astray, sideways + loose_aa + astray, slanted + loose_ta
        determinant = tt * aa - power_of(ta)
        # The mixture times the inverse of its covariance; times a source's own covariance that is the source.
        by_tt, by_aa = (aa * towards - ta * across) / determinant, (tt * across - ta.conj() * towards) / determinant
        means = bass * by_tt
        if number + 1 == ROUNDS:
            break
        # What is expected of the powers: those of the posterior means, and the posterior variances.
        told = power_of(means) + bass * np.maximum(1 - bass * aa / determinant, 0)
        for power, (x, y) in zip(powers, lines.T, strict=True):
            certain = (x * x * aa + y * y * tt - 2 * x * y * ta.real) / determinant
            power[...] = power_of(power * (x * by_tt + y * by_aa)) + power * np.maximum(1 - power * certain, 0)
        unplaced = power_of(loose_tt * by_tt + loose_ta * by_aa) + power_of(loose_ta.conj() * by_tt + loose_aa * by_aa)
        bass = bass ** np.float32(1 - TOLD) * told ** np.float32(TOLD)
    return means


def _learn(magnitude: np.ndarray, seed: int) -> np.ndarray:
    """SPECTRA spectra of magnitudes (frames, bins), each with a sum of 1."""
    active, spectra = random_components(magnitude.shape, SPECTRA, np.random.default_rng(seed))
    active *= magnitude.mean()
    factorise(magnitude + FAINT, active, spectra, LEARNING_UPDATES)
    result: np.ndarray = spectra / (spectra.sum(axis=1, keepdims=True) + SMALL)
    return result


def _fitted(magnitude: np.ndarray, spectra: np.ndarray) -> np.ndarray:
    """Magnitudes (frames, bins) as a sum of `spectra`, each frame by itself."""
    active = np.repeat(magnitude.sum(axis=1, keepdims=True) / np.float32(len(spectra)), len(spectra), axis=1)
    for _ in range(UPDATES):
        active *= ((magnitude + FAINT) / (active @ spectra + SMALL)) @ spectra.T
    result: np.ndarray = active @ spectra
    return result


def _seen(towards: np.ndarray, across: np.ndarray, bass: np.ndarray, places: Places, threads: int) -> _Seen:
    """What is seen in a picture, with averages over frames, for which bins are independent of each other."""
    guitars, shape = len(places.guitars), bass.shape
    seen = _Seen(*(np.empty((*count, *shape), np.float32) for count in ((guitars,), (), (), (4,))))
    lines = _lines(places)
    solution, lines = np.linalg.pinv(lines).astype(np.float32), lines.astype(np.float32)
    # Power without a place is seen in two dimensions: off one line only half of it, off two lines none.
    hidden = np.float32({0: 1.0, 1: 2.0}.get(guitars, 0.0))

    def look(start: int) -> None:
        bins = slice(start, start + BINS_AT_ONCE)
        loose = np.stack([towards[:, bins] - bass[:, bins], across[:, bins]])
        power, placed = power_of(loose), _times(solution, loose)
        off_line = hidden * power_of(loose - _times(lines, placed)).sum(axis=0)
        unplaced = off_line + np.float32(PLACELESS_COUNTED * places.placeless) * power.sum(axis=0)
        powers = np.concatenate([power_of(placed), unplaced[np.newaxis]])
        powers *= np.sqrt(_shares(powers, NEAR_FRAMES) * _shares(powers, LONG_FRAMES))
        crossed = loose[0] * loose[1].conj()
        local = moving_mean(np.stack([*power, crossed.real, crossed.imag]), LONG_FRAMES)
        seen.guitars[:, :, bins], seen.unplaced[:, bins] = powers[:-1], powers[-1]
        seen.bass[:, bins] = moving_mean(power_of(bass[:, bins]), SHORT_FRAMES)
        seen.local[:, :, bins] = local / (local[0] + local[1] + SMALL)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(look, range(0, shape[1], BINS_AT_ONCE)))
    return seen


def _lines(places: Places) -> np.ndarray:
    """The guitars' directions (2, guitars): how much of each is towards the bass's place, and across it."""
    radians = np.radians(np.array(places.guitars, np.float64))
    return np.stack([np.cos(radians), np.sin(radians)])


def _shares(powers: np.ndarray, frames: int) -> np.ndarray:
    """Each power's share of all, over `frames` on either side."""
    averaged = moving_mean(powers, frames)
    result: np.ndarray = averaged / (averaged.sum(axis=0) + SMALL)
    return result


def _times(matrix: np.ndarray, spectra: np.ndarray) -> np.ndarray:
    """`matrix` (n, m) times `spectra` (m, frames, bins)."""
    made = np.zeros((len(matrix), *spectra.shape[1:]), spectra.dtype)
    for total, row in zip(made, matrix, strict=True):
        for factor, spectrum in zip(row, spectra, strict=True):
            total += factor * spectrum
    return made
