"""What a song itself tells of its instruments: spectra learnt from a first estimate, which make that estimate better.

A network knows instruments in general. Where bass and guitar share a partial it can but guess whose how much is; the
song may tell, since the same notes sound elsewhere in it with less in their way. So the magnitudes of both estimates
are described by a few spectra and their activations (non-negative matrix factorisation for the Kullback-Leibler
divergence, Lee & Seung, 2001): too few to describe errors, which differ from time to time. Each estimate counts the
more in a cell the surer it is of it (weighted factorisation, Guillamet, Bressan & Vitria, 2001), and both together are
to describe the mixture as well. Then each cell's ratio of bass to guitar moves towards that of the description.

Conventions: estimates and mixtures are complex64 (frames, bins), with the mixture's RMS near 1. A description is
activations (frames, components) times timbres (components, bins), of the bass and of the guitars. Once timbres are
learnt, frames know nothing of each other, so a song can be improved piece by piece.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from functools import partial

import numpy as np

from ..compute import one_blas_thread

Pair = tuple[np.ndarray, np.ndarray]
"""Of the bass and of the guitars."""

COMPONENTS = 12, 24
"""More would describe errors too, fewer not all notes."""

UPDATES = 40, 14
"""Of timbres and activations, from the first estimate and from the better one."""

FITS = 8
"""Updates of a piece's activations, from each of the two estimates."""

PARTS = 3
"""Every so many frames are described for themselves, and what is made of all descriptions is averaged: an error that
one takes for a timbre is seldom one in the others."""

UNSURE = np.float32(1e-3)
"""How much a cell counts for an instrument that has no part in it; where it has all, 1."""

STRENGTH = np.float32(0.7)
"""How far a cell's logarithmic ratio moves where the description is perfect; where it is all wrong, not at all."""

FURTHEST = np.float32(2.0)
"""The most that the logarithm of a cell's ratio of powers moves: 8.7 dB."""

BLOCK_FRAMES = 256
"""One thread works on so many at once."""

TINY = np.float32(1e-9)


def learnt(mixture: np.ndarray, bass: np.ndarray, threads: int = 1) -> list[Pair]:
    """Timbres of a song, of sum 1 each, from some of it and an estimate of the bass there; the same whatever the number
    of threads."""
    rng = np.random.default_rng(0)
    return [_learnt(mixture[part::PARTS], bass[part::PARTS], rng, threads) for part in range(min(PARTS, len(mixture)))]


def _learnt(mixture: np.ndarray, bass: np.ndarray, rng: np.random.Generator, threads: int) -> Pair:
    """They begin as frames of the estimates, drawn by their levels."""
    estimates = np.abs(bass), np.abs(mixture - bass)
    timbres = _pair(_frames(one, count, rng) for one, count in zip(estimates, COMPONENTS, strict=True))
    starts = range(0, len(mixture), BLOCK_FRAMES)
    blocks = [_Block(mixture[start : start + BLOCK_FRAMES], bass[start : start + BLOCK_FRAMES]) for start in starts]
    with one_blas_thread(), ThreadPoolExecutor(threads) as pool:
        for number, updates in enumerate(UPDATES):
            if number:
                list(pool.map(partial(_Block.improve, timbres=timbres), blocks))
            for _ in range(updates):
                parts = zip(*pool.map(partial(_Block.learn, timbres=timbres), blocks), strict=True)
                *up, bass_down, guitars_down = map(sum, parts)
                down = bass_down + TINY, guitars_down + TINY
                timbres = _pair(one * more / less for one, more, less in zip(timbres, up, down, strict=True))
    return _pair(one / (one.sum(axis=1, keepdims=True) + TINY) for one in timbres)


