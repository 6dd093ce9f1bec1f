"""The stem cache: separated stems, kept on disk between runs. Our own, as entries are written and read in blocks.

    <folder>/entries/<key>/   manifest.json, and one file of raw float32 per stem, frames of interleaved channels
    <folder>/building/        entries being written, each beside the lock file its writer holds, and entries on their
                              way out; what a killed process leaves here is swept when the next entry is begun
    <folder>/hashes/          the content hash of each input file, with the size and times it was seen with
    <folder>/.lock            held for the moments in which entries come, are opened, or go

Only files with such names are touched, and under building/ only those with a lock file: all others belong to somebody
else. No link is followed. An entry appears by one rename, whole or not at all, and is removed by another, so several
processes may share a folder. If two build the same entry, both finish, and the first one's stays.

Stems are opened while the lock is held: on POSIX a Reader reads on when its entry has been evicted, on Windows an entry
that is open cannot be evicted. Sizes and CRC-32 are checked when an entry is opened, before anything is read from it; a
damaged one is removed and missed.

The folder is `GBSEP_CACHE` or the user's cache folder, its size `GBSEP_CACHE_SIZE` or 10 GB. The least
recently used entries go first. What would not fit at all is held for the run in unnamed temporary files instead.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from ..atomic import write_whole
from ..audio import BLOCK_FRAMES, Block, Reader, check_finite
from ..errors import (
    AudioError,
    OutputError,
    ParameterError,
    SeparationFailed,
    SmallFileError,
)
from ..io.spool import SampleFile, temporary_path
from ..schema import Lenient, Text, validated
from . import locks, smallfiles
from .folders import cache_folder, named
from .hashes import forget
from .identity import json_hash

ENTRY = re.compile(r"[0-9a-f]{64}")
BUILD = re.compile(r"[0-9a-f]{16}")
"""The names of entries, and of folders under building/."""

MAX_STEMS = 64

FORMAT = 1
"""Raised whenever the layout of an entry changes; entries of another format are removed and missed."""

DEFAULT_SIZE = "10 GB"

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_LOCK_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Cache:
    """A cache folder and the bytes that its entries may take together."""

    folder: Path
    limit_bytes: int


@dataclass(frozen=True)
class Usage:
    """How much is in a cache."""

    entries: int
    bytes: int


class Unusable(OutputError):
    """The cache's folder cannot be used; callers go on without it."""


class _Stem(Lenient):
    name: Text
    crc32: int = Field(ge=0, lt=2**32)


class _Manifest(Lenient):
    """manifest.json"""

    format: Literal[1]
    sample_rate: int = Field(ge=1, lt=2**31)
    channels: int = Field(ge=1, lt=2**16)
    frames: int = Field(ge=0, lt=2**48)
    stems: Annotated[tuple[_Stem, ...], Field(strict=False, max_length=MAX_STEMS)]


@dataclass(frozen=True)
class Shape:
    """The shape of a set of stems."""

    names: tuple[str, ...]
    sample_rate: int
    channels: int
    frames: int

    @property
    def bytes_per_stem(self) -> int:
        return 4 * self.channels * self.frames


def locate(folder: str | Path | None = None, size: str | int | None = None) -> Cache:
    """The cache in `folder` of at most `size` (bytes, or text such as "500 MB"); defaults as in the module's docstring.

    Raises ParameterError for a size that is not valid.
    """
    folder = folder or cache_folder()
    size = size if size is not None else os.environ.get("GBSEP_CACHE_SIZE") or DEFAULT_SIZE
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?b|)", str(size).strip().lower())
    if not match:
        raise ParameterError("cache size", size, 'a number of bytes, or one with a unit such as "500 MB" or "20 GB"')
    return Cache(Path(folder).expanduser().absolute(), int(float(match[1]) * _UNITS[match[2]]))


def key(
    *,
    input_sha256: str,
    start_s: float,
    duration_s: float | None,
    backend: str,
    settings: Mapping[str, Any],
    identity: Mapping[str, Any],
    seed: int,
    separation_version: int,
    wanted: Iterable[str],
) -> str:
    """The name of an entry: SHA-256 of everything that changes the stems, as JSON with sorted keys.

    `duration_s` None means to the end; the order of `wanted` does not matter.
    """
    parts = {
        "input_sha256": input_sha256,
        "start_s": float(start_s),
        "duration_s": None if duration_s is None else float(duration_s),
        "backend": backend,
        "settings": dict(settings),
        "identity": dict(identity),
        "seed": seed,
        "separation_version": separation_version,
        "wanted": sorted(wanted),
    }
    return json_hash(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)


