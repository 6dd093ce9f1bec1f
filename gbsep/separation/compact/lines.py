"""Lines that sound alone stay with one instrument: a bass that climbs out of its register, a guitar that falls into it.

Where a single line sounds, the network goes by register and hands it over on the way: a scale from E1 to G4 begins as a
bass and ends as a guitar. A listener hears one instrument. So lines are followed: frames in which one harmonic series
holds nearly all the power, amid frames in which the network hears one instrument alone, from note to note. On a line
the evidence of all its frames counts, the less the further they are away: what only one of the two can play (below E2,
above G4) counts fully, what the network says of the notes between hardly. Where that decides for one instrument, the
notes between are its own, whatever the network says. Chords, and passages in which both play, are left as they are.

Spectra are complex64 (frames, bins). A frame depends on MARGIN frames on either side and no more.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .config import Config
from .places import power_of

RESOLVED_S = 0.1
"""Spectra of shorter frames do not tell the partials of a bass apart; by them nothing is followed."""

LOWEST_HZ, PER_OCTAVE, OCTAVES = 27.5, 36, 5
"""The pitches that are looked for."""

OFF_HZ, OFF = 15.7, 0.01
"""How far from its place a partial may lie, in Hz or as a part of its frequency; of a low note not that far."""

EXPLAINED, AS_WELL = 0.9, 0.03
"""Part of a frame's power that a lone note has in its partials, and how much less a higher pitch may explain."""

FUNDAMENTAL = 10**-2.2
"""Least power of a note's lowest partial, against its strongest."""

STEADY = 0.8
"""Semitones that a pitch may move from one frame to the next."""

HEARD, AROUND = 1e-3, 64
"""Least power of a frame, against the mean of so many on either side."""

SMOOTH = 4
"""Frames on either side that an instrument's share is a weighted mean of."""

SURE = 0.88
"""Share of one of the two from which the network hears it alone."""

ALONE, NEAR = 0.4, 64
"""How many of the frames that are heard, of so many on either side, are to be lone notes by the network too."""

GAP, LEAP = 32, 12.5
"""A line ends where no lone note sounds for so many frames, or the next is more semitones away."""

BASS_BELOW_HZ, GUITAR_ABOVE_HZ = 80.0, 400.0
"""E2, as low as guitars are mostly tuned, and G4, as high as basses go."""

BETWEEN = 0.15
"""How much the network's word counts there."""

REACH, FADE = 500, 250
"""Frames of a line that count for each other, and how many of them make it a third."""

DECIDED = 8.0
"""Evidence, in frames, by which a line is given to an instrument."""

WRONG = 0.1
"""What the network says is left as it is where it is no further from that."""

EDGE = 2
"""Frames on either side of a change that it takes."""

MARGIN = REACH + NEAR + AROUND + SMOOTH + EDGE + GAP + 2


def followed(config: Config, mixture: np.ndarray, bass: np.ndarray) -> np.ndarray:
    """`bass` (frames, bins): all of `mixture` where a lone line is the bass's, nothing where it is a guitar's."""
    if config.n_fft < RESOLVED_S * config.sample_rate or not len(mixture):
        return bass
    owner = _owners(config, mixture, bass)
    share = _share(mixture, bass)
    wrong = np.isfinite(owner) & (np.abs(owner - share) > WRONG)
    change = (_around(wrong, EDGE) / (2 * EDGE + 1)).astype(np.float32)[:, np.newaxis]
    all_of_it = np.nan_to_num(owner).astype(np.float32)[:, np.newaxis]
    result: np.ndarray = bass + change * (all_of_it * mixture - bass)
    return result


