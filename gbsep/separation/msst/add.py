"""A checkpoint brought into gbsep's own folder, when it is one that gbsep can run; else what it is, in a line."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from ...atomic import replacing
from ...errors import BackendError, ParameterError
from ...models.catalogue import MODELS, Model, check_name, data_dir, published
from ...models.package import load_checkpoint
from ...models.verify import trust
from ...stemnames import BASS, GUITAR
from ...store.identity import file_hash
from ...store.smallfiles import head
from .backend import check
from .weights import SUFFIXES, config_of

FAMILY = "gbsep runs checkpoints of the Music-Source-Separation-Training family, each with its YAML"


@dataclass(frozen=True)
class Added:
    """What was brought in: the name it has now, its files, what it gives, and what is to be said of it."""

    name: str
    files: tuple[Path, ...]
    stems: tuple[str, ...]
    notes: tuple[str, ...]


def add(file: Path, config: Path | None = None, name: str | None = None) -> Added:
    """Check a checkpoint, copy it with its configuration into gbsep's own folder, and record its hash.

    A checkpoint that is published goes under its published name. Raises BackendError for what gbsep does not run,
    ParameterError for a name that cannot be used, OSError when nothing can be written.
    """
    _check_kind(file)
    config = config or config_of(file)
    if config is None:
        raise BackendError(f"{file} has no configuration beside it{_hint(file)}: name its YAML with --config")
    described = check(file, config)
    known = _known(file)
    name = name or (known.name if known else file.stem)
    check_name(name, "name", "; choose another with --name")
    row = published(name)
    if row is not None and row is not known:
        raise ParameterError("name", name, "a name that no published model has: this file is another; see --name")
    folder = data_dir() / name
    suffixes = (file.suffix.lower(), ".json" if config.suffix == ".json" else ".yaml")
    files = known.files if known and known.name == name else tuple(f"{name}{suffix}" for suffix in suffixes)
    paths = tuple(folder / target for target in files)
    missing = [pair for pair in zip((file, config), paths, strict=True) if not _is_there(*pair)]
    for source, path in missing:
        _copy(source, path)
    for path in paths:
        trust(path)
    notes = [f"{known.name}: {known.licence}; {known.limits}"] if known else []
    if not {BASS, GUITAR} & set(described.stems):
        notes.append(f"it gives {', '.join(described.stems)}: neither bass nor guitar")
    return Added(name, paths, described.stems, tuple(notes))


def _check_kind(file: Path) -> None:
    """Raise BackendError for a file that by its first bytes or its name is no checkpoint."""
    try:
        start = head(file, 8)
    except OSError as error:
        raise BackendError(f"{file} cannot be read: {error.strerror or error}") from None
    if file.suffix.lower() == ".onnx" or (start[:1] == b"\x08" and b"pytorch" in head(file, 64)):
        raise BackendError(f"{file} is an ONNX network, as UVR's MDX-Net models are, and no checkpoint: {FAMILY}")
    if file.suffix.lower() in (".yaml", ".yml", ".json"):
        raise BackendError(f"{file} is a configuration: name the checkpoint, and this with --config")
    if not start:
        raise BackendError(f"{file} is empty: fetch it again")
    if start.startswith((b"RIFF", b"fLaC", b"OggS", b"ID3", b"FORM", b"\xff\xfb")) or start[4:8] == b"ftyp":
        raise BackendError(f"{file} is a recording, not a checkpoint: {FAMILY}")
    if start.startswith((b"<", b"version ")):
        what = "a web page" if start.startswith(b"<") else "the pointer of Git LFS to a file"
        raise BackendError(f"{file} is {what}, not the checkpoint itself: fetch it again")
    if file.suffix.lower() not in SUFFIXES:
        raise BackendError(f"{file} is no checkpoint by its name ({', '.join(SUFFIXES)}): {FAMILY}")


def _hint(file: Path) -> str:
    """Why a configuration is missing: what is beside the file is none, or its tensors' names say what it is."""
    beside = next((path for suffix in (".yaml", ".yml") if (path := file.with_suffix(suffix)).is_file()), None)
    if beside is not None:
        return f" ({beside.name} is none: it must hold the sections model and training)"
    keys = [str(key) for key in load_checkpoint(file)]
    if any(key.startswith(("stg1_", "stage1_")) for key in keys):
        return " and is a network of UVR's VR architecture, which gbsep does not run"
    if any(key.startswith("tencoder.") for key in keys):
        return " and holds a Demucs network"
    return ""


def _known(file: Path) -> Model | None:
    """The published checkpoint that a file is, by its SHA-256."""
    digest = file_hash(file)
    return next((row for row in MODELS.values() if row.sha256 and row.sha256[0] == digest), None)


def _is_there(source: Path, target: Path) -> bool:
    """Whether the copy is there. Raises BackendError where another file is in its place."""
    if not target.is_file():
        return False
    if os.path.samefile(source, target) or file_hash(target) == file_hash(source):
        return True
    raise BackendError(f"{target} is there already and another file: choose another name with --name, or delete it")


def _copy(source: Path, target: Path) -> None:
    """Write a copy that appears whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as hidden:
        shutil.copyfile(source, hidden)
