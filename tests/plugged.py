"""Presets with plug-ins and songs for them, for the tests of what plug-ins do in a render."""

from pathlib import Path
from typing import Any

import numpy as np

import gbsep
from gbsep.audio import Audio

RATE = 44100
TEST_PLUGIN = "gbsep test"


def plugin(name: str, **more: Any) -> dict[str, Any]:
    return {"effect": "Plugin", "name": name, **more}


def preset(bass: list[dict[str, Any]], name: str = "plugged") -> dict[str, Any]:
    return {
        "schema_version": 1,
        "name": name,
        "title": "A crossover with plug-ins",
        "separate": {"backend": "crossover", "cutoff_hz": 200.0},
        "stems": {"bass": {"from": ["bass"], "chain": bass}},
        "output": {"residual": False},
    }


def noise(frames: int, channels: int = 2) -> Audio:
    samples = 0.2 * np.random.default_rng(1).standard_normal((channels, frames))
    return Audio(samples.astype(np.float32), RATE)


def write_song(path: Path, seconds: float) -> Path:
    gbsep.write(path, noise(round(seconds * RATE)))
    return path
