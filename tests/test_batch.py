"""Batches: what becomes of their songs, whatever happens to the processes."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gbsep
from gbsep import batch, rendering
from gbsep.audio import Audio
from gbsep.batch import task
from gbsep.rendering import Options
from gbsep.rendering.separate import turn

from .helpers import hashes, left_behind, posix, write_song

psutil = pytest.importorskip("psutil", reason="needs psutil to see processes")
RATE = 44100


def run(planned: batch.Batch, **options: Any) -> dict[str, gbsep.Outcome]:
    return {Path(outcome.input).name: outcome for outcome in batch.run(planned, **options)}


def command(*words: str | Path, folder: Path) -> tuple[int, str, str]:
    """What the command gives: exit code, stdout, stderr."""
    done = subprocess.run([sys.executable, "-m", "gbsep", *words], cwd=folder, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def test_a_batch_gives_the_bytes_of_single_renders(album: Path, tmp_path: Path) -> None:
    seen: list[batch.Event] = []
    planned = batch.plan([album], ["exp002", "exp002_100"], Options(tmp_path / "out"), jobs=2)
    outcomes = list(batch.run(planned, on_event=seen.append))
    assert {outcome.status for outcome in outcomes} == {"ok"}
    for path in sorted(album.iterdir()):
        for preset in ("exp002", "exp002_100"):
            gbsep.render(path, preset, tmp_path / "single")
    assert hashes(tmp_path / "out") == hashes(tmp_path / "single")
    assert not left_behind(tmp_path / "out")
    for kind in ("started", "finished"):
        assert {event.plan.folder for event in seen if event.kind == kind} == {plan.folder for plan in planned.plans}


def broken(folder: Path) -> None:
    """Five files that are broken in five ways."""
    whole = write_song(folder / "cut.wav").read_bytes()
    (folder / "cut.wav").write_bytes(whole[:-1000])
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_text("this is no audio")
    gbsep.write(folder / "nan.wav", Audio(np.zeros((1, 1000)), RATE))
    content = bytearray((folder / "nan.wav").read_bytes())
    content[-4:] = np.float32("nan").tobytes()
    (folder / "nan.wav").write_bytes(content)
    (folder / "missing.wav").symlink_to(folder / "nowhere.wav")


@posix
def test_forty_songs_of_which_five_are_broken(tmp_path: Path) -> None:
    songs = tmp_path / "songs"
    for number in range(35):
        write_song(songs / f"{number:02}.wav", 0.1)
    broken(songs)
    again = ["render", "songs", "-p", "exp002", "--keep-going", "--jobs", "2"]
    code, out, err = command(*again, folder=tmp_path)
    assert code == 1, err
    told = json.loads((tmp_path / "gbsep-out/batch.json").read_text())
    assert told["counts"] == {"ok": 35, "skipped": 0, "failed": 5}
    failed = {Path(row["input"]).name: row["error"] for row in told["renders"] if row["status"] == "failed"}
    assert set(failed) == {"cut.wav", "empty.wav", "text.wav", "nan.wav", "missing.wav"}
    for name, reason in failed.items():
        assert f"songs/{name}" in reason
        assert reason in err
    assert not left_behind(tmp_path / "gbsep-out")

    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "gbsep-out").rglob("*.wav")}
    code, out, err = command(*again, "--json", folder=tmp_path)
    assert code == 1
    assert [json.loads(line)["status"] for line in out.splitlines()] == ["skipped"] * 35 + ["failed"] * 5
    write_song(songs / "07.wav", 0.1, seed=1)
    code, out, err = command(*again, "--json", folder=tmp_path)
    redone = [row for row in map(json.loads, out.splitlines()) if row["status"] == "ok"]
    assert [(row["input"], row["reason"]) for row in redone] == [("songs/07.wav", "input changed")]
    changed = {path for path, when in written.items() if path.stat().st_mtime_ns != when}
    assert changed == set((tmp_path / "gbsep-out/07/exp002").glob("*.wav"))


@posix
def test_without_keep_going_a_broken_file_refuses_all(tmp_path: Path) -> None:
    write_song(tmp_path / "songs" / "good.wav")
    broken(tmp_path / "songs")
    code, _, err = command("render", "songs", "-p", "exp002", folder=tmp_path)
    assert code == 2
    assert err.count("error") == 4  # that one holds NaN shows only when it is read
    assert not (tmp_path / "gbsep-out").exists()


def is_alive(process: int) -> bool:
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def seen(folder: Path) -> set[Path]:
    """All that is in a folder; nothing when something vanishes while one looks."""
    try:
        return set(folder.rglob("*"))
    except FileNotFoundError:
        return set()


@posix
def test_killed_ten_times_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    """The whole run is killed again and again, a random moment after it has begun to write; then left alone."""
    for number in range(16):
        write_song(tmp_path / "album" / f"{number}.wav", 1.0)
    presets = ["exp002", "exp003"]
    list(batch.run(batch.plan([tmp_path / "album"], presets, Options(tmp_path / "undisturbed"), jobs=2)))
    words = ["render", "album", "-p", presets[0], "-p", presets[1], "--jobs", "2", "-o", "out"]
    out, chance, killed = tmp_path / "out", random.Random(0), 0
    while killed < 10:
        before = seen(out)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen([sys.executable, "-m", "gbsep", *words], cwd=tmp_path, **quiet)
        while process.poll() is None and seen(out) <= before:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.15))
        if process.poll() is not None:  # done before it could be killed: from the start
            shutil.rmtree(out)
            continue
        killed += 1
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        deadline = time.monotonic() + 10
        while any(is_alive(one.pid) for one in family) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not any(is_alive(one.pid) for one in family), "a worker outlives the process that started it"
    assert command(*words, folder=tmp_path)[0] == 0
    assert hashes(out) == hashes(tmp_path / "undisturbed")
    assert not left_behind(out)


def workers() -> list[Any]:
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "gbsep.batch.worker" in " ".join(child.cmdline()):
                found.append(child)
    return found


@posix
def test_a_song_whose_worker_dies_is_tried_once_more(album: Path, tmp_path: Path) -> None:
    """One is killed once, another every time; both are long enough to be in hand when they are."""
    for name in ("2.wav", "5.wav"):
        write_song(album / name, 120.0)
    planned = batch.plan([album], ["exp002"], Options(tmp_path / "out"), jobs=1)
    events: list[tuple[str, str]] = []

    def kill(event: batch.Event) -> None:
        name = event.plan.input.name
        if event.kind == "started" and (name == "5.wav" or (name == "2.wav" and ("started", name) not in events)):
            for worker in workers():
                worker.kill()
        events.append((event.kind, name))

    outcomes = run(planned, on_event=kill)
    assert {name for name, outcome in outcomes.items() if outcome.status != "ok"} == {"5.wav"}
    assert "was ended by signal 9 (Killed), 2 times" in str(outcomes["5.wav"].error)
    assert [name for kind, name in events if kind == "retried"] == ["2.wav", "5.wav"]
    assert not (tmp_path / "out" / "5").exists()
    assert not left_behind(tmp_path / "out")
    assert gbsep.render(album / "2.wav", "exp002", tmp_path / "single").status == "ok"
    assert hashes(tmp_path / "single")["2/exp002/bass.wav"] == hashes(tmp_path / "out")["2/exp002/bass.wav"]


@posix
def test_a_disk_that_fills_up_fails_songs_and_no_more(album: Path, tmp_path: Path) -> None:
    """No process may write a file above 200 kB: more than a short song needs, less than a long one."""
    write_song(album / "long.wav", 2.0)
    script = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))\n"
        "from gbsep.cli import main\nmain(sys.argv[1:])\n"
    )
    words = ["render", "album", "-p", "exp002", "--jobs", "2"]
    done = subprocess.run([sys.executable, "-c", script, *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert len(errors) == 1
    assert "long.wav" in errors[0]
    assert "File too large" in errors[0]
    out = tmp_path / "gbsep-out"
    assert not (out / "long").exists()
    assert not left_behind(out)
    code, printed, _ = command(*words, folder=tmp_path)
    assert code == 0
    assert "1 done, 8 skipped" in printed
    gbsep.render(album / "long.wav", "exp002", tmp_path / "single")
    assert hashes(tmp_path / "single").items() <= hashes(out).items()


@posix
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_finishes_what_is_in_hand_and_twice_does_not(tmp_path: Path, times: int) -> None:
    for number in range(6):
        write_song(tmp_path / "songs" / f"{number}.wav", 20.0)
    words = [sys.executable, "-m", "gbsep", "render", "songs", "-p", "exp002", "--jobs", "1"]
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out = tmp_path / "gbsep-out"
    while not list(out.glob("1/.*.partial")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    family = psutil.Process(process.pid).children()
    process.send_signal(signal.SIGINT)
    assert process.stderr
    while "Ctrl-C again" not in (line := process.stderr.readline()):
        assert line
    if times == 2:
        process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "nothing partial was left" in err
    assert not left_behind(out)
    told = json.loads((out / "batch.json").read_text())
    assert told["interrupted"] is True
    assert told["counts"]["ok"] == len(list(out.rglob("render.json"))) == (2 if times == 1 else 1)
    assert len(told["not_done"]) == 6 - told["counts"]["ok"]
    assert not any(is_alive(one.pid) for one in family)


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("use_cache", [True, False])
def test_presets_that_share_a_separation_separate_once(tmp_path: Path, jobs: int, use_cache: bool) -> None:
    document = gbsep.load_preset("exp003").document
    louder = [{"effect": "Gain", "gain_db": 3.0}]
    chains = {"plain": [], "loud": louder, "louder": 2 * louder}
    presets = [
        {
            **document,
            "name": name,
            "stems": {**document["stems"], "bass": {**document["stems"]["bass"], "chain": chain}},
        }
        for name, chain in chains.items()
    ]
    for name in ("a.wav", "b.wav"):
        write_song(tmp_path / "songs" / name, 0.5)
    options = Options(tmp_path / "out", use_cache=use_cache)
    outcomes = list(batch.run(batch.plan([tmp_path / "songs"], presets, options, jobs=jobs)))
    assert [outcome.status for outcome in outcomes] == ["ok"] * 6
    separated = [outcome.input for outcome in outcomes if not outcome.from_cache]
    assert len(separated) == len(set(separated)) == 2
    for preset in presets:
        for path in (tmp_path / "songs").iterdir():
            gbsep.render(path, preset, tmp_path / "single", use_cache=False)
    assert hashes(tmp_path / "out") == hashes(tmp_path / "single")


def test_a_gpu_serves_one_separation_at_a_time() -> None:
    """Three at once on a GPU wait for each other; on the CPU they meet."""
    inside, most, lock = 0, 0, threading.Lock()

    def separate(device: str, meeting: Any) -> None:
        nonlocal inside, most
        with turn(device):
            with lock:
                inside += 1
                most = max(most, inside)
            meeting()
            with lock:
                inside -= 1

    for device, meeting, at_once in [
        ("cuda", lambda: time.sleep(0.02), 1),
        ("cpu", threading.Barrier(3, timeout=10).wait, 3),
    ]:
        most = 0
        together = [threading.Thread(target=separate, args=(device, meeting)) for _ in range(3)]
        for thread in together:
            thread.start()
        for thread in together:
            thread.join()
        assert most == at_once


def test_an_error_of_our_own_is_an_outcome(album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (plan,) = batch.plan([album / "1.wav"], ["exp002"], Options(tmp_path / "out")).plans

    def wrong(*arguments: Any) -> None:
        raise TypeError("something is not what it should be")

    monkeypatch.setattr(rendering, "run", wrong)
    done = task.perform(task.task_of(plan, None), lambda stage, fraction: None, {})
    assert done.status == "failed"
    reason = "unexpected TypeError: something is not what it should be; please report it, with what --debug shows"
    assert done.error == reason
    assert "def wrong" in done.traceback or "in wrong" in done.traceback


def test_a_dry_run_says_what_and_how_long_and_writes_nothing(typed: Any, album: Path) -> None:
    code, out, err = typed("render", "album", "-p", "exp002", "--dry-run", "--jobs", "2")
    assert code == 0, err
    assert out.count("render album/") == 8
    assert "about 0 s, 2 at a time: an estimate from typical speeds" in out
    assert not Path("gbsep-out").exists()


def test_a_failed_song_stands_in_the_table_with_its_reason(typed: Any, album: Path) -> None:
    code, out, err = typed("render", "album/1.wav", "missing.wav", "none*.wav", "-p", "exp002", "--keep-going")
    assert code == 1
    assert "error: missing.wav: no such file; check the name" in err
    assert "error: none*.wav: nothing matches; check the pattern" in err
    assert "3 songs, 3 renders: 1 done, 2 failed" in out
    assert "in gbsep-out; gbsep report gbsep-out shows all of it" in out


def test_one_render_alone_has_no_report(typed: Any, album: Path) -> None:
    assert typed("render", "album/1.wav", "-p", "exp002")[0] == 0
    assert {path.name for path in Path("gbsep-out").iterdir()} == {"1"}
    assert typed("render", "album/1.wav", "-p", "exp002", "-p", "exp002_100")[0] == 0
    assert {path.name for path in Path("gbsep-out").iterdir()} == {"1", "batch.json"}


@pytest.mark.parametrize("name", ["b\0.wav", "\ud800.wav"])
def test_a_row_that_no_file_can_have_does_not_make_the_report_a_strangers(typed: Any, album: Path, name: str) -> None:
    rows = [json.dumps({"input": "album/1.wav"}), json.dumps({"input": name})]
    Path("m.jsonl").write_text("\n".join(rows) + "\n")
    for told in ("1 done, 1 failed", "0 done, 1 skipped, 1 failed"):
        code, out, err = typed("render", "m.jsonl", "-p", "exp002", "--keep-going")
        assert (code, told in out) == (1, True), out + err


def test_a_batch_json_of_somebody_else_stays(typed: Any, album: Path) -> None:
    Path("gbsep-out").mkdir()
    Path("gbsep-out/batch.json").write_text("{}")
    code, _, err = typed("render", "album", "-p", "exp002")
    assert code == 2
    assert "batch.json: was not written by gbsep" in err
    assert Path("gbsep-out/batch.json").read_text() == "{}"
    assert len(list(Path("gbsep-out").iterdir())) == 1


def test_many_songs_get_a_row_each(typed: Any, album: Path) -> None:
    presets: Iterable[str] = [word for number in (100, 200, 300) for word in ("-p", f"exp002_{number}")]
    code, out, err = typed("render", "album", *presets, "--jobs", "2")
    assert code == 0, err
    assert "8 songs, 24 renders: 24 done" in out
    assert sorted(line.split(":")[0] for line in err.splitlines() if "exp002_300" in line) == list("01234567")
