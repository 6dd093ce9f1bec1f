"""Fixtures that every test file shares."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .helpers import exit_code, write_song

DATA = Path(os.environ.get("GBSEP_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """A suite that is run in the background ignores SIGINT, under nohup SIGHUP, and so would every process that a test
    starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real recordings; tests that need it skip where it is absent."""
    if not DATA.is_dir():
        pytest.skip(f"no folder of real recordings at {DATA}; set GBSEP_DATA to where it is")
    return DATA


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's own configuration, cache or models."""
    home = tmp_path_factory.mktemp("home")
    for name in ("CONFIG", "CACHE", "HOME", "STATE", "MODELS"):
        monkeypatch.setenv(f"GBSEP_{name}", str(home / name.lower()))


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Call the command in this process, in a folder of its own: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> tuple[int, str, str]:
        return exit_code(*words), *capsys.readouterr()

    return call


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """A folder of eight short songs."""
    for number in range(8):
        write_song(tmp_path / "album" / f"{number}.wav")
    return tmp_path / "album"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder for models."""
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def network() -> Any:
    """A small untrained Demucs network."""
    from .networks import small_demucs

    return small_demucs()


@pytest.fixture
def models_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's own folders, and none reaches the network."""
    monkeypatch.setenv("GBSEP_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("GBSEP_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("GBSEP_MODELS", raising=False)
    connect = socket.create_connection

    def local_only(address: Any, *arguments: Any, **keywords: Any) -> socket.socket:
        if address[0] != "127.0.0.1":
            raise OSError("blocked")
        return connect(address, *arguments, **keywords)

    monkeypatch.setattr(socket, "create_connection", local_only)


@pytest.fixture(scope="session")
def library_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library of the test plug-in."""
    if not shutil.which("g++") or not Path(os.environ.get("DPF", "/usr/share/dpf")).is_dir():
        pytest.skip("the test plug-in cannot be built: g++ or Debian's dpf-source is missing")
    folder = tmp_path_factory.mktemp("plugin")
    subprocess.run([Path(__file__).parent / "plugin" / "build.sh", folder], check=True)
    return next(folder.rglob("*.so"))


@pytest.fixture
def bundle(library_file: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes a bundle of the test plug-in; its name says what goes wrong, `edit` changes its bytes."""
    from .bundles import ARCHITECTURE

    def make(name: str = "good", edit: Callable[[bytes], bytes] | None = None) -> Path:
        library = tmp_path / f"{name}.vst3" / "Contents" / ARCHITECTURE / f"{name}.so"
        library.parent.mkdir(parents=True)
        data = library_file.read_bytes()
        library.write_bytes(edit(data) if edit else data)
        return tmp_path / f"{name}.vst3"

    return make


@pytest.fixture
def nothing_left(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No process, temporary file or open file is there that was not before."""
    from gbsep.io import hush

    from .bundles import left

    temporary = tmp_path_factory.mktemp("temporary")
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with hush.hushed():  # its stream to nowhere is opened once in the life of a process
        pass
    before = left(temporary)
    yield
    assert left(temporary) == before


@pytest.fixture
def plugin_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Scanning sees only the folder of `bundle`, with an empty cache."""
    from gbsep.plugins import scan

    monkeypatch.setattr(scan, "FOLDERS", {})
    monkeypatch.setenv("GBSEP_PLUGIN_PATH", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="session")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder in which the plug-ins of this machine have been scanned."""
    from gbsep.plugins import host

    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GBSEP_CACHE", str(folder))
        host.plugins()
    return folder


@pytest.fixture
def scanned_before(scanned: Path, own_folders: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test finds the plug-ins of this machine without a scan of its own."""
    monkeypatch.setenv("GBSEP_CACHE", str(scanned))


@pytest.fixture
def installed(bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Puts the test plug-in, with the fault that `name` says, where it is found."""

    def install(name: str = "good") -> Path:
        path = bundle(name)
        monkeypatch.setenv("GBSEP_PLUGIN_PATH", str(path.parent))
        return path

    return install


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two shards of takes by a band of sines."""
    from gbsep.train import pool

    from .band import BAND, SMALL

    folder = tmp_path_factory.mktemp("pool")
    patch = pytest.MonkeyPatch()
    patch.setattr(pool, "TAKES_PER_SHARD", 4)
    patch.setattr(pool, "TAKE_S", 4.0)
    for number in (0, 1):
        pool.write_shard(folder, number, 5, BAND, SMALL.sample_rate)
    patch.undo()
    return folder


@pytest.fixture(scope="module")
def sources(shard: Path) -> Any:
    """What batches are made of: the takes of `shard`, and drums."""
    from gbsep.train import mixing, pool

    from .band import SMALL

    drums = [np.random.default_rng(0).integers(-3000, 3000, 5000).astype(np.int16)]
    return mixing.on_device(pool.load([shard], SMALL.sample_rate), drums, SMALL.sample_rate, "cpu")
