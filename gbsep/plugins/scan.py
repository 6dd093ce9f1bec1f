"""Which plug-ins are on this machine.

Plug-ins are looked for in GBSEP_PLUGIN_PATH (folders, separated as in PATH) and then in the platform's standard
folders; of several with one name the first found counts, unless another vendor or format is asked for. A file is asked
for the names of its plug-ins, and each plug-in is examined with a limit of its own, in a process apart. What comes out
is kept plug-in by plug-in: a file is examined again when the size or time of a part of it and its hash have changed. A
plug-in that crashes, hangs or does not load is quarantined: it stays in the list with the reason, under the name that
it had, and is not loaded again until its file changes or that is asked for.

References: Steinberg, "VST 3 Plug-in Locations"; Apple, "Audio Unit Hosting Guide".
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..atomic import write_whole
from ..errors import (
    PluginCrashed,
    PluginError,
    PluginNotFound,
    PluginNotStarted,
    SmallFileError,
    nearest,
    printable,
    sentence,
)
from ..store import smallfiles
from ..store.folders import cache_folder
from ..store.identity import feed, path_hash
from .sandbox import Sandbox, limit, timeout_s
from .worker.parameters import PluginParameter, from_row
from .worker.vst3 import ClassRow

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
CACHE_VERSION = "6"
MOST_KEPT_BYTES = 2**28
KEEP_EVERY_S = 1.0
"""So much of a scan is lost at most when it is interrupted."""


@dataclass(frozen=True)
class PluginInfo:
    """One plug-in as the scan found it.

    `layouts` are the channels that go in and come out: (1, 1) and (2, 2) where it takes mono and stereo signals as they
    are, else the one that it has; none for an instrument. `sidechain` says whether it has a bus for a key.
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
    layouts: tuple[tuple[int, int], ...] = ()
    sidechain: bool = False
    latency_frames: int = 0
    parameters: tuple[PluginParameter, ...] = ()
    reason: str = ""

    @property
    def channels(self) -> tuple[int, ...]:
        """The channels of a signal that suit it best; none for an instrument."""
        plain = tuple(ins for ins, outs in self.layouts if ins == outs and ins in (1, 2))
        return plain or ((2,) if self.layouts else ())

    @property
    def is_effect(self) -> bool:
        return bool(self.layouts)

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"path": str(self.path), "channels": self.channels}


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


def names(path: Path, load_timeout_s: float | None = None) -> list[ClassRow]:
    """The plug-ins that a file lists, none of them loaded. Raises PluginError when the file does not load."""
    with Sandbox(path.stem) as sandbox:
        rows = sandbox.ask("load", limit("load_timeout_s", load_timeout_s), "names", path=str(path.absolute()))
    return [ClassRow(**row) for row in rows]


def examine(path: Path, wanted: Sequence[str], load_timeout_s: float | None = None) -> Iterator[PluginInfo]:
    """Load each of the plug-ins `wanted` of a file, one after the other, and say what it is.

    Never raises for what the file does: a plug-in that does not load has a `reason`. They share a process until one of
    them ends it. Raises PluginError when no process can be started.
    """
    form = FORMATS.get(path.suffix, "")
    sandbox, examined = None, 0
    try:
        for name in wanted:
            for _ in range(2):
                if sandbox is None or not sandbox.is_open:
                    sandbox, examined = Sandbox(name), 0
                sandbox.call_it(name)
                try:
                    about = limit("load_timeout_s", load_timeout_s)
                    row = sandbox.ask("load", about, "examine", path=str(path.absolute()), name=name)
                    info = _info(row, path, form)
                except PluginError as error:
                    info = PluginInfo(name, path, form, reason=printable(str(error)))
                    sandbox.close()
                    if examined and isinstance(error, PluginCrashed):
                        continue  # it may be another one's fault: tried once more in a process of its own
                examined += 1
                break
            yield info
    finally:
        if sandbox is not None:
            sandbox.close()


def _info(row: dict[str, Any], path: Path, form: str) -> PluginInfo:
    layouts = tuple(tuple(layout) for layout in row["layouts"])
    parameters = tuple(map(from_row, row["parameters"]))
    return PluginInfo(**row | {"path": path, "format": form, "layouts": layouts, "parameters": parameters})


Stamp = tuple[tuple[str, int, int], ...]
"""Name, size and time in nanoseconds of every file of a plug-in."""


