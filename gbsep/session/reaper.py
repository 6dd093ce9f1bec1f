"""REAPER projects (.rpp): lines of words, in elements that begin with `<` and end with `>`.

- Colours are 0x1000000 | blue << 16 | green << 8 | red. Volumes are amplitude ratios.
- `ISBUS 1 1` opens a folder; `ISBUS 2 -n` is the last track in it and closes n of them.
- A track follows the clock (`BEAT 0`), not the beat: a tempo that is corrected later stretches nothing.
- A word is quoted with whichever of " ' ` it does not hold. REAPER writes ` as ' where a name holds all three. The
  library does so wherever a ` meets a space, and it leaves white space other than the plain one unquoted: hence `_word`
  for names, and `speakable` for paths, which cannot be changed.
- A VST3 goes by its class id and a number, the 31-bit FNV-1a hash of that id as a GUID. Its state is base64 in three
  parts: a header with the routing; component and controller state, each after its length; the name of the program.

References: the `rpp` package; ReaTeam/Doc, "State Chunk Definitions"; Cockos WDL, projectcontext.cpp.
"""

from __future__ import annotations

import base64
import struct
import uuid
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..measure.levels import to_amplitude
from ..plugins import host
from .model import Clip, Insert, Marker, NoteClip, Session, Track, label

SOURCES = {"flac": "FLAC", "mp3": "MP3", "ogg": "VORBIS"}
"""REAPER's readers of file formats; all others are read by WAVE."""
_NAMESPACE = uuid.UUID("4f0e1f0c-5d63-5d3b-9a5b-6a1c0f6f2a11")
_OPAQUE = 0xFEED5EEE
_STEREO = struct.pack("<IQQ", 2, 1, 2)
_NO_PROGRAM = b"\0\0\x10\0\0\0"
_LINE = 128
_MIDI_TICKS_PER_S = 1920
"""Of a MIDI item: 960 to a quarter, at 120 quarters a minute."""


def speakable(path: str) -> bool:
    """Whether a path can stand in an .rpp as it is."""
    return path == label(path) and "`" not in path


def write(session: Session, path: Path, place: Path, seal: str) -> None:
    """Write the session to `path`, for use from the folder `place`: paths of files are relative to it.

    The file ends with `seal`, the last line of the project's notes.
    """
    import rpp

    header = [
        ["RIPPLE", 0],
        ["PANLAW", 1],
        ["PROJOFFS", _number(session.origin_s), 0, 0],
        ["TIMEMODE", 0, 5, -1, 30, 0, 0, -1],
        ["TIMELOCKMODE", 0],
        ["TEMPOENVLOCKMODE", 0],
        ["SAMPLERATE", session.sample_rate, 1, 0],
        *([["TEMPO", _number(session.tempo_bpm), 4, 4]] if session.tempo_bpm else []),
    ]
    ids = _ids(session.name)
    content = [*header, *_markers(session.markers, ids), *_tracks(session.tracks, 0, place, ids)]
    notes = rpp.Element("NOTES", ("0", "2"), [f"|{label(note)}" for note in (*session.notes, seal)])
    project = rpp.Element("REAPER_PROJECT", ("0.1", "7.0"), [*content, notes])
    path.write_text(rpp.dumps(project), encoding="utf-8", newline="\n")


def _markers(markers: Iterable[Marker], ids: Iterator[str]) -> Iterator[list[Any]]:
    for number, marker in enumerate(markers, 1):
        region = marker.end_s is not None
        yield ["MARKER", number, _number(marker.time_s), _word(marker.text), int(region), 0, 1, "B", next(ids), 0]
        if marker.end_s is not None:
            yield ["MARKER", number, _number(marker.end_s), "", 1]


def _tracks(tracks: tuple[Track, ...], closes: int, place: Path, ids: Iterator[str]) -> Iterator[Any]:
    """The tracks one after the other; the last of them closes `closes` folders, and its own if it is one."""
    for track, after in pairwise([*tracks, None]):
        assert track is not None
        ends = closes if after is None else 0
        opens = (1, 1) if track.tracks else (2, -ends) if ends else (0, 0)
        yield _track(track, opens, place, ids)
        yield from _tracks(track.tracks, ends + 1, place, ids)


def _track(track: Track, folder: tuple[int, int], place: Path, ids: Iterator[str]) -> Any:
    import rpp

    guid = next(ids)
    lines: list[Any] = [
        ["NAME", _word(track.name)],
        ["PEAKCOL", _color(track.color)],
        ["BEAT", 0],
        ["AUTOMODE", 0],
        ["VOLPAN", _number(to_amplitude(track.gain_db)), 0, -1, -1, 1],
        ["MUTESOLO", int(track.mute), 0, 0],
        ["IPHASE", 0],
        ["ISBUS", *folder],
        ["NCHAN", 2],
        ["FX", 1],
        ["TRACKID", guid],
        ["MAINSEND", 1, 0],
    ]
    if track.inserts:
        lines.append(rpp.Element("FXCHAIN", (), [*_inserts(track.inserts, ids)]))
    lines += [_item(clip, place, ids) for clip in track.clips]
    lines += [_note_item(clip, ids) for clip in track.written]
    return rpp.Element("TRACK", (guid,), lines)


