"""Batches elsewhere: on a real Dask cluster of separate processes, and to and from URLs."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gbsep
from gbsep import batch
from gbsep.audio import Audio
from gbsep.batch import cluster, report
from gbsep.errors import AudioFileError, GbsepError, OutputError, ParameterError
from gbsep.rendering import Options
from gbsep.shelf import remote
from gbsep.store.stemcache import Usage

from .helpers import exit_code, hashes, left_behind

RATE = 44100


@pytest.fixture
def album(tmp_path: Path, rng: np.random.Generator) -> Path:
    (tmp_path / "album").mkdir()
    for number in range(8):
        gbsep.write(tmp_path / "album" / f"{number}.wav", Audio(0.1 * rng.standard_normal((2, RATE // 4)), RATE))
    return tmp_path / "album"


# A cluster


class Cluster:
    def __init__(self, address: str, start_worker: Any):
        self.address, self.start_worker = address, start_worker


@pytest.fixture
def dask(tmp_path: Path) -> Iterator[Cluster]:
    """A scheduler, as its own process, and a way to start workers, each without a nanny to bring it back."""
    pytest.importorskip("distributed", reason="needs gbsep[cluster]")
    started: list[subprocess.Popen[bytes]] = []
    address_file = tmp_path / "scheduler.json"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    def start(*words: str, cache: Path | None = None) -> subprocess.Popen[bytes]:
        own = environment | ({"GBSEP_CACHE": str(cache)} if cache else {})
        with (tmp_path / f"{words[0]}{len(started)}.log").open("wb") as log:
            words = (sys.executable, "-m", "dask", *words, "--scheduler-file", str(address_file))
            started.append(subprocess.Popen(words, cwd=tmp_path, env=own, stdout=log, stderr=log))
        return started[-1]

    start("scheduler", "--port", "0", "--host", "127.0.0.1", "--no-dashboard")
    while not (address_file.exists() and address_file.read_text().endswith("}")):
        assert started[0].poll() is None, (tmp_path / "scheduler0.log").read_text()
        time.sleep(0.02)
    address = json.loads(address_file.read_text())["address"]
    worker = functools.partial(start, "worker", "--nthreads", "1", "--no-nanny", "--no-dashboard")
    yield Cluster(address, worker)
    for process in reversed(started):
        process.kill()
        process.wait()


def test_a_cluster_that_loses_a_worker_gives_the_same_files(
    dask: Cluster, album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    presets, bad = ["exp002", "exp003"], album / "nan.wav"
    gbsep.write(bad, Audio(np.zeros((1, 1000)), RATE))
    bad.write_bytes(bad.read_bytes()[:-4] + np.float32("nan").tobytes())
    local = list(batch.run(batch.plan(["album"], presets, Options(Path("local")), jobs=2)))
    first, _ = dask.start_worker(), dask.start_worker()

    def kill(event: batch.Event) -> None:
        if event.kind == "finished":
            first.kill()

    planned = batch.plan(["album"], presets, Options(Path("far")), jobs=2)
    far = list(batch.run(planned, cluster=dask.address, on_event=kill))
    assert first.wait() != 0
    assert hashes(tmp_path / "far") == hashes(tmp_path / "local")
    assert len(hashes(tmp_path / "far")) == 8 * 2 * 2
    assert not left_behind(tmp_path / "far")

    def told(outcomes: list[gbsep.Outcome]) -> set[tuple[str, ...]]:
        """Everything but times; what a lost worker had finished, its successor finds there."""
        return {
            (str(one.input), one.preset, str(one.folder), str(one.error), *map(str, one.files.values()))
            for one in outcomes
        }

    renamed = {tuple(word.replace("far/", "local/") for word in row) for row in told(far)}
    assert renamed == told(local)
    assert sum(one.status == "failed" for one in far) == 2


def test_a_gpu_is_for_networks_on_workers_that_offer_one(dask: Cluster, album: Path, tmp_path: Path) -> None:
    """Each worker has a stem cache of its own, in which the network's stems tell who made them."""
    dask.start_worker(cache=tmp_path / "plain")
    dask.start_worker("--resources", "GPU=1", cache=tmp_path / "offering")
    with import_module("distributed").Client(dask.address) as client:
        client.wait_for_workers(2, timeout=120)
    planned = batch.plan([album / "1.wav", album / "2.wav"], ["exp002", "default"], Options(tmp_path / "out"))
    assert {outcome.status for outcome in batch.run(planned, cluster=dask.address)} == {"ok"}
    assert not list((tmp_path / "plain").glob("entries/*"))
    assert len(list((tmp_path / "offering").glob("entries/*"))) == 2


