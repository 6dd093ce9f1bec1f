"""Fixtures that every test file shares."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

DATA = Path(os.environ.get("GBSEP_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """A suite that is run in the background ignores SIGINT, and so would every process that a test starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


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
