"""`"separate": {"guitars": "auto"}`: any preset with its guitar in two, by their places or by what they play.

The separator becomes the first stage of the backend `guitars`, and the stem of its guitar becomes `guitar1` and
`guitar2`, each with the guitar's chain unless the preset gives it one of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import PresetError, shown
from ..stemnames import PARTNERS, TWO_GUITARS

KEY = "guitars"
HOW = ("auto", "places", "roles")
OVERRIDE = f"separate.{KEY}"
SPLIT = "guitars"
"""The backend of the second stage."""


def with_two_guitars(label: str, document: dict[str, Any]) -> None:
    """Carry out `separate.guitars` in a preset's document, in place; nothing where it is not asked for, or null.

    A preset whose guitar is in two already takes the way that is given.

    Raises PresetError for another word, and where no stem is the separator's guitar and nothing else.
    """
    separate = document.get("separate")
    if not isinstance(separate, dict) or KEY not in separate:
        return
    how = separate.pop(KEY)
    if how is None:  # takes back what the preset that it extends asks for
        return
    if how not in HOW:
        raise PresetError(
            label, f"separate.{KEY}", f"must be {', '.join(map(repr, HOW[:-1]))} or {HOW[-1]!r}, not {shown(how)}"
        )
    if separate.get("backend") == SPLIT:
        separate["how"] = how
        return
    stems = document.get("stems")
    stems = stems if isinstance(stems, dict) else {}
    found = [name for name, stem in stems.items() if _is_guitar(stem)]
    if not found:
        reason = "needs a stem that is the separator's guitar and nothing else"
        raise PresetError(label, f"separate.{KEY}", f"{reason}; the preset two_guitars has its own")
    seed = {"seed": separate.pop("seed")} if "seed" in separate else {}
    document["separate"] = {"backend": SPLIT, "how": how, "of": separate, **seed}
    made: dict[str, Any] = {}
    for name, stem in stems.items():
        if name == found[0]:
            made |= {half: _half(stem, half, stems.get(half, {})) for half in TWO_GUITARS}
        elif name not in TWO_GUITARS:
            made[name] = stem
    document["stems"] = made


def already(document: Mapping[str, Any], overrides: Iterable[tuple[str, Any]]) -> bool:
    """Whether a preset's document has its guitar in two as all `overrides` that ask for it want to have it."""
    separate = document.get("separate")
    ways = {repr(value) for key, value in overrides if key == OVERRIDE}
    return isinstance(separate, dict) and separate.get("backend") == SPLIT and ways == {repr(separate.get("how"))}


def _half(guitar: Mapping[str, Any], name: str, own: Any) -> Any:
    """The stem of one guitar: as the guitar, but for what the preset gives it."""
    return {**copy.deepcopy(guitar), "from": [name], **own} if isinstance(own, Mapping) else own


def _is_guitar(stem: Any) -> bool:
    return isinstance(stem, Mapping) and stem.get("from") in [[name] for name in PARTNERS]
