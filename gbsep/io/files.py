"""Audio files: look at one, read it block by block, resample, write it. The only module that knows soundfile and soxr.

Conventions
- `probe` and `open` refuse a file that is not whole: a shorter signal than the header promises, or a longer one, is an
  error (AudioFileError) and never padded or cut without a word. Exception: a WAV whose header says "length unknown",
  as programs write into a pipe (RIFF and data size both 0xFFFFFFFF; SoX: 0x7FFFF000), ends where the file ends, and a
  FLAC without a length ends at its last frame.
- Full scale is +-1.0. Integer files are written by rounding to the nearest step; +1.0 becomes the highest code, one
  step below it. Anything beyond is an error, never clipped: see `largest_sample`. Float WAV takes any finite value.
- A file appears under its name only when it is whole: it is written under a hidden name beside it, read back, and moved
  into place.
- Equal samples, format and tags give equal bytes.
- An MP3 file is as long as its frames, whatever its header counts (`mp3`); a header that counts others is told.
- Other containers (m4a, mp4, mkv, webm, ...) are decoded by PyAV (`pip install gbsep[av]`) into a temporary spool
  (`decoding`); the frame count that `probe` tells for them is what the container declares, that of `opened` is exact.
- Whatever a library raises on a file is an AudioFileError: one file's trouble.

References: EBU Tech 3285 (Broadcast Wave), EBU Tech 3306 (RF64), RFC 9639 (FLAC); libsndfile's `sf_command`
documentation; soxr, https://sourceforge.net/p/soxr.
"""

from __future__ import annotations

import io
import os
import re
import stat
import struct
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arguments import checked
from ..audio import (
    MAX_SAMPLE_RATE,
    MIN_SAMPLE_RATE,
    Audio,
    Block,
    Reader,
    check_file,
    check_finite,
    part,
    rechunk,
)
from ..errors import AudioError, AudioFileError, GbsepError, ParameterError, nearest, printable
from . import formats, framing, hush, mp3
from . import pyav as decoding
from . import tags as tagging
from .formats import Kind
from .spool import TEMPORARY, shut, temporary_path, with_room, writing
from .spool import Spool as Spool
from .wholeness import REPAIR, SHORTENED, UNKNOWN_SIZES, check_chunks, check_last_ogg_page, ogg_streams

if TYPE_CHECKING:
    import soundfile

CONTAINERS = {
    "WAV": "wav", "WAVEX": "wav", "RF64": "rf64", "W64": "w64", "FLAC": "flac", "AIFF": "aiff", "OGG": "ogg",
    "MP3": "mp3", "CAF": "caf", "AU": "au",
}  # fmt: skip
"""libsndfile's names of the containers that gbsep reads itself, and gbsep's."""

STEM_MARK = "gbsep stem"
"""What the tag `software` of a stem ends with, by which `is_stem` knows what gbsep made, wherever it lies."""

SFC_SET_ADD_PEAK_CHUNK = 0x1050
SFC_GET_BROADCAST_INFO = 0x10F0
SFC_SET_BROADCAST_INFO = 0x10F1
_TIME_REFERENCE = struct.Struct("=II")
_TIME_REFERENCE_AT = 340
_BROADCAST_HEAD = 608
_BROADCAST_LARGEST = _BROADCAST_HEAD + 16 * 1024


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
        low, high = _TIME_REFERENCE.unpack_from(self.broadcast, _TIME_REFERENCE_AT)
        return high << 32 | low


def shift_time_reference(broadcast: bytes, frames: int) -> bytes:
    """`broadcast` for an excerpt that begins `frames` frames later (frames >= 0)."""
    low, high = _TIME_REFERENCE.unpack_from(broadcast, _TIME_REFERENCE_AT)
    moved = (high << 32 | low) + frames
    out = bytearray(broadcast)
    _TIME_REFERENCE.pack_into(out, _TIME_REFERENCE_AT, moved & 0xFFFFFFFF, moved >> 32)
    return bytes(out)


# Looking at a file


def tempo_bpm(path: str | Path) -> float | None:
    """The tempo that the tags of a file state (ID3 `TBPM`, Vorbis `BPM` or `TEMPO`, MP4 `tmpo`), in beats per minute.

    None when they state none, or one outside 20 to 999: many programs write 0 for "not known".
    """
    import mutagen

    # mutagen meets damaged tags with exceptions of every kind.
    with suppress(Exception):
        file = mutagen.File(path)
        words = file.tags if file is not None else None
        for name in ("TBPM", "BPM", "TEMPO", "tmpo"):
            found = words.get(name) if words else None
            if not found:
                continue
            with suppress(ValueError):
                tempo = float(str(found[0]).replace(",", "."))
                if 20 <= tempo <= 999:
                    return tempo
    return None


