"""Chains: JSON in and out, and running them against single whole-file calls, analytic levels and impulses."""

import json
import math
from itertools import pairwise

import numpy as np
import pedalboard
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from scipy import signal

from gbsep.audio import Audio, join
from gbsep.effects.automation import Automation
from gbsep.effects.builtin import Builtin
from gbsep.effects.chain import (
    AUTOMATION_STEP_S,
    MAX_EFFECTS,
    MAX_NESTING,
    Effect,
    Parallel,
    apply_blocks,
    apply_chain,
    chain_schema,
    check_chain,
    dump_chain,
    parse_chain,
)
from gbsep.effects.table import EFFECTS
from gbsep.errors import AudioError, ParameterError, PresetError

RATE = 44100
STREAMING = [name for name, spec in EFFECTS.items() if spec.streams and name not in ("Convolution", "Ducker")]


def noise(frames=20_000, channels=2, level=0.5, seed=0):
    samples = np.random.default_rng(seed).uniform(-level, level, (channels, frames)).astype(np.float32)
    return Audio(samples, RATE)


def impulse(frame, frames=30_000):
    samples = np.zeros((2, frames), np.float32)
    samples[:, frame] = 0.5
    return Audio(samples, RATE)


def run(chain, audio, sizes=None, tail_frames=0, **more):
    """The chain over the audio cut into blocks of `sizes`, over and over."""
    sizes = sizes or [audio.frames]
    edges = np.minimum(np.cumsum([0, *sizes * math.ceil(audio.frames / sum(sizes))]), audio.frames)
    blocks = [audio.samples[:, a:b] for a, b in pairwise(edges) if a < b]
    nodes = parse_chain(chain) if isinstance(chain, list) else chain
    return join(apply_blocks(blocks, nodes, audio.sample_rate, audio.channels, audio.frames, tail_frames, **more))


def level_db(samples):
    return 20 * np.log10(np.abs(samples))


# --- JSON


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


# --- planning


@pytest.mark.parametrize(
    "effect",
    [
        {"effect": "Butterworth", "mode": "highpass", "cutoff_hz": 4000},
        {"effect": "HighpassFilter", "cutoff_frequency_hz": 5000},
        {"effect": "LadderFilter", "mode": "BPF12", "cutoff_hz": 5000},
        {"effect": "PeakFilter", "cutoff_frequency_hz": 4000},
        {"effect": "LowpassFilter", "cutoff_frequency_hz": {"points": [[0, 100], [1, 5000]]}},
    ],
    ids=lambda effect: effect["effect"],
)
def test_a_cutoff_at_or_above_half_the_sample_rate_is_refused(effect):
    nodes = parse_chain([{"effect": "Parallel", "branches": [{"chain": [effect]}]}])
    assert check_chain(nodes, 44100) == []
    with pytest.raises(ParameterError, match=r"chain\[0\].branches\[0\].chain\[0\].*below 4000 Hz"):
        check_chain(nodes, 8000)


@pytest.mark.parametrize(
    "effect",
    [
        {"effect": "Butterworth", "mode": "lowpass", "cutoff_hz": 22050},
        {"effect": "LowpassFilter", "cutoff_frequency_hz": 22050},
        {"effect": "LadderFilter", "mode": "LPF24", "cutoff_hz": 30000},
    ],
    ids=lambda effect: effect["effect"],
)
def test_a_lowpass_there_passes_through_with_a_warning(effect):
    warnings = []
    audio = noise()
    out = run([effect], audio, warn=warnings.append)
    np.testing.assert_array_equal(out, audio.samples)
    assert len(warnings) == 1
    assert effect["effect"] in warnings[0]


def test_what_cannot_run_is_refused_in_planning(tmp_path):
    with pytest.raises(ParameterError, match=r"MP3Compressor .* works at 8000"):
        check_chain(parse_chain([{"effect": "MP3Compressor"}]), 96_000)
    with pytest.raises(ParameterError, match="an audio file"):
        check_chain(
            parse_chain([{"effect": "Convolution", "impulse_response_filename": "no.wav"}], folder=tmp_path), RATE
        )
    with pytest.raises(ParameterError, match="did you mean 'bass'"):
        check_chain(parse_chain([{"effect": "Ducker", "sidechain": "bas"}]), RATE, ["bass", "guitar"])
    moving = {"effect": "Butterworth", "mode": "lowpass", "cutoff_hz": {"points": [[0, 9]]}, "zero_phase": True}
    with pytest.raises(ParameterError, match="zero-phase"):
        check_chain(parse_chain([moving]), RATE)


