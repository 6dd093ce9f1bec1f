"""MP3 files: what is in them, frame by frame, and the stream of it that a decoder is to get.

libsndfile trusts the header frame of a file for its length: one that counts the first of two joined files, or nothing,
cuts the sound. So the frames are counted here, and the decoder gets a stream of its own: a header frame that states the
true count, then the frames, without tags and without the header frames of joined parts.

- The delay that a header states is taken off the beginning, its padding off the end if it counts what is there.
- Without a header a silent frame comes first, for the decoder's delay to be taken off that: the sound begins with the
  first frame, as in other decoders.
- A frame that refers to bytes that are not there is silent: the first ones of a stream's dump do, and damaged ones.

References: ISO/IEC 11172-3, 2.4.1.7 (side information) and 2.4.3.4 (bit reservoir); the LAME tag,
http://gabriel.mp3-tech.org/mp3infotag.html; mpg123, `INT123_frame_gapless_init`.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from .framing import MPEG_RATES_HZ, first_mpeg_frame, frame_length, id3_end

DECODER_DELAY = 529
"""Frames by which a layer III decoder is late; libsndfile takes them off where a header states the encoder's delay."""
_BIG_VALUES = 288
"""The most pairs of big values in a granule."""
_RESERVOIR = 511
"""The most bytes that a frame may refer back to."""


@dataclass(frozen=True)
class Header:
    """A Xing or Info frame: what it states, None where it does not; the encoder's delay and padding in frames.

    A VBRI frame states no delay: `delay` is None.
    """

    count: int | None = None
    size: int | None = None
    delay: int | None = None
    padding: int = 0


@dataclass
class Mp3:
    """What an MP3 file holds: `count` MP3 frames of `samples` frames each, of which `lost` cannot be decoded: those at
    the beginning, which refer to what came before, are not counted.

    `header` is None where the file has none. `cut`: the last frame is not whole. `changes_at` counts the MP3 frames
    before the first one of another sample rate or number of channels, None where there is none. `size` is the bytes of
    audio. `pieces` is the stream: byte ranges of the file, and frames in place of those there.
    """

    samples: int
    sample_rate: int
    header: Header | None = None
    count: int = 0
    lost: int = 0
    cut: bool = False
    changes_at: int | None = None
    size: int = 0
    pieces: list[tuple[int, int] | bytes] = field(default_factory=list)

    def seconds(self, count: int) -> float:
        return count * self.samples / self.sample_rate

    def copy(self, path: Path, file: IO[bytes]) -> None:
        """Write the stream of this file to another."""
        with path.open("rb") as source:
            for piece in self.pieces:
                if isinstance(piece, bytes):
                    file.write(piece)
                    continue
                at, end = piece
                source.seek(at)
                while at < end and (chunk := source.read(min(end - at, 2**20))):
                    file.write(chunk)
                    at += len(chunk)


