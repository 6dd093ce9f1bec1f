"""What is made of sounds to be shown or played in a page, kept so that it is made once.

<folder>/pictures/<key>    the SHA-256 of what follows, then that, compressed: spectrograms
<folder>/previews/<key>    the same of pieces of sound, which are compressed already

A key is a hash of all that it was made of: contents of files, never their names. The folder is the cache's; what was
used least recently goes first. Where nothing can be kept, everything is made anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from ..atomic import write_whole
from ..errors import FolderUnknown, SmallFileError
from . import smallfiles
from .folders import cache_folder, named

KEY = re.compile(r"[0-9a-f]{64}")
MOST_BYTES = {"pictures": 200_000_000, "previews": 2_000_000_000}
"""What is kept of each kind in all: half an hour of stereo takes some 150 MB of previews."""
LARGEST_BYTES = 4_000_000
"""Of one, before it is compressed."""
SWEEP_EVERY = 16
"""So many are written before it is looked whether there are too many: to look takes as long as to make a few."""

_written: Counter[Path] = Counter()


def kept(key: str, make: Callable[[], bytes], kind: str = "pictures") -> bytes:
    """What `make` gives, or what it gave when it was last called for this key; `kind` is one of MOST_BYTES."""
    try:
        folder = cache_folder() / kind
    except FolderUnknown:
        return make()
    path = folder / key
    content = _read(path)
    if content is None:
        content = make()
        if not folder.is_symlink():
            level = 1 if kind == "pictures" else 0
            with contextlib.suppress(OSError):
                write_whole(path, hashlib.sha256(content).digest() + zlib.compress(content, level))
                if _written[folder] % SWEEP_EVERY == 0:
                    _evict(folder, MOST_BYTES[kind])
                _written[folder] += 1
    return content


def usage(folder: Path, kind: str = "pictures") -> tuple[int, int]:
    """How many of a kind are kept in the cache's `folder`, and their bytes."""
    sizes = [status.st_size for _, status in _entries(folder / kind)]
    return len(sizes), sum(sizes)


def clear(folder: Path) -> None:
    """Remove all that is kept in the cache's `folder`."""
    for kind in MOST_BYTES:
        for path, _ in _entries(folder / kind):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            (folder / kind).rmdir()


def _read(path: Path) -> bytes | None:
    with contextlib.suppress(SmallFileError, OSError, zlib.error):
        whole = smallfiles.read_bytes(path, LARGEST_BYTES, follow=False)
        unpacking = zlib.decompressobj()
        content = unpacking.decompress(whole[32:], LARGEST_BYTES)
        if unpacking.eof and hashlib.sha256(content).digest() == whole[:32]:
            os.utime(path)
            return content
    return None


def _entries(folder: Path) -> list[tuple[Path, os.stat_result]]:
    found = []
    for path in named(folder, KEY):
        with contextlib.suppress(OSError):
            if smallfiles.is_regular(path):
                found.append((path, path.lstat()))
    return found


def _evict(folder: Path, most_bytes: int) -> None:
    entries = sorted(_entries(folder), key=lambda entry: entry[1].st_mtime_ns)
    total = sum(status.st_size for _, status in entries)
    for path, status in entries:
        if total <= most_bytes:
            break
        path.unlink(missing_ok=True)
        total -= status.st_size
