"""A process for one plug-in, seen from outside: started, asked, waited for, killed.

Whatever the plug-in does, the caller gets an answer or one of these, which name the plug-in and the phase (load,
restore state, set parameters, process):

    ParameterError   a parameter the plug-in does not have, or a value it does not take
    PluginCrashed    the process ended without an answer, whatever its exit status, or wrote nonsense on the channel
    PluginTimeout    no answer by the deadline
    PluginError      the plug-in refused, or its process cannot be started

After any of them but ParameterError the whole process group has been killed, and its folder for temporary files is
gone. The shared memory never had a name, so it vanishes with the processes. If gbsep itself is killed, a small shell
process, which waits for just that, does the same.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Iterator
from multiprocessing import connection
from typing import Any, NamedTuple, NoReturn

import numpy as np

from ..errors import ParameterError, PluginCrashed, PluginError, PluginNotStarted, PluginTimeout
from ..params import Param
from .worker import channel

MEMORY_LIMIT_BYTES = 8 * 2**30

TIMEOUT_S = Param("timeout_s", "s", 0.1, 3600.0, 30.0)
ZEROED_MEMORY = "glibc.malloc.perturb=255:glibc.malloc.tcache_count=0"
TIMEOUT_VARIABLE = "GBSEP_PLUGIN_TIMEOUT"

ANSWER_S = 0.2
"""An answer that has begun to arrive is read to its end, even if it was in time and looked at late."""

START_HINTS = {
    errno.EMFILE: "; raise `ulimit -n` or use fewer plug-ins",
    errno.EFBIG: "; raise `ulimit -f`",
    errno.EAGAIN: "; raise `ulimit -u` or use fewer plug-ins",
    errno.ENOMEM: "; use fewer plug-ins",
    errno.ENOSPC: "; free some space",
}

WORKING_SHARE = 0.02
"""A process that takes less than this share of the time is waiting."""
MOST_WAITING = 20
"""On a busy machine what works is waited for up to so many times its limit."""

LAUNCH = "import sys; sys.path[:] = sys.argv[4:]; from gbsep.plugins.worker.process import main; main(sys.argv[1:4])"
"""The worker imports what this process would: its `sys.path` comes along."""

WATCH = 'read -r _; kill -9 "-$1"; rm -rf "$2"'
"""A shell script that waits for the end of its input, then ends process group $1 and removes folder $2."""


def timeout_s() -> float:
    """How long a plug-in may take to load, and for each block, where nothing else is said: GBSEP_PLUGIN_TIMEOUT."""
    text = os.environ.get(TIMEOUT_VARIABLE, "")
    try:
        return float(TIMEOUT_S.check(float(text) if text else TIMEOUT_S.default))
    except ValueError:
        raise ParameterError(TIMEOUT_VARIABLE, text, TIMEOUT_S.allowed) from None


class Limit(NamedTuple):
    """How long an answer may take, and the setting that says so."""

    timeout_s: float
    setting: str


def limit(setting: str, given_s: float | None) -> Limit:
    """What a setting gives, or where it is None, GBSEP_PLUGIN_TIMEOUT."""
    return Limit(timeout_s(), TIMEOUT_VARIABLE) if given_s is None else Limit(given_s, setting)


class Sandbox:
    """A process that one plug-in is loaded into, and the way to talk with it."""

    def __init__(self, label: str, channels: int = 2, memory_limit_bytes: int = MEMORY_LIMIT_BYTES, where: str = ""):
        self.channels, self._where = channels, where
        self.call_it(label)
        self._after_crash = '; "on_failure": "bypass" lets its stem pass unprocessed' if where else ""
        if os.name != "posix":
            raise PluginError(f"{self._title} cannot be used: external plug-ins run on Linux and macOS only")
        self._unanswered, self._busy_since = 0, 0.0
        try:
            self._start(memory_limit_bytes)
        except OSError as error:
            hint = START_HINTS.get(error.errno or 0, "")
            raise PluginNotStarted(f"{self._title} cannot be started: {error.strerror or error}{hint}") from None

    def call_it(self, label: str) -> None:
        """What messages call the plug-in from now on."""
        self.label = label
        self._title = f"{self._where}: plug-in {label!r}" if self._where else f"plug-in {label!r}"

    @property
    def is_open(self) -> bool:
        return self._finalize.alive

    def _start(self, memory_limit_bytes: int) -> None:
        """Start the process; of what it needs, `theirs` is closed here once it has it."""
        with contextlib.ExitStack() as stack, contextlib.ExitStack() as theirs:
            folder = tempfile.mkdtemp(prefix="gbsep-plugin-")
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            self._messages, their_messages = socket.socketpair()
            stack.enter_context(self._messages)
            theirs.enter_context(their_messages)
            memory_fd = _anonymous_file(channel.shared_bytes(self.channels))
            theirs.callback(os.close, memory_fd)
            output, their_output = os.pipe()
            theirs.callback(os.close, their_output)
            self._output = stack.enter_context(os.fdopen(output, "rb"))
            os.set_blocking(output, False)
            os.set_blocking(their_output, False)  # a plug-in that prints without end loses the rest, and does not wait
            numbers = (their_messages.fileno(), memory_fd, memory_limit_bytes)
            self._process = subprocess.Popen(
                [sys.executable, "-c", LAUNCH, *map(str, numbers), *map(os.path.abspath, sys.path)],
                stdin=subprocess.DEVNULL,
                stdout=their_output,
                stderr=their_output,
                pass_fds=numbers[:2],
                cwd=folder,
                env=_environment(folder),
                start_new_session=True,
            )
            stack.callback(_kill, self._process)
            stack.callback(_stop, _watch(self._process.pid, folder))
            self._memory = stack.enter_context(mmap.mmap(memory_fd, 0))
            self._finalize = weakref.finalize(self, stack.pop_all().close)

    def slot(self, slot: int, frames: int) -> np.ndarray:
        """One of the pieces of shared memory as an array, shape (channels, frames). Keep no reference to it."""
        self._check_open()
        return channel.slot(self._memory, slot, self.channels, frames)

    def _check_open(self) -> None:
        if not self.is_open:
            raise PluginError(f"{self._title} is closed")

    def ask(self, phase: str, limit: Limit, verb: str, **arguments: Any) -> Any:
        """Send one request and wait for its answer."""
        self.send(phase, limit, verb, **arguments)
        return self.wait(phase, limit)

    def send(self, phase: str, limit: Limit, verb: str, **arguments: Any) -> None:
        """Send one request; several may be on their way."""
        self._check_open()
        if not self._unanswered:
            self._busy_since = time.monotonic()
        self._unanswered += 1
        with self._watched(phase, limit):
            self._messages.settimeout(limit.timeout_s)
            channel.send(self._messages, {"do": verb, **arguments})

    def wait(self, phase: str, limit: Limit) -> Any:
        """The answer to the oldest request that has none yet; its time counts from when the process turned to it."""
        with self._watched(phase, limit):
            self._wait_readable(limit.timeout_s)
            answer = channel.receive(self._messages, time.monotonic() + max(limit.timeout_s, ANSWER_S))
            self._output.read()  # what it wrote before an answer has nothing to do with a crash after it
        self._unanswered, self._busy_since = self._unanswered - 1, time.monotonic()
        if "error" not in answer:
            return answer["ok"]
        if answer["error"] == "ParameterError":
            raise ParameterError(*answer["args"])
        self.fail(phase, answer["args"][0])

    def fail(self, phase: str, reason: str) -> NoReturn:
        """Close, and raise PluginError."""
        self.close()
        raise PluginError(f"{self._title} failed during {phase}: {reason}")

    @contextlib.contextmanager
    def _watched(self, phase: str, limit: Limit) -> Iterator[None]:
        """Turn what happens to the process into gbsep's errors, and leave nothing running."""
        try:
            yield
        except TimeoutError as error:
            self.close()
            why = str(error) if error.args and not error.errno else "it takes no message"
            raise PluginTimeout(
                f"{self._title} gave no answer within {limit.timeout_s:g} s during {phase} and was stopped; {why}; "
                f"a longer {limit.setting} gives it more time"
            ) from None
        except (EOFError, ConnectionError):
            said = f"its process {self._ending()}{self._after_crash}"
            raise PluginCrashed(f"{self._title} crashed during {phase}: {said}") from None
        except channel.ChannelBroken as error:
            self.close()
            said = f"it wrote {error} on the control channel{self._after_crash}"
            raise PluginCrashed(f"{self._title} crashed during {phase}: {said}") from None
        except BaseException:
            self.close()
            raise

    def _wait_readable(self, timeout_s: float) -> None:
        """Return when there is something to read; EOFError when there never will be.

        Waiting counts while the process does nothing, and the processor time that it takes while it does something.
        Raises TimeoutError, saying which it was, when either is as long as `timeout_s`.
        """
        started_s, worked_s = self._busy_since, processor_time_s(self._process.pid)
        active_s, last_s = started_s, worked_s
        while not connection.wait([self._messages], min(0.1, timeout_s / 4)):
            # A child of the plug-in may hold the channel open after the plug-in itself is gone.
            if self._process.poll() is not None and not connection.wait([self._messages], 0.0):
                raise EOFError
            now_s, used_s = time.monotonic(), processor_time_s(self._process.pid)
            if used_s - last_s > WORKING_SHARE * max(now_s - active_s, 0.0):
                active_s, last_s = now_s, used_s
            if now_s - active_s >= timeout_s:
                raise TimeoutError("it hangs: it waits and uses no processor time")
            waited_s = now_s - started_s
            if min(used_s - worked_s, waited_s) >= timeout_s or waited_s >= MOST_WAITING * timeout_s:
                raise TimeoutError(f"it was still working, {used_s - worked_s:.1f} s of processor time so far")

    def _ending(self) -> str:
        """How the process ended, and the last line it wrote; closes the sandbox."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.5)
        status = self._process.returncode
        said = self._output.read() or b""
        self.close()
        return how_it_ended(status, said)

    def close(self) -> None:
        """Kill the process with all its children, and remove what it used. May be called again.

        Happens by itself when the sandbox is forgotten, or when the interpreter ends.
        """
        self._finalize()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def processor_time_s(pid: int) -> float:
    """The processor time that a process has taken; 0 where the system does not say, which then counts as waiting."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            return time.clock_gettime((~pid << 3) | 2)  # the clock of a process, as clock_getcpuclockid(3) makes it
        return 0.0
    with contextlib.suppress(OSError, ValueError, subprocess.SubprocessError):
        said = subprocess.run(["ps", "-o", "time=", "-p", str(pid)], capture_output=True, text=True, timeout=5).stdout
        minutes, _, seconds = said.strip().rpartition(":")
        return sum(60.0 ** (1 + place) * float(part) for place, part in enumerate(minutes.split(":")[::-1])) + float(
            seconds
        )
    return 0.0


