"""The measurements behind diagnosis: powers, coherences and projections of mixture and stems, in one pass.

Conventions: signals are first reduced to about REDUCED_HZ by averaging neighbouring frames. The aliases of that are the
same in a stem and in what leaked from it, so relations between signals stay as they are, and they are weak in the range
that is measured. Spectra are of WINDOW_S, Hann windows, half overlapping. SPAN_WINDOWS windows make a span, which keeps
one row of sums, so memory grows by some hundred bytes a second. Powers are summed over channels.

- Coherence: two instruments are not coherent. The magnitude-squared coherence of a stem with an instrument that it does
  not hold is about 1 over the number of windows in a span; with one that leaked into it, it is 1. `shared` is the power
  in a stem that is coherent with its partner, bin by bin, and at most all of it.
- Projection: the gain with which a stem is found in the mixture, <stem, mixture> / <stem, stem>, is 1 for a true stem,
  whatever plays beside it. It is above 1 where the separator took something away. Its imaginary part holds only chance
  correlation with the other instruments. The real part holds as much, so the imaginary part shows its uncertainty.
- Pitch: the pitch of a window is its lowest spectral peak within PARTIAL_DB of the highest one. For a single note that
  is its fundamental, unless that is weak; for a chord it is the lowest note.

References: P. D. Welch, The use of fast Fourier transform for the estimation of power spectra, IEEE Trans. Audio
Electroacoustics 15(2), 1967. G. C. Carter, Coherence and time delay estimation, Proc. IEEE 75(2), 1987.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy  # its parts, which take long to load, are loaded when they are first asked for

from ..audio import Block, Reader, rechunk, zip_blocks
from ..stemnames import ABOVE_BASS_HZ, BASS, BASS_BODY_HZ, BELOW_GUITAR_HZ, GUITAR_LOW_HZ, partners

SILENT_DBFS = -70.0
"""A signal with an RMS below this counts as silent."""

WINDOW_S = 0.19
SPAN_WINDOWS = 22
"""Windows in a span, which lasts 2 s."""

REDUCED_HZ = 11025
RANGE_HZ = (25.0, 5000.0)
PITCH_HZ = (25.0, 4000.0)
PARTIAL_DB = -15.0
CLIP_TOLERANCE = 1e-4


@dataclass(frozen=True, eq=False)
class Evidence:
    """The measurements of stems and their mixture.

    `rows` has an entry for each span under (stem, what), `windows` one for each window of the bass; `samples` are
    checks of each stem's samples. `bass` and `partner` are names of stems, or None; `restored_db` is the gain by which
    each stem's level was already restored.
    """

    seconds: float
    span_s: float
    stems: tuple[str, ...]
    bass: str | None
    partner: str | None
    restored_db: Mapping[str, float]
    rows: Mapping[tuple[str, str], np.ndarray]
    windows: Mapping[str, np.ndarray]
    samples: Mapping[str, SampleCheck]

    def other(self, stem: str) -> str:
        """The partner of the bass, the bass of its partner; empty for any other stem."""
        return {self.bass: self.partner, self.partner: self.bass}.get(stem) or ""

    def over(self, spans: int, stem: str, what: str) -> np.ndarray:
        """A row, each entry summed over the `spans` spans around it."""
        return moving_sum(self.rows[stem, what], spans)


def measure(mixture: Reader, stems: Mapping[str, Reader], restored_db: Mapping[str, float] | None = None) -> Evidence:
    """Measure the mixture and the stems, all of one shape and sample rate, in one pass."""
    bass = BASS if BASS in stems else None
    partner = next(iter(partners(stems)), None)
    pair = [name for name in (bass, partner) if name is not None]
    chosen = [0, *(1 + list(stems).index(name) for name in pair)]
    samples = {name: SampleCheck() for name in stems}
    rows: dict[tuple[str, str], list[np.ndarray]] = {}
    windows: dict[str, list[np.ndarray]] = {"product": [], "power": [], "pitch_hz": []}
    for blocks, reduced, frequencies, spectra in spectrogram([mixture, *stems.values()], chosen):
        for name, block in zip(stems, blocks[1:], strict=True):
            samples[name].add(block)
        residual = reduced[0] - np.sum(reduced[1:], axis=0)
        row: dict[tuple[str, str], Any] = {
            ("mixture", "frames"): blocks[0].shape[1],
            ("mixture", "energy"): energy(reduced[0]),
            ("residual", "energy"): energy(residual),
        }
        powers = {name: power(spectrum) for name, spectrum in zip(("mixture", *pair), spectra, strict=True)}
        bins = {name: windowed.sum(0, dtype=np.float64) for name, windowed in powers.items()}
        for name in bins:
            row.update({(name, what): value for what, value in _bands(bins[name], frequencies).items()})
        for name, spectrum in zip(pair, spectra[1:], strict=True):
            row[name, "register"], pitch_hz = register_sums(powers[name], frequencies)
            row[name, "in_mixture"] = _inner(spectrum, spectra[0])
            if name == bass:
                body = (frequencies >= BASS_BODY_HZ[0]) & (frequencies < BASS_BODY_HZ[1])
                windows["product"].append((spectrum[..., body].conj() * spectra[0][..., body]).sum((0, 2)))
                windows["power"].append(powers[name][:, body].sum(1))
                windows["pitch_hz"].append(pitch_hz)
        if len(pair) == 2:
            row["pair", "product"] = _inner(*spectra[1:])
            row.update(_shared(pair, spectra[1:], bins, frequencies))
        for key, value in row.items():
            rows.setdefault(key, []).append(np.asarray(value, np.float64))
    rate = mixture.sample_rate
    return Evidence(
        seconds=mixture.frames / rate,
        span_s=SPAN_WINDOWS * hop_length(rate) / rate,
        stems=tuple(stems),
        bass=bass,
        partner=partner,
        restored_db=dict(restored_db or {}),
        rows={key: np.array(values) for key, values in rows.items()},
        windows={name: np.concatenate(values) for name, values in windows.items() if values},
        samples=samples,
    )


def moving_sum(values: np.ndarray, count: int) -> np.ndarray:
    """Moving sum over the `count` entries around each one, with one more before it than after where `count` is even.

    At the ends it is the sum of the first or last `count` entries; with fewer entries, of all.
    """
    count = min(count, len(values))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    first = np.clip(np.arange(len(values)) - count // 2, 0, len(values) - count)
    result: np.ndarray = sums[first + count] - sums[first]
    return result


def energy(block: Block) -> float:
    """Sum of squares over all frames and channels."""
    return float(np.einsum("ij,ij->", block, block))


@dataclass
class SampleCheck:
    """Frames, energy, sum of each channel, peak, and number of neighbouring pairs of samples at the peak (clipping)."""

    frames: int = 0
    energy: float = 0.0
    peak: float = 0.0
    clipped: int = 0
    sums: np.ndarray = field(default_factory=lambda: np.zeros(1))

    def add(self, block: Block) -> None:
        """Add the next block, shape (channels, n)."""
        peak = max(float(block.max()), -float(block.min()))
        if peak > self.peak * (1 + CLIP_TOLERANCE):
            self.peak, self.clipped = peak, 0
        if peak >= self.peak * (1 - CLIP_TOLERANCE):
            top = np.abs(block) >= self.peak * (1 - CLIP_TOLERANCE)
            self.clipped += int(np.count_nonzero(top[:, 1:] & top[:, :-1]))
        self.sums = self.sums + block.sum(axis=1)
        self.energy += energy(block) / len(block)
        self.frames += block.shape[1]


def power(spectrum: np.ndarray) -> np.ndarray:
    """Power summed over channels, shape (windows, bins)."""
    result: np.ndarray = (np.square(spectrum.real) + np.square(spectrum.imag)).sum(0)
    return result


def _inner(a: np.ndarray, b: np.ndarray) -> float:
    """The real part of the inner product of two spectra."""
    return float(np.einsum("cwb,cwb->", a.view(np.float32), b.view(np.float32)))


def _bands(bins: np.ndarray, frequencies: np.ndarray) -> dict[str, float]:
    return {
        "range": bins.sum(),
        "deep": bins[frequencies < BELOW_GUITAR_HZ].sum(),
        "high": bins[frequencies > ABOVE_BASS_HZ].sum(),
    }


def _shared(
    names: Sequence[str], spectra: Sequence[np.ndarray], bins: Mapping[str, np.ndarray], frequencies: np.ndarray
) -> dict[tuple[str, str], float]:
    """The power in each of two stems that is coherent with the other stem, by band."""
    crossed = np.einsum("cwb,cwb->b", spectra[0].conj(), spectra[1])
    coherent = np.square(np.abs(crossed), dtype=np.float64)
    row = {}
    for name, other in (names, names[::-1]):
        # A stem without power in a bin shares nothing there.
        gain = np.divide(coherent, bins[other], out=np.zeros_like(coherent), where=bins[other] > 0)
        shared = np.minimum(gain, bins[name])
        row[name, "shared"] = shared.sum()
        row[name, "shared_deep"] = shared[frequencies < BELOW_GUITAR_HZ].sum()
        row[name, "shared_high"] = shared[frequencies > ABOVE_BASS_HZ].sum()
    return row


def register_sums(power: np.ndarray, frequencies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums over power spectra (windows, bins), shape (5,), and the pitch of each window in Hz, NaN without one.

    The sums are power, power below GUITAR_LOW_HZ, power above ABOVE_BASS_HZ, magnitude, and magnitude times log pitch.
    """
    inside = frequencies <= PITCH_HZ[1]
    power, frequencies = power[:, inside], frequencies[inside]
    inner = power[:, 1:-1]
    audible = inner > power.max(1, keepdims=True) * 10 ** (PARTIAL_DB / 10)
    peaks = audible & (inner > power[:, :-2]) & (inner >= power[:, 2:])
    found = peaks.any(1)
    pitch_hz = np.full(len(power), np.nan)
    pitch_hz[found] = frequencies[1:-1][peaks[found].argmax(1)]
    magnitudes = np.sqrt(power[found].sum(1, dtype=np.float64))
    log_pitch = (magnitudes * np.log(pitch_hz[found])).sum()
    bins = power.sum(0, dtype=np.float64)
    low, high = bins[frequencies < GUITAR_LOW_HZ].sum(), bins[frequencies > ABOVE_BASS_HZ].sum()
    return np.array([bins.sum(), low, high, magnitudes.sum(), log_pitch]), pitch_hz


