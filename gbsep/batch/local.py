"""A batch on this machine: worker processes, each with one render in hand.

A worker is a process of its own with a pipe in each direction, not one of a pool: so the song of a worker that dies is
known, and no other is lost. Such a song is tried once more in a new worker, then it has failed. Workers do not receive
Ctrl-C; they end when this process ends, even if it is killed.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import subprocess
import sys
import tempfile
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import WorkerDied
from ..io.spool import TEMPORARY, temporary_path, writing
from ..plugins.host import how_it_ended
from ..rendering import Given, Outcome, Plan
from ..shelf import folder as outputs
from .planning import Batch, separations
from .task import Event, Results, task_of
from .worker import Step

LAUNCH = "import sys; sys.path[:] = sys.argv[1:]; from gbsep.batch.worker import main; main()"
"""Code of a worker; it gets this process's `sys.path`, so it imports the same modules."""

TRIES = 2


def here(plans: Iterable[Plan], batch: Batch, on_event: Callable[[Event], None], stop: threading.Event) -> Results:
    """Render one after the other in this process."""
    shared: dict[str, Given] = {}
    for plan in plans:
        if stop.is_set():
            return
        on_event(Event("started", plan))
        task = task_of(plan, batch.destination)
        try:
            yield plan, task.run(plan, partial(_progress, on_event, plan), shared)
        except Exception as error:
            yield plan, task.failed(error)


def _progress(on_event: Callable[[Event], None], plan: Plan, stage: str, fraction: float) -> None:
    on_event(Event("progress", plan, stage, fraction))


def in_workers(
    plans: Iterable[Plan], batch: Batch, on_event: Callable[[Event], None], stop: threading.Event
) -> Results:
    """Render in `batch.jobs` processes; renders that share a separation go to the same one, one after the other."""
    waiting = deque(map(deque, separations(plans)))
    tries: Counter[Path] = Counter()
    answers: queue.SimpleQueue[tuple[_Worker, Outcome | Step | None]] = queue.SimpleQueue()
    idle: list[_Worker] = []
    busy: set[_Worker] = set()

    def begin() -> None:
        while waiting and len(busy) < batch.jobs and not stop.is_set():
            worker = idle.pop() if idle else _Worker(batch.threads, answers)
            busy.add(worker)
            worker.begin(waiting.popleft(), batch.destination)
            tries[worker.plan.folder] += 1
            on_event(Event("started", worker.plan))

    try:
        begin()
        while busy:
            worker, answer = _next(answers)
            if worker not in busy:
                continue
            plan = worker.plan
            if isinstance(answer, Step):
                on_event(Event("progress", plan, answer.stage, answer.fraction))
                continue
            busy.remove(worker)
            if answer is not None:
                idle.append(worker)
            else:
                reason = f"the process that rendered it {worker.ending()}"
                worker.clear()
                if tries[plan.folder] < TRIES:
                    worker.rest.appendleft(plan)
                    on_event(Event("retried", plan, message=reason))
                else:
                    answer = task_of(plan, batch.destination).failed(WorkerDied(f"{reason}, {TRIES} times"))
            if worker.rest:
                waiting.appendleft(worker.rest)  # for the worker that became idle last: this one, unless it died
            begin()
            if answer is not None:
                yield plan, answer
    finally:
        for worker in (*idle, *busy):
            worker.end()
        for worker in busy:
            worker.clear()


def _next(answers: queue.SimpleQueue[Any]) -> Any:
    while True:
        with contextlib.suppress(queue.Empty):
            return answers.get(timeout=1.0)  # with a timeout, as Windows would not handle Ctrl-C otherwise


class _Worker:
    """A worker process: its current `plan`, and the `rest` of the plans that share its separation.

    `missing` are the folders above the plan's that were not there when it began.
    """

    plan: Plan
    rest: deque[Plan]
    missing: list[Path]

    def __init__(self, threads: int, answers: queue.SimpleQueue[Any]):
        with writing(temporary_path(), TEMPORARY):
            self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        count = str(threads)
        self._process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, *map(os.path.abspath, sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env={**os.environ, "OMP_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count, "MKL_NUM_THREADS": count},
            start_new_session=os.name == "posix",
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        self._listener = threading.Thread(target=self._listen, args=(answers,), daemon=True)
        self._listener.start()

    def _listen(self, answers: queue.SimpleQueue[Any]) -> None:
        assert self._process.stdout
        with self._process.stdout as stream, contextlib.suppress(EOFError, pickle.UnpicklingError):
            while True:
                answers.put((self, pickle.load(stream)))
        answers.put((self, None))

    def begin(self, plans: deque[Plan], destination: str | None) -> None:
        """Start to render the first of `plans`."""
        self.plan, self.rest = plans.popleft(), plans
        self.missing = outputs.missing_parents(self.plan.folder)
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # it is dead: `_listen` reports that
            message = (self.plan.separation.family, task_of(self.plan, destination))
            pickle.dump(message, self._process.stdin)
            self._process.stdin.flush()

    def clear(self) -> None:
        """Publish or remove what the ended process left, with empty folders that it made."""
        outputs.recover(self.plan.folder)
        outputs.remove_empty(self.missing)

    def ending(self) -> str:
        """How a process that no longer answers ended, and the last line it wrote."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5.0)
        self._stderr.seek(max(0, self._stderr.tell() - 4096))
        ended = how_it_ended(self._process.returncode, self._stderr.read())
        self.end()
        return ended

    def end(self) -> None:
        assert self._process.stdin
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._listener.join()
        self._stderr.close()
