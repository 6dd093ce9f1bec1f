"""Which of two stems sounds lower: whether a separator put the bass into another stem.

The registers follow from the open strings: at A4 = 440 Hz (ISO 16) a bass guitar sounds from 41 Hz (E1) and a guitar
from 82 Hz (E2), or 62 Hz (B1) when tuned down.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..audio import Reader
from ..errors import ParameterError
from ..stemnames import BASS, GUITAR_LOW_HZ, PARTNERS, partners
from .evidence import SILENT_DBFS, energy, power, register_sums, spectrogram

MARGIN_OCTAVES = 0.5
"""How much lower a stem must sound (see `octaves_above`) for a verdict. Of ten-second excerpts of songs, with guitars
tuned down by up to a fourth and bass lines raised by up to an octave, one in a hundred differs by this much the wrong
way."""

SHARE_DB_PER_OCTAVE, MIN_SHARE_DB = 12.0, -30.0
"""A share of power below GUITAR_LOW_HZ that is 12 dB larger, or one above ABOVE_BASS_HZ that is 12 dB smaller, counts
as one octave lower, which is also the most. Shares below a thousandth count as a thousandth."""


@dataclass(frozen=True)
class Register:
    """The register of a stem: the pitch of its lowest strong partial, and how much of its power is low and high.

    Low is below GUITAR_LOW_HZ, high above ABOVE_BASS_HZ.
    """

    pitch_hz: float
    low_share_db: float
    high_share_db: float


@dataclass(frozen=True)
class Swap:
    """Whether `bass` and `partner` hold each other's signal: True, False, or None when that is unclear; and why."""

    swapped: bool | None
    partner: str
    reason: str
    evidence: Mapping[str, Register]

    def as_dict(self) -> dict[str, Any]:
        """As JSON, for render.json."""
        return asdict(self)


def swapped(stems: Mapping[str, Reader]) -> Swap:
    """Find out whether a separator put the bass into another stem, and that stem's signal into `bass`.

    The stem that sounds lower by MARGIN_OCTAVES is the bass. A smaller difference, or silence, gives no verdict. Of two
    partners the one that plays lower is compared. Each stem is read once, in blocks.

    Raises ParameterError unless there is `bass` and one of PARTNERS.
    """
    beside = partners(stems)
    if BASS not in stems or not beside:
        raise ParameterError("stems", sorted(stems), f"a swap is between bass and one of {', '.join(PARTNERS)}")
    found = {name: register(stems[name]) for name in (BASS, *beside)}
    registers = {name: stem for name, stem in found.items() if stem is not None}
    if BASS not in registers or len(registers) == 1:
        silent = " and ".join(name for name in found if name not in registers)
        return Swap(None, beside[0], f"nothing to be heard in {silent}", registers)
    bass, partner = registers[BASS], min(registers.keys() - {BASS}, key=lambda name: registers[name].pitch_hz)
    other = registers[partner]
    above = octaves_above(bass, other)
    low_db = other.low_share_db - bass.low_share_db
    octaves = math.log2(bass.pitch_hz / other.pitch_hz)
    reason = (
        f"{partner} has {abs(low_db):.1f} dB {'more' if low_db > 0 else 'less'} of its power below {GUITAR_LOW_HZ:g} Hz"
        f" than bass, and plays {abs(octaves):.1f} octaves {'lower' if octaves > 0 else 'higher'} "
        f"({other.pitch_hz:.0f} Hz against {bass.pitch_hz:.0f} Hz)"
    )
    if abs(above) < MARGIN_OCTAVES:
        return Swap(None, partner, f"too close to tell: {reason}", registers)
    return Swap(above > 0, partner, reason, registers)


def octaves_above(stem: Register, other: Register) -> float:
    """By how many octaves a stem sounds above another: by pitch, and by where its power lies."""

    def share(a_db: float, b_db: float) -> float:
        apart = max(a_db, MIN_SHARE_DB) - max(b_db, MIN_SHARE_DB)
        return min(max(apart / SHARE_DB_PER_OCTAVE, -1.0), 1.0)

    return (
        math.log2(stem.pitch_hz / other.pitch_hz)
        + share(other.low_share_db, stem.low_share_db)
        + share(stem.high_share_db, other.high_share_db)
    )


def register(reader: Reader) -> Register | None:
    """The register of a signal; None where it is silent."""
    loudness, sums = 0.0, np.zeros(5)
    for (block,), _, frequencies, (spectra,) in spectrogram([reader], [0]):
        loudness += energy(block) / reader.channels
        sums += register_sums(power(spectra), frequencies)[0]
    silent = loudness < reader.frames * 10 ** (SILENT_DBFS / 10)
    return None if silent or not sums[3] else register_of(sums)


def register_of(sums: np.ndarray) -> Register:
    """The register from the sums of `evidence.register_sums`; the pitch is a mean weighted by magnitude."""
    power, low, high, weight, log_pitch = sums
    low_db, high_db = (10 * math.log10(max(part / power, 1e-10)) for part in (low, high))
    return Register(math.exp(log_pitch / weight), low_db, high_db)
