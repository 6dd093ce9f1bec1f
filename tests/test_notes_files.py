"""Notes in files: other programs read what is written, and what a person corrected stays."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from gbsep.cli import cli
from gbsep.errors import OutputError, ParameterError, SmallFileError
from gbsep.io.formats import OutputFormat
from gbsep.io.read import read
from gbsep.io.write import write
from gbsep.notes import files, guitarpro, midi, musicxml, tab, table
from gbsep.notes.fingering import fingered, tuning_of
from gbsep.notes.line import Beats, Line, Note, even
from gbsep.notes.score import BAR, write_score
from gbsep.notes.tempo import find_beats

from .test_notes import line_of, sound_of


def on_grid(bpm: float, bars: int = 8, seed: int = 0, loose_s: float = 0.0, wander: float = 0.0) -> tuple[Line, Beats]:
    """Quavers and crotchets from the first beat on; with `wander` the tempo rises by so much of itself."""
    rng = np.random.default_rng(seed)
    beats = Beats(((0.2, 0.0), (0.2 + 60 * 4 * bars / bpm / (1 + wander / 2), 4.0 * bars)))
    if wander:
        marks = np.linspace(0, 4 * bars, 9)
        seconds = 0.2 + np.cumsum([0, *(60 * np.diff(marks) / (bpm * (1 + wander * (marks[1:] / marks[-1]))))])
        beats = Beats(tuple(zip(seconds.tolist(), marks.tolist(), strict=True)))
    notes, at = [], 0.0
    while at < 4 * bars:
        length = float(rng.choice([0.5, 0.5, 1.0])) if at % 1 == 0 else 0.5
        pitch = 28 if at % 4 == 0 else int(rng.choice([31, 33, 35, 40]))
        begin = beats.second(at) + rng.normal(0, loose_s)
        notes.append(Note(max(0.0, begin), beats.second(at + 0.9 * length), pitch, 0.9))
        at += length
    return Line(tuple(notes), notes[-1].end_s), beats


SONG, BEATS = on_grid(97.0)


@pytest.mark.parametrize("bpm", [84.0, 97.0, 120.0, 145.5])
def test_an_even_tempo_is_told_from_the_notes(bpm: float) -> None:
    line, _ = on_grid(bpm, 16, loose_s=0.006)
    beats = find_beats(line.notes)
    assert beats is not None
    assert beats.bpm == pytest.approx(bpm, rel=0.002)
    assert beats.second(0) == pytest.approx(0.2, abs=0.03)


def test_a_tempo_that_rises_is_followed() -> None:
    line, true = on_grid(100.0, 40, wander=0.06)
    beats = find_beats(line.notes)
    assert beats is not None
    assert len(beats.anchors) > 2
    off = [beats.beat(note.onset_s) - true.beat(note.onset_s) for note in line.notes]
    assert max(off) - min(off) < 0.15


def test_notes_at_random_have_no_tempo() -> None:
    at = np.sort(np.random.default_rng(3).uniform(0, 60, 150))
    assert find_beats([Note(second, second + 0.1, 30) for second in at.tolist()]) is None


def test_midi_keeps_times_and_pitches() -> None:
    import mido

    for beats in (BEATS, None, Beats(((0.0, 0.0), (10.0, 17.0), (20.0, 36.0)))):
        content = midi.midi_bytes(SONG, beats)
        file = mido.MidiFile(file=io.BytesIO(content))
        at, onsets = 0.0, []
        for message in file:
            at += message.time
            if message.type == "note_on" and message.velocity:
                onsets.append((at, message.note))
        assert [pitch for _, pitch in onsets] == [note.midi for note in SONG.notes]
        assert np.allclose([at for at, _ in onsets], [note.onset_s for note in SONG.notes], atol=0.002)
        again = midi.read_midi(content)
        assert [note.midi for note in again.notes] == [note.midi for note in SONG.notes]


def test_the_tempo_stands_in_the_midi_file() -> None:
    import mido

    file = mido.MidiFile(file=io.BytesIO(midi.midi_bytes(SONG, even(97.0))))
    assert [round(6e7 / message.tempo, 2) for message in file.tracks[0] if message.type == "set_tempo"] == [97.0]


def test_a_table_reads_as_it_was_written() -> None:
    again = table.read_csv(table.csv_bytes(SONG).decode())
    assert [note.midi for note in again.notes] == [note.midi for note in SONG.notes]
    assert [note.onset_s for note in again.notes] == pytest.approx([note.onset_s for note in SONG.notes], abs=1e-4)


def test_a_table_of_several_parts_gives_its_own() -> None:
    text = "part,onset_s,duration_s,midi\nbass,1.0,0.5,30\nguitar,1.0,0.5,60\nbass,0.5,0.25,28\n"
    assert [(note.onset_s, note.end_s, note.midi) for note in table.read_csv(text).notes] == [
        (0.5, 0.75, 28),
        (1.0, 1.5, 30),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a,b",
        *("onset_s,end_s,midi\n" + row for row in ("1,0.5,30", "x,1,30", "0,nan,30", "0,1,300", "0,1e6,30", "0")),
    ],
)
def test_what_is_no_table_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bass.csv"
    path.write_text(text)
    with pytest.raises(SmallFileError, match="gbsep notes"):
        files.read(path)


@pytest.mark.parametrize("content", [b"MThd\x00\x00\x00\x06nonsense", b""])
def test_what_is_no_midi_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bass.mid"
    path.write_bytes(content)
    with pytest.raises(SmallFileError, match=r"MIDI file: \w.*gbsep notes"):
        files.read(path)


def triplets() -> Line:
    """A bar of triplets and sixteenths, a note over the bar line, a chord, a dead note."""
    beat = 60 / 97.0
    at = [0, 1 / 3, 2 / 3, 1, 1.25, 1.5, 1.75, 2, 3.5, 5, 5, 6]
    kinds = ["plucked"] * 11 + ["dead"]
    notes = [
        Note(0.2 + beat * one, 0.2 + beat * (one + (1.4 if one == 3.5 else 0.2)), pitch, 0.8, 1.0, kind)
        for one, pitch, kind in zip(at, [28, 31, 33, 35, 28, 35, 40, 38, 31, 33, 45, 28], kinds, strict=True)
    ]
    return Line(tuple(notes), notes[-1].end_s)


@pytest.mark.parametrize("line", [SONG, triplets()])
def test_bars_are_full(line: Line) -> None:
    score = write_score(line, even(97.0, 0.2))
    for bar in score.bars:
        assert [sign.start for sign in bar] == [sum(sign.length for sign in bar[:n]) for n in range(len(bar))]
        assert sum(sign.length for sign in bar) == BAR


@pytest.mark.parametrize("line", [SONG, triplets()])
def test_music21_reads_the_score(line: Line) -> None:
    music21 = pytest.importorskip("music21")
    score = write_score(line, even(97.0, 0.2))
    found = music21.converter.parseData(musicxml.musicxml_bytes(score, "a <song>").decode(), format="musicxml")
    begun = [note for note in found.flatten().notes if note.tie is None or note.tie.type == "start"]
    assert sorted(pitch.midi for note in begun for pitch in note.pitches) == sorted(note.midi for note in line.notes)
    measures = found.parts[0].getElementsByClass("Measure")
    assert len(measures) == len(score.bars)
    assert {float(measure.duration.quarterLength) for measure in measures} == {4.0}
    beat_s = 60 / 97.0
    assert [float(note.getOffsetInHierarchy(found)) for note in begun] == pytest.approx(
        sorted({round((note.onset_s - 0.2) / beat_s, 6) for note in line.notes}), abs=1e-3
    )


@pytest.mark.parametrize("line", [SONG, triplets()])
def test_guitar_pro_files_hold_the_score(line: Line) -> None:
    import guitarpro as gp

    score = write_score(line, even(97.0, 0.2))
    song = gp.parse(io.BytesIO(guitarpro.gp5_bytes(score, "a song")))
    track = song.tracks[0]
    opened = [string.value for string in track.strings]
    assert opened == list(reversed(score.tuning))
    beats = [beat for measure in track.measures for beat in measure.voices[0].beats]
    begun = [note for beat in beats for note in beat.notes if note.type != gp.NoteType.tie]
    assert sorted(opened[note.string - 1] + note.value for note in begun) == sorted(n.midi for n in line.notes)
    assert len(track.measures) == len(score.bars)
    lengths = [sum(beat.duration.time for beat in measure.voices[0].beats) for measure in track.measures]
    assert set(lengths) == {4 * gp.Duration.quarterTime}
    assert song.tempo == 97


def test_tablature_shows_every_fret() -> None:
    line = triplets()
    score = write_score(line, even(97.0, 0.2))
    text = tab.tab_bytes(score, "a song").decode()
    places = [place for bar in score.bars for sign in bar if not sign.tied for place in sign.placed if place]
    rows = [row.split("|", 1)[1] for row in text.splitlines() if "|" in row]
    shown = [cell for row in rows for cell in row.replace("|", "-").split("-") if cell]
    wanted = [str(place.fret) for place in places]
    assert sorted(shown) == sorted([*wanted[:-1], "x"])
    assert len({len(row) for row in rows}) == 1


@pytest.mark.parametrize("columns", [40, 80, 100, 200])
def test_tablature_fits_a_terminal(columns: int) -> None:
    score = write_score(triplets(), even(97.0, 0.2))
    whole, fitted = (tab.tab_bytes(score, "a song", width).decode().splitlines()[3:] for width in (0, columns))
    assert max(map(len, fitted)) <= columns
    for string in ("E1", "A1", "D2", "G2"):
        drawn = ["".join(row.split("|", 1)[1] for row in rows if row.startswith(string)) for rows in (whole, fitted)]
        assert drawn[0] == drawn[1]


def test_tunings_follow_the_line() -> None:
    def lowest(pitch: int, **how: Any) -> tuple[int, ...]:
        return tuning_of([Note(0.0, 1.0, pitch)], **how)

    assert lowest(28) == (28, 33, 38, 43)
    assert lowest(26) == (26, 33, 38, 43)
    assert lowest(23) == (23, 28, 33, 38, 43)
    assert lowest(21) == (21, 26, 31, 36, 41)
    assert lowest(24, strings=4) == (24, 29, 34, 39)
    assert lowest(28, wanted="drop D") == (26, 33, 38, 43)
    assert lowest(28, wanted="drop C") == (24, 31, 36, 41)
    assert lowest(28, wanted="-2") == (26, 31, 36, 41)
    assert lowest(28, wanted="D1 A1 D2 G2") == (26, 33, 38, 43)
    assert lowest(40, stem="guitar") == (40, 45, 50, 55, 59, 64)


@pytest.mark.parametrize("wanted", ["nonsense", "G2 D2 A1 E1", "drop H", "E1", "-40"])
def test_what_is_no_tuning_is_told(wanted: str) -> None:
    with pytest.raises(ParameterError, match="tuning"):
        tuning_of([], wanted=wanted)


def test_a_hand_stays_where_it_can() -> None:
    """A scale of G major over an octave needs no frets beyond one place of the hand."""
    scale = [31, 33, 35, 36, 38, 40, 42, 43]
    places = [place for (place,) in fingered([[pitch] for pitch in scale], (28, 33, 38, 43))]
    frets = [place.fret for place in places if place and place.fret]
    assert max(frets) - min(frets) <= 3
    assert [place and (28, 33, 38, 43)[place.string] + place.fret for place in places] == scale


def test_a_chord_is_on_strings_of_its_own() -> None:
    ((low, high),) = fingered([[33, 40]], (28, 33, 38, 43))
    assert low is not None
    assert high is not None
    assert low.string != high.string


def test_a_pitch_below_the_neck_has_no_place() -> None:
    assert fingered([[20], [28]], (28, 33, 38, 43))[0] == (None,)


def test_strings_without_octaves_are_the_nearest_usual_ones() -> None:
    assert tuning_of([], wanted="E A D G") == (28, 33, 38, 43)
    assert tuning_of([], wanted="C G C F") == (24, 31, 36, 41)
    assert tuning_of([], wanted="b e a d g") == (23, 28, 33, 38, 43)
    assert tuning_of([], "guitar", wanted="D A D G A D") == (38, 45, 50, 55, 57, 62)
    with pytest.raises(ParameterError, match="5, as many as the tuning has"):
        tuning_of([], strings=4, wanted="B0 E1 A1 D2 G2")


def test_no_tablature_begins_at_less_than_nothing() -> None:
    beats = Beats(((-0.002, 0.0), (1.998, 4.0)))
    assert "begins at 0.00 s" in files.WRITERS[".txt"](files.Sheet(SONG, beats=beats)).decode()


def test_corrections_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "bass.csv"
    files.write(path, files.Sheet(SONG))
    files.write(path, files.Sheet(SONG))  # the same again does no harm
    corrected = path.read_text().replace(",28,", ",29,", 1)
    path.write_text(corrected)
    with pytest.raises(OutputError, match="--overwrite"):
        files.write(path, files.Sheet(SONG))
    assert path.read_text() == corrected
    files.write(path, files.Sheet(SONG), overwrite=True)
    assert path.read_text() != corrected


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="musicxml"):
        files.write(tmp_path / "bass.pdf", files.Sheet(SONG))


def run(*arguments: Any) -> Any:
    result = CliRunner().invoke(cli, ["notes", *map(str, arguments)], obj={"debug": False}, standalone_mode=False)
    if result.exception:
        raise result.exception
    return result


def test_the_command_writes_what_is_asked_for(tmp_path: Path) -> None:
    stem = tmp_path / "bass.wav"
    line = line_of([28, 33, 35, 40, 38, 33, 31, 28, 28, 40, 43, 35])
    write(stem, sound_of(line), OutputFormat("wav", "16"))
    shown = run(stem).stdout
    assert "E1|" in shown
    told = json.loads(run(stem, "--json").stdout)
    assert [note["midi"] for note in told["notes"]] == [note.midi for note in line.notes]
    for suffix in files.WRITERS:
        run(stem, "--out", tmp_path / f"line{suffix}")
    played = tmp_path / "played.wav"
    run(stem, "--play", played)
    audio = read(played)
    assert audio.channels == 2
    assert audio.seconds == pytest.approx(read(stem).seconds)
    with pytest.raises(OutputError, match="overwrite"):
        run(stem, "--play", played, "--out", tmp_path / "none.csv")
    assert not (tmp_path / "none.csv").exists()


def test_corrected_notes_are_taken_as_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "bass.csv"
    files.write(path, files.Sheet(replace(SONG, notes=SONG.notes[:9])))
    path.write_text(path.read_text().replace(",28,", ",29,", 1))
    told = json.loads(run(path, "--json", "--tempo", 97, "--out", tmp_path / "bass.mid").stdout)
    assert told["notes"][0]["midi"] == 29
    assert told["tempo_bpm"] == pytest.approx(97, abs=0.7)
    assert files.read(tmp_path / "bass.mid").notes[0].midi == 29


@pytest.mark.parametrize(
    "table",
    [
        "onset_s,end_s,midi\n0.5,1,28\n",
        "\ufeffonset_s;end_s;midi\r\n0,5;1,0;28\r\n;;\r\n",
        'onset_s,end_s,midi\n"0,5","1,0",28\n,,\n',
        "onset_s\tend_s\tmidi\n0.5\t1\te1\n",
        "onset_s,end_s,midi,\n0.5,1,Fb1,\n",
    ],
    ids=["plain", "semicolons", "decimal commas", "tabs, a name", "a flat, an empty column"],
)
def test_a_spreadsheet_may_have_saved_the_table(tmp_path: Path, table: str) -> None:
    path = tmp_path / "bass.csv"
    path.write_text(table, encoding="utf-8")
    assert [(note.onset_s, note.end_s, note.midi) for note in files.read(path).notes] == [(0.5, 1.0, 28)]
    assert "1 note, E1" in run(path, "--out", tmp_path / "bass.mid").stderr


@pytest.mark.parametrize("row", ["0,5,1,0,28", "0.5,1,H1", "0.5,1,", "0.5,,28"])
def test_a_row_that_is_no_note_is_told(tmp_path: Path, row: str) -> None:
    path = tmp_path / "bass.csv"
    path.write_text(f"onset_s,end_s,midi\n{row}\n")
    with pytest.raises(SmallFileError, match="line 2"):
        files.read(path)


def test_a_folder_without_the_stem_is_told(tmp_path: Path) -> None:
    write(tmp_path / "guitar.wav", sound_of(line_of([52, 55])), OutputFormat("wav", "16"))
    with pytest.raises(OutputError, match="it has guitar"):
        run(tmp_path)
