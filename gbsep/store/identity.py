"""How gbsep knows content again: the hash of a file."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..errors import AudioFileError


def content_hash(path: str | Path) -> str:
    """SHA-256 of the file's bytes, in hexadecimal. Raises AudioFileError where it cannot be read."""
    digest = hashlib.sha256()
    try:
        with Path(path).open("rb") as file:
            while chunk := file.read(2**20):
                digest.update(chunk)
    except OSError as error:
        raise AudioFileError(path, f"cannot be read: {error.strerror or error}") from None
    return digest.hexdigest()
