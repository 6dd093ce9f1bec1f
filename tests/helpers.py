"""What the tests of several subjects share."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import gbsep
from gbsep.audio import Audio
from gbsep.cli import main

RATE = 44100
posix = pytest.mark.skipif(os.name == "nt", reason="signals the POSIX way")


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each lossless audio file below a folder, by its path in it."""
    files = (path for path in sorted(folder.rglob("*")) if path.suffix in (".wav", ".flac"))
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def left_behind(folder: Path) -> list[Path]:
    """Hidden files below a folder: what an interrupted write would leave."""
    return [path for path in folder.rglob("*") if path.name.startswith(".")]


def record(outcome: gbsep.Outcome) -> dict[str, Any]:
    """render.json of a render."""
    document: dict[str, Any] = json.loads((outcome.folder / "render.json").read_text(encoding="utf-8"))
    return document


def read(path: Path) -> np.ndarray:
    """Samples of a file, float32 (channels, frames)."""
    samples: np.ndarray = soundfile.read(path, dtype="float32", always_2d=True)[0]
    return samples.T


def exit_code(*words: object) -> int:
    """Call the command in this process; its exit code."""
    with pytest.raises(SystemExit) as ending:
        main([str(word) for word in words])
    return int(ending.value.code or 0)


def write_song(path: Path, seconds: float = 0.2, seed: int = 0) -> Path:
    """Quiet stereo noise, for each name and seed its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, *path.stem.encode()])
    gbsep.write(path, Audio(0.1 * rng.standard_normal((2, round(seconds * RATE))), RATE))
    return path
