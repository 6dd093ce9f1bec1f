"""Mel spectrograms of signals of any length, in bounded memory.

Conventions: powers of Hann windows of N_FFT frames, summed over channels, in dB; the power of the window is divided
out, so a full-scale sine in one channel is near -3 dB in its band. Mel bands are Slaney's, from librosa.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
import scipy.fft
import scipy.signal

from ..audio import Block, Reader, rechunk

N_FFT = 4096
RANGE_HZ = (30.0, 16000.0)
FLOOR_DB = -120.0
MEL_VERSION = 1
"""Raised whenever the same sound would give another spectrogram: those that are kept do not count any more."""


def mel_db(reader: Reader, width: int, n_mels: int) -> np.ndarray:
    """The spectrogram in dB, float32 (n_mels, width), low bands first; a column is the mean power of its time."""
    hop_length = int(np.clip(reader.frames / width / 2, 256, N_FFT // 2))
    bank = _bank(reader.sample_rate, n_mels)
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
        np.add.at(total, columns, power @ bank.T)
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
    import librosa

    high_hz = min(RANGE_HZ[1], sample_rate / 2)
    return np.asarray(librosa.mel_frequencies(n_mels + 2, fmin=RANGE_HZ[0], fmax=high_hz)[1:-1])


def _with_end(blocks: Iterable[Block], channels: int) -> Iterator[Block]:
    """The blocks, then silence so that the last window is centred on the last frame."""
    yield from blocks
    yield np.zeros((channels, N_FFT // 2), np.float32)


@lru_cache(maxsize=8)
def _bank(sample_rate: int, n_mels: int) -> np.ndarray:
    import librosa

    high_hz = min(RANGE_HZ[1], sample_rate / 2)
    return librosa.filters.mel(sr=sample_rate, n_fft=N_FFT, n_mels=n_mels, fmin=RANGE_HZ[0], fmax=high_hz, norm=None)