@checked
def probe(path: str | Path) -> FileInfo:
    """What is in the file, and whether it is whole, in milliseconds.

    Raises AudioFileError for anything that is no readable mono or stereo audio file: missing, a folder, empty, not
    audio, no frames, more than two channels, a sample rate that gbsep does not take, truncated, or with a header that
    lies about the length.
    """
    return _look(Path(path))[0]


Content = Callable[[], tuple[FileInfo, Callable[[int, int], Reader]]]
"""What gives (the FileInfo, with what decoding found out; what gives the Reader of an excerpt by start and frames)."""


def _look(path: Path) -> tuple[FileInfo, Content]:
    """The file's FileInfo, and what reads it."""
    with _reading(path):
        kind = formats.recognise(path)
        looks = _look_av if not kind.sound else _look_sound
        info, content = looks(path, kind)
        if info.channels not in (1, 2):
            raise AudioFileError(
                path, f"{info.channels} channels; gbsep takes mono or stereo: fold it down first, "
                "for example with: ffmpeg -i IN -ac 2 OUT",
            )  # fmt: skip
        if info.frames == 0:
            raise AudioFileError(path, "holds no audio: zero frames")
        if not MIN_SAMPLE_RATE <= info.sample_rate <= MAX_SAMPLE_RATE:
            raise AudioFileError(
                path, f"header says {info.sample_rate} Hz, gbsep takes {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz: "
                f"{REPAIR}, or convert it first",
            )  # fmt: skip
    return info, content


def _address(path: Path) -> bytes | str:
    """A path as soundfile opens it: where names are bytes, they may be in any encoding."""
    return os.fsencode(path) if os.name == "posix" else str(path)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Whatever libraries raise on a file becomes AudioFileError."""
    import soundfile

    try:
        yield
    except GbsepError:
        raise
    except soundfile.LibsndfileError as error:
        raise AudioFileError(path, f"cannot be read ({error.error_string.rstrip(' .')}): {SHORTENED}") from error
    except OSError as error:
        raise AudioFileError(path, f"cannot be read: {error.strerror or error}") from error
    except Exception as error:
        why = printable(f"{type(error).__name__}: {error}".removesuffix(": "))
        raise AudioFileError(path, f"cannot be read ({why}): {SHORTENED}") from error


def _look_av(path: Path, kind: Kind) -> tuple[FileInfo, Content]:
    def info(found: decoding.Found) -> FileInfo:
        about = found.sample_rate, found.channels, found.frames, kind.demuxer or "", found.codec, found.tags
        return FileInfo(path, *about, warnings=tuple(found.warnings))

    def content() -> tuple[FileInfo, Callable[[int, int], Reader]]:
        with _reading(path):
            found, reader = decoding.decode(path, kind)
        return info(found), partial(part, reader)

    return info(decoding.look(path, kind)), content


def _look_sound(path: Path, kind: Kind) -> tuple[FileInfo, Content]:
    """What libsndfile reads, or PyAV where that cannot."""
    try:
        info = _probe_sound(path, kind)
    except _Unsupported as unsupported:
        if kind.demuxer is None:
            raise
        # A reason of PyAV's is worth less than that of the library which knows the container best.
        try:
            return _look_av(path, kind)
        except AudioFileError as error:
            raise (error if "pip install" in error.reason else unsupported) from None

    def excerpt(start: int, frames: int) -> Reader:
        return Reader(info.sample_rate, info.channels, frames, partial(_blocks, info, kind, start, frames))

    return info, lambda: (info, excerpt)


def _probe_sound(path: Path, kind: Kind) -> FileInfo:
    with _sound(path, kind) as (sound, stream):
        container = CONTAINERS[sound.format]
        frames, warnings, last_seen = sound.frames, list[str](), False
        found = _tags(sound)
        if container in ("wav", "rf64", "aiff"):
            found = tagging.merged(tagging.of_id3(check_chunks(path)), found)
        elif container == "flac":
            frames, last_seen = _flac_frames(path, kind.start, sound.frames)
        elif container == "ogg":
            if ogg_streams(path) > 1:
                raise _Unsupported(path, "holds several streams, one after another or side by side")
            check_last_ogg_page(path)
        elif container == "mp3":
            found = tagging.of_id3(path)
            warnings += _check_mp3(path, stream)
        else:
            _check_log(path, sound.extra_info)
        if frames and frames == sound.frames and not last_seen and sound.seekable():
            with _hushed(kind):
                _check_last_frame(path, sound)
        broadcast = _broadcast(sound) if container in ("wav", "rf64") else None
        warnings += tagging.warnings(found[1])
        about = sound.samplerate, sound.channels, frames, container, sound.subtype, found[0], broadcast
        return FileInfo(path, *about, tuple(warnings))


_UNSUPPORTED = (1, 4, 64)
"""libsndfile's errors for a container or a codec in it that it does not know; the last one is that of WAV."""