# --- running


CHAIN = [
    {"effect": "Butterworth", "mode": "highpass", "cutoff_hz": 80},
    {"effect": "Compressor", "threshold_db": -20, "ratio": 4},
    {"effect": "Chorus"},
    {"effect": "BrickwallLimiter", "ceiling_db": -12},
    {"effect": "Reverb"},
]


@given(sizes=st.lists(st.integers(1, 9000), min_size=1, max_size=5), tail_frames=st.sampled_from([0, 1, 12_345]))
@settings(deadline=None, max_examples=15)
def test_a_chain_equals_single_whole_file_calls_however_it_is_cut(sizes, tail_frames):
    audio = noise()
    expected = np.pad(audio.samples, ((0, 0), (0, tail_frames)))
    sos = signal.butter(4, 80, "highpass", fs=RATE, output="sos")
    expected = signal.sosfilt(sos, expected.astype(np.float64), axis=1).astype(np.float32)
    for pedal in (
        pedalboard.Compressor(threshold_db=-20, ratio=4),
        pedalboard.Chorus(),
        pedalboard.BrickwallLimiter(ceiling_db=-12),
        pedalboard.Reverb(),
    ):
        expected = pedal(expected, RATE)
    np.testing.assert_array_equal(run(CHAIN, audio, sizes, tail_frames), expected)


@pytest.mark.parametrize("frames", [1, 2, 3, 50])
@pytest.mark.parametrize("channels", [1, 2])
def test_very_short_signals_keep_their_shape(frames, channels):
    chain = [*CHAIN, {"effect": "PitchShift", "semitones": 1}, {"effect": "GSMFullRateCompressor", "wet": 0.5}]
    audio = noise(frames, channels)
    assert run(chain, audio, [1]).shape == audio.samples.shape
    assert run(chain, audio, [1], tail_frames=5).shape == (channels, frames + 5)


@pytest.mark.parametrize("tail_frames", [0, 20_000])
def test_an_empty_chain_is_free(tail_frames):
    audio = noise()
    blocks = list(apply_blocks([audio.samples], (), RATE, 2, audio.frames, tail_frames))
    assert blocks[0] is audio.samples
    np.testing.assert_array_equal(join(blocks), np.pad(audio.samples, ((0, 0), (0, tail_frames))))


def test_a_tail_lets_echoes_ring_out():
    out = run([{"effect": "Delay", "delay_seconds": 0.1, "mix": 1}], impulse(29_999), tail_frames=5000)
    assert out.shape == (2, 35_000)
    assert np.flatnonzero(out[0]).tolist() == [29_999 + 4410]


@pytest.mark.parametrize("sizes", [None, [1000], [333, 7, 5000]])
@pytest.mark.parametrize("name", ["BrickwallLimiter", "Resample", "MP3Compressor", "PitchShift", "Compressor"])
def test_an_impulse_comes_out_at_its_frame_alone_and_in_parallel(name, sizes):
    audio = impulse(12_345)
    alone = run([{"effect": name}], audio, sizes)
    beside_the_dry = run(
        [{"effect": "Parallel", "branches": [{"chain": []}, {"chain": [{"effect": name}]}]}], audio, sizes
    )
    half = run([{"effect": name, "wet": 0.5}], audio, sizes)
    for out in (alone, beside_the_dry, half):
        assert out.shape == audio.samples.shape
        assert np.abs(out).argmax(axis=1).tolist() == [12_345, 12_345]
    np.testing.assert_allclose(beside_the_dry, audio.samples + alone, rtol=0, atol=1e-6)
    np.testing.assert_allclose(half, (audio.samples + alone) / 2, rtol=0, atol=1e-6)


def test_branches_are_summed_at_their_levels():
    gains = [{"effect": "Gain", "gain_db": 6}], [{"effect": "Invert"}]
    branches = [{"chain": gains[0], "mix_db": -12}, {"chain": gains[1], "mix_db": -20}, {"chain": []}]
    out = run([{"effect": "Parallel", "branches": branches}], noise())
    np.testing.assert_allclose(out, noise().samples * (10 ** (-6 / 20) - 0.1 + 1), rtol=0, atol=1e-6)


