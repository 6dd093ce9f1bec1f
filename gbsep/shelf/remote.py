"""Inputs and outputs that are not on this machine: any URL that fsspec knows (s3, gs, http, file, memory, ...).

An input is copied into the `downloads` folder of gbsep's cache, under a name that changes when the file does; the copy
is kept for a week after its last use, or for a day when all are larger than the cache may be. A file:// URL is read
where it is.

A render that goes to a URL is made in a local stand-in of its folder, in the `uploads` folder of the cache, which is
removed afterwards. The stand-in has the record of what is at the URL, and files of the same sizes and times without
their content, so the rules for existing output are those of `folder`. A finished render is uploaded into a folder
beside its destination, `.<name>.<token>.partial`, render.json last, and moved from there, render.json last again. An
upload that was cut short is completed or removed before its destination is next used.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ..errors import AudioFileError, GbsepError, OutputError, SmallFileError
from ..store import smallfiles
from ..store import stemcache as cache
from ..store.folders import cache_folder, named
from ..store.identity import json_hash
from . import folder as outputs
from . import record

STAMPS = {"size", "mtime", "etag", "lastmodified", "last-modified", "generation", "md5hash", "crc32c", "checksum"}
"""Keys of a file's info, in lower case, that change when the file does; each file system has some of them."""

KINDS = {"downloads": re.compile("[0-9a-f]{32}"), "uploads": re.compile("[0-9a-f]{16}-[0-9a-f]{8}")}
"""The folders in gbsep's cache, and patterns of its names in them; anything else there is not touched."""

DAY_S = 24 * 3600
KEPT_S = 7 * DAY_S


def is_url(word: str) -> bool:
    """Whether a word names a place by URL; a drive letter is none.

    >>> is_url("s3://bucket/song.wav"), is_url("C:/song.wav"), is_url("song.wav")
    (True, False, False)
    """
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", word) is not None


def path_of(url: str) -> Path:
    """A URL's place as a path, without its query: for names of tracks.

    >>> path_of("https://host/album/a%20song.wav?key=1").parts
    ('host', 'album', 'a song.wav')
    """
    parts = urlsplit(re.sub("[\ud800-\udfff]", "_", url))
    return Path(parts.netloc) / unquote(parts.path).lstrip("/")


# Inputs


def find(url: str, out: str = "") -> list[str]:
    """The files that a URL with `*`, or one that ends in `/`, stands for, sorted; else the URL itself.

    Hidden ones are left out, and what gbsep made: what lies in `out`, or in a folder that holds a render.
    Raises AudioFileError.
    """
    if not ("*" in url or url.endswith("/")):
        return [url]
    with _translated(AudioFileError, url, "cannot be listed"):
        system, path = _system(url)
        system.invalidate_cache()
        root = re.split(r"[*?\[]", path)[0].rpartition("/")[0] if "*" in url else path
        own = _system(out)[1] if is_url(out) else None

        @functools.cache
        def is_made(folder: str) -> bool:
            return folder == own or _record(system, folder) is not None

        def is_wanted(name: str) -> bool:
            *folders, last = name.removeprefix(root).lstrip("/").split("/")
            places = itertools.accumulate(folders, lambda above, folder: f"{above}/{folder}", initial=root)
            hidden = any(part.startswith(".") for part in (*folders, last))
            return not hidden and not any(is_made(place) for place in itertools.islice(places, 1, None))

        found = system.glob(path) if "*" in url else system.find(path)
        return sorted(system.unstrip_protocol(name) for name in found if is_wanted(name))


class NotFetched(AudioFileError):
    """A URL exists, but there is no copy of it on this machine, and none may be downloaded."""

    def __init__(self, url: str):
        super().__init__(url, "is not looked at before it is downloaded")


def fetch(source: Path | str, download: bool = True) -> Path:
    """The recording as a file on this machine: itself, or a copy of what the URL names.

    Raises AudioFileError, or NotFetched where a download would be needed and `download` is False.
    """
    if isinstance(source, Path):
        return source
    with _translated(AudioFileError, source, "cannot be fetched"):
        from fsspec.implementations.local import LocalFileSystem

        system, path = _system(source)
        info = {key: str(value) for key, value in system.info(path).items() if key.lower() in STAMPS}
        if isinstance(system, LocalFileSystem):
            return Path(path)
        key = json_hash([source, sorted(info.items())])[:32]
        copy = cache_folder() / "downloads" / key / (path_of(source).name or "recording")
        if not (copy.exists() or download):
            raise NotFetched(source)
        if not copy.exists():
            sweep()
            outputs.recover(copy)
            with outputs.staging(copy) as place:
                system.get_file(path, str(place / copy.name))
                (place / copy.name).replace(copy)
        if download:
            os.utime(copy.parent)
        return copy


