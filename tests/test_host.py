"""External plug-ins: Debian's zam-plugins, and one of our own (tests/plugin) that fails on demand."""

from __future__ import annotations

import base64
import gc
import json
import os
import platform
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gbsep.errors import AudioError, ParameterError, PluginCrashed, PluginError, PluginNotFound, PluginTimeout
from gbsep.io import hush
from gbsep.plugins import host, scan
from gbsep.plugins.worker import loader
from gbsep.plugins.worker.parameters import PluginParameter
from gbsep.plugins.worker.state import pack, read_state, unpack
from gbsep.store.folders import cache_folder

SAMPLE_RATE = 44100
LATENCY_FRAMES = 256
"""Of the test plug-in."""

ARCHITECTURE = f"{platform.machine()}-linux"


@pytest.fixture(scope="session")
def library_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library of the test plug-in."""
    if not shutil.which("g++") or not Path(os.environ.get("DPF", "/usr/share/dpf")).is_dir():
        pytest.skip("the test plug-in cannot be built: g++ or Debian's dpf-source is missing")
    folder = tmp_path_factory.mktemp("plugin")
    subprocess.run([Path(__file__).parent / "plugin" / "build.sh", folder], check=True)
    return next(folder.rglob("*.so"))


@pytest.fixture
def bundle(library_file: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes a bundle of the test plug-in; its name says what goes wrong, `edit` changes its bytes."""

    def make(name: str = "good", edit: Callable[[bytes], bytes] | None = None) -> Path:
        library = tmp_path / f"{name}.vst3" / "Contents" / ARCHITECTURE / f"{name}.so"
        library.parent.mkdir(parents=True)
        data = library_file.read_bytes()
        library.write_bytes(edit(data) if edit else data)
        return tmp_path / f"{name}.vst3"

    return make


def zam(name: str) -> Path:
    path = Path("/usr/lib/vst3") / f"{name}.vst3"
    if not path.exists():
        pytest.skip(f"{name} is missing: install Debian's zam-plugins")
    return path


def examined(path: Path) -> host.PluginInfo:
    """The only plug-in of a file."""
    (row,) = host.names(path)
    (info,) = host.examine(path, [row.name])
    return info


def noise(rng: np.random.Generator, channels: int, frames: int) -> np.ndarray:
    return (0.2 * rng.standard_normal((channels, frames))).astype(np.float32)


def compensated(instance: host.PluginInstance, signal: np.ndarray, edges: list[int] | None = None) -> np.ndarray:
    """`signal` through a plug-in in blocks that end at `edges`, its latency taken out."""
    flush = np.zeros((signal.shape[0], instance.latency_frames), np.float32)
    blocks = [*np.split(signal, edges or [], axis=1), flush]
    out = np.concatenate([instance.process(block) for block in blocks], axis=1)
    return out[:, instance.latency_frames :]


# --- nothing is left behind -------------------------------------------------------------------------------------------


def _left(temporary: Path) -> tuple[list[psutil.Process], list[str], int]:
    """Child processes, what lies in the folder of temporary files, and how many files are open."""
    gc.collect()
    me = psutil.Process()
    return me.children(recursive=True), os.listdir(temporary), me.num_fds()


