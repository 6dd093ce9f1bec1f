"""batch.json: what became of each render of a batch, in one file beside the renders."""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__, review
from ..errors import OutputError
from ..folders import write_whole
from ..rendering import RENDERING_VERSION, Outcome
from . import remote

if TYPE_CHECKING:
    from .planning import Batch

REPORT = "batch.json"
WRITTEN_BY = "gbsep batch"


def read(folder: Path) -> dict[str, Any] | None:
    """The report in an output folder, or None where there is none that gbsep wrote."""
    try:
        return _parse((folder / REPORT).read_bytes())
    except OSError:
        return None


def check(batch: Batch) -> None:
    """Raise OutputError when the report would take the place of a file that is not one."""
    path = place(batch)
    if batch.destination:
        content = remote.read_bytes(path)
        foreign = content is not None and _parse(content) is None
    else:
        foreign = Path(path).exists() and read(batch.options.out) is None
    if foreign:
        raise OutputError(path, "was not written by gbsep; move it, or choose another --out")


def place(batch: Batch) -> str:
    """Where the report of a batch is written: a path or a URL."""
    return f"{batch.destination.rstrip('/')}/{REPORT}" if batch.destination else str(batch.options.out / REPORT)


def _parse(content: bytes) -> dict[str, Any] | None:
    try:
        report = json.loads(content.decode("utf-8"))
        return report if report["written_by"] == WRITTEN_BY else None
    except (ValueError, KeyError, TypeError):
        return None


def unreviewed(batch: Batch, outcomes: Sequence[Outcome]) -> list[str]:
    """The songs that have been rendered into a folder here, and that nobody has accepted or rejected."""
    tracks = dict.fromkeys(one.track for one in outcomes if one.status != "failed" and not batch.destination)
    return [track for track in tracks if not review.load(batch.options.out / track).is_done]


def write(
    batch: Batch, outcomes: Sequence[Outcome], command: Sequence[str], begun: float, interrupted: bool = False
) -> dict[str, Any]:
    """Write the report of a batch that began at time `begun` (seconds since the epoch) to its `place`; what it says.

    Raises OutputError when it cannot be written.
    """
    path = place(batch)
    now = datetime.now(timezone.utc)
    started = datetime.fromtimestamp(begun, timezone.utc)
    done = {(str(outcome.input), outcome.preset) for outcome in outcomes}
    counts = Counter(outcome.status for outcome in outcomes)
    report: dict[str, Any] = {
        "written_by": WRITTEN_BY,
        "gbsep": {"version": __version__, "rendering": RENDERING_VERSION, "python": platform.python_version()},
        "command": list(command),
        "started": started.isoformat(timespec="seconds"),
        "seconds": round((now - started).total_seconds(), 3),
        "machine": {"host": platform.node(), "system": platform.platform(), "processors": os.cpu_count()},
        "jobs": batch.jobs,
        "threads": batch.threads,
        "interrupted": interrupted,
        "counts": {status: counts[status] for status in ("ok", "skipped", "failed")},
        "renders": [outcome.as_json() for outcome in outcomes],
        "not_done": [
            {"input": str(plan.source), "preset": plan.preset.folder}
            for plan in batch.plans
            if (str(plan.source), plan.preset.folder) not in done
        ],
        "left_out": list(batch.left_out),
        "unreviewed": unreviewed(batch, outcomes),
    }
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    try:
        remote.write_text(path, text) if batch.destination else write_whole(Path(path), text)
    except OSError as error:
        raise OutputError(path, f"cannot be written: {error.strerror}") from None
    return report
