"""Disks that fill, folders for temporary files that are none, and work that is ended between two steps of the disk."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gbsep
from gbsep import batch, rendering
from gbsep.audio import Audio
from gbsep.errors import AudioFileError, OutputError
from gbsep.io.formats import OutputFormat
from gbsep.io.spool import Spool
from gbsep.rendering import Options
from gbsep.rendering.separate import loading_meters
from gbsep.separation import compute
from gbsep.shelf import folder as outputs

ROOT = Path(__file__).parents[1]


@pytest.fixture
def song(tmp_path: Path, rng: np.random.Generator) -> Path:
    path = tmp_path / "song.wav"
    gbsep.write(path, Audio(0.1 * rng.standard_normal((2, 88200)), 44100))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in sorted(folder.rglob("*"))}


def squeezed(folder: Path, *words: str, limit_bytes: int = 200_000, **env: str) -> subprocess.CompletedProcess[str]:
    """Run gbsep where no file may grow beyond a limit: to those who write it is a disk that is full."""
    resource = pytest.importorskip("resource")

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    env = {**os.environ, "PYTHONPATH": str(ROOT), **env}
    command = [sys.executable, "-m", "gbsep", *words]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, preexec_fn=limit)


@pytest.mark.parametrize("format_", ["wav", "flac", "mp3", "m4a", "ogg", "opus"])
@pytest.mark.parametrize("command", ["render", "chain"])
def test_a_disk_that_fills_leaves_what_was_finished(song: Path, command: str, format_: str) -> None:
    out = song.parent / "out"
    if command == "render":
        words = ["render", "song.wav", "-p", "exp002", "-o", "out", "--format", format_]
    else:
        out.mkdir()
        words = ["chain", "song.wav", "-p", "exp002", "--stem", "bass", "-o", f"out/bass.{format_}"]
    assert squeezed(song.parent, *words, limit_bytes=2**40).returncode == 0
    before = contents(out)
    done = squeezed(song.parent, *words, "--overwrite")
    assert done.returncode in (1, 2)
    assert done.stderr.count("error: ") == 1
    assert "cannot be written" in done.stderr
    assert "free some space" in done.stderr
    assert "Traceback" not in done.stderr
    assert ".partial" not in done.stderr, "a name that is gone by now"
    assert contents(out) == before


def test_a_batch_on_a_disk_that_fills_names_each_song(song: Path, rng: np.random.Generator) -> None:
    """A song that still fits is rendered."""
    gbsep.write(song.with_name("long.wav"), Audio(0.1 * rng.standard_normal((2, 441000)), 44100))
    words = ["render", "song.wav", "long.wav", "-p", "exp002", "-o", "out", "--jobs", "2"]
    done = squeezed(song.parent, *words, limit_bytes=1_000_000)
    assert done.returncode == 1
    assert done.stderr.count("error: ") == 1
    assert "error: long.wav: " in done.stderr
    assert "Traceback" not in done.stderr
    folders = sorted(path.name for path in (song.parent / "out").iterdir())
    assert folders == ["batch.json", "song"]


@pytest.mark.parametrize("suffix", ["mp3", "m4a"])
def test_temporary_files_without_room_are_told(song: Path, suffix: str) -> None:
    if suffix == "m4a":
        av = pytest.importorskip("av")
        with av.open(str(song.with_suffix(".m4a")), "w") as container:
            stream = container.add_stream("aac", rate=44100)
            sound = np.zeros((1, 88200), np.float32)
            frame = av.AudioFrame.from_ndarray(sound, format="fltp", layout="mono")
            frame.sample_rate = 44100
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    else:
        gbsep.write(song.with_suffix(".mp3"), gbsep.read(song), OutputFormat("mp3"))
    temporary = song.parent / "temporary"
    temporary.mkdir()
    done = squeezed(song.parent, "render", f"song.{suffix}", "-p", "exp002", limit_bytes=10_000, TMPDIR=str(temporary))
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: song.{suffix}: {temporary}{os.sep}gbsep: cannot be written: File too large")
    assert "set TMPDIR to another folder" in done.stderr
    assert done.stderr.count("\n") == 1, "one line, and nothing of files that could not be closed"
    assert not list(temporary.iterdir())


@pytest.fixture
def no_temporary(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr(tempfile, "gettempdir", none)


def test_where_no_temporary_file_can_be_made_that_is_told(song: Path, no_temporary: None) -> None:
    with pytest.raises(AudioFileError, match="no temporary file can be made: No usable.*; set TMPDIR"):
        Spool(["bass"], 44100, 1)
    gbsep.write(song.with_name("other.wav"), Audio(np.zeros((1, 441)), 44100))
    planned = batch.plan([song, song.with_name("other.wav")], ["exp002"], Options(song.parent / "out"), jobs=2)
    with pytest.raises(AudioFileError, match="set TMPDIR"):
        list(batch.run(planned))


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt()])
@pytest.mark.parametrize("moved", [1, 2])
def test_a_move_that_is_cut_short_is_completed(
    song: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, error: BaseException, moved: int
) -> None:
    """Neither the old render nor the new one is lost, and no half of either is taken for somebody else's."""
    out = song.parent / "out"
    gbsep.render(song, "exp002", out)
    gbsep.write(song, Audio(0.1 * rng.standard_normal((2, 88200)), 44100))
    expected = gbsep.render(song, "exp002", song.parent / "whole").files
    moves = 0

    def replace(path: Path, target: Path) -> Path:
        nonlocal moves
        if target.parent.name == "exp002" and target.parent.parent.parent == out:
            moves += 1
            if moves > moved:
                raise error
        return real(path, target)

    real = Path.replace
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", replace)
        with pytest.raises((OutputError, KeyboardInterrupt)):
            gbsep.render(song, "exp002", out)
    again = gbsep.render(song, "exp002", out)
    assert again.status == "skipped"
    assert {name: Path(path).read_bytes() for name, path in again.files.items()} == {
        name: Path(path).read_bytes() for name, path in expected.items()
    }
    assert [path.name for path in (out / "song").iterdir()] == ["exp002"], "nothing is left beside it"