@pytest.fixture
def nothing_left(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    temporary = tmp_path_factory.mktemp("temporary")
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with hush.hushed():  # its stream to nowhere is opened once in the life of a process
        pass
    before = _left(temporary)
    yield
    assert _left(temporary) == before


# --- faults -----------------------------------------------------------------------------------------------------------

CRASH = "signal 11"
FAULTS = [
    ("library-crash", "load", PluginCrashed, CRASH),
    ("library-hang", "load", PluginTimeout, "within"),
    ("library-exit", "load", PluginCrashed, "exit status 0"),
    ("load-crash", "load", PluginCrashed, CRASH),
    ("load-abort", "load", PluginCrashed, "signal 6"),
    ("load-hang", "load", PluginTimeout, "within"),
    ("load-spin", "load", PluginTimeout, "within"),
    ("load-exit", "load", PluginCrashed, "exit status 0"),
    ("load-throw", "load", PluginCrashed, "signal 6.*thrown on purpose"),
    ("load-complain", "load", PluginCrashed, "exit status 3.*the licence server is away"),
    ("load-allocate", "load", PluginCrashed, "signal"),
    ("load-orphan", "load", PluginCrashed, "signal 6"),
    ("load-litter", "load", PluginCrashed, "signal 6"),
    ("state-crash", "restore state", PluginCrashed, CRASH),
    ("state-hang", "restore state", PluginTimeout, "within"),
    ("state-exit", "restore state", PluginCrashed, "exit status 0"),
    ("parameter-crash", "set parameters", PluginCrashed, CRASH),
    ("parameter-hang", "set parameters", PluginTimeout, "within"),
    ("parameter-exit", "set parameters", PluginCrashed, "exit status 0"),
    ("process-crash", "process", PluginCrashed, CRASH),
    ("process-abort", "process", PluginCrashed, "signal 6"),
    ("process-hang", "process", PluginTimeout, "within"),
    ("process-spin", "process", PluginTimeout, "within"),
    ("process-exit", "process", PluginCrashed, "exit status 0"),
    ("process-scribble", "process", PluginCrashed, "on the control channel"),
    ("process-orphan", "process", PluginCrashed, "signal 6"),
    ("process-nan", "process", PluginError, "NaN or infinite"),
]


def run(path: Path, timeout_s: float = 20.0) -> np.ndarray:
    """Everything that can be done with a plug-in, and its output for a second of sound."""
    state = trip_state(path) if path.stem.startswith("state-") else None
    parameters = {"armed": 1.0} if path.stem.startswith("parameter-") else {}
    signal = noise(np.random.default_rng(0), 2, SAMPLE_RATE)
    limits = {"load_timeout_s": timeout_s, "block_timeout_s": timeout_s, "memory_limit_bytes": 2**30}
    with host.open_plugin(path, SAMPLE_RATE, 2, parameters, state, **limits) as instance:
        instance.process(signal)
        return instance.process(signal, [(0, {"armed": 1.0})])


def trip_state(path: Path) -> bytes:
    with host.open_plugin(path, SAMPLE_RATE, 2) as instance:
        return instance.save_state().replace(b"calm", b"trip")


@pytest.mark.parametrize(("name", "phase", "error", "said"), FAULTS, ids=[name for name, *_ in FAULTS])
def test_a_fault_is_reported_and_leaves_nothing_behind(bundle, nothing_left, name, phase, error, said):
    with pytest.raises(error, match=f"(?s)(?=.*{name})(?=.*during {phase})(?=.*{said})") as raised:
        run(bundle(name), timeout_s=3.0 if error is PluginTimeout else 20.0)
    assert raised.type is error


@pytest.mark.parametrize("name", ["load-garbage", "process-garbage", "process-random"])
def test_what_a_plugin_prints_and_how_it_varies_is_no_fault(bundle, nothing_left, name):
    assert run(bundle(name)).shape == (2, SAMPLE_RATE)


def needs(library: bytes, other: bytes) -> Callable[[bytes], bytes]:
    assert len(library) == len(other)
    return lambda data: data.replace(library, other)


FILES = [
    ("empty", lambda data: b"", "not a plug-in: .*file too short"),
    ("text", lambda data: b"hello" * 1000, "not a plug-in: .*invalid ELF header"),
    ("truncated-early", lambda data: data[:3000], "damaged file: .*is truncated"),
    ("truncated-late", lambda data: data[:-1], "damaged file: .*is truncated"),
    ("corrupt", lambda data: data[:64] + b"\xff" * (len(data) - 64), "cannot be loaded: .*corrupt"),
    ("other-machine", lambda data: data[:18] + b"\xb7\x00" + data[20:], "wrong architecture, built for aarch64 "),
    ("other-width", lambda data: data[:4] + b"\x01" + data[5:], "wrong ELF class: ELFCLASS32"),
    ("windows", lambda data: b"MZ" + data[2:], "wrong architecture, built for Windows "),
    ("missing", needs(b"libstdc++.so.6\0", b"libgone+++.so\0\0"), "missing library: libgone"),
    (
        "new-libc",
        needs(b"\0GLIBC_2.2.5\0", b"\0GLIBC_9.2.5\0"),
        "too new a C library: .*version `GLIBC_9.2.5' not found",
    ),
    ("no-entry", needs(b"\0GetPluginFactory\0", b"\0GetPluginFaktory\0"), "not a plug-in: .*GetPluginFactory"),
]


@pytest.mark.skipif(sys.platform != "linux", reason="these are the words of the Linux loader")
@pytest.mark.parametrize(("name", "edit", "said"), FILES, ids=[name for name, *_ in FILES])
def test_a_bad_file_is_refused_in_the_words_of_the_loader(bundle, nothing_left, name, edit, said):
    with pytest.raises(PluginError, match=f"(?s){name}.* during load: .*({said})"):
        run(bundle(name, edit))


def test_a_bundle_for_another_system_says_what_it_holds(tmp_path):
    (tmp_path / "far.vst3" / "Contents" / "x86_64-win").mkdir(parents=True)
    with pytest.raises(
        PluginError, match=f"wrong architecture: it holds x86_64-win, and this machine needs {ARCHITECTURE}"
    ):
        run(tmp_path / "far.vst3")


@pytest.mark.skipif(sys.platform != "linux", reason="only there the name of the library counts")
def test_a_renamed_bundle_is_called_that(bundle, tmp_path):
    bundle("ZamEQ2").rename(tmp_path / "My EQ.vst3")
    with pytest.raises(
        PluginError, match=r"renamed: it holds ZamEQ2\.so and needs My EQ\.so; call it ZamEQ2\.vst3 again"
    ):
        run(tmp_path / "My EQ.vst3")


@pytest.mark.skipif(sys.platform != "linux", reason="where the library belongs is said for Linux")
def test_a_bare_library_says_where_it_belongs(library_file, tmp_path):
    shutil.copy(library_file, tmp_path / "bare.vst3")
    place = rf"bare\.vst3/Contents/{ARCHITECTURE}/bare\.so"
    with pytest.raises(PluginError, match=f"not a bundle: it is a bare shared library; .*{place}"):
        run(tmp_path / "bare.vst3")


@pytest.mark.skipif(sys.platform != "linux", reason="these are the words of the Linux loader")
def test_a_damaged_name_in_a_library_is_called_that(bundle, plugin_path):
    damaged = bundle("damaged\nname", needs(b"libstdc++.so.6\0", b"libgone\xff\xfe\xfd.so\0\0"))
    (info,) = host.plugins()
    assert info.path == damaged
    assert "damaged\\nname" in info.reason
    assert re.search(r"damaged file: libgone\\xff\\xfe\\xfd\.so", info.reason)
    assert info.reason.isprintable()


def test_a_crash_quotes_only_what_was_written_after_the_last_answer(bundle, nothing_left):
    with (
        pytest.raises(PluginCrashed, match=r"chain\[1\]: plug-in .* crashed .*Segmentation fault\); \"on_failure\""),
        host.open_plugin(bundle("process-crash"), SAMPLE_RATE, 2, where="chain[1]") as instance,
    ):
        instance.process(np.zeros((2, 100), np.float32), [(50, {"armed": 1.0})])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(PluginError, match=r"nowhere\.vst3 does not exist"):
        run(tmp_path / "nowhere.vst3")


def test_an_interrupted_caller_leaves_nothing_behind(bundle, nothing_left):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 2.0)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(bundle("load-hang"), timeout_s=60.0)
    finally:
        signal.signal(signal.SIGALRM, previous)


