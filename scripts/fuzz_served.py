"""What comes in while gbsep stands and waits: requests to the review server, files in a watched folder, URLs.

- `POST /review`, what the studio takes, and every other request is answered, by a status that HTTP has, in one line;
  the server lives on, and nothing but the review of its song changes.
- A watched folder may hold anything, and change meanwhile.
- What is at a URL, and the URL itself, may be anything (fsspec's file system in memory stands for all).
"""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import random
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_damage import TEXTS, VALUES, cleared, damaged, forged, put_special
from fuzz_records import Ground

from gbsep import batch
from gbsep.audio import Audio
from gbsep.batch.watch import arrivals
from gbsep.errors import GbsepError
from gbsep.io.write import write
from gbsep.rendering import Options
from gbsep.shelf import record, remote, review
from gbsep.studio import Server, library
from gbsep.studio.hand import Hand

TIMEOUT_S = 20
Attempts = Iterator[tuple[str, Callable[[], object]]]


class _Complaints(logging.Handler):
    """What the server says of errors that no handler of its own answered."""

    def __init__(self, faults: list[str]):
        super().__init__(logging.ERROR)
        self.faults = faults

    def emit(self, record: logging.LogRecord) -> None:
        self.faults.append(self.format(record))


class Served:
    """A review server over a render, and what is asked of it."""

    def __init__(self, place: Path):
        self.ground = Ground(place)
        self.server = self.made()
        self.faults: list[str] = []
        logging.getLogger("uvicorn.error").addHandler(_Complaints(self.faults))
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.song = self.named()
        self.kept = self.state()

    def made(self) -> Server:
        return Server(out=self.ground.out)

    def named(self) -> str:
        return next(iter(self.server.shown.songs))

    def state(self) -> dict[str, tuple[int, int]]:
        files = self.ground.files_inside()
        return {name: stamp for name, stamp in files.items() if Path(name).name not in (review.FILE, "song")}

    def decision(self, chance: random.Random) -> Any:
        good = {"song": self.song}
        whole: dict[str, Any] = {
            "status": chance.choice(("accepted", "rejected")),
            "preset": "exp002",
            "swap": {"preset": "exp002", "stems": ["bass", "guitar"]},
            "note": {"text": "late", "at_s": 0.5},
            "remove_note": {"written_at": "2024-01-01T00:00:00+00:00", "text": "late"},
        }
        for key in chance.sample(sorted(whole), chance.randint(1, 3)):
            good[key] = whole[key]
        return good if chance.random() < 0.1 else forged(good, chance)

    def request(self, chance: random.Random) -> tuple[str, str, bytes, dict[str, str]]:
        """A request that was forged somewhere: its method, path, body and headers."""
        body = json.dumps(self.decision(chance)).encode()
        roll = chance.random()
        if roll < 0.15:
            body = chance.choice(TEXTS)
        elif roll < 0.3:
            body = damaged(body, chance)
        elif roll < 0.4:
            body = json.dumps(chance.choice(VALUES)).encode()
        headers = {"X-Gbsep-Token": self.server.token, "Host": self.server.host, "Content-Type": "application/json"}
        headers["Content-Length"] = str(len(body))
        method, path = "POST", "/review"
        if chance.random() < 0.25:
            name = chance.choice(sorted(headers))
            text = str(chance.choice(VALUES)).encode("ascii", "backslashreplace").decode()
            headers[name] = "".join(letter if letter.isprintable() else "_" for letter in text)
        if chance.random() < 0.25:
            method = chance.choice(("POST", "GET", "PUT", "DELETE", "HEAD", "OPTIONS", "get", "X" * 300))
            path = chance.choice((
                "/", "/review", "//review", "/review/../..", f"/files/{self.song}/0", f"/files/{self.song}/{'9' * 400}",
                f"/files/{self.song}/-1", "/files/../../etc/passwd", "/assets/x.js", "/%2e%2e/%00", "*", "/" * 5000,
                f"/assets/{self.song}s0.js", "http://[/review", "/review?token=" + "x" * 3000, "/?token=%ff%00",
            ))  # fmt: skip
        return method, path, body, headers

    def ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> None:
        connection = http.client.HTTPConnection(*self.server.server_address, timeout=TIMEOUT_S)
        stated = headers.get("Content-Length", "")
        connection.sock = socket.socket()  # asked for by its number: no name is looked up
        connection.sock.settimeout(TIMEOUT_S)
        connection.sock.connect(self.server.server_address)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            if stated.isdigit() and int(stated) > len(body):
                with contextlib.suppress(OSError):  # it may have hung up already
                    connection.sock.shutdown(socket.SHUT_WR)  # as a browser that goes away
            answer = connection.getresponse()
            told = answer.read()
            if answer.status >= 400 and b"\n" in told.strip() and not told.startswith(b"<!DOCTYPE"):
                raise AssertionError(f"{answer.status} in several lines: {told[:300]!r}")
            if answer.status >= 500 and answer.status not in (501, 505):
                raise AssertionError(f"{answer.status}: {told[:300]!r}")
        except (http.client.HTTPException, ConnectionError):
            pass  # it hung up, as it may on what is no HTTP
        finally:
            connection.close()
        if self.faults:
            raise AssertionError(self.faults.pop())
        if self.state() != self.kept:
            raise AssertionError("a request changed more than the review")
        written = self.ground.out / "song" / review.FILE
        if written.exists():
            review.load(written.parent)
            written.unlink()

    def attempts(self, chance: random.Random) -> Attempts:
        asked = self.request(chance)
        yield f"{asked[0]} {asked[1][:80]} {asked[2][:600]!r} {asked[3]}", lambda: self.ask(*asked)


