"""Where a file ends by the sizes that stand in it, container by container, and whether another is joined to it.

References: ISO/IEC 14496-12 (boxes of MP4), RFC 8794 (EBML), Microsoft, Advanced Systems Format, 3.2; Apple Core Audio
Format; Sony Wave64; WavPack 4 & 5 Binary File Format; True Audio (TTA1); Creative Voice File; Monkey's Audio 3.98;
DSF and DSDIFF.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Mapping
from typing import IO

from .framing import id3_end

MOST_PARTS = 2**20
"""A file of more blocks than that is not followed to its end: a forged one could have as many as bytes."""
_BOXES = (b"ftyp", b"moov", b"mdat", b"moof", b"free", b"skip", b"wide", b"uuid", b"mfra", b"sidx", b"styp")
_SEGMENT = b"\x18\x53\x80\x67"
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
"""The mark of ASF's File Properties Object."""
_MARK_BYTES = 4
"""By so many bytes a file is known to be of the kind of the one before."""


_OWN_WAY = ("mov", "matroska")
"""Boxes have no mark of their own at the beginning, and Matroska files that are joined are read whole."""


class Joined(Exception):
    """Another file of the same kind follows."""


def stated_end(file: IO[bytes], demuxer: str, start: int = 0) -> int | None:
    """Where a file, which begins at `start`, ends by its own sizes; None where they do not tell.

    Raises Joined where another of its kind follows there.
    """
    find = _ENDS.get(demuxer)
    if find is None:
        return None
    end = file.seek(0, os.SEEK_END)
    at = find(file, start, end)
    if at is not None and at < end and demuxer not in _OWN_WAY:
        file.seek(start)
        mark = file.read(_MARK_BYTES)
        file.seek(_behind_tags(file, at))
        # Chunks begin at even places, in W64 at multiples of eight.
        following = file.read(_MARK_BYTES + 7)
        if following.find(mark) >= 0 and not following[: following.find(mark)].strip(b"\0"):
            raise Joined
    return at


def _behind_tags(file: IO[bytes], at: int) -> int:
    """Where ID3 and APE tags end that stand at a place."""
    while True:
        file.seek(at)
        head = file.read(32)
        if head.startswith(b"TAG"):
            at += 128
        elif head.startswith(b"APETAGEX") and len(head) == 32:
            at += int.from_bytes(head[12:16], "little") + 32
        elif (length := id3_end(head[:10])) > 0:
            at += length
        else:
            return at


def _boxes(file: IO[bytes], start: int, end: int) -> int | None:
    """Where the last box of an MP4 or QuickTime file ends."""
    at, seen = start, False
    while at + 8 <= end:
        file.seek(at)
        size, name = struct.unpack(">I4s", file.read(8))
        if name not in _BOXES or size == 0:
            break
        if seen and name == b"ftyp":
            raise Joined
        if size == 1:
            size = int.from_bytes(file.read(8), "big")
        if size < 8:
            break
        at, seen = at + size, True
    return at if seen else None


def _segment(file: IO[bytes], start: int, end: int) -> int | None:
    """Where the segment of a Matroska file ends; None where it was written as a stream, without its size."""
    file.seek(start + 4)
    header = ebml_size(file)
    if header is None:
        return None
    file.seek(header, os.SEEK_CUR)
    if file.read(4) != _SEGMENT:
        return None
    size = ebml_size(file)
    return None if size is None else file.tell() + size


def ebml_size(file: IO[bytes]) -> int | None:
    """The size of an EBML element that stands here; None where it is unknown, or no size."""
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


def _avi(file: IO[bytes], start: int, end: int) -> int | None:
    """Where the last RIFF part of an AVI file ends; a file above 1 GB has several."""
    at, last = start, None
    while at + 12 <= end:
        file.seek(at)
        name, size = struct.unpack("<4sI", file.read(8))
        if name != b"RIFF" or size in (0, 0xFFFFFFFF):
            break
        last = at + 8 + size
        at = last + size % 2
    return last


def _asf(file: IO[bytes], start: int, end: int) -> int | None:
    """The size that the header of an ASF file states (WMA, WMV); None where it was sent as a stream."""
    file.seek(start)
    head = file.read(2**16)
    at = head.find(_ASF_FILE)
    if at < 0 or len(head) < at + 92:
        return None
    (size,), (flags,) = struct.unpack_from("<Q", head, at + 40), struct.unpack_from("<I", head, at + 88)
    return None if flags & 1 or not size else start + int(size)