class _Unsupported(AudioFileError):
    """libsndfile cannot read it, though it may be whole."""


@contextmanager
def _sound(path: Path, kind: Kind) -> Iterator[tuple[soundfile.SoundFile, mp3.Mp3 | None]]:
    """The file, opened by libsndfile; an MP3 file as a stream of its frames, with what was found in it."""
    import soundfile

    with ExitStack() as opened:
        source: Any = _address(path)
        stream = mp3.scan(path) if kind.mp3 else None
        if kind.mp3 and (stream is None or not stream.count):
            raise AudioFileError(path, _NO_MPEG)
        if stream is not None:
            with writing(temporary_path(), TEMPORARY):
                source = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `opened`
                opened.callback(shut, source)
                stream.copy(path, source)
                source.seek(0)
        try:
            with hush.hushed():
                sound = opened.enter_context(soundfile.SoundFile(source))
        except soundfile.LibsndfileError as error:
            reason = error.error_string.rstrip(" .")
            refused = _Unsupported if error.code in _UNSUPPORTED else AudioFileError
            raise refused(path, f"is no audio that gbsep can read ({reason}); is it what its name says?") from None
        except TypeError:
            # soundfile takes a name that ends in .raw for headerless samples, and asks for their rate.
            raise AudioFileError(path, "raw samples state neither rate nor channels: convert it to WAV first") from None
        if sound.format == "MP3" and stream is None:
            raise AudioFileError(path, _NO_MPEG)
        if sound.subtype.startswith("MPEG") and sound.format != "MP3":
            raise _Unsupported(path, f"holds {sound.subtype}, whose length libsndfile guesses")
        if sound.format not in CONTAINERS:
            known = ", ".join(sorted(set(CONTAINERS.values())))
            raise AudioFileError(path, f"is a {sound.format} file; gbsep reads {known}: convert it to WAV first")
        yield sound, stream


_NO_MPEG = "is no audio that gbsep can read: no MPEG frame is in it; is it what its name says?"


def _hushed(kind: Kind) -> AbstractContextManager[None]:
    return hush.hushed() if kind.mp3 else nullcontext()


def _tags(sound: soundfile.SoundFile) -> tagging.Found:
    """Those that libsndfile finds, as bytes: soundfile would put U+FFFD in the place of what is no UTF-8."""
    import soundfile

    snd, ffi, handle = _native(sound)
    texts = {name: snd.sf_get_string(handle, number) for name, number in soundfile._str_types.items()}
    return tagging.of((name, ffi.string(text)) for name, text in texts.items() if text)


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


_MP3_FRAME = 2881
"""Bytes in the largest MP3 frame."""


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


def _broadcast(sound: soundfile.SoundFile) -> bytes | None:
    snd, ffi, handle = _native(sound)
    raw = ffi.new("char[]", _BROADCAST_LARGEST)
    if not snd.sf_command(handle, SFC_GET_BROADCAST_INFO, raw, _BROADCAST_LARGEST):
        return None
    (history,) = struct.unpack_from("=I", ffi.buffer(raw), _BROADCAST_HEAD - 4)
    return bytes(ffi.buffer(raw)[: _BROADCAST_HEAD + history])


def _native(sound: soundfile.SoundFile) -> tuple[Any, Any, Any]:
    """libsndfile itself, cffi, and the file's handle: soundfile has no public way to `sf_command`."""
    import soundfile

    return soundfile._snd, soundfile._ffi, sound._file


_NO_LENGTH = 2**63 - 1
"""The frame count of libsndfile for a FLAC file that states none."""


