"""The songs of a folder: recordings that lie in it, their renders, and files that are put into it.

Conventions: a song goes by a name that tells nothing of its place, a hash of it. What is put in gets a plain name in
the folder itself, never another's place, and counts only once it has proved to be audio. Nothing outside the folder is
written, and nothing outside is read but what a render's record names as its recording.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from starlette.concurrency import run_in_threadpool

from ..batch.inputs import expand
from ..demo import make_demo
from ..errors import AudioFileError, OutputError
from ..io.formats import AUDIO_SUFFIXES
from ..io.probe import FileInfo, probe
from ..io.write import write
from ..rendering import track_names
from ..shelf import record
from ..shelf.record import RECORD, Record, plain_track
from ..store.identity import content_hash
from .asking import Refusal

MAX_UPLOAD_BYTES = 8 * 2**30
"""Of one file: some hours of uncompressed sound."""

KEPT_FREE_BYTES = 2**30
"""What uploads leave free on the disk."""

UNSENT = ".gbsep-"
"""How the names of files begin that are being sent."""

DEMO, DEMO_S = "demo song.wav", 32.0

HIDDEN = ".studio"
"""In the output folder: the queue, first seconds, stretched sound."""


@dataclass(frozen=True)
class Take:
    """A finished render of a song: the folder, its record, and how many of the song's seconds it has."""

    name: str
    folder: Path
    record: Record

    @property
    def is_mix(self) -> bool:
        """Whether it is a mix that was taken home: it has no stems, and perhaps another length."""
        return "mix" in self.record.overrides

    @property
    def seconds(self) -> float:
        return self.record.excerpt.frames / self.record.recording.sample_rate


@dataclass(frozen=True)
class Song:
    """A recording and its renders; `path` is where it is now, `folder` where its renders lie."""

    id: str
    name: str
    path: Path
    folder: Path
    info: FileInfo
    takes: dict[str, Take] = field(default_factory=dict)


