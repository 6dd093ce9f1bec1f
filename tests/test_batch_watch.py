"""A watched folder: what is dropped into it comes out rendered, once it is all there."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gbsep
from gbsep.audio import Audio
from gbsep.batch.watch import PATIENCE, arrivals

RATE = 44100
SETTLE_S = 0.2


def write_song(path: Path, level: float = 0.1) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    gbsep.write(path, Audio(level * rng.standard_normal((1, RATE // 10)), RATE))
    return path.read_bytes()


def test_a_file_is_handed_over_when_its_copy_is_complete_and_again_when_it_changes(tmp_path: Path) -> None:
    content = write_song(tmp_path / "song.wav")
    folder = tmp_path / "in"
    folder.mkdir()
    come = arrivals(folder, tmp_path / "out", settle_s=SETTLE_S)
    sizes: list[int] = []

    def copy() -> None:
        with (folder / "song.wav").open("wb", buffering=0) as file:
            for start in range(0, len(content), len(content) // 10):
                file.write(content[start : start + len(content) // 10])
                sizes.append(start)
                time.sleep(SETTLE_S / 4)

    copying = threading.Thread(target=copy)
    copying.start()
    assert next(come) == [str(folder / "song.wav")]
    assert not copying.is_alive()
    assert len(sizes) >= 10
    write_song(folder / "song.wav", 0.2)
    (folder / "x").mkdir()
    write_song(folder / "x" / "other.wav")
    assert sorted(next(come)) == [str(folder / "song.wav"), str(folder / "x" / "other.wav")]


def test_a_broken_file_gets_more_time_and_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    begun = time.monotonic()
    assert list(arrivals(tmp_path, tmp_path / "out", settle_s=SETTLE_S, once=True)) == [[str(tmp_path / "bad.wav")]]
    assert time.monotonic() - begun >= PATIENCE * SETTLE_S


def test_a_folder_that_goes_away_for_a_moment_is_told_once(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    write_song(folder / "1.wav")
    told: list[str] = []
    come = arrivals(folder, tmp_path / "out", settle_s=SETTLE_S, tell=lambda problem: told.append(str(problem)))
    assert next(come) == [str(folder / "1.wav")]
    folder.rename(tmp_path / "away")

    def bring_back() -> None:
        time.sleep(3 * SETTLE_S)
        (tmp_path / "away").rename(folder)
        write_song(folder / "2.wav")

    bringing = threading.Thread(target=bring_back)
    bringing.start()
    assert next(come) == [str(folder / "2.wav")]
    bringing.join()
    assert told == [f"{folder}: cannot be read: No such file or directory"]


def test_what_is_there_is_rendered_once_and_its_renders_are_not(typed: Any, tmp_path: Path) -> None:
    """Input and output in one folder."""
    folder = tmp_path / "bounces"
    (folder / "take").mkdir(parents=True)
    write_song(folder / "take" / "1.wav")
    write_song(folder / "1.wav")
    words = ["watch", "bounces", "-p", "exp002", "--out", "bounces", "--once", "--settle", str(SETTLE_S)]
    for rendered in (True, False):
        code, out, err = typed(*words)
        assert code == 0, err
        assert ("take/1" in out + err) == rendered
    folders = {path.parent.relative_to(folder).as_posix() for path in folder.rglob("render.json")}
    assert folders == {"1/exp002", "take/1/exp002"}
    (folder / "bad.wav").write_text("no audio")
    code, _, err = typed(*words)
    assert code == 1
    assert "bounces/bad.wav: is no audio" in err
    assert typed(*words[:3], "exp02", *words[4:])[0] == 2


def test_files_that_differ_in_their_suffix_keep_it(typed: Any, tmp_path: Path) -> None:
    for name in ("take/1.wav", "take/1.flac", "1.wav"):
        write_song(tmp_path / "bounces" / name)
    code, _, err = typed("watch", "bounces", "-p", "exp002", "--once", "--settle", str(SETTLE_S))
    assert code == 0, err
    out = tmp_path / "gbsep-out"
    folders = {path.parent.relative_to(out).as_posix() for path in out.rglob("render.json")}
    assert folders == {"1/exp002", "take/1.wav/exp002", "take/1.flac/exp002"}


@pytest.mark.skipif(os.name == "nt", reason="signals the POSIX way")
def test_ctrl_c_ends_the_watch(typed: Any, tmp_path: Path) -> None:
    import signal

    (tmp_path / "bounces").mkdir()
    write_song(tmp_path / "bounces" / "1.wav")
    done = tmp_path / "gbsep-out/1/exp002/render.json"

    def interrupt() -> None:
        while not done.exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    code, _, err = typed("watch", "bounces", "-p", "exp002", "--settle", str(SETTLE_S))
    assert code == 130
    assert "watching bounces" in err
    assert done.exists()
