"""Separation: a mixture in, stems out, block by block.

A backend is a module and a row in BACKENDS. The module defines

    Settings                      pydantic model (strict, no unknown keys) of everything in a preset's "separate" but
                                  "backend" and "seed"
    stem_names(settings)          the names of the stems it can give, as a tuple
    identity(settings, context)   a JSON-able dict of everything besides the settings and the seed that changes the
                                  stems: weights' hash, engine, precision, threads, library versions. Called while
                                  planning, so it raises WeightsMissing or BackendNotInstalled before anything is written.
    run(reader, settings, context)
                                  an iterator of {stem name: block} for the names in context.wanted; the blocks have
                                  the reader's channel count and sample rate and are reader.frames long in all.

What must hold for each is stated once, in tests/test_separate.py, and checked for every row.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ..audio import Audio, Block, Reader, Stems
from ..errors import ParameterError, nearest

SEPARATION_VERSION = 1
"""Raised whenever the same settings would give other stems than before."""


@dataclass(frozen=True)
class Backend:
    """A row of the table: where the module is, and what it is for in one line."""

    name: str
    module: str
    summary: str

    def load(self) -> ModuleType:
        return importlib.import_module(self.module, __package__)


BACKENDS = {
    row.name: row
    for row in (
        Backend("crossover", ".crossover", "Butterworth low-pass for the bass, the complement for the guitar; instant"),
        Backend("nmf", ".nmf", "non-negative matrix factorisation of the spectrogram, plain or with learned notes"),
    )
}


@dataclass(frozen=True)
class Context:
    """What a backend is told beside its settings.

    wanted: names of the stems to make; rng: the only source of chance; device: auto, cpu, cuda or mps;
    models: folder searched first for weights; progress(fraction 0..1); warn(message) for render.json.
    """

    wanted: tuple[str, ...]
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    device: str = "auto"
    models: Path | None = None
    progress: Callable[[float], None] = lambda fraction: None
    warn: Callable[[str], None] = lambda message: None