def test_an_interrupt_while_a_staging_folder_is_made_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mkdir(path: Path, *arguments: Any, **named: Any) -> None:
        real(path, *arguments, **named)
        if path.name.endswith(".partial"):
            raise KeyboardInterrupt

    real = Path.mkdir
    monkeypatch.setattr(Path, "mkdir", mkdir)
    with pytest.raises(KeyboardInterrupt), outputs.staging(tmp_path / "out" / "song" / "exp002"):
        raise AssertionError("not reached")
    assert not list(tmp_path.iterdir())


def test_names_of_dots_beside_a_render(song: Path) -> None:
    """Python's paths disagree from version to version on what the suffix of such names is."""
    place = song.parent / "out" / "song"
    place.mkdir(parents=True)
    for name in ("..lock", "...", ".lock", "a.", "..x"):
        (place / name).touch()
    assert gbsep.render(song, "exp002", song.parent / "out").status == "ok"
    assert len(list(place.iterdir())) == 6
    assert [rendering.without_suffix(Path("a") / name).name for name in ("..wav", "...wav", ".wav", "a.wav")] == [
        "..wav", "...wav", ".wav", "a",
    ]  # fmt: skip


def test_libraries_are_looked_through_before_a_thread_loads_any(monkeypatch: pytest.MonkeyPatch) -> None:
    """Side by side, the two would wait for each other without an end: with SciPy 1.11, at every first render."""
    looked: list[int] = []
    monkeypatch.setattr(importlib, "import_module", lambda name: looked.append(compute.find_blas.cache_info().currsize))
    compute.find_blas.cache_clear()
    told: Callable[[float], None] = loading_meters(lambda fraction: None)
    told(0.1)
    while not looked:
        pass
    assert looked == [1]
