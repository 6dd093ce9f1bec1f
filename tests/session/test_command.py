"""Sessions: what is there already, plug-ins, the command line."""

from __future__ import annotations

import base64
import json
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
import rpp

import gbsep
from gbsep.cli import cli
from gbsep.errors import OutputError, ParameterError
from gbsep.session import model, reaper
from gbsep.session.model import Insert, Session, Track
from gbsep.session.write import LEFT, WRITERS, write_sessions
from gbsep.shelf import record
from gbsep.shelf.projects import FORMATS, SCOPES

from .common import (
    RATE,
    SEAL,
    SUFFIXES,
    describe,
    each_format,
    make_song,
    preset,
    read_project,
    read_rpp,
    run,
    validate,
)


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


def test_the_command_offers_what_there_is() -> None:
    options = {option.name: option.type for option in cli.commands["session"].params}
    assert list(options["format_"].choices) == list(FORMATS) == list(WRITERS)  # type: ignore[attr-defined]
    assert list(options["per"].choices) == list(SCOPES)  # type: ignore[attr-defined]


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