def _flac_frames(path: Path, start: int, stated: int) -> tuple[int, bool]:
    """The number of frames, and whether the last FLAC frame in the file was found, which it is checked against."""
    end = framing.flac_end(path, start)
    if end is None and stated == _NO_LENGTH:
        raise AudioFileError(path, f"states no length, and its last FLAC frame is not whole: {SHORTENED}")
    if end not in (None, stated) and stated != _NO_LENGTH:
        raise AudioFileError(path, f"header promises {stated} frames, the audio ends at {end}: {REPAIR}")
    return (stated, False) if end is None else (end, True)


# Reading


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
def opened(path: str | Path, start_s: float = 0.0, duration_s: float | None = None) -> tuple[FileInfo, Reader]:
    """The file's FileInfo, its `frames` those that can be read, and the file or an excerpt of it as a Reader.

    Raises what `probe` and `excerpt` raise; while reading, AudioFileError for samples that are not finite, or fewer
    than promised.
    """
    info, content = _look(Path(path))[1]()
    return info, content(*excerpt(info, start_s, duration_s))


def open(path: str | Path, start_s: float = 0.0, duration_s: float | None = None) -> Reader:
    """The file, or an excerpt of it, as a Reader. Raises as `opened` does."""
    return opened(path, start_s, duration_s)[1]


@checked
def read(path: str | Path, start_s: float = 0.0, duration_s: float | None = None) -> Audio:
    """The file, or an excerpt of it, in memory. Raises as `open` does."""
    return open(path, start_s, duration_s).read()


def _blocks(
    info: FileInfo, kind: Kind, start: int, frames: int, block_frames: int, seeks: bool = True
) -> Iterator[Block]:
    at, end = 0, start + frames
    with _reading(info.path), _sound(info.path, kind) as (sound, _):
        # A lossy decoder that is sent to a place does not give to the last bit what it gives in passing.
        if seeks and start and info.container not in ("mp3", "ogg") and sound.frames != _NO_LENGTH:
            try:
                at = sound.seek(start)
            except RuntimeError:
                # The seek table of a FLAC file may not be true: all is decoded up to the place.
                at = -1
        # soundfile's own read seeks after each block, which a FLAC file without a length refuses.
        snd, ffi, handle = _native(sound)
        buffer = np.empty((min(block_frames, end), info.channels), np.float32)
        into = ffi.cast("float *", ffi.from_buffer(buffer))
        while 0 <= at < end:
            with _hushed(kind):
                got = snd.sf_readf_float(handle, into, min(block_frames, (start if at < start else end) - at))
            if snd.sf_error(handle) or not got:
                raise AudioFileError(info.path, f"cannot be read beyond frame {at} of {info.frames}: {SHORTENED}")
            if at >= start:
                block = np.array(buffer[:got].T, order="C")
                check_file(info.path, block, at, info.sample_rate)
                yield block
            at += got
    if at < 0:
        yield from _blocks(info, kind, start, frames, block_frames, seeks=False)


def content_hash(path: str | Path) -> str:
    """SHA-256 of the file's bytes, in hexadecimal."""
    import hashlib

    digest = hashlib.sha256()
    try:
        with Path(path).open("rb") as file:
            while chunk := file.read(2**20):
                digest.update(chunk)
    except OSError as error:
        raise AudioFileError(path, f"cannot be read: {error.strerror or error}") from None
    return digest.hexdigest()


# Writing


@dataclass(frozen=True)
class _Container:
    """A row of FORMATS: libsndfile's names for the container and its bit depths, the default first; rates in words."""

    name: str
    subtypes: Mapping[str | None, str]
    rates: str


FORMATS = {
    "wav": _Container("WAV", {"float32": "FLOAT", "16": "PCM_16", "24": "PCM_24"}, "any rate"),
    "flac": _Container("FLAC", {"24": "PCM_24", "16": "PCM_16"}, "up to 65535 Hz, multiples of 10 Hz up to 655350"),
    "mp3": _Container(
        "MP3", {None: "MPEG_LAYER_III"}, "8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100 or 48000 Hz"
    ),
}
"""What gbsep writes. MP3 is at the highest constant bit rate of its sample rate: 320 kbit/s from 32 kHz on."""


