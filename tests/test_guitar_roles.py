"""Two guitars by what they play: chords and a line, in mono or at one place; one guitar is not made two."""

from __future__ import annotations

import itertools
import json
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gbsep.audio import Audio
from gbsep.models.catalogue import MODELS
from gbsep.preset.load import load_preset
from gbsep.separation.backend import Context, parse_settings, separate, stem_blocks
from gbsep.separation.compact import weights as compact_weights
from gbsep.separation.guitars import roles
from gbsep.separation.guitars.backend import two_guitars
from gbsep.train.instruments import SAMPLE_RATE, plucked_strings
from gbsep.train.roles import role_takes

from .test_guitars import at, sdr

SECONDS = 12.0


@pytest.fixture(scope="module")
def pairs() -> list[tuple[np.ndarray, np.ndarray]]:
    """Chords and a line, (1, frames), equally loud, played on strings that no training has heard."""
    made = []
    for take in role_takes(5, plucked_strings(20261129, 6), SECONDS):
        line, chords = (part[np.newaxis] for part in take.stems)
        if min(abs(line[:, -SAMPLE_RATE * 5 :]).max(), abs(chords[:, -SAMPLE_RATE * 5 :]).max()) > 0.01:
            made.append(tuple(np.float32(0.1 * part / np.sqrt(np.mean(part**2))) for part in (chords, line)))
        if len(made) == 4:
            return made
    raise AssertionError


def split(guitar: np.ndarray, how: str = "roles", rate: int = SAMPLE_RATE) -> tuple[np.ndarray, np.ndarray, str]:
    told: list[str] = []
    one, two = two_guitars(Audio(guitar, rate).reader(), lambda what: told.append(str(what)), how)
    return one, two, " ".join(told)


def test_chords_and_a_line_come_apart_in_mono(pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    above, told_apart = [], 0
    for chords, line in pairs:
        one, two, told = split(chords + line)
        told_apart += "guitar1 plays chords; guitar2 plays a line" in told
        np.testing.assert_allclose(one + two, chords + line, atol=1e-6)
        above.append([sdr(part, half) - sdr(part, chords + line) for part, half in ((chords, one), (line, two))])
    assert told_apart >= 3
    assert (np.median(above, axis=0) > 2.5).all(), above


def test_the_mask_of_one_channel_serves_both_and_places_come_first(
    pairs: list[tuple[np.ndarray, np.ndarray]],
) -> None:
    chords, line = (part[0] for part in pairs[0])
    one, _, told = split(at(chords, 0.0) + at(line, 0.0), "auto")
    assert "by what they play" in told
    np.testing.assert_allclose(one[0], one[1], atol=1e-4)
    left, _, told = split(at(chords, 30.0) + at(line, -20.0), "auto")
    assert "by their places" in told
    assert sdr(at(chords, 30.0), left) > 12


def test_guitars_in_opposite_phase_are_heard(pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Left and right cancel each other in their mean."""
    chords, line = (part[0] for part in pairs[0])
    one, two, told = split(np.stack([chords + line, -chords - line]))
    assert "by what they play" in told
    np.testing.assert_allclose(one[0], -one[1], atol=1e-5)
    assert two.any()


def test_one_guitar_stays_one(pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    whole = 0
    for guitar in itertools.chain(*pairs):
        one, two, told = split(guitar)
        np.testing.assert_allclose(one + two, guitar, atol=1e-6)
        whole += not two.any() and "guitar2 is silent" in told
    assert whole >= 7


@pytest.mark.parametrize("guitar", [np.zeros((2, 9000)), np.zeros((1, 1)), np.full((1, 30_000), 0.1)], ids=str)
def test_what_is_no_guitar_is_left_whole(guitar: np.ndarray) -> None:
    guitar = np.float32(guitar)
    one, two, told = split(guitar)
    assert np.array_equal(one, guitar)
    assert not two.any()
    assert "guitar2 is silent" in told


@settings(max_examples=5, deadline=None)
@given(gain_db=st.floats(-40, 20), rate=st.sampled_from([22_050, 44_100, 48_000]))
def test_loudness_and_rate_change_little(gain_db: float, rate: int) -> None:
    (take,) = itertools.islice(role_takes(8, plucked_strings(7, 3), 6.0), 1)
    guitar = take.stems.sum(axis=0, keepdims=True)
    gain = np.float32(10 ** (gain_db / 20))
    one, _, _ = split(guitar, rate=rate)
    louder, _, _ = split(gain * guitar, rate=rate)
    np.testing.assert_allclose(louder / gain, one, atol=2e-3 * abs(guitar).max())


def test_what_comes_does_not_depend_on_the_blocks(pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    guitar = sum(pairs[1])
    document = {"how": "roles", "of": {"backend": "crossover", "cutoff_hz": 20.0}}
    stems = separate(Audio(guitar, SAMPLE_RATE), "guitars", **document).stems
    context = Context(("guitar2", "guitar", "bass", "guitar1"))
    told: list[float] = []
    context = Context(context.wanted, progress=told.append)
    blocks = list(
        stem_blocks(Audio(guitar, SAMPLE_RATE).reader(), "guitars", parse_settings("guitars", document), context)
    )
    for name in context.wanted:
        assert np.array_equal(np.concatenate([block[name] for block in blocks], axis=1), stems[name].samples)
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_the_preset_takes_what_there_is() -> None:
    assert load_preset("two_guitars").settings.how == "auto"
    mine = load_preset({"name": "m", "extends": "exp002", "separate": {"guitars": "roles"}})
    assert mine.settings.how == "roles"


def test_the_card_is_that_of_the_network() -> None:
    card = json.loads(roles.WEIGHTS.with_suffix(".json").read_text())
    assert card["sha256"] == sha256(roles.WEIGHTS.read_bytes()).hexdigest() == roles.identity()["roles_sha256"]
    assert roles.WEIGHTS.stat().st_size < 3e6
    assert compact_weights.load(roles.WEIGHTS)[0].sample_rate == 8000
    assert "roles" not in MODELS


def test_songs_of_two_roles_are_the_same_every_time() -> None:
    band = list(plucked_strings(3, 2))
    first, again = (list(itertools.islice(role_takes(11, band, 4.0), 3)) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one.stems, other.stems)
        assert one.players == other.players
        assert one.stems.shape == (2, round(4.0 * SAMPLE_RATE))
        assert abs(one.stems).max() <= 0.99 + 1e-6