def stamp(path: Path) -> Stamp:
    """What changes when a plug-in does, at a glance. Raises OSError."""
    parts = sorted(part for part in path.rglob("*") if part.is_file()) if path.is_dir() else [path]
    return tuple((str(part), (status := part.stat()).st_size, status.st_mtime_ns) for part in parts)


@dataclass
class _Entry:
    """What is known of a file: the plug-ins that it lists, those examined so far by name, or why it does not load.

    Without a stamp it is tried each time.
    """

    path: str
    stamp: Stamp
    sha256: str
    rows: tuple[ClassRow, ...] = ()
    plugins: dict[str, PluginInfo] = field(default_factory=dict)
    reason: str = ""

    def infos(self) -> list[PluginInfo]:
        """Those examined, in the order of the file; of a file that does not load those that it had, or its own name."""
        if not self.reason:
            return [self.plugins[row.name] for row in self.rows if row.name in self.plugins]
        path, names = Path(self.path), [row.name for row in self.rows]
        form, reason = FORMATS[path.suffix], printable(self.reason)
        return [PluginInfo(name, path, form, reason=reason) for name in names or [path.stem]]


Progress = Callable[[str, int, int], None]
"""Told the plug-in that was examined, how many of its file have been, and how many its file has."""


def plugins(
    refresh: bool = False, retry: bool = False, progress: Progress = lambda name, done, total: None
) -> list[PluginInfo]:
    """All plug-ins of this machine, also those in quarantine, which have a `reason`.

    What has not changed since it was last examined is not examined again, unless `refresh`; with `retry` those in
    quarantine are. Each is kept as soon as it is known, so what was interrupted goes on where it was. Raises
    ParameterError for a GBSEP_PLUGIN_TIMEOUT that is none, PluginError when no process can be started.
    """
    entries = _entries(lambda name: True, refresh, retry, progress)
    return [info for entry in entries for info in entry.infos()]


def remembered_names() -> list[str]:
    """The names of the plug-ins that earlier scans found and that can be used; nothing is looked at again."""
    kept = (_read_entry(path) for path in files())
    return sorted({info.name for entry in kept if entry for info in entry.infos() if not info.reason})


def _entries(
    wanted: Callable[[str], bool],
    refresh: bool = False,
    retry: bool = False,
    progress: Progress = lambda name, done, total: None,
) -> list[_Entry]:
    """Every file, with the plug-ins that are `wanted` examined."""
    from concurrent.futures import ThreadPoolExecutor

    timeout_s()
    pool = ThreadPoolExecutor(min(4, os.cpu_count() or 1))
    try:
        return list(pool.map(lambda path: _entry(path, wanted, refresh, retry, progress), files()))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _entry(path: Path, wanted: Callable[[str], bool], refresh: bool, retry: bool, progress: Progress) -> _Entry:
    """What is in a file: as it was kept, if that still holds, with what is missing examined now.

    One that cannot be read, or is no file (opening a FIFO would wait for ever), is in quarantine and tried each time.
    So is one for which no process can be started: a full disk is not the plug-in's fault.
    """
    kept = _read_entry(path)
    before = kept.rows if kept else ()
    try:
        if not (path.is_dir() or stat.S_ISREG(path.stat().st_mode)):
            return _Entry(str(path), (), "", before, reason="not a regular file")
        now = stamp(path)
        entry = _unchanged(kept, now) if kept and not refresh else None
        digest = entry.sha256 if entry else _hash(now)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and path.is_symlink():
            return _Entry(str(path), (), "", before, reason=f"a link to {os.readlink(path)}, which is not there")
        return _Entry(str(path), (), "", before, reason=f"cannot be read: {error.strerror}")
    if entry is None or (entry.reason and retry):
        try:
            entry = _Entry(str(path), now, digest, tuple(names(path)))
        except PluginNotStarted as error:
            return _Entry(str(path), (), "", before, reason=str(error))
        except PluginError as error:
            entry = _Entry(str(path), now, digest, before, reason=str(error))
    if not entry.reason:
        _examine_missing(entry, wanted, retry, progress)
    if entry != kept:
        _write_entry(entry)
    return entry


def _unchanged(kept: _Entry, now: Stamp) -> _Entry | None:
    """What was kept, if it holds for a file of this stamp."""
    if kept.stamp == now:
        return kept
    return replace(kept, stamp=now) if kept.sha256 == _hash(now) else None


