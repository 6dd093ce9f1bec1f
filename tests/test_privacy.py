"""Nobody is told: no command looks up a name, talks to a host, or leaves a file where it has no business.

Commands are run under strace, with a home of their own and none of gbsep's variables, as a new user runs them.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gbsep
from gbsep import privacy
from gbsep.audio import Audio
from gbsep.separation.backend import BACKENDS
from tests.msst import random_models
from tests.networks import write_demucs, write_openunmix

ROOT = Path(__file__).parents[1]
PRESETS = {
    "crossover": "exp002",
    "nmf": "exp003",
    "compact": "default",
    "demucs": "exp005",
    "openunmix": "exp004",
    "msst": "roformer_sw",
    "ensemble": "best",
    "guitars": "two_guitars",
}
"""A preset for each backend."""

GBSEP = [sys.executable, "-c", "from gbsep.cli import main; main()"]
TRACED = "network,openat,?open,?creat,?mkdir,mkdirat"
RESOLVING = {"/etc/resolv.conf", "/etc/hosts", "/etc/host.conf"}
WRITES = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_TMPFILE|^creat\(")
DEVICES = ("/dev/", "/proc/", "/memfd:")


@pytest.fixture
def place(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A folder with two songs, networks, a plug-in that is none, and a home."""
    time_s = np.arange(22050) / 44100
    for name, pitch_hz in (("one", 60), ("two", 80)):
        sound = 0.2 * np.sin(2 * np.pi * pitch_hz * time_s) + 0.01 * rng.standard_normal((2, len(time_s)))
        gbsep.write(tmp_path / f"{name}.wav", Audio(sound, 44100))
    for name in ("home", "temp", "weights", "plugins"):
        (tmp_path / name).mkdir()
    write_demucs(tmp_path / "weights", "htdemucs_6s", ("drums", "bass", "other", "vocals", "guitar", "piano"))
    write_openunmix(tmp_path / "weights", "umxl")
    random_models.write_checkpoint("tiny_six_stems", tmp_path / "weights", stem="BS-Roformer-SW")
    (tmp_path / "plugins" / "none.vst3").write_bytes(b"no library")
    return tmp_path


def environment(place: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "HOME": str(place / "home"),
        "TMPDIR": str(place / "temp"),
        "GBSEP_MODELS": str(place / "weights"),
        "GBSEP_PLUGIN_PATH": str(place / "plugins"),
    }


Traced = Callable[..., list[str]]


