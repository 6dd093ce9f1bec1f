"""How the weights of a `compact` model lie in a folder: `<model>.safetensors`, with `config` in its metadata."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ...models.find import Files, listed, subfolders

_MAX_HEADER = 10**7


def find_files(folder: Path, name: str) -> Files:
    path = folder / f"{name}.safetensors"
    return Files((path,)) if path.is_file() else Files(missing=path.name)


def own_models(places: Sequence[Path]) -> set[str]:
    """Networks in a place, or in a folder of their own name there."""
    return {
        path.stem
        for place in places
        for folder in (place, *subfolders(place))
        for path in listed(folder, ".safetensors")
        if (folder == place or path.stem == folder.name) and is_compact(path)
    }


def is_compact(path: Path) -> bool:
    """Whether the header of a safetensors file describes a `compact` network."""
    try:
        with path.open("rb") as file:
            header = file.read(min(int.from_bytes(file.read(8), "little"), _MAX_HEADER))
        return "config" in json.loads(header).get("__metadata__", {})
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return False
