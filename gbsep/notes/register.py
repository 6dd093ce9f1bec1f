"""Whether a bass plays at all: a guitar that is taken for one plays notes, but none that only a bass has.

Those are the notes below a guitar's lowest string. The network hears some below a guitar's chords too, an octave under
a root, where the fundamental and the partials that the upper octave lacks are weak. A bass without its low end still
has those partials.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .features import BINS, BINS_PER_SEMITONE, FLOOR, LOWEST_MIDI

GUITAR_LOWEST = 40
"""E2, the lowest string of a guitar in standard tuning."""
HARMONICS = 8
OWN = (5, 7)
"""Partials that neither the octave above has nor, both of them, a chord on it."""
WEAKEST_DB = -15.0
"""Least level of the fundamental, or else of both of OWN, below the strongest partial."""
LEAST_NOTES = 8
"""Fewer notes say nothing about who plays them."""
LEAST_PART = 0.1
"""Part of a bass's notes that lie so low, at the least."""


@lru_cache(64)
def _places(midi: int) -> tuple[int, ...]:
    places = (round(BINS_PER_SEMITONE * (midi - LOWEST_MIDI + 12 * np.log2(n))) for n in range(1, HARMONICS + 1))
    return tuple(place for place in places if place < BINS - 1)


def only_a_bass(midi: int, spectra: np.ndarray) -> bool:
    """Whether a note, of which (frames, BINS) of `features` through the longest window are given, lies below a guitar's
    and has the partials of its own octave."""
    if midi >= GUITAR_LOWEST:
        return False
    loudest = spectra.max(axis=0)
    levels = [float(loudest[max(0, place - 1) : place + 2].max()) for place in _places(midi)]
    own = max(levels[0], min(levels[number - 1] for number in OWN))
    return (own - max(levels)) * -20 * float(np.log10(FLOOR)) > WEAKEST_DB


def is_no_bass(notes: int, low: int) -> bool:
    """Whether none plays: of so many notes so few are `only_a_bass`."""
    return notes >= LEAST_NOTES and low < LEAST_PART * notes
