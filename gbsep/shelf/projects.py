"""The DAW projects beside the renders of a song: their formats, and which files of a render they refer to."""

from __future__ import annotations

import contextlib
import html
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path

from ..store import smallfiles

FORMATS = {"reaper": ".rpp", "dawproject": ".dawproject"}
"""The formats of projects that gbsep writes, and their suffixes."""

SCOPES = ("song", "batch")
"""What a project holds: one song, or all songs of an output folder."""

MEDIA = "media"
"""The folder in which a project keeps files of its own, beside the renders of its song."""

_MAX_BYTES = 100_000_000


def referring(folder: Path, names: Collection[str], out: Path) -> dict[Path, list[str]]:
    """The projects in a song's folder or in `out` that refer to files of a render, with the names of these files.

    `folder` is the render's folder, `names` the files in it to look for.
    """
    found: dict[Path, list[str]] = {}
    for place in dict.fromkeys((folder.parent, out)):
        with contextlib.suppress(OSError):
            for project in sorted(place.iterdir()):
                text = _text_of(project) if project.suffix.lower() in FORMATS.values() else ""
                named = [name for name in names if any(f"{folder.name}{slash}{name}" in text for slash in "/\\")]
                found |= {project: named} if named else {}
    return found


def _text_of(project: Path) -> str:
    """The text of a project, empty where it cannot be read."""
    try:
        with smallfiles.open_regular(project) as file:
            if project.suffix.lower() != FORMATS["dawproject"]:
                return file.read(_MAX_BYTES).decode("utf-8", "replace")
            with zipfile.ZipFile(file) as container, container.open("project.xml") as inside:
                return html.unescape(inside.read(_MAX_BYTES).decode("utf-8", "replace"))
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error):
        return ""
