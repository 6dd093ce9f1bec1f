"""Parameters of external plug-ins, written and read back by their text.

A plug-in keeps each parameter as a raw number from 0 to 1 and shows it as text. The text is what a preset means, so a
value is written as the raw number which the plug-in itself gives for the text, and read back: 12.34 means 12.34.
(Setting a pedalboard attribute by name instead picks one of 1001 scanned steps.)

The names are pedalboard's: the plug-in's own in lower case, spaces as underscores, the unit at the end. A range is that
of the texts; a parameter whose texts are no numbers has choices instead.
"""

from __future__ import annotations

import math
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


def describe(plugin: Any) -> list[PluginParameter]:
    """Every parameter of a loaded pedalboard plug-in."""
    return [_describe(name, parameter) for name, parameter in plugin.parameters.items()]


def _describe(name: str, parameter: Any) -> PluginParameter:
    unit = (parameter.label or "").strip()
    value = _read(parameter)
    if parameter.type is float:
        return PluginParameter(name, unit, float(parameter.min_value), float(parameter.max_value), (), value)
    return PluginParameter(name, unit, None, None, tuple(parameter.valid_values), value)


def read(plugin: Any) -> dict[str, Value]:
    """The current value of every parameter, as the plug-in shows it."""
    return {name: _read(parameter) for name, parameter in plugin.parameters.items()}


def _read(parameter: Any) -> Value:
    if parameter.type is bool:
        return bool(parameter.raw_value >= 0.5)
    return _number(parameter.string_value) if parameter.type is float else parameter.string_value


def _number(text: str) -> float | str:
    match = re.match(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", text)
    return float(match.group()) if match else text


def write(plugin: Any, values: Mapping[str, Value], exact: bool = True) -> dict[str, Value]:
    """Set parameters of a loaded pedalboard plug-in; the values as read back.

    With `exact` a number that the plug-in cannot represent is refused. Without, the plug-in may round it: automation.
    Raises ParameterError naming the nearest name, the range or choices, or what came back instead.
    """
    known = plugin.parameters
    return {name: _write(plugin.name, name, known, value, exact) for name, value in values.items()}


def _write(plugin_name: str, name: str, known: Mapping[str, Any], value: Value, exact: bool) -> Value:
    if name not in known:
        raise ParameterError(name, value, f"{plugin_name} has no such parameter{nearest(name, known)}")
    parameter = known[name]
    shape = _describe(name, parameter)
    if parameter.type is bool and isinstance(value, bool):
        parameter.raw_value = float(value)
    elif parameter.type is str and value in shape.choices:
        parameter.raw_value = parameter.get_raw_value_for_text(str(value))
    elif parameter.type is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        if not (math.isfinite(value) and parameter.min_value <= value <= parameter.max_value):
            raise ParameterError(name, value, shape.allowed, shape.unit)
        parameter.raw_value = parameter.get_raw_value_for_text(np.format_float_positional(value, trim="-"))
    else:
        raise ParameterError(name, value, shape.allowed, shape.unit)
    back = _read(parameter)
    if exact and not _same(value, back, shape):
        raise ParameterError(name, value, f"{plugin_name} makes it {back!r}; {shape.allowed}", shape.unit)
    return back


def _same(asked: Value, back: Value, shape: PluginParameter) -> bool:
    if shape.low is None or shape.high is None or isinstance(asked, str) or isinstance(back, str):
        return asked == back
    return abs(asked - back) <= RESOLUTION * max(shape.high - shape.low, abs(shape.low), abs(shape.high))
