"""A render's folder on disk: what is there already, and how a new render takes its place without losing anything.

A finished render is a folder with a `render.json` that lists every file gbsep wrote there, with size and SHA-256, and
holds a checksum of its own content.
Whatever that list does not name, or names with another content, belongs to the user and is foreign.

A render is written into a staging folder beside its destination, `.<name>.<host>.<token>.partial`. Its render.json
is written last, so a staging folder that holds one is complete. Publishing moves the files over one by one,
render.json last again: when that is cut short, the next run finds the complete staging folder and carries on.
Beside it lies a lock file that its writer holds: however a process ends, its lock is free, and what it left is swept.
Process numbers would not do: in a container the next run has the same ones.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import secrets
import shutil
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import OutputError, nearest
from .files import content_hash
from .folders import ESCAPED

if TYPE_CHECKING:
    from filelock import BaseFileLock

RECORD = "render.json"
MEDIA = "media"
"""Where a DAW project keeps files of its own, beside the renders of its song."""


@dataclass(frozen=True)
class Existing:
    """What a destination holds: "none", "same" (this very render), "stale" (an older render) or "foreign"."""

    state: str
    reason: str = ""


def fingerprint(parts: Mapping[str, Any]) -> dict[str, str]:
    """A hash for each part of what a render depends on, so that a change can be told by its name."""
    return {name: _hash(json.dumps(part, sort_keys=True).encode()) for name, part in parts.items()}


def inspect(folder: Path, wanted: Mapping[str, str], names: Collection[str]) -> Existing:
    """Compare a destination with the render of fingerprint `wanted` that would write files called `names`.

    A render that has other files beside these is "same"; one that lacks some of them is "stale".
    """
    if not folder.exists():
        return Existing("none")
    if not folder.is_dir():
        raise OutputError(folder, "is a file, not a folder; choose another with --out")
    record = read_record(folder)
    if record is None and (folder / RECORD).exists():
        return Existing("foreign", f"{RECORD} was changed since gbsep wrote it, or is not gbsep's")
    listed: Mapping[str, Any] = record["files"] if record else {}
    for name in sorted({*listed, *names}):
        if name not in listed and (folder / name).exists():
            return Existing("foreign", f"{name} was not written by gbsep")
        if name in listed and (folder / name).exists() and not _is_unaltered(folder / name, listed[name]):
            return Existing("foreign", f"{name} was changed since gbsep wrote it")
    if record is None:
        return Existing("none")
    missing = sorted(name for name in listed if not (folder / name).exists())
    if missing:
        return Existing("stale", f"{missing[0]} is missing")
    changed = [part for part, value in wanted.items() if record.get("fingerprint", {}).get(part) != value]
    if changed:
        return Existing("stale", f"{', '.join(changed)} changed")
    lacking = sorted(set(names) - set(listed))
    if lacking:
        return Existing("stale", f"{lacking[0]} wanted as well")
    return Existing("same", "unchanged")


def read_record(folder: Path) -> dict[str, Any] | None:
    """The render.json of a folder, or None where there is none that gbsep wrote and nobody has altered."""
    try:
        return record_in((folder / RECORD).read_bytes())
    except OSError:
        return None


def record_in(content: bytes) -> dict[str, Any] | None:
    """What a render.json holds, or None when it is none that gbsep wrote and nobody has altered."""
    try:
        record = json.loads(content.decode("utf-8"))
        checksum = record.pop("checksum")
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        return None
    return record if checksum == fingerprint({RECORD: record})[RECORD] else None


def is_unaltered(folder: Path, record: Mapping[str, Any]) -> bool:
    """Whether every file that a folder's render.json lists is there as gbsep wrote it."""
    return all(
        (folder / name).exists() and _is_unaltered(folder / name, stamp) for name, stamp in record["files"].items()
    )


def other_recording(folder: Path, source: Path | str, sha256: str) -> str | None:
    """Where the recording is that `folder` is a render of, when it is neither this one nor a copy of it."""
    record = read_record(folder)
    made_of = record["input"] if record else {"path": address(source), "sha256": sha256}
    return None if made_of["path"] == address(source) or made_of["sha256"] == sha256 else made_of["path"]


def address(source: Path | str) -> str:
    """Where a recording is, from wherever it is looked for: a whole path, or a URL as it is."""
    return str(source.resolve()) if isinstance(source, Path) else source


def stem_file(folder: Path, stem: str) -> Path:
    """The file of a stem in the folder of a finished render. Raises OutputError when there is none."""
    record = read_record(folder)
    stems = record["stems"] if record else {}
    if stem not in stems:
        raise OutputError(folder, f"holds no render with a stem {stem!r}{nearest(stem, stems)}")
    return folder / stems[stem]["file"]


