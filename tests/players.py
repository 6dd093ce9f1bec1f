"""Spectra of players, their places in a stereo picture, and rough estimates of one of them."""

from __future__ import annotations

import numpy as np

from gbsep.separation.compact.places import Places, find_bass, find_guitars, look

BINS, FRAMES = 60, 400


def player(rng: np.random.Generator, frames: int = FRAMES) -> np.ndarray:
    """Spectra (frames, bins) of somebody whose notes last twenty frames, each bin of them as loud as it always is."""
    level = 10 ** (rng.normal(0, 12, BINS) / 20) * (rng.random(BINS) < 0.5)
    noise = rng.standard_normal((2, frames, BINS))
    held = (rng.random((frames // 20, BINS)) < 2 / 3).repeat(20, axis=0)
    return ((noise[0] + 1j * noise[1]) * level * held).astype(np.complex64)


def melody(rng: np.random.Generator, frames: int = FRAMES) -> np.ndarray:
    """Spectra (frames, bins) of somebody who plays eight notes, one at a time, each for twenty frames or more."""
    notes = 10 ** (rng.normal(0, 12, (8, BINS)) / 20) * (rng.random((8, BINS)) < 0.3)
    noise = rng.standard_normal((2, frames, BINS))
    played = rng.integers(8, size=frames // 20).repeat(20)
    return ((noise[0] + 1j * noise[1]) * notes[played]).astype(np.complex64)


def picture(placed: list[tuple[float, np.ndarray]]) -> np.ndarray:
    """Mid and side of players at places in degrees: (2, frames, bins)."""
    return sum(
        np.stack([np.float32(np.cos(np.radians(place))) * one, np.float32(np.sin(np.radians(place))) * one])
        for place, one in placed
    )


def sdr_db(truth: np.ndarray, estimate: np.ndarray) -> float:
    return float(10 * np.log10(np.sum(abs(truth) ** 2) / np.sum(abs(estimate - truth) ** 2)))


def rough(truth: np.ndarray, rest: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A masking estimate of `truth` in `truth + rest`, by powers that are some 6 dB wrong for twenty frames each."""
    error_db = rng.normal(0, 6, (2, len(truth) // 20, BINS)).repeat(20, axis=1)
    powers = abs(np.stack([truth, rest])) ** 2 * 10 ** (error_db / 10).astype(np.float32)
    return (truth + rest) * powers[0] / (powers.sum(axis=0) + np.float32(1e-9))


def found_places(pieces: list[np.ndarray]) -> Places | None:
    """All places in pieces as for `look`; None where the bass has none, or shares it with all guitars."""
    picture = look(pieces)
    bass = find_bass(picture)
    return None if bass is None else find_guitars(picture, bass)
