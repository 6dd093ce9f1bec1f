"""The report of a batch, batch.json: whether its place is free, and what it says; see gbsep.shelf.batch."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from ..atomic import write_whole
from ..errors import OutputError, SmallFileError
from ..rendering import RENDERING_VERSION, Outcome
from ..shelf import remote, review
from ..shelf.batch import MAX_BYTES, REPORT, Machine, Pending, Report, Row, Versions, parse, read
from ..version import __version__

if TYPE_CHECKING:
    from .planning import Batch


def check(batch: Batch) -> None:
    """Raise OutputError when the report would take the place of a file that is not one."""
    path = place(batch)
    if batch.destination:
        content = remote.read_bytes(path, MAX_BYTES)
        foreign = content is not None and _is_foreign(path, content)
    else:
        foreign = os.path.lexists(path) and read(batch.options.out) is None
    if foreign:
        raise OutputError(path, "was not written by gbsep; move it, or choose another --out")


def place(batch: Batch) -> str:
    """Where the report of a batch is written: a path or a URL."""
    return f"{batch.destination.rstrip('/')}/{REPORT}" if batch.destination else str(batch.options.out / REPORT)


def _is_foreign(path: Path | str, content: bytes) -> bool:
    try:
        return not parse(path, content)
    except SmallFileError:
        return True


def unreviewed(batch: Batch, outcomes: Sequence[Outcome]) -> list[str]:
    """The songs that have been rendered into a folder here, and that nobody has accepted or rejected."""
    rendered = [outcome.track for outcome in outcomes if outcome.status != "failed" and not batch.destination]
    return [track for track in dict.fromkeys(rendered) if not review.load(batch.options.out / track).is_done]


def write(
    batch: Batch, outcomes: Sequence[Outcome], command: Sequence[str], begun: float, interrupted: bool = False
) -> Report:
    """Write the report of a batch that began at time `begun` (seconds since the epoch) to its `place`; what it says.

    Raises OutputError when it cannot be written.
    """
    path = place(batch)
    now = datetime.now(timezone.utc)
    started = datetime.fromtimestamp(begun, timezone.utc)
    done = {(str(outcome.input), outcome.preset) for outcome in outcomes}
    planned = [(str(plan.source), plan.label) for plan in batch.plans]
    counts = Counter(outcome.status for outcome in outcomes)
    report = Report(
        written_by="gbsep batch",
        gbsep=Versions(version=__version__, rendering=RENDERING_VERSION, python=platform.python_version()),
        command=tuple(command),
        started=started.isoformat(timespec="seconds"),
        seconds=round((now - started).total_seconds(), 3),
        machine=Machine(host=platform.node(), system=platform.platform(), processors=os.cpu_count()),
        jobs=batch.jobs,
        threads=batch.threads,
        interrupted=interrupted,
        counts={status: counts[status] for status in ("ok", "skipped", "failed")},
        renders=tuple(Row.model_validate(outcome.as_json()) for outcome in outcomes),
        not_done=tuple(Pending(input=source, preset=label) for source, label in planned if (source, label) not in done),
        left_out=(*batch.left_out, *batch.stems),
        unreviewed=tuple(unreviewed(batch, outcomes)),
    )
    try:
        if batch.destination:
            remote.write_text(path, report.as_text())
        else:
            write_whole(Path(path), report.as_text())
    except OSError as error:
        raise OutputError(path, f"cannot be written: {error.strerror}") from None
    return report
