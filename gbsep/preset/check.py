"""A document as a preset's values: everything that is wrong with it, at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..effects.chain import Node, parse_chain
from ..errors import PresetError, nearest
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

    Raises PresetError with all problems that can be told.
    """
    problems: list[Problem] = []
    given = _document(document, problems)
    separate = document.get("separate")
    separation = _separation(separate, models, problems) if isinstance(separate, Mapping) else None
    chains = dict(_chains(document.get("stems"), folders, problems))
    if given and separation:
        problems += _problems_of_stems(given, separation[-1])
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


def _problems_of_stems(document: Document, outputs: tuple[str, ...]) -> Iterator[Problem]:
    """What is wrong with a swap that the separator's outputs do not allow, with stems that clash, and their sources."""
    swapped = [name for pair in document.swap for name in pair] if document.swap != "auto" else []
    for name in swapped:
        if name not in outputs:
            yield "swap", f"the separator gives no {name!r}{nearest(name, outputs)}"
    if len(set(swapped)) != len(swapped):
        yield "swap", "an output is named twice"
    if document.swap == "auto" and not (BASS in outputs and partners(outputs)):
        yield "swap", f'"auto" needs a bass and a guitar or other; the separator gives {outputs}'
    if len({name.casefold() for name in document.stems}) < len(document.stems):
        yield "stems", "two names differ only in case: their files would be one"
    for name, stem in document.stems.items():
        if name == "residual":
            yield "stems.residual", "the name is taken: residual is what no stem took"
        for reason in _problems_of_sources(name, document.stems, outputs):
            yield f"stems.{name}.from", reason
        for reason in _problems_of_restoring(stem):
            yield f"stems.{name}.restore", reason


def _problems_of_sources(name: str, stems: Mapping[str, Stem], outputs: tuple[str, ...]) -> Iterator[str]:
    stem = stems[name]
    if len(set(stem.sources)) != len(stem.sources):
        yield "a source is named twice"
    if all(source.startswith("-") for source in stem.sources):
        yield "takes away only: name what it is taken from, such as mixture"
    plain = {other for other, row in stems.items() if not row.is_complement}
    taken_away = {*outputs, *plain} if stem.is_complement else outputs
    known = {"mixture", *outputs, *(f"-{other}" for other in taken_away)}
    for source in stem.sources:
        if source not in known:
            yield f"no source {source!r}{nearest(source, known)}"
        term = source.removeprefix("-")
        if stem.is_complement and source != term and term in stems and term not in plain:
            yield f"{term!r} is a complement of the mixture, and of those none can be taken away"


def _problems_of_restoring(stem: Stem) -> Iterator[str]:
    if stem.is_complement and stem.restore.method != "none":
        yield "a complement of the mixture has its level already: restore the others"
    if isinstance(stem.restore, Loudness) and (stem.restore.lufs is None) == (stem.restore.match is None):
        yield 'method "loudness" takes either lufs or match'