def get(cache: Cache, key: str, shape: Shape | None = None) -> dict[str, Reader] | None:
    """The stems of an entry; None when it is missing, damaged, or of another shape than `shape`, if that is given.

    Raises Unusable.
    """
    if not os.path.lexists(cache.folder / "entries" / key):
        return None
    with _locked(cache):
        opened = _open(cache, key, shape)
    if opened is None:
        return None
    stems, checksums = opened
    if all(_checksum(reader) == checksum for reader, checksum in zip(stems.values(), checksums, strict=True)):
        return stems
    del stems, opened
    with _locked(cache):
        _remove(cache, cache.folder / "entries" / key)
    return None


def put(cache: Cache, key: str, blocks: Iterable[Mapping[str, Block]], shape: Shape) -> dict[str, Reader]:
    """Write the stems in `blocks`, block by block, and return them as Readers of the cache.

    Raises SeparationFailed when the blocks are not of that shape or not finite, Unusable when the folder cannot be
    written or the disk is full. Either way, and when `blocks` raises, nothing is kept.
    """
    size = shape.bytes_per_stem * len(shape.names)
    if size > cache.limit_bytes:
        return spool(blocks, shape)
    with _building(cache) as folder:
        with contextlib.ExitStack() as stack:
            raw = [stack.enter_context((folder / f"{number}.f32").open("wb")) for number in range(len(shape.names))]
            checksums = _write(blocks, shape, [SampleFile(file, shape.channels) for file in raw], folder)
        stems = [{"name": name, "crc32": crc32} for name, crc32 in zip(shape.names, checksums, strict=True)]
        manifest = {
            "format": FORMAT,
            "sample_rate": shape.sample_rate,
            "channels": shape.channels,
            "frames": shape.frames,
            "stems": stems,
        }
        with _writing(folder):
            write_whole(folder / "manifest.json", json.dumps(manifest))
        with _locked(cache), _writing(folder):
            entry = cache.folder / "entries" / key
            opened = _open(cache, key, shape)
            if opened is None:
                _evict(cache, cache.limit_bytes - size)
                folder.rename(entry)
                opened = _open(cache, key, shape)
    if opened is None:
        raise Unusable(entry, "was damaged the moment it was written: check the disk, or use --no-cache")
    return opened[0]


def spool(blocks: Iterable[Mapping[str, Block]], shape: Shape) -> dict[str, Reader]:
    """Like `put`, but kept only as long as the Readers are: in unnamed temporary files."""
    folder = temporary_path().parent
    with _writing(folder):
        files = [SampleFile(tempfile.TemporaryFile(), shape.channels) for _ in shape.names]  # noqa: SIM115
    _write(blocks, shape, files, folder)
    return {name: file.reader(shape.sample_rate, shape.frames) for name, file in zip(shape.names, files, strict=True)}


def usage(cache: Cache) -> Usage:
    """How many entries there are, and their size."""
    sizes = [size for _, size, _ in _entries(cache)]
    return Usage(len(sizes), sum(sizes))


def clear(cache: Cache) -> Usage:
    """Remove every entry, remembered hash and leftover, except what other processes are building; what was removed."""
    before = usage(cache)
    if cache.folder.is_dir():
        with _locked(cache):
            _sweep(cache)
            _evict(cache, 0)
            forget(cache.folder)
    after = usage(cache)
    return Usage(before.entries - after.entries, before.bytes - after.bytes)


# Entries


@contextlib.contextmanager
def _locked(cache: Cache) -> Iterator[None]:
    with contextlib.ExitStack() as held:
        with _writing(cache.folder):
            cache.folder.mkdir(parents=True, exist_ok=True)
            for name in ("entries", "building", ".lock"):
                if (cache.folder / name).is_symlink():
                    raise Unusable(
                        cache.folder / name, "is a link, which the cache does not follow: name another folder"
                    )
            try:
                held.enter_context(locks.holding(cache.folder / ".lock", _LOCK_TIMEOUT_S))
            except TimeoutError:
                raise Unusable(
                    cache.folder, "another process does not let go of the cache: end it, or use --no-cache"
                ) from None
        yield


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unusable(
            path,
            f"cannot be written: {error.strerror or error}; make room, or set GBSEP_CACHE or TMPDIR to another folder",
        ) from error


@contextlib.contextmanager
def _building(cache: Cache) -> Iterator[Path]:
    """An empty folder to build an entry in; its lock shows that the builder is alive."""
    folder = cache.folder / "building" / secrets.token_hex(8)
    with _locked(cache), _writing(folder):
        _sweep(cache)
        (cache.folder / "entries").mkdir(exist_ok=True)
        folder.parent.mkdir(exist_ok=True)
        lock = locks.begin(folder)
    try:
        yield folder
    finally:
        locks.discard(folder, lock)


