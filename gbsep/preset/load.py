"""Presets read from a name, a file or a JSON object, and checked.

Reading is strict: an unknown key, a wrong type, NaN, an unknown effect or a value outside its range is a PresetError
that names the JSON path. A loaded Preset is complete: `document` holds every default it implies.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..arguments import checked
from ..effects.chain import dump_chain
from ..errors import PresetError, SmallFileError
from ..schema import fault_of_name
from ..store import smallfiles
from .check import check_document
from .extends import Extended, extended
from .guitars import OVERRIDE, already, with_two_guitars
from .model import MAX_TITLE, Preset
from .names import find_preset, preset_files
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
    residual: bool | None = None,
    models: Path | None = None,
) -> Preset:
    """A preset by name (shipped, or in the user's folder), from a JSON file, or from a JSON object.

    `overrides` are pairs of key path and value, `[("separate.cutoff_hz", 250.0)]`, and give the render a folder of its
    own; `seed`, `format`, `bit_depth` and `residual` replace the preset's, in its own folder. `models` is a folder
    searched first for weights: only they know the outputs of a model of the user's own. A preset that
    extends another one gives only what differs; see `gbsep.preset.extends`.
    Raises PresetError with everything that is wrong, each with its place and the nearest known word.
    """
    overrides = tuple(overrides)
    if isinstance(preset, Mapping):
        label, path = _title(preset.get("name")), None
        try:
            document = copy.deepcopy(dict(preset))
        except RecursionError:
            raise PresetError(label, "", "is nested too deeply") from None
    else:
        path = find_preset(str(preset))
        label, document = str(preset), _read(path)
    source = extended(label, document, path, preset_files, _read)
    document = source.document
    output = {"output.format": format, "output.bit_depth": bit_depth, "output.residual": residual}
    if already(document, overrides):
        overrides = tuple((key, value) for key, value in overrides if key != OVERRIDE)
    changes: dict[str, Any] = {"separate.seed": seed, **output}
    if format is not None and bit_depth is None:
        set_value(label, document, "output.bit_depth", None)
    for key, value in (*overrides, *((key, value) for key, value in changes.items() if value is not None)):
        set_value(label, document, key, value)
    _fill(document, path, source.base)
    with_two_guitars(label, document)
    return _parse(label, source, overrides, models)


def _title(name: object) -> str:
    return name if isinstance(name, str) and len(name) < 100 else "preset"


def _parse(label: str, source: Extended, overrides: tuple[tuple[str, Any], ...], models: Path | None) -> Preset:
    checked_values = check_document(label, source.document, source.folders, models)
    given, settings = checked_values.given, checked_values.settings
    complete = given.model_dump(by_alias=True)
    separate = {"backend": checked_values.backend, **settings.model_dump(), "seed": checked_values.seed}
    complete["separate"] = separate
    for name, nodes in checked_values.chains.items():
        complete["stems"][name]["chain"] = dump_chain(nodes)
    return Preset(
        name=given.name,
        title=given.title,
        description=given.description,
        backend=checked_values.backend,
        settings=settings,
        seed=checked_values.seed,
        swap="auto" if given.swap == "auto" else tuple((first, second) for first, second in given.swap),
        outputs=checked_values.outputs,
        stems=given.stems,
        chains=checked_values.chains,
        output=given.output,
        document=complete,
        overrides=overrides,
    )


def _fill(document: dict[str, Any], file: Path | None, base: str) -> None:
    """What a preset may leave out: the version, its name where a file gives it one, a title, what a stem is made of."""
    document.setdefault("schema_version", 1)
    if file is not None and fault_of_name(file.stem) is None:
        document.setdefault("name", file.stem)
    if isinstance(name := document.get("name"), str) and name:
        document.setdefault("title", f"{base}, changed" if base else name[:MAX_TITLE])
    stems = document.get("stems")
    for name, stem in stems.items() if isinstance(stems, dict) else ():
        if isinstance(stem, dict):
            stem.setdefault("from", [name])


def _read(path: Path) -> dict[str, Any]:
    try:
        document = smallfiles.read_json(path, MAX_BYTES, make_object=partial(_unique, path))
    except SmallFileError as error:
        raise PresetError(path, "", "no such file; check the name" if error.missing else error.reason) from None
    if not isinstance(document, dict):
        raise PresetError(path, "", "is not a JSON object, such as gbsep presets show exp002 prints")
    return document


def _unique(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        name = next(key for index, (key, _) in enumerate(pairs) if key in dict(pairs[:index]))
        raise PresetError(path, "", f"{name!r} stands twice in one object")
    return document
