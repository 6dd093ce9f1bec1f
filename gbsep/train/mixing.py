"""Batches of music with their true bass, made on the training device from a pool.

What varies here, take by take: which bass meets which guitars (mostly those of its own song, whose notes collide),
drive, levels from -10 to +10 dB between them, a smooth equaliser and now and then a comb on each stem, polarity, one
side silent or pausing, drums. Filters are applied to whole excerpts by the FFT, so the truth stays exact. All is mono,
as the network is: places in the stereo picture are the affair of `separation.places`.
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
LEVEL_SPREAD_DB = 4.5
"""Standard deviation of the bass's level: most songs are near the middle, where separation is hardest."""
SILENT = 0.1
"""How often the bass is silent throughout, and how often the guitars are."""
PAUSE, FADE_S = 0.6, 0.02
"""How often the bass or, half as often, the guitars pause in an excerpt, and how long they take to stop or begin."""
STRANGER = 0.1
"""How often a guitar comes from another song; mostly it is of the bass's own, whose notes collide with it."""
BASS_DRIVEN, GUITAR_DRIVEN = 0.5, 0.2
"""How often each is driven here; guitars mostly are already."""
DRIVE_DB = -8.0, 26.0
"""Gain into the clipper, above an RMS of 0.7."""
OVERSAMPLING = 4
EQ_BANDS = 7
EQ_DB = 5.0
EQ_GRID = 257
"""Points of an equaliser's response; between them it is interpolated."""


@dataclass(frozen=True, eq=False)
class Sources:
    """A pool on the training device: stems int16 (takes, stems, frames), drums int16 (loops, frames).

    finished: the stems are those of finished songs, which no amp is to change.
    """

    stems: torch.Tensor
    drums: torch.Tensor
    sample_rate: int
    finished: bool = False


def on_device(pool: Pool, loops: list[np.ndarray], sample_rate: int, device: str, finished: bool = False) -> Sources:
    """`pool` and drum `loops` as tensors; without loops the drums are silence."""
    import torch

    frames = pool.stems.shape[-1]
    drums = np.stack([np.resize(loop, frames) for loop in loops]) if loops else np.zeros((1, frames), np.int16)
    return Sources(torch.from_numpy(pool.stems).to(device), torch.from_numpy(drums).to(device), sample_rate, finished)


def batch(sources: Sources, seed: int, step: int, size: int, seconds: float) -> tuple[torch.Tensor, torch.Tensor]:
    """(mixture, bass), float32 (size, frames); the mixture's RMS is near 1."""
    import torch

    rng = np.random.default_rng([seed, step])
    frames = int(seconds * sources.sample_rate)
    x = _excerpts(rng, sources, size, frames)
    if not sources.finished:
        x = _driven(rng, x, sources.sample_rate)
    shape = (size, x.shape[1])
    x = x * torch.from_numpy(_playing(rng, shape, frames, sources.sample_rate)).to(x.device)
    gain = _gains(rng, shape)
    response = _responses(rng, shape, sources.sample_rate)
    level = 10 ** (rng.uniform(-4, 6, size) / 20)

    def tensor(values: np.ndarray) -> torch.Tensor:
        return torch.tensor(np.asarray(values, np.float32), device=x.device)

    fine = torch.nn.functional.interpolate(
        tensor(response * gain[..., None]), frames // 2 + 1, mode="linear", align_corners=True
    )
    made = torch.fft.irfft(torch.fft.rfft(x - x.mean(dim=-1, keepdim=True)) * fine, n=frames)
    mixture, bass = made.sum(dim=1), made[:, 0]
    scale = tensor(level)[:, None] / (mixture.square().mean(dim=1, keepdim=True).sqrt() + 1e-4)
    return mixture * scale, bass * scale


def _excerpts(rng: np.random.Generator, sources: Sources, size: int, frames: int) -> torch.Tensor:
    """Dry stems and, last, drums, float32 (size, stems + 1, frames)."""
    import torch

    takes, parts, length = sources.stems.shape

    def anywhere(count: int) -> tuple[int, int]:
        return int(rng.integers(count)), int(rng.integers(length - frames + 1))

    rows = []
    for _ in range(size):
        own = anywhere(takes)
        places = [own] + [anywhere(takes) if rng.random() < STRANGER else own for _ in range(1, parts)]
        row = [sources.stems[take, part, at : at + frames] for part, (take, at) in enumerate(places)]
        loop, at = anywhere(len(sources.drums))
        rows.append(torch.stack([*row, sources.drums[loop, at : at + frames]]))
    return torch.stack(rows).float() / FULL_SCALE


