"""The table against Pedalboard itself, and every built-in against one whole-file call of Pedalboard."""

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pedalboard
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from gbsep.audio import join
from gbsep.effects.builtin import Builtin, check_files, render_whole
from gbsep.effects.table import EFFECTS, spec_of
from gbsep.errors import ParameterError
from gbsep.params import Param

OWN = {"Butterworth", "Ducker"}
NOT_EFFECTS = {  # containers, base classes, and what hosts external plug-ins
    *("Plugin", "PluginContainer", "Chain", "Mix", "Pedalboard", "IIRFilter"),
    *("ExternalPlugin", "VST3Plugin", "AudioUnitPlugin"),
}
BUILTINS = sorted(set(EFFECTS) - OWN)
STREAMING = [name for name in BUILTINS if EFFECTS[name].streams]
ENUMERATIONS = {"quality": pedalboard.Resample.Quality, "mode": pedalboard.LadderFilter.Mode}
LIVELY = {  # settings at which the effects do something
    "Compressor": {"threshold_db": -20.0, "ratio": 4.0},
    "Delay": {"delay_seconds": 0.1, "feedback": 0.5},
    "HighShelfFilter": {"gain_db": 6.0},
    "LowShelfFilter": {"gain_db": 6.0},
    "NoiseGate": {"threshold_db": -10.0},
    "PeakFilter": {"gain_db": -6.0},
    "PitchShift": {"semitones": 2.0},
}


@pytest.fixture(scope="module")
def impulse_response(tmp_path_factory):
    path = tmp_path_factory.mktemp("room") / "room.wav"
    decay = np.random.default_rng(5).standard_normal(4000) * np.exp(-np.arange(4000) / 800)
    soundfile.write(path, decay * 0.1, 44100)
    return str(path)


def lively(name, impulse_response):
    params = {param.name: param.default for param in EFFECTS[name].params}
    if name == "Convolution":
        params["impulse_response_filename"] = impulse_response
    return params | LIVELY.get(name, {})


def pedal(name, params):
    arguments = {key: getattr(ENUMERATIONS[key], v) if key in ENUMERATIONS else v for key, v in params.items()}
    return getattr(pedalboard, name)(**arguments)


def constructor(kind):
    """{name: default} as Pedalboard's own signature text has it; None where there is no default."""
    text = re.search(r"\(self: [\w.]+(?:, )?(.*)\) -> None", kind.__init__.__doc__)[1]
    found = re.findall(r"(\w+): ([\w., \[\]]+?)(?: = ([^,]+))?(?:, (?=\w+: )|$)", text)
    return {name: default.strip("<>") or None for name, _, default in found}


def test_the_table_has_every_builtin_effect():
    kinds = {
        name
        for name, kind in vars(pedalboard).items()
        if isinstance(kind, type) and issubclass(kind, pedalboard.Plugin) and not name.startswith("_")
    }
    assert kinds - NOT_EFFECTS == set(BUILTINS)


@pytest.mark.parametrize("name", BUILTINS)
def test_parameters_and_defaults_are_pedalboards_own(name):
    theirs = constructor(getattr(pedalboard, name))
    if name == "Convolution":
        assert theirs.pop("sample_rate") == "None", "of use with an array only, while a preset names a file"
    assert [param.name for param in EFFECTS[name].params] == list(theirs)
    for param in EFFECTS[name].params:
        default = theirs[param.name]
        if param.kind == "choice":
            assert default.split(".")[1].split(":")[0] == param.default
            assert set(param.choices) == set(ENUMERATIONS[param.name].__members__)
        elif param.kind == "bool":
            assert default == str(param.default)
        elif param.default is None:
            assert default is None
        else:
            assert np.float32(default) == np.float32(param.default)


