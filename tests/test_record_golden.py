"""What render.json holds, key by key: other programs read it, so keys, their order and types change on purpose alone.

tests/golden/render.json is the record of one render in which every part of it has something to say, with the type of
each value in its place. After a change that is meant:

    GBSEP_GOLDEN=write python scripts/test.py tests/test_record_golden.py
"""

from __future__ import annotations

import json
import os
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gbsep
from gbsep.audio import Audio
from gbsep.effects.plugin import PluginReport
from gbsep.preset.load import load_preset

GOLDEN = Path(__file__).parent / "golden" / "render.json"
RATE = 44100
SECONDS = 6.0
BROADCAST = struct.pack("=338s2xII260s", b"take 3", RATE, 0, b"")
"""What a Broadcast WAV says of itself: it began a second after midnight."""

PRESET: dict[str, Any] = {
    "schema_version": 1,
    "name": "golden",
    "title": "All that a record tells of",
    "description": "Restoration, chains, a side chain, a swap that is looked for, a gain that all files share.",
    "separate": {"backend": "compact"},
    "swap": "auto",
    "stems": {
        "bass": {
            "from": ["bass"],
            "restore": {"method": "loudness", "lufs": -12.0},
            "chain": [
                {"effect": "Butterworth", "mode": "lowpass", "cutoff_hz": {"points": [[0, 3000], [2, 6000]]}},
                {"effect": "Gain", "gain_db": 20.0},
            ],
        },
        "guitar": {
            "from": ["guitar"],
            "restore": {"method": "mixture_fit", "limit_db": 6.0},
            "chain": [
                {"effect": "Ducker", "sidechain": "bass", "threshold_db": -40.0, "wet": 0.8},
                {"effect": "Parallel", "branches": [{"chain": [{"effect": "Reverb"}]}]},
            ],
        },
    },
    "output": {"format": "wav", "bit_depth": "24", "tail_s": 0.5},
}


def shape(value: Any) -> Any:
    """A JSON value with the type of each leaf in its place; the rows of a list share one shape."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        shapes = [shape(inner) for inner in value]
        return [inner for at, inner in enumerate(shapes) if inner not in shapes[:at]]
    if isinstance(value, str):
        return "sha256" if re.fullmatch("[0-9a-f]{64}", value) else "text"
    return {type(None): "null", bool: "bool", int: "int", float: "float"}[type(value)]


@pytest.fixture
def rendered(tmp_path: Path, rng: np.random.Generator) -> dict[str, Any]:
    """The record of a render of an excerpt, in which nothing is empty."""
    time_s = np.arange(round(SECONDS * RATE)) / RATE
    bass = 0.3 * np.sin(2 * np.pi * 55 * time_s) + 0.1 * np.sin(2 * np.pi * 110 * time_s) + 0.1
    guitar = 0.2 * np.sin(2 * np.pi * 660 * time_s) * np.exp(-(time_s % 0.5) * 4)
    samples = np.stack([bass + guitar, bass - 0.5 * guitar]) + 0.001 * rng.standard_normal((2, time_s.size))
    song, out = tmp_path / "song.wav", tmp_path / "out"
    gbsep.write(song, Audio(samples, RATE), tags={"title": "Golden", "artist": "Nobody"}, broadcast=BROADCAST)
    label = "golden@gain_db=24@1s-5s"
    (out / "song").mkdir(parents=True)
    review = {"schema_version": 1, "swap": {label: [["bass", "guitar"]]}}
    (out / "song" / "review.json").write_text(json.dumps(review), "utf-8")
    preset = load_preset(PRESET, [("stems.bass.chain.1.gain_db", 24)])
    outcome = gbsep.render(song, preset, out, dry_stems=True, start_s=1.0, duration_s=4.0)
    assert Path(str(outcome.folder)).name == label
    return dict(json.loads((Path(str(outcome.folder)) / "render.json").read_text("utf-8")))


def test_the_record_has_the_keys_and_types_that_it_always_had(rendered: dict[str, Any]) -> None:
    found = json.dumps(shape(rendered), indent=2) + "\n"
    if os.environ.get("GBSEP_GOLDEN") == "write":
        GOLDEN.write_text(found, "utf-8")
    assert found == GOLDEN.read_text("utf-8")


def test_a_plug_in_has_the_keys_and_types_that_it_always_had() -> None:
    worked = PluginReport(
        "stems.bass.chain[0]", "Squeeze", "5653", "1.2", 64, {"ratio": 4.0, "mode": "soft", "on": True}
    )
    assert shape(worked.as_json()) == {
        "where": "text",
        "name": "text",
        "class_id": "text",
        "version": "text",
        "latency_frames": "int",
        "parameters": {"ratio": "float", "mode": "text", "on": "bool"},
    }
    failed = PluginReport("stems.bass.chain[0]", "Squeeze", bypassed="it crashed")
    assert shape(failed.as_json()) == {"where": "text", "name": "text", "bypassed": "text"}