@pytest.mark.parametrize("name", ["library-hang", "process-spin"])
def test_a_plugin_does_not_outlive_a_killed_gbsep(bundle, nothing_left, name):
    script = f"""
import numpy as np
from gbsep.plugins import host
with host.open_plugin({str(bundle(name))!r}, 44100, 2) as instance:
    instance.process(np.ones((2, 100), np.float32), [(0, {{"armed": 1.0}})])
"""
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL) as gbsep:
        started: list[psutil.Process] = []
        while len(started) < 2 and gbsep.poll() is None:
            time.sleep(0.1)
            started = psutil.Process(gbsep.pid).children()
        time.sleep(1.0)
        gbsep.kill()
    assert len(started) == 2
    _, alive = psutil.wait_procs(started, timeout=10)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize(
    ("keywords", "phase", "setting"),
    [
        ({"load_timeout_s": 2.0, "block_timeout_s": 9.0}, "load", "load_timeout_s"),
        ({"block_timeout_s": 1.0}, "process", "block_timeout_s"),
        ({}, "load", "GBSEP_PLUGIN_TIMEOUT"),
    ],
)
def test_a_timeout_names_the_setting_that_is_in_force(bundle, nothing_left, monkeypatch, keywords, phase, setting):
    monkeypatch.setenv("GBSEP_PLUGIN_TIMEOUT", "20" if keywords else "2")
    with (
        pytest.raises(
            PluginTimeout, match=f"during {phase} and was stopped; it hangs: .*; a longer {setting} gives it more time"
        ),
        host.open_plugin(bundle(f"{phase}-hang"), SAMPLE_RATE, 2, **keywords) as instance,
    ):
        instance.process(np.zeros((2, 100), np.float32), [(0, {"armed": 1.0})])