def copies(source: Path | str) -> list[Path]:
    """Where a recording may be on this machine: its own path, or copies of its URL; the network is not asked."""
    if isinstance(source, Path):
        return [source]
    if source.startswith("file://"):
        return [Path(_system(source)[1])]
    name = path_of(source).name or "recording"
    folders = named(cache_folder() / "downloads", KINDS["downloads"])
    return [folder / name for folder in folders if not folder.is_symlink() and smallfiles.is_regular(folder / name)]


# What is kept here


def sweep() -> None:
    """Remove copies that were not used for long, and what killed processes left."""
    left_bytes, limit_bytes = usage().bytes, cache.locate().limit_bytes
    for used_at, size, folder in sorted(_kept()):
        if time.time() - used_at > (KEPT_S if left_bytes <= limit_bytes else DAY_S):
            shutil.rmtree(folder, ignore_errors=True)
            left_bytes -= size


def usage() -> cache.Usage:
    """How many copies of inputs and stand-ins of outputs are in gbsep's cache, and their size."""
    sizes = [size for _, size, _ in _kept()]
    return cache.Usage(len(sizes), sum(sizes))


def clear() -> cache.Usage:
    """Remove all of them, even those that another process uses; how many, and their size."""
    before = usage()
    for _, _, folder in _kept():
        shutil.rmtree(folder, ignore_errors=True)
    after = usage()
    return cache.Usage(before.entries - after.entries, before.bytes - after.bytes)


def _kept() -> list[tuple[float, int, Path]]:
    """(time of last use in seconds since the epoch, bytes, folder) of each."""
    found = []
    for kind, names in KINDS.items():
        for folder in named(cache_folder() / kind, names):
            with contextlib.suppress(OSError):  # another process sweeps as well
                if not folder.is_symlink() and folder.is_dir():
                    size = sum(path.lstat().st_size for path in folder.rglob("*") if smallfiles.is_regular(path))
                    found.append((folder.stat().st_mtime, size, folder))
    return found


# Outputs


def check_destination(url: str) -> None:
    """Raise OutputError for a URL that names the top of a disk, or climbs with `..` to where nobody can foresee."""
    if ".." in unquote(url).split("/"):
        raise OutputError(url, "climbs out of its folder with ..; name the folder itself")
    if re.fullmatch(r"(file|local):/*", url, re.IGNORECASE):
        raise OutputError(url, "names no folder; add one, as in file:///home/me/stems")


def stand_in_for(url: str) -> Path:
    """A new local folder in which this batch makes its renders for `url`."""
    return (
        cache_folder()
        / "uploads"
        / f"{hashlib.sha256(url.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}-{secrets.token_hex(4)}"
    )


def mirror(url: str, folder: Path, look_only: bool = False) -> None:
    """Make `folder` a stand-in of the render at `url`; with `look_only` nothing changes at the URL.

    Raises OutputError when the URL cannot be read.
    """
    with _translated(OutputError, url, "cannot be looked at"):
        system, path = _system(url)
        system.invalidate_cache()
        if not look_only:
            _recover(system, path)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            there = {Path(info["name"]).name: info for info in system.ls(path, detail=True) if info["type"] == "file"}
        except FileNotFoundError:
            return
        folder.mkdir(parents=True)
        if outputs.RECORD in there:
            (folder / outputs.RECORD).write_bytes(_cat(system, f"{path}/{outputs.RECORD}"))
            del there[outputs.RECORD]
        found = record.read(folder)
        listed = found.files if found else {}
        for name, info in there.items():
            with (folder / name).open("xb") as file:
                file.truncate(info["size"])
            modified_ns = listed[name].modified_ns if name in listed else 0
            os.utime(folder / name, ns=(modified_ns, modified_ns))


