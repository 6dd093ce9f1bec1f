"""How close estimates are to the true stems.

Conventions: the reference is the true stem, the estimate what a separator made. Figures are in dB over all channels of
a whole track; None where a figure is undefined (a silent reference) or infinite (an identical estimate), and then a
note says why. `over_time` has the same figures in windows of WINDOW_S.

- sdr: signal-to-distortion ratio of the whole track, 10 log10(sum r^2 / sum (r - e)^2): the Music Demixing challenges.
- sdr_bsseval_v4: the median of that ratio over windows of 1 s in which every source sounds: BSS Eval v4 of the signal
  separation campaigns, as museval computes it. Its distortion filters do not affect its SDR, so none are needed here.
- si_sdr: scale-invariant SDR: the same with the reference scaled by the gain that fits the estimate best.
- bleed_db: power of the other sources in the estimate relative to that of its own source; lower is better. In every
  window and third of an octave the estimate is projected onto its reference and the sum of the others, with a complex
  gain each. So what a separator lets through in one register, or for a while, counts; artefacts do not.

References: Y. Mitsufuji et al., Music Demixing Challenge 2021, Frontiers in Signal Processing 1 (2022). F.-R. Stoter,
A. Liutkus and N. Ito, The 2018 Signal Separation Evaluation Campaign, LVA/ICA 2018. J. Le Roux et al., SDR: half-baked
or well done?, ICASSP 2019. E. Vincent et al., Performance measurement in blind audio source separation, IEEE TASLP
14(4), 2006: projection onto the other sources as interference.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy  # its parts, which take long to load, are loaded when they are first asked for

from ..audio import Audio, Block, Reader, rechunk, zip_blocks
from ..errors import AudioError, ParameterError
from ..io.resample import resample
from .shift import ratio_db, shift_notes, until

WINDOW_S = 1.0

NOTHING_DB = -120.0
"""Bleeding below this is rounding noise of float32."""

THIRDS_HZ = 1000.0 * 2.0 ** (np.arange(-16, 14) / 3)
"""Edges of the bands for bleeding, 25 Hz to 20 kHz; all below is one more band, and so is all above."""


@dataclass(frozen=True)
class Score:
    """The figures of one stem, see the module; `over_time` has "time_s" (starts of windows), "sdr", "bleed_db"."""

    sdr: float | None
    sdr_bsseval_v4: float | None
    si_sdr: float | None
    bleed_db: float | None
    over_time: Mapping[str, tuple[float | None, ...]]
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The fields by name, numbers rounded to a thousandth of a dB."""
        return {
            "sdr": _rounded(self.sdr),
            "sdr_bsseval_v4": _rounded(self.sdr_bsseval_v4),
            "si_sdr": _rounded(self.si_sdr),
            "bleed_db": _rounded(self.bleed_db),
            "over_time": {name: [_rounded(value) for value in row] for name, row in self.over_time.items()},
            "notes": list(self.notes),
        }


def sdr(reference: Audio, estimate: Audio) -> float:
    """Signal-to-distortion ratio in dB over all frames and channels: 10 log10(sum r^2 / sum (r - e)^2).

    Infinite for identical signals, -inf for a silent reference. Raises AudioError when the shapes or rates differ.

    >>> truth = Audio(np.ones(100), 44100)
    >>> round(sdr(truth, Audio(np.full(100, 0.9), 44100)), 3)
    20.0
    """
    if reference.samples.shape != estimate.samples.shape or reference.sample_rate != estimate.sample_rate:
        raise AudioError(f"{reference} cannot be compared with {estimate}")
    signal = float(np.sum(reference.samples.astype(np.float64) ** 2))
    error = float(np.sum((reference.samples.astype(np.float64) - estimate.samples) ** 2))
    return ratio_db(signal, error)


