"""Two guitars where the rhythm is played twice, left and right, and the lead is in the centre."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pedalboard
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gbsep.audio import Audio
from gbsep.separation.guitars.alike import find_doubled
from gbsep.separation.guitars.backend import two_guitars
from gbsep.separation.guitars.places import find_lines
from gbsep.train import generator, instruments, scores
from tests.test_guitars import at, sdr

RATE, SECONDS = instruments.SAMPLE_RATE, 10.0


@lru_cache
def parts(seed: int) -> dict[str, np.ndarray]:
    """Chords played twice, other chords and a line, of one song and of equal level."""
    band = [one for one in instruments.plucked_strings(20261129, 3) if one.role == "guitar"]
    rng = np.random.default_rng(seed)
    song = scores.compose(rng, SECONDS, 3, "plain", ["roots", "barre", "arpeggio", "lead"])
    players = dict(zip(("one", "two", "other", "lead"), (band[0], band[0], band[1], band[2]), strict=True))
    played = {"one": song.parts[1], "two": song.parts[1], "other": song.parts[2], "lead": song.parts[3]}
    played["two"] = tuple(
        replace(
            note, start_s=max(0.0, note.start_s + rng.normal(0, 0.01)), velocity=rng.uniform(0.7, 1.0) * note.velocity
        )
        for note in song.parts[1]
    )
    heard = {name: generator.play(rng, played[name], who, SECONDS) for name, who in players.items()}
    return {name: np.float32(0.1 * part / np.sqrt(np.mean(part**2))) for name, part in heard.items()}


def split(guitar: np.ndarray, how: str = "places") -> tuple[np.ndarray, np.ndarray, str]:
    told: list[str] = []
    one, two = two_guitars(Audio(guitar, RATE).reader(), lambda what: told.append(str(what)), how)
    return one, two, " ".join(told)


@settings(max_examples=6, deadline=None)
@given(
    width=st.floats(38, 45),
    lead_db=st.floats(-3, 3),
    seed=st.integers(1, 5),
    how=st.sampled_from(["places", "auto"]),
)
def test_a_lead_between_a_rhythm_played_twice_comes_apart(width: float, lead_db: float, seed: int, how: str) -> None:
    part = parts(seed)
    rhythm = at(part["one"], width) + at(part["two"], -width)
    lead = np.float32(10 ** (lead_db / 20)) * at(part["lead"], 0.0)
    one, two, told = split(rhythm + lead, how)
    assert "guitar1 plays the same left and right; guitar2 is in the centre" in told
    assert sdr(rhythm, one) > sdr(rhythm, rhythm + lead)
    assert sdr(lead, two) > sdr(lead, rhythm + lead) + 4
    np.testing.assert_allclose(one + two, rhythm + lead, atol=1e-6)


def room(dry: np.ndarray) -> np.ndarray:
    return pedalboard.Pedalboard([pedalboard.Reverb(room_size=0.6, wet_level=0.35, dry_level=0.7)])(dry, RATE)


def chorus(dry: np.ndarray) -> np.ndarray:
    return pedalboard.Pedalboard([pedalboard.Chorus(), pedalboard.Reverb(wet_level=0.3)])(dry, RATE)


def echoes(dry: np.ndarray) -> np.ndarray:
    late = round(0.3 * RATE)
    return np.float32(dry + 0.5 * np.stack([np.pad(dry[n], (late * (1 + n), 0))[: dry.shape[1]] for n in (0, 1)]))


def one_side_late(dry: np.ndarray) -> np.ndarray:
    return np.stack([dry[0], np.pad(dry[1], (round(0.015 * RATE), 0))[: dry.shape[1]]])


@pytest.mark.parametrize("effect", [room, chorus, echoes, one_side_late])
@pytest.mark.parametrize("name", ["one", "lead"])
def test_one_guitar_made_wide_is_no_rhythm_with_a_lead(effect: Callable[[np.ndarray], np.ndarray], name: str) -> None:
    dry = parts(1)[name]
    guitar = effect(np.stack([dry, dry]))
    assert find_doubled(Audio(guitar, RATE).reader(), find_lines(Audio(guitar, RATE).reader())) is None


def test_a_rhythm_played_twice_without_a_lead_is_not_given_one() -> None:
    part = parts(1)
    rhythm = at(part["one"], 42.0) + at(part["two"], -42.0)
    assert find_doubled(Audio(rhythm, RATE).reader(), find_lines(Audio(rhythm, RATE).reader())) is None


@pytest.mark.parametrize("how", ["places", "auto"])
@pytest.mark.parametrize("name", ["one", "lead"])
def test_an_echo_on_the_other_side_is_no_second_guitar(name: str, how: str) -> None:
    dry = parts(1)[name]
    echo = np.pad(dry, (round(0.35 * RATE), 0))[: len(dry)]
    guitar = at(dry, 45.0) + np.float32(0.6) * at(echo, -45.0)
    one, two, told = split(guitar, how)
    assert np.array_equal(one, guitar)
    assert not two.any()
    assert "an echo of the first" in told


def test_a_guitar_that_swings_from_side_to_side_is_one() -> None:
    dry = parts(1)["lead"]
    guitar = at(dry, 40 * np.sin(np.arange(len(dry)) * np.pi / RATE))
    one, two, told = split(guitar)
    assert np.array_equal(one, guitar)
    assert not two.any()
    assert "wide, move" in told


@pytest.mark.parametrize("seed", [1, 3])
def test_guitars_that_play_something_else_on_each_side_stay_left_and_right(seed: int) -> None:
    part = parts(seed)
    left, right = at(part["one"], 35.0), at(part["other"], -35.0)
    one, two, told = split(left + right)
    assert "guitar1 is 78 % left; guitar2 is 78 % right" in told
    assert sdr(left, one) > 15
    assert sdr(right, two) > 15


@pytest.mark.parametrize("rate", [4000, 8000, 96000])
def test_any_rate_will_do(rate: int) -> None:
    part = parts(1)
    guitar = at(part["one"], 42.0) + at(part["two"], -42.0) + at(part["lead"], 0.0)
    one, two = two_guitars(Audio(guitar, rate).reader())
    np.testing.assert_allclose(one + two, guitar, atol=1e-6)


@pytest.mark.parametrize(
    "guitar",
    [np.zeros((2, 200_000), np.float32), np.ones((2, 1), np.float32)],
    ids=["silence", "one frame"],
)
def test_where_nothing_plays_nothing_is_found(guitar: np.ndarray) -> None:
    assert find_doubled(Audio(guitar, RATE).reader(), []) is None