CHAIN = [{"effect": "Compressor", "ratio": 4.0}, {"effect": "Gain", "gain_db": {"points": [[0, 0], [0.5, -6]]}}]
WORK: dict[str, Any] = {
    "/api/jobs": {"songs": ["SONG"], "preset": "exp002", "format": "flac", "name": "{stem}"},
    "/api/presets": {"name": "mine", "base": "exp002", "chains": {"bass": CHAIN}},
    "/api/weights": {"model": "none"},
    "/api/demo": {"seconds": 1},
    "/api/songs/SONG/chain": {"take": "exp002", "stem": "bass", "chain": CHAIN},
    "/api/songs/SONG/review": {"song": "SONG", "status": "accepted", "preset": "exp002"},
    "/api/songs/SONG/mix": {"take": "exp002", "strips": [{"track": "bass", "gain_db": -3.0}], "speed": 0.9},
    "/api/songs/SONG/session": {"format": "reaper", "take": "exp002"},
}
"""What the studio takes, well-formed."""


class Worked(Served):
    """A studio of the same song: its queue takes all and does nothing, for what is done is a render as any other."""

    def made(self) -> Server:
        Hand.warm = lambda self: None  # type: ignore[method-assign]
        Hand.do = lambda self, task, on_step: None  # type: ignore[method-assign]
        library.DEMO_S = 0.5
        return Server(self.ground.place, self.ground.out)

    def named(self) -> str:
        assert self.server.studio
        return next(one.id for one in self.server.studio.library.look_again() if one.takes)

    def state(self) -> dict[str, tuple[int, int]]:
        """What was there before anybody asked."""
        place = self.ground.place
        new = {place / "presets", self.ground.out}
        files = [path for path in place.rglob("*") if path.is_file() and new.isdisjoint(path.parents)]
        kept = [path for path in files if not path.name.startswith(("sent", "demo song"))]
        return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_ino) for path in kept}

    def request(self, chance: random.Random) -> tuple[str, str, bytes, dict[str, str]]:
        method, path, body, headers = super().request(chance)
        roll = chance.random()
        if roll < 0.6:
            path, good = chance.choice(sorted(WORK.items()))
            told = json.loads(json.dumps(good).replace("SONG", self.song))
            method, path = "POST", path.replace("SONG", self.song)
            body = json.dumps(forged(told, chance)).encode()
        elif roll < 0.75:
            name = chance.choice(
                ("sent.wav", "..%2fsent.wav", "sent.flac", "sent.mp3", "sent%00.wav", "sent.exe", "%ff")
            )
            method, path, body = (
                "PUT",
                f"/api/uploads?name={name}",
                damaged(self.ground.song.read_bytes()[:9000], chance),
            )
        elif roll < 0.95:
            place = chance.choice(("exp002", "first~exp002", "mixture", "..", "%2e%2e%2f", "\xe9", "x" * 900))
            what = chance.choice(("sound", "wave", "mel", "file", "project"))
            query = chance.choice(
                ("track=bass:-", "track=bass:0", "track=:", "track=bass:-&speed=nan", "track=mixture:-&speed=.7")
            )
            tail = chance.choice(("0", "-1", "9" * 30, "bass", "render.json", "../render.json"))
            method, path, body = "GET", f"/api/songs/{self.song}/{what}/{place}/{tail}?{query}", b""
        headers["Content-Length"] = str(len(body))
        return method, path.encode("ascii", "replace").decode(), body, headers


class Watched:
    """A folder that is watched once, with songs and with what is none."""

    def __init__(self, place: Path):
        self.place = place
        noise = Audio(0.1 * np.random.default_rng(0).standard_normal((1, 800)).astype(np.float32), 8000)
        write(place / "good.wav", noise)
        self.good = (place / "good.wav").read_bytes()

    def attempts(self, chance: random.Random) -> Attempts:
        folder, told = self.place / "watched", []
        folder.mkdir()
        (folder / "good.wav").write_bytes(self.good)
        for number in range(chance.randint(1, 4)):
            name = chance.choice(("a", "노래", "caf\udce9", "...", "con", "-x", "a b", "x" * 240, "\n", "%s{0}"))
            path = folder / f"{name}{number}{chance.choice(('.wav', '.mp3', '.flac', '.m4a', '.txt', '.spx', ''))}"
            if chance.random() < 0.3:
                told.append(f"{path.name!r} {put_special(path, chance)}")
            else:
                path.write_bytes(chance.choice(TEXTS) if chance.random() < 0.3 else damaged(self.good, chance))
                told.append(repr(path.name))

        def watch() -> None:
            problems: list[GbsepError] = []
            options = Options(folder / "out" if chance.random() < 0.5 else self.place / "out", dry_run=True)
            seen = 0
            for paths in arrivals(folder, options.out, settle_s=0.0, once=True, tell=problems.append):
                seen += len(paths)
                if chance.random() < 0.2:
                    Path(paths[0]).unlink(missing_ok=True)
                planned = batch.plan(paths, ["exp002"], options, below=folder, check_space=False)
                for outcome in planned.refused:
                    if outcome.traceback and "unexpected" in (outcome.error or ""):
                        raise AssertionError(outcome.traceback)
            if not seen:
                raise AssertionError("not even the good one came")

        try:
            yield f"watch: {told}", watch
        finally:
            cleared(folder)


