"""Raw samples on disk: stems that one stage makes side by side, and the next reads one after another."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

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


class SampleFile:
    """Raw float32 samples in a file, channel by channel in each frame: appended to, and read from any place.

    Threads may share it. The file is closed with the last reference, or by `close`. Plain reads and writes, so that
    memory stays bounded by the block: pages of a memory map would count.
    """

    def __init__(self, file: IO[bytes], channels: int):
        self.channels, self.frames = channels, 0
        self._file, self._lock = file, threading.Lock()
        self._closer = weakref.finalize(self, shut, file)

    def append(self, block: Block) -> memoryview:
        """Write a block, float (channels, n), at the end; the bytes that were written. Raises OSError."""
        samples = np.empty((block.shape[1], self.channels), np.float32)
        for channel, row in enumerate(block):  # ten times as quick as to copy the transpose
            samples[:, channel] = row
        with self._lock:
            self._file.seek(4 * self.channels * self.frames)
            self._file.write(samples.data)
            self._file.flush()
            self.frames += block.shape[1]
        return samples.data

    def read(self, first: int, frames: int) -> Block:
        """`frames` frames from the frame `first` on. Raises AudioError when they are not all there."""
        samples = np.empty((frames, self.channels), np.float32)
        with self._lock:
            self._file.seek(4 * self.channels * first)
            count = self._file.readinto(samples.data)  # type: ignore[attr-defined]
        if count != samples.nbytes:
            raise AudioError("a file of stems lost its end while it was read: clear the cache and render again")
        return np.ascontiguousarray(samples.T)

    def reader(self, sample_rate: int, frames: int) -> Reader:
        """The first `frames` frames as a Reader, which keeps the file open."""

        def blocks(block_frames: int) -> Iterator[Block]:
            for start in range(0, frames, block_frames):
                yield self.read(start, min(block_frames, frames - start))

        return Reader(sample_rate, self.channels, frames, blocks)

    def close(self) -> None:
        self._closer()


class Spool:
    """A store for named stems of one shape, each in a nameless temporary file.

    The files are gone when the spool is closed or no longer used, or the process ends.

    >>> with Spool(["bass"], 44100, 1) as spool:
    ...     spool.write({"bass": np.zeros((1, 100), np.float32)})
    ...     spool.reader("bass").read()
    Audio(1 channels, 100 frames, 44100 Hz)
    """

    def __init__(self, names: Iterable[str], sample_rate: int, channels: int, folder: str | Path | None = None):
        self.sample_rate, self.channels = sample_rate, channels
        self._advice = TEMPORARY if folder is None else ELSEWHERE
        self._path = temporary_path() if folder is None else Path(folder) / "spool"
        with writing(self._path, self._advice):
            self._files = {
                name: SampleFile(tempfile.TemporaryFile(dir=self._path.parent), channels)  # noqa: SIM115
                for name in names
            }

    def write(self, blocks: Mapping[str, Block]) -> None:
        """Append a block, float (channels, n), to each of the named stems.

        Raises AudioError for a wrong shape, AudioFileError when the disk is full.
        """
        for name, block in blocks.items():
            if block.ndim != 2 or block.shape[0] != self.channels:
                raise AudioError(f"stem {name!r} takes blocks of shape ({self.channels}, n), not {block.shape}")
            with writing(self._path, self._advice):
                self._files[name].append(block)

    def reader(self, name: str) -> Reader:
        """What was written to the stem so far; it can be read until the spool is closed."""
        file = self._files[name]
        return file.reader(self.sample_rate, file.frames)

    def close(self) -> None:
        for file in self._files.values():
            file.close()

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
