"""How an estimate is aligned with its reference: late or early by some frames, or inverted."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy  # its parts, which take long to load, are loaded when they are first asked for

from ..audio import Block, Reader, rechunk

LARGEST_SHIFT_S = 0.5
"""Largest shift that is recognised, in seconds."""

SHIFT_GAIN_DB = 1.0
"""Least gain in SDR for which a shift is reported: a filter's delay of a few frames is no mistake."""


@dataclass(frozen=True)
class Shift:
    """Frames by which an estimate is late (negative: early), whether its polarity is inverted, and its SDR in dB before
    and after both are corrected."""

    frames: int
    is_inverted: bool
    before_db: float
    after_db: float


def find_shift(reference: Reader, estimate: Reader, frames: int) -> Shift:
    """The shift of an estimate against its reference.

    It is the lag of the largest cross-correlation, positive or negative, within LARGEST_SHIFT_S; 0 unless correcting it
    raises the SDR by SHIFT_GAIN_DB. Blocks of the estimate are correlated with the reference around them; the ends of
    the track, which a shift moves in or out, are neglected.
    """
    reach = min(round(LARGEST_SHIFT_S * reference.sample_rate), frames - 1)
    block_frames = max(2**17, 2 * reach)
    size = scipy.fft.next_fast_len(block_frames + 2 * reach, real=True)
    correlation = np.zeros(2 * reach + 1)
    signal = estimated = 0.0
    around = np.zeros((reference.channels, reach))
    # The reference is read `reach` frames ahead, with `reach` frames of silence before and after it.
    silence = np.zeros((reference.channels, reach), np.float32)
    ahead = rechunk(itertools.chain(until(reference, frames), [silence] if reach else []), block_frames)
    for piece in rechunk(until(estimate, frames), block_frames):
        n = piece.shape[1]
        while around.shape[1] < n + 2 * reach:
            around = np.concatenate([around, next(ahead)], axis=1)
        window = around[:, : n + 2 * reach]
        spectra = scipy.fft.rfft(window, size).conj() * scipy.fft.rfft(piece.astype(np.float64), size)
        lagged = scipy.fft.irfft(spectra.sum(0), size)
        # Entry k: the estimate against the reference `reach - k` frames later, so k grows with its delay.
        correlation += lagged[(np.arange(2 * reach + 1) - 2 * reach) % size]
        signal += float(np.square(window[:, reach : reach + n], dtype=np.float64).sum())
        estimated += float(np.square(piece, dtype=np.float64).sum())
        around = around[:, n:]
    inverted = bool(-correlation.min() > correlation.max())
    best = int(correlation.argmin() if inverted else correlation.argmax())
    errors = (signal + estimated - 2 * product for product in (correlation[reach], abs(correlation[best])))
    before, after = (ratio_db(signal, max(error, 0.0)) for error in errors)
    return (
        Shift(best - reach, inverted, before, after)
        if after > before + SHIFT_GAIN_DB
        else Shift(0, False, before, before)
    )


def shift_notes(reference: Reader, estimate: Reader, frames: int) -> Iterator[str]:
    """A sentence for an estimate that is shifted or inverted; nothing for any other."""
    found = find_shift(reference, estimate, frames)
    faults, remedies = [], []
    if found.is_inverted:
        faults.append("is inverted in polarity")
        remedies.append("turned over")
    if found.frames:
        late_ms = abs(found.frames) / reference.sample_rate * 1000
        word = "later" if found.frames > 0 else "earlier"
        faults.append(f"sounds {abs(found.frames)} frames ({late_ms:.1f} ms) {word} than its reference")
        remedies.append("moved back")
    if faults:
        yield (
            f"the estimate {' and '.join(faults)}: {' and '.join(remedies)} its SDR would be "
            f"{found.after_db:.1f} dB instead of {found.before_db:.1f} dB"
        )


def until(reader: Reader, frames: int) -> Iterator[Block]:
    """The blocks of a signal up to `frames`, or to its end where that comes first."""
    left = frames
    for block in reader.blocks():
        yield block[:, :left]
        left -= block.shape[1]
        if left <= 0:
            return


def ratio_db(signal: float, error: float) -> float:
    """A ratio of powers in dB: infinite without an error, -inf without a signal."""
    if signal <= 0:
        return -math.inf
    return math.inf if error <= 0 else 10 * math.log10(signal / error)