URLS = (
    "memory://in/a.wav", "memory://in/", "memory://in/*", "memory://in/**", "memory://", "memory:///", "memory://in/../x",
    "memory://in/%00", "memory://in/caf%E9.wav", "memory://[", "memory://in/a.wav?x=1#y", "file:///dev/zero", "file://",
    "file:///../../etc", "nosuch://x", "simplecache::memory://in/a.wav", "memory://in/[", "memory://in/con.wav",
    "zip://a.wav::memory://in/a.zip", "memory://\ud800", "memory://in/" + "x" * 300 + ".wav", "memory://in/a.wav/",
    "http://127.0.0.1:9/a.wav", "data:,x", "data://,x", "reference://x", "memory://in/노래.wav",
)  # fmt: skip


class Remote:
    """Songs and renders at URLs: forged, damaged, under odd names."""

    def __init__(self, place: Path):
        import fsspec

        self.place, self.system = place, fsspec.filesystem("memory")
        noise = Audio(0.1 * np.random.default_rng(0).standard_normal((1, 800)).astype(np.float32), 8000)
        write(place / "a.wav", noise)
        self.sound = (place / "a.wav").read_bytes()
        options = Options(use_cache=False)
        planned = batch.plan([place / "a.wav"], ["exp002"], options, destination="memory://good")
        assert [outcome.status for outcome in batch.run(planned)] == ["ok"]
        self.good = {path: self.system.cat_file(path) for path in self.system.find("/good/a")}

    def attempts(self, chance: random.Random) -> Attempts:
        self.system.store.clear()
        self.system.pseudo_dirs[:] = [""]
        for name in (
            "a.wav",
            "노래.wav",
            "con.wav",
            "x.txt",
            chance.choice(("..wav", "a\0.wav", "a\n.wav", "..", "%2e")),
        ):
            self.system.pipe_file(f"/in/{name}", self.sound if chance.random() < 0.7 else damaged(self.sound, chance))
        there = chance.choice(("good", f".good.{'0' * 8}.partial"))
        for path, content in self.good.items():
            where = path.replace("/exp002/", f"/{'exp002' if there == 'good' else '.exp002.00000000.partial'}/")
            if path.endswith(record.RECORD):
                roll = chance.random()
                if roll < 0.6:
                    document = forged(json.loads(content), chance)
                    content = json.dumps(record.sealed(document) if isinstance(document, dict) else document).encode()
                elif roll < 0.8:
                    content = chance.choice((chance.choice(TEXTS), damaged(content, chance)))
            self.system.pipe_file(where, content)
        if chance.random() < 0.3:
            self.system.pipe_file("/good/batch.json", chance.choice(TEXTS))
        if chance.random() < 0.3:
            self.system.pipe_file("/good/a/review.json", chance.choice(TEXTS))
        word = chance.choice(URLS)
        out = chance.choice(("memory://good", "memory://good/", "memory://in", chance.choice(URLS)))
        dry_run, overwrite = chance.random() < 0.3, chance.random() < 0.3
        source = chance.choice((word, str(self.place / "a.wav")))

        def render() -> None:
            options = Options(use_cache=False, dry_run=dry_run, overwrite=overwrite, download=not dry_run)
            planned = batch.plan([source], ["exp002"], options, destination=out if remote.is_url(out) else None)
            for outcome in (*planned.refused, *([] if dry_run else batch.run(planned))):
                if "unexpected" in (outcome.error or ""):
                    raise AssertionError(f"{outcome.error}\n{outcome.traceback}")

        yield f"find {word}", lambda: remote.find(word, out)
        yield f"render {source} --out {out} ({there}) {dry_run=} {overwrite=}", render
        yield f"read {word}", lambda: remote.read_bytes(word, 1000)
        remote.clear()


def prepare(place: Path) -> Callable[[random.Random], Attempts]:
    """What draws a request, a folder that is watched, or what is at a URL."""
    for name in ("served", "worked", "watched", "remote"):
        (place / name).mkdir()
    kinds = (Served(place / "served"), Worked(place / "worked"), Watched(place / "watched"), Remote(place / "remote"))

    def draw(chance: random.Random) -> Attempts:
        return chance.choices(kinds, (5, 3, 2, 2))[0].attempts(chance)

    return draw
