"""A line as a score: bars of four quarters, every note on a grid, its length written in values that notation has.

Positions and lengths are in TICKS to the quarter. Each beat has sixteenths or triplets, whichever lies nearer to what
was played. A note that crosses a bar line, or has no single sign, is several signs that are tied.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .fingering import Placed, fingered, tuning_of
from .line import Beats, Line, Note, even

TICKS = 12
BAR = 4 * TICKS
UNKNOWN_BPM = 120.0
"""The tempo of a score whose tempo nobody knows: a beat is half a second then."""


VALUES = {
    48: (1, False), 36: (2, True), 24: (2, False), 12: (4, False), 9: (8, True), 6: (8, False), 3: (16, False),
    8: (4, False), 4: (8, False),
}  # fmt: skip
"""Of a sign's length: its value (4 a quarter), and whether it has a dot. Those of 8 and 4 are of triplets."""


@dataclass(frozen=True)
class Sign:
    """A sign of a bar, at `start` ticks from its beginning: notes that sound together, or with none a rest.

    `tied` says that it goes on from the sign before, `ties` that the next goes on from it.
    """

    start: int
    length: int
    notes: tuple[Note, ...] = ()
    placed: Placed = ()
    tied: bool = False
    ties: bool = False

    @property
    def is_triplet(self) -> bool:
        """Whether its length is a number of triplet quavers."""
        return self.length % 3 != 0


@dataclass(frozen=True)
class Score:
    """`bars` from beat 0 of `beats` on; `tuning` the open strings from the lowest; `is_told` says whether the tempo is
    that of the music rather than UNKNOWN_BPM."""

    bars: tuple[tuple[Sign, ...], ...]
    beats: Beats
    tuning: tuple[int, ...]
    is_told: bool


def write_score(
    line: Line, beats: Beats | None, stem: str = "bass", strings: int | None = None, tuning: str | None = None
) -> Score:
    """The score of a line, fingered. Raises ParameterError as `tuning_of` does."""
    told, beats = beats is not None, beats or even(UNKNOWN_BPM)
    opened = tuning_of(line.notes, stem, strings, tuning)
    groups = _groups(line.notes, beats)
    places = fingered([[note.midi for note in notes] for _, _, notes in groups], opened)
    last = max((stop for _, stop, _ in groups), default=0)
    bars: list[list[Sign]] = [[] for _ in range(max(1, math.ceil(last / BAR)))]
    at = 0
    for (start, stop, notes), placed in zip(groups, places, strict=True):
        for begin, end in _pieces(at, start):
            bars[begin // BAR].append(Sign(begin % BAR, end - begin))
        pieces = list(_pieces(start, stop))
        for number, (begin, end) in enumerate(pieces):
            ties = number + 1 < len(pieces)
            bars[begin // BAR].append(Sign(begin % BAR, end - begin, notes, placed, number > 0, ties))
        at = stop
    for begin, end in _pieces(at, len(bars) * BAR):
        bars[begin // BAR].append(Sign(begin % BAR, end - begin))
    return Score(tuple(map(tuple, bars)), beats, opened, told)


def _groups(notes: Sequence[Note], beats: Beats) -> list[tuple[int, int, tuple[Note, ...]]]:
    """(start, stop, notes that begin together), on the grid, none reaching into the next."""
    at = [beats.beat(note.onset_s) for note in notes]
    grids = _grids(at)
    starts = [max(0, _snapped(beat, grids)) for beat in at]
    groups: dict[int, list[Note]] = {}
    for start, note in zip(starts, notes, strict=True):
        own = groups.setdefault(start, [])
        if all(other.midi != note.midi for other in own):
            own.append(note)
    order = sorted(groups)
    made = []
    for start, after in zip(order, [*order[1:], None][: len(order)], strict=True):
        chord = tuple(sorted(groups[start], key=lambda note: note.midi))
        end = _snapped(beats.beat(max(note.end_s for note in chord)), grids)
        grid = 4 if grids.get(start // TICKS, 4) == 3 else 3
        stop = max(end, start + grid)
        made.append((start, stop if after is None else min(stop, after), chord))
    return made


def _grids(at: Sequence[float]) -> dict[int, int]:
    """Parts of each beat, 4 or 3, that its onsets lie nearest to."""
    in_beat: dict[int, list[float]] = {}
    for beat in at:
        whole = math.floor(beat + 1 / 12)
        in_beat.setdefault(whole, []).append(beat - whole)
    grids = {}
    for whole, places in in_beat.items():
        off = {parts: sum(abs(place * parts - round(place * parts)) / parts for place in places) for parts in (3, 4)}
        grids[whole] = 3 if off[3] < 0.6 * off[4] and any(round(place * 3) % 3 for place in places) else 4
    return grids


def _snapped(beat: float, grids: dict[int, int]) -> int:
    whole = math.floor(beat + 1 / 12)
    parts = grids.get(whole, 4)
    return whole * TICKS + round((beat - whole) * parts) * (TICKS // parts)


def _pieces(start: int, stop: int) -> list[tuple[int, int]]:
    """From `start` to `stop` in lengths that are one sign each, none across a bar line."""
    made = []
    while start < stop:
        within = start % TICKS
        room = min(stop - start, BAR - start % BAR)
        length = min(room, TICKS - within) if within or room < TICKS else room - room % TICKS
        if length == 3 * TICKS and start % BAR not in (0, TICKS):
            length = 2 * TICKS
        made.append((start, start + length))
        start += length
    return made
