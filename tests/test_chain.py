"""Chains run: against single whole-file calls, analytic levels and impulses, and with a side chain."""

import math

import numpy as np
import pedalboard
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from gbsep.audio import Audio, join
from gbsep.effects.builtin import Builtin
from gbsep.effects.chain import (
    Parallel,
    apply_blocks,
    apply_chain,
    check_chain,
    parse_chain,
)
from gbsep.errors import AudioError, ParameterError

from .chains import STREAMING, impulse, level_db, noise, run

RATE = 44100


# --- planning


@pytest.mark.parametrize(
    "effect",
    [
        {"effect": "Butterworth", "mode": "highpass", "cutoff_hz": 4000},
        {"effect": "HighpassFilter", "cutoff_frequency_hz": 5000},
        {"effect": "LadderFilter", "mode": "BPF12", "cutoff_hz": 5000},
        {"effect": "PeakFilter", "cutoff_frequency_hz": 4000},
        {"effect": "LowpassFilter", "cutoff_frequency_hz": {"points": [[0, 100], [1, 5000]]}},
    ],
    ids=lambda effect: effect["effect"],
)
def test_a_cutoff_at_or_above_half_the_sample_rate_is_refused(effect):
    nodes = parse_chain([{"effect": "Parallel", "branches": [{"chain": [effect]}]}])
    assert check_chain(nodes, 44100) == []
    with pytest.raises(ParameterError, match=r"chain\[0\].branches\[0\].chain\[0\].*below 4000 Hz"):
        check_chain(nodes, 8000)


@pytest.mark.parametrize(
    "effect",
    [
        {"effect": "Butterworth", "mode": "lowpass", "cutoff_hz": 22050},
        {"effect": "LowpassFilter", "cutoff_frequency_hz": 22050},
        {"effect": "LadderFilter", "mode": "LPF24", "cutoff_hz": 30000},
    ],
    ids=lambda effect: effect["effect"],
)
def test_a_lowpass_there_passes_through_with_a_warning(effect):
    warnings = []
    audio = noise()
    out = run([effect], audio, warn=warnings.append)
    np.testing.assert_array_equal(out, audio.samples)
    assert len(warnings) == 1
    assert effect["effect"] in warnings[0]


def test_what_cannot_run_is_refused_in_planning(tmp_path):
    with pytest.raises(ParameterError, match=r"MP3Compressor .* works at 8000"):
        check_chain(parse_chain([{"effect": "MP3Compressor"}]), 96_000)
    with pytest.raises(ParameterError, match="an audio file"):
        check_chain(
            parse_chain([{"effect": "Convolution", "impulse_response_filename": "no.wav"}], folder=tmp_path), RATE
        )
    with pytest.raises(ParameterError, match="did you mean 'bass'"):
        check_chain(parse_chain([{"effect": "Ducker", "sidechain": "bas"}]), RATE, ["bass", "guitar"])
    moving = {"effect": "Butterworth", "mode": "lowpass", "cutoff_hz": {"points": [[0, 9]]}, "zero_phase": True}
    with pytest.raises(ParameterError, match="zero-phase"):
        check_chain(parse_chain([moving]), RATE)


# --- running


CHAIN = [
    {"effect": "Butterworth", "mode": "highpass", "cutoff_hz": 80},
    {"effect": "Compressor", "threshold_db": -20, "ratio": 4},
    {"effect": "Chorus"},
    {"effect": "BrickwallLimiter", "ceiling_db": -12},
    {"effect": "Reverb"},
]


@given(sizes=st.lists(st.integers(1, 9000), min_size=1, max_size=5), tail_frames=st.sampled_from([0, 1, 12_345]))
@settings(deadline=None, max_examples=15)
def test_a_chain_equals_single_whole_file_calls_however_it_is_cut(sizes, tail_frames):
    audio = noise()
    expected = np.pad(audio.samples, ((0, 0), (0, tail_frames)))
    sos = signal.butter(4, 80, "highpass", fs=RATE, output="sos")
    expected = signal.sosfilt(sos, expected.astype(np.float64), axis=1).astype(np.float32)
    for pedal in (
        pedalboard.Compressor(threshold_db=-20, ratio=4),
        pedalboard.Chorus(),
        pedalboard.BrickwallLimiter(ceiling_db=-12),
        pedalboard.Reverb(),
    ):
        expected = pedal(expected, RATE)
    np.testing.assert_array_equal(run(CHAIN, audio, sizes, tail_frames), expected)