def _item(clip: Clip, place: Path, ids: Iterator[str]) -> Any:
    import rpp

    source = rpp.Element(
        "SOURCE", (SOURCES.get(clip.container, "WAVE"),), [["FILE", clip.path.relative_to(place).as_posix()]]
    )
    return rpp.Element(
        "ITEM",
        (),
        [
            ["POSITION", _number(clip.start_s)],
            ["LENGTH", _number(clip.length_s)],
            ["LOOP", 0],
            ["FADEIN", 1, 0, 0, 1, 0, 0, 0],
            ["FADEOUT", 1, 0, 0, 1, 0, 0, 0],
            ["BEAT", 0],
            ["IGUID", next(ids)],
            ["NAME", _word(clip.name)],
            ["VOLPAN", 1, 0, 1, -1],
            ["SOFFS", 0],
            ["PLAYRATE", 1, 1, 0, -1],
            ["CHANMODE", 0],
            ["GUID", next(ids)],
            source,
        ],
    )


def _note_item(clip: NoteClip, ids: Iterator[str]) -> Any:
    """A MIDI item. It goes by its own tempo, so its notes stay at their seconds whatever the project's tempo is."""
    import rpp

    moves = sorted(
        [(note.start_s, 1, f"90 {note.midi:02x} {note.velocity:02x}") for note in clip.notes]
        + [(note.end_s, 0, f"80 {note.midi:02x} 00") for note in clip.notes]
    )
    moves.append((clip.length_s, 2, "b0 7b 00"))
    at, lines = 0, list[Any]()
    for second, _, message in moves:
        tick = max(at, round(second * _MIDI_TICKS_PER_S))
        lines.append(["E", tick - at, *message.split()])
        at = tick
    own = _MIDI_TICKS_PER_S // 2
    source = rpp.Element("SOURCE", ("MIDI",), [["HASDATA", 1, own, "QN"], *lines, ["IGNTEMPO", 1, 120, 4, 4]])
    return rpp.Element(
        "ITEM",
        (),
        [
            ["POSITION", _number(clip.start_s)],
            ["LENGTH", _number(clip.length_s)],
            ["LOOP", 0],
            ["BEAT", 0],
            ["IGUID", next(ids)],
            ["NAME", _word(clip.name)],
            ["SOFFS", 0],
            ["PLAYRATE", 1, 1, 0, -1],
            ["GUID", next(ids)],
            source,
        ],
    )


def _inserts(inserts: Iterable[Insert], ids: Iterator[str]) -> Iterator[Any]:
    import rpp

    yield from (["SHOW", 0], ["LASTSEL", 0], ["DOCKED", 0])
    for insert in inserts:
        title = f"VST3: {insert.name}" + (f" ({insert.vendor})" if insert.vendor else "")
        number = _vst3_number(insert.class_id)
        yield ["BYPASS", 1, 0, 0]
        yield rpp.Element(
            "VST",
            (_word(title), _word(insert.file), 0, "", f"{number}{{{insert.class_id}}}", ""),
            [*_state(number, insert.state)] if insert.state else [],
        )
        yield ["FXID", next(ids)]
        yield ["WAK", 0, 0]


def _state(number: int, preset: bytes) -> Iterator[str]:
    """The base64 lines of a .vstpreset."""
    chunks = host.preset_chunks(preset)
    parts = (chunks.get(b"Comp", b""), chunks.get(b"Cont", b""))
    data = b"".join(struct.pack("<II", len(part), first) + part for part, first in zip(parts, (1, 0), strict=True))
    head = struct.pack("<II", number, _OPAQUE) + 2 * _STEREO + struct.pack("<III", len(data), 1, 0x10FFFF)
    for part in (head, data, _NO_PROGRAM):
        text = base64.b64encode(part).decode()
        yield from (text[at : at + _LINE] for at in range(0, len(text), _LINE))


def _vst3_number(class_id: str) -> int:
    number = 0x811C9DC5
    for byte in uuid.UUID(class_id).bytes_le:
        number = (number ^ byte) * 0x01000193 & 0xFFFFFFFF
    return number & 0x7FFFFFFF


def _color(rgb: int) -> int:
    red, green, blue = rgb.to_bytes(3, "big")
    return 0x1000000 | blue << 16 | green << 8 | red


def _word(text: str) -> str:
    """A name as a project holds it: white space makes the library quote it, as a # at its front needs in REAPER."""
    word = label(text).replace("`", "'")
    return f"{word} " if word.startswith("#") and " " not in word else word


def _number(value: float) -> str:
    """Plain decimals, as REAPER writes them, exact to a millionth of a frame over hours and of a dB at any fader."""
    return f"{value:.14f}".rstrip("0").rstrip(".")


def _ids(name: str) -> Iterator[str]:
    """GUIDs, the same ones for the same session every time."""
    number = 0
    while True:
        yield "{" + str(uuid.uuid5(_NAMESPACE, f"{number} {label(name)}")).upper() + "}"
        number += 1
