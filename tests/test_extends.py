"""Presets that extend another one, presets of one's own, and errors that come all at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from gbsep.errors import OutputError, ParameterError, PresetError, WeightsMissing
from gbsep.preset.extends import MAX_DEPTH
from gbsep.preset.load import load_preset
from gbsep.preset.names import preset_names
from gbsep.preset.own import FIRST, listed_names, new_preset
from gbsep.preset.schema import preset_schema

from .helpers import exit_code


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write a preset of the user's own by its name."""
    monkeypatch.setenv("GBSEP_CONFIG", str(tmp_path))
    (tmp_path / "presets").mkdir()

    def write(name: str, document: object) -> Path:
        path = tmp_path / "presets" / f"{name}.json"
        path.write_text(json.dumps(document))
        return path

    return write


def test_only_what_differs_is_given(own: Any) -> None:
    chain = [{"effect": "Gain", "gain_db": -3.0}]
    own("soft", {"extends": "exp002", "separate": {"cutoff_hz": 150.0}, "stems": {"bass": {"chain": chain}}})
    soft, base = load_preset("soft"), load_preset("exp002")
    assert (soft.name, soft.title, soft.description) == ("soft", "exp002, changed", "")
    assert soft.document["separate"] == {**base.document["separate"], "cutoff_hz": 150.0}
    assert soft.document["stems"]["guitar"] == base.document["stems"]["guitar"]
    assert soft.document["stems"]["bass"]["chain"][0]["gain_db"] == -3.0
    assert "extends" not in soft.document
    assert load_preset(soft.document).document == soft.document


def test_another_kind_begins_afresh_and_null_leaves_a_stem_out(own: Any) -> None:
    own("other", {"extends": "exp002", "separate": {"backend": "nmf"}, "stems": {"guitar": None}})
    other = load_preset("other")
    assert other.backend == "nmf"
    assert list(other.stems) == ["bass"]
    own("louder", {"extends": "other", "stems": {"bass": {"restore": {"method": "peak"}}}})
    own("plain", {"extends": "louder", "stems": {"bass": {"restore": {"method": "mixture_fit", "limit_db": 3.0}}}})
    assert load_preset("plain").document["stems"]["bass"]["restore"] == {"method": "mixture_fit", "limit_db": 3.0}


def test_title_from_and_version_may_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text('{"separate": {"backend": "crossover"}, "stems": {"bass": {}}}')
    preset = load_preset(path)
    assert (preset.name, preset.title) == ("mine", "mine")
    assert preset.stems["bass"].sources == ["bass"]
    with pytest.raises(PresetError, match=r"stems.solo.from: no source 'solo'"):
        load_preset({"name": "m", "separate": {"backend": "crossover"}, "stems": {"solo": {}}})


def test_ones_own_default_changes_the_one_that_is_shipped(own: Any) -> None:
    own("default", {"extends": "default", "output": {"format": "flac"}})
    assert load_preset("default").document["output"]["format"] == "flac"
    assert load_preset("default").backend == "compact"


@pytest.mark.parametrize(
    ("base", "reason"),
    [
        ("../../etc/passwd", "is a path"),
        ("/etc/passwd", "is a path"),
        ("C:\\mine", "is a path"),
        ("mine.json", "is a path"),
        ("defalt", "did you mean 'default'"),
        ("*", "no preset is called"),
        (3, "the name of a preset, not 3"),
        (None, "the name of a preset"),
        ("", "the name of a preset"),
    ],
)
def test_a_preset_extends_names_alone(base: object, reason: str) -> None:
    with pytest.raises(PresetError, match=reason) as caught:
        load_preset({"name": "m", "extends": base})
    assert caught.value.json_path == "extends"


