"""The report served to one person on this machine, with buttons: what they decide goes into review.json at once.

Conventions of safety: the server listens on 127.0.0.1 alone. Every request must carry the token that was made when it
started (in the address as `?token=`, or in the header X-Gbsep-Token), name this host and port in `Host` (else a foreign
name that resolves to this machine could reach it: DNS rebinding), and, where a browser says who asks (`Origin`,
`Sec-Fetch-Site`), come from the page itself. There are no cookies, so no other page can borrow them. Files are
those of the songs shown, looked up in a table: no path of a request ever reaches the disk. Files of a render must lie
below the folder served, wherever links in it lead; a mixture is the recording itself, which lies outside by nature.

    GET  /                          the page
    GET  /assets/<name>.js          spectrograms and sound, made when they are asked for
    GET  /files/<song>/<source>     a file of a render, in ranges if wanted
    POST /review                    one decision as JSON; the answer is the song's review

A song is named by its `song_id`, not by its position in a list: a page that was loaded before renders came or went may
ask for a song that is gone, and gets a 409, where a number could lead it to another song.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import mimetypes
import re
import secrets
import socketserver
import sys
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, quote, urlsplit

from pydantic import Field, ValidationError

from ..errors import GbsepError, exact, nearest
from ..schema import StrictModel, first_problem
from ..shelf import review
from .page import asset, asset_script, page, policy
from .songs import Song, Source, collect

HOST = "127.0.0.1"
MAX_BODY_BYTES = 20_000
RANGE = re.compile(r"bytes=([0-9]{0,15})-([0-9]{0,15})")
STALE = "the songs are not those of this page any more; load the page again"


class Swap(StrictModel):
    """Two stems of a render to exchange, or to leave again."""

    preset: str
    stems: list[str] = Field(min_length=2, max_length=2)


class Written(StrictModel):
    """What tells a note from the others of its song."""

    written_at: str
    text: str


class Decision(StrictModel):
    """One decision on one song of the page: exactly the keys that change something."""

    song: str
    status: Literal["accepted", "rejected"] | None = None
    preset: str | None = None
    swap: Swap | None = None
    note: review.Remark | None = None
    remove_note: Written | None = None


class Stale(Exception):
    """A page asks for a song that is not there, or no more with those sounds."""


def song_id(song: Song) -> str:
    """Of a song and the sounds it has, in their order: the same as long as they are."""
    recordings = [
        (render.record.recording.sha256, render.record.excerpt.model_dump(exclude={"frames"}))
        for render in song.renders[:1]
    ]
    sounds = [(source.name, source.kind) for source in song.sources], [render.preset for render in song.renders]
    content = json.dumps([str(song.folder.resolve()), recordings, sounds])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


class Server(ThreadingHTTPServer):
    """Serves the review of the songs below `out`; `address` is what to open in a browser."""

    daemon_threads = True
    allow_reuse_address = False
    request_queue_size = 64  # a page asks for many sounds at once

    def __init__(self, out: Path, port: int = 0):
        self.out, self.songs, self.token = out, _by_id(collect(out)), secrets.token_urlsafe(24)
        self.deciding = threading.Lock()
        super().__init__((HOST, port), Handler)

    def server_bind(self) -> None:
        """As HTTPServer binds, but nobody is asked for a name of this machine."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away in the middle of an answer is no error."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    @property
    def host(self) -> str:
        return f"{HOST}:{self.server_address[1]}"

    @property
    def address(self) -> str:
        return f"http://{self.host}/?token={self.token}"

    def link(self, file: Path) -> str | None:
        """The address of a file of a song, relative to the page."""
        for name, song in self.songs.items():
            for index, source in enumerate(song.sources):
                if source.file == file:
                    return f"files/{name}/{index}"
        return None

    def look_again(self) -> Mapping[str, Song]:
        """The songs as they are now: renders may have been made since."""
        with self.deciding:
            self.songs = _by_id(collect(self.out))
        return self.songs

    def song(self, name: str) -> Song:
        """The song of that id. Raises Stale when there is none any more."""
        if name not in self.songs:
            raise Stale
        return self.songs[name]

    def decide(self, decision: Decision) -> review.Review:
        """Put a decision into review.json.

        Raises Stale for a song that is no more, LookupError for what it does not have, and OutputError.
        """
        with self.deciding:
            song = self.song(decision.song)
            decided = _decided(song, review.load(song.folder), decision)
            review.save(song.folder, decided)
            self.songs = {
                name: replace(other, decided=decided) if other.folder == song.folder else other
                for name, other in self.songs.items()
            }
        return decided


