"""A line as a Standard MIDI File: one track of notes at their true times, with the tempo where it is known.

Time 0 of the file is time 0 of the song, so that it can be laid beside it; where the tempo is not known beats are half
seconds.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from .line import Beats, Line, Note, even
from .score import UNKNOWN_BPM
from .table import LATEST_S, MAX_NOTES

if TYPE_CHECKING:
    import mido

TICKS_PER_BEAT = 960
PROGRAMS = {"bass": 33, "guitar": 27}
"""General MIDI: electric bass (finger), electric guitar (clean)."""


def midi_bytes(line: Line, beats: Beats | None, stem: str = "bass") -> bytes:
    """The file."""
    import mido

    beats = beats or even(UNKNOWN_BPM)
    tempi = _tempi(beats)
    file = mido.MidiFile(type=1, ticks_per_beat=TICKS_PER_BEAT)
    head = [(at, mido.MetaMessage("set_tempo", tempo=round(6e7 / bpm))) for at, bpm in tempi]
    head.insert(0, (0, mido.MetaMessage("time_signature", numerator=4, denominator=4)))
    file.tracks.append(_track([(0, mido.MetaMessage("track_name", name="gbsep notes")), *head]))
    kind = "guitar" if stem.startswith("guitar") else "bass"
    channel = 0
    events = [
        (0, mido.MetaMessage("track_name", name=stem.encode("ascii", "replace").decode())),
        (0, mido.Message("program_change", channel=channel, program=PROGRAMS[kind])),
    ]
    moves = []
    for note, end_s in zip(line.notes, ends(line.notes), strict=True):
        on, off = (ticks(tempi, second) for second in (note.onset_s, end_s))
        moves.append((on, 1, mido.Message("note_on", channel=channel, note=note.midi, velocity=note.velocity)))
        moves.append((max(off, on + 1), 0, mido.Message("note_off", channel=channel, note=note.midi, velocity=0)))
    moves.sort(key=lambda move: move[:2])
    file.tracks.append(_track([*events, *((at, message) for at, _, message in moves)]))
    made = io.BytesIO()
    file.save(file=made)
    return made.getvalue()


def ends(notes: Sequence[Note]) -> list[float]:
    """When each note stops: where it does, or where its pitch begins again."""
    again: dict[int, float] = {}
    made = []
    for note in reversed(notes):
        made.append(min(note.end_s, again.get(note.midi, note.end_s)))
        again[note.midi] = note.onset_s
    return made[::-1]


def ticks(tempi: Sequence[tuple[int, float]], second: float) -> int:
    """The tick of a second under tempi of (tick, beats a minute)."""
    at_s = 0.0
    for (tick, bpm), after in zip(tempi, [*tempi[1:], None], strict=True):
        per_s = TICKS_PER_BEAT * _kept(bpm) / 60
        if after is None or second < at_s + (after[0] - tick) / per_s:
            return round(tick + (second - at_s) * per_s)
        at_s += (after[0] - tick) / per_s
    raise AssertionError("the last tempo has no end")


def _kept(bpm: float) -> float:
    """A tempo as a file holds it, in whole microseconds a beat."""
    return 6e7 / round(6e7 / bpm)


def _tempi(beats: Beats) -> list[tuple[int, float]]:
    """(tick, beats a minute) of each anchor's tempo, from tick 0 on."""
    anchors = beats.anchors
    rows: list[tuple[int, float]] = []
    at_s, tick = 0.0, 0.0
    for (first_s, first), (last_s, last) in pairwise(anchors):
        bpm = min(1000.0, max(4.0, 60 * (last - first) / (last_s - first_s)))
        if not rows or abs(rows[-1][1] - bpm) > 0.005:
            if rows:
                tick += max(0.0, first_s - at_s) * TICKS_PER_BEAT * _kept(rows[-1][1]) / 60
                at_s = max(at_s, first_s)
            rows.append((round(tick), bpm))
    return rows


def _track(events: Sequence[tuple[int, mido.Message]]) -> mido.MidiTrack:
    import mido

    track = mido.MidiTrack()
    at = 0
    for tick, message in events:
        track.append(message.copy(time=tick - at))
        at = tick
    return track


def read_midi(content: bytes) -> Line:
    """The notes of a MIDI file, of all its tracks but drums. Raises ValueError for what is none."""
    import mido

    try:
        file = mido.MidiFile(file=io.BytesIO(content))
        messages = list(file)
    except (OSError, EOFError, ValueError, IndexError, KeyError, TypeError) as error:
        raise ValueError(f"is no MIDI file: {str(error) or type(error).__name__}") from None
    at, open_notes, notes = 0.0, dict[tuple[int, int], tuple[float, int]](), list[Note]()

    def close(key: tuple[int, int]) -> None:
        onset_s, velocity = open_notes.pop(key)
        notes.append(Note(round(onset_s, 6), round(at, 6), key[1], round(velocity / 127, 3)))

    for message in messages:
        at += message.time
        if message.type not in ("note_on", "note_off") or message.channel == 9:
            continue
        key = message.channel, message.note
        if key in open_notes:
            close(key)
        if message.type == "note_on" and message.velocity:
            open_notes[key] = at, message.velocity
    for key in list(open_notes):
        close(key)
    if at > LATEST_S or len(notes) > MAX_NOTES:
        raise ValueError(f"has more than {MAX_NOTES} notes, or goes on for more than {LATEST_S:.0f} s")
    return Line(tuple(sorted(notes, key=lambda note: (note.onset_s, note.midi))), at)
