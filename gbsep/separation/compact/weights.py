"""The weights of a `compact` model, `<model>.safetensors` with `config` in its metadata: write, read and find them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ...atomic import write_whole
from ...errors import BackendError
from ...models.find import Files, listed, subfolders
from .config import Config, config_from
from .network import shapes

_MAX_HEADER = 10**7


def find_files(folder: Path, name: str) -> Files:
    path = folder / f"{name}.safetensors"
    return Files((path,)) if path.is_file() else Files(missing=path.name)


def own_models(places: Sequence[Path]) -> set[str]:
    """Names of the networks in `places`, directly or in a folder of their own name."""
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


def save(path: Path, config: Config, weights: Mapping[str, Any]) -> None:
    """Write weights, arrays or tensors, as float16 safetensors with `config` in the metadata; atomically."""
    from safetensors.numpy import save as packed

    half = {name: np.ascontiguousarray(value, np.float16) for name, value in sorted(weights.items())}
    write_whole(path, packed(half, metadata={"config": json.dumps(asdict(config), sort_keys=True)}))


def load(path: Path) -> tuple[Config, dict[str, np.ndarray]]:
    """The config and weights that `save` wrote, as float32. Raises BackendError for any other file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            config = config_from(json.loads((file.metadata() or {}).get("config", "null")))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, TypeError, RecursionError) as error:
        raise BackendError(f"{path} holds no weights of the compact network: {error}") from error
    weights = {name: value.astype(np.float32) for name, value in tensors.items() if value.dtype.kind == "f"}
    if {name: value.shape for name, value in weights.items()} != shapes(config):
        reason = "its tensors are not those of the network that its metadata describes"
        raise BackendError(f"{path}: {reason}; if an earlier gbsep trained it, train it again")
    if not all(np.isfinite(value).all() for value in weights.values()):
        raise BackendError(f"{path} holds NaN or infinity in place of weights; train it again, at a lower --rate")
    return config, weights