class Library:
    """The songs of a folder, looked up again when they may have changed."""

    def __init__(self, folder: Path, out: Path):
        self.folder, self.out = folder, out
        self._lock = threading.Lock()
        self._known: dict[tuple[Path, int, int], FileInfo] = {}
        self._songs: dict[str, Song] = {}
        self.unreadable: dict[str, str] = {}

    @property
    def hidden(self) -> Path:
        return self.out / HIDDEN

    def look_again(self) -> list[Song]:
        """All songs as they lie there now, in the order of their names."""
        with self._lock:
            requests = expand([self.folder], self.out)[0] if any(self.folder.iterdir()) else []
            paths = [Path(one.input) for one in requests if one.problem is None]
            names = track_names(paths) if paths else {}
            songs, broken = {}, {}
            for path in sorted(paths, key=lambda one: names[one].casefold()):
                try:
                    info = self._info(path)
                except (AudioFileError, OSError) as error:
                    broken[path.name] = getattr(error, "reason", str(error))
                    continue
                name = names[path]
                song = Song(song_id(path), name, path, self.out / name, info, takes_of(self.out / name, path))
                songs[song.id] = song
            self._songs, self.unreadable = songs, broken
            return list(songs.values())

    def song(self, name: str) -> Song:
        """The song of that id. Raises Refusal when there is none."""
        if name not in self._songs:
            self.look_again()
        if name not in self._songs:
            raise Refusal(404, "there is no such song; load the page again")
        return self._songs[name]

    def refresh(self, name: str) -> Song:
        """The song with the renders that it has now."""
        song = self.song(name)
        fresh = Song(song.id, song.name, song.path, song.folder, song.info, takes_of(song.folder, song.path))
        with self._lock:
            self._songs[name] = fresh
        return fresh

    def first(self, song: Song, preset: str) -> Take | None:
        """The first seconds of a song, rendered before all of it is there."""
        folder = self.hidden / "first" / song.name
        found = [take for name, take in takes_of(folder, song.path, True).items() if name.split("@")[0] == preset]
        return found[0] if found else None

    def forget_first(self) -> None:
        """Take all first seconds away: no page plays them any more."""
        shutil.rmtree(self.hidden / "first", ignore_errors=True)

    def _info(self, path: Path) -> FileInfo:
        stamp = path.stat()
        key = (path, stamp.st_size, stamp.st_mtime_ns)
        if key not in self._known:
            self._known[key] = probe(path)
        return self._known[key]

    def make_up(self) -> Song:
        """The song of the demonstration, made if it is not there."""
        path = self.folder / DEMO
        if not path.exists():
            write(path, make_demo(DEMO_S)[0])
        self.look_again()
        return self.song(song_id(path))

    def forget_unsent(self) -> None:
        """Take away what was left of files whose sending was cut off by the end of a server, an hour or longer ago."""
        for path in self.folder.glob(f"{UNSENT}*"):
            with contextlib.suppress(OSError):
                if path.is_file() and path.stat().st_mtime < time.time() - 3600:
                    path.unlink()

    async def put(self, name: str, pieces: AsyncIterator[bytes], stated: int | None) -> Song:
        """A new recording, from the pieces of its content. Raises Refusal for what is none, or too large.

        The same recording that is there already is not kept twice.
        """
        target = self._place(name)
        room = shutil.disk_usage(self.folder).free - KEPT_FREE_BYTES
        limit = min(MAX_UPLOAD_BYTES, max(0, room))
        if stated is not None and stated > limit:
            raise Refusal(413, f"the file is larger than the {limit / 1e9:.1f} GB that there is room for")
        hidden = self.folder / f"{UNSENT}{secrets.token_hex(8)}.tmp{target.suffix}"
        try:
            with hidden.open("xb") as file:
                size = 0
                async for piece in pieces:
                    size += len(piece)
                    if size > limit:
                        raise Refusal(413, f"the file is larger than {limit / 1e9:.1f} GB")
                    file.write(piece)
            if stated is not None and size != stated:
                raise Refusal(400, "the file did not come whole; send it again")
            return await run_in_threadpool(self._keep, hidden, target)
        except OSError as error:
            raise OutputError(self.folder, f"cannot be written: {error.strerror or error}; free some space") from None
        finally:
            hidden.unlink(missing_ok=True)

    def _place(self, name: str) -> Path:
        """Where a file of that name goes; only the last part of a name counts."""
        plain = plain_track(name.replace("\\", "/").rsplit("/", 1)[-1]).replace("/", "-").strip().lstrip(".")
        suffix = Path(plain).suffix.lower()
        if not plain or "\0" in name or len(plain.encode()) > 200 or suffix not in AUDIO_SUFFIXES:
            raise Refusal(415, f"{name[:80]!r} is not the name of an audio file that gbsep reads")
        return self.folder / plain

    def _keep(self, hidden: Path, target: Path) -> Song:
        try:
            probe(hidden)
        except AudioFileError as error:
            raise Refusal(415, f"{target.name}: {error.reason}") from None
        there = target
        with self._lock:
            for number in range(2, 1000):
                if not os.path.lexists(there):
                    hidden.rename(there)
                    break
                same_size = there.is_file() and there.stat().st_size == hidden.stat().st_size
                if same_size and content_hash(there) == content_hash(hidden):
                    break
                there = target.with_stem(f"{target.stem}-{number}")
        self.look_again()
        return self.song(song_id(there))


def song_id(path: Path) -> str:
    """The name of a recording for the page."""
    return hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]


def takes_of(folder: Path, recording: Path, excerpts: bool = False) -> dict[str, Take]:
    """The finished renders of a recording in the folder of its song, whole ones or else `excerpts`."""
    found: dict[str, Take] = {}
    try:
        places = sorted(path.parent for path in folder.glob(f"*/{RECORD}"))
    except OSError:
        return found
    here = os.path.realpath(recording)
    for place in places:
        one = record.read(place)
        if one is None or os.path.realpath(one.recording.path) != here:
            continue
        whole = not one.excerpt.start_s and one.excerpt.duration_s is None
        if whole != excerpts and not place.name.startswith("."):
            found[place.name] = Take(place.name, place, one)
    return found
