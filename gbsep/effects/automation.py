"""Parameters that change over time, as on an automation lane of a DAW.

Conventions: `points` are (time in seconds, value in the parameter's own unit), times strictly increasing from 0 on;
before the first point its value holds, after the last point that one's. Between two points the value moves on a
straight line ("linear"; for a parameter in dB that is an exponential fade), by equal ratios in equal times
("exponential", as an ear hears frequencies), or stays what it was ("hold").

    {"points": [[0, 200], [18.0, 400]], "shape": "exponential"}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..arguments import checked
from ..errors import ParameterError, nearest, similar
from ..params import Param

SHAPES = ("linear", "hold", "exponential")


@dataclass(frozen=True)
class Automation:
    """A lane; make it with `parse_automation`, which checks it."""

    points: tuple[tuple[float, float], ...]
    shape: str = "linear"

    def at(self, times_s: np.ndarray, fade_s: float = 0.0) -> np.ndarray:
        """The values at `times_s`, float64, same shape; a jump of "hold" takes `fade_s`, on a straight line.

        >>> Automation(((0.0, 100.0), (2.0, 400.0)), "exponential").at(np.array([-1.0, 1.0, 9.0])).round(9).tolist()
        [100.0, 200.0, 400.0]
        """
        times, values = np.array(self.points, np.float64).T
        if self.shape == "exponential":
            return np.asarray(np.sign(values[0]) * np.exp(np.interp(times_s, times, np.log(np.abs(values)))))
        if self.shape == "linear":
            return np.asarray(np.interp(times_s, times, values))
        held = np.maximum(np.searchsorted(times, times_s, side="right") - 1, 0)
        if not fade_s:
            return np.asarray(values[held])
        before = values[np.maximum(held - 1, 0)]
        return np.asarray(before + np.clip((times_s - times[held]) / fade_s, 0, 1) * (values[held] - before))

    @property
    def values(self) -> tuple[float, ...]:
        """The values of the points, without their times."""
        return tuple(value for _, value in self.points)


@checked
def parse_automation(value: Mapping[str, Any], param: Param) -> Automation:
    """The lane that a JSON object describes.

    Raises ParameterError for a value outside the parameter's range, times that do not increase or are not finite, an
    exponential lane that meets zero, and a parameter that cannot change while it runs.
    """
    if not param.automatable:
        raise ParameterError(param.name, dict(value), f"{param.allowed}, not an automation")
    for key in value:
        if key not in ("points", "shape"):
            hint = nearest(str(key), ["points", "shape"])
            raise ParameterError(param.name, key, f"an automation has no such key{hint}")
    shape, points = value.get("shape", "linear"), value.get("points")
    if shape not in SHAPES:
        hint = similar(shape, SHAPES) if isinstance(shape, str) else ""
        raise ParameterError(f"{param.name}.shape", shape, f"one of {', '.join(SHAPES)}{hint}")
    if not isinstance(points, (list, tuple)) or not points:
        raise ParameterError(f"{param.name}.points", points, "a list of one or more [seconds, value] pairs")
    lane: list[tuple[float, float]] = []
    for index, point in enumerate(points):
        if not isinstance(point, (list, tuple)) or len(point) != 2:
            raise ParameterError(f"{param.name}.points[{index}]", point, "a pair [seconds, value]")
        where = f"{param.name}.points[{index}]"
        time = Param(where, "s", 0.0, 1e6)
        lane.append((float(time.check(point[0])), float(replace(param, name=where).check(point[1]))))
        if index and not lane[index - 1][0] < lane[index][0]:
            raise ParameterError(f"{param.name}.points[{index}]", point, f"later than {lane[index - 1][0]:g} s")
    if shape == "exponential" and not (all(v > 0 for _, v in lane) or all(v < 0 for _, v in lane)):
        raise ParameterError(f"{param.name}.points", points, "for an exponential all above zero, or all below")
    return Automation(tuple(lane), shape)


def dump_automation(automation: Automation) -> dict[str, Any]:
    """The lane as JSON; `parse_automation` gives the same lane back."""
    return {"points": [list(point) for point in automation.points], "shape": automation.shape}


def automation_schema(param: Param) -> dict[str, Any]:
    """JSON Schema of a lane for this parameter."""
    value = {"type": "number", "minimum": param.low, "maximum": param.high}
    point = {"type": "array", "prefixItems": [{"type": "number", "minimum": 0}, value], "minItems": 2, "maxItems": 2}
    return {
        "type": "object",
        "properties": {
            "points": {"type": "array", "items": point, "minItems": 1},
            "shape": {"enum": list(SHAPES), "default": "linear"},
        },
        "required": ["points"],
        "additionalProperties": False,
    }


def value_at(value: float | Automation, times_s: np.ndarray) -> np.ndarray:
    """A fixed or automated value at `times_s`."""
    return value.at(times_s) if isinstance(value, Automation) else np.full(np.shape(times_s), float(value))
