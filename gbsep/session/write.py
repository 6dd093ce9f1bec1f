"""Sessions for DAWs from finished renders: REAPER projects and DAWprojects.

    write_sessions("gbsep-out", "reaper")                  gbsep-out/<track>/<track>.rpp for every song
    write_sessions("gbsep-out", "dawproject", per="batch")      gbsep-out/gbsep-out.dawproject for all of them

A session refers to its files by relative paths, all of them at or below its own folder, so the folder can be moved.
In one session for all, songs follow one another on common tracks, each with a region or marker of its name.

A project ends with a mark of the preset that is heard and a checksum of itself. It is replaced as long as that holds;
one that the user has saved since is not touched without `overwrite`, the others are written all the same. Equal renders
give equal bytes.

model.py says what a session is, renders.py makes one, reaper.py and dawproject.py write it.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..arguments import checked
from ..errors import OutputError, ParameterError, nearest
from ..shelf import folder as outputs
from ..shelf.projects import FORMATS, SCOPES
from ..store.smallfiles import is_regular
from ..version import __version__
from . import dawproject, reaper
from .model import Marker, Session, Track, merged, moved, walk
from .renders import Place, Render, find_renders, song_session

WRITERS = {"reaper": reaper, "dawproject": dawproject}
LEFT = "left as it is: changed since gbsep wrote it, or not gbsep's; --overwrite replaces it"
GAP_S = 2.0
"""The least silence between two songs of one session; each begins at a whole second."""
_NAME_BYTES = 120
_HEARD = "gbsep-heard:"
_SEAL = b"gbsep-sha256:"
_OPEN = b"0" * 64


@dataclass(frozen=True)
class Written:
    """A project that was written: its tracks with the folders they are in, its markers, what to know of it.

    `session` is None for one that was left as it is.
    """

    path: Path
    session: Session | None
    warnings: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The same as one JSON object."""
        session = self.session
        return {
            "project": str(self.path),
            "written": session is not None,
            "tracks": [track.name for track, _ in walk(session.tracks)] if session else [],
            "markers": len(session.markers) if session else 0,
            "tempo_bpm": session and session.tempo_bpm,
            "warnings": list(self.warnings),
        }


@checked
def write_sessions(
    out: str | Path,
    format: str = "reaper",
    per: str = "song",
    *,
    heard: str | None = None,
    fader_gains: bool = False,
    embed: bool = False,
    overwrite: bool = False,
    songs: Iterable[Path] | None = None,
) -> list[Written]:
    """Write a project for every song in `out`, or one for all of them; see the module's text.

    `heard` is the preset that is heard, where a song has it; else the one that is heard in the project that is there,
    in either format; else the first by name, or in one session for all the commonest.
    `fader_gains` puts restored gains on faders, `embed` the audio into a DAWproject. `songs` are the folders of the
    songs that are wanted, else all. A project that was changed since gbsep wrote it is left as it is, with a warning.
    Raises ParameterError for what cannot be combined, and what reading the renders raises.
    """
    if fader_gains and per == "batch":
        allowed = "songs in one session share their tracks, and a fader has one place: use --per song"
        raise ParameterError("fader_gains", fader_gains, allowed)
    if embed and format != "dawproject":
        raise ParameterError("embed", embed, f"{format} projects hold no audio: use --format dawproject")
    out = _absolute(Path(out))
    found = find_renders(out)
    if songs is not None:
        wanted = set(map(_absolute, songs))
        found = {folder: renders for folder, renders in found.items() if folder in wanted}
        if not found:
            raise OutputError(out, f"holds no finished render of {', '.join(sorted(folder.name for folder in wanted))}")
    presets = {render.folder.name for renders in found.values() for render in renders}
    if heard is not None and heard not in presets:
        raise ParameterError("heard", heard, f"a preset that was rendered{nearest(heard, presets)}")
    targets = projects_of(out, list(found), format, per)
    write = partial(dawproject.write, embed=embed) if format == "dawproject" else reaper.write
    makers: list[Callable[[Place], Session]] = []
    for target in targets:
        group = found if per == "batch" else {target.parent: found[target.parent]}
        chosen = heard or _heard_before(target, {render.folder.name for own in group.values() for render in own})
        if per == "batch":
            makers.append(partial(_batch_session, out.name, found, chosen))
        else:
            song, renders = target.parent.name, found[target.parent]
            makers.append(partial(song_session, song, renders, heard=chosen, fader_gains=fader_gains))
    speakable = WRITERS[format].speakable
    return [
        _write(at, make, write, speakable) if overwrite or not is_altered(at) else Written(at, None, (LEFT,))
        for at, make in zip(targets, makers, strict=True)
    ]


def projects_of(out: Path, songs: Iterable[Path], format: str = "reaper", per: str = "song") -> list[Path]:
    """The projects that `write_sessions` would write for the folders `songs`, which need not be there yet.

    Raises ParameterError for an unknown format or scope.
    """
    if format not in FORMATS:
        raise ParameterError("format", format, f"a session format{nearest(format, FORMATS)}")
    if per not in SCOPES:
        raise ParameterError("per", per, " or ".join(SCOPES))
    folders = [out] if per == "batch" else songs
    return [folder / _file_name(folder.name, FORMATS[format]) for folder in map(_absolute, folders)]


