"""Batches of music with their true bass, made on the training device from a pool.

What varies here, take by take: which bass meets which guitars (mostly those of its own song, whose notes collide),
levels from -10 to +10 dB between them, a smooth equaliser and now and then a comb on each stem, polarity, place (each
stem anywhere, the bass off-centre as well, one side of a guitar a little late), folding to mono half the time, one side
silent, drums. Filters are applied to whole excerpts by the FFT, so the truth stays exact.
A batch depends on (seed, step) and the pool alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .pool import FULL_SCALE, Pool

if TYPE_CHECKING:
    import torch

LEVEL_RANGE_DB = 10.0
MIDDLE = 0.4
"""How often a stem is in the centre; the same for bass and guitar, or place would be taken for the answer."""
STRANGER = 0.2
"""How often a guitar comes from another song; mostly it is of the bass's own, whose notes collide with it."""
EQ_BANDS = 7
EQ_DB = 5.0
EQ_GRID = 257
"""Points of an equaliser's response; between them it is interpolated."""


@dataclass(frozen=True, eq=False)
class Sources:
    """A pool on the training device: stems int16 (takes, stems, frames), drums int16 (loops, frames)."""

    stems: torch.Tensor
    drums: torch.Tensor
    sample_rate: int


def on_device(pool: Pool, loops: list[np.ndarray], sample_rate: int, device: str) -> Sources:
    """`pool` and drum `loops` as tensors; without loops the drums are silence."""
    import torch

    frames = pool.stems.shape[-1]
    drums = np.stack([np.resize(loop, frames) for loop in loops]) if loops else np.zeros((1, frames), np.int16)
    return Sources(torch.from_numpy(pool.stems).to(device), torch.from_numpy(drums).to(device), sample_rate)


def batch(sources: Sources, seed: int, step: int, size: int, seconds: float) -> tuple[torch.Tensor, torch.Tensor]:
    """(mixture, bass), float32 (size, 2, frames), as mid and side; the mixture's RMS is near 1."""
    import torch

    stems = sources.stems
    takes, parts, length = stems.shape
    frames = int(seconds * sources.sample_rate)
    rng = np.random.default_rng([seed, step])
    device = stems.device

    def tensor(values: np.ndarray) -> torch.Tensor:
        return torch.tensor(np.asarray(values, np.float32), device=device)

    def excerpt(take: int, part: int, start: int) -> torch.Tensor:
        return stems[take, part, start : start + frames]

    rows = []
    for _ in range(size):
        take, start = int(rng.integers(takes)), int(rng.integers(length - frames + 1))
        row = [excerpt(take, 0, start)]
        for part in range(1, parts):
            if rng.random() < STRANGER:
                other, at = int(rng.integers(takes)), int(rng.integers(length - frames + 1))
                row.append(excerpt(other, part, at))
            else:
                row.append(excerpt(take, part, start))
        loop, at = int(rng.integers(len(sources.drums))), int(rng.integers(length - frames + 1))
        row.append(sources.drums[loop, at : at + frames])
        rows.append(torch.stack(row))
    x = torch.stack(rows).float() / FULL_SCALE

    count = parts + 1
    level_db = np.zeros((size, count))
    level_db[:, 0] = rng.triangular(-LEVEL_RANGE_DB, 0, LEVEL_RANGE_DB, size)
    level_db[:, 1:parts] = rng.uniform(-6, 3, (size, parts - 1))
    level_db[:, parts] = rng.uniform(-12, 3, size)
    present = np.ones((size, count))
    silent = rng.random(size)
    present[silent < 0.06, 0] = 0
    present[silent > 0.96, 1:parts] = 0
    present[:, parts] = rng.random(size) < 0.15
    gain = 10 ** (level_db / 20) * present * rng.choice([-1.0, 1.0], (size, count))

    x = x - x.mean(dim=-1, keepdim=True)
    response = _responses(rng, (size, count), sources.sample_rate)
    fine = torch.nn.functional.interpolate(tensor(response), frames // 2 + 1, mode="linear", align_corners=True)
    place = np.pi / 4 * (1 + rng.uniform(-1, 1, (size, count)) * rng.random((size, count)))
    middle = rng.random((size, count)) < MIDDLE
    place[middle] = np.pi / 4
    left, right = np.cos(place) * gain, np.sin(place) * gain
    late_s = rng.uniform(0, 0.012, (size, count)) * (rng.random((size, count)) < 0.15)
    late_s[:, 0] = 0
    hz = torch.fft.rfftfreq(frames, 1 / sources.sample_rate).to(device)
    delay = torch.exp(-2j * np.pi * hz * tensor(late_s)[..., None])
    spectra = torch.fft.rfft(x) * fine
    left_spectra = spectra * tensor(left)[..., None]
    right_spectra = spectra * tensor(right)[..., None] * delay
    side = tensor(rng.random(size) < 0.5)[:, None, None]
    mid_side = torch.stack([left_spectra + right_spectra, (left_spectra - right_spectra) * side], dim=2) / 2
    made = torch.fft.irfft(mid_side, n=frames)
    mixture, bass = made.sum(dim=1), made[:, 0]
    rms = mixture.square().mean(dim=(1, 2), keepdim=True).sqrt()
    level = tensor(10 ** (rng.uniform(-4, 6, size) / 20))[:, None, None] / (rms + 1e-4)
    return mixture * level, bass * level


def _responses(rng: np.random.Generator, shape: tuple[int, int], sample_rate: int) -> np.ndarray:
    """Magnitude responses (*shape, EQ_GRID), 0 Hz to half the rate: random smooth curves, some with a comb."""
    hz = np.linspace(0, sample_rate / 2, EQ_GRID)
    knots = np.linspace(np.log2(30), np.log2(sample_rate / 2), EQ_BANDS)
    blend = np.stack([np.interp(np.log2(np.maximum(hz, 30)), knots, unit) for unit in np.eye(EQ_BANDS)])
    curve_db = rng.normal(0, 1, (*shape, EQ_BANDS)) * (EQ_DB * rng.random((*shape, 1))) @ blend
    depth = rng.uniform(0.2, 0.8, (*shape, 1)) * (rng.random((*shape, 1)) < 0.2)
    delay_s = rng.uniform(0.0002, 0.004, (*shape, 1))
    comb = np.abs(1 + depth * np.exp(-2j * np.pi * hz * delay_s)) / (1 + depth / 2)
    return 10 ** (curve_db / 20) * comb
