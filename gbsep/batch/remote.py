"""Inputs and outputs that are not on this machine: any URL that fsspec knows (s3, gs, http, file, memory, ...)."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit


def is_url(word: str) -> bool:
    """Whether a word names a place by URL; a drive letter is none.

    >>> is_url("s3://bucket/song.wav"), is_url("C:/song.wav"), is_url("song.wav")
    (True, False, False)
    """
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", word) is not None


def path_of(url: str) -> Path:
    """A URL's place as a path, without its query: for names of tracks.

    >>> path_of("https://host/album/a%20song.wav?key=1").parts[-3:]
    ('host', 'album', 'a song.wav')
    """
    parts = urlsplit(url)
    return Path(parts.netloc) / unquote(parts.path).lstrip("/")


def fetch(source: Path | str) -> Path:
    """The recording as a file on this machine."""
    return Path(source)