@pytest.fixture
def traced(place: Path) -> Traced:
    """Run a command under strace; what it did that it should not have. `meanwhile` is given the running process."""
    if not shutil.which("strace"):
        pytest.skip("NOT CHECKED that nobody is told: strace is not installed (apt install strace)")

    def run(*words: str, meanwhile: Callable[[subprocess.Popen[str]], None] | None = None, code: int = 0) -> list[str]:
        trace = place / "trace"
        shutil.rmtree(trace, ignore_errors=True)
        trace.mkdir()
        command = ["strace", "-ff", "-y", "-qq", "-e", f"trace={TRACED}", "-o", str(trace / "of"), *words]
        with subprocess.Popen(
            command, cwd=place, env=environment(place), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            if meanwhile:
                meanwhile(process)
            out, err = process.communicate()
        if process.returncode != code and "ptrace" in err:
            pytest.skip(f"NOT CHECKED that nobody is told: strace may not trace here ({err.splitlines()[0]})")
        assert process.returncode == code, out + err
        lines = [line for file in trace.iterdir() for line in file.read_text(errors="replace").splitlines()]
        assert any(opened(line) for line in lines)
        return sorted(set(told_anybody(lines)) | set(misplaced(lines, place)))

    return run


def told_anybody(lines: list[str]) -> Iterator[str]:
    """Calls that reach another machine, or ask for its name. This machine itself (127.0.0.1) is nobody."""
    for line in lines:
        if line.startswith(("connect(", "sendto(", "sendmsg(", "sendmmsg(")):
            address = re.search(r'inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"', line)
            if address and (address[1] or address[2]) not in ("127.0.0.1", "::1"):
                yield line
        elif (path := opened(line)) and path in RESOLVING:
            yield line


def misplaced(lines: list[str], place: Path) -> Iterator[str]:
    """What was made or written outside gbsep's folders (some exports lie beside weights), temp and the output."""
    allowed = [str(place / name) for name in ("temp", "out", "trace", "weights")]
    for line in lines:
        if " = -1 " in line:
            continue
        if line.startswith("mkdir"):
            path = os.path.join(place, re.findall(r'"([^"]*)"', line)[0])
        elif (found := opened(line)) and WRITES.search(line):
            path = found
        else:
            continue
        inside_home = path.startswith(str(place / "home")) and ("/gbsep" in path or "mkdir" in line)
        if not (path.startswith((*DEVICES, *allowed)) or inside_home):
            yield line


def opened(line: str) -> str | None:
    """The path that a call has opened."""
    if not line.startswith(("open", "creat")):
        return None
    match = re.search(r" = \d+<(.*?)(?: \(deleted\))?>(?:\(deleted\))?$", line)
    return match[1] if match else None


def test_there_is_a_preset_for_every_backend() -> None:
    assert set(PRESETS) == set(BACKENDS)


def test_the_default_render_and_the_library_tell_nobody(traced: Traced) -> None:
    assert traced(*GBSEP, "render", "one.wav", "--out", "out") == []
    script = "import gbsep; gbsep.render('two.wav', 'default', 'out')"
    assert traced(sys.executable, "-c", script) == []


@pytest.mark.slow
def test_a_batch_with_every_backend_tells_nobody(traced: Traced) -> None:
    presets = [word for name in PRESETS.values() for word in ("-p", name)]
    assert traced(*GBSEP, "render", "one.wav", "two.wav", *presets, "--out", "out", "--session", "reaper") == []


@pytest.mark.slow
def test_a_cluster_tells_nobody(traced: Traced) -> None:
    pytest.importorskip("distributed")
    assert traced(*GBSEP, "render", "one.wav", "two.wav", "--out", "out", "--cluster", "local") == []


@pytest.mark.parametrize("words", [["doctor"], ["plugins", "scan"], ["presets", "list"], ["models", "list"]])
def test_other_commands_tell_nobody(traced: Traced, words: list[str]) -> None:
    assert traced(*GBSEP, *words) == []


def test_review_tells_nobody(traced: Traced, place: Path) -> None:
    assert traced(*GBSEP, "render", "one.wav", "--out", "out", "-p", "exp002") == []

    def look(process: subprocess.Popen[str]) -> None:
        assert process.stdout
        address = ""
        while not address:
            line = process.stdout.readline()
            assert line, "review ended at once"
            address = (re.findall(r"http://\S+", line) or [""])[0]
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address, timeout=30) as answer:
            assert answer.status == 200
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGINT)

    assert traced(*GBSEP, "review", "out", "--no-browser", meanwhile=look) == []


@pytest.mark.parametrize(("given", "kept"), [(None, "1"), ("0", "1"), ("", "1"), ("false", "1"), ("yes", "yes")])
def test_a_setting_stays_where_it_is_stricter(monkeypatch: pytest.MonkeyPatch, given: str | None, kept: str) -> None:
    for variable in privacy.SILENCE:
        monkeypatch.delenv(variable, raising=False)
        if given is not None:
            monkeypatch.setenv(variable, given)
    privacy.tell_nobody()
    assert {os.environ[variable] for variable in privacy.SILENCE} == {kept}


@pytest.mark.parametrize("module", ["gbsep", "gbsep.cli", "gbsep.batch.worker", "gbsep.batch.cluster", "gbsep.train",
                                    "gbsep.plugins.worker.process"])  # fmt: skip
def test_every_way_into_the_package_switches_reports_off(module: str) -> None:
    """Whatever is imported first, the switches are set before a library that reports."""
    script = f"import os, sys, {module}; print(os.environ['ORT_DISABLE_TELEMETRY'], sys.modules['openvino_telemetry'])"
    clean: dict[str, Any] = {name: value for name, value in os.environ.items() if name not in privacy.SILENCE}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=clean, cwd=ROOT)
    assert done.stdout == "1 None\n", done.stderr
