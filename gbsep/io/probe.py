"""Looking at an audio file: what is in it, and whether it is whole.

Conventions
- A file that is not whole is refused: a shorter signal than the header promises, or a longer one, is an error
  (AudioFileError) and never padded or cut without a word. Exception: a WAV whose header says "length unknown", as
  programs write into a pipe (RIFF and data size both 0xFFFFFFFF; SoX: 0x7FFFF000), ends where the file ends, and a FLAC
  without a length ends at its last frame.
- An MP3 file is as long as its frames, whatever its header counts (`mp3`); a header that counts others is a warning.
- Other containers (m4a, mp4, mkv, webm, ...) are decoded by PyAV (`pip install gbsep[av]`) into a temporary spool
  (`pyav`); the frame count that `probe` gives for them is what the container declares, that of `open_audio` is exact.
- Whatever a library raises on a file is an AudioFileError: one file's trouble.

References: EBU Tech 3285 (Broadcast Wave), EBU Tech 3306 (RF64), RFC 9639 (FLAC).
"""

from __future__ import annotations

import os
import re
import stat
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..arguments import checked
from ..audio import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE
from ..errors import AudioFileError, GbsepError
from . import formats, framing, mp3, pyav, sndfile, tags
from .formats import CONTAINERS, FORMATS, Kind
from .wholeness import REPAIR, SHORTENED, UNKNOWN_SIZES, check_alone, check_chunks, check_last_ogg_page, ogg_streams

if TYPE_CHECKING:
    import soundfile

_TIME_REFERENCE = struct.Struct("=II")
_TIME_REFERENCE_AT = 340
_MP3_FRAME = 2881
"""Bytes in the largest MP3 frame."""


@dataclass(frozen=True)
class FileInfo:
    """What a file says of itself.

    `frames` is exact; for what is read through PyAV it is so where `opened` gives it. `container` is a value of
    CONTAINERS, or PyAV's demuxer. `tags` holds those of `tags.NAMES` that the file has. `broadcast` is libsndfile's
    SF_BROADCAST_INFO as raw bytes (the `bext` chunk of a Broadcast Wave file), or None. `warnings` are what the user
    should know, such as a header that is wrong.
    """

    path: Path
    sample_rate: int
    channels: int
    frames: int
    container: str
    subtype: str
    tags: dict[str, str]
    broadcast: bytes | None = None
    warnings: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        return self.frames / self.sample_rate

    @property
    def time_reference(self) -> int | None:
        """Where the first frame lies on the session's time line, in frames since midnight (BWF), or None."""
        if self.broadcast is None:
            return None
        return _time_reference(self.broadcast)


def _time_reference(broadcast: bytes) -> int:
    low, high = map(int, _TIME_REFERENCE.unpack_from(broadcast, _TIME_REFERENCE_AT))
    return high << 32 | low


def shift_time_reference(broadcast: bytes, frames: int) -> bytes:
    """`broadcast` for an excerpt that begins `frames` frames later (frames >= 0)."""
    moved = _time_reference(broadcast) + frames
    out = bytearray(broadcast)
    _TIME_REFERENCE.pack_into(out, _TIME_REFERENCE_AT, moved & 0xFFFFFFFF, moved >> 32)
    return bytes(out)


@checked
def probe(path: str | Path) -> FileInfo:
    """What is in the file, and whether it is whole, in milliseconds.

    Raises AudioFileError for anything that is no readable mono or stereo audio file: missing, a folder, empty, not
    audio, no frames, more than two channels, a sample rate that gbsep does not take, truncated, or with a header that
    lies about the length.
    """
    return look(Path(path)).info


@dataclass(frozen=True)
class Look:
    """What `look` finds: the file's FileInfo, its kind, and whether PyAV reads it rather than libsndfile."""

    info: FileInfo
    kind: Kind
    needs_pyav: bool


def look(path: Path) -> Look:
    """As `probe`, and also how the file is read. Raises AudioFileError."""
    with sndfile.reading_errors(path):
        kind = formats.recognise(path)
        check_alone(path, kind)
        info, needs_pyav = _look_sound(path, kind) if kind.sound else (_look_pyav(path, kind), True)
        if info.channels not in (1, 2):
            raise AudioFileError(
                path, f"{info.channels} channels; gbsep takes mono or stereo: fold it down first, "
                "for example with: ffmpeg -i IN -ac 2 OUT",
            )  # fmt: skip
        if info.frames == 0:
            raise AudioFileError(path, "holds no audio: zero frames; record or export it again")
        if not MIN_SAMPLE_RATE <= info.sample_rate <= MAX_SAMPLE_RATE:
            raise AudioFileError(
                path, f"header says {info.sample_rate} Hz, gbsep takes {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz: "
                f"{REPAIR}, or convert it first",
            )  # fmt: skip
    return Look(info, kind, needs_pyav)


def info_of(path: Path, kind: Kind, found: pyav.Found) -> FileInfo:
    """What PyAV found, as a FileInfo."""
    about = found.sample_rate, found.channels, found.frames, kind.demuxer or "", found.codec, found.tags
    return FileInfo(path, *about, warnings=tuple(found.warnings))


