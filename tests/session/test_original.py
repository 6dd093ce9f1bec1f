"""Sessions: markers, tempo and time, and the original recording."""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path

import mutagen
import numpy as np
import pytest
import rpp
import soundfile

import gbsep
from gbsep import rendering
from gbsep.io.read import open_reader
from gbsep.io.tags import read_tempo_bpm
from gbsep.session.write import write_sessions

from .common import (
    COMPRESSED,
    RAISED,
    RATE,
    describe,
    each_format,
    make_song,
    mix,
    preset,
    read,
    read_project,
    read_rpp,
    run,
)


@each_format
def test_markers_stand_at_what_the_record_warns_of(tmp_path: Path, format: str) -> None:
    song = make_song(tmp_path / "song.wav")
    for name in "ab":
        gbsep.render(song, preset(name), tmp_path, start_s=0.5)
    found = {"kind": "swap", "stem": "bass", "start_s": 0.2, "end_s": 0.4, "severity": "high", "message": 'is "low"'}
    describe(tmp_path / "song" / "a@0.5s-end", warnings=["everything is quieter"], diagnoses=[found])
    describe(tmp_path / "song" / "b@0.5s-end", warnings=["everything is quieter"])
    (written,) = write_sessions(tmp_path, format)
    assert read_project(written.path).markers == [
        (0.5, "everything is quieter"), (pytest.approx(0.7), 'a@0.5s-end: is "low"'),
    ]  # fmt: skip


@each_format
@pytest.mark.parametrize(("tag", "tempo"), [("123,5", 123.5), ("0", None), ("fast", None), (None, None)])
def test_the_tempo_is_that_of_the_tags_or_none(
    tmp_path: Path, format: str, tag: str | None, tempo: float | None
) -> None:
    song = make_song(tmp_path / "song.flac")
    if tag:
        tagged = mutagen.File(song)
        tagged["BPM"] = tag
        tagged.save()
    gbsep.render(song, preset(), tmp_path)
    (written,) = write_sessions(tmp_path, format)
    assert read_project(written.path).tempo == written.session.tempo_bpm == tempo


@pytest.mark.parametrize("suffix", [".wav", ".mp3", ".flac", ".ogg"])
def test_tempo_tags_of_every_kind_of_file(tmp_path: Path, suffix: str, rng: np.random.Generator) -> None:
    path = tmp_path / f"song{suffix}"
    soundfile.write(path, 0.1 * rng.standard_normal((RATE, 2)), RATE)
    assert read_tempo_bpm(path) is None
    tagged = mutagen.File(path)
    if suffix in (".wav", ".mp3"):
        if tagged.tags is None:
            tagged.add_tags()
        tagged.tags.add(mutagen.id3.TBPM(encoding=3, text=["98"]))
    else:
        tagged["TEMPO"] = "98"
    tagged.save()
    assert read_tempo_bpm(path) == 98
    assert read_tempo_bpm(tmp_path / "no such file") is None


def test_a_time_reference_sets_the_clock(tmp_path: Path) -> None:
    song = make_song(tmp_path / "plain.wav")
    head = struct.pack("<256s32s32s10s8sQ", b"", b"", b"", b"2026-01-01", b"10:00:00", 3600 * RATE)
    bext = head + struct.pack("<H", 1).ljust(256, b"\0")
    riff = song.read_bytes()
    chunk = b"bext" + struct.pack("<I", len(bext)) + bext
    timed = tmp_path / "song.wav"
    timed.write_bytes(riff[:4] + struct.pack("<I", len(riff) - 8 + len(chunk)) + riff[8:12] + chunk + riff[12:])
    gbsep.render(timed, preset(), tmp_path / "out")
    (written,) = write_sessions(tmp_path / "out")
    assert rpp.loads(written.path.read_text()).find("PROJOFFS")[1] == "3600"
    assert read_rpp(written.path)["original"].clips[0][1] == 0


def test_a_lossy_original_is_decoded_to_begin_where_the_stems_do(tmp_path: Path) -> None:
    song = tmp_path / "song.mp3"
    gbsep.write(song, open_reader(make_song(tmp_path / "song.wav")).read())
    gbsep.render(song, preset(), tmp_path / "out", dry_stems=True)
    (written,) = write_sessions(tmp_path / "out")
    project = read_rpp(written.path)
    file = project["original"].clips[0][0]
    assert Path(file).suffix == ".wav"
    frames = soundfile.info(written.path.parent / file).frames
    parts = ("bass (dry)", "guitar (dry)", "residual")
    whole = mix(project, written.path.parent, frames, lambda track: track.path[-1] in parts)
    np.testing.assert_allclose(whole, read(written.path.parent / file), atol=1e-6)


