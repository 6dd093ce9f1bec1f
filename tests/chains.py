"""Sounds for the tests of chains, and chains over them."""

import math
from itertools import pairwise

import numpy as np

from gbsep.audio import Audio, join
from gbsep.effects.chain import apply_blocks, parse_chain
from gbsep.effects.table import EFFECTS

RATE = 44100
STREAMING = [name for name, spec in EFFECTS.items() if spec.streams and name not in ("Convolution", "Ducker")]


def noise(frames=20_000, channels=2, level=0.5, seed=0):
    samples = np.random.default_rng(seed).uniform(-level, level, (channels, frames)).astype(np.float32)
    return Audio(samples, RATE)


def impulse(frame, frames=30_000):
    samples = np.zeros((2, frames), np.float32)
    samples[:, frame] = 0.5
    return Audio(samples, RATE)


def run(chain, audio, sizes=None, tail_frames=0, **more):
    """The chain over the audio cut into blocks of `sizes`, over and over."""
    sizes = sizes or [audio.frames]
    edges = np.minimum(np.cumsum([0, *sizes * math.ceil(audio.frames / sum(sizes))]), audio.frames)
    blocks = [audio.samples[:, a:b] for a, b in pairwise(edges) if a < b]
    nodes = parse_chain(chain) if isinstance(chain, list) else chain
    return join(apply_blocks(blocks, nodes, audio.sample_rate, audio.channels, audio.frames, tail_frames, **more))


def level_db(samples):
    return 20 * np.log10(np.abs(samples))
