"""Streams, folders, limits and signals as they come: the command says so in one line and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gbsep
from gbsep.audio import Audio
from gbsep.errors import FolderUnknown
from gbsep.store import folders

ROOT = Path(__file__).parents[1]
GBSEP = [sys.executable, "-m", "gbsep"]

posix = pytest.mark.skipif(os.name != "posix", reason="signals, limits and devices of Unix")


@pytest.fixture
def song(tmp_path: Path, rng: np.random.Generator) -> Path:
    path = tmp_path / "노래.wav"
    gbsep.write(path, Audio(0.1 * rng.standard_normal((2, 22050)), 44100))
    return path


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run gbsep in a process of its own, in the folder of the song."""

    def call(*words: str, without: tuple[str, ...] = (), **more: Any) -> subprocess.CompletedProcess[str]:
        given = more.pop("env", {})
        env = {name: value for name, value in os.environ.items() if name not in without}
        env |= {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", **given}
        more = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | more
        return subprocess.run([*GBSEP, *words], cwd=tmp_path, env=env, text=True, encoding="utf-8", **more)

    return call


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "cp437"])
def test_output_in_any_code_page(run: Any, song: Path, encoding: str) -> None:
    env = {"PYTHONIOENCODING": encoding}
    done = run("render", song.name, "-p", "exp002", "-o", "out", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\ub178\\ub798" in done.stdout
    again = run("render", song.name, "-p", "exp002", "-o", "out", "--json", env=env)
    assert json.loads(again.stdout)["input"] == song.name


@posix
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_stdout_is_told_and_the_work_is_done(run: Any, song: Path, unbuffered: str) -> None:
    with open("/dev/full", "w") as full:
        done = run("render", song.name, "-p", "exp002", stdout=full, env={"PYTHONUNBUFFERED": unbuffered})
    assert done.returncode == 1
    assert done.stderr.startswith("error: the results cannot be printed: No space left on device")
    assert done.stderr.count("\n") == 1
    assert (song.parent / "gbsep-out" / "노래" / "exp002" / "render.json").is_file()


@posix
def test_a_full_stderr_does_not_end_a_batch(run: Any, song: Path) -> None:
    with open("/dev/full", "w") as full:
        done = run("render", song.name, "-p", "exp002", "-p", "exp002_100", "--overwrite", stderr=full)
    assert done.returncode == 0
    assert (song.parent / "gbsep-out" / "batch.json").is_file()


@posix
def test_streams_that_are_closed_are_mute(tmp_path: Path) -> None:
    for closed in (">&-", "2>&-", ">&- 2>&- <&-"):
        command = f"'{sys.executable}' -m gbsep presets list {closed}"
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, cwd=tmp_path, env=env)
        assert done.returncode == 0
        assert "Traceback" not in done.stderr


HOMELESS = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME")
OWN = ("GBSEP_CACHE", "GBSEP_CONFIG", "GBSEP_STATE", "GBSEP_HOME")


@posix
def test_a_user_without_a_home_is_told_what_to_set(typed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a number that a container was given for a user."""
    import pwd

    def unknown(number: int) -> None:
        raise KeyError(number)

    for name in (*HOMELESS, *OWN):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    code, out, err = typed("presets", "list")
    assert code == 0, err
    assert "exp005" in out
    told = "error: HOME is not set, and this user has no home; name a folder in GBSEP_CACHE\n"
    assert typed("cache", "info") == (2, "", told)
    assert typed("doctor")[2] == ""


@pytest.mark.parametrize("variable", OWN)
def test_a_folder_in_the_home_of_nobody_is_told(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "~nosuchuser/x")
    of = {"GBSEP_CACHE": "cache", "GBSEP_CONFIG": "config", "GBSEP_STATE": "state", "GBSEP_HOME": "data"}[variable]
    with pytest.raises(FolderUnknown, match=f"{variable}=~nosuchuser/x: there is no such user; name a folder in"):
        getattr(folders, f"{of}_folder")()


def test_what_has_no_place_is_not_remembered(run: Any, song: Path) -> None:
    """Speeds of renders are kept in the state folder: a render does without."""
    done = run("render", song.name, "-p", "exp002", env={"GBSEP_STATE": "~nosuchuser"})
    assert (done.returncode, done.stderr) == (0, "")


@posix
def test_too_little_memory_is_refused_before_libraries_are_loaded(run: Any, song: Path) -> None:
    """Under some limits OpenBLAS would go round for ever and hear of no signal."""
    import resource

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (250_000_000, 250_000_000))

    done = run("render", song.name, "-p", "exp002", preexec_fn=limited, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: this process may have 250 MB of memory, and loading what a render needs takes"
    )


@posix
@pytest.mark.parametrize(("number", "code"), [(signal.SIGHUP, 129), (signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_nothing(tmp_path: Path, rng: np.random.Generator, number: int, code: int) -> None:
    gbsep.write(tmp_path / "long.wav", Audio(0.1 * rng.standard_normal((2, 44100 * 120)), 44100))
    out = tmp_path / "out"
    words = [*GBSEP, "render", "long.wav", "-p", "exp003", "--out", "out"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(words, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True) as process:
        while not list(out.glob("*/.*.partial")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        _, err = process.communicate(timeout=120)
    assert process.returncode == code
    assert "Traceback" not in err
    assert not out.exists()


@posix
def test_an_interrupt_while_the_command_is_loaded_shows_no_traceback(tmp_path: Path) -> None:
    """It arrives amid the import of the command."""
    (tmp_path / "click.py").write_text(
        "import os, signal, sys, time\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
        "time.sleep(60)\n"
    )  # fmt: skip
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run(GBSEP, capture_output=True, text=True, cwd=tmp_path, env=env, timeout=60)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_a_fault_that_nobody_foresaw_asks_for_a_report(typed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from gbsep.preset import schema

    def wrong() -> None:
        raise ZeroDivisionError("of all things")

    monkeypatch.setattr(schema, "preset_schema", wrong)
    code, out, err = typed("presets", "schema")
    asked = "error: unexpected ZeroDivisionError: of all things; please report it, with what --debug shows\n"
    assert (code, out, err) == (1, "", asked)
