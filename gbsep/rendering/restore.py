"""The second stage of a render: the separator's stems become the preset's, at the level that they had in the mixture.

restore(stems, separated, targets_lufs, swaps) -> Restored
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..audio import Block, Reader, mix, zip_blocks
from ..measure import levels
from ..preset.model import Loudness, MixtureFit, Peak, Stem, exchanged
from .separate import Pairs, Separated


@dataclass(frozen=True)
class Track:
    """A stem of the preset before its effects: what was separated, and the gain in dB that restores its level."""

    separated: Reader
    gain_db: float = 0.0

    @property
    def restored(self) -> Reader:
        """The signal at the restored level."""
        return mix([(levels.to_amplitude(self.gain_db), self.separated)])


@dataclass(frozen=True)
class Restored:
    """The mixture and the preset's stems before their effects."""

    mixture: Reader
    tracks: Mapping[str, Track]
    warnings: tuple[str, ...] = ()

    @property
    def signals(self) -> dict[str, Reader]:
        """The stems at their restored levels."""
        return {name: track.restored for name, track in self.tracks.items()}

    @property
    def gains_db(self) -> dict[str, float]:
        return {name: track.gain_db for name, track in self.tracks.items()}

    def residual(self, null_test: levels.NullTest) -> Reader:
        """The mixture less its stems; while it is read, `null_test` measures how exactly all of them add up again."""

        def blocks(block_frames: int) -> Iterator[Block]:
            signals = (self.mixture, *self.signals.values())
            for whole, *stems in zip_blocks(*(signal.blocks(block_frames) for signal in signals)):
                left = whole.astype(np.float64)
                for stem in stems:
                    left -= stem
                residual = left.astype(np.float32)
                null_test.add(whole, [*stems, residual])
                yield residual

        return Reader(self.mixture.sample_rate, self.mixture.channels, self.mixture.frames, blocks)


def restore(
    stems: Mapping[str, Stem], separated: Separated, targets_lufs: Mapping[str, float], swaps: Pairs = ()
) -> Restored:
    """The stems of a preset, with their gains; a complement is what the restored others leave.

    `targets_lufs` are the loudnesses of stems that are restored by loudness. Stems that `swaps` names exchange what
    they are made of, at the level it was restored to.
    """
    warnings: list[str] = []
    sources = {"mixture": separated.mixture, **separated.stems}
    tracks = {name: Track(_sum(stem.sources, sources)) for name, stem in stems.items() if not stem.is_complement}
    methods = {name: _method(stems[name], targets_lufs.get(name)) for name in tracks}
    for name, gain_db in _gains(methods, separated.mixture, tracks, warnings).items():
        tracks[name] = replace(tracks[name], gain_db=gain_db)
    known = {**sources, **{name: track.restored for name, track in tracks.items()}}
    for name, stem in stems.items():
        if stem.is_complement:
            tracks[name] = Track(_sum(stem.sources, known))
    names = exchanged(swaps)
    return Restored(separated.mixture, {name: tracks[names.get(name, name)] for name in stems}, tuple(warnings))


def _sum(terms: list[str], known: Mapping[str, Reader]) -> Reader:
    return mix([(-1.0 if term.startswith("-") else 1.0, known[term.removeprefix("-")]) for term in terms])


def _gains(
    methods: Mapping[str, levels.Restore], mixture: Reader, tracks: Mapping[str, Track], warnings: list[str]
) -> dict[str, float]:
    """The gain in dB for each stem, from one pass over mixture and stems where a method asks for one."""
    if all(how.method == "none" for how in methods.values()):
        return {}
    gram = levels.Gram(list(tracks))
    meters = {name: levels.Meter(mixture.sample_rate, mixture.channels) for name in tracks}
    signals = [mixture, *(track.separated for track in tracks.values())]
    for whole, *pieces in zip_blocks(*(signal.blocks() for signal in signals)):
        blocks = dict(zip(tracks, pieces, strict=True))
        gram.add(whole, blocks)
        for name, piece in blocks.items():
            meters[name].add(piece)
    measured = {name: meter.levels() for name, meter in meters.items()}
    for name, how in methods.items():
        audible = measured[name].peak_dbfs > levels.SILENCE_DBFS
        if how.method == "loudness" and audible and not math.isfinite(measured[name].loudness_lufs):
            why = "too short" if mixture.frames < 0.4 * mixture.sample_rate else "too quiet"
            warnings.append(
                f"stems.{name}: {why} for its loudness to be measured (BS.1770: 400 ms above -70 LUFS), so it keeps "
                "the level that it came with"
            )
    return levels.restoration_gains(methods, measured, gram)


def _method(stem: Stem, target_lufs: float | None) -> levels.Restore:
    restore = stem.restore
    if isinstance(restore, MixtureFit):
        return levels.Restore("mixture_fit", limit_db=restore.limit_db)
    if isinstance(restore, Loudness):
        assert target_lufs is not None
        return levels.Restore("loudness", target_lufs=target_lufs)
    if isinstance(restore, Peak):
        return levels.Restore("peak", target_dbfs=restore.dbfs)
    return levels.Restore()
