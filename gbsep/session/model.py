"""What a session is, whatever the DAW: tracks in folders, clips on them, markers, tempo.

Times are seconds on the session's time line. Colours are 0xRRGGBB. A gain is the position of a fader; clips play their
file whole and unchanged, so what is heard of a track is its clips times its gain, unless it or a folder above is muted.
"""

from __future__ import annotations

import colorsys
import unicodedata
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

COLORS = {
    "original": 0x8C8C8C,
    "residual": 0x5F5F5F,
    "bass": 0x3D6FD9,
    "guitar": 0xE8842C,
    "drums": 0xD94A4A,
    "vocals": 0x9B59D0,
    "piano": 0x2FA39B,
    "other": 0x6BA83A,
}
"""The colour of each instrument, the same in every session; `color_of` finds one for any other name."""


@dataclass(frozen=True)
class Clip:
    """A whole audio file at a place on the time line. `container` is gbsep's name of its format, as "wav"."""

    path: Path
    name: str
    start_s: float
    frames: int
    sample_rate: int
    channels: int
    container: str

    @property
    def length_s(self) -> float:
        return self.frames / self.sample_rate

    @property
    def end_s(self) -> float:
        return self.start_s + self.length_s


@dataclass(frozen=True)
class WrittenNote:
    """A note on a clip, from its beginning on: `midi` is its pitch, `velocity` from 1 to 127."""

    start_s: float
    end_s: float
    midi: int
    velocity: int


@dataclass(frozen=True)
class NoteClip:
    """Notes at a place on the time line, in their order; no instrument plays them yet."""

    name: str
    start_s: float
    length_s: float
    notes: tuple[WrittenNote, ...]

    @property
    def end_s(self) -> float:
        return self.start_s + self.length_s


@dataclass(frozen=True)
class Insert:
    """A VST3 plug-in on a track, bypassed. `state` is a .vstpreset, None when the plug-in comes with its defaults."""

    name: str
    class_id: str
    vendor: str = ""
    version: str = ""
    file: str = ""
    state: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Track:
    """A track, or with `tracks` a folder that sums them. `note` is what the user should know of it, `written` are notes
    on it instead of sound."""

    name: str
    color: int
    clips: tuple[Clip, ...] = ()
    tracks: tuple[Track, ...] = ()
    mute: bool = False
    gain_db: float = 0.0
    inserts: tuple[Insert, ...] = ()
    note: str = ""
    written: tuple[NoteClip, ...] = ()


@dataclass(frozen=True)
class Marker:
    """A place on the time line, or with `end_s` a region of it."""

    time_s: float
    text: str
    end_s: float | None = None


@dataclass(frozen=True)
class Session:
    """`tempo_bpm` is None when nobody knows it. `origin_s` is what a clock reads where the time line begins (BWF)."""

    name: str
    sample_rate: int
    tracks: tuple[Track, ...]
    markers: tuple[Marker, ...] = ()
    tempo_bpm: float | None = None
    origin_s: float = 0.0
    notes: tuple[str, ...] = ()


def color_of(stem: str) -> int:
    """The colour of an instrument; names that COLORS lacks get one that depends on the name alone."""
    if stem in COLORS:
        return COLORS[stem]
    red, green, blue = colorsys.hls_to_rgb(zlib.crc32(stem.encode("utf-8", "surrogatepass")) % 360 / 360, 0.55, 0.55)
    return round(255 * red) << 16 | round(255 * green) << 8 | round(255 * blue)


def label(text: str) -> str:
    r"""`text` on one line, of characters that every format can hold: others are escaped, white space becomes spaces.

    Neither XML 1.0 nor an .rpp has a place for control characters, nor UTF-8 for lone surrogates (bytes of a file name
    that are no text).

    >>> label("a\nb\x07")
    'a b\\x07'
    """
    spaced = (" " if letter.isspace() else letter for letter in text)
    return "".join(repr(letter)[1:-1] if _is_unfit(letter) else letter for letter in spaced).strip()


def _is_unfit(letter: str) -> bool:
    return unicodedata.category(letter) in ("Cc", "Cs") or ord(letter) & 0xFFFE == 0xFFFE


def walk(tracks: Iterable[Track], muted: bool = False) -> Iterator[tuple[Track, bool]]:
    """Every track in order, folders before what is in them, and whether it is silent, by itself or by a folder."""
    for track in tracks:
        silent = muted or track.mute
        yield track, silent
        yield from walk(track.tracks, silent)


def moved(track: Track, by_s: float) -> Track:
    """The same track, everything on it later by `by_s`."""
    clips = tuple(replace(clip, start_s=clip.start_s + by_s) for clip in track.clips)
    written = tuple(replace(clip, start_s=clip.start_s + by_s) for clip in track.written)
    return replace(track, clips=clips, written=written, tracks=tuple(moved(inner, by_s) for inner in track.tracks))


def merged(tracks: Iterable[Track]) -> tuple[Track, ...]:
    """Tracks (or folders) of one name as one with the clips of all; what else they say is taken from the first."""
    found: dict[tuple[str, bool], Track] = {}
    for track in tracks:
        key = track.name, bool(track.tracks)
        if key in found:
            first = found[key]
            clips, written = first.clips + track.clips, first.written + track.written
            track = replace(first, clips=clips, written=written, tracks=merged(first.tracks + track.tracks))
        found[key] = track
    return tuple(found.values())
