"""Stems on disk between a stage that makes them together and one that reads them one by one."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..audio import Block, Reader
from ..errors import AudioError, AudioFileError

ELSEWHERE = "free some space, or choose another place"
TEMPORARY = "free some space, or set TMPDIR to another folder"
"""What to do when a disk is full, and when it is that of temporary files."""


@contextmanager
def writing(path: Path, advice: str = ELSEWHERE) -> Iterator[None]:
    """Errors of the disk become AudioFileError, with the room that is left and what to do."""
    try:
        yield
    except OSError as error:
        raise AudioFileError(
            path, f"cannot be written: {with_room(path, error.strerror or str(error), advice)}"
        ) from None


def with_room(path: Path, reason: str, advice: str = ELSEWHERE) -> str:
    """A reason of the disk's, with the room that is left in the folder of `path`, and what to do."""
    with suppress(OSError):
        free = f"{shutil.disk_usage(path.parent).free / 1e6:.0f} MB free in {path.parent}"
        return f"{free}; {advice}" if reason == "System error" else f"{reason}; {free}; {advice}"
    return f"{reason}; choose another place"


def shut(file: Any) -> None:
    """Close a temporary file; what a full disk did not take of it is no more needed."""
    with suppress(OSError):
        file.close()


class Spool:
    """A store for named stems.

    Held on disk: one nameless temporary file of raw float32 per stem and channel, gone when the spool is closed or no
    longer used, or the process ends. Plain reads and writes, so that memory stays bounded by the block (pages of a
    memory map would count).

    >>> with Spool(["bass"], 44100, 1) as spool:
    ...     spool.write({"bass": np.zeros((1, 100), np.float32)})
    ...     spool.reader("bass").read()
    Audio(1 channels, 100 frames, 44100 Hz)
    """

    def __init__(self, names: Iterable[str], sample_rate: int, channels: int, folder: str | Path | None = None):
        self.sample_rate, self.channels = sample_rate, channels
        self._advice = TEMPORARY if folder is None else ELSEWHERE
        self._path = temporary_path() if folder is None else Path(folder) / "spool"
        self._frames = dict.fromkeys(names, 0)
        self._lock = threading.Lock()
        opened = ExitStack()
        self._close = weakref.finalize(self, opened.close)

        def new_file() -> Any:
            file = tempfile.TemporaryFile(dir=self._path.parent)  # noqa: SIM115 - closed by `opened`
            opened.callback(shut, file)
            return file

        with writing(self._path, self._advice):
            self._files = {name: [new_file() for _ in range(channels)] for name in self._frames}

    def write(self, blocks: Mapping[str, Block]) -> None:
        """Append a block, float (channels, n), to each of the named stems.

        Raises AudioError for a wrong shape, AudioFileError when the disk is full.
        """
        for name, block in blocks.items():
            if block.ndim != 2 or block.shape[0] != self.channels:
                raise AudioError(f"stem {name!r} takes blocks of shape ({self.channels}, n), not {block.shape}")
            with self._lock, writing(self._path, self._advice):
                for file, channel in zip(self._files[name], block, strict=True):
                    file.seek(4 * self._frames[name])
                    file.write(np.ascontiguousarray(channel, np.float32).data)
                    file.flush()
                self._frames[name] += block.shape[1]

    def reader(self, name: str) -> Reader:
        """What was written to the stem so far; it can be read until the spool is closed."""
        frames = self._frames[name]

        def blocks(block_frames: int) -> Iterator[Block]:
            for start in range(0, frames, block_frames):
                block = np.empty((self.channels, min(block_frames, frames - start)), np.float32)
                with self._lock:
                    for file, channel in zip(self._files[name], block, strict=True):
                        file.seek(4 * start)
                        file.readinto(channel.data)
                yield block

        return Reader(self.sample_rate, self.channels, frames, blocks)

    def close(self) -> None:
        self._close()

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def temporary_path() -> Path:
    """What errors call a nameless temporary file. Raises AudioFileError where none can be made."""
    try:
        return Path(tempfile.gettempdir()) / "gbsep"
    except OSError as error:
        place = os.environ.get("TMPDIR", "TMPDIR")
        raise AudioFileError(
            place, f"no temporary file can be made: {error.strerror}; set TMPDIR to a folder"
        ) from None
