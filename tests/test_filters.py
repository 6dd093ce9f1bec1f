"""Butterworth physics from the float64 response, and block-wise filtering against scipy's whole-signal filters."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from gbsep.audio import join
from gbsep.effects.butterworth import (
    butterworth_sos,
    decay_frames,
    filter_blocks,
    filter_blocks_zero_phase,
    moving_butterworth_sos,
    response,
)
from gbsep.errors import ParameterError

orders = pytest.mark.parametrize("order", range(1, 9))
modes = pytest.mark.parametrize("mode", ["lowpass", "highpass"])


def cut(samples, *sizes):
    """The samples in blocks of `sizes`, over and over."""
    start, turn = 0, 0
    while start < samples.shape[1]:
        stop = start + sizes[turn % len(sizes)]
        yield samples[:, start:stop]
        start, turn = stop, turn + 1


def gain_db(sos, frequencies_hz, sample_rate):
    return 20 * np.log10(np.abs(response(sos, np.atleast_1d(frequencies_hz), sample_rate)))


@orders
@modes
@pytest.mark.parametrize("cutoff_hz", [20.0, 200.0, 6000.0])
def test_cutoff_is_at_minus_3_db_causal_and_minus_6_db_zero_phase(order, mode, cutoff_hz):
    causal_db = gain_db(butterworth_sos(order, cutoff_hz, mode, 44100), cutoff_hz, 44100)
    assert causal_db == pytest.approx(-3.0103, abs=1e-4)
    assert 2 * causal_db == pytest.approx(-6.0206, abs=2e-4)


@orders
@pytest.mark.parametrize(("mode", "octaves", "sample_rates"), [("lowpass", (3, 4), 250), ("highpass", (-3, -4), 50)])
def test_slope_is_6_db_per_octave_and_order(order, mode, octaves, sample_rates):
    """The bilinear transform squeezes the top octaves, so a low-pass keeps the analogue slope only far from Nyquist."""
    cutoff_hz = 44100 / sample_rates
    near, far = gain_db(butterworth_sos(order, cutoff_hz, mode, 44100), cutoff_hz * 2.0 ** np.array(octaves), 44100)
    assert near - far == pytest.approx(20 * np.log10(2) * order, rel=0.02)


@orders
@modes
@pytest.mark.parametrize("cutoff_hz", [20.0, 400.0, 21000.0])
def test_the_moving_filter_has_scipys_response(order, mode, cutoff_hz):
    frequencies_hz = np.geomspace(cutoff_hz / 4, min(4 * cutoff_hz, 22000), 50)
    moving, fixed = (
        response(design(order, cutoff_hz, mode, 44100), frequencies_hz, 44100)
        for design in (moving_butterworth_sos, butterworth_sos)
    )
    np.testing.assert_allclose(moving, fixed, rtol=1e-6)


@orders
@modes
def test_filtered_sine_has_the_gain_of_the_response(order, mode):
    sample_rate, frequency_hz = 8000, 500.0
    sos = butterworth_sos(order, 400.0, mode, sample_rate)
    sine = np.sin(2 * np.pi * frequency_hz * np.arange(sample_rate) / sample_rate)[np.newaxis].astype(np.float32)
    expected_db = gain_db(sos, frequency_hz, sample_rate)[0]
    settled = slice(sample_rate // 4, 3 * sample_rate // 4)
    for filtered, passes in ((filter_blocks, 1), (filter_blocks_zero_phase, 2)):
        out = join(filtered([sine], sos))[0, settled]
        assert 10 * np.log10(2 * np.mean(out.astype(np.float64) ** 2)) == pytest.approx(passes * expected_db, abs=1e-3)


@orders
@modes
def test_causal_blocks_equal_the_whole_signal_exactly(order, mode, rng):
    noise = rng.standard_normal((2, 5000)).astype(np.float32)
    sos = butterworth_sos(order, 200.0, mode, 44100)
    whole = signal.sosfilt(sos, noise.astype(np.float64), axis=1).astype(np.float32)
    for sizes in ([5000], [1, 7, 500]):
        np.testing.assert_array_equal(join(filter_blocks(cut(noise, *sizes), sos)), whole)


@orders
@modes
@pytest.mark.parametrize("cutoff_hz", [30.0, 200.0, 20000.0])
def test_zero_phase_blocks_equal_scipy_on_the_whole_signal(order, mode, cutoff_hz, rng, monkeypatch):
    monkeypatch.setattr("gbsep.effects.butterworth.BLOCK_FRAMES", 4096)
    sos = butterworth_sos(order, cutoff_hz, mode, 44100)
    frames = 20_000 + 10 * decay_frames(sos)
    noise = rng.uniform(-0.5, 0.5, (2, frames)).astype(np.float32)
    noise[:, frames // 3 :] += 0.4  # a step, which excites the slow modes
    filtered = list(filter_blocks_zero_phase(cut(noise, 1000, 30_000), sos))
    assert len(filtered) > 2, "the signal must not fit into one block"
    whole = signal.sosfiltfilt(sos, noise.astype(np.float64), axis=1)
    np.testing.assert_allclose(join(filtered), whole, rtol=0, atol=1e-7)


@given(
    frames=st.integers(1, 100),
    channels=st.integers(1, 2),
    order=st.integers(1, 8),
    mode=st.sampled_from(["lowpass", "highpass"]),
    size=st.integers(1, 101),
)
@settings(deadline=None, max_examples=60)
def test_a_very_short_signal_is_extended_by_its_length_less_one(frames, channels, order, mode, size):
    noise = np.random.default_rng(frames).uniform(-1, 1, (channels, frames)).astype(np.float32)
    sos = butterworth_sos(order, 2000.0, mode, 44100)
    filtered = join(filter_blocks_zero_phase(cut(noise, size), sos))
    default = 3 * (2 * len(sos) + 1 - min((sos[:, 2] == 0).sum(), (sos[:, 5] == 0).sum()))
    whole = signal.sosfiltfilt(sos, noise.astype(np.float64), axis=1, padlen=min(default, frames - 1))
    assert filtered.dtype == np.float32
    np.testing.assert_allclose(filtered, whole, rtol=0, atol=1e-6)


def test_no_blocks_give_no_blocks():
    sos = butterworth_sos(2, 200.0, "lowpass", 44100)
    assert list(filter_blocks([], sos)) == list(filter_blocks_zero_phase([], sos)) == []


@orders
def test_decay_frames_covers_the_impulse_response(order):
    sos = butterworth_sos(order, 100.0, "lowpass", 44100)
    frames = decay_frames(sos, accuracy=1e-6)
    impulse = np.zeros(3 * frames)
    impulse[0] = 1.0
    heard = np.abs(signal.sosfilt(sos, impulse))
    assert heard[frames:].max() < 1e-5 * heard.max()
    assert heard[frames // 3 :].max() > 1e-5 * heard.max(), "a third of the time must not be enough"


@pytest.mark.parametrize("order", [0, 9, 2.0, True])
def test_order_out_of_range_is_refused(order):
    with pytest.raises(ParameterError, match="whole number from 1 to 8"):
        butterworth_sos(order, 200.0, "lowpass", 44100)


@pytest.mark.parametrize("cutoff_hz", [0.0, -5.0, 22050.0, 1e6, np.nan, np.inf])
def test_cutoff_outside_the_band_is_refused(cutoff_hz):
    with pytest.raises(ParameterError, match="above 0.000441 and below 22050 Hz"):
        butterworth_sos(2, cutoff_hz, "highpass", 44100)


def test_a_misspelt_mode_gets_the_nearest():
    with pytest.raises(ParameterError, match="did you mean 'lowpass'"):
        butterworth_sos(2, 200.0, "lowpas", 44100)
