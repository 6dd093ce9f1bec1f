"""A new backend is a module and a row: all that lists, plans, renders, keeps or shows stems knows it from there."""

from __future__ import annotations

import base64
import json
import re
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

import gbsep
from gbsep.audio import Audio
from gbsep.separation.backend import BACKENDS, Backend

MODULE = '''
"""A share of the mixture is the bass, the rest the guitar."""

from pydantic import Field

from gbsep.models.find import Files
from gbsep.separation.settings import BackendSettings
from gbsep.separation.weights import find_for


class Settings(BackendSettings):
    share: float = Field(0.25, ge=0, le=1, description="of the bass in the mixture")
    model: str = "scales"


def stem_names(settings, models_dir=None):
    return ("bass", "guitar")


def identity(settings, context):
    return {"engine": "toy", "weights": find_for(context, settings.model, "toy").hashes}


def run(reader, settings, context):
    scale = float(find_for(context, settings.model, "toy").files[0].read_text())
    for block in reader.blocks():
        bass = block * block.dtype.type(settings.share * scale)
        yield {name: {"bass": bass, "guitar": block - bass}[name] for name in context.wanted}
    context.progress(1.0)


def find_files(folder, name):
    path = folder / f"{name}.toy"
    return Files((path,)) if path.is_file() else Files(missing=path.name)


def own_models(places):
    return {path.stem for place in places for path in place.glob("*.toy")}
'''

ROW = Backend("toy", "toy_backend", "a share of the mixture", real_time_factor=0.5, weights="toy_backend")

PRESET = {
    "schema_version": 1,
    "name": "toy1",
    "title": "A share for the bass",
    "separate": {"backend": "toy", "share": 0.5},
    "stems": {"bass": {"from": ["bass"]}, "guitar": {"from": ["guitar"]}},
}


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> Path:
    """The row in the table, its module, weights and preset in their folders, and a song; returns the song."""
    for folder in ("modules", "models", "config/presets"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "modules/toy_backend.py").write_text(MODULE)
    (tmp_path / "models/scales.toy").write_text("0.5")
    (tmp_path / "config/presets/toy1.json").write_text(json.dumps(PRESET))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    monkeypatch.delitem(sys.modules, "toy_backend", raising=False)
    monkeypatch.setitem(BACKENDS, "toy", ROW)
    monkeypatch.setenv("GBSEP_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("GBSEP_CONFIG", str(tmp_path / "config"))
    song = tmp_path / "song.wav"
    gbsep.write(song, Audio(0.1 * rng.standard_normal((2, 88200)), 44100))
    return song


def test_it_is_listed_described_and_checked(toy: Path, typed: Any) -> None:
    code, listed, _ = typed("presets", "list")
    assert code == 0
    (row,) = [line.split() for line in listed.splitlines() if line.split()[:1] == ["toy1"]]
    assert row == ["toy1", "bass,", "guitar", "toy", *PRESET["title"].split()]
    code, schema, _ = typed("presets", "schema")
    assert code == 0
    jsonschema.validate(PRESET, json.loads(schema))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**PRESET, "separate": {"backend": "toy", "share": 2}}, json.loads(schema))
    assert typed("presets", "validate", "toy1")[0] == 0
    code, _, complaint = typed("render", "song.wav", "-p", "toy1", "--set", "separate.shar=1")
    assert code == 2
    assert "did you mean 'share'" in complaint


def test_its_weights_are_found_listed_and_guarded(toy: Path, typed: Any) -> None:
    code, listed, _ = typed("models", "list")
    assert code == 0
    assert ["scales", "toy", "bass,", "guitar"] in [line.split()[:4] for line in listed.splitlines()]
    assert typed("models", "path", "scales")[1].strip().endswith("scales.toy")
    (toy.parent / "models/scales.toy").write_text("0.75")
    code, _, complaint = typed("render", "song.wav", "-p", "toy1")
    assert code == 2
    assert "gbsep models verify scales" in complaint


def test_a_dry_run_says_how_long_it_will_take(toy: Path, typed: Any) -> None:
    code, said, _ = typed("render", "song.wav", "-p", "toy1", "--dry-run")
    assert code == 0, said
    assert "about 1 s" in " ".join(said.split())


def test_it_renders_keeps_its_stems_and_is_reported(toy: Path, typed: Any) -> None:
    code, printed, complaint = typed("render", "song.wav", "-p", "toy1", "--json")
    assert code == 0, complaint
    assert json.loads(printed)["from_cache"] is False
    out = toy.parent / "gbsep-out/song/toy1"
    mixture = gbsep.read(toy).samples
    np.testing.assert_allclose(gbsep.read(out / "bass.wav").samples, mixture / 4, atol=1e-6)
    np.testing.assert_allclose(gbsep.read(out / "guitar.wav").samples, mixture * 0.75, atol=1e-6)
    record = json.loads((out / "render.json").read_text())
    assert record["separation"]["backend"] == "toy"
    assert list(record["separation"]["weights"]) == ["scales.toy"]
    code, printed, _ = typed("render", "song.wav", "-p", "toy1", "--json", "--set", "stems.bass.chain=[]")
    assert code == 0
    assert json.loads(printed)["from_cache"] is True
    assert typed("report", "gbsep-out")[0] == 0
    page = next((toy.parent / "gbsep-out").rglob("*.html")).read_text()
    model = json.loads(base64.b64decode(re.findall(r'data-asset="0">([^<]*)<', page)[0]))
    assert {render["name"] for render in model["renders"]} == {"toy1", "toy1@chain=[]"}
    assert typed("log", "gbsep-out")[0] == 0
    assert "toy" in (toy.parent / "gbsep-out/experiment-log.md").read_text()
