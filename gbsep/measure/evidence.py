"""What diagnosis rests on: powers, coherences and projections of mixture and stems, measured in one pass.

Conventions: signals are first brought down to about LOWERED_HZ by plain averages of neighbouring frames. What that
folds into the range is the same for a stem and for what leaked from it, so no relation between signals changes, and it
is weak where anything is looked at. Spectra are of WINDOW_S, Hann, half overlapping; SPAN_WINDOWS of them make a span,
for which one row of sums is kept, so memory grows by some hundred bytes a second. Powers are summed over channels.

- Coherence: two instruments are not coherent. The magnitude-squared coherence of a stem with one that it is no part of
  is about 1 over the number of windows in a span; with one that leaked into it, it is 1. `shared` is the power in a
  stem that is coherent with its partner, bin by bin, at most all of it.
- Projection: the gain with which a stem is found in the mixture, <stem, mixture> / <stem, stem>, is 1 for a true stem
  whatever plays beside it. What a separator took away, it raises. Its imaginary part holds only chance correlation with
  what else plays, which the real part has too: so it says how far that is to be trusted.
- Pitch: that of a window is its lowest spectral peak within PARTIAL_DB of the highest: for one note its fundamental
  unless that is weak, for a chord its lowest note.

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
"""A signal whose RMS is below this is taken to be silent."""

WINDOW_S = 0.19
SPAN_WINDOWS = 22
"""2 s."""

LOWERED_HZ = 11025
RANGE_HZ = (25.0, 5000.0)
PITCH_HZ = (25.0, 4000.0)
PARTIAL_DB = -15.0
CLIP_TOLERANCE = 1e-4


@dataclass(frozen=True, eq=False)
class Evidence:
    """What was measured of stems and their mixture.

    `rows` has an entry for each span under (stem, what) and `windows` one for each window of the bass;
    `samples` says of every stem what its samples tell. `bass` and `partner` are names of stems, or None; `restored_db`
    is by how much each stem's level was already restored.
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
        """A row, summed over `spans` spans around each."""
        return moving_sum(self.rows[stem, what], spans)


def measure(mixture: Reader, stems: Mapping[str, Reader], restored_db: Mapping[str, float] | None = None) -> Evidence:
    """One pass over the mixture and the stems, all of one shape and rate."""
    bass = BASS if BASS in stems else None
    partner = next(iter(partners(stems)), None)
    heard = [name for name in (bass, partner) if name is not None]
    places = [0, *(1 + list(stems).index(name) for name in heard)]
    samples = {name: SampleCheck() for name in stems}
    rows: dict[tuple[str, str], list[np.ndarray]] = {}
    windows: dict[str, list[np.ndarray]] = {"product": [], "power": [], "pitch_hz": []}
    for blocks, lowered, frequencies, spectra in spectrogram([mixture, *stems.values()], places):
        for name, block in zip(stems, blocks[1:], strict=True):
            samples[name].add(block)
        residual = lowered[0] - np.sum(lowered[1:], axis=0)
        row: dict[tuple[str, str], Any] = {
            ("mixture", "frames"): blocks[0].shape[1],
            ("mixture", "energy"): energy(lowered[0]),
            ("residual", "energy"): energy(residual),
        }
        powers = {name: power(spectrum) for name, spectrum in zip(("mixture", *heard), spectra, strict=True)}
        bins = {name: windowed.sum(0, dtype=np.float64) for name, windowed in powers.items()}
        for name in bins:
            row.update({(name, what): value for what, value in _bands(bins[name], frequencies).items()})
        for name, spectrum in zip(heard, spectra[1:], strict=True):
            row[name, "register"], pitch_hz = register_sums(powers[name], frequencies)
            row[name, "in_mixture"] = _inner(spectrum, spectra[0])
            if name == bass:
                body = (frequencies >= BASS_BODY_HZ[0]) & (frequencies < BASS_BODY_HZ[1])
                windows["product"].append((spectrum[..., body].conj() * spectra[0][..., body]).sum((0, 2)))
                windows["power"].append(powers[name][:, body].sum(1))
                windows["pitch_hz"].append(pitch_hz)
        if len(heard) == 2:
            row["pair", "product"] = _inner(*spectra[1:])
            row.update(_shared(heard, spectra[1:], bins, frequencies))
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
    """The sum over `count` entries around each (one more before it where `count` is even), at the ends over the first
    or the last `count`; over all where there are not so many."""
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
    """What samples tell: frames, energy, sum of each channel, peak, and how many pairs in a row lie at the peak."""

    frames: int = 0
    energy: float = 0.0
    peak: float = 0.0
    clipped: int = 0
    sums: np.ndarray = field(default_factory=lambda: np.zeros(1))

    def add(self, block: Block) -> None:
        """Take the next block, shape (channels, n)."""
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
    """The power in each of two stems that is coherent with the other, by band."""
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
    """Sums over power spectra (windows, bins), and the pitch of each window, NaN where there is none.

    The sums are of power, power below GUITAR_LOW_HZ, power above ABOVE_BASS_HZ, magnitude, and magnitude times log
    pitch.
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
    """Frames from one window to the next."""
    factor = _factor(sample_rate)
    result: int = factor * 2 ** round(math.log2(WINDOW_S * sample_rate / factor)) // 2
    return result


def _factor(sample_rate: int) -> int:
    return max(1, round(sample_rate / LOWERED_HZ))


def _lower(block: Block, factor: int) -> Block:
    """Sums of `factor` neighbouring frames each, over sqrt(factor): sines far below the new rate keep their power."""
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
    """For each span of all signals the new samples, the same lowered, the bins in RANGE_HZ, and of those at the places
    in `chosen` the spectra that these samples complete, complex64 (channels, windows, bins)."""
    rate, channels = readers[0].sample_rate, readers[0].channels
    factor = _factor(rate)
    hop = hop_length(rate) // factor
    bins = np.fft.rfftfreq(2 * hop, factor / rate)
    inside = slice(*np.searchsorted(bins, (RANGE_HZ[0], RANGE_HZ[1] + 1e-9)))
    window = scipy.signal.get_window("hann", 2 * hop).astype(np.float32)
    held = {place: np.zeros((channels, hop), np.float32) for place in chosen}
    span = SPAN_WINDOWS * hop * factor
    for blocks in zip_blocks(*(rechunk(reader.blocks(span), span) for reader in readers)):
        lowered = [_lower(block, factor) for block in blocks]
        padding = np.zeros((channels, -lowered[0].shape[1] % hop), np.float32)
        spectra = []
        for place in chosen:
            signal = np.concatenate([held[place], lowered[place], padding], axis=1)
            windows = np.lib.stride_tricks.sliding_window_view(signal, 2 * hop, axis=1)[:, ::hop]
            spectra.append(np.ascontiguousarray(scipy.fft.rfft(windows * window)[..., inside]))
            held[place] = signal[:, -hop:]
        yield blocks, lowered, bins[inside], spectra
