"""A watched folder: which files in it are complete, and new.

A file is complete when its size and time have not changed for a while and it probes clean; one that does not probe
clean gets PATIENCE times as long, as a copy may pause, and is then handed over all the same, for its fault to be told.
The folder is looked through again and again rather than subscribed to: that works on network drives as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import GbsepError
from ..io.probe import is_stem, probe
from ..store.identity import Stamp
from . import inputs

PATIENCE = 5


def _nobody(problem: GbsepError) -> None:
    pass


def arrivals(
    folder: Path,
    out: Path,
    *,
    settle_s: float = 2.0,
    once: bool = False,
    tell: Callable[[GbsepError], None] = _nobody,
) -> Iterator[list[str]]:
    """The audio files below `folder` that are complete and were not handed over as they are now, as they come.

    Without an end, unless `once`: then until all that is there has been handed over. What gbsep writes below `out` is
    left out, and stems that gbsep made. What cannot be read, be it a folder below or, for a while, the folder itself on
    a network drive, is told once, and looked at again.
    """
    since: dict[str, tuple[tuple[int, int], float]] = {}
    handed: dict[str, tuple[int, int]] = {}
    told: set[str] = set()
    while True:
        paths, unreadable = inputs.audio_below(folder, out)
        for problem in unreadable:
            if str(problem) not in told:
                tell(problem)
        told = set(map(str, unreadable))
        there = {path: stamp for path in paths if (stamp := _stamp(Path(path)))}
        now = time.monotonic()
        since = {
            path: since[path] if path in since and since[path][0] == stamp else (stamp, now)
            for path, stamp in there.items()
        }
        new = [path for path, stamp in there.items() if handed.get(path) != stamp]
        complete = [path for path in new if _is_complete(Path(path), now - since[path][1], settle_s)]
        handed |= {path: there[path] for path in complete}
        if recordings := [path for path in complete if not is_stem(path)]:
            yield recordings
        elif complete:
            continue
        elif once and not new:
            return
        else:
            time.sleep(settle_s / 4)


def _stamp(path: Path) -> tuple[int, int] | None:
    """Size and time of a file, None when it went away meanwhile."""
    try:
        status = path.stat()
    except OSError:
        return None
    return Stamp.of(status)[:2]


def _is_complete(path: Path, unchanged_s: float, settle_s: float) -> bool:
    if unchanged_s < settle_s:
        return False
    try:
        probe(path)
    except GbsepError:
        return unchanged_s >= PATIENCE * settle_s
    return True
