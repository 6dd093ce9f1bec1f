"""Sound files, whole and not, for the tests of reading and writing."""

from pathlib import Path

import numpy as np
import soundfile
from hypothesis import HealthCheck, settings

RATE = 44100
hypothesis_settings = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def noise(frames: int = 20_000, channels: int = 2, seed: int = 0) -> np.ndarray:
    """(frames, channels) within +-0.9, on the grid of 16-bit samples."""
    codes = np.random.default_rng(seed).integers(-29_000, 29_000, (frames, channels))
    return (codes / 2**15).astype(np.float32)


def make(path: Path, samples: np.ndarray, subtype: str, format: str, rate: int = RATE) -> Path:
    soundfile.write(path, samples, rate, subtype=subtype, format=format)
    return path


def patched(path: Path, at: int, value: bytes) -> Path:
    raw = bytearray(path.read_bytes())
    raw[at : at + len(value)] = value
    path.write_bytes(raw)
    return path


def cut(path: Path, keep: float) -> Path:
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * keep)])
    return path


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
