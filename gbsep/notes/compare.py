"""How well notes are told: precision, recall and F1 against true notes, by the rule of mir_eval.

A note counts where its onset is within ONSET_S and its pitch within half a semitone of a true one, each true note for
one at most; with offsets also its end must be within a fifth of the note's length, or ONSET_S if that is more.
Reference: C. Raffel et al., mir_eval, ISMIR 2014; J. Salamon, J. Bello and others' rule of MIREX.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .line import Line

ONSET_S = 0.05
PITCH_CENTS = 50.0
OFFSET_PART = 0.2


@dataclass(frozen=True)
class NoteScore:
    """Figures from 0 to 1, the higher the better; `true` and `told` are numbers of notes."""

    precision: float
    recall: float
    f1: float
    f1_with_offsets: float
    true: int
    told: int

    def as_json(self) -> dict[str, Any]:
        """The same as one JSON object."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def compare(truth: Line, told: Line) -> NoteScore:
    """The score of what was told; where neither has a note all is right.

    >>> from .line import Note
    >>> line = Line((Note(0.5, 1.0, 28),))
    >>> compare(line, line).f1
    1.0
    """
    from mir_eval import transcription

    if not truth.notes or not told.notes:
        both = float(not truth.notes and not told.notes)
        return NoteScore(both, both, both, both, len(truth.notes), len(told.notes))
    arguments = [part for line in (truth, told) for part in _arrays(line)]
    rule = {"onset_tolerance": ONSET_S, "pitch_tolerance": PITCH_CENTS}
    precision, recall, f1, _ = transcription.precision_recall_f1_overlap(*arguments, offset_ratio=None, **rule)
    *_, whole, _ = transcription.precision_recall_f1_overlap(*arguments, offset_ratio=OFFSET_PART, **rule)
    return NoteScore(float(precision), float(recall), float(f1), float(whole), len(truth.notes), len(told.notes))


def _arrays(line: Line) -> tuple[np.ndarray, np.ndarray]:
    spans = np.array([(note.onset_s, max(note.end_s, note.onset_s + 1e-3)) for note in line.notes])
    return spans, 440.0 * 2 ** ((np.array([note.midi for note in line.notes]) - 69) / 12)
