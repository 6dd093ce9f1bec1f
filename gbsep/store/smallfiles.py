"""Small untrusted files of JSON, YAML or text; gbsep reads all such files here.

Conventions: only regular files are read, as devices, pipes and sockets may have no end or block forever. Limits are a
size, a nesting of MAX_DEPTH, and MAX_DIGITS digits of whole numbers, so that each fits a float. Everything wrong is a
SmallFileError with the path and the reason. The caller checks what the values mean.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from ..errors import SmallFileError

MAX_BYTES = 16_000_000
MAX_DEPTH = 64
MAX_DIGITS = 308

_STRUCTURE = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{}]', re.DOTALL)
_YAML_NUMBER = re.compile(r"[-+.:_0-9a-fA-FoOxX]*")

Pairs = Callable[[list[tuple[str, Any]]], Any]
"""Makes an object of its (key, value) pairs, in order."""


def open_regular(path: str | Path, follow: bool = True) -> IO[bytes]:
    """Open a regular file for reading; `follow` allows a link to one.

    Raises OSError; anything but a regular file is refused without blocking or side effects.
    """
    if not stat.S_ISREG(os.stat(path, follow_symlinks=follow).st_mode):
        raise OSError(None, "is not a regular file")
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
    handle = os.open(path, flags | (0 if follow else getattr(os, "O_NOFOLLOW", 0)))
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(None, "is not a regular file")
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def is_regular(path: str | Path) -> bool:
    """Whether the path is a regular file, not a link, folder, device or pipe."""
    with contextlib.suppress(OSError, ValueError):
        return stat.S_ISREG(os.lstat(path).st_mode)
    return False


def read_bytes(path: str | Path, max_bytes: int = MAX_BYTES, follow: bool = True) -> bytes:
    """The content of a file. Raises SmallFileError; `missing` is set where there is none."""
    try:
        with open_regular(path, follow) as file:
            content = file.read(max_bytes + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        said = reason if reason.startswith("is ") else f"cannot be read: {reason}"
        raise SmallFileError(path, said, missing=isinstance(error, FileNotFoundError)) from None
    if len(content) > max_bytes:
        raise SmallFileError(path, f"is larger than {_size(max_bytes)}")
    return content


def head(path: str | Path, count: int) -> bytes:
    """The first `count` bytes of a file of any size. Raises OSError."""
    with open_regular(path) as file:
        return file.read(count)


def read_text(path: str | Path, max_bytes: int = MAX_BYTES, encoding: str = "utf-8") -> str:
    """A text, its line ends as they are. Raises SmallFileError."""
    return _text(path, read_bytes(path, max_bytes), encoding)


def read_json(
    path: str | Path, max_bytes: int = MAX_BYTES, follow: bool = True, make_object: Pairs | None = None
) -> Any:
    """The value in a JSON file; `make_object` may raise to refuse an object. Raises SmallFileError."""
    return parse_json(path, read_bytes(path, max_bytes, follow), make_object)


def parse_json(path: str | Path, content: bytes, make_object: Pairs | None = None) -> Any:
    """As `read_json`, from bytes; `path` (or a URL) is for messages."""
    text = _text(path, content, "utf-8-sig")
    depth = 0
    for found in _STRUCTURE.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(found[0], 0)
        if depth > MAX_DEPTH:
            raise SmallFileError(path, f"is nested too deeply: more than {MAX_DEPTH} levels")

    def whole(digits: str) -> int:
        if len(digits) > MAX_DIGITS:
            raise SmallFileError(path, f"holds a number of {len(digits)} digits; {MAX_DIGITS} are allowed")
        return int(digits)

    try:
        return json.loads(text, object_pairs_hook=make_object, parse_int=whole)
    except json.JSONDecodeError as error:
        where = f"{error.msg} at line {error.lineno}, column {error.colno}"
        if text[error.pos : error.pos + 1] in ("}", "]") and text[: error.pos].rstrip().endswith(","):
            where += "; the comma before it is one too many"
        raise SmallFileError(path, f"is not JSON: {where}", is_syntax=True) from None
    except RecursionError:
        raise SmallFileError(path, "is nested too deeply") from None


def read_yaml(path: str | Path, max_bytes: int = 2**16, tuples: bool = False) -> Any:
    """The value in a YAML file, plain values only, without references. Raises SmallFileError.

    With `tuples` it may tag lists as `!!python/tuple`; they stay lists.
    """
    import yaml

    loader: Any = type("Loader", (yaml.SafeLoader,), {})
    if tuples:
        loader.add_constructor("tag:yaml.org,2002:python/tuple", yaml.SafeLoader.construct_sequence)

    text = _text(path, read_bytes(path, max_bytes), "utf-8-sig")
    depth = 0
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise SmallFileError(path, f"holds a reference, *{event.anchor}: write the value out")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise SmallFileError(path, f"is nested too deeply: more than {MAX_DEPTH} levels")
            text_of = event.value if isinstance(event, yaml.ScalarEvent) else ""
            if len(text_of) > MAX_DIGITS and _YAML_NUMBER.fullmatch(text_of):
                raise SmallFileError(path, f"holds a number of more than {MAX_DIGITS} digits")
        return yaml.load(text, loader)
    except yaml.YAMLError as error:
        raise SmallFileError(path, f"is not YAML: {' '.join(str(error).split())}") from None
    except (ValueError, OverflowError, TypeError, AttributeError, KeyError, IndexError) as error:
        raise SmallFileError(path, f"is not YAML: {error}") from None  # such as a date in month 13


def _text(path: str | Path, content: bytes, encoding: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        raise SmallFileError(path, "is not UTF-8 text", is_syntax=True) from None


def _size(count: int) -> str:
    return f"{count / 1e6:g} MB" if count >= 1e6 else f"{count / 1e3:g} kB"
