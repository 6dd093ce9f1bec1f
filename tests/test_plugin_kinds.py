"""Plug-ins as people own them: one made with JUCE, one on Steinberg's SDK alone (tests/plugin), and their texts."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from gbsep import Audio
from gbsep.effects.chain import apply_chain
from gbsep.errors import ParameterError, PluginError
from gbsep.plugins import host, scan
from gbsep.plugins.worker import layout, parameters
from gbsep.plugins.worker.state import pack, preset_chunks, unpack
from gbsep.plugins.worker.vst3 import Bus, RawParameter
from gbsep.plugins.worker.vst3_interfaces import AMBISONIC, MONO, STEREO

RATE = 44100
SOURCES = Path(__file__).parent / "plugin"
JUCE = Path("/usr/share/juce/modules")


def _built(request: pytest.FixtureRequest, kind: str, name: str) -> Path:
    """The bundle of a test plug-in, built once for each state of its sources."""
    digest = hashlib.sha256()
    for source in sorted((SOURCES / kind).iterdir()):
        digest.update(source.read_bytes())
    folder = request.config.cache.mkdir(f"gbsep-{kind}-{digest.hexdigest()[:16]}")
    bundle = folder / f"{name}.vst3"
    if not bundle.is_dir():
        subprocess.run([SOURCES / kind / "build.sh", folder], check=True, timeout=900)
        shutil.rmtree(folder / "build", ignore_errors=True)
    return bundle


@pytest.fixture(scope="session")
def juce(request: pytest.FixtureRequest) -> Path:
    tools = ("cmake", "g++")
    if not all(map(shutil.which, tools)) or not JUCE.is_dir():
        pytest.skip("the JUCE test plug-in cannot be built: cmake, g++ or Debian's juce-modules-source is missing")
    return _built(request, "juce", "gbsep JUCE test")


@pytest.fixture(scope="session")
def sdk(request: pytest.FixtureRequest) -> Path:
    if not shutil.which("g++") or not JUCE.is_dir():
        pytest.skip("the SDK test plug-in cannot be built: g++ or Debian's juce-modules-source-data is missing")
    return _built(request, "sdk", "gbsep SDK test")


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Callable[[Path], str]:
    """Makes a bundle the only one that scanning sees; gives the plug-in's name."""

    def only(bundle: Path) -> str:
        monkeypatch.setattr(scan, "FOLDERS", {})
        monkeypatch.setenv("GBSEP_PLUGIN_PATH", str(bundle.parent))
        return bundle.stem

    return only


def noise(channels: int = 2, frames: int = 20_000) -> np.ndarray:
    return (0.2 * np.random.default_rng(5).standard_normal((channels, frames))).astype(np.float32)


def through(bundle: Path, signal: np.ndarray, values: dict | None = None, state: bytes | None = None) -> np.ndarray:
    with host.open_plugin(bundle, RATE, len(signal), values, state) as instance:
        return instance.process(signal)


def saved(bundle: Path, values: dict) -> bytes:
    with host.open_plugin(bundle, RATE, 2, values) as instance:
        return instance.save_state()


# --- JUCE -------------------------------------------------------------------------------------------------------------

SETTINGS = [
    ({"gain_db": -12.34}, 10 ** (-12.34 / 20)),
    ({"gain_db": "-inf"}, 0.0),
    ({"gain_db": -59.9}, 10 ** (-59.9 / 20)),
    ({"trim_db": 2.5}, 10 ** (2.5 / 20)),
    ({"mode": "Half"}, 0.5),
    ({"mode": "Mute"}, 0.0),
    ({"invert": True}, -1.0),
    ({"tone": 12_345.0}, 1.0),
    ({"tone": 440.0, "mode": "Half", "invert": True, "gain_db": -6.0}, -0.5 * 10 ** (-6 / 20)),
    ({"reference_2": 0.25}, 1.0),
]


