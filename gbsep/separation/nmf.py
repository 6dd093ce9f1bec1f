"""Non-negative matrix factorisation (NMF) of the magnitude spectrogram.

Conventions
- A spectrogram has shape (windows, bins): row t is the spectrum of window t, bin k lies at k * sample_rate / n_fft.
- V ~ H @ W with activations H (windows, components) and spectra W (components, bins), all float32 and never negative.
- One factorisation serves all channels: V is the mean of their magnitudes, and each channel is masked by the same mask.
- The mask is the bass's share, the guitar takes the rest: bass + guitar is the mixture, for soft and hard masks alike.

This backend holds the track in memory, unlike the others: about 60 bytes per frame of a stereo track at its peak
(650 MB for four minutes at 44.1 kHz), of which the spectrogram and the mask are 8 each.

References
- D. D. Lee, H. S. Seung: Algorithms for non-negative matrix factorization. NIPS 2001. (multiplicative updates)
- P. Smaragdis, J. C. Brown: Non-negative matrix factorization for polyphonic music transcription. WASPAA 2003.
- A. M. Noll: Pitch determination of human speech by the harmonic product spectrum, the harmonic sum spectrum, and a
  maximum likelihood estimate. 1969.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import scipy
from pydantic import Field

from ..audio import BLOCK_FRAMES, Block, Reader
from . import Context
from .settings import BackendSettings

TINY = np.float32(1e-12)
"""Floor of activations and spectra: keeps every ratio finite and float32 clear of denormal numbers, which are slow."""

BLOCK_WINDOWS = 128
"""Windows handled at once: their part of the spectrogram stays in the processor's cache."""


class Settings(BackendSettings):
    """What a preset may say to this backend.

    n_components: spectra to find, shared out between bass and guitar.
    n_iterations: multiplicative updates of activations and spectra.
    n_fft: frames in a window (the hop is a quarter of it).
    mask: soft gives each instrument its share of every cell, hard gives the cell to the stronger one.
    power: exponent of the magnitudes in a soft mask; 1 compares magnitudes, 2 is a Wiener filter.
    split_hz: a component is bass where the geometric mean of its pitch and its centroid is below.
    """

    n_components: Annotated[int, Field(ge=2, le=512)] = 32
    n_iterations: Annotated[int, Field(ge=1, le=10_000)] = 200
    n_fft: Annotated[int, Field(ge=1024, le=8192)] = 2048
    mask: Literal["soft", "hard"] = "soft"
    power: Annotated[float, Field(ge=0.1, le=10.0)] = 1.0
    split_hz: Annotated[float, Field(ge=20.0, le=2000.0)] = 250.0


def stem_names(settings: Settings, models_dir: Path | None = None) -> tuple[str, ...]:
    return ("bass", "guitar")


