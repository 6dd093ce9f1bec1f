"""Diagnosis: what can be told of stems without knowing the true ones.

Conventions: powers are summed over channels; a share in dB is 10 log10 of a part of a stem's power, so it does not
depend on the stem's level. Pitches are told apart by the open strings: at A4 = 440 Hz (ISO 16) a bass guitar sounds
from 41 Hz (E1) and a guitar from 82 Hz (E2), below which it has next to nothing, however loud it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import scipy  # its parts, which take long to load, are loaded when they are first asked for

from .audio import Reader, rechunk
from .errors import ParameterError

PARTNERS = ("guitar", "other")
"""Stems that may hold the bass in place of `bass`. Drums are not asked: a kick drum is as low."""

WINDOW_S = 0.19
RANGE_HZ = (25.0, 4000.0)
LOW_HZ = 100.0
PARTIAL_DB = -15.0
SILENT_DBFS = -70.0

LOW_MARGIN_DB, PITCH_MARGIN_OCTAVES = 3.0, 0.1
"""By how much two stems must differ to say anything: less than any ten seconds of four songs' true stems differ, with a
tenth of each other's power mixed in."""


@dataclass(frozen=True)
class Register:
    """Where a stem sounds: its level, the share of its power below LOW_HZ, and how low its lowest strong partial is."""

    level_dbfs: float
    low_share_db: float
    pitch_hz: float


@dataclass(frozen=True)
class Swap:
    """Whether `bass` and `partner` hold each other's signal: True, False, or None when that cannot be told; and why."""

    swapped: bool | None
    partner: str
    reason: str
    evidence: Mapping[str, Register]

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, for the report of a render."""
        return asdict(self)


def swapped(stems: Mapping[str, Reader]) -> Swap:
    """Tell whether a separator put the bass into another stem, and that stem's signal into `bass`.

    Two things must agree, each by a margin: where the power lies below LOW_HZ, and which stem plays lower. One of them
    alone, or silence, gives no verdict. Of two partners the one that plays lower is looked at. Reads each stem once,
    in blocks.

    Raises ParameterError unless there is `bass` and one of PARTNERS.
    """
    partners = [name for name in PARTNERS if name in stems]
    if "bass" not in stems or not partners:
        raise ParameterError("stems", sorted(stems), f"a swap is between bass and one of {', '.join(PARTNERS)}")
    found = {name: register(stems[name]) for name in ("bass", *partners)}
    evidence = {name: heard for name, heard in found.items() if heard is not None}
    if "bass" not in evidence or len(evidence) == 1:
        silent = " and ".join(name for name in found if name not in evidence)
        return Swap(None, partners[0], f"nothing to be heard in {silent}", evidence)
    bass, partner = evidence["bass"], min(evidence.keys() - {"bass"}, key=lambda name: evidence[name].pitch_hz)
    other = evidence[partner]
    low_db = other.low_share_db - bass.low_share_db
    octaves = math.log2(bass.pitch_hz / other.pitch_hz)
    reason = (
        f"{partner} has {abs(low_db):.1f} dB {'more' if low_db > 0 else 'less'} of its power below {LOW_HZ:g} Hz than "
        f"bass, and plays {abs(octaves):.1f} octaves {'lower' if octaves > 0 else 'higher'} "
        f"({other.pitch_hz:.0f} Hz against {bass.pitch_hz:.0f} Hz)"
    )
    if low_db > LOW_MARGIN_DB and octaves > PITCH_MARGIN_OCTAVES:
        return Swap(True, partner, reason, evidence)
    if low_db < -LOW_MARGIN_DB and octaves < -PITCH_MARGIN_OCTAVES:
        return Swap(False, partner, reason, evidence)
    return Swap(None, partner, f"too close to tell: {reason}", evidence)


def register(reader: Reader) -> Register | None:
    """Where a signal sounds, or None where there is nothing to be heard.

    The pitch of a window is its lowest spectral peak within PARTIAL_DB of the highest: for one note its fundamental
    unless that is weak, for a chord its lowest note. The stem's is their geometric mean, weighed by magnitude.
    """
    squares = power = low = weight = log_pitch = 0.0
    for samples, frequencies, spectra in _power_spectra(reader):
        squares += float(np.square(samples, dtype=np.float64).mean(0).sum())
        power += float(spectra.sum())
        low += float(spectra[:, frequencies < LOW_HZ].sum())
        inner = spectra[:, 1:-1]
        audible = inner > spectra.max(1, keepdims=True) * 10 ** (PARTIAL_DB / 10)
        peaks = audible & (inner > spectra[:, :-2]) & (inner >= spectra[:, 2:])
        found = peaks.any(1)
        magnitudes = np.sqrt(spectra[found].sum(1))
        weight += float(magnitudes.sum())
        log_pitch += float((magnitudes * np.log(frequencies[1:-1][peaks[found].argmax(1)])).sum())
    level_dbfs = 10 * math.log10(max(squares / reader.frames, 1e-20))
    if level_dbfs < SILENT_DBFS or not weight:
        return None
    return Register(level_dbfs, 10 * math.log10(max(low / power, 1e-10)), math.exp(log_pitch / weight))


def _power_spectra(reader: Reader) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """New samples (channels, n), the bins in RANGE_HZ, and the spectra (windows, bins) that the samples complete."""
    n_fft = 2 ** round(math.log2(WINDOW_S * reader.sample_rate))
    hop_length = n_fft // 2
    bins = np.fft.rfftfreq(n_fft, 1 / reader.sample_rate)
    chosen = (bins >= RANGE_HZ[0]) & (bins <= RANGE_HZ[1])
    window = scipy.signal.get_window("hann", n_fft).astype(np.float32)
    held = np.zeros((reader.channels, hop_length), np.float32)
    for block in rechunk(reader.blocks(), 64 * hop_length):
        padding = -block.shape[1] % hop_length
        held = np.concatenate([held, block, np.zeros((reader.channels, padding), np.float32)], axis=1)
        windows = np.lib.stride_tricks.sliding_window_view(held, n_fft, axis=1)[:, ::hop_length]
        spectra = scipy.fft.rfft(windows * window)[..., chosen]
        yield block, bins[chosen], np.square(np.abs(spectra)).sum(0)
        held = held[:, -hop_length:]
