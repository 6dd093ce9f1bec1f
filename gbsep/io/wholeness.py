"""Whether a file holds the bytes that its container promises; decoders do not say so.

References: EBU Tech 3306 (RF64), ISO/IEC 14496-12 (boxes of MP4), RFC 8794 (EBML), RFC 3533 (Ogg); Microsoft,
Advanced Systems Format, 3.2.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from ..errors import AudioFileError

SHORTENED = "it is cut short or damaged: copy or export it again"
UNDECODED = "no byte is missing, so it is damaged within, or of a form that PyAV does not know: export it as PCM"
REPAIR = "export it again from the program that made it"
JOINED = "is several files joined, and players read the first alone: split it, or join the sound in an editor"
UNKNOWN_SIZES = (0xFFFFFFFF, 0x80000000, 0x7FFFFFFF, 0x7FFFF000)
"""The data sizes in a WAV header that ffmpeg, arecord and SoX write into a pipe."""
_OGG_PAGE = 65307
"""Bytes in the largest Ogg page."""
_CHUNK_HEADER = 8
"""Bytes before the body of a chunk; what is shorter than that is none."""
_BOXES = (b"ftyp", b"moov", b"mdat", b"moof", b"free", b"skip", b"wide", b"uuid", b"mfra", b"sidx", b"styp")
_FLAC_START = b"fLaC\0\0\0\x22"
"""The mark of a FLAC file and the header of its first block, which says of 34 bytes that they describe the stream."""
_SEARCHED = 2**22
"""The largest file that is searched through as a whole when it is looked at."""
_SEGMENT = b"\x18\x53\x80\x67"
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
"""The mark of ASF's File Properties Object."""
_TAG_BYTES = 2**24
"""The largest chunk of tags that is read."""


def check_chunks(path: Path) -> bytes:
    """Compare the audio's size in a RIFF, RF64 or AIFF header with the file; libsndfile silently trusts the lesser.

    Returns the body of the chunk that holds an ID3 tag, empty where there is none.
    """
    tag = b""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(0)
        form, form_size = file.read(4), file.read(4)
        if form not in (b"RIFF", b"RIFX", b"RF64", b"FORM"):
            return tag
        u32 = struct.Struct(">I" if form in (b"FORM", b"RIFX") else "<I")
        whole = u32.unpack(form_size)[0] if len(form_size) == 4 else 0
        size_64, audio_seen, at = 0, False, 12
        while at + 8 <= end:
            file.seek(at)
            name, size = file.read(4), u32.unpack(file.read(4))[0]
            if audio_seen and not all(0x20 <= byte < 0x7F for byte in name):
                break
            if name == b"ds64":
                size_64 = int.from_bytes(file.read(16)[8:], "little")
            elif name in (b"id3 ", b"ID3 ") and not tag and size <= _TAG_BYTES:
                tag = file.read(size)
            elif name in (b"data", b"SSND") and not audio_seen:
                audio_seen, there = True, end - at - 8
                if form == b"RF64" and size == 0xFFFFFFFF:
                    size = size_64
                elif size in UNKNOWN_SIZES and (whole >= size or (size == 0xFFFFFFFF and whole + 8 <= end)):
                    return tag
                if size > there:
                    raise AudioFileError(path, f"header promises {size} bytes of audio, {there} are there: {SHORTENED}")
            at += 8 + size
            # Chunks begin at even places, but some programs forget the zero between.
            file.seek(at)
            if size % 2 and file.read(1) == b"\0":
                at += 1
        file.seek(min(at, end))
        rest = file.read(2**16)
        if (
            audio_seen
            and len(rest) >= _CHUNK_HEADER
            and rest.strip(b"\0")
            and not rest.startswith((b"TAG", b"ID3", b"APETAGEX"))
        ):
            raise AudioFileError(path, f"{end - at} bytes follow the audio that the header knows nothing of: {REPAIR}")
    return tag


def check_alone(path: Path) -> None:
    """Raise AudioFileError where a FLAC, AU, CAF or FLV file is followed by another: the first alone would be read.

    To look at a file takes milliseconds, so a large FLAC or FLV is searched only where its size is a sign: parts
    of other lengths are found by the last FLAC frame, which counts.
    """
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] == b".snd" and len(head) == 12:
            begin, size = struct.unpack(">II", head[4:])
            file.seek(begin + size if size != 0xFFFFFFFF else 0, os.SEEK_SET)
            joined = size != 0xFFFFFFFF and file.read(4) == b".snd"
        elif head[:4] == b"caff":
            try:
                _caf(file, path.stat().st_size)
                return
            except _Joined:
                joined = True
        elif head[:8] == _FLAC_START or head[:4] == b"FLV\x01":
            start, end = (_FLAC_START if head[:4] == b"fLaC" else head[:9]), file.seek(0, os.SEEK_END)
            if end > _SEARCHED and not (start is _FLAC_START and end > _longest_flac(file)):
                return
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                joined = content.find(start, 12) >= 0
        else:
            return
    if joined:
        raise AudioFileError(path, JOINED)


