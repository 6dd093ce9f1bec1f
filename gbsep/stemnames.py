"""The names of stems, and what each of them means to all of gbsep: which go together, where instruments lie.

A stem may have any name; these are the ones that gbsep knows something about.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

BASS, GUITAR, OTHER, DRUMS, VOCALS, PIANO = "bass", "guitar", "other", "drums", "vocals", "piano"
MIXTURE, RESIDUAL = "mixture", "residual"

INSTRUMENTS = (BASS, GUITAR, DRUMS, VOCALS, PIANO, OTHER)
"""The stems that have a colour of their own in sessions and reports."""

NO_STEMS = (MIXTURE, RESIDUAL)
"""Names of files beside stems that are no stems: the recording, and what no stem took."""

BASS_AND_GUITAR = (BASS, GUITAR)
"""What the backends give that know two instruments."""

FOUR_STEMS = (DRUMS, BASS, OTHER, VOCALS)
"""What networks trained on MUSDB18 give, in their order."""

PARTNERS = (GUITAR, OTHER)
"""Stems that a bass may be mistaken for, the likelier first. Drums are none: a kick drum is as low as a bass."""

NUMBERED_GUITAR = re.compile(r"guitar\d+")
"""Guitars that were recorded one by one; their sum is the guitar."""

BASS_BODY_HZ = (30.0, 400.0)
"""Where a bass guitar has its fundamentals and first partials."""

ABOVE_BASS_HZ = 1500.0
"""Above this a bass guitar has next to nothing."""

GUITAR_LOW_HZ = 100.0
"""Most of a guitar lies above, much of a bass guitar below."""

BELOW_GUITAR_HZ = 58.0
"""Below this a guitar has next to nothing, also tuned down to B1 (62 Hz, less a spectral peak's width)."""


def partners(names: Iterable[str]) -> list[str]:
    """Those of the names that a bass may be mistaken for, the likelier first.

    >>> partners(["drums", "bass", "other", "guitar"])
    ['guitar', 'other']
    """
    known = set(names)
    return [name for name in PARTNERS if name in known]
