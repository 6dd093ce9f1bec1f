"""The ducker's gain against its static curve and its time constants."""

from itertools import pairwise

import numpy as np
import pytest

from gbsep.effects.automation import Automation
from gbsep.effects.ducker import STEP_S, ducker_gains

RATE = 44100
PARAMS = {"threshold_db": -30.0, "ratio": 4.0, "attack_ms": 10.0, "release_ms": 200.0, "range_db": 24.0}


def gains_db(key, sizes=(100_000,), **params):
    edges = np.minimum(np.cumsum([0, *sizes * (key.size // sum(sizes) + 1)]), key.size)
    blocks = [key[np.newaxis, a:b] for a, b in pairwise(edges) if a < b]
    return 20 * np.log10(np.concatenate(list(ducker_gains(blocks, {**PARAMS, **params}, RATE))))


@pytest.mark.parametrize("ratio", [1.0, 2.0, 10.0, 1000.0])
@pytest.mark.parametrize("key_db", [-60.0, -31.0, -20.0, 0.0])
def test_the_static_curve(key_db, ratio):
    settled_db = gains_db(np.full(RATE, 10 ** (key_db / 20)), ratio=ratio)[-1]
    assert settled_db == pytest.approx(-min(24, max(0, key_db + 30) * (1 - 1 / ratio)), abs=1e-3)


def test_attack_and_release_are_time_constants_in_db():
    key = np.zeros(2 * RATE)
    key[RATE // 2 : RATE] = 10 ** (-10 / 20)
    gain_db = gains_db(key)
    step = int(STEP_S * RATE)
    assert gain_db[RATE // 2 + 441] == pytest.approx(-15 * (1 - np.exp(-1)), abs=15 * 2 * step / 441)
    assert gain_db[RATE + 8820] == pytest.approx(-15 * np.exp(-1), abs=15 * 2 * step / 8820)


def test_the_gain_does_not_depend_on_how_the_key_is_cut(rng):
    key = rng.uniform(-0.5, 0.5, 50_000)
    np.testing.assert_array_equal(gains_db(key), gains_db(key, (1, 777, 30)))


def test_the_gain_has_no_jumps(rng):
    key = rng.uniform(-1, 1, 20_000) * (np.arange(20_000) % 5000 < 500)
    moving = Automation(((0.1, -20.0), (0.2, -60.0)), "hold")
    gain_db = gains_db(key, attack_ms=1.0, threshold_db=moving)
    assert gain_db.min() < -15
    assert np.abs(np.diff(gain_db)).max() < 1.0
    assert len(gain_db) == key.size


def test_the_louder_channel_counts():
    key = np.stack([np.zeros(RATE), np.full(RATE, 10 ** (-10 / 20))])
    both = np.concatenate(list(ducker_gains([key], PARAMS, RATE)))
    np.testing.assert_allclose(20 * np.log10(both), gains_db(key[1]))
