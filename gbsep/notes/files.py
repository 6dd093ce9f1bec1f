"""Notes in files, by their suffix. What a person may have corrected is never replaced unasked."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..atomic import write_whole
from ..errors import OutputError, ParameterError, SmallFileError, similar
from ..store import smallfiles
from . import guitarpro, midi, musicxml, tab, table
from .line import Beats, Line
from .score import Score, write_score

KEPT = ".notes"
"""Of the name of the file in a folder of stems that holds the notes of one: `bass.notes.csv`."""
READ = (".csv", ".mid", ".midi")
"""Suffixes of files that notes are read from."""


@dataclass(frozen=True)
class Sheet:
    """A line with all that its files need: which stem plays it, its title, its beats, and how it is fingered."""

    line: Line
    stem: str = "bass"
    title: str = ""
    beats: Beats | None = None
    strings: int | None = None
    tuning: str | None = None

    def score(self) -> Score:
        """Bars and fingering. Raises ParameterError for what is no tuning."""
        return write_score(self.line, self.beats, self.stem, self.strings, self.tuning)


WRITERS: dict[str, Callable[[Sheet], bytes]] = {
    ".mid": lambda sheet: midi.midi_bytes(sheet.line, sheet.beats, sheet.stem),
    ".csv": lambda sheet: table.csv_bytes(sheet.line),
    ".musicxml": lambda sheet: musicxml.musicxml_bytes(sheet.score(), sheet.title, sheet.stem),
    ".gp5": lambda sheet: guitarpro.gp5_bytes(sheet.score(), sheet.title, sheet.stem),
    ".txt": lambda sheet: tab.tab_bytes(sheet.score(), sheet.title),
}
"""What writes a file of each suffix."""


def check_suffix(path: Path) -> None:
    """Raise ParameterError for a file of a kind that notes are not written to."""
    if path.suffix.lower() not in WRITERS:
        raise ParameterError(
            "out", str(path), f"a file whose name ends in {', '.join(WRITERS)}{similar(path.suffix, WRITERS)}"
        )


def write(path: Path, sheet: Sheet, overwrite: bool = False) -> None:
    """Write a file; its suffix says which kind.

    Raises OutputError where a file is there that says something else, unless `overwrite`: somebody may have corrected
    it. Raises ParameterError for another suffix, or what is no tuning.
    """
    check_suffix(path)
    content = WRITERS[path.suffix.lower()](sheet)
    if os.path.lexists(path) and not overwrite:
        if smallfiles.is_regular(path) and _holds(path, content):
            return
        raise OutputError(
            path,
            "is there and holds other notes, which somebody may have corrected; choose another name, or --overwrite",
        )
    try:
        write_whole(path, content)
    except OSError as error:
        raise OutputError(path, f"cannot be written: {error.strerror or error}; choose another place") from None


def _holds(path: Path, content: bytes) -> bool:
    try:
        return smallfiles.read_bytes(path, len(content)) == content
    except SmallFileError:
        return False


def read(path: Path, stem: str = "bass") -> Line:
    """The notes of a .csv or .mid file. Raises SmallFileError for what holds none."""
    try:
        if path.suffix.lower() == ".csv":
            return table.read_csv(smallfiles.read_text(path, encoding="utf-8-sig"), stem)
        return midi.read_midi(smallfiles.read_bytes(path))
    except ValueError as error:
        if isinstance(error, SmallFileError):
            raise
        raise SmallFileError(path, f"{error}; `gbsep notes` writes such files") from None


def kept_place(folder: Path, stem: str) -> Path:
    """Where the notes of a stem are kept in its folder."""
    return folder / f"{stem}{KEPT}.csv"


def kept_beside(folder: Path, stem: str) -> Path | None:
    """The file of a folder that holds the notes of one of its stems: `bass.notes.csv`, or `bass.notes.mid`."""
    for suffix in READ:
        path = folder / f"{stem}{KEPT}{suffix}"
        if smallfiles.is_regular(path):
            return path
    return None