@pytest.mark.parametrize(
    ("limit", "said"),
    [("NOFILE", "Too many open files; raise `ulimit -n` or use fewer"), ("FSIZE", "File too large; raise `ulimit -f`")],
)
def test_a_process_that_cannot_be_started_is_an_error_of_the_plugin(bundle, nothing_left, limit, said):
    if sys.platform != "linux" and limit == "FSIZE":
        pytest.skip("shared memory counts as a file on Linux")
    path, number = bundle(), getattr(resource, f"RLIMIT_{limit}")
    allowed = resource.getrlimit(number)
    resource.setrlimit(number, (psutil.Process().num_fds() + 6 if limit == "NOFILE" else 4096, allowed[1]))
    try:
        with pytest.raises(PluginError, match=f"'good' cannot be started: {said}"):
            host.open_plugin(path, SAMPLE_RATE, 2)
    finally:
        resource.setrlimit(number, allowed)


def test_a_closed_instance_says_so(bundle, nothing_left):
    instance = host.open_plugin(bundle(), SAMPLE_RATE, 2)
    instance.close()
    instance.close()
    with pytest.raises(PluginError, match="'good' is closed"):
        instance.process(np.zeros((2, 10), np.float32))


def test_a_forgotten_instance_is_closed(bundle, nothing_left):
    host.open_plugin(bundle(), SAMPLE_RATE, 2)


def test_many_instances_leave_memory_and_files_flat(bundle):
    path, signal = bundle(), np.zeros((2, 1000), np.float32)

    def rounds(count: int) -> tuple[int, int]:
        for _ in range(count):
            with host.open_plugin(path, SAMPLE_RATE, 2) as instance:
                instance.process(signal)
        gc.collect()
        me = psutil.Process()
        return me.num_fds(), me.memory_info().rss

    files, memory = rounds(3)
    files_after, memory_after = rounds(12)
    assert files_after == files
    assert memory_after < memory + 4e6


# --- sound ------------------------------------------------------------------------------------------------------------


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


# --- parameters and state ---------------------------------------------------------------------------------------------


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


# --- scanning ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def plugin_path(tmp_path, monkeypatch):
    """Scanning sees only the folder of `bundle`, with an empty cache."""
    monkeypatch.setattr(scan, "FOLDERS", {})
    monkeypatch.setenv("GBSEP_PLUGIN_PATH", str(tmp_path))
    return tmp_path