def scan(path: Path) -> Mp3 | None:
    """The layer III frames of a file, None where there are none, or of the free bit rate."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        first = _begin(data, id3_end(data))
        while first is not None and not _is_layer_3(data[first : first + 4]):
            first = first_mpeg_frame(data, first + 1)
        return None if first is None else _Walk(data, first).found


def _begin(data: mmap.mmap, tags_end: int) -> int | None:
    """Where the frames begin: behind the tags, or before their end where the tag states a wrong size.

    A picture in a tag may look like three frames in a row, but not like frames up to its end and beyond.
    """
    first = first_mpeg_frame(data)
    while first is not None and first < tags_end < len(data):
        at = first
        while at < tags_end and (length := frame_length(data[at : at + 6])):
            at += length
        if at > tags_end and frame_length(data[at : at + 6]):
            return first
        first = first_mpeg_frame(data, first + 1)
    return first


def _is_layer_3(header: bytes) -> bool:
    return header[1] & 6 == 2


class _Layout:
    """Where things are in the frames of one stream, which all have the version, rate and channels of the first."""

    def __init__(self, head: bytes):
        self.head = bytes((0xFF, head[1] | 1, head[2], head[3]))
        version, self.mono = head[1] >> 3 & 3, head[3] >> 6 == 3
        mpeg1, channels = version == 3, 1 if self.mono else 2
        self.sample_rate = MPEG_RATES_HZ[version][head[2] >> 2 & 3]
        self.samples = 1152 if mpeg1 else 576
        self.side_size = (17 if self.mono else 32) if mpeg1 else (9 if self.mono else 17)
        self.back_bits = 9 if mpeg1 else 8
        lead = self.back_bits + ((5 if self.mono else 3) + 4 * channels if mpeg1 else channels)
        parts, step = channels * (2 if mpeg1 else 1), 59 if mpeg1 else 63
        self.shifts = [self.side_size * 8 - lead - step * part - 21 for part in range(parts)]
        """Where sizes and numbers of big values of the granules end in the side information, in bits from its end."""
        self.lengths = [
            frame_length(bytes((*self.head[:2], byte, 0, 0, 0))) if (byte ^ head[2]) & 0x0C == 0 else 0
            for byte in range(256)
        ]

    def length(self, header: bytes) -> int:
        """Bytes in the frame with this header, 0 where it is none of this stream."""
        ours = header[0] == 0xFF and header[1] | 1 == self.head[1] and (header[3] >> 6 == 3) == self.mono
        return self.lengths[header[2]] if ours else 0

    def header_frame(self, count: int, delay: int, padding: int) -> bytes:
        """An Info frame, at the highest bit rate: that has room for one."""
        head = bytes((*self.head[:2], self.head[2] & 0x0C | 0xE0, self.head[3]))
        about = b"Info" + struct.pack(">II", 1, count) + b"gbsep".ljust(21, b"\0")
        about += (delay << 12 | padding).to_bytes(3, "big")
        return (head + bytes(self.side_size) + about).ljust(self.lengths[head[2]], b"\0")


class _Walk:
    """One way through a file; `found` is what it met."""

    def __init__(self, data: mmap.mmap, first: int):
        self.data, self.layout = data, _Layout(data[first : first + 4])
        self.found = Mp3(self.layout.samples, self.layout.sample_rate)
        self.open_from: int | None = None
        self.held = 0
        self.begun = False
        at = first
        while at + 4 <= len(data):
            length = self.layout.length(data[at : at + 4])
            if length and at + length > len(data):
                self.found.cut = True
                break
            if length:
                self._take(at, length)
                at += length
            elif (following := self._resume(at)) is None:
                break
            else:
                at = following
        self._close(at)
        self._begin()

    def _take(self, at: int, length: int) -> None:
        frame, layout, found = self.data[at : at + length], self.layout, self.found
        side_at = 4 if frame[1] & 1 else 6
        found.size += length
        header = _header(frame, 4 + layout.side_size)
        if header is not None:
            self._close(at)
            if not found.count and found.header is None:
                found.header = header
            return
        side = int.from_bytes(frame[side_at : side_at + layout.side_size], "big")
        back = side >> (layout.side_size * 8 - layout.back_bits)
        main = length - side_at - layout.side_size
        granules = [side >> shift for shift in layout.shifts]
        needed = sum(granule >> 9 & 0xFFF for granule in granules)
        if back > self.held or needed > 8 * (back + main) or any(each & 0x1FF > _BIG_VALUES for each in granules):
            self._close(at)
            # Later frames may refer to its bytes and to those before, so it hands all of them on.
            back = min(self.held, (1 << layout.back_bits) - 1)
            about = (back << layout.side_size * 8 - layout.back_bits).to_bytes(layout.side_size, "big")
            head = bytes((frame[0], frame[1] | 1, *frame[2:4])) + about
            found.pieces.append(head + bytes(max(side_at - 4, 0)) + frame[length - main :] if main > 0 else b"")
            found.lost += self.begun
        else:
            self.begun = True
            self.open_from = at if self.open_from is None else self.open_from
        self.held = min(self.held + max(main, 0), _RESERVOIR)
        found.count += 1

    def _resume(self, at: int) -> int | None:
        """Where the next frame begins behind bytes that are none."""
        self._close(at)
        self.held = 0
        following = first_mpeg_frame(self.data, at)
        while following is not None:
            head = self.data[following : following + 4]
            if self.layout.length(head):
                break
            if _is_layer_3(head) and self.found.changes_at is None:
                self.found.changes_at = self.found.count
            following = first_mpeg_frame(self.data, following + 1)
        return following

    def _close(self, at: int) -> None:
        if self.open_from is not None:
            self.found.pieces.append((self.open_from, at))
        self.open_from = None

    def _begin(self) -> None:
        """Put the header frame before the stream."""
        found, layout = self.found, self.layout
        silent = layout.head.ljust(layout.lengths[layout.head[2]], b"\0")
        if found.header is None or found.header.delay is None:
            before = [layout.header_frame(found.count + 1, found.samples - DECODER_DELAY, 0), silent]
        else:
            counted = found.header.count in (found.count, found.count + 1)
            padding = found.header.padding if counted else 0
            before = [layout.header_frame(found.count, found.header.delay, padding)]
        # libsndfile does not take a single frame for a stream; what is beyond the count is not read.
        found.pieces = [*before, *found.pieces, silent]


def _header(frame: bytes, at: int) -> Header | None:
    """What a frame states of the file, None where it is one of sound; a Xing or Info mark would be at `at`."""
    if frame[36:40] == b"VBRI" and len(frame) >= 54:
        size, count = struct.unpack_from(">II", frame, 46)
        return Header(count, size)
    if frame[at : at + 4] not in (b"Xing", b"Info") or len(frame) < at + 8:
        return None
    (flags,) = struct.unpack_from(">I", frame, at + 4)
    count, size, place = None, None, at + 8
    if flags & 1:
        count, place = int.from_bytes(frame[place : place + 4], "big"), place + 4
    if flags & 2:
        size, place = int.from_bytes(frame[place : place + 4], "big"), place + 4
    place += (100 if flags & 4 else 0) + (4 if flags & 8 else 0)
    about = int.from_bytes(frame[place + 21 : place + 24].ljust(3, b"\0"), "big")
    return Header(count, size, about >> 12, about & 0xFFF)
