"""What is written down: notes, the line that they make, and the beats that they fall on. No heavy library."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

KINDS = ("plucked", "slurred", "slid", "dead")
"""How a note begins: struck, without a stroke (hammered or pulled off), from another pitch, on a string held mute."""

NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


@dataclass(frozen=True)
class Note:
    """A note as it sounds. `midi` is its pitch, in semitones of the song's own tuning (`Line.cents`).

    `strength` is how loud it begins, 0 to 1, 1 being 6 dB above the stem's usual level; `confidence` is how sure its
    pitch and onset are, 0 to 1; `kind` is one of KINDS.
    """

    onset_s: float
    end_s: float
    midi: int
    strength: float = 0.8
    confidence: float = 1.0
    kind: str = "plucked"

    @property
    def velocity(self) -> int:
        """Its strength as MIDI has it, 1 to 127."""
        return max(1, min(127, round(127 * self.strength)))


@dataclass(frozen=True)
class Line:
    """The notes of a stem by their onsets; `cents` is how far the song is sharp of A = 440 Hz, `left_out` how many
    notes were heard and left out, for another instrument plays them."""

    notes: tuple[Note, ...] = field(default=())
    seconds: float = 0.0
    cents: float = 0.0
    left_out: int = 0


@dataclass(frozen=True)
class Beats:
    """Where the beats are: `anchors` are (second, beat), both rising; between them, and beyond, the tempo is even.

    Beat 0 begins a bar of four.
    """

    anchors: tuple[tuple[float, float], ...]

    def beat(self, second: float) -> float:
        """The beat at a second.

        >>> even(120.0).beat(1.5)
        3.0
        """
        return _between(self.anchors, second)

    def second(self, beat: float) -> float:
        """The second of a beat."""
        return _between([(to, at) for at, to in self.anchors], beat)

    @property
    def bpm(self) -> float:
        """The mean tempo."""
        (first_s, first), (last_s, last) = self.anchors[0], self.anchors[-1]
        return 60 * (last - first) / (last_s - first_s)


def even(bpm: float, first_s: float = 0.0) -> Beats:
    """An even tempo, with beat 0 at a second."""
    return Beats(((first_s, 0.0), (first_s + 60.0, bpm)))


def name_of(midi: int) -> str:
    """A pitch as players name it.

    >>> name_of(28), name_of(60)
    ('E1', 'C4')
    """
    return f"{NAMES[midi % 12]}{midi // 12 - 1}"


def midi_of(name: str) -> int | None:
    """The pitch of a name, with sharps or flats; None for what is no name.

    >>> midi_of("E1"), midi_of("Db2"), midi_of("28")
    (28, 37, None)
    """
    found = re.fullmatch(r"([A-Ga-g])([#b♯♭]?)(-?\d)", name)
    if found is None:
        return None
    return NAMES.index(found[1].upper()) + {"": 0, "#": 1, "♯": 1}.get(found[2], -1) + 12 * (int(found[3]) + 1)


def _between(anchors: Sequence[tuple[float, float]], at: float) -> float:
    last = len(anchors) - 2
    number = next((place for place in range(last) if at < anchors[place + 1][0]), last)
    (x0, y0), (x1, y1) = anchors[number], anchors[number + 1]
    return y0 + (at - x0) * (y1 - y0) / (x1 - x0)
