"""Non-negative matrix factorisation (NMF) of the magnitude spectrogram, blind or guided by recorded bass notes.

Conventions
- A spectrogram has shape (windows, bins): row t is the spectrum of window t, bin k lies at k * sample_rate / n_fft.
- V ~ H @ W with activations H (windows, components) and spectra W (components, bins), all float32 and never negative.
- One factorisation serves all channels: V is the mean of their magnitudes, and each channel is masked by the same mask.
- The mask is the bass's share, the guitar takes the rest: bass + guitar is the mixture, for soft and hard masks alike.

Blind (guide "none"): all components start at random, and each goes to bass or guitar by its pitch and centroid.

Guided (guide "notes"): the bass line is found first. A dictionary of recorded bass notes shows how well each pitch
explains each window, and the Viterbi algorithm finds the best line of one note at a time. Each note of the line gets a
component of its own. It starts as that note in the dictionary, is active only where the line has the note, and adapts
to its sound in the recording; further random components model the guitars. Pitch and centroid decide again, now
gradually, and with a higher split for components of the bass line.

Unlike the other backends this one holds the track in memory: about 85 bytes per frame at its peak
(900 MB for four minutes at 44.1 kHz).

References
- D. D. Lee, H. S. Seung: Algorithms for non-negative matrix factorization. NIPS 2001. (multiplicative updates)
- P. Smaragdis, J. C. Brown: Non-negative matrix factorization for polyphonic music transcription. WASPAA 2003.
- J.-L. Durrieu, B. David, G. Richard: A musically motivated mid-level representation for pitch estimation and musical
  audio source separation. IEEE J. Sel. Topics Signal Process. 5(6), 2011. (one line tracked, then refitted)
- S. Ewert, M. Mueller: Using score-informed constraints for NMF-based source separation. ICASSP 2012.
- A. M. Noll: Pitch determination of human speech by the harmonic product spectrum, the harmonic sum spectrum, and a
  maximum likelihood estimate. 1969.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import scipy
from pydantic import Field

from ..audio import BLOCK_FRAMES, Block, Reader, overlap_add
from ..stemnames import BASS_AND_GUITAR
from ..store.identity import file_hash
from .backend import Context
from .compute import one_blas_thread, threads
from .settings import BackendSettings

NOTES_FILE = Path(__file__).with_name("bass_notes.npz")

SPANS = 8
"""Parts of the track that are factorised in parallel."""

BLOCK_WINDOWS = 128
"""Windows processed at once, so that their part of the spectrogram stays in the processor's cache."""

TINY = np.float32(1e-9)
"""Activations and spectra below this are set to zero, as denormal floats are slow. The mean magnitude is one."""

BANDWIDTH_HZ = 3200.0
"""A guided separation gives everything above to the guitar; 99.8 % of a bass guitar's energy is below."""

STEEPNESS = 8
"""The bass's share of a guided component falls with this power of its frequency over the split."""

GUITAR_LOW_HZ = 70.0
"""Below the lowest string of a guitar, 82 Hz, and its spectral lobe: only the bass line's components reach lower."""

LINE_ROOM = 1.3
"""Factor by which the split is higher for the components of the bass line."""

LINE_TILT_HZ = 500.0
"""Corner frequency of the 6 dB/oct low-pass before the bass line is tracked."""

LINE_JUMP = 0.15
"""Cost of a change of note in the bass line, in nats per unit of mean window level."""

LINE_FLOOR = 0.01
"""Least value of a note's spectrum, of unit sum, in every bin, so that other instruments do not rule a note out."""

LINE_LOBE_BINS, LOBE_BINS = 2.0, 1.0
"""Width of a partial, as the standard deviation of a Gaussian in bins: wide while tracking the bass line, as strings
may be out of tune, and that of the Hann window for the components."""

INHARMONICITY = 5e-5
"""Stiffness of a string: partial n lies at n * f0 * sqrt(1 + INHARMONICITY * n^2)."""


class Settings(BackendSettings):
    """The settings of this backend in a preset.

    guide: none, or notes to follow the bass line with the dictionary of recorded bass notes (give it n_fft 8192).
    n_components: number of spectra; with a guide, those of the bass line's notes are added.
    n_iterations: number of multiplicative updates of activations and spectra.
    n_fft: frames in a window at 44.1 and 48 kHz; other sample rates keep its duration. The hop is a quarter of it.
    mask: soft splits every time-frequency cell by shares, hard gives it to the louder instrument.
    power: exponent of the magnitudes in a soft mask; 1 compares magnitudes, 2 is a Wiener filter.
    split_hz: a component is bass if the geometric mean of its pitch and its centroid is below this.
    """

    guide: Literal["none", "notes"] = "none"
    n_components: Annotated[int, Field(ge=2, le=512)] = 32
    n_iterations: Annotated[int, Field(ge=1, le=10_000)] = 200
    n_fft: Annotated[int, Field(ge=1024, le=8192)] = 2048
    mask: Literal["soft", "hard"] = "soft"
    power: Annotated[float, Field(ge=0.1, le=10.0)] = 1.0
    split_hz: Annotated[float, Field(ge=20.0, le=2000.0)] = 250.0