@pytest.mark.parametrize(("values", "gain"), SETTINGS)
def test_what_is_set_in_a_juce_plugin_is_heard_kept_and_restored(juce: Path, values: dict, gain: float) -> None:
    signal = noise()
    with host.open_plugin(juce, RATE, 2, values) as instance:
        assert values.items() <= instance.values.items()
        out, state = instance.process(signal), instance.save_state()
    np.testing.assert_allclose(out, gain * signal, rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(through(juce, signal, state=state), out)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"trim_db": 2.3}, r"trim_db = 2\.3 dB .*the plug-in makes it 2\.5"),
        ({"gain_db": 12.5}, r"gain_db = 12\.5 dB .*-60 to 12, or '-inf'"),
        ({"mode": "Wet"}, "mode = 'Wet' .*choose from 'Dry', 'Half', 'Mute'"),
        ({"invert": 1.0}, r"invert = 1\.0 .*choose from False, True"),
        ({"referense": 0.5}, "did you mean 'reference'"),
    ],
)
def test_what_a_juce_plugin_does_not_do_is_refused(juce: Path, values: dict, said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        host.open_plugin(juce, RATE, 2, values)


@settings(max_examples=8, deadline=None)
@given(gain_db=st.floats(-59, 12).map(lambda value: round(value, 3)), mode=st.sampled_from(["Dry", "Half"]))
def test_any_value_of_a_skewed_parameter_is_that_value(juce: Path, gain_db: float, mode: str) -> None:
    signal = noise(frames=2000)
    out = through(juce, signal, {"gain_db": gain_db, "mode": mode})
    gain = 10 ** (gain_db / 20) * {"Dry": 1.0, "Half": 0.5}[mode]
    np.testing.assert_allclose(out, gain * signal, rtol=1e-4, atol=1e-7)


def test_parameters_of_one_name_are_told_apart_and_units_are_those_of_the_texts(juce: Path) -> None:
    (info,) = host.examine(juce, [host.names(juce)[0].name])
    known = {parameter.name: parameter for parameter in info.parameters}
    assert [name for name in known if name.startswith("reference")] == ["reference", "reference_2"]
    assert (known["tone"].low, known["tone"].high, known["tone"].unit) == (20.0, 20_000.0, "Hz")
    assert (known["gain_db"].low, known["gain_db"].choices) == (pytest.approx(-60.0, abs=1e-3), ("-inf",))
    assert (info.layouts, info.sidechain, info.vendor, info.version) == (((1, 1), (2, 2)), True, "gbsep", "1.4.2")


def test_a_latency_that_follows_a_parameter_is_taken_off(juce: Path, found: Callable[[Path], str]) -> None:
    name, impulse = found(juce), np.zeros((2, 5000), np.float32)
    impulse[:, 2000] = 0.5
    for lookahead in (0.0, 700.0):
        node = {"effect": "Plugin", "name": name, "parameters": {"lookahead": lookahead}}
        np.testing.assert_array_equal(apply_chain(Audio(impulse, RATE), [node]).samples, impulse)


def test_a_juce_plugin_is_automated(juce: Path, found: Callable[[Path], str]) -> None:
    lane = {"points": [[0.0, -20.0], [0.4, 0.0]]}
    signal = np.ones((2, RATE // 2), np.float32)
    node = {"effect": "Plugin", "name": found(juce), "parameters": {"gain_db": lane}}
    out = apply_chain(Audio(signal, RATE), [node]).samples
    expected = 10 ** (np.interp(np.arange(RATE // 2) / RATE, [0.0, 0.4], [-20.0, 0.0]) / 20)
    np.testing.assert_allclose(out, np.stack([expected] * 2), atol=2e-3)


@pytest.mark.parametrize(("channels", "key_channels"), [(2, 1), (2, 2), (1, 1), (1, 2)])
def test_the_side_chain_bus_hears_another_stem(
    juce: Path, found: Callable[[Path], str], channels: int, key_channels: int
) -> None:
    """Also one that is shorter: silence follows."""
    signal, key = noise(channels), noise(key_channels, 9000) * 0.5
    node = {"effect": "Plugin", "name": found(juce), "parameters": {"key": 1.0}, "sidechain": "bass"}
    out = apply_chain(Audio(signal, RATE), [node], sidechains={"bass": Audio(key, RATE)}).samples
    heard = np.pad(key.mean(axis=0), (0, signal.shape[1] - key.shape[1]))
    np.testing.assert_allclose(out, signal - heard, atol=1e-6)


def test_a_side_chain_that_is_not_there_is_refused(juce: Path, sdk: Path, found: Callable[[Path], str]) -> None:
    audio = Audio(noise(), RATE)
    node = {"effect": "Plugin", "name": found(juce), "sidechain": "bas"}
    with pytest.raises(ParameterError, match="sidechain = 'bas' .*no such stem; did you mean 'bass'"):
        apply_chain(audio, [node], sidechains={"bass": audio})
    with pytest.raises(ParameterError, match='no side-chain bus; {"effect": "Ducker"'):
        apply_chain(audio, [node | {"name": found(sdk), "sidechain": "bass"}], sidechains={"bass": audio})


# --- Steinberg's SDK --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "left", "right"),
    [
        ({}, 1.0, 1.0),
        ({"level_db": -12.34}, 10 ** (-12.34 / 20), 10 ** (-12.34 / 20)),
        ({"spread": "half"}, 1.0, 0.5),
        ({"spread": "full", "level_db": -40.0}, 0.01, 0.0),
    ],
)
def test_texts_that_a_plugin_gets_wrong_are_searched_for(sdk: Path, values: dict, left: float, right: float) -> None:
    """And its state holds what was set, though only a block tells its component."""
    signal = noise()
    with host.open_plugin(sdk, RATE, 2, values) as instance:
        assert values.items() <= instance.values.items()
        out, state = instance.process(signal), instance.save_state()
    middle = signal.mean(axis=0)
    np.testing.assert_allclose(out, np.stack([left * middle, right * middle]), rtol=2e-3, atol=1e-6)
    np.testing.assert_array_equal(through(sdk, signal, state=state), out)
    assert (state == saved(sdk, {})) is (not values)


def test_a_plugin_with_one_channel_in_and_two_out_takes_mono_and_stereo(sdk: Path) -> None:
    mono = noise(1)
    np.testing.assert_allclose(through(sdk, mono), mono, rtol=1e-6)
    (info,) = host.examine(sdk, [host.names(sdk)[0].name])
    assert info.layouts == ((1, 2),)
    read_only = {parameter.name: parameter.read_only for parameter in info.parameters}
    assert read_only == {"level_db": False, "spread": False, "dust": False, "heard": True}


def test_a_state_that_is_lost_as_the_plugin_starts_is_told_again(sdk: Path) -> None:
    """What is set, the state saved of it, and the state of that state give the same bytes."""
    values = {"dust": 1.0, "spread": "half"}
    with host.open_plugin(sdk, RATE, 2, values) as instance:
        out, state = instance.process(noise()), instance.save_state()
    with host.open_plugin(sdk, RATE, 2, state=state) as instance:
        assert values.items() <= instance.values.items()
        np.testing.assert_array_equal(instance.process(noise()), out)
        again = instance.save_state()
    np.testing.assert_array_equal(through(sdk, noise(), state=again), out)
    louder = through(sdk, noise(), {"spread": "none"}, state)
    np.testing.assert_allclose(louder[0], out[0], atol=1e-6)
    np.testing.assert_allclose(louder[1], out[0], atol=1e-6)


@pytest.mark.skipif(sys.platform != "linux", reason="the GNU C library gives zeroed memory")
def test_memory_that_a_plugin_never_wrote_and_its_random_numbers_do_not_change_a_render(sdk: Path) -> None:
    first, second = (through(sdk, noise(), {"dust": 1.0}) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    added = first[0] - noise().mean(axis=0)
    assert 0 < added.mean() <= 0.1
    np.testing.assert_allclose(added, added.mean(), atol=1e-6)


def test_a_preset_as_a_daw_writes_it_is_restored(sdk: Path) -> None:
    """Without gbsep's chunk for the version, with a list of chunks in another order and one that is not known."""
    kept, class_id = preset_chunks(saved(sdk, {"spread": "full"})), host.names(sdk)[0].class_id
    chunks = [(b"Prog", b"whatever"), (b"Comp", kept[b"Comp"])]
    offset, body, entries = 48, b"", []
    for name, data in chunks:
        entries.insert(0, struct.pack("<4sqq", name, offset + len(body), len(data)))
        body += data
    listing = struct.pack("<4si", b"List", len(entries)) + b"".join(entries)
    preset = struct.pack("<4si32sq", b"VST3", 1, class_id.lower().encode(), offset + len(body)) + body + listing
    out = through(sdk, noise(), state=preset)
    assert np.abs(out[1]).max() == 0.0
    assert np.abs(out[0]).max() > 0.1


def test_hostile_states_are_refused_or_harmless(sdk: Path) -> None:
    """Chunks of any bytes, for a plug-in that reads what it is given: an error, or a render of the right length."""
    class_id, rng = host.names(sdk)[0].class_id, np.random.default_rng(0)
    for size in (1, 7, 16, 100_000):
        state = pack("vstpreset", (rng.bytes(size), rng.bytes(size)), class_id, "2.0.1")
        assert unpack(state, class_id, "2.0.1")
        try:
            assert through(sdk, noise(), state=state).shape == (2, 20_000)
        except PluginError as error:
            assert "gbsep SDK test" in str(error)


# --- layouts ----------------------------------------------------------------------------------------------------------

BUSES = [
    Bus(2, True, STEREO),
    Bus(4, True, 0b110011),
    Bus(6, True, 0),
    Bus(4, True, 15 << 20),
    Bus(16, True, AMBISONIC),
]


@pytest.mark.parametrize("bus", BUSES)
@pytest.mark.parametrize("channels", [1, 2])
def test_what_passes_a_layout_untouched_comes_back_as_it_was(bus: Bus, channels: int) -> None:
    class Wire:
        def buses(self, direction: int) -> list[Bus]:
            return [bus]

        def arrange(self, channels_in: int, channels_out: int) -> bool:
            return False

    chosen, signal = layout.choose(Wire(), channels), noise(channels, 100)
    (part,) = chosen.split(signal)
    assert part.shape == (bus.channels, 100)
    np.testing.assert_allclose(chosen.join([part]), signal, atol=1e-6)


def test_a_plugin_without_sound_is_no_effect() -> None:
    class Synth:
        def buses(self, direction: int) -> list[Bus]:
            return [Bus(2, True, STEREO)] if direction else []

        def arrange(self, channels_in: int, channels_out: int) -> bool:
            return True

    with pytest.raises(PluginError, match="it is an instrument"):
        layout.choose(Synth(), 2)
    assert MONO.bit_count() == 1


# --- texts ------------------------------------------------------------------------------------------------------------


class Texts:
    """A plug-in with one parameter, which shows a function of its raw value; its answer to a text is `answer`."""

    def __init__(self, text: Callable[[float], str], answer: Callable[[str], float | None], steps: int = 0):
        self.shown, self.answer, self.raw = text, answer, 0.5
        self.parameters = (RawParameter(0, "Thing", "", steps, 0.5, True, False),)

    def get(self, parameter: RawParameter) -> float:
        return self.raw

    def set(self, parameter: RawParameter, raw: float) -> None:
        assert 0 <= raw <= 1
        self.raw = raw

    def text(self, parameter: RawParameter, raw: float) -> str:
        return self.shown(raw)

    def raw_of(self, parameter: RawParameter, text: str) -> float | None:
        raw = self.answer(text)
        return raw if raw is not None and 0 <= raw <= 1 else None


WRONG_ANSWERS: list[Callable[[str], float | None]] = [
    lambda text: None,
    lambda text: 0.0,
    lambda text: 1.0,
    lambda text: float(text.split()[0]),
    lambda text: math.inf,
]


@given(
    low=st.floats(-1000, 1000),
    width=st.floats(1, 20_000),
    digits=st.integers(0, 4),
    skew=st.floats(0.2, 5),
    falling=st.booleans(),
    place=st.floats(0, 1),
    answer=st.sampled_from(WRONG_ANSWERS),
    unit=st.sampled_from(["", "dB", "Hz", "%", ":1"]),
)
@example(low=0.0, width=28.0, digits=4, skew=0.25, falling=False, place=4.2e-16, answer=lambda text: None, unit="")
@example(low=6.1e-05, width=1.0, digits=4, skew=1.0, falling=False, place=0.5, answer=WRONG_ANSWERS[3], unit="")
@example(low=0.0, width=105.0, digits=4, skew=3.0, falling=False, place=2**-7, answer=WRONG_ANSWERS[1], unit="")
def test_a_number_that_is_shown_somewhere_can_be_set(low, width, digits, skew, falling, place, answer, unit) -> None:
    """Whatever the plug-in answers when it is asked for its raw value."""

    def text(raw: float) -> str:
        return f"{low + width * (1 - raw if falling else raw) ** skew:.{digits}f} {unit}".strip()

    plugin = Texts(text, answer)
    known = parameters.known_parameters(plugin)
    (knob,) = known.values()
    assume(knob.shape.low != knob.shape.high)
    value = knob.shape.number(text(place))
    assert value is not None
    parameters.write(known, {"thing": value})
    assert parameters.is_near(value, knob.read(), knob.shape.low, knob.shape.high)


@given(names=st.lists(st.text("abc", min_size=1, max_size=3), min_size=2, max_size=30, unique=True), data=st.data())
def test_every_choice_that_is_listed_can_be_set(names: list[str], data: st.DataObject) -> None:
    def text(raw: float) -> str:
        return names[min(int(raw * len(names)), len(names) - 1)]

    def answer(asked: str) -> float | None:  # the choice before the one that is asked for, as IEM's plug-ins do
        return max(names.index(asked) - 1, 0) / (len(names) - 1) if asked in names else None

    for steps in (0, len(names) - 1):
        plugin = Texts(text if steps == 0 else lambda raw: names[round(raw * (len(names) - 1))], answer, steps)
        known = parameters.known_parameters(plugin)
        about = known["thing"].describe()
        for choice in about.choices or about.steps:
            parameters.write(known, {"thing": choice})
            assert known["thing"].read() == choice


@pytest.mark.parametrize("answer", WRONG_ANSWERS)
def test_what_lies_next_to_a_word_at_the_end_can_be_set(answer: Callable[[str], float | None]) -> None:
    """As LSP's gains show them: "-inf" at the very end, then numbers from -80 dB on."""
    known = parameters.known_parameters(Texts(lambda raw: "-inf" if raw < 1e-4 else f"{100 * raw - 80:.2f}", answer))
    about = known["thing"].describe()
    assert (about.low, about.high, about.choices) == (pytest.approx(-79.99), 20.0, ("-inf",))
    for value in (about.low, "-inf", -79.95, 20.0):
        parameters.write(known, {"thing": value})
        assert known["thing"].read() == value


def test_a_continuous_parameter_is_a_range_not_a_thousand_choices() -> None:
    def note(raw: float) -> str:
        return f"{'CDEFGAB'[round(raw * 699) % 7]}{round(raw * 699) // 7}"

    (knob,) = parameters.known_parameters(Texts(note, lambda text: None)).values()
    about = knob.describe()
    assert (about.low, about.high, about.choices, about.travel) == (0.0, 1.0, (), True)
    assert len(about.allowed) < 60
    parameters.write({"thing": knob}, {"thing": note(0.25)})
    assert knob.read() == note(0.25)
    parameters.write({"thing": knob}, {"thing": 0.75})
    assert knob.raw == 0.75


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["900 Hz", "1.5 kHz", "20 kHz"], ("Hz", 900.0, 20_000.0, ())),
        (["5 ms", "999 ms", "2 s"], ("ms", 5.0, 2000.0, ())),
        (["1:1", "4:1", "20:1"], (":1", 1.0, 20.0, ())),
        (["1/4", "1/8", "1/16"], ("", None, None, ("1/4", "1/8", "1/16"))),
        (["1000", "-3.5e2", "+2"], ("", -350.0, 1000.0, ())),
        (["Off", "On"], ("", None, None, (False, True))),
        (["normal", "inverted"], ("", None, None, ("normal", "inverted"))),
    ],
)
def test_the_kind_of_a_parameter_is_told_from_its_texts(texts: list[str], expected: tuple) -> None:
    plugin = Texts(lambda raw: texts[round(raw * (len(texts) - 1))], lambda text: None, len(texts) - 1)
    (knob,) = parameters.known_parameters(plugin).values()
    about = knob.describe()
    assert (about.unit, about.low, about.high, about.choices) == expected
    assert not replace(about, read_only=True).allows(about.value)


ASCII = st.characters(min_codepoint=32, max_codepoint=126)


@given(st.text(ASCII | st.sampled_from("♯♭µ%"), max_size=20), st.text(ASCII, max_size=5))
def test_names_are_spelt_as_pedalboard_spells_them(title: str, unit: str) -> None:
    from pedalboard._pedalboard import normalize_python_parameter_name

    text = f"{title} {unit}" if unit and not unit.startswith(":") else title
    assert parameters.python_name(title, unit) == normalize_python_parameter_name(text)


def test_a_module_that_is_none_is_refused_in_words(tmp_path: Path) -> None:
    library = tmp_path / "x.vst3" / "Contents" / f"{os.uname().machine}-linux" / "x.so"
    library.parent.mkdir(parents=True)
    library.write_bytes(b"\x7fELF but no more")
    with pytest.raises(PluginError, match="plug-in 'x' failed during load"):
        host.names(tmp_path / "x.vst3")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, ""),
        ({"sidechain": "drums"}, r"stems\.bass\.chain\[0\]\.sidechain = 'drums' .*no such stem"),
        ({"parameters": {"gain_db": 99}}, r"parameters\.gain_db = 99.*-60 to 12"),
        ({"parameters": {"gane_db": 1}}, "did you mean 'gain_db'"),
        ({"name": "gbsep JUCE tost"}, "did you mean 'gbsep JUCE test'"),
        ({"state": "AAAA"}, "neither a .vstpreset nor"),
    ],
)
def test_validate_looks_at_plugins_and_at_what_they_hear(
    typed: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
    juce: Path,
    found: Callable[[Path], str],
    change: dict,
    said: str,
) -> None:
    node = {"effect": "Plugin", "name": found(juce), "sidechain": "guitar", **change}
    document = {
        "schema_version": 1,
        "name": "mine",
        "title": "Mine",
        "separate": {"backend": "crossover", "cutoff_hz": 200},
        "stems": {"bass": {"from": ["bass"], "chain": [node]}, "guitar": {"from": ["guitar"]}},
    }
    (tmp_path / "mine.json").write_text(json.dumps(document))
    code, out, err = typed("presets", "validate", "mine.json")
    assert (code, out) == ((2, "") if said else (0, "mine.json: valid\n"))
    assert re.search(said, err)
