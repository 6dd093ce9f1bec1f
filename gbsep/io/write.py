"""Writing audio files: WAV, FLAC, MP3, AAC in m4a, Ogg Vorbis, Ogg Opus.

Conventions
- Full scale is +-1.0. Integer files are written by rounding to the nearest step; +1.0 becomes the highest code, one
  step below it. Anything beyond is an error, never clipped: see `largest_sample`. Float WAV takes any finite value.
- A file appears under its name only when it is whole: it is written under a hidden name beside it, read back, and moved
  into place.
- Equal samples, format and tags give equal bytes.
- A lossy file is read back with every frame at its place, whatever delay its codec has (`m4a` has a word on players
  that do not know that of AAC). Opus knows no rate but 48 kHz: the sound is brought to it, and is as long as before.

References: EBU Tech 3285 (Broadcast Wave), EBU Tech 3306 (RF64), RFC 9639 (FLAC).
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arguments import checked
from ..atomic import replacing
from ..audio import Audio, Block, check_finite
from ..errors import AudioError, AudioFileError, ParameterError
from . import m4a, sndfile
from . import tags as tagging
from .formats import FORMATS, OutputFormat, largest_sample, may_clip, needs_rf64
from .probe import probe
from .resample import Stream, resampled_frames
from .spool import with_room

Sound = Any
"""A file that is being written: soundfile.SoundFile or m4a.Encoder. Both have `channels`, `write` and `close`."""


def check_output(format: OutputFormat, sample_rate: int, channels: int) -> None:
    """Raise ParameterError for a rate, depth or channel count that the format cannot take, or a format for which a
    library is missing."""
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
    if not _takes(format, sample_rate, channels):
        other = "" if format.container == "wav" else "; choose wav" + (" or flac" if format.is_lossy else "")
        raise ParameterError("sample_rate", sample_rate, f"{format.container} takes {row.rates}{other}", "Hz")


def _takes(format: OutputFormat, sample_rate: int, channels: int) -> bool:
    """Whether the encoder of a format takes a sample rate."""
    import soundfile

    row, rate = FORMATS[format.container], format.file_rate(sample_rate)
    if row.by_pyav:
        return m4a.takes(sample_rate)
    if row.up_to_hz and rate > row.up_to_hz:
        return False
    subtype = row.subtypes[format.bit_depth]
    try:
        with soundfile.SoundFile(io.BytesIO(), "w", rate, channels, subtype, format=row.name) as trial:
            trial.write(np.zeros((1, channels), np.float32))
    except soundfile.LibsndfileError:
        return False
    return True


class Writer:
    """Takes the blocks of a file that `open_writer` makes, which are resampled on their way into some."""

    def __init__(self, path: Path, format: OutputFormat, sound: Sound, sample_rate: int, frames: int):
        self.path, self.format, self.frames, self.written = path, format, frames, 0
        rate = format.file_rate(sample_rate)
        self.file_frames = resampled_frames(frames, sample_rate, rate)
        self.content = 0
        """A number that tells what was written from other content."""
        self._sound = sound
        self._stream = Stream(sample_rate, rate, sound.channels, self.file_frames) if rate != sample_rate else None

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
        self._check_peak(block)
        self._put(self._stream.take(block) if self._stream else block)
        self.written += block.shape[1]

    def finish(self) -> None:
        """Write what a resampler holds. Raises AudioFileError when fewer frames came than were announced."""
        if self.written != self.frames:
            raise AudioFileError(self.path, f"{self.written} frames written, {self.frames} announced")
        if self._stream:
            self._put(self._stream.end())

    def _check_peak(self, block: Block) -> None:
        if not may_clip(self.format) or not block.size:
            return
        # One step over the highest code is +1.0, full scale itself, or a peak that a gain brought to it, rounded.
        peak = float(max(block.max(), -block.min()))
        if peak > largest_sample(self.format) + 2.0 ** (1 - int(self.format.bit_depth or 24)):
            raise AudioFileError(
                self.path, f"a peak of {20 * np.log10(peak):+.2f} dBFS would clip in {self.format.container}: "
                "turn the gain down, or write float32 WAV",
            )  # fmt: skip

    def _put(self, block: Block) -> None:
        # libsndfile's encoders put a whole write on the stack: a large one ends the process.
        for start in range(0, block.shape[1], 2**16):
            samples = self._encode(block[:, start : start + 2**16].T)
            if self.format.is_lossy:
                self.content = zlib.crc32(samples.data, self.content)
            with _writing(self.path):
                self._sound.write(samples)

    def _encode(self, samples: NDArray[np.float32]) -> NDArray[np.float32] | NDArray[np.int16] | NDArray[np.int32]:
        """(n, channels) as the container takes it: float32, or integers rounded to the nearest step."""
        if self.format.bit_depth in (None, "float32"):
            return np.ascontiguousarray(samples)
        bits = int(self.format.bit_depth)
        scale = 2.0 ** (bits - 1)
        codes: NDArray[np.float32] = np.multiply(samples, np.float32(scale), order="C")
        np.rint(codes, out=codes)
        np.clip(codes, -scale, scale - 1, out=codes)
        if bits == 16:
            return codes.astype(np.int16)
        wide: NDArray[np.int32] = codes.astype(np.int32) << (32 - bits)
        return wide


@contextmanager
def open_writer(
    path: str | Path,
    format: OutputFormat,
    sample_rate: int,
    channels: int,
    frames: int,
    tags: Mapping[str, str] | None = None,
    broadcast: bytes | None = None,
) -> Iterator[Writer]:
    """Write a file of `frames` frames: `with open_writer(...) as writer: writer.write(block)`.

    The file appears under `path`, replacing what is there, when the block is left without an exception and all frames
    are in it; before that, and after any exception, nothing of it is to be seen. `tags` are those of FileInfo;
    `broadcast` goes into a WAV file's `bext` chunk (no other format has a place for it).

    Raises ParameterError for what the format cannot take, AudioFileError for a folder or disk that does not take the
    file, or a number of frames other than announced.
    """
    path = Path(path)
    check_output(format, sample_rate, channels)
    with ExitStack() as opened:
        with _writing(path):
            hidden = opened.enter_context(replacing(path))
            sound = _opened(hidden, format, sample_rate, channels, frames)
            opened.callback(_close, sound)
            _describe(sound, format, tags or {}, broadcast)
        writer = Writer(path, format, sound, sample_rate, frames)
        yield writer
        writer.finish()
        with _writing(path):
            sound.close()
            _complete(hidden, writer, tags or {})
            _check_written(path, hidden, writer.file_frames)
            opened.close()


def _opened(path: Path, format: OutputFormat, sample_rate: int, channels: int, frames: int) -> Sound:
    """The encoder of a file."""
    import soundfile

    row = FORMATS[format.container]
    rate = format.file_rate(sample_rate)
    if row.by_pyav:
        return m4a.Encoder(path, rate, channels)
    name = "RF64" if needs_rf64(format, channels, frames) else row.name
    subtype = row.subtypes[format.bit_depth]
    sound: Sound = soundfile.SoundFile(
        sndfile.address(path), "w", rate, channels, subtype, format=name, **row.settings
    )  # fmt: skip
    return sound


def _complete(path: Path, writer: Writer, tags: Mapping[str, str]) -> None:
    """What a file gets when its sound is in it: tags that no encoder writes as they are, an Ogg stream's number."""
    if writer.format.container == "mp3":
        tagging.write_id3(path, tags)
    elif writer.format.container == "m4a":
        tagging.write_mp4(path, tags)
    elif writer.format.is_lossy:
        sndfile.number_ogg(path, writer.content)


def _close(sound: Sound) -> None:
    """Close a file that is given up, or closed already."""
    import soundfile

    with suppress(soundfile.LibsndfileError, OSError):
        sound.close()


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
    """Write `audio` to `path`, in the format of its suffix (float32 in WAV, 24 bits in FLAC) unless `format` is given.

    Replaces what is there. Raises as `OutputFormat`, `open_writer` and `Writer.write` do.
    """
    format = format or OutputFormat(Path(path).suffix.lower().removeprefix("."))
    with open_writer(path, format, audio.sample_rate, audio.channels, audio.frames, tags, broadcast) as writer:
        for block in audio.reader().blocks():
            writer.write(block)


def _describe(sound: Sound, format: OutputFormat, tags: Mapping[str, str], broadcast: bytes | None) -> None:
    """Everything that stands before the audio, but for float WAV's PEAK chunk: that holds the time of writing."""
    if isinstance(sound, m4a.Encoder):
        return
    sndfile.leave_out_peak(sound)
    if format.container == "wav" and broadcast is not None:
        sndfile.set_broadcast(sound, broadcast)
    if format.container != "mp3":
        for name in tagging.NAMES:
            if tags.get(name):
                setattr(sound, name, tags[name])
