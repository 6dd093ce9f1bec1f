"""Weights are fetched: what is broken off goes on, what is wrong is not kept."""

import hashlib
import http.server
import threading
from typing import ClassVar

import pytest

from gbsep.errors import BackendError, ParameterError
from gbsep.models import catalogue
from gbsep.models.fetch import fetch
from gbsep.separation.weights import find
from gbsep.stemnames import FOUR_STEMS

pytestmark = pytest.mark.usefixtures("models_elsewhere")


class _Server(http.server.BaseHTTPRequestHandler):
    """Serves `files`; breaks every first answer off in the middle."""

    files: ClassVar[dict[str, bytes]] = {}
    ranges: ClassVar[list[str]] = []

    def do_GET(self):
        name = self.path.rsplit("/", 1)[1]
        if name not in self.files:
            self.send_error(404)
            return
        start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
        self.ranges.append(self.headers["Range"])
        body = self.files[name][start:]
        self.send_response(206)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if start else body[: len(body) // 2])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{served.server_address[1]}"
    monkeypatch.setattr(_Server, "files", {})
    monkeypatch.setattr(_Server, "ranges", [])
    yield url
    served.shutdown()
    thread.join()
    served.server_close()


def publish(monkeypatch, url, *contents, hub=None):
    names = tuple(f"sig{i}-{hashlib.sha256(content).hexdigest()[:8]}.th" for i, content in enumerate(contents))
    row = catalogue.Model("pub", "demucs", FOUR_STEMS, 44100, 1, "licence", "limits", url, names, hub=hub)
    monkeypatch.setitem(catalogue.MODELS, "pub", row)
    return dict(zip(names, contents, strict=True))


def test_a_broken_download_goes_on_where_it_stopped(server, monkeypatch, rng):
    _Server.files = publish(monkeypatch, server, rng.bytes(300_000), rng.bytes(100))
    fractions = []
    paths = fetch("pub", fractions.append)
    assert [path.read_bytes() for path in paths] == list(_Server.files.values())
    assert _Server.ranges[:2] == ["bytes=0-", "bytes=150000-"]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert not list(catalogue.data_dir().rglob("*.part"))
    _Server.files = {}
    assert fetch("pub") == paths


def test_a_wrong_download_is_not_kept(server, monkeypatch):
    names = publish(monkeypatch, server, b"published" * 100)
    _Server.files = dict.fromkeys(names, b"something else" * 100)
    with pytest.raises(BackendError, match="nothing was kept"):
        fetch("pub")
    assert not list(catalogue.data_dir().rglob("*"))


def test_a_checkpoint_and_its_configuration_are_checked_by_the_table(server, monkeypatch):
    files = {"net.ckpt": b"tensors" * 100, "net.yaml": b"model: {}\n"}
    hashes = tuple(hashlib.sha256(content).hexdigest() for content in files.values())
    row = catalogue.Model("pub", "msst", FOUR_STEMS, 44100, 1, "", "", server, tuple(files), sha256=hashes)
    monkeypatch.setitem(catalogue.MODELS, "pub", row)
    _Server.files = files | {"net.yaml": b"model: [1]\n"}
    with pytest.raises(BackendError, match=r"net\.yaml: the SHA-256 is not .* nothing was kept"):
        fetch("pub")
    _Server.files = files
    assert [path.name for path in fetch("pub")] == list(files)


def test_a_download_that_cannot_begin_leaves_nothing(server, monkeypatch):
    publish(monkeypatch, server, b"weights" * 100)
    with pytest.raises(OSError, match="404"):
        fetch("pub")
    with pytest.raises(OSError, match="blocked"):
        fetch("htdemucs")
    assert not catalogue.data_dir().exists()


def test_find_downloads_what_is_nowhere(server, monkeypatch, folder):
    _Server.files = publish(monkeypatch, server, b"weights" * 100)
    found = find("pub", "demucs", folder)
    assert found.files[0].parent == catalogue.data_dir() / "pub"


def test_the_hub_serves_when_the_first_host_has_nothing(server, monkeypatch, folder):
    publish(monkeypatch, server, b"weights" * 100, hub="Demucs-pub")
    monkeypatch.setattr("gbsep.models.fetch.HUB", server)
    _Server.files = {"pub.yaml": b"models: [sig0]\n", "sig0.safetensors": b"x" * 1000}
    assert find("pub", "demucs", folder).files == (catalogue.data_dir() / "pub/sig0.safetensors",)


def test_unknown_model_cannot_be_fetched():
    with pytest.raises(ParameterError, match="did you mean 'htdemucs'"):
        fetch("htdemuc")
