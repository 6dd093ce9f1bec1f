"""A preset as values: one JSON object that describes a whole experiment.

    {"schema_version": 1, "name": "exp002", "title": "...", "description": "...",
     "separate": {"backend": "crossover", "cutoff_hz": 200.0, "seed": 0},
     "swap": [["bass", "other"]],                     two outputs of the separator exchanged, or "auto"
     "stems": {"bass":   {"from": ["bass"], "restore": {"method": "mixture_fit"}, "chain": [...]},
               "guitar": {"from": ["mixture", "-bass"]}},
     "output": {"format": "wav", "bit_depth": "float32", "residual": true, "tail_s": 0.0}}

A preset may `"extends": "default"` and give only what differs; see extends.py. What need not be given at all:
`schema_version`, `name` (that of the file), `title`, and `from` (the output that is called as the stem).

`from` adds outputs of the separator up; a term with a minus is taken away. "mixture" is the recording itself: in such a
complement a term with a minus names a stem of the preset that is none (with its restored gain) if there is one of that
name, else an output of the separator.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from ..effects.chain import Node
from ..io.formats import BitDepth, Container
from ..params import LIMIT_DB, TAIL_S, TARGET_DBFS, TARGET_LUFS
from ..schema import Name, StrictModel
from ..separation.settings import BackendSettings
from ..stemnames import BASS, partners
from .overrides import label

MAX_STEMS = 32
"""Stems of a preset, and sources of a stem: each is a file, a chain and a signal on disk while it renders."""
MAX_TITLE = 200

Seed = Annotated[int, Field(ge=0, lt=2**32, description="the only source of chance")]


class NoRestore(StrictModel):
    """The level is left as the separator gave it."""

    method: Literal["none"] = "none"


class MixtureFit(StrictModel):
    """Gains that make the stems best add up to the mixture."""

    method: Literal["mixture_fit"] = "mixture_fit"
    limit_db: float = Field(
        LIMIT_DB.default_number, ge=LIMIT_DB.low, le=LIMIT_DB.high, description="the most that is ever added, dB"
    )


class Loudness(StrictModel):
    """Integrated loudness (BS.1770) brought to a value, or to that of another render's stem."""

    method: Literal["loudness"] = "loudness"
    lufs: float | None = Field(None, ge=TARGET_LUFS.low, le=TARGET_LUFS.high, description="target, LUFS")
    match: str | None = Field(None, description="an audio file, or a render's folder, whose loudness is the target")


class Peak(StrictModel):
    """The highest sample brought to a value."""

    method: Literal["peak"] = "peak"
    dbfs: float = Field(TARGET_DBFS.default_number, ge=TARGET_DBFS.low, le=TARGET_DBFS.high, description="target, dBFS")


Restore = Annotated[NoRestore | MixtureFit | Loudness | Peak, Field(discriminator="method")]


class Stem(StrictModel):
    """One stem of the render: what it is made of, how its level is restored, what it is sent through."""

    sources: list[str] = Field(
        alias="from", min_length=1, max_length=MAX_STEMS, description="outputs of the separator, or mixture and -stem"
    )
    restore: Restore = NoRestore()
    chain: list[Any] = Field([], description="effects, the first one first")

    @property
    def is_complement(self) -> bool:
        return "mixture" in self.sources


class Output(StrictModel):
    """How the files are written."""

    format: Container = "wav"
    bit_depth: BitDepth | None = Field(None, description="default: float32 for WAV, 24 for FLAC; the others have none")
    residual: bool = Field(True, description="also write what no stem took")
    tail_s: float = Field(
        TAIL_S.default_number,
        ge=TAIL_S.low,
        le=TAIL_S.high,
        description="all files go on this long, for effects that ring out, seconds",
    )


class Document(StrictModel):
    """A preset as it stands in JSON. `separate` and the chains are checked by their own rooms."""

    schema_version: Literal[1] = Field(description="of this format")
    name: Name
    title: str = Field(min_length=1, max_length=MAX_TITLE, description="what it is for, in a few words")
    description: str = Field("", description="more about it, in sentences")
    separate: dict[str, Any] = Field(description="the backend and its settings")
    swap: Literal["auto"] | list[Annotated[list[str], Field(min_length=2, max_length=2)]] = Field(
        [], description="pairs of outputs to exchange, or auto"
    )
    stems: dict[Name, Stem] = Field(
        min_length=1, max_length=MAX_STEMS, description="each stem of the render by its name"
    )
    output: Output = Output()


class SeedOnly(StrictModel):
    """The seed, which stands beside a backend's settings."""

    seed: Seed


@dataclass(frozen=True)
class Preset:
    """A checked preset.

    `wanted` and `outputs` are the separator's own names. `document` is the JSON object with every default filled in;
    `overrides` are the key paths and values that --set changed.
    """

    name: str
    title: str
    description: str
    backend: str
    settings: BackendSettings
    seed: int
    swap: Literal["auto"] | tuple[tuple[str, str], ...]
    outputs: tuple[str, ...]
    stems: Mapping[str, Stem]
    chains: Mapping[str, tuple[Node, ...]]
    output: Output
    document: Mapping[str, Any]
    overrides: tuple[tuple[str, Any], ...] = ()

    @property
    def folder(self) -> str:
        """Name of the render's folder: `exp002`, or `exp002@cutoff_hz=250` with overrides."""
        return self.name + (f"@{label(self.overrides)}" if self.overrides else "")

    @property
    def wanted(self) -> tuple[str, ...]:
        """The separator's outputs that the stems are made of, by the separator's own (unswapped) names."""
        asked = {
            term.removeprefix("-")
            for stem in self.stems.values()
            for term in stem.sources
            if not (stem.is_complement and term.startswith("-") and term[1:] in self.stems)
        }
        if self.swap == "auto":
            asked |= {BASS, *partners(self.outputs)}
        names = {} if self.swap == "auto" else exchanged(self.swap)
        renamed = {names.get(name, name) for name in asked - {"mixture"}}
        return tuple(name for name in self.outputs if name in renamed)


def exchanged(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The name that each name of the pairs is exchanged with."""
    pairs = tuple(pairs)
    return {**dict(pairs), **{second: first for first, second in pairs}}
