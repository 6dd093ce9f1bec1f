"""Scores: what a bass and up to two guitars play, made up from a random key, chords, riffs and rests.

A song has one tempo, one scale and one chord a bar. Every part picks a way of playing and keeps its rhythm for a few
bars, as players do. The bass may follow the roots, walk, or double a guitar's riff one octave down or in unison, which
are the cases that make separation hard. Whole bars of rest come up for every part.
Times are in seconds, pitches are MIDI note numbers, velocities 0..1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .instruments import RANGES

SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
}

BASS_STYLES = {"roots": 5, "octaves": 2, "fifths": 2, "walk": 3, "riff": 3, "held": 2, "melody": 2}
GUITAR_STYLES = {
    "strum": 4,
    "held": 2,
    "arpeggio": 3,
    "power": 3,
    "riff": 3,
    "low_line": 2,
    "lead": 4,
    "stabs": 1,
    "octaves": 1,
}
"""Ways of playing, and how often each is picked relative to the others."""


@dataclass(frozen=True)
class Note:
    """`slide_from` is where the pitch comes from, in semitones; `mute` 0 rings, 1 is a tight palm mute."""

    start_s: float
    duration_s: float
    pitch: float
    velocity: float
    slide_from: float = 0.0
    mute: float = 0.0


@dataclass(frozen=True)
class Song:
    """`parts` are the bass and then each guitar."""

    seconds: float
    parts: Sequence[tuple[Note, ...]]


def compose(rng: np.random.Generator, seconds: float, guitars: int) -> Song:
    """A song of `seconds` for one bass and `guitars` guitars."""
    beat_s = 60.0 / rng.uniform(65, 175)
    bars = int(np.ceil(seconds / (4 * beat_s)))
    key = int(rng.integers(12))
    scale = np.array(SCALES[str(rng.choice(list(SCALES)))])
    degrees = [0] + [int(rng.choice(7, p=[0.28, 0.08, 0.1, 0.18, 0.18, 0.12, 0.06])) for _ in range(3)]
    chords = [degrees[(bar * len(degrees) // int(rng.choice([4, 4, 8]))) % len(degrees)] for bar in range(bars)]
    riff = _riff(rng)
    parts = [_bass(rng, key, scale, chords, riff)] + [_guitar(rng, key, scale, chords, riff) for _ in range(guitars)]
    return Song(seconds, tuple(_played(rng, part, beat_s, seconds) for part in parts))


def _played(rng: np.random.Generator, part: list[Note], beat_s: float, seconds: float) -> tuple[Note, ...]:
    """Beats to seconds, with the looseness of a hand."""
    loose_s = rng.uniform(0.0, 0.012)
    made = []
    for note in part:
        start_s = max(0.0, note.start_s * beat_s + rng.normal(0, loose_s))
        if start_s < seconds - 0.02:
            velocity = float(np.clip(note.velocity + rng.normal(0, 0.08), 0.05, 1.0))
            made.append(Note(start_s, note.duration_s * beat_s, note.pitch, velocity, note.slide_from, note.mute))
    return tuple(made)


def _rhythm(rng: np.random.Generator) -> list[tuple[float, float]]:
    """One bar as (start, length) in beats."""
    grid = float(rng.choice([1.0, 0.5, 0.5, 0.5, 0.25, 1 / 3]))
    density = rng.uniform(0.35, 1.0)
    starts = [0.0] + [step * grid for step in range(1, round(4 / grid)) if rng.random() < density]
    ends = [*starts[1:], 4.0]
    short = rng.uniform(0.4, 1.0)
    return [(start, (end - start) * short) for start, end in zip(starts, ends, strict=True)]


def _riff(rng: np.random.Generator) -> list[tuple[float, float, int]]:
    """One or two bars as (start, length, scale step), shared by the players that double it."""
    step, made = 0, []
    for bar in range(int(rng.integers(1, 3))):
        for start, length in _rhythm(rng):
            made.append((bar * 4 + start, length, step))
            step = 0 if rng.random() < 0.35 else int(np.clip(step + rng.integers(-3, 4), -4, 9))
    return made


def _pitch(key: int, scale: np.ndarray, step: int, near: float) -> int:
    """Scale step to pitch, with the key's root placed at or just below `near`."""
    root = int(near) - (int(near) - key) % 12
    return root + 12 * (step // 7) + int(scale[step % 7])


def _fold(pitch: float, role: str, low: int | None = None, high: int | None = None) -> float:
    """Moved by octaves into the role's range."""
    lowest, highest = RANGES[role]
    lowest, highest = max(low or lowest, lowest), min(high or highest, highest)
    while pitch < lowest:
        pitch += 12
    while pitch > highest:
        pitch -= 12
    return pitch


def _pick(rng: np.random.Generator, styles: dict[str, int]) -> str:
    weights = np.array(list(styles.values()), float)
    return str(rng.choice(list(styles), p=weights / weights.sum()))


def _bass(rng: np.random.Generator, key: int, scale: np.ndarray, chords: list[int], riff: list) -> list[Note]:
    near = int(rng.choice([28, 31, 35, 40], p=[0.35, 0.3, 0.2, 0.15]))
    line: list[Note] = []
    for first in range(0, len(chords), 4):
        style, rhythm, loud = _pick(rng, BASS_STYLES), _rhythm(rng), rng.uniform(0.4, 0.95)
        mute = rng.uniform(0.2, 0.9) if rng.random() < 0.2 else 0.0
        section = chords[first : first + 4]
        for offset, degree in enumerate(section):
            bar = 4.0 * (first + offset)
            if rng.random() < 0.09:
                continue
            root = _fold(_pitch(key, scale, degree, near), "bass", high=52)
            following = _fold(_pitch(key, scale, section[(offset + 1) % len(section)], near), "bass", high=52)
            slide = float(rng.choice([-2, -5, 2])) if rng.random() < 0.15 else 0.0
            if style == "held":
                line.append(Note(bar, 4.0, root, loud, slide, mute))
            elif style == "walk":
                steps = [root, *(root + np.sort(rng.choice([2, 3, 4, 5, 7, 9, 10, 12], 2, replace=False)) - 0.0)]
                if rng.random() < 0.5:
                    steps = [root, *reversed(steps[1:])]
                for beat, pitch in enumerate([*steps, following + rng.choice([-1, 1])]):
                    line.append(Note(bar + beat, 0.9, _fold(pitch, "bass"), loud, 0.0, mute))
            elif style == "riff":
                for start, length, step in riff:
                    if 4 * (offset % 2) <= start < 4 * (offset % 2) + 4:
                        pitch = _fold(_pitch(key, scale, step, near), "bass")
                        line.append(Note(bar + start - 4 * (offset % 2), length, pitch, loud, 0.0, mute))
            else:
                for number, (start, length) in enumerate(rhythm):
                    pitch = root
                    if style == "octaves":
                        pitch += 12 * (number % 2)
                    elif style == "fifths":
                        pitch += (0, 7, 12, 7)[number % 4]
                    elif style == "melody":
                        pitch = _pitch(key, scale, degree + int(rng.integers(-2, 8)), near + 5)
                    line.append(Note(bar + start, length, _fold(pitch, "bass"), loud, slide * (number == 0), mute))
    return line


def _chord(rng: np.random.Generator, key: int, scale: np.ndarray, degree: int) -> list[int]:
    """A voicing from low to high: a triad, perhaps a seventh, over two octaves, with some voices left out.

    A player keeps to one voicing of a chord for a while, so `rng` is fresh and the same each time.
    """
    tones = [0, 2, 4] + ([6] if rng.random() < 0.3 else [])
    low = int(rng.integers(40, 58))
    names = {(key + int(scale[(degree + tone) % 7])) % 12 for tone in tones}
    voices = [pitch for pitch in range(low, low + 25) if pitch % 12 in names]
    return [pitch for number, pitch in enumerate(voices[:6]) if number == 0 or rng.random() < 0.85]


def _guitar(rng: np.random.Generator, key: int, scale: np.ndarray, chords: list[int], riff: list) -> list[Note]:
    part: list[Note] = []
    for first in range(0, len(chords), 4):
        style, rhythm, loud = _pick(rng, GUITAR_STYLES), _rhythm(rng), rng.uniform(0.4, 0.95)
        mute = rng.uniform(0.3, 1.0) if rng.random() < (0.5 if style in ("power", "riff", "low_line") else 0.1) else 0.0
        near = int(rng.choice([40, 45, 52])) if style in ("riff", "low_line") else int(rng.choice([52, 57, 64, 69]))
        order, voicing = rng.permutation(6), int(rng.integers(2**31))
        line = 0
        for offset, degree in enumerate(chords[first : first + 4]):
            bar = 4.0 * (first + offset)
            if rng.random() < 0.1:
                continue
            voices = _chord(np.random.default_rng([voicing, degree]), key, scale, degree)
            root = _fold(_pitch(key, scale, degree, 40), "guitar", high=52)
            if style == "held":
                part += [Note(bar + 0.03 * n, 4.0, pitch, loud) for n, pitch in enumerate(voices)]
            elif style == "riff":
                shift = 0 if near < 50 else 12
                for start, length, step in riff:
                    if 4 * (offset % 2) <= start < 4 * (offset % 2) + 4:
                        pitch = _fold(_pitch(key, scale, step, 40) + shift, "guitar")
                        part.append(Note(bar + start - 4 * (offset % 2), length, pitch, loud, 0.0, mute))
            else:
                for number, (start, length) in enumerate(rhythm):
                    at = bar + start
                    if style in ("strum", "stabs"):
                        held = length if style == "strum" else min(length, 0.25)
                        strings = voices if number % 2 == 0 else list(reversed(voices))[: int(rng.integers(2, 6))]
                        part += [Note(at + 0.02 * n, held, pitch, loud, 0.0, mute) for n, pitch in enumerate(strings)]
                    elif style == "arpeggio":
                        pitch = voices[int(order[number % len(order)]) % len(voices)]
                        part.append(Note(at, max(length, 1.0) * 1.5, pitch, loud, 0.0, mute))
                    elif style == "power":
                        part += [Note(at, length, root + up, loud, 0.0, mute) for up in (0, 7, 12)[: 2 + number % 2]]
                    elif style == "octaves":
                        pitch = _fold(_pitch(key, scale, degree + int(rng.integers(-2, 5)), 52), "guitar", high=70)
                        part += [Note(at, length, pitch + up, loud) for up in (0, 12)]
                    else:
                        line = int(np.clip(line + rng.integers(-2, 3), -5, 12))
                        slide = float(rng.choice([-2, -1, 1])) if rng.random() < 0.2 else 0.0
                        pitch = _fold(_pitch(key, scale, line, near), "guitar")
                        part.append(Note(at, length, pitch, loud, slide, mute))
    return part