@dataclass(frozen=True)
class OutputFormat:
    """A container (wav, flac, mp3) and a bit depth (16, 24, float32).

    Without a bit depth: float32 in WAV, 24 in FLAC; MP3 has none. Raises ParameterError for words that are not known,
    `check_output` for combinations that do not exist.

    >>> OutputFormat("flac")
    OutputFormat(container='flac', bit_depth='24')
    """

    container: str = "wav"
    bit_depth: str | None = None

    def __post_init__(self) -> None:
        if self.container not in FORMATS:
            raise ParameterError("format", self.container, nearest(str(self.container), FORMATS).lstrip("; "))
        if self.bit_depth not in (None, "16", "24", "float32"):
            raise ParameterError("bit_depth", self.bit_depth, "16, 24 or float32")
        if self.bit_depth is None:
            object.__setattr__(self, "bit_depth", next(iter(FORMATS[self.container].subtypes)))

    @property
    def suffix(self) -> str:
        return f".{self.container}"


def check_output(format: OutputFormat, sample_rate: int, channels: int) -> None:
    """Raise ParameterError for a rate, depth or channel count that the format cannot take."""
    import soundfile

    row = FORMATS[format.container]
    if format.bit_depth not in row.subtypes:
        depths = " or ".join(depth for depth in row.subtypes if depth)
        wav = "" if format.bit_depth != "float32" else "; for float32 choose wav"
        raise ParameterError(
            "bit_depth", format.bit_depth, f"{format.container} takes {depths}{wav}" if depths else
            f"{format.container} has no bit depth: leave it out, or choose wav or flac",
        )  # fmt: skip
    if channels not in (1, 2):
        raise ParameterError("channels", channels, "1 or 2")
    try:
        with soundfile.SoundFile(
            io.BytesIO(), "w", sample_rate, channels, row.subtypes[format.bit_depth], format=row.name
        ) as trial:
            trial.write(np.zeros((1, channels), np.float32))
    except soundfile.LibsndfileError:
        other = "" if format.container == "wav" else "; choose wav" + (" or flac" if format.container == "mp3" else "")
        raise ParameterError("sample_rate", sample_rate, f"{format.container} takes {row.rates}{other}", "Hz") from None


def largest_sample(format: OutputFormat) -> float:
    """The largest sample value that the format holds without clipping; infinity for float32 WAV.

    A render that brings its peak down to this value is safe in the format.
    """
    if format.bit_depth == "float32":
        return float("inf")
    return 1.0 if format.bit_depth is None else 1.0 - 2.0 ** (1 - int(format.bit_depth))


def may_clip(format: OutputFormat) -> bool:
    """Whether values beyond full scale are lost in this format: true of all but float32 WAV."""
    return largest_sample(format) < float("inf")


def bytes_per_sample(format: OutputFormat) -> int:
    """The most that a sample takes in the format."""
    return {"16": 2, "24": 3, "float32": 4, None: 2}[format.bit_depth]


def needs_rf64(format: OutputFormat, channels: int, frames: int) -> bool:
    """Whether a WAV file of this size passes 4 GB, its headers included, and so is written as RF64."""
    return format.container == "wav" and frames * channels * bytes_per_sample(format) + 2**20 >= 2**32


class Writer:
    """Takes the blocks of a file that `create` makes."""

    def __init__(self, path: Path, format: OutputFormat, sound: soundfile.SoundFile, frames: int):
        self.path, self.format, self.frames, self.written = path, format, frames, 0
        self._sound = sound

    def write(self, block: Block) -> None:
        """Append `block`, float (channels, n).

        Raises AudioError for a wrong shape or values that are not finite, AudioFileError when a value would clip, when
        more frames come than were announced, or when the disk takes no more.
        """
        block = np.asarray(block, np.float32)
        if block.ndim != 2 or block.shape[0] != self._sound.channels:
            raise AudioError(f"{self.path} takes blocks of shape ({self._sound.channels}, n), not {block.shape}")
        check_finite(block, self.written)
        if self.written + block.shape[1] > self.frames:
            raise AudioFileError(self.path, f"more frames than the {self.frames} that were announced")
        # libsndfile's encoders put a whole write on the stack: a large one ends the process.
        for start in range(0, block.shape[1], 2**16):
            samples = self._encode(block[:, start : start + 2**16].T)
            with _writing(self.path):
                self._sound.write(samples)
        self.written += block.shape[1]

    def _encode(self, samples: np.ndarray) -> np.ndarray:
        """(n, channels) as the container takes it: float32, or integers rounded to the nearest step."""
        if not may_clip(self.format):
            return np.ascontiguousarray(samples)
        bits = int(self.format.bit_depth or 24)
        scale = 2.0 ** (bits - 1)
        # One step over the highest code is +1.0, full scale itself, or a peak that a gain brought to it, rounded.
        peak = float(max(samples.max(), -samples.min()))
        if peak > largest_sample(self.format) + 1 / scale:
            raise AudioFileError(
                self.path, f"a peak of {20 * np.log10(peak):+.2f} dBFS would clip in {self.format.container}: "
                "turn the gain down, or write float32 WAV",
            )  # fmt: skip
        if self.format.bit_depth is None:
            return np.ascontiguousarray(samples)
        codes = np.multiply(samples, np.float32(scale), order="C")
        np.rint(codes, out=codes)
        np.clip(codes, -scale, scale - 1, out=codes)
        return codes.astype(np.int16) if bits == 16 else codes.astype(np.int32) << (32 - bits)