def test_circles_and_long_rows_end(own: Any) -> None:
    own("a", {"extends": "b"})
    own("b", {"extends": "a"})
    with pytest.raises(PresetError, match="goes in a circle: b extends a"):
        load_preset("a")
    own("self", {"extends": "self"})
    with pytest.raises(PresetError, match="circle"):
        load_preset("self")
    for number in range(MAX_DEPTH + 1):
        own(f"n{number}", {"extends": f"n{number + 1}" if number < MAX_DEPTH else "default"})
    with pytest.raises(PresetError, match=f"more than {MAX_DEPTH} presets"):
        load_preset("n0")
    assert load_preset("n1").backend == "compact"


def test_a_broken_base_is_named(own: Any) -> None:
    path = own("broken", {})
    path.write_text("{")
    with pytest.raises(PresetError, match=r"broken\.json: is not JSON"):
        load_preset({"name": "m", "extends": "broken"})


def test_files_of_a_chain_lie_where_the_chain_was_given(own: Any, tmp_path: Path) -> None:
    own("room", {"extends": "exp002", "stems": {"bass": {"chain": [
        {"effect": "Convolution", "impulse_response_filename": "room.wav"}]}}})  # fmt: skip
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    child = elsewhere / "child.json"
    own_chain = [{"effect": "Convolution", "impulse_response_filename": "hall.wav"}]
    child.write_text(json.dumps({"extends": "room", "stems": {"guitar": {"chain": own_chain}}}))
    document = load_preset(child).document["stems"]
    assert document["bass"]["chain"][0]["impulse_response_filename"] == str(tmp_path / "presets" / "room.wav")
    assert document["guitar"]["chain"][0]["impulse_response_filename"] == str(elsewhere / "hall.wav")


def test_everything_that_is_wrong_is_told_at_once() -> None:
    bad = {
        "extends": "default",
        "name": "m",
        "tittle": "M",
        "separate": {"shfts": 1, "seed": -1},
        "stems": {"bass": {"chain": [{"effect": "Compresor"}, {"effect": "Gain", "gain": 3, "wet": 7}]}},
        "output": {"format": "oggg"},
    }
    with pytest.raises(PresetError) as caught:
        load_preset(bad)
    told = dict(caught.value.problems)
    assert set(told) == {
        "tittle", "separate.shfts", "separate.seed", "stems.bass.chain[0].effect", "stems.bass.chain[1].gain",
        "stems.bass.chain[1].wet", "output.format",
    }  # fmt: skip
    assert "did you mean 'title'" in told["tittle"]
    assert "did you mean 'shifts'" in told["separate.shfts"]
    assert "did you mean 'Compressor'" in told["stems.bass.chain[0].effect"]
    assert "\n" not in str(caught.value)


def test_an_effect_is_set_by_its_name() -> None:
    chain = [{"effect": "Gain"}, {"effect": "Compressor"}]
    given = ("stems.bass.chain", chain)
    preset = load_preset("exp002", [given, ("stems.bass.chain.Compressor.ratio", 8)])
    assert preset.document["stems"]["bass"]["chain"][1]["ratio"] == 8
    with pytest.raises(PresetError, match=r"no 'Compresor' in it; did you mean 'Compressor'"):
        load_preset("exp002", [given, ("stems.bass.chain.Compresor.ratio", 8)])
    with pytest.raises(PresetError, match=r"there is no 'Gain' in it: the chain is empty"):
        load_preset("exp002", [("stems.bass.chain", []), ("stems.bass.chain.Gain.gain_db", 8)])
    with pytest.raises(PresetError, match=r"2 of the name 'Gain': say which of \[0\], \[2\]"):
        load_preset("exp002", [("stems.bass.chain", [*chain, {"effect": "Gain"}]), ("stems.bass.chain.Gain.wet", 0)])


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("stem.bass.chain.Gain.gain_db", "there is no 'stem'; did you mean 'stems'?"),
        ("stems.bas.chain.Gain.gain_db", "there is no 'bas'; did you mean 'bass'?"),
    ],
)
def test_a_misspelt_word_on_the_way_to_an_effect_is_told(key: str, reason: str) -> None:
    with pytest.raises(PresetError) as caught:
        load_preset("default", [(key, 8)])
    assert caught.value.problems == ((key, reason),)


