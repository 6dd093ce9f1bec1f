"""A watched folder: the files in it that are new and complete.

A file is complete when its size and time have not changed for a while and its header can be read. One whose header
cannot be read may be a copy that pauses: it gets PATIENCE times as long and is then handed over all the same, so that
its fault is reported. The folder is polled, as change notifications do not work on network drives.
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
    """Yield lists of audio files below `folder`, as they become complete; a file that changed is yielded again.

    It never ends, unless `once` is set: then it ends when all files have been yielded. Files below `out` and stems that
    gbsep made are left out. A folder that cannot be read, which may be `folder` itself on a network drive for a while,
    is passed to `tell` once and tried again.
    """
    since: dict[str, tuple[tuple[int, int], float]] = {}
    handed: dict[str, tuple[int, int]] = {}
    reported: set[str] = set()
    while True:
        paths, unreadable = inputs.audio_below(folder, out)
        for problem in unreadable:
            if str(problem) not in reported:
                tell(problem)
        reported = set(map(str, unreadable))
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
    """Size and modification time of a file; None if it is gone."""
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
