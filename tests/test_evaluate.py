"""SDR against its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gbsep.audio import Audio
from gbsep.errors import AudioError
from gbsep.evaluate import sdr


def test_noise_at_a_known_level(rng: np.random.Generator) -> None:
    truth, noise = rng.standard_normal((2, 2, 50000))
    for level_db in (-40.0, -10.0, 6.0):
        scaled = noise * np.linalg.norm(truth) / np.linalg.norm(noise) * 10 ** (level_db / 20)
        assert sdr(Audio(truth, 44100), Audio(truth + scaled, 44100)) == pytest.approx(-level_db, abs=0.001)


def test_the_edges() -> None:
    silence, tone = Audio(np.zeros(10), 8000), Audio(np.ones(10), 8000)
    assert sdr(tone, tone) == math.inf
    assert sdr(silence, tone) == -math.inf
    assert sdr(tone, silence) == pytest.approx(0.0)
    with pytest.raises(AudioError, match="cannot be compared with"):
        sdr(tone, Audio(np.ones(11), 8000))
