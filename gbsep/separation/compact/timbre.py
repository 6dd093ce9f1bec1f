"""Spectra of a song's own instruments, learned from a first estimate of bass and guitar, which refine that estimate.

A network knows instruments in general. Where bass and guitar share a partial it has to guess how much belongs to each.
The same notes sound elsewhere in the song, with less in their way. So the magnitudes of both estimates are modelled by
a few spectra and their activations: non-negative matrix factorisation for the Kullback-Leibler divergence (Lee & Seung,
2001), with too few spectra to model errors, which differ from time to time. Each cell is weighted by the estimate's
share of the power there (weighted factorisation, Guillamet, Bressan & Vitria, 2001), and both models together also have
to fit the mixture. Then each cell's ratio of bass to guitar moves towards that of the models.

Conventions: estimates and mixtures are complex64 (frames, bins), with the mixture's RMS near 1. A model is activations
(frames, components) times timbres (components, bins), one for the bass and one for the guitars. Once timbres are
learned, frames are independent of each other, so a song can be refined piece by piece.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from functools import partial

import numpy as np

from ..compute import one_blas_thread

Pair = tuple[np.ndarray, np.ndarray]
"""(bass, guitars)."""

COMPONENTS = 12, 24
"""Spectra for bass and guitars. More would model errors too, fewer would miss notes."""

UPDATES = 40, 14
"""Updates of timbres and activations, from the first estimate and then from the refined one."""

PIECE_UPDATES = 8
"""Updates of a piece's activations in each round of refinement."""

SUBSETS = 3
"""Every third frame makes a subset with a model of its own, and the refined estimates are averaged: an error that one
model takes for a timbre is seldom in the others."""

MIN_WEIGHT = np.float32(1e-3)
"""Weight of a cell for an instrument that has no share of it; with all of it the weight is 1."""

STRENGTH = np.float32(0.7)
"""How far a cell's logarithmic ratio moves towards a model that fits perfectly; towards one that does not fit, 0."""

MAX_MOVE = np.float32(2.0)
"""Largest move of the natural logarithm of a cell's ratio of powers: 8.7 dB."""

BLOCK_FRAMES = 256
"""Frames that one thread works on at once."""

TINY = np.float32(1e-9)


def learn_timbres(mixture: np.ndarray, bass: np.ndarray, threads: int = 1) -> list[Pair]:
    """Learn a song's timbres from excerpts of it and an estimate of the bass in them, both complex64 (frames, bins).

    One pair per subset: (12, bins) for the bass, (24, bins) for the guitars, each spectrum with a sum of 1. The result
    does not depend on the number of threads.
    """
    rng = np.random.default_rng(0)
    return [
        _learn_subset(mixture[part::SUBSETS], bass[part::SUBSETS], rng, threads)
        for part in range(min(SUBSETS, len(mixture)))
    ]


def _learn_subset(mixture: np.ndarray, bass: np.ndarray, rng: np.random.Generator, threads: int) -> Pair:
    """The timbres of a subset of the frames. They start as frames of the estimates, drawn by level."""
    estimates = np.abs(bass), np.abs(mixture - bass)
    timbres = _pair(_frames(level, count, rng) for level, count in zip(estimates, COMPONENTS, strict=True))
    starts = range(0, len(mixture), BLOCK_FRAMES)
    blocks = [_Block(mixture[start : start + BLOCK_FRAMES], bass[start : start + BLOCK_FRAMES]) for start in starts]
    with one_blas_thread(), ThreadPoolExecutor(threads) as pool:
        for number, updates in enumerate(UPDATES):
            if number:
                list(pool.map(partial(_Block.refine, timbres=timbres), blocks))
            for _ in range(updates):
                parts = zip(*pool.map(partial(_Block.learn, timbres=timbres), blocks), strict=True)
                *up, bass_down, guitars_down = map(sum, parts)
                down = bass_down + TINY, guitars_down + TINY
                timbres = _pair(spectra * u / d for spectra, u, d in zip(timbres, up, down, strict=True))
    return _pair(spectra / (spectra.sum(axis=1, keepdims=True) + TINY) for spectra in timbres)


