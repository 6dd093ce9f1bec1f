"""Lanes: their values at and between points, and what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from gbsep.effects.automation import (
    SHAPES,
    Automation,
    automation_schema,
    dump_automation,
    parse_automation,
    value_at,
)
from gbsep.effects.table import EFFECTS
from gbsep.errors import ParameterError
from gbsep.params import Param

CUTOFF = EFFECTS["Butterworth"].param("cutoff_hz")
GAIN = EFFECTS["Gain"].param("gain_db")
points = st.lists(st.floats(0, 1000), min_size=1, max_size=6, unique=True).flatmap(
    lambda times: st.tuples(*(st.tuples(st.just(time), st.floats(1, 20_000)) for time in sorted(times)))
)


@given(points=points, shape=st.sampled_from(SHAPES))
def test_a_lane_meets_its_points_and_stays_between_them(points, shape):
    lane = Automation(points, shape)
    times = np.array([time for time, _ in points])
    np.testing.assert_allclose(lane.at(times), [value for _, value in points], rtol=1e-9)
    between = lane.at(np.linspace(-1, 1001, 500))
    assert between.min() >= min(lane.values) * (1 - 1e-9)
    assert between.max() <= max(lane.values) * (1 + 1e-9)
    np.testing.assert_allclose(lane.at(np.array([-5.0, 2000.0])), [points[0][1], points[-1][1]])


@given(points=points, shape=st.sampled_from(SHAPES))
def test_a_lane_is_written_as_it_is_read(points, shape):
    lane = Automation(points, shape)
    written = dump_automation(lane)
    assert parse_automation(written, CUTOFF) == lane
    Draft202012Validator(automation_schema(CUTOFF)).validate(written)


@pytest.mark.parametrize(("shape", "expected"), [("linear", 2500.0), ("exponential", 1000.0), ("hold", 200.0)])
def test_half_way_between_two_points(shape, expected):
    lane = Automation(((1.0, 200.0), (3.0, 4800.0 if shape == "linear" else 5000.0)), shape)
    assert lane.at(np.array(2.0)) == pytest.approx(expected)


def test_an_exponential_may_lie_below_zero():
    lane = parse_automation({"points": [[0, -1], [2, -100]], "shape": "exponential"}, GAIN)
    assert lane.at(np.array([0.0, 1.0])).tolist() == pytest.approx([-1, -10])


def test_a_jump_of_hold_can_be_faded():
    lane = Automation(((0.0, 1.0), (1.0, 3.0), (1.5, -1.0)), "hold")
    times = np.array([0.0, 0.999, 1.0, 1.05, 1.1, 1.4999, 1.55, 9.0])
    np.testing.assert_allclose(lane.at(times, fade_s=0.1), [1, 1, 1, 2, 3, 3, 1, -1])


def test_a_fixed_value_is_a_lane_too():
    assert value_at(4, np.arange(3.0)).tolist() == [4, 4, 4]


@pytest.mark.parametrize(
    ("lane", "reason"),
    [
        ({}, "points.*a list of one or more"),
        ({"points": []}, "a list of one or more"),
        ({"points": "x"}, "a list of one or more"),
        ({"points": [3]}, r"points\[0\].*a pair \[seconds, value\]"),
        ({"points": [[0, 100, 3]]}, "a pair"),
        ({"points": [[0, 100], [0, 200]]}, r"points\[1\].*later than 0 s"),
        ({"points": [[2, 100], [1, 200]]}, "later than 2 s"),
        ({"points": [[-1, 100]]}, "from 0 to"),
        ({"points": [[math.nan, 100]]}, "nan is not allowed|nan.*not allowed"),
        ({"points": [[math.inf, 100]]}, "from 0 to"),
        ({"points": [[True, 100]]}, "from 0 to"),
        ({"points": [[0, 0.5]]}, "from 1 to 96000 Hz"),
        ({"points": [[0, math.nan]]}, "from 1 to 96000 Hz"),
        ({"points": [[0, "100"]]}, "from 1 to 96000 Hz"),
        ({"points": [[0, 100]], "shape": "lineer"}, "did you mean 'linear'"),
        ({"points": [[0, 100]], "shape": 3}, "one of linear, hold, exponential"),
        ({"points": [[0, 100]], "curve": "linear"}, "no such key.*points, shape"),
    ],
)
def test_a_wrong_lane_is_refused(lane, reason):
    with pytest.raises(ParameterError, match=reason):
        parse_automation(lane, CUTOFF)


@pytest.mark.parametrize("values", [(0, 1), (1, 0), (-1, 1), (0, 0), (3, -3)])
def test_an_exponential_through_zero_is_refused(values):
    with pytest.raises(ParameterError, match="all above zero, or all below"):
        parse_automation({"points": [[0, values[0]], [1, values[1]]], "shape": "exponential"}, GAIN)


def test_what_cannot_move_is_refused():
    with pytest.raises(ParameterError, match="not an automation"):
        parse_automation({"points": [[0, 2]]}, Param("order", "", 1, 8, 4, kind="int"))
