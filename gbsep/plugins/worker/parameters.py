"""Parameters of external plug-ins, written and read back by their text.

A plug-in keeps each parameter as a raw number from 0 to 1 and shows it as text. The text is what a preset means: 12.34
means the raw value that the plug-in shows as 12.34, or as what 12.34 is rounded or cut to where it shows fewer digits
and still keeps them. The plug-in is asked for that raw value first. Many give another, or none, so its answer counts
only if it shows the text again; otherwise the raw value is searched for.

Names are the plug-in's own in lower case, spaces as underscores, the unit at the end (Pedalboard's names). Of several
with one name the second is called `name_2`. What a parameter can be:

- numbers from `low` to `high` in `unit`, only some of them where it has `steps`;
- `choices`, words or true and false, also beside numbers ("-inf dB", "off");
- its `travel`, numbers from 0 to 1, where it is continuous and its texts are no numbers (the name of a note, "30 L").
  It takes these texts too.

Long because a text is read, searched for and written by the same few rules, and each of them rests on the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from ...errors import ParameterError, nearest
from .vst3 import RawParameter

Value = float | bool | str

RESOLUTION = 1e-6
"""A number comes back true to this fraction of its range; plug-ins keep raw values as float32."""
RAW_RESOLUTION = 2e-6
EPSILON = 1.2e-7
"""Of float32, in which plug-ins keep raw values."""
WITHIN = 1 - 1e-6
"""Of the last digit shown: two numbers one digit apart are no nearer than this, however their floats round."""
MOST_STEPS = 1024
"""A parameter with more steps than this counts as continuous."""
MOST_CHOICES = 64
"""A continuous parameter with more texts than this has a travel, not choices."""
MOST_LISTED = 16
SAMPLES, MORE_SAMPLES = 33, 1025
"""Raw values at which a continuous parameter is read to see what its texts are; more where some are no numbers."""
SEARCHES = 192
"""Halvings of a range: more than float32 can tell apart."""
TRUE_WORDS = {"on", "yes", "true", "enabled"}
NUMBER = re.compile(r"\s*([-+−]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(.*?)\s*", re.DOTALL)
SCALES = ({"hz": 1.0, "khz": 1000.0}, {"ms": 1.0, "s": 1000.0, "sec": 1000.0})
"""Units that one parameter may show beside each other; the first is the one that its numbers are in."""
IGNORED = re.compile(r"MIDI CC |P\d\d\d$")
"""Titles of the thousands of parameters with which some plug-ins stand for MIDI controllers."""


class Plugin(Protocol):
    """What is asked of a loaded plug-in here."""

    @property
    def parameters(self) -> tuple[RawParameter, ...]: ...
    def get(self, parameter: RawParameter) -> float: ...
    def set(self, parameter: RawParameter, raw: float) -> None: ...
    def text(self, parameter: RawParameter, raw: float) -> str: ...
    def raw_of(self, parameter: RawParameter, text: str) -> float | None: ...


@dataclass(frozen=True)
class PluginParameter:
    """One parameter as a preset sees it; see the module's conventions. `value` is the current one."""

    name: str
    unit: str
    low: float | None
    high: float | None
    choices: tuple[str | bool, ...]
    value: Value
    steps: tuple[float, ...] = ()
    read_only: bool = False
    automatable: bool = True
    travel: bool = False

    @property
    def allowed(self) -> str:
        """What it can be, for messages and tables."""
        if self.read_only:
            return "read-only, as it is a meter or has its value from the host"
        words = ", ".join(repr(choice) for choice in self.choices[:MOST_LISTED])
        if len(self.choices) > MOST_LISTED:
            words += f" and {len(self.choices) - MOST_LISTED} more"
        if self.low is None or self.high is None:
            return f"choose from {words}"
        if 0 < len(self.steps) <= MOST_LISTED:
            numbers = f"one of {', '.join(f'{step:g}' for step in self.steps)}"
        else:
            numbers = f"{self.low:g} to {self.high:g}" + f" in {len(self.steps) - 1} steps" * bool(self.steps)
        return numbers + f", or {words}" * bool(words) + ", or a text that it shows" * self.travel

    def allowed_beside(self, value: object) -> str:
        """What it can be, for the message about a value that it cannot be: a word for a number gets its own."""
        is_word_for_number = isinstance(value, str) and self.low is not None and not self.travel
        return "a number without its unit, " * is_word_for_number + self.allowed

    def allows(self, value: object) -> bool:
        """Whether a value can be set, as far as can be told without the plug-in."""
        if self.read_only:
            return False
        if isinstance(value, str):
            return self.travel or value in self.choices
        if isinstance(value, bool):
            return any(value is choice for choice in self.choices)
        if not isinstance(value, (int, float)) or self.low is None or self.high is None:
            return False
        if not self.low <= value <= self.high:
            return False
        return not self.steps or any(is_near(value, step, self.low, self.high) for step in self.steps)


