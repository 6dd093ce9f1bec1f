"""Hashes of recordings, remembered while the size, times and inode of the file stay the same.

<folder>/hashes/<path_hash>.json    the SHA-256 of a file, and the stamp that it was seen with
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from pathlib import Path

from ..atomic import write_whole
from ..errors import AudioFileError, SmallFileError
from ..schema import Lenient, Sha256, validated
from . import smallfiles
from .folders import cache_folder, named
from .identity import Stamp, content_hash, is_settled, path_hash

HASH = re.compile(r"[0-9a-f]{32}\.json")
"""The names of remembered hashes."""


class _Known(Lenient):
    """A remembered hash."""

    stamp: list[int]
    sha256: Sha256


def remembered_hash(path: str | Path, folder: Path | None = None) -> str:
    """SHA-256 of a file's content, remembered in the cache's `folder` while its size, times and inode stay the same.

    Raises AudioFileError when the file cannot be read.
    """
    path = Path(path).absolute()
    record = (folder or cache_folder()) / "hashes" / f"{path_hash(path)}.json"
    stamp, seen_ns = _stamp(path), time.time_ns()
    with contextlib.suppress(SmallFileError):
        known = validated(record, _Known, smallfiles.read_json(record, follow=False))
        if known.stamp == list(stamp):
            return known.sha256
    sha256 = content_hash(path)
    if _stamp(path) == stamp and is_settled(stamp, seen_ns) and not record.parent.is_symlink():
        with contextlib.suppress(OSError):
            write_whole(record, json.dumps({"stamp": stamp, "sha256": sha256}))
    return sha256


def forget(folder: Path) -> None:
    """Remove every hash that is remembered in `folder`. Raises OSError."""
    hashes = folder / "hashes"
    for path in named(hashes, HASH):
        if smallfiles.is_regular(path):
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        hashes.rmdir()


def _stamp(path: Path) -> Stamp:
    try:
        return Stamp.of(path.stat())
    except OSError as error:
        raise AudioFileError(path, f"cannot be read: {error.strerror}") from error
