"""How loud a signal is, and the gain that brings a separated stem back to its level in the mixture.

Conventions: gains and ratios of amplitudes are in dB (20 log10). 0 dBFS is a sample at +-1.0 for peaks, and a
full-scale square wave for RMS. Loudness is the integrated, gated loudness of ITU-R BS.1770-4 in LUFS. Silence has no
level: -inf in Python, null in JSON.

Every measure is an accumulator: `add(...)` takes the next block, of any size, and the result can be read at any time.
So memory does not grow with the track, except for the gate: BS.1770 decides at the end which 400 ms count, so loudness
keeps one float per 100 ms.

The K-weighting filters are read from pyloudnorm, so figures agree with pyloudnorm's.

References: ITU-R BS.1770-4 (2015), Algorithms to measure audio programme loudness. C. J. Steinmetz and J. D. Reiss,
pyloudnorm: A simple yet flexible loudness meter in Python, AES 150 (2021). C. L. Lawson and R. J. Hanson, Solving Least
Squares Problems (1974), chapter 23: bounded variables.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from ..audio import Block, Reader
from ..errors import ParameterError, nearest
from ..params import LIMIT_DB, RESTORATION, TARGET_DBFS, TARGET_LUFS

SILENCE_DBFS = -100.0
"""A stem with a peak below this holds only rounding noise: it counts as silent and is not restored."""

_NEGLIGIBLE = 2.0**-22
"""Blocks with samples below this, four roundings of float32 at full scale, skip the K-weighting: they are far below the
gate of -70 LUFS. The residual of a mixture minus its stems is often such a signal."""

_CHUNK_FRAMES = 2**14
"""Frames processed at once, so that the float64 copies stay in the processor's cache."""


def to_db(amplitude: float) -> float:
    """Amplitude ratio in dB; -inf for 0."""
    return 20.0 * math.log10(amplitude) if amplitude > 0 else -math.inf


def to_amplitude(db: float) -> float:
    """The amplitude ratio of `db`; 0 for -inf."""
    result: float = 10.0 ** (db / 20.0)
    return result


def _inner(a: np.ndarray, b: np.ndarray) -> float:
    """Inner product in one thread: BLAS would split it, at a loss, and round differently for each number of threads."""
    return float(np.einsum("ij,ij->", a, b))


def as_json(level: float) -> float | None:
    """A level to three decimals; None (JSON's null) for -inf, which JSON cannot say."""
    return round(level, 3) if math.isfinite(level) else None


@dataclass(frozen=True)
class Levels:
    """Sample peak, RMS over all channels and integrated loudness of a whole signal; -inf for silence."""

    peak_dbfs: float
    rms_dbfs: float
    loudness_lufs: float

    def as_json(self) -> dict[str, float | None]:
        """The fields by name, with None (JSON's null) for -inf, which JSON cannot say."""
        return {name: as_json(value) for name, value in asdict(self).items()}

    def raised(self, gain_db: float) -> Levels:
        """The levels of the same signal after a gain in dB."""
        return Levels(self.peak_dbfs + gain_db, self.rms_dbfs + gain_db, self.loudness_lufs + gain_db)


SILENCE = Levels(-math.inf, -math.inf, -math.inf)


