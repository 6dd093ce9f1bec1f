"""Scores: what a bass and up to two guitars play, made up from a random key, chords, riffs and rests.

A song has one tempo, one scale and one chord for a bar or two. Every four bars each part picks a way of playing from
its table (in `styles`) and keeps it, with one rhythm, as players do. The bass may follow the roots, walk, or double a
guitar's riff one octave down or in unison, which are the cases that make separation hard. Whole bars of rest come up
for every part.
Songs come in three manners (MANNERS). Plain songs have fewer of these cases: mostly a bass on the tones of the chord
below guitars that strum, pick or lead. In agile songs players leave their register: the bass runs up the whole neck and
back, slaps, plays chords, harmonics and legato, guitars run down or are tuned down, one side is alone, or both play one
low riff in unison.
In a song times are in seconds, while it is made up they are in beats; pitches are MIDI note numbers, velocities 0..1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .instruments import RANGES
from .styles import BASS_STYLES, GUITAR_STYLES, SECTION_BARS, Bar, Note, Tonality, Way

SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
}

MANNERS = ("any", "plain", "agile")

USUAL_RANGES = {"bass": (26, 57), "guitar": (40, 86)}
"""Where the parts of all but agile songs stay, lowest and highest pitch."""

TUNED_DOWN, UNISON, ALONE = 0.5, 0.3, 0.4
"""Of agile songs: how often a guitar's lowest string is below E2, how often bass and first guitar share a low riff, and
how often one side plays alone, mostly the bass."""

REST = 0.1
"""How often a part rests for a bar."""


@dataclass(frozen=True)
class Song:
    """`parts` are the bass and then each guitar."""

    seconds: float
    parts: Sequence[tuple[Note, ...]]


def compose(
    rng: np.random.Generator, seconds: float, guitars: int, manner: str = "any", styles: Sequence[str | None] = ()
) -> Song:
    """A song of `seconds` for one bass and `guitars` guitars, in one of MANNERS; `styles` are what the parts play
    throughout, the bass first, None for what comes up."""
    beat_s = 60.0 / rng.uniform(65, 175)
    tonality = Tonality(int(rng.integers(12)), SCALES[str(rng.choice(list(SCALES)))])
    degrees = [0] + [int(rng.choice(7, p=[0.28, 0.08, 0.1, 0.18, 0.18, 0.12, 0.06])) for _ in range(3)]
    bars_a_chord = int(rng.choice([1, 1, 2]))
    bars = int(np.ceil(seconds / (4 * beat_s)))
    chords = [degrees[bar // bars_a_chord % len(degrees)] for bar in range(bars)]
    riff = _riff(rng)
    free = manner == "agile" and not styles
    unison = free and rng.random() < UNISON
    wanted = [*(("low riff",) * 2 if unison else styles), *[None] * (1 + guitars)]
    roles = [("bass", BASS_STYLES), *[("guitar", GUITAR_STYLES)] * guitars]
    parts = [
        _part(rng, role, table, manner, tonality, chords, riff, style)
        for (role, table), style in zip(roles, wanted, strict=False)
    ]
    if free and not unison and rng.random() < ALONE:
        parts = [parts[0], *([] for _ in parts[1:])] if rng.random() < 0.6 else [[], *parts[1:]]
    return Song(seconds, tuple(_in_seconds(rng, part, beat_s, seconds) for part in parts))


def _in_seconds(rng: np.random.Generator, part: Sequence[Note], beat_s: float, seconds: float) -> tuple[Note, ...]:
    """Beats to seconds, with the looseness of a hand."""
    loose_s = rng.uniform(0.0, 0.012)
    made = []
    for note in part:
        start_s = max(0.0, note.start_s * beat_s + rng.normal(0, loose_s))
        if start_s < seconds - 0.02:
            velocity = float(np.clip(note.velocity + rng.normal(0, 0.08), 0.05, 1.0))
            then = tuple((after * beat_s, up) for after, up in note.then)
            made.append(
                replace(note, start_s=start_s, duration_s=note.duration_s * beat_s, velocity=velocity, then=then)
            )
    return tuple(made)


def _rhythm(rng: np.random.Generator) -> list[tuple[float, float]]:
    """One bar as (start, length) in beats."""
    grid = float(rng.choice([1.0, 0.5, 0.5, 0.5, 0.25, 1 / 3]))
    density = rng.uniform(0.35, 1.0)
    starts = [0.0] + [step * grid for step in range(1, round(4 / grid)) if rng.random() < density]
    ends = [*starts[1:], 4.0]
    short = rng.uniform(0.4, 1.0)
    return [(start, (end - start) * short) for start, end in zip(starts, ends, strict=True)]


def _riff(rng: np.random.Generator) -> list[list[tuple[float, float, int]]]:
    """Two bars, alike or not, as (start, length, scale step), shared by the players that double it."""

    def bar() -> list[tuple[float, float, int]]:
        step, made = 0, []
        for start, length in _rhythm(rng):
            made.append((start, length, step))
            step = 0 if rng.random() < 0.35 else int(np.clip(step + rng.integers(-3, 4), -4, 9))
        return made

    first = bar()
    return [first, bar() if rng.random() < 0.5 else first]


def _part(
    rng: np.random.Generator,
    role: str,
    styles: Mapping[str, Way],
    manner: str,
    tonality: Tonality,
    chords: Sequence[int],
    riff: list[list[tuple[float, float, int]]],
    style: str | None = None,
) -> list[Note]:
    """A whole part, in beats; `style` is what it plays throughout, None what comes up."""
    weights = np.array([getattr(way, manner) for way in styles.values()])
    compass = RANGES[role] if manner == "agile" else USUAL_RANGES[role]
    if manner == "agile" and role == "guitar":
        compass = int(rng.integers(compass[0], USUAL_RANGES[role][0])) if rng.random() < TUNED_DOWN else 40, compass[1]
    part: list[Note] = []
    for first in range(0, len(chords), SECTION_BARS):
        way = styles[style or str(rng.choice(list(styles), p=weights / weights.sum()))]
        rhythm, near, voicing = _rhythm(rng), int(rng.choice(way.registers)), int(rng.integers(2**31))
        velocity, mute = rng.uniform(0.4, 0.95), rng.uniform(0.2, 1.0) * (rng.random() < way.muted)
        section = chords[first : first + SECTION_BARS]
        for number, degree in enumerate(section):
            following = section[(number + 1) % len(section)]
            bar = Bar(
                rng, role, 4.0 * (first + number), number, tonality, degree, following,
                rhythm, riff, near, velocity, mute, voicing, compass,
            )  # fmt: skip
            if rng.random() >= REST:
                part += way.play(bar)
    return part
