"""Sessions: what a DAW would play of them, read back by other means than wrote them."""

from __future__ import annotations

import base64
import json
import os
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import mutagen
import numpy as np
import pytest
import rpp
import soundfile
from hypothesis import example, given, settings
from hypothesis import strategies as st

import gbsep
from gbsep import rendering
from gbsep.audio import Audio
from gbsep.cli import cli
from gbsep.errors import OutputError, ParameterError
from gbsep.io.read import open_reader
from gbsep.io.tags import read_tempo_bpm
from gbsep.session import dawproject, model, reaper
from gbsep.session.model import Clip, Insert, Marker, Session, Track
from gbsep.session.write import FORMATS, LEFT, SCOPES, write_sessions
from gbsep.shelf import record

from .helpers import exit_code

RATE = 44100
SUFFIXES = {"reaper": ".rpp", "dawproject": ".dawproject"}
HOSTILE = '한글 "it\'s" `q` <b>&amp; 🎸'
SEAL = "gbsep-sha256:" + "0" * 64

each_format = pytest.mark.parametrize("format", SUFFIXES)


def preset(name: str = "cross", **bass: Any) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "name": name,
        "title": "A crossover",
        "separate": {"backend": "crossover", "cutoff_hz": 200.0},
        "stems": {"bass": {"from": ["bass"], **bass}, "guitar": {"from": ["guitar"]}},
    }


COMPRESSED = {"chain": [{"effect": "Compressor", "threshold_db": -30, "ratio": 4}]}
RAISED = {"restore": {"method": "peak", "dbfs": -6}}