def _owners(config: Config, mixture: np.ndarray, bass: np.ndarray) -> np.ndarray:
    """Of every frame 1 where a bass plays alone, 0 where a guitar does, NaN where that is unknown."""
    power, share = power_of(mixture).astype(np.float64), _share(mixture, bass)
    level = power.sum(axis=1)
    heard = level > HEARD * np.maximum(_around(level, AROUND) / (2 * AROUND + 1), 1e-12)
    hz, note = _notes(config, power)
    note &= heard
    sure = note & (np.abs(share - 0.5) > SURE - 0.5)
    alone = _around(sure, NEAR) >= ALONE * np.maximum(_around(heard, NEAR), 1)
    line = np.flatnonzero(note & alone)

    evidence = np.where(sure, BETWEEN * (2 * share - 1), 0.0)
    evidence[sure & (hz < BASS_BELOW_HZ) & (share > 0.5)] = 1.0
    evidence[sure & (hz > GUITAR_ABOVE_HZ) & (share < 0.5)] = -1.0

    weights = np.exp(-np.abs(np.arange(-REACH, REACH + 1)) / FADE)
    ends = (np.diff(line) > GAP) | (np.abs(np.diff(12 * np.log2(hz[line]))) > LEAP)
    owner = np.full(len(mixture), np.nan)
    for frames in np.split(line, np.flatnonzero(ends) + 1):
        if len(frames):
            whole = slice(frames[0], frames[-1] + 1)
            counted = np.zeros(whole.stop - whole.start)
            counted[frames - frames[0]] = evidence[frames]
            found = np.convolve(counted, weights)[REACH : REACH + len(counted)]
            pitch = np.exp(np.interp(np.arange(whole.start, whole.stop), frames, np.log(hz[frames])))
            unclear = (pitch > BASS_BELOW_HZ) & (pitch < GUITAR_ABOVE_HZ)
            decided = np.where(found > 0, 1.0, 0.0)
            owner[whole] = np.where((np.abs(found) > DECIDED) & alone[whole] & unclear, decided, np.nan)
    return owner


def _notes(config: Config, power: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pitch of every frame in Hz, and whether it is a note by itself and steady."""
    pitches, partials, lowest = _partials(config)
    explained = power @ partials / (power.sum(axis=1, keepdims=True) + 1e-12)
    fundamental = np.maximum.reduce([power[:, lowest + off] for off in (-1, 0, 1)])
    explained[fundamental < FUNDAMENTAL * power.max(axis=1, keepdims=True)] = 0.0
    best = explained.max(axis=1, keepdims=True)
    highest = explained.shape[1] - 1 - np.argmax(explained[:, ::-1] >= best - AS_WELL, axis=1)
    hz = pitches[highest]
    three = np.lib.stride_tricks.sliding_window_view(np.pad(12 * np.log2(hz), 1, mode="edge"), 3)
    steady = np.ptp(three, axis=1) <= STEADY
    return hz, steady & (np.take_along_axis(explained, highest[:, np.newaxis], axis=1)[:, 0] >= EXPLAINED)


@lru_cache(maxsize=4)
def _partials(config: Config) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pitches in Hz, which bins are at their partials (bins, pitches), and the bin of the lowest of these."""
    bin_hz = config.sample_rate / config.n_fft
    hz = np.arange(config.bins)[:, np.newaxis] * bin_hz
    pitches = LOWEST_HZ * 2 ** (np.arange(OCTAVES * PER_OCTAVE) / PER_OCTAVE)
    pitches = pitches[pitches < hz[-1] - 2 * bin_hz]
    off = np.abs(hz - np.maximum(np.round(hz / pitches), 1) * pitches)
    within = np.maximum(np.clip(0.3 * pitches, 1.5 * bin_hz, OFF_HZ), OFF * hz)
    return pitches, (off <= within).astype(np.float64), np.round(pitches / bin_hz).astype(int)


def _share(mixture: np.ndarray, bass: np.ndarray) -> np.ndarray:
    """The bass's part of the power, frame by frame."""
    window = np.hanning(2 * SMOOTH + 3)[1:-1]
    powers = (power_of(one).sum(axis=1, dtype=np.float64) for one in (bass, mixture - bass))
    own, other = (np.convolve(one, window)[SMOOTH : SMOOTH + len(one)] for one in powers)
    return own / (own + other + 1e-12)


def _around(values: np.ndarray, frames: int) -> np.ndarray:
    """Sums over so many frames on either side."""
    summed = np.concatenate([[0.0], np.cumsum(np.pad(values.astype(np.float64), frames))])
    result: np.ndarray = summed[2 * frames + 1 :] - summed[: -(2 * frames + 1)]
    return result