@dataclass(frozen=True, eq=False)
class Notes:
    """Recorded bass notes, one per row: MIDI pitch, instrument, and the amplitudes of the partials, of unit sum.

    Shapes (notes,), (notes,) and (notes, partials).
    """

    pitch: np.ndarray
    instrument: np.ndarray
    partials: np.ndarray

    def without(self, instruments: Sequence[str]) -> Notes:
        """The notes of the other instruments."""
        keep = ~np.isin(self.instrument, instruments)
        return Notes(self.pitch[keep], self.instrument[keep], self.partials[keep])

    def spectra(self, frequency: np.ndarray, lobe_bins: float) -> np.ndarray:
        """Magnitude spectra (notes, bins), of unit sum, at evenly spaced frequencies (bins,) from 0 Hz on.

        Each partial is a Gaussian of standard deviation `lobe_bins`.
        """
        spectra = np.empty((len(self.pitch), len(frequency)), np.float32)
        for pitch in np.unique(self.pitch):
            series = partials_hz(midi_to_hz(pitch), self.partials.shape[1])
            lobes = np.exp(-0.5 * ((frequency - series[:, np.newaxis]) / (lobe_bins * frequency[1])) ** 2)
            spectra[self.pitch == pitch] = self.partials[self.pitch == pitch] @ lobes
        result: np.ndarray = spectra / (spectra.sum(axis=1, keepdims=True) + TINY)
        return result


@cache
def load_notes() -> Notes:
    """The dictionary inside gbsep, made by scripts/learn_notes.py."""
    with np.load(NOTES_FILE, allow_pickle=False) as arrays:
        return Notes(arrays["pitch"].astype(int), arrays["instrument"], arrays["partials"].astype(np.float32))


def stem_names(settings: Settings, models_dir: Path | None = None) -> tuple[str, ...]:
    return BASS_AND_GUITAR


def identity(settings: Settings, context: Context) -> dict[str, Any]:
    """What changes the stems, besides settings and seed: the dictionary, and numpy and scipy."""
    return {
        "engine": "numpy float32",
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "threads": 1,
        "notes": file_hash(NOTES_FILE) if settings.guide == "notes" else None,
    }


def run(reader: Reader, settings: Settings, context: Context) -> Iterator[dict[str, Block]]:
    """Yield the wanted stems' blocks, which add up to the mixture."""
    mixture = reader.read().samples
    # BLAS loses time when it splits products of this size; `factorise` splits the windows among threads instead.
    with one_blas_thread():
        bass = separate_bass(mixture, reader.sample_rate, settings, context)
    for start in range(0, reader.frames, BLOCK_FRAMES):
        block = slice(start, start + BLOCK_FRAMES)
        stems = {"bass": bass[:, block], "guitar": mixture[:, block] - bass[:, block]}
        yield {name: stems[name] for name in context.wanted}


def separate_bass(
    mixture: np.ndarray, sample_rate: int, settings: Settings, context: Context, notes: Notes | None = None
) -> np.ndarray:
    """The bass in `mixture`, both float32 (channels, frames). `notes` replaces the dictionary inside gbsep."""
    frames = mixture.shape[1]
    n_fft = max(16, 4 * round(settings.n_fft * 2.0 ** round(np.log2(sample_rate / 44_100)) / 4))
    magnitude = np.zeros(spectrogram_shape(frames, n_fft), np.float32)
    for channel in mixture:
        magnitude += np.abs(stft(channel, n_fft))
    magnitude /= max(magnitude.mean(dtype=np.float64), np.finfo(np.float32).tiny)
    frequency = np.arange(magnitude.shape[1]) * (sample_rate / n_fft)
    if settings.guide == "notes":
        mask = np.zeros_like(magnitude)
        band = slice(int(np.searchsorted(frequency, BANDWIDTH_HZ)))
        in_band = np.ascontiguousarray(magnitude[:, band])
        mask[:, band] = guided_mask(in_band, frequency[band], settings, context, notes or load_notes())
    else:
        mask = blind_mask(magnitude, frequency, settings, context)
    return np.stack([istft(stft(channel, n_fft) * mask, frames) for channel in mixture])


def blind_mask(magnitude: np.ndarray, frequency: np.ndarray, settings: Settings, context: Context) -> np.ndarray:
    """The bass's share of each cell of `magnitude` (windows, bins), by blind NMF."""
    activations, spectra = random_components(magnitude.shape, settings.n_components, context.rng)
    factorise(magnitude, activations, spectra, settings.n_iterations, context.progress)
    return bass_mask(activations, spectra, component_hz(spectra, frequency) < settings.split_hz, settings)


