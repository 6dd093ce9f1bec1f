"""What a batch shows while it runs: a line for each song and the time left, on a terminal bars as well."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import printable
from .common import say
from .results import duration, song_line

if TYPE_CHECKING:
    from ..batch import Batch, Event
    from ..rendering import Outcome, Plan

EARLY = 0.02
"""Before this share of the work is done, nothing is said of the time that is left."""


WORTH_SAYING_S = 60.0
"""A line of a song says how long the others will take where that is longer."""


@contextmanager
def two_stops(show: Show) -> Iterator[threading.Event]:
    """The first Ctrl-C sets the event and says what is still done, the second is a KeyboardInterrupt."""
    stop = threading.Event()

    def handle(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        names = ", ".join(show.in_hand) or "nothing"
        show.say(f"finishing {names}; Ctrl-C again stops at once; the same command goes on from there later")

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGINT, handle)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


class Show:
    """Takes the events of a batch, and says on stderr what a user wants to know of them.

    Songs are told when all their renders are done, those alone of which something was done. Work is measured in seconds
    that it is expected to take, of which what is in hand counts in part: so the time left follows from work, not from
    a number of files.
    """

    def __init__(self, batch: Batch, costs: Mapping[Path, float], quiet: bool = False):
        self._todo = [plan for plan in batch.plans if plan.action == "render"]
        self._songs = Counter(plan.track for plan in batch.plans)
        self._several = len(self._songs) > 1
        self._costs, self._total = costs, sum(costs.values()) or 1.0
        self._done, self._in_hand = 0.0, dict[Path, float]()
        self._order = [plan.folder for plan in batch.plans]
        self._outcomes: dict[str, dict[Path, Outcome]] = {}
        self._told, self._begun, self._quiet = 0, time.monotonic(), quiet
        self._places: dict[Path, str] = {}

    @property
    def in_hand(self) -> list[str]:
        """The renders that are being made."""
        return list(self._places.values())

    @property
    def share(self) -> float:
        """Of all the work, what is done."""
        part = sum(self._costs.get(folder, 0.0) * fraction for folder, fraction in self._in_hand.items())
        return min(1.0, (self._done + part) / self._total)

    @property
    def seconds_left(self) -> float:
        """How long it will still take; 0 while that cannot be said."""
        spent = time.monotonic() - self._begun
        return spent * (1 - self.share) / self.share if self.share > EARLY else 0.0

    @property
    def left(self) -> str:
        """The same in words; empty while it cannot be said, or for what takes a moment."""
        return f"about {duration(self.seconds_left)} left" if self.seconds_left > 1 else ""

    def say(self, text: str) -> None:
        """A line on stderr."""
        say(text, err=True)

    def __call__(self, event: Event) -> None:
        plan, folder = event.plan, event.plan.folder
        if event.kind == "started":
            self._places[folder] = label(plan)
        elif event.kind == "progress":
            self._in_hand[folder] = fraction_of(event)
        elif event.kind == "retried":
            self.say(f"{label(plan)}: trying once more, as {event.message}")
        elif event.outcome is not None:
            self._finish(plan, event.outcome)

    def _finish(self, plan: Plan, outcome: Outcome) -> None:
        self._places.pop(plan.folder, None)
        self._in_hand.pop(plan.folder, None)
        self._done += self._costs.get(plan.folder, 0.0)
        of_song = self._outcomes.setdefault(plan.track, {})
        of_song[plan.folder] = outcome
        if len(of_song) < self._songs[plan.track]:
            return
        self._told += 1
        song = [of_song[folder] for folder in sorted(of_song, key=self._order.index)]
        if self._several and not self._quiet and any(one.status != "skipped" for one in song):
            left = f", {self.left}" if self.seconds_left >= WORTH_SAYING_S else ""
            self.say(f"{song_line(song)} ({self._told} of {len(self._songs)}{left})")


class _Bars(Show):
    """The same on a terminal: lines, and below them a bar for each render in hand and one for all."""

    def __init__(self, batch: Batch, costs: Mapping[Path, float]):
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskID, TextColumn

        super().__init__(batch, costs)
        self._bars = Progress(
            BarColumn(), TextColumn("{task.description}", markup=False), console=Console(stderr=True), transient=True
        )
        self._overall = self._bars.add_task("", total=1.0, visible=len(self._todo) > 1)
        self._tasks: dict[Path, TaskID] = {}

    def say(self, text: str) -> None:
        if self._bars.live.is_started:
            self._bars.console.print(printable(text), markup=False, highlight=False)
        else:
            super().say(text)

    def stop(self) -> None:
        """Take the bars away."""
        self._bars.stop()

    def __call__(self, event: Event) -> None:
        super().__call__(event)
        folder = event.plan.folder
        if time.monotonic() - self._begun > 1:
            self._bars.start()
        if event.kind == "started" and folder not in self._tasks:
            self._tasks[folder] = self._bars.add_task(label(event.plan), total=1.0)
        elif event.kind == "progress" and folder in self._tasks:
            stage = f"{label(event.plan)}: {event.stage}"
            self._bars.update(self._tasks[folder], description=stage, completed=fraction_of(event))
        elif event.kind == "finished" and folder in self._tasks:
            self._bars.remove_task(self._tasks.pop(folder))
        told = f"{self._told} of {len(self._songs)}" if self._several else "all"
        self._bars.update(self._overall, description=f"{told} {self.left}".strip(), completed=self.share)


@contextmanager
def batch_progress(batch: Batch, quiet: bool = False) -> Iterator[Show]:
    """What shows the events of a batch."""
    from ..batch import history

    costs = history.costs(batch)
    if quiet or not sys.stderr.isatty():
        yield Show(batch, costs, quiet)
        return
    bars = _Bars(batch, costs)
    try:
        yield bars
    finally:
        bars.stop()


def label(plan: Plan) -> str:
    """A render as it is told."""
    return printable(f"{plan.track} {plan.label}")


def fraction_of(event: Event) -> float:
    """How much of a whole render is done: separating is most of it, unless the backend is quick."""
    from ..separation.backend import backend_named

    share = 0.1 if backend_named(event.plan.preset.backend).quick else 0.9
    return event.fraction * share if event.stage == "separate" else share + event.fraction * (1 - share)