def _caf(file: IO[bytes], start: int, end: int) -> int | None:
    """Where the last chunk of a Core Audio file ends; one of unknown size ends where the file does."""
    at = start + 8
    while at + 12 <= end:
        file.seek(at)
        name, size = struct.unpack(">4sq", file.read(12))
        if name == b"caff":
            raise Joined
        if size < 0:
            return None
        at += 12 + size
    return at


def _riff(file: IO[bytes], start: int, end: int) -> int | None:
    """Where a WAV or AIFF file ends; None where it was written into a pipe."""
    file.seek(start)
    form, size = file.read(4), file.read(4)
    if form == b"RF64":
        file.seek(start + 12)
        if file.read(4) != b"ds64":
            return None
        file.seek(4, os.SEEK_CUR)
        return start + 8 + int.from_bytes(file.read(8), "little")
    return start + 8 + int.from_bytes(size, "big" if form in (b"FORM", b"RIFX") else "little")


def _w64(file: IO[bytes], start: int, end: int) -> int | None:
    file.seek(start + 16)
    return start + int.from_bytes(file.read(8), "little")


def _au(file: IO[bytes], start: int, end: int) -> int | None:
    file.seek(start + 4)
    begin, size = int.from_bytes(file.read(4), "big"), int.from_bytes(file.read(4), "big")
    return None if size == 0xFFFFFFFF else start + begin + size


def _wavpack(file: IO[bytes], start: int, end: int) -> int | None:
    """Where the last block ends; None where the blocks before hold fewer frames than the header states."""
    at, total, done = start, None, 0
    for _ in range(MOST_PARTS):
        file.seek(at)
        head = file.read(24)
        if len(head) < 24 or head[:4] != b"wvpk":
            break
        (size,), (stated, index, frames) = struct.unpack_from("<I", head, 4), struct.unpack_from("<III", head, 12)
        if done and frames and index < done - frames:
            raise Joined
        total, done, at = stated if total is None else total, max(done, index + frames), at + 8 + size
    return at if at > end or (total is not None and done >= total) else None


def _tta(file: IO[bytes], start: int, end: int) -> int | None:
    """Where the last frame ends by the table of frames behind the header."""
    file.seek(start)
    head = file.read(22)
    if len(head) < 22:
        return None
    rate, frames = struct.unpack_from("<II", head, 10)
    length = 256 * rate // 245
    count = -(-frames // length) if length else 0
    if not count or count > MOST_PARTS:
        return None
    table = file.read(4 * count)
    if len(table) < 4 * count:
        return None
    sizes: tuple[int, ...] = struct.unpack(f"<{count}I", table)
    return start + 22 + 4 * count + 4 + sum(sizes)


def _voice(file: IO[bytes], start: int, end: int) -> int | None:
    """Where the last block of a Creative Voice File ends."""
    file.seek(start + 20)
    at = start + int.from_bytes(file.read(2), "little")
    for _ in range(MOST_PARTS):
        file.seek(at)
        head = file.read(4)
        if head[:4] == b"Crea" or len(head) < 1:
            return at
        if head[0] == 0:
            return at + 1
        if len(head) < 4:
            return at + 4
        at += 4 + int.from_bytes(head[1:], "little")
        if at > end:
            return at
    return None


def _monkey(file: IO[bytes], start: int, end: int) -> int | None:
    """The sum of the sizes in the descriptor, which files have since version 3.98."""
    file.seek(start)
    head = file.read(36)
    if len(head) < 36 or int.from_bytes(head[4:6], "little") < 3980:
        return None
    sizes: tuple[int, ...] = struct.unpack_from("<7I", head, 8)
    return start + sum(sizes) + (sizes[5] << 32) - sizes[5]


def _dsf(file: IO[bytes], start: int, end: int) -> int | None:
    file.seek(start + 12)
    return start + int.from_bytes(file.read(8), "little")


def _dsdiff(file: IO[bytes], start: int, end: int) -> int | None:
    file.seek(start + 4)
    return start + 12 + int.from_bytes(file.read(8), "big")


_ENDS: Mapping[str, Callable[[IO[bytes], int, int], int | None]] = {
    "mov": _boxes,
    "matroska": _segment,
    "avi": _avi,
    "caf": _caf,
    "asf": _asf,
    "wav": _riff,
    "aiff": _riff,
    "w64": _w64,
    "au": _au,
    "wv": _wavpack,
    "tta": _tta,
    "voc": _voice,
    "ape": _monkey,
    "dsf": _dsf,
    "iff": _dsdiff,
}
