"""Places in the stereo picture: found to a fraction of a degree, and what they are worth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gbsep.separation.compact.places import Places, find_bass, find_beam, look
from tests.players import BINS, FRAMES, found_places, picture, player, sdr_db


@given(bass=st.floats(-44, 44), first=st.floats(5, 20), second=st.floats(-20, -5), seed=st.integers(0, 99))
@settings(max_examples=8, deadline=None)
@example(bass=1.875, first=5.0, second=-8.0, seed=92)
@example(bass=-30.0, first=12.0, second=-9.0, seed=64)
@example(bass=1.25, first=14.0, second=-14.0, seed=18)
def test_places_are_found(bass, first, second, seed):
    """To a twentieth of a degree, or a quarter where the bass hardly ever has a bin to itself to tell it."""
    rng = np.random.default_rng(seed)
    truth, *guitars = (player(rng) for _ in range(3))
    alone = np.sum(abs(truth[(guitars[0] == 0) & (guitars[1] == 0)]) ** 2)
    near = 0.05 if alone > 0.15 * np.sum(abs(truth) ** 2) else 0.25
    mixture = picture([(bass, truth), (bass + first, guitars[0]), (bass + second, guitars[1])])
    found = found_places([np.stack([*mixture, *picture([(bass, truth)])])])
    assert found.bass == pytest.approx(bass, abs=near)
    assert sorted(found.guitars)[:1] + sorted(found.guitars)[-1:] == pytest.approx([second, first], abs=near)


def test_a_wide_bass_has_no_place():
    rng = np.random.default_rng(0)
    mid = (rng.standard_normal((FRAMES, BINS, 2)) @ [1, 1j]).astype(np.complex64)
    turned = (0.5 * np.exp(2j * np.pi * rng.random(BINS))).astype(np.complex64)
    assert find_bass(look([np.stack([mid, mid * turned, mid, mid * turned])])) is None


def test_nothing_to_look_at_is_no_place():
    assert find_bass(look([])) is None
    assert find_bass(look([np.zeros((4, FRAMES, BINS), np.complex64)])) is None


def test_pieces_together_tell_what_each_tells(rng):
    truth, guitar = player(rng), player(rng)
    mid, side = picture([(0.0, truth), (9.0, guitar)])
    whole = np.stack([mid, side, truth, 0 * truth])
    parts, at_once = found_places(np.split(whole, FRAMES // 100, axis=1)), found_places([whole])
    assert (parts.bass, parts.guitars) == (at_once.bass, at_once.guitars)


@pytest.mark.parametrize("seed", range(4))
def test_a_beam_takes_a_lone_guitar_out_and_keeps_the_bass(seed):
    rng = np.random.default_rng(seed)
    truth, guitar = player(rng), player(rng)
    towards, across = picture([(0.0, truth), (20.0, guitar)])
    powers = [np.sum(abs(one) ** 2) for one in (towards, across)]
    moments = np.array([[*powers, np.sum(towards * across.conj()).real]] * 5)
    one, both, wide = (
        find_beam(moments, Places(0.0, *two)) for two in (((20.0,), 0.1), ((20.0, -20.0), 0.1), ((), 1.0))
    )
    assert sdr_db(truth, towards + np.float32(one[2]) * across) > sdr_db(truth, towards) + 15
    assert not both.any()
    assert not wide.any()
    assert not find_beam(np.zeros((5, 3)), Places(0.0, (20.0,), 0.1)).any()


def test_a_beam_is_off_while_a_guitar_plays_that_it_would_make_louder():
    """Nine seconds of a guitar to the left, then three of one to the right of which nothing is known."""
    left, right = (np.array([np.cos(at) ** 2, np.sin(at) ** 2, np.cos(at) * np.sin(at)]) for at in (0.4, -0.4))
    beam = find_beam(np.array([left] * 9 + [0.3 * right] * 3), Places(0.0, (23.0,), 0.1))
    assert (np.abs(beam[:7]) > 1).all()
    assert not beam[9:].any()


def test_a_quiet_guitar_has_a_place_too(rng):
    truth, loud, quiet = (player(rng) for _ in range(3))
    mixture = picture([(0.0, truth), (15.0, loud), (-12.0, np.float32(0.15) * quiet)])
    found = found_places([np.stack([*mixture, truth, 0 * truth])])
    assert sorted(found.guitars) == pytest.approx([-12, 15], abs=0.1)


def test_guitars_where_the_bass_is_say_nothing(rng):
    truth, guitar = player(rng), player(rng)
    bass = picture([(7.0, truth)])
    pieces = [np.stack([*picture([(7.0, truth), (7.2, guitar)]), *bass])]
    assert find_bass(look(pieces)) == pytest.approx(7, abs=0.2)
    assert found_places(pieces) is None


def test_a_bass_that_moves_has_no_place(rng):
    truth, guitar = player(rng), player(rng)
    pieces = [
        np.concatenate([picture([(place, truth), (20.0, guitar)]), picture([(place, truth)])])
        for place in (-10.0, 10.0)
    ]
    assert find_bass(look(pieces[:1])) == pytest.approx(-10, abs=0.05)
    assert find_bass(look(pieces)) is None


def test_guitars_that_move_are_placeless(rng):
    truth, guitar = player(rng), player(rng)
    pictures = [picture([(0.0, truth), (place, guitar)]) for place in (20.0, 0.0)]
    pieces = [np.stack([mid, side, truth, 0 * truth]) for mid, side in pictures]
    assert found_places(pieces[:1]).placeless < 0.5
    assert found_places(pieces).placeless == 1


def test_a_bass_in_opposite_phase_is_at_the_side(rng):
    truth, guitar = player(rng), player(rng)
    found = found_places([np.stack([*picture([(90.0, truth), (75.0, guitar)]), 0 * truth, truth])])
    assert abs(found.bass) == pytest.approx(90, abs=0.05)
    assert found.guitars == pytest.approx([-15], abs=0.1)


@pytest.mark.parametrize("bass", [0.0, 90.0])
@pytest.mark.parametrize("loud", [1.0, 2.0, 8.0])
def test_a_loud_guitar_where_no_bass_is_does_not_pass_for_its_place(bass, loud, rng):
    """One of mid and side holds the bass alone, and all of that is bass, whatever the other holds at the time."""
    truth, guitar = player(rng), np.float32(loud) * player(rng)
    both = picture([(bass, truth), (bass + 90.0, guitar)])
    assert abs(find_bass(look([np.concatenate([both, picture([(bass, truth)])])]))) == pytest.approx(bass, abs=0.2)


def test_a_bass_that_is_late_in_one_channel_has_no_place(rng):
    """A fifth of a radian in every bin bends its line a little, a radian and more too much."""
    truth = player(rng)
    places = []
    for radians in (0.2, 1.0, 2.0):
        left, right = truth, truth * np.complex64(np.exp(1j * radians))
        both = np.stack([left + right, left - right]) / 2
        places.append(find_bass(look([np.concatenate([both, both])])))
    assert places == [pytest.approx(0, abs=0.05), None, None]
