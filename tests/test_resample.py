"""Resampling: the same in blocks, in tune, and of the length that it promises."""

from __future__ import annotations

import numpy as np
import pytest
import soxr
from hypothesis import given
from hypothesis import strategies as st

from gbsep.audio import Audio, join
from gbsep.errors import AudioError
from gbsep.io.resample import resample, resample_blocks

from .soundfiles import hypothesis_settings, noise

RATE = 44100


@given(
    st.integers(1, 30_000),
    st.integers(1, 40_000),
    st.sampled_from([8000, 22050, 44100, 48000, 96000, 192_000]),
    st.sampled_from([8000, 44100, 48000, 192_000]),
    st.integers(1, 2),
)
@hypothesis_settings
def test_resampling_in_blocks_is_resampling_the_whole(frames, block_frames, from_rate, to_rate, channels):
    samples = noise(frames, channels)
    reader = resample(Audio(samples.T, from_rate).reader(), to_rate)
    blocks = list(reader.blocks(block_frames))
    assert all(1 <= block.shape[1] <= block_frames for block in blocks)
    result = join(blocks)
    assert result.dtype == np.float32
    assert result.shape == (channels, reader.frames) == (channels, max(1, round(frames * to_rate / from_rate)))
    expected = soxr.resample(samples, from_rate, to_rate, quality="VHQ")
    both = min(len(expected), reader.frames)
    assert abs(len(expected) - reader.frames) <= 1
    np.testing.assert_allclose(result[:, :both], expected[:both].T, atol=1e-6)


@pytest.mark.parametrize(("from_rate", "to_rate"), [(44100, 48000), (48000, 44100), (192_000, 44100), (8000, 44100)])
def test_a_resampled_sine_is_the_sine_at_the_new_rate(from_rate, to_rate):
    def sine(rate: int) -> np.ndarray:
        return 0.5 * np.sin(2 * np.pi * 997 * np.arange(rate) / rate + 0.3)[np.newaxis]

    result = resample(Audio(sine(from_rate), from_rate).reader(), to_rate).read()
    middle = slice(to_rate // 10, -to_rate // 10)
    np.testing.assert_allclose(result.samples[:, middle], sine(to_rate)[:, middle], atol=1e-6)


def test_the_same_rate_is_not_touched():
    reader = Audio(noise().T, RATE).reader()
    assert resample(reader, RATE) is reader
    np.testing.assert_array_equal(join(resample_blocks(reader.blocks(999), RATE, RATE, 2, 20_000)), noise().T)


@given(st.integers(1, 50_000), st.sampled_from([8000, 11025, 48000, 88200, 192_000]), st.integers(1, 3))
@hypothesis_settings
def test_there_and_back_again_has_every_frame(frames, rate, seed):
    there = resample(Audio(noise(frames, 1, seed).T, rate).reader(), RATE)
    back = join(resample_blocks(there.blocks(), RATE, rate, 1, frames))
    assert back.shape == (1, frames)


@pytest.mark.parametrize("frames", [900, 1100])
def test_a_length_that_does_not_fit_is_refused(frames):
    for rate in (RATE, RATE // 2):
        with pytest.raises(AudioError, match="resampling gives"):
            list(resample_blocks([noise(1000).T], RATE, rate, 2, frames * rate // RATE))
