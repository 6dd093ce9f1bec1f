"""A line as a table of comma-separated values, to be read by programs and corrected by hand."""

from __future__ import annotations

import csv
import io
import math

from .line import Line, Note, midi_of

COLUMNS = ("onset_s", "end_s", "midi", "strength", "confidence")
MAX_NOTES = 500_000
LATEST_S = 1e5
"""No note begins or ends later: a day and some hours."""


def csv_bytes(line: Line) -> bytes:
    """One row for each note."""
    made = io.StringIO()
    rows = csv.writer(made, lineterminator="\n")
    rows.writerow(COLUMNS)
    for note in line.notes:
        strength, confidence = round(note.strength, 3), round(note.confidence, 3)
        rows.writerow([f"{note.onset_s:.4f}", f"{note.end_s:.4f}", note.midi, strength, confidence])
    return made.getvalue().encode()


def read_csv(text: str, part: str = "bass") -> Line:
    """The notes of a table with columns `onset_s`, `midi` and `end_s` or `duration_s`; others may lack, and of a column
    `part` only the rows of `part` count. A pitch may have its name, and a spreadsheet may have written semicolons and
    decimal commas. Raises ValueError for what is none.
    """
    head = text.partition("\n")[0]
    mark = max(",;\t", key=head.count)  # some spreadsheets write semicolons, and commas in numbers
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=mark)
    columns = set(rows.fieldnames or ())
    if not {"onset_s", "midi"} <= columns or not columns & {"end_s", "duration_s"}:
        raise ValueError(f"has no table of notes: its first line should be {','.join(COLUMNS)}")
    notes: list[Note] = []
    for row in rows:
        if row.get("part") not in (None, "", part) or not any(row.values()):
            continue
        try:
            if any(row.get(None, ())):
                raise ValueError(row)
            onset_s = _number(row["onset_s"])
            end_s = _number(row["end_s"]) if "end_s" in columns else onset_s + _number(row["duration_s"])
            midi = _pitch(row["midi"])
            strength, confidence = (_number(row.get(name) or usual) for name, usual in _USUAL.items())
        except (AttributeError, TypeError, ValueError):
            raise ValueError(f"line {rows.line_num} has no numbers where they should be: {row}") from None
        if not (0 <= onset_s < end_s <= LATEST_S and 0 <= midi <= 127 and len(notes) < MAX_NOTES):
            allowed = (
                f"a note begins at 0 s or later, ends after that and by {LATEST_S:.0f} s, and has a pitch from 0 to 127"
            )
            raise ValueError(f"line {rows.line_num}: {allowed}")
        notes.append(Note(onset_s, end_s, midi, min(1.0, max(0.01, strength)), min(1.0, max(0.0, confidence))))
    notes.sort(key=lambda note: (note.onset_s, note.midi))
    return Line(tuple(notes), max((note.end_s for note in notes), default=0.0))


_USUAL = {"strength": "0.8", "confidence": "1"}


def _pitch(text: str) -> int:
    """A MIDI number, or a name such as E1."""
    return round(_number(text)) if (named := midi_of(text.strip())) is None else named


def _number(text: str) -> float:
    value = float(text.replace(",", "."))
    if not math.isfinite(value):
        raise ValueError(text)
    return value
