"""What a song tells of its instruments: invariants of the estimates that its timbres make better."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gbsep.separation.compact import timbre

BINS = 60


def song(frames: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Mixture and bass of two instruments with four notes each, complex64 (frames, BINS); half of the partials of both
    coincide, and every note sounds alone now and then."""
    made = []
    for step, first in ((4, 3), (6, 9)):
        spectra = np.zeros((4, BINS), np.float32)
        for note, one in enumerate(spectra):
            partials = np.arange(first + note, BINS, step)
            one[partials] = rng.uniform(0.2, 1, len(partials))
        active = np.repeat(rng.integers(0, 5, -(-frames // 5)), 5)[:frames]
        level = rng.uniform(0.5, 2, frames)[:, np.newaxis]
        played = np.concatenate([spectra, np.zeros((1, BINS), np.float32)])[active] * level
        made.append((played * np.exp(2j * np.pi * rng.random((frames, BINS)))).astype(np.complex64))
    return made[0] + made[1], made[0]


def guess(mixture: np.ndarray, bass: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An estimate that knows what plays where, but nothing of how much where both do."""
    guitar = mixture - bass
    both = (np.abs(bass) > 0) & (np.abs(guitar) > 0)
    return np.where(both, mixture * rng.uniform(0.2, 0.8, mixture.shape), bass).astype(np.complex64)


def error(mixture: np.ndarray, estimate: np.ndarray, bass: np.ndarray) -> float:
    return float(np.square(np.abs(estimate - bass)).sum() / np.square(np.abs(mixture)).sum())


def test_what_sounds_alone_elsewhere_tells_how_much_of_a_shared_partial_is_whose(rng):
    mixture, bass = song(600, rng)
    first = guess(mixture, bass, rng)
    better = timbre.refine_by_timbre(mixture, first, timbre.learn_timbres(mixture, first))
    assert error(mixture, better, bass) < 0.8 * error(mixture, first, bass)


def test_timbres_are_the_same_whatever_the_number_of_threads(rng):
    mixture, bass = song(900, rng)
    one, several = (timbre.learn_timbres(mixture, bass, threads) for threads in (1, 3))
    for some, others in zip(one, several, strict=True):
        for mine, theirs in zip(some, others, strict=True):
            np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(*(timbre.refine_by_timbre(mixture, bass, one, threads) for threads in (1, 3)))


@pytest.mark.parametrize("count", timbre.COMPONENTS)
def test_timbres_sum_to_one(count, rng):
    found = timbre.learn_timbres(*song(300, rng))
    assert len(found) == timbre.SUBSETS
    for one in found:
        made = one[timbre.COMPONENTS.index(count)]
        assert made.shape == (count, BINS)
        assert (made >= 0).all()
        np.testing.assert_allclose(made.sum(axis=1), 1, rtol=1e-4)


@given(frames=st.integers(1, 700), cut=st.integers(0, 700), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_frames_know_nothing_of_each_other(frames, cut, seed):
    mixture, bass = song(frames, np.random.default_rng(seed))
    timbres = timbre.learn_timbres(mixture, bass)
    whole = timbre.refine_by_timbre(mixture, bass, timbres)
    parts = [timbre.refine_by_timbre(mixture[part], bass[part], timbres) for part in (slice(cut), slice(cut, None))]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-4)


@given(frames=st.integers(1, 60), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_an_estimate_of_nothing_or_of_all_stays_so(frames, seed):
    mixture, bass = song(frames, np.random.default_rng(seed))
    timbres = timbre.learn_timbres(mixture, bass)
    for estimate in (np.zeros_like(mixture), mixture):
        np.testing.assert_allclose(timbre.refine_by_timbre(mixture, estimate, timbres), estimate, atol=1e-5)


def test_silence_has_no_timbre_and_stays_silent():
    silence = np.zeros((50, BINS), np.complex64)
    assert not timbre.refine_by_timbre(silence, silence, timbre.learn_timbres(silence, silence)).any()


def test_a_part_of_a_song_that_sounds_like_nothing_learnt_is_left_as_it_was(rng):
    mixture, bass = song(200, rng)
    mixture[:, BINS // 2 :] = bass[:, BINS // 2 :] = 0
    other = np.zeros_like(mixture)
    other[:, BINS // 2 :] = rng.standard_normal((200, BINS - BINS // 2))
    estimate = other * np.float32(0.3)
    np.testing.assert_allclose(
        timbre.refine_by_timbre(other, estimate, timbre.learn_timbres(mixture, bass)), estimate, atol=1e-5
    )


def test_no_frames_are_no_timbres():
    nothing = np.zeros((0, BINS), np.complex64)
    assert timbre.learn_timbres(nothing, nothing) == []
    assert timbre.refine_by_timbre(nothing, nothing, []).shape == (0, BINS)


def test_without_timbres_an_estimate_stays_as_it_was(rng):
    mixture, bass = song(30, rng)
    np.testing.assert_array_equal(timbre.refine_by_timbre(mixture, bass, []), bass)