def _frames(magnitude: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """So many frames, of sum 1, with a tenth of noise: equal ones would never part."""
    level = magnitude.sum(axis=1, dtype=np.float64) + float(TINY)
    drawn = rng.choice(len(level), count, p=level / level.sum())
    noise = rng.uniform(0, 0.2 / magnitude.shape[1], (count, magnitude.shape[1]))
    result: np.ndarray = (magnitude[drawn] / level[drawn, np.newaxis] + noise).astype(np.float32)
    return result


def by_timbre(mixture: np.ndarray, bass: np.ndarray, timbres: Sequence[Pair], threads: int = 1) -> np.ndarray:
    """A better estimate of the bass than `bass`. Where that is nothing, or all there is, it stays so."""
    if not timbres:
        return bass

    def better(start: int) -> np.ndarray:
        block = slice(start, start + BLOCK_FRAMES)
        first = _Block(mixture[block], bass[block])
        made = [_improved(first.copy(), one) for one in timbres]
        result: np.ndarray = np.stack(made).mean(axis=0, dtype=np.complex64)
        return result

    with one_blas_thread(), ThreadPoolExecutor(threads) as pool:
        return np.concatenate([bass[:0], *pool.map(better, range(0, len(bass), BLOCK_FRAMES))])


def _improved(block: _Block, timbres: Pair) -> np.ndarray:
    for _ in UPDATES:
        block.activate(timbres, FITS)
        block.improve(timbres)
    return block.bass


def _pair(two: Iterable[np.ndarray]) -> Pair:
    bass, guitars = two
    return bass, guitars


class _Block:
    """Some frames of a mixture, with the estimate of their bass so far and the activations that describe both.

    Spectra are held as float32 (2, frames, bins), real and imaginary parts: arithmetic with real factors is quick so.
    """

    def __init__(self, mixture: np.ndarray, bass: np.ndarray) -> None:
        self._mixture = np.stack([mixture.real, mixture.imag])
        self._magnitude = np.sqrt(_power(self._mixture))
        self._see(np.stack([bass.real, bass.imag]))
        levels = (one.sum(axis=1, keepdims=True) for one in self._magnitudes)
        self._activations = _pair(
            np.repeat(level / np.float32(count), count, axis=1) for level, count in zip(levels, COMPONENTS, strict=True)
        )

    def copy(self) -> _Block:
        """Another that is improved for itself."""
        other = copy(self)
        other._activations = _pair(map(np.copy, self._activations))
        return other

    @property
    def bass(self) -> np.ndarray:
        """The estimate, complex64 (frames, bins)."""
        real, imaginary = self._bass
        result: np.ndarray = real + np.complex64(1j) * imaginary
        return result

    def _see(self, bass: np.ndarray) -> None:
        """Take `bass` for the estimate. Each counts by the square of its part of the power, the mixture by 1."""
        self._bass, self._guitars = bass, self._mixture - bass
        powers = _power(bass), _power(self._guitars)
        self._magnitudes = _pair(map(np.sqrt, powers))
        total = 1 / (powers[0] + powers[1] + TINY)
        self._sure = _pair(np.square(power * total) + UNSURE for power in powers)
        self._known = _pair(one * part for one, part in zip(self._magnitudes, self._sure, strict=True))

    def _described(self, timbres: Pair) -> Pair:
        """The magnitudes that the activations give."""
        described = _pair(active @ one for active, one in zip(self._activations, timbres, strict=True))
        for one in described:
            one += TINY
        return described

    def _wanted(self, timbres: Pair) -> Pair:
        """How many times as much of what is described there ought to be, times the weights."""
        described = self._described(timbres)
        together = described[0] + described[1]
        np.divide(self._magnitude, together, out=together)
        for known, one in zip(self._known, described, strict=True):
            np.divide(known, one, out=one)
            one += together
        return described

    def activate(self, timbres: Pair, updates: int = 1) -> None:
        """Update the activations."""
        weighed = zip(self._sure, timbres, strict=True)
        given = _pair(sure @ one.T + (one.sum(axis=1) + TINY) for sure, one in weighed)
        for _ in range(updates):
            for active, one, wanted, less in zip(self._activations, timbres, self._wanted(timbres), given, strict=True):
                active *= wanted @ one.T / less
                active[active < TINY] = 0

    def learn(self, timbres: Pair) -> list[np.ndarray]:
        """Update the activations; then sums over these frames that timbres are to be multiplied by, and divided."""
        self.activate(timbres)
        wanted, weighed = self._wanted(timbres), zip(self._activations, self._sure, strict=True)
        return [
            *(active.T @ one for active, one in zip(self._activations, wanted, strict=True)),
            *(active.T @ sure + active.sum(axis=0)[:, np.newaxis] for active, sure in weighed),
        ]

    def improve(self, timbres: Pair) -> None:
        """Move the estimate towards what is described."""
        described = self._described(timbres)
        sides = zip(self._magnitudes, described, self._sure, strict=True)
        off = sum((np.abs(one - there) * sure).sum(axis=1, keepdims=True) for one, there, sure in sides)
        fit = np.maximum(1 - off / (sum(known.sum(axis=1, keepdims=True) for known in self._known) + TINY), 0)
        (bass, guitars), (bass_there, guitars_there) = (
            _pair(one**2 + TINY for one in two) for two in (described, self._magnitudes)
        )
        move = STRENGTH * fit * np.log(bass * guitars_there / (guitars * bass_there))
        gain = np.exp(np.clip(move, -FURTHEST, FURTHEST) / 4)
        louder, softer = self._bass * gain, self._guitars / gain
        power = _power(louder)
        share = power / (power + _power(softer) + TINY)
        self._see(louder + (self._mixture - louder - softer) * share)


def _power(spectra: np.ndarray) -> np.ndarray:
    real, imaginary = spectra
    result: np.ndarray = real * real + imaginary * imaginary
    return result
