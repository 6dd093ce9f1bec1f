"""What places are worth: the bass by a multichannel Wiener filter, with guitars of a few spectra each."""

from __future__ import annotations

import numpy as np
import pytest

from gbsep.separation.compact.places import PLACELESS, Places
from gbsep.separation.compact.wiener import CONTEXT_FRAMES, SPECTRA, SUBSETS, learn_guitars, refine_by_place
from tests.players import BINS, FRAMES, found_places, melody, picture, rough, sdr_db


def refined(towards, across, estimate, guitars):
    places = Places(0.0, guitars, PLACELESS)
    return refine_by_place(towards, across, estimate, places, learn_guitars(towards, across, estimate, places))


@pytest.mark.parametrize(
    ("guitars", "gain_db"), [((12.0,), 6), ((9.0, -14.0), 3), ((25.0, -25.0), 3), ((20.0, 50.0), 3)]
)
def test_known_places_make_a_rough_estimate_much_better(guitars, gain_db):
    """Also with guitars left and right: at once they are a bass in the middle to geometry, so their spectra tell."""
    gains = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        truth, *others = (melody(rng) for _ in range(1 + len(guitars)))
        towards, across = picture([(0.0, truth), *zip(guitars, others, strict=True)])
        estimate = rough(truth, towards - truth, rng)
        gains.append(sdr_db(truth, refined(towards, across, estimate, guitars)) - sdr_db(truth, estimate))
    assert min(gains) > 1
    assert np.mean(gains) > gain_db


def test_one_guitar_apart_is_told_from_the_bass_all_but_exactly(rng):
    truth, guitar = melody(rng), melody(rng)
    towards, across = picture([(0.0, truth), (15.0, guitar)])
    estimate = rough(truth, towards - truth, rng)
    assert sdr_db(truth, refined(towards, across, estimate, (15.0,))) > 20


@pytest.mark.parametrize("seed", range(4))
def test_a_guitar_without_a_place_does_little_harm(seed):
    rng = np.random.default_rng(seed)
    truth, placed, wide = (melody(rng) for _ in range(3))
    delay = np.exp(-1j * np.arange(BINS)).astype(np.complex64)
    towards, across = picture([(0.0, truth), (11.0, placed)])
    towards, across = towards + wide * (1 + delay) / 2, across + wide * (1 - delay) / 2
    estimate = rough(truth, towards - truth, rng)
    found = found_places([np.stack([towards, across, estimate, 0 * estimate])])
    better = refine_by_place(towards, across, estimate, found, learn_guitars(towards, across, estimate, found))
    assert sdr_db(truth, better) > sdr_db(truth, estimate) - 1


def test_silence_stays_silent():
    nothing = np.zeros((FRAMES, BINS), np.complex64)
    for guitars in ((), (10.0,), (10.0, -10.0)):
        assert not refined(nothing, nothing, nothing, guitars).any()


@pytest.mark.parametrize("guitars", [(9.0,), (9.0, 30.0), (9.0, -20.0)])
def test_it_looks_so_many_frames_around_and_no_further(guitars, rng):
    frames = 20 * (3 * CONTEXT_FRAMES // 20)
    truth, *others = (melody(rng, frames) for _ in range(1 + len(guitars)))
    towards, across = picture([(0.0, truth), *zip(guitars, others, strict=True)])
    estimate, middle = rough(truth, towards - truth, rng), frames // 2
    places = Places(0.0, guitars, PLACELESS)
    spectra = learn_guitars(towards, across, estimate, places)
    usual = refine_by_place(towards, across, estimate, places, spectra)
    changed = estimate.copy()
    changed[middle] *= 2j
    made = refine_by_place(towards, across, changed, places, spectra, threads=2)
    moved = np.flatnonzero(abs(made - usual).max(axis=1) > 0)
    assert middle - CONTEXT_FRAMES <= moved.min() < middle < moved.max() <= middle + CONTEXT_FRAMES


def test_spectra_are_the_same_on_any_number_of_threads(rng):
    truth, left, right = (melody(rng) for _ in range(3))
    towards, across = picture([(0.0, truth), (25.0, left), (-25.0, right)])
    places = Places(0.0, (25.0, -25.0), PLACELESS)
    once, twice = (learn_guitars(towards, across, truth, places, threads) for threads in (1, 3))
    assert [len(subset) for subset in once] == [2] * SUBSETS
    for one, other in zip(once, twice, strict=True):
        for spectra, same in zip(one, other, strict=True):
            assert spectra.shape == (SPECTRA, BINS)
            assert np.array_equal(spectra, same)
            assert spectra.sum(axis=1) == pytest.approx(1, abs=1e-4)


def test_without_excerpts_the_estimate_stays():
    nothing, some = np.zeros((0, BINS), np.complex64), np.ones((3, BINS), np.complex64)
    places = Places(0.0, (25.0,), PLACELESS)
    assert learn_guitars(nothing, nothing, nothing, places) == []
    assert np.array_equal(refine_by_place(some, some, some, places, []), some)
