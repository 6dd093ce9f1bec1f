"""How long FLAC and MP3 files are, where they do not say it or do not say the truth: libsndfile trusts them.

A FLAC file's last frame carries its own number. An MP3 file without a Xing, Info or VBRI frame states no length: its
frames are counted.

References: RFC 9639, section 9.1 (FLAC frame header); ISO/IEC 11172-3, 2.4.2.3 (MP3 frame header); id3.org (ID3v2.4).
"""

from __future__ import annotations

import mmap
import os
import re
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path


def flac_end(path: Path) -> int | None:
    """Frames up to the end of the file's last FLAC frame (RFC 9639, 9.1), None where no valid one closes the file."""
    with path.open("rb") as file:
        head = file.read(42)
        if head[:4] != b"fLaC":
            return None
        fixed_size, largest = struct.unpack(">H", head[8:10])[0], int.from_bytes(head[15:18], "big")
        file.seek(max(42, file.seek(0, os.SEEK_END) - (largest or 2**19) - 128))
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


_MP3_RATES_HZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_MP3_KBPS = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


def _mp3_frame_length(header: bytes) -> int:
    """Bytes in the layer III frame with this 4-byte header, 0 where it is none (ISO/IEC 11172-3, 2.4.2.3)."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return 0
    version, kbps, rate = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or kbps in (0, 15) or rate == 3:
        return 0
    mpeg1 = version == 3
    return (144 if mpeg1 else 72) * _MP3_KBPS[mpeg1][kbps] * 1000 // _MP3_RATES_HZ[version][rate] + (header[2] >> 1 & 1)


def _mp3_frames(data: mmap.mmap) -> Iterator[int]:
    """Where the whole layer III frames begin, in bytes; what lies before and between them is passed over."""
    at, found = 0, False
    while len(tag := data[at : at + 10]) == 10 and tag[:3] == b"ID3":
        a, b, c, d = tag[6:]
        at += 10 + (a << 21 | b << 14 | c << 7 | d) + (10 if tag[5] & 0x10 else 0)
    while (at := data.find(b"\xff", at)) >= 0:
        length = _mp3_frame_length(data[at : at + 4])
        # Four bytes look like a header by chance: the first frame must have another behind it.
        if length and at + length <= len(data) and (found or _mp3_frame_length(data[at + length : at + length + 4])):
            found = True
            yield at
            at += length
        else:
            at += 1


def missing_info_frame(path: Path) -> tuple[int, bytes] | None:
    """(place, bytes) of the Info frame that states an MP3 file's length, None where the file has one.

    Without it libsndfile guesses the length from the first frame's bit rate and cuts a variable-rate file at the guess.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        frames = _mp3_frames(data)
        first = next(frames, None)
        if first is None or re.search(b"Xing|Info|VBRI", data[first : first + 44]):
            return None
        count = 1 + sum(1 for _ in frames)
        header = bytearray(data[first : first + 4])
    header[1] |= 1
    mpeg1, mono = header[1] >> 3 & 3 == 3, header[3] >> 6 == 3
    side_info = (17 if mono else 32) if mpeg1 else (9 if mono else 17)
    frame = bytes(header) + bytes(side_info) + b"Info" + struct.pack(">II", 1, count)
    return first, frame.ljust(_mp3_frame_length(bytes(header)), b"\0")