def check_place(folder: Path, size_bytes: int) -> None:
    """Raise OutputError when `folder` cannot be made or written to, or its disk has not `size_bytes` left."""
    above = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not above.is_dir():
        raise OutputError(above, "is a file, not a folder; choose another with --out")
    if not os.access(above, os.W_OK | os.X_OK):
        raise OutputError(above, "cannot be written to; choose another with --out")
    free_bytes = shutil.disk_usage(above).free
    if free_bytes < size_bytes:
        raise OutputError(
            above,
            f"{size_bytes / 1e6:.1f} MB are needed and {free_bytes / 1e6:.1f} MB are free; choose another with --out",
        )


STAGING_TRIES = 20
"""How often a folder is made again that another process, done with it and leaving it empty, took away meanwhile."""


@contextlib.contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """A new staging folder for `folder`; removed on the way out, with folders made for it that are left empty.

    Raises OutputError when it cannot be made.
    """
    import filelock

    place = folder.parent / f"{_prefix(folder)}{secrets.token_hex(4)}.partial"
    lock = filelock.FileLock(f"{place}.lock")
    for tries_left in reversed(range(STAGING_TRIES)):
        made = [parent for parent in folder.parents if not parent.exists()]
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(blocking=False)
            place.mkdir()
            break
        except (OSError, NotImplementedError) as error:
            _remove(place, lock)
            _remove_empty(made)
            if isinstance(error, FileNotFoundError) and tries_left:
                continue
            # A lock that nobody else can hold is said to be held when its folder does not take files.
            refused = isinstance(error, filelock.Timeout)
            reason = "no file can be made there" if refused else getattr(error, "strerror", None) or error
            raise OutputError(folder.parent, f"cannot be written to: {reason}; choose another place") from None
    try:
        yield place
    finally:
        _remove(place, lock)
        _remove_empty(made)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write a file that takes the place of `path` when all went well. What a killed process left is swept.

    Raises OutputError when it cannot be written.
    """
    try:
        recover(path)
        with staging(path) as place:
            yield place / path.name
            (place / path.name).replace(path)
    except OSError as error:
        raise OutputError(
            path, f"cannot be written: {error.strerror or error}; free some space, or choose another place"
        ) from None


def publish(place: Path, folder: Path, record: Mapping[str, Any]) -> None:
    """Complete a staging folder with its render.json and move it to `folder`, in place of the render that is there."""
    paths = sorted(place.iterdir())
    with ThreadPoolExecutor() as pool:
        files = {path.name: stamp for path, stamp in zip(paths, pool.map(_stamp, paths), strict=True)}
    temporary = place / f".{RECORD}"
    complete = json.loads(json.dumps({**record, "files": files}))
    complete["checksum"] = fingerprint({RECORD: complete})[RECORD]
    temporary.write_text(json.dumps(complete, indent=2, ensure_ascii=False) + "\n", "utf-8", ESCAPED)
    temporary.replace(place / RECORD)
    _move(place, folder)


def _move(place: Path, folder: Path) -> None:
    old, new = read_record(folder), read_record(place)
    if not folder.exists():
        place.rename(folder)
        return
    for name in set(old["files"] if old else ()) - set(new["files"] if new else ()):
        (folder / name).unlink(missing_ok=True)
    for path in sorted(place.iterdir(), key=lambda path: path.name == RECORD):
        path.replace(folder / path.name)


def recover(folder: Path) -> None:
    """Finish or sweep what processes that are no more left beside `folder`."""
    import filelock

    prefix, swept = _prefix(folder), False
    for path in list(folder.parent.iterdir()) if folder.parent.is_dir() else ():
        if not (path.name.startswith(prefix) and path.name.endswith(".partial.lock")):
            continue
        place, lock = path.with_suffix(""), filelock.FileLock(path)
        with contextlib.suppress(filelock.Timeout):
            lock.acquire(blocking=False)
            if read_record(place) is not None:
                _move(place, folder)
            _remove(place, lock)
            swept = True
    if swept:
        _remove_empty([folder.parent])


def _prefix(folder: Path) -> str:
    return f".{folder.name}.{platform.node()}."


def _remove(place: Path, lock: BaseFileLock) -> None:
    shutil.rmtree(place, ignore_errors=True)
    lock.release()
    Path(lock.lock_file).unlink(missing_ok=True)


def _remove_empty(folders: Collection[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _stamp(path: Path) -> dict[str, Any]:
    status = path.stat()
    return {"bytes": status.st_size, "modified_ns": status.st_mtime_ns, "sha256": content_hash(path)}


def _is_unaltered(path: Path, stamp: Mapping[str, Any]) -> bool:
    status = path.stat()
    if status.st_size != stamp.get("bytes"):
        return False
    return status.st_mtime_ns == stamp.get("modified_ns") or content_hash(path) == stamp.get("sha256")


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
