"""What the words on a command line stand for: files, folders, globs, URLs, manifests.

- A folder stands for the audio files in it at any depth, by suffix; links to folders are followed, each folder counts
  once. Hidden files and folders are left out, and what gbsep made: folders that hold a render (a render.json that gbsep
  wrote), the media of a project beside one, and the output folder of this batch.
  Stems of gbsep's own are left out wherever they lie: their tags say what they are. Named by itself each counts.
- A glob (`*`, `?`, `[...]`, `**`) is expanded here when no file of that very name exists, so it may be quoted and works
  where the shell expands nothing. Of what it finds, only audio counts, and folders as above; what gbsep made below the
  folder that the pattern begins with is left out.
- A URL that ends in `/`, or holds a `*`, stands for the audio files there, where its file system can list them.
- A manifest is a CSV file with a header, or JSON lines, with the columns `input`, and if wanted `preset` and
  `overrides`. Paths in it are relative to the manifest; that of a preset, if a file is there. `overrides` is a JSON
  object, `{"separate.cutoff_hz": 250}`, or words as after --set: `separate.cutoff_hz=250 separate.order=8`.

The order is that of the words, and sorted within each.
"""

from __future__ import annotations

import csv
import errno
import functools
import glob
import io
import itertools
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import AudioFileError, GbsepError, ParameterError, SmallFileError, legible, nearest
from ..io.formats import AUDIO_SUFFIXES
from ..io.probe import is_stem
from ..preset.overrides import parse_override
from ..shelf import folder as outputs
from ..shelf import record, remote
from ..shelf.batch import REPORT
from ..shelf.projects import MEDIA
from ..shelf.remote import is_url
from ..store import smallfiles

JSON_LINES = {".jsonl", ".ndjson"}
MANIFESTS = {".csv", ".tsv", *JSON_LINES}
MAX_BYTES = 64_000_000
"""Of a manifest."""

COLUMNS = ("input", "preset", "overrides")


@dataclass(frozen=True)
class Request:
    """One recording that was asked for: a path or URL, what its row of a manifest adds, and what is wrong with it."""

    input: str
    preset: str | None = None
    overrides: tuple[tuple[str, Any], ...] = ()
    row: str = ""
    problem: Exception | None = None


def expand(words: Iterable[str | Path], out: Path | str) -> tuple[list[Request], list[str], list[str]]:
    """What was asked for, and the files in folders and globs that were left out: those that are no audio, and stems.

    A word that stands for nothing is a Request with a problem, and so is a folder that cannot be read. `out` is where
    the renders go, a folder or a URL. Raises AudioFileError or ParameterError for a manifest that cannot be read.
    """
    requests: list[Request] = []
    left_out: list[str] = []
    stems: list[str] = []
    for word in map(str, words):
        if Path(word).suffix.lower() in MANIFESTS and not is_url(word):
            for row in read_manifest(Path(word)):
                requests += [row] if row.problem else _expand_word(row, out, left_out, stems)
        else:
            requests += _expand_word(Request(word), out, left_out, stems)
    return [replace(asked, problem=asked.problem or _fault_of_name(asked.input)) for asked in requests], left_out, stems


def _fault_of_name(word: str) -> GbsepError | None:
    """What makes a path or URL one that no file can have."""
    try:
        if not is_url(word):
            os.lstat(word)
        elif "\0" in str(remote.path_of(word)):
            raise ValueError("it holds a null byte")
    except (UnicodeError, ValueError) as error:
        return AudioFileError(legible(word), f"cannot be the name of a file: {error}")
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL):
            return AudioFileError(legible(word), f"cannot be read: {error.strerror}")
    return None


def _expand_word(asked: Request, out: Path | str, left_out: list[str], stems: list[str]) -> list[Request]:
    word = asked.input
    unreadable: list[AudioFileError] = []
    try:
        if is_url(word):
            found, what = remote.find(word, str(out)), "no audio file is there"
        elif os.path.isdir(word):
            found, unreadable = _files(Path(word), out)
            what = "the folder holds no audio file"
        elif glob.has_magic(word) and not os.path.exists(word):
            matches = sorted(glob.glob(word, recursive=True))
            found, unreadable = _files_among(matches, word, out)
            what = "nothing matches; check the pattern and the folder"
            if matches:
                what = "no audio file matches" if found else "all that matches was made by gbsep"
        else:
            return [asked]
    except Exception as error:
        return [replace(asked, problem=error)]
    if found == [word]:
        return [asked]
    audio = [file for file in found if is_audio(file)]
    own = [file for file in audio if not is_url(file) and is_stem(file)]
    stems += own
    audio = [file for file in audio if file not in set(own)]
    left_out += [file for file in found if not is_audio(file)]
    if not (audio or unreadable):
        if own:
            what = "all the audio there are stems that gbsep made; name a file itself to render it"
        return [replace(asked, problem=AudioFileError(word, what))]
    refused = [replace(asked, input=str(problem.path), problem=problem) for problem in unreadable]
    return [*(replace(asked, input=file) for file in audio), *refused]


def audio_below(folder: Path, out: Path | str) -> tuple[list[str], list[AudioFileError]]:
    """What a folder stands for, and the folders that cannot be read, itself among them."""
    files, unreadable = _files(folder, out)
    return [file for file in files if is_audio(file)], unreadable


def is_audio(file: str | Path) -> bool:
    """Whether a name is that of audio, by its suffix."""
    return Path(file).suffix.lower() in AUDIO_SUFFIXES


