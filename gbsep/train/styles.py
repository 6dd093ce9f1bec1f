"""Ways of playing: how a bass or a guitar plays one bar of a song, and how often each way comes up.

Times are in beats, pitches are MIDI note numbers, velocities 0..1. `scores` makes songs of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

SECTION_BARS = 4
"""How long a player keeps to a way of playing."""


@dataclass(frozen=True)
class Note:
    """`slide_from` is where the pitch comes from, in semitones; `mute` 0 rings, 1 is a tight palm mute; `snap` 1 is a
    string that is slapped or popped; `harmonic` is the partial that a touched string sounds from, which is at `pitch`;
    `then` are later pitches of the same stroke (hammered, pulled off, slid to or bent), as (after_s, semitones up)."""

    start_s: float
    duration_s: float
    pitch: float
    velocity: float
    slide_from: float = 0.0
    mute: float = 0.0
    snap: float = 0.0
    harmonic: int = 1
    then: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Tonality:
    """`key` is the root's pitch class, `scale` its seven steps in semitones."""

    key: int
    scale: tuple[int, ...]

    def pitch(self, step: int, near: int) -> int:
        """A step of the scale (negative and above seven in other octaves), step 0 at or just below `near`."""
        return near - (near - self.key) % 12 + 12 * (step // 7) + self.scale[step % 7]

    def snapped(self, pitch: float) -> int:
        """The highest pitch of the scale at or below `pitch`."""
        whole = int(np.floor(pitch))
        return next(whole - down for down in range(12) if (whole - down - self.key) % 12 in self.scale)


@dataclass(frozen=True)
class Bar:
    """One bar as its player sees it. Times are in beats from the song's beginning.

    `near` places the register of lines, `voicing` stands for the player's way of taking chords; `compass` is the lowest
    and the highest pitch that the player has.
    """

    rng: np.random.Generator
    role: str
    start: float
    number: int
    tonality: Tonality
    degree: int
    following: int
    rhythm: list[tuple[float, float]]
    riff: list[list[tuple[float, float, int]]]
    near: int
    velocity: float
    mute: float
    voicing: int
    compass: tuple[int, int]

    def note(self, start: float, length: float, pitch: float, slide_from: float = 0.0, high: int | None = None) -> Note:
        """A note of this player, moved by octaves into its compass (up to `high`)."""
        lowest, highest = self.compass
        highest = highest if high is None else high
        pitch += 12 * np.ceil(max(0.0, lowest - pitch) / 12)
        pitch -= 12 * np.ceil(max(0.0, pitch - highest) / 12)
        return Note(self.start + start, length, pitch, self.velocity, slide_from, self.mute)

    def struck(self, start: float, length: float, pitches: Iterable[float], apart: float = 0.02) -> list[Note]:
        """A chord, one string after the other."""
        return [self.note(start + apart * number, length, pitch) for number, pitch in enumerate(pitches)]

    def root(self, degree: int | None = None) -> int:
        return self.tonality.pitch(self.degree if degree is None else degree, self.near)


Style = Callable[[Bar], list[Note]]


def _pattern(*intervals: int) -> Style:
    """The root and what goes with it, interval after interval, in the bar's rhythm."""

    def play(bar: Bar) -> list[Note]:
        slide = float(bar.rng.choice([-2, -5, 2])) if bar.rng.random() < 0.15 else 0.0
        return [
            bar.note(start, length, bar.root() + intervals[number % len(intervals)], slide * (number == 0))
            for number, (start, length) in enumerate(bar.rhythm)
        ]

    return play


def _chord_tones(bar: Bar) -> list[Note]:
    """The root to begin with, then chord tones of two octaves as they come, in the bar's rhythm."""
    tones = bar.rng.choice([0, 2, 4, 7, 9, 11, 14], len(bar.rhythm), p=[0.3, 0.07, 0.2, 0.23, 0.05, 0.1, 0.05])
    tones[0] = 0
    return [
        bar.note(start, length, bar.tonality.pitch(bar.degree + int(tone), bar.near))
        for tone, (start, length) in zip(tones, bar.rhythm, strict=True)
    ]


def _quavers(bar: Bar) -> list[Note]:
    """Root, fifth, minor seventh and octave as they come, one to four quavers long."""
    made, quaver = [], 0
    while quaver < 8:
        length = min(int(bar.rng.choice([1, 1, 2, 2, 4])), 8 - quaver)
        up = int(bar.rng.choice([0, 7, 10, 12], p=[0.45, 0.2, 0.15, 0.2]))
        made.append(bar.note(quaver / 2, 0.475 * length, bar.root() + up))
        quaver += length
    return made


def _held_root(bar: Bar) -> list[Note]:
    return [bar.note(0.0, 4.0, bar.root())]


def _walk(bar: Bar) -> list[Note]:
    """Four quarters: the root, two notes of the way, and a half-step from the next root."""
    way = bar.root() + np.sort(bar.rng.choice([2, 3, 4, 5, 7, 9, 10, 12], 2, replace=False))
    way = way if bar.rng.random() < 0.5 else way[::-1]
    pitches = [bar.root(), *way, bar.root(bar.following) + bar.rng.choice([-1, 1])]
    return [bar.note(beat, 0.9, float(pitch)) for beat, pitch in enumerate(pitches)]


def _double_riff(bar: Bar) -> list[Note]:
    """The song's riff: in unison with whoever else plays it, or octaves apart."""
    return [
        bar.note(start, length, bar.tonality.pitch(step, bar.near))
        for start, length, step in bar.riff[bar.number % len(bar.riff)]
    ]


def _line(bar: Bar) -> list[Note]:
    """A melody that moves by steps, with a slide here and there."""
    step, made = bar.degree, []
    for start, length in bar.rhythm:
        step = int(np.clip(step + bar.rng.integers(-2, 3), -5, 12))
        slide = float(bar.rng.choice([-2, -1, 1])) if bar.rng.random() < 0.2 else 0.0
        made.append(bar.note(start, length, bar.tonality.pitch(step, bar.near), slide))
    return made


def _voices(bar: Bar) -> list[int]:
    """The bar's chord from low to high: a triad, perhaps a seventh, over two octaves, some voices left out."""
    rng = np.random.default_rng([bar.voicing, bar.degree])
    tones = [0, 2, 4] + ([6] if rng.random() < 0.3 else [])
    low = int(rng.integers(40, 58))
    names = {bar.tonality.pitch(bar.degree + tone, 60) % 12 for tone in tones}
    voices = [pitch for pitch in range(low, low + 25) if pitch % 12 in names]
    return [pitch for number, pitch in enumerate(voices[:6]) if number == 0 or rng.random() < 0.85]


def _strum(longest: float) -> Style:
    """Chords down and, with fewer strings, up; held for no longer than `longest` beats."""

    def play(bar: Bar) -> list[Note]:
        made = []
        for number, (start, length) in enumerate(bar.rhythm):
            strings = _voices(bar)
            if number % 2:
                strings = strings[::-1][: int(bar.rng.integers(2, 6))]
            made += bar.struck(start, min(length, longest), strings)
        return made

    return play


def _barre(bar: Bar) -> list[Note]:
    """Chords as an open E is taken, anywhere on the neck; the highest strings are not always struck."""
    third, fifth = ((bar.root(bar.degree + step) - bar.root()) % 12 for step in (2, 4))
    root, strings = 40 + (bar.root() - 40) % 12, (0, fifth, 12, 12 + third, 12 + fifth, 24)
    made = []
    for start, length in bar.rhythm:
        struck = int(bar.rng.integers(3, 7))
        made += bar.struck(start, length, (root + up for up in strings[:struck]))
    return made


def _held_chord(bar: Bar) -> list[Note]:
    return bar.struck(0.0, 4.0, _voices(bar), apart=0.03)


def _arpeggio(bar: Bar) -> list[Note]:
    voices = _voices(bar)
    order = np.random.default_rng(bar.voicing).permutation(6)
    return [
        bar.note(start, 1.5 * max(length, 1.0), voices[int(order[number % len(order)]) % len(voices)])
        for number, (start, length) in enumerate(bar.rhythm)
    ]


def _power_chords(bar: Bar) -> list[Note]:
    root = bar.tonality.pitch(bar.degree, bar.near)
    return [
        bar.note(start, length, root + up, high=64)
        for number, (start, length) in enumerate(bar.rhythm)
        for up in (0, 7, 12)[: 2 + number % 2]
    ]


def _chug(bar: Bar) -> list[Note]:
    """The lowest string palm-muted in semiquavers or quavers, with a ringing power chord here and there."""
    lowest, made = bar.compass[0] + int(bar.voicing % 3 == 0), []
    grid = 0.25 if bar.voicing % 2 else 0.5
    for slot in range(round(4 / grid)):
        if bar.rng.random() < 0.15:
            root = bar.tonality.pitch(bar.degree, lowest + 8)
            made += [
                replace(note, mute=0.0) for note in bar.struck(slot * grid, 1.5 * grid, (root, root + 7, root + 12))
            ]
        elif bar.rng.random() < 0.8:
            made.append(replace(bar.note(slot * grid, 0.9 * grid, lowest), mute=float(bar.rng.uniform(0.6, 1.0))))
    return made


def _run(bar: Bar) -> list[Note]:
    """A run over the neck that takes a section: the bass climbs out of its register, a guitar falls out of its own, and
    mostly both come back."""
    rng = np.random.default_rng(bar.voicing)
    up = 1 if bar.role == "bass" else -1
    room = bar.compass[1] - bar.near if up > 0 else bar.near - bar.compass[0] - 4
    far = up * int(rng.integers(10, max(11, room + 1)))
    there, back = np.sort(rng.uniform(0.25, 1.1, 2))
    grid, chromatic, held = float(rng.choice([1.0, 0.5, 0.5, 1 / 3, 0.25])), rng.random() < 0.3, rng.uniform(0.6, 1.0)
    made = []
    for slot in range(round(4 / grid)):
        place = (bar.number + slot * grid / 4) / SECTION_BARS
        at = float(bar.near + np.interp(place, [0.0, there, back, 1.15], [0.0, far, far, 0.0]))
        pitch = round(at) if chromatic else bar.tonality.snapped(at + float(bar.rng.choice([0.0, 0.0, 0.0, 2.0])))
        made.append(bar.note(slot * grid, held * grid, pitch))
    return made


def _fill(bar: Bar) -> list[Note]:
    """Roots, and at the end of every other bar a quick run up and back."""
    made = [note for note in _pattern(0)(bar) if note.start_s - bar.start < 2.0 or bar.number % 2 == 0]
    if bar.number % 2:
        step, grid = 0, float(bar.rng.choice([0.25, 0.25, 1 / 3]))
        count = round(2 / grid)
        top = int(bar.rng.integers(count // 3, count + 1))
        for slot in range(count):
            made.append(bar.note(2.0 + slot * grid, 0.9 * grid, bar.tonality.pitch(bar.degree + step, bar.near)))
            step += int(bar.rng.integers(1, 4)) if slot < top else -2
    return made


def _slap(bar: Bar) -> list[Note]:
    """Thumb on the root, pops an octave or a seventh up, and dead notes, in semiquavers."""
    made = []
    for slot in range(16):
        what = str(
            bar.rng.choice(["thumb", "pop", "ghost", "rest"], p=[0.3, 0.2, 0.15, 0.35] if slot else [1, 0, 0, 0])
        )
        if what == "ghost":
            made.append(_ghost(bar, slot / 4))
        elif what != "rest":
            pitch = bar.root() + (int(bar.rng.choice([10, 12, 12, 14])) if what == "pop" else 0)
            made.append(replace(bar.note(slot / 4, 0.22, pitch), snap=1.0 if what == "pop" else 0.5))
    return made


def _ghost(bar: Bar, start: float) -> Note:
    """A string that is struck while it is held mute."""
    return replace(bar.note(start, 0.1, bar.root()), mute=1.0, snap=0.3, velocity=0.5 * bar.velocity)


def _ghosts(bar: Bar) -> list[Note]:
    """Roots, octaves and fifths in semiquavers, a third of them dead."""
    made = []
    for slot in range(16):
        if bar.rng.random() < 0.65 or not slot:
            up = int(bar.rng.choice([0, 0, 7, 10, 12]))
            note = bar.note(slot / 4, float(bar.rng.choice([0.2, 0.45])), bar.root() + up)
            made.append(_ghost(bar, slot / 4) if slot and bar.rng.random() < 0.35 else note)
    return made


def _double_stops(bar: Bar) -> list[Note]:
    """The root with its fifth, octave, tenth or seventh above."""
    made = []
    for start, length in bar.rhythm:
        upper = bar.rng.choice([4, 7, 9, 6], int(bar.rng.integers(1, 3)), replace=False)
        pitches = [bar.tonality.pitch(bar.degree + int(step), bar.near) for step in (0, *upper)]
        made += bar.struck(start, max(length, 0.5), pitches)
    return made


def _touched(bar: Bar) -> list[Note]:
    """Natural harmonics of the open strings."""
    made = []
    for start, length in bar.rhythm:
        harmonic, string = int(bar.rng.choice([2, 3, 4])), 28 + 5 * int(bar.rng.integers(4))
        pitch = string + (12, 19, 24)[harmonic - 2]
        made.append(replace(bar.note(start, max(length, 1.0), pitch), harmonic=harmonic))
    return made


def _legato(bar: Bar) -> list[Note]:
    """A line of which only some notes are struck: others are hammered, pulled off, slid to or bent on the string."""
    made: list[Note] = []
    for note in _line(bar):
        last = made[-1] if made else None
        if last and abs(note.pitch - last.pitch) <= 5 and bar.rng.random() < 0.6:
            after = note.start_s - last.start_s
            made[-1] = replace(
                last, duration_s=after + note.duration_s, then=(*last.then, (after, note.pitch - last.pitch))
            )
        else:
            made.append(note)
    return made


def _octaves(bar: Bar) -> list[Note]:
    made = []
    for start, length in bar.rhythm:
        pitch = bar.tonality.pitch(bar.degree + int(bar.rng.integers(-2, 5)), 52)
        made += [bar.note(start, length, pitch + up) for up in (0, 12)]
    return made


@dataclass(frozen=True)
class Way:
    """A row of a table of ways of playing: how often it is picked, relative to the others, in songs of each manner,
    where its lines lie (chords have places of their own), and how often it is palm-muted."""

    any: float
    plain: float
    agile: float
    play: Style
    registers: tuple[int, ...]
    muted: float = 0.1


LOW_BASS = (28, 28, 31, 33, 36, 40, 43)

BASS_STYLES: Mapping[str, Way] = {
    "roots": Way(5, 3, 1, _pattern(0), LOW_BASS, 0.2),
    "octaves": Way(2, 1, 1, _pattern(0, 12), LOW_BASS, 0.2),
    "fifths": Way(2, 1, 0, _pattern(0, 7, 12, 7), LOW_BASS, 0.2),
    "held": Way(2, 2, 0, _held_root, LOW_BASS),
    "walk": Way(3, 2, 1, _walk, LOW_BASS),
    "riff": Way(3, 1, 1, _double_riff, LOW_BASS, 0.2),
    "chord tones": Way(4, 2, 1, _chord_tones, LOW_BASS, 0.2),
    "melody": Way(3, 1, 2, _line, (33, 38, 43, 47)),
    "quavers": Way(0, 12, 0, _quavers, (30, 32, 33, 35, 37)),
    "run": Way(0, 0, 6, _run, (28, 28, 30, 33, 36)),
    "fill": Way(0, 0, 3, _fill, (28, 31, 33, 36, 40)),
    "solo": Way(0, 0, 2, _line, (48, 52, 57)),
    "low riff": Way(0, 0, 1, _double_riff, (28, 31, 33, 36, 38), 0.2),
    "slap": Way(0, 0, 2, _slap, (28, 31, 33, 36, 40)),
    "ghosts": Way(0, 0, 2, _ghosts, (28, 31, 33, 36)),
    "double stops": Way(0, 0, 1.5, _double_stops, (33, 36, 40, 45)),
    "harmonics": Way(0, 0, 1, _touched, (28,)),
    "legato": Way(0, 0, 2, _legato, (31, 36, 40, 45, 50)),
}

GUITAR_STYLES: Mapping[str, Way] = {
    "strum": Way(4, 2, 2, _strum(4.0), (52,)),
    "stabs": Way(1, 1, 0, _strum(0.25), (52,)),
    "held": Way(2, 2, 1, _held_chord, (52,)),
    "arpeggio": Way(3, 3, 2, _arpeggio, (52,)),
    "power": Way(3, 3, 2, _power_chords, (46,), 0.5),
    "riff": Way(3, 2, 1, _double_riff, (45, 52, 57), 0.5),
    "low line": Way(2, 1, 1, _line, (42, 45, 50), 0.5),
    "lead": Way(4, 6, 2, _line, (57, 64, 69)),
    "octaves": Way(1, 1, 0, _octaves, (52,)),
    "barre": Way(0, 4, 1, _barre, (52,)),
    "run": Way(0, 0, 4, _run, (59, 64, 64, 69, 76)),
    "low riff": Way(0, 0, 2, _double_riff, (33, 36, 38, 40, 43), 0.6),
    "lowest line": Way(0, 0, 2, _line, (36, 38, 40, 43), 0.3),
    "low power": Way(0, 0, 2, _power_chords, (33, 36, 40), 0.5),
    "chug": Way(0, 0, 2, _chug, (40,)),
    "legato": Way(0, 0, 2, _legato, (45, 52, 57, 64, 69)),
    "leaps": Way(0, 0, 0, _chord_tones, (52, 55, 57, 60, 64)),
}