def guided_mask(
    magnitude: np.ndarray, frequency: np.ndarray, settings: Settings, context: Context, notes: Notes
) -> np.ndarray:
    """The bass's share of each cell of `magnitude` (windows, bins), by NMF guided by `notes`."""
    line = bass_line(magnitude, frequency, notes)
    pitches = np.unique(line)
    activations, spectra = random_components(magnitude.shape, len(pitches) + settings.n_components, context.rng)
    played = line[:, np.newaxis] == pitches
    active = played.copy()
    active[1:] |= played[:-1]
    active[:-1] |= played[1:]
    activations[:, : len(pitches)] *= active
    recorded = notes.spectra(frequency, LOBE_BINS)
    spectra[len(pitches) :, frequency < GUITAR_LOW_HZ] = 0
    for spectrum, pitch in zip(spectra, pitches, strict=False):
        spectrum *= len(frequency) * recorded[notes.pitch == pitch].mean(axis=0)
    factorise(magnitude, activations, spectra, settings.n_iterations, context.progress)
    split_hz = np.full(len(spectra), settings.split_hz)
    split_hz[: len(pitches)] *= LINE_ROOM
    share = 1 / (1 + (component_hz(spectra, frequency) / split_hz) ** STEEPNESS)
    return bass_mask(activations, spectra, share, settings)


