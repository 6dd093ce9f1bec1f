"""Which plug-ins are on this machine.

Plug-ins are looked for in GBSEP_PLUGIN_PATH (folders, separated as in PATH) and then in the platform's standard
folders; of several with one name the first found counts, unless another vendor or format is asked for. Each file is
examined in a process of its own, and the outcome is kept: a file is examined again when its size or time and its hash
have changed, or when pedalboard has. One that crashes, hangs or does not load is quarantined: it stays in the list with
the reason, and is not loaded again until it changes or a new scan is asked for.

References: Steinberg, "VST 3 Plug-in Locations"; Apple, "Audio Unit Hosting Guide".
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import PluginError, PluginNotFound, nearest, printable, sentence
from ..folders import cache_folder
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
CACHE_VERSION = 3


@dataclass(frozen=True)
class PluginInfo:
    """One plug-in as the scan found it. `channels` are the counts it takes, none for an instrument.

    `latency_frames` is at 44.1 kHz and with default parameters, which `parameters` show. In quarantine `reason` says
    why, and only `name` (that of the file), `format` and `path` are known.
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


def plugins(refresh: bool = False) -> list[PluginInfo]:
    """All plug-ins of this machine, also those in quarantine, which have a `reason`.

    Files that have not changed since the last scan are not examined again, unless `refresh`. Raises ParameterError
    for a GBSEP_PLUGIN_TIMEOUT that is none.
    """
    from concurrent.futures import ThreadPoolExecutor

    timeout_s()
    cache = {} if refresh else _read_cache()
    found = files()
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        entries = dict(
            zip(map(str, found), pool.map(lambda path: _entry(path, cache.get(str(path))), found), strict=True)
        )
    if entries != cache:
        _write_cache(entries)
    return [_info(row, Path(path), row["format"]) for path, entry in entries.items() for row in entry["plugins"]]


def _entry(path: Path, known: dict[str, Any] | None) -> dict[str, Any]:
    """What the cache keeps of a file: its size, time and hash, and what was found in it.

    One that cannot be read, or is no file (opening a FIFO would wait for ever), is in quarantine and tried each time.
    """
    try:
        if not (path.is_dir() or stat.S_ISREG(path.stat().st_mode)):
            return _unread(path, "not a regular file")
        parts = sorted(part for part in path.rglob("*") if part.is_file()) if path.is_dir() else [path]
        stats = [part.stat() for part in parts]
        size, time_ns = sum(one.st_size for one in stats), max((one.st_mtime_ns for one in stats), default=0)
        if known and (known["size"], known["time_ns"]) == (size, time_ns):
            return known
        digest = _hash(parts)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and path.is_symlink():
            return _unread(path, f"a link to {os.readlink(path)}, which is not there")
        return _unread(path, f"cannot be read: {error.strerror}")
    if known and (known["size"], known["sha256"]) == (size, digest):
        return known | {"time_ns": time_ns}
    rows = [info.as_json() for info in examine(path)]
    return {"size": size, "time_ns": time_ns, "sha256": digest, "plugins": rows}


def _unread(path: Path, reason: str) -> dict[str, Any]:
    info = PluginInfo(path.stem, path, FORMATS[path.suffix], reason=printable(reason))
    return {"size": -1, "time_ns": -1, "sha256": "", "plugins": [info.as_json()]}


def _hash(parts: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        with open(part, "rb") as stream:
            while data := stream.read(2**20):
                digest.update(data)
    return digest.hexdigest()


def _cache_file() -> Path:
    return cache_folder() / "plugins.json"


def _cache_header() -> dict[str, Any]:
    from importlib.metadata import version

    return {"version": CACHE_VERSION, "pedalboard": version("pedalboard")}


def _read_cache() -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        cache = json.loads(_cache_file().read_text("utf-8"))
        if cache["header"] == _cache_header():
            return cache["files"]
    return {}


def _write_cache(entries: dict[str, Any]) -> None:
    """Replace the cache as a whole; one that cannot be written only costs the next scan time."""
    file = _cache_file()
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=file.parent, prefix="plugins-", suffix=".json")
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump({"header": _cache_header(), "files": entries}, stream, indent=1)
        os.replace(name, file)


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
        raise PluginNotFound(printable(f"no plug-in {name!r} of {asked}: {there}"))
    for info in known:
        if info.name == name:
            said = sentence(f"{info.path} is in quarantine: {info.reason}")
            raise PluginError(printable(f"{said} `gbsep plugins scan` tries it again"))
    looked_in = ", ".join(map(str, folders()))
    said = sentence(f"no plug-in {name!r} in {looked_in}{nearest(name, (info.name for info in usable))}")
    raise PluginNotFound(printable(f"{said} Other folders can be named in {PATH_VARIABLE}"))


def find(name: str, vendor: str | None = None, format: str | None = None) -> PluginInfo:
    """The plug-in of that name; raises as `matching` does."""
    return matching(name, vendor, format)[0]
