"""Lists and figures for other programs: JSON, CSV, totals over songs; the Python face; the doctor's verdict."""

from __future__ import annotations

import csv
import inspect
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest

import gbsep
from gbsep.audio import Audio
from gbsep.cli.doctor import verdict
from gbsep.doctor import Check
from gbsep.measure.figures import SCORES

from .helpers import exit_code

RATE = 22050


@pytest.fixture
def songs(tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three songs with a folder of true stems each, rendered."""
    monkeypatch.chdir(tmp_path)
    time_s = np.arange(4 * RATE) / RATE
    for number, name in enumerate(("one", "two", "three")):
        bass = 0.2 * np.sin(2 * np.pi * (50 + 5 * number) * time_s)
        guitar = 0.1 * np.sin(2 * np.pi * 700 * time_s) + 0.02 * rng.standard_normal(time_s.size)
        (tmp_path / "true" / name).mkdir(parents=True)
        for stem, samples in (("bass", bass), ("guitar", guitar)):
            gbsep.write(tmp_path / "true" / name / f"{stem}.wav", Audio(np.stack([samples] * 2), RATE))
        gbsep.write(tmp_path / f"{name}.wav", Audio(np.stack([bass + guitar] * 2), RATE))
        gbsep.render(tmp_path / f"{name}.wav", "exp002")
    return tmp_path


def test_each_song_is_measured_against_its_own_and_all_together(
    songs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code("evaluate", "gbsep-out", "--reference", "true", "--csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 6
    assert set(rows[0]) == {"render", "stem", *SCORES}
    sdr = [float(row["sdr"]) for row in rows if row["stem"] == "bass"]
    assert min(sdr) > 15
    assert exit_code("evaluate", "gbsep-out", "--reference", "true") == 0
    text = capsys.readouterr().out
    (total,) = re.findall(r"3 songs, exp002 +bass +(\S+) \((\S+) to (\S+)\)", text)
    lower, middle, upper = np.quantile(sdr, [0.25, 0.5, 0.75])
    assert [float(value) for value in total] == pytest.approx([middle, lower, upper], abs=0.01)
    assert exit_code("evaluate", "gbsep-out/one/exp002", "--reference", "true/one") == 0
    assert "songs" not in capsys.readouterr().out


def test_a_render_without_the_true_stems_does_not_hide_the_others(
    songs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gbsep.render(songs / "one.wav", "minus_bass")
    for more in ([], ["--notes"]):
        assert exit_code("evaluate", "gbsep-out/one", "--reference", "true", *more) == 0
        told = capsys.readouterr()
        assert "exp002" in told.out
        assert re.fullmatch(r"gbsep-out.one.minus_bass: has .*minus_bass.*; not measured\n", told.err)
    assert exit_code("evaluate", "gbsep-out/one/minus_bass", "--reference", "true/one") == 2
    assert "stems are paired by name" in capsys.readouterr().err


def test_the_python_face_measures_and_diagnoses(songs: Path) -> None:
    scores = gbsep.evaluate(songs / "gbsep-out/one/exp002", songs / "true/one")
    assert scores["bass"].sdr is not None
    assert scores["bass"].sdr > 15
    assert isinstance(gbsep.diagnose(songs / "gbsep-out/one/exp002"), tuple)
    assert isinstance(gbsep.load_preset("default"), gbsep.Preset)
    assert gbsep.Options(Path("x")).start_s == 0.0
    assert {"evaluate", "diagnose", "Preset", "Options"} <= set(dir(gbsep))
    assert all(inspect.getdoc(getattr(gbsep, name)) for name in gbsep.__all__ if name != "__version__")


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (("presets", "list"), {"name", "title", "stems", "backend", "own"}),
        (("effects", "list"), {"name", "summary", "parameters", "example"}),
        (("models", "list"), {"model", "backend", "stems", "weights", "licence"}),
        (("cache", "info"), {"folder", "separations", "spectrograms", "previews", "copies", "limit_bytes"}),
    ],
)
def test_every_list_is_there_as_json(
    words: tuple[str, ...], keys: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(*words, "--json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows
    assert all(keys <= set(row) for row in rows)


def test_the_doctor_says_the_verdict_first() -> None:
    fine, spare = Check("Python", "ok", "3.11"), Check("av", "missing", "not installed", "pip install av")
    broken = Check("disk", "problem", "full", "make room")
    assert verdict([fine]) == "All is well: gbsep can render."
    assert verdict([fine, spare]).endswith("not needed by the default preset: av.")
    model = Check("umx", "missing", "weights not here", "gbsep models get umx")
    assert verdict([fine, spare, model, model]).endswith("by the default preset: av, the weights of 2 models.")
    assert verdict([fine, spare, broken]) == "1 thing to mend first. disk: make room"