def evaluate(estimates: Mapping[str, Reader], references: Mapping[str, Reader]) -> dict[str, Score]:
    """The score of each estimate against the reference of its name; references without an estimate can bleed too.

    Signals that do not match are adapted, and a note says so: an estimate is resampled to the rate of its reference,
    mono stands for both channels of stereo, and the longer of an estimate and its reference is cut. Another source that
    ends earlier is silent from there on and does not bleed. Memory does not grow with the track.

    Raises ParameterError for an estimate without a reference.
    """
    for name in estimates:
        if name not in references:
            raise ParameterError("estimates", name, f"a stem with a reference: {', '.join(references)}")
    if not estimates:
        return {}
    first = next(iter(references.values()))
    rate = first.sample_rate
    channels = max(reader.channels for reader in (*estimates.values(), *references.values()))
    fitted = {name: _fit(reader, rate, channels) for name, reader in estimates.items()}
    truths = {name: _fit(reader, rate, channels) for name, reader in references.items()}
    ledgers = {name: _Ledger(rate, min(fitted[name].frames, truths[name].frames)) for name in estimates}
    window = round(WINDOW_S * rate)
    readers = [*truths.values(), *fitted.values()]
    for number, pieces in enumerate(_windows(readers, window, max(ledger.frames for ledger in ledgers.values()))):
        whole = dict(zip(truths, pieces[: len(truths)], strict=True))
        going = [piece for piece, reader in zip(pieces, readers, strict=True) if reader.frames > number * window]
        all_sound = all(piece.any() for piece in going)
        for (name, ledger), estimate in zip(ledgers.items(), pieces[len(truths) :], strict=True):
            others = [truth for other, truth in whole.items() if other != name]
            ledger.add(whole[name], estimate, np.sum(others, axis=0) if others else np.zeros_like(estimate), all_sound)
    scores = {}
    for name, ledger in ledgers.items():
        notes = [*_fitting(estimates[name], references[name], rate, channels), *_ended(name, truths, ledger.frames)]
        if not ledger.is_multiple:
            notes += shift_notes(truths[name], fitted[name], ledger.frames)
        scores[name] = ledger.score(notes)
    return scores


class _Ledger:
    """Inner products of one estimate e, its reference r and the other sources o, window by window and band by band.

    The first `frames` frames count.
    """

    def __init__(self, sample_rate: int, frames: int) -> None:
        self.sample_rate = sample_rate
        self.frames = frames
        self.window = round(WINDOW_S * sample_rate)
        self.signal: list[float] = []
        self.error: list[float] = []
        self.estimate: list[float] = []
        self.product: list[float] = []
        self.bands: list[np.ndarray] = []
        self.counted: list[bool] = []

    def add(self, reference: Block, estimate: Block, others: Block, all_sound: bool) -> None:
        """Add the next window; `all_sound` says whether every source sounds in it."""
        left = self.frames - len(self.signal) * self.window
        if left <= 0:
            return
        reference, estimate, others = (signal[:, :left] for signal in (reference, estimate, others))
        r, e = reference.astype(np.float64), estimate.astype(np.float64)
        for row, value in (
            (self.signal, r * r),
            (self.error, (r - e) ** 2),
            (self.estimate, e * e),
            (self.product, r * e),
        ):
            row.append(float(value.sum()))
        self.bands.append(_band_products(reference, estimate, others, self.sample_rate))
        self.counted.append(all_sound and (left >= self.window or self.frames < self.window))

    @property
    def gain(self) -> float:
        """The gain of the reference that fits the estimate best."""
        return sum(self.product) / sum(self.signal) if any(self.signal) else 0.0

    @property
    def si_sdr(self) -> float:
        scaled = self.gain**2 * sum(self.signal)
        si_sdr = ratio_db(scaled, sum(self.estimate) - 2 * self.gain * sum(self.product) + scaled)
        # The error of an exact multiple of the reference is rounding of float32, 2**-24 at most.
        return math.inf if si_sdr > 144 else si_sdr

    @property
    def is_multiple(self) -> bool:
        """Whether the estimate is the reference, apart from level and polarity."""
        return self.si_sdr == math.inf

    def score(self, notes: list[str]) -> Score:
        signal, error = np.array(self.signal), np.array(self.error)
        over_time = [ratio_db(*pair) for pair in zip(signal, error, strict=True)]
        counted = np.array(over_time)[np.array(self.counted, bool)]
        total = ratio_db(signal.sum(), error.sum())
        powers = np.array([_projected_powers(window) for window in self.bands])
        starts = [number * self.window / self.sample_rate for number in range(len(signal))]
        return Score(
            sdr=_finite(total),
            sdr_bsseval_v4=_finite(float(np.median(counted))) if counted.size else None,
            si_sdr=_finite(self.si_sdr),
            bleed_db=_bleed_db(*powers.sum(0)),
            over_time={
                "time_s": tuple(starts),
                "sdr": tuple(_finite(value) for value in over_time),
                "bleed_db": tuple(_bleed_db(*pair) for pair in powers),
            },
            notes=(*self._undefined(), *notes),
        )

    def _undefined(self) -> Iterator[str]:
        """Sentences that say why figures are missing."""
        if not any(self.signal):
            yield "the reference is silent: no ratio to it is defined"
        if not any(self.estimate):
            yield "the estimate is silent: all of the reference is missing, an SDR of 0 dB"
        elif not any(self.error):
            yield "the estimate is the reference to the last bit: its SDR is infinite"
        elif self.is_multiple:
            inverted = "its polarity is inverted, and " if self.gain < 0 else ""
            yield (
                f"the estimate is an exact multiple of the reference, {self.gain:.4g} times it: "
                f"{inverted}its SI-SDR is infinite"
            )


