"""Values and states of external plug-ins: they mean what they say and come back, or are refused."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gbsep.errors import ParameterError, PluginError
from gbsep.plugins import host
from gbsep.plugins.worker.parameters import PluginParameter
from gbsep.plugins.worker.state import pack, read_state, unpack

from .bundles import SAMPLE_RATE, compensated, examined, noise, zam


def test_a_value_means_that_value():
    with host.open_plugin(zam("ZamCompX2"), SAMPLE_RATE, 2, {"ratio": 12.34, "threshold_db": -23.45}) as instance:
        assert (instance.values["ratio"], instance.values["threshold_db"]) == (12.34, -23.45)
        assert not {"gain_reduction_db", "sample_rate_frames"} & set(instance.values)
    shown = {parameter.name: parameter for parameter in examined(zam("ZamCompX2")).parameters}
    assert shown["ratio"] == PluginParameter("ratio", "", 1.0, 20.0, (), 4.0)
    assert (shown["threshold_db"].low, shown["threshold_db"].high, shown["threshold_db"].unit) == (-80.0, 0.0, "dB")


REFUSED = [
    ({"treshold_db": -3}, "treshold_db = -3 .*did you mean 'threshold_db'"),
    ({"ratio": 20.01}, "ratio = 20.01 .*1 to 20"),
    ({"threshold_db": 0.5}, "threshold_db = 0.5 dB .*-80 to 0"),
    ({"ratio": float("nan")}, "ratio = nan .*1 to 20"),
    ({"ratio": float("inf")}, "ratio = inf .*1 to 20"),
    ({"ratio": True}, "ratio = True .*1 to 20"),
    ({"ratio": "4"}, "ratio = '4' .*1 to 20"),
    ({"stereo_detection": 0.5}, "stereo_detection = 0.5 .*one of 0, 1"),
    ({"gain_reduction_db": 3}, "gain_reduction_db = 3 dB .*read-only"),
    ({"sample_rate_frames": 48000}, "sample_rate_frames = 48000 .*read-only"),
    ({"current_program": "Zer"}, "current_program = 'Zer' .*choose from 'Zero', "),
]


@pytest.mark.parametrize(("parameters", "said"), REFUSED)
def test_an_impossible_value_is_refused_with_what_is_possible(nothing_left, parameters, said):
    with pytest.raises(ParameterError, match=said):
        host.open_plugin(zam("ZamCompX2"), SAMPLE_RATE, 2, parameters)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"current_program": "VocalLeveller"}, "current_program = 'VocalLeveller' .*does not keep it.*'Zero'"),
        ({"ratio": 3.0, "current_program": "VocalLeveller"}, "ratio = 3.0 .*another of the parameters .*changes it"),
        ({"current_program": "VocalLeveller", "ratio": 3.0}, "current_program = 'VocalLeveller' .*does not keep it"),
    ],
)
def test_a_value_that_the_plugin_shows_and_does_not_use_is_refused(nothing_left, parameters, said):
    """ZamCompX2 shows the values of a program, and its component never hears of it."""
    with pytest.raises(ParameterError, match=said):
        host.open_plugin(zam("ZamCompX2"), SAMPLE_RATE, 2, parameters)


@pytest.mark.parametrize("parameters", [{"pad_db": -10.0}, {"pad_db": -10.0, "gain_db": -10.0}, {"pad_db": 0.0}])
def test_what_is_read_is_what_is_heard_when_one_parameter_changes_another(rng, bundle, parameters):
    signal = noise(rng, 2, 5000)
    with host.open_plugin(bundle(), SAMPLE_RATE, 2, parameters) as instance:
        gain_db, state = instance.values["gain_db"], instance.save_state()
        out = compensated(instance, signal)
    assert gain_db == pytest.approx(parameters["pad_db"], abs=1e-4)
    np.testing.assert_allclose(out, 10 ** (gain_db / 20) * signal, rtol=1e-5, atol=0)
    with host.open_plugin(bundle("again"), SAMPLE_RATE, 2, state=state) as instance:
        np.testing.assert_allclose(compensated(instance, signal), out, rtol=1e-5, atol=0)


@pytest.mark.parametrize("names", [("gain_db", "pad_db"), ("pad_db", "gain_db")])
def test_parameters_that_contradict_each_other_are_refused_in_any_order(bundle, names):
    with pytest.raises(ParameterError, match=r"gain_db = -3\.0 dB .*does not keep it|gain_db = -3.0 dB .*another"):
        host.open_plugin(bundle(), SAMPLE_RATE, 2, {name: {"gain_db": -3.0, "pad_db": -10.0}[name] for name in names})


@settings(max_examples=5, deadline=None)
@given(gain_db=st.floats(-60, 24).map(lambda value: round(value, 4)), polarity=st.sampled_from(["normal", "inverted"]))
def test_any_value_comes_back_and_a_state_brings_it_back(library_file, gain_db, polarity):
    path, given_values = library_file.parents[2], {"gain_db": gain_db, "polarity": polarity}
    with host.open_plugin(path, SAMPLE_RATE, 2, given_values) as instance:
        assert given_values.items() <= instance.values.items()
        state = instance.save_state()
    with host.open_plugin(path, SAMPLE_RATE, 2, state=state) as instance:
        assert instance.values["gain_db"] == pytest.approx(gain_db, abs=1e-4)
        assert instance.values["polarity"] == polarity
        assert instance.save_state() == state


def test_a_state_for_another_plugin_or_version_is_refused(bundle):
    with host.open_plugin(bundle(), SAMPLE_RATE, 2) as instance:
        state, class_id, version = instance.save_state(), instance.class_id, instance.version
    assert version == "1.2.3"
    for form, kept in (("vstpreset", unpack(state, class_id, version)), ("raw", (b"anything", b""))):
        saved = pack(form, kept, class_id, version)
        assert unpack(saved, class_id, version) == kept
        assert unpack(saved, class_id.lower(), version) == kept
        with pytest.raises(PluginError, match=f"another plug-in: .* class id {class_id}, this one is 1{class_id[1:]}"):
            unpack(saved, "1" + class_id[1:], version)
        with pytest.raises(
            PluginError, match=r"version 1\.2\.3, .*install version 1\.2\.3, or set .* `gbsep plugins save`"
        ):
            unpack(saved, class_id, "1.3")
    with pytest.raises(PluginError, match=r"\.vstpreset of version 2"):
        unpack(state[:4] + b"\2" + state[5:], class_id, version)
    with pytest.raises(PluginError, match=r"neither a \.vstpreset nor"):
        unpack(b"VC2!", class_id, version)


@given(component=st.binary(max_size=50), controller=st.binary(max_size=50))
def test_a_vstpreset_holds_both_halves_of_a_state(component, controller):
    """As Steinberg's chunks of those names, wherever they lie; a state of nothing at all is none."""
    saved = pack("vstpreset", (component, controller), "C" * 32, "1.0")
    if not component and not controller:
        with pytest.raises(PluginError, match="holds no state"):
            unpack(saved, "C" * 32, "1.0")
    else:
        assert unpack(saved, "C" * 32, "1.0") == (component, controller)


@given(cut=st.integers(4, 500), at=st.integers(0, 499), bits=st.integers(1, 255))
def test_a_damaged_state_is_refused_or_whole(cut, at, bits):
    damaged = bytearray(pack("vstpreset", (b"s" * 200, b"t" * 50), "C" * 32, "1.0")[:cut])
    damaged[at % len(damaged)] ^= bits
    try:
        kept = unpack(bytes(damaged), "C" * 32, "1.0")
    except PluginError as error:
        assert str(error)
    else:
        assert any(kept)
        assert all(half in bytes(damaged) for half in kept)


def test_a_state_is_base64_or_a_file_beside_the_preset(tmp_path):
    (tmp_path / "my.vstpreset").write_bytes(b"VST3 from a file")
    assert read_state("my.vstpreset", tmp_path) == b"VST3 from a file"
    assert read_state(base64.b64encode(b"VST3 inline" * 300).decode(), tmp_path) == b"VST3 inline" * 300
    with pytest.raises(PluginError, match=r"'other\.vstpreset' is no file in .*, nor a state in base64"):
        read_state("other.vstpreset", tmp_path)
