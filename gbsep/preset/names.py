"""Presets by their names: which there are, and where their files lie. Loads nothing heavy, for completion in shells."""

from __future__ import annotations

import os
from pathlib import Path

from ..arguments import checked
from ..errors import PresetError, similar
from ..store.folders import config_folder


def preset_folders() -> tuple[Path, ...]:
    """Where presets are found by name: the user's own folder, then those shipped with gbsep."""
    own = config_folder()
    return (own / "presets", _shipped()) if own else (_shipped(),)


def preset_names() -> dict[str, Path]:
    """The files of all presets that have a name; the user's own replace shipped ones."""
    return {name: files[0] for name, files in preset_files().items()}


def preset_files() -> dict[str, list[Path]]:
    """The files of every name, the user's own before the one that is shipped."""
    found: dict[str, list[Path]] = {}
    for folder in preset_folders():
        for path in folder.glob("*.json"):
            found.setdefault(path.stem, []).append(path)
    return dict(sorted(found.items()))


LISTED = "; gbsep presets list has the names"


@checked
def find_preset(preset: str) -> Path:
    """The file of a preset given by name or path."""
    if preset.endswith(".json") or os.sep in preset or "/" in preset:
        return Path(preset)
    names = preset_names()
    if preset not in names:
        raise PresetError(preset, "", f"no preset of this name{similar(preset, names) or LISTED}")
    return names[preset]


def _shipped() -> Path:
    """Inside the wheel the presets lie in the package; in a checkout, beside it."""
    inside = Path(__file__).parents[1] / "presets"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "presets"
