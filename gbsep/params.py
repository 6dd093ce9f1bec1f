"""The description of a parameter that users set, and the parameters that several rooms share.

A Param has a name, a unit and a range. Its check, error message, help text and JSON Schema follow from these. This
module loads no heavy library, so the command line may import it.
"""

from __future__ import annotations

import math
import numbers
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .errors import ParameterError, similar

FINITE = sys.float_info.max
"""A parameter from -FINITE to FINITE takes any number except NaN and infinity."""


@dataclass(frozen=True)
class Param:
    """One parameter, allowed from `low` to `high`, both included; without a default it is required.

    kind "float" or "int" is a number, "bool" a switch, "choice" one of `choices`, "path" a file, "stem" a stem's name.
    `automatable` numbers may change while an effect runs; a `cutoff` has to be below half the sample rate.
    """

    name: str
    unit: str = ""
    low: float = -math.inf
    high: float = math.inf
    default: float | bool | str | None = None
    kind: Literal["float", "int", "bool", "choice", "path", "stem"] = "float"
    choices: tuple[str, ...] = ()
    automatable: bool = False
    cutoff: bool = False

    @property
    def allowed(self) -> str:
        """The allowed values in words: `"a number from 0 to 24 dB"`."""
        if self.kind in ("float", "int"):
            if self.high == FINITE:
                return "a finite number"
            number = "a whole number" if self.kind == "int" else "a number"
            return f"{number} from {self.low:g} to {self.high:g}{' ' + self.unit if self.unit else ''}"
        if self.kind == "choice":
            return f"one of {', '.join(self.choices)}"
        return {"bool": "true or false", "path": "the path of a file", "stem": "the name of a stem"}[self.kind]

    @property
    def help(self) -> str:
        return f"{self.name}: {self.allowed}; " + ("required" if self.default is None else f"default {self.default}")

    @property
    def default_number(self) -> float:
        """The default of a number that has one."""
        assert isinstance(self.default, (int, float))
        return self.default

    def check(self, value: Any) -> float | bool | str:
        """`value` as a plain number, switch or text. Raises ParameterError when it is not allowed."""
        taken = self._taken(value)
        if taken is None:
            hint = similar(value, self.choices) if self.choices and isinstance(value, str) else ""
            raise ParameterError(self.name, value, self.allowed + hint)
        return taken

    def _taken(self, value: Any) -> float | bool | str | None:
        if self.kind == "bool":
            return value if isinstance(value, bool) else None
        if self.kind in ("float", "int"):
            is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
            if not (is_number and self.low <= value <= self.high):
                return None
            if self.kind == "float":
                return float(value)
            return int(value) if value == int(value) else None
        fits = isinstance(value, (str, Path)) and str(value) != "" and "\0" not in str(value)
        return str(value) if fits and (not self.choices or value in self.choices) else None

    @property
    def schema(self) -> dict[str, Any]:
        """JSON Schema of a fixed value."""
        default = {} if self.default is None else {"default": self.default}
        about = {"description": self.help}
        if self.kind in ("float", "int"):
            number = {"type": "integer" if self.kind == "int" else "number", "minimum": self.low, "maximum": self.high}
            return {**number, **about, **default}
        if self.kind == "choice":
            return {"enum": list(self.choices), **about, **default}
        return {"type": "boolean"} | about | default if self.kind == "bool" else {"type": "string"} | about | default


SAMPLE_RATE = Param("sample_rate", "Hz", 1000.0, 768_000.0, kind="int")
"""Sample rates at which every effect works: Pedalboard's Reverb crashes at 1 Hz and from 1.4 MHz on."""
BUFFER = Param("buffer_frames", "frames", 3.0, 2.0**20, kind="int")
"""Frames that a built-in effect processes at once."""
TAIL_S = Param("tail_s", "s", 0.0, 600.0, 0.0)
"""How long files continue after the song, for effects that ring out."""

DEVICES = ("auto", "cpu", "cuda", "mps")
"""Where networks run."""

LIMIT_DB = Param("limit_db", "dB", 0.0, 24.0, 6.0)
"""The largest gain of a stem that is fitted to the mixture."""
TARGET_LUFS = Param("target_lufs", "LUFS", -70.0, 0.0, -20.0)
TARGET_DBFS = Param("target_dbfs", "dBFS", -60.0, 0.0, -1.0)
RESTORATION: dict[str, tuple[Param, ...]] = {
    "none": (),
    "mixture_fit": (LIMIT_DB,),
    "loudness": (TARGET_LUFS,),
    "peak": (TARGET_DBFS,),
}
"""The ways to restore the level of a stem, and the parameters of each."""
