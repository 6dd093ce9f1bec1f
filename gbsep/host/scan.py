"""Which plug-ins are on this machine.

Plug-ins are looked for in GBSEP_PLUGIN_PATH (folders, separated as in PATH) and then in the platform's standard
folders; of several with one name the first found counts, unless another vendor or format is asked for. Each file is
examined in a process of its own, and the outcome is kept: a file is examined again when the size or time of a part of
it and its hash have changed, or when pedalboard has. One that crashes, hangs or does not load is quarantined: it stays
in the list with the reason, under the names that it had, and is not loaded again until it changes or a new scan is
asked for.

References: Steinberg, "VST 3 Plug-in Locations"; Apple, "Audio Unit Hosting Guide".
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from .. import smallfiles
from ..errors import PluginError, PluginNotFound, SmallFileError, nearest, printable, sentence
from ..folders import cache_folder, write_whole
from ..hosted.parameters import PluginParameter, from_row
from .sandbox import Sandbox, limit, timeout_s

FOLDERS = {
    "linux": ("~/.vst3", "/usr/lib/vst3", "/usr/local/lib/vst3"),
    "darwin": (
        "~/Library/Audio/Plug-Ins/VST3",
        "/Library/Audio/Plug-Ins/VST3",
        "~/Library/Audio/Plug-Ins/Components",
        "/Library/Audio/Plug-Ins/Components",
    ),
}
FORMATS = {".vst3": "VST3", ".component": "Audio Unit"}
PATH_VARIABLE = "GBSEP_PLUGIN_PATH"
CACHE_VERSION = "4"


@dataclass(frozen=True)
class PluginInfo:
    """One plug-in as the scan found it. `channels` are the counts it takes, none for an instrument.

    `latency_frames` is at 44.1 kHz and with default parameters, which `parameters` show. In quarantine `reason` says
    why, and only `name` (the one it had when it last worked, or that of the file), `format` and `path` are known.
    """

    name: str
    path: Path
    format: str
    vendor: str = ""
    version: str = ""
    category: str = ""
    class_id: str = ""
    channels: tuple[int, ...] = ()
    latency_frames: int = 0
    parameters: tuple[PluginParameter, ...] = ()
    reason: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"path": str(self.path)}


def folders() -> list[Path]:
    """Where plug-ins are looked for, in order."""
    own = filter(None, os.environ.get(PATH_VARIABLE, "").split(os.pathsep))
    return [Path(place).expanduser() for place in (*own, *FOLDERS.get(sys.platform, ()))]


def files() -> list[Path]:
    """Every plug-in file or bundle in those folders, those within a folder in order of their names."""
    suffixes = [suffix for suffix in FORMATS if sys.platform == "darwin" or suffix != ".component"]
    seen: set[str] = set()
    return list(dict.fromkeys(path for folder in folders() for path in _walk(folder, suffixes, seen)))


def _walk(folder: Path, suffixes: list[str], seen: set[str]) -> Iterator[Path]:
    """Plug-ins in a folder and those below it, except for folders that were `seen` already: links may go in circles."""
    for place, subfolders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in seen:
            subfolders.clear()
            continue
        seen.add(real)
        bundles = sorted(name for name in (*subfolders, *names) if os.path.splitext(name)[1] in suffixes)
        subfolders[:] = sorted(set(subfolders) - set(bundles))
        yield from (Path(place, name) for name in bundles)


def examine(path: Path, load_timeout_s: float | None = None) -> list[PluginInfo]:
    """Load a plug-in file in a process of its own and list what is in it; never raises for what the file does.

    Raises PluginError when the process cannot be started.
    """
    form = FORMATS.get(path.suffix, "")
    with Sandbox(path.stem) as sandbox:
        try:
            rows = sandbox.ask("load", limit("load_timeout_s", load_timeout_s), "scan", path=str(path.absolute()))
        except PluginError as error:
            return [PluginInfo(path.stem, path, form, reason=printable(str(error)))]
    return [_info(row, path, form) for row in rows]


def _info(row: dict[str, Any], path: Path, form: str) -> PluginInfo:
    channels, parameters = tuple(row["channels"]), tuple(map(from_row, row["parameters"]))
    return PluginInfo(**row | {"path": path, "format": form, "channels": channels, "parameters": parameters})


Stamp = tuple[tuple[str, int, int], ...]
"""Name, size and time in nanoseconds of every file of a plug-in."""


def stamp(path: Path) -> Stamp:
    """What changes when a plug-in does, at a glance. Raises OSError."""
    parts = sorted(part for part in path.rglob("*") if part.is_file()) if path.is_dir() else [path]
    return tuple((str(part), (status := part.stat()).st_size, status.st_mtime_ns) for part in parts)


@dataclass(frozen=True)
class _Entry:
    """What the cache keeps of a file. Without a stamp it is tried each time."""

    stamp: Stamp
    sha256: str
    plugins: tuple[PluginInfo, ...]


@dataclass(frozen=True)
class _Cache:
    header: dict[str, str]
    files: dict[str, _Entry]


def plugins(refresh: bool = False) -> list[PluginInfo]:
    """All plug-ins of this machine, also those in quarantine, which have a `reason`.

    Files that have not changed since the last scan are not examined again, unless `refresh`. Raises ParameterError
    for a GBSEP_PLUGIN_TIMEOUT that is none, PluginError when no process can be started.
    """
    from concurrent.futures import ThreadPoolExecutor

    timeout_s()
    cache = _read_cache()
    found = files()
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        made = pool.map(lambda path: _entry(path, cache.get(str(path)), refresh), found)
        entries = dict(zip(map(str, found), made, strict=True))
    if entries != cache:
        _write_cache(entries)
    return [info for entry in entries.values() for info in entry.plugins]


def _entry(path: Path, known: _Entry | None, refresh: bool) -> _Entry:
    """What is in a file: as it is `known`, if that still holds, or examined now.

    One that cannot be read, or is no file (opening a FIFO would wait for ever), is in quarantine and tried each time.
    """
    names = [info.name for info in known.plugins] if known else []
    try:
        if not (path.is_dir() or stat.S_ISREG(path.stat().st_mode)):
            return _unread(path, names, "not a regular file")
        now = stamp(path)
        if known and not refresh and known.stamp == now:
            return known
        digest = _hash(now)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and path.is_symlink():
            return _unread(path, names, f"a link to {os.readlink(path)}, which is not there")
        return _unread(path, names, f"cannot be read: {error.strerror}")
    if known and not refresh and known.sha256 == digest:
        return replace(known, stamp=now)
    infos = examine(path)
    if infos and infos[0].reason:
        infos = _quarantined(path, names, infos[0].reason)
    return _Entry(now, digest, tuple(infos))


def _unread(path: Path, names: list[str], reason: str) -> _Entry:
    return _Entry((), "", tuple(_quarantined(path, names, reason)))


def _quarantined(path: Path, names: list[str], reason: str) -> list[PluginInfo]:
    """The plug-ins of a file that does not work: those that it had when it last did, or one of the file's name."""
    return [PluginInfo(name, path, FORMATS[path.suffix], reason=printable(reason)) for name in names or [path.stem]]