def test_a_scan_lists_what_works_and_quarantines_what_does_not(bundle, plugin_path, nothing_left):
    good, crash = bundle(), bundle("load-crash")
    bundle("gone", needs(b"libstdc++.so.6\0", b"libgone+++.so\0\0"))
    found = {info.path.stem: info for info in host.plugins()}
    assert found["good"] == host.PluginInfo(
        name="gbsep test",
        path=good,
        format="VST3",
        vendor="gbsep",
        version="1.2.3",
        category="Fx|Stereo",
        class_id=found["good"].class_id,
        layouts=((2, 2),),
        latency_frames=LATENCY_FRAMES,
        parameters=found["good"].parameters,
    )
    assert found["load-crash"].path == crash
    assert "crashed during load" in found["load-crash"].reason
    assert "missing library: libgone" in found["gone"].reason
    assert host.find("gbsep test") == found["good"]
    with pytest.raises(PluginNotFound, match=r"'gbsep tset' .*did you mean 'gbsep test'\? Other folders"):
        host.find("gbsep tset")
    with pytest.raises(PluginError, match=r"quarantine: .*crashed during load"):
        host.find("load-crash")
    with pytest.raises(PluginError, match=r"quarantine: .*missing library"):
        host.open_plugin(found["gone"], SAMPLE_RATE, 2)


def test_what_cannot_be_opened_is_quarantined_and_the_rest_is_listed(bundle, plugin_path):
    bundle()
    (plugin_path / "dangling.vst3").symlink_to("nowhere.vst3")
    (plugin_path / "loop.vst3").symlink_to("loop.vst3")
    os.mkfifo(plugin_path / "fifo.vst3")
    (plugin_path / "device.vst3").symlink_to("/dev/zero")
    inner = plugin_path / "inner.vst3" / "Contents" / ARCHITECTURE
    inner.mkdir(parents=True)
    os.mkfifo(inner / "inner.so")
    for _ in range(2):
        reasons = {info.path.stem: info.reason for info in host.plugins()}
        assert reasons.pop("good") == ""
        assert reasons.pop("inner").count("not a plug-in: no shared library") == 1
        assert reasons == {
            "dangling": "a link to nowhere.vst3, which is not there",
            "loop": "cannot be read: Too many levels of symbolic links",
            "fifo": "not a regular file",
            "device": "not a regular file",
        }
    (plugin_path / "loop.vst3").unlink()
    (plugin_path / "loop.vst3").write_bytes(b"")
    assert "not a plug-in" in next(info.reason for info in host.plugins() if info.path.stem == "loop")


def test_folders_that_link_in_circles_are_walked_once(plugin_path):
    (plugin_path / "a" / "empty.vst3").mkdir(parents=True)
    (plugin_path / "b").mkdir()
    for folder in ("a", "b"):
        for name in ("up", "down", "round"):
            (plugin_path / folder / name).symlink_to(plugin_path)
    assert scan.files() == [plugin_path / "a" / "empty.vst3"]


BY_ANOTHER = needs(b"\0gbsep\0", b"\0other\0")
"""Makes the test plug-in one of another vendor."""


def test_of_two_with_one_name_the_first_counts_unless_the_vendor_is_said(bundle, plugin_path):
    first, second = bundle("a"), bundle("b", BY_ANOTHER)
    assert [info.path for info in host.matching("gbsep test")] == [first, second]
    assert host.find("gbsep test").path == first
    assert host.find("gbsep test", vendor="other", format="VST3").path == second
    with pytest.raises(
        PluginNotFound, match=r"no plug-in 'gbsep test' of vendor 'another': .*b\.vst3 is VST3 by 'other'"
    ):
        host.find("gbsep test", vendor="another")
    with pytest.raises(PluginNotFound, match="of format 'Audio Unit'"):
        host.find("gbsep test", format="Audio Unit")


