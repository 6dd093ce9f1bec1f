"""Locks between processes, and folders that show whether the process that builds them is still alive.

A folder under construction has a lock file beside it, `<folder>.lock`, which its builder holds. When the lock is free,
the builder is gone, and the folder may be removed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import BaseFileLock

NO_LOCKS = "its disk has no locks"


@contextmanager
def holding(path: Path, timeout_s: float = -1.0) -> Iterator[None]:
    """Hold the lock file `path`, waiting for other processes; a negative `timeout_s` waits for ever.

    Raises TimeoutError, and OSError for a place that cannot be written or a disk without locks.
    """
    import filelock

    lock = filelock.FileLock(path, timeout=timeout_s)
    try:
        lock.acquire()
    except NotImplementedError as error:
        raise OSError(None, f"{NO_LOCKS}: {error}") from None
    try:
        yield
    finally:
        lock.release()


def begin(folder: Path) -> BaseFileLock:
    """Make `folder`, whose name has to be unique, and hold its lock until `discard`.

    Raises OSError: TimeoutError if no file can be made in its parent, where the lock seems to be held.
    """
    lock = _acquired(folder)
    try:
        folder.mkdir()
    except BaseException:  # Ctrl-C too
        discard(folder, lock)
        raise
    return lock


def take_over(folder: Path) -> BaseFileLock | None:
    """The lock of a folder whose builder is gone, now held; None while the builder lives. Raises OSError."""
    try:
        return _acquired(folder)
    except TimeoutError:
        return None


def discard(folder: Path, lock: BaseFileLock) -> None:
    """Remove a folder whose lock is held, as far as possible, and then the lock."""
    shutil.rmtree(folder, ignore_errors=True)
    lock.release()
    Path(lock.lock_file).unlink(missing_ok=True)


def _acquired(folder: Path) -> BaseFileLock:
    import filelock

    lock = filelock.FileLock(f"{folder}.lock")
    try:
        lock.acquire(blocking=False)
    except NotImplementedError as error:
        Path(lock.lock_file).unlink(missing_ok=True)
        raise OSError(None, f"{NO_LOCKS}: {error}") from None
    return lock