def _hash(stamp: Stamp) -> str:
    """SHA-256 of names and contents."""
    digest = hashlib.sha256()
    for name, size, _ in stamp:
        digest.update(json.dumps([name, size]).encode())
        with open(name, "rb") as stream:
            while data := stream.read(2**20):
                digest.update(data)
    return digest.hexdigest()


def _cache_file() -> Path:
    return cache_folder() / "plugins.json"


def _cache_header() -> dict[str, str]:
    from importlib.metadata import version

    return {"version": CACHE_VERSION, "pedalboard": version("pedalboard")}


def _read_cache() -> dict[str, _Entry]:
    """What was kept; nothing when it is another version's or damaged."""
    from pydantic import TypeAdapter

    with contextlib.suppress(SmallFileError, ValueError, RecursionError):
        cache = TypeAdapter(_Cache).validate_python(smallfiles.read_json(_cache_file(), 64_000_000))
        if cache.header == _cache_header():
            return cache.files
    return {}


def _write_cache(entries: dict[str, _Entry]) -> None:
    """Replace the cache as a whole; one that cannot be written only costs the next scan time."""
    cache = _Cache(_cache_header(), entries)
    with contextlib.suppress(OSError):
        write_whole(_cache_file(), json.dumps(asdict(cache), indent=1, default=str))


def matching(name: str, vendor: str | None = None, format: str | None = None) -> list[PluginInfo]:
    """The plug-ins of that name that can be used, those of one vendor or format where that is given, first the one
    that counts.

    Raises PluginNotFound naming the nearest, PluginError when the only ones of that name are in quarantine.
    """
    known = plugins()
    usable = [info for info in known if not info.reason]
    named = [info for info in usable if info.name == name]
    found = [info for info in named if vendor in (None, info.vendor) and format in (None, info.format)]
    if found:
        return found
    if named:
        asked = " and ".join(f"{key} {value!r}" for key, value in (("vendor", vendor), ("format", format)) if value)
        there = "; ".join(f"{info.path} is {info.format} by {info.vendor!r}" for info in named)
        raise PluginNotFound(printable(f"no plug-in {name!r} of {asked}: {there}; give one of these, or neither"))
    for info in known:
        if info.name == name:
            said = sentence(f"{info.path} is in quarantine: {info.reason}")
            raise PluginError(printable(f"{said} `gbsep plugins scan` tries it again"))
    looked_in = ", ".join(map(str, folders()))
    said = sentence(f"no plug-in {name!r} in {looked_in}{nearest(name, (info.name for info in usable))}")
    said += f" Other folders can be named in {PATH_VARIABLE}"
    if quarantined := len({info.path for info in known if info.reason}):
        said += f"; {quarantined} in quarantine: `gbsep plugins list` says why"
    raise PluginNotFound(printable(said))


def find(name: str, vendor: str | None = None, format: str | None = None) -> PluginInfo:
    """The plug-in of that name; raises as `matching` does."""
    return matching(name, vendor, format)[0]