@pytest.mark.parametrize("frames", [1, 2, 3, 50])
@pytest.mark.parametrize("channels", [1, 2])
def test_very_short_signals_keep_their_shape(frames, channels):
    chain = [*CHAIN, {"effect": "PitchShift", "semitones": 1}, {"effect": "GSMFullRateCompressor", "wet": 0.5}]
    audio = noise(frames, channels)
    assert run(chain, audio, [1]).shape == audio.samples.shape
    assert run(chain, audio, [1], tail_frames=5).shape == (channels, frames + 5)


@pytest.mark.parametrize("tail_frames", [0, 20_000])
def test_an_empty_chain_is_free(tail_frames):
    audio = noise()
    blocks = list(apply_blocks([audio.samples], (), RATE, 2, audio.frames, tail_frames))
    assert blocks[0] is audio.samples
    np.testing.assert_array_equal(join(blocks), np.pad(audio.samples, ((0, 0), (0, tail_frames))))


def test_a_tail_lets_echoes_ring_out():
    out = run([{"effect": "Delay", "delay_seconds": 0.1, "mix": 1}], impulse(29_999), tail_frames=5000)
    assert out.shape == (2, 35_000)
    assert np.flatnonzero(out[0]).tolist() == [29_999 + 4410]


@pytest.mark.parametrize("sizes", [None, [1000], [333, 7, 5000]])
@pytest.mark.parametrize("name", ["BrickwallLimiter", "Resample", "MP3Compressor", "PitchShift", "Compressor"])
def test_an_impulse_comes_out_at_its_frame_alone_and_in_parallel(name, sizes):
    audio = impulse(12_345)
    alone = run([{"effect": name}], audio, sizes)
    beside_the_dry = run(
        [{"effect": "Parallel", "branches": [{"chain": []}, {"chain": [{"effect": name}]}]}], audio, sizes
    )
    half = run([{"effect": name, "wet": 0.5}], audio, sizes)
    for out in (alone, beside_the_dry, half):
        assert out.shape == audio.samples.shape
        assert np.abs(out).argmax(axis=1).tolist() == [12_345, 12_345]
    np.testing.assert_allclose(beside_the_dry, audio.samples + alone, rtol=0, atol=1e-6)
    np.testing.assert_allclose(half, (audio.samples + alone) / 2, rtol=0, atol=1e-6)


def test_branches_are_summed_at_their_levels():
    gains = [{"effect": "Gain", "gain_db": 6}], [{"effect": "Invert"}]
    branches = [{"chain": gains[0], "mix_db": -12}, {"chain": gains[1], "mix_db": -20}, {"chain": []}]
    out = run([{"effect": "Parallel", "branches": branches}], noise())
    np.testing.assert_allclose(out, noise().samples * (10 ** (-6 / 20) - 0.1 + 1), rtol=0, atol=1e-6)


def test_parallel_inside_parallel_stays_aligned():
    inner = {"effect": "Parallel", "branches": [{"chain": [{"effect": "BrickwallLimiter"}]}, {"chain": []}]}
    outer = {"effect": "Parallel", "branches": [{"chain": [inner, {"effect": "BrickwallLimiter"}]}, {"chain": []}]}
    out = run([outer], impulse(5000), [1234])
    assert np.flatnonzero(np.abs(out[0]) > 1e-3).tolist() == [5000]


@given(gain_db=st.floats(-99.9, 60))
@settings(deadline=None, max_examples=30)
def test_gain_is_exact(gain_db):
    audio = noise(500)
    out = run([{"effect": "Gain", "gain_db": gain_db}], audio)
    np.testing.assert_allclose(out, audio.samples * np.float64(10 ** (gain_db / 20)), rtol=2e-6)


@pytest.mark.parametrize("in_db", [-40.0, -25.0, -10.0, -2.0])
def test_compressor_follows_its_static_curve(in_db):
    audio = Audio(np.full((1, RATE), 10 ** (in_db / 20)), RATE)
    out = run([{"effect": "Compressor", "threshold_db": -20, "ratio": 4}], audio)
    expected_db = in_db if in_db < -20 else -20 + (in_db + 20) / 4
    assert level_db(out[0, -1]) == pytest.approx(expected_db, abs=0.05)


