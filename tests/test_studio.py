"""The studio's server: songs, renders queued and resumed, sound by pieces, presets, mixes; and what it refuses."""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import gbsep
from gbsep.audio import Audio
from gbsep.errors import OutputError
from gbsep.io.formats import OutputFormat
from gbsep.io.write import write
from gbsep.notes import files
from gbsep.plugins.scan import PluginInfo
from gbsep.plugins.worker.parameters import PluginParameter
from gbsep.shelf import record
from gbsep.studio import Server
from gbsep.studio.analysis import tempo_and_key
from gbsep.studio.jobs import Jobs, Wish
from gbsep.studio.library import Library, song_id
from gbsep.studio.presets import Presets
from gbsep.studio.sound import PIECE_FRAMES

from .browsing import serving
from .test_notes import line_of, sound_of

RATE = 22050
SECONDS = 6
CHAIN = [{"effect": "Butterworth", "mode": "lowpass", "cutoff_hz": 900, "order": 2}, {"effect": "Gain", "gain_db": -3}]


def song(seed: int = 0, seconds: float = SECONDS) -> Audio:
    noise = 0.1 * np.random.default_rng(seed).standard_normal((2, round(seconds * RATE)))
    return Audio(noise + 0.1 * np.roll(noise, 1, axis=1), RATE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("songs")
    gbsep.write(folder / "one.wav", song())
    (folder.parent / "secret.txt").write_text("top confidential")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gbsep.studio.hand.Hand.warm", lambda self: None)
        with serving(Server(folder)) as server:
            yield server


def ask(server: Server, path: str, method: str = "GET", body: Any = None, **headers: str) -> tuple[int, bytes]:
    """Status and content; a body that is no bytes goes as JSON."""
    named = {"X-Gbsep-Token": server.token, **{key.replace("_", "-"): value for key, value in headers.items()}}
    content = body
    if body is not None and not isinstance(body, bytes):
        content, named = json.dumps(body).encode(), {"Content-Type": "application/json", **named}
    connection = http.client.HTTPConnection(*server.server_address, timeout=400)
    connection.request(method, path, content, named)
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


def told(server: Server, path: str, method: str = "GET", body: Any = None) -> Any:
    status, content = ask(server, path, method, body)
    assert status == 200, content
    return json.loads(content)


def until(what: Callable[[], bool], timeout: float = 240) -> None:
    end = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)


def rendered(server: Server, name: str, preset: str, **form: Any) -> str:
    """The id of a song, once it is rendered by a preset."""
    one = song_id(server.studio.folder / name)  # type: ignore[union-attr]
    made = told(server, "/api/jobs", "POST", {"songs": [one], "preset": preset, **form})["jobs"]
    numbers = {job["number"] for job in made}
    until(lambda: all(job["state"] == "done" for job in jobs(server) if job["number"] in numbers))
    return one


def jobs(server: Server) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = told(server, "/api/jobs")["jobs"]
    assert [job["error"] for job in found if job["state"] == "failed"] == []
    return found


def piece(server: Server, one: str, take: str, number: int, *tracks: str, more: str = "") -> np.ndarray:
    """Piece `number`, (tracks, 2, PIECE_FRAMES)."""
    query = "&".join(f"track={track}" for track in tracks)
    status, content = ask(server, f"/api/songs/{one}/sound/{take}/{number}?{query}{more}")
    assert status == 200, content
    return np.frombuffer(content, "<f4").reshape(len(tracks), 2, PIECE_FRAMES)


def test_a_song_comes_apart_and_is_heard_to_the_sample(server: Server, folder: Path) -> None:
    one = rendered(server, "one.wav", "exp002")
    model = told(server, f"/api/songs/{one}")
    assert [take["name"] for take in model["takes"]] == ["exp002"]
    assert [track["name"] for track in model["takes"][0]["tracks"]] == ["bass", "guitar"]
    bass, rate = soundfile.read(folder / "gbsep-out/one/exp002/bass.wav", dtype="float32")
    mixture, _ = soundfile.read(folder / "one.wav", dtype="float32")
    assert rate == RATE
    for number in (0, 2, 1, 3, 4):
        heard = piece(server, one, "exp002", number, "bass:-", "mixture:-")
        part = slice(number * PIECE_FRAMES, (number + 1) * PIECE_FRAMES)
        for got, truth in zip(heard, (bass, mixture), strict=True):
            count = len(truth[part])
            assert np.array_equal(got[:, :count], truth[part].T)
            assert not got[:, count:].any()
    assert ask(server, f"/api/songs/{one}/sound/exp002/5?track=bass:-")[0] == 416