def _longest_flac(file: IO[bytes]) -> float:
    """The most bytes that a FLAC file can have by its header (RFC 9639, 8.2); infinity where that does not tell."""
    file.seek(8)
    about = file.read(34)
    if len(about) < 34:
        return float("inf")
    block, largest = int.from_bytes(about[:2], "big"), int.from_bytes(about[7:10], "big")
    frames = int.from_bytes(about[13:18], "big") & (1 << 36) - 1
    if not (block and largest and frames):
        return float("inf")
    at, is_last = 4, False
    while not is_last:
        file.seek(at)
        header = file.read(4)
        if len(header) < 4:
            return float("inf")
        at, is_last = at + 4 + int.from_bytes(header[1:], "big"), bool(header[0] & 0x80)
    return at + (frames // block + 1) * largest


def check_last_ogg_page(path: Path) -> None:
    """The last page of a whole Ogg stream is marked as such (RFC 3533, 6); libsndfile reads what is left of others."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 2 * _OGG_PAGE))
        tail = file.read()
    page = tail[max(0, tail.rfind(b"OggS\0")) :]
    segments = page[27 : 27 + page[26]] if len(page) > 27 else b""
    if not segments or not page[5] & 4 or len(page) < 27 + len(segments) + sum(segments):
        raise AudioFileError(path, f"the last Ogg page is missing or not whole: {SHORTENED}")


def ogg_streams(path: Path) -> int:
    """How many streams begin in an Ogg file (RFC 3533, 6): several are joined one after another, or side by side."""
    count = 0
    with path.open("rb") as file:
        end, at = file.seek(0, os.SEEK_END), 0
        while at + 27 <= end:
            file.seek(at)
            head = file.read(27)
            if head[:4] != b"OggS":
                break
            count += head[5] >> 1 & 1
            at += 27 + head[26] + sum(file.read(head[26]))
    return count


def check_promise(path: Path, demuxer: str) -> bool:
    """Whether the container's own sizes say that all its bytes are there; False where it states none.

    Raises AudioFileError where they say that some are missing.
    """
    if demuxer in ("wav", "aiff"):
        check_chunks(path)
        return True
    if demuxer == "ogg":
        check_last_ogg_page(path)
    check = _PROMISES.get(demuxer)
    if check is None:
        return False
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        try:
            promised = check(file, end)
        except _Joined:
            raise AudioFileError(path, JOINED) from None
    if promised is not None and promised > end:
        raise AudioFileError(path, f"header promises {promised} bytes, {end} are there: {SHORTENED}")
    return promised is not None


class _Joined(Exception):
    """Another file of the same kind follows."""


def _boxes(file: IO[bytes], end: int) -> int | None:
    """Where the last box of an MP4 or QuickTime file ends."""
    at, seen = 0, False
    while at + 8 <= end:
        file.seek(at)
        size, name = struct.unpack(">I4s", file.read(8))
        if name not in _BOXES or size == 0:
            break
        if seen and name == b"ftyp":
            raise _Joined
        if size == 1:
            size = int.from_bytes(file.read(8), "big")
        if size < 8:
            break
        at, seen = at + size, True
    return at if seen else None


def _segment(file: IO[bytes], end: int) -> int | None:
    """Where the segment of a Matroska file ends; None where it was written as a stream, without its size."""
    file.seek(4)
    header = _ebml_size(file)
    if header is None:
        return None
    file.seek(header, os.SEEK_CUR)
    if file.read(4) != _SEGMENT:
        return None
    size = _ebml_size(file)
    return None if size is None else file.tell() + size


def _ebml_size(file: IO[bytes]) -> int | None:
    first = file.read(1)
    if not first or not first[0]:
        return None
    length = 9 - first[0].bit_length()
    rest = file.read(length - 1)
    if len(rest) < length - 1:
        return None
    bits = 7 * length
    value = int.from_bytes(first + rest, "big") & (1 << bits) - 1
    return None if value == (1 << bits) - 1 else value


def _riff(file: IO[bytes], end: int) -> int | None:
    """Where the last RIFF part of an AVI file ends; a file above 1 GB has several."""
    at, last = 0, None
    while at + 12 <= end:
        file.seek(at)
        name, size = struct.unpack("<4sI", file.read(8))
        if name != b"RIFF" or size in (0, 0xFFFFFFFF):
            break
        last = at + 8 + size
        at = last + size % 2
    return last


def _asf(file: IO[bytes], end: int) -> int | None:
    """The size that the header of an ASF file states (WMA, WMV); None where it was sent as a stream."""
    file.seek(0)
    head = file.read(2**16)
    at = head.find(_ASF_FILE)
    if at < 0 or len(head) < at + 92:
        return None
    (size,), (flags,) = struct.unpack_from("<Q", head, at + 40), struct.unpack_from("<I", head, at + 88)
    return None if flags & 1 or not size else size


def _caf(file: IO[bytes], end: int) -> int | None:
    """Where the last chunk of a Core Audio file ends; one of unknown size ends where the file does."""
    at = 8
    while at + 12 <= end:
        file.seek(at)
        name, size = struct.unpack(">4sq", file.read(12))
        if name[:4] == b"caff":
            raise _Joined
        if size < 0:
            return None
        at += 12 + size
    return at


_PROMISES: Mapping[str, Callable[[IO[bytes], int], int | None]] = {
    "mov": _boxes,
    "matroska": _segment,
    "avi": _riff,
    "caf": _caf,
    "asf": _asf,
}
