"""One note of a kept file corrected: taken away, put in, moved or given another pitch.

What is corrected is the file beside the stem, `bass.notes.csv`, which nothing writes again unasked.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from . import files
from .line import Line, Note

SAME_S = 0.002
"""How near an onset must be to be that of the note that is meant: files hold tenths of milliseconds."""


def corrected(line: Line, was: tuple[float, int] | None, now: tuple[float, float, int] | None) -> Line:
    """The line with the note at `was`, (onset_s, midi), as `now` says, (onset_s, end_s, midi): without it where that is
    None, and with a new note where `was` is None. A note that somebody corrected is sure.

    Raises LookupError where there is no such note, or one already.

    >>> corrected(Line((Note(0.5, 1.0, 28),)), (0.5, 28), (0.5, 1.0, 29)).notes[0].midi
    29
    """
    notes = list(line.notes)
    old = None
    if was is not None:
        near = [note for note in notes if note.midi == was[1] and abs(note.onset_s - was[0]) <= SAME_S]
        if not near:
            raise LookupError("there is no such note any more; load the page again")
        old = min(near, key=lambda note: abs(note.onset_s - was[0]))
        notes.remove(old)
    if now is not None:
        onset_s, end_s, midi = now
        if any(note.midi == midi and abs(note.onset_s - onset_s) <= SAME_S for note in notes):
            raise LookupError("there is a note of that pitch already")
        usual = old or Note(onset_s, end_s, midi)
        notes.append(replace(usual, onset_s=onset_s, end_s=end_s, midi=midi, confidence=1.0))
    notes.sort(key=lambda note: (note.onset_s, note.midi))
    return replace(line, notes=tuple(notes), seconds=max((note.end_s for note in notes), default=0.0))


def correct(folder: Path, stem: str, was: tuple[float, int] | None, now: tuple[float, float, int] | None) -> Line:
    """Correct a note in the file that is kept in a folder of stems, and return its line as it is now.

    Raises LookupError as `corrected` does and where no notes are kept, SmallFileError for a file that holds none, and
    OutputError for one that cannot be written.
    """
    kept = files.kept_beside(folder, stem)
    if kept is None:
        raise LookupError(f"no notes of {stem} are kept there: gbsep notes FOLDER --keep writes them")
    line = corrected(files.read(kept, stem), was, now)
    files.write(files.kept_place(folder, stem), files.Sheet(line, stem), overwrite=True)
    return line
