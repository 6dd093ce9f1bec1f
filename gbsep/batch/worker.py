"""A process that renders what it is sent: pickled Tasks on its standard input, answers on its standard output.

It renders one at a time and keeps the stems of the last separation, so that presets which share one get it without the
cache. When its input ends, because the process that sent the tasks has ended in whatever way, it ends at once.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .. import rendering
from ..audio import Reader
from ..errors import GbsepError
from ..preset import Preset
from ..rendering import Options, Outcome, Plan, Progress, Separations

_TELL_EVERY_S = 0.1


@dataclass(frozen=True)
class Task:
    """A plan in a form that can be sent to another process, which plans it again.

    Tasks of one `separation` can hand its stems on.
    """

    input: Path
    source: Path | str
    preset: Preset
    options: Options
    track: str
    separation: str


@dataclass(frozen=True)
class Done:
    """The outcome of a task, and the traceback of its error."""

    outcome: Outcome
    traceback: str = ""


@dataclass(frozen=True)
class Step:
    """How far the task in hand is: the stage, and how much of it is done, 0 to 1."""

    stage: str
    fraction: float


def task_of(plan: Plan) -> Task:
    return Task(plan.input, plan.source, plan.preset, plan.options, plan.track, rendering.separation_key(plan))


def perform(task: Task, progress: Progress, shared: Separations) -> Done:
    """Plan and render. Whatever goes wrong is the outcome of this task, be it an error of gbsep's own making."""
    try:
        plan = rendering.plan(task.input, task.preset, task.options, task.track, task.source)
        return Done(rendering.run(plan, progress, shared))
    except Exception as error:
        return failed(task, error)


def failed(task: Task | Plan, error: Exception) -> Done:
    reason = str(error)
    if not isinstance(error, GbsepError):
        reason = f"unexpected {type(error).__name__}: {error}; --debug shows where"
    outcome = Outcome(task.source, task.preset.folder, "failed", task.track, error=reason)
    return Done(outcome, "".join(traceback.format_exception(error)))


def main() -> None:
    """Serve until the input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no answer
    tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(sys.stdin.buffer, tasks), daemon=True).start()
    shared: dict[str, Mapping[str, Reader]] = {}
    while True:
        task = tasks.get()
        if task.separation not in shared:
            shared.clear()
        _send(answers, perform(task, _Teller(answers), shared))


def _receive(stream: BinaryIO, tasks: queue.SimpleQueue[Task]) -> None:
    try:
        while True:
            tasks.put(pickle.load(stream))
    except EOFError:
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


def _send(answers: BinaryIO, answer: Done | Step) -> None:
    pickle.dump(answer, answers)
    answers.flush()


class _Teller:
    """Tells the progress of a task, ten times a second at most; called by the threads of a render."""

    def __init__(self, answers: BinaryIO):
        self._answers, self._lock, self._told_at = answers, threading.Lock(), 0.0

    def __call__(self, stage: str, fraction: float) -> None:
        now = time.monotonic()
        with self._lock:
            if now - self._told_at >= _TELL_EVERY_S:
                self._told_at = now
                _send(self._answers, Step(stage, fraction))