def identity(settings: Settings, context: Context) -> dict[str, Any]:
    """What changes the stems besides settings and seed: the libraries that compute, and their threads."""
    from threadpoolctl import threadpool_info

    return {
        "engine": "numpy float32",
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "threads": max((pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"), default=1),
    }


def run(reader: Reader, settings: Settings, context: Context) -> Iterator[dict[str, Block]]:
    """Yield the wanted stems' blocks; see the module's conventions for what they add up to."""
    mixture = reader.read().samples
    magnitude = np.zeros(spectrogram_shape(reader.frames, settings.n_fft), np.float32)
    for channel in mixture:
        magnitude += np.abs(stft(channel, settings.n_fft)) / reader.channels
    mask = blind_mask(magnitude, reader.sample_rate, settings, context)
    bass = np.stack([istft(stft(channel, settings.n_fft) * mask, reader.frames) for channel in mixture])
    for start in range(0, reader.frames, BLOCK_FRAMES):
        block = slice(start, start + BLOCK_FRAMES)
        stems = {"bass": bass[:, block], "guitar": mixture[:, block] - bass[:, block]}
        yield {name: stems[name] for name in context.wanted}


def blind_mask(magnitude: np.ndarray, sample_rate: int, settings: Settings, context: Context) -> np.ndarray:
    """The bass's share of each cell of `magnitude` (windows, bins), by NMF that knows nothing of the instruments."""
    scale = np.sqrt(magnitude.mean() / settings.n_components) + TINY
    windows, bins = magnitude.shape
    activations = scale * context.rng.random((windows, settings.n_components), dtype=np.float32) + TINY
    spectra = scale * context.rng.random((settings.n_components, bins), dtype=np.float32) + TINY
    factorise(magnitude, activations, spectra, settings.n_iterations, context.progress)
    bass = is_bass(spectra, sample_rate, settings)
    return share(activations[:, bass], spectra[bass], activations[:, ~bass], spectra[~bass], settings)


def factorise(
    magnitude: np.ndarray,
    activations: np.ndarray,
    spectra: np.ndarray,
    n_iterations: int,
    progress: Callable[[float], None] = lambda fraction: None,
) -> None:
    """Fit `activations` (windows, components) @ `spectra` (components, bins) to `magnitude` (windows, bins), in place.

    Multiplicative updates for the Kullback-Leibler divergence (Lee & Seung), activations first, then spectra. Each
    block of windows is updated and then adds its part of the spectra's update while it is still in the cache.
    """
    ratio = np.empty((BLOCK_WINDOWS, magnitude.shape[1]), np.float32)
    for iteration in range(n_iterations):
        normalised = np.ascontiguousarray((spectra / spectra.sum(axis=1, keepdims=True)).T)
        update = np.zeros_like(spectra)
        for start in range(0, len(magnitude), BLOCK_WINDOWS):
            observed, active = magnitude[start : start + BLOCK_WINDOWS], activations[start : start + BLOCK_WINDOWS]
            quotient = ratio[: len(observed)]
            np.divide(observed, np.matmul(active, spectra, out=quotient), out=quotient)
            np.maximum(active * (quotient @ normalised), TINY, out=active)
            np.divide(observed, np.matmul(active, spectra, out=quotient), out=quotient)
            update += active.T @ quotient
        spectra *= update / activations.sum(axis=0)[:, np.newaxis]
        np.maximum(spectra, TINY, out=spectra)
        progress((iteration + 1) / n_iterations)


def is_bass(spectra: np.ndarray, sample_rate: int, settings: Settings) -> np.ndarray:
    """Which of the `spectra` (components, bins) are bass: booleans, by pitch and centroid and never by order."""
    frequency = np.arange(spectra.shape[1]) * sample_rate / settings.n_fft
    centroid = spectra @ frequency / spectra.sum(axis=1)
    return np.sqrt(pitch_hz(spectra, frequency) * np.maximum(centroid, 1.0)) < settings.split_hz


def pitch_hz(spectra: np.ndarray, frequency: np.ndarray) -> np.ndarray:
    """Pitch of each spectrum (components, bins): the harmonic series, C1 to C6, with the greatest weighted sum."""
    candidates = 440.0 * 2.0 ** (np.arange(24 - 69, 84 - 69 + 0.25, 0.5) / 12)
    harmonics = np.arange(1, 11)
    weights = 0.8**harmonics
    series = np.outer(candidates, harmonics).ravel()
    salience = [
        np.interp(series, frequency, spectrum, right=0.0).reshape(-1, len(harmonics)) @ weights for spectrum in spectra
    ]
    return candidates[np.argmax(salience, axis=1)]


def share(
    bass_activations: np.ndarray,
    bass_spectra: np.ndarray,
    guitar_activations: np.ndarray,
    guitar_spectra: np.ndarray,
    settings: Settings,
) -> np.ndarray:
    """The bass's share of each cell, float32 (windows, bins) in 0..1; a half where neither instrument is."""
    mask = np.empty((len(bass_activations), bass_spectra.shape[1]), np.float32)
    for start in range(0, len(mask), BLOCK_WINDOWS):
        block = slice(start, start + BLOCK_WINDOWS)
        bass = bass_activations[block] @ bass_spectra + TINY
        guitar = guitar_activations[block] @ guitar_spectra + TINY
        mask[block] = bass > guitar if settings.mask == "hard" else 1.0 / (1.0 + (guitar / bass) ** settings.power)
    return mask


def spectrogram_shape(frames: int, n_fft: int) -> tuple[int, int]:
    """(windows, bins) of `stft` for a signal of `frames` frames."""
    hop_length = n_fft // 4
    return -(-(frames + n_fft - hop_length) // hop_length), n_fft // 2 + 1


def hann(n_fft: int) -> np.ndarray:
    """The periodic Hann window, scaled so that windowing twice at a hop of n_fft / 4 sums to one."""
    return (np.sqrt(2 / 3) * scipy.signal.get_window("hann", n_fft)).astype(np.float32)


def stft(signal: np.ndarray, n_fft: int) -> np.ndarray:
    """Short-time Fourier transform of `signal` (frames,), hop n_fft / 4: complex64, shape (windows, bins).

    The signal is taken as surrounded by silence, so that each frame lies in four windows and `istft` gives it back.
    """
    hop_length = n_fft // 4
    windows, _ = spectrogram_shape(len(signal), n_fft)
    lead = n_fft - hop_length
    padded = np.zeros((windows - 1) * hop_length + n_fft, np.float32)
    padded[lead : lead + len(signal)] = signal
    cut = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop_length]
    return scipy.fft.rfft(cut * hann(n_fft), axis=1)


def istft(spectrogram: np.ndarray, frames: int) -> np.ndarray:
    """The signal, float32 (frames,), whose `stft` is nearest to `spectrogram`: weighted overlap-add."""
    n_fft = 2 * (spectrogram.shape[1] - 1)
    hop_length = n_fft // 4
    cut = scipy.fft.irfft(spectrogram, n_fft, axis=1) * hann(n_fft)
    signal = np.zeros((len(cut) + 3, hop_length), np.float32)
    for quarter in range(4):
        signal[quarter : quarter + len(cut)] += cut[:, quarter * hop_length : (quarter + 1) * hop_length]
    lead = n_fft - hop_length
    return signal.ravel()[lead : lead + frames]
