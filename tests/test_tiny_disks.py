"""Real disks that are full or fill: the memory that processes share, and the folder for temporary files."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from tests.helpers import left_behind, write_song

ROOT = Path(__file__).parents[1]


def on_a_tiny_disk(
    folder: Path, disk: Path, size: str, words: list[str], fill: bool
) -> subprocess.CompletedProcess[str]:
    """Run gbsep where `disk` is a file system of its own; skipped where a user may not mount one."""
    if not shutil.which("unshare") or not shutil.which("mount"):
        pytest.skip("NOT TESTED: no unshare or mount, so there is no tiny disk to try")
    mount = f"mount -t tmpfs -o size={size} tmpfs {shlex.quote(str(disk))}"
    spaces = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), "sh", "-c"]
    if subprocess.run([*spaces, mount], capture_output=True).returncode:
        pytest.skip("NOT TESTED: this user may not mount a tiny disk")
    full = f"; cat /dev/zero > {shlex.quote(str(disk / 'fill'))} 2>/dev/null" if fill else ""
    command = shlex.join([sys.executable, "-m", "gbsep", *words])
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(disk) if disk != Path("/dev/shm") else str(folder)}
    script = [*spaces, f"{mount}{full}; exec {command}"]
    return subprocess.run(script, cwd=folder, env=env, capture_output=True, text=True)


def test_a_batch_needs_no_shared_memory(tmp_path: Path) -> None:
    """As in a container, whose /dev/shm is small, or full of what another program left."""
    for name in ("a", "b"):
        write_song(tmp_path / f"{name}.wav", 1.0)
    words = ["render", "a.wav", "b.wav", "--jobs", "2", "--out", "out"]
    done = on_a_tiny_disk(tmp_path, Path("/dev/shm"), "8k", words, fill=True)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert len(list(tmp_path.glob("out/?/default/render.json"))) == 2


@pytest.mark.parametrize("fill", [True, False])
def test_a_small_disk_for_temporary_files_costs_the_song_that_does_not_fit(tmp_path: Path, fill: bool) -> None:
    """Full from the beginning, Python takes another folder; where it fills meanwhile, the song fails, in a line."""
    (tmp_path / "temporary").mkdir()
    samples, rate = soundfile.read(write_song(tmp_path / "long.wav", 20.0))
    soundfile.write(tmp_path / "long.mp3", samples, rate)
    assert (tmp_path / "long.mp3").stat().st_size > 2**18
    words = ["render", "long.mp3", "-p", "exp002", "--no-cache", "--out", "out"]
    done = on_a_tiny_disk(tmp_path, tmp_path / "temporary", "256k", words, fill)
    assert "Traceback" not in done.stderr
    assert left_behind(tmp_path) == []
    if done.returncode == 0:
        assert fill
        assert (tmp_path / "out" / "long" / "exp002" / "render.json").exists()
    else:
        assert not fill
        assert done.returncode in (1, 2)
        assert "long.mp3: " in done.stderr
        assert "No space left" in done.stderr
        assert not list(tmp_path.glob("out/*/*/*.wav"))