def test_an_original_inside_is_used_where_it_is(tmp_path: Path) -> None:
    song = make_song(tmp_path / "song" / "take.wav")
    gbsep.render(song, preset(), tmp_path, name="{stem}")
    shutil.move(tmp_path / "take" / "cross", tmp_path / "song" / "cross")
    write_sessions(tmp_path)
    assert read_rpp(tmp_path / "song" / "song.rpp")["original"].clips[0][0] == "take.wav"
    assert not (tmp_path / "song" / "media").exists()


def test_an_original_that_came_by_url_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    song, out = make_song(tmp_path / "song.wav"), tmp_path / "out"
    words = ("render", f"file://{song}", "-p", "exp002", "--out", str(out), "--session", "reaper")
    assert run(capsys, *words)[0] == 0
    project = out / "song" / "song.rpp"
    original = read_rpp(project)["original"]
    assert (project.parent / original.clips[0][0]).read_bytes() == song.read_bytes()
    before = project.read_bytes()
    song.unlink()
    (again,) = write_sessions(out)
    assert (again.warnings, project.read_bytes()) == ((), before), "the copy in media serves"
    shutil.rmtree(project.parent / "media")
    (again,) = write_sessions(out)
    gone = "is gone or has changed since it was rendered: the session has no original"
    assert again.warnings == (f"file://{song} {gone}",)


def test_a_session_asks_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The URL in a render.json may be a stranger's; a copy that is here serves."""
    from gbsep.shelf import remote

    def refuse(url: str) -> None:
        raise AssertionError(f"{url} is asked for")

    song, url = make_song(tmp_path / "song.wav"), "https://stranger.invalid/album/song.wav?key=1"
    plan = rendering.plan(
        song, gbsep.load_preset("exp002"), rendering.Options(tmp_path / "out", dry_stems=True), "song", url
    )
    assert rendering.run(plan).status == "ok"
    monkeypatch.setattr(remote, "_system", refuse)
    (written,) = write_sessions(tmp_path / "out")
    assert f"{url} is not kept here any more, and a session downloads nothing" in written.warnings[0]
    copy = Path(os.environ["GBSEP_CACHE"]) / "downloads" / ("0" * 32) / "song.wav"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(b"another")
    right = copy.parent.with_name("1" * 32) / "song.wav"
    right.parent.mkdir()
    shutil.copy(song, right)
    (written,) = write_sessions(tmp_path / "out")
    assert written.warnings == ()
    media = read_rpp(written.path)["original"].clips[0][0]
    assert (written.path.parent / media).read_bytes() == song.read_bytes()


def test_a_changed_original_is_left_out(out: Path, tmp_path: Path) -> None:
    make_song(tmp_path / "song.wav", seconds=0.5)
    (written,) = write_sessions(out)
    assert written.warnings == (
        f"{tmp_path / 'song.wav'} is gone or has changed since it was rendered: the session has no original",
    )
    assert read_rpp(written.path).tracks[0].path == ("a",)


def test_what_happens_to_the_copy_does_not_reach_the_original(out: Path, tmp_path: Path) -> None:
    before = (tmp_path / "song.wav").read_bytes()
    write_sessions(out)
    copy = out / "song" / read_rpp(out / "song" / "song.rpp")["original"].clips[0][0]
    with copy.open("r+b") as file:
        file.write(b"ruined")
    assert (tmp_path / "song.wav").read_bytes() == before


def test_copies_for_the_sake_of_spelling_are_told(tmp_path: Path) -> None:
    plain, odd = make_song(tmp_path / "plain.wav"), make_song(tmp_path / "a `song`.wav")
    for song in (plain, odd):
        gbsep.render(song, preset(), tmp_path / "out", dry_stems=True)
    (written,) = write_sessions(tmp_path / "out", per="batch")
    media = tmp_path / "out" / "media"
    size = sum(path.stat().st_size for path in media.iterdir()) / 1e6
    count = len(list(media.iterdir()))
    assert count > 1
    assert written.warnings == (
        f"a `song`: {count} files, {size:.1f} MB, are copied into {media}: "
        "their own names have no spelling in a project",
    )


def test_without_dry_stems_there_are_none(tmp_path: Path) -> None:
    gbsep.render(make_song(tmp_path / "song.wav"), preset(**RAISED, **COMPRESSED), tmp_path)
    (written,) = write_sessions(tmp_path, fader_gains=True)
    assert [track.path[-1] for track in read_rpp(written.path).tracks] == [
        "original", "cross", "bass", "guitar", "residual",
    ]  # fmt: skip
    assert written.warnings == (
        "cross: bass has effects after its gain and no dry stem to show the gain on",
        "no dry stems of cross: gbsep render --dry-stems writes them",
    )
