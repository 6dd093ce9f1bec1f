"""A small compact network, and music for it, for its tests."""

from pathlib import Path

import numpy as np

from gbsep.audio import Audio, join
from gbsep.separation.compact import backend as compact
from gbsep.separation.compact import network as compact_network
from gbsep.separation.compact.config import Config

HELD_OUT = Path(__file__).parents[1] / "training" / "fold_a.safetensors"
"""Trained without the instruments of two of the jams."""

SMALL = Config(n_fft=256, hop_length=64, bins=80, pitches=48, bins_per_octave=12, gathered=3, harmonics=4,
               widths=(4, 4, 6), dilations=((1, 1), (2, 2), (4, 4), (2, 1)), projected=2, head=4)  # fmt: skip


def lively(config: Config = SMALL, seed: int = 0) -> compact_network.Weights:
    """Untrained weights whose output hangs on everything the network sees."""
    weights = compact_network.new_weights(config, seed)
    for own in compact_network.passes(weights):
        own["out.weight"] *= 20
    return weights


def music(frames: int, channels: int, rng: np.random.Generator, sample_rate: int = 8000) -> Audio:
    time = np.arange(frames) / sample_rate
    tones = sum(np.sin(2 * np.pi * hz * time + hz) for hz in (55, 110, 165, 440, 880)) / 10
    return Audio(tones + 0.02 * rng.standard_normal((channels, frames)), sample_rate)


def separated(
    audio: Audio, weights: compact_network.Weights, config: Config = SMALL, shifts: int = 1
) -> dict[str, np.ndarray]:
    blocks = list(compact.separate(audio.reader(), config, weights, shifts=shifts))
    return {name: join(block[name] for block in blocks) for name in ("bass", "guitar")}
