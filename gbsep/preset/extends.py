"""`"extends"`: a preset that gives only what differs from another one.

    {"extends": "default", "stems": {"bass": {"chain": [{"effect": "Compressor", "ratio": 4}]}}}

Conventions: it names a preset that has a name here, never a file, so that a stranger's preset reaches no path. Objects
are merged key by key, all else is replaced; a stem that is null is left out. An object that chooses another kind
(another `backend`, another `method`) begins afresh. `name`, `title` and `description` are each preset's own. Files in
a chain are looked for where the preset lies that gave the chain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import PresetError, nearest, shown

MAX_DEPTH = 8
"""Presets that extend one another."""

OWN = ("name", "title", "description")
"""Keys that no preset takes from the one it extends."""
KINDS = ("backend", "method")
"""Keys that say which other keys an object has; beside them only the seed has its meaning in every kind."""

Known = Callable[[], Mapping[str, Sequence[Path]]]
"""Gives the files of every preset that has a name, the one that counts first."""
Read = Callable[[Path], dict[str, Any]]


@dataclass(frozen=True)
class Extended:
    """A whole document. `folders` are where the files of each stem's chain lie, `base` is the preset it extends."""

    document: dict[str, Any]
    folders: Mapping[str, Path]
    base: str = ""


def extended(label: str, document: dict[str, Any], file: Path | None, known: Known, read: Read) -> Extended:
    """The document with all that it takes from the presets it extends. `file` is where it was read, if anywhere.

    A preset that extends one of its own name means the next one of that name: one's own `default` may change the one
    that is shipped. Raises PresetError.
    """
    seen = [file] if file else []
    folder = file.parent if file else Path()
    layers = [(document, folder)]
    names: list[str] = []
    while "extends" in layers[-1][0]:
        name = layers[-1][0]["extends"]
        if len(names) == MAX_DEPTH:
            raise PresetError(label, "extends", f"more than {MAX_DEPTH} presets extend one another: {', '.join(names)}")
        path = _next_file(label, name, seen, names, known())
        names.append(name)
        seen.append(path)
        layers.append((read(path), path.parent))
    whole: dict[str, Any] = {}
    folders: dict[str, Path] = {}
    for layer, place in reversed(layers):
        whole = _merged({key: value for key, value in whole.items() if key not in OWN}, layer)
        with_chain = (name for name, stem in _stems(layer).items() if isinstance(stem, Mapping) and "chain" in stem)
        folders |= dict.fromkeys(with_chain, place)
    whole.pop("extends", None)
    if isinstance(stems := whole.get("stems"), dict) and names:
        whole["stems"] = {name: stem for name, stem in stems.items() if stem is not None}
    return Extended(whole, {**dict.fromkeys(_stems(whole), folder), **folders}, names[0] if names else "")


def _next_file(
    label: str, name: object, seen: list[Path], names: list[str], known: Mapping[str, Sequence[Path]]
) -> Path:
    if not isinstance(name, str) or not name:
        raise PresetError(label, "extends", f"the name of a preset, not {shown(name)}")
    if "/" in name or "\\" in name or name.endswith(".json"):
        reason = (
            f"{shown(name)} is a path: a preset extends one that has a name; put it among your own, gbsep presets new"
        )
        raise PresetError(label, "extends", reason)
    left = [file for file in known.get(name, ()) if file not in seen]
    if name in known and not left:
        raise PresetError(label, "extends", f"goes in a circle: {' extends '.join([*names, name])}")
    if not left:
        raise PresetError(label, "extends", f"no preset is called {shown(name)}{nearest(name, known)}")
    return left[0]


def _stems(document: Mapping[str, Any]) -> Mapping[str, Any]:
    stems = document.get("stems")
    return stems if isinstance(stems, Mapping) else {}


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes`, objects key by key."""
    chosen = [key for key in KINDS if key in changes and key in base and changes[key] != base[key]]
    if chosen:
        base = {key: value for key, value in base.items() if key == "seed"}
    merged = dict(base)
    for key, value in changes.items():
        before = base.get(key)
        merged[key] = _merged(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return merged