@contextmanager
def create(
    path: str | Path,
    format: OutputFormat,
    sample_rate: int,
    channels: int,
    frames: int,
    tags: Mapping[str, str] | None = None,
    broadcast: bytes | None = None,
) -> Iterator[Writer]:
    """Write a file of `frames` frames: `with create(...) as writer: writer.write(block)`.

    The file appears under `path`, replacing what is there, when the block is left without an exception and all frames
    are in it; before that, and after any exception, nothing of it is to be seen. `tags` are those of FileInfo;
    `broadcast` goes into a WAV file's `bext` chunk (FLAC and MP3 have no place for it).

    Raises ParameterError for what the format cannot take, AudioFileError for a folder or disk that does not take the
    file, or a number of frames other than announced.
    """
    import soundfile

    path = Path(path)
    check_output(format, sample_rate, channels)
    row = FORMATS[format.container]
    name = "RF64" if needs_rf64(format, channels, frames) else row.name
    best = {"compression_level": 0.0, "bitrate_mode": "CONSTANT"} if format.container == "mp3" else {}
    hidden = path.with_name(f".gbsep-{os.urandom(8).hex()}.tmp")
    sound = None
    try:
        with _writing(path):
            # Python has words for a folder that is missing or not writable; libsndfile has "System error".
            hidden.open("xb").close()
            subtype = row.subtypes[format.bit_depth]
            sound = soundfile.SoundFile(_address(hidden), "w", sample_rate, channels, subtype, format=name, **best)
            _describe(sound, format, tags or {}, broadcast)
        writer = Writer(path, format, sound, frames)
        yield writer
        if writer.written != frames:
            raise AudioFileError(path, f"{writer.written} frames written, {frames} announced")
        with _writing(path):
            sound.close()
            if format.container == "mp3":
                _write_id3(hidden, tags or {})
            _check_written(path, hidden, frames)
            os.replace(hidden, path)
    finally:
        if sound is not None:
            with suppress(soundfile.LibsndfileError):
                sound.close()
        with suppress(OSError):
            hidden.unlink()


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Errors of the disk, of libsndfile and of mutagen become AudioFileError."""
    import soundfile

    try:
        yield
    except (OSError, soundfile.LibsndfileError) as error:
        reason = str(error.strerror or error) if isinstance(error, OSError) else error.error_string.rstrip(" .")
        raise AudioFileError(path, f"cannot be written: {with_room(path, reason)}") from None


def _check_written(path: Path, hidden: Path, frames: int) -> None:
    """Encoders keep a full disk to themselves when they write their last frames: look at what is there."""
    try:
        found = probe(hidden).frames
    except AudioFileError as error:
        raise AudioFileError(path, f"was not written whole ({error.reason}); is the disk full?") from None
    if found != frames:
        raise AudioFileError(path, f"was not written whole: {found} of {frames} frames")


@checked
def write(
    path: str | Path,
    audio: Audio,
    format: OutputFormat | None = None,
    tags: Mapping[str, str] | None = None,
    broadcast: bytes | None = None,
) -> None:
    """Write `audio` to `path`, in the format of its suffix (float32 WAV, FLAC, MP3) unless told otherwise.

    Replaces what is there. Raises as `OutputFormat`, `create` and `Writer.write` do.
    """
    format = format or OutputFormat(Path(path).suffix.lower().removeprefix("."))
    with create(path, format, audio.sample_rate, audio.channels, audio.frames, tags, broadcast) as writer:
        for block in audio.reader().blocks():
            writer.write(block)


def _describe(
    sound: soundfile.SoundFile, format: OutputFormat, tags: Mapping[str, str], broadcast: bytes | None
) -> None:
    """Everything that stands before the audio, but for float WAV's PEAK chunk: that holds the time of writing."""
    snd, ffi, handle = _native(sound)
    snd.sf_command(handle, SFC_SET_ADD_PEAK_CHUNK, ffi.NULL, 0)
    if format.container == "wav" and broadcast is not None:
        snd.sf_command(handle, SFC_SET_BROADCAST_INFO, ffi.from_buffer(broadcast), len(broadcast))
    if format.container != "mp3":
        for name in tagging.NAMES:
            if tags.get(name):
                setattr(sound, name, tags[name])


