"""Two guitars of one: by their places in stereo, exact where they have such, said where they have none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gbsep import rendering
from gbsep.audio import Audio
from gbsep.errors import ParameterError, PresetError
from gbsep.preset.load import load_preset
from gbsep.separation.backend import Context, parse_settings, separate, stem_blocks
from gbsep.separation.guitars.backend import two_guitars
from gbsep.separation.guitars.places import find_lines
from gbsep.shelf import record, review
from gbsep.shelf.measured import evaluate_folder
from tests.soundfiles import make

RATE = 44100
SECONDS = 6.0


def line(seed: int, low_hz: float, seconds: float = SECONDS) -> np.ndarray:
    """A melody of decaying tones with harmonics."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(0.3 * RATE)) / RATE
    notes = []
    for _ in range(int(seconds / 0.3)):
        hz = low_hz * 2 ** (rng.integers(0, 12) / 12)
        notes.append(sum(np.sin(2 * np.pi * hz * k * time) / k for k in range(1, 8)) * np.exp(-4 * time))
    return np.float32(0.1 * np.concatenate(notes))


def at(samples: np.ndarray, degrees: float | np.ndarray) -> np.ndarray:
    mid, side = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.float32(np.stack([(mid + side) * samples, (mid - side) * samples]))


def sdr(reference: np.ndarray, estimate: np.ndarray) -> float:
    return float(10 * np.log10((reference**2).sum() / ((reference - estimate) ** 2).sum()))


