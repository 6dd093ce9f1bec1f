"""Scores as other programs read them: MuseScore and alphaTab, where they are at hand, find every note and bar.

mido, music21 and PyGuitarPro read them in test_notes_files. alphaTab: `npm install @coderline/alphatab`, and its folder
node_modules in NODE_PATH.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from gbsep.notes import files
from gbsep.notes.line import Line, even

from .test_notes_files import SONG, triplets

ALPHATAB = """
const { importer, Settings } = require("@coderline/alphatab");
const bytes = new Uint8Array(require("fs").readFileSync(process.argv[1]));
const score = importer.ScoreLoader.loadScoreFromBytes(bytes, new Settings());
const notes = score.tracks[0].staves[0].bars.flatMap((bar) => bar.voices[0].beats).flatMap((beat) => beat.notes);
const begun = notes.filter((note) => !note.isTieDestination);
const pitches = begun.map((note) => note.realValue);
console.log(JSON.stringify({ bars: score.masterBars.length, tempo: score.tempo, pitches }));
"""


@pytest.fixture
def musescore() -> str:
    found = next(
        (path for name in ("mscore3", "musescore3", "mscore", "musescore") if (path := shutil.which(name))), None
    )
    if found is None:
        pytest.skip("no MuseScore: apt-get install musescore3")
    return found


@pytest.fixture
def node() -> str:
    found = shutil.which("node")
    if found is None or subprocess.run([found, "-e", 'require("@coderline/alphatab")'], capture_output=True).returncode:
        pytest.skip("no alphaTab: npm install @coderline/alphatab, and name its node_modules in NODE_PATH")
    return found


def written(folder: Path, line: Line, suffix: str, tuning: str | None = None) -> tuple[Path, files.Sheet]:
    path, sheet = folder / f"line{suffix}", files.Sheet(line, "bass", "a <song>", even(97.0, 0.2), None, tuning)
    files.write(path, sheet)
    return path, sheet


@pytest.mark.parametrize("line", [SONG, triplets()])
@pytest.mark.parametrize("suffix", [".musicxml", ".gp5"])
def test_musescore_reads_every_note(musescore: str, tmp_path: Path, line: Line, suffix: str) -> None:
    import mido

    line = replace(line, notes=tuple(note for note in line.notes if note.kind != "dead"))  # it gives them no pitch
    path, _ = written(tmp_path, line, suffix)
    made = tmp_path / "read.mid"
    quiet = {**os.environ, "QT_QPA_PLATFORM": "offscreen", "XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)}
    subprocess.run([musescore, "-o", str(made), str(path)], check=True, capture_output=True, env=quiet, timeout=120)
    found = [event.note for event in mido.MidiFile(made) if event.type == "note_on" and event.velocity]
    assert sorted(found) == sorted(note.midi for note in line.notes)


@pytest.mark.parametrize("line", [SONG, triplets()])
@pytest.mark.parametrize("suffix", [".musicxml", ".gp5"])
@pytest.mark.parametrize("tuning", [None, "drop C", "B0 E1 A1 D2 G2", "B0 E1 A1 D2 G2 C3"])
def test_alphatab_reads_every_note_and_bar(
    node: str, tmp_path: Path, line: Line, suffix: str, tuning: str | None
) -> None:
    path, sheet = written(tmp_path, line, suffix, tuning)
    made = subprocess.run([node, "-e", ALPHATAB, str(path)], check=True, capture_output=True, text=True, timeout=120)
    found = json.loads(made.stdout)
    assert sorted(found["pitches"]) == sorted(note.midi for note in line.notes)
    assert found["bars"] == len(sheet.score().bars)
    assert round(found["tempo"]) == 97
