"""Parameters of external plug-ins, written and read back by their text.

A plug-in keeps each parameter as a raw number from 0 to 1 and shows it as text. The text is what a preset means, so a
value is written as the raw number which the plug-in itself gives for the text, and read back: 12.34 means 12.34.
(Setting a pedalboard attribute by name instead picks one of 1001 scanned steps.)

The names are pedalboard's: the plug-in's own in lower case, spaces as underscores, the unit at the end. A range is that
of the texts; a parameter whose texts are no numbers has choices instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ParameterError, nearest

Value = float | bool | str

RESOLUTION = 1e-6
"""Raw numbers are float32: a text comes back true to this fraction of its range."""


@dataclass(frozen=True)
class PluginParameter:
    """One parameter: numbers have `low` and `high` in `unit`, all others have `choices`; `value` is the current one."""

    name: str
    unit: str
    low: float | None
    high: float | None
    choices: tuple[str | bool, ...]
    value: Value

    @property
    def allowed(self) -> str:
        if self.choices:
            return f"choose from {', '.join(repr(choice) for choice in self.choices)}"
        return f"{self.low:g} to {self.high:g}"


Known = Mapping[str, Any]
"""The parameters of a loaded plug-in by name: pedalboard's `plugin.parameters`, which is slow to get."""


def describe(known: Known) -> list[PluginParameter]:
    """Every parameter as it is now."""
    return [_describe(name, parameter) for name, parameter in known.items()]


def _describe(name: str, parameter: Any) -> PluginParameter:
    value = _read(parameter)
    if parameter.type is float:
        return PluginParameter(
            name, _unit(parameter), float(parameter.min_value), float(parameter.max_value), (), value
        )
    return PluginParameter(name, _unit(parameter), None, None, tuple(parameter.valid_values), value)


def _unit(parameter: Any) -> str:
    return (parameter.label or "").strip()


def read(known: Known) -> dict[str, Value]:
    """The current value of every parameter, as the plug-in shows it."""
    return {name: _read(parameter) for name, parameter in known.items()}


def _read(parameter: Any) -> Value:
    if parameter.type is bool:
        return bool(parameter.raw_value >= 0.5)
    return _number(parameter.string_value) if parameter.type is float else parameter.string_value


def _number(text: str) -> float | str:
    match = re.match(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", text)
    return float(match.group()) if match else text


def write(known: Known, values: Mapping[str, Value]) -> None:
    """Set parameters and read them back, numbers to RESOLUTION.

    Raises ParameterError naming the nearest name, the range or choices, or what the plug-in made of a value.
    """
    for name, value in values.items():
        move(known, name, value)
        back = _read(known[name])
        if not _same(known[name], value, back):
            shape = _describe(name, known[name])
            raise ParameterError(name, value, f"the plug-in makes it {back!r}; {shape.allowed}", shape.unit)


def move(known: Known, name: str, value: Value) -> None:
    """Set one parameter, which the plug-in may round. Raises ParameterError for a wrong name, range or choice."""
    if name not in known:
        raise ParameterError(name, value, f"the plug-in has no such parameter{nearest(name, known)}")
    parameter = known[name]
    if parameter.type is bool and isinstance(value, bool):
        parameter.raw_value = float(value)
    elif parameter.type is str and value in parameter.valid_values:
        parameter.raw_value = parameter.get_raw_value_for_text(value)
    elif parameter.type is float and _is_within(value, parameter.min_value, parameter.max_value):
        parameter.raw_value = parameter.get_raw_value_for_text(np.format_float_positional(float(value), trim="-"))
    else:
        shape = _describe(name, parameter)
        raise ParameterError(name, value, shape.allowed, shape.unit)


def _is_within(value: Value, low: float, high: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


def _same(parameter: Any, asked: Value, back: Value) -> bool:
    if parameter.type is not float or isinstance(back, str):
        return asked == back
    low, high = parameter.min_value, parameter.max_value
    return abs(float(asked) - back) <= RESOLUTION * max(high - low, abs(low), abs(high))
