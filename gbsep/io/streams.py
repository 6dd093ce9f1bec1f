"""Streams that state no length: where the first whole frame begins, and whether the last one is cut.

A dump of a stream begins within a frame, and a file that is cut mostly ends within one. Of a cut between two frames
nothing can be seen.

References: ETSI TS 102 366, 4.4.1 and E.1.3.1 (AC-3, E-AC-3); ETSI TS 102 114, 5.4 (DTS); ISO/IEC 14496-3, 1.7.2
(LOAS); FFmpeg, libavcodec/mlp_parser.c (MLP, TrueHD); ISO/IEC 13818-1, 2.4.3.2 and 2.5.3 (transport and program
streams); Adobe, Video File Format, annex E (FLV); RFC 8794 (EBML).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from . import ends, framing

_HEADER = 14
"""Bytes that tell how long a frame is."""
_LARGEST = 2**16
"""More bytes than a frame or access unit of these streams has."""
_TAIL = 2**20
"""Bytes at the end of a file that are looked through for its last frame."""
PACKETS = (188, 192, 204)
"""Bytes in a packet of a transport stream: plain, with a time code, with error correction."""
_AC3_KBPS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
_DTS_SYNCS = (b"\x7f\xfe\x80\x01", b"\xfe\x7f\x01\x80", b"\x1f\xff\xe8\x00", b"\xff\x1f\x00\xe8")
_CLUSTER, _SEGMENT = b"\x1f\x43\xb6\x75", b"\x18\x53\x80\x67"


# How long a frame is, 0 where the bytes are no header of one


def _ac3(head: bytes) -> int:
    if len(head) < 6 or head[:2] != b"\x0b\x77":
        return 0
    if head[5] >> 3 > 10:
        return 2 * ((head[2] & 7) << 8 | head[3]) + 2 if head[5] >> 3 <= 16 else 0
    rate, code = head[4] >> 6, head[4] & 63
    if rate == 3 or code // 2 >= len(_AC3_KBPS):
        return 0
    kbps = _AC3_KBPS[code // 2]
    return 2 * (2 * kbps, 320 * kbps // 147 + (code & 1), 3 * kbps)[rate]


def _dts(head: bytes) -> int:
    if len(head) < _HEADER or head[:4] not in _DTS_SYNCS:
        return 0
    little, packed = head[0] in (0xFE, 0xFF), head[:4] in _DTS_SYNCS[2:]
    words = [int.from_bytes(head[at : at + 2], "little" if little else "big") for at in range(0, _HEADER, 2)]
    width = 14 if packed else 16
    bits = "".join(f"{word & (1 << width) - 1:0{width}b}" for word in words)
    size = int(bits[46:60], 2) + 1
    if size < 96:
        return 0
    return (8 * size + 27) // 28 * 4 if packed else size + (size & 1 if little else 0)


def _loas(head: bytes) -> int:
    if len(head) < 3 or head[0] != 0x56 or head[1] & 0xE0 != 0xE0:
        return 0
    return ((head[1] & 0x1F) << 8 | head[2]) + 3


def _mlp(head: bytes) -> int:
    return 2 * (int.from_bytes(head[:2], "big") & 0xFFF) if len(head) >= 2 else 0


def _mlp_sync(head: bytes) -> int:
    return _mlp(head) if head[4:7] == b"\xf8\x72\x6f" else 0


def _pack(head: bytes) -> int:
    """A pack header or packet of an MPEG program stream."""
    if len(head) < 6 or head[:3] != b"\0\0\1" or head[3] < 0xB9:
        return 0
    if head[3] == 0xB9:
        return 4
    if head[3] == 0xBA:
        return 12 if head[4] >> 4 == 2 else 14 + (head[13] & 7 if len(head) > 13 else 0)
    return 6 + int.from_bytes(head[4:6], "big")


Length = Callable[[bytes], int]
_LENGTHS: Mapping[str, tuple[tuple[bytes, ...], int, Length, Length]] = {
    "ac3": ((b"\x0b\x77",), 0, _ac3, _ac3),
    "eac3": ((b"\x0b\x77",), 0, _ac3, _ac3),
    "dts": (_DTS_SYNCS, 0, _dts, _dts),
    "loas": ((b"\x56",), 0, _loas, _loas),
    "mlp": ((b"\xf8\x72\x6f\xbb",), 4, _mlp_sync, _mlp),
    "truehd": ((b"\xf8\x72\x6f\xba",), 4, _mlp_sync, _mlp),
    "aac": ((b"\xff",), 0, framing.frame_length, framing.frame_length),
    "mp3": ((b"\xff",), 0, framing.frame_length, framing.frame_length),
    "mpeg": ((b"\0\0\1\xba",), 0, _pack, _pack),
}
"""Of a demuxer: the marks of a frame, how far behind its beginning they stand, and its length: of the first frame of a
run, and of those that follow."""
_WITHIN = ("ac3", "dts", "truehd", "mlp", "loas", "mpeg")
"""What is looked for where a file begins with no mark."""


def begins_within(head: bytes) -> str | None:
    """The demuxer of a stream that begins within a frame: three frames follow in a row. None where there are none."""
    for demuxer in _WITHIN:
        at = _first(head[: 2 * _LARGEST], demuxer, 3)
        if at is not None and at < _LARGEST:
            return "eac3" if demuxer == "ac3" and head[at + 5] >> 3 > 10 else demuxer
    return None


def _first(data: bytes, demuxer: str, run: int, begin: int = 0) -> int | None:
    """Where the first of so many frames in a row begins."""
    marks, offset, first, following = _LENGTHS[demuxer]
    places = sorted(place - offset for mark in marks for place in _all(data, mark, begin + offset))
    for place in places:
        at, length, count = place, first(data[place : place + _HEADER]), 0
        while length and count < run:
            at, count = at + length, count + 1
            length = following(data[at : at + _HEADER])
        if count == run and at <= len(data):
            return place
    return None


def _all(data: bytes, mark: bytes, at: int) -> list[int]:
    found = []
    while (at := data.find(mark, at)) >= 0:
        found.append(at)
        at += 1
    return found


def is_cut(path: Path, demuxer: str) -> bool:
    """Whether a stream ends within a frame, packet or element. False where that cannot be told."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        if demuxer == "matroska":
            return _cut_element(file, end)
        if demuxer == "flv":
            return _cut_tag(file, end)
        file.seek(0)
        if demuxer == "mpegts":
            return _cut_packet(file.read(5 * max(PACKETS)), end)
        if demuxer not in _LENGTHS:
            return False
        file.seek(max(0, end - _TAIL))
        return _cut_frame(file.read(), demuxer)


