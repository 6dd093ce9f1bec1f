"""A render's folder on disk: what it holds already, and how a new render replaces it without losing anything.

A finished render is a folder with a `render.json` that lists every file gbsep wrote there, with size and SHA-256, and
holds a checksum of its own content (see record.py).
A file that the list does not name, or names with another content, belongs to the user and is foreign. A file that it
names and that the next render does not write, such as a stem in another format, stays until --overwrite.

A render is written into a staging folder beside its destination, `.<name>.<host>.<token>.partial`. Its render.json
is written last, so a staging folder that holds one is complete. Publishing moves the files one by one, render.json
last again: when that is cut short, the next run finds the complete staging folder and carries on. The writer holds a
lock file beside the staging folder. However it ends, the lock is then free, and the next run removes what it left.
Process numbers would not do: in a container the next run has the same ones.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import secrets
import shutil
import stat
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..atomic import write_whole
from ..errors import AudioFileError, OutputError, ParameterError, SmallFileError, nearest
from ..io.formats import FORMATS, OutputFormat
from ..io.probe import probe
from ..store import locks, smallfiles
from ..store.identity import content_hash
from . import record
from .record import RECORD as RECORD
from .record import Record, Stamp
from .record import fingerprint as fingerprint

if TYPE_CHECKING:
    from filelock import BaseFileLock


@dataclass(frozen=True)
class Existing:
    """What a destination holds: "none", "same" (this render), "stale" (an older render) or "foreign"."""

    state: str
    reason: str = ""


def inspect(
    folder: Path,
    wanted: Mapping[str, str],
    names: Collection[str],
    output: OutputFormat,
    optional: Collection[str] = (),
) -> Existing:
    """Compare a destination with a render of fingerprint `wanted` that writes the files `names` in the format `output`.

    A render with further files is still "same"; one that lacks some of `names`, other than those that
    are `optional`, is "stale". Files of these names in
    another bit depth were made for another purpose, and count as foreign. Raises OutputError for a link or a file.
    """
    if folder.is_symlink():
        raise OutputError(folder, "is a link, which a render does not follow; remove it, or choose another --out")
    if not folder.exists():
        return Existing("none")
    if not folder.is_dir():
        raise OutputError(folder, "is a file, not a folder; choose another with --out")
    try:
        found = record.load(folder)
    except SmallFileError as error:
        if not error.missing or os.path.lexists(folder / RECORD):
            foreign = f"{RECORD} was changed since gbsep wrote it, or is not gbsep's"
            return Existing("foreign", f"{foreign} ({error.reason})")
        found = None
    listed: Mapping[str, Stamp] = found.files if found else {}
    own = found.own_files if found else []
    for name in sorted({*own, *names}):
        if name not in listed and os.path.lexists(folder / name):
            return Existing("foreign", f"{name} was not written by gbsep")
        if name in listed and os.path.lexists(folder / name) and not _is_unaltered(folder / name, listed[name]):
            return Existing("foreign", f"{name} was changed since gbsep wrote it")
    if found is None:
        return Existing("none")
    if depth := _other_depth(folder, found, names, output):
        return Existing("foreign", depth)
    missing = sorted(name for name in own if not (folder / name).exists())
    if missing:
        return Existing("stale", f"{missing[0]} is missing")
    changed = [part for part, value in wanted.items() if found.fingerprint.get(part) != value]
    if changed:
        return Existing("stale", f"{', '.join(changed)} changed")
    lacking = sorted(set(names) - set(listed) - set(optional))
    if lacking:
        return Existing("stale", f"{lacking[0]} wanted as well")
    return Existing("same", "unchanged")


def _format_of(found: Record) -> OutputFormat | None:
    with contextlib.suppress(ParameterError):
        return OutputFormat(found.preset.output.format, found.preset.output.bit_depth)
    return None


def _other_depth(folder: Path, found: Record, names: Collection[str], output: OutputFormat) -> str:
    """A sentence on a file that exists in another bit depth; empty without one.

    The depth of the record's own files is in the record; that of older files is read from them.
    """
    there = [name for name in sorted(set(names) & set(found.files)) if (folder / name).exists()]
    was = _format_of(found)
    for name in there:
        is_own = was is not None and was.container == output.container and name in found.own_files
        depth = was.bit_depth if is_own and was else _bit_depth(folder / name)
        if depth not in (None, output.bit_depth):
            return f"{name} is there already with a bit depth of {depth}"
    return ""


def _bit_depth(file: Path) -> str | None:
    """The name of a file's bit depth; None for a missing file or a format without one, such as MP3."""
    with contextlib.suppress(AudioFileError):
        info = probe(file)
        row = FORMATS.get(info.container)
        return (
            next((depth for depth, subtype in row.subtypes.items() if subtype == info.subtype), None) if row else None
        )
    return None