def _driven(rng: np.random.Generator, x: torch.Tensor, sample_rate: int) -> torch.Tensor:
    """`x` (size, stems + 1, frames), some of its stems through a high-pass and a soft clipper, as loud as before."""
    import torch

    size, count, frames = x.shape
    shape, bins = (size, count), frames // 2 + 1
    driven = rng.random(shape) < [BASS_DRIVEN] + [GUITAR_DRIVEN] * (count - 2) + [0.0]
    cutoff_hz = 10 ** rng.uniform(1.0, 2.5, shape) * (rng.random(shape) < 0.6)
    gain = 0.7 * 10 ** (rng.uniform(*DRIVE_DB, shape) / 20)
    bias = rng.normal(0, 0.3, shape)
    hz = torch.fft.rfftfreq(frames, 1 / sample_rate, device=x.device)

    def rms(signal: torch.Tensor) -> torch.Tensor:
        return signal.square().mean().sqrt()

    for place in zip(*np.nonzero(driven), strict=True):
        level = rms(x[place])
        high = torch.fft.rfft(x[place]) * (hz / (hz + float(cutoff_hz[place]) + 1e-3))
        fine = torch.fft.irfft(high, n=OVERSAMPLING * frames)
        fine = torch.tanh(float(gain[place]) * fine / (rms(fine) + 1e-6) + float(bias[place]))
        made = torch.fft.irfft(torch.fft.rfft(fine - fine.mean())[:bins], n=frames)
        x[place] = made * (level / (rms(made) + 1e-6))
    return x


def _playing(rng: np.random.Generator, shape: tuple[int, int], frames: int, sample_rate: int) -> np.ndarray:
    """Which stems play when, float32 (*shape, frames): 1, and 0 where one side pauses."""
    playing = np.ones((*shape, frames), np.float32)
    time_s = np.arange(frames) / sample_rate
    for row in playing:
        middle_s, half_s = rng.uniform(0, time_s[-1]), rng.uniform(0.5, max(0.5, time_s[-1] / 2))
        bass, pauses = rng.random() < 2 / 3, rng.random() < PAUSE
        if pauses:
            (row[:1] if bass else row[1:-1])[:] = np.clip((np.abs(time_s - middle_s) - half_s) / FADE_S, 0, 1)
    return playing


def _gains(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Gain of every stem with its polarity, zero where it is silent; the bass first, the drums last."""
    size, count = shape
    level_db = np.zeros(shape)
    level_db[:, 0] = np.clip(rng.normal(0, LEVEL_SPREAD_DB, size), -LEVEL_RANGE_DB, LEVEL_RANGE_DB)
    level_db[:, 1:-1] = rng.uniform(-6, 3, (size, count - 2))
    level_db[:, -1] = rng.uniform(-12, 3, size)
    present = np.ones(shape)
    silent = rng.random(size)
    present[silent < SILENT, 0] = 0
    present[silent > 1 - SILENT, 1:-1] = 0
    present[:, -1] = rng.random(size) < 0.15
    gains: np.ndarray = 10 ** (level_db / 20) * present * rng.choice([-1.0, 1.0], shape)
    return gains


def _responses(rng: np.random.Generator, shape: tuple[int, int], sample_rate: int) -> np.ndarray:
    """Magnitude responses (*shape, EQ_GRID), 0 Hz to half the rate: random smooth curves, some with a comb."""
    hz = np.linspace(0, sample_rate / 2, EQ_GRID)
    knots = np.linspace(np.log2(30), np.log2(sample_rate / 2), EQ_BANDS)
    blend = np.stack([np.interp(np.log2(np.maximum(hz, 30)), knots, unit) for unit in np.eye(EQ_BANDS)])
    curve_db = rng.normal(0, 1, (*shape, EQ_BANDS)) * (EQ_DB * rng.random((*shape, 1))) @ blend
    depth = rng.uniform(0.2, 0.8, (*shape, 1)) * (rng.random((*shape, 1)) < 0.2)
    delay_s = rng.uniform(0.0002, 0.004, (*shape, 1))
    comb = np.abs(1 + depth * np.exp(-2j * np.pi * hz * delay_s)) / (1 + depth / 2)
    curve: np.ndarray = 10 ** (curve_db / 20) * comb
    return curve