def _sweep(cache: Cache) -> None:
    """Remove what ended processes left under building/. The cache must be locked."""
    for folder in named(cache.folder / "building", BUILD, ".lock"):
        with contextlib.suppress(OSError):
            lock = locks.take_over(folder) if smallfiles.is_regular(folder.with_suffix(".lock")) else None
            if lock is not None:
                locks.discard(folder, lock)


def _entries(cache: Cache) -> list[tuple[int, int, Path]]:
    """(time of last use in ns, bytes, folder) of each entry."""
    found = []
    for entry in named(cache.folder / "entries", ENTRY):
        with contextlib.suppress(OSError):
            if not entry.is_symlink() and entry.is_dir():
                size = sum(path.lstat().st_size for path in entry.iterdir())
                found.append((entry.stat().st_mtime_ns, size, entry))
    return found


def _evict(cache: Cache, limit_bytes: int) -> None:
    """Remove the least recently used entries until the others fit `limit_bytes`. The cache must be locked."""
    entries = sorted(_entries(cache))
    total = sum(size for _, size, _ in entries)
    for _, size, entry in entries:
        if total > limit_bytes:
            _remove(cache, entry)
            total -= size


def _remove(cache: Cache, entry: Path) -> None:
    """Remove an entry by way of building/, which is swept if this is cut short. The cache must be locked."""
    leaving = cache.folder / "building" / secrets.token_hex(8)
    lock = leaving.with_suffix(".lock")
    # On Windows an open file keeps its folder: the entry is then removed later.
    with contextlib.suppress(OSError):
        leaving.parent.mkdir(exist_ok=True)
        lock.touch(exist_ok=False)
        entry.rename(leaving)
        shutil.rmtree(leaving)
    with contextlib.suppress(OSError):
        if not leaving.exists():
            lock.unlink(missing_ok=True)


def _open(cache: Cache, key: str, wanted: Shape | None) -> tuple[dict[str, Reader], list[int]] | None:
    """The stems of an entry and their checksums, marked as last used; removes an entry that is obviously damaged."""
    entry = cache.folder / "entries" / key
    if not os.path.lexists(entry):
        return None
    try:
        if entry.is_symlink():
            raise ValueError("a link")
        path = entry / "manifest.json"
        manifest = validated(path, _Manifest, smallfiles.read_json(path, follow=False))
        names = tuple(stem.name for stem in manifest.stems)
        shape = Shape(names, manifest.sample_rate, manifest.channels, manifest.frames)
        if len(set(names)) < len(names) or shape != (wanted or shape):
            raise ValueError(f"{shape} is not {wanted}")
        stems = {}
        for number, name in enumerate(names):
            file = smallfiles.open_regular(entry / f"{number}.f32", follow=False)
            stems[name] = SampleFile(file, shape.channels).reader(shape.sample_rate, shape.frames)
            if os.fstat(file.fileno()).st_size != shape.bytes_per_stem:
                raise ValueError(f"{number}.f32 is not of that shape")
        os.utime(entry)
    except (OSError, ValueError, SmallFileError):
        _remove(cache, entry)
        return None
    return stems, [stem.crc32 for stem in manifest.stems]


# Samples


def _write(blocks: Iterable[Mapping[str, Block]], shape: Shape, files: Sequence[SampleFile], folder: Path) -> list[int]:
    """Write each stem into its file in `folder`; the CRC-32 of each."""
    checksums = [0] * len(files)
    frames = 0
    for block in blocks:
        count = next(iter(block.values())).shape[1]
        for number, (name, file) in enumerate(zip(shape.names, files, strict=True)):
            if name not in block or block[name].shape != (shape.channels, count):
                found = block[name].shape if name in block else "nothing"
                raise SeparationFailed(
                    f"stem {name!r} brought {found}, not {(shape.channels, count)}, at frame {frames}"
                )
            try:
                check_finite(block[name], frames)
            except AudioError as error:
                raise SeparationFailed(f"stem {name!r}: {error}") from error
            with _writing(folder):
                written = file.append(block[name])
            checksums[number] = zlib.crc32(written, checksums[number])
        frames += count
    if frames != shape.frames:
        raise SeparationFailed(f"separation gave {frames} frames of {shape.frames}")
    return checksums


def _checksum(reader: Reader) -> int:
    crc32 = 0
    for block in reader.blocks(BLOCK_FRAMES):
        crc32 = zlib.crc32(np.ascontiguousarray(block.T).data, crc32)
    return crc32
