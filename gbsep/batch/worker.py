"""A worker process: pickled tasks on its standard input, pickled answers on its standard output.

It renders one task at a time and keeps the stems of the last separation, so that presets that share it need no cache.
When its input ends, because the process that sent the tasks has ended in whatever way, it ends at once.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import sys
import threading
import time
from dataclasses import dataclass
from typing import BinaryIO

from ..rendering import Given, Outcome
from .task import Task, perform

_PROGRESS_EVERY_S = 0.1


@dataclass(frozen=True)
class Step:
    """Progress of the current task: the stage, and the fraction of it that is done, 0 to 1."""

    stage: str
    fraction: float


def main() -> None:
    """Serve forever. A task comes with the family of its separation, whose stems are kept until another comes."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # keep what libraries print out of the answers
    tasks: queue.SimpleQueue[tuple[str, Task]] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(sys.stdin.buffer, tasks), daemon=True).start()
    shared: dict[str, Given] = {}
    last = ""
    while True:
        family, task = tasks.get()
        if family != last:
            shared.clear()
        last = family
        _send(answers, perform(task, _ProgressSender(answers), shared))


def _receive(stream: BinaryIO, tasks: queue.SimpleQueue[tuple[str, Task]]) -> None:
    try:
        while True:
            tasks.put(pickle.load(stream))
    except EOFError:
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


def _send(answers: BinaryIO, answer: Outcome | Step) -> None:
    pickle.dump(answer, answers)
    answers.flush()


class _ProgressSender:
    """Sends the progress of a task, at most ten times a second; called from the threads of a render."""

    def __init__(self, answers: BinaryIO):
        self._answers, self._lock, self._sent_at = answers, threading.Lock(), 0.0

    def __call__(self, stage: str, fraction: float) -> None:
        now = time.monotonic()
        with self._lock:
            if now - self._sent_at >= _PROGRESS_EVERY_S:
                self._sent_at = now
                _send(self._answers, Step(stage, fraction))