def is_altered(project: Path) -> bool:
    """Whether a project is there that gbsep did not write, or that was changed since."""
    return os.path.lexists(project) and not (is_regular(project) and _is_unaltered(project))


def _file_name(name: str, suffix: str) -> str:
    """The name of a project; one too long for a file's name with all that goes around it is cut."""
    words = name.encode("utf-8", "surrogateescape")
    return (name if len(words) <= _NAME_BYTES else words[:_NAME_BYTES].decode("utf-8", "ignore")) + suffix


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))


def _batch_session(name: str, songs: Mapping[Path, list[Render]], heard: str | None, place: Place) -> Session:
    """One session of all songs, one after the other."""
    presets = Counter(render.folder.name for renders in songs.values() for render in renders if not render.missing)
    heard = heard or presets.most_common(1)[0][0]
    at_s, sessions = 0.0, []
    tracks: list[Track] = []
    markers: list[Marker] = []
    for folder, renders in songs.items():
        title = folder.relative_to(place.folder).as_posix() if folder != place.folder else folder.name
        own = replace(place, song=folder, warn=partial(_warn_of, title, place.warn), copies={})
        session = song_session(title, renders, own, heard)
        if heard not in [track.name for track in session.tracks]:
            own.warn(f"was not rendered with {heard}, the preset that is heard: unmute one of its own")
        end_s = at_s + max(clip.end_s for track, _ in walk(session.tracks) for clip in track.clips)
        sessions.append(session)
        tracks += [
            replace(moved(track, at_s), mute=track.mute or (bool(track.tracks) and track.name != heard))
            for track in session.tracks
        ]
        markers += [Marker(at_s, title, end_s)]
        markers += [replace(marker, time_s=at_s + marker.time_s) for marker in session.markers]
        at_s = math.ceil(end_s + GAP_S)
    rates = Counter(session.sample_rate for session in sessions)
    tempos = {session.tempo_bpm for session in sessions}
    return Session(
        name,
        max(rates, key=lambda rate: (rates[rate], rate)),
        merged(tracks),
        tuple(markers),
        tempo_bpm=tempos.pop() if len(tempos) == 1 else None,
    )


def _warn_of(song: str, warn: Callable[[str], None], text: str) -> None:
    warn(f"{song}: {text}")


def _write(
    target: Path,
    make: Callable[[Place], Session],
    write: Callable[[Session, Path, Path, str], None],
    speakable: Callable[[str], bool],
) -> Written:
    warnings: list[str] = []
    session = make(Place(target.parent, target.parent, speakable, warnings.append))
    said = [f"{track.name}: {track.note}" for track, _ in walk(session.tracks) if track.note]
    session = replace(session, notes=(f"gbsep {__version__}", *dict.fromkeys([*said, *warnings])))
    with outputs.staged_file(target) as path:
        heard = next((track.name for track in session.tracks if track.tracks and not track.mute), "")
        write(session, path, target.parent, f"{_mark(heard)} {(_SEAL + _OPEN).decode()}")
        _close_seal(path)
    return Written(target, session, tuple(warnings))


def _mark(heard: str) -> str:
    return _HEARD + hashlib.sha256(heard.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _heard_before(target: Path, presets: Iterable[str]) -> str | None:
    """Which of `presets` is heard in the project that is there as gbsep wrote it, or in that of another format."""
    name = target.name.removesuffix(target.suffix)
    others = [target.with_name(name + suffix) for suffix in FORMATS.values()]
    for path in filter(lambda path: is_regular(path) and _is_unaltered(path), dict.fromkeys([target, *others])):
        tail = _tail(path)[1]
        for preset in presets:
            if _mark(preset).encode() in tail:
                return preset
    return None


def _close_seal(path: Path) -> None:
    at = _seal_at(path)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(_checksum(path, at))


def _is_unaltered(path: Path) -> bool:
    """Whether a project is what gbsep wrote."""
    try:
        at = _seal_at(path)
        with path.open("rb") as file:
            file.seek(at)
            return file.read(len(_OPEN)) == _checksum(path, at)
    except (OSError, ValueError):
        return False


def _seal_at(path: Path) -> int:
    """Where the checksum stands, within the last bytes of the file. Raises ValueError when there is none."""
    begin, tail = _tail(path)
    return begin + tail.rindex(_SEAL) + len(_SEAL)


def _tail(path: Path) -> tuple[int, bytes]:
    """The end of a project, in which marks stand, and where it begins."""
    tail_bytes = 4 * len(_SEAL + _OPEN)
    with path.open("rb") as file:
        begin = file.seek(max(0, file.seek(0, os.SEEK_END) - tail_bytes))
        return begin, file.read()


def _checksum(path: Path, at: int) -> bytes:
    """SHA-256 in hexadecimal of a file whose seal, at `at`, is open."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while at and (piece := file.read(min(at, 2**20))):
            digest.update(piece)
            at -= len(piece)
        file.seek(len(_OPEN), os.SEEK_CUR)
        digest.update(_OPEN + file.read())
    return digest.hexdigest().encode()
