"""How the weights of an Open-Unmix model lie in a folder: one state dict per stem.

Published: `<target>-<SHA-256 prefix>.pth`. A user's own: `<target>.pth` in a folder of the model's name, beside
Open-Unmix's `separator.json`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...models.catalogue import MODELS
from ...models.find import Files, listed, subfolders
from ...models.verify import CHECKSUM
from ...stemnames import FOUR_STEMS


def target_of(path: Path) -> str:
    """The stem an Open-Unmix file is for: `bass` of `bass-8d85a5bd.pth`."""
    return CHECKSUM.sub("", path.stem)


def find_files(folder: Path, name: str) -> Files:
    own = tuple(listed(folder, ".pth")) if folder.name == name else ()
    if name not in MODELS:
        return Files(own, f"{name}/<stem>.pth")
    published = tuple(folder / file for file in MODELS[name].files)
    if all(file.is_file() for file in published):
        return Files(published)
    if {target_of(file) for file in own} == set(FOUR_STEMS):
        return Files(own)
    return Files(missing=next(file.name for file in published if not file.is_file()))


def own_models(places: Sequence[Path]) -> set[str]:
    """Folders that hold state dicts."""
    return {folder.name for place in places for folder in subfolders(place) if listed(folder, ".pth")}
