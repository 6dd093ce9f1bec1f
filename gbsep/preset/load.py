"""Presets read from a name, a file or a JSON object, and checked.

Reading is strict: an unknown key, a wrong type, NaN, an unknown effect or a value outside its range is a PresetError
that names the JSON path. A loaded Preset is complete: `document` holds every default it implies.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..arguments import checked
from ..effects.chain import dump_chain, parse_chain
from ..errors import PresetError, SmallFileError, nearest
from ..schema import first_problem
from ..separation.backend import BACKENDS, backend_named
from ..stemnames import BASS, partners
from ..store import smallfiles
from ..store.folders import config_folder
from .model import Document, Loudness, Preset, SeedOnly, Stem
from .overrides import set_value

MAX_BYTES = 1_000_000


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
        set_value(label, document, "output.bit_depth", None)
    for key, value in (*overrides, *((key, value) for key, value in changes.items() if value is not None)):
        set_value(label, document, key, value)
    return _parse(label, folder, document, overrides, models)


def _title(name: object) -> str:
    return name if isinstance(name, str) and len(name) < 100 else "preset"


def preset_folders() -> tuple[Path, ...]:
    """Where presets are found by name: the user's own folder, then those shipped with gbsep."""
    own = config_folder()
    return (own / "presets", _shipped()) if own else (_shipped(),)


def preset_names() -> dict[str, Path]:
    """The files of all presets that have a name; the user's own replace shipped ones."""
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


def _parse(
    label: str, folder: Path, document: dict[str, Any], overrides: tuple[tuple[str, Any], ...], models: Path | None
) -> Preset:
    try:
        given = Document.model_validate(document)
    except ValidationError as error:
        raise PresetError(label, *first_problem(error, Document)) from None

    separate = dict(given.separate)
    backend, seed = separate.pop("backend", None), separate.pop("seed", 0)
    if not isinstance(backend, str) or backend not in BACKENDS:
        raise PresetError(label, "separate.backend", f"{backend!r} is no backend{nearest(str(backend), BACKENDS)}")
    module = backend_named(backend).load()
    model = module.Settings
    try:
        SeedOnly.model_validate({"seed": seed})
        settings = model.model_validate(separate)
    except ValidationError as error:
        key, reason = first_problem(error, model)
        raise PresetError(label, f"separate.{key}", reason) from None

    try:
        chains = {name: parse_chain(stem.chain, f"stems.{name}.chain", folder) for name, stem in given.stems.items()}
    except PresetError as error:
        raise PresetError(label, error.json_path, error.reason) from None

    outputs = module.stem_names(settings, models)
    _check_outputs(label, given, outputs)
    complete = given.model_dump(by_alias=True)
    complete["separate"] = {"backend": backend, **settings.model_dump(), "seed": seed}
    for name, nodes in chains.items():
        complete["stems"][name]["chain"] = dump_chain(nodes)
    return Preset(
        name=given.name,
        title=given.title,
        description=given.description,
        backend=backend,
        settings=settings,
        seed=seed,
        swap="auto" if given.swap == "auto" else tuple((first, second) for first, second in given.swap),
        outputs=outputs,
        stems=given.stems,
        chains=chains,
        output=given.output,
        document=complete,
        overrides=overrides,
    )


def _check_outputs(preset: str, document: Document, outputs: tuple[str, ...]) -> None:
    """Raise PresetError for a swap that the separator's outputs do not allow, and for stems that clash."""
    swapped = [name for pair in document.swap for name in pair] if document.swap != "auto" else []
    for name in swapped:
        if name not in outputs:
            raise PresetError(preset, "swap", f"the separator gives no {name!r}{nearest(name, outputs)}")
    if len(set(swapped)) != len(swapped):
        raise PresetError(preset, "swap", "an output is named twice")
    if document.swap == "auto" and not (BASS in outputs and partners(outputs)):
        raise PresetError(preset, "swap", f'"auto" needs a bass and a guitar or other; the separator gives {outputs}')
    if len({name.casefold() for name in document.stems}) < len(document.stems):
        raise PresetError(preset, "stems", "two names differ only in case: their files would be one")
    for name, stem in document.stems.items():
        if name == "residual":
            raise PresetError(preset, "stems.residual", "the name is taken: residual is what no stem took")
        _check_sources(preset, name, document.stems, outputs)
        _check_restore(preset, f"stems.{name}.restore", stem)


def _check_sources(preset: str, name: str, stems: Mapping[str, Stem], outputs: tuple[str, ...]) -> None:
    stem, where = stems[name], f"stems.{name}.from"
    if len(set(stem.sources)) != len(stem.sources):
        raise PresetError(preset, where, "a source is named twice")
    if all(source.startswith("-") for source in stem.sources):
        raise PresetError(preset, where, "takes away only: name what it is taken from, such as mixture")
    plain = {other for other, row in stems.items() if not row.is_complement}
    taken_away = {*outputs, *plain} if stem.is_complement else outputs
    known = {"mixture", *outputs, *(f"-{other}" for other in taken_away)}
    for source in stem.sources:
        if source not in known:
            raise PresetError(preset, where, f"no source {source!r}{nearest(source, known)}")
        term = source.removeprefix("-")
        if stem.is_complement and source != term and term in stems and term not in plain:
            reason = f"{term!r} is a complement of the mixture, and of those none can be taken away"
            raise PresetError(preset, where, reason)


def _check_restore(preset: str, where: str, stem: Stem) -> None:
    if stem.is_complement and stem.restore.method != "none":
        raise PresetError(preset, where, "a complement of the mixture has its level already: restore the others")
    if isinstance(stem.restore, Loudness) and (stem.restore.lufs is None) == (stem.restore.match is None):
        raise PresetError(preset, where, 'method "loudness" takes either lufs or match')


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


def _shipped() -> Path:
    """Inside the wheel the presets lie in the package; in a checkout, beside it."""
    inside = Path(__file__).parents[1] / "presets"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "presets"
