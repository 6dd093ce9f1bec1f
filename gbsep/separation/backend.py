"""Separation: a mixture in, stems out, block by block.

A backend is a module and a row in BACKENDS; the rest of gbsep finds it there. The module defines what BackendModule
lists. A backend with weights also names the module that finds its files in a folder (`models.find.Layout`).

tests/test_separation.py states what must hold for a backend, and checks it for every row.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from pydantic import ValidationError

from ..arguments import checked
from ..audio import Audio, Block, Reader, Stems, check_finite, join
from ..errors import AudioError, ParameterError, SeparationFailed, nearest
from ..schema import first_problem
from .settings import BackendSettings

if TYPE_CHECKING:
    from ..models.find import Layout

SEPARATION_VERSION = 11
"""Raised whenever the same settings would give other stems than before."""


@dataclass(frozen=True)
class Told:
    """What a backend found: of each of its stems in a few words ("plays chords"), and how it was found out."""

    stems: Mapping[str, str]
    how: str = ""

    def renamed(self, names: Mapping[str, str]) -> Told:
        """The same of stems that are called otherwise."""
        return Told({names.get(name, name): words for name, words in self.stems.items()}, self.how)

    def __str__(self) -> str:
        """
        >>> str(Told({"guitar1": "plays chords", "guitar2": "plays a line"}, "by what they play"))
        'by what they play: guitar1 plays chords; guitar2 plays a line'
        """
        each = "; ".join(f"{name} {words}" for name, words in sorted(self.stems.items()))
        return f"{self.how}: {each}" if self.how else each


@dataclass(frozen=True)
class Context:
    """What a backend gets besides its settings.

    wanted: names of the stems to make; seed: of all random numbers; device: auto, cpu, cuda or mps; models: folder that
    is searched first for weights; progress(fraction 0..1); warn(message) for render.json; tell(what) for what was found
    and is no fault; download: whether missing weights may be downloaded; member(backend, settings, context): another
    backend's stems of the same mixture, from the cache if they are there (None: there is no cache).
    """

    wanted: tuple[str, ...]
    seed: int = 0
    device: str = "auto"
    models: Path | None = None
    progress: Callable[[float], None] = lambda fraction: None
    warn: Callable[[str], None] = lambda message: None
    tell: Callable[[Told], None] = lambda what: None
    download: bool = True
    member: Callable[[str, BackendSettings, Context], Mapping[str, Reader]] | None = None

    @property
    def rng(self) -> np.random.Generator:
        """A new generator that starts from the seed, so that equal runs draw equal numbers."""
        return np.random.default_rng(self.seed)


class BackendModule(Protocol):
    """What the module of a backend defines.

    Settings: everything in a preset's "separate" except "backend" and "seed".
    """

    Settings: type[BackendSettings]

    def stem_names(self, settings: Any, models_dir: Path | None = None) -> tuple[str, ...]:
        """The names of the stems that it can make with these settings."""

    def identity(self, settings: Any, context: Context) -> dict[str, Any]:
        """Everything besides the settings and the seed that changes the stems, as a dict for JSON.

        Such as the hash of the weights, engine, precision, threads, versions of libraries. Called while planning, so
        WeightsMissing is raised before anything is written.
        """

    def run(self, reader: Reader, settings: Any, context: Context) -> Iterator[dict[str, Block]]:
        """Yield {stem name: block} for the names in context.wanted.

        The blocks have the reader's channel count and sample rate and are reader.frames long in all.
        """


@dataclass(frozen=True)
class Backend:
    """A row of the table: the module, and its purpose in one line.

    real_time_factor: seconds of separation per second of audio on one core of a server, per shift where the settings
    have `shifts`; a first guess for the duration of a batch. quick: separating again costs less than keeping the stems.
    weights: the module that finds the files of weights, empty for a backend without. Modules are named relative to this
    package, or in full.
    """

    name: str
    module: str
    summary: str
    real_time_factor: float
    quick: bool = False
    weights: str = ""

    def load(self) -> BackendModule:
        return cast(BackendModule, importlib.import_module(self.module, __package__))

    def load_layout(self) -> Layout:
        return cast("Layout", importlib.import_module(self.weights, __package__))


BACKENDS = {
    row.name: row
    for row in (
        Backend(
            "crossover",
            ".crossover",
            "Butterworth low-pass: the bass is below, the guitar above",
            real_time_factor=0.003,
            quick=True,
        ),
        Backend(
            "nmf",
            ".nmf",
            "non-negative matrix factorisation of the spectrogram, plain or with learned notes",
            real_time_factor=0.05,
        ),
        Backend(
            "compact",
            ".compact.backend",
            "the embedded network: small, offline, streams; trained for guitars and a bass",
            real_time_factor=0.04,
            weights=".compact.weights",
        ),
        Backend(
            "openunmix",
            ".openunmix.backend",
            "Open-Unmix: a BLSTM network per source and a multichannel Wiener filter",
            real_time_factor=0.4,
            weights=".openunmix.weights",
        ),
        Backend(
            "msst",
            ".msst.backend",
            "checkpoints of the Music-Source-Separation-Training family: BS-RoFormer, MelBand-RoFormer, SCNet, MDX23C",
            real_time_factor=10.0,
            weights=".msst.weights",
        ),
        Backend(
            "demucs",
            ".demucs.backend",
            "Demucs: hybrid transformer networks, the cleanest stems; published models or own",
            real_time_factor=1.0,
            weights=".demucs.weights",
        ),
        Backend(
            "ensemble",
            ".ensemble.backend",
            "several separators in one: their stems averaged, or the first of them whose weights are here",
            real_time_factor=2.0,
        ),
        Backend(
            "guitars",
            ".guitars.backend",
            "a second stage: two guitars of another separator's guitar, by their places in stereo",
            real_time_factor=0.06,
            quick=True,
        ),
    )
}


@checked
def backend_named(name: str) -> Backend:
    """The row of BACKENDS. Raises ParameterError, with the nearest name, when there is none."""
    if name not in BACKENDS:
        raise ParameterError("backend", name, f"no such backend{nearest(name, BACKENDS)}")
    return BACKENDS[name]


def stem_blocks(
    reader: Reader, backend: str, settings: BackendSettings, context: Context
) -> Iterator[dict[str, Block]]:
    """Run a backend: yields {name: block} for context.wanted, checked against the contract.

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
    """Separate `audio` in memory into all stems of the backend, or those `wanted`.

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
    """The backend's checked settings. Raises ParameterError that names the key and what is allowed."""
    model = backend_named(backend).load().Settings
    try:
        return model.model_validate(settings)
    except ValidationError as error:
        key, reason = first_problem(error, model)
        raise ParameterError(key, settings.get(key), reason) from None