class Meter:
    """Peak, RMS and loudness of a signal, in one pass over its blocks.

    Loudness is -inf below the absolute gate of -70 LUFS and for less than 400 ms of signal, where BS.1770 defines none.
    Raises ParameterError for a sample rate of 3 kHz or below, which is too low for the K-weighting.

    >>> meter = Meter(48000, channels=2)
    >>> meter.add(np.ones((2, 480), np.float32))
    >>> meter.levels()
    Levels(peak_dbfs=0.0, rms_dbfs=0.0, loudness_lufs=-inf)
    """

    def __init__(self, sample_rate: int, channels: int) -> None:
        import pyloudnorm

        if sample_rate <= 3000:
            raise ParameterError("sample_rate", sample_rate, "loudness needs more than 3000 Hz; resample first", "Hz")
        self._gate = pyloudnorm.Meter(sample_rate)
        stages = self._gate._filters.values()
        self._sos = np.array([[*stage.passband_gain * stage.b, *stage.a] for stage in stages])
        self._dtype = np.dtype(np.float64 if channels == 1 else np.complex128)
        self._state = np.zeros((len(self._sos), 2), self._dtype)
        self._sample_rate, self._channels = sample_rate, channels
        self._frames = 0
        self._peak = self._energy = 0.0
        self._weighted = [0.0]  # K-weighted energy of each 100 ms, the last one still filling

    def add(self, block: Block) -> None:
        """Add the next block, shape (channels, n)."""
        for start in range(0, block.shape[1], _CHUNK_FRAMES):
            self._add_chunk(block[:, start : start + _CHUNK_FRAMES])

    def levels(self) -> Levels:
        """The levels of all blocks so far."""
        rms = math.sqrt(self._energy / (self._frames * self._channels)) if self._frames else 0.0
        return Levels(to_db(self._peak), to_db(rms), self._loudness())

    def _add_chunk(self, chunk: np.ndarray) -> None:
        from scipy.signal import sosfilt

        peak = max(float(chunk.max()), -float(chunk.min()))
        self._peak = max(self._peak, peak)
        # Both channels count alike, so they go through the real filter as one complex signal: a quarter faster.
        signal = np.empty(chunk.shape[1], self._dtype)
        samples = signal.view(np.float64).reshape(-1, self._channels)
        samples[:] = chunk.T
        self._energy += _inner(samples, samples)
        if max(peak, np.abs(self._state).max()) < _NEGLIGIBLE:
            self._state[:] = 0.0
            power = np.zeros(samples.size)
        else:
            weighted, self._state = sosfilt(self._sos, signal, zi=self._state)
            power = np.square(weighted.view(np.float64))
        edges = self._edges(self._frames + signal.size) - self._frames
        starts_piece = bool(edges.size) and edges[0] == 0
        parts = np.add.reduceat(power, self._channels * (edges if starts_piece else np.concatenate([[0], edges])))
        if not starts_piece:
            self._weighted[-1] += float(parts[0])
        self._weighted.extend(parts[not starts_piece :].tolist())
        self._frames += signal.size

    def _edges(self, stop: int) -> np.ndarray:
        """First frames of the 100 ms pieces that begin after the current one and before frame `stop`.

        The arithmetic is pyloudnorm's, rounding included, so that a rate like 11025 Hz gives the same edges.
        """
        gate = self._gate
        first = len(self._weighted)
        count = int(stop / (gate.block_size * (1.0 - gate.overlap) * self._sample_rate)) + 2 - first
        numbers = np.arange(first, first + max(count, 0))
        edges = (gate.block_size * (numbers * (1.0 - gate.overlap)) * self._sample_rate).astype(np.int64)
        result: np.ndarray = edges[edges < stop]
        return result

    def _loudness(self) -> float:
        block_s, step = self._gate.block_size, 1.0 - self._gate.overlap
        if self._frames < block_s * self._sample_rate:
            return -math.inf
        blocks = int(np.round((self._frames / self._sample_rate - block_s) / (block_s * step)) + 1)
        pieces = np.zeros(blocks + 3)
        pieces[: len(self._weighted)] = self._weighted[: blocks + 3]
        power = sum(pieces[shift : shift + blocks] for shift in range(4)) / (block_s * self._sample_rate)
        power = power[power >= _power(-70.0)]
        if not power.size:
            return -math.inf
        return _lufs(power[power > power.mean() / 10.0].mean())


def _lufs(power: float) -> float:
    return -0.691 + 10.0 * math.log10(power)


def _power(lufs: float) -> float:
    result: float = 10.0 ** ((lufs + 0.691) / 10.0)
    return result


