"""A preset over ranges of its values: what `--vary separate.cutoff_hz=100:300:50` stands for."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from ..arguments import checked
from ..errors import ParameterError, SmallFileError
from ..store import smallfiles

Override = tuple[str, Any]

MAX_VALUES = 10_000
LARGEST = 10**12
"""The largest number of a range."""
INAUDIBLE = ("schema_version", "name", "title", "description")
"""Keys of a preset that say what it is called, and change nothing in a render."""


@checked
def parse_vary(text: str) -> tuple[str, list[Any]]:
    """A key of a preset and its values: a range start:stop:step with both ends in it, or a list.

    Values are JSON, or else plain text; of equal ones the first counts. Decimal steps are exact. Raises ParameterError.

    >>> parse_vary("separate.cutoff_hz=100:300:50")
    ('separate.cutoff_hz', [100, 150, 200, 250, 300])
    >>> parse_vary("separate.overlap=0.1:0.3:0.1"), parse_vary("separate.model=htdemucs,htdemucs_ft")
    (('separate.overlap', [0.1, 0.2, 0.3]), ('separate.model', ['htdemucs', 'htdemucs_ft']))
    """
    key, equals, values = text.partition("=")
    if not (key and equals and values):
        raise ParameterError("vary", text, "KEY=START:STOP:STEP or KEY=A,B,C, such as separate.cutoff_hz=100:300:50")
    if key in INAUDIBLE:
        raise ParameterError("vary", text, f"a key that changes what is heard, and {key} does not")
    found = _range(text, values) if ":" in values and not values.startswith(("[", "{", '"')) else _list(values)
    distinct: dict[str, Any] = {}
    for value in found:
        distinct.setdefault(_identity(value), value)
    return key, list(distinct.values())


def grid(variations: Iterable[tuple[str, list[Any]]]) -> list[tuple[Override, ...]]:
    """The overrides of every combination, the last key changing fastest. Raises ParameterError for a key given twice.

    >>> grid([("a", [1, 2]), ("b", ["x"])])
    [(('a', 1), ('b', 'x')), (('a', 2), ('b', 'x'))]
    """
    variations = list(variations)
    keys = [key for key, _ in variations]
    for key in keys:
        if keys.count(key) > 1:
            raise ParameterError("vary", key, "each key once; give its values in one list")
    renders = math.prod(len(values) for _, values in variations)
    if renders > MAX_VALUES:
        raise ParameterError("vary", f"{renders} combinations", f"at most {MAX_VALUES}: give fewer values")
    return list(itertools.product(*([(key, value) for value in values] for key, values in variations)))


def _range(text: str, values: str) -> list[Any]:
    parts = values.split(":")
    try:
        start, stop, step = map(Decimal, parts)
        count = (stop - start) / step
    except (ValueError, ArithmeticError):
        count = Decimal("NaN")
    if not count.is_finite() or max(abs(start), abs(stop)) > LARGEST:
        raise ParameterError("vary", text, "three numbers START:STOP:STEP with a step other than 0, such as 100:300:50")
    if count < 0:
        raise ParameterError("vary", text, f"a step that leads from {start} to {stop}: {-step}")
    if count >= MAX_VALUES:
        raise ParameterError("vary", text, f"at most {MAX_VALUES} values")
    whole = not any(set(part) & set(".eE") for part in parts)
    return [
        int(value) if whole else float(value) for value in (start + step * index for index in range(int(count) + 1))
    ]


def _identity(value: Any) -> str:
    """The same text for equal numbers, and another for each other value: 1 and 1.0 are equal, 1 and true are not."""
    return json.dumps(int(value) if isinstance(value, float) and value.is_integer() else value)


def _list(values: str) -> list[Any]:
    found = _json(f"[{values}]")
    return found if isinstance(found, list) else [_value(word) for word in values.split(",")]


def _value(word: str) -> Any:
    found = _json(word)
    return word.strip() if found is _NONE else found


_NONE = object()


def _json(text: str) -> Any:
    """What a text says in JSON, or _NONE. Raises ParameterError for what no preset takes, such as 5,000 digits."""
    try:
        return smallfiles.parse_json("vary", text.encode("utf-8", "surrogateescape"))
    except SmallFileError as error:
        if not error.is_syntax:
            raise ParameterError("vary", text[:60], f"values that a preset can hold: this one {error.reason}") from None
        return _NONE
