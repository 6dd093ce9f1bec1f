"""Mel spectrograms of signals of any length, in bounded memory.

Conventions: powers of Hann windows of N_FFT frames, summed over channels, in dB; the power of the window is divided
out, so a full-scale sine in one channel is near -3 dB in its band.

Reference: M. Slaney, Auditory Toolbox, Interval Research Technical Report 1998-010: mel bands that are even in Hz up to
1 kHz and even in pitch above, as librosa has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
import scipy.fft
import scipy.signal
import scipy.sparse

from ..audio import Block, Reader, rechunk

N_FFT = 4096
RANGE_HZ = (30.0, 16000.0)
FLOOR_DB = -120.0
BREAK_HZ, BREAK_MEL = 1000.0, 15.0
STEP = np.log(6.4) / 27
"""Slaney's scale: 15 mel at 1 kHz, and 27 more for a factor of 6.4."""
MEL_VERSION = 2
"""Raised whenever the same sound would give another spectrogram: those that are kept do not count any more."""


def mel_db(reader: Reader, width: int, n_mels: int) -> np.ndarray:
    """The spectrogram in dB, float32 (n_mels, width), low bands first; a column is the mean power of its time."""
    hop_length = int(np.clip(reader.frames / width / 2, 256, N_FFT // 2))
    # Nearly all of it is zero; and BLAS has threads, which wait for each other where the machine is busy.
    bank = scipy.sparse.csr_array(mel_bank(reader.sample_rate, n_mels))
    window = scipy.signal.get_window("hann", N_FFT).astype(np.float32)
    scale = 2.0 / float(np.sum(window)) ** 2
    total, count = np.zeros((width, n_mels)), np.zeros(width)
    held = np.zeros((reader.channels, N_FFT // 2), np.float32)
    done = 0  # windows so far; the next one is centred on frame done * hop_length
    for block in _with_end(rechunk(reader.blocks(), 64 * hop_length), reader.channels):
        held = np.concatenate([held, block], axis=1)
        ready = (held.shape[1] - N_FFT) // hop_length + 1
        if ready < 1:
            continue
        windows = np.lib.stride_tricks.sliding_window_view(held, N_FFT, axis=1)[:, ::hop_length][:, :ready]
        power = np.square(np.abs(scipy.fft.rfft(windows * window))).sum(0) * scale
        centres = (done + np.arange(ready)) * hop_length
        columns = np.minimum(centres * width // reader.frames, width - 1)
        np.add.at(total, columns, (bank @ np.ascontiguousarray(power.T)).T)
        np.add.at(count, columns, 1.0)
        done, held = done + ready, held[:, ready * hop_length :]
    known = np.flatnonzero(count)
    nearest = known[np.minimum(known.searchsorted(np.arange(width)), len(known) - 1)]
    power = total[nearest] / count[nearest, np.newaxis]
    level_db = 10 * np.log10(np.maximum(power, 1e-12))
    shown: np.ndarray = np.maximum(level_db, FLOOR_DB).T
    return shown.astype(np.float32)


def mel_hz(sample_rate: int, n_mels: int) -> np.ndarray:
    """The centre frequencies of the bands in Hz."""
    return _edges_hz(sample_rate, n_mels)[1:-1]


def _with_end(blocks: Iterable[Block], channels: int) -> Iterator[Block]:
    """The blocks, then silence so that the last window is centred on the last frame."""
    yield from blocks
    yield np.zeros((channels, N_FFT // 2), np.float32)


def _edges_hz(sample_rate: int, n_mels: int) -> np.ndarray:
    """Where the bands begin, have their centres and end: each begins at the centre of the one before."""
    low, high = _mel(np.array([RANGE_HZ[0], min(RANGE_HZ[1], sample_rate / 2)]))
    mels = np.linspace(low, high, n_mels + 2)
    return np.where(mels < BREAK_MEL, mels * BREAK_HZ / BREAK_MEL, BREAK_HZ * np.exp(STEP * (mels - BREAK_MEL)))


def _mel(hz: np.ndarray) -> np.ndarray:
    over = BREAK_MEL + np.log(np.maximum(hz, BREAK_HZ) / BREAK_HZ) / STEP
    return np.where(hz < BREAK_HZ, hz * BREAK_MEL / BREAK_HZ, over)


@lru_cache(maxsize=8)
def mel_bank(sample_rate: int, n_mels: int) -> np.ndarray:
    """Triangles of height 1, float32 (n_mels, N_FFT // 2 + 1)."""
    edges = _edges_hz(sample_rate, n_mels)[:, np.newaxis]
    hz = np.fft.rfftfreq(N_FFT, 1 / sample_rate)
    width = np.diff(edges, axis=0)
    rising, falling = (hz - edges[:-2]) / width[:-1], (edges[2:] - hz) / width[1:]
    bank: np.ndarray = np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)
    return bank