def test_parallel_inside_parallel_stays_aligned():
    inner = {"effect": "Parallel", "branches": [{"chain": [{"effect": "BrickwallLimiter"}]}, {"chain": []}]}
    outer = {"effect": "Parallel", "branches": [{"chain": [inner, {"effect": "BrickwallLimiter"}]}, {"chain": []}]}
    out = run([outer], impulse(5000), [1234])
    assert np.flatnonzero(np.abs(out[0]) > 1e-3).tolist() == [5000]


@given(gain_db=st.floats(-99.9, 60))
@settings(deadline=None, max_examples=30)
def test_gain_is_exact(gain_db):
    audio = noise(500)
    out = run([{"effect": "Gain", "gain_db": gain_db}], audio)
    np.testing.assert_allclose(out, audio.samples * np.float64(10 ** (gain_db / 20)), rtol=2e-6)


@pytest.mark.parametrize("in_db", [-40.0, -25.0, -10.0, -2.0])
def test_compressor_follows_its_static_curve(in_db):
    audio = Audio(np.full((1, RATE), 10 ** (in_db / 20)), RATE)
    out = run([{"effect": "Compressor", "threshold_db": -20, "ratio": 4}], audio)
    expected_db = in_db if in_db < -20 else -20 + (in_db + 20) / 4
    assert level_db(out[0, -1]) == pytest.approx(expected_db, abs=0.05)