def _by_id(songs: Sequence[Song]) -> dict[str, Song]:
    return {song_id(song): song for song in songs}


def _decided(song: Song, decided: review.Review, decision: Decision) -> review.Review:
    """A review with a decision in it. Raises LookupError, with the reason, for what the song does not have."""
    given = decision.model_fields_set
    renders = {render.preset: render for render in song.renders}
    if "status" in given:
        if not renders and decision.status:
            raise LookupError("the song has no render: there is nothing to accept or reject")
        decided = decided.model_copy(update={"status": decision.status})
    if "preset" in given:
        if decision.preset is not None:
            _known("render", decision.preset, renders)
        decided = decided.model_copy(update={"preset": decision.preset})
    if decision.swap is not None:
        _known("render", decision.swap.preset, renders)
        first, second = decision.swap.stems
        for stem in (first, second):
            _known("stem", stem, renders[decision.swap.preset].record.stems)
        if first == second:
            raise LookupError(f"{first!r} cannot be swapped with itself")
        decided = decided.swapped(decision.swap.preset, first, second)
    if decision.note is not None:
        note = review.Note(**decision.note.model_dump())
        _check_note(song, note)
        notes = sorted([*decided.notes, note], key=lambda note: note.time_s)
        decided = decided.model_copy(update={"notes": notes})
    if decision.remove_note is not None:
        written = [Written(written_at=note.written_at, text=note.text) for note in decided.notes]
        if decision.remove_note not in written:
            raise LookupError("the song has no such note any more; load the page again")
        gone = written.index(decision.remove_note)
        decided = decided.model_copy(update={"notes": [*decided.notes[:gone], *decided.notes[gone + 1 :]]})
    return decided


def _check_note(song: Song, note: review.Note) -> None:
    seconds = max((source.shape[1] / source.shape[0] for source in song.sources), default=0.0)
    if not note.text.strip():
        raise LookupError("the note is blank: write what you heard")
    if note.time_s > seconds + 0.001:  # the page gives whole milliseconds
        raise LookupError(f"the note is at {exact(note.time_s)} s, and the song ends at {seconds:.1f} s")
    renders = {render.preset: render for render in song.renders}
    if note.preset is not None:
        _known("render", note.preset, renders)
    if note.stem is not None:
        about = renders[note.preset].sources if note.preset is not None else song.sources
        _known("stem", note.stem, {source.name for source in about})


def _known(what: str, name: str, among: Collection[str]) -> None:
    if name not in among:
        raise LookupError(f"the song has no {what} {name!r}{nearest(name, among)}; load the page again")


