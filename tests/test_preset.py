"""Presets: what is shipped is valid and complete, what is wrong is named by its JSON path."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gbsep.errors import PresetError
from gbsep.preset.load import load_preset
from gbsep.preset.names import preset_names
from gbsep.preset.overrides import parse_override
from gbsep.preset.schema import preset_schema

SHIPPED = sorted(path.stem for path in (Path(__file__).parents[1] / "presets").glob("*.json"))
MINIMAL = {
    "schema_version": 1,
    "name": "mine",
    "title": "Mine",
    "separate": {"backend": "crossover"},
    "stems": {"bass": {"from": ["bass"]}},
}


def changed(**changes: Any) -> dict[str, Any]:
    return {**json.loads(json.dumps(MINIMAL)), **changes}


def stem(**keys: Any) -> dict[str, Any]:
    return changed(stems={"bass": {"from": ["bass"], **keys}})


def test_the_presets_of_the_log_are_shipped() -> None:
    nmf = {f"exp003_{n_fft}_{mask}" for n_fft in (1024, 2048, 4096, 8192) for mask in ("soft", "hard")}
    butterworth = {f"exp002_{cutoff}" for cutoff in (100, 150, 200, 250, 300)}
    single = {"default", "exp001", "exp002", "exp003", "exp003_1", "exp004", "exp005", "exp005_1", "exp005_1_fast"}
    assert single | nmf | butterworth | {"minus_bass", "minus_guitar"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_preset_is_valid_and_explained(name: str) -> None:
    preset = load_preset(name)
    assert preset.name == name
    assert preset.title
    assert "Known to do badly" in preset.description
    jsonschema.Draft202012Validator(preset_schema()).validate(dict(preset.document))
    assert load_preset(preset.document).document == preset.document


def test_the_schema_is_a_schema_and_refuses_what_loading_refuses() -> None:
    validator = jsonschema.Draft202012Validator(preset_schema())
    validator.check_schema(preset_schema())
    validator.validate(MINIMAL)
    for bad in (
        changed(tittle="x"),
        changed(separate={"backend": "crossover", "cutof_hz": 1}),
        stem(chain=[{"effect": "Gain", "gain": 3}]),
        changed(stems={}),
    ):
        assert not validator.is_valid(bad)
        with pytest.raises(PresetError, match=r"."):
            load_preset(bad)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (changed(tittle="x"), r"tittle: unknown key; did you mean 'title'"),
        (changed(schema_version=2), r"schema_version: input should be 1"),
        (changed(name="../../etc"), r"name: must be a name of 1 to 64"),
        (changed(separate={}), r"separate.backend: None is no backend; known: .*crossover"),
        (changed(separate={"backend": "crosover"}), r"separate.backend: 'crosover' .* did you mean 'crossover'"),
        (changed(separate={"backend": ["crossover"]}), r"separate.backend: .* is no backend"),
        (changed(separate={"backend": "crossover", "cutof_hz": 1}), r"separate.cutof_hz: .* did you mean 'cutoff_hz'"),
        (changed(separate={"backend": "crossover", "cutoff_hz": "200"}), r"separate.cutoff_hz: must be a number"),
        (changed(separate={"backend": "crossover", "cutoff_hz": math.nan}), r"separate.cutoff_hz: .*finite"),
        (changed(separate={"backend": "crossover", "order": True}), r"separate.order: must be a whole number"),
        (changed(separate={"backend": "crossover", "order": 9}), r"separate.order: .*less than or equal to 8, not 9"),
        (changed(separate={"backend": "crossover", "seed": -1}), r"separate.seed: .*greater than or equal to 0"),
        (changed(stems=[]), r"stems: must be an object"),
        (changed(stems={"residual": {"from": ["bass"]}}), r"stems.residual: the name is taken"),
        (changed(stems={"bass": {"from": ["base"]}}), r"stems.bass.from: no source 'base'; did you mean 'bass'"),
        (changed(stems={"bass": {"from": ["bass", "bass"]}}), r"stems.bass.from: a source is named twice"),
        (changed(stems={"b": {"from": ["mixture", "-b"]}}), r"stems.b.from: no source '-b'"),
        (changed(stems={"b": {"from": ["mixture"], "restore": {"method": "peak"}}}), r"stems.b.restore: a complement"),
        (stem(restor={}), r"stems.bass.restor: unknown key; did you mean 'restore'"),
        (stem(restore={"method": "mixturefit"}), r"stems.bass.restore.method: .*did you mean 'mixture_fit'"),
        (stem(restore={"method": "mixture_fit", "limit": 3}), r"restore.*limit: unknown key; did you mean 'limit_db'"),
        (stem(restore={"method": "loudness"}), r"stems.bass.restore: .*either lufs or match"),
        (stem(chain={"effect": "Gain"}), r"stems.bass.chain: "),
        (stem(chain=[{"effect": "Gian"}]), r"stems.bass.chain\[0\].effect: .*did you mean 'Gain'"),
        (stem(chain=[{"effect": "Gain", "gain": 3}]), r"stems.bass.chain\[0\].gain: .*did you mean 'gain_db'"),
        (stem(chain=[{"effect": "Gain", "gain_db": math.nan}]), r"stems.bass.chain\[0\].gain_db: nan is not allowed"),
        (
            changed(stems={"Bass": {"from": ["bass"]}, "bass": {"from": ["bass"]}}),
            r"stems: two names differ only in case",
        ),
        (changed(swap=[["bass", "drums"]]), r"swap: the separator gives no 'drums'"),
        (changed(swap=[["bass"]]), r"swap"),
        (changed(output={"format": "aac"}), r"output.format: .*'wav', 'flac', 'mp3', 'm4a', 'ogg' or 'opus'"),
    ],
)
def test_what_is_wrong_is_named_by_its_place(document: dict[str, Any], message: str) -> None:
    with pytest.raises(PresetError, match=message) as caught:
        load_preset(document)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON: .* at line 1"),
        (b"[1, 2]", "is not a JSON object, such as"),
        (b'{"title": "a", "title": "b"}', "'title' stands twice in one object"),
        (b'{"schema_version": ' + b"9" * 5000 + b"}", "holds a number of 5000 digits"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
        (b"[" * 100_000, "is nested too deeply|is not JSON"),
        (b" " * 10_000_000 + b"{}", "larger than 1 MB"),
    ],
)
def test_files_that_are_no_preset(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(PresetError, match=message):
        load_preset(path)


def test_a_missing_file_and_an_unknown_name() -> None:
    with pytest.raises(PresetError, match="no such file; check the name"):
        load_preset("nowhere/mine.json")
    with pytest.raises(PresetError, match="no preset of this name; did you mean 'exp002'"):
        load_preset("exp02")


def test_a_preset_of_the_user_goes_before_the_shipped_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GBSEP_CONFIG", str(tmp_path))
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "exp002.json").write_text(json.dumps(changed(name="exp002", title="Own")))
    assert load_preset("exp002").title == "Own"
    assert preset_names()["exp002"].is_relative_to(tmp_path)


def test_overrides_change_one_value_and_name_the_folder() -> None:
    preset = load_preset("exp002", [("separate.cutoff_hz", 250)])
    assert preset.document["separate"]["cutoff_hz"] == 250
    assert preset.folder == "exp002@cutoff_hz=250"
    assert load_preset("exp002").folder == "exp002"
    both = load_preset("exp002", [("stems.bass.chain", []), ("stems.guitar.chain", [])])
    assert both.folder == "exp002@bass.chain=[],guitar.chain=[]"
    seeded = load_preset("exp002", seed=7, format="flac")
    assert (seeded.seed, seeded.output.format, seeded.folder) == (7, "flac", "exp002")


def test_overrides_that_lead_nowhere() -> None:
    with pytest.raises(PresetError, match=r"separate.cutof: unknown key"):
        load_preset("exp002", [("separate.cutof", 1)])
    with pytest.raises(PresetError, match=r"stems.bass.chain\[3\].ratio: there is no element \[3\]"):
        load_preset("exp002", [("stems.bass.chain[3].ratio", 1)])
    gain = load_preset("exp002", [("stems.bass.chain", [{"effect": "Gain"}]), ("stems.bass.chain.0.gain_db", 3)])
    assert gain.document["stems"]["bass"]["chain"][0]["gain_db"] == 3
    with pytest.raises(PresetError, match=r"'x' is asked of something that is no object"):
        load_preset("exp002", [("name.x", 1)])
    with pytest.raises(PresetError, match="not KEY=VALUE"):
        parse_override("separate.cutoff_hz")


@given(st.text(min_size=1, max_size=200), st.text(min_size=1, max_size=200))
def test_folders_of_different_overrides_differ_and_are_names(first: str, second: str) -> None:
    folders = {value: load_preset(MINIMAL, [("title", value)]).folder for value in (first, second)}
    assert len(set(folders.values())) == len(folders)
    for folder in folders.values():
        assert not set(folder) & set('/\\:*?"<>|\0')
        assert len(folder.encode()) < 255


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(["name", "title", "separate", "swap", "stems", "output", "schema_version"]), json_values)
def test_any_json_is_a_preset_or_a_clear_error(key: str, value: Any) -> None:
    try:
        load_preset(changed(**{key: value}))
    except PresetError as error:
        assert "\n" not in str(error)


@given(json_values)
def test_any_json_is_a_chain_or_a_clear_error(value: Any) -> None:
    try:
        load_preset(stem(chain=[value]))
    except PresetError as error:
        assert error.json_path.startswith("stems.bass.chain")