def split(guitar: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    told: list[str] = []
    one, two = two_guitars(Audio(guitar, RATE).reader(), lambda what: told.append(str(what)))
    return one, two, " ".join(told)


@settings(max_examples=8, deadline=None)
@given(middle=st.floats(-25, 25), apart=st.floats(18, 40), seed=st.integers(0, 1000))
def test_guitars_at_two_places_come_apart(middle: float, apart: float, seed: int) -> None:
    left = at(line(seed, 110.0), middle + apart / 2)
    right = at(line(seed + 1, 147.0), middle - apart / 2)
    one, two, told = split(left + right)
    assert sdr(left, one) > 12
    assert sdr(right, two) > 12
    assert "told apart by their places" in told
    np.testing.assert_allclose(one + two, left + right, atol=1e-6)


def test_places_are_found_where_they_are() -> None:
    found = find_lines(Audio(at(line(1, 110.0), 30.0) + at(line(2, 147.0), -12.0), RATE).reader())
    assert sorted(place.degrees for place in found) == pytest.approx([-12.0, 30.0], abs=0.5)


@pytest.mark.parametrize("degrees", [0.0, 20.0, -45.0])
def test_one_guitar_is_not_made_two(degrees: float) -> None:
    guitar = at(line(1, 110.0), degrees)
    one, two, told = split(guitar)
    assert np.array_equal(one, guitar)
    assert not two.any()
    assert "guitar2 is silent: all guitars are at one place" in told


@pytest.mark.parametrize(
    ("guitar", "reason"),
    [
        (np.zeros((2, 9000), np.float32), "no guitar has a place"),
        (np.float32(0.1 * np.random.default_rng(0).standard_normal((2, 60_000))), "no guitar has a place"),
        (line(1, 110.0)[np.newaxis], "a mono recording has none"),
        (np.zeros((2, 1), np.float32), "no guitar has a place"),
    ],
    ids=["silence", "wide", "mono", "one frame"],
)
def test_without_two_places_the_guitar_stays_whole(guitar: np.ndarray, reason: str) -> None:
    one, two, told = split(guitar)
    assert np.array_equal(one, guitar)
    assert not two.any()
    assert reason in told


def test_a_guitar_that_moves_stays_whole() -> None:
    degrees = np.linspace(-40, 40, int(SECONDS / 0.3) * int(0.3 * RATE))
    one, two, told = split(at(line(1, 110.0), degrees))
    assert not two.any()
    assert "wide, move" in told
    assert one.any()


def test_three_places_are_told_and_the_third_goes_to_the_nearer() -> None:
    parts = [at(gain * line(seed, hz), place) for gain, seed, hz, place in
             [(1.0, 1, 110.0, 35.0), (1.0, 2, 147.0, -35.0), (0.6, 3, 196.0, 20.0)]]  # fmt: skip
    one, two, told = split(sum(parts))
    assert "(3 of them, so there may be more than two guitars)" in told
    assert sdr(parts[0] + parts[2], one) > 6
    assert sdr(parts[1], two) > 6


def test_what_is_split_does_not_depend_on_the_blocks() -> None:
    guitar = at(line(1, 110.0, 9.0), 30.0) + at(line(2, 147.0, 9.0), -20.0)
    stems = separate(Audio(guitar, RATE), "guitars", of={"backend": "crossover", "cutoff_hz": 20.0}).stems
    context = Context(("guitar1", "guitar2", "guitar", "bass"))
    checked = parse_settings("guitars", {"of": {"backend": "crossover", "cutoff_hz": 20.0}})
    blocks = list(stem_blocks(Audio(guitar, RATE).reader(), "guitars", checked, context))
    for name in context.wanted:
        assert np.array_equal(np.concatenate([block[name] for block in blocks], axis=1), stems[name].samples)
    np.testing.assert_allclose(stems["guitar1"].samples + stems["guitar2"].samples, stems["guitar"].samples, atol=1e-6)


def test_any_preset_takes_its_guitar_apart(tmp_path: Path, typed: Any) -> None:
    song = at(line(1, 220.0), 30.0) + at(line(2, 294.0), -20.0) + at(line(3, 55.0), 0.0)
    make(tmp_path / "song.wav", song.T, "FLOAT", "WAV")
    code, printed, complaint = typed("render", "song.wav", "-p", "exp002", "--two-guitars")
    assert code == 0, complaint + printed
    found = "guitar1 is 67 % left; guitar2 is 44 % right"
    assert found in printed, "it is no fault, and stands below the table"
    assert found not in complaint
    (folder,) = (path for path in (tmp_path / "gbsep-out" / "song").iterdir() if path.is_dir())
    assert {path.name for path in folder.glob("*.wav")} >= {"bass.wav", "guitar1.wav", "guitar2.wav"}
    told = {name: stem.told for name, stem in record.read(folder).stems.items()}
    assert told == {"bass": "", "guitar1": "is 67 % left", "guitar2": "is 44 % right and in the centre"}


def test_guitars_that_were_swapped_are_told_as_they_are(tmp_path: Path) -> None:
    song = at(line(1, 220.0), 30.0) + at(line(2, 294.0), -20.0) + at(line(3, 55.0), 0.0)
    make(tmp_path / "song.wav", song.T, "FLOAT", "WAV")
    two = load_preset({"name": "two", "extends": "exp002", "separate": {"guitars": "places"}})
    first = rendering.render(tmp_path / "song.wav", two, tmp_path / "out")
    folder = Path(str(first.folder)).parent
    review.save(folder, review.load(folder).swapped("two", "guitar1", "guitar2"))
    swapped = rendering.render(tmp_path / "song.wav", two, tmp_path / "out", overwrite=True)
    assert any("guitar1 is 44 % right and in the centre; guitar2 is 67 % left" in note for note in swapped.notes)
    assert record.read(Path(str(swapped.folder))).stems["guitar2"].told == "is 67 % left"


def test_what_was_found_is_handed_on_with_the_stems(tmp_path: Path) -> None:
    song = at(line(1, 220.0), 30.0) + at(line(2, 294.0), -20.0) + at(line(3, 55.0), 0.0)
    make(tmp_path / "song.wav", song.T, "FLOAT", "WAV")
    shared: dict[str, rendering.Given] = {}
    options = rendering.Options(tmp_path / "out")
    for name in ("one", "other"):
        two = load_preset({"name": name, "extends": "exp002", "separate": {"guitars": "places"}})
        outcome = rendering.run(rendering.plan(tmp_path / "song.wav", two, options), shared=shared)
        assert any("guitar1 is 67 % left" in note for note in outcome.notes)
    assert len(shared) == 1


def test_two_guitars_are_measured_against_two(tmp_path: Path) -> None:
    left, right = at(line(1, 110.0), 30.0), at(line(2, 147.0), -20.0)
    folders = {
        "true": {"guitar": left + right, "guitar1": left, "guitar2": right},
        "two": {"guitar1": left + 0.01 * right, "guitar2": right + 0.1 * left},
        "one": {"guitar": left},
    }
    for folder, files in folders.items():
        (tmp_path / folder).mkdir()
        for name, samples in files.items():
            make(tmp_path / folder / f"{name}.wav", samples.T, "FLOAT", "WAV")
    two, one = (evaluate_folder(tmp_path / name, tmp_path / "true") for name in ("two", "one"))
    assert set(two) == {"guitar1", "guitar2"}
    assert two["guitar1"].sdr == pytest.approx(sdr(left, left + 0.01 * right), abs=0.1)
    assert two["guitar2"].sdr == pytest.approx(sdr(right, right + 0.1 * left), abs=0.1)
    assert one["guitar"].sdr == pytest.approx(sdr(left + right, left), abs=0.1)


def test_crossed_guitars_are_told_when_they_are_measured(tmp_path: Path) -> None:
    left, right = at(line(1, 110.0), 30.0), at(line(2, 147.0), -20.0)
    for folder, (one, two) in {"true": (left, right), "crossed": (right, left)}.items():
        (tmp_path / folder).mkdir()
        make(tmp_path / folder / "guitar1.wav", one.T, "FLOAT", "WAV")
        make(tmp_path / folder / "guitar2.wav", two.T, "FLOAT", "WAV")
    crossed, right_way = (evaluate_folder(tmp_path / name, tmp_path / "true") for name in ("crossed", "true"))
    assert "more of guitar2 than of guitar1: these two seem to be crossed" in " ".join(crossed["guitar1"].notes)
    assert "crossed" in " ".join(crossed["guitar2"].notes)
    assert not any("crossed" in note for score in right_way.values() for note in score.notes)


def test_a_guitar_may_have_a_chain_of_its_own() -> None:
    own = {"chain": [{"effect": "Gain", "gain_db": 3.0}]}
    mine = {"name": "mine", "extends": "exp001", "separate": {"guitars": "places"}, "stems": {"guitar2": own}}
    stems = load_preset(mine).document["stems"]
    assert set(stems) == {"bass", "guitar1", "guitar2"}
    assert [node["effect"] for node in stems["guitar2"]["chain"]] == ["Gain"]
    assert stems["guitar1"]["chain"] == load_preset("exp001").document["stems"]["guitar"]["chain"]


@pytest.mark.parametrize(
    ("preset", "value", "reason"),
    [
        ("default", "role", "must be 'auto', 'places' or 'roles', not 'role'"),
        ("minus_bass", "places", "needs a stem that is the separator's guitar and nothing else"),
    ],
)
def test_what_has_no_guitar_to_take_apart_is_told(preset: str, value: str, reason: str) -> None:
    with pytest.raises(PresetError, match=reason):
        load_preset(preset, [("separate.guitars", value)])


@pytest.mark.parametrize("own", [5, [], "x"])
def test_a_second_guitar_that_is_no_stem_is_told(own: Any) -> None:
    with pytest.raises(PresetError, match="guitar2"):
        load_preset({"name": "m", "extends": "default", "separate": {"guitars": "places"}, "stems": {"guitar2": own}})


@pytest.mark.parametrize("how", [[], {}, False, 7, "x" * 10_000])
def test_a_way_that_is_none_is_told_in_a_line(how: Any) -> None:
    with pytest.raises(PresetError, match="must be 'auto', 'places' or 'roles'") as error:
        load_preset({"name": "m", "extends": "default", "separate": {"guitars": how}})
    assert len(str(error.value)) < 500


def test_two_guitars_are_not_taken_apart_again() -> None:
    plain = load_preset("two_guitars").document
    assert load_preset("two_guitars", [("separate.guitars", "auto")]).document == plain
    other = load_preset("two_guitars", [("separate.guitars", "places")]).document
    assert other["separate"] == {**plain["separate"], "how": "places"}


def test_what_a_preset_asks_for_can_be_taken_back() -> None:
    split = {"name": "m", "extends": "default", "separate": {"guitars": "places"}}
    assert load_preset(split).settings.how == "places"
    kept = load_preset(split, [("separate.guitars", None)])
    assert set(kept.document["stems"]) == set(load_preset("default").document["stems"])


@pytest.mark.parametrize("flag_first", [True, False])
def test_a_way_that_is_set_counts_more_than_the_flag(flag_first: bool, tmp_path: Path, typed: Any) -> None:
    make(tmp_path / "song.wav", at(line(1, 110.0), 0.0).T, "FLOAT", "WAV")
    given = ["--two-guitars", "--set", "separate.guitars=places"]
    given = given if flag_first else [given[1], given[2], given[0]]
    code, printed, _ = typed("render", "song.wav", "-p", "exp002", *given)
    assert code == 0
    assert (tmp_path / "gbsep-out" / "song" / "exp002@guitars=places").is_dir()
    assert "all guitars are at one place, in the centre" in printed


def test_a_preset_of_two_guitars_is_the_same_with_the_flag() -> None:
    asked = ("separate.guitars", "auto")
    assert load_preset("two_guitars", [asked]) == load_preset("two_guitars")
    assert load_preset("two_guitars", [asked, ("separate.guitars", "places")]).overrides


def test_a_separator_without_a_guitar_is_told() -> None:
    with pytest.raises(ParameterError, match="must name a backend"):
        parse_settings("guitars", {"of": {}})
    with pytest.raises(ParameterError, match="no such backend"):
        parse_settings("guitars", {"of": {"backend": "compakt"}})
