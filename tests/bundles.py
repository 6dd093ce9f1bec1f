"""External plug-ins for the tests: Debian's zam-plugins, and one of our own (tests/plugin) that fails on demand."""

import gc
import os
import platform
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from gbsep.errors import PluginCrashed, PluginError, PluginTimeout
from gbsep.plugins import host

SAMPLE_RATE = 44100
LATENCY_FRAMES = 256
"""Of the test plug-in."""

ARCHITECTURE = f"{platform.machine()}-linux"


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


def left(temporary: Path) -> tuple[list[psutil.Process], list[str], int]:
    """Child processes, what lies in the folder of temporary files, and how many files are open."""
    gc.collect()
    me = psutil.Process()
    return me.children(recursive=True), os.listdir(temporary), me.num_fds()


def needs(library: bytes, other: bytes) -> Callable[[bytes], bytes]:
    assert len(library) == len(other)
    return lambda data: data.replace(library, other)


BY_ANOTHER = needs(b"\0gbsep\0", b"\0other\0")
"""Makes the test plug-in one of another vendor."""

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


def trip_state(path: Path) -> bytes:
    with host.open_plugin(path, SAMPLE_RATE, 2) as instance:
        return instance.save_state().replace(b"calm", b"trip")