def test_another_version_is_refused() -> None:
    with pytest.raises(GbsepError, match=r"a worker of the cluster has gbsep .*, not 0\.0\.0: install the same"):
        cluster.render([], "0.0.0")

    class Client:
        def __init__(self, answer: Any):
            self.answer = answer

        def wait_for_workers(self, count: int, timeout: float) -> None: ...

        def run(self, function: Any, on_error: str) -> dict[str, Any]:
            return {"tcp://one": function(), "tcp://two": self.answer}

    for answer, told in [("0.0.0", "tcp://two has 0.0.0"), (ImportError("no gbsep"), "tcp://two cannot import it")]:
        with pytest.raises(ParameterError, match=told):
            cluster._check_versions(Client(answer), "tcp://scheduler")  # type: ignore[arg-type]


def test_a_scheduler_that_is_not_there_is_exit_2(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("distributed", reason="needs gbsep[cluster]")
    monkeypatch.setattr(cluster, "CONNECT_S", 0.2)
    monkeypatch.chdir(tmp_path)
    assert exit_code("render", "album", "-p", "exp002", "--cluster", "tcp://127.0.0.1:9") == 2
    assert "no scheduler answers there" in capsys.readouterr().err
    assert not Path("gbsep-out").exists()


@pytest.mark.parametrize("answers", [False, True])
def test_what_is_no_scheduler_is_refused_in_time(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    """One that says nothing, and a server of web pages."""
    pytest.importorskip("distributed", reason="needs gbsep[cluster]")
    monkeypatch.setattr(cluster, "CONNECT_S", 1.0)
    planned = batch.plan([album], ["exp002"], Options(tmp_path / "out"))
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = server.accept()
                    peer.sendall(b"HTTP/1.0 400 Bad request\r\n\r\n" * 9)
                    peer.close()

        if answers:
            threading.Thread(target=serve, daemon=True).start()
        begun = time.monotonic()
        with pytest.raises(ParameterError, match="no scheduler answers there .*start one with: dask scheduler"):
            list(batch.run(planned, cluster=f"tcp://127.0.0.1:{server.getsockname()[1]}"))
        assert time.monotonic() - begun < 30
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("answer", [None, 3, [], {}, ["ok"], "", [None], RuntimeError("bad\nthing")])
def test_a_worker_that_answers_with_anything_fails_its_song_alone(album: Path, tmp_path: Path, answer: Any) -> None:
    pytest.importorskip("distributed", reason="needs gbsep[cluster]")

    class Future:
        def result(self) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return answer

    planned = batch.plan([album / "1.wav"], ["exp002"], Options(tmp_path / "out"))
    (outcome,) = cluster._results(Future(), planned.plans, planned)  # type: ignore[arg-type]
    assert (outcome.status, outcome.input) == ("failed", album / "1.wav")
    told = "bad thing" if isinstance(answer, Exception) else "its worker answered with "
    assert told in str(outcome.error)


# URLs


def test_songs_come_from_a_web_server_and_are_fetched_once(album: Path, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp", reason="needs gbsep[cluster]")
    fetched: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            fetched.append(self.path)
            super().do_GET()

        def log_message(self, *arguments: Any) -> None: ...

    handler = functools.partial(Handler, directory=str(album))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"
        urls = [f"{base}/1.wav", f"{base}/2.wav?token=3"]
        looked = batch.plan([*urls, f"{base}/none.wav"], ["exp002"], Options(tmp_path / "out", dry_run=True))
        assert (looked.plans, looked.unseen) == ((), tuple(urls))
        assert "/1.wav" not in fetched, "a dry run downloads nothing"
        fetched.clear()
        assert [one.input for one in looked.refused] == [f"{base}/none.wav"]
        assert not remote.usage().entries
        for status in ("ok", "skipped"):
            planned = batch.plan(urls, ["exp002"], Options(tmp_path / "out"), jobs=2)
            outcomes = list(batch.run(planned))
            assert [(str(one.input), one.track, one.status) for one in planned.in_order(outcomes)] == [
                (urls[0], "1", status),
                (urls[1], "2", status),
            ]
        assert sorted(fetched) == ["/1.wav", "/2.wav?token=3"]
        missing = batch.plan([f"{base}/none.wav"], ["exp002"], Options(tmp_path / "out"))
        assert f"{base}/none.wav: no such file; check the URL" in str(missing.refused[0].error)
        server.shutdown()
    gbsep.render(album / "1.wav", "exp002", tmp_path / "single")
    assert hashes(tmp_path / "single").items() <= hashes(tmp_path / "out").items()


@pytest.fixture
def bucket(tmp_path: Path) -> tuple[str, Path]:
    """A folder, by URL."""
    return f"{(tmp_path / 'bucket').as_uri()}", tmp_path / "bucket"


def plan_to(url: str, words: list[Any], **changes: Any) -> batch.Batch:
    options = Options(overwrite=changes.pop("overwrite", False))
    return batch.plan(words, ["exp002"], options, destination=url, **changes)


def test_renders_go_to_a_url_by_the_rules_for_folders(album: Path, bucket: tuple[str, Path], tmp_path: Path) -> None:
    url, there = bucket
    (tmp_path / "songs").mkdir()
    songs = [(album / name).rename(tmp_path / "songs" / name) for name in ("1.wav", "2.wav")]

    def statuses(**changes: Any) -> list[str]:
        planned = plan_to(url, [f"{(tmp_path / 'songs').as_uri()}/"], jobs=2, **changes)
        assert not planned.refused, planned.refused
        outcomes = planned.in_order(batch.run(planned))
        report.write(planned, outcomes, ["gbsep"], 0.0)
        return [one.status if not one.reason else f"{one.status}: {one.reason}" for one in outcomes]

    assert statuses() == ["ok", "ok"]
    for song in songs:
        gbsep.render(song, "exp002", tmp_path / "single")
    assert hashes(there) == hashes(tmp_path / "single")
    assert statuses() == ["skipped: unchanged"] * 2
    gbsep.write(songs[0], gbsep.read(songs[1]))
    assert statuses() == ["ok: input changed", "skipped: unchanged"]
    assert statuses(format="flac") == ["ok: preset, file names changed"] * 2
    names = {path.name for path in (there / "1/exp002").iterdir()}
    assert names == {"bass.flac", "guitar.flac", "render.json"}
    (there / "1/exp002/bass.flac").write_bytes(b"mine")
    refused = plan_to(url, [songs[0]], format="flac").refused
    assert f"{url}/1/exp002: bass.flac was changed since gbsep wrote it" in str(refused[0].error)
    assert not left_behind(there)
    assert {path.name for path in there.iterdir()} == {"1", "2", "batch.json"}


@pytest.mark.parametrize("moment", ["put_file", "mv"])
def test_an_upload_that_was_cut_short_is_put_right(
    album: Path, bucket: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """At the second file: before all were there, and while they are moved to their place."""
    url, there = bucket
    from fsspec.implementations.local import LocalFileSystem

    method, calls = getattr(LocalFileSystem, moment), []

    def cut(self: Any, *arguments: Any, **options: Any) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise ConnectionError("the network went away")
        method(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(LocalFileSystem, moment, cut)
        (outcome,) = batch.run(plan_to(url, [album / "1.wav"]))
    assert outcome.status == "failed"
    assert "cannot be written: the network went away" in str(outcome.error)
    assert left_behind(there)
    (again,) = batch.run(plan_to(url, [album / "1.wav"]))
    assert again.status == ("ok" if moment == "put_file" else "skipped")
    gbsep.render(album / "1.wav", "exp002", tmp_path / "single")
    assert hashes(there) == hashes(tmp_path / "single")
    assert not left_behind(there)


def test_what_urls_leave_here_is_counted_and_cleared(
    album: Path, bucket: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of outputs nothing stays; of inputs a copy, until it was not used for long, or the cache is too small for it."""
    import fsspec

    url, _ = bucket
    monkeypatch.setenv("GBSEP_CACHE", str(tmp_path / "cache"))
    memory = fsspec.filesystem("memory")
    memory.put_file(str(album / "1.wav"), "/songs/1.wav")
    for action in ("render", "skip"):
        planned = plan_to(url, ["memory://songs/1.wav"])
        assert [plan.action for plan in planned.plans] == [action]
        assert {one.status for one in batch.run(planned)} == {"ok" if action == "render" else "skipped"}
        assert not list((tmp_path / "cache").glob("uploads/*"))
    (copy,) = (tmp_path / "cache" / "downloads").iterdir()
    size = (album / "1.wav").stat().st_size
    assert [path.name for path in copy.iterdir()] == ["1.wav"]
    assert remote.usage() == Usage(1, size)
    for days, limit, stays in [(6, "1 GB", True), (2, "1 kB", False), (8, "1 GB", False)]:
        monkeypatch.setenv("GBSEP_CACHE_SIZE", limit)
        used_at = time.time() - days * remote.DAY_S
        remote.fetch("memory://songs/1.wav")
        os.utime(copy, (used_at, used_at))
        remote.sweep()
        assert copy.exists() == stays
    remote.fetch("memory://songs/1.wav")
    assert remote.clear() == Usage(1, size)
    assert remote.usage() == Usage(0, 0)
    assert remote.fetch((album / "1.wav").as_uri()) == album / "1.wav"
    assert remote.usage() == Usage(0, 0)


def test_a_batch_json_of_somebody_else_stays_at_a_url(album: Path, bucket: tuple[str, Path]) -> None:
    url, there = bucket
    planned = plan_to(url, [album / "1.wav", album / "2.wav"])
    report.check(planned)
    there.mkdir()
    (there / "batch.json").write_text("{}")
    with pytest.raises(OutputError, match="bucket/batch.json: was not written by gbsep"):
        report.check(planned)


def test_a_server_that_does_not_answer_is_told_as_that() -> None:
    pytest.importorskip("aiohttp", reason="needs gbsep[cluster]")
    with pytest.raises(AudioFileError, match=r"x\.wav: cannot be fetched: Cannot connect to host 127\.0\.0\.1:9"):
        remote.fetch("http://127.0.0.1:9/x.wav")


def test_file_systems_that_are_not_there_are_named() -> None:
    with pytest.raises(AudioFileError, match=r"nofs://a/b\.wav: cannot be fetched: Protocol not known: nofs"):
        remote.fetch("nofs://a/b.wav")
    with pytest.raises(OutputError, match="nofs://a/b: cannot be looked at: Protocol not known: nofs"):
        remote.mirror("nofs://a/b", Path("anywhere"))


def test_a_url_of_no_folder_is_refused_and_one_in_any_letters_is_named(album: Path) -> None:
    for url in ("file://", "file:///", "FILE:////"):
        with pytest.raises(OutputError, match="names no folder"):
            plan_to(url, [album / "1.wav"])
    for url in ("file:///../../etc", "memory://out/%2e%2e/etc"):
        with pytest.raises(OutputError, match=r"climbs out of its folder"):
            plan_to(url, [album / "1.wav"])
    assert remote.path_of("memory://\ud800/\udcff.wav").parts == ("_", "_.wav")
