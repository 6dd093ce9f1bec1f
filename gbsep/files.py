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
- Other containers (m4a, mp4, mkv, webm, ...) are decoded by PyAV (`pip install gbsep[av]`) into a temporary spool;
  the frame count that `probe` tells for them is what the container declares, that of the Reader is exact.

References: EBU Tech 3285 (Broadcast Wave), EBU Tech 3306 (RF64), RFC 9639 (FLAC), RFC 3533 (Ogg), ISO/IEC 11172-3
(MP3), id3.org (ID3v2.4); libsndfile's `sf_command` documentation; soxr, https://sourceforge.net/p/soxr.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import struct
import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import framing
from .arguments import checked
from .audio import Audio, Block, Reader, check_finite, rechunk
from .errors import AudioError, AudioFileError, NotFinite, ParameterError, nearest

if TYPE_CHECKING:
    import soundfile

CONTAINERS = {
    "WAV": "wav", "WAVEX": "wav", "RF64": "rf64", "W64": "w64", "FLAC": "flac", "AIFF": "aiff", "OGG": "ogg",
    "MP3": "mp3", "CAF": "caf", "AU": "au",
}  # fmt: skip
"""libsndfile's names of the containers that gbsep reads itself, and gbsep's."""

AV_SIGNATURES = (
    (4, b"ftyp", "mov"),
    (0, b"\x1a\x45\xdf\xa3", "matroska"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
    (8, b"AVI ", "avi"),
    (0, b"FLV\x01", "flv"),
    (0, b"wvpk", "wv"),
    (0, b"MAC ", "ape"),
    (0, b"\xff\xf1", "aac"),
    (0, b"\xff\xf9", "aac"),
    (0, b"\x47\x40", "mpegts"),
    (0, b"\x00\x00\x01\xba", "mpeg"),
)
"""(offset, signature, demuxer) of containers left to PyAV. Naming the demuxer keeps a text file from being taken for a
playlist that names other files."""

TAGS = {
    "title": "TIT2", "artist": "TPE1", "album": "TALB", "tracknumber": "TRCK", "date": "TDRC", "genre": "TCON",
    "comment": "COMM", "copyright": "TCOP", "software": "TSSE", "license": "TXXX",
}  # fmt: skip
"""The tags that gbsep carries, as libsndfile names them, and the ID3v2.4 frame for each."""

SFC_SET_ADD_PEAK_CHUNK = 0x1050
SFC_GET_BROADCAST_INFO = 0x10F0
SFC_SET_BROADCAST_INFO = 0x10F1
_CODEC_FRAMES = 8192
"""More frames than a packet of any common codec holds."""
_OGG_PAGE = 65307
"""Bytes in the largest Ogg page."""
_UNKNOWN_SIZES = (0xFFFFFFFF, 0x7FFFF000)
"""The data size in a WAV header that ffmpeg and SoX write into a pipe."""
_TIME_REFERENCE = struct.Struct("=II")
_TIME_REFERENCE_AT = 340
_BROADCAST_HEAD = 608
_BROADCAST_LARGEST = _BROADCAST_HEAD + 16 * 1024
_SHORTENED = "it is cut short or damaged: copy or export it again"
_REPAIR = "export it again from the program that made it"


@dataclass(frozen=True)
class FileInfo:
    """What a file says of itself.

    `frames` is exact, but for containers read through PyAV. `container` is a value of CONTAINERS, or PyAV's demuxer.
    `tags` holds those of TAGS that the file has. `broadcast` is libsndfile's SF_BROADCAST_INFO as raw bytes (the `bext`
    chunk of a Broadcast Wave file), or None.
    """

    path: Path
    sample_rate: int
    channels: int
    frames: int
    container: str
    subtype: str
    tags: dict[str, str]
    broadcast: bytes | None = None

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

    try:
        file = mutagen.File(path)
    except (mutagen.MutagenError, OSError):
        return None
    tags = file.tags if file is not None else None
    for name in ("TBPM", "BPM", "TEMPO", "tmpo"):
        found = tags.get(name) if tags else None
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
    audio, no frames, more than two channels, truncated, or with a header that lies about the length.
    """
    path = Path(path)
    demuxer = _demuxer(path)
    info = _probe_av(path, demuxer) if demuxer else _probe_sound(path)
    if info.channels not in (1, 2):
        raise AudioFileError(
            path, f"{info.channels} channels; gbsep takes mono or stereo: fold it down first, "
            "for example with: ffmpeg -i IN -ac 2 OUT",
        )  # fmt: skip
    if info.frames == 0:
        raise AudioFileError(path, "holds no audio: zero frames")
    if info.sample_rate < 1:
        raise AudioFileError(path, f"header says {info.sample_rate} Hz: {_REPAIR}")
    return info


def _demuxer(path: Path) -> str | None:
    """The PyAV demuxer for the file, None when libsndfile reads it. Raises AudioFileError when neither can."""
    if os.path.isdir(path):
        raise AudioFileError(path, "is a folder, not an audio file")
    if os.path.exists(path) and not os.path.isfile(path):
        raise AudioFileError(path, "is not a regular file")
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except FileNotFoundError:
        raise AudioFileError(path, "no such file; check the name and the folder") from None
    except OSError as error:
        raise AudioFileError(path, f"cannot be read: {error.strerror or error}") from None
    if not head:
        raise AudioFileError(path, "is empty (0 bytes): copy or export it again")
    return next((name for at, signature, name in AV_SIGNATURES if head[at:].startswith(signature)), None)


def _probe_sound(path: Path) -> FileInfo:
    with _sound(path) as sound:
        container = CONTAINERS[sound.format]
        frames = sound.frames
        if container in ("wav", "rf64", "aiff"):
            _check_chunks(path)
        elif container == "flac":
            frames = _flac_frames(path, sound.frames)
        elif container == "ogg":
            _check_last_ogg_page(path)
        elif container != "mp3":
            _check_log(path, sound.extra_info)
        if frames and frames == sound.frames:
            _check_last_frame(path, sound)
        broadcast = _broadcast(sound) if container in ("wav", "rf64") else None
        tags = {name: value for name, value in sound.copy_metadata().items() if value}
        return FileInfo(path, sound.samplerate, sound.channels, frames, container, sound.subtype, tags, broadcast)


def _address(path: Path) -> bytes | str:
    """A path as soundfile opens it: where names are bytes, they may be in any encoding."""
    return os.fsencode(path) if os.name == "posix" else str(path)


@contextmanager
def _sound(path: Path) -> Iterator[soundfile.SoundFile]:
    """The file, opened by libsndfile."""
    import soundfile

    with ExitStack() as opened:
        try:
            sound = opened.enter_context(soundfile.SoundFile(_address(path)))
        except soundfile.LibsndfileError as error:
            reason = error.error_string.rstrip(" .")
            raise AudioFileError(
                path, f"is no audio that gbsep can read ({reason}); is it what its name says?"
            ) from None
        except TypeError:
            # soundfile takes a name that ends in .raw for headerless samples, and asks for their rate.
            raise AudioFileError(path, "raw samples state neither rate nor channels: convert it to WAV first") from None
        if sound.format not in CONTAINERS:
            known = ", ".join(sorted(set(CONTAINERS.values())))
            raise AudioFileError(path, f"is a {sound.format} file; gbsep reads {known}: convert it to WAV first")
        if sound.format == "MP3" and sound.subtype != "MPEG_LAYER_III":
            raise AudioFileError(
                path, f"is {sound.subtype}; of MPEG audio gbsep reads layer III: convert it to WAV first"
            )
        if sound.format == "MP3" and (info_frame := framing.missing_info_frame(path)):
            at, data = info_frame
            copy = opened.enter_context(tempfile.TemporaryFile())
            with path.open("rb") as file:
                copy.write(file.read(at) + data)
                shutil.copyfileobj(file, copy)
            copy.seek(0)
            sound = opened.enter_context(soundfile.SoundFile(copy))
        yield sound


def _check_log(path: Path, log: str) -> None:
    """Take libsndfile's word for a size in the header that is larger than the file."""
    for stated, there in re.findall(r"(\d+) \(should be (\d+)", log):
        if int(stated) > int(there) and int(stated) not in _UNKNOWN_SIZES:
            raise AudioFileError(path, f"header promises {stated} bytes, {there} are there: {_SHORTENED}")


def _check_chunks(path: Path) -> None:
    """Compare the audio's size in a RIFF, RF64 or AIFF header with the file; libsndfile silently trusts the lesser."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(0)
        form, form_size = file.read(4), file.read(4)
        if form not in (b"RIFF", b"RIFX", b"RF64", b"FORM"):
            return
        u32 = struct.Struct(">I" if form in (b"FORM", b"RIFX") else "<I")
        size_64, audio_seen, at = 0, False, 12
        while at + 8 <= end:
            file.seek(at)
            name, size = file.read(4), u32.unpack(file.read(4))[0]
            if audio_seen and not all(0x20 <= byte < 0x7F for byte in name):
                break
            if name == b"ds64":
                size_64 = int.from_bytes(file.read(16)[8:], "little")
            elif name in (b"data", b"SSND") and not audio_seen:
                audio_seen, there = True, end - at - 8
                if form == b"RF64" and size == 0xFFFFFFFF:
                    size = size_64
                elif size in _UNKNOWN_SIZES and u32.unpack(form_size)[0] >= size:
                    return
                if size > there:
                    raise AudioFileError(
                        path, f"header promises {size} bytes of audio, {there} are there: {_SHORTENED}"
                    )
            at += 8 + size
            # Chunks begin at even places, but some programs forget the zero between.
            file.seek(at)
            if size % 2 and file.read(1) == b"\0":
                at += 1
        file.seek(min(at, end))
        rest = file.read(2**16)
        if audio_seen and rest.strip(b"\0") and not rest.startswith((b"TAG", b"ID3", b"APETAGEX")):
            raise AudioFileError(path, f"{end - at} bytes follow the audio that the header knows nothing of: {_REPAIR}")


def _check_last_ogg_page(path: Path) -> None:
    """The last page of a whole Ogg stream is marked as such (RFC 3533, 6); libsndfile reads what is left of others."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 2 * _OGG_PAGE))
        tail = file.read()
    page = tail[max(0, tail.rfind(b"OggS\0")) :]
    segments = page[27 : 27 + page[26]] if len(page) > 27 else b""
    if not segments or not page[5] & 4 or len(page) < 27 + len(segments) + sum(segments):
        raise AudioFileError(path, f"the last Ogg page is missing or not whole: {_SHORTENED}")


def _check_last_frame(path: Path, sound: soundfile.SoundFile) -> None:
    import soundfile

    try:
        sound.seek(sound.frames - 1)
        whole = len(sound.read(1)) == 1
    except soundfile.LibsndfileError:
        whole = False
    if not whole:
        raise AudioFileError(path, f"the last of its {sound.frames} frames cannot be read: {_SHORTENED}")


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


def _flac_frames(path: Path, stated: int) -> int:
    """The number of frames, checked against the last FLAC frame in the file where that is found."""
    end = framing.flac_end(path)
    if end is None and stated == _NO_LENGTH:
        raise AudioFileError(path, f"states no length, and its last FLAC frame is not whole: {_SHORTENED}")
    if end not in (None, stated) and stated != _NO_LENGTH:
        raise AudioFileError(path, f"header promises {stated} frames, the audio ends at {end}: {_REPAIR}")
    return stated if end is None else end


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
def open(path: str | Path, start_s: float = 0.0, duration_s: float | None = None) -> Reader:
    """The file, or an excerpt of it, as a Reader.

    Raises what `probe` and `excerpt` raise; while reading, AudioFileError for samples that are not finite, or fewer
    than promised.
    """
    info = probe(path)
    if info.container not in CONTAINERS.values():
        whole = _decode_av(info.path, info.container)
        return _part(whole, *excerpt(replace(info, frames=whole.frames), start_s, duration_s))
    start, frames = excerpt(info, start_s, duration_s)
    return Reader(
        info.sample_rate, info.channels, frames, lambda block_frames: _blocks(info, start, frames, block_frames)
    )


@checked
def read(path: str | Path, start_s: float = 0.0, duration_s: float | None = None) -> Audio:
    """The file, or an excerpt of it, in memory. Raises as `open` does."""
    return open(path, start_s, duration_s).read()


def _blocks(info: FileInfo, start: int, frames: int, block_frames: int) -> Iterator[Block]:
    at, end = 0, start + frames
    with _sound(info.path) as sound:
        # A lossy decoder that is sent to a place does not give to the last bit what it gives in passing.
        if info.container not in ("mp3", "ogg") and sound.frames != _NO_LENGTH:
            at = sound.seek(start)
        # soundfile's own read seeks after each block, which a FLAC file without a length refuses.
        snd, ffi, handle = _native(sound)
        buffer = np.empty((min(block_frames, end), info.channels), np.float32)
        into = ffi.cast("float *", ffi.from_buffer(buffer))
        while at < end:
            got = snd.sf_readf_float(handle, into, min(block_frames, (start if at < start else end) - at))
            if snd.sf_error(handle) or not got:
                raise AudioFileError(info.path, f"cannot be read beyond frame {at} of {info.frames}: {_SHORTENED}")
            if at >= start:
                yield _checked(info.path, np.array(buffer[:got].T, order="C"), at, info.sample_rate)
            at += got


def _checked(path: Path, block: Block, first_frame: int, sample_rate: int) -> Block:
    try:
        check_finite(block, first_frame)
    except AudioError as error:
        frame = first_frame + int(np.argmin(np.isfinite(block).all(axis=0)))
        raise NotFinite(path, f"{error}; export it again without them", frame / sample_rate) from None
    return block


def _part(reader: Reader, start: int, frames: int) -> Reader:
    """`frames` frames of a Reader from `start` on."""

    def blocks(block_frames: int) -> Iterator[Block]:
        at = 0
        for block in reader.blocks(block_frames):
            cut = block[:, max(0, start - at) : max(0, start + frames - at)]
            at += block.shape[1]
            if cut.shape[1]:
                yield cut
            if at >= start + frames:
                return

    whole = start == 0 and frames == reader.frames
    return reader if whole else Reader(reader.sample_rate, reader.channels, frames, blocks)


@contextmanager
def _av_stream(path: Path, demuxer: str) -> Iterator[tuple[Any, Any]]:
    """(container, its first audio stream) through PyAV, whose errors become AudioFileError."""
    try:
        import av
    except ImportError:
        raise AudioFileError(path, f"is a {demuxer} file, for which gbsep needs PyAV: pip install gbsep[av]") from None
    try:
        with av.open(str(path), format=demuxer, metadata_errors="replace") as container:
            if not container.streams.audio:
                raise AudioFileError(path, "has no audio track")
            stream = container.streams.audio[0]
            if stream.codec_context is None or not stream.sample_rate:
                raise AudioFileError(path, "has an audio track that PyAV cannot decode: convert it to WAV first")
            yield container, stream
    except av.FFmpegError as error:
        raise AudioFileError(path, f"cannot be decoded ({error.strerror}): {_SHORTENED}") from None


def _av_frames(stream: Any) -> int | None:
    """The frames that the container declares for the stream."""
    return None if stream.duration is None else round(stream.duration * stream.time_base * stream.sample_rate)


def _probe_av(path: Path, demuxer: str) -> FileInfo:
    with _av_stream(path, demuxer) as (container, stream):
        frames = _av_frames(stream)
        if frames is None:
            frames = round((container.duration or 0) * stream.sample_rate / 1_000_000)
        found = {name.lower(): value for name, value in {**container.metadata, **stream.metadata}.items()}
        found.setdefault("tracknumber", found.get("track", ""))
        tags = {name: found[name] for name in TAGS if found.get(name)}
        return FileInfo(path, stream.sample_rate, stream.channels, frames, demuxer, stream.codec_context.name, tags)


def _decode_av(path: Path, demuxer: str) -> Reader:
    """The whole audio track, decoded once into a spool that lives as long as the Reader."""
    with _av_stream(path, demuxer) as (container, stream):
        import av

        channels, sample_rate, declared = stream.channels, stream.sample_rate, _av_frames(stream)
        spool = Spool(["audio"], sample_rate, channels)
        to_float = av.AudioResampler("fltp", "mono" if channels == 1 else "stereo", sample_rate)
        frames = 0
        for decoded in container.decode(stream):
            for part in to_float.resample(decoded):
                block = _checked(path, part.to_ndarray(), frames, sample_rate)
                spool.write({"audio": block})
                frames += block.shape[1]
    # What a codec's last packet has beyond the declared end is padding.
    padding = 0 if declared is None else frames - declared
    if frames == 0 or padding < -_CODEC_FRAMES:
        raise AudioFileError(path, f"{frames} of {declared} frames could be decoded: {_SHORTENED}")
    return _part(spool.reader("audio"), 0, frames - padding if 0 < padding <= _CODEC_FRAMES else frames)


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
        reason = error.strerror if isinstance(error, OSError) else error.error_string.rstrip(" .")
        with suppress(OSError):
            free = f"{shutil.disk_usage(path.parent).free / 1e6:.0f} MB free in {path.parent}"
            reason = free if reason == "System error" else f"{reason}; {free}"
        raise AudioFileError(path, f"cannot be written: {reason}") from None


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
        for name in TAGS:
            if tags.get(name):
                setattr(sound, name, tags[name])


def _write_id3(path: Path, tags: Mapping[str, str]) -> None:
    """Tags of an MP3 file, in UTF-8: libsndfile writes them through an encoder that knows Latin-1 only."""
    from mutagen import MutagenError, id3

    frames = id3.ID3()
    for name, frame in TAGS.items():
        if tags.get(name):
            described = {"COMM": {"lang": "eng"}, "TXXX": {"desc": name}}.get(frame, {})
            frames.add(getattr(id3, frame)(encoding=id3.Encoding.UTF8, text=[tags[name]], **described))
    try:
        if frames:
            frames.save(path)
    except MutagenError as error:
        raise OSError(None, str(error)) from None


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


# Handing over


class Spool:
    """A store for named stems between a stage that makes them together and one that reads them one by one.

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
        self._path = Path(folder or tempfile.gettempdir()) / "spool"
        self._frames = dict.fromkeys(names, 0)
        self._lock = threading.Lock()
        opened = ExitStack()
        self._close = weakref.finalize(self, opened.close)

        def new_file() -> Any:
            return opened.enter_context(tempfile.TemporaryFile(dir=self._path.parent))

        with _writing(self._path):
            self._files = {name: [new_file() for _ in range(channels)] for name in self._frames}

    def write(self, blocks: Mapping[str, Block]) -> None:
        """Append a block, float (channels, n), to each of the named stems.

        Raises AudioError for a wrong shape, AudioFileError when the disk is full.
        """
        for name, block in blocks.items():
            if block.ndim != 2 or block.shape[0] != self.channels:
                raise AudioError(f"stem {name!r} takes blocks of shape ({self.channels}, n), not {block.shape}")
            with self._lock, _writing(self._path):
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
