"""A document as a preset's values: everything that is wrong with it, at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..effects.chain import Node, parse_chain
from ..errors import GbsepError, PresetError, nearest, similar
from ..models.catalogue import MODELS
from ..schema import Model, all_problems
from ..separation.backend import BACKENDS, BackendModule, backend_named
from ..separation.settings import BackendSettings
from ..stemnames import BASS, partners
from .model import Document, Loudness, SeedOnly, Stem

Problem = tuple[str, str]
"""A JSON path and the reason."""


@dataclass(frozen=True)
class Checked:
    """What a document says, whole and checked."""

    given: Document
    backend: str
    settings: BackendSettings
    seed: int
    chains: Mapping[str, tuple[Node, ...]]
    outputs: tuple[str, ...]


def check_document(
    label: str, document: Mapping[str, Any], folders: Mapping[str, Path], models: Path | None
) -> Checked:
    """The values of a whole document. `folders` are where the files of each stem's chain lie.

    Raises PresetError with all problems that can be told; where only the outputs of the separator cannot be told, what
    it says of that, such as WeightsMissing.
    """
    problems: list[Problem] = []
    given = _document(document, problems)
    separate = document.get("separate")
    separation, no_model = None, None
    try:
        separation = _separation(separate, models, problems) if isinstance(separate, Mapping) else None
    except GbsepError as error:  # weights that are nowhere, a model of another backend
        no_model = error
    chains = dict(_chains(document.get("stems"), folders, problems))
    told = _told(document, given)
    if separation:
        outputs: tuple[str, ...] | None = separation[-1]
    else:
        outputs = _likely_outputs(separate, told) if no_model else _outputs_all_the_same(separate, models)
    problems += _problems_of_stems(told, outputs)
    if no_model and not problems:
        raise no_model
    if no_model:
        place = "separate.model" if "model" in document["separate"] else "separate"
        problems.append((place, str(no_model)))
    if problems:
        (place, reason), *more = problems
        raise PresetError(label, place, reason, more)
    assert given
    assert separation
    return Checked(given, *separation[:3], chains, separation[-1])


def _document(document: Mapping[str, Any], problems: list[Problem]) -> Document | None:
    try:
        return Document.model_validate(document)
    except ValidationError as error:
        problems += all_problems(error, Document)
        return None


def _separation(
    separate: Mapping[str, Any], models: Path | None, problems: list[Problem]
) -> tuple[str, BackendSettings, int, tuple[str, ...]] | None:
    """The backend, its settings, the seed, and the names of the stems that it gives."""
    settings = dict(separate)
    backend, seed = settings.pop("backend", None), settings.pop("seed", 0)
    if not isinstance(backend, str) or backend not in BACKENDS:
        problems.append(("separate.backend", f"{backend!r} is no backend{nearest(str(backend), BACKENDS)}"))
        return None
    module: BackendModule = backend_named(backend).load()
    before = len(problems)
    _validated(SeedOnly, {"seed": seed}, problems)
    parsed = _validated(module.Settings, settings, problems)
    if parsed is None or len(problems) > before:
        return None
    return backend, parsed, seed, module.stem_names(parsed, models)


def _outputs_all_the_same(separate: object, models: Path | None) -> tuple[str, ...] | None:
    """The stems that a separator gives for certain, though a number among its settings, or a key, is wrong."""
    settings = dict(separate) if isinstance(separate, Mapping) else {}
    backend = settings.pop("backend", None)
    settings.pop("seed", None)
    if not isinstance(backend, str) or backend not in BACKENDS:
        return None
    module: BackendModule = backend_named(backend).load()
    problems: list[Problem] = []
    _validated(module.Settings, settings, problems)
    wrong = {place.split(".")[1].split("[")[0] for place, _ in problems}
    if any(key in module.Settings.model_fields and not isinstance(settings.get(key), (int, float)) for key in wrong):
        return None
    left = {key: value for key, value in settings.items() if key not in wrong}
    with suppress(GbsepError):
        parsed = _validated(module.Settings, left, problems)
        return module.stem_names(parsed, models) if parsed else None
    return None


def _likely_outputs(separate: Any, told: _Told) -> tuple[str, ...] | None:
    """What a separator may give whose model is not here: the stems of the published ones, and any that is named and
    not like one of these."""
    published = {stem for row in MODELS.values() if row.backend == separate["backend"] for stem in row.stems}
    if not published:
        return None
    sources = (source.removeprefix("-") for stem in told.stems.values() for source in stem.sources)
    named = {*sources, *(name for pair in told.swap for name in pair if told.swap != "auto")} - {"mixture"}
    return (*sorted(published), *sorted(name for name in named if not similar(name, published)))


def _validated(model: type[Model], values: Mapping[str, Any], problems: list[Problem]) -> Model | None:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems += ((f"separate.{key}", reason) for key, reason in all_problems(error, model))
        return None


def _chains(
    stems: object, folders: Mapping[str, Path], problems: list[Problem]
) -> Iterator[tuple[str, tuple[Node, ...]]]:
    for name, stem in stems.items() if isinstance(stems, Mapping) else ():
        chain = stem.get("chain", []) if isinstance(stem, Mapping) else []
        if not isinstance(chain, list):
            continue  # the document's own problem
        try:
            yield name, parse_chain(chain, f"stems.{name}.chain", folders.get(name, Path()))
        except PresetError as error:
            problems += error.problems


@dataclass(frozen=True)
class _Told:
    """What can be looked at of a document of which other parts may be wrong: its swap, its stems that are right in
    themselves, and the `names` of all."""

    swap: Any
    stems: Mapping[str, Stem]
    names: tuple[str, ...]


def _told(document: Mapping[str, Any], given: Document | None) -> _Told:
    if given:
        return _Told(given.swap, given.stems, tuple(given.stems))
    rows, swap = document.get("stems"), document.get("swap", [])
    stems: dict[str, Stem] = {}
    for name, row in rows.items() if isinstance(rows, Mapping) else ():
        with suppress(ValidationError):
            stems[name] = Stem.model_validate(row)
    is_swap = isinstance(swap, list) and all(isinstance(pair, list) and all(map(_is_text, pair)) for pair in swap)
    return _Told(swap if swap == "auto" or is_swap else [], stems, tuple(rows) if isinstance(rows, Mapping) else ())


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _problems_of_stems(told: _Told, outputs: tuple[str, ...] | None) -> Iterator[Problem]:
    """What is wrong with a swap that the separator's outputs do not allow, with stems that clash, and their sources.

    `outputs` is None where it cannot be told which they are.
    """
    swapped = [name for pair in told.swap for name in pair] if told.swap != "auto" else []
    for name in swapped:
        if outputs is not None and name not in outputs:
            yield "swap", f"the separator gives no {name!r}{nearest(name, outputs)}"
    if len(set(swapped)) != len(swapped):
        yield "swap", "an output is named twice"
    if told.swap == "auto" and outputs is not None and not (BASS in outputs and partners(outputs)):
        yield "swap", f'"auto" needs a bass and a guitar or other; the separator gives {outputs}'
    if len({name.casefold() for name in told.names}) < len(told.names):
        yield "stems", "two names differ only in case: their files would be one"
    for name, stem in told.stems.items():
        if name == "residual":
            yield "stems.residual", "the name is taken: residual is what no stem took"
        for reason in _problems_of_sources(name, told, outputs):
            yield f"stems.{name}.from", reason
        for reason in _problems_of_restoring(stem):
            yield f"stems.{name}.restore", reason


def _problems_of_sources(name: str, told: _Told, outputs: tuple[str, ...] | None) -> Iterator[str]:
    stem, stems = told.stems[name], told.stems
    if len(set(stem.sources)) != len(stem.sources):
        yield "a source is named twice"
    if all(source.startswith("-") for source in stem.sources):
        yield "takes away only: name what it is taken from, such as mixture"
    # A stem that is wrong in itself may be a plain one.
    plain = {other for other in told.names if other not in stems or not stems[other].is_complement}
    taken_away = {*(outputs or ()), *plain} if stem.is_complement else (outputs or ())
    known = {"mixture", *(outputs or ()), *(f"-{other}" for other in taken_away)}
    for source in stem.sources:
        if outputs is not None and source not in known:
            yield f"no source {source!r}{nearest(source, known)}"
        term = source.removeprefix("-")
        if stem.is_complement and source != term and term in stems and term not in plain:
            yield f"{term!r} is a complement of the mixture, and of those none can be taken away"


def _problems_of_restoring(stem: Stem) -> Iterator[str]:
    if stem.is_complement and stem.restore.method != "none":
        yield "a complement of the mixture has its level already: restore the others"
    if isinstance(stem.restore, Loudness) and (stem.restore.lufs is None) == (stem.restore.match is None):
        yield 'method "loudness" takes either lufs or match'