def make_song(path: Path, channels: int = 2, rate: int = RATE, seconds: float = 1.0) -> Path:
    rng = np.random.default_rng(len(path.name))
    time_s = np.arange(round(rate * seconds)) / rate
    samples = 0.05 * rng.standard_normal((channels, time_s.size)) + 0.1 * np.sin(2 * np.pi * 80 * time_s)
    path.parent.mkdir(parents=True, exist_ok=True)
    gbsep.write(path, Audio(samples, rate))
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A song rendered with two presets; the first has no effects."""
    song = make_song(tmp_path / "song.wav")
    for one in (preset("a", **RAISED), preset("b", **RAISED, **COMPRESSED)):
        gbsep.render(song, one, tmp_path / "out", dry_stems=True)
    return tmp_path / "out"


# Reading projects back


@dataclass
class Heard:
    """A track as a project has it: `path` its folders and name, `silent` by itself or by a folder."""

    path: tuple[str, ...]
    silent: bool
    gain: float
    color: str
    clips: list[tuple[str, float, float]]
    inserts: int


@dataclass
class Project:
    tracks: list[Heard]
    markers: list[tuple[float, str]]
    tempo: float | None
    rate: int | None

    def __getitem__(self, name: str) -> Heard:
        return next(track for track in self.tracks if "/".join(track.path) == name)


def read_project(path: Path) -> Project:
    return read_rpp(path) if path.suffix == ".rpp" else read_dawproject(path)


def read_rpp(path: Path) -> Project:
    root = rpp.loads(path.read_text(encoding="utf-8"))
    tracks: list[Heard] = []
    above: list[tuple[str, bool]] = []
    for element in root.findall("TRACK"):

        def value(tag: str, element: Any = element) -> list[str]:
            return element.find(tag)[1:]

        name, silent = value("NAME")[0], value("MUTESOLO")[0] == "1"
        color = int(value("PEAKCOL")[0])
        assert color >> 24 == 1
        clips = [
            (
                item.find("SOURCE").find("FILE")[1],
                float(item.find("POSITION")[1]),
                float(item.find("LENGTH")[1]),
            )
            for item in element.findall("ITEM")
        ]
        chain = element.find("FXCHAIN")
        tracks.append(
            Heard(
                (*(name for name, _ in above), name),
                silent or any(muted for _, muted in above),
                float(value("VOLPAN")[0]),
                (color & 0xFFFFFF).to_bytes(3, "little").hex(),
                clips,
                len(chain.findall("VST")) if chain else 0,
            )
        )
        opens, closes = map(int, value("ISBUS"))
        assert (opens, closes > 0, closes < 0) in ((0, False, False), (1, True, False), (2, False, True))
        if opens == 1:
            above.append((name, silent))
        del above[len(above) + min(closes, 0) :]
    assert not above, "a folder is left open"
    tempo, rate = root.find("TEMPO"), root.find("SAMPLERATE")
    markers = [(float(line[2]), line[3]) for line in root.findall("MARKER") if line[3]]
    return Project(tracks, markers, float(tempo[1]) if tempo else None, int(rate[1]))


def read_dawproject(path: Path) -> Project:
    with zipfile.ZipFile(path) as container:
        root = ElementTree.fromstring(container.read("project.xml"))
    lanes = {lane.get("track"): lane for lane in root.findall("Arrangement/Lanes/Lanes")}
    tracks: list[Heard] = []

    def visit(element: ElementTree.Element, above: tuple[str, ...], muted: bool, destination: str) -> None:
        channel = element.find("Channel")
        assert channel is not None
        if channel.get("role") == "master":
            return
        assert channel.get("destination") == destination
        mute, volume = channel.find("Mute"), channel.find("Volume")
        assert mute is not None
        assert volume is not None
        silent = muted or mute.get("value") == "true"
        names = (*above, element.attrib["name"])
        lane = lanes.get(element.get("id"))
        clips = [] if lane is None else lane.findall("Clips/Clip")
        paths = [clip.find("Audio/File").attrib["path"] for clip in clips]  # type: ignore[union-attr]
        tracks.append(
            Heard(
                names,
                silent,
                float(volume.attrib["value"]),
                element.attrib["color"].lstrip("#"),
                [
                    (file, float(clip.attrib["time"]), float(clip.attrib["duration"]))
                    for file, clip in zip(paths, clips, strict=True)
                ],
                len(channel.findall("Devices/Vst3Plugin")),
            )
        )
        for inner in element.findall("Track"):
            visit(inner, names, silent, channel.attrib["id"])

    for element in root.findall("Structure/Track"):
        visit(element, (), False, "master")
    markers = [(float(marker.attrib["time"]), marker.attrib["name"]) for marker in root.iter("Marker")]
    tempo = root.find("Transport/Tempo")
    rates = {int(audio.attrib["sampleRate"]) for audio in root.iter("Audio")}
    return Project(tracks, markers, None if tempo is None else float(tempo.attrib["value"]), min(rates, default=None))


def read(path: Path) -> np.ndarray:
    return soundfile.read(path, dtype="float64", always_2d=True)[0].T


def mix(project: Project, folder: Path, frames: int, wanted: Callable[[Heard], bool]) -> np.ndarray:
    """What the wanted tracks sound like together, each clip at its place and through its fader."""
    total = np.zeros((2, frames))
    for track in filter(wanted, project.tracks):
        for file, start_s, length_s in track.clips:
            samples = read(folder / file)
            rate = soundfile.info(folder / file).samplerate
            start = round(start_s * rate)
            assert start_s * rate == pytest.approx(start, abs=1e-6)
            assert length_s * rate == pytest.approx(samples.shape[1], abs=1e-6)
            total[:, start : start + samples.shape[1]] += track.gain * samples
    return total


def audible(track: Heard) -> bool:
    return not track.silent


# What is heard


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


# One project for several songs


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


# Names, numbers and structure


names = st.text(st.characters(codec="utf-8"), max_size=40)


def write_and_read(session: Session, format: str, folder: Path) -> Project:
    path = folder / f"session{SUFFIXES[format]}"
    {"reaper": reaper, "dawproject": dawproject}[format].write(session, path, folder, SEAL)
    return read_project(path)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sessions")


def clip(folder: Path, name: str = "x", start_s: float = 0.0) -> Clip:
    return Clip(folder / "a b" / "x.wav", name, start_s, 441, RATE, 2, "wav")


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


# The schemas


def validate(path: Path, data: Path) -> None:
    etree = pytest.importorskip("lxml.etree")
    with zipfile.ZipFile(path) as container:
        for document, schema in (("project.xml", "Project.xsd"), ("metadata.xml", "MetaData.xsd")):
            root = etree.fromstring(container.read(document))
            etree.XMLSchema(file=str(data / "dawproject" / schema)).assertValid(root)


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


# Markers, tempo, time


def describe(folder: Path, **changes: Any) -> None:
    """Change what render.json says, as another version of gbsep might."""
    told = json.loads((folder / record.RECORD).read_text())
    (folder / record.RECORD).write_text(json.dumps(record.sealed(told | changes)))


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


# The original


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


# What is there already


@each_format
def test_writing_again_gives_the_same_bytes(out: Path, format: str) -> None:
    path = out / "song" / f"song{SUFFIXES[format]}"
    write_sessions(out, format)
    before = path.read_bytes()
    write_sessions(out, format)
    assert path.read_bytes() == before
    assert not [path for path in out.rglob("*") if path.name.startswith(".")]


@each_format
def test_a_project_that_was_saved_since_is_kept(out: Path, format: str) -> None:
    path = out / "song" / f"song{SUFFIXES[format]}"
    write_sessions(out, format)
    written = path.read_bytes()
    changed = written.replace(b"gbsep", b"gbseq", 1)
    assert changed != written
    for content in (changed, written[:-1], written + b"\n", b"", b"something else"):
        path.write_bytes(content)
        (left,) = write_sessions(out, format)
        assert (left.session, left.warnings) == (None, (LEFT,))
        assert path.read_bytes() == content
    write_sessions(out, format, overwrite=True)
    assert path.read_bytes() == written


@each_format
def test_long_names_of_songs_make_shorter_ones_of_projects(tmp_path: Path, format: str) -> None:
    song = make_song(tmp_path / f"{'긴' * 83}.wav")
    gbsep.render(song, preset(), tmp_path / "out")
    (written,) = write_sessions(tmp_path / "out", format)
    assert written.path.name == "긴" * 40 + SUFFIXES[format]
    assert written.path.parent.name == song.stem


@each_format
def test_what_a_killed_process_left_is_swept(out: Path, format: str) -> None:
    script = f"""