def test_what_is_put_in_lies_in_the_folder_once(server: Server, folder: Path) -> None:
    path = folder.parent / "two.wav"
    gbsep.write(path, song(2, 1.0))
    for _ in range(2):
        status, content = ask(server, "/api/uploads?name=%2e%2e%2F..%2Fnew%20song.wav", "PUT", path.read_bytes())
        assert status == 200
        assert json.loads(content)["name"] == "new song"
    assert (folder / "new song.wav").read_bytes() == path.read_bytes()
    gbsep.write(path, song(3, 1.0))
    assert json.loads(ask(server, "/api/uploads?name=new%20song.wav", "PUT", path.read_bytes())[1])["seconds"] == 1.0
    assert sorted(one.name for one in folder.iterdir() if one.is_file()) == [
        "new song-2.wav",
        "new song.wav",
        "one.wav",
    ]


@pytest.mark.parametrize("preset", ["turned"])
def test_the_export_is_what_gbsep_render_writes_and_what_was_heard(server: Server, folder: Path, preset: str) -> None:
    one = rendered(server, "one.wav", "exp002")
    made = told(
        server, "/api/presets", "POST", {"name": preset, "base": "exp002", "title": "mine", "chains": {"bass": CHAIN}}
    )
    assert made["file"] == f"presets/{preset}.json"
    rendered(server, "one.wav", preset)
    gbsep.render(folder / "one.wav", folder / made["file"], folder.parent / "apart", use_cache=False)
    here, there = folder / "gbsep-out/one" / preset, folder.parent / "apart/one" / preset
    for name in ("bass.wav", "guitar.wav"):
        assert (here / name).read_bytes() == (there / name).read_bytes()
    voice = told(server, f"/api/songs/{one}/chain", "POST", {"take": "exp002", "stem": "bass", "chain": CHAIN})["voice"]
    truth = soundfile.read(here / "bass.wav", dtype="float32")[0].T
    for number in (0, 1, 3):  # one after the other, and one that is jumped to
        heard = piece(server, one, "exp002", number, f"bass:{voice}")[0]
        part = truth[:, number * PIECE_FRAMES : (number + 1) * PIECE_FRAMES]
        assert np.abs(heard[:, : part.shape[1]] - part).max() < 1e-5


def test_a_chain_that_cannot_be_run_is_said(server: Server) -> None:
    one = rendered(server, "one.wav", "exp002")
    body = {"take": "exp002", "stem": "bass", "chain": [{"effect": "Gain", "gain_db": 1000}]}
    status, content = ask(server, f"/api/songs/{one}/chain", "POST", body)
    assert (status, b"gain_db" in content) == (409, True)


def test_slow_and_high_sound_is_as_long_as_it_should_be_and_in_tune(server: Server, folder: Path) -> None:
    tone = 0.3 * np.sin(2 * np.pi * 220 * np.arange(RATE * 9) / RATE)
    gbsep.write(folder / "tone.wav", Audio(np.stack([tone, 0.5 * tone]), RATE))
    one = rendered(server, "tone.wav", "exp002")
    parts = [
        piece(server, one, "exp002", number, "mixture:-", "bass:-", more="&speed=0.6&semitones=7")
        for number in range(9)
    ]
    assert ask(server, f"/api/songs/{one}/sound/exp002/11?track=bass:-&speed=0.6")[0] == 416
    heard = np.concatenate(parts, axis=2)[0]
    spectrum = np.abs(np.fft.rfft(heard[0, RATE : 9 * RATE] * np.hanning(8 * RATE)))
    assert abs(np.argmax(spectrum) / 8 - 220 * 2 ** (7 / 12)) < 1.0
    levels = np.sqrt(np.mean(heard[0, RATE : 9 * RATE].reshape(-1, 441) ** 2, axis=1))
    assert 20 * np.log10(levels.min() / np.median(levels)) > -7  # where two parts meet, too


