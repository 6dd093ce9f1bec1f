"""Decisions of a person: read strictly, written whole, obeyed by the next render and by no other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gbsep
from gbsep.audio import Audio
from gbsep.errors import OutputError
from gbsep.preset.load import load_preset
from gbsep.rendering import Options, chosen_preset, plan
from gbsep.shelf import record, review
from gbsep.shelf.review import Note, Review

from .helpers import read

RATE = 44100


@pytest.fixture
def song(tmp_path: Path, rng: np.random.Generator) -> Path:
    path = tmp_path / "song.wav"
    gbsep.write(path, Audio(0.1 * rng.standard_normal((2, RATE)), RATE))
    return path


def test_no_file_is_an_empty_review(tmp_path: Path) -> None:
    assert review.load(tmp_path) == Review()
    assert not Review().is_done


@given(
    status=st.sampled_from([None, "accepted", "rejected"]),
    preset=st.none() | st.text(),
    text=st.text(min_size=1, max_size=50),
    time_s=st.floats(0, 1e5),
)
def test_what_is_saved_is_what_is_loaded(
    tmp_path_factory: pytest.TempPathFactory, status: Any, preset: str | None, text: str, time_s: float
) -> None:
    folder = tmp_path_factory.mktemp("song")
    note = Note(time_s=time_s, text=text, stem="베이스")
    decided = Review(status=status, preset=preset, notes=[note]).swapped("exp004", "guitar", "bass")
    review.save(folder, decided)
    assert review.load(folder) == decided
    assert [path.name for path in folder.iterdir()] == [review.FILE]


def test_swapping_twice_is_as_before() -> None:
    once = Review().swapped("exp004", "guitar", "bass")
    assert once.swaps("exp004") == (("bass", "guitar"),)
    assert once.swaps("exp005") == ()
    assert once.swapped("exp004", "bass", "guitar") == Review()
    assert once.swapped("exp004", "bass", "drums").swaps("exp004") == (("bass", "drums"),)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "is not JSON"),
        ("[]", r"review.json: must be an object"),
        ("[" * 100_000, "is nested too deeply"),
        ('{"schema_version": 2}', "schema_version"),
        ('{"stauts": "accepted"}', "did you mean 'status'"),
        ('{"status": "fine"}', "status"),
        ('{"notes": [{"time_s": -1, "text": "x"}]}', r"notes\[0\].time_s"),
        ('{"notes": [{"time_s": NaN, "text": "x"}]}', r"notes\[0\].time_s"),
        ('{"swap": {"exp004": [["bass"]]}}', "swap.exp004"),
        ('{"swap": {"exp004": [["bass", "guitar"], ["bass", "drums"]]}}', "twice"),
        ('{"swap": {"exp004": [["bass", "bass"]]}}', "twice"),
        (" " * 2_000_000, "larger than"),
    ],
)
def test_a_review_that_is_none_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / review.FILE).write_text(text)
    with pytest.raises(OutputError, match=reason):
        review.load(tmp_path)


def test_a_review_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "song").write_text("a file")
    with pytest.raises(OutputError, match="cannot be written"):
        review.save(tmp_path / "song", Review())


@pytest.mark.parametrize("preset", ["exp002", "default"])
def test_the_next_render_obeys_a_swap(song: Path, tmp_path: Path, preset: str) -> None:
    """Also where one stem is the complement of the other."""
    out = tmp_path / "out"
    before = gbsep.render(song, preset, out)
    was = {name: read(path) for name, path in before.files.items()}
    review.save(out / "song", Review().swapped(preset, "bass", "guitar"))
    assert plan(song, load_preset(preset), Options(out)).reason == "review changed"
    after = gbsep.render(song, preset, out)
    assert after.status == "ok"
    np.testing.assert_array_equal(read(after.files["bass"]), was["guitar"])
    np.testing.assert_array_equal(read(after.files["guitar"]), was["bass"])
    assert set(after.files) == set(was)
    told = record.read(out / "song" / preset)
    assert told
    assert told.review.swap == (("bass", "guitar"),)
    assert gbsep.render(song, preset, out).status == "skipped"
    review.save(out / "song", Review())
    assert gbsep.render(song, preset, out).status == "ok"
    np.testing.assert_array_equal(read(after.files["bass"]), was["bass"])


def test_a_swapped_stem_keeps_its_name_and_its_chain(song: Path, tmp_path: Path) -> None:
    chain = [("stems.bass.chain", [{"effect": "Gain", "gain_db": -20.0}])]
    preset = load_preset("exp002", chain)
    out = tmp_path / "out"
    plain = gbsep.render(song, "exp002", tmp_path / "plain")
    (out / "song").mkdir(parents=True)
    review.save(out / "song", Review().swapped(preset.folder, "bass", "guitar"))
    swapped = gbsep.render(song, preset, out)
    np.testing.assert_allclose(read(swapped.files["bass"]), 0.1 * read(plain.files["guitar"]), rtol=1e-5)
    np.testing.assert_array_equal(read(swapped.files["guitar"]), read(plain.files["bass"]))


def test_decisions_that_change_no_sound_render_nothing_again(song: Path, tmp_path: Path) -> None:
    gbsep.render(song, "exp002", tmp_path / "out")
    decided = Review(status="rejected", preset="exp002", notes=[Note(time_s=0.5, text="thin")])
    review.save(tmp_path / "out" / "song", decided.swapped("exp004", "bass", "guitar"))
    assert gbsep.render(song, "exp002", tmp_path / "out").status == "skipped"


def test_a_swap_of_a_stem_that_is_not_there_is_said_and_left_out(song: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "song").mkdir(parents=True)
    review.save(tmp_path / "out" / "song", Review().swapped("exp002", "bass", "gitar"))
    assert "did you mean 'guitar'" in gbsep.render(song, "exp002", tmp_path / "out").warnings[0]


def test_the_chosen_preset_is_the_one_without_a_name(song: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert chosen_preset(out, "song").folder == "default"
    cutoff = [("separate.cutoff_hz", 250.0)]
    gbsep.render(song, load_preset("exp002", cutoff), out)
    review.save(out / "song", Review(preset="exp002@cutoff_hz=250.0"))
    chosen = chosen_preset(out, "song")
    assert (chosen.folder, chosen.settings.model_dump()["cutoff_hz"]) == ("exp002@cutoff_hz=250.0", 250.0)
    assert plan(song, chosen, Options(out)).action == "skip"
    on_top = chosen_preset(out, "song", [("separate.order", 2)])
    assert dict(on_top.overrides) == {"separate.cutoff_hz": 250.0, "separate.order": 2}


def test_a_chosen_preset_of_the_users_own_is_taken_from_its_render(song: Path, tmp_path: Path) -> None:
    own = {**json.loads(json.dumps(load_preset("exp002").document)), "name": "mine"}
    gbsep.render(song, own, tmp_path / "out")
    review.save(tmp_path / "out" / "song", Review(preset="mine"))
    assert chosen_preset(tmp_path / "out", "song").document == load_preset(own).document


@pytest.mark.parametrize("name", ["nowhere", "../../etc", "exp002/../exp002"])
def test_a_chosen_preset_that_is_nowhere_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "song").mkdir()
    review.save(tmp_path / "song", Review(preset=name))
    with pytest.raises(OutputError, match="choose with --preset"):
        chosen_preset(tmp_path, "song")
