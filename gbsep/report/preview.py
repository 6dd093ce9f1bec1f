"""Audio and pictures for a page: short pieces of FLAC, spectrograms of one byte per point, and gains.

Conventions: a sound is cut into pieces of CHUNK_S, which a browser decodes one by one, each exact to the frame. So any
length plays without gaps in bounded memory, and several sounds share one clock. FLAC because every browser decodes it
exactly: a lossy codec would add a delay to every piece, and faults of its own to the sound. The gain that matches the
loudness (`matched_gains`) is applied before the pieces are quantised to 16 bits.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..audio import Block, Reader, join, rechunk
from ..io.formats import OutputFormat
from ..io.resample import resample
from ..io.write import open_writer
from ..measure.levels import Levels, to_amplitude
from .picture import PICTURE_VERSION, spectrogram_png
from .songs import Source
from .spectrogram import MEL_VERSION, mel_db

CHUNK_S = 8
RATES_HZ = (8000, 48000)
"""Lowest and highest sample rate that is kept, as every browser plays it; others become the highest."""

FORMAT = OutputFormat("flac", "16")
HEADROOM_DBFS = -1.0
MAX_RAISE_DB = 24.0
MIN_TARGET_LUFS = -30.0

N_MELS = 96
COLUMNS_PER_S = 20
WIDTHS = (600, 2400)
RANGE_DB = (-110.0, 10.0)
"""The levels that byte 0 and byte 255 of a spectrogram stand for."""


def preview_rate(sample_rate: int) -> int:
    """The sample rate of the pieces of a sound."""
    return sample_rate if RATES_HZ[0] <= sample_rate <= RATES_HZ[1] else RATES_HZ[1]


def chunk_count(seconds: float) -> int:
    """The number of pieces of a sound."""
    return max(1, math.ceil(seconds / CHUNK_S - 1e-9))


def chunks(source: Source, gain_db: float) -> Iterator[bytes]:
    """All pieces of a sound as FLAC files, in order."""
    reader = _playable(source.open(0.0, None))
    for block in rechunk(reader.blocks(), CHUNK_S * reader.sample_rate):
        yield _flac(block, gain_db, reader.sample_rate)


def chunk(source: Source, gain_db: float, number: int) -> bytes:
    """One piece of a sound, equal to that of `chunks` unless it is resampled: here each piece is, on its own."""
    rate, frames = source.shape
    first = number * CHUNK_S * rate
    reader = _playable(source.open(first / rate, min(CHUNK_S * rate, frames - first) / rate))
    return _flac(join(reader.blocks()), gain_db, reader.sample_rate)


def matched_gains(levels: Sequence[Levels]) -> list[float]:
    """The gains in dB that give all sounds one loudness (BS.1770) without clipping.

    A sound without headroom for MIN_TARGET_LUFS, or that would be raised by more than MAX_RAISE_DB, stays quieter.
    """
    room_db = [HEADROOM_DBFS - level.peak_dbfs for level in levels]
    audible = [number for number, level in enumerate(levels) if math.isfinite(level.loudness_lufs)]
    reachable = min((levels[number].loudness_lufs + room_db[number] for number in audible), default=0.0)
    target = max(MIN_TARGET_LUFS, reachable)
    return [
        min(target - level.loudness_lufs, room, MAX_RAISE_DB) if number in audible else min(0.0, room)
        for number, (level, room) in enumerate(zip(levels, room_db, strict=True))
    ]


def spectrogram(source: Source) -> bytes:
    """The mel spectrogram of a sound: N_MELS rows, from low to high, of one byte for each column; see RANGE_DB."""
    rate, frames = source.shape
    width = round(min(max(frames / rate * COLUMNS_PER_S, WIDTHS[0]), WIDTHS[1]))
    low_db, high_db = RANGE_DB

    def make() -> bytes:
        scaled = (mel_db(source.open(0.0, None), width, N_MELS) - low_db) * (255 / (high_db - low_db))
        return np.clip(np.rint(scaled), 0, 255).astype(np.uint8).tobytes()

    return source.kept(f"mel {MEL_VERSION} {width} {N_MELS} {low_db} {high_db}", make, width * N_MELS)


def picture(source: Source) -> bytes:
    """The spectrogram of a sound as a PNG file."""
    return source.kept(f"png {MEL_VERSION} {PICTURE_VERSION}", lambda: spectrogram_png(source.open(0.0, None)))


def _playable(reader: Reader) -> Reader:
    return resample(reader, preview_rate(reader.sample_rate))


def _flac(block: Block, gain_db: float, sample_rate: int) -> bytes:
    # Resampling, or a file changed since it was measured, may pass full scale by a little.
    samples = np.clip(block * np.float32(to_amplitude(gain_db)), -1.0, 1.0)
    with tempfile.TemporaryDirectory(prefix="gbsep-") as folder:
        path = Path(folder) / "piece.flac"
        with open_writer(path, FORMAT, sample_rate, samples.shape[0], samples.shape[1]) as writer:
            writer.write(samples)
        return path.read_bytes()
