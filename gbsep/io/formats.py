"""Formats: what a file is by its first bytes, which suffixes audio has, and which formats gbsep writes.

The demuxer is always named: otherwise ffmpeg may take a text file for a playlist of other files. A dump of a stream
begins inside a frame or packet, and is recognised by a run of MPEG frames or transport packets.

References: RFC 3533 (Ogg), ISO/IEC 11172-3 and 13818-7 (MPEG audio, ADTS), ETSI TS 102 366 (AC-3), id3.org (ID3v2.4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from ..errors import AudioFileError, ParameterError, nearest
from . import framing, streams


@dataclass(frozen=True)
class Kind:
    """How a file is read: `demuxer` by PyAV, `sound` by libsndfile; both: by PyAV what libsndfile does not decode.

    `mp3`: it is a stream of layer III frames. `promises`: the container states how long its audio is, elsewhere ffmpeg
    guesses from the bit rate. `start` is the byte where audio begins behind ID3 tags.
    """

    demuxer: str | None = None
    sound: bool = False
    mp3: bool = False
    promises: bool = True
    start: int = 0


_GUESS = {"promises": False}
SIGNATURES = (
    (8, b"AVI ", Kind("avi")),
    (0, b"RIFF", Kind("wav", sound=True)),
    (0, b"RF64", Kind("wav", sound=True)),
    (0, b"riff", Kind("w64", sound=True)),
    (0, b"FORM", Kind("aiff", sound=True)),
    (0, b"caff", Kind("caf", sound=True)),
    (0, b".snd", Kind("au", sound=True)),
    (0, b"fLaC", Kind(sound=True)),
    (4, b"ftyp", Kind("mov")),
    (4, b"moov", Kind("mov")),
    (4, b"mdat", Kind("mov")),
    (4, b"wide", Kind("mov")),
    (0, b"\x1a\x45\xdf\xa3", Kind("matroska")),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", Kind("asf")),
    (0, b"FLV\x01", Kind("flv")),
    (0, b".RMF", Kind("rm")),
    (0, b"\x06\x0e\x2b\x34\x02\x05\x01\x01", Kind("mxf")),
    (0, b"wvpk", Kind("wv")),
    (0, b"MAC ", Kind("ape")),
    (0, b"TTA1", Kind("tta")),
    (0, b"tBaK", Kind("tak")),
    (0, b"MP+", Kind("mpc")),
    (0, b"MPCK", Kind("mpc8")),
    (0, b"DSD ", Kind("dsf")),
    (0, b"FRM8", Kind("iff")),
    (0, b"ajkg", Kind("shn", **_GUESS)),
    (0, b"Creative Voice File", Kind("voc")),
    (0, b"#!AMR", Kind("amr", **_GUESS)),
    (0, b"\x7f\xfe\x80\x01", Kind("dts", **_GUESS)),
    (0, b"\xfe\x7f\x01\x80", Kind("dts", **_GUESS)),
    (0, b"\x1f\xff\xe8\x00", Kind("dts", **_GUESS)),
    (0, b"\xff\x1f\x00\xe8", Kind("dts", **_GUESS)),
    (0, b"DTSHDHDR", Kind("dtshd", **_GUESS)),
    (4, b"\xf8\x72\x6f\xba", Kind("truehd", **_GUESS)),
    (4, b"\xf8\x72\x6f\xbb", Kind("mlp", **_GUESS)),
    (0, b"\x00\x00\x01\xba", Kind("mpeg", **_GUESS)),
)
"""(offset, signature, kind) of containers and streams that begin with a mark of their own."""

MPEG_AUDIO = {
    0: Kind("aac", **_GUESS),
    1: Kind(sound=True, mp3=True),
    2: Kind("mp3", **_GUESS),
    3: Kind("mp3", **_GUESS),
}
"""The kind of a stream of MPEG frames, by the layer bits of its headers: ADTS, layer III, II and I."""

_TRANSPORT = Kind("mpegts", **_GUESS)
_SEARCHED = 2**20
"""Bytes through which the beginning of a stream is searched for."""


def recognise(path: Path) -> Kind:
    """How the file is read; a file without a known mark is left to libsndfile.

    Raises AudioFileError where there is no such file, or one that is no regular file, empty or not to be read.
    """
    if path.is_dir():
        raise AudioFileError(path, "is a folder, not an audio file")
    if path.exists() and not path.is_file():
        raise AudioFileError(path, "is not a regular file")
    try:
        with path.open("rb") as file:
            head = file.read(_SEARCHED)
            start = framing.id3_end(head)
            if start:
                file.seek(start)
                head = file.read(_SEARCHED) or head
    except FileNotFoundError:
        raise AudioFileError(path, "no such file; check the name and the folder") from None
    except (OSError, ValueError) as error:
        raise AudioFileError(path, f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not head:
        raise AudioFileError(path, "is empty (0 bytes): copy or export it again")
    return replace(_kind(head), start=start)


def _kind(head: bytes) -> Kind:
    if head.startswith(b"OggS"):
        body = head[27 + head[26] :] if len(head) > 27 else b""
        return Kind("ogg", sound=body.startswith((b"\x01vorbis", b"OpusHead")))
    if head.startswith(b"\x0b\x77") and len(head) > 5:
        return Kind("eac3" if head[5] >> 3 > 10 else "ac3", **_GUESS)
    if head.startswith(b"\x56") and len(head) > 1 and head[1] & 0xE0 == 0xE0:
        return Kind("loas", **_GUESS)
    for at, signature, kind in SIGNATURES:
        if head.startswith(signature, at):
            return kind
    if streams.packet_size(head) is not None:
        return _TRANSPORT
    within = streams.begins_within(head)
    if within is not None:
        return Kind(within, **_GUESS)
    first = framing.first_mpeg_frame(head)
    if first is None:
        # What looks like MPEG audio and is not would be taken for it by libsndfile.
        looks_like_it = head.startswith(b"ID3") or (head[0] == 0xFF and head[1:2] >= b"\xe0")
        return Kind(sound=True, mp3=looks_like_it)
    return MPEG_AUDIO[head[first + 1] >> 1 & 3]


# What gbsep reads and writes

AUDIO_SUFFIXES = frozenset({
    ".wav", ".wave", ".bwf", ".rf64", ".w64", ".flac", ".aif", ".aiff", ".aifc", ".ogg", ".oga", ".opus", ".mp3",
    ".caf", ".au", ".snd", ".m4a", ".m4b", ".mp4", ".mov", ".aac", ".mka", ".mkv", ".webm", ".wma", ".asf", ".avi",
    ".flv", ".wv", ".ape", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts", ".3gp", ".mp2", ".ac3", ".eac3", ".dts", ".tta",
    ".tak", ".mpc", ".dsf", ".voc", ".spx", ".ogv", ".wmv", ".m4v", ".m4r", ".3g2", ".f4v", ".rm", ".ra", ".mxf",
    ".dff", ".shn", ".amr", ".awb", ".mlp", ".thd", ".truehd", ".dtshd", ".vob", ".mpa", ".mp1", ".latm", ".loas",
})  # fmt: skip
"""Suffixes of audio files, and of films that hold sound, in lower case: what is looked for in a folder."""

CONTAINERS = {
    "WAV": "wav", "WAVEX": "wav", "RF64": "rf64", "W64": "w64", "FLAC": "flac", "AIFF": "aiff", "OGG": "ogg",
    "MP3": "mp3", "CAF": "caf", "AU": "au",
}  # fmt: skip
"""libsndfile's names of the containers that gbsep reads itself, and gbsep's."""

Container = Literal["wav", "flac", "mp3", "m4a", "ogg", "opus"]
BitDepth = Literal["16", "24", "float32"]
BIT_DEPTHS: tuple[BitDepth, ...] = get_args(BitDepth)
"""Words for what gbsep writes, as a preset checks them; FORMATS says which go together."""


@dataclass(frozen=True)
class OutputRow:
    """A row of FORMATS: libsndfile's names for the container and its bit depths, the default first; rates in words.

    `settings` are those of libsndfile's encoder. `only_hz` is the one rate of a format that has no other: sound is
    brought to it; `up_to_hz` bounds those of an encoder that ends the process where there are more. `by_pyav`: the
    names are PyAV's, which writes it.
    """

    name: str
    subtypes: Mapping[str | None, str]
    rates: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    only_hz: int | None = None
    up_to_hz: int | None = None
    by_pyav: bool = False


FORMATS: dict[str, OutputRow] = {
    "wav": OutputRow("WAV", {"float32": "FLOAT", "16": "PCM_16", "24": "PCM_24"}, "any rate"),
    "flac": OutputRow("FLAC", {"24": "PCM_24", "16": "PCM_16"}, "up to 65535 Hz, multiples of 10 Hz up to 655350"),
    "mp3": OutputRow(
        "MP3",
        {None: "MPEG_LAYER_III"},
        "8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100 or 48000 Hz",
        {"compression_level": 0.0, "bitrate_mode": "CONSTANT"},
    ),
    "m4a": OutputRow(
        "ipod",
        {None: "aac"},
        "7350, 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200 or 96000 Hz",
        by_pyav=True,
    ),
    "ogg": OutputRow("OGG", {None: "VORBIS"}, "up to 192000 Hz", {"compression_level": 0.2}, up_to_hz=192000),
    "opus": OutputRow("OGG", {None: "OPUS"}, "48000 Hz", {"compression_level": 0.5}, only_hz=48000),
}
"""What gbsep writes. MP3 is at the highest constant bit rate of its sample rate: 320 kbit/s from 32 kHz on. The others
that lose something are near 256 kbit/s in stereo: AAC, Vorbis at quality 8, Opus."""


@dataclass(frozen=True)
class OutputFormat:
    """A container (wav, flac, mp3, m4a, ogg, opus) and a bit depth (16, 24, float32).

    Without a bit depth: float32 in WAV, 24 in FLAC; the others have none. Raises ParameterError for words that are not
    known, `check_output` for combinations that do not exist.

    >>> OutputFormat("flac")
    OutputFormat(container='flac', bit_depth='24')
    """

    container: str = "wav"
    bit_depth: str | None = None

    def __post_init__(self) -> None:
        if self.container not in FORMATS:
            raise ParameterError("format", self.container, nearest(str(self.container), FORMATS).lstrip("; "))
        if self.bit_depth not in (None, *BIT_DEPTHS):
            raise ParameterError("bit_depth", self.bit_depth, "16, 24 or float32")
        if self.bit_depth is None:
            object.__setattr__(self, "bit_depth", next(iter(FORMATS[self.container].subtypes)))

    @property
    def suffix(self) -> str:
        return f".{self.container}"

    @property
    def is_lossy(self) -> bool:
        """Whether what is read back is only near what was written."""
        return self.bit_depth is None

    def file_rate(self, sample_rate: int) -> int:
        """The sample rate of a file of sound that has `sample_rate`."""
        return FORMATS[self.container].only_hz or sample_rate


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