@pytest.mark.parametrize(
    ("effect", "expected_db"),
    [
        ({"effect": "LowpassFilter", "cutoff_frequency_hz": 1000}, -3.01),
        ({"effect": "HighpassFilter", "cutoff_frequency_hz": 1000}, -3.01),
        ({"effect": "PeakFilter", "cutoff_frequency_hz": 1000, "gain_db": -9}, -9.0),
        ({"effect": "LowShelfFilter", "cutoff_frequency_hz": 1000, "gain_db": 6}, 3.0),
        ({"effect": "HighShelfFilter", "cutoff_frequency_hz": 1000, "gain_db": 6}, 3.0),
        ({"effect": "Butterworth", "mode": "lowpass", "cutoff_hz": 1000, "order": 5}, -3.01),
        ({"effect": "Butterworth", "mode": "highpass", "cutoff_hz": 1000, "zero_phase": True}, -6.02),
    ],
    ids=lambda value: value["effect"] if isinstance(value, dict) else "",
)
def test_filters_have_their_gain_at_the_cutoff(effect, expected_db):
    time_s = np.arange(RATE) / RATE
    out = run([effect], Audio(0.5 * np.sin(2 * np.pi * 1000 * time_s), RATE), [5000])
    middle = out[0, RATE // 4 : 3 * RATE // 4].astype(np.float64)
    assert 10 * np.log10(np.mean(middle**2) * 8) == pytest.approx(expected_db, abs=0.05)


def test_the_zero_phase_butterworth_is_scipys():
    sos = signal.butter(4, 200, "lowpass", fs=RATE, output="sos")
    audio = noise()
    out = run([{"effect": "Butterworth", "mode": "lowpass", "cutoff_hz": 200, "zero_phase": True}], audio, [777])
    np.testing.assert_allclose(out, signal.sosfiltfilt(sos, audio.samples.astype(np.float64)), rtol=0, atol=1e-7)


def test_the_brickwall_limiter_holds_the_true_peak():
    audio = noise(level=1.0)
    loud = Audio(4 * audio.samples, RATE)
    out = run([{"effect": "BrickwallLimiter", "ceiling_db": -1, "true_peak": True}], loud, [3000])
    oversampled = signal.resample_poly(out.astype(np.float64), 8, 1, axis=1)
    assert level_db(out).max() <= -1 + 1e-4
    assert level_db(oversampled).max() <= -1 + 0.6  # a 4x detector sees the peaks of white noise only so far


@pytest.mark.parametrize("name", STREAMING)
def test_the_input_is_left_alone_and_a_run_repeats(name):
    audio = noise(3000)
    given = {"mode": "highpass", "cutoff_hz": 100.0} if name == "Butterworth" else {}
    before = audio.samples.copy()
    first, again = (run([{"effect": name, **given}], audio) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(audio.samples, before)
    assert first.dtype == np.float32


def test_nan_is_refused_before_the_first_effect():
    samples = noise().samples.copy()
    samples[1, 15_000] = np.nan
    blocks = np.split(samples, 4, axis=1)
    with pytest.raises(AudioError, match=r"the input of chain: 1 sample is NaN .* frame 15000"):
        join(apply_blocks(blocks, parse_chain([{"effect": "Limiter"}]), RATE, 2, 20_000))


def test_the_effect_that_breaks_is_named(monkeypatch):
    process = Builtin.process

    def explode(self, block, changes=()):
        out = process(self, block, changes)
        out[0, 7] = np.inf
        return out

    monkeypatch.setattr(Builtin, "process", explode)
    chain = [{"effect": "Butterworth", "mode": "highpass", "cutoff_hz": 80}, {"effect": "Gain"}, {"effect": "Limiter"}]
    with pytest.raises(AudioError, match=r"the output of chain\[1\], Gain: .* frame 7"):
        run(chain, noise())


@pytest.mark.parametrize("promised", [19_999, 20_001])
def test_another_length_than_promised_is_refused(promised):
    with pytest.raises(AudioError, match=f"promised {promised} frames and given 20000"):
        join(apply_blocks([noise().samples], (), RATE, 2, promised))


def test_a_real_recording_in_blocks_is_the_recording_in_one(data):
    paths = sorted(data.glob("jams/*/mixture.flac"))
    samples, sample_rate = soundfile.read(paths[0], frames=300_000, dtype="float32", always_2d=True)
    audio = Audio(samples.T, sample_rate)
    board = pedalboard.Pedalboard([pedalboard.Compressor(-30, 4), pedalboard.Reverb()])
    chain = [{"effect": "Compressor", "threshold_db": -30, "ratio": 4}, {"effect": "Reverb"}]
    np.testing.assert_array_equal(run(chain, audio, [44_100, 1, 77_777]), board(audio.samples, sample_rate))


def test_apply_chain_is_the_same_over_audio():
    audio = noise()
    expected = run(CHAIN, audio, [1000], tail_frames=RATE // 2)
    for chain in (CHAIN, parse_chain(CHAIN)):
        np.testing.assert_array_equal(apply_chain(audio, chain, tail_s=0.5).samples, expected)
    ducked = apply_chain(audio, [{"effect": "Ducker", "sidechain": "bass"}], sidechains={"bass": audio})
    assert np.abs(ducked.samples[:, 5000:]).max() < 0.2
    assert ducked.samples.shape == audio.samples.shape


@pytest.mark.parametrize("tail_s", [-1, math.nan, math.inf, 601])
def test_a_tail_out_of_range_is_refused(tail_s):
    with pytest.raises(ParameterError, match=r"tail_s = .* from 0 to 600 s"):
        apply_chain(noise(), (), tail_s)


# --- automation


def moving(effect, name, points, shape="linear"):
    return [{**effect, name: {"points": points, "shape": shape}}]


def test_a_gain_ramp_is_60_db_close_to_the_ramp_by_frames():
    audio = Audio(np.ones((1, 2 * RATE), np.float32), RATE)
    time_s = np.arange(audio.frames) / RATE
    for start_s in (0.0, 0.123456):
        points = [[start_s, -60], [start_s + 1, 0]]
        out = run(moving({"effect": "Gain"}, "gain_db", points), audio, [10_000])[0]
        ideal = 10 ** (np.interp(time_s, *np.transpose(points)) / 20)
        assert np.abs(out / ideal - 1).max() < 1e-3


@pytest.mark.parametrize(
    ("effect", "name", "values"),
    [
        ({"effect": "Gain"}, "gain_db", (-6, 3, -40)),
        ({"effect": "Distortion"}, "drive_db", (0, 20, 6)),
        ({"effect": "Clipping"}, "threshold_db", (-20, -6, -40)),
        ({"effect": "Bitcrush"}, "bit_depth", (4, 8, 2)),
    ],
    ids=lambda value: value["effect"] if isinstance(value, dict) else "",
)
def test_hold_is_the_rendered_pieces_but_for_a_short_fade(effect, name, values):
    audio = noise(RATE)
    jumps = [0, 10_007, 30_500]
    points = [[jump / RATE, value] for jump, value in zip(jumps, values, strict=True)]
    out = run(moving(effect, name, points, "hold"), audio, [4096])
    pieces = [run([{**effect, name: value}], audio) for value in values]
    fade = math.ceil(AUTOMATION_STEP_S * RATE)
    assert fade <= 0.01 * RATE
    for piece, start, stop in zip(pieces, jumps, [*jumps[1:], RATE], strict=True):
        inside = slice(start + (fade if start else 0), stop)
        np.testing.assert_allclose(out[:, inside], piece[:, inside], rtol=0, atol=2e-7)
    for before, after, jump in zip(pieces, pieces[1:], jumps[1:], strict=False):
        faded = out[:, jump : jump + fade]
        both = np.stack([before, after])[:, :, jump : jump + fade]
        assert (faded >= both.min(axis=0) - 1e-6).all()
        assert (faded <= both.max(axis=0) + 1e-6).all()


@pytest.mark.parametrize(
    ("name", "param"),
    [(name, param) for name in STREAMING for param in EFFECTS[name].params if param.automatable],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_lane_that_does_not_move_changes_nothing(name, param):
    effect = {"effect": name, **({"mode": "lowpass", "cutoff_hz": 300} if name == "Butterworth" else {})}
    value = effect.get(param.name, param.default)
    audio = noise(6000)
    fixed = run([effect], audio)
    held = run(moving(effect, param.name, [[0, value], [0.05, value]]), audio, [1000])
    np.testing.assert_allclose(held, fixed, rtol=0, atol=2e-6)


def test_a_moving_limiter_stays_aligned():
    lane = {"points": [[0, -20], [0.3, -1]]}
    out = run([{"effect": "BrickwallLimiter", "ceiling_db": lane}], impulse(12_345), [999])
    assert np.abs(out[0]).argmax() == 12_345


def treble_db(samples):
    """The peak of what a steady 100 Hz sine has nothing of."""
    highpass = signal.butter(8, 5000, "highpass", fs=RATE, output="sos")
    return level_db(signal.sosfilt(highpass, samples)[RATE // 4 :]).max()


@pytest.mark.parametrize("shape", ["linear", "hold", "exponential"])
def test_a_moving_butterworth_does_not_click(shape):
    audio = Audio(0.5 * np.sin(2 * np.pi * 100 * np.arange(2 * RATE) / RATE), RATE)
    effect = {"effect": "Butterworth", "mode": "lowpass", "order": 4}
    out = run(moving(effect, "cutoff_hz", [[0.5, 400], [1.5, 2000]], shape), audio, [5000])[0]
    low, high = (run([{**effect, "cutoff_hz": cutoff_hz}], audio)[0] for cutoff_hz in (400, 2000))
    jump = int(1.5 * RATE)
    clicking = np.concatenate([low[:jump], high[jump:]])
    assert treble_db(clicking) > -30
    assert treble_db(out) < (-60 if shape == "hold" else -90)


class Late:
    """A gain whose output comes 300 frames late, as a hosted plug-in's does."""

    latency_frames = 300

    def __init__(self, name, params, sample_rate, buffer_frames):
        self.held = np.zeros((2, self.latency_frames), np.float32)
        self.gain = Builtin(name, params, sample_rate, buffer_frames)

    def process(self, block, changes=()):
        delayed = np.concatenate([self.held, block], axis=1)
        self.held = delayed[:, block.shape[1] :]
        return self.gain.process(delayed[:, : block.shape[1]], changes)


@pytest.mark.parametrize("shape", ["linear", "hold"])
def test_reported_latency_is_taken_off_and_automation_keeps_time(shape, monkeypatch):
    chains = [[{"effect": "Gain", "gain_db": -6}], moving({"effect": "Gain"}, "gain_db", [[0.1, -20], [0.3, 0]], shape)]
    prompt = [run(chain, noise(), [999], tail_frames=100) for chain in chains]
    monkeypatch.setattr("gbsep.effects.apply.Builtin", Late)
    for chain, expected in zip(chains, prompt, strict=True):
        np.testing.assert_allclose(run(chain, noise(), [999], tail_frames=100), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", ["linear", "hold"])
def test_wet_and_branch_levels_move_by_frames(shape):
    audio = Audio(np.ones((1, RATE), np.float32), RATE)
    lane = Automation(((0.2, -40.0), (0.7, 0.0)), shape)
    points = {"points": [list(point) for point in lane.points], "shape": shape}
    out = run([{"effect": "Parallel", "branches": [{"chain": [], "mix_db": points}]}], audio)[0]
    expected = 10 ** (lane.at(np.arange(RATE) / RATE, AUTOMATION_STEP_S) / 20)
    np.testing.assert_allclose(out, expected, rtol=1e-6)
    share = {"points": [[0.2, 0], [0.7, 1]], "shape": shape}
    wet = run([{"effect": "Invert", "wet": share}], audio, [777])[0]
    expected = Automation(((0.2, 0.0), (0.7, 1.0)), shape).at(np.arange(RATE) / RATE, AUTOMATION_STEP_S)
    np.testing.assert_allclose(wet, 1 - 2 * expected, rtol=0, atol=1e-6)
    assert np.abs(np.diff(wet)).max() < 0.01, "no jump"


def test_an_excerpt_hears_the_song_at_its_own_time():
    audio = noise(RATE)
    chain = moving({"effect": "Gain"}, "gain_db", [[0.2, -60], [0.9, 0]])
    whole = run(chain, audio)
    excerpt = run(chain, Audio(audio.samples[:, RATE // 2 :], RATE), start_s=0.5)
    np.testing.assert_allclose(excerpt, whole[:, RATE // 2 :], rtol=0, atol=1e-3)


# --- side chain


def test_a_silent_key_leaves_everything_alone():
    audio = noise()
    silence = Audio(np.zeros((2, 20_000)), RATE)
    out = run([{"effect": "Ducker", "sidechain": "bass"}], audio, [999], sidechains={"bass": silence.reader()})
    np.testing.assert_array_equal(out, audio.samples)


def test_the_key_ducks_both_channels_alike_by_the_curve():
    audio, key = noise(2 * RATE), np.zeros((1, RATE), np.float32)
    key[0, RATE // 2 :] = 10 ** (-10 / 20)
    ducker = {"effect": "Ducker", "sidechain": "bass", "threshold_db": -30, "ratio": 4}
    out = run([ducker], audio, [4321], sidechains={"bass": Audio(key, RATE).reader()})
    gain_db = level_db(out / audio.samples)
    np.testing.assert_allclose(gain_db[:, : RATE // 2 - 50], 0, atol=1e-4)
    np.testing.assert_allclose(gain_db[:, int(0.9 * RATE) : RATE - 50], -20 * (1 - 1 / 4), atol=0.01)
    np.testing.assert_allclose(gain_db[:, -100:], 0, atol=0.01)  # the key ended a second ago


def test_the_key_is_ducked_in_time_with_a_latency_before_it():
    audio = Audio(np.full((1, RATE), 0.5, np.float32), RATE)
    key = np.zeros((1, RATE), np.float32)
    key[0, 20_000:] = 0.5
    chain = [{"effect": "BrickwallLimiter"}, {"effect": "Ducker", "sidechain": "bass", "attack_ms": 0.01}]
    out = run(chain, audio, [1000], sidechains={"bass": Audio(key, RATE).reader()})[0]
    assert abs(np.flatnonzero(out < 0.4)[0] - 20_000) < 0.001 * RATE


def test_a_key_at_another_sample_rate_is_refused():
    with pytest.raises(AudioError, match="'bass' is at 8000 Hz, the chain at 44100 Hz"):
        run([{"effect": "Gain"}], noise(), sidechains={"bass": Audio(np.zeros((1, 9)), 8000).reader()})


def test_a_missing_key_is_refused():
    with pytest.raises(ParameterError, match="no such stem; did you mean 'bass'"):
        run([{"effect": "Ducker", "sidechain": "bas"}], noise(), sidechains={"bass": noise().reader()})


def test_parallel_is_a_node_of_branches():
    (node,) = parse_chain([{"effect": "Parallel", "branches": [{"chain": []}]}])
    assert isinstance(node, Parallel)
    assert node.branches[0].mix_db == 0.0