import os, pathlib
from gbsep.session.write import write_sessions
pathlib.Path.replace = lambda path, to: os._exit(9) if ".partial" in path.parent.name else os.replace(path, to)
write_sessions({str(out)!r}, {format!r})
"""
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == 9
    assert any(path.name.endswith(".partial") for path in out.rglob(".*"))
    write_sessions(out, format)
    assert not list(out.rglob(".*"))


def test_a_project_that_may_not_be_replaced_stops_no_other(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gbsep.render(make_song(tmp_path / "a first.wav"), preset(), out)
    first, mine = out / "a first" / "a first.rpp", out / "song" / "song.rpp"
    mine.write_text("mine")
    code, printed, said = run(capsys, "session", str(out))
    assert (code, printed) == (0, f"{first}\n")
    assert f"{mine}: warning: {LEFT}" in said
    code, printed, _ = run(capsys, "session", str(out), "--json")
    rows = {row["project"]: row["written"] for row in map(json.loads, printed.splitlines())}
    assert (code, rows) == (0, {str(first): True, str(mine): False})
    first.write_text("mine as well")
    code, printed, said = run(capsys, "session", str(out))
    assert (code, printed) == (2, "")
    assert "left as it is" in said
    assert (first.read_text(), mine.read_text()) == ("mine as well", "mine")


def test_unfinished_renders_are_left_alone(out: Path) -> None:
    (out / "song" / "a" / "bass.wav").unlink()
    shutil.copytree(out / "song" / "b", out / "song" / ".c.host.1.partial")
    (written,) = write_sessions(out)
    assert {track.path[0] for track in read_rpp(written.path).tracks} == {"original", "b"}
    assert written.warnings == ("a is left out, for bass.wav is missing: render it again",)
    (out / "song" / "b" / "render.json").write_text("{}")  # and `a` is not whole
    with pytest.raises(OutputError, match="holds no finished render"):
        write_sessions(out)


def test_what_cannot_be_combined_is_refused(out: Path) -> None:
    with pytest.raises(ParameterError, match="did you mean 'reaper'"):
        write_sessions(out, "reapr")
    with pytest.raises(ParameterError, match="song or batch"):
        write_sessions(out, per="album")
    with pytest.raises(ParameterError, match="use --per song"):
        write_sessions(out, per="batch", fader_gains=True)
    with pytest.raises(ParameterError, match="--format dawproject"):
        write_sessions(out, embed=True)


# Plug-ins


PLUGIN = {"effect": "Plugin", "name": "ZamCompX2", "parameters": {"ratio": 12.34}}


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder, so that the machine's plug-ins are scanned once."""
    return tmp_path_factory.mktemp("scanned")