@pytest.mark.parametrize(
    ("effect", "expected_db"),
    [
        ({"effect": "LowpassFilter", "cutoff_frequency_hz": 1000}, -3.01),
        ({"effect": "HighpassFilter", "cutoff_frequency_hz": 1000}, -3.01),
        ({"effect": "PeakFilter", "cutoff_frequency_hz": 1000, "gain_db": -9}, -9.0),
        ({"effect": "LowShelfFilter", "cutoff_frequency_hz": 1000, "gain_db": 6}, 3.0),
        ({"effect": "HighShelfFilter", "cutoff_frequency_hz": 1000, "gain_db": 6}, 3.0),
        ({"effect": "Butterworth", "mode": "lowpass", "cutoff_hz": 1000, "order": 5}, -3.01),
        ({"effect": "Butterworth", "mode": "highpass", "cutoff_hz": 1000, "zero_phase": True}, -6.02),
    ],
    ids=lambda value: value["effect"] if isinstance(value, dict) else "",
)
def test_filters_have_their_gain_at_the_cutoff(effect, expected_db):
    time_s = np.arange(RATE) / RATE
    out = run([effect], Audio(0.5 * np.sin(2 * np.pi * 1000 * time_s), RATE), [5000])
    middle = out[0, RATE // 4 : 3 * RATE // 4].astype(np.float64)
    assert 10 * np.log10(np.mean(middle**2) * 8) == pytest.approx(expected_db, abs=0.05)


def test_the_zero_phase_butterworth_is_scipys():
    sos = signal.butter(4, 200, "lowpass", fs=RATE, output="sos")
    audio = noise()
    out = run([{"effect": "Butterworth", "mode": "lowpass", "cutoff_hz": 200, "zero_phase": True}], audio, [777])
    np.testing.assert_allclose(out, signal.sosfiltfilt(sos, audio.samples.astype(np.float64)), rtol=0, atol=1e-7)


def test_the_brickwall_limiter_holds_the_true_peak():
    audio = noise(level=1.0)
    loud = Audio(4 * audio.samples, RATE)
    out = run([{"effect": "BrickwallLimiter", "ceiling_db": -1, "true_peak": True}], loud, [3000])
    oversampled = signal.resample_poly(out.astype(np.float64), 8, 1, axis=1)
    assert level_db(out).max() <= -1 + 1e-4
    assert level_db(oversampled).max() <= -1 + 0.6  # a 4x detector sees the peaks of white noise only so far


@pytest.mark.parametrize("name", STREAMING)
def test_the_input_is_left_alone_and_a_run_repeats(name):
    audio = noise(3000)
    given = {"mode": "highpass", "cutoff_hz": 100.0} if name == "Butterworth" else {}
    before = audio.samples.copy()
    first, again = (run([{"effect": name, **given}], audio) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(audio.samples, before)
    assert first.dtype == np.float32


def test_nan_is_refused_before_the_first_effect():
    samples = noise().samples.copy()
    samples[1, 15_000] = np.nan
    blocks = np.split(samples, 4, axis=1)
    with pytest.raises(AudioError, match=r"the input of chain: 1 sample is NaN .* frame 15000"):
        join(apply_blocks(blocks, parse_chain([{"effect": "Limiter"}]), RATE, 2, 20_000))


def test_the_effect_that_breaks_is_named(monkeypatch):
    process = Builtin.process

    def explode(self, block, changes=()):
        out = process(self, block, changes)
        out[0, 7] = np.inf
        return out

    monkeypatch.setattr(Builtin, "process", explode)
    chain = [{"effect": "Butterworth", "mode": "highpass", "cutoff_hz": 80}, {"effect": "Gain"}, {"effect": "Limiter"}]
    with pytest.raises(AudioError, match=r"the output of chain\[1\], Gain: .* frame 7"):
        run(chain, noise())


@pytest.mark.parametrize("promised", [19_999, 20_001])
def test_another_length_than_promised_is_refused(promised):
    with pytest.raises(AudioError, match=f"promised {promised} frames and given 20000"):
        join(apply_blocks([noise().samples], (), RATE, 2, promised))


def test_a_real_recording_in_blocks_is_the_recording_in_one(data):
    paths = sorted(data.glob("jams/*/mixture.flac"))
    samples, sample_rate = soundfile.read(paths[0], frames=300_000, dtype="float32", always_2d=True)
    audio = Audio(samples.T, sample_rate)
    board = pedalboard.Pedalboard([pedalboard.Compressor(-30, 4), pedalboard.Reverb()])
    chain = [{"effect": "Compressor", "threshold_db": -30, "ratio": 4}, {"effect": "Reverb"}]
    np.testing.assert_array_equal(run(chain, audio, [44_100, 1, 77_777]), board(audio.samples, sample_rate))


def test_apply_chain_is_the_same_over_audio():
    audio = noise()
    expected = run(CHAIN, audio, [1000], tail_frames=RATE // 2)
    for chain in (CHAIN, parse_chain(CHAIN)):
        np.testing.assert_array_equal(apply_chain(audio, chain, tail_s=0.5).samples, expected)
    ducked = apply_chain(audio, [{"effect": "Ducker", "sidechain": "bass"}], sidechains={"bass": audio})
    assert np.abs(ducked.samples[:, 5000:]).max() < 0.2
    assert ducked.samples.shape == audio.samples.shape


@pytest.mark.parametrize("tail_s", [-1, math.nan, math.inf, 601])
def test_a_tail_out_of_range_is_refused(tail_s):
    with pytest.raises(ParameterError, match=r"tail_s = .* from 0 to 600 s"):
        apply_chain(noise(), (), tail_s)


# --- side chain


def test_a_silent_key_leaves_everything_alone():
    audio = noise()
    silence = Audio(np.zeros((2, 20_000)), RATE)
    out = run([{"effect": "Ducker", "sidechain": "bass"}], audio, [999], sidechains={"bass": silence.reader()})
    np.testing.assert_array_equal(out, audio.samples)


def test_the_key_ducks_both_channels_alike_by_the_curve():
    audio, key = noise(2 * RATE), np.zeros((1, RATE), np.float32)
    key[0, RATE // 2 :] = 10 ** (-10 / 20)
    ducker = {"effect": "Ducker", "sidechain": "bass", "threshold_db": -30, "ratio": 4}
    out = run([ducker], audio, [4321], sidechains={"bass": Audio(key, RATE).reader()})
    gain_db = level_db(out / audio.samples)
    np.testing.assert_allclose(gain_db[:, : RATE // 2 - 50], 0, atol=1e-4)
    np.testing.assert_allclose(gain_db[:, int(0.9 * RATE) : RATE - 50], -20 * (1 - 1 / 4), atol=0.01)
    np.testing.assert_allclose(gain_db[:, -100:], 0, atol=0.01)  # the key ended a second ago


def test_the_key_is_ducked_in_time_with_a_latency_before_it():
    audio = Audio(np.full((1, RATE), 0.5, np.float32), RATE)
    key = np.zeros((1, RATE), np.float32)
    key[0, 20_000:] = 0.5
    chain = [{"effect": "BrickwallLimiter"}, {"effect": "Ducker", "sidechain": "bass", "attack_ms": 0.01}]
    out = run(chain, audio, [1000], sidechains={"bass": Audio(key, RATE).reader()})[0]
    assert abs(np.flatnonzero(out < 0.4)[0] - 20_000) < 0.001 * RATE


def test_a_key_at_another_sample_rate_is_refused():
    with pytest.raises(AudioError, match="'bass' is at 8000 Hz, the chain at 44100 Hz"):
        run([{"effect": "Gain"}], noise(), sidechains={"bass": Audio(np.zeros((1, 9)), 8000).reader()})


def test_a_missing_key_is_refused():
    with pytest.raises(ParameterError, match="no such stem; did you mean 'bass'"):
        run([{"effect": "Ducker", "sidechain": "bas"}], noise(), sidechains={"bass": noise().reader()})


def test_parallel_is_a_node_of_branches():
    (node,) = parse_chain([{"effect": "Parallel", "branches": [{"chain": []}]}])
    assert isinstance(node, Parallel)
    assert node.branches[0].mix_db == 0.0
