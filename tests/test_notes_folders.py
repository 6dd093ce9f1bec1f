"""Notes of folders: kept beside stems, in sessions, and measured against true ones."""

from __future__ import annotations

import csv
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

import gbsep
from gbsep.audio import Audio
from gbsep.cli import cli
from gbsep.errors import OutputError
from gbsep.io.formats import OutputFormat
from gbsep.io.write import write
from gbsep.notes import files
from gbsep.notes.compare import compare
from gbsep.notes.folders import keep, score_folder
from gbsep.notes.line import Line
from gbsep.report import collect

from .test_notes import line_of, sound_of

LINE = line_of([28, 33, 35, 40, 38, 33, 31, 28, 36, 40, 43, 35, 30, 42])


def run(*arguments: Any) -> Any:
    result = CliRunner().invoke(cli, [*map(str, arguments)], obj={"debug": False}, standalone_mode=False)
    if result.exception:
        raise result.exception
    return result


@pytest.fixture(scope="module")
def stems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stems")
    write(folder / "bass.wav", sound_of(LINE), OutputFormat("wav", "16"))
    return folder


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, stems: Path) -> Path:
    """Renders of a song that is its bass."""
    folder = tmp_path_factory.mktemp("out")
    gbsep.render(stems / "bass.wav", "exp002", out=folder)
    return folder


def test_true_notes_come_from_a_table_or_from_the_true_stem(stems: Path, tmp_path: Path) -> None:
    by_sound = score_folder(stems, stems)
    assert by_sound.f1 == 1
    wav = (stems / "bass.wav").read_bytes()
    (tmp_path / "bass.wav").write_bytes(wav)
    files.write(tmp_path / "bass.notes.csv", files.Sheet(LINE))
    assert score_folder(stems, tmp_path).true == len(LINE.notes)
    assert score_folder(stems, tmp_path).f1 > 0.9
    (tmp_path / "bass.notes.csv").unlink()
    (tmp_path / "notes.csv").write_text("part,onset_s,duration_s,midi\nbass,0.1,0.2,28\nguitar,0,1,60\n")
    assert score_folder(stems, tmp_path).true == 1


def test_an_excerpt_is_compared_with_its_part(stems: Path, tmp_path: Path) -> None:
    gbsep.render(stems / "bass.wav", "exp002", out=tmp_path, start_s=1.0, duration_s=2.0)
    score = score_folder(tmp_path / "bass" / "exp002@1s-3s", stems)
    assert score.true == sum(1 <= note.onset_s < 3 for note in LINE.notes)
    assert score.f1 > 0.8


def test_figures_follow_the_rule() -> None:
    late = Line(tuple(note.__class__(note.onset_s + 0.06, note.end_s + 0.06, note.midi) for note in LINE.notes))
    assert compare(LINE, late).f1 == 0
    octave = Line(tuple(note.__class__(note.onset_s, note.end_s, note.midi + 12) for note in LINE.notes))
    assert compare(LINE, octave).f1 == 0
    half = compare(LINE, Line(LINE.notes[::2]))
    assert (half.precision, half.recall) == (1, 0.5)
    short = Line(tuple(note.__class__(note.onset_s, note.onset_s + 0.1, note.midi) for note in LINE.notes))
    assert (compare(LINE, short).f1, compare(LINE, short).f1_with_offsets) == (1, 0)
    assert compare(LINE, Line()).f1 == 0
    assert compare(Line(), Line()).f1 == 1


def test_the_command_measures_notes(out: Path, stems: Path) -> None:
    told = json.loads(run("evaluate", out / "bass", "--reference", stems, "--notes", "--json").stdout)
    assert set(told["exp002"]["bass"]) == {"precision", "recall", "f1", "f1_with_offsets", "true", "told"}
    assert "F1" in run("evaluate", out / "bass" / "exp002", "--reference", stems, "--notes").stdout


def test_each_song_is_measured_against_its_own_notes(out: Path, tmp_path: Path) -> None:
    truth = tmp_path / "true"
    (truth / "bass").mkdir(parents=True)
    (truth / "bass/bass.wav").write_bytes((out / "bass/exp002/bass.wav").read_bytes())
    (truth / "bass/notes.csv").write_text("part,onset_s,duration_s,midi\nbass,0.5,0.3,99\n")
    shutil.copytree(out, tmp_path / "out")
    shutil.copytree(tmp_path / "out/bass", tmp_path / "out/other")
    shutil.copytree(truth / "bass", truth / "other")
    (truth / "other/notes.csv").unlink()
    listed = run("evaluate", tmp_path / "out", "--reference", truth, "--notes", "--csv").stdout.splitlines()
    rows = {row["render"]: row for row in csv.DictReader(listed)}
    assert (rows["bass/exp002"]["true"], rows["bass/exp002"]["f1"]) == ("1", "0.0000")
    assert rows["other/exp002"]["f1"] == "1.0000"
    assert "2 songs, exp002" in run("evaluate", tmp_path / "out", "--reference", truth, "--notes").stdout
    figures = {song.name: song.renders[0].figures["bass"]["note_f1"] for song in collect(tmp_path / "out", truth)}
    assert figures == {"bass": 0.0, "other": 100.0}


