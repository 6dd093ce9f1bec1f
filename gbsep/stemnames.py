"""The names of stems that gbsep knows, which of them go together, and the frequency ranges of the instruments.

A stem may have any other name too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

BASS, GUITAR, OTHER, DRUMS, VOCALS, PIANO = "bass", "guitar", "other", "drums", "vocals", "piano"
MIXTURE, RESIDUAL = "mixture", "residual"

INSTRUMENTS = (BASS, GUITAR, DRUMS, VOCALS, PIANO, OTHER)
"""The stems with a colour of their own in sessions and reports."""

NO_STEMS = (MIXTURE, RESIDUAL)
"""Names of files beside stems that are no stems: the recording, and the mixture minus all stems."""

BASS_AND_GUITAR = (BASS, GUITAR)
"""The stems of backends for two instruments."""

FOUR_STEMS = (DRUMS, BASS, OTHER, VOCALS)
"""The stems of networks trained on MUSDB18, in their order."""

PARTNERS = (GUITAR, OTHER)
"""Stems that a bass may be mistaken for, likelier first. Not drums: a kick drum is as low as a bass."""

NUMBERED_GUITAR = re.compile(r"guitar\d+")
"""Guitars recorded on tracks of their own; their sum is the guitar."""

TWO_GUITARS = (f"{GUITAR}1", f"{GUITAR}2")
"""A guitar in two: the left one or the rhythm, and the right one or the lead."""

BASS_BODY_HZ = (30.0, 400.0)
"""The fundamentals and first partials of a bass guitar."""

ABOVE_BASS_HZ = 1500.0
"""A bass guitar has almost no energy above."""

GUITAR_LOW_HZ = 100.0
"""Most of a guitar's energy is above, much of a bass guitar's below."""

BELOW_GUITAR_HZ = 58.0
"""A guitar has almost no energy below, even tuned down to B1: 62 Hz minus the width of a spectral peak."""


def partners(names: Iterable[str]) -> list[str]:
    """Those of the names that a bass may be mistaken for, likelier first.

    >>> partners(["drums", "bass", "other", "guitar"])
    ['guitar', 'other']
    """
    known = set(names)
    return [name for name in PARTNERS if name in known]
