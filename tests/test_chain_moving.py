"""Chains whose parameters, mix and levels move: against the pieces rendered alone, in time, without clicks."""

import math

import numpy as np
import pytest
from scipy import signal

from gbsep.audio import Audio
from gbsep.effects.automation import Automation
from gbsep.effects.builtin import Builtin
from gbsep.effects.chain import (
    AUTOMATION_STEP_S,
)
from gbsep.effects.table import EFFECTS

from .chains import STREAMING, impulse, level_db, noise, run

RATE = 44100


def moving(effect, name, points, shape="linear"):
    return [{**effect, name: {"points": points, "shape": shape}}]


def test_a_gain_ramp_is_60_db_close_to_the_ramp_by_frames():
    audio = Audio(np.ones((1, 2 * RATE), np.float32), RATE)
    time_s = np.arange(audio.frames) / RATE
    for start_s in (0.0, 0.123456):
        points = [[start_s, -60], [start_s + 1, 0]]
        out = run(moving({"effect": "Gain"}, "gain_db", points), audio, [10_000])[0]
        ideal = 10 ** (np.interp(time_s, *np.transpose(points)) / 20)
        assert np.abs(out / ideal - 1).max() < 1e-3


@pytest.mark.parametrize(
    ("effect", "name", "values"),
    [
        ({"effect": "Gain"}, "gain_db", (-6, 3, -40)),
        ({"effect": "Distortion"}, "drive_db", (0, 20, 6)),
        ({"effect": "Clipping"}, "threshold_db", (-20, -6, -40)),
        ({"effect": "Bitcrush"}, "bit_depth", (4, 8, 2)),
    ],
    ids=lambda value: value["effect"] if isinstance(value, dict) else "",
)
def test_hold_is_the_rendered_pieces_but_for_a_short_fade(effect, name, values):
    audio = noise(RATE)
    jumps = [0, 10_007, 30_500]
    points = [[jump / RATE, value] for jump, value in zip(jumps, values, strict=True)]
    out = run(moving(effect, name, points, "hold"), audio, [4096])
    pieces = [run([{**effect, name: value}], audio) for value in values]
    fade = math.ceil(AUTOMATION_STEP_S * RATE)
    assert fade <= 0.01 * RATE
    for piece, start, stop in zip(pieces, jumps, [*jumps[1:], RATE], strict=True):
        inside = slice(start + (fade if start else 0), stop)
        np.testing.assert_allclose(out[:, inside], piece[:, inside], rtol=0, atol=2e-7)
    for before, after, jump in zip(pieces, pieces[1:], jumps[1:], strict=False):
        faded = out[:, jump : jump + fade]
        both = np.stack([before, after])[:, :, jump : jump + fade]
        assert (faded >= both.min(axis=0) - 1e-6).all()
        assert (faded <= both.max(axis=0) + 1e-6).all()


@pytest.mark.parametrize(
    ("name", "param"),
    [(name, param) for name in STREAMING for param in EFFECTS[name].params if param.automatable],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_lane_that_does_not_move_changes_nothing(name, param):
    effect = {"effect": name, **({"mode": "lowpass", "cutoff_hz": 300} if name == "Butterworth" else {})}
    value = effect.get(param.name, param.default)
    audio = noise(6000)
    fixed = run([effect], audio)
    held = run(moving(effect, param.name, [[0, value], [0.05, value]]), audio, [1000])
    np.testing.assert_allclose(held, fixed, rtol=0, atol=2e-6)


def test_a_moving_limiter_stays_aligned():
    lane = {"points": [[0, -20], [0.3, -1]]}
    out = run([{"effect": "BrickwallLimiter", "ceiling_db": lane}], impulse(12_345), [999])
    assert np.abs(out[0]).argmax() == 12_345


def treble_db(samples):
    """The peak of what a steady 100 Hz sine has nothing of."""
    highpass = signal.butter(8, 5000, "highpass", fs=RATE, output="sos")
    return level_db(signal.sosfilt(highpass, samples)[RATE // 4 :]).max()


@pytest.mark.parametrize("shape", ["linear", "hold", "exponential"])
def test_a_moving_butterworth_does_not_click(shape):
    audio = Audio(0.5 * np.sin(2 * np.pi * 100 * np.arange(2 * RATE) / RATE), RATE)
    effect = {"effect": "Butterworth", "mode": "lowpass", "order": 4}
    out = run(moving(effect, "cutoff_hz", [[0.5, 400], [1.5, 2000]], shape), audio, [5000])[0]
    low, high = (run([{**effect, "cutoff_hz": cutoff_hz}], audio)[0] for cutoff_hz in (400, 2000))
    jump = int(1.5 * RATE)
    clicking = np.concatenate([low[:jump], high[jump:]])
    assert treble_db(clicking) > -30
    assert treble_db(out) < (-60 if shape == "hold" else -90)


class Late:
    """A gain whose output comes 300 frames late, as a hosted plug-in's does."""

    latency_frames = 300

    def __init__(self, name, params, sample_rate, buffer_frames):
        self.held = np.zeros((2, self.latency_frames), np.float32)
        self.gain = Builtin(name, params, sample_rate, buffer_frames)

    def process(self, block, changes=()):
        delayed = np.concatenate([self.held, block], axis=1)
        self.held = delayed[:, block.shape[1] :]
        return self.gain.process(delayed[:, : block.shape[1]], changes)


@pytest.mark.parametrize("shape", ["linear", "hold"])
def test_reported_latency_is_taken_off_and_automation_keeps_time(shape, monkeypatch):
    chains = [[{"effect": "Gain", "gain_db": -6}], moving({"effect": "Gain"}, "gain_db", [[0.1, -20], [0.3, 0]], shape)]
    prompt = [run(chain, noise(), [999], tail_frames=100) for chain in chains]
    monkeypatch.setattr("gbsep.effects.apply.Builtin", Late)
    for chain, expected in zip(chains, prompt, strict=True):
        np.testing.assert_allclose(run(chain, noise(), [999], tail_frames=100), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", ["linear", "hold"])
def test_wet_and_branch_levels_move_by_frames(shape):
    audio = Audio(np.ones((1, RATE), np.float32), RATE)
    lane = Automation(((0.2, -40.0), (0.7, 0.0)), shape)
    points = {"points": [list(point) for point in lane.points], "shape": shape}
    out = run([{"effect": "Parallel", "branches": [{"chain": [], "mix_db": points}]}], audio)[0]
    expected = 10 ** (lane.at(np.arange(RATE) / RATE, AUTOMATION_STEP_S) / 20)
    np.testing.assert_allclose(out, expected, rtol=1e-6)
    share = {"points": [[0.2, 0], [0.7, 1]], "shape": shape}
    wet = run([{"effect": "Invert", "wet": share}], audio, [777])[0]
    expected = Automation(((0.2, 0.0), (0.7, 1.0)), shape).at(np.arange(RATE) / RATE, AUTOMATION_STEP_S)
    np.testing.assert_allclose(wet, 1 - 2 * expected, rtol=0, atol=1e-6)
    assert np.abs(np.diff(wet)).max() < 0.01, "no jump"


def test_an_excerpt_hears_the_song_at_its_own_time():
    audio = noise(RATE)
    chain = moving({"effect": "Gain"}, "gain_db", [[0.2, -60], [0.9, 0]])
    whole = run(chain, audio)
    excerpt = run(chain, Audio(audio.samples[:, RATE // 2 :], RATE), start_s=0.5)
    np.testing.assert_allclose(excerpt, whole[:, RATE // 2 :], rtol=0, atol=1e-3)
