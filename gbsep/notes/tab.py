"""A score as tablature in plain text: a line for each string, the highest on top, four columns to a beat."""

from __future__ import annotations

from .fingering import tuning_name
from .line import name_of
from .score import BAR, TICKS, Score, Sign

BARS_A_LINE = 4
STRAIGHT, TRIPLETS = (0, 3, 6, 9), (0, 4, 8)
MARKS = {"slurred": "h", "slid": "/"}


def tab_bytes(score: Score, title: str, columns: int = 0) -> bytes:
    """The text: BARS_A_LINE bars in a line, or fewer where the lines would be longer than `columns`."""
    tempo = f"{score.beats.bpm:.1f} bpm" if score.is_told else "tempo not told: a beat is half a second"
    begins = round(score.beats.second(0), 2) + 0.0
    lines = [title, f"{tuning_name(score.tuning)}; {tempo}; the first bar begins at {begins:.2f} s", ""]
    width = max(len(name_of(pitch)) for pitch in score.tuning)
    drawn = [_columns(bar, len(score.tuning)) for bar in score.bars]
    widest = 1 + max((len(bar[0]) for bar in drawn), default=0)
    in_a_line = max(1, min(BARS_A_LINE, (columns - width - 1) // widest)) if columns else BARS_A_LINE
    for first in range(0, len(drawn), in_a_line):
        bars = drawn[first : first + in_a_line]
        head = "".join(f" {first + number + 1:<{len(bar[0])}}" for number, bar in enumerate(bars))
        lines.append((" " * width + head).rstrip())
        for string in reversed(range(len(score.tuning))):
            name = name_of(score.tuning[string]).ljust(width)
            lines.append(name + "|" + "|".join(bar[string] for bar in bars) + "|")
        lines.append("")
    return "\n".join(lines).encode()


def _columns(bar: tuple[Sign, ...], strings: int) -> list[str]:
    """A bar's text for each string, the lowest first."""
    marks: dict[int, dict[int, str]] = {}
    for sign in bar:
        for note, place in zip(sign.notes, sign.placed, strict=True):
            if place is not None and not sign.tied:
                fret = "x" if note.kind == "dead" else str(place.fret)
                marks.setdefault(sign.start, {})[place.string] = MARKS.get(note.kind, "") + fret
    columns = []
    for beat in range(0, BAR, TICKS):
        threes = any(beat <= sign.start < beat + TICKS and (sign.start - beat) in (4, 8) for sign in bar)
        columns += [beat + part for part in (TRIPLETS if threes else STRAIGHT)]
    texts = [""] * strings
    for column in columns:
        own = marks.get(column, {})
        width = max([2, *(len(mark) + 1 for mark in own.values())])
        texts = [text + own.get(string, "-").ljust(width, "-") for string, text in enumerate(texts)]
    return texts
