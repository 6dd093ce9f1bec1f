"""Chains as JSON: read, written and in the schema, or refused with their place and reason."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from gbsep.audio import Audio
from gbsep.effects.chain import (
    MAX_EFFECTS,
    MAX_NESTING,
    Effect,
    apply_chain,
    chain_schema,
    dump_chain,
    parse_chain,
)
from gbsep.effects.table import EFFECTS
from gbsep.errors import PresetError


def numbers(param):
    fixed = st.integers(int(param.low), int(param.high)) if param.kind == "int" else st.floats(param.low, param.high)
    if not param.automatable:
        return fixed
    times = st.lists(st.floats(0, 100), min_size=1, max_size=3, unique=True).map(sorted)
    points = times.flatmap(lambda t: st.tuples(*(st.tuples(st.just(x), fixed).map(list) for x in t)).map(list))
    lane = st.fixed_dictionaries({"points": points}, optional={"shape": st.sampled_from(["linear", "hold"])})
    return fixed | lane


def values(param):
    return {
        "bool": lambda: st.booleans(),
        "choice": lambda: st.sampled_from(param.choices),
        "path": lambda: st.just("room.wav"),
        "stem": lambda: st.just("bass"),
    }.get(param.kind, lambda: numbers(param))()


def effect_json(spec):
    given = {param.name: values(param) for param in spec.params}
    required = {param.name: given.pop(param.name) for param in spec.params if param.default is None}
    wet = numbers(EFFECTS["Gain"].params[0]).filter(lambda value: isinstance(value, float)).map(lambda _: 0.25)
    return st.fixed_dictionaries({"effect": st.just(spec.name), **required}, optional={**given, "wet": wet})


effects_json = st.sampled_from(list(EFFECTS.values())).flatmap(effect_json)


chains_json = st.recursive(
    st.lists(effects_json, max_size=3),
    lambda chains: st.lists(
        st.fixed_dictionaries({"chain": chains}, optional={"mix_db": st.floats(-60, 0)}), min_size=1, max_size=2
    ).map(lambda branches: [{"effect": "Parallel", "branches": branches}]),
    max_leaves=3,
)


@given(chain=chains_json)
@settings(deadline=None, max_examples=60)
def test_what_the_table_allows_is_read_written_and_in_the_schema(chain):
    nodes = parse_chain(chain)
    written = json.loads(json.dumps(dump_chain(nodes), allow_nan=False))
    assert parse_chain(written) == nodes
    schema = Draft202012Validator(chain_schema())
    schema.validate(chain)
    schema.validate(written)


def test_the_schema_is_a_schema():
    Draft202012Validator.check_schema(chain_schema())


def test_defaults_are_filled_in():
    assert parse_chain([{"effect": "Compressor", "ratio": 2}]) == (
        Effect("Compressor", {"threshold_db": 0.0, "ratio": 2.0, "attack_ms": 1.0, "release_ms": 100.0}, 1.0),
    )


@pytest.mark.parametrize(
    ("chain", "json_path", "reason"),
    [
        ({}, "chain", "a list of effects, not an object"),
        ([7], r"chain\[0\]", "an effect is an object .* not a number"),
        ([{}], r"chain\[0\]", "'effect' is missing"),
        ([{"effect": 5}], r"chain\[0\].effect", "the name of an effect, not a number"),
        ([{"effect": "Compresor"}], r"chain\[0\].effect", "did you mean 'Compressor'"),
        ([{"effect": "Gain"}, {"effect": "Gain", "gain": 1}], r"chain\[1\].gain", "did you mean 'gain_db'"),
        ([{"effect": "Compressor", "ratio": 0.5}], r"chain\[0\].ratio", "0.5 is not allowed: a number from 1 to 1000"),
        ([{"effect": "Compressor", "ratio": True}], r"chain\[0\].ratio", "True is not allowed"),
        ([{"effect": "Compressor", "ratio": math.nan}], r"chain\[0\].ratio", "nan is not allowed"),
        ([{"effect": "Compressor", "ratio": "x" * 1000}], r"chain\[0\].ratio", r"'x+\.\.\.x+' is not allowed"),
        ([{"effect": "Gain", "wet": 2}], r"chain\[0\].wet", "a number from 0 to 1"),
        (
            [{"effect": "Butterworth", "mode": "lowpass"}],
            r"chain\[0\]",
            "cutoff_hz: is missing: a number from 1",
        ),
        ([{"effect": "Butterworth", "mode": "low", "cutoff_hz": 9}], r"chain\[0\].mode", "did you mean 'lowpass'"),
        ([{"effect": "Parallel", "chain": []}], r"chain\[0\].chain", "unknown key"),
        ([{"effect": "Parallel", "branches": []}], r"chain\[0\].branches", "one or more"),
        ([{"effect": "Parallel", "branches": [[]]}], r"chain\[0\].branches\[0\]", "a branch is an object"),
        (
            [{"effect": "Parallel", "branches": [{"chain": [{"effect": "Gain", "gain_db": 99}]}]}],
            r"chain\[0\].branches\[0\].chain\[0\].gain_db",
            "from -100 to 60 dB",
        ),
        ([{"effect": "Gain", "gain_db": {"points": [[0, 0], [0, 1]]}}], r"chain\[0\].gain_db.points\[1\]", "later"),
        ([{"effect": "Resample", "target_sample_rate": {"points": [[0, 9000]]}}], r"chain\[0\].target", "not an autom"),
    ],
)
def test_a_wrong_chain_is_refused_by_its_json_path(chain, json_path, reason):
    with pytest.raises(PresetError, match=reason) as caught:
        parse_chain(chain)
    with pytest.raises(PresetError, match=json_path):
        parse_chain(chain)
    assert not Draft202012Validator(chain_schema()).is_valid(chain) or "nan" in reason or "later" in reason
    assert caught.value.json_path.startswith("chain")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["Gain", "Parallel"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text() | st.sampled_from(["effect", "branches", "chain", "gain_db", "wet", "points"]), inner
        )
    ),
    max_leaves=8,
)


@given(chain=st.lists(json_values | st.dictionaries(st.sampled_from(["effect", "gain_db", "wet"]), json_values)))
@settings(deadline=None, max_examples=200)
def test_any_json_is_a_chain_or_an_error_of_one_line(chain):
    try:
        parse_chain(chain)
    except PresetError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 1000
        assert error.json_path.startswith("chain[")


def test_endless_nesting_is_refused():
    chain = []
    for _ in range(20):
        chain = [{"effect": "Parallel", "branches": [{"chain": chain}]}]
    with pytest.raises(PresetError, match="nested more than 16 deep"):
        parse_chain(chain)


def test_a_chain_has_a_longest_length_and_that_runs():
    gain = {"effect": "Gain", "gain_db": {"points": [[0, 0]]}, "wet": 0.5}
    audio = Audio(np.ones((1, 100), np.float32), 44100)
    np.testing.assert_allclose(apply_chain(audio, [gain] * MAX_EFFECTS).samples, 1, rtol=1e-6)
    nested = [gain] * (MAX_EFFECTS - MAX_NESTING)
    for _ in range(MAX_NESTING):
        nested = [{"effect": "Parallel", "branches": [{"chain": nested}], "wet": 0.5}]
    np.testing.assert_allclose(apply_chain(audio, nested).samples, 1, rtol=1e-6)
    empty = {"effect": "Parallel", "branches": [{"chain": []}] * MAX_EFFECTS}
    for chain in ([gain] * (MAX_EFFECTS + 1), [*nested, gain], [empty]):
        with pytest.raises(
            PresetError, match=rf"chain: {MAX_EFFECTS + 1} effects, and a chain has {MAX_EFFECTS} at most"
        ):
            parse_chain(chain)


def test_paths_are_relative_to_the_folder_of_the_preset(tmp_path):
    (node,) = parse_chain([{"effect": "Convolution", "impulse_response_filename": "room.wav"}], folder=tmp_path)
    assert node.params["impulse_response_filename"] == str(tmp_path / "room.wav")
