"""Separation: a mixture in, stems out, block by block.

A backend is a module and a row in BACKENDS. The module defines

    Settings                      a BackendSettings: everything in a preset's "separate" but "backend" and "seed"
    stem_names(settings, models_dir)
                                  the names of the stems it can give, as a tuple
    identity(settings, context)   a JSON-able dict of everything besides the settings and the seed that changes the
                                  stems: weights' hash, engine, precision, threads, library versions. Called while
                                  planning: it raises WeightsMissing before anything is written.
    run(reader, settings, context)
                                  an iterator of {stem name: block} for the names in context.wanted; the blocks have
                                  the reader's channel count and sample rate and are reader.frames long in all.

What must hold for each is stated once, in tests/test_separate.py, and checked for every row.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from pydantic import ValidationError

from ..arguments import checked
from ..audio import Audio, Block, Reader, Stems, check_finite, join
from ..errors import AudioError, ParameterError, SeparationFailed, nearest
from ..schema import first_problem
from .settings import BackendSettings

SEPARATION_VERSION = 6
"""Raised whenever the same settings would give other stems than before."""


@dataclass(frozen=True)
class Backend:
    """A row of the table: where the module is, and what it is for in one line.

    `quick` says that separating again costs less than keeping the stems.
    """

    name: str
    module: str
    summary: str
    quick: bool = False

    def load(self) -> ModuleType:
        return importlib.import_module(self.module, __package__)


BACKENDS = {
    row.name: row
    for row in (
        Backend("crossover", ".crossover", "Butterworth low-pass: the bass is below, the guitar above", quick=True),
        Backend("nmf", ".nmf", "non-negative matrix factorisation of the spectrogram, plain or with learned notes"),
        Backend(
            "compact",
            ".compact.backend",
            "the embedded network: small, offline, streams; trained for guitars and a bass",
        ),
        Backend(
            "openunmix", ".openunmix.backend", "Open-Unmix: a BLSTM network per source and a multichannel Wiener filter"
        ),
        Backend(
            "demucs",
            ".demucs.backend",
            "Demucs: hybrid transformer networks, the cleanest stems; published models or own",
        ),
    )
}


@dataclass(frozen=True)
class Context:
    """What a backend is told beside its settings.

    wanted: names of the stems to make; seed: the only source of chance; device: auto, cpu, cuda or mps;
    models: folder searched first for weights; progress(fraction 0..1); warn(message) for render.json; download: whether
    weights that are nowhere may be fetched.
    """

    wanted: tuple[str, ...]
    seed: int = 0
    device: str = "auto"
    models: Path | None = None
    progress: Callable[[float], None] = lambda fraction: None
    warn: Callable[[str], None] = lambda message: None
    download: bool = True

    @property
    def rng(self) -> np.random.Generator:
        """A fresh generator: every use starts from the seed, so that equal runs draw equal numbers."""
        return np.random.default_rng(self.seed)


@checked
def backend_named(name: str) -> Backend:
    """The row of BACKENDS; ParameterError with the nearest name when there is none."""
    if name not in BACKENDS:
        raise ParameterError("backend", name, f"no such backend{nearest(name, BACKENDS)}")
    return BACKENDS[name]


def stem_blocks(
    reader: Reader, backend: str, settings: BackendSettings, context: Context
) -> Iterator[dict[str, Block]]:
    """Run a backend: {name: block} for context.wanted, checked to be what the contract says.

    Raises SeparationFailed when a block is not finite or the stems are not as long as the mixture.
    """
    settings.check(reader.sample_rate)
    frames = 0
    for blocks in backend_named(backend).load().run(reader, settings, context):
        lengths = {block.shape[1] for block in blocks.values()}
        if set(blocks) != set(context.wanted) or len(lengths) != 1:
            raise SeparationFailed(f"{backend} gave stems {sorted(blocks)} of {sorted(lengths)} frames")
        for name, block in blocks.items():
            try:
                check_finite(block, frames)
            except AudioError as error:
                raise SeparationFailed(f"{backend}, stem {name!r}: {error}") from error
        frames += lengths.pop()
        yield blocks
    if frames != reader.frames:
        raise SeparationFailed(f"{backend} gave {frames} frames for a mixture of {reader.frames}")


@checked
def separate(
    audio: Audio,
    backend: str = "crossover",
    *,
    seed: int = 0,
    wanted: Sequence[str] | None = None,
    device: str = "auto",
    models: Path | None = None,
    **settings: Any,
) -> Stems:
    """Separate `audio` in memory, into all stems of the backend or those `wanted`.

    Raises ParameterError for an unknown backend, setting or stem, and what the backend raises.

    >>> tone = Audio(np.sin(2 * np.pi * 1000 * np.arange(44100) / 44100), 44100)
    >>> stems = separate(tone, "crossover", cutoff_hz=200.0)
    >>> bool(np.abs(stems.stems["bass"].samples[:, 4410:-4410]).max() < 1e-4)
    True
    """
    checked = parse_settings(backend, settings)
    known = backend_named(backend).load().stem_names(checked, models)
    for name in wanted or ():
        if name not in known:
            raise ParameterError("wanted", name, f"{backend} has no such stem{nearest(name, known)}")
    context = Context(tuple(wanted or known), seed, device, models)
    pieces: dict[str, list[Block]] = {name: [] for name in context.wanted}
    for blocks in stem_blocks(audio.reader(), backend, checked, context):
        for name, block in blocks.items():
            pieces[name].append(block)
    stems = {name: Audio(join(blocks), audio.sample_rate) for name, blocks in pieces.items()}
    return Stems(audio, stems, backend, checked.model_dump())


@checked
def parse_settings(backend: str, settings: Mapping[str, Any]) -> BackendSettings:
    """The backend's checked settings; ParameterError names the key and what is allowed."""
    model = backend_named(backend).load().Settings
    try:
        return model.model_validate(settings)
    except ValidationError as error:
        key, reason = first_problem(error, model)
        raise ParameterError(key, settings.get(key), reason) from None
