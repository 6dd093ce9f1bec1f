"""Mel spectrograms as PNG files, for documents that show no more than pictures.

Conventions: low notes are at the bottom; colours go from dark to light with the level, RANGE_DB for all pictures
alike, so that they can be compared. The colours rise evenly in lightness, as those of magma (S. van der Walt and N.
Smith, A better default colormap for Matplotlib, SciPy 2015), through a few of its points.

Reference: W3C, Portable Network Graphics Specification, third edition (2025).
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

from ..audio import Reader
from .spectrogram import mel_db

PICTURE_VERSION = 1
"""Raised whenever the same sound would give another picture."""
WIDTH, HEIGHT = 960, 192
RANGE_DB = (-100.0, -10.0)
COLOURS = np.array(
    [(0, 0, 4), (28, 16, 68), (79, 18, 123), (129, 37, 129), (181, 54, 122), (229, 80, 100), (251, 135, 97), (254,
    194, 135),
     (252, 253, 191)]
)  # fmt: skip


def spectrogram_png(reader: Reader) -> bytes:
    """The mel spectrogram of a signal of any length as a PNG file of WIDTH x HEIGHT points."""
    low, high = RANGE_DB
    level = np.clip((mel_db(reader, WIDTH, HEIGHT)[::-1] - low) / (high - low), 0.0, 1.0)
    return png(np.rint(level * 255).astype(np.uint8), palette())


def palette() -> np.ndarray:
    """256 colours, uint8 (256, 3)."""
    places = np.linspace(0, 1, len(COLOURS))
    return np.stack([np.rint(np.interp(np.linspace(0, 1, 256), places, channel)) for channel in COLOURS.T], 1).astype(
        np.uint8
    )


def png(points: np.ndarray, colours: np.ndarray) -> bytes:
    """A PNG file of uint8 points (height, width), each the number of one of the colours, uint8 (up to 256, 3)."""
    height, width = points.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), points], axis=1)  # each row begins with its filter: none
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    chunks = (
        (b"IHDR", header),
        (b"PLTE", colours.tobytes()),
        (b"IDAT", zlib.compress(rows.tobytes(), 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
