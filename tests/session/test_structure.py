"""Sessions: names, numbers, folders, colours, and the published schemas."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import gbsep
from gbsep.session import dawproject, model, reaper
from gbsep.session.model import Clip, Insert, Marker, Session, Track
from gbsep.session.write import write_sessions

from .common import (
    HOSTILE,
    RATE,
    SEAL,
    SUFFIXES,
    Project,
    audible,
    clip,
    each_format,
    make_song,
    mix,
    names,
    preset,
    read,
    read_project,
    validate,
)


def write_and_read(session: Session, format: str, folder: Path) -> Project:
    path = folder / f"session{SUFFIXES[format]}"
    {"reaper": reaper, "dawproject": dawproject}[format].write(session, path, folder, SEAL)
    return read_project(path)


@each_format
@given(st.lists(names, min_size=1, max_size=6), st.lists(names.filter(model.label), max_size=4))
@example(["#", "#1", "# 1", "a#"], ["#", "#2"])
@settings(max_examples=60, deadline=None)
def test_any_name_comes_back(place: Path, format: str, tracks: list[str], markers: list[str]) -> None:
    session = Session(
        tracks[0],
        RATE,
        tuple(Track(name, 0x123456, (clip(place, name),), note=name) for name in tracks),
        tuple(Marker(float(index), text) for index, text in enumerate(markers)),
        notes=tuple(tracks),
    )
    project = write_and_read(session, format, place)

    def shown(text: str) -> str:
        if format != "reaper":
            return model.label(text)
        word = model.label(text).replace("`", "'")
        return f"{word} " if word.startswith("#") and " " not in word else word

    assert [track.path for track in project.tracks] == [(shown(name),) for name in tracks]
    assert project.markers == [(float(index), shown(text)) for index, text in enumerate(markers)]
    assert all(track.clips == [("a b/x.wav", 0.0, 0.01)] for track in project.tracks)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('say "hi"', 'say "hi"'),
        ('it\'s "so"', 'it\'s "so"'),
        ("<Track> & ]]>", "<Track> & ]]>"),
        ("기타 🎸👨‍👩‍👧", "기타 🎸👨‍👩‍👧"),
        ("a\r\nb\tc\u3000d\u2028e", "a  b c d e"),
        ("bell\x07 \udcff \uffff", "bell\\x07 \\udcff \\uffff"),
        ("|> -", "|> -"),
    ],
)
@each_format
def test_names_are_shown_as_they_are_or_escaped(place: Path, format: str, text: str, shown: str) -> None:
    project = write_and_read(Session(text, RATE, (Track(text, 0, (clip(place),)),)), format, place)
    assert project.tracks[0].path == (shown,)


@each_format
@given(
    st.floats(-60, 6),
    st.integers(0, 0xFFFFFF),
    st.integers(0, 10**9),
    st.sampled_from([8000, 44100, 48000, 192000]),
)
@settings(max_examples=60, deadline=None)
def test_gains_colours_and_times_come_back(
    place: Path, format: str, gain_db: float, color: int, frame: int, rate: int
) -> None:
    one = Clip(place / "x.wav", "x", frame / rate, 1234567, rate, 2, "wav")
    project = write_and_read(Session("s", rate, (Track("t", color, (one,), gain_db=gain_db),)), format, place)
    (track,) = project.tracks
    assert 20 * np.log10(track.gain) == pytest.approx(gain_db, abs=1e-9)
    assert track.color == f"{color:06x}"
    ((_, start_s, length_s),) = track.clips
    assert start_s * rate == pytest.approx(frame, abs=1e-4)
    assert length_s * rate == pytest.approx(1234567, abs=1e-6)


trees = st.recursive(st.just(None), lambda inner: st.lists(inner, min_size=1, max_size=4), max_leaves=12)


@each_format
@given(st.lists(trees, min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_folders_open_and_close(place: Path, format: str, shape: list[Any]) -> None:
    count = iter(range(1000))

    def grow(node: Any) -> Track:
        inner = tuple(map(grow, node or ()))
        return Track(str(next(count)), 0, tracks=inner)

    def paths(tracks: tuple[Track, ...], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
        for track in tracks:
            yield (*above, track.name)
            yield from paths(track.tracks, (*above, track.name))

    tracks = tuple(map(grow, shape))
    project = write_and_read(Session("s", RATE, tracks), format, place)
    assert [track.path for track in project.tracks] == list(paths(tracks))


@pytest.mark.parametrize(
    "tracks", [(Track("residual", 0, mute=True), Track("f", 0, tracks=(Track("in", 0, tracks=(Track("deep", 0),)),)))]
)
@each_format
def test_a_muted_folder_silences_all_in_it(place: Path, format: str, tracks: tuple[Track, ...]) -> None:
    muted = Track("m", 0, tracks=tracks[1:], mute=True)
    project = write_and_read(Session("s", RATE, (*tracks, muted)), format, place)
    silent = [track.silent for track in project.tracks]
    assert silent == [quiet for _, quiet in model.walk((*tracks, muted))] == [True, *3 * [False], *4 * [True]]


def test_colours_belong_to_instruments() -> None:
    stems = ["bass", "guitar", "drums", "vocals", "other", "residual", "original", "minus_bass", "베이스"]
    assert len({model.color_of(stem) for stem in stems}) == len(stems)
    assert [f"{model.color_of(stem):06x}" for stem in ("bass", "guitar", "minus_bass")] == [
        "3d6fd9", "e8842c", "75cb4d",
    ]  # fmt: skip


@each_format
def test_hostile_file_names_survive_the_whole_way(tmp_path: Path, format: str) -> None:
    song = make_song(tmp_path / f"{HOSTILE}\n.wav")
    gbsep.render(song, preset(), tmp_path / "out", dry_stems=True)
    (written,) = write_sessions(tmp_path / "out", format, per="batch")
    project = read_project(written.path)
    assert all((tmp_path / "out" / file).is_file() for track in project.tracks for file, _, _ in track.clips)
    stems = sum(read(tmp_path / "out" / song.stem / "cross" / f"{stem}.wav") for stem in ("bass", "guitar"))
    np.testing.assert_allclose(mix(project, tmp_path / "out", RATE, audible), stems, atol=1e-7)
    shown = model.label(f"{HOSTILE}\n")
    assert project.markers == [(0.0, shown.replace("`", "'") if format == "reaper" else shown)]


@pytest.mark.parametrize(("per", "more"), [("song", {"fader_gains": True}), ("batch", {"embed": True})])
def test_a_dawproject_is_valid(out: Path, data: Path, per: str, more: dict[str, bool]) -> None:
    (written,) = write_sessions(out, "dawproject", per, **more)
    validate(written.path, data)


@given(names, st.none() | st.floats(20, 999), st.booleans())
@settings(max_examples=30, deadline=None)
def test_any_session_is_a_valid_dawproject(place: Path, data: Path, text: str, tempo: float | None, bare: bool) -> None:
    insert = Insert(text, "2046504473616C633250435A00000000", text, text, text, None if bare else b"VST3")
    tracks = (
        Track(text, 1, (clip(place, text), clip(place, text, 1e-7)), mute=bare, gain_db=-60, inserts=(insert, insert)),
        Track(text, 0xFFFFFF, tracks=() if bare else (Track(text, 0, (clip(place),)),), note=text),
    )
    markers = () if bare else (Marker(1e-9, text), Marker(2, text, 3))
    session = Session(text, RATE, tracks, markers, tempo, 1e-9, () if bare else (text, text))
    path = place / "any.dawproject"
    dawproject.write(session, path, place, SEAL)
    validate(path, data)


def test_embedded_audio_is_inside(out: Path) -> None:
    write_sessions(out, "dawproject", embed=True)
    path = out / "song" / "song.dawproject"
    with zipfile.ZipFile(path) as container:
        assert container.testzip() is None
        root = ElementTree.fromstring(container.read("project.xml"))
        inside = [file.attrib for file in root.iter("File")]
        assert {file["external"] for file in inside} == {"false"}
        assert container.read(read_project(path)["a/bass"].clips[0][0]) == (out / "song/a/bass.wav").read_bytes()