def from_row(row: Mapping[str, Any]) -> PluginParameter:
    """A parameter that went through JSON as `dataclasses.asdict` gives it."""
    return PluginParameter(**{**row, "choices": tuple(row["choices"]), "steps": tuple(row["steps"])})


@dataclass(frozen=True)
class Shape:
    """What the texts of a parameter are. `table` has raw values and their texts, in order."""

    table: tuple[tuple[float, str], ...]
    unit: str
    factors: Mapping[str, float] | None
    low: float | None = None
    high: float | None = None
    choices: tuple[str | bool, ...] = ()
    steps: tuple[float, ...] = ()
    travel: bool = False

    def number(self, text: str) -> float | None:
        """The number that a text shows, in the parameter's unit; None where it is a word."""
        if self.factors is None:
            return None
        match = NUMBER.fullmatch(text)
        factor = self.factors.get(match.group(2).lower()) if match else None
        return float(match.group(1).replace("−", "-")) * factor if match and factor is not None else None

    def place(self, text: str) -> float:
        """What the last digit of a shown number stands for."""
        match = NUMBER.fullmatch(text)
        if not match or self.factors is None or "e" in match.group(1).lower():
            return 0.0
        digits = len(match.group(1).partition(".")[2])
        return 10.0**-digits * self.factors.get(match.group(2).lower(), 0.0)