def _look_pyav(path: Path, kind: Kind) -> FileInfo:
    return info_of(path, kind, pyav.look(path, kind))


def _look_sound(path: Path, kind: Kind) -> tuple[FileInfo, bool]:
    """What libsndfile reads, or PyAV where that cannot; whether it is PyAV."""
    try:
        return _probe_sound(path, kind), False
    except sndfile.Unsupported as unsupported:
        if kind.demuxer is None:
            raise
        # A reason of PyAV's is worth less than that of the library which knows the container best.
        try:
            return _look_pyav(path, kind), True
        except AudioFileError as error:
            raise (error if "pip install" in error.reason else unsupported) from None


def _probe_sound(path: Path, kind: Kind) -> FileInfo:
    with sndfile.opened(path, kind) as (sound, stream):
        container = CONTAINERS[sound.format]
        frames, warnings, last_seen = sound.frames, list[str](), False
        found = tags.of(sndfile.strings(sound))
        if container in ("wav", "rf64", "aiff"):
            found = tags.merged(tags.of_id3(check_chunks(path)), found)
        elif container == "flac":
            frames, last_seen = _flac_frames(path, kind.start, sound.frames)
        elif container == "ogg":
            if ogg_streams(path) > 1:
                raise sndfile.Unsupported(path, "holds several Ogg streams: split it, or join the sound in an editor")
            check_last_ogg_page(path)
        elif container == "mp3":
            found = tags.of_id3(path)
            warnings += _check_mp3(path, stream)
        else:
            _check_log(path, sound.extra_info)
        if frames and frames == sound.frames and not last_seen and sound.seekable():
            with sndfile.hushed(kind):
                _check_last_frame(path, sound)
        broadcast = sndfile.broadcast(sound) if container in ("wav", "rf64") else None
        warnings += tags.warnings(found[1])
        about = sound.samplerate, sound.channels, frames, container, sound.subtype, found[0], broadcast
        return FileInfo(path, *about, tuple(warnings))


def _check_mp3(path: Path, stream: mp3.Mp3 | None) -> list[str]:
    """Compare what the header frame promises with the frames that are there; what is to be said of them."""
    if stream is None:
        return []
    if stream.changes_at is not None:
        at_s = stream.seconds(stream.changes_at)
        raise AudioFileError(
            path, f"changes its sample rate or channels at {at_s:.3f} s: it is several files joined; "
            "bring the parts to one format before joining them",
        )  # fmt: skip
    warnings = []
    stated = stream.header.count if stream.header else None
    if stated and abs(stated - stream.count) > 1:
        size = stream.header.size if stream.header else None
        lengths = f"{stream.seconds(stated):.3f} s of sound, {stream.seconds(stream.count):.3f} s are there"
        if stated > stream.count and (stream.cut or not size or size > stream.size + _MP3_FRAME):
            raise AudioFileError(path, f"header promises {lengths}: {SHORTENED}")
        warnings.append(f"its header tells of {lengths} and used: the header is of another file or part")
    elif stream.cut and not stated:
        warnings.append("it ends within an MP3 frame, as a cut file or a dump of a stream does: its end may be missing")
    if stream.lost:
        warnings.append(f"{stream.lost} of its {stream.count} MP3 frames are damaged and silent")
    return warnings


def _check_log(path: Path, log: str) -> None:
    """Take libsndfile's word for a size in the header that is larger than the file."""
    for stated, there in re.findall(r"(\d+) \(should be (\d+)", log):
        if int(stated) > int(there) and int(stated) not in UNKNOWN_SIZES:
            raise AudioFileError(path, f"header promises {stated} bytes, {there} are there: {SHORTENED}")


def _check_last_frame(path: Path, sound: soundfile.SoundFile) -> None:
    import soundfile

    try:
        sound.seek(sound.frames - 1)
        whole = len(sound.read(1)) == 1
    except (soundfile.LibsndfileError, RuntimeError):
        whole = False
    if not whole:
        raise AudioFileError(path, f"the last of its {sound.frames} frames cannot be read: {SHORTENED}")


def _flac_frames(path: Path, start: int, stated: int) -> tuple[int, bool]:
    """The number of frames, and whether the last FLAC frame in the file was found, which it is checked against."""
    end = framing.flac_end(path, start)
    if end is None and stated == sndfile.NO_LENGTH:
        raise AudioFileError(path, f"states no length, and its last FLAC frame is not whole: {SHORTENED}")
    if end not in (None, stated) and stated != sndfile.NO_LENGTH:
        raise AudioFileError(path, f"header promises {stated} frames, the audio ends at {end}: {REPAIR}")
    return (stated, False) if end is None else (end, True)


def is_stem(path: str | Path) -> bool:
    """Whether a file is a stem that gbsep made, by its tags; False for a file that cannot be read."""
    with suppress(GbsepError, OSError, ValueError):
        if Path(path).suffix.lower().removeprefix(".") in FORMATS and stat.S_ISREG(os.stat(path).st_mode):
            return tags.STEM_MARK in probe(path).tags.get("software", "")
    return False
