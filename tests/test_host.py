"""Plug-ins that fail, files that are none, and interruptions: an error says which and nothing stays behind."""

from __future__ import annotations

import gc
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from gbsep.errors import PluginCrashed, PluginError, PluginTimeout
from gbsep.plugins import host

from .bundles import ARCHITECTURE, FAULTS, FILES, SAMPLE_RATE, needs, noise, trip_state


def run(path: Path, timeout_s: float = 20.0) -> np.ndarray:
    """Everything that can be done with a plug-in, and its output for a second of sound."""
    state = trip_state(path) if path.stem.startswith("state-") else None
    parameters = {"armed": 1.0} if path.stem.startswith("parameter-") else {}
    signal = noise(np.random.default_rng(0), 2, SAMPLE_RATE)
    limits = {"load_timeout_s": timeout_s, "block_timeout_s": timeout_s, "memory_limit_bytes": 2**30}
    with host.open_plugin(path, SAMPLE_RATE, 2, parameters, state, **limits) as instance:
        instance.process(signal)
        return instance.process(signal, [(0, {"armed": 1.0})])


@pytest.mark.parametrize(("name", "phase", "error", "said"), FAULTS, ids=[name for name, *_ in FAULTS])
def test_a_fault_is_reported_and_leaves_nothing_behind(bundle, nothing_left, name, phase, error, said):
    with pytest.raises(error, match=f"(?s)(?=.*{name})(?=.*during {phase})(?=.*{said})") as raised:
        run(bundle(name), timeout_s=3.0 if error is PluginTimeout else 20.0)
    assert raised.type is error


@pytest.mark.parametrize("name", ["load-garbage", "process-garbage", "process-random"])
def test_what_a_plugin_prints_and_how_it_varies_is_no_fault(bundle, nothing_left, name):
    assert run(bundle(name)).shape == (2, SAMPLE_RATE)


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
