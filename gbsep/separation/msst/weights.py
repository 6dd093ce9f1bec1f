"""How checkpoints and their configurations lie in folders: gbsep's own, and those that other tools keep.

- beside each other, under one name (`NAME.ckpt`, `NAME.yaml`; audio-separator), or with `config` before or after it;
- alone together in a folder, which then may name the model (a download of a whole repository);
- UVR: `MDX_Net_Models/NAME.ckpt`, the configuration in `MDX_Net_Models/model_data/mdx_c_configs`, found by its name or
  by what `model_data.json` says of the checkpoint's last ten megabytes;
- splifft: `NAME/model.ckpt` beside `config.json`.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...errors import SmallFileError
from ...models.catalogue import MODELS
from ...models.find import Files, listed, subfolders
from ...store import smallfiles
from .config import looks_like_config

SUFFIXES = (".ckpt", ".safetensors", ".pt", ".pth", ".th", ".bin", ".chpt")
"""Suffixes of checkpoints, the likelier first."""

_UVR_FOLDER = "MDX_Net_Models"
_UVR_HASHED = 10_000 * 1024
_YAML = (".yaml", ".yml")


def find_files(folder: Path, name: str) -> Files:
    row = MODELS.get(name)
    stems = [name] if row is None else [name, *(Path(row.files[0]).stem, *row.aliases)]
    for place in (folder, folder / _UVR_FOLDER):
        for stem in stems:
            for checkpoint in _checkpoints(place, stem):
                configuration = config_of(checkpoint)
                if configuration is not None:
                    return Files((checkpoint, configuration))
    return Files(missing=f"{stems[-1]}.ckpt with its .yaml")


def own_models(places: Sequence[Path]) -> set[str]:
    """Checkpoints that have a configuration, in a place, in UVR's folder there, or in folders of a place."""
    found = set()
    for place in places:
        for folder in (place, *subfolders(place)):
            for checkpoint in _all_checkpoints(folder):
                if config_of(checkpoint) is not None:
                    found.add(_name(place, checkpoint))
    published = {stem for row in MODELS.values() for stem in (*row.aliases, *(Path(file).stem for file in row.files))}
    return {name for name in found if name not in published}


def config_of(checkpoint: Path) -> Path | None:
    """The configuration that belongs to a checkpoint, wherever one of the tools would have put it."""
    folder, stem = checkpoint.parent, checkpoint.stem
    names = (stem, f"config_{stem}", f"{stem}_config", checkpoint.name)
    there = [folder / f"{name}{suffix}" for name in names for suffix in _YAML]
    if stem == "model":
        there.append(folder / "config.json")
    data = folder / "model_data"
    there += [data / "mdx_c_configs" / f"{name}{suffix}" for name in names for suffix in _YAML]
    if data.is_dir():
        there += [data / "mdx_c_configs" / name for name in _uvr_says(checkpoint, data)]
    alone = [path for suffix in _YAML for path in listed(folder, suffix)]
    if len(alone) == 1 and len(_all_checkpoints(folder)) == 1:
        there += alone
    return next((path for path in there if path.is_file() and looks_like_config(path)), None)


def _checkpoints(folder: Path, stem: str) -> Iterator[Path]:
    yield from (path for suffix in SUFFIXES if (path := folder / f"{stem}{suffix}").is_file())
    yield from (path for suffix in SUFFIXES if (path := folder / stem / f"model{suffix}").is_file())
    if folder.name == stem:
        alone = _all_checkpoints(folder)
        yield from alone if len(alone) == 1 else ()


def _all_checkpoints(folder: Path) -> list[Path]:
    return [path for suffix in SUFFIXES for path in listed(folder, suffix)]


def _name(place: Path, checkpoint: Path) -> str:
    """By what name `find_files` finds it: the folder's when it lies in one alone, or as splifft has it."""
    folder = checkpoint.parent
    if folder in (place, place / _UVR_FOLDER):
        return checkpoint.stem
    return folder.name


def _uvr_says(checkpoint: Path, data: Path) -> Iterator[str]:
    """The names of configurations that UVR's tables have for a checkpoint."""
    with contextlib.suppress(OSError):
        digest = _uvr_hash(checkpoint)
        for table in (data / f"{digest}.json", data / "model_data.json"):
            with contextlib.suppress(SmallFileError):
                content: Any = smallfiles.read_json(table)
                row = content.get(digest, content) if isinstance(content, dict) else {}
                name = row.get("config_yaml") if isinstance(row, dict) else None
                if isinstance(name, str) and Path(name).name == name:
                    yield name


def _uvr_hash(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _UVR_HASHED))
        return hashlib.md5(file.read(), usedforsecurity=False).hexdigest()
