"""Two guitars apart by what they play: chords and a line, also in mono or at one place.

A network of the kind of `compact`, taught on songs made up of a line (lead) and chords (rhythm) alone, tells the line;
what is left of the guitar is the chords. Its estimate is a share of each frequency at each time: where it is unsure,
both have a part of the sound, and it never goes from one to the other in turns.

One guitar is not made two. Two guitars sound together most of the time; one guitar that plays now chords, now a line,
does not, however it was split. So where both halves seldom sound together, or one is faint, all stays in the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ...audio import Block, Reader, rechunk
from ...stemnames import TWO_GUITARS
from ...store import stemcache
from ...store.identity import file_hash
from ..backend import Told
from ..compact import backend as compact
from ..compact import weights as compact_weights
from ..compact.rests import settle_rests
from ..compute import versions
from ..inference import window
from .places import BLOCK, CONTEXT, HOP, N_FFT, alone, spectra_of, waves_of

WEIGHTS = Path(__file__).with_name("roles.safetensors")

FIRST, SECOND = TWO_GUITARS
BY_ROLES = "the guitars are told apart by what they play"

LINE, CHORDS = "bass", "guitar"
"""What the two halves are called by the network's own backend."""

HIGHEST_HZ = 3750.0
"""As high as the network reads."""

TINY = 1e-12

ACTIVE = 1e-4
"""Least power of a second, relative to the loudest, for the guitar to be taken to play."""

BESIDE = 10**-1.5
"""Least part of a second's power that each half has where both play."""

MIN_TWO = 0.1
"""Least part of the seconds in which both halves play, times the smaller half's part of the power, where there are two
guitars. Of 29 recordings of one guitar one had 0.097 and all others less; two guitars had 0.115 to 0.44 in ten
songs."""


@dataclass
class Listener:
    """What is learnt of the two halves while they are made: powers (2, seconds), and how clearly they differ."""

    powers: list[np.ndarray] = field(default_factory=list)
    clear: float = 0.0
    total: float = 0.0

    def add(self, line: Block, chords: Block) -> None:
        """A second of both halves, (channels, frames)."""
        self.powers.append(np.array([np.square(half, dtype=np.float64).mean() for half in (line, chords)]))
        short = max(0, N_FFT - line.shape[1])
        spectra = spectra_of(np.pad(np.stack([*line, *chords]), ((0, 0), (0, short))), N_FFT)
        power = np.square(abs(spectra), dtype=np.float64).reshape(2, len(line), *spectra.shape[1:])
        self.clear += float(abs(power[0] - power[1]).sum())
        self.total += float(power.sum())

    @property
    def are_two(self) -> bool:
        """Whether both halves play, and mostly together."""
        powers = np.array(self.powers).T if self.powers else np.zeros((2, 1))
        sums = powers.sum(axis=0)
        active = sums > ACTIVE * sums.max()
        if not active.any():
            return False
        together = (powers.min(axis=0) > BESIDE * sums)[active].mean()
        return bool(together * powers.sum(axis=1).min() / sums.sum() >= MIN_TWO)

    @property
    def sure(self) -> float:
        """How clearly each frequency at each time belongs to one of them, weighted by its power: 0 to 1."""
        return self.clear / self.total if self.total else 0.0


def identity() -> dict[str, Any]:
    """What the halves depend on, besides the guitar."""
    return {"roles_sha256": _hash(), **versions("onnxruntime")}


@lru_cache(maxsize=1)
def _hash() -> str:
    return file_hash(WEIGHTS)


def split(
    guitar: Reader, tell: Callable[[Told], None], progress: Callable[[float], None] = lambda fraction: None
) -> Iterator[tuple[Block, Block]]:
    """Chords and line of a guitar, in blocks (channels, frames) that sum to it; `tell` is given what was found."""
    heard = Listener()
    shape = stemcache.Shape((LINE, CHORDS), guitar.sample_rate, guitar.channels, guitar.frames)
    halves = stemcache.spool(_heard(guitar, heard, progress), shape)
    if not heard.are_two:
        sounds = any(second.any() for second in heard.powers)
        alike = "no line is played beside chords, so there is one guitar, or all play alike"
        tell(Told({SECOND: f"is silent: {alike if sounds else 'no guitar sounds'}"}))
        yield from alone(guitar)
        return
    sure = f"{heard.sure:.0%} of the sound goes to one of them, the rest to both in proportion"
    tell(Told({FIRST: "plays chords", SECOND: "plays a line"}, f"{BY_ROLES} ({sure})"))
    take_line, take_whole = (window(reader.blocks()) for reader in (halves[LINE], guitar))
    for start in range(0, guitar.frames, BLOCK):
        line, whole = (take(start - CONTEXT, BLOCK + 2 * CONTEXT) for take in (take_line, take_whole))
        inside = slice(guitar.channels), slice(CONTEXT, CONTEXT + min(BLOCK, guitar.frames - start))
        line = (line + _highs(line, whole, guitar.sample_rate))[inside]
        yield whole[inside] - line, line


def _highs(line: np.ndarray, whole: np.ndarray, sample_rate: int) -> np.ndarray:
    """What the line has above the network's range: at each time the share that it has of the octave below."""
    hz = np.arange(N_FFT // 2 + 1) * sample_rate / N_FFT
    below, above = (hz > HIGHEST_HZ / 2) & (hz < 0.95 * HIGHEST_HZ), hz > HIGHEST_HZ
    if not above.any():
        return np.zeros_like(line)
    lines, wholes = spectra_of(line, HOP), spectra_of(whole, HOP)
    powers = [np.square(abs(one[..., below])).sum(axis=2).sum(axis=0) for one in (lines, wholes - lines)]
    share = powers[0] / (powers[0] + powers[1] + TINY)
    highs: np.ndarray = waves_of(wholes * (share[:, np.newaxis] * above).astype(np.float32), line.shape[1])
    return highs


def _heard(guitar: Reader, listener: Listener, progress: Callable[[float], None]) -> Iterator[dict[str, Block]]:
    """Both halves a second at a time, which `listener` hears too."""
    config, weights = compact_weights.load(WEIGHTS)
    blocks = compact.separate(guitar, config, weights, progress, settle=settle_rests)
    pairs = (np.stack([block[LINE], block[CHORDS]]).reshape(-1, block[LINE].shape[1]) for block in blocks)
    for second in rechunk(pairs, guitar.sample_rate):
        line, chords = np.split(second, 2)
        listener.add(line, chords)
        yield {LINE: line, CHORDS: chords}