def test_what_people_call_an_effect_is_answered_with_its_names_here() -> None:
    chain = [{"effect": "EQ"}, {"effect": "limiter"}, {"effect": "Low cut"}, {"effect": "vocoder"}]
    with pytest.raises(PresetError) as caught:
        load_preset({"extends": "default", "name": "mine", "stems": {"bass": {"chain": chain}}})
    assert [reason.partition("; ")[2] for _, reason in caught.value.problems] == [
        "did you mean 'PeakFilter', 'LowShelfFilter' or 'HighShelfFilter'?",
        "did you mean 'Limiter'?",
        "did you mean 'HighpassFilter' or 'Butterworth'?",
        "gbsep effects list has all names",
    ]


def test_a_wrong_model_hides_nothing_else() -> None:
    stems: dict[str, Any] = {"bass": {"from": ["bas"]}, "guitar": {"form": ["guitar"]}, "lead": {}}
    document = {"name": "mine", "separate": {"backend": "demucs", "model": "htdemucs_6"}, "stems": stems}
    with pytest.raises(PresetError) as caught:
        load_preset(document)
    told = dict(caught.value.problems)
    assert list(told) == ["stems.guitar.form", "stems.bass.from", "separate.model"]
    assert told["stems.bass.from"] == "no source 'bas'; did you mean 'bass'?"
    assert "did you mean 'htdemucs_6s'?" in told["separate.model"]
    del stems["bass"], stems["guitar"]
    with pytest.raises(WeightsMissing, match="htdemucs_6s"):
        load_preset(document)


def test_values_of_a_wrong_type_are_told_in_plain_words() -> None:
    with pytest.raises(PresetError) as caught:
        load_preset({"extends": "default", "name": "mine", "output": {"residual": "no"}, "title": 3, "swap": {}})
    told = dict(caught.value.problems)
    assert told["output.residual"] == "must be true or false, not 'no'"
    assert told["title"] == "must be text in quotes, not 3"


def test_the_schema_knows_what_loading_knows() -> None:
    validator = jsonschema.Draft202012Validator(preset_schema())
    good: list[dict[str, Any]] = [
        {"extends": "exp002", "separate": {"cutoff_hz": 150.0}, "stems": {"guitar": None, "bass": {"chain": []}}},
        {"extends": "default"},
        {"separate": {"backend": "crossover"}, "stems": {"bass": {}}},
    ]
    bad: list[dict[str, Any]] = [
        {"extends": "exp002", "separate": {"cutof_hz": 150.0}},
        {"extends": "exp002", "stems": {"bass": {"chain": [{"effect": "Gain", "gain": 1}]}}},
        {"extends": "exp002", "tittle": "x"},
        {"stems": {"bass": {}}},
    ]
    for document in good:
        validator.validate(document)
        load_preset({"name": "m", **document})
    for document in bad:
        assert not validator.is_valid(document), document
        with pytest.raises(PresetError):
            load_preset({"name": "m", **document})