@pytest.fixture
def plugged(tmp_path: Path, scanned: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GBSEP_CACHE", str(scanned))
    if not Path("/usr/lib/vst3/ZamCompX2.vst3").exists():
        pytest.skip("ZamCompX2 is missing: install Debian's zam-plugins")
    song = make_song(tmp_path / "song.wav")
    chain = [{"effect": "Gain", "gain_db": -1}, {"effect": "Parallel", "branches": [{"chain": [PLUGIN]}]}]
    gbsep.render(song, preset(chain=chain), tmp_path / "out", dry_stems=True)
    return tmp_path / "out"


def test_a_plugin_comes_with_the_state_it_had(plugged: Path, data: Path) -> None:
    write_sessions(plugged, "dawproject")
    path = plugged / "song" / "song.dawproject"
    validate(path, data)
    project = read_project(path)
    assert [track.path for track in project.tracks if track.inserts] == [("cross", "bass (dry)")]
    with zipfile.ZipFile(path) as container:
        root = ElementTree.fromstring(container.read("project.xml"))
        state = container.read(root.find(".//State").attrib["path"])  # type: ignore[union-attr]
    device = root.find(".//Vst3Plugin")
    assert device is not None
    assert device.find("Enabled").attrib["value"] == "false"  # type: ignore[union-attr]
    report = json.loads((plugged / "song/cross/render.json").read_text())["stems"]["bass"]["plugins"][0]
    assert (device.get("deviceID"), device.get("pluginVersion")) == (report["class_id"], report["version"])
    with gbsep.plugins.host.open_plugin(gbsep.plugins.host.find("ZamCompX2"), RATE, 2, state=state) as instance:
        restored = dict(instance.values)
    assert restored["ratio"] == 12.34
    blocks = {"buffer_size_frames": 0}  # the host's, which varies with the length of the signal
    assert restored | blocks == report["parameters"] | blocks
    comment = next(track.get("comment") for track in root.iter("Track") if track.get("name") == "bass (dry)")
    assert comment == "chain: Gain (not in the session), ZamCompX2 (bypassed, with its state)"


def test_reaper_gets_the_same_state(plugged: Path) -> None:
    (written,) = write_sessions(plugged)
    track = next(
        track for track in rpp.loads(written.path.read_text()).findall("TRACK") if track.find("NAME")[1] == "bass (dry)"
    )
    chain = track.find("FXCHAIN")
    assert chain.find("BYPASS")[1] == "1"
    vst = chain.find("VST")
    assert vst.attrib[:2] == ["VST3: ZamCompX2 (Damien Zammit)", "ZamCompX2.vst3"]
    head, *data, tail = vst.children
    head, data, tail = base64.b64decode(head), base64.b64decode("".join(data)), base64.b64decode(tail)
    number, magic = struct.unpack_from("<II", head)
    assert vst.attrib[4].startswith(f"{number}{{")
    assert (magic, struct.unpack_from("<III", head, 48)) == (0xFEED5EEE, (len(data), 1, 0x10FFFF))
    insert = next(track for track, _ in model.walk(written.session.tracks) if track.inserts).inserts[0]
    chunks = gbsep.plugins.host.preset_chunks(insert.state)
    (size,) = struct.unpack_from("<I", data)
    assert data[8 : 8 + size] == chunks[b"Comp"]
    assert data[8 + size + 8 :] == chunks.get(b"Cont", b"")
    assert tail == b"\0\0\x10\0\0\0"


@pytest.mark.parametrize(
    ("class_id", "number"),
    [
        ("72C4DB717A4D459AB97E51745D84B39D", 756089518),
        ("5653545435333274723520737465616C", 1456132600),
        ("5653545344656C237473746572656F20", 1997878177),
    ],
)
def test_reapers_numbers_of_known_plugins(place: Path, class_id: str, number: int) -> None:
    track = Track("t", 0, inserts=(Insert("Known", class_id),))
    path = place / "known.rpp"
    reaper.write(Session("s", RATE, (track,)), path, place, SEAL)
    vst = rpp.loads(path.read_text()).find("TRACK").find("FXCHAIN").find("VST")
    assert vst.attrib[4] == f"{number}{{{class_id}}}"


def test_a_plugin_that_is_not_here_keeps_the_state_of_its_preset(
    plugged: Path,
) -> None:
    with gbsep.plugins.host.open_plugin(gbsep.plugins.host.find("ZamCompX2"), RATE, 2, {"ratio": 3.0}) as instance:
        saved = instance.save_state()
    for name, state in (("without", None), ("with", saved)):
        told = json.loads((plugged / "song" / "cross" / record.RECORD).read_text())
        wanted = told["preset"]["stems"]["bass"]["chain"][1]["branches"][0]["chain"][0]
        wanted |= {"name": "Gone"} | ({"state": base64.b64encode(state).decode()} if state else {})
        describe(plugged / "song" / "cross", preset=told["preset"])
        (written,) = write_sessions(plugged)
        track = next(track for track, _ in model.walk(written.session.tracks) if track.inserts)
        assert track.inserts[0].state == state, name
        held = "the state that its preset names" if state else "its defaults"
        assert f"Gone (bypassed, with {held}: no plug-in 'Gone'" in track.note


# The command line


def test_the_command_offers_what_there_is() -> None:
    options = {option.name: option.type for option in cli.commands["session"].params}
    assert list(options["format_"].choices) == list(FORMATS)  # type: ignore[attr-defined]
    assert list(options["per"].choices) == list(SCOPES)  # type: ignore[attr-defined]


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    return exit_code(*words), *capsys.readouterr()


def test_the_command_prints_the_projects(
    out: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, printed, _ = run(capsys, "session", str(out), "--format", "dawproject", "--embed")
    assert (code, printed) == (0, f"{out / 'song' / 'song.dawproject'}\n")
    code, printed, _ = run(capsys, "session", str(out), "--json", "--fader-gains")
    row = json.loads(printed)
    assert (code, row["project"], row["tempo_bpm"]) == (0, str(out / "song" / "song.rpp"), None)
    assert row["markers"] == len(json.loads((out / "song" / "a" / "render.json").read_text())["diagnoses"])
    assert row["tracks"][:4] == ["original", "a", "bass", "guitar"]
    code, printed, said = run(capsys, "session", str(out / "nowhere"))
    assert (code, printed) == (2, "")
    assert "holds no finished render" in said


def test_what_was_heard_is_heard_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    song, out = make_song(tmp_path / "song.wav"), tmp_path / "out"
    words = ("render", str(song), "-p", "exp002_100", "-p", "exp002", "--out", str(out))
    assert run(capsys, *words, "--session", "reaper")[0] == 0
    project = out / "song" / "song.rpp"
    before = project.read_bytes()
    assert run(capsys, "session", str(out))[0] == 0
    assert project.read_bytes() == before

    def heard(path: Path) -> set[str]:
        return {track.path[0] for track in read_project(path).tracks if not track.silent}

    (other,) = write_sessions(out, "dawproject")
    assert heard(other.path) == heard(project) == {"exp002_100"}
    project.unlink()
    other.path.unlink()
    (anew,) = write_sessions(out)
    assert heard(anew.path) == {"exp002"}, "the first by name"
    for heard_now in ("exp002_100", None):
        (all_songs,) = write_sessions(out, per="batch", heard=heard_now)
        assert heard(all_songs.path) == {"exp002_100"}


def test_render_writes_projects_of_what_it_rendered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    songs = [str(make_song(tmp_path / f"{name}.wav")) for name in ("one", "two")]
    out = tmp_path / "out"
    words = ("render", *songs, "-p", "exp002", "--out", str(out), "--session", "reaper")
    code, printed, _ = run(capsys, *words)
    projects = [out / name / f"{name}.rpp" for name in ("one", "two")]
    assert (code, printed.splitlines()[:2]) == (0, list(map(str, projects)))
    assert "exp002/bass (dry)" in ["/".join(track.path) for track in read_rpp(projects[0]).tracks]
    code, printed, said = run(capsys, *words, "--json", "--session-per", "batch")
    assert (code, len(printed.splitlines())) == (0, 2)
    assert all(json.loads(line)["status"] == "skipped" for line in printed.splitlines())
    assert str(out / "out.rpp") in said.splitlines()

    projects[1].write_text("mine")
    code, _, said = run(capsys, *words, "-p", "exp002_100", "--dry-run")
    assert (code, f"{projects[1]}: warning: {LEFT}" in said) == (0, True)
    code, printed, said = run(capsys, *words, "-p", "exp002_100")
    assert (code, f"{projects[1]}: warning: {LEFT}" in said, projects[1].read_text()) == (0, True, "mine")
    assert str(projects[0]) in printed.splitlines()
    assert str(projects[1]) not in printed.splitlines()
    assert (out / "two" / "exp002_100" / "bass.wav").exists()
    given = ("render", songs[1], "-p", "exp002_100", *words[3:], "--overwrite")
    code, _, _ = run(capsys, *given)
    heard = {track.path[0] for track in read_rpp(projects[1]).tracks if not track.silent}
    assert (code, heard) == (0, {"exp002_100"}), "the first that was asked for"