def is_unaltered(folder: Path, found: Record) -> bool:
    """Whether every file of a render exists as gbsep wrote it."""
    return all(_is_unaltered(folder / name, found.files[name]) for name in found.own_files)


def other_recording(folder: Path, source: Path | str, sha256: str) -> str | None:
    """The path of the recording that `folder` is a render of; None if it is `source` or a copy of it."""
    found = record.read(folder)
    if found is None or sha256 == found.recording.sha256 or found.recording.path == address(source):
        return None
    return found.recording.path


def address(source: Path | str) -> str:
    """A recording's absolute path, or its URL."""
    return str(source.resolve()) if isinstance(source, Path) else source


def stem_file(folder: Path, stem: str) -> Path:
    """The file of a stem in the folder of a finished render. Raises OutputError when there is none."""
    found = record.read(folder)
    stems = found.stems if found else {}
    if stem not in stems:
        raise OutputError(folder, f"holds no render with a stem {stem!r}{nearest(stem, stems)}")
    return folder / stems[stem].file


def superseded(folder: Path, names: Collection[str]) -> list[str]:
    """The unaltered files of earlier renders in a folder that are not among `names`, sorted."""
    found = record.read(folder)
    listed = found.files if found else {}
    return sorted(name for name in set(listed) - set(names) if _is_unaltered(folder / name, listed[name]))


def check_place(folder: Path, size_bytes: int) -> None:
    """Raise OutputError when `folder` cannot be made or written to, or its disk has not `size_bytes` left."""
    above = next(parent for parent in (folder, *folder.parents) if os.path.exists(parent))
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
"""Tries to make a folder that another process keeps removing because it found it empty."""


@contextlib.contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """A new staging folder beside `folder`; removed at the end, with empty parents made for it.

    Raises OutputError when it cannot be made.
    """
    place = folder.parent / f"{_prefix(folder)}{secrets.token_hex(8)}.partial"
    lock: BaseFileLock | None = None
    made: dict[Path, tuple[int, int] | None] = {}
    try:
        for tries_left in reversed(range(STAGING_TRIES)):
            missing = missing_parents(folder)
            made = dict.fromkeys(missing)  # an interrupt may come before it is known which folders these are
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                made = {parent: _identity(parent) for parent in missing}
                lock = locks.begin(place)
                break
            except OSError as error:
                remove_empty(missing)
                if isinstance(error, FileNotFoundError) and tries_left:
                    continue
                # filelock reports a lock as held by another when its folder takes no files.
                refused = isinstance(error, TimeoutError)
                reason = "no file can be made there" if refused else error.strerror or error
                raise OutputError(folder.parent, f"cannot be written to: {reason}; choose another place") from None
        yield place
    finally:
        if lock is not None and _is_half_moved(place):
            lock.release()
        elif lock is not None:
            locks.discard(place, lock)
        # Another folder, or a link, may have taken its place meanwhile.
        remove_empty([parent for parent, identity in made.items() if identity in (None, _identity(parent))])


def missing_parents(folder: Path) -> list[Path]:
    """The folders above `folder` that are not there, innermost first."""
    return [parent for parent in folder.parents if not parent.exists()]


@contextlib.contextmanager
def standing_in(place: Path, folder: Path) -> Iterator[None]:
    """Turn errors of files in the staging folder `place` into OutputErrors of `folder`, which the user knows."""
    try:
        yield
    except AudioFileError as error:
        if place not in error.path.parents:
            raise
        raise OutputError(folder, error.reason.replace(str(place), str(folder.parent))) from None


@contextlib.contextmanager
def staged_file(path: Path) -> Iterator[Path]:
    """The path of a file in a new staging folder; it replaces `path` when the block ends without an exception.

    For files that are long in the making: unlike `atomic.replacing` it removes what killed processes left, and failures
    are OutputErrors.
    """
    try:
        recover(path)
        with staging(path) as place, standing_in(place, path):
            yield place / path.name
            (place / path.name).replace(path)
    except OSError as error:
        raise OutputError(
            path, f"cannot be written: {error.strerror or error}; free some space, or choose another place"
        ) from None


