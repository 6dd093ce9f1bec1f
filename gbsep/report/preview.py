"""Audio and pictures for a page: short pieces of FLAC, spectrograms of one byte per point, and gains.

Conventions: a sound is cut into pieces of CHUNK_S, which a browser decodes one by one, each exact to the frame. So any
length plays without gaps in bounded memory, and several sounds share one clock. FLAC because every browser decodes it
exactly: a lossy codec would add a delay to every piece, and faults of its own to the sound. The gain that matches the
loudness (`matched_gains`) is applied before the pieces are quantised to 16 bits.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ..audio import Audio, Block, Reader, join, rechunk
from ..io.formats import OutputFormat
from ..io.resample import resample, resampled_frames
from ..io.write import open_writer
from ..measure.levels import Levels, to_amplitude
from .picture import PICTURE_VERSION, spectrogram_png
from .songs import Source
from .spectrogram import MEL_VERSION, mel_db

PREVIEW_VERSION = 1
"""Raised whenever the same sound would give other pieces: those that are kept do not count any more."""
CHUNK_S = 8
RATES_HZ = (8000, 48000)
"""Lowest and highest sample rate that is kept, as every browser plays it; others become the highest."""

MP3_RATES_HZ = (32000, 48000, 44100)
"""Rates of MP3 that keep what is heard; others become the last."""

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
    """All pieces of a sound as FLAC files, in order; made once for a content and a gain, and kept."""
    rate, frames = source.shape
    heard_rate = preview_rate(rate)
    count = chunk_count(resampled_frames(frames, rate, heard_rate) / heard_rate)
    cut: list[Iterator[tuple[int, Block]]] = []

    def piece(number: int) -> bytes:
        if not cut:
            cut.append(enumerate(rechunk(_playable(source.open(0.0, None)).blocks(), CHUNK_S * heard_rate)))
        return _flac(next(block for place, block in cut[0] if place == number), gain_db, heard_rate)

    for number in range(count):
        yield source.kept(_key(gain_db, heard_rate, number), partial(piece, number), kind="previews")


def chunk(source: Source, gain_db: float, number: int) -> bytes:
    """One piece of a sound, equal to that of `chunks` unless it is resampled: here each piece is, on its own."""
    rate, frames = source.shape
    heard_rate = preview_rate(rate)

    def piece() -> bytes:
        first = number * CHUNK_S * rate
        reader = _playable(source.open(first / rate, min(CHUNK_S * rate, frames - first) / rate))
        return _flac(join(reader.blocks()), gain_db, heard_rate)

    alone = "" if heard_rate == rate else "alone "
    return source.kept(alone + _key(gain_db, heard_rate, number), piece, kind="previews")


def _key(gain_db: float, sample_rate: int, number: int) -> str:
    """What a piece is, but for the sound that it is of."""
    return f"flac {PREVIEW_VERSION} {gain_db!r} {sample_rate} {CHUNK_S} {number}"


def mp3(source: Source, gain_db: float, seconds: float) -> bytes:
    """`seconds` from the middle of a sound as an MP3 file, at a gain."""

    def make() -> bytes:
        rate, frames = source.shape
        start_s = max(0.0, (frames / rate - seconds) / 2)
        reader = source.open(start_s, seconds)
        reader = resample(reader, reader.sample_rate if reader.sample_rate in MP3_RATES_HZ else MP3_RATES_HZ[-1])
        return encoded(reader.blocks(), gain_db, OutputFormat("mp3"), reader)

    return source.kept(f"mp3 {PREVIEW_VERSION} {gain_db!r} {seconds!r}", make, kind="previews")


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
    return encoded([block], gain_db, FORMAT, Audio(block, sample_rate).reader())


def encoded(blocks: Iterable[Block], gain_db: float, format: OutputFormat, shape: Reader) -> bytes:
    """Sound of the rate, channels and frames of `shape` as a file."""
    with tempfile.TemporaryDirectory(prefix="gbsep-") as folder:
        path = Path(folder) / f"piece{format.suffix}"
        with open_writer(path, format, shape.sample_rate, shape.channels, shape.frames) as writer:
            for block in blocks:
                # Resampling, or a file changed since it was measured, may pass full scale by a little.
                writer.write(np.clip(block * np.float32(to_amplitude(gain_db)), -1.0, 1.0))
        return path.read_bytes()
