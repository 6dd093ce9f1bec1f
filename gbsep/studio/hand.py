"""A process that renders for the studio, one task at a time: the worker of a batch, kept warm."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..audio import Audio
from ..batch.local import LAUNCH
from ..batch.task import Task
from ..batch.worker import Step
from ..io.write import write
from ..preset.load import load_preset
from ..rendering import Options, Outcome


class Hand:
    """One worker process, started when it is first needed and after each that was killed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def do(self, task: Task, on_step: Callable[[Step], None]) -> Outcome | None:
        """Have a task done; None when the process was killed or died."""
        process = self._process = self._process or _launched()
        assert process.stdin
        assert process.stdout
        try:
            pickle.dump(("", task), process.stdin)
            process.stdin.flush()
            while True:
                answer = pickle.load(process.stdout)
                if isinstance(answer, Outcome):
                    return answer
                on_step(answer)
        except (EOFError, OSError, ValueError, pickle.UnpicklingError):
            self.kill()
            return None

    def warm(self) -> None:
        """Load what the first render would have to wait for, with a second of sound that nobody hears."""
        with tempfile.TemporaryDirectory(prefix="gbsep-") as folder:
            place = Path(folder)
            noise = 0.1 * np.random.default_rng(0).standard_normal((2, 44100)).astype(np.float32)
            write(place / "warm.wav", Audio(noise, 44100))
            options = Options(place / "out", use_cache=False)
            self.do(Task(place / "warm.wav", load_preset("default"), options, "warm"), lambda step: None)

    def kill(self) -> None:
        """End the process, whatever it has in hand."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                assert stream
                stream.close()


def _launched() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", LAUNCH, *map(os.path.abspath, sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=os.name == "posix",
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
    )