@pytest.mark.parametrize("spec", EFFECTS.values(), ids=lambda spec: spec.name)
def test_a_row_is_sound(spec):
    assert len({param.name for param in spec.params}) == len(spec.params)
    for param in spec.params:
        assert param.default is None or param.check(param.default) == param.default
        assert param.name in spec.help
        for suffix, unit in (("_hz", "Hz"), ("_db", "dB"), ("_ms", "ms"), ("_seconds", "s")):
            assert not param.name.endswith(suffix) or param.unit == unit


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("name", STREAMING)
def test_blocks_equal_one_whole_file_call_of_pedalboard(name, channels, impulse_response, rng):
    noise = rng.uniform(-1, 1, (channels, 20_000)).astype(np.float32)
    params = lively(name, impulse_response)
    whole = pedal(name, params)(noise, 44100)
    assert np.abs(whole - noise).max() > 1e-3, "settings that do nothing would prove nothing"
    for sizes in ([2048, 3, 4, 3000], [500, 1000]):
        running = Builtin(name, params, 44100, sizes[0])
        padded = np.pad(noise, ((0, 0), (0, 10_000)))
        edges = np.cumsum([0, *sizes * 20])
        blocks = [running.process(padded[:, a:b]) for a, b in pairwise(edges) if a < 30_000]
        np.testing.assert_allclose(join(blocks)[:, :20_000], whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", BUILTINS)
def test_silence_stays_silent(name, impulse_response):
    silence = np.zeros((2, 5000), np.float32)
    out = render_whole(name, lively(name, impulse_response), silence, 44100)
    assert np.abs(out).max() <= (1e-3 if name == "GSMFullRateCompressor" else 0.0)  # the codec's comfort noise


@pytest.mark.parametrize("frames", [1, 2, 3, 100])
@pytest.mark.parametrize("name", BUILTINS)
def test_whole_keeps_the_shape_and_repeats(name, frames, impulse_response, rng):
    noise = rng.uniform(-0.5, 0.5, (2, frames)).astype(np.float32)
    before = noise.copy()
    first, again = (render_whole(name, lively(name, impulse_response), noise, 44100) for _ in range(2))
    assert first.shape == noise.shape
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(noise, before)


@given(data=st.data(), name=st.sampled_from(sorted(set(STREAMING) - {"Convolution"})))
@settings(deadline=None, max_examples=150)
def test_every_allowed_setting_gives_finite_audio(data, name):
    sample_rate = data.draw(st.sampled_from(EFFECTS[name].sample_rates or (44_100, 192_000)))
    params = {}
    for param in EFFECTS[name].params:
        if param.kind == "choice":
            params[param.name] = data.draw(st.sampled_from(param.choices))
        elif param.kind == "bool":
            params[param.name] = data.draw(st.booleans())
        else:
            high = min(param.high, 0.4999 * sample_rate) if param.cutoff else param.high
            params[param.name] = data.draw(st.floats(param.low, high) | st.sampled_from([param.low, high]))
    noise = np.random.default_rng(0).uniform(-1, 1, (2, 8000)).astype(np.float32)
    running = Builtin(name, params, sample_rate, 2000)
    out = join(running.process(block) for block in np.split(np.tile(noise, 2), 8, axis=1))
    assert np.isfinite(out).all()


@pytest.mark.parametrize(
    ("name", "param"),
    [(name, param) for name in STREAMING for param in EFFECTS[name].params if param.automatable],
    ids=lambda value: getattr(value, "name", value),
)
def test_an_automatable_parameter_keeps_the_state(name, param, impulse_response, rng):
    noise = rng.uniform(-0.5, 0.5, (2, 8000)).astype(np.float32)
    params = lively(name, impulse_response)
    left, touched = (Builtin(name, params, 44100, 400) for _ in range(2))
    for block in np.split(noise, 8, axis=1):
        changes = [(frame, {param.name: params[param.name]}) for frame in (0, 400)]
        np.testing.assert_array_equal(touched.process(block, changes), left.process(block))


@pytest.mark.parametrize(
    "value",
    [np.nan, np.inf, -np.inf, 1e400, -0.5, 1001, 10**400, True, "4", None, [4]],
    ids=lambda value: str(value)[:9],
)
def test_a_number_outside_its_range_or_no_number_is_refused(value):
    with pytest.raises(ParameterError, match="a number from 1 to 1000"):
        spec_of("Compressor").param("ratio").check(value)


@given(value=st.integers(-5, 15) | st.floats())
def test_a_whole_number_takes_what_json_schema_calls_an_integer(value):
    order = Param("order", "", 1, 8, 4, kind="int")
    if value in range(1, 9):
        assert order.check(value) == value
        assert isinstance(order.check(value), int)
    else:
        with pytest.raises(ParameterError, match="a whole number from 1 to 8"):
            order.check(value)


def test_names_get_the_nearest():
    with pytest.raises(ParameterError, match="did you mean 'Compressor'"):
        spec_of("Compresor")
    with pytest.raises(ParameterError, match="did you mean 'ratio'"):
        spec_of("Compressor").param("ration")
    with pytest.raises(ParameterError, match="did you mean 'HPF12'"):
        spec_of("LadderFilter").param("mode").check("HPF13")
    with pytest.raises(ParameterError, match="true or false"):
        spec_of("BrickwallLimiter").param("true_peak").check(1)


def test_a_file_that_is_missing_or_no_audio_is_refused(tmp_path, impulse_response):
    check_files("Convolution", {"impulse_response_filename": impulse_response})
    text = tmp_path / "text.wav"
    text.write_text("no audio")
    for path in (text, tmp_path / "missing.wav"):
        with pytest.raises(ParameterError, match="an audio file"):
            check_files("Convolution", {"impulse_response_filename": str(path)})


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is no /dev/zero")
def test_a_device_is_no_impulse_response() -> None:
    with pytest.raises(ParameterError, match="it is no regular file"):
        check_files("Convolution", {"impulse_response_filename": "/dev/zero"})
