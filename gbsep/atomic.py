"""Files that appear whole or not at all.

A file is written under a hidden name beside its place, `.gbsep-<token>.tmp`, which cannot be foreseen, and is moved
there at the end. A link at its place is replaced, not followed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ESCAPED = "backslashreplace"
"""Error handler for text that holds names that are not UTF-8: in JSON their bytes become escapes that read back."""


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file in one step, text in UTF-8; its folder is made if need be.

    A lone surrogate, from a name that is not UTF-8, becomes its escape in JSON. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _hidden_file(path) as (_, handle), os.fdopen(handle, "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode("utf-8", ESCAPED))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """The name of an empty hidden file to write; it takes the place of `path` when the block ends.

    After an exception nothing of it is left. For writers that take a path, and for large files. Raises OSError.
    """
    with _hidden_file(path) as (hidden, handle):
        os.close(handle)
        yield hidden


@contextmanager
def _hidden_file(path: Path) -> Iterator[tuple[Path, int]]:
    hidden = path.with_name(f".gbsep-{os.urandom(8).hex()}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    handle = os.open(hidden, flags | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        yield hidden, handle
        hidden.replace(path)
    except BaseException:
        with suppress(OSError):
            hidden.unlink()
        raise
