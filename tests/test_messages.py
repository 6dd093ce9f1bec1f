"""What is said in plain words: of files that are no audio, of options, of names, of work that takes long."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import gbsep
from gbsep.errors import AudioFileError, PresetError
from gbsep.io.formats import AUDIO_SUFFIXES
from gbsep.io.probe import probe
from gbsep.io.read import read
from gbsep.preset.load import load_preset
from gbsep.rendering import track_names
from gbsep.rendering.names import portable
from tests.helpers import RATE, posix, write_song
from tests.test_readers import make_av, song

ROOT = Path(__file__).parents[1]
LIBRARY = (
    "libsndfile",
    "SF_",
    "struct",
    "chunk",
    "marker",
    "pipe?",
    "Error",
    "error",
    "malformed",
    "MPEG_LAYER",
    "frame ",
)
"""Words of libraries that mean nothing to who makes music."""


# Files


def wav(path: Path, at: int = 0, value: bytes = b"", extra: bytes = b"") -> Path:
    """A WAV file, changed at a place, with something behind."""
    soundfile.write(path, np.zeros((1000, 2)), RATE, "PCM_16")
    raw = bytearray(path.read_bytes())
    raw[at : at + len(value)] = value
    if extra:
        raw[4:8] = struct.pack("<I", len(raw) - 8 + len(extra))
    path.write_bytes(raw + extra)
    return path


def changed(path: Path, old: bytes, new: bytes) -> Path:
    soundfile.write(path, np.zeros((1000, 2)), RATE)
    path.write_bytes(path.read_bytes().replace(old, new, 1))
    return path


DATA = b"data" + struct.pack("<I", 4000) + bytes(4000)
BROKEN = {
    "rate 0": lambda place: wav(place / "a.wav", 24, bytes(4)),
    "no channels": lambda place: wav(place / "a.wav", 22, bytes(2)),
    "no bits": lambda place: wav(place / "a.wav", 34, bytes(2)),
    "no codec": lambda place: wav(place / "a.wav", 20, b"\x99\x99"),
    "two data": lambda place: wav(place / "a.wav", extra=DATA),
    "no data": lambda place: wav(place / "a.wav", 36, b"dota"),
    "no format": lambda place: wav(place / "a.wav", 12, b"fmx "),
    "no WAVE": lambda place: wav(place / "a.wav", 8, b"WAVX"),
    "no RIFF": lambda place: wav(place / "a.wav", 0, b"XIFF"),
    "no COMM": lambda place: changed(place / "a.aiff", b"COMM", b"COMX"),
    "no SSND": lambda place: changed(place / "a.aiff", b"SSND", b"SSNX"),
    "no Ogg packet": lambda place: changed(place / "a.ogg", b"vorbis", b"vorbix"),
    "an unknown AU": lambda place: changed(place / "a.au", b"\0\0\0\x18\0", b"\0\0\0\x18\0"[:4] + b"\7"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_audio_is_told_without_words_of_libraries(tmp_path: Path, kind: str) -> None:
    path = BROKEN[kind](tmp_path)
    with pytest.raises(AudioFileError) as caught:
        read(path)
    words = caught.value.reason
    assert not [word for word in LIBRARY if word in words], words
    assert any(step in words for step in ("export it again", "convert it", "is it what its name says")), words


def test_a_page_of_a_server_under_the_name_of_an_mp3_is_there(tmp_path: Path) -> None:
    """libsndfile says that it does not exist."""
    page = tmp_path / "song.mp3"
    page.write_text("<html><body>404</body></html>" * 50)
    with pytest.raises(AudioFileError, match="begins like no format that gbsep knows; is it what its name says"):
        probe(page)


def test_a_flac_that_cannot_be_decoded_is_told_in_seconds(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal((4 * RATE, 2)), RATE)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + 40_000] = bytes(40_000)
    path.write_bytes(raw)
    with pytest.raises(AudioFileError, match=r"only [12]\.\d{3} s of its 4\.000 s can be decoded: it is cut short"):
        read(path)


def test_a_film_without_sound_is_nothing_to_separate(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))))
        container.mux(video.encode(None))
    with pytest.raises(AudioFileError, match="nothing to separate: leave it out"):
        probe(tmp_path / "a.mkv")


# Options and presets


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ('{"jobs": 1e999}', "render.jobs: must be a whole number, not inf"),
        ('{"jobs": 2.5}', "render.jobs: must be a whole number, not 2.5"),
        ('{"jobs": true}', "render.jobs: must be a whole number, not True"),
        ('{"jobs": 0}', "render.jobs: 0 is not 1 or more"),
        ('{"preset": "exp002"}', "render.preset: must be a JSON array of values, such as [\"exp002\"], not 'exp002'"),
        ('{"preset": [5]}', "render.preset: must be a text, not 5"),
        ('{"out": 5}', "render.out: must be a text, not 5"),
        ('{"out": ["a"]}', "render.out: must be a text, not ['a']"),
        ('{"overwrite": "yes"}', "render.overwrite: must be true or false, not 'yes'"),
        ('{"start": {}}', 'render.start: must be a time: seconds such as 90, or "1:30", not {}'),
        ('{"format": "wma"}', "render.format: 'wma' is not one of"),
    ],
)
def test_defaults_of_a_wrong_type_are_told_with_what_they_must_be(
    typed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, told: str
) -> None:
    monkeypatch.setenv("GBSEP_CONFIG", str(tmp_path))
    (tmp_path / "defaults.json").write_text(f'{{"render": {given}}}')
    code, _, err = typed("presets", "list")
    assert code == 2
    assert told in err
    assert "iterable" not in err


def test_an_option_that_defaults_gave_is_told_from_one_that_was_typed(
    typed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GBSEP_CONFIG", str(tmp_path))
    (tmp_path / "defaults.json").write_text('{"render": {"preset": ["exp02"]}}')
    (tmp_path / "song.wav").write_bytes(b"")
    code, _, err = typed("render", tmp_path / "song.wav")
    assert code == 2
    assert err.splitlines() == [
        "error: exp02: no preset of this name; did you mean 'exp002'?",
        f"--preset: from {tmp_path / 'defaults.json'}",
    ]
    assert "from" not in typed("render", tmp_path / "song.wav", "-p", "exp01")[2]


def test_defaults_of_the_right_types_are_taken(typed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GBSEP_CONFIG", str(tmp_path))
    write_song(tmp_path / "song.wav", 1.0)
    given = {"start": "0:00", "duration": 0.5, "jobs": 1, "preset": ["exp002"], "out": "here", "dry-stems": True,
             "set": ["separate.order=2"]}  # fmt: skip
    (tmp_path / "defaults.json").write_text(json.dumps({"render": given}))
    code, _, err = typed("render", "song.wav")
    assert (code, err) == (0, "")
    assert [path.name for path in tmp_path.glob("here/song/exp002*/bass.dry.wav")] == ["bass.dry.wav"]


def named(stem: str, name: str = "mine") -> dict[str, Any]:
    return {"name": name, "separate": {"backend": "crossover"}, "stems": {stem: {"from": ["bass"]}}}


@pytest.mark.parametrize("name", ["a/b", "", "../x", ".hidden", "x" * 65, "what?"])
def test_a_name_that_cannot_be_one_is_told_without_a_regular_expression(name: str) -> None:
    for document, where in ((named(name), f"stems.{name}"), (named("bass", name), "name")):
        with pytest.raises(PresetError, match="1 to 64 letters") as caught:
            load_preset(document)
        assert caught.value.json_path == where
        assert not set("\\^$[]{}") & set(caught.value.reason.replace(repr(name), ""))


@pytest.mark.parametrize("name", ["con", "NUL", "aux", "prn", "com1", "LPT9", "con.dry"])
def test_names_that_are_devices_on_windows_are_refused_or_changed(tmp_path: Path, name: str) -> None:
    for document in (named(name), named("bass", name)):
        with pytest.raises(PresetError, match="stands for a device on Windows"):
            load_preset(document)
    assert track_names([tmp_path / f"{name}.wav"]) == {tmp_path / f"{name}.wav": f"_{name}"}
    assert portable(name) == f"_{name}"
    assert portable(f"{name}x") == f"{name}x" or name == "con.dry"


@pytest.mark.parametrize("name", ["bass.", "bass "])
def test_names_whose_end_windows_leaves_out_are_refused(name: str) -> None:
    with pytest.raises(PresetError, match="ends in a blank or a stop"):
        load_preset(named(name))


def test_names_that_hold_one_of_a_device_stay(tmp_path: Path) -> None:
    for name in ("console", "nullify", "com", "com10", "auxiliary", "my con"):
        assert portable(name) == name
        assert load_preset(named(name)).stems.keys() == {name}


def test_a_song_called_con_lands_in_a_folder_for_every_system(tmp_path: Path) -> None:
    outcome = gbsep.render(write_song(tmp_path / "con.wav"), "exp002", tmp_path / "out", name="{track} - {stem}")
    assert outcome.folder == tmp_path / "out" / "_con" / "exp002"
    assert (outcome.folder / "_con - bass.wav").exists()


# Folders


def test_whatever_is_read_is_found_in_a_folder(typed: Any, tmp_path: Path) -> None:
    """Speex has a suffix of its own, and is Ogg."""
    assert {".spx", ".amr", ".thd", ".mlp", ".rm", ".mxf", ".dff", ".shn", ".wmv"} <= AUDIO_SUFFIXES
    (tmp_path / "songs").mkdir()
    make_av(tmp_path / "songs" / "a.ogg", song(), "flac", format="ogg")
    (tmp_path / "songs" / "a.ogg").rename(tmp_path / "songs" / "a.spx")
    code, out, err = typed("render", "songs", "-p", "exp002", "--dry-run")
    assert (code, err) == (0, "")
    assert "a.spx" in out


@posix
@pytest.mark.parametrize("encoding", [{"LC_ALL": "C"}, {"LC_ALL": "POSIX"}])
def test_a_song_has_one_folder_in_every_locale(tmp_path: Path, encoding: dict[str, str]) -> None:
    write_song(tmp_path / "노래.wav")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    words = [sys.executable, "-m", "gbsep", "render", "노래.wav", "-p", "exp002", "--name", "{track} - {stem}"]
    for more, status in ((encoding, "ok"), ({"LC_ALL": "C.UTF-8"}, "skipped"), (encoding, "skipped")):
        done = subprocess.run(
            [*words, "--json"], cwd=tmp_path, env={**env, **more}, capture_output=True, encoding="utf-8"
        )
        assert (done.returncode, done.stderr) == (0, "")
        told = json.loads(done.stdout)
        assert (told["status"], told["folder"], told["track"]) == (status, "gbsep-out/노래/exp002", "노래")
    assert sorted(os.listdir(tmp_path / "gbsep-out")) == ["노래"]
    assert (tmp_path / "gbsep-out" / "노래" / "exp002" / "노래 - bass.wav").exists()


@posix
def test_the_api_gives_a_song_the_same_folder_where_names_are_in_ascii(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from gbsep.rendering import track_names; import os\n"
    code += "print([os.fsencode(name) for name in track_names([Path(sys.argv[1])]).values()])"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    for name, track in (("노래".encode(), "노래".encode()), (b"caf\xe9", b"caf%E9")):
        done = subprocess.run([sys.executable, "-c", code, name + b".wav"], env=env, capture_output=True, cwd=tmp_path)
        assert done.stdout.decode().strip() == str([track]), done.stderr.decode()


@posix
def test_a_search_that_takes_long_is_told_and_ended_by_ctrl_c(tmp_path: Path) -> None:
    """As of `gbsep render /`: here the folder has no end."""
    code = """
import os, sys, time
from gbsep.cli import common, main
real = os.walk
def walk(top, **more):
    number = 0
    while os.path.basename(str(top)) == "endless":
        time.sleep(0.005)
        yield f"{top}/{(number := number + 1)}", [], []
    yield from real(top, **more)
os.walk = walk
common.LONG_S = 0.1
main(["render", "endless", "-p", "exp002"], interruptible=True)
"""
    (tmp_path / "endless").mkdir()
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", code]
    with subprocess.Popen(words, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        try:
            assert child.stderr.readline() == "looking for songs in endless; Ctrl-C ends it\n"
            child.send_signal(signal.SIGINT)
            assert (
                child.stderr.read().strip()
                == "interrupted; nothing partial was left, and the same command does the rest"
            )
        finally:
            child.terminate()
    assert child.returncode == 130
    assert not (tmp_path / "gbsep-out").exists()
