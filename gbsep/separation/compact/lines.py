"""Lines that sound alone stay with one instrument, also where a bass or a guitar leaves its register.

The network decides by register. A scale from E1 to G4 begins as a bass and ends as a guitar, though a listener hears
one instrument. So lines are followed from note to note: frames in which one harmonic series holds nearly all the power,
among frames in which the network gives all to one instrument. The evidence of all frames on a line counts, less with
their distance: a note that only one of the two can play (below E2, above G4) counts fully, the network's estimate of
the notes between hardly. Where the evidence decides for one instrument, the notes between are its own, whatever the
network says. Chords, and passages in which both play, are left as they are.

Spectra are complex64 (frames, bins). A frame depends on MARGIN frames on either side.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .config import Config
from .spectra import power_of, smoothed

MIN_WINDOW_S = 0.1
"""Shorter windows do not resolve the partials of a bass; no line is followed with them."""

LOWEST_HZ, PER_OCTAVE, OCTAVES = 27.5, 36, 5
"""The grid of pitches."""

PARTIAL_HZ, PARTIAL_RATIO = 15.7, 0.01
"""Tolerance of a partial's frequency, in Hz and as a part of it; low notes have less."""

MIN_EXPLAINED, EXPLAINED_MARGIN = 0.9, 0.03
"""Least part of a frame's power in the partials of a lone note, and how much less a higher pitch may explain."""

MIN_FUNDAMENTAL = 10**-2.2
"""Least power of a note's lowest partial, relative to its strongest."""

MAX_GLIDE = 0.8
"""Semitones that a steady pitch may move from frame to frame."""

MIN_POWER, POWER_FRAMES = 1e-3, 64
"""Least power of a frame, relative to the mean of so many on either side."""

SHARE_FRAMES = 4
"""Frames on either side over which an instrument's share is averaged, by a Hann window."""

MIN_SHARE = 0.88
"""Share of the power from which the network takes an instrument to play alone."""

MIN_SOLO, MIN_LONE, SOLO_FRAMES = 0.4, 0.6, 64
"""Least part of the sounding frames, among so many on either side, that are lone notes of one instrument; or lone notes
that may be shared between both."""

MAX_GAP, MAX_LEAP = 32, 12.5
"""A line ends after so many frames without a lone note, or where the next one is further than so many semitones."""

BASS_BELOW_HZ, GUITAR_ABOVE_HZ = 80.0, 400.0
"""E2, as low as guitars are mostly tuned, and G4, as high as basses go."""

NETWORK_WEIGHT = 0.15
"""Weight of the network's estimate between these two."""

EVIDENCE_FRAMES, EVIDENCE_DECAY = 500, 250
"""Frames over which evidence counts, and its exponential decay in frames."""

MIN_EVIDENCE = 8.0
"""Evidence, in frames, from which a line is given to an instrument."""

MIN_CORRECTION = 0.1
"""A share this close to the decision is left as it is."""

EDGE_FRAMES = 2
"""Frames on either side of a change over which it fades."""

MARGIN = EVIDENCE_FRAMES + SOLO_FRAMES + POWER_FRAMES + SHARE_FRAMES + EDGE_FRAMES + MAX_GAP + 2
"""Frames on either side that an output frame depends on."""


def assign_lines(config: Config, mixture: np.ndarray, bass: np.ndarray) -> np.ndarray:
    """`bass` (frames, bins), set to `mixture` on a lone line of the bass and to silence on one of a guitar."""
    if config.n_fft < MIN_WINDOW_S * config.sample_rate or not len(mixture):
        return bass
    owner = _owners(config, mixture, bass)
    share = _share(mixture, bass)
    wrong = np.isfinite(owner) & (np.abs(owner - share) > MIN_CORRECTION)
    change = (_moving_sum(wrong, EDGE_FRAMES) / (2 * EDGE_FRAMES + 1)).astype(np.float32)[:, np.newaxis]
    share_wanted = np.nan_to_num(owner).astype(np.float32)[:, np.newaxis]
    result: np.ndarray = bass + change * (share_wanted * mixture - bass)
    return result


