"""How the weights of a Demucs model lie in a folder.

- hub: `<model>.yaml` (`models`: signatures, `weights`: one row per network, `segment`: seconds) beside
  `<signature>.safetensors`;
- legacy: the same yaml beside `<signature>-<SHA-256 prefix>.th`.

A single network needs no yaml.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import BackendError, SmallFileError, one_line
from ...models.catalogue import MODELS, Model
from ...models.find import Files, listed, subfolders
from ...models.verify import CHECKSUM
from ...store import smallfiles


@dataclass(frozen=True)
class Bag:
    """Networks that make up a model, by their signatures; weights and segment_s as in Model."""

    signatures: tuple[str, ...]
    weights: tuple[tuple[float, ...], ...] | None = None
    segment_s: float | None = None


def find_files(folder: Path, name: str) -> Files:
    bag = read_bag(folder / f"{name}.yaml", name)
    files = []
    for signature in bag.signatures:
        file = _network_file(folder, signature)
        if file is None:
            return Files(missing=f"{signature}.safetensors or {signature}-<SHA-256 prefix>.th")
        files.append(file)
    return Files(tuple(files), "", bag.weights, bag.segment_s)


def own_models(places: Sequence[Path]) -> set[str]:
    """Bags, and networks that belong to none, in a place or in a folder of their own name there."""
    names: set[str] = set()
    parts = {signature for model in MODELS.values() for signature in _signatures(model)}
    for place in places:
        for folder in (place, *subfolders(place)):
            networks = {
                CHECKSUM.sub("", path.stem) for kind in (".safetensors", ".th") for path in listed(folder, kind)
            }
            bags = {path.stem for path in listed(folder, ".yaml")}
            for bag in bags:
                with contextlib.suppress(BackendError):
                    parts |= set(read_bag(folder / f"{bag}.yaml", bag).signatures)
            found = bags | (networks - parts)
            names |= found if folder == place else found & {folder.name}
    return names


def _signatures(model: Model) -> tuple[str, ...]:
    return tuple(file.split("-")[0] for file in model.files)


def read_bag(path: Path, name: str) -> Bag:
    """The bag of a model: from its yaml, else the published one, else a single network.

    Raises BackendError for a yaml that describes no bag.
    """
    if not path.is_file():
        model = MODELS.get(name)
        if model is None:
            return Bag((name,))
        return Bag(_signatures(model), model.weights, model.segment_s)
    try:
        content = smallfiles.read_yaml(path)
        signatures, weights, segment_s = content["models"], content.get("weights"), content.get("segment")
        if not signatures or not all(re.fullmatch(r"\w[\w.+-]*", signature) for signature in signatures):
            raise ValueError("'models' must be a list of signatures")
        if weights is not None:
            weights = tuple(tuple(float(factor) for factor in row) for row in weights)
            if len(weights) != len(signatures) or not all(0 <= factor < math.inf for row in weights for factor in row):
                raise ValueError("'weights' must hold one row of factors from 0 up per network")
        if segment_s is not None and not 0 < float(segment_s) < math.inf:
            raise ValueError("'segment' must be a number of seconds above 0")
    except SmallFileError as error:
        raise BackendError(f"{path} is no bag of Demucs models: {error.reason}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BackendError(f"{path} is no bag of Demucs models: {one_line(error)}") from error
    return Bag(tuple(signatures), weights, None if segment_s is None else float(segment_s))


def _network_file(folder: Path, signature: str) -> Path | None:
    hub = folder / f"{signature}.safetensors"
    if hub.is_file():
        return hub
    legacy = [path for path in listed(folder, ".th") if signature in (path.stem, CHECKSUM.sub("", path.stem))]
    if len(legacy) > 1:
        raise BackendError(f"{folder} holds {' and '.join(p.name for p in legacy)}: remove all but one of them")
    return legacy[0] if legacy else None
