"""The report served to one person on this machine, with buttons: what they decide goes into review.json at once.

Conventions of safety: the server listens on 127.0.0.1 alone. Every request must carry the token that was made when it
started (in the address as `?token=`, or in the header X-Gbsep-Token), name this host and port in `Host` (else a foreign
name that resolves to this machine could reach it: DNS rebinding), and, where a browser says who asks (`Origin`,
`Sec-Fetch-Site`), come from the page itself. There are no cookies, so no other page can borrow them. Files are
those of the songs shown, looked up in a table: no path of a request ever reaches the disk.

    GET  /                          the page
    GET  /assets/<name>.js          spectrograms and sound, made when they are asked for
    GET  /files/<song>/<source>     a file of a render, in ranges if wanted
    POST /review                    one decision as JSON; the answer is the song's review
"""

from __future__ import annotations

import hmac
import json
import mimetypes
import re
import secrets
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, quote, urlsplit

from pydantic import Field, ValidationError

from .. import review
from ..errors import GbsepError
from ..separation.settings import StrictModel, first_problem
from .page import asset, asset_script, page, policy
from .songs import Song, collect

HOST = "127.0.0.1"
MAX_BODY_BYTES = 20_000
RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class NoteText(StrictModel):
    """What a note says; the time of writing is the server's."""

    time_s: float = Field(ge=0)
    text: str = Field(min_length=1, max_length=review.MAX_NOTE)
    preset: str | None = None
    stem: str | None = None


class Swap(StrictModel):
    """Two stems of a render to exchange, or to leave again."""

    preset: str
    stems: list[str] = Field(min_length=2, max_length=2)


class Decision(StrictModel):
    """One decision on one song of the page: exactly the keys that change something."""

    song: int = Field(ge=0)
    status: Literal["accepted", "rejected"] | None = None
    preset: str | None = None
    swap: Swap | None = None
    note: NoteText | None = None
    remove_note: int | None = Field(None, ge=0)


class Server(ThreadingHTTPServer):
    """Serves the review of the songs below `out`; `address` is what to open in a browser."""

    daemon_threads = True
    allow_reuse_address = False

    def __init__(self, out: Path, port: int = 0):
        self.out, self.songs, self.token = out, collect(out), secrets.token_urlsafe(24)
        self.deciding = threading.Lock()
        super().__init__((HOST, port), Handler)

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
        for number, song in enumerate(self.songs):
            for index, source in enumerate(song.sources):
                if source.file == file:
                    return f"files/{number}/{index}"
        return None

    def look_again(self) -> list[Song]:
        """The songs as they are now: renders may have been made since."""
        with self.deciding:
            self.songs = collect(self.out)
        return self.songs

    def decide(self, decision: Decision) -> review.Review:
        """Put a decision into review.json. Raises LookupError for what the song does not have, and OutputError."""
        given = decision.model_fields_set
        with self.deciding:
            song = self.songs[decision.song]
            renders = {render.preset: render for render in song.renders}
            decided = review.load(song.folder)
            if "status" in given:
                decided = decided.model_copy(update={"status": decision.status})
            if "preset" in given:
                if decision.preset is not None:
                    renders[decision.preset]
                decided = decided.model_copy(update={"preset": decision.preset})
            if decision.swap is not None:
                first, second = decision.swap.stems
                stems = renders[decision.swap.preset].record["stems"]
                if first == second or not {first, second} <= set(stems):
                    raise KeyError(first)
                decided = decided.swapped(decision.swap.preset, first, second)
            if decision.note is not None:
                note = review.Note(**decision.note.model_dump())
                notes = sorted([*decided.notes, note], key=lambda one: one.time_s)
                decided = decided.model_copy(update={"notes": notes})
            if decision.remove_note is not None:
                decided.notes[decision.remove_note]
                left = [note for index, note in enumerate(decided.notes) if index != decision.remove_note]
                decided = decided.model_copy(update={"notes": left})
            review.save(song.folder, decided)
            self.songs = [replace(one, decided=decided) if one.folder == song.folder else one for one in self.songs]
        return decided


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
        elif path and (found := re.fullmatch(r"/assets/([\d\-mel]+)\.js", path)):
            self._asset(found[1])
        elif path and (found := re.fullmatch(r"/files/(\d{1,6})/(\d{1,6})", path)):
            self._file(int(found[1]), int(found[2]))
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
        address = urlsplit(self.path)
        tokens = [*parse_qs(address.query).get("token", []), headers.get("X-Gbsep-Token", "")]
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
        document = page("gbsep review", songs, "assets/", nonce=nonce, served=True)
        self._answer(
            document.encode(), "text/html; charset=utf-8", {"Content-Security-Policy": policy(nonce, "'self'")}
        )

    def _asset(self, name: str) -> None:
        try:
            content = asset(self.server.songs, name, self.server.link)
        except KeyError:
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such sound or picture")
        except GbsepError as error:
            self._refuse(HTTPStatus.GONE, str(error))
        else:
            self._answer(asset_script(name, content).encode(), "text/javascript; charset=utf-8")

    def _file(self, song: int, source: int) -> None:
        try:
            path = self.server.songs[song].sources[source].file
            assert path is not None
            size = path.stat().st_size
        except (IndexError, OSError, AssertionError):
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

    def _decide(self) -> None:
        length = self.headers.get("Content-Length", "")
        if self.headers.get("Content-Type", "").split(";")[0].strip().lower() != "application/json":
            self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a decision is JSON")
            return
        if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a decision has at most {MAX_BODY_BYTES} bytes")
            return
        try:
            decided = self.server.decide(Decision.model_validate(json.loads(self.rfile.read(int(length)))))
        except ValidationError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, ": ".join(first_problem(error, Decision)))
        except (ValueError, RecursionError):
            self._refuse(HTTPStatus.BAD_REQUEST, "a decision is JSON")
        except LookupError:
            self._refuse(HTTPStatus.BAD_REQUEST, "the song has no such render, stem or note; load the page again")
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