def _band_products(reference: Block, estimate: Block, others: Block, sample_rate: int) -> np.ndarray:
    """<r,r>, <o,o>, <o,r>, <r,e>, <o,e>, complex, shape (5, bands); <a,b> = sum conj(a) b over bins and channels."""
    size = scipy.fft.next_fast_len(reference.shape[1], real=True)
    r, o, e = (scipy.fft.rfft(signal.astype(np.float64), size) for signal in (reference, others, estimate))
    edges = np.searchsorted(np.fft.rfftfreq(size, 1 / sample_rate), THIRDS_HZ)
    edges = np.unique(np.concatenate([[0], edges[edges < r.shape[1]]]))
    # Bands missing at a low sample rate or in a short window stay empty at the end, so that all windows add up.
    products = np.zeros((5, len(THIRDS_HZ) + 1), complex)
    for row, (a, b) in enumerate(((r, r), (o, o), (o, r), (r, e), (o, e))):
        products[row, : len(edges)] = np.add.reduceat((a.conj() * b).sum(0), edges)
    return products


def _projected_powers(products: np.ndarray) -> tuple[float, float]:
    """Powers of r and of o in the estimate, projected onto both with a complex gain each in every band."""
    rr, oo, cross, re, oe = products
    rr, oo = rr.real, oo.real
    # A source that is silent in a band, or equals the other one, cannot be separated from it there.
    apart = np.where(rr * oo > 0, rr * oo - np.abs(cross) ** 2, 0.0)
    together = apart > 1e-9 * rr * oo
    determinant = np.where(together, apart, 1.0)
    own = np.where(together, (oo * re - cross.conj() * oe) / determinant, _divide(re, rr))
    other = np.where(together, (rr * oe - cross * re) / determinant, np.where(rr > 0, 0.0, _divide(oe, oo)))
    return float((np.abs(own) ** 2 * rr).sum()), float((np.abs(other) ** 2 * oo).sum())


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    result: np.ndarray = np.divide(a, b, out=np.zeros_like(a), where=b > 0)
    return result


def _bleed_db(own: float, other: float) -> float | None:
    return None if own <= 0 or other <= own * 10 ** (NOTHING_DB / 10) else 10 * math.log10(other / own)


# Making signals comparable


def _fit(reader: Reader, sample_rate: int, channels: int) -> Reader:
    resampled = resample(reader, sample_rate)
    if resampled.channels == channels:
        return resampled

    def blocks(block_frames: int) -> Iterator[Block]:
        return (np.repeat(block, channels, axis=0) for block in resampled.blocks(block_frames))

    return Reader(sample_rate, channels, resampled.frames, blocks)


def _windows(readers: list[Reader], window: int, frames: int) -> Iterator[tuple[Block, ...]]:
    """All signals side by side up to `frames`, in windows of `window` frames, the last one shorter; silence at ends."""
    return zip_blocks(*(rechunk(_padded(reader, window, frames), window) for reader in readers))


def _padded(reader: Reader, block_frames: int, frames: int) -> Iterator[Block]:
    yield from until(reader, frames)
    for first in range(reader.frames, frames, block_frames):
        yield np.zeros((reader.channels, min(block_frames, frames - first)), np.float32)


def _fitting(estimate: Reader, reference: Reader, sample_rate: int, channels: int) -> list[str]:
    """Sentences on how the two were adapted for the comparison."""
    notes = []
    if estimate.sample_rate != sample_rate:
        notes.append(f"the estimate was resampled from {estimate.sample_rate} Hz to {sample_rate} Hz, as its reference")
    if estimate.channels != reference.channels:
        mono = "estimate" if estimate.channels < channels else "reference"
        notes.append(f"the {mono} is mono and was taken for both channels")
    given = resample(estimate, sample_rate).frames
    if given != reference.frames:
        word = "shorter" if given < reference.frames else "longer"
        notes.append(
            f"the estimate is {abs(given - reference.frames)} frames {word} than its reference: "
            f"the first {min(given, reference.frames) / sample_rate:.3f} s were compared"
        )
    return notes


def _ended(name: str, references: Mapping[str, Reader], frames: int) -> Iterator[str]:
    """Sentences on the other sources that end before the stem `name` does."""
    for other, reference in references.items():
        if other != name and reference.frames < frames:
            yield (
                f"the reference of {other} ends after {reference.frames / reference.sample_rate:.3f} s: it cannot "
                "bleed after that"
            )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
