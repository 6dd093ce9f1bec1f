"""The notes of stems in folders: heard, kept beside them, and compared with true ones.

Notes are kept in a folder of stems as `<stem>.notes.csv`; sessions take them from there. A person may correct that
file, and then it is what counts.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from ..errors import OutputError, StemMissing
from ..shelf.record import Excerpt
from ..shelf.stems import StemFolder, find_stems, renders_in
from ..stemnames import BASS
from ..store import smallfiles
from . import files
from .compare import NoteScore, compare
from .hear import hear
from .line import Line

MAX_NAMED = 4
"""Renders that a message names."""
TRUE_NOTES = "notes.csv"
"""True notes of several parts, of which `part` names the stem."""


def keep(folder: str | Path, stem: str = BASS, overwrite: bool = False) -> Path:
    """The file with the notes of a stem in its folder; they are heard and written where there is none yet.

    With `overwrite` they are heard anew. Raises OutputError for a folder without that stem.
    """
    folder = Path(folder)
    kept = files.kept_beside(folder, stem)
    if kept is not None and not overwrite:
        return kept
    found = with_stem(folder, stem)
    path = files.kept_place(folder, stem)
    files.write(path, files.Sheet(hear(found.open(stem), stem), stem), overwrite=True)
    return path


def score_folder(estimates: str | Path, references: str | Path, dry: bool = False, stem: str = BASS) -> NoteScore:
    """How well the notes of a stem are told: those heard in the estimate, against the true ones.

    The true notes are `<stem>.notes.csv` or `notes.csv` beside the true stem, or else what is heard in that stem. An
    excerpt that gbsep rendered is compared with that part of them. Raises OutputError for a folder without the stem.
    """
    estimate, truth = with_stem(estimates, stem, dry), Path(references)
    excerpt = estimate.excerpt
    true_line = _part_of(_true_line(truth, stem), excerpt)
    return compare(true_line, hear(estimate.open(stem), stem, anyway=True))


def _true_line(folder: Path, stem: str) -> Line:
    kept = files.kept_beside(folder, stem)
    if kept is None and smallfiles.is_regular(folder / TRUE_NOTES):
        kept = folder / TRUE_NOTES
    if kept is not None:
        return files.read(kept, stem)
    return hear(with_stem(folder, stem, dry=False).open(stem), stem, anyway=True)


def with_stem(folder: str | Path, stem: str, dry: bool = True) -> StemFolder:
    """The stems of a folder that has this one, before their effects where there are such.

    Raises OutputError for any other folder; for one of several renders it names them.
    """
    try:
        found = find_stems(folder, dry)
    except OutputError:
        below = renders_in(folder) if os.path.isdir(folder) else {}
        if not below:
            raise
        some = ", ".join([*below][:MAX_NAMED]) + (", ..." if len(below) > MAX_NAMED else "")
        raise OutputError(folder, f"is not a render but holds some: {some}; give one of these folders") from None
    if stem not in found.files:
        raise StemMissing(folder, f"has no {stem}; it has {', '.join(found.files)}")
    return found


def _part_of(line: Line, excerpt: Excerpt) -> Line:
    start_s, duration_s = excerpt.start_s, excerpt.duration_s
    end_s = line.seconds if duration_s is None else start_s + duration_s
    moved = (
        replace(note, onset_s=note.onset_s - start_s, end_s=note.end_s - start_s)
        for note in line.notes
        if start_s <= note.onset_s < end_s or (duration_s is None and note.onset_s >= start_s)
    )
    return Line(tuple(moved), max(0.0, end_s - start_s), line.cents)