def test_a_new_preset_is_used_at_once(own: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("presets", "new", "warm", "--set", 'stems.bass.chain=[{"effect": "Compressor", "ratio": 4}]') == 0
    said = capsys.readouterr()
    written = json.loads(Path(said.out.strip()).read_text())
    assert written["extends"] == "default"
    assert load_preset("warm").document["stems"]["bass"]["chain"][0]["ratio"] == 4
    assert next(iter(listed_names()[0])) == "warm"
    for name, reason in (("warm", "presets edit warm"), ("exp002", "is shipped"), ("a/b", "no path")):
        with pytest.raises((OutputError, ParameterError), match=reason):
            new_preset(name, "default")
    with pytest.raises(PresetError, match="did you mean"):
        new_preset("cold", "default", changes=[("stems.bass.chain", [{"effect": "Compresor"}])])
    assert "cold" not in preset_names()


def test_editing_checks_and_says_everything(
    own: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDITOR", "true")
    monkeypatch.delenv("VISUAL", raising=False)
    own("mine", {"extends": "default", "tittle": "x", "separate": {"sed": 1}})
    assert exit_code("presets", "edit", "mine") == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
    own("mine", {"extends": "default"})
    assert exit_code("presets", "edit", "mine") == 0
    assert exit_code("presets", "edit", "exp002") == 2
    assert "gbsep presets new NAME --from exp002" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "more"),
    [
        ({"separate": {"backend": "crossover", "cutoff_hz": -1}}, "separate.cutoff_hz"),
        ({"separate": {"backend": "crossover", "cutof_hz": 200}}, "separate"),
        ({"tittle": "x"}, ""),
        ({"output": {"format": "flak"}}, "output.format"),
    ],
)
def test_sources_and_swaps_are_told_with_all_the_rest(change: dict[str, Any], more: str) -> None:
    """Whatever else is wrong: a setting, a key, a value, a stem."""
    document = {
        "name": "m",
        "separate": {"backend": "crossover"},
        "swap": [["bass", "gitar"]],
        "stems": {
            "bass": {"from": ["bas"], "chain": [{"effect": "Compresor"}]},
            "rest": {"from": ["mixture", "-broken"]},
            "broken": {"from": 3},
        },
    }
    with pytest.raises(PresetError) as caught:
        load_preset({**document, **change})
    places = [place for place, _ in caught.value.problems]
    wanted = {"swap", "stems.bass.from", "stems.bass.chain[0].effect", "stems.broken.from"}
    assert wanted <= set(places)
    assert "stems.rest.from" not in places, "the stem that it takes away may be right once it is mended"
    assert any(place.startswith(more) for place in set(places) - wanted)
    assert len(places) == len(wanted) + 1
    told = dict(caught.value.problems)
    assert "did you mean 'bass'" in told["stems.bass.from"]
    assert "did you mean 'guitar'" in told["swap"]


def test_an_editor_is_one_that_says_how_it_is_left(
    own: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("EDITOR", raising=False)
    monkeypatch.delenv("VISUAL", raising=False)
    opened: list[str] = []
    monkeypatch.setattr("click.edit", lambda filename, editor: opened.append(editor))
    own("mine", {"extends": "default"})
    assert exit_code("presets", "edit", "mine") == 0
    said = capsys.readouterr()
    assert Path(said.out.strip()).is_file()
    assert "gbsep presets validate mine" in said.err
    assert opened == []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    for there, chosen in (("/usr/bin/nano", ["nano"]), (None, [])):
        opened.clear()
        monkeypatch.setattr("shutil.which", lambda name, there=there: there)
        assert exit_code("presets", "edit", "mine") == 0
        assert opened == chosen


def test_the_list_begins_with_what_people_use(own: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert set(FIRST) <= set(preset_names())
    exit_code("presets", "list", "--json")
    names = [json.loads(line)["name"] for line in capsys.readouterr().out.splitlines()]
    assert names == list(FIRST)
    left = set(preset_names()) - set(FIRST)
    assert all(name.startswith(("exp002_", "exp003_")) for name in left), "the list calls these variants"
    exit_code("presets", "list", "--all", "--json")
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["name"] for row in rows} == set(preset_names())
    assert all(row["title"] and not row["error"] for row in rows)


@pytest.mark.parametrize(("text", "is_comma"), [('{"a": 1,\n}', True), ('{"a": [1, ]}', True), ('{"a": }', False)])
def test_a_comma_too_many_is_called_one(text: str, is_comma: bool, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(text)
    with pytest.raises(PresetError, match="is not JSON") as caught:
        load_preset(tmp_path / "mine.json")
    assert ("one too many" in str(caught.value)) == is_comma
