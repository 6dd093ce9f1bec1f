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
from gbsep.shelf import record

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


def content(**changes: Any) -> record.Content:
    """What a render says of itself that tells everything."""
    levels = {"peak_dbfs": -1.0, "rms_dbfs": -20.0, "loudness_lufs": None}
    told: dict[str, Any] = {
        "schema_version": 1,
        "gbsep": {"version": "1", "rendering": 1, "separation": 1},
        "input": {
            "path": "/song.wav", "sha256": "0" * 64, "container": "wav", "subtype": "PCM_16", "sample_rate": 44100,
            "channels": 2, "frames": 9, "tags": {}, "time_reference": None,
        },
        "excerpt": {"start_s": 0.0, "duration_s": None, "frames": 9},
        "preset": {"name": "p", "separate": {"backend": "nmf"}, "anything": 1},
        "overrides": {},
        "review": {"swap": []},
        "separation": {
            "backend": "nmf", "seed": 0, "device": "auto", "stems": ["bass"], "threads": 2, "from_cache": False,
            "swap": None,
        },
        "stems": {
            "bass": {
                "file": "bass.wav", "dry": None, "from": ["bass"], "restored_gain_db": 0.0, "before": levels,
                "after": levels, "plugins": [{"where": "chain[0]", "name": "Squeeze", "bypassed": "it crashed"}],
                "told": "plays low",
            }
        },
        "residual": {"file": None, **levels},
        "null_test": {"peak_dbfs": None, "lossy": False},
        "diagnoses": [],
        "shared_gain_db": 0.0,
        "warnings": [],
        "seconds": {},
        "machine": {"system": "here", "processors": 2},
        "versions": {},
        "fingerprint": {},
    }  # fmt: skip
    return record.Content.model_validate({**told, **changes})


STAMP = record.Stamp(bytes=1, modified_ns=2, sha256="0" * 64)


def test_a_record_is_written_as_it_is_told_and_reads_the_same() -> None:
    told = record.written(content(), {"bass.wav": STAMP})
    assert list(told)[:2] == ["gbsep", "input"]
    assert list(told)[-2:] == ["files", "checksum"]
    assert told["preset"] == {"name": "p", "separate": {"backend": "nmf"}, "anything": 1}
    assert list(told["separation"]) == ["backend", "seed", "device", "stems", "threads", "from_cache"]
    assert told["stems"]["bass"]["plugins"] == [{"where": "chain[0]", "name": "Squeeze", "bypassed": "it crashed"}]
    read = record.parse("render.json", json.dumps(told).encode())
    del told["checksum"]
    assert read.model_dump(mode="json", by_alias=True, exclude={"schema_version"}) == told


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"null_test": {}}, "null_test.peak_dbfs has no value"),
        ({"excerpt": {"start_s": 0.0, "duration_s": None}}, "excerpt.frames has no value"),
        ({"residual": {"file": "residual.wav", "peak_dbfs": 0.0}}, "'residual.wav' is not among its files"),
    ],
)
def test_a_record_that_lacks_something_is_not_written(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        record.written(content(**changes), {"bass.wav": STAMP})


def test_a_record_of_another_version_is_read_as_far_as_it_is_known() -> None:
    told = record.written(content(), {"bass.wav": STAMP})
    older = {key: value for key, value in told.items() if key not in ("null_test", "machine", "separation", "seconds")}
    assert record.parse("render.json", json.dumps(record.sealed(older)).encode()).separation.backend == ""
    newer = record.sealed({**told, "schema_version": 2, "something": {"new": True}})
    found = record.parse("render.json", json.dumps(newer).encode())
    assert found.schema_version == 2
    assert found.stems["bass"].file == "bass.wav"
