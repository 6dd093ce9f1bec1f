"""libsndfile, by way of soundfile: opens a file, and reaches what soundfile has no public way to.

References: libsndfile's `sf_command` documentation; EBU Tech 3285 (Broadcast Wave).
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import AudioFileError, GbsepError, printable
from . import hush, mp3, tags
from .formats import CONTAINERS, Kind
from .spool import TEMPORARY, shut, temporary_path, writing
from .wholeness import SHORTENED

if TYPE_CHECKING:
    import soundfile

NO_LENGTH = 2**63 - 1
"""The frame count of libsndfile for a FLAC file that states none."""

SFC_SET_ADD_PEAK_CHUNK = 0x1050
SFC_GET_BROADCAST_INFO = 0x10F0
SFC_SET_BROADCAST_INFO = 0x10F1
_BROADCAST_HEAD = 608
_BROADCAST_LARGEST = _BROADCAST_HEAD + 16 * 1024
_UNSUPPORTED = (1, 4, 64)
"""libsndfile's errors for a container or a codec in it that it does not know; the last one is that of WAV."""
_MALFORMED = 3
"""What libsndfile says of a CAF file of unknown size, which is legal."""
_NO_MPEG = "is no audio that gbsep can read: no MPEG frame is in it; is it what its name says?"
_CONVERT = "convert it to WAV first: ffmpeg -i IN OUT.wav"
_NO_FORMAT = (1, 7, 8)
"""libsndfile's errors for what it does not recognise; the last two are an MPEG decoder's."""
_UNKNOWN = "it begins like no format that gbsep knows; is it what its name says? If other programs play it, " + _CONVERT
_WORDS = {
    (4, 18, *range(64, 71), 73, 74, 75, 76, 79): "its header names no kind of sound that gbsep knows, or is damaged; "
    f"if other programs play it, {_CONVERT}",
    (19, 24, 32, 33, 34): "its header states no sample rate or no channels that can be, or states them twice: "
    "export it again from the program that made it",
    (2, 9, 16, 17): "the system does not let it be opened: look at its permissions and at the memory that is left",
}
"""What libsndfile's errors mean to a user, by their numbers."""
_DAMAGED = "its header is damaged, or its sound is not there: copy or export it again"


def plain(error: soundfile.LibsndfileError, is_known: bool = True) -> str:
    """What libsndfile's error means, and what to do; `is_known`: the file begins with the mark of a format."""
    if error.code in _NO_FORMAT:
        return _DAMAGED if is_known else _UNKNOWN
    return next((words for codes, words in _WORDS.items() if error.code in codes), _DAMAGED)


class Unsupported(AudioFileError):
    """libsndfile cannot read the file, though it may be whole."""


def address(path: Path) -> bytes | str:
    """A path as soundfile opens it: where names are bytes, they may be in any encoding."""
    return os.fsencode(path) if os.name == "posix" else str(path)


@contextmanager
def reading_errors(path: Path) -> Iterator[None]:
    """Whatever libraries raise on a file becomes AudioFileError."""
    import soundfile

    try:
        yield
    except GbsepError:
        raise
    except soundfile.LibsndfileError as error:
        raise AudioFileError(path, f"cannot be read: {plain(error)}") from error
    except OSError as error:
        raise AudioFileError(path, f"cannot be read: {error.strerror or error}") from error
    except Exception as error:
        why = printable(f"{type(error).__name__}: {error}".removesuffix(": "))
        raise AudioFileError(path, f"cannot be read ({why}): {SHORTENED}") from error


@contextmanager
def opened(path: Path, kind: Kind) -> Iterator[tuple[soundfile.SoundFile, mp3.Mp3 | None]]:
    """The file, opened by libsndfile; an MP3 file as a stream of its frames, with what was found in it."""
    import soundfile

    with ExitStack() as opened:
        source: Any = address(path)
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
            unknown = error.code in _UNSUPPORTED or (error.code == _MALFORMED and kind.demuxer == "caf")
            refused = Unsupported if unknown else AudioFileError
            raise refused(path, f"is no audio that gbsep can read: {plain(error, kind.demuxer is not None)}") from None
        except TypeError:
            # soundfile takes a name that ends in .raw for headerless samples, and asks for their rate.
            raise AudioFileError(path, "raw samples state neither rate nor channels: convert it to WAV first") from None
        if sound.format == "MP3" and stream is None:
            raise AudioFileError(path, _NO_MPEG)
        if sound.subtype.startswith("MPEG") and sound.format != "MP3":
            raise Unsupported(
                path, f"holds MPEG sound in a {sound.format} file, which does not say how long: {_CONVERT}"
            )
        if sound.format not in CONTAINERS:
            known = ", ".join(sorted(set(CONTAINERS.values())))
            raise AudioFileError(path, f"is a {sound.format} file; gbsep reads {known}: convert it to WAV first")
        yield sound, stream


def hushed(kind: Kind) -> AbstractContextManager[None]:
    return hush.hushed() if kind.mp3 else nullcontext()


def native(sound: soundfile.SoundFile) -> tuple[Any, Any, Any]:
    """libsndfile itself, cffi, and the file's handle: soundfile has no public way to `sf_command`."""
    import soundfile

    return soundfile._snd, soundfile._ffi, sound._file


def broadcast(sound: soundfile.SoundFile) -> bytes | None:
    snd, ffi, handle = native(sound)
    raw = ffi.new("char[]", _BROADCAST_LARGEST)
    if not snd.sf_command(handle, SFC_GET_BROADCAST_INFO, raw, _BROADCAST_LARGEST):
        return None
    (history,) = struct.unpack_from("=I", ffi.buffer(raw), _BROADCAST_HEAD - 4)
    return bytes(ffi.buffer(raw)[: _BROADCAST_HEAD + history])


def set_broadcast(sound: soundfile.SoundFile, chunk: bytes) -> None:
    """Write `chunk` as the file's `bext` chunk; before any samples."""
    snd, ffi, handle = native(sound)
    snd.sf_command(handle, SFC_SET_BROADCAST_INFO, ffi.from_buffer(chunk), len(chunk))


def leave_out_peak(sound: soundfile.SoundFile) -> None:
    """Write no PEAK chunk, which holds the time of writing; before any samples."""
    snd, ffi, handle = native(sound)
    snd.sf_command(handle, SFC_SET_ADD_PEAK_CHUNK, ffi.NULL, 0)


def strings(sound: soundfile.SoundFile) -> list[tuple[str, bytes]]:
    """The tags that libsndfile finds, as bytes: soundfile would put U+FFFD in the place of what is no UTF-8."""
    import soundfile

    snd, ffi, handle = native(sound)
    texts = {name: snd.sf_get_string(handle, number) for name, number in soundfile._str_types.items()}
    return [(name, ffi.string(text)) for name, text in texts.items() if text]


def number_ogg(path: Path, number: int) -> None:
    """Give the one stream of an Ogg file that number, in place: libsndfile takes one at random for each file."""
    from mutagen import ogg

    with tags.mutagen_errors(), path.open("r+b") as file:
        at, end = 0, path.stat().st_size
        while at < end:
            page = ogg.OggPage(file)
            page.serial = number
            file.seek(at)
            at += file.write(page.write())