def test_a_mix_is_the_sum_of_what_the_faders_say(server: Server, folder: Path) -> None:
    one = rendered(server, "one.wav", "exp002")
    strips = [{"track": "bass", "gain_db": -12.0, "pan": 0.5}, {"track": "guitar", "gain_db": 0.0}]
    job = told(server, f"/api/songs/{one}/mix", "POST", {"take": "exp002", "strips": strips})
    until(lambda: any(row["number"] == job["number"] and row["state"] == "done" for row in jobs(server)))
    made = next(row["result"] for row in jobs(server) if row["number"] == job["number"])
    place = folder / "gbsep-out/one" / made["take"]
    heard = soundfile.read(place / made["file"], dtype="float32")[0]
    bass, guitar = (
        soundfile.read(folder / f"gbsep-out/one/exp002/{name}.wav", dtype="float32")[0] for name in ("bass", "guitar")
    )
    wanted = guitar + bass * 10 ** (-12 / 20) * np.array([np.cos(0.25 * np.pi), 1.0])
    assert np.abs(heard - wanted).max() < 1e-6
    found = record.read(place)
    assert found is not None
    assert found.overrides["mix"]["strips"][0]["gain_db"] == -12.0
    turned = {"take": "exp002", "stem": "bass", "chain": CHAIN}
    voice = told(server, f"/api/songs/{one}/chain", "POST", turned)["voice"]
    strips[0]["voice"] = voice
    job = told(server, f"/api/songs/{one}/mix", "POST", {"take": "exp002", "strips": strips})
    until(lambda: any(row["number"] == job["number"] and row["state"] == "done" for row in jobs(server)))
    again = next(row["result"]["take"] for row in jobs(server) if row["number"] == job["number"])
    kept = record.read(folder / "gbsep-out/one" / again)
    assert kept is not None
    assert kept.overrides["mix"]["chains"]["bass"][0]["cutoff_hz"] == 900
    model = told(server, f"/api/songs/{one}")
    assert {each["take"] for each in model["mixes"]} == {made["take"], again}
    assert ask(server, f"/api/songs/{one}/file/{made['take']}/{made['file']}")[1] == (place / made["file"]).read_bytes()


def test_all_that_waits_is_cancelled_at_once(tmp_path: Path) -> None:
    for seed in range(3):
        gbsep.write(tmp_path / f"{seed}.wav", song(seed, 1))
    library = Library(tmp_path, tmp_path / "out")
    jobs = Jobs(library, Presets(tmp_path))
    for one in library.look_again():
        jobs.add(Wish(song=one.id, preset="exp002"))
    jobs.cancel_all()
    assert [job["state"] for job in jobs.as_json()] == ["cancelled"] * 3
    assert json.loads((library.hidden / "queue.json").read_text()) == {"waiting": []}


def test_sessions_and_the_report_are_taken_home(server: Server) -> None:
    one = rendered(server, "one.wav", "exp002")
    for kind in ("reaper", "dawproject"):
        (project,) = told(server, f"/api/songs/{one}/session", "POST", {"format": kind})["projects"]
        status, content = ask(server, f"/api/songs/{one}/project/{project['name']}")
        assert status == 200
        assert content.startswith(b"<REAPER_PROJECT" if kind == "reaper" else b"PK")
    assert told(server, "/api/report", "POST", {})["file"] == "report.html"
    assert b"gbsep" in ask(server, "/api/report.html")[1][:2000]