class Handler(BaseHTTPRequestHandler):
    """One request. Whatever is not asked for in exactly the right way is refused before anything is looked up."""

    server: Server
    server_version = "gbsep"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        path = self._allowed()
        if path == "/":
            self._page()
        elif path and (found := re.fullmatch(r"/assets/([0-9a-f]{16})((-[0-9]{1,6}-(mel|[0-9]{1,6}))?)\.js", path)):
            self._asset(found[1], found[2])
        elif path and (found := re.fullmatch(r"/files/([0-9a-f]{16})/([0-9]{1,6})", path)):
            self._file(found[1], int(found[2]))
        elif path:
            self._refuse(HTTPStatus.NOT_FOUND, "there is nothing here")

    def do_POST(self) -> None:
        path = self._allowed()
        if path == "/review":
            self._decide()
        elif path:
            self._refuse(HTTPStatus.NOT_FOUND, "there is nothing here")

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: what happens is on the page."""

    def _allowed(self) -> str | None:
        """The path of a request that may be answered; any other one is refused."""
        server, headers = self.server, self.headers
        try:
            address = urlsplit(self.path)
            query = parse_qs(address.query)
        except ValueError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, f"this is no address: {error}")
            return None
        tokens = [*query.get("token", []), headers.get("X-Gbsep-Token", "")]
        if headers.get_all("Host") != [server.host]:
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST, "this address is not served here")
        elif headers.get("Origin") not in (None, f"http://{server.host}") or headers.get(
            "Sec-Fetch-Site", "none"
        ) not in ("none", "same-origin"):
            self._refuse(HTTPStatus.FORBIDDEN, "other pages may not ask")
        elif not any(hmac.compare_digest(token.encode(), server.token.encode()) for token in tokens):
            self._refuse(
                HTTPStatus.FORBIDDEN, "the token is missing or wrong: open the address that gbsep review printed"
            )
        else:
            return address.path
        return None

    def _page(self) -> None:
        nonce = secrets.token_urlsafe(16)
        try:
            songs = self.server.look_again()
        except GbsepError as error:
            self._refuse(HTTPStatus.CONFLICT, str(error))
            return
        document = page("gbsep review", list(songs.values()), "assets/", nonce=nonce, served=list(songs))
        self._answer(
            document.encode(), "text/html; charset=utf-8", {"Content-Security-Policy": policy(nonce, "'self'")}
        )

    def _asset(self, song: str, part: str) -> None:
        try:
            found = self.server.song(song)
            if not all(map(self._may_be_served, found.sources)):
                raise KeyError(song)
            content = asset([found], f"0{part}", self.server.link)
        except Stale:
            self._refuse(HTTPStatus.CONFLICT, STALE)
        except KeyError:
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such sound or picture")
        except GbsepError as error:
            self._refuse(HTTPStatus.GONE, str(error))
        else:
            self._answer(asset_script(f"{song}{part}", content).encode(), "text/javascript; charset=utf-8")

    def _file(self, song: str, number: int) -> None:
        try:
            source = self.server.song(song).sources[number]
            if source.file is None or not self._may_be_served(source):
                raise FileNotFoundError
            path, size = source.file, source.file.stat().st_size
        except Stale:
            self._refuse(HTTPStatus.CONFLICT, STALE)
            return
        except (IndexError, OSError):
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such file any more")
            return
        first, last, status = 0, size - 1, HTTPStatus.OK
        if wanted := RANGE.fullmatch(self.headers.get("Range", "")):
            status = HTTPStatus.PARTIAL_CONTENT
            if wanted[1]:
                first, last = int(wanted[1]), min(last, int(wanted[2] or last))
            elif wanted[2]:
                first = max(0, size - int(wanted[2]))
            if first > last or not (wanted[1] or wanted[2]):
                self._refuse(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, f"the file has {size} bytes")
                return
        self.send_response(status)
        self._headers(last - first + 1, mimetypes.guess_type(path.name)[0] or "application/octet-stream")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Disposition", f"inline; filename*=UTF-8''{quote(path.name)}")
        if status == HTTPStatus.PARTIAL_CONTENT:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.end_headers()
        with path.open("rb") as file:
            file.seek(first)
            left = last - first + 1
            while left and (content := file.read(min(left, 2**18))):
                self.wfile.write(content)
                left -= len(content)

    def _may_be_served(self, source: Source) -> bool:
        """Whether a sound is the recording, or lies below OUT with all links followed."""
        out = self.server.out.resolve()
        return source.kind == "mixture" or source.file is None or source.file.resolve().is_relative_to(out)

    def _decide(self) -> None:
        length = self.headers.get("Content-Length", "")
        if self.headers.get("Content-Type", "").split(";")[0].strip().lower() != "application/json":
            self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a decision is JSON")
            return
        if not re.fullmatch("[0-9]{1,9}", length) or int(length) > MAX_BODY_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a decision has at most {MAX_BODY_BYTES} bytes")
            return
        try:
            decided = self.server.decide(Decision.model_validate(json.loads(self.rfile.read(int(length)))))
        except ValidationError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, ": ".join(first_problem(error, Decision)))
        except (ValueError, RecursionError):
            self._refuse(HTTPStatus.BAD_REQUEST, "a decision is JSON")
        except Stale:
            self._refuse(HTTPStatus.CONFLICT, STALE)
        except LookupError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        except GbsepError as error:
            self._refuse(HTTPStatus.CONFLICT, str(error))
        else:
            self._answer(json.dumps(decided.model_dump()).encode(), "application/json")

    def _answer(self, content: bytes, kind: str, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(HTTPStatus.OK)
        self._headers(len(content), kind)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        content = f"{reason}\n".encode()
        self.close_connection = True
        self.send_response(status)
        self._headers(len(content), "text/plain; charset=utf-8")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def _headers(self, length: int, kind: str) -> None:
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(length),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cross-Origin-Opener-Policy": "same-origin",
        }.items():
            self.send_header(name, value)