def _frames(magnitude: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` frames drawn at random, each with a sum of 1 plus a tenth of noise: equal spectra would stay equal."""
    level = magnitude.sum(axis=1, dtype=np.float64) + float(TINY)
    drawn = rng.choice(len(level), count, p=level / level.sum())
    noise = rng.uniform(0, 0.2 / magnitude.shape[1], (count, magnitude.shape[1]))
    result: np.ndarray = (magnitude[drawn] / level[drawn, np.newaxis] + noise).astype(np.float32)
    return result


def refine_by_timbre(mixture: np.ndarray, bass: np.ndarray, timbres: Sequence[Pair], threads: int = 1) -> np.ndarray:
    """A refined estimate of `bass`, complex64 (frames, bins). Cells that are silent, or all bass, stay so."""
    if not timbres:
        return bass

    def refine(start: int) -> np.ndarray:
        block = slice(start, start + BLOCK_FRAMES)
        first = _Block(mixture[block], bass[block])
        estimates = [_refined(first.copy(), pair) for pair in timbres]
        result: np.ndarray = np.stack(estimates).mean(axis=0, dtype=np.complex64)
        return result

    with one_blas_thread(), ThreadPoolExecutor(threads) as pool:
        return np.concatenate([bass[:0], *pool.map(refine, range(0, len(bass), BLOCK_FRAMES))])


def _refined(block: _Block, timbres: Pair) -> np.ndarray:
    for _ in UPDATES:
        block.activate(timbres, PIECE_UPDATES)
        block.refine(timbres)
    return block.bass


def _pair(two: Iterable[np.ndarray]) -> Pair:
    bass, guitars = two
    return bass, guitars


class _Block:
    """Some frames of a mixture, with the current estimate of the bass and the activations of both models.

    Spectra are held as float32 (2, frames, bins), real and imaginary parts: that is faster with real factors.
    """

    def __init__(self, mixture: np.ndarray, bass: np.ndarray) -> None:
        self._mixture = np.stack([mixture.real, mixture.imag])
        self._magnitude = np.sqrt(_power(self._mixture))
        self._set_bass(np.stack([bass.real, bass.imag]))
        levels = (magnitude.sum(axis=1, keepdims=True) for magnitude in self._magnitudes)
        self._activations = _pair(
            np.repeat(level / np.float32(count), count, axis=1) for level, count in zip(levels, COMPONENTS, strict=True)
        )

    def copy(self) -> _Block:
        """A copy that is refined independently."""
        other = copy(self)
        other._activations = _pair(map(np.copy, self._activations))
        return other

    @property
    def bass(self) -> np.ndarray:
        """The estimate, complex64 (frames, bins)."""
        real, imaginary = self._bass
        result: np.ndarray = real + np.complex64(1j) * imaginary
        return result

    def _set_bass(self, bass: np.ndarray) -> None:
        """Make `bass` the estimate. Its weight is the square of its share of the power, that of the mixture 1."""
        self._bass, self._guitars = bass, self._mixture - bass
        powers = _power(bass), _power(self._guitars)
        self._magnitudes = _pair(map(np.sqrt, powers))
        total = 1 / (powers[0] + powers[1] + TINY)
        self._weights = _pair(np.square(power * total) + MIN_WEIGHT for power in powers)
        self._weighted = _pair(m * weight for m, weight in zip(self._magnitudes, self._weights, strict=True))

    def _model(self, timbres: Pair) -> Pair:
        """The modelled magnitudes, each (frames, bins)."""
        model = _pair(active @ spectra for active, spectra in zip(self._activations, timbres, strict=True))
        for magnitude in model:
            magnitude += TINY
        return model

    def _ratios(self, timbres: Pair) -> Pair:
        """Weighted ratios of observed to modelled magnitude: the numerators of the multiplicative updates."""
        ratios = self._model(timbres)
        of_mixture = ratios[0] + ratios[1]
        np.divide(self._magnitude, of_mixture, out=of_mixture)
        for weighted, ratio in zip(self._weighted, ratios, strict=True):
            np.divide(weighted, ratio, out=ratio)
            ratio += of_mixture
        return ratios

    def activate(self, timbres: Pair, updates: int = 1) -> None:
        """Update the activations."""
        pairs = zip(self._weights, timbres, strict=True)
        down = _pair(weight @ spectra.T + (spectra.sum(axis=1) + TINY) for weight, spectra in pairs)
        for _ in range(updates):
            for active, spectra, ratio, d in zip(self._activations, timbres, self._ratios(timbres), down, strict=True):
                active *= ratio @ spectra.T / d
                active[active < TINY] = 0

    def learn(self, timbres: Pair) -> list[np.ndarray]:
        """Update the activations; return these frames' part of the timbres' update: numerators, then denominators."""
        self.activate(timbres)
        ratios, pairs = self._ratios(timbres), zip(self._activations, self._weights, strict=True)
        return [
            *(active.T @ ratio for active, ratio in zip(self._activations, ratios, strict=True)),
            *(active.T @ weight + active.sum(axis=0)[:, np.newaxis] for active, weight in pairs),
        ]

    def refine(self, timbres: Pair) -> None:
        """Move the estimate towards the model."""
        model = self._model(timbres)
        sides = zip(self._magnitudes, model, self._weights, strict=True)
        error = sum((np.abs(m - modelled) * weight).sum(axis=1, keepdims=True) for m, modelled, weight in sides)
        fit = np.maximum(1 - error / (sum(m.sum(axis=1, keepdims=True) for m in self._weighted) + TINY), 0)
        (bass, guitars), (bass_now, guitars_now) = (
            _pair(m**2 + TINY for m in pair) for pair in (model, self._magnitudes)
        )
        move = STRENGTH * fit * np.log(bass * guitars_now / (guitars * bass_now))
        gain = np.exp(np.clip(move, -MAX_MOVE, MAX_MOVE) / 4)
        louder, softer = self._bass * gain, self._guitars / gain
        power = _power(louder)
        share = power / (power + _power(softer) + TINY)
        self._set_bass(louder + (self._mixture - louder - softer) * share)


def _power(spectra: np.ndarray) -> np.ndarray:
    real, imaginary = spectra
    result: np.ndarray = real * real + imaginary * imaginary
    return result