def test_notes_are_kept_and_corrections_with_them(stems: Path, tmp_path: Path) -> None:
    (tmp_path / "bass.wav").write_bytes((stems / "bass.wav").read_bytes())
    path = keep(tmp_path)
    assert path == tmp_path / "bass.notes.csv"
    path.write_text("onset_s,end_s,midi\n0,1,30\n")
    assert keep(tmp_path) == path
    assert len(files.read(path).notes) == 1
    told = run("notes", tmp_path, "--keep", "--out", tmp_path / "line.mid", "--json")
    assert [note["midi"] for note in json.loads(told.stdout)["notes"]] == [30]
    assert [note.midi for note in files.read(tmp_path / "line.mid").notes] == [30]
    assert path.read_text() == "onset_s,end_s,midi\n0,1,30\n"
    assert f"as {path} keeps them" in run("notes", tmp_path).stderr
    keep(tmp_path, overwrite=True)
    assert len(files.read(path).notes) > 5
    path.write_text("onset_s,end_s,midi\n0,1,30\n")
    run("notes", tmp_path, "--keep", "--overwrite")
    assert len(files.read(path).notes) > 5


def test_a_folder_of_renders_is_no_render(out: Path) -> None:
    with pytest.raises(OutputError, match="bass/exp002; give one of these"):
        run("notes", out)
    with pytest.raises(OutputError, match="no such folder"):
        keep(out / "nothing")


@pytest.fixture(scope="module")
def kept(out: Path) -> Line:
    return files.read(keep(out / "bass" / "exp002"))


def test_a_reaper_session_has_the_notes_at_their_times(out: Path, kept: Line) -> None:
    import rpp

    run("session", out, "--notes", "--overwrite")
    project = rpp.loads((out / "bass" / "bass.rpp").read_text(encoding="utf-8"))
    (source,) = [source for source in project.findall(".//SOURCE") if source.attrib[0] == "MIDI"]
    at, found = 0, []
    for row in source.children:
        if row[0] == "E":
            at += int(row[1])
            if row[2] == "90":
                found.append((at / 1920, int(row[3], 16)))
    assert [pitch for _, pitch in found] == [note.midi for note in kept.notes]
    assert [second for second, _ in found] == pytest.approx([note.onset_s for note in kept.notes], abs=1e-3)
    assert ["IGNTEMPO", "1", "120", "4", "4"] in [list(map(str, row)) for row in source.children]


def test_a_dawproject_has_the_notes_at_their_times(out: Path, kept: Line) -> None:
    run("session", out, "--format", "dawproject", "--notes", "--overwrite")
    with zipfile.ZipFile(out / "bass" / "bass.dawproject") as container:
        project = ElementTree.fromstring(container.read("project.xml"))
    found = [(float(note.attrib["time"]), int(note.attrib["key"])) for note in project.iter("Note")]
    assert found == [(pytest.approx(note.onset_s), note.midi) for note in kept.notes]
    (track,) = [track for track in project.iter("Track") if track.attrib.get("contentType") == "notes"]
    assert track.attrib["name"] == "bass notes"


def test_songs_in_one_session_keep_their_notes(out: Path, kept: Line) -> None:
    run("session", out, "--format", "dawproject", "--per", "batch", "--overwrite")
    with zipfile.ZipFile(out / f"{out.name}.dawproject") as container:
        project = ElementTree.fromstring(container.read("project.xml"))
    assert len(list(project.iter("Note"))) == len(kept.notes)


def test_silence_is_a_stem_without_notes(tmp_path: Path) -> None:
    import numpy as np

    write(tmp_path / "bass.wav", Audio(np.zeros((1, 8000), np.float32), 8000), OutputFormat("wav", "16"))
    assert run("notes", tmp_path / "bass.wav").stderr.endswith("no notes were heard\n")


@pytest.mark.parametrize("name", ["guitar", "guitar1", "Guitar2"])
def test_a_guitar_in_a_file_of_its_name_is_heard_as_one(name: str, tmp_path: Path) -> None:
    import numpy as np

    write(tmp_path / f"{name}.wav", Audio(np.zeros((1, 8000), np.float32), 8000), OutputFormat("wav", "16"))
    assert json.loads(run("notes", tmp_path / f"{name}.wav", "--json").stdout)["stem"] == name.lower()
    assert json.loads(run("notes", tmp_path / f"{name}.wav", "--json", "--stem", "bass").stdout)["stem"] == "bass"


def test_the_page_shows_the_notes_that_are_kept(out: Path, kept: Line) -> None:
    from gbsep.report.page import song_model
    from gbsep.report.songs import collect

    (song,) = collect(out)
    sources = {source["name"]: source["written"] for source in song_model(song, str)["sources"]}
    assert [pitch for _, _, pitch, _ in sources["bass"]] == [note.midi for note in kept.notes]
    assert sources["guitar"] == []


def test_a_broken_file_of_notes_stops_no_page(out: Path, kept: Line) -> None:
    from gbsep.report.songs import collect

    path = out / "bass" / "exp002" / "guitar.notes.csv"
    path.write_text("nonsense")
    try:
        (song,) = collect(out)
    finally:
        path.unlink()
    assert all(source.written == () for source in song.sources if source.name == "guitar")