def how_it_ended(status: int | None, said: bytes) -> str:
    """What became of a process, from its exit status and what it wrote: "was ended by signal 9 (Killed)"."""
    if status is None:
        ended = "closed the control channel"
    elif status < 0:
        ended = f"was ended by signal {-status} ({signal.strsignal(-status)})"
    else:
        ended = f"ended with exit status {status} and without an answer"
    lines = said.decode("utf-8", "replace").strip().splitlines()
    return f"{ended}; it last wrote {lines[-1][:200]!r}" if lines else ended


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _watch(group: int, folder: str) -> subprocess.Popen[bytes]:
    """Start a process that cleans up after the plug-in in case this one is killed, which ends its input."""
    return subprocess.Popen(
        ["/bin/sh", "-c", WATCH, "gbsep-plugin-watch", str(group), folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )


def _stop(watch: subprocess.Popen[bytes]) -> None:
    watch.kill()
    watch.communicate()


def _anonymous_file(size: int) -> int:
    """A file descriptor of `size` bytes of memory without a name, which vanishes with the last process that uses it."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("gbsep-plugin")
    else:
        descriptor, name = tempfile.mkstemp(prefix="gbsep-plugin-")
        os.unlink(name)
    try:
        os.ftruncate(descriptor, size)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _environment(folder: str) -> dict[str, str]:
    """The environment of a worker: no display, one thread for linear algebra, temporary files in `folder`.

    New memory is zero (in the GNU C library, as its `perturb` says): plug-ins that read what they have not written
    would sound different each time, or give NaN.
    """
    kept = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    tunables = ":".join(filter(None, (kept.get("GLIBC_TUNABLES"), ZEROED_MEMORY)))
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return kept | one_thread | {"TMPDIR": folder, "GLIBC_TUNABLES": tunables}