def test_notes_are_written_once_and_taken_back_unless_they_were_corrected(server: Server, folder: Path) -> None:
    write(folder / "line.wav", sound_of(line_of([28, 33, 35, 40, 38, 33, 31, 28, 36, 40])), OutputFormat("wav", "16"))
    told(server, "/api/library")
    one = rendered(server, "line.wav", "exp002")
    place = f"/api/songs/{one}/notes/exp002"
    assert told(server, place) == {}
    wrote = told(server, place, "POST", {"stem": "bass"})
    kept = server.studio.out / "line/exp002/bass.notes.csv"  # type: ignore[union-attr]
    assert [row[2] for row in wrote["bass"]["notes"]] == [note.midi for note in files.read(kept).notes]
    assert len(wrote["bass"]["notes"]) > 5
    assert told(server, place) == wrote == told(server, place, "POST", {"stem": "bass"})
    kept.write_text("onset_s,end_s,midi\n0,1,30\n")
    undo = {"stem": "bass", "undo": wrote["bass"]["mark"]}
    assert ask(server, place, "POST", undo) == (409, b"somebody has corrected these notes since: they stay\n")
    assert told(server, place, "POST", {"stem": "bass"})["bass"]["notes"] == [[0.0, 1.0, 30, 1.0]]
    assert told(server, place, "POST", {**undo, "undo": told(server, place)["bass"]["mark"]}) == {}
    assert not kept.exists()
    kept.write_text("nonsense")
    assert told(server, place) == {}
    kept.unlink()
    assert ask(server, place, "POST", {"stem": "../bass"})[0] == 404
    assert ask(server, f"/api/songs/{one}/notes/first~exp002")[0] == 409
    (folder / "line.wav").unlink()


def test_a_decision_in_the_studio_is_that_of_the_review(server: Server, folder: Path) -> None:
    one = rendered(server, "one.wav", "exp002")
    note = {"time_s": 1.0, "text": "here", "preset": "exp002", "stem": "bass"}
    told(server, f"/api/songs/{one}/review", "POST", {"song": one, "status": "accepted"})
    told(server, f"/api/songs/{one}/review", "POST", {"song": one, "note": note})
    kept = gbsep_review(folder / "gbsep-out/one")
    assert (kept["status"], kept["notes"][0]["text"]) == ("accepted", "here")


def gbsep_review(place: Path) -> Any:
    return json.loads((place / "review.json").read_text())


