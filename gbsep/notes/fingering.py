"""Where on the neck a line is played: the way with the least work for the hand, found by dynamic programming.

The hand covers four frets and moves as a whole. Moving it costs by the fret, crossing strings a little, high positions
a little more than low ones; open strings cost no movement.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from ..errors import ParameterError
from .line import NAMES, Note, name_of

FRETS = 24
SPAN = 4
"""Frets that the hand covers."""
MOVE, CROSS, HIGH, OPEN = 1.0, 0.25, 0.06, 0.1
"""Costs: of a fret that the hand moves, of a string crossed, of a fret's height, of an open string."""
KEPT = 40
"""Ways that are followed from note to note."""

STANDARD = {"bass": (28, 33, 38, 43), "guitar": (40, 45, 50, 55, 59, 64)}
LOW_B = 23
_WORD = re.compile(r"([A-Ga-g])([#b]?)(-?\d)?")


@dataclass(frozen=True)
class Place:
    """A note on the neck: `string` from 0, the lowest."""

    string: int
    fret: int


Placed = tuple[Place | None, ...]
"""Places of notes that sound together; None is a note that the instrument has not."""


def tuning_of(
    notes: Sequence[Note], stem: str = "bass", strings: int | None = None, wanted: str | None = None
) -> tuple[int, ...]:
    """Pitches of the open strings, the lowest first: as `wanted` says, or else standard, a string or a tone lower where
    the line goes lower.

    `wanted` is names of pitches, such as `D1 A1 D2 G2`, or `D A D G` for those nearest to the usual, or `standard`,
    `drop D`, `drop C`, or so many semitones down, such as `-2`. Raises ParameterError for what is no tuning.

    >>> tuning_of([Note(0.0, 1.0, 26)])
    (26, 33, 38, 43)
    """
    usual = STANDARD["guitar" if stem.startswith("guitar") else "bass"]
    if strings == len(usual) + 1:
        usual = (usual[0] - 5, *usual)
    elif strings not in (None, len(usual)):
        raise ParameterError("strings", strings, f"{len(usual)} or {len(usual) + 1}")
    if wanted is not None:
        tuning = _named(wanted, usual)
        if strings not in (None, len(tuning)):
            raise ParameterError("strings", strings, f"{len(tuning)}, as many as the tuning has, or leave it out")
        return tuning
    lowest = min((note.midi for note in notes), default=usual[0])
    if lowest >= usual[0]:
        return usual
    if lowest >= usual[0] - 2:
        return (usual[0] - 2, *usual[1:])
    if strings is None and lowest >= usual[0] - 5:
        return (usual[0] - 5, *usual)
    down = usual[0] - lowest if strings else usual[0] - 5 - lowest
    return tuple(pitch - down for pitch in (usual if strings else (usual[0] - 5, *usual)))


def _named(wanted: str, usual: tuple[int, ...]) -> tuple[int, ...]:
    word = wanted.strip().lower()
    if word in ("", "standard"):
        return usual
    if re.fullmatch(r"-\d{1,2}", word) and usual[0] + int(word) >= 0:
        return tuple(pitch + int(word) for pitch in usual)
    if dropped := re.fullmatch(r"drop[ -]?([a-g][#b]?)", word):
        low = _class(dropped[1])
        down = (usual[0] - low) % 12
        if 1 <= down <= 7:
            rest = down - 2 if down > 2 else 0
            return (usual[0] - down, *(pitch - rest for pitch in usual[1:]))
    names = re.split(r"[\s,]+", wanted.strip())
    found = [_WORD.fullmatch(name) for name in names]
    if len(names) < 3 or len(names) > 10 or not all(found):
        allowed = (
            'names of the open strings from the lowest, such as "D1 A1 D2 G2" or "D A D G", or standard, "drop D", -2'
        )
        raise ParameterError("tuning", wanted, allowed)
    if len(names) == len(usual) + 1:
        usual = (usual[0] - 5, *usual)
    near = [*usual, *(usual[-1] for _ in names)]
    pitches = [_pitch(one, nearest) for one, nearest in zip(found, near, strict=False) if one]
    if pitches != sorted(pitches) or pitches[0] < 0:
        raise ParameterError("tuning", wanted, "its strings from the lowest to the highest")
    return tuple(pitches)


def _pitch(name: re.Match[str], nearest: int) -> int:
    """The pitch of a string; of a name without an octave the one nearest to `nearest`."""
    within = _class(name[1] + name[2])
    return within + 12 * ((int(name[3]) + 1) if name[3] else round((nearest - within) / 12))


def _class(name: str) -> int:
    return NAMES.index(name[0].upper()) + {"#": 1, "b": -1}.get(name[1:], 0)


def tuning_name(tuning: Sequence[int]) -> str:
    """The strings by name, the lowest first: `E1 A1 D2 G2`."""
    return " ".join(map(name_of, tuning))


def fingered(chords: Sequence[Sequence[int]], tuning: Sequence[int]) -> list[Placed]:
    """Places for each chord (pitches that begin together; mostly one), the same order of pitches."""
    ways: dict[tuple[Placed, int], tuple[float, int]] = {}
    steps: list[list[tuple[Placed, int, int]]] = []
    for chord in chords:
        found: dict[tuple[Placed, int], tuple[float, int]] = {}
        before = list(ways.items())
        hands = {hand for (_, hand), _ in before} or {1}
        for placed, own in _choices(chord, tuning):
            for hand in [own] if own else sorted(hands):
                effort = sum(OPEN if not place.fret else HIGH * place.fret for place in placed if place)
                costs = [
                    (cost + effort + _turn(last, from_hand, placed, hand), number)
                    for number, ((last, from_hand), (cost, _)) in enumerate(before)
                ] or [(effort + 0.2 * hand, -1)]
                cost, number = min(costs)
                if cost < found.get((placed, hand), (float("inf"), 0))[0]:
                    found[placed, hand] = cost, number
        best = sorted(found.items(), key=lambda pair: pair[1][0])[:KEPT]
        ways = {key: (cost - best[0][1][0], number) for key, (cost, number) in best}
        steps.append([(placed, hand, number) for (placed, hand), (_, number) in ways.items()])
    made: list[Placed] = []
    at = 0
    for step in reversed(steps):
        placed, _, at = step[at]
        made.append(placed)
    return made[::-1]


def _choices(chord: Sequence[int], tuning: Sequence[int]) -> Iterator[tuple[Placed, int]]:
    """Places of a chord, each note on a string of its own, and where the hand is then; 0 where that is open."""
    rows: list[list[Place | None]] = []
    for pitch in chord:
        row: list[Place | None] = [
            Place(string, pitch - low) for string, low in enumerate(tuning) if 0 <= pitch - low <= FRETS
        ]
        rows.append(row or [None])
    given = False
    for placed in product(*rows):
        used = [place.string for place in placed if place]
        frets = [place.fret for place in placed if place and place.fret]
        if len(set(used)) < len(used) or (frets and max(frets) - min(frets) > SPAN + 1):
            continue
        given = True
        if not frets:
            yield placed, 0
            continue
        lowest = max(1, max(frets) - SPAN + 1)
        for hand in range(min(lowest, min(frets)), min(frets) + 1):
            yield placed, hand
    if not given:
        yield tuple(row[0] if number == 0 else None for number, row in enumerate(rows)), 0


def _turn(last: Placed, from_hand: int, placed: Placed, hand: int) -> float:
    cost = MOVE * abs(hand - from_hand)
    one, other = (next((place for place in places if place), None) for places in (last, placed))
    return cost + (CROSS * abs(one.string - other.string) if one and other else 0.0)