def _owners(config: Config, mixture: np.ndarray, bass: np.ndarray) -> np.ndarray:
    """For every frame 1 where a bass plays alone, 0 where a guitar does, NaN where that is unknown."""
    power, share = power_of(mixture).astype(np.float64), _share(mixture, bass)
    level = power.sum(axis=1)
    sounding = level > MIN_POWER * np.maximum(_moving_sum(level, POWER_FRAMES) / (2 * POWER_FRAMES + 1), 1e-12)
    hz, note = _notes(config, power)
    note &= sounding
    clear = note & (np.abs(share - 0.5) > MIN_SHARE - 0.5)
    around = np.maximum(_moving_sum(sounding, SOLO_FRAMES), 1)
    alone = _moving_sum(clear, SOLO_FRAMES) >= MIN_SOLO * around
    alone |= _moving_sum(note, SOLO_FRAMES) >= MIN_LONE * around
    line = np.flatnonzero(note & alone)

    evidence = np.where(clear, NETWORK_WEIGHT * (2 * share - 1), 0.0)
    evidence[clear & (hz < BASS_BELOW_HZ) & (share > 0.5)] = 1.0
    evidence[clear & (hz > GUITAR_ABOVE_HZ) & (share < 0.5)] = -1.0

    weights = np.exp(-np.abs(np.arange(-EVIDENCE_FRAMES, EVIDENCE_FRAMES + 1)) / EVIDENCE_DECAY)
    ends = (np.diff(line) > MAX_GAP) | (np.abs(np.diff(12 * np.log2(hz[line]))) > MAX_LEAP)
    owner = np.full(len(mixture), np.nan)
    for frames in np.split(line, np.flatnonzero(ends) + 1):
        if len(frames):
            whole = slice(frames[0], frames[-1] + 1)
            counted = np.zeros(whole.stop - whole.start)
            counted[frames - frames[0]] = evidence[frames]
            found = np.convolve(counted, weights)[EVIDENCE_FRAMES : EVIDENCE_FRAMES + len(counted)]
            pitch = np.exp(np.interp(np.arange(whole.start, whole.stop), frames, np.log(hz[frames])))
            unclear = (pitch > BASS_BELOW_HZ) & (pitch < GUITAR_ABOVE_HZ)
            decided = np.where(found > 0, 1.0, 0.0)
            owner[whole] = np.where((np.abs(found) > MIN_EVIDENCE) & alone[whole] & unclear, decided, np.nan)
    return owner


def _notes(config: Config, power: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pitch of every frame in Hz, and whether it is a lone, steady note."""
    pitches, partials, lowest = _partials(config)
    explained = power @ partials / (power.sum(axis=1, keepdims=True) + 1e-12)
    fundamental = np.maximum.reduce([power[:, lowest + off] for off in (-1, 0, 1)])
    explained[fundamental < MIN_FUNDAMENTAL * power.max(axis=1, keepdims=True)] = 0.0
    best = explained.max(axis=1, keepdims=True)
    highest = explained.shape[1] - 1 - np.argmax(explained[:, ::-1] >= best - EXPLAINED_MARGIN, axis=1)
    hz = pitches[highest]
    neighbours = np.lib.stride_tricks.sliding_window_view(np.pad(12 * np.log2(hz), 1, mode="edge"), 3)
    steady = np.ptp(neighbours, axis=1) <= MAX_GLIDE
    return hz, steady & (np.take_along_axis(explained, highest[:, np.newaxis], axis=1)[:, 0] >= MIN_EXPLAINED)


@lru_cache(maxsize=4)
def _partials(config: Config) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pitches in Hz, a 0/1 matrix of the bins at their partials (bins, pitches), and each pitch's lowest bin."""
    bin_hz = config.sample_rate / config.n_fft
    hz = np.arange(config.bins)[:, np.newaxis] * bin_hz
    pitches = LOWEST_HZ * 2 ** (np.arange(OCTAVES * PER_OCTAVE) / PER_OCTAVE)
    pitches = pitches[pitches < hz[-1] - 2 * bin_hz]
    off = np.abs(hz - np.maximum(np.round(hz / pitches), 1) * pitches)
    within = np.maximum(np.clip(0.3 * pitches, 1.5 * bin_hz, PARTIAL_HZ), PARTIAL_RATIO * hz)
    return pitches, (off <= within).astype(np.float64), np.round(pitches / bin_hz).astype(int)


def _share(mixture: np.ndarray, bass: np.ndarray) -> np.ndarray:
    """The bass's share of the power in every frame, (frames,)."""
    powers = (power_of(spectra).sum(axis=1, dtype=np.float64) for spectra in (bass, mixture - bass))
    own, other = (smoothed(power, SHARE_FRAMES) for power in powers)
    result: np.ndarray = own / (own + other + 1e-12)
    return result


def _moving_sum(values: np.ndarray, frames: int) -> np.ndarray:
    """Sums over `frames` on either side of each frame."""
    summed = np.concatenate([[0.0], np.cumsum(np.pad(values.astype(np.float64), frames))])
    result: np.ndarray = summed[2 * frames + 1 :] - summed[: -(2 * frames + 1)]
    return result
