"""What a reader needs of an effect to put it into a chain: told from the effects' table alone."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from ..errors import ParameterError
from ..params import FINITE, Param
from .plugin import ON_FAILURE
from .table import EFFECTS, MIX_DB, WET, EffectSpec, effect_hint, meant

PARALLEL = EffectSpec(
    "Parallel",
    "branches that hear the same input, summed; each is a chain of its own",
    (replace(MIX_DB, name="branches[].mix_db"),),
)
PLUGIN = EffectSpec(
    "Plugin", "an external plug-in, VST3 or Audio Unit; gbsep plugins list has their names", (ON_FAILURE,)
)

ALL = {spec.name: spec for spec in sorted((*EFFECTS.values(), PARALLEL, PLUGIN), key=lambda spec: spec.name)}
"""Everything that a chain can hold, by its name."""

GOOD: dict[str, dict[str, Any]] = {
    "BrickwallLimiter": {"ceiling_db": -1.0, "true_peak": True},
    "Butterworth": {"mode": "highpass", "cutoff_hz": 80.0},
    "Chorus": {"rate_hz": 0.8, "depth": 0.3, "mix": 0.4},
    "Compressor": {"threshold_db": -20.0, "ratio": 4.0, "attack_ms": 10.0, "release_ms": 120.0},
    "Convolution": {"impulse_response_filename": "cabinet.wav"},
    "Delay": {"delay_seconds": 0.35, "feedback": 0.3, "mix": 0.25},
    "Distortion": {"drive_db": 12.0, "wet": 0.4},
    "Ducker": {"sidechain": "bass", "threshold_db": -30.0, "ratio": 4.0},
    "Gain": {"gain_db": -3.0},
    "HighShelfFilter": {"cutoff_frequency_hz": 4000.0, "gain_db": 2.0},
    "HighpassFilter": {"cutoff_frequency_hz": 60.0},
    "Limiter": {"threshold_db": -6.0},
    "LowShelfFilter": {"cutoff_frequency_hz": 100.0, "gain_db": 2.0},
    "LowpassFilter": {"cutoff_frequency_hz": 5000.0},
    "NoiseGate": {"threshold_db": -60.0, "release_ms": 150.0},
    "PeakFilter": {"cutoff_frequency_hz": 800.0, "gain_db": -3.0, "q": 1.0},
    "PitchShift": {"semitones": -12.0},
    "Reverb": {"room_size": 0.3, "wet_level": 0.2, "dry_level": 0.8},
}
"""Values to begin with, where the defaults are none."""


def find(name: str) -> tuple[EffectSpec, ...]:
    """The effect of that name, in any case, or those that people call so. Raises ParameterError when there is none."""
    named = meant(name)
    if not named:
        raise ParameterError("effect", name, f"no effect of that name{effect_hint(name)}")
    return tuple(ALL[known] for known in named)


def example(name: str) -> dict[str, Any]:
    """The effect as it stands in a chain, with values to begin with."""
    if name == "Parallel":
        branches = [{"chain": []}, {"chain": [example("Reverb")], "mix_db": -12.0}]
        return {"effect": "Parallel", "branches": branches}
    if name == "Plugin":
        return {"effect": "Plugin", "name": "ZamCompX2", "parameters": {"ratio": 4}, "on_failure": "bypass"}
    first = [param for param in EFFECTS[name].params if param.default is not None][:2]
    return {"effect": name, **(GOOD.get(name) or {param.name: param.default for param in first})}


def example_text(name: str) -> str:
    """The example as one line of JSON."""
    return json.dumps(example(name))


def parameters(name: str) -> list[tuple[str, str, str, str, str]]:
    """A row for each parameter: name, range, unit, default, and whether it may change while the effect runs."""
    params = (*ALL[name].params, WET)
    return [
        (param.name, _range(param), param.unit, _default(param), "yes" if param.automatable else "") for param in params
    ]


def as_json(name: str) -> dict[str, Any]:
    """All of it, JSON-able."""
    spec = ALL[name]
    return {
        "name": name,
        "summary": spec.summary,
        "streams": spec.streams,
        "sample_rates": list(spec.sample_rates),
        "parameters": [
            {"name": param.name, "unit": param.unit, "automatable": param.automatable, **param.schema}
            for param in (*spec.params, WET)
        ],
        "example": example(name),
    }


def _range(param: Param) -> str:
    if param.kind in ("float", "int") and param.high != FINITE:
        return f"{param.low:g} to {param.high:g}"
    return {"bool": "true or false", "path": "a file", "stem": "a stem", "choice": ", ".join(param.choices)}.get(
        param.kind, "a number"
    )


def _default(param: Param) -> str:
    if param.default is None:
        return "required"
    if isinstance(param.default, bool):
        return str(param.default).lower()
    return f"{param.default:g}" if isinstance(param.default, (int, float)) else param.default
