"""Songs with renders, and a folder for projects."""

from __future__ import annotations

from pathlib import Path

import pytest

import gbsep

from .common import COMPRESSED, RAISED, make_song, preset


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A song rendered with two presets; the first has no effects."""
    song = make_song(tmp_path / "song.wav")
    for one in (preset("a", **RAISED), preset("b", **RAISED, **COMPRESSED)):
        gbsep.render(song, one, tmp_path / "out", dry_stems=True)
    return tmp_path / "out"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sessions")
