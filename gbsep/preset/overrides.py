"""`--set`: single values of a preset changed by their key path, and the folder name that shows the change."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from typing import Any

from ..arguments import checked
from ..errors import PresetError, SmallFileError, nearest
from ..store import smallfiles

_NUMBER = re.compile(r"[+-]?(\d{1,15}\.?\d{0,15}|\.\d{1,15})")
"""Numbers as people type them and JSON does not have them: .3, +0.3, 3."""
_STEP = re.compile(r"([^.\[\]]+)|\[(\d{1,9})\]")


@checked
def parse_override(text: str, example: str = "separate.cutoff_hz=250") -> tuple[str, Any]:
    """`separate.cutoff_hz=250` as a pair; the value is JSON, a number, or plain text. `example` is for the message.

    >>> parse_override("separate.cutoff_hz=250"), parse_override("separate.model=htdemucs")
    (('separate.cutoff_hz', 250), ('separate.model', 'htdemucs'))
    """
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise PresetError("--set", "", f"{text!r} is not KEY=VALUE, such as {example}")
    try:
        return key, smallfiles.parse_json(key, value.encode("utf-8", "surrogateescape"))
    except SmallFileError as error:
        if not error.is_syntax:
            raise PresetError("--set", key, error.reason) from None
        return key, float(value) if _NUMBER.fullmatch(value) else value


def set_value(preset: str, document: dict[str, Any], key: str, value: Any) -> None:
    """Put `value` at a key path such as `stems.bass.chain[0].cutoff_hz` or `stems.bass.chain.Compressor.ratio`.

    Objects on the way are made.

    Raises PresetError, with the name `preset`, for a key path that leads nowhere.
    """
    steps: list[str | int] = [name or int(index) for name, index in _STEP.findall(key)]
    if _STEP.sub("", key).strip("."):
        raise PresetError(preset, key, "is not a key path, such as stems.bass.chain.Compressor.ratio")
    place: Any = document
    made = ""
    for position, step in enumerate(steps):
        last = position == len(steps) - 1
        if isinstance(place, list) and isinstance(step, str):
            if made:
                raise PresetError(preset, key, made)
            step = int(step) if step.isdigit() else _effect(preset, key, place, step)
        if isinstance(step, int):
            if not (isinstance(place, list) and step < len(place)):
                raise PresetError(preset, key, f"there is no element [{step}]")
        elif not isinstance(place, dict):
            raise PresetError(preset, key, f"{step!r} is asked of something that is no object")
        if not made and isinstance(step, str) and step not in place and step != "chain":
            made = f"there is no {step!r}{nearest(step, place)}"
        if last:
            place[step] = value
        else:
            place = place[step] if isinstance(step, int) else place.setdefault(step, [] if step == "chain" else {})


def _effect(preset: str, key: str, chain: list[Any], name: str) -> int:
    """The place in a chain of its only effect of that name, or of its only plug-in that calls itself so."""
    there = [(place, node) for place, node in enumerate(chain) if isinstance(node, dict)]
    named = [place for place, node in there if name in (node.get("effect"), node.get("name"))]
    if len(named) > 1:
        places = ", ".join(f"[{place}]" for place in named)
        raise PresetError(preset, key, f"there are {len(named)} of the name {name!r}: say which of {places}")
    if not named:
        known = sorted({str(node.get("effect")) for _, node in there})
        hint = nearest(name, known) if known else ": the chain is empty"
        more = f"; gbsep presets new NAME --from {preset} makes a preset of your own with what you put there"
        raise PresetError(preset, key, f"there is no {name!r} in it{hint}{'' if known else more}")
    return named[0]


def label(overrides: Iterable[tuple[str, Any]]) -> str:
    """Overrides as part of a folder's name: the last words of the keys that tell them apart, and the values."""
    pairs = dict(overrides)
    parts = []
    for key, value in sorted(pairs.items()):
        words = key.split(".")
        short = next(
            tail
            for count in range(1, len(words) + 1)
            if sum(other.split(".")[-count:] == words[-count:] for other in pairs) == 1
            for tail in [".".join(words[-count:])]
        )
        parts.append(f"{short}={value if isinstance(value, str) else json.dumps(value, separators=(',', ':'))}")
    text = ",".join(parts)
    safe = re.sub(r"[^\w.=,+\[\]-]", "_", text)
    if safe == text and len(safe) <= 80:
        return safe
    return f"{safe[:70]}~{hashlib.sha256(text.encode()).hexdigest()[:8]}"