def measure(signal: Reader) -> Levels:
    """The levels of a whole signal.

    >>> from gbsep.audio import Audio
    >>> measure(Audio(np.zeros(48000), 48000).reader()).as_json()
    {'peak_dbfs': None, 'rms_dbfs': None, 'loudness_lufs': None}
    """
    meter = Meter(signal.sample_rate, signal.channels)
    for block in signal.blocks():
        meter.add(block)
    return meter.levels()


class NullTest:
    """Peak of mixture minus parts: how exactly the parts add up to their mixture."""

    def __init__(self) -> None:
        self._peak = 0.0

    def add(self, mixture: Block, parts: Iterable[Block]) -> None:
        """Add the next block of the mixture and of each part, all of shape (channels, n)."""
        left = mixture.astype(np.float64)
        for part in parts:
            left -= part
        if left.size:
            self._peak = max(self._peak, float(left.max()), -float(left.min()))

    @property
    def peak_dbfs(self) -> float:
        """Peak of the difference; -inf when the parts add up to the last bit."""
        return to_db(self._peak)


class Gram:
    """The Gram matrix of a mixture and its stems, accumulated in float64: all that a least-squares fit needs.

    `matrix` is symmetric, shape (n + 1, n + 1): the stems in the order of `names`, then the mixture.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.samples = 0
        self.matrix = np.zeros((len(self.names) + 1, len(self.names) + 1))

    def add(self, mixture: Block, stems: Mapping[str, Block]) -> None:
        """Add the next block of the mixture and of each named stem, all of shape (channels, n)."""
        signals = [*(stems[name] for name in self.names), mixture]
        for start in range(0, mixture.shape[1], _CHUNK_FRAMES):
            rows = [signal[:, start : start + _CHUNK_FRAMES].astype(np.float64) for signal in signals]
            for i, row in enumerate(rows):
                for j, other in enumerate(rows[: i + 1]):
                    self.matrix[i, j] = self.matrix[j, i] = self.matrix[i, j] + _inner(row, other)
        self.samples += mixture.size


def fit_gains(gram: Gram, limits_db: Mapping[str, float]) -> dict[str, float]:
    """The gains in dB, each from 0 to its stem's limit, with which the stems add up to the mixture best.

    Exact least-squares solution of mixture = sum of gain x stem under these bounds (bounded-variable least squares). A
    stem with a limit of 0, or without one, keeps its level but takes part in the fit. A silent stem (SILENCE_DBFS)
    stays at 0 dB. Where the fit is not unique, as with two equal stems, the smallest change is taken. To fit one stem
    alone, as where a preset makes the other one its complement, pass a Gram of that stem only.

    A source that no stem holds moves a gain only by its chance correlation with the stem. Bleeding biases the gains:
    stems that each hold a share b of the other still add up to the mixture exactly, with 1 / (1 + b) of the gain, and
    no weighting of the fit can detect that. The error in dB of the gains that restore true stems attenuated by 1 to
    6 dB, over four songs:

                                                bass: median, worst   guitar: median, worst
        true stems                   together          0.00   0.00            0.00   0.00
                                     alone             0.04   0.08            0.04   0.09
        third source, as loud as     together          0.00  -0.19            0.01  -0.06
        the mixture                  alone             0.03   0.20            0.04   0.12
        bleeding 0.1                 together         -0.83  -0.83           -0.83  -0.83
                                     alone             0.74   0.78            0.81   0.85
        bleeding 0.3                 together         -2.28  -3.07           -2.28  -3.10
                                     alone             1.49   1.51            1.61   1.64

    Figures: scripts/benchmarks/restoration.py. The worst at 0.3 are where one gain rests on its bound of 0 dB.
    """
    frozen = [
        to_amplitude(limits_db.get(name, 0.0)) <= 1.0
        or gram.matrix[i, i] <= gram.samples * to_amplitude(SILENCE_DBFS) ** 2
        for i, name in enumerate(gram.names)
    ]
    fitted = np.flatnonzero(np.logical_not(frozen))
    gains_db = dict.fromkeys(gram.names, 0.0)
    if not fitted.size:
        return gains_db
    from scipy.optimize import lsq_linear

    # The unknowns are the changes, gain - 1, from 0 to their limits; the target is the mixture minus the stems.
    inner = gram.matrix[np.ix_(fitted, fitted)]
    left = gram.matrix[fitted, -1] - gram.matrix[fitted, :-1].sum(axis=1)
    scale = 1.0 / np.sqrt(inner.diagonal())
    values, vectors = np.linalg.eigh(inner * scale * scale[:, np.newaxis])
    known = values > 1e-9  # no change along a direction without energy
    root = np.sqrt(values[known])
    highest = np.array([to_amplitude(limits_db[gram.names[i]]) - 1.0 for i in fitted])
    change = lsq_linear(
        root[:, np.newaxis] * vectors[:, known].T,
        (vectors[:, known].T @ (left * scale)) / root,
        bounds=(0.0, highest / scale),
        method="bvls",
    ).x
    for i, gain in zip(fitted, 1.0 + np.clip(change * scale, 0.0, highest), strict=True):
        gains_db[gram.names[i]] = to_db(gain)
    return gains_db


@dataclass(frozen=True)
class Restore:
    """How to restore the level of one stem.

    - none: not at all;
    - mixture_fit: by the gain of `fit_gains`, between 0 and `limit_db`;
    - loudness: to `target_lufs`, up or down;
    - peak: to a sample peak of `target_dbfs`, up or down.

    The ranges are those of params.RESTORATION. Raises ParameterError for an unknown method, or a value of the chosen
    method outside its range.
    """

    method: str = "none"
    limit_db: float = LIMIT_DB.default_number
    target_lufs: float = TARGET_LUFS.default_number
    target_dbfs: float = TARGET_DBFS.default_number

    def __post_init__(self) -> None:
        if self.method not in RESTORATION:
            raise ParameterError("method", self.method, f"unknown{nearest(self.method, RESTORATION)}")
        for param in RESTORATION[self.method]:
            param.check(getattr(self, param.name))


def restoration_gains(restore: Mapping[str, Restore], levels: Mapping[str, Levels], gram: Gram) -> dict[str, float]:
    """The gain in dB of each stem in `restore`, from its levels and, for mixture_fit, the Gram.

    Silence gets 0 dB: a stem with a peak below SILENCE_DBFS, or without loudness where that is the target. The Gram
    holds at least the stems to fit; further stems in it take part in the fit at their level.
    """
    fitted = fit_gains(gram, {name: how.limit_db for name, how in restore.items() if how.method == "mixture_fit"})
    gains_db = {}
    for name, how in restore.items():
        gain_db = 0.0
        if how.method == "mixture_fit":
            gain_db = fitted[name]
        elif how.method == "loudness":
            gain_db = how.target_lufs - levels[name].loudness_lufs
        elif how.method == "peak":
            gain_db = how.target_dbfs - levels[name].peak_dbfs
        gains_db[name] = gain_db if math.isfinite(gain_db) and levels[name].peak_dbfs > SILENCE_DBFS else 0.0
    return gains_db


def shared_gain(peaks_dbfs: Iterable[float], largest_sample: float) -> float:
    """The gain in dB, 0 or below, that all files of a render get so that none clips in their format.

    `largest_sample` is the largest positive sample of the format, such as 1 - 2**-15 for 16-bit PCM or infinity for
    float32. 0 dB when no peak is above full scale: a sample at exactly +1.0 is written one step of the format lower, as
    -1.0 has no positive twin in PCM. Otherwise the highest peak comes to the largest sample.

    >>> shared_gain([-3.0, 0.0], 1 - 2**-15)
    0.0
    >>> round(shared_gain([-3.0, 2.0], 1 - 2**-15), 3)
    -2.0
    """
    highest = max(peaks_dbfs, default=-math.inf)
    return min(0.0, to_db(largest_sample) - highest) if highest > 0.0 else 0.0
