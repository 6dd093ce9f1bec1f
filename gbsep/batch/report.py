"""batch.json: what became of each render of a batch, in one file beside the renders."""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ..atomic import write_whole
from ..errors import OutputError, SmallFileError
from ..rendering import RENDERING_VERSION, Outcome
from ..schema import Lenient, Place, Text, TrackName, validated
from ..shelf import remote, review
from ..shelf.record import plain_track
from ..store import smallfiles
from ..version import __version__

if TYPE_CHECKING:
    from .planning import Batch

REPORT = "batch.json"
WRITTEN_BY = "gbsep batch"
MAX_BYTES = 64_000_000


class Row(Lenient):
    """What became of one render."""

    input: Place
    preset: TrackName = ""
    status: Text
    track: TrackName = ""
    error: Text | None = None

    @property
    def song(self) -> str:
        return self.track or plain_track(Path(self.input).stem)


class Report(Lenient):
    """What a report says, as far as it is read again."""

    written_by: Literal["gbsep batch"]
    renders: tuple[Row, ...] = Field((), strict=False)


def read(folder: Path) -> Report | None:
    """The report in an output folder, or None where there is none that gbsep wrote."""
    try:
        return _parse(folder / REPORT, smallfiles.read_bytes(folder / REPORT, MAX_BYTES, follow=False))
    except SmallFileError:
        return None


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


def _parse(path: Path | str, content: bytes) -> Report:
    return validated(path, Report, smallfiles.parse_json(path, content))


def _is_foreign(path: Path | str, content: bytes) -> bool:
    try:
        return not _parse(path, content)
    except SmallFileError:
        return True


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
            {"input": str(plan.source), "preset": plan.label}
            for plan in batch.plans
            if (str(plan.source), plan.label) not in done
        ],
        "left_out": [*batch.left_out, *batch.stems],
        "unreviewed": unreviewed(batch, outcomes),
    }
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    try:
        remote.write_text(path, text) if batch.destination else write_whole(Path(path), text)
    except OSError as error:
        raise OutputError(path, f"cannot be written: {error.strerror}") from None
    return report
