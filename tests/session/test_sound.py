"""Sessions: what a DAW would play of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import rpp

import gbsep
from gbsep.errors import ParameterError
from gbsep.session.write import write_sessions

from .common import HOSTILE, RATE, SUFFIXES, audible, each_format, make_song, mix, preset, read, read_project, read_rpp


@each_format
@pytest.mark.parametrize("fader_gains", [False, True])
def test_a_project_plays_the_processed_stems_of_one_render(out: Path, format: str, fader_gains: bool) -> None:
    (written,) = write_sessions(out, format, fader_gains=fader_gains)
    assert written.path == out / "song" / f"song{SUFFIXES[format]}"
    project = read_project(written.path)
    record = json.loads((out / "song" / "a" / "render.json").read_text())
    stems = sum(read(out / "song" / "a" / stem["file"]) for stem in record["stems"].values())
    np.testing.assert_allclose(mix(project, out / "song", RATE, audible), stems, atol=1e-7)
    assert [track.path for track in project.tracks] == [
        ("original",),
        *((name, *rest) for name in "ab" for rest in ((), *((stem,) for stem in (
            "bass", "guitar", "bass (dry)", "guitar (dry)", "residual")))),
    ]  # fmt: skip
    assert project.rate == RATE


@each_format
@pytest.mark.parametrize("fader_gains", [False, True])
def test_dry_stems_and_residual_add_up_to_the_original(out: Path, format: str, fader_gains: bool) -> None:
    write_sessions(out, format, fader_gains=fader_gains)
    project = read_project(out / "song" / f"song{SUFFIXES[format]}")
    for name in "ab":
        parts = [(name, part) for part in ("bass (dry)", "guitar (dry)", "residual")]
        assert all(project["/".join(part)].silent for part in parts)
        whole = mix(project, out / "song", RATE, lambda track: track.path in parts)  # noqa: B023
        original = mix(project, out / "song", RATE, lambda track: track.path == ("original",))
        np.testing.assert_allclose(whole, original, atol=1e-6)
        np.testing.assert_array_equal(original, read(out.parent / "song.wav"))


@each_format
def test_faders_show_restored_gains_where_they_can(out: Path, format: str) -> None:
    write_sessions(out, format, fader_gains=True)
    project = read_project(out / "song" / f"song{SUFFIXES[format]}")
    record = json.loads((out / "song" / "a" / "render.json").read_text())
    gain_db = record["stems"]["bass"]["restored_gain_db"]
    assert 6 < gain_db < 30, "the song is meant to need more than a fader has"
    shown = 10 ** (6 / 20)
    faders = {"/".join(track.path): track.gain for track in project.tracks}
    raised = {name for name, gain in faders.items() if gain != 1}
    assert raised == {"a/bass", "a/bass (dry)", "b/bass (dry)"}, "b/bass has a compressor after its gain"
    assert all(faders[name] == pytest.approx(shown, rel=1e-12) for name in raised)
    files_there = {track.clips[0][0] for track in project.tracks if track.gain != 1}
    assert all(Path(file).parts[0] == "media" for file in files_there)


def test_a_gain_within_reach_is_all_on_the_fader(tmp_path: Path) -> None:
    song = make_song(tmp_path / "song.wav")
    gbsep.render(song, preset(restore={"method": "peak", "dbfs": -30}), tmp_path, dry_stems=True)
    record = json.loads((tmp_path / "song" / "cross" / "render.json").read_text())
    gain_db = record["stems"]["bass"]["restored_gain_db"]
    assert -30 < gain_db < -1
    write_sessions(tmp_path, fader_gains=True)
    track = read_rpp(tmp_path / "song" / "song.rpp")["cross/bass (dry)"]
    assert 20 * np.log10(track.gain) == pytest.approx(gain_db, abs=1e-9)
    separated = read(tmp_path / "song" / "cross" / "bass.dry.wav") / 10 ** (gain_db / 20)
    np.testing.assert_allclose(read(tmp_path / "song" / track.clips[0][0]), separated, rtol=1e-6, atol=1e-9)


@each_format
def test_excerpts_lie_where_they_were_cut(tmp_path: Path, format: str) -> None:
    song = make_song(tmp_path / "song.wav", channels=1)
    gbsep.render(song, preset(), tmp_path, dry_stems=True, start_s=0.3333, duration_s=0.25)
    (written,) = write_sessions(tmp_path, format)
    project = read_project(written.path)
    start, frames = round(0.3333 * RATE), round(0.25 * RATE)
    assert project["cross@0.3333s-0.5833s/bass"].clips[0][1] * RATE == pytest.approx(start, abs=1e-6)
    parts = ("bass (dry)", "guitar (dry)", "residual")
    whole = mix(project, written.path.parent, RATE, lambda track: track.path[-1] in parts)
    original = mix(project, written.path.parent, RATE, lambda track: track.path == ("original",))
    window = slice(start, start + frames)
    np.testing.assert_allclose(whole[:, window], original[:, window], atol=1e-6)
    assert not whole[:, :start].any()
    assert not whole[:, start + frames :].any()


@each_format
def test_a_moved_folder_plays_the_same(out: Path, tmp_path: Path, format: str) -> None:
    (written,) = write_sessions(out, format)
    before = mix(read_project(written.path), written.path.parent, RATE, audible)
    moved = tmp_path / "elsewhere" / HOSTILE
    moved.parent.mkdir()
    shutil.move(out, moved)
    (tmp_path / "song.wav").unlink()
    project = moved / written.path.relative_to(out)
    again = read_project(project)
    np.testing.assert_array_equal(mix(again, project.parent, RATE, audible), before)
    assert all((project.parent / file).is_file() for track in again.tracks for file, _, _ in track.clips)
    (remade,) = write_sessions(moved, format)
    assert not remade.warnings, "the copy of the original is found though the recording is gone"
    assert len(read_project(project).tracks) == len(again.tracks)


@each_format
def test_songs_of_a_batch_follow_one_another(tmp_path: Path, format: str) -> None:
    for name, rate in (("one", RATE), ("two", 48000), ("x/three", RATE)):
        song = make_song(tmp_path / f"{name}.wav", rate=rate, seconds=1.25)
        gbsep.render(song, preset("cross"), tmp_path / "out" / Path(name).parent, dry_stems=True)
    (written,) = write_sessions(tmp_path / "out", format, per="batch")
    assert written.path == tmp_path / "out" / f"out{SUFFIXES[format]}"
    project = read_project(written.path)
    bass = project["cross/bass"]
    assert [(file, start_s) for file, start_s, _ in bass.clips] == [
        ("one/cross/bass.wav", 0.0), ("two/cross/bass.wav", 4.0), ("x/three/cross/bass.wav", 8.0),
    ]  # fmt: skip
    assert all(len(track.clips) == 3 for track in project.tracks if track.path != ("cross",))
    assert [Path(file).parent.name for file, _, _ in project["original"].clips] == 3 * ["media"]
    before = sorted((tmp_path / "out").rglob("original.*"))
    write_sessions(tmp_path / "out", format)
    assert sorted((tmp_path / "out").rglob("original.*")) == before, "both kinds of project share the copies"
    assert [marker for marker in project.markers if marker[1] in ("one", "two", "x/three")] == [
        (0.0, "one"), (4.0, "two"), (8.0, "x/three"),
    ]  # fmt: skip
    if format == "reaper":
        lines = rpp.loads(written.path.read_text(encoding="utf-8")).findall("MARKER")
        assert [(line[1], float(line[2])) for line in lines if line[4] == "1"] == [
            ("1", 0.0), ("1", 1.25), ("2", 4.0), ("2", 5.25), ("3", 8.0), ("3", 9.25),
        ]  # fmt: skip


def test_in_a_batch_the_commonest_preset_is_heard(out: Path, tmp_path: Path) -> None:
    gbsep.render(make_song(tmp_path / "other.wav"), preset("b"), out)
    gbsep.render(make_song(tmp_path / "third.wav"), preset("c"), out)
    (written,) = write_sessions(out, per="batch")
    project = read_rpp(written.path)
    assert {track.path for track in project.tracks if not track.silent} == {("b",), ("b", "bass"), ("b", "guitar")}
    assert written.warnings == (
        "other: no dry stems of b: gbsep render --dry-stems writes them",
        "third: no dry stems of c: gbsep render --dry-stems writes them",
        "third: was not rendered with b, the preset that is heard: unmute one of its own",
    )
    assert len(project["original"].clips) == 3
    (written,) = write_sessions(out, per="batch", heard="c")
    assert {track.path[0] for track in read_rpp(written.path).tracks if not track.silent} == {"c"}


@each_format
def test_the_preset_that_is_heard_can_be_chosen(out: Path, format: str) -> None:
    (written,) = write_sessions(out, format, heard="b")
    heard = {track.path for track in read_project(written.path).tracks if not track.silent}
    assert heard == {("b",), ("b", "bass"), ("b", "guitar")}
    with pytest.raises(ParameterError, match="a preset that was rendered; known: a, b"):
        write_sessions(out, format, heard="exp002")
