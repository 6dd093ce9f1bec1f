"""Names of tracks and of the files that a render writes."""

from __future__ import annotations

import os
import re
import string
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from ..arguments import checked
from ..errors import ParameterError, expect, nearest
from ..preset.model import Preset
from ..schema import is_device
from ..shelf.record import plain_track
from ..stemnames import RESIDUAL
from .options import Options, output_format, written_stems

MAX_NAME_BYTES = 200

RESERVED = frozenset('/\\:*?"<>|')
"""Letters that not every system takes in the name of a file, besides those that are not printed."""


@checked
def track_names(inputs: Iterable[Path]) -> dict[Path, str]:
    """A name for each input: that of its file, with as many folders as distinguish inputs of one name.

    An input that is given twice counts once.

    >>> list(track_names([Path("a/mix.wav"), Path("b/mix.wav"), Path("b/solo.wav"), Path("b/solo.mp3")]).values())
    ['a/mix', 'b/mix', 'solo.wav', 'solo.mp3']
    """
    paths: dict[Path, Path] = {}
    for path in inputs:
        paths.setdefault(Path(os.path.realpath(path)), path)
    places = {path: Path(os.path.abspath(path)) for path in paths.values()}
    stems = Counter(map(without_suffix, places.values()))
    alike = {place for place in places.values() if stems[without_suffix(place)] > 1}
    parts = {}
    for path, place in places.items():
        stem = without_suffix(place)
        parts[path] = (place if place in alike or stem in alike else stem).parts
    names = dict.fromkeys(parts, "")
    pending, depth = set(parts), 1
    while pending:
        ends = Counter(own[-depth:] for own in parts.values())
        known = {path for path in pending if ends[parts[path][-depth:]] == 1 or depth >= len(parts[path])}
        names |= {path: "/".join(map(_as_folder, parts[path][-depth:])) for path in known}
        pending, depth = pending - known, depth + 1
    return {path: plain_track(name) for path, name in names.items()}


def without_suffix(path: Path) -> Path:
    """A path as tracks are named by; a name that would be none without its suffix, such as `...wav`, keeps it."""
    return path if path.stem in ("", ".", "..") else path.with_name(path.stem)


def portable(name: str) -> str:
    """A name as every system takes it in the name of a file.

    >>> portable("What's Up?")
    "What's Up_"
    """
    name = os.fsencode(name).decode("utf-8", "surrogateescape")
    safe = "".join("_" if letter in RESERVED or not letter.isprintable() else letter for letter in name)
    safe = f"_{safe[1:]}" if safe.startswith(".") else safe
    return os.fsdecode(f"{'_' if is_device(safe) else ''}{safe}".encode("utf-8", "surrogateescape"))


def _as_folder(name: str) -> str:
    """The name of a file as that of a folder, of the same bytes in every locale.

    Bytes that are no UTF-8 become `%E9`, as in a URL; a name that is a device's on Windows gets a stroke before it.
    """
    text = os.fsencode(name).decode("utf-8", "surrogateescape")
    text = re.sub("[\udc80-\udcff]", lambda byte: f"%{ord(byte[0]) - 0xDC00:02X}", text)
    return os.fsdecode(f"{'_' if is_device(text) else ''}{text}".encode())


def checked_track(track: str) -> str:
    """The name of a track, if it lies inside the output folder."""
    expect("track", track, str)
    path = Path(track)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in track:
        raise ParameterError("track", track, "the name of a folder in the output folder")
    return track


def file_names(preset: Preset, options: Options, track: str) -> dict[str, str]:
    """The file name of every track that is written, by the template."""
    words = {"track": portable(Path(track).name), "preset": preset.name, "stem": ""}
    template = "a template such as '{track} - {stem}'"
    too_long = f"a template that makes names of at most {MAX_NAME_BYTES} bytes"
    if len(options.name) > MAX_NAME_BYTES:
        raise ParameterError("name", f"{options.name[:20]}...", too_long)
    try:
        parsed = list(string.Formatter().parse(options.name))
    except ValueError as error:
        raise ParameterError("name", options.name, f"{template} ({error})") from None
    if any(form or conversion for _, _, form, conversion in parsed):
        raise ParameterError("name", options.name, f"{template}, without ':' or '!' in braces")
    fields = {name for _, name, _, _ in parsed if name is not None}
    for unknown in fields - set(words):
        raise ParameterError("name", options.name, f"no field {{{unknown}}}{nearest(unknown, words)}")
    if "stem" not in fields:
        raise ParameterError("name", options.name, "{stem} must be in it, or all files would have one name")
    stems = written_stems(preset, options)
    tracks = [*stems, *([f"{name}.dry" for name in stems] if options.dry_stems else [])]
    tracks += [RESIDUAL] if preset.output.residual and not options.stems else []
    suffix = output_format(preset).suffix
    names = {name: options.name.format(**{**words, "stem": name}) + suffix for name in tracks}
    for name in names.values():
        if name != portable(name):
            raise ParameterError("name", options.name, f"{name!r} cannot be the name of a file everywhere")
        if len(os.fsencode(name)) > MAX_NAME_BYTES:
            raise ParameterError("name", options.name, too_long)
    return names
