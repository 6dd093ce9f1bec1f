"""The review server: what it answers, and all that it refuses."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from email.message import Message
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gbsep
from gbsep.audio import Audio
from gbsep.errors import OutputError
from gbsep.report import collect
from gbsep.report.deciding import song_id
from gbsep.shelf import review
from gbsep.shelf.review import Review
from gbsep.studio import Server
from gbsep.studio.asking import MAX_BODY_BYTES

from .browsing import serving

RATE = 44100


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    noise = 0.1 * np.random.default_rng(0).standard_normal((2, 2 * RATE))
    gbsep.write(folder / "song.wav", Audio(noise, RATE))
    (folder / "secret.txt").write_text("secret")
    gbsep.render(folder / "song.wav", "exp002", folder / "out", use_cache=False)
    (folder / "out/song/exp002/link.wav").symlink_to(folder / "secret.txt")
    return folder / "out"


@pytest.fixture(scope="module")
def server(out: Path) -> Iterator[Server]:
    with serving(Server(out=out)) as server:
        yield server


@pytest.fixture(autouse=True)
def unreviewed(out: Path) -> None:
    (out / "song" / review.FILE).unlink(missing_ok=True)


def ask(
    server: Server, path: str, method: str = "GET", body: Any = None, **headers: str | None
) -> tuple[int, Message, bytes]:
    """Status, headers and content; the token and the host are right unless given, None leaves one out."""
    named = {"X-Gbsep-Token": server.token, "Host": server.host, **{k.replace("_", "-"): v for k, v in headers.items()}}
    connection = http.client.HTTPConnection(*server.server_address, timeout=10)
    content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in named.items():
        if value is not None:
            connection.putheader(name, value)
    if content is not None and "Content-Length" not in named:
        connection.putheader("Content-Length", str(len(content)))
    connection.endheaders(content)
    answer = connection.getresponse()
    found = answer.status, answer.headers, answer.read()
    connection.close()
    return found


def name_of(server: Server) -> str:
    (name,) = server.shown.songs
    return name


def decide(server: Server, **decision: Any) -> tuple[int, Message, bytes]:
    return ask(server, "/review", "POST", {"song": name_of(server), **decision}, Content_Type="application/json")


def test_it_listens_on_this_machine_alone(server: Server) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert server.address == f"http://127.0.0.1:{server.server_address[1]}/review?token={server.token}"
    assert len(server.token) >= 32


@pytest.mark.parametrize("path", ["/review", "/assets/{}.js", "/assets/{}-0-0.js", "/files/{}/1", "/nothing"])
def test_nothing_is_told_without_the_token(server: Server, path: str) -> None:
    path = path.format(name_of(server))
    for token in (None, "", "x", server.token[:-1], server.token + "x", "é"):
        status, _, content = ask(server, path, X_Gbsep_Token=token and token.encode("utf-8").decode("latin-1"))
        assert status == 403
        assert b"song" not in content
    assert ask(server, f"{path}?token=x", X_Gbsep_Token=None)[0] == 403


def test_the_token_in_the_address_is_as_good(server: Server) -> None:
    assert ask(server, f"/review?token={server.token}", X_Gbsep_Token=None)[0] == 200


@pytest.mark.parametrize("host", [None, "localhost", "evil.example", "127.0.0.1", "127.0.0.1:1", "[::1]"])
def test_other_names_of_this_machine_are_refused(server: Server, host: str | None) -> None:
    """DNS rebinding: a foreign name that resolves to 127.0.0.1 comes with its own Host."""
    for path in ("/review", f"/assets/{name_of(server)}.js"):
        assert ask(server, path, Host=host)[0] in ((421, 400) if host is None else (421,))
    assert ask(server, "/review", Host=f"evil.example:{server.server_address[1]}")[0] == 421


@pytest.mark.parametrize("origin", ["null", "http://evil.example", "http://127.0.0.1:1", "file://", ""])
def test_other_pages_are_refused(server: Server, out: Path, origin: str) -> None:
    body = {"song": name_of(server), "status": "accepted"}
    assert ask(server, "/review", "POST", body, Content_Type="application/json", Origin=origin)[0] == 403
    assert ask(server, "/review", Origin=origin)[0] == 403
    assert review.load(out / "song") == Review()


@pytest.mark.parametrize(
    ("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)]
)
def test_a_browser_says_where_a_request_comes_from(server: Server, site: str, status: int) -> None:
    assert ask(server, "/review", Sec_Fetch_Site=site)[0] == status


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/files/../../secret.txt",
        "/files/%2e%2e/%2e%2e/secret.txt",
        "/files/..%2f..%2fsecret.txt",
        "/files/{}/../../../secret.txt",
        "/files/{}/link.wav",
        "/files//etc/passwd",
        "/etc/passwd",
        "//etc/passwd",
        "/files/{}/1/../../../../../etc/passwd",
        "/files/{}/-1",
        "/files/{}/99",
        "/files/99/0",
        "/files/{}/0\x00",
        "/files/song/exp002/bass.wav",
        "/assets/../../secret.txt",
        "/assets/..%2f..%2fsecret.js",
        "/assets/{}-0-99.js",
        "/assets/{}-99-0.js",
        "/assets/99.js",
        "/assets/e.js",
        "/decisions",
    ],
)
def test_no_path_leads_anywhere_else(server: Server, path: str) -> None:
    """Raw on the wire, as no browser would send it."""
    with socket.create_connection(server.server_address, timeout=10) as wire:
        path = path.format(name_of(server))
        request = f"GET {path} HTTP/1.1\r\nHost: {server.host}\r\nX-Gbsep-Token: {server.token}\r\n\r\n"
        wire.sendall(request.encode())
        answer = b""
        while chunk := wire.recv(4096):
            answer += chunk
    assert re.match(rb"HTTP/1.1 (400|404) ", answer), answer
    assert b"secret" not in answer.split(b"\r\n\r\n", 1)[1]
    assert b"root:" not in answer


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_other_methods_are_refused(server: Server, method: str) -> None:
    assert ask(server, "/review", method)[0] == 405


def test_the_page_runs_only_its_own_scripts_and_is_framed_by_nobody(server: Server) -> None:
    status, headers, content = ask(server, "/review")
    assert status == 200
    (nonce,) = set(re.findall(r"'nonce-([^']+)'", headers["Content-Security-Policy"]))
    assert f'<script nonce="{nonce}">'.encode() in content
    assert "'unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "Set-Cookie" not in headers
    assert "Access-Control-Allow-Origin" not in headers
    assert server.token.encode() not in content
    again = ask(server, "/review")[1]["Content-Security-Policy"]
    assert again != headers["Content-Security-Policy"]


def test_files_come_whole_and_in_ranges(server: Server, out: Path) -> None:
    truth = (out / "song/exp002/bass.wav").read_bytes()
    status, headers, content = ask(server, f"/files/{name_of(server)}/1")
    assert (status, content) == (200, truth)
    assert headers["Accept-Ranges"] == "bytes"
    size = len(truth)
    for wanted, part in {"0-99": slice(0, 100), "100-": slice(100, None), "-7": slice(-7, None)}.items():
        status, headers, content = ask(server, f"/files/{name_of(server)}/1", Range=f"bytes={wanted}")
        assert (status, content) == (206, truth[part])
        assert headers["Content-Range"].endswith(f"/{size}")
    assert ask(server, f"/files/{name_of(server)}/1", Range=f"bytes=10-{size * 9}")[2] == truth[10:]
    for wanted in (f"{size}-", "9-3", "-"):
        assert ask(server, f"/files/{name_of(server)}/1", Range=f"bytes={wanted}")[0] in (400, 416)


def test_each_decision_is_kept_and_answered(server: Server, out: Path) -> None:
    assert json.loads(decide(server, status="rejected")[2])["status"] == "rejected"
    decide(server, preset="exp002")
    decide(server, note={"time_s": 1.5, "text": "later"})
    decide(server, note={"time_s": 0.5, "text": "first", "stem": "bass", "preset": "exp002"})
    decide(server, swap={"preset": "exp002", "stems": ["guitar", "bass"]})
    kept = review.load(out / "song")
    assert (kept.status, kept.preset, kept.swaps("exp002")) == ("rejected", "exp002", (("bass", "guitar"),))
    assert [note.text for note in kept.notes] == ["first", "later"]
    first = {"written_at": kept.notes[0].written_at, "text": "first"}
    assert decide(server, remove_note=first)[0] == 200
    assert decide(server, remove_note=first)[0] == 400
    decide(server, status=None)
    decide(server, preset=None)
    decide(server, swap={"preset": "exp002", "stems": ["bass", "guitar"]})
    left = review.load(out / "song")
    assert left == Review(notes=kept.notes[1:])


@pytest.mark.parametrize(
    ("decision", "reason"),
    [
        ({"song": 0, "status": "accepted"}, "song"),
        ({"status": "perfect"}, "status"),
        ({"stauts": "accepted"}, "did you mean 'status'"),
        ({"preset": "../../etc"}, "no render '../../etc'"),
        ({"preset": "exp02"}, "did you mean 'exp002'"),
        ({"swap": {"preset": "exp002", "stems": ["bass", "drums"]}}, "no stem 'drums'"),
        ({"swap": {"preset": "exp002", "stems": ["bass", "bass"]}}, "with itself"),
        ({"swap": {"preset": "nope", "stems": ["bass", "guitar"]}}, "no render 'nope'"),
        ({"note": {"time_s": -1, "text": "x"}}, "note.time_s"),
        ({"note": {"time_s": 2.1, "text": "x"}}, "the song ends at 2.0 s"),
        ({"note": {"time_s": 1, "text": ""}}, "note.text"),
        ({"note": {"time_s": 1, "text": " \n\u3000"}}, "blank"),
        ({"note": {"time_s": 1, "text": "x" * 3000}}, "note.text"),
        ({"note": {"time_s": "1", "text": "x"}}, "note.time_s"),
        ({"note": {"time_s": 1, "text": "x", "preset": "nope"}}, "no render 'nope'"),
        ({"note": {"time_s": 1, "text": "x", "preset": "exp002", "stem": "bas"}}, "did you mean 'bass'"),
        ({"note": {"time_s": 1, "text": "x", "stem": "bas"}}, "did you mean 'bass'"),
        ({"remove_note": {"written_at": "2025-01-01", "text": "x"}}, "no such note"),
        ({"remove_note": 0}, "remove_note"),
    ],
)
def test_decisions_that_make_no_sense_change_nothing(
    server: Server, out: Path, decision: dict[str, Any], reason: str
) -> None:
    status, _, content = decide(server, **decision)
    assert status == 400
    assert reason in content.decode()
    assert not (out / "song" / review.FILE).exists()


def test_a_page_of_other_songs_is_told_to_load_again(server: Server, out: Path) -> None:
    """Renders came after the page was loaded: what it asks for is another song's, or another sound's, by now."""
    old = name_of(server)
    gbsep.render(out.parent / "song.wav", "exp002_100", out, use_cache=False)
    gbsep.render(out.parent / "song.wav", "exp002", out / "a", use_cache=False)
    try:
        assert ask(server, "/review")[0] == 200
        assert len(server.shown.songs) == 2
        assert old not in server.shown.songs
        for path in (f"/assets/{old}.js", f"/assets/{old}-1-0.js", f"/files/{old}/1"):
            status, _, content = ask(server, path)
            assert (status, b"load the page again" in content) == (409, True)
        body = {"song": old, "status": "accepted"}
        status, _, content = ask(server, "/review", "POST", body, Content_Type="application/json")
        assert (status, b"load the page again" in content) == (409, True)
        assert not list(out.rglob(review.FILE))
    finally:
        shutil.rmtree(out / "a")
        shutil.rmtree(out / "song/exp002_100")
    assert ask(server, "/review")[0] == 200
    assert name_of(server) == old


def test_a_song_goes_by_a_name_that_tells_nothing_of_its_place(server: Server, out: Path) -> None:
    (song,) = collect(out)
    assert re.fullmatch("[0-9a-f]{16}", song_id(song))
    assert {song_id(song), song_id(replace(song, folder=out / "other")), song_id(replace(song, renders=()))} > {
        name_of(server)
    }
    assert str(out).encode() not in ask(server, "/review")[2]


def test_a_song_without_renders_cannot_be_accepted(server: Server, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = replace(
        server.shown.songs[name_of(server)], mixture=None, renders=(), failures={"exp002": "cannot be read"}
    )
    monkeypatch.setattr(server.shown, "songs", {song_id(failed): failed})
    status, _, content = decide(server, status="accepted")
    assert (status, b"nothing to accept" in content) == (400, True)
    assert decide(server, note={"time_s": 0, "text": "no such file?"})[0] == 200


def test_a_file_of_a_render_that_leads_out_of_the_folder_is_not_given(server: Server, out: Path) -> None:
    bass = out / "song/exp002/bass.wav"
    kept = bass.rename(bass.with_suffix(".kept"))
    try:
        bass.symlink_to(out.parent / "secret.txt")
        status, _, content = ask(server, f"/files/{name_of(server)}/1")
        assert (status, b"secret" in content) == (404, False)
        assert ask(server, f"/assets/{name_of(server)}-1-0.js")[0] == 404
        bass.unlink()
        bass.symlink_to(kept)
        assert ask(server, f"/assets/{name_of(server)}-1-0.js")[0] == 200
        assert ask(server, f"/files/{name_of(server)}/1")[0] == 200
    finally:
        bass.unlink()
        kept.rename(bass)
    assert ask(server, f"/files/{name_of(server)}/0")[0] == 200  # the recording, which lies outside by nature


def test_numbers_and_addresses_beyond_all_measure_are_answered(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    many = "9" * 5000
    name = name_of(server)
    with socket.create_connection(server.server_address, timeout=10) as wire:
        wire.sendall(b"GET http://[::1 HTTP/1.1\r\n\r\n")
        assert wire.recv(4096).startswith(b"HTTP/1.1 400 ")
    assert ask(server, f"/files/{name}/1", Range=f"bytes={many}-")[0] in (400, 416)
    assert ask(server, f"/files/{name}/{many}")[0] == 404
    assert ask(server, f"/assets/{many}.js")[0] == 404
    assert ask(server, f"/assets/{name}-{many}-0.js")[0] == 404
    json_type = {"Content_Type": "application/json"}
    assert ask(server, "/review", "POST", b"", Content_Length=many, **json_type)[0] == 400
    assert ask(server, "/review", "POST", b"", Content_Length="²", **json_type)[0] == 400
    assert "Traceback" not in capsys.readouterr().err


def test_bodies_that_are_none_change_nothing(server: Server, out: Path) -> None:
    json_type = {"Content_Type": "application/json"}
    assert ask(server, "/review", "POST", b"{", **json_type)[0] == 400
    assert ask(server, "/review", "POST", b"[" * 9000, **json_type)[0] == 400
    assert ask(server, "/review", "POST", b"\xff", **json_type)[0] == 400
    assert ask(server, "/review", "POST", b'{"song": 0}', Content_Type="text/plain")[0] == 415
    assert ask(server, "/review", "POST", b"", Content_Length=str(MAX_BODY_BYTES + 1), **json_type)[0] == 413
    assert ask(server, "/review", "POST", b"", Content_Length="-1", **json_type)[0] == 400
    assert not (out / "song" / review.FILE).exists()


def test_a_review_that_is_broken_is_said_and_left(server: Server, out: Path) -> None:
    (out / "song" / review.FILE).write_text("{")
    status, _, content = decide(server, status="accepted")
    assert status == 409
    assert b"is not JSON" in content
    assert (out / "song" / review.FILE).read_text() == "{"
    assert ask(server, "/review")[0] == 200
    assert "review.json is not JSON" in server.shown.songs[name_of(server)].failures[review.FILE]


def test_two_decisions_at_once_are_both_kept(server: Server, out: Path) -> None:
    notes = [{"time_s": number / 16, "text": str(number)} for number in range(20)]
    threads = [threading.Thread(target=decide, args=(server,), kwargs={"note": note}) for note in notes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [note.time_s for note in review.load(out / "song").notes] == [number / 16 for number in range(20)]


def test_a_folder_without_renders_is_not_served(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="holds no renders"):
        Server(out=tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT to another process on Windows")
def test_the_command_prints_its_address_and_ends_with_ctrl_c(out: Path, server: Server) -> None:
    words = [sys.executable, "-m", "gbsep", "review", str(out), "--no-browser"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        address = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/review\?token=[\w-]{32}", address)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in told
    taken = subprocess.run([*words, "--port", str(server.server_address[1])], capture_output=True, text=True)
    assert taken.returncode == 2
    assert "leave --port out" in taken.stderr
