"""Identity of content: hashes of files and values, and the stamp (size, times, inode) of a file."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import AudioFileError

_SETTLED_NS = 2 * 10**9


class Stamp(NamedTuple):
    """Size in bytes, times in ns and inode of a file: they change when its content does."""

    size: int
    modified_ns: int
    changed_ns: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def is_settled(stamp: Stamp, seen_ns: int | None = None) -> bool:
    """Whether an equal stamp later will prove that the file is unchanged; `seen_ns` is when it was taken, or now.

    Not within two seconds of a change: another one could fall into the same tick of the clock.
    """
    seen_ns = time.time_ns() if seen_ns is None else seen_ns
    return seen_ns - max(stamp.modified_ns, stamp.changed_ns) > _SETTLED_NS


def content_hash(path: str | Path) -> str:
    """SHA-256 of the file's bytes, in hexadecimal. Raises AudioFileError where it cannot be read."""
    try:
        return file_hash(path)
    except OSError as error:
        raise AudioFileError(path, f"cannot be read: {error.strerror or error}") from None


def file_hash(path: str | Path) -> str:
    """SHA-256 of the file's bytes, in hexadecimal. Raises OSError."""
    digest = hashlib.sha256()
    feed(digest, path)
    return digest.hexdigest()


def feed(digest: hashlib._Hash, path: str | Path) -> None:
    """Update a digest of hashlib with the file's bytes. Raises OSError."""
    with Path(path).open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)


def json_hash(value: Any, **form: Any) -> str:
    """SHA-256 of a value as JSON, in hexadecimal.

    `form` are arguments of `json.dumps`, which change the hash: sorted keys give another one than unsorted keys.
    """
    return hashlib.sha256(json.dumps(value, **form).encode()).hexdigest()


def path_hash(path: str | Path) -> str:
    """32 hexadecimal digits that identify a path, for names of files about it."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:32]