class Knob:
    """One parameter of a loaded plug-in under its name."""

    def __init__(self, name: str, plugin: Plugin, parameter: RawParameter):
        self.name, self.parameter, self._plugin = name, parameter, plugin

    @property
    def raw(self) -> float:
        return self._plugin.get(self.parameter)

    def text(self, raw: float) -> str:
        return self._plugin.text(self.parameter, raw)

    @cached_property
    def shape(self) -> Shape:
        return _shape(self, self.parameter.step_count, self.parameter.unit.strip())

    def describe(self) -> PluginParameter:
        """As it is now."""
        shape, parameter = self.shape, self.parameter
        return PluginParameter(
            self.name,
            shape.unit,
            shape.low,
            shape.high,
            shape.choices,
            self.read(),
            shape.steps,
            parameter.read_only,
            parameter.automatable,
            shape.travel,
        )

    def read(self) -> Value:
        """The current value, as the plug-in shows it."""
        text = self.text(self.raw)
        if True in self.shape.choices:
            return _is_true(text)
        number = self.shape.number(text)
        return text if number is None else number

    def set(self, value: Value) -> None:
        """Set it to a value that the plug-in may round. Raises ParameterError for one that it cannot have."""
        self._plugin.set(self.parameter, self._raw_for(value))

    def set_raw(self, raw: float) -> None:
        """Set it to a raw value that it had before."""
        self._plugin.set(self.parameter, raw)

    def _raw_for(self, value: Value) -> float:
        shape, about = self.shape, self.describe()
        if not replace(about, steps=()).allows(value):
            raise ParameterError(self.name, value, about.allowed_beside(value), about.unit)
        if isinstance(value, (bool, str)):
            raw = self._raw_for_word(value)
            if raw is None:
                raise ParameterError(self.name, value, about.allowed_beside(value), about.unit)
            return raw
        if shape.travel:
            return float(value)
        if shape.steps:
            return min(
                (abs(number - value), raw) for raw, text in shape.table if (number := shape.number(text)) is not None
            )[1]
        return self._raw_for_number(float(value))

    def _raw_for_word(self, word: bool | str) -> float | None:
        """The middle of the raw values that show a word."""
        if isinstance(word, bool):
            places = [raw for raw, text in self.shape.table if _is_true(text) is word]
        else:
            places = [raw for raw, text in self.shape.table if text == word]
        if not places:
            raw = self._plugin.raw_of(self.parameter, str(word))
            return raw if raw is not None and self.text(raw) == word else None
        if self.parameter.step_count:
            return places[0]
        # Values at an end of the range belong to it, and plug-ins round the middle either way.
        return places[0] if places[0] == 0.0 else places[-1] if places[-1] == 1.0 else places[len(places) // 2]

    def _raw_for_number(self, value: float) -> float:
        plain = np.format_float_positional(value, trim="-")
        for text in dict.fromkeys((plain, f"{plain} {self.shape.unit}".strip())):
            raw = self._plugin.raw_of(self.parameter, text)
            if raw is not None and self._is_answer(raw, value):
                return raw
        return self._search(value)

    def _is_answer(self, raw: float, value: float) -> bool:
        """Whether a raw value that the plug-in gave for a number is true: it shows that, also in float32, and where it
        shows fewer digits, the number that it shows has another raw value."""
        if not all(self.shows(min(max(raw + off, 0.0), 1.0), value) for off in (0.0, -EPSILON, EPSILON)):
            return False
        text = self.text(raw)
        shown, (low, high) = self.shape.number(text), self._range
        return (shown is not None and is_near(value, shown, low, high)) or self._plugin.raw_of(
            self.parameter, text
        ) != raw

    def shows(self, raw: float, value: float) -> bool:
        """Whether the text at a raw value is that number, or what it is rounded or cut to."""
        text = self.text(raw)
        shown, (low, high) = self.shape.number(text), self._range
        if shown is None:
            return False
        return is_near(value, shown, low, high) or abs(shown - value) < self.shape.place(text) * WITHIN

    @property
    def _range(self) -> tuple[float, float]:
        low, high = self.shape.low, self.shape.high
        return (0.0, 1.0) if low is None or high is None else (low, high)

    def _search(self, value: float) -> float:
        """The middle of the raw values that show a number, or else the nearest one."""
        table = [(raw, number) for raw, text in self.shape.table if (number := self.shape.number(text)) is not None]
        rising = table[-1][1] >= table[0][1]
        edges = [self._edge(table, value, rising, strict) for strict in (False, True)]
        middle = (edges[0] + edges[1]) / 2
        candidates = (middle, *edges, table[0][0], table[-1][0])
        return min(candidates, key=lambda raw: self._distance(raw, value))

    def _edge(self, table: list[tuple[float, float]], value: float, rising: bool, strict: bool) -> float:
        """Where the numbers shown reach `value`, or when `strict` pass it."""

        def below(number: float) -> bool:
            ahead = number if rising else -number
            goal = value if rising else -value
            return ahead <= goal if strict else ahead < goal

        low = max((raw for raw, number in table if below(number)), default=table[0][0])
        high = min((raw for raw, number in table if raw > low and not below(number)), default=table[-1][0])
        for _ in range(SEARCHES):
            middle = (low + high) / 2
            if middle in (low, high):
                break
            number = self.shape.number(self.text(middle))
            if number is not None and below(number):
                low = middle
            else:
                high = middle
        return high if not strict else low

    def _distance(self, raw: float, value: float) -> float:
        number = self.shape.number(self.text(raw))
        return float("inf") if number is None else abs(number - value)


Known = Mapping[str, Knob]
"""The parameters of a loaded plug-in by name."""


def known_parameters(plugin: Plugin) -> dict[str, Knob]:
    """Every parameter by its name, in the plug-in's order.

    Those without a name that cannot be set either are left out, as are stand-ins for MIDI controllers.
    """
    parameters = [
        parameter
        for parameter in plugin.parameters
        if not IGNORED.match(parameter.title) and (parameter.title.strip() or not parameter.read_only)
    ]
    names = unique(python_name(parameter.title, parameter.unit) or "parameter" for parameter in parameters)
    return {name: Knob(name, plugin, parameter) for name, parameter in zip(names, parameters, strict=True)}


def python_name(title: str, unit: str) -> str:
    """The name of a parameter in a preset, spelt as Pedalboard does.

    >>> python_name("Thresh. #1", "dB")
    'thresh_sharp1_db'
    """
    text = f"{title} {unit}" if unit and not unit.startswith(":") else title
    text = text.lower().strip().replace("#", "_sharp").replace("♯", "_sharp").replace("♭", "_flat")
    return re.sub("_+", "_", re.sub(r"[^a-z0-9]", "_", text)).strip("_")


def unique(names: Iterable[str]) -> Iterator[str]:
    """Names told apart: the second `gain` is `gain_2`, unless there is one of that name.

    >>> list(unique(["gain", "gain", "gain_2", "gain"]))
    ['gain', 'gain_3', 'gain_2', 'gain_4']
    """
    given = list(names)
    used, seen = set(given), set()
    for name in given:
        chosen, number = name, 1
        while chosen in seen or (number > 1 and chosen in used):
            number += 1
            chosen = f"{name}_{number}"
        used.add(chosen)
        seen.add(chosen)
        yield chosen


def _shape(knob: Knob, step_count: int, unit: str) -> Shape:
    if 0 < step_count < MOST_STEPS:
        table = _table(knob, step_count + 1)
    else:
        table = _table(knob, SAMPLES)
        if _factors(text for _, text in table) is None or any(not NUMBER.fullmatch(text) for _, text in table):
            table = _table(knob, MORE_SAMPLES)
    texts = tuple(dict.fromkeys(text for _, text in table))
    factors = _factors(texts)
    shape = Shape(table, _unit(unit, texts, factors), factors)
    numbers = sorted({number for text in texts if (number := shape.number(text)) is not None})
    words = tuple(text for text in texts if shape.number(text) is None)
    if len(texts) == 2 and len(numbers) < 2 and {text.strip().lower() for text in texts} & TRUE_WORDS:
        return replace(shape, factors=None, choices=(False, True))
    if not any(text.strip() for text in texts):
        return replace(shape, factors=None, low=0.0, high=1.0, travel=True)
    few = len(texts) <= MOST_CHOICES
    if numbers and (not words or len(numbers) > max(MOST_LISTED, len(words))):
        steps = tuple(numbers) if 0 < step_count < MOST_STEPS and len(numbers) > 1 else ()
        if not steps:
            shape = replace(shape, table=tuple(sorted({*table, *_ends(knob, shape)})))
            numbers = sorted(number for _, text in shape.table if (number := shape.number(text)) is not None)
        words = words if len(words) <= MOST_CHOICES else ()
        return replace(shape, low=numbers[0], high=numbers[-1], choices=words, steps=steps)
    if few or 0 < step_count < MOST_STEPS:
        return replace(shape, factors=None, choices=texts)
    return replace(shape, factors=None, low=0.0, high=1.0, travel=True)


def _ends(knob: Knob, shape: Shape) -> Iterator[tuple[float, str]]:
    """Where a word at an end of the range ("-inf", "off") gives way to numbers, which the table passes over."""
    for (raw, text), (beside, other) in (shape.table[:2], shape.table[:-3:-1]):
        if shape.number(text) is not None or shape.number(other) is None:
            continue
        for _ in range(SEARCHES):
            middle = (raw + beside) / 2
            if middle in (raw, beside):
                break
            raw, beside = (middle, beside) if shape.number(knob.text(middle)) is None else (raw, middle)
        yield beside, knob.text(beside)


def _table(knob: Knob, count: int) -> tuple[tuple[float, str], ...]:
    raws = (step / (count - 1) for step in range(count))
    return tuple((raw, knob.text(raw)) for raw in raws)


def _factors(texts: Iterable[str]) -> dict[str, float] | None:
    """What the numbers in texts are multiplied by, for each of their units; None when they do not go together."""
    matches = [match for text in texts if (match := NUMBER.fullmatch(text))]
    units = {match.group(2).lower() for match in matches}
    for scale in SCALES:
        if len(units - {""}) > 1 and units - {""} <= scale.keys():
            return {unit: scale.get(unit, 1.0) for unit in units}
    if units == {"khz"}:
        return {"khz": 1000.0}
    return dict.fromkeys(units, 1.0) if matches and len(units - {""}) <= 1 else None


def _unit(label: str, texts: Iterable[str], factors: Mapping[str, float] | None) -> str:
    """The unit that the plug-in names, or else the one in its texts."""
    if label or factors is None:
        return label
    if any(factor != 1.0 for factor in factors.values()):
        return "Hz" if "khz" in factors else "ms"
    found = [match.group(2) for text in texts if (match := NUMBER.fullmatch(text)) and match.group(2)]
    return found[0] if found else ""


def _is_true(text: str) -> bool:
    return text.strip().lower() in TRUE_WORDS


def describe(known: Known) -> list[PluginParameter]:
    """Every parameter as it is now."""
    return [knob.describe() for knob in known.values()]


def read(known: Known) -> dict[str, Value]:
    """The current value of every parameter that is not read-only, as the plug-in shows it."""
    return {name: knob.read() for name, knob in known.items() if not knob.parameter.read_only}


def move(known: Known, name: str, value: Value) -> None:
    """Set one parameter, which the plug-in may round. Raises ParameterError for a wrong name, range or choice."""
    if name not in known:
        raise ParameterError(name, value, f"the plug-in has no such parameter{nearest(name, known)}")
    known[name].set(value)


def write(known: Known, values: Mapping[str, Value]) -> dict[str, float]:
    """Set parameters and read them back: each at once, and all when the last is set. The raw values that they have.

    Raises ParameterError naming the nearest name, the range or choices, or what the plug-in made of a value.
    """
    for name, value in values.items():
        move(known, name, value)
        about = known[name].describe()
        _check_is(known[name], value, f"the plug-in makes it {about.value!r}; {about.allowed}")
    for name, value in values.items():
        _check_is(known[name], value, "another of the parameters given here changes it; leave one of them out")
    return {name: known[name].raw for name in values}


def raws(known: Known) -> dict[str, float]:
    """The raw value of every parameter that is not read-only."""
    return {name: knob.raw for name, knob in known.items() if not knob.parameter.read_only}


def lost(known: Known, wanted: Mapping[str, float]) -> dict[str, float]:
    """Those of the raw values `wanted` that the parameters do not have."""
    return {name: raw for name, raw in wanted.items() if abs(known[name].raw - raw) > RAW_RESOLUTION}


def write_raws(known: Known, raws: Mapping[str, float]) -> None:
    """Set parameters to raw values that `raws` gave."""
    for name, raw in raws.items():
        known[name].set_raw(raw)


def check_kept(known: Known, values: Mapping[str, Value], raws: Mapping[str, float]) -> None:
    """Check that parameters are what was written, after the state that resulted was given to a fresh instance.

    What is shown on writing comes from the plug-in's controller, which may not have told its component, the part that
    makes the sound; the state is the component's. A number of which fewer digits are shown must have its raw value of
    `raws` again. Raises ParameterError.
    """
    for name, value in values.items():
        knob = known[name]
        said = f"the plug-in does not keep it, but goes back to {knob.read()!r}"
        said += "; leave it out and set the parameters that it stands for"
        _check_is(knob, value, said)
        if isinstance(value, (bool, str)) or _same(knob, value, knob.read()):
            continue
        if abs(knob.raw - raws[name]) > RAW_RESOLUTION:
            raise ParameterError(name, value, f"the plug-in makes it {knob.read()!r}", knob.shape.unit)


def _check_is(knob: Knob, value: Value, otherwise: str) -> None:
    shape = knob.shape
    if isinstance(value, (bool, str)):
        right = knob.read() == value and isinstance(value, bool) == isinstance(knob.read(), bool)
    elif shape.travel:
        right = abs(knob.raw - value) <= RAW_RESOLUTION
    elif shape.steps:
        right = _same(knob, value, knob.read())
    else:
        right = knob.shows(knob.raw, value)
    if not right:
        raise ParameterError(knob.name, value, otherwise, shape.unit)


def _same(knob: Knob, asked: float, back: Value) -> bool:
    low, high = knob.shape.low, knob.shape.high
    if isinstance(back, (str, bool)) or low is None or high is None:
        return asked == back
    return is_near(float(asked), back, low, high)


def is_near(asked: float, back: float, low: float, high: float) -> bool:
    """Whether two values of a parameter are the same to RESOLUTION."""
    return abs(asked - back) <= RESOLUTION * max(high - low, abs(low), abs(high))
