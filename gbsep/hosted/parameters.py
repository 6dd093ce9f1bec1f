"""Parameters of external plug-ins, written and read back by their text.

A plug-in keeps each parameter as a raw number from 0 to 1 and shows it as text. The text is what a preset means, so a
value is written as the raw number which the plug-in itself gives for the text, and read back: 12.34 means 12.34.
(Setting a pedalboard attribute by name instead picks one of 1001 scanned steps.)

The names are pedalboard's: the plug-in's own in lower case, spaces as underscores, the unit at the end. A range is that
of the texts; a parameter whose texts are no numbers has choices instead. Numbers that the plug-in does not let a host
automate are its meters, or figures that it has from the host (buffer size, sample rate, latency): they are read-only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ParameterError, nearest

Value = float | bool | str

RESOLUTION = 1e-6
"""Raw numbers are float32: a text comes back true to this fraction of its range."""

MOST_STEPS = 1024
"""A parameter with more steps than this counts as continuous."""
MOST_LISTED = 16


@dataclass(frozen=True)
class PluginParameter:
    """One parameter: numbers have `low` and `high` in `unit`, all others have `choices`; `value` is the current one.

    `steps` are the only numbers that it can be, when they are few; one that is `read_only` cannot be set.
    """

    name: str
    unit: str
    low: float | None
    high: float | None
    choices: tuple[str | bool, ...]
    value: Value
    steps: tuple[float, ...] = ()
    read_only: bool = False

    @property
    def allowed(self) -> str:
        if self.read_only:
            return "read-only, as it is a meter or has its value from the host"
        if self.choices:
            return f"choose from {', '.join(repr(choice) for choice in self.choices)}"
        if 0 < len(self.steps) <= MOST_LISTED:
            return f"one of {', '.join(f'{step:g}' for step in self.steps)}"
        if self.steps:
            return f"{self.low:g} to {self.high:g} in {len(self.steps) - 1} steps"
        return f"{self.low:g} to {self.high:g}"


def from_row(row: Mapping[str, Any]) -> PluginParameter:
    """A parameter that went through JSON as `dataclasses.asdict` gives it."""
    return PluginParameter(**{**row, "choices": tuple(row["choices"]), "steps": tuple(row["steps"])})


Known = Mapping[str, Any]
"""The parameters of a loaded plug-in by name: pedalboard's `plugin.parameters`, which is slow to get."""


def describe(known: Known) -> list[PluginParameter]:
    """Every parameter as it is now."""
    return [_describe(name, parameter) for name, parameter in known.items()]


def _describe(name: str, parameter: Any) -> PluginParameter:
    value = _read(parameter)
    if parameter.type is float:
        low, high = float(parameter.min_value), float(parameter.max_value)
        return PluginParameter(
            name, _unit(parameter), low, high, (), value, _steps(parameter), _is_read_only(parameter)
        )
    return PluginParameter(name, _unit(parameter), None, None, tuple(parameter.valid_values), value)


def _steps(parameter: Any) -> tuple[float, ...]:
    count = parameter.num_steps
    if not 1 < count <= MOST_STEPS:
        return ()
    numbers = (_number(parameter.get_text_for_raw_value(step / (count - 1))) for step in range(count))
    return tuple(sorted({number for number in numbers if not isinstance(number, str)}))


def _unit(parameter: Any) -> str:
    return (parameter.label or "").strip()


def read(known: Known) -> dict[str, Value]:
    """The current value of every parameter that is not read-only, as the plug-in shows it."""
    return {name: _read(parameter) for name, parameter in known.items() if not _is_read_only(parameter)}


def _is_read_only(parameter: Any) -> bool:
    return parameter.type is float and not parameter.is_automatable


def _read(parameter: Any) -> Value:
    if parameter.type is bool:
        return bool(parameter.raw_value >= 0.5)
    return _number(parameter.string_value) if parameter.type is float else parameter.string_value


def _number(text: str) -> float | str:
    match = re.match(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", text)
    return float(match.group()) if match else text


def write(known: Known, values: Mapping[str, Value]) -> None:
    """Set parameters and read them back, numbers to RESOLUTION: each at once, and all when the last is set.

    Raises ParameterError naming the nearest name, the range or choices, or what the plug-in made of a value.
    """
    for name, value in values.items():
        move(known, name, value)
        shape = _describe(name, known[name])
        _check_is(known, name, value, f"the plug-in makes it {shape.value!r}; {shape.allowed}")
    for name, value in values.items():
        _check_is(known, name, value, "another of the parameters given here changes it; leave one of them out")


def recalled(known: Known, values: Mapping[str, Value], recall: Callable[[], None]) -> dict[str, Value]:
    """Every parameter that is not read-only, as the component of the plug-in has it after `values` were written.

    What is shown comes from the plug-in's controller, which may not have told its component, the part that makes the
    sound. So those parameters are set to their defaults and `recall` is called, which shall restore the state that the
    component had. Raises ParameterError for a value that does not come back.
    """
    for name in values:
        known[name].raw_value = known[name].default_raw_value
    recall()
    for name, value in values.items():
        said = f"the plug-in does not keep it, but goes back to {_read(known[name])!r}"
        _check_is(known, name, value, f"{said}; leave it out and set the parameters that it stands for")
    return {**read(known), **values}


def _check_is(known: Known, name: str, value: Value, otherwise: str) -> None:
    if not _same(known[name], value, _read(known[name])):
        raise ParameterError(name, value, otherwise, _unit(known[name]))


def move(known: Known, name: str, value: Value) -> None:
    """Set one parameter, which the plug-in may round. Raises ParameterError for a wrong name, range or choice."""
    if name not in known:
        raise ParameterError(name, value, f"the plug-in has no such parameter{nearest(name, known)}")
    parameter = known[name]
    if parameter.type is bool and isinstance(value, bool):
        parameter.raw_value = float(value)
    elif parameter.type is str and value in parameter.valid_values:
        parameter.raw_value = parameter.get_raw_value_for_text(value)
    elif (
        parameter.type is float
        and not _is_read_only(parameter)
        and _is_within(value, parameter.min_value, parameter.max_value)
    ):
        parameter.raw_value = parameter.get_raw_value_for_text(np.format_float_positional(float(value), trim="-"))
    else:
        shape = _describe(name, parameter)
        raise ParameterError(name, value, shape.allowed, shape.unit)


def _is_within(value: Value, low: float, high: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


def _same(parameter: Any, asked: Value, back: Value) -> bool:
    if parameter.type is not float or isinstance(back, str):
        return asked == back
    return is_near(float(asked), back, parameter.min_value, parameter.max_value)


def is_near(asked: float, back: float, low: float, high: float) -> bool:
    """Whether two values of a parameter are the same to RESOLUTION."""
    return abs(asked - back) <= RESOLUTION * max(high - low, abs(low), abs(high))
