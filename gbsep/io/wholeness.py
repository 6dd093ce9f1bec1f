"""Whether a file holds the bytes that its container promises; decoders do not say so.

References: EBU Tech 3306 (RF64), RFC 3533 (Ogg), RFC 9639 (FLAC).
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path
from typing import IO

from ..errors import AudioFileError
from . import ends
from .formats import Kind

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
_FLAC_START = b"fLaC\0\0\0\x22"
"""The mark of a FLAC file and the header of its first block, which says of 34 bytes that they describe the stream."""
_SEARCHED = 2**22
"""The largest file that is searched through as a whole when it is looked at."""
_UNSTATED = ("w64", "au")
"""Containers whose size libsndfile compares; programs that write into a pipe leave it open."""
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


def check_alone(path: Path, kind: Kind) -> None:
    """Raise AudioFileError where a file that libsndfile reads, or FLV, is followed by another: the first alone would be
    read, or the other's header as sound.

    To look at a file takes milliseconds, so a large FLAC or FLV is searched only where its size is a sign: parts
    of other lengths are found by the last FLAC frame, which counts.
    """
    with path.open("rb") as file:
        if kind.sound and kind.demuxer:
            promised, there = _alone(path, file, kind), file.seek(0, os.SEEK_END)
            if kind.demuxer == "caf" and promised is not None and promised > there:
                raise AudioFileError(path, f"header promises {promised} bytes, {there} are there: {SHORTENED}")
            return
        head = file.read(12)
        if head[:8] != _FLAC_START and head[:4] != b"FLV\x01":
            return
        start, end = (_FLAC_START if head[:4] == b"fLaC" else head[:9]), file.seek(0, os.SEEK_END)
        if end > _SEARCHED and not (start is _FLAC_START and end > _longest_flac(file)):
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content.find(start, 12) >= 0:
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


def check_promise(path: Path, kind: Kind) -> bool:
    """Whether the container's own sizes say that all its bytes are there; False where it states none.

    Raises AudioFileError where they say that some are missing, or that another file is joined to this one.
    """
    demuxer = kind.demuxer or ""
    if demuxer in ("wav", "aiff"):
        check_chunks(path)
        return True
    if demuxer == "ogg":
        check_last_ogg_page(path)
    if demuxer in _UNSTATED:
        return False
    with path.open("rb") as file:
        promised = _alone(path, file, kind)
        there = file.seek(0, os.SEEK_END)
    if promised is not None and promised > there:
        raise AudioFileError(path, f"header promises {promised} bytes, {there} are there: {SHORTENED}")
    return promised is not None


def _alone(path: Path, file: IO[bytes], kind: Kind) -> int | None:
    try:
        return ends.stated_end(file, kind.demuxer or "", kind.start)
    except ends.Joined:
        raise AudioFileError(path, JOINED) from None
