"""The sound of external plug-ins: the bytes of the plug-in alone, at their frames, whatever the blocks."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gbsep.errors import AudioError, ParameterError, PluginError
from gbsep.plugins import host

from .bundles import LATENCY_FRAMES, SAMPLE_RATE, compensated, noise, zam


def in_process(path: Path, signal: np.ndarray, parameters: dict[str, float] | None = None) -> bytes:
    """What pedalboard makes of it, in a process of its own that loads it as everybody does."""
    script = f"""
import sys
import numpy as np, pedalboard
plugin = pedalboard.load_plugin({str(path)!r})
for name, value in {parameters or {}!r}.items():
    parameter = plugin.parameters[name]
    parameter.raw_value = parameter.get_raw_value_for_text(str(value))
signal = np.frombuffer(sys.stdin.buffer.read(), np.float32).reshape({signal.shape!r})
sys.stdout.buffer.write(plugin.process(signal, {SAMPLE_RATE}).tobytes())
"""
    return subprocess.run(
        [sys.executable, "-c", script], input=signal.tobytes(), capture_output=True, check=True
    ).stdout


ZAM = [
    ("ZamCompX2", {"threshold_db": -20, "ratio": 4}),
    ("ZamGateX2", {"threshold_db": -12, "attack_ms": 7.5}),
    ("ZaMaximX2", {"threshold_db": -9}),
]


@pytest.mark.parametrize(("name", "parameters"), ZAM)
def test_the_sandbox_gives_the_same_bytes_as_the_plugin_alone_and_every_time(rng, name, parameters):
    signal = noise(rng, 2, 3 * SAMPLE_RATE) * np.linspace(0.0, 1.0, 3 * SAMPLE_RATE, dtype=np.float32)
    outputs = []
    for _ in range(3):
        with host.open_plugin(zam(name), SAMPLE_RATE, 2, parameters) as instance:
            outputs.append(compensated(instance, signal).tobytes())
    assert outputs[0] == outputs[1] == outputs[2]
    assert outputs[0] == in_process(zam(name), signal, parameters)
    assert outputs[0] != signal.tobytes()


def test_a_gain_is_that_gain_and_the_latency_is_exact(rng, bundle):
    signal = noise(rng, 2, 20000)
    with host.open_plugin(bundle(), SAMPLE_RATE, 2, {"gain_db": -12.34, "polarity": "inverted"}) as instance:
        assert instance.latency_frames == LATENCY_FRAMES
        out = instance.process(signal)
    assert not out[:, :LATENCY_FRAMES].any()
    np.testing.assert_allclose(
        out[:, LATENCY_FRAMES:], -(10 ** (-12.34 / 20)) * signal[:, :-LATENCY_FRAMES], rtol=2e-6, atol=0
    )


@pytest.mark.parametrize("name", ["ZaMaximX2", "test plug-in"])
@pytest.mark.parametrize("channels", [1, 2])
def test_an_impulse_comes_out_at_its_frame(request, name, channels):
    path = zam(name) if name.startswith("Za") else request.getfixturevalue("bundle")()
    impulse = np.zeros((channels, 9000), np.float32)
    impulse[:, 4321] = 0.5
    with host.open_plugin(path, SAMPLE_RATE, channels) as instance:
        whole = compensated(instance, impulse)
    with host.open_plugin(path, SAMPLE_RATE, channels) as instance:
        pieces = compensated(instance, impulse, [3, 4, 100, 1000, 4300, 4321, 4322, 8999])
    for out in (whole, pieces):
        assert out.shape == impulse.shape
        assert np.abs(out).argmax(axis=1).tolist() == [4321] * channels


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edges=st.lists(st.integers(3, 199_999), max_size=6, unique=True))
def test_the_blocks_do_not_matter(library_file, edges):
    signal = noise(np.random.default_rng(1), 2, 200_000)
    path = library_file.parents[2]
    with host.open_plugin(path, SAMPLE_RATE, 2, {"gain_db": -3}) as instance:
        out = compensated(instance, signal, sorted(edges))
    np.testing.assert_allclose(out, 10 ** (-3 / 20) * signal, rtol=1e-6, atol=0)


def test_a_stream_gives_what_single_blocks_give(rng, bundle):
    """Of blocks that are shorter and longer than what travels at once, with changes in them, and an empty one."""
    signal, path = noise(rng, 2, 400_000), bundle()
    blocks = np.split(signal, [3, 100, 100, 70_000, 70_001, 300_000], axis=1)
    changes = [[(0, {"gain_db": -float(number)})] if block.shape[1] else [] for number, block in enumerate(blocks)]
    with host.open_plugin(path, SAMPLE_RATE, 2) as instance:
        streamed = list(instance.stream(zip(blocks, changes, strict=True)))
        assert instance.process(signal[:, :10]).shape == (2, 10)
    assert [out.shape for out in streamed] == [block.shape for block in blocks]
    with host.open_plugin(path, SAMPLE_RATE, 2) as instance:
        singly = [instance.process(*pair) for pair in zip(blocks, changes, strict=True)]
    np.testing.assert_array_equal(np.concatenate(streamed, axis=1), np.concatenate(singly, axis=1))


def test_a_stream_that_is_left_half_way_closes_its_instance(bundle, nothing_left):
    instance = host.open_plugin(bundle(), SAMPLE_RATE, 2)
    stream = instance.stream((np.zeros((2, 100), np.float32), ()) for _ in range(9))
    next(stream)
    stream.close()
    with pytest.raises(PluginError, match="'good' is closed"):
        instance.process(np.zeros((2, 100), np.float32))


def test_what_is_slow_upstream_does_not_count_as_a_hang(bundle):
    def blocks() -> Iterator[tuple[np.ndarray, tuple[()]]]:
        for _ in range(3):
            yield np.ones((2, 100), np.float32), ()
            time.sleep(1.2)

    with host.open_plugin(bundle(), SAMPLE_RATE, 2, block_timeout_s=1.0) as instance:
        assert len(list(instance.stream(blocks()))) == 3


def test_a_mono_plugin_on_stereo_treats_each_channel_by_itself(rng):
    path, parameters = zam("ZamComp"), {"threshold_db": -25, "ratio": 8}
    signal = noise(rng, 2, SAMPLE_RATE) * np.array([[1.0], [0.1]], np.float32)
    with host.open_plugin(path, SAMPLE_RATE, 2, parameters) as instance:
        stereo = instance.process(signal)
    for channel in range(2):
        with host.open_plugin(path, SAMPLE_RATE, 1, parameters) as instance:
            mono = instance.process(signal[channel : channel + 1])
        np.testing.assert_array_equal(mono[0], stereo[channel])


def test_a_stereo_plugin_on_mono_gets_it_on_both_channels(rng, bundle):
    signal = noise(rng, 1, 5000)
    with host.open_plugin(bundle(), SAMPLE_RATE, 1) as instance:
        np.testing.assert_allclose(compensated(instance, signal), signal, rtol=1e-6)


def test_changes_hold_from_their_frame_on(rng, bundle):
    signal = noise(rng, 2, 150_000)
    steps = [(0, -6.0), (10_000, 0.123456), (70_000, -20.0), (149_000, 3.0)]
    with host.open_plugin(bundle(), SAMPLE_RATE, 2) as instance:
        out = instance.process(signal, [(frame, {"gain_db": gain_db}) for frame, gain_db in steps])
    gain_db = np.zeros(150_000)
    for frame, value in steps:
        gain_db[frame:] = value
    expected = 10 ** (gain_db[LATENCY_FRAMES:] / 20) * signal[:, :-LATENCY_FRAMES]
    np.testing.assert_allclose(out[:, LATENCY_FRAMES:], expected, rtol=2e-6, atol=0)


@pytest.mark.parametrize(
    ("name", "value", "said"), [("gain", 1.0, "did you mean 'gain_db'"), ("gain_db", 25.0, "-60 to 24")]
)
def test_an_impossible_change_is_refused(bundle, name, value, said):
    with host.open_plugin(bundle(), SAMPLE_RATE, 2) as instance, pytest.raises(ParameterError, match=said):
        instance.process(np.zeros((2, 200_000), np.float32), [(0, {name: value})])


@pytest.mark.parametrize("frames", [0, 1, 2, 3])
def test_a_first_block_may_be_as_short_as_it_likes(rng, bundle, frames):
    signal = noise(rng, 2, 1000)
    with host.open_plugin(bundle(), SAMPLE_RATE, 2) as instance:
        np.testing.assert_allclose(compensated(instance, signal, [frames]), signal, rtol=1e-6)


def test_a_latency_that_a_parameter_sets_is_known_beforehand(bundle):
    impulse = np.zeros((2, 3000), np.float32)
    impulse[:, 1000] = 1.0
    with host.open_plugin(bundle(), SAMPLE_RATE, 2, {"lookahead": 100}) as instance:
        assert instance.latency_frames == LATENCY_FRAMES + 100
        assert instance.process(impulse).argmax(axis=1).tolist() == [1356, 1356]


def test_a_latency_that_changes_on_the_way_is_a_failure(bundle):
    with host.open_plugin(bundle(), SAMPLE_RATE, 2) as instance:
        said = "latency changed from 256 to 556 frames; .*cannot be automated: gain_db, lookahead"
        with pytest.raises(PluginError, match=said):
            instance.process(np.zeros((2, 3000), np.float32), [(1000, {"lookahead": 300.0, "gain_db": -1.0})])
        with pytest.raises(PluginError, match="is closed"):
            instance.process(np.zeros((2, 3000), np.float32))


@pytest.mark.parametrize("shape", [(1, 100), (3, 100), (100,)])
def test_a_block_of_another_shape_is_refused(bundle, shape):
    with (
        host.open_plugin(bundle(), SAMPLE_RATE, 2) as instance,
        pytest.raises(AudioError, match=r"blocks of shape \(2, n\)"),
    ):
        instance.process(np.zeros(shape, np.float32))
