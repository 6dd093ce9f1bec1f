"""Reading weight files, without running anything that a file says.

- Demucs hub: `<signature>.safetensors`, which holds class and arguments of the network in its metadata;
- Demucs legacy: `<signature>-<SHA-256 prefix>.th`, a pickled package;
- Open-Unmix: `<target>-<SHA-256 prefix>.pth`, a pickled state dict;
- checkpoints of the Music-Source-Separation-Training family: a state dict, pickled or as safetensors, bare or inside a
  training's state.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..errors import BackendError, shown
from .unpickle import NUMPY, is_safetensors, unpickle, unreadable

DEMUCS_CLASSES = ("demucs.htdemucs.HTDemucs", "demucs.hdemucs.HDemucs", "demucs.demucs.Demucs")
"""The only classes a weight file may name."""


@dataclass(frozen=True, eq=False)
class Package:
    """What a Demucs weight file holds: the dotted name of a class, its arguments and a state dict of tensors."""

    path: Path
    architecture: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    state: dict[str, Any] = field(repr=False)


def load_package(path: Path) -> Package:
    """Read a Demucs weight file, `.safetensors` or `.th`, without running or building anything it names.

    Raises BackendError when the file is damaged, names a class that is not in DEMUCS_CLASSES, holds quantised weights
    or tensors larger than itself.
    """
    read = _read_safetensors if path.suffix == ".safetensors" else _read_legacy
    try:
        package = read(path)
    except BackendError:
        raise
    except Exception as error:
        raise BackendError(f"{path} is no readable Demucs model: {unreadable(error)}") from error
    if package.architecture not in DEMUCS_CLASSES:
        raise BackendError(
            f"{path} names the class {package.architecture!r}; gbsep builds only {', '.join(DEMUCS_CLASSES)}"
        )
    if "__quantized" in package.state:
        raise BackendError(f"{path} holds quantised weights, which gbsep does not read; use the plain model instead")
    _check_state(path, package.state)
    return package


def load_state(path: Path) -> dict[str, Any]:
    """Read a state dict of tensors (an Open-Unmix `.pth`) without running anything the file says.

    Raises BackendError when the file is damaged or holds anything but tensors.
    """
    try:
        state = dict(unpickle(path, []))
    except Exception as error:
        raise BackendError(f"{path} is no readable state dict: {unreadable(error)}") from error
    _check_state(path, state)
    return state


CONTAINERS = ("state", "state_dict", "model_state_dict")
"""Under which of a training's keys a checkpoint holds the tensors."""

_PREFIXES = ("module.", "model.", "_orig_mod.")


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read the state dict of tensors in a checkpoint, without running or building anything the file names.

    Raises BackendError when the file is damaged, asks to run something, or holds no tensors or larger ones than itself.
    """
    try:
        if is_safetensors(path):
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            content = unpickle(path, [*_demucs_stand_ins(), *NUMPY])
    except Exception as error:
        raise BackendError(f"{path} is no readable checkpoint: {unreadable(error)}") from error
    if not isinstance(content, dict):
        raise BackendError(f"{path} is no checkpoint: it holds no tensors by name")
    state = next((content[key] for key in CONTAINERS if isinstance(content.get(key), dict)), content)
    _check_state(path, state)
    for prefix in _PREFIXES:
        if all(str(key).startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    return dict(state)


def _read_safetensors(path: Path) -> Package:
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as file:
        metadata = file.metadata() or {}
        missing = {"klass", "args", "kwargs"} - set(metadata)
        if missing:
            raise ValueError(f"its metadata lacks {', '.join(sorted(missing))}")
        if "structure" in metadata:
            return Package(path, metadata["klass"], (), {}, {"__quantized": True})
        args, kwargs = (_decode(json.loads(metadata[key])) for key in ("args", "kwargs"))
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    return Package(path, metadata["klass"], tuple(args), dict(kwargs), state)


def _decode(value: Any) -> Any:
    """Undo the hub's JSON encoding of arguments, where a fraction is an object of its own."""
    if isinstance(value, dict):
        if value.get("_type") == "fraction":
            return _fraction(value["numerator"], value["denominator"])
        return {key: _decode(item) for key, item in value.items()}
    return [_decode(item) for item in value] if isinstance(value, list) else value


def _fraction(numerator: Any, denominator: Any = 1) -> Fraction:
    """A fraction of small whole numbers: `Fraction("1e999999999")` would compute that number.

    Python pickles fractions as text (`"39/5"`) or, since 3.11, as two numbers.
    """
    text = f"{numerator}/{denominator}" if isinstance(numerator, int) else str(numerator)
    if not re.fullmatch(r"\d{1,9}(/[1-9]\d{0,8})?", text):
        raise ValueError(f"{text[:40]!r} is no fraction of small whole numbers")
    return Fraction(text)


def _read_legacy(path: Path) -> Package:
    allowed = _demucs_stand_ins()
    names = dict(allowed)
    package = unpickle(path, allowed)
    klass = package["klass"]
    return Package(
        path, names.get(klass, str(klass)), tuple(package["args"]), dict(package["kwargs"]), dict(package["state"])
    )


def _demucs_stand_ins() -> list[tuple[Any, str]]:
    """What stands for the classes that a Demucs package names: (stand-in, dotted name in the file)."""
    classes = [(type(name.rsplit(".", 1)[1], (), {}), name) for name in DEMUCS_CLASSES]
    return [*classes, (_fraction, "fractions.Fraction")]


def _check_state(path: Path, state: dict[str, Any]) -> None:
    import torch

    wrong = [key for key, value in state.items() if not isinstance(value, torch.Tensor)]
    if wrong or not state:
        raise BackendError(f"{path} holds {f'{wrong[0]!r}, which is no tensor' if wrong else 'no tensors'}")
    for key, tensor in state.items():
        if tensor.layout != torch.strided or tensor.is_complex() or tensor.is_quantized:
            raise BackendError(f"{path}: {shown(key)} is a sparse, complex or quantised tensor, which no network takes")
    if sum(tensor.numel() * tensor.element_size() for tensor in state.values()) > path.stat().st_size:
        raise BackendError(f"{path} holds tensors larger than the file itself")