def test_what_was_not_done_is_done_the_next_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that renders is killed in the middle, and the server with it; the next server carries on."""
    monkeypatch.setattr("gbsep.studio.hand.Hand.warm", lambda self: None)
    gbsep.write(tmp_path / "long.wav", song(5, 60.0))
    one = song_id(tmp_path / "long.wav")
    for last in (False, True):
        with serving(Server(tmp_path)) as server:
            if not last:
                told(server, "/api/jobs", "POST", {"songs": [one], "preset": "exp003"})
                until(lambda: any(job["state"] == "running" and job["fraction"] > 0 for job in jobs(server)))
            else:
                assert [job["preset"] for job in jobs(server) if not job["first"]] == ["exp003"]
                until(lambda: all(job["state"] == "done" for job in jobs(server)))
                queue = tmp_path / "gbsep-out/.studio/queue.json"
                until(lambda: json.loads(queue.read_text()) == {"waiting": []}, 60)  # noqa: B023
    assert record.read(tmp_path / "gbsep-out/long/exp003") is not None
    assert not list((tmp_path / "gbsep-out/.studio/first").glob("*/*"))


def test_one_folder_is_open_in_one_studio(tmp_path: Path) -> None:
    first = Server(tmp_path / "songs")
    (tmp_path / "link").symlink_to(tmp_path / "songs")
    for same in ("songs", "link"):
        with pytest.raises(OutputError, match="is open in another studio: use the page of that one"):
            Server(tmp_path / same)
    with pytest.raises(OSError, match=r"in use"):
        Server(tmp_path / "other", port=first.server_address[1])
    Server(tmp_path / "other").server_close()
    first.server_close()
    Server(tmp_path / "songs").server_close()


def test_plug_ins_are_told_without_their_places(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    knob = PluginParameter("drive", "dB", 0.0, 24.0, (), 3.0)
    usable = PluginInfo("Warm", Path("/secret/Warm.vst3"), "VST3", "Maker", layouts=((2, 2),), parameters=(knob,))
    found = [usable, replace(usable, name="Broken", reason="it crashed"), replace(usable, name="Synth", layouts=())]
    monkeypatch.setattr("gbsep.plugins.scan.plugins", lambda: found)
    status, content = ask(server, "/api/plugins")
    (told_of,) = json.loads(content)["plugins"]
    assert (status, told_of["name"], told_of["parameters"][0]["high"]) == (200, "Warm", 24.0)
    assert b"secret" not in content


def test_a_song_to_try_with_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gbsep.studio.library.DEMO_S", 2.0)
    library = Library(tmp_path, tmp_path / "out")
    song = library.make_up()
    written = song.path.stat().st_mtime_ns
    assert (song.info.seconds, library.make_up().path.stat().st_mtime_ns) == (2.0, written)


def test_what_was_left_of_a_cut_off_sending_goes(tmp_path: Path) -> None:
    old, fresh = tmp_path / ".gbsep-1.tmp.wav", tmp_path / ".gbsep-2.tmp.wav"
    for path in (old, fresh):
        path.write_bytes(b"RIFF")
    os.utime(old, (1e9, 1e9))
    Library(tmp_path, tmp_path / "out").forget_unsent()
    assert list(tmp_path.iterdir()) == [fresh]


def test_the_beats_go_on_to_the_end_of_a_long_song(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gbsep.studio.analysis.LONGEST_S", 12.0)
    time_s = np.arange(40 * RATE) / RATE
    click = np.random.default_rng(0).standard_normal(len(time_s)) * np.exp(-40 * (time_s % 0.5))
    gbsep.write(tmp_path / "clicks.wav", Audio(0.3 * click[None], RATE))
    found = tempo_and_key(tmp_path / "clicks.wav")
    assert found["bpm"] == pytest.approx(120, abs=3)
    assert 39 < found["beats"][-1] <= 40
    assert np.diff(found["beats"]) == pytest.approx(0.5, abs=0.05)


PLACES = [
    "/../secret.txt",
    "/..%2f..%2fsecret.txt",
    "/api/songs/..%2f..%2fsecret",
    "/api/songs/{}/file/exp002/..%2f..%2f..%2fone.wav",
    "/api/songs/{}/file/..%2f..%2f..%2f/secret.txt",
    "/api/songs/{}/file/exp002/%2fetc%2fpasswd",
    "/api/songs/{}/file/exp002/secret.txt",
    "/api/songs/{}/project/..%2f..%2fone.wav",
    "/api/songs/{}/project/exp002",
    "/api/songs/{}/project/review.json",
    "/api/songs/{}/sound/..%2f..%2fexp002/0?track=bass:-",
    "/api/songs/{}/sound/exp002/0?track=..%2fsecret:-",
    "/api/songs/{}/sound/exp002/0?track=bass:ffffffffffffffff",
    "/api/songs/{}/sound/exp002/0?track=bass",
    "/api/songs/{}/sound/exp002/0",
    "/api/songs/{}/sound/exp002/-1?track=bass:-",
    "/api/songs/{}/sound/exp002/1e9?track=bass:-",
    "/api/songs/{}/sound/exp002/999999999999?track=bass:-",
    "/api/songs/{}/sound/exp002/0?track=bass:-&speed=nan",
    "/api/songs/{}/sound/exp002/0?track=bass:-&speed=0",
    "/api/songs/{}/sound/exp002/0?track=bass:-&speed=1e9",
    "/api/songs/{}/sound/exp002/0?track=bass:-&semitones=inf",
    "/api/songs/{}/sound/exp002/0?track=bass:-&semitones=99",
    "/api/songs/{}/sound/first~..%2f/0?track=bass:-",
    "/api/songs/{}/wave/..%2f../mixture",
    "/api/songs/{}/mel/exp002/..%2f..%2fone",
    "/api/songs/{}/mel/.studio/bass",
    "/api/songs/{}/notes/..%2f..%2fexp002",
    "/api/songs/0000000000000000",
    "/api/songs/{}/nothing",
    "/api/nothing",
    "/presets/mine.json",
    "/gbsep-out/one/exp002/bass.wav",
    "/one.wav",
    "//etc/passwd",
    "/worklet.mjs/..",
    "/api/jobs/1/cancel",
]
BODIES: list[tuple[str, Any]] = [
    *(
        ("/api/jobs", body)
        for body in (
            b"",
            b"{",
            b"\xff",
            b"[" * 9000,
            {"songs": []},
            {"songs": ["../one"], "preset": "exp002"},
            {"songs": ["{}"], "preset": "../../secret"},
            {"songs": ["{}"], "preset": "nope"},
            {"songs": ["{}"], "preset": "exp002", "out": "/tmp"},
            {"songs": ["{}"], "preset": "exp002", "format": "exe"},
            {"songs": ["{}"], "preset": "/etc/passwd.json"},
            {"songs": 1, "preset": 2},
        )
    ),
    *(
        ("/api/presets", body)
        for body in (
            b"x",
            {"name": "../evil", "base": "exp002"},
            {"name": "/tmp/evil", "base": "exp002"},
            {"name": "default", "base": "exp002"},
            {"name": "a" * 65, "base": "exp002"},
            {"name": "evil", "base": "../x"},
            {"name": "evil", "base": "exp002", "chains": {"drums": []}},
            {"name": "evil", "base": "exp002", "chains": {"bass": [{"effect": "os.system"}]}},
            {"name": "evil", "base": "exp002", "chains": {"bass": [{"effect": "Gain", "gain_db": 1e999}]}},
            {"name": ".evil", "base": "exp002"},
            {"name": "evil\0", "base": "exp002"},
        )
    ),
    *(
        ("/api/songs/{}/chain", body)
        for body in (
            {"take": "exp002", "stem": "drums", "chain": []},
            {"take": "../x", "stem": "bass", "chain": []},
            {"take": "exp002", "stem": "bass", "chain": [1]},
            {"take": "exp002", "stem": "bass", "chain": [{"effect": "Gain"}] * 500},
            {"take": "exp002", "stem": "bass", "chain": [{"effect": "Plugin", "path": "/tmp/evil.vst3"}]},
            {
                "take": "exp002",
                "stem": "bass",
                "chain": [{"effect": "Convolution", "impulse_response_filename": "/etc/passwd"}],
            },
        )
    ),
    *(
        ("/api/songs/{}/mix", body)
        for body in (
            {"take": "exp002", "strips": []},
            {"take": "../x", "strips": [{"track": "bass"}]},
            {"take": "exp002", "strips": [{"track": "bass", "gain_db": 1e6}]},
            {"take": "exp002", "strips": [{"track": "bass"}], "speed": 9},
        )
    ),
    *(("/api/songs/{}/session", body) for body in ({"format": "exe"}, {"out": "/tmp"})),
    *(
        ("/api/songs/{}/review", body)
        for body in ({"song": "x", "status": "perfect"}, {"song": "x", "preset": "../x"}, {"status": "accepted"})
    ),
    ("/api/demo", {"seconds": 1e9}),
    *(("/api/songs/{}/notes/exp002", body) for body in ({}, {"stem": "../bass"}, {"stem": "bass", "undo": "x"})),
    ("/api/songs/{}/desk", {"take": "exp002", "speed": 9}),
    ("/api/songs/{}/desk", {"take": "exp002", "strips": {"bass": {"gain_db": 1e9}}}),
    ("/api/songs/{}/desk", {"take": "exp002", "path": "/tmp/evil"}),
    *(("/api/weights", body) for body in ({"model": "../x"}, {"model": 1}, {"url": "http://evil.example"})),
]
UPLOADS = [
    ("evil.exe", b"RIFF"),
    ("evil.wav", b""),
    ("evil.wav", b"RIFF\xff\xff\xff\xffWAVE"),
    ("evil.wav", b"\x00" * 5000),
    (".wav", b"RIFF"),
    ("..", b"RIFF"),
    ("", b"RIFF"),
    ("a" * 300 + ".wav", b"RIFF"),
    ("evil.wav%00.txt", b"RIFF"),
    ("evil.html", b"<script>alert(1)</script>"),
    ("evil.flac", b"fLaC" + b"\xff" * 400),
    ("evil.mp3", b"ID3\x04" + b"\x7f" * 900),
    ("evil.json", b"{}"),
    ("render.json", b"{}"),
    ("queue.json", b"{}"),
    ("evil.ogg", b"OggS" + b"\x00" * 90),
    ("evil.aiff", b"FORM\x00\x00\x00\x00AIFF"),
]


def listing(folder: Path) -> dict[str, int]:
    kept = (path for path in folder.rglob("*") if path.is_file() and ".studio" not in path.parts)
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in kept}


def test_a_hundred_hostile_requests_are_refused_and_change_nothing(server: Server, folder: Path) -> None:
    one = rendered(server, "one.wav", "exp002")
    before, outside = listing(folder), sorted(path.name for path in folder.parent.iterdir())
    answers = []
    for path in PLACES:
        with socket.create_connection(server.server_address, timeout=60) as wire:
            head = f"Host: {server.host}\r\nX-Gbsep-Token: {server.token}\r\nConnection: close"
            request = f"GET {path.format(one)} HTTP/1.1\r\n{head}\r\n\r\n"
            wire.sendall(request.encode())
            answer = b"".join(iter(lambda: wire.recv(65536), b""))
        answers.append((path, int(answer.split()[1]), answer))
    for path, body in BODIES:
        sent = json.loads(json.dumps(body).replace('"{}"', f'"{one}"')) if not isinstance(body, bytes) else body
        headers = {"Content_Type": "application/json"} if isinstance(body, bytes) else {}
        answers.append((f"{path} {body!r}"[:200], *ask(server, path.format(one), "POST", sent, **headers)))
    for name, content in UPLOADS:
        answers.append((f"upload {name}", *ask(server, f"/api/uploads?name={name}", "PUT", content)))
    for path in ("/", "/api/library", "/worklet.mjs", "/api/jobs", f"/api/songs/{one}/sound/exp002/0?track=bass:-"):
        answers.append((f"{path} no token", *ask(server, path, X_Gbsep_Token="x")))
        answers.append((f"{path} origin", *ask(server, path, Origin="http://evil.example")))
        answers.append((f"{path} host", *ask(server, path, Host="evil.example")))
        answers.append((f"{path} site", *ask(server, path, Sec_Fetch_Site="cross-site")))
    assert len(answers) >= 100
    assert [(what, status) for what, status, _ in answers if not 400 <= status < 500] == []
    assert [
        what
        for what, _, content in answers
        if b"confidential" in content or b"root:" in content or str(folder).encode() in content
    ] == []
    assert listing(folder) == before
    assert sorted(path.name for path in folder.parent.iterdir()) == outside
    assert told(server, "/api/library")["songs"]


def test_no_place_on_this_machine_is_told(server: Server, folder: Path) -> None:
    one = rendered(server, "one.wav", "exp002")
    for path in ("/", "/api/library", "/api/jobs", f"/api/songs/{one}", "/api/effects"):
        status, content = ask(server, path)
        assert status == 200
        assert str(folder).encode() not in content
        assert str(Path.home()).encode() not in content


def test_a_mix_of_what_there_is_not_is_refused_in_plain_words(server: Server, folder: Path) -> None:
    one = song_id(folder / "one.wav")
    for strip, why in (({"track": "no"}, "has no track 'no'"), ({"track": "bass", "voice": "gone"}, "not at hand")):
        job = told(server, f"/api/songs/{one}/mix", "POST", {"take": "exp002", "strips": [strip]})
        end = time.monotonic() + 60
        while (now := {each["number"]: each for each in told(server, "/api/jobs")["jobs"]}[job["number"]])[
            "error"
        ] == "":
            assert time.monotonic() < end
            time.sleep(0.05)
        assert why in now["error"]
        assert "unexpected" not in now["error"]
