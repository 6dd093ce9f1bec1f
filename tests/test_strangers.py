"""What strangers may give besides recordings: states of plug-ins, folders to train on, and what lies there."""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gbsep
from gbsep.audio import Audio
from gbsep.errors import AudioFileError, PluginError
from gbsep.plugins.worker import state

CLASS_ID = "A" * 32
ROOT = Path(__file__).parents[1]


def preset_with(info: bytes) -> bytes:
    """A .vstpreset with a component's state and an `Info` chunk."""
    head, component = state.HEADER.size, b"abc"
    listing = state.LIST.pack(b"List", 2)
    listing += state.ENTRY.pack(b"Comp", head, len(component))
    listing += state.ENTRY.pack(b"Info", head + len(component), len(info))
    offset = head + len(component) + len(info)
    return state.HEADER.pack(b"VST3", 1, CLASS_ID.encode(), offset) + component + info + listing


def entities() -> bytes:
    """Text that grows twentyfold with each of nine entities."""
    text = b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "aaaaaaaaaa">'
    for each in range(9):
        text += b'<!ENTITY %c "%s">' % (98 + each, b"&%c;" % (97 + each) * 20)
    return text + b']><MetaInfo><Attribute id="PlugInVersion" value="&j;"/></MetaInfo>'


@pytest.mark.parametrize(
    "given",
    [
        preset_with(b'<?xml version="1.0" encoding="rot13"?><a/>'),
        preset_with(b'<?xml version="1.0" encoding="utf-48"?><a/>'),
        preset_with(entities()),
        preset_with(b"<a>" * 100_000),
        preset_with(b'<a><Attribute id="PlugInVersion" value="%s"/></a>' % (b"9" * 10**6)),
        state.RAW_MAGIC + b"[" * 100_000,
        state.RAW_MAGIC + b"9" * 10_000,
        state.RAW_MAGIC + b'{"class_id": "%s", "version": "%s"}' % (CLASS_ID.encode(), b"x\\n" * 10**6),
        state.RAW_MAGIC + b'{"class_id": "%s", "version": "1"}' % (b"x" * 10**6),
        state.HEADER.pack(b"VST3", 1, CLASS_ID.encode(), -(2**63)),
    ],
)
def test_a_strangers_state_is_refused_in_a_line(given: bytes) -> None:
    with pytest.raises(PluginError) as caught:
        state.unpack(given, CLASS_ID, "1.0")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def test_thousands_of_damaged_states_give_nothing_but_errors_of_ours() -> None:
    chance = random.Random(1)
    whole = [
        state.pack("vstpreset", (b"x" * 100, b"y" * 50), CLASS_ID, "1.0"),
        state.pack("vstpreset", (b"x", b""), CLASS_ID, "1"),
        state.pack("raw", (b"zz" * 30, b""), CLASS_ID, "1.0"),
        preset_with(b"<a/>"),
    ]
    taken = 0
    for _ in range(5000):
        given = bytearray(chance.choice(whole))
        for _ in range(chance.randint(1, 5)):
            kind, place = chance.random(), chance.randrange(len(given) + 1)
            if kind < 0.5:
                given[place : place + 1] = bytes([chance.choice([0, 127, 128, 255, chance.randrange(256)])])
            elif kind < 0.7:
                given = given[:place]
            elif kind < 0.85:
                given[place:place] = chance.randbytes(chance.randint(1, 9))
            else:
                given[40:48] = chance.choice([-1, 0, 2**63 - 1, -(2**63)]).to_bytes(8, "little", signed=True)
        for read in (lambda text: state.unpack(text, CLASS_ID, "1.0"), state.preset_chunks):
            try:
                read(bytes(given))
                taken += 1
            except PluginError:
                pass
    assert taken, "not all are damaged beyond use"


class Touch:
    """A pickle that would run a command."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.skipif(os.name != "posix", reason="no links and pipes")
@pytest.mark.parametrize("kind", ["pipe", "folder", "zero", "link", "empty", "pickle"])
def test_a_state_of_a_training_that_is_none_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    """Until it is removed, and without its code being run."""
    pytest.importorskip("torch", reason="training needs it")
    rng = np.random.default_rng(0)
    (tmp_path / "songs" / "one").mkdir(parents=True)
    for name in ("bass", "guitar"):
        gbsep.write(tmp_path / "songs" / "one" / f"{name}.wav", Audio(0.1 * rng.standard_normal((1, 88200)), 44100))
    kept = tmp_path / "mine.state"
    if kind == "pipe":
        os.mkfifo(kept)
    elif kind == "folder":
        kept.mkdir()
    elif kind in ("zero", "link"):
        kept.symlink_to("/dev/zero" if kind == "zero" else "gone")
    elif kind == "empty":
        kept.touch()
    else:
        kept.write_bytes(pickle.dumps(Touch(tmp_path / "run")))
    words = [sys.executable, "-m", "gbsep", "train", "--stems", "songs", "--out", "mine.safetensors", "--steps", "1"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "error: mine.state: is no state of a training run" in done.stderr
    assert "Traceback" not in done.stderr
    assert os.path.lexists(kept)
    assert not (tmp_path / "mine.safetensors").exists()
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(os.name != "posix", reason="no links, pipes and names in any bytes")
def test_a_folder_to_train_on_holds_anything(tmp_path: Path) -> None:
    from gbsep.train.pool import song_stems

    songs = tmp_path / "songs"
    sound = Audio(np.zeros((1, 441)), 44100)
    with pytest.raises(AudioFileError, match="no such folder"):
        song_stems(songs)
    good = songs / os.fsdecode(b"caf\xe9")
    good.mkdir(parents=True)
    gbsep.write(good / "bass.wav", sound)
    gbsep.write(good / "guitar1.wav", sound)
    (good / "up").symlink_to("..")
    assert song_stems(songs) == [(good / "bass.wav", [good / "guitar1.wav"])]
    song = songs / "a"
    song.mkdir()
    gbsep.write(song / "guitar.wav", sound)
    bass = song / "bass.wav"
    for make, reason in (
        (lambda: bass.symlink_to("bass.wav"), "Too many levels"),
        (lambda: os.mkfifo(bass), "is not a regular file"),
        (lambda: bass.write_text("words"), "is no audio"),
        (lambda: bass.touch(), "is empty"),
    ):
        make()
        with pytest.raises(AudioFileError, match=reason):
            song_stems(songs)
        bass.unlink()
    bass.mkdir()
    with pytest.raises(AudioFileError, match="is a folder"):
        song_stems(songs)


def test_a_url_in_any_bytes_is_a_place_or_refused() -> None:
    from gbsep.shelf import remote

    assert remote.stand_in_for("memory://caf\udce9").parent.name == "uploads"
    assert remote.stand_in_for("memory://\ud800").name[:16] != remote.stand_in_for("memory://\ud801").name[:16]