def _write_id3(path: Path, tags: Mapping[str, str]) -> None:
    """Tags of an MP3 file, in UTF-8: libsndfile writes them through an encoder that knows Latin-1 only."""
    from mutagen import MutagenError, id3

    frames = id3.ID3()
    for name, frame in tagging.NAMES.items():
        if tags.get(name):
            described = {"COMM": {"lang": "eng"}, "TXXX": {"desc": name}}.get(frame, {})
            frames.add(getattr(id3, frame)(encoding=id3.Encoding.UTF8, text=[tags[name]], **described))
    try:
        if frames:
            frames.save(path)
    except MutagenError as error:
        raise OSError(None, str(error)) from None


def marked(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags that say that the file they go into is a stem, made by gbsep: `"REAPER v7, gbsep stem"`."""
    before = tags.get("software", "").split(STEM_MARK)[0].rstrip(" ,")
    return {**tags, "software": f"{before}, {STEM_MARK}" if before else STEM_MARK}


def is_stem(path: str | Path) -> bool:
    """Whether a file is a stem that gbsep made, by its tags; no file that cannot be read is one."""
    with suppress(GbsepError, OSError, ValueError):
        if Path(path).suffix.lower().removeprefix(".") in FORMATS and stat.S_ISREG(os.stat(path).st_mode):
            return STEM_MARK in probe(path).tags.get("software", "")
    return False


# Resampling


def resample(reader: Reader, sample_rate: int) -> Reader:
    """The signal at another sample rate, round(frames * sample_rate / reader.sample_rate) frames long (at least one).

    Linear phase and time-aligned (soxr, very high quality). The same rate gives the same reader.
    """
    if sample_rate == reader.sample_rate:
        return reader
    frames = max(1, round(reader.frames * sample_rate / reader.sample_rate))

    def blocks(block_frames: int) -> Iterator[Block]:
        changed = resample_blocks(reader.blocks(), reader.sample_rate, sample_rate, reader.channels, frames)
        return rechunk(changed, block_frames)

    return Reader(sample_rate, reader.channels, frames, blocks)


def resample_blocks(
    blocks: Iterable[Block], from_rate: float, to_rate: float, channels: int, frames: int
) -> Iterator[Block]:
    """`blocks` at another sample rate, exactly `frames` frames long in all.

    A rate and back again may miss the length by half a frame of the other rate; so much is cut off the end or padded
    with zeros. Raises AudioError when more is missing or left over. The same rate passes through untouched.
    """
    slack = int(np.ceil(to_rate / from_rate)) + 1
    at = 0
    for block in blocks if from_rate == to_rate else _soxr(blocks, from_rate, to_rate, channels):
        over = at + block.shape[1] - frames
        if over > slack:
            raise AudioError(f"resampling gives more than the {frames} frames asked for")
        at += block.shape[1]
        kept = block[:, : block.shape[1] - max(0, over)]
        if kept.shape[1]:
            yield kept
    if frames - at > slack:
        raise AudioError(f"resampling gives {at} frames, {frames} were asked for")
    if frames > at:
        yield np.zeros((channels, frames - at), np.float32)


def _soxr(blocks: Iterable[Block], from_rate: float, to_rate: float, channels: int) -> Iterator[Block]:
    import soxr

    stream = soxr.ResampleStream(from_rate, to_rate, channels, dtype="float32", quality="VHQ")
    for block in blocks:
        yield np.ascontiguousarray(stream.resample_chunk(np.ascontiguousarray(block.T)).T)
    yield np.ascontiguousarray(stream.resample_chunk(np.zeros((0, channels), np.float32), last=True).T)
