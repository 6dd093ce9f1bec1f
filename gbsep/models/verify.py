"""Verifying weights: a file must be what its name says, and what it was when gbsep first used it.

A SHA-256 prefix in a file's name is checked. The SHA-256 of every file is recorded under `state_dir()` at its first
use; a file that has changed since is refused until `trust` accepts it. Weights that a backend found usable are recorded
there too (`check_once`).
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..atomic import write_whole
from ..errors import BackendError, SmallFileError
from ..schema import Lenient, Sha256, validated
from ..store import smallfiles
from ..store.folders import state_folder
from ..store.identity import Stamp, file_hash, is_settled, json_hash, path_hash

if TYPE_CHECKING:
    from .find import Found

CHECKSUM = re.compile(r"-([0-9a-f]{8,64})$")
"""The first digits of a SHA-256 at the end of a file's name, without its suffix."""


def state_dir() -> Path:
    """The folder of the records of weight files."""
    return state_folder() / "weights"


class _Known(Lenient):
    """The record of a weight file; without a stamp its content is hashed at every use."""

    sha256: Sha256
    stamp: list[int] | None = None


def _known(file: Path) -> _Known | None:
    try:
        return validated(file, _Known, smallfiles.read_json(file, follow=False))
    except SmallFileError:
        return None


def verify(path: Path, accepting: str = "gbsep models verify MODEL --accept") -> str:
    """The SHA-256 of a weight file, as hex; `accepting` is the command that trusts one that has changed.

    Raises BackendError when the file is empty, is not what the SHA-256 prefix in its name says, or has changed since
    gbsep first used it.
    """
    stat = path.stat()
    if stat.st_size == 0:
        raise BackendError(f"{path} is empty: delete it and fetch the model again")
    stamp, seen_ns = Stamp.of(stat), time.time_ns()
    record = record_of(path)
    known = _known(record)
    if known is not None and known.stamp == list(stamp):
        return known.sha256
    sha256 = file_hash(path)
    named = CHECKSUM.search(path.stem)
    if named and not sha256.startswith(named[1]):
        raise BackendError(
            f"{path} is damaged or another file: its SHA-256 begins with {sha256[: len(named[1])]}, not with "
            f"{named[1]} as its name says; delete it and fetch the model again"
        )
    if known is not None and known.sha256 != sha256:
        raise BackendError(
            f"{path} has changed since gbsep first used it (SHA-256 {known.sha256[:12]}, now {sha256[:12]}): "
            f"bring the old file back, or accept the new one with `{accepting}`"
        )
    lasting = stamp if is_settled(stamp, seen_ns) else None
    write_quietly(record, json.dumps({"path": str(path), "sha256": sha256, "stamp": lasting}))
    return sha256


_CHECKS_VERSION = 1
"""Raised when weights that passed the checks before may fail them now."""


def check_once(found: Found, check: Callable[[], object], detail: str = "") -> None:
    """Call `check`, which raises BackendError for unusable weights, unless the same weights passed it before.

    So a render with cached stems reads no weights. `detail` is what the check depends on besides the files.
    """
    key = json_hash([_CHECKS_VERSION, found.backend, found.digest, detail])
    passed = state_dir() / f"{key[:32]}.usable"
    if not passed.is_file():
        check()
        write_quietly(passed, found.name)


def trust(path: Path) -> str:
    """Accept a weight file as it is now; returns its SHA-256. Raises BackendError as `verify` does."""
    record = record_of(path)
    try:
        record.unlink(missing_ok=True)
    except OSError as error:
        raise BackendError(f"{record}, what was recorded of {path}, cannot be removed: {error.strerror}") from None
    return verify(path)


def record_of(path: Path) -> Path:
    """The path of the record of a weight file."""
    return state_dir() / f"{path_hash(path.absolute())}.json"


def write_quietly(path: Path, text: str) -> None:
    """Write a small file atomically; do nothing where the folder cannot be written."""
    with contextlib.suppress(OSError):
        write_whole(path, text)