@pytest.mark.parametrize("text", ["soon", "0", "nan", "1e9", "-1"])
def test_a_deadline_from_the_environment_is_checked(plugin_path, monkeypatch, text):
    monkeypatch.setenv("GBSEP_PLUGIN_TIMEOUT", text)
    with pytest.raises(ParameterError, match=r"GBSEP_PLUGIN_TIMEOUT = .*a number from 0\.1 to 3600 s"):
        host.plugins()


def test_a_scan_keeps_the_deadline_from_the_environment(bundle, plugin_path, nothing_left, monkeypatch):
    bundle("library-hang")
    monkeypatch.setenv("GBSEP_PLUGIN_TIMEOUT", "1.5")
    (info,) = host.plugins()
    assert "gave no answer within 1.5 s during load" in info.reason


@pytest.mark.skipif(sys.platform != "linux", reason="a file that not even root can read comes from /proc")
def test_an_unreadable_file_is_quarantined(plugin_path):
    (plugin_path / "unreadable.vst3").symlink_to("/proc/self/mem")
    (info,) = host.plugins()
    assert info.reason.startswith("cannot be read: ")


def test_a_file_is_examined_again_only_when_it_changes(bundle, plugin_path, monkeypatch):
    path, count = bundle(), 0
    examine = scan.examine

    def counted(file: Path, wanted: Sequence[str], load_timeout_s: float | None = None) -> Iterator[host.PluginInfo]:
        nonlocal count
        count += len(wanted)
        return examine(file, wanted, load_timeout_s)

    def examined() -> int:
        nonlocal count
        before, count = count, 0
        return before

    monkeypatch.setattr(scan, "examine", counted)
    first = host.plugins()
    assert host.plugins() == first
    assert examined() == 1
    library = next(path.rglob("*.so"))
    os.utime(library, (1, 1))
    assert host.plugins() == first
    assert examined() == 0
    library.write_bytes(library.read_bytes() + b"changed")
    host.plugins()
    assert examined() == 1
    host.plugins(refresh=True)
    assert examined() == 1
    kept_file().write_text("{}")
    host.plugins()
    assert examined() == 1
    (path / "Contents" / "moduleinfo.json").write_text("later")
    os.utime(path / "Contents" / "moduleinfo.json", (2, 2))
    host.plugins()
    data = library.read_bytes()
    library.write_bytes(data[:-5] + b"other")
    os.utime(library, (1, 1))  # no newer than the newest, and as long as before
    host.plugins()
    assert examined() == 2


def kept_file() -> Path:
    """Where the only file of a scan is kept."""
    (file,) = (cache_folder() / "plugins").glob("*.json")
    return file


def test_a_scan_goes_on_where_it_was_interrupted(bundle, plugin_path, monkeypatch):
    for name in ("a", "b", "c"):
        bundle(name)
    examine, done = scan.examine, []

    def interrupted(
        file: Path, wanted: Sequence[str], load_timeout_s: float | None = None
    ) -> Iterator[host.PluginInfo]:
        if len(done) == 2:
            raise KeyboardInterrupt
        if wanted:
            done.append(file.stem)
        return examine(file, wanted, load_timeout_s)

    monkeypatch.setattr(scan, "examine", interrupted)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    with pytest.raises(KeyboardInterrupt):
        host.plugins()
    before, done[:] = list(done), []
    assert len(host.plugins()) == 3
    assert (before, done) == (["a", "b"], ["c"])


def test_only_the_plugin_that_is_named_is_loaded(bundle, plugin_path):
    """One that hangs has another name, and costs nothing."""
    bundle()
    bundle("load-hang", needs(b"\0gbsep test\0", b"\0gbsep tost\0"))
    assert host.find("gbsep test").path.stem == "good"
    with pytest.raises(PluginNotFound, match="did you mean 'gbsep test', 'gbsep tost'|did you mean"):
        host.find("gbsep tast")