def random_components(
    shape: tuple[int, int], n_components: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Activations and spectra for a spectrogram of `shape`, uniform in 0.5 to 1.5, so that none is zero or equal."""
    windows, bins = shape
    half = np.float32(0.5)
    activations = rng.random((windows, n_components), dtype=np.float32) + half
    return activations, rng.random((n_components, bins), dtype=np.float32) + half


def bass_line(magnitude: np.ndarray, frequency: np.ndarray, notes: Notes) -> np.ndarray:
    """MIDI pitch of the bass in each window of `magnitude`: the most likely line of one note at a time (Viterbi).

    A note's likelihood is the multinomial one of the window's magnitudes under the note's spectrum.
    """
    observed = magnitude / (1 + frequency / LINE_TILT_HZ).astype(np.float32)
    likelihood = observed @ np.log(notes.spectra(frequency, LINE_LOBE_BINS) + np.float32(LINE_FLOOR)).T
    likelihood /= observed.sum(axis=1).mean() + TINY
    pitches = np.unique(notes.pitch)
    score = np.stack([likelihood[:, notes.pitch == pitch].max(axis=1) for pitch in pitches], axis=1)
    came_from = np.empty(score.shape, np.intp)
    best = np.zeros(len(pitches))
    for window, now in enumerate(score):
        jump = best.max() - LINE_JUMP
        came_from[window] = np.where(best >= jump, np.arange(len(pitches)), best.argmax())
        best = np.maximum(best, jump) + now
    line = np.empty(len(score), np.intp)
    state = best.argmax()
    for window in reversed(range(len(score))):
        line[window] = state
        state = came_from[window, state]
    return pitches[line]


def factorise(
    magnitude: np.ndarray,
    activations: np.ndarray,
    spectra: np.ndarray,
    n_iterations: int,
    progress: Callable[[float], None] = lambda fraction: None,
) -> None:
    """Fit `activations` (windows, components) @ `spectra` (components, bins) to `magnitude` (windows, bins), in place.

    Multiplicative updates for the Kullback-Leibler divergence (Lee & Seung), activations first, then spectra; zeros
    stay zeros. SPANS parts of the track are processed in parallel, block by block, and their parts of the spectra's
    update are summed in order, so the result does not depend on the number of threads.
    """
    bounds = np.linspace(0, len(magnitude), SPANS + 1).astype(int)
    spans = [slice(*bound) for bound in itertools.pairwise(bounds)]
    with ThreadPoolExecutor(min(SPANS, threads())) as pool:
        for iteration in range(n_iterations):
            weights = np.ascontiguousarray((spectra / (spectra.sum(axis=1, keepdims=True) + TINY)).T)
            parts = [(magnitude[span], activations[span], spectra, weights) for span in spans]
            update = sum(pool.map(_update_span, *zip(*parts, strict=True)))
            spectra *= update / (activations.sum(axis=0)[:, np.newaxis] + TINY)
            spectra[spectra < TINY] = 0
            progress((iteration + 1) / n_iterations)


def _update_span(
    magnitude: np.ndarray, activations: np.ndarray, spectra: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Update `activations` in place; return these windows' part of the numerator of the spectra's update."""
    buffer = np.empty((BLOCK_WINDOWS, magnitude.shape[1]), np.float32)
    update = np.zeros_like(spectra)
    for start in range(0, len(magnitude), BLOCK_WINDOWS):
        block = slice(start, start + BLOCK_WINDOWS)
        active = activations[block]
        active *= _ratio(magnitude[block], active, spectra, buffer) @ weights
        active[active < TINY] = 0
        update += active.T @ _ratio(magnitude[block], active, spectra, buffer)
    return update


def _ratio(magnitude: np.ndarray, activations: np.ndarray, spectra: np.ndarray, buffer: np.ndarray) -> np.ndarray:
    """`magnitude` divided by its model, written to `buffer`."""
    model = np.matmul(activations, spectra, out=buffer[: len(magnitude)])
    model += TINY
    result: np.ndarray = np.divide(magnitude, model, out=model)
    return result


def bass_mask(activations: np.ndarray, spectra: np.ndarray, share: np.ndarray, settings: Settings) -> np.ndarray:
    """The mask, float32 (windows, bins) in 0 to 1, when the bass has a `share` (components,) of each component."""
    bass_spectra = spectra * share[:, np.newaxis].astype(np.float32)
    guitar_spectra = spectra - bass_spectra
    mask = np.empty((len(activations), spectra.shape[1]), np.float32)
    for start in range(0, len(mask), BLOCK_WINDOWS):
        block = slice(start, start + BLOCK_WINDOWS)
        bass = activations[block] @ bass_spectra + TINY
        guitar = activations[block] @ guitar_spectra + TINY
        mask[block] = bass > guitar if settings.mask == "hard" else 1 / (1 + (guitar / bass) ** settings.power)
    return mask


def component_hz(spectra: np.ndarray, frequency: np.ndarray) -> np.ndarray:
    """Geometric mean of pitch and centroid of each spectrum (components, bins)."""
    centroid = spectra @ frequency / (spectra.sum(axis=1) + TINY)
    result: np.ndarray = np.sqrt(pitch_hz(spectra, frequency) * centroid)
    return result


def pitch_hz(spectra: np.ndarray, frequency: np.ndarray) -> np.ndarray:
    """Pitch of each spectrum (components, bins): the harmonic series, C1 to C6, of largest weighted sum (Noll)."""
    candidates = midi_to_hz(np.arange(24, 84.25, 0.5))
    number = np.arange(1, 11)
    series = np.outer(candidates, number)
    salience = [np.interp(series, frequency, spectrum, right=0.0) @ 0.8**number for spectrum in spectra]
    result: np.ndarray = candidates[np.argmax(salience, axis=1)]
    return result


def midi_to_hz(pitch: Any) -> Any:
    """Frequency of MIDI pitches in equal temperament, A4 = 69 = 440 Hz."""
    return 440.0 * 2.0 ** ((pitch - 69) / 12)


def partials_hz(f0_hz: float, count: int) -> np.ndarray:
    """Frequencies of the first `count` partials of a stiff string with fundamental `f0_hz`."""
    number = np.arange(1, count + 1)
    result: np.ndarray = f0_hz * number * np.sqrt(1 + INHARMONICITY * number**2)
    return result


def spectrogram_shape(frames: int, n_fft: int) -> tuple[int, int]:
    """(windows, bins) of `stft` for a signal of `frames` frames."""
    hop_length = n_fft // 4
    return -(-(frames + n_fft - hop_length) // hop_length), n_fft // 2 + 1


def hann(n_fft: int) -> np.ndarray:
    """The periodic Hann window, scaled so that windowing twice at a hop of n_fft / 4 sums to one."""
    result: np.ndarray = (np.sqrt(2 / 3) * scipy.signal.get_window("hann", n_fft)).astype(np.float32)
    return result


def stft(signal: np.ndarray, n_fft: int) -> np.ndarray:
    """Short-time Fourier transform of `signal` (frames,), hop n_fft / 4: complex64, shape (windows, bins).

    The signal is padded with silence, so that each frame lies in four windows and `istft` is the exact inverse.
    """
    hop_length = n_fft // 4
    windows, _ = spectrogram_shape(len(signal), n_fft)
    lead = n_fft - hop_length
    padded = np.zeros((windows - 1) * hop_length + n_fft, np.float32)
    padded[lead : lead + len(signal)] = signal
    cut = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop_length]
    result: np.ndarray = scipy.fft.rfft(cut * hann(n_fft), axis=1)
    return result


def istft(spectrogram: np.ndarray, frames: int) -> np.ndarray:
    """The signal, float32 (frames,), whose `stft` is closest to `spectrogram`: weighted overlap-add."""
    n_fft = 2 * (spectrogram.shape[1] - 1)
    hop_length = n_fft // 4
    cut = scipy.fft.irfft(spectrogram, n_fft, axis=1) * hann(n_fft)
    lead = n_fft - hop_length
    return overlap_add(cut, hop_length)[lead : lead + frames]