def _examine_missing(entry: _Entry, wanted: Callable[[str], bool], retry: bool, progress: Progress) -> None:
    names = [row.name for row in entry.rows if wanted(row.name)]
    missing = [name for name in names if name not in entry.plugins or (retry and entry.plugins[name].reason)]
    written_s = time.monotonic()
    try:
        for done, info in enumerate(examine(Path(entry.path), list(dict.fromkeys(missing))), start=1):
            entry.plugins[info.name] = info
            progress(info.name, done, len(missing))
            if time.monotonic() - written_s > KEEP_EVERY_S:
                _write_entry(entry)
                written_s = time.monotonic()
    except BaseException:
        _write_entry(entry)
        raise


def _hash(stamp: Stamp) -> str:
    """SHA-256 of names and contents."""
    digest = hashlib.sha256()
    for name, size, _ in stamp:
        digest.update(json.dumps([name, size]).encode())
        feed(digest, name)
    return digest.hexdigest()


def _entry_file(path: Path) -> Path:
    return cache_folder() / "plugins" / f"{path_hash(path)}.json"


def _header(path: Path) -> dict[str, str]:
    return {"version": CACHE_VERSION, "path": str(path)}


def _read_entry(path: Path) -> _Entry | None:
    """What was kept of a file; nothing when it is another version's or damaged."""
    with contextlib.suppress(OSError):
        status = _entry_file(path).stat()
        entry = _parsed(path, (status.st_ino, status.st_size, status.st_mtime_ns))
        return entry and replace(entry, plugins=dict(entry.plugins))
    return None


@lru_cache(maxsize=1024)
def _parsed(path: Path, version: tuple[int, int, int]) -> _Entry | None:
    """The same, read once for each `version` of what was kept: a bundle of 200 plug-ins is some 10 MB of it."""
    from pydantic import TypeAdapter

    with contextlib.suppress(SmallFileError, ValueError, RecursionError):
        kept = smallfiles.read_json(_entry_file(path), MOST_KEPT_BYTES)
        if isinstance(kept, dict) and kept.pop("header", None) == _header(path):
            entry = TypeAdapter(_Entry).validate_python(kept)
            if entry.path == str(path) and all(path == info.path for info in entry.plugins.values()):
                return entry
    return None


def _write_entry(entry: _Entry) -> None:
    """Keep what is known of a file; when that cannot be written, it only costs the next scan time."""
    kept = {"header": _header(Path(entry.path)), **asdict(entry)}
    with contextlib.suppress(OSError):
        write_whole(_entry_file(Path(entry.path)), json.dumps(kept, default=str))


def matching(name: str, vendor: str | None = None, format: str | None = None) -> list[PluginInfo]:
    """The plug-ins of that name that can be used, those of one vendor or format where that is given, first the one
    that counts.

    Only plug-ins of that name are examined. Raises PluginNotFound naming the nearest, PluginError when the only ones of
    that name are in quarantine.
    """
    entries = _entries(lambda other: other == name)
    found = [info for entry in entries for info in entry.infos() if info.name == name]
    named = [info for info in found if not info.reason]
    fitting = [info for info in named if vendor in (None, info.vendor) and format in (None, info.format)]
    if fitting:
        return fitting
    if named:
        asked = " and ".join(f"{key} {value!r}" for key, value in (("vendor", vendor), ("format", format)) if value)
        there = "; ".join(f"{info.path} is {info.format} by {info.vendor!r}" for info in named)
        raise PluginNotFound(printable(f"no plug-in {name!r} of {asked}: {there}; give one of these, or neither"))
    if found:
        said = sentence(f"{found[0].path} is in quarantine: {found[0].reason}")
        raise PluginError(printable(f"{said} `gbsep plugins scan --retry` tries it again"))
    looked_in = ", ".join(map(str, folders()))
    listed = [row.name for entry in entries if not entry.reason for row in entry.rows]
    said = sentence(f"no plug-in {name!r} in {looked_in}{nearest(name, listed)}")
    said += f" Other folders can be named in {PATH_VARIABLE}"
    if quarantined := sum(bool(entry.reason) or any(i.reason for i in entry.infos()) for entry in entries):
        said += f"; {quarantined} in quarantine: `gbsep plugins list` says why"
    raise PluginNotFound(printable(said))


def find(name: str, vendor: str | None = None, format: str | None = None) -> PluginInfo:
    """The plug-in of that name; raises as `matching` does."""
    return matching(name, vendor, format)[0]
