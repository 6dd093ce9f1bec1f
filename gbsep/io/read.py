"""Reading audio files: whole, an excerpt, or block by block."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from ..arguments import checked
from ..audio import Audio, Block, Reader, check_file, part
from ..errors import AudioFileError, ParameterError
from . import pyav, sndfile
from .formats import Kind
from .probe import FileInfo, info_of, look
from .wholeness import SHORTENED


def excerpt(info: FileInfo, start_s: float = 0.0, duration_s: float | None = None) -> tuple[int, int]:
    """(first frame, number of frames) of an excerpt; one that would pass the end stops there.

    Raises ParameterError for times that are negative or not finite, or an empty excerpt, AudioFileError for one that
    begins beyond the end.
    """
    for name, value in (("start_s", start_s), ("duration_s", duration_s)):
        if value is not None and not 0 <= value < 1e9:
            raise ParameterError(name, value, "a finite time, 0 or later", "s")
    start = round(start_s * info.sample_rate)
    if start >= info.frames:
        raise AudioFileError(info.path, f"start {start_s:g} s is beyond its end at {info.seconds:.3f} s")
    left = info.frames - start
    frames = left if duration_s is None else min(left, round(duration_s * info.sample_rate))
    if frames == 0:
        raise ParameterError("duration_s", duration_s, f"at least one frame, {1 / info.sample_rate:.2g} s", "s")
    return start, frames


@checked
def open_audio(path: str | Path, start_s: float = 0.0, duration_s: float | None = None) -> tuple[FileInfo, Reader]:
    """The file's FileInfo, its `frames` those that can be read, and the file or an excerpt of it as a Reader.

    Raises what `probe` and `excerpt` raise; while reading, AudioFileError for samples that are not finite, or fewer
    than promised.
    """
    path = Path(path)
    found = look(path)
    if found.needs_pyav:
        with sndfile.reading_errors(path):
            track, whole = pyav.decode(path, found.kind)
        info = info_of(path, found.kind, track)
        return info, part(whole, *excerpt(info, start_s, duration_s))
    info = found.info
    start, frames = excerpt(info, start_s, duration_s)
    return info, Reader(info.sample_rate, info.channels, frames, partial(_blocks, info, found.kind, start, frames))


def open_reader(path: str | Path, start_s: float = 0.0, duration_s: float | None = None) -> Reader:
    """The file, or an excerpt of it, as a Reader. Raises as `open_audio` does."""
    return open_audio(path, start_s, duration_s)[1]


@checked
def read(path: str | Path, start_s: float = 0.0, duration_s: float | None = None) -> Audio:
    """The file, or an excerpt of it, in memory. Raises as `open_audio` does."""
    return open_reader(path, start_s, duration_s).read()


def _blocks(
    info: FileInfo, kind: Kind, start: int, frames: int, block_frames: int, seeks: bool = True
) -> Iterator[Block]:
    at, end = 0, start + frames
    with sndfile.reading_errors(info.path), sndfile.opened(info.path, kind) as (sound, _):
        # A lossy decoder that is sent to a place does not give to the last bit what it gives in passing.
        if seeks and start and info.container not in ("mp3", "ogg") and sound.frames != sndfile.NO_LENGTH:
            try:
                at = sound.seek(start)
            except RuntimeError:
                # The seek table of a FLAC file may not be true: all is decoded up to the place.
                at = -1
        # soundfile's own read seeks after each block, which a FLAC file without a length refuses.
        snd, ffi, handle = sndfile.native(sound)
        buffer = np.empty((min(block_frames, end), info.channels), np.float32)
        into = ffi.cast("float *", ffi.from_buffer(buffer))
        while 0 <= at < end:
            with sndfile.hushed(kind):
                got = snd.sf_readf_float(handle, into, min(block_frames, (start if at < start else end) - at))
            if snd.sf_error(handle) or not got:
                there = f"only {(at + got) / info.sample_rate:.3f} s" if at + got else "nothing"
                raise AudioFileError(info.path, f"{there} of its {info.seconds:.3f} s can be decoded: {SHORTENED}")
            if at >= start:
                block = np.array(buffer[:got].T, order="C")
                check_file(info.path, block, at, info.sample_rate)
                yield block
            at += got
    if at < 0:
        yield from _blocks(info, kind, start, frames, block_frames, seeks=False)
