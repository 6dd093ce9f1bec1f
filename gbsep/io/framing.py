"""Frames of FLAC and MPEG streams, and the ID3 tags before them.

References: RFC 9639, section 9.1 (FLAC frame header); ISO/IEC 11172-3, 2.4.2.3 (MPEG audio frame header);
ISO/IEC 13818-7, 6.2 (ADTS); id3.org (ID3v2.4).
"""

from __future__ import annotations

import mmap
import os
import struct
from functools import cache
from pathlib import Path


def flac_end(path: Path, start: int = 0) -> int | None:
    """Frames up to the end of the file's last FLAC frame (RFC 9639, 9.1), None where no valid one closes the file.

    `start` is the byte where the stream begins.
    """
    with path.open("rb") as file:
        file.seek(start)
        head = file.read(42)
        if head[:4] != b"fLaC":
            return None
        fixed_size, largest = struct.unpack(">H", head[8:10])[0], int.from_bytes(head[15:18], "big")
        file.seek(max(start + 42, file.seek(0, os.SEEK_END) - (largest or 2**19) - 128))
        tail = file.read()
    if tail[-128:-125] == b"TAG":
        tail = tail[:-128]
    at = len(tail)
    while (at := tail.rfind(b"\xff", 0, at)) >= 0:
        end = _flac_frame_end(tail[at : at + 20], fixed_size)
        if end is not None and _crc(tail[at:], 16, 0x8005) == 0:
            return end
    return None


def _flac_frame_end(head: bytes, fixed_size: int) -> int | None:
    """The number of the frame after those that the FLAC frame with this header holds, None where it is no header."""
    if len(head) < 6 or head[1] & 0xFE != 0xF8 or head[3] & 1:
        return None
    code = head[2] >> 4
    extra = {6: 1, 7: 2}.get(code, 0)
    rate = {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
    ones = f"{head[4]:08b}".find("0")
    length = 1 if ones == 0 else ones
    at = 4 + length
    if code == 0 or head[2] & 15 == 15 or ones in (-1, 1) or len(head) <= at + extra + rate:
        return None
    if _crc(head[: at + extra + rate + 1], 8, 0x07) != 0:
        return None
    number = head[4] & (0x7F >> ones)
    for byte in head[5:at]:
        number = number << 6 | byte & 0x3F
    if extra:
        size = int.from_bytes(head[at : at + extra], "big") + 1
    else:
        size = 192 if code == 1 else 576 << (code - 2) if code < 6 else 256 << (code - 8)
    return (number if head[1] & 1 else number * fixed_size) + size


@cache
def _crc_table(bits: int, polynomial: int) -> tuple[int, ...]:
    def entry(value: int) -> int:
        for _ in range(8):
            value = value << 1 ^ (polynomial if value >> (bits - 1) & 1 else 0)
        return value & (1 << bits) - 1

    return tuple(entry(byte << (bits - 8)) for byte in range(256))


def _crc(data: bytes, bits: int, polynomial: int) -> int:
    """Cyclic redundancy check, most significant bit first, from 0: 0 for data that end in their own check."""
    table, mask = _crc_table(bits, polynomial), (1 << bits) - 1
    crc = 0
    for byte in data:
        crc = (crc << 8 & mask) ^ table[crc >> (bits - 8) ^ byte]
    return crc


# MPEG audio

MPEG_RATES_HZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_LOW_KBPS = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_KBPS = {
    (True, 1): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): tuple(range(0, 449, 32)),
    (False, 1): _LOW_KBPS,
    (False, 2): _LOW_KBPS,
    (False, 3): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
}
"""Bit rates by (MPEG-1, layer bits of the header: 1 is layer III, 3 is layer I)."""


def frame_length(header: bytes) -> int:
    """Bytes in the MPEG or ADTS frame with this header, 0 where it is none (ISO/IEC 11172-3, 2.4.2.3; 13818-7, 6.2)."""
    if len(header) < 6 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return 0
    version, layer, kbps, rate = header[1] >> 3 & 3, header[1] >> 1 & 3, header[2] >> 4, header[2] >> 2 & 3
    if layer == 0:
        length = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
        return length if header[1] & 0xF6 == 0xF0 and header[2] >> 2 & 15 < 13 and length > 7 else 0
    if version == 1 or kbps in (0, 15) or rate == 3:
        return 0
    bits_per_s, padding = _KBPS[version == 3, layer][kbps] * 1000, header[2] >> 1 & 1
    if layer == 3:
        return (12 * bits_per_s // MPEG_RATES_HZ[version][rate] + padding) * 4
    return (72 if layer == 1 and version != 3 else 144) * bits_per_s // MPEG_RATES_HZ[version][rate] + padding


def _alike(first: bytes, header: bytes) -> bool:
    """Whether frames with these headers can be of one stream: one version, layer and sample rate."""
    rate = 0x0C if first[1] & 6 else 0x3C
    return first[1] & 0xFE == header[1] & 0xFE and first[2] & rate == header[2] & rate


def first_mpeg_frame(data: bytes | mmap.mmap, at: int = 0) -> int | None:
    """Where the first of three MPEG or ADTS frames in a row begins, or of all there are; None where there are none."""
    while (at := data.find(b"\xff", at)) >= 0:
        first = data[at : at + 6]
        place, run = at, 0
        while run < 3 and (length := frame_length(header := data[place : place + 6])) and _alike(first, header):
            place, run = place + length, run + 1
        if run == 3 or (run and place + 6 > len(data)):
            return at
        at += 1
    return None


def id3_end(data: bytes | mmap.mmap) -> int:
    """Where the ID3v2 tags end with which the data begin (ID3v2.4, 3.1); 0 where there are none, or of a wrong size."""
    at = 0
    while len(tag := data[at : at + 10]) == 10 and tag[:3] == b"ID3" and not any(byte & 0x80 for byte in tag[6:]):
        a, b, c, d = tag[6:]
        at += 10 + (a << 21 | b << 14 | c << 7 | d) + (10 if tag[5] & 0x10 else 0)
    return at