def upload(folder: Path, url: str) -> None:
    """Put the finished render in `folder` in place of what is at `url`. Raises OutputError."""
    with _translated(OutputError, url, "cannot be written"):
        system, path = _system(url)
        above, _, name = path.rpartition("/")
        place = f"{above}/.{name}.{secrets.token_hex(4)}.partial"
        found = record.read(folder)
        if found is None:
            raise OutputError(folder, "holds no finished render; render again")
        system.makedirs(place, exist_ok=True)
        for name in (*found.own_files, outputs.RECORD):  # what else there is was kept there, and is not here
            system.put_file(str(folder / name), f"{place}/{name}")
        _publish(system, place, path)


def read_bytes(url: str, max_bytes: int) -> bytes | None:
    """A small file, None where there is none. Raises OutputError, SmallFileError for one that is larger."""
    with _translated(OutputError, url, "cannot be looked at"):
        system, path = _system(url)
        system.invalidate_cache()
        return _cat(system, path, max_bytes) if system.exists(path) else None


def write_text(url: str, text: str) -> None:
    """Write a small file. Raises OutputError."""
    with _translated(OutputError, url, "cannot be written"):
        system, path = _system(url)
        system.makedirs(path.rpartition("/")[0], exist_ok=True)
        system.pipe_file(path, text.encode())


def _recover(system: Any, path: str) -> None:
    """Finish or remove what uploads that were cut short left beside `path`."""
    above, _, name = path.rpartition("/")
    left = re.compile(rf"\.{re.escape(name)}\.[0-9a-f]{{8}}\.partial")
    for place in system.ls(above, detail=False) if system.exists(above) else ():
        place = place.rstrip("/")
        if left.fullmatch(place.rpartition("/")[2]):
            if _record(system, place) is not None:
                _publish(system, place, path)
            else:
                system.rm(place, recursive=True)


def _publish(system: Any, place: str, path: str) -> None:
    waiting = {Path(name).name for name in system.ls(place, detail=False)}
    old, new = _record(system, path), _record(system, place)
    assert new is not None
    system.makedirs(path, exist_ok=True)
    for name in set(old.files if old else ()) - set(new.files):
        if system.exists(f"{path}/{name}"):
            system.rm(f"{path}/{name}")
    for name in (*new.files, outputs.RECORD):
        if name in waiting:
            system.mv(f"{place}/{name}", f"{path}/{name}")
    if system.exists(place):
        system.rm(place, recursive=True)


def _record(system: Any, folder: str) -> record.Record | None:
    """The record of the render in a remote folder; None where there is no usable one."""
    path = f"{folder}/{outputs.RECORD}"
    try:
        return record.parse(path, _cat(system, path)) if system.exists(path) else None
    except SmallFileError:
        return None


def _cat(system: Any, path: str, max_bytes: int = record.MAX_BYTES) -> bytes:
    """A small file. Raises SmallFileError for one that is larger."""
    if (system.info(path).get("size") or 0) > max_bytes:
        raise SmallFileError(path, f"is larger than {max_bytes / 1e6:g} MB")
    return bytes(system.cat_file(path))


def _system(url: str) -> tuple[Any, str]:
    """The file system of a URL, and its path there."""
    import fsspec

    system, path = fsspec.core.url_to_fs(url)
    return system, path.rstrip("/")


@contextlib.contextmanager
def _translated(kind: type[AudioFileError] | type[OutputError], url: str, what: str) -> Iterator[None]:
    """Turn the errors of a file system into `kind`, with the reason in one line."""
    try:
        yield
    except GbsepError:
        raise
    except Exception as error:
        cause = _hidden_cause(error)
        if isinstance(error, FileNotFoundError) and cause is None:
            raise kind(url, "no such file; check the URL") from None
        reason = " ".join(str(cause or error).split()) or type(cause or error).__name__
        raise kind(url, f"{what}: {reason}") from None


def _hidden_cause(error: Exception) -> BaseException | None:
    """The cause of a FileNotFoundError that is not about the file: fsspec raises it for a server that is down."""
    cause = error.__cause__
    if not isinstance(error, FileNotFoundError) or isinstance(cause, FileNotFoundError):
        return None
    answers = not isinstance(cause, OSError) and getattr(cause, "status", 404) in (404, 410)
    return None if answers else cause