def _cut_frame(tail: bytes, demuxer: str) -> bool:
    marks, _, first, following = _LENGTHS[demuxer]
    at = _first(tail, demuxer, 2)
    while at is not None:
        length = first(tail[at : at + _HEADER])
        while length and at + length <= len(tail):
            at += length
            length = following(tail[at : at + _HEADER])
        rest = tail[at : at + _HEADER]
        if length or (0 < len(rest) < _HEADER and any(rest.startswith(mark[: len(rest)]) for mark in marks)):
            return True
        at = _first(tail, demuxer, 2, at + 1)
    return False


def packet_size(head: bytes) -> tuple[int, int] | None:
    """(first, size) of the packets of a transport stream: sync bytes stand at their distance from somewhere within
    the first packet on.
    """
    for size in PACKETS:
        for first in range(size):
            run = head[first : 5 * size : size]
            if len(run) >= 4 and not run.strip(b"\x47"):
                return first, size
    return None


def _cut_packet(head: bytes, end: int) -> bool:
    found = packet_size(head)
    if found is None:
        return False
    first, size = found
    # The time code stands before the sync byte.
    return (end - first) % size not in (0, size - first % size)


def _cut_tag(file: IO[bytes], end: int) -> bool:
    """The size of each tag of an FLV file stands behind it as well."""
    file.seek(max(0, end - 4))
    size = int.from_bytes(file.read(4), "big")
    if not 11 <= size <= end - 4:
        return True
    file.seek(end - 4 - size)
    return int.from_bytes(file.read(4)[1:], "big") + 11 != size


def _cut_element(file: IO[bytes], end: int) -> bool:
    at = 0
    for _ in range(ends.MOST_PARTS):
        if at >= end:
            break
        file.seek(at)
        first = file.read(1)
        name = first + file.read(8 - first[0].bit_length())
        begin = file.tell()
        size = ends.ebml_size(file)
        if size is None:
            if name not in (_SEGMENT, _CLUSTER):
                return file.tell() >= end
            file.seek(begin)
            file.seek(8 - file.read(1)[0].bit_length(), os.SEEK_CUR)
        at = file.tell() + (size or 0)
    return at > end
