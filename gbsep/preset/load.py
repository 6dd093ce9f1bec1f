"""Presets: one JSON object describes a whole experiment.

    {"schema_version": 1, "name": "exp002", "title": "...", "description": "...",
     "separate": {"backend": "crossover", "cutoff_hz": 200.0, "seed": 0},
     "swap": [["bass", "other"]],                     two outputs of the separator exchanged, or "auto"
     "stems": {"bass":   {"from": ["bass"], "restore": {"method": "mixture_fit"}, "chain": [...]},
               "guitar": {"from": ["mixture", "-bass"]}},
     "output": {"format": "wav", "bit_depth": "float32", "residual": true, "tail_s": 0.0}}

`from` adds outputs of the separator up; a term with a minus is taken away. "mixture" is the recording itself: in such a
complement a term with a minus names a stem of the preset that is none (with its restored gain) if there is one of that
name, else an output of the separator.

Reading is strict: an unknown key, a wrong type, NaN, an unknown effect or a value outside its range is a PresetError
that names the JSON path. A loaded Preset is complete: `document` holds every default it implies.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from pydantic import Field, ValidationError, create_model

from ..arguments import checked
from ..effects.chain import Node, chain_schema, dump_chain, parse_chain
from ..errors import PresetError, SmallFileError, nearest
from ..io.formats import BitDepth, Container
from ..params import LIMIT_DB, TAIL_S, TARGET_DBFS, TARGET_LUFS
from ..schema import StrictModel, first_problem
from ..separation.backend import BACKENDS, backend_named
from ..separation.settings import BackendSettings
from ..stemnames import BASS, partners
from ..store import smallfiles
from ..store.folders import config_folder

SCHEMA_VERSION = 1
MAX_BYTES = 1_000_000
MAX_STEMS = 32
"""Stems of a preset, and sources of a stem: each is a file, a chain and a signal on disk while it renders."""
NAME = r"^[\w][\w .+-]{0,63}$"

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

    sources: list[str] = Field(alias="from", min_length=1, max_length=MAX_STEMS)
    restore: Restore = NoRestore()
    chain: list[Any] = Field([])

    @property
    def is_complement(self) -> bool:
        return "mixture" in self.sources


class Output(StrictModel):
    """How the files are written."""

    format: Container = "wav"
    bit_depth: BitDepth | None = Field(None, description="default: float32 for WAV, 24 for FLAC; MP3 has none")
    residual: bool = Field(True, description="also write what no stem took")
    tail_s: float = Field(
        TAIL_S.default_number,
        ge=TAIL_S.low,
        le=TAIL_S.high,
        description="all files go on this long, for effects that ring out, seconds",
    )


class _Document(StrictModel):
    schema_version: Literal[1]
    name: str = Field(pattern=NAME)
    title: str = Field(min_length=1, max_length=200)
    description: str = ""
    separate: dict[str, Any]
    swap: Literal["auto"] | list[Annotated[list[str], Field(min_length=2, max_length=2)]] = Field([])
    stems: dict[Annotated[str, Field(pattern=NAME)], Stem] = Field(min_length=1, max_length=MAX_STEMS)
    output: Output = Output()


class _SeedOnly(StrictModel):
    seed: Seed


@dataclass(frozen=True)
class Preset:
    """A checked preset. `document` is the JSON object with every default filled in; `overrides` what --set changed."""

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
        return self.name + (f"@{_label(self.overrides)}" if self.overrides else "")

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
    """Each name of the pairs, and the one it is exchanged with."""
    pairs = tuple(pairs)
    return {**dict(pairs), **{second: first for first, second in pairs}}


@checked
def load_preset(
    preset: str | Path | Mapping[str, Any],
    overrides: Iterable[tuple[str, Any]] = (),
    *,
    seed: int | None = None,
    format: str | None = None,
    bit_depth: str | None = None,
    models: Path | None = None,
) -> Preset:
    """A preset by name (shipped, or in the user's folder), from a JSON file, or from a JSON object.

    `overrides` are pairs of key path and value, `[("separate.cutoff_hz", 250.0)]`, and give the render a folder of its
    own; `seed`, `format` and `bit_depth` replace the preset's, in its own folder. `models` is a folder searched first
    for weights: only they know the outputs of a model of the user's own.
    Raises PresetError, naming the place and the nearest known word.
    """
    overrides = tuple(overrides)
    if isinstance(preset, Mapping):
        label, folder = _title(preset.get("name")), Path()
        try:
            document = copy.deepcopy(dict(preset))
        except RecursionError:
            raise PresetError(label, "", "is nested too deeply") from None
    else:
        path = find_preset(str(preset))
        label, folder, document = str(preset), path.parent, _read(path)
    changes: dict[str, Any] = {"separate.seed": seed, "output.format": format, "output.bit_depth": bit_depth}
    if format is not None and bit_depth is None:
        _set(label, document, "output.bit_depth", None)
    for key, value in (*overrides, *((key, value) for key, value in changes.items() if value is not None)):
        _set(label, document, key, value)
    return _parse(label, folder, document, overrides, models)


def _title(name: object) -> str:
    return name if isinstance(name, str) and len(name) < 100 else "preset"


def preset_folders() -> tuple[Path, ...]:
    """Where presets are found by name: the user's own folder, then those shipped with gbsep."""
    own = config_folder()
    return (own / "presets", _shipped()) if own else (_shipped(),)


def preset_names() -> dict[str, Path]:
    """All presets that have a name, and their files; the user's own go before the shipped ones."""
    found = {path.stem: path for folder in reversed(preset_folders()) for path in sorted(folder.glob("*.json"))}
    return dict(sorted(found.items()))


@checked
def find_preset(preset: str) -> Path:
    """The file of a preset given by name or path."""
    if preset.endswith(".json") or os.sep in preset or "/" in preset:
        return Path(preset)
    names = preset_names()
    if preset not in names:
        raise PresetError(preset, "", f"no preset of this name{nearest(preset, names)}")
    return names[preset]


def preset_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a preset, with every backend's settings and every effect's parameters."""
    model: Any = create_model  # its stubs do not know types that are made at run time
    by_backend = [
        model(
            f"{name.capitalize()}Settings", __base__=row.load().Settings, backend=(Literal[name], ...), seed=(Seed, 0)
        )
        for name, row in BACKENDS.items()
    ]
    separate: Any = Annotated[Union[tuple(by_backend)], Field(discriminator="backend")]  # noqa: UP007
    schema = model("Preset", __base__=_Document, separate=(separate, ...)).model_json_schema()
    effects = chain_schema()
    schema["$defs"] |= effects.pop("$defs")
    schema["$defs"]["Stem"]["properties"]["chain"] = {**effects, "default": []}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


@checked
def parse_override(text: str, example: str = "separate.cutoff_hz=250") -> tuple[str, Any]:
    """`separate.cutoff_hz=250` as a pair; the value is JSON, a number, or plain text. `example` is for the message.

    >>> parse_override("separate.cutoff_hz=250"), parse_override("separate.model=htdemucs")
    (('separate.cutoff_hz', 250), ('separate.model', 'htdemucs'))
    """
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise PresetError("--set", "", f"{text!r} is not KEY=VALUE, such as {example}")
    try:
        return key, smallfiles.parse_json(key, value.encode("utf-8", "surrogateescape"))
    except SmallFileError as error:
        if not error.is_syntax:
            raise PresetError("--set", key, error.reason) from None
        return key, float(value) if _NUMBER.fullmatch(value) else value


_NUMBER = re.compile(r"[+-]?(\d{1,15}\.?\d{0,15}|\.\d{1,15})")
"""Numbers as people type them and JSON does not have them: .3, +0.3, 3."""


def _parse(
    label: str, folder: Path, document: dict[str, Any], overrides: tuple[tuple[str, Any], ...], models: Path | None
) -> Preset:
    try:
        checked = _Document.model_validate(document)
    except ValidationError as error:
        raise PresetError(label, *first_problem(error, _Document)) from None

    separate = dict(checked.separate)
    backend, seed = separate.pop("backend", None), separate.pop("seed", 0)
    if not isinstance(backend, str) or backend not in BACKENDS:
        raise PresetError(label, "separate.backend", f"{backend!r} is no backend{nearest(str(backend), BACKENDS)}")
    module = backend_named(backend).load()
    model = module.Settings
    try:
        _SeedOnly.model_validate({"seed": seed})
        settings = model.model_validate(separate)
    except ValidationError as error:
        key, reason = first_problem(error, model)
        raise PresetError(label, f"separate.{key}", reason) from None

    try:
        chains = {name: parse_chain(stem.chain, f"stems.{name}.chain", folder) for name, stem in checked.stems.items()}
    except PresetError as error:
        raise PresetError(label, error.json_path, error.reason) from None

    outputs = module.stem_names(settings, models)
    _check_sources(label, checked, outputs)
    complete = checked.model_dump(by_alias=True)
    complete["separate"] = {"backend": backend, **settings.model_dump(), "seed": seed}
    for name, nodes in chains.items():
        complete["stems"][name]["chain"] = dump_chain(nodes)
    return Preset(
        name=checked.name,
        title=checked.title,
        description=checked.description,
        backend=backend,
        settings=settings,
        seed=seed,
        swap="auto" if checked.swap == "auto" else tuple((first, second) for first, second in checked.swap),
        outputs=outputs,
        stems=checked.stems,
        chains=chains,
        output=checked.output,
        document=complete,
        overrides=overrides,
    )


def _check_sources(label: str, document: _Document, outputs: tuple[str, ...]) -> None:
    swapped = [name for pair in document.swap for name in pair] if document.swap != "auto" else []
    for name in swapped:
        if name not in outputs:
            raise PresetError(label, "swap", f"the separator gives no {name!r}{nearest(name, outputs)}")
    if len(set(swapped)) != len(swapped):
        raise PresetError(label, "swap", "an output is named twice")
    if document.swap == "auto" and not (BASS in outputs and partners(outputs)):
        raise PresetError(label, "swap", f'"auto" needs a bass and a guitar or other; the separator gives {outputs}')
    if len({name.casefold() for name in document.stems}) < len(document.stems):
        raise PresetError(label, "stems", "two names differ only in case: their files would be one")
    plain = {name for name, stem in document.stems.items() if not stem.is_complement}
    for name, stem in document.stems.items():
        where = f"stems.{name}"
        if name == "residual":
            raise PresetError(label, where, "the name is taken: residual is what no stem took")
        if len(set(stem.sources)) != len(stem.sources):
            raise PresetError(label, f"{where}.from", "a source is named twice")
        known = {"mixture", *outputs, *(f"-{output}" for output in outputs)}
        if stem.is_complement:
            known |= {f"-{other}" for other in plain}
        if all(source.startswith("-") for source in stem.sources):
            raise PresetError(label, f"{where}.from", "takes away only: name what it is taken from, such as mixture")
        for source in stem.sources:
            if source not in known:
                raise PresetError(label, f"{where}.from", f"no source {source!r}{nearest(source, known)}")
            taken = source.removeprefix("-")
            if stem.is_complement and source != taken and taken in document.stems and taken not in plain:
                raise PresetError(
                    label,
                    f"{where}.from",
                    f"{taken!r} is a complement of the mixture, and of those none can be taken away",
                )
        if stem.is_complement and stem.restore.method != "none":
            raise PresetError(
                label, f"{where}.restore", "a complement of the mixture has its level already: restore the others"
            )
        if isinstance(stem.restore, Loudness) and (stem.restore.lufs is None) == (stem.restore.match is None):
            raise PresetError(label, f"{where}.restore", 'method "loudness" takes either lufs or match')


def _read(path: Path) -> dict[str, Any]:
    try:
        document = smallfiles.read_json(path, MAX_BYTES, make_object=partial(_unique, path))
    except SmallFileError as error:
        raise PresetError(path, "", error.reason) from None
    if not isinstance(document, dict):
        raise PresetError(path, "", "is not a JSON object, such as gbsep presets show exp002 prints")
    return document


def _unique(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        name = next(key for index, (key, _) in enumerate(pairs) if key in dict(pairs[:index]))
        raise PresetError(path, "", f"{name!r} stands twice in one object")
    return document


_STEP = re.compile(r"([^.\[\]]+)|\[(\d{1,9})\]")


def _set(label: str, document: dict[str, Any], key: str, value: Any) -> None:
    """Put `value` at a key path such as `stems.bass.chain[0].cutoff_hz`, making the objects on the way."""
    steps: list[str | int] = [name or int(index) for name, index in _STEP.findall(key)]
    if _STEP.sub("", key).strip("."):
        raise PresetError(label, key, "is not a key path, such as stems.bass.chain[0].cutoff_hz")
    place: Any = document
    for position, step in enumerate(steps):
        last = position == len(steps) - 1
        if isinstance(place, list) and isinstance(step, str) and step.isdigit():
            step = int(step)
        if isinstance(step, int):
            if not (isinstance(place, list) and step < len(place)):
                raise PresetError(label, key, f"there is no element [{step}]")
        elif not isinstance(place, dict):
            raise PresetError(label, key, f"{step!r} is asked of something that is no object")
        if last:
            place[step] = value
        else:
            place = place[step] if isinstance(step, int) else place.setdefault(step, {})


def _label(overrides: Iterable[tuple[str, Any]]) -> str:
    """Overrides as part of a folder's name: the last words of the keys that tell them apart, and the values."""
    pairs = dict(overrides)
    parts = []
    for key, value in sorted(pairs.items()):
        words = key.split(".")
        short = next(
            tail
            for count in range(1, len(words) + 1)
            if sum(other.split(".")[-count:] == words[-count:] for other in pairs) == 1
            for tail in [".".join(words[-count:])]
        )
        parts.append(f"{short}={value if isinstance(value, str) else json.dumps(value, separators=(',', ':'))}")
    text = ",".join(parts)
    safe = re.sub(r"[^\w.=,+\[\]-]", "_", text)
    if safe == text and len(safe) <= 80:
        return safe
    return f"{safe[:70]}~{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _shipped() -> Path:
    """Inside the wheel the presets lie in the package; in a checkout, beside it."""
    inside = Path(__file__).parents[1] / "presets"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "presets"