def hop_length(sample_rate: int) -> int:
    """Frames from one window to the next at `sample_rate`."""
    factor = _factor(sample_rate)
    result: int = factor * 2 ** round(math.log2(WINDOW_S * sample_rate / factor)) // 2
    return result


def _factor(sample_rate: int) -> int:
    return max(1, round(sample_rate / REDUCED_HZ))


def _reduced(block: Block, factor: int) -> Block:
    """Sums of `factor` neighbouring frames, over sqrt(factor): sines far below the new rate keep their power."""
    if factor == 1:
        return block
    if block.shape[1] % factor:
        block = np.pad(block, ((0, 0), (0, -block.shape[1] % factor)))
    total = block[:, ::factor] + block[:, 1::factor]
    for place in range(2, factor):
        total += block[:, place::factor]
    result: Block = total * np.float32(1 / math.sqrt(factor))
    return result


def spectrogram(
    readers: Sequence[Reader], chosen: Sequence[int]
) -> Iterator[tuple[tuple[Block, ...], list[Block], np.ndarray, list[np.ndarray]]]:
    """For each span: blocks of all signals, the same at the reduced rate, frequencies of the bins in RANGE_HZ, spectra.

    Spectra are complex64 (channels, windows, bins), of the signals with their indices in `chosen`.
    """
    rate, channels = readers[0].sample_rate, readers[0].channels
    factor = _factor(rate)
    hop = hop_length(rate) // factor
    bins = np.fft.rfftfreq(2 * hop, factor / rate)
    inside = slice(*np.searchsorted(bins, (RANGE_HZ[0], RANGE_HZ[1] + 1e-9)))
    window = scipy.signal.get_window("hann", 2 * hop).astype(np.float32)
    held = {place: np.zeros((channels, hop), np.float32) for place in chosen}
    span = SPAN_WINDOWS * hop * factor
    for blocks in zip_blocks(*(rechunk(reader.blocks(span), span) for reader in readers)):
        reduced = [_reduced(block, factor) for block in blocks]
        padding = np.zeros((channels, -reduced[0].shape[1] % hop), np.float32)
        spectra = []
        for place in chosen:
            signal = np.concatenate([held[place], reduced[place], padding], axis=1)
            windows = np.lib.stride_tricks.sliding_window_view(signal, 2 * hop, axis=1)[:, ::hop]
            spectra.append(np.ascontiguousarray(scipy.fft.rfft(windows * window)[..., inside]))
            held[place] = signal[:, -hop:]
        yield blocks, reduced, bins[inside], spectra