DAMAGE: list[Callable[[dict], object]] = [
    lambda kept: kept.clear(),
    lambda kept: kept.pop("stamp"),
    lambda kept: kept.update(plugins=3),
    lambda kept: kept.update(path="/elsewhere.vst3"),
    lambda kept: kept["header"].update(version="1"),
    lambda kept: kept["plugins"]["gbsep test"].clear(),
    lambda kept: kept["plugins"]["gbsep test"].update(name=None),
    lambda kept: kept["plugins"]["gbsep test"].update(path="/etc/passwd"),
    lambda kept: kept["plugins"]["gbsep test"].update(parameters=[{}]),
]


def test_a_damaged_cache_is_as_good_as_none(bundle, plugin_path):
    bundle()
    whole, file = host.plugins(), kept_file()
    kept = file.read_text()
    for damage in DAMAGE:
        cache = json.loads(kept)
        damage(cache)
        file.write_text(json.dumps(cache))
        assert host.plugins() == whole
        assert file.read_text() == kept
    for text in ("[]", "null", "{", '{"header": 1, "files": 2}', "[" * 100_000):
        file.write_text(text)
        assert host.plugins() == whole


def test_a_plugin_that_no_longer_works_keeps_its_name_and_says_why(bundle, plugin_path):
    library = next(bundle().rglob("*.so"))
    assert not host.find("gbsep test").reason
    data = library.read_bytes()
    library.write_bytes(data[:3000])
    for refresh in (False, True):
        host.plugins(refresh)
        with pytest.raises(PluginError, match=r"good\.vst3 is in quarantine: .*is truncated") as raised:
            host.find("gbsep test")
        assert raised.type is PluginError
    with pytest.raises(PluginNotFound, match="1 in quarantine: `gbsep plugins list` says why"):
        host.find("another")
    library.write_bytes(data)
    assert not host.find("gbsep test").reason


def test_a_scan_knows_every_parameter_and_a_probe_whether_the_plugin_repeats_itself(bundle, plugin_path):
    bundle()
    for _ in range(2):  # as examined, and as kept
        info = host.find("gbsep test")
        assert [parameter.name for parameter in info.parameters][1:] == [
            "gain_db",
            "armed",
            "polarity",
            "lookahead",
            "pad_db",
        ]
        assert info.parameters[3].choices == ("normal", "inverted")
        gain = info.parameters[1]
        assert (gain.unit, gain.low, gain.high, gain.value) == ("dB", -60.0, 24.0, pytest.approx(0.0, abs=1e-5))
    assert host.repeats(info)
    assert not host.repeats(examined(bundle("process-random")))


def test_a_program_that_loads_something_is_not_tried_out():
    """ZamVerb loads an impulse response for each program: trying 1001 values, as pedalboard does, takes minutes."""
    with host.open_plugin(zam("ZamVerb"), SAMPLE_RATE, 2, load_timeout_s=25.0) as instance:
        assert instance.process(np.zeros((2, 100), np.float32)).shape == (2, 100)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"\x7fELF\x02\x01" + bytes(12) + b"\x3e\x00", ("x86_64",)),
        (b"\x7fELF\x02\x02" + bytes(12) + b"\x00\x15", ("ppc64",)),
        (b"\x7fELF\x02\x01" + bytes(12) + b"\x99\x99", ("ELF machine 39321",)),
        (b"\xcf\xfa\xed\xfe\x0c\x00\x00\x01", ("macOS arm64",)),
        (
            b"\xca\xfe\xba\xbe" + struct.pack(">11I", 2, 0x01000007, 0, 0, 0, 0, 0x0100000C, 0, 0, 0, 0),
            ("macOS x86_64", "macOS arm64"),
        ),
        (b"MZ\x90", ("Windows",)),
        (b"", ()),
        (b"\x7fELF", ()),
    ],
)
def test_the_head_of_a_library_names_its_processor(tmp_path, head, expected):
    file = tmp_path / "library"
    file.write_bytes(head)
    assert loader.architectures(file) == expected