def _files(folder: Path, out: Path | str) -> tuple[list[str], list[AudioFileError]]:
    """Visible files below a folder, sorted, without those that gbsep made; and the folders that cannot be read."""
    found: list[str] = []
    unreadable: list[AudioFileError] = []
    seen: set[str] = set()
    own = Path(out).resolve()

    def refuse(error: OSError) -> None:
        path = error.filename or folder
        if str(path) == str(folder) or not isinstance(error, FileNotFoundError):  # else it went away meanwhile
            unreadable.append(AudioFileError(path, f"cannot be read: {error.strerror}"))

    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        visible = sorted(name for name in folders if not name.startswith("."))
        folders[:] = [name for name in visible if not _is_made(Path(place, name), own)]
        found += [str(Path(place, name)) for name in sorted(names) if not name.startswith(".") and name != REPORT]
    return found, unreadable


def _files_among(matches: Iterable[str], pattern: str, out: Path | str) -> tuple[list[str], list[AudioFileError]]:
    """Of what matches a glob: the files, and those in the folders, as `_files` has them."""
    root = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts))
    own = Path(out).resolve()
    is_made = functools.cache(lambda folder: _is_made(folder, own))
    found: dict[str, None] = {}
    unreadable: dict[Path, AudioFileError] = {}
    for path in map(Path, matches):
        is_folder = os.path.isdir(path)
        folders = (path, *path.parents) if is_folder else path.parents
        if path.name == REPORT or any(is_made(folder) for folder in folders if root in folder.parents):
            continue
        files, problems = _files(path, out) if is_folder else ([str(path)], [])
        found |= dict.fromkeys(files)
        unreadable |= {problem.path: problem for problem in problems}
    return list(found), list(unreadable.values())


def _is_made(folder: Path, own: Path) -> bool:
    """Whether gbsep made what a folder holds: it is `own`, or a render, or the media of a project beside renders."""
    if folder.resolve() == own or record.read(folder) is not None:
        return True
    beside = folder.parent.glob(f"*/{outputs.RECORD}") if folder.name == MEDIA else ()
    return any(record.read(path.parent) is not None for path in beside)


def read_manifest(path: Path) -> list[Request]:
    """The rows of a manifest; one that is not valid is a Request with a problem that names its line.

    Raises AudioFileError when the file cannot be read, ParameterError for columns it may not have.
    """
    try:
        text = smallfiles.read_text(path, MAX_BYTES, "utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except SmallFileError as error:
        said = "is not a text file: save it as CSV in UTF-8, or as JSON lines" if error.is_syntax else error.reason
        raise AudioFileError(legible(path), said) from None
    is_json = path.suffix.lower() in JSON_LINES
    if is_json and text.lstrip().startswith("["):
        raise AudioFileError(
            path, "is a JSON array: write one object per line, without brackets and commas around them"
        )
    rows = list(_json_rows(text) if is_json or text.lstrip().startswith("{") else _csv_rows(path, text))
    if not rows:
        raise AudioFileError(path, "holds no rows: a header such as input,preset,overrides and one row per song")
    return [_request(path, number, row) for number, row in rows]


def _json_rows(text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, smallfiles.parse_json("row", line.encode("utf-8", "surrogatepass"))
            except SmallFileError as error:
                yield number, ValueError(error.reason.replace("at line 1, ", "at "))


def _csv_rows(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    header = text.split("\n", 1)[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count), strict=True)
    try:
        _check_columns(path, reader.fieldnames or ())
        for row in reader:
            if None in row or None in row.values():
                yield reader.line_num, ValueError(f"has not the {len(reader.fieldnames or ())} fields of the header")
            else:
                yield reader.line_num, {name.strip(): value.strip() for name, value in row.items() if value.strip()}
    except csv.Error as error:
        raise AudioFileError(path, f"line {reader.reader.line_num} is not CSV: {error}") from None


def _check_columns(path: Path, names: Iterable[str]) -> None:
    names = [name.strip() for name in names]
    for name in names:
        if name not in COLUMNS:
            raise ParameterError(f"{path}, column", name, f"no such column{nearest(name, COLUMNS)}")
    if "input" not in names:
        raise ParameterError(f"{path}, columns", names, "one must be input")


def _request(path: Path, number: int, row: Any) -> Request:
    where = f"{path}, line {number}"
    try:
        if isinstance(row, ValueError):
            raise row
        if not isinstance(row, Mapping):
            raise ValueError('is no JSON object, such as {"input": "song.wav"}')
        _check_columns(path, row)
        preset, source = row.get("preset"), row["input"]
        if not (isinstance(source, str) and source and isinstance(preset, str | None)):
            raise ValueError("input and preset must be words")
        overrides = tuple(_overrides(row.get("overrides")))
    except (ValueError, GbsepError) as error:
        return Request(str(path), row=where, problem=AudioFileError(where, str(error)))
    if preset and preset.endswith(".json") and (path.parent / preset).is_file():
        preset = str(path.parent / preset)
    return Request(source if is_url(source) else str(path.parent / source), preset, overrides, where)


def _overrides(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, str):
        is_json = value.startswith("{")
        value = (
            smallfiles.parse_json("overrides", value.encode("utf-8", "surrogatepass"))
            if is_json
            else shlex.split(value)
        )
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, list) and all(isinstance(word, str) for word in value):
        yield from map(parse_override, value)
    elif value is not None:
        raise ValueError("overrides must be an object, or words such as separate.cutoff_hz=250")
