"""A score as a Guitar Pro 5 file."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from .score import TICKS, VALUES, Score, Sign

if TYPE_CHECKING:
    import guitarpro as gp

MIDI_PROGRAMS = {"bass": 33, "guitar": 27}


def gp5_bytes(score: Score, title: str, stem: str = "bass") -> bytes:
    """The file."""
    import guitarpro as gp

    song = gp.models.Song(title=_legible(title), tempo=max(1, min(999, round(score.beats.bpm))))
    track = song.tracks[0]
    track.name = _legible(stem)
    track.strings = [gp.models.GuitarString(number, pitch) for number, pitch in enumerate(reversed(score.tuning), 1)]
    track.fretCount = 24
    track.channel.instrument = MIDI_PROGRAMS["guitar" if stem.startswith("guitar") else "bass"]
    song.measureHeaders = []
    track.measures = []
    start = gp.models.Duration.quarterTime
    for number, bar in enumerate(score.bars, 1):
        header = gp.models.MeasureHeader(number=number, start=start)
        song.measureHeaders.append(header)
        measure = gp.models.Measure(track, header)
        track.measures.append(measure)
        for sign in bar:
            measure.voices[0].beats.append(_beat(measure.voices[0], sign, start, len(score.tuning)))
        start += header.length
    made = io.BytesIO()
    gp.write(song, made, version=(5, 1, 0), encoding="cp1252")
    return made.getvalue()


def _legible(text: str) -> str:
    return text.encode("cp1252", "replace").decode("cp1252")[:200]


def _beat(voice: gp.models.Voice, sign: Sign, start: int, strings: int) -> Any:
    import guitarpro as gp

    value, dotted = VALUES[sign.length]
    duration = gp.models.Duration(value=value, isDotted=dotted)
    if sign.is_triplet:
        duration.tuplet = gp.models.Tuplet(3, 2)
    at = start + round(sign.start * gp.models.Duration.quarterTime / TICKS)
    beat = gp.models.Beat(voice, duration=duration, start=at)
    placed = [(note, place) for note, place in zip(sign.notes, sign.placed, strict=True) if place is not None]
    beat.status = gp.models.BeatStatus.normal if placed else gp.models.BeatStatus.rest
    for note, place in placed:
        kind = gp.models.NoteType.tie if sign.tied else gp.models.NoteType.normal
        if note.kind == "dead" and not sign.tied:
            kind = gp.models.NoteType.dead
        made = gp.models.Note(beat, value=place.fret, velocity=note.velocity, string=strings - place.string, type=kind)
        beat.notes.append(made)
    return beat
