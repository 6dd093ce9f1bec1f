"""Inputs and outputs that are not on this machine: any URL that fsspec knows (s3, gs, http, file, memory, ...).

An input is copied into the `downloads` folder of gbsep's cache, under a name that changes when the file does; the copy
is kept for a week after its last use.

Where renders go by URL, each is made in a local stand-in of its folder: what is there already has the same record, and
files of the same size and time, without their content. So all rules for existing output are those of `outputs`. A
finished render is uploaded into a folder beside its destination, render.json last, and moved to its place from there,
render.json last again; what was cut short is completed or removed before the place is next looked at.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from .. import outputs
from ..errors import AudioFileError, GbsepError, OutputError
from ..folders import cache_folder

STAMPS = {"size", "mtime", "etag", "lastmodified", "last-modified", "generation", "md5hash", "crc32c", "checksum"}
"""What tells two states of a file apart, by the words that file systems have for it, in lower case."""

KEPT_S = 7 * 24 * 3600


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
    parts = urlsplit(url)
    return Path(parts.netloc) / unquote(parts.path).lstrip("/")


# Inputs


def find(url: str, out: str = "") -> list[str]:
    """The files that a URL with `*`, or one that ends in `/`, stands for, sorted; else the URL itself.

    Hidden ones are left out, and what gbsep made: what lies in `out`, or in a folder that holds a render.
    Raises AudioFileError.
    """
    if not ("*" in url or url.endswith("/")):
        return [url]
    with _told(AudioFileError, url, "cannot be listed"):
        system, path = _system(url)
        system.invalidate_cache()
        root = re.split(r"[*?\[]", path)[0].rpartition("/")[0] if "*" in url else path
        own = _system(out)[1] if is_url(out) else None

        @functools.cache
        def is_made(folder: str) -> bool:
            record = f"{folder}/{outputs.RECORD}"
            return folder == own or (system.exists(record) and outputs.record_in(system.cat_file(record)) is not None)

        def is_wanted(name: str) -> bool:
            *folders, last = name.removeprefix(root).lstrip("/").split("/")
            places = itertools.accumulate(folders, lambda above, folder: f"{above}/{folder}", initial=root)
            hidden = any(part.startswith(".") for part in (*folders, last))
            return not hidden and not any(is_made(place) for place in itertools.islice(places, 1, None))

        found = system.glob(path) if "*" in url else system.find(path)
        return sorted(system.unstrip_protocol(name) for name in found if is_wanted(name))


def fetch(source: Path | str) -> Path:
    """The recording as a file on this machine: itself, or a copy of what the URL names. Raises AudioFileError."""
    if isinstance(source, Path):
        return source
    with _told(AudioFileError, source, "cannot be fetched"):
        system, path = _system(source)
        info = {key: str(value) for key, value in system.info(path).items() if key.lower() in STAMPS}
        key = hashlib.sha256(json.dumps([source, sorted(info.items())]).encode()).hexdigest()[:32]
        copy = cache_folder() / "downloads" / key / (path_of(source).name or "recording")
        if not copy.exists():
            _forget(copy.parents[1])
            copy.parent.mkdir(parents=True, exist_ok=True)
            partial = copy.with_name(f".{secrets.token_hex(4)}.part")
            try:
                system.get_file(path, str(partial))
                partial.replace(copy)
            finally:
                partial.unlink(missing_ok=True)
        os.utime(copy.parent)
        return copy


def _forget(downloads: Path) -> None:
    """Remove what nobody has used for long, and what killed processes left in there."""
    for folder in downloads.iterdir() if downloads.is_dir() else ():
        if time.time() - folder.stat().st_mtime > KEPT_S:
            shutil.rmtree(folder, ignore_errors=True)


# Outputs


def stand_in_for(url: str) -> Path:
    """The local folder in which renders for `url` are made."""
    return cache_folder() / "uploads" / hashlib.sha256(url.encode()).hexdigest()[:16]


def mirror(url: str, folder: Path) -> None:
    """Make `folder` a stand-in of the render at `url`. Raises OutputError when that cannot be looked at."""
    with _told(OutputError, url, "cannot be looked at"):
        system, path = _system(url)
        system.invalidate_cache()
        _recover(system, path)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            there = {Path(info["name"]).name: info for info in system.ls(path, detail=True) if info["type"] == "file"}
        except FileNotFoundError:
            return
        folder.mkdir(parents=True)
        if outputs.RECORD in there:
            (folder / outputs.RECORD).write_bytes(system.cat_file(f"{path}/{outputs.RECORD}"))
            del there[outputs.RECORD]
        record = outputs.read_record(folder)
        listed = record["files"] if record else {}
        for name, info in there.items():
            with (folder / name).open("wb") as file:
                file.truncate(info["size"])
            modified_ns = listed.get(name, {}).get("modified_ns", 0)
            os.utime(folder / name, ns=(modified_ns, modified_ns))


def upload(folder: Path, url: str) -> None:
    """Put the finished render in `folder` in place of what is at `url`, and remove it here. Raises OutputError."""
    with _told(OutputError, url, "cannot be written"):
        system, path = _system(url)
        place = _staging(path)
        record = outputs.read_record(folder)
        if record is None:
            raise OutputError(folder, "holds no finished render; render again")
        system.makedirs(place, exist_ok=True)
        for name in (*record["files"], outputs.RECORD):
            system.put_file(str(folder / name), f"{place}/{name}")
        _publish(system, place, path)
        shutil.rmtree(folder, ignore_errors=True)


def write_text(url: str, text: str) -> None:
    """Write a small file. Raises OutputError."""
    with _told(OutputError, url, "cannot be written"):
        system, path = _system(url)
        system.makedirs(path.rpartition("/")[0], exist_ok=True)
        system.pipe_file(path, text.encode())


def _staging(path: str) -> str:
    above, _, name = path.rpartition("/")
    return f"{above}/.{name}.partial"


def _recover(system: Any, path: str) -> None:
    """Finish or remove what an upload that was cut short left beside `path`."""
    place = _staging(path)
    if system.exists(f"{place}/{outputs.RECORD}"):
        _publish(system, place, path)
    elif system.exists(place):
        system.rm(place, recursive=True)


def _publish(system: Any, place: str, path: str) -> None:
    new = {Path(name).name for name in system.ls(place, detail=False)}
    old = json.loads(system.cat_file(f"{path}/{outputs.RECORD}")) if system.exists(f"{path}/{outputs.RECORD}") else {}
    new_record = json.loads(system.cat_file(f"{place}/{outputs.RECORD}"))
    system.makedirs(path, exist_ok=True)
    for name in set(old.get("files", ())) - set(new_record["files"]):
        if system.exists(f"{path}/{name}"):
            system.rm(f"{path}/{name}")
    for name in sorted(new, key=lambda name: name == outputs.RECORD):
        system.mv(f"{place}/{name}", f"{path}/{name}")
    if system.exists(place):
        system.rm(place, recursive=True)


def _system(url: str) -> tuple[Any, str]:
    """The file system of a URL, and its path there."""
    import fsspec

    system, path = fsspec.core.url_to_fs(url)
    return system, path.rstrip("/")


@contextlib.contextmanager
def _told(kind: type[AudioFileError] | type[OutputError], url: str, what: str) -> Iterator[None]:
    """Every file system has errors of its own; they become `kind`, in one line."""
    try:
        yield
    except GbsepError:
        raise
    except FileNotFoundError:
        raise kind(url, "no such file; check the URL") from None
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise kind(url, f"{what}: {reason}") from None
