"""Two guitars by what they play: a line (lead) and chords (rhythm), rendered apart.

Every song is that of a band: one scale, one riff, one row of chords. The lead keeps to one way of playing lines, the
rhythm to one of playing chords; now and then the rhythm is two guitars, or what it plays are chords broken up. Where
both play one note at a time, only their sound, their register and what they did before tell them apart: `broken` is how
often a song is made so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from .generator import Take, amplify, choose, play
from .instruments import Instrument
from .scores import MANNERS, compose

LEADS = {"lead": 6, "legato": 4, "low line": 2, "riff": 2, "run": 2, "octaves": 1}
RHYTHMS = {"strum": 4, "barre": 4, "power": 3, "held": 2, "arpeggio": 3, "stabs": 1, "chug": 1, "low power": 1}
"""Ways of playing of `styles.GUITAR_STYLES`, and how often each comes up."""

BROKEN = {"leaps": 3, "lead": 1, "legato": 1}, {"arpeggio": 1}
"""Leads and rhythms of songs in which both play one note at a time."""

SAME, BOTH = 0.15, 0.15
"""How often both play one kind of guitar, and how often the rhythm is two guitars."""


def role_takes(seed: int, instruments: Sequence[Instrument], seconds: float, broken: float = 0.0) -> Iterator[Take]:
    """Endless music; `stems` are float32 (2, frames), the lead first. Take n depends on all arguments and n alone."""
    guitars = [one for one in instruments if one.role == "guitar"]
    number = 0
    while True:
        rng = np.random.default_rng([seed, number])
        leads, rhythms = BROKEN if broken and rng.random() < broken else (LEADS, RHYTHMS)
        doubled = rng.random() < BOTH and rhythms is RHYTHMS
        ways = [_drawn(rng, leads), *(_drawn(rng, rhythms) for _ in range(1 + doubled))]
        song = compose(rng, seconds, len(ways), str(rng.choice(MANNERS)), ["roots", *ways])
        players = [choose(rng, guitars) for _ in ways]
        if rng.random() < SAME:
            players[1] = players[0]
        parts = song.parts[1:]
        heard = [
            amplify(rng, play(rng, part, who, seconds), who.role) for part, who in zip(parts, players, strict=True)
        ]
        stems = np.stack([heard[0], sum(heard[1:], np.zeros_like(heard[0]))])
        stems *= 0.99 / max(0.99, float(np.abs(stems).max()))
        yield Take(stems, tuple(who.name for who in players), tuple(parts))
        number += 1


def _drawn(rng: np.random.Generator, ways: dict[str, int]) -> str:
    weights = np.array(list(ways.values()), np.float64)
    return str(rng.choice(list(ways), p=weights / weights.sum()))
