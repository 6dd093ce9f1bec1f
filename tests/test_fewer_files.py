"""Renders of fewer files: single stems, no residual, a residual that is silent; what reads renders holds with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gbsep
from gbsep.audio import Audio
from gbsep.errors import ParameterError
from gbsep.rendering.remarks import SILENT_RESIDUAL, SILENT_RESIDUAL_DBFS
from gbsep.report import collect, write_report
from gbsep.session.write import write_sessions
from gbsep.shelf import record

from .helpers import exit_code

RATE = 22050


@pytest.fixture
def song(tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    gbsep.write(tmp_path / "song.wav", Audio(0.1 * rng.standard_normal((2, 2 * RATE)), RATE))
    return tmp_path / "song.wav"


def files(folder: str) -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


def causal(**keys: Any) -> dict[str, Any]:
    """A preset whose residual is loud, for a guitar of half the level leaves some."""
    restore = {"method": "peak", "dbfs": -30.0}
    return {"name": "loud", "extends": "exp002", "stems": {"guitar": {"restore": restore, **keys}}}


def test_a_silent_residual_is_said_and_not_written(song: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("render", "song.wav", "-p", "default", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told["files"]) == {"bass", "guitar"}
    assert told["notes"] == [SILENT_RESIDUAL]
    found = record.load(Path("gbsep-out/song/default"))
    assert found.residual.file is None
    assert found.residual.peak_dbfs is None or found.residual.peak_dbfs < SILENT_RESIDUAL_DBFS
    assert found.notes == (SILENT_RESIDUAL,)
    mixture, bass, guitar = (
        gbsep.read(path).samples for path in ("song.wav", "gbsep-out/song/default/bass.wav",
                                              "gbsep-out/song/default/guitar.wav")
    )  # fmt: skip
    assert np.abs(mixture - bass - guitar).max() < 10 ** (SILENT_RESIDUAL_DBFS / 20)
    assert exit_code("render", "song.wav", "-p", "default", "--json") == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["status"], set(again["files"])) == ("skipped", {"bass", "guitar"})


def test_a_loud_residual_is_written_and_goes_when_it_is_silent(song: Path) -> None:
    outcome = gbsep.render(song, {**causal(), "name": "one"})
    assert set(outcome.files) == {"bass", "guitar", "residual"}
    assert outcome.notes == ()
    loud = gbsep.read(outcome.files["residual"]).samples
    sum_of_all = sum(gbsep.read(path).samples for path in outcome.files.values())
    np.testing.assert_allclose(sum_of_all, gbsep.read(song).samples, atol=1e-6)
    assert np.abs(loud).max() > 0.001
    quiet = {"name": "one", "extends": "exp002"}
    after = gbsep.render(song, quiet)
    assert set(after.files) == {"bass", "guitar"}
    assert files("gbsep-out/song/one") == {"bass.wav", "guitar.wav", "render.json"}
    assert gbsep.render(song, quiet).status == "skipped"


def test_one_stem_lands_in_a_folder_of_its_own(song: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("render", "song.wav", "-p", "exp002") == 0
    before = files("gbsep-out/song/exp002")
    assert exit_code("render", "song.wav", "-p", "exp002", "--stem", "bass") == 0
    assert files("gbsep-out/song/exp002@bass") == {"bass.wav", "render.json"}
    assert files("gbsep-out/song/exp002") == before
    same = [Path(f"gbsep-out/song/{folder}/bass.wav").read_bytes() for folder in ("exp002", "exp002@bass")]
    assert same[0] == same[1]
    capsys.readouterr()
    assert exit_code("render", "song.wav", "-p", "exp002", "--stem", "bass", "--json") == 0
    assert json.loads(capsys.readouterr().out)["status"] == "skipped"
    assert exit_code("render", "song.wav", "-p", "exp002", "--stem", "base") == 2
    assert "did you mean 'bass'?" in capsys.readouterr().err
    with pytest.raises(ParameterError, match="no such stem"):
        gbsep.render(song, "exp002", stems=("drums",))
    with pytest.raises(TypeError):
        gbsep.render(song, "exp002", stems="bass")


def test_no_residual_and_dry_stems(song: Path) -> None:
    assert exit_code("render", "song.wav", "-p", "exp002", "--no-residual") == 0
    assert files("gbsep-out/song/exp002") == {"bass.wav", "guitar.wav", "render.json"}
    assert record.load(Path("gbsep-out/song/exp002")).notes == ()
    assert exit_code("render", "song.wav", "-p", "exp002", "--stem", "guitar", "--dry-stems") == 0
    assert files("gbsep-out/song/exp002@guitar") == {"guitar.wav", "guitar.dry.wav", "render.json"}


def test_reports_reviews_and_projects_hold_with_fewer_files(song: Path, tmp_path: Path) -> None:
    gbsep.render(song, "exp002", stems=("bass",))
    gbsep.render(song, "default")
    gbsep.render(song, causal())
    (found,) = collect(tmp_path / "gbsep-out")
    sounds = {render.preset: [source.name for source in render.sources] for render in found.renders}
    assert sounds["exp002@bass"] == ["bass"]
    assert sounds["default"] == ["bass", "guitar"]
    assert sounds["loud"] == ["bass", "guitar", "residual"]
    assert SILENT_RESIDUAL in next(render for render in found.renders if render.preset == "default").remarks
    assert all(
        finding.stem != "guitar" for finding in found.renders[1].findings if found.renders[1].preset == "exp002@bass"
    )
    assert write_report(tmp_path / "report.html", "all", [found])
    (project,) = write_sessions(tmp_path / "gbsep-out")
    assert project.session is not None
    text = project.path.read_text()
    assert "exp002@bass" in text
    assert "default/residual.wav" not in text
