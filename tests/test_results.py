"""What a batch says: while it runs, when Ctrl-C is pressed, and at its end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import gbsep
from gbsep.audio import Audio
from gbsep.batch import Event
from gbsep.cli import progress, results
from gbsep.rendering import Outcome
from gbsep.shelf.record import FindingRow

from .helpers import exit_code

RATE = 22050


@pytest.fixture
def album(tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "album").mkdir()
    for name in ("a", "b", "c"):
        gbsep.write(tmp_path / "album" / f"{name}.wav", Audio(0.1 * rng.standard_normal((2, RATE)), RATE))
    return tmp_path / "album"


def finding(kind: str, stem: str = "bass", start_s: float = 0.0, severity: str = "warning") -> FindingRow:
    return FindingRow(kind=kind, stem=stem, start_s=start_s, end_s=start_s + 2, severity=severity, message="it is so")


def outcome(track: str, status: str = "ok", **facts: Any) -> Outcome:
    return Outcome(Path(f"{track}.wav"), "default", status, track, **{"seconds": {"separate": 1.0}, **facts})


def test_a_batch_says_a_line_a_song_and_the_sum(album: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (album / "notes.txt").write_text("no song")
    (album / "broken.wav").write_text("no audio")
    assert exit_code("render", "album", "-p", "exp002", "-p", "exp002_100", "--keep-going") == 1
    said = capsys.readouterr()
    songs = [line for line in said.err.splitlines() if re.match(r"[abc]: ", line)]
    assert len(songs) == 3
    assert all(re.search(r"exp002 [\d.]+ s, exp002_100 [\d.]+ s.* \(\d of 3.*\)", line) for line in songs)
    assert "skipped, not audio files: album/notes.txt" in said.err
    first, *rest = said.out.splitlines()
    assert re.fullmatch(r"4 songs, 8 renders: 6 done, 2 failed; \d+ s", first)
    assert any(line.startswith("in gbsep-out; gbsep report gbsep-out") for line in rest)
    assert len(rest) <= 4
    assert "album/a" not in said.out
    assert exit_code("render", "album", "-p", "exp002", "--keep-going", "--paths") == 1
    said = capsys.readouterr()
    assert [line for line in said.err.splitlines() if re.match(r"[abc]: ", line)] == []
    assert said.out.splitlines()[:3] == [f"gbsep-out/{name}/exp002" for name in "abc"]
    assert re.search(r"0 done, 3 skipped, 1 failed", said.out)


def test_quiet_says_what_is_wrong_alone(album: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("render", "album", "-p", "exp002", "-q") == 0
    assert capsys.readouterr() == ("", "")
    (album / "broken.wav").write_text("no audio")
    assert exit_code("render", "album", "-p", "exp002", "-q") == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: album/broken.wav")
    assert len(said.err.splitlines()) == 1


def test_findings_are_told_in_a_word_each_and_where(capsys: pytest.CaptureFixture[str]) -> None:
    found = (
        finding("bleeding", start_s=72.5), finding("bleeding", start_s=12.0), finding("level_lost", start_s=3.0),
        finding("clipping"), finding("swapped", start_s=90.0, severity="error"), finding("silent"),
        finding("residual_loud", "residual", 8.0),
    )  # fmt: skip
    levels = record_stems()
    one = outcome("song", folder=Path("out/song/default"), findings=found, levels=levels)
    results.print_outcomes([one], as_json=False)
    said = capsys.readouterr().out
    assert "swapped 1:30, clipping 0:00, silent 0:00, 2 other" in said
    assert "residual loud 0:08" in said
    assert "gbsep diagnose out/song/default" in said
    bleeding = outcome("song", folder=Path("out"), findings=found[:3], levels=levels)
    results.print_outcomes([bleeding], as_json=False)
    assert "level lost 0:03, bleeding 0:12 and 1 more" in capsys.readouterr().out


def record_stems() -> Any:
    levels = SimpleNamespace(peak_dbfs=-6.0, rms_dbfs=-20.0, loudness_lufs=-18.0)
    return {"bass": SimpleNamespace(restored_gain_db=0.0, after=levels)}


def test_the_sum_names_few_songs_and_counts_many(capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = [outcome(f"s{n}", findings=(finding("bleeding"),) if n < 5 else ()) for n in range(8)]
    outcomes += [outcome("t", findings=(finding("silent"),)), outcome("u", "failed", error="no audio")]
    results.print_summary(outcomes, ["u", "v", "v"], 75.0, "out", 2)
    assert capsys.readouterr().out.splitlines() == [
        "11 songs, 13 renders: 9 done, 1 failed, 3 not done; 75 s",
        "found: bleeding in 5 songs; silent in t",
        "in out; gbsep report out shows all of it",
        "2 unreviewed; gbsep review out opens them",
    ]


def test_a_batch_that_was_ended_at_once_names_no_page(capsys: pytest.CaptureFixture[str]) -> None:
    results.print_summary([], ["u", "v"], 3.0, "out", 0)
    assert capsys.readouterr().out == "2 songs, 2 renders: 0 done, 2 not done; 3 s\n"


def test_a_folder_with_a_blank_is_quoted_as_it_is_typed(capsys: pytest.CaptureFixture[str]) -> None:
    results.print_summary([outcome("s")], [], 3.0, "my stems", 1)
    assert 'gbsep report "my stems" shows' in (told := capsys.readouterr().out)
    assert 'gbsep review "my stems" opens it' in told


def test_what_is_the_same_of_many_songs_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    results.print_outcomes([outcome(f"s{n}", warnings=("it is mono",)) for n in range(5)], as_json=False)
    assert capsys.readouterr().err == "s0.wav: warning: it is mono (the same with 4 more)\n"


def plan(track: str, seconds: float) -> Any:
    reader = SimpleNamespace(frames=round(seconds * RATE), sample_rate=RATE)
    preset = SimpleNamespace(backend="compact")
    return SimpleNamespace(
        track=track, label="default", folder=Path(track), action="render", reader=reader, preset=preset
    )


def test_the_time_left_follows_from_work_and_not_from_files(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    plans = [plan("long", 900.0), *(plan(f"short{n}", 25.0) for n in range(4))]
    batch: Any = SimpleNamespace(plans=plans)
    show = progress.Show(batch, {one.folder: one.reader.frames / RATE for one in plans})
    assert show.left == ""
    now[0] += 90.0
    show(Event("started", plans[0]))
    show(Event("finished", plans[0], outcome=outcome("long")))
    assert show.share == pytest.approx(0.9)
    assert show.left == "about 10 s left"
    show(Event("started", plans[1]))
    show(Event("progress", plans[1], "process", 1.0))
    assert show.share == pytest.approx(0.925)


def test_ctrl_c_answers_at_once_with_what_is_being_finished(capsys: pytest.CaptureFixture[str]) -> None:
    plans = [plan("one", 10.0), plan("two", 10.0), plan("three", 10.0)]
    batch: Any = SimpleNamespace(plans=plans)
    show = progress.Show(batch, {one.folder: 1.0 for one in plans})
    show(Event("started", plans[0]))
    show(Event("started", plans[1]))
    with progress.two_stops(show) as stop:
        signal.raise_signal(signal.SIGINT)
        said = capsys.readouterr().err
        assert stop.is_set()
        assert said.startswith(
            "finishing one default, two default; Ctrl-C again stops at once; the same command goes on"
        )
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert threading.current_thread() is threading.main_thread()


@pytest.mark.skipif(os.name == "nt", reason="interrupts a process the POSIX way")
def test_a_batch_that_was_interrupted_goes_on(tmp_path: Path, rng: np.random.Generator) -> None:
    (tmp_path / "album").mkdir()
    for number in range(4):
        audio = Audio(0.1 * rng.standard_normal((2, 20 * RATE)), RATE)
        gbsep.write(tmp_path / "album" / f"{number}.wav", audio)
    words = [sys.executable, "-m", "gbsep", "render", "album", "-p", "default", "--jobs", "1", "--no-cache"]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        while not process.stderr.readline().startswith("0: "):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert process.returncode == 130
    assert re.search(r"finishing .* default; Ctrl-C again stops at once; the same command goes on", err)
    assert re.search(r"4 songs, 4 renders: .* not done; ", out)
    assert "the same command does the rest" in err.splitlines()[-1]
    told = json.loads((tmp_path / "gbsep-out" / "batch.json").read_text())
    assert told["interrupted"]
    assert told["not_done"]
