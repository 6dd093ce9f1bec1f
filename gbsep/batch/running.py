"""A planned batch, carried out: in this process, in worker processes, or on a cluster."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Callable, Iterator

from ..rendering import Outcome
from .cluster import in_cluster
from .local import here, in_workers
from .planning import Batch, separations
from .task import Event, Results


def _nobody(event: Event) -> None:
    pass


def run(
    batch: Batch,
    *,
    cluster: str | None = None,
    apart: bool = False,
    on_event: Callable[[Event], None] = _nobody,
    stop: threading.Event | None = None,
) -> Iterator[Outcome]:
    """Carry a batch out; outcomes come when they are there, those of `batch.refused` and of finished work first.

    What fails does not stop the others. After `stop` is set no render is begun, and the iterator ends when those in
    hand are done. When it is closed, or an exception such as KeyboardInterrupt passes through it, what is in hand is
    ended at once, and nothing partial is left.

    `cluster` is the address of a Dask scheduler, or "local" for one that is started for this batch. A single separation
    is done in this process, unless it is to be done `apart`.
    """
    stop = stop or threading.Event()
    yield from batch.refused
    try:
        with contextlib.closing(_results(batch, cluster, apart, on_event, stop)) as results:
            for plan, outcome in results:
                on_event(Event("finished", plan, outcome=outcome))
                yield outcome
    finally:
        if batch.destination:
            shutil.rmtree(batch.options.out, ignore_errors=True)


def _results(
    batch: Batch, cluster: str | None, apart: bool, on_event: Callable[[Event], None], stop: threading.Event
) -> Results:
    yield from here([plan for plan in batch.plans if plan.action == "skip"], batch, on_event, stop)
    unfinished = [plan for plan in batch.plans if plan.action == "render"]
    if unfinished and cluster:
        yield from in_cluster(batch, cluster, on_event, stop)
    elif batch.alone and not apart:
        yield from here([plan for group in separations(unfinished) for plan in group], batch, on_event, stop)
    else:
        yield from in_workers(unfinished, batch, on_event, stop)
