"""Presets of the user's own: which there are beside those that are shipped, and new ones."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..atomic import write_whole
from ..errors import FolderUnknown, OutputError, ParameterError
from ..schema import fault_of_name
from ..store.folders import config_folder
from .load import load_preset
from .names import find_preset, preset_names
from .overrides import set_value

FIRST = (
    "default",
    "minus_bass",
    "minus_guitar",
    "two_guitars",
    "best",
    "roformer_sw",
    "exp005_1",
    "exp005_1_fast",
    "exp005",
    "exp004",
    "exp002",
    "exp003_1",
    "exp003",
    "exp001",
)
"""The presets that are shipped for use, in the order in which people come to need them; others are their variants."""


def listed_names(everything: bool = False) -> tuple[dict[str, Path], int]:
    """Presets in the order of a list: the user's own, those of FIRST, with `everything` the rest; and how many are
    left out."""
    files = preset_names()
    own = [name for name, path in files.items() if is_own(path)]
    known = dict.fromkeys([*own, *(name for name in FIRST if name in files)])
    rest = [name for name in files if name not in known]
    names = [*known, *(rest if everything else ())]
    return {name: files[name] for name in names}, len(files) - len(names)


def is_own(path: Path) -> bool:
    """Whether a preset's file lies in the user's own folder."""
    folder = config_folder()
    return folder is not None and path.parent == folder / "presets"


def own_folder() -> Path:
    """Where the user's own presets lie. Raises FolderUnknown."""
    folder = config_folder()
    if folder is None:
        raise FolderUnknown("HOME is not set, and this user has no home; name a folder in GBSEP_CONFIG")
    return folder / "presets"


def new_preset(name: str, base: str, title: str = "", changes: Iterable[tuple[str, Any]] = ()) -> Path:
    """Write a preset of one's own that extends `base`, with the chains of its stems to begin with; its file.

    Raises ParameterError for a name that cannot be one or is shipped, OutputError for one that is taken or cannot be
    written, PresetError for a base or changes that are wrong.
    """
    if fault_of_name(name) or name.endswith(".json"):
        raise ParameterError(
            "name", name, "letters, digits and _ . + - or spaces, such as warm_bass; no path, no .json"
        )
    if name in preset_names():
        path = find_preset(name)
        if is_own(path):
            raise OutputError(path, f"is there already; gbsep presets edit {name} changes it, or choose another name")
        raise ParameterError("name", name, "a preset of this name is shipped with gbsep; choose another name")
    whole = load_preset(base).document
    stems = {stem: {"chain": row["chain"]} for stem, row in whole["stems"].items()}
    document: dict[str, Any] = {"extends": base, "title": title or f"{base}, changed", "stems": stems}
    for key, value in changes:
        set_value(name, document, key, value)
    load_preset({**document, "name": name})
    path = own_folder() / f"{name}.json"
    try:
        write_whole(path, json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise OutputError(path, f"cannot be written: {error.strerror}; name another folder in GBSEP_CONFIG") from None
    return path
