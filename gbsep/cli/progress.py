"""What a batch shows while it runs: bars with the time left on a terminal, a line for each render elsewhere."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from ..errors import printable

if TYPE_CHECKING:
    from ..batch import Batch, Event
    from ..rendering import Plan


@contextmanager
def two_stops() -> Iterator[threading.Event]:
    """The first Ctrl-C sets the event, the second is a KeyboardInterrupt."""
    stop = threading.Event()

    def handle(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        click.echo("finishing the songs in hand; Ctrl-C again stops at once", err=True)

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGINT, handle)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def batch_progress(batch: Batch) -> Iterator[Callable[[Event], None]]:
    """A function that shows events, on stderr."""
    if sys.stderr.isatty():
        with _bars(batch) as show:
            yield show
        return
    done, total = 0, len(batch.plans)

    def tell(event: Event) -> None:
        nonlocal done
        done += event.kind == "finished"
        if total > 1 and event.kind in ("retried", "finished"):
            click.echo(f"{_label(event.plan)} ({done}/{total}): {_news(event)}", err=True)

    yield tell


@contextmanager
def _bars(batch: Batch) -> Iterator[Callable[[Event], None]]:
    """A bar for each render in hand, and, when there are several renders, one for all, in seconds of audio."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    bars = Progress(*columns, console=Console(stderr=True), transient=True, speed_estimate_period=600)
    todo = [plan for plan in batch.plans if plan.action == "render"]
    total_s = sum(map(_seconds, todo))
    done_s, done = 0.0, 0
    overall = bars.add_task("", total=total_s, visible=len(todo) > 1)
    hands: dict[str, TaskID] = {}
    in_hand_s: dict[str, float] = {}
    begun = time.monotonic()

    def show(event: Event) -> None:
        nonlocal done_s, done
        plan, key = event.plan, str(event.plan.folder)
        if time.monotonic() - begun > 1:
            bars.start()
        if event.kind == "started" and key not in hands:
            hands[key] = bars.add_task(_label(plan), total=1.0)
        elif event.kind == "progress" and key in hands:
            bars.update(hands[key], description=f"{_label(plan)}: {event.stage}", completed=_fraction(event))
            in_hand_s[key] = _fraction(event) * _seconds(plan)
        elif event.kind == "retried":
            bars.console.print(f"{_label(plan)}: {_news(event)}", markup=False, highlight=False)
        elif event.kind == "finished":
            in_hand_s.pop(key, None)
            if key in hands:
                bars.remove_task(hands.pop(key))
            if plan.action == "render":
                done, done_s = done + 1, done_s + _seconds(plan)
        bars.update(overall, description=f"{done}/{len(todo)}", completed=done_s + sum(in_hand_s.values()))

    try:
        yield show
    finally:
        bars.stop()


def _label(plan: Plan) -> str:
    return printable(f"{plan.track} {plan.label}")


def _news(event: Event) -> str:
    if event.outcome is None:
        return printable(f"trying once more, as {event.message}")
    return event.outcome.status + (f" ({event.outcome.reason})" if event.outcome.reason else "")


def _seconds(plan: Plan) -> float:
    return plan.reader.frames / plan.reader.sample_rate


def _fraction(event: Event) -> float:
    """Of the whole render: separating is most of it, unless the backend is quick."""
    from ..separation.backend import backend_named

    share = 0.1 if backend_named(event.plan.preset.backend).quick else 0.9
    return event.fraction * share if event.stage == "separate" else share + event.fraction * (1 - share)