def publish(
    place: Path, folder: Path, content: record.Content, overwrite: bool = False, dropped: Collection[str] = ()
) -> None:
    """Complete a staging folder with a render.json of `content`, and move it to `folder`.

    Its files replace those of the same names in the render that is there. That render's other files stay and are listed
    in the new render.json too; with `overwrite` they are removed, unless somebody has altered them, and so are those
    called `dropped`.
    """
    paths = sorted(place.iterdir())
    with ThreadPoolExecutor() as pool:
        files = {path.name: stamp for path, stamp in zip(paths, pool.map(_stamp, paths), strict=True)}
    old = record.read(folder)
    kept = (
        {}
        if overwrite or old is None
        else {name: old.files[name] for name in superseded(folder, files) if name not in dropped}
    )
    complete = record.written(content, {**files, **kept})
    write_whole(place / RECORD, json.dumps(complete, indent=2, ensure_ascii=False) + "\n")
    _move(place, folder)


def _move(place: Path, folder: Path) -> None:
    """Move the files that a complete staging folder's record names to their place.

    If it is cut short, the next `recover` completes it.
    """
    new = record.load(place)
    if folder.is_symlink():
        raise OutputError(
            folder, "has become a link, which a render does not follow; remove it, or choose another --out"
        )
    if not folder.exists():
        place.rename(folder)
        return
    for name in superseded(folder, new.files):
        (folder / name).unlink(missing_ok=True)
    for name in (*new.files, RECORD):
        if smallfiles.is_regular(place / name):
            (place / name).replace(folder / name)


def _is_half_moved(place: Path) -> bool:
    """Whether only some files of a complete staging folder have been moved to their place."""
    new = record.read(place)
    return new is not None and not all(os.path.lexists(place / name) for name in new.own_files)


def recover(folder: Path) -> None:
    """Publish or remove the staging folders that ended processes left beside `folder`.

    A complete one is published if it replaces only what gbsep wrote; all others are removed.
    """
    prefix, swept = _prefix(folder), False
    left = re.compile(re.escape(prefix) + r"([0-9a-f]{8}|[0-9a-f]{16})\.partial\.lock")
    for path in list(folder.parent.iterdir()) if folder.parent.is_dir() else ():
        place = folder.parent / path.name.removesuffix(".lock")
        if not (left.fullmatch(path.name) and smallfiles.is_regular(path)) or place.is_symlink():
            continue
        lock = locks.take_over(place)
        if lock is not None:
            if _may_follow(place, folder):
                _move(place, folder)
            locks.discard(place, lock)
            swept = True
    if swept:
        remove_empty([folder.parent])


def _may_follow(place: Path, folder: Path) -> bool:
    """Whether a staging folder is complete and would replace no file of the user's."""
    new, old = record.read(place), record.read(folder)
    if new is None or folder.is_symlink():
        return False
    if old is None and os.path.lexists(folder / RECORD):
        return False
    for name in new.files:
        waits, there = os.path.lexists(place / name), os.path.lexists(folder / name)
        if waits and not _is_unaltered(place / name, new.files[name]):
            return False
        if waits and there and not (old and name in old.files and _is_unaltered(folder / name, old.files[name])):
            return False
    return True


def _prefix(folder: Path) -> str:
    return f".{folder.name}.{platform.node()}."


def _identity(folder: Path) -> tuple[int, int] | None:
    """Device and inode of a folder or link itself; None where there is none."""
    with contextlib.suppress(OSError):
        status = folder.lstat()
        return status.st_dev, status.st_ino
    return None


def remove_empty(folders: Collection[Path]) -> None:
    """Remove those of the folders that are empty; innermost first."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _stamp(path: Path) -> Stamp:
    status = path.stat()
    return Stamp(bytes=status.st_size, modified_ns=status.st_mtime_ns, sha256=content_hash(path))


def _is_unaltered(path: Path, stamp: Stamp) -> bool:
    """Whether `path` is a file, not a link, with the content that the stamp was taken of."""
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_size != stamp.bytes:
            return False
        return status.st_mtime_ns == stamp.modified_ns or content_hash(path) == stamp.sha256
    except (OSError, AudioFileError):
        return False
