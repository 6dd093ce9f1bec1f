"""Files that libsndfile does not read, decoded by PyAV (`pip install gbsep[av]`) into a temporary spool.

- How long it is, is what was decoded. A container that promises more is an error, or, where its bytes are all there, a
  warning with both lengths. Streams without a container promise nothing: ffmpeg guesses their length from the bit
  rate.
- Of several tracks it is the one flagged default, or else the first, and a warning says so.
- The sound of a film lies on the film's time line: what begins after the picture begins with silence, and what is
  missing within is silent.

References: FFmpeg, libavformat/avformat.h (`AVStream.start_time`, `AV_DISPOSITION_DEFAULT`); RFC 9559 (Matroska).
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..audio import Block, Reader, check_file, part
from ..errors import AudioFileError, printable
from . import streams, tags, wholeness
from .formats import Kind
from .spool import Spool

CODEC_FRAMES = 8192
"""More frames than a packet of any common codec holds."""
HELD = 4
"""At most this many decoded files are on the disk at a time while a batch is planned and rendered."""
_TIMED = {"mov", "matroska", "flv", "mpegts", "mpeg", "asf", "mxf", "rm"}
"""Containers whose packets carry the time at which they are played."""
_GAP_S = 0.1
"""A shorter gap between two packets is what rounding of their times leaves; a shorter lead is not worth a word."""
_GAP_LIMIT_S = 3600.0
"""A longer one is a clock that was set, not silence."""
_SLACK_S = 0.5
"""By so much the tracks of a whole container may end before the length that it states."""
_DEFAULT, _ATTACHED_PICTURE = 1, 0x400


@dataclass
class Found:
    """What a file says of the track that is read. `frames` is what it promises, else what its packets say."""

    sample_rate: int
    channels: int
    frames: int
    codec: str
    tags: dict[str, str]
    warnings: list[str] = field(default_factory=list)


def look(path: Path, kind: Kind) -> Found:
    """What the file says of itself. Raises AudioFileError, also when its bytes are not all there."""
    wholeness.check_promise(path, kind)
    with _opened(path, kind) as (container, stream, found):
        promised = _exact_frames(stream) if kind.promises else None
        if promised is None and kind.promises and container.duration:
            promised = round(container.duration * found.sample_rate / 1_000_000)
        if promised is None:
            promised = sum(
                round((packet.duration or 0) * packet.time_base * found.sample_rate)
                for packet in container.demux(stream)
                if packet.size and packet.time_base
            )
        found.frames = promised
        return found


def decode(path: Path, kind: Kind) -> tuple[Found, Reader]:
    """The whole track, decoded into a spool that lives as long as the Reader, unless HELD others have come since: then
    it is decoded again when it is read.

    Raises AudioFileError where less could be decoded than the container promises.
    """
    found, whole = _decoded(path, kind)
    shape = found.sample_rate, found.channels, found.frames
    place = _Place()
    place.put(whole)

    def blocks(block_frames: int) -> Iterator[Block]:
        reader = place.take()
        if reader is None:
            again, reader = _decoded(path, kind)
            if (again.sample_rate, again.channels, again.frames) != shape:
                raise AudioFileError(path, "has changed since it was looked at: start again")
            place.put(reader)
        yield from reader.blocks(block_frames)

    return found, Reader(*shape, blocks)


class _Place:
    """A place for what was decoded, which the HELD places used last have; it is given up with the last reference."""

    _lock = threading.RLock()
    _held: ClassVar[OrderedDict[int, Reader]] = OrderedDict()
    _numbers = itertools.count()

    def __init__(self) -> None:
        self._number = next(self._numbers)
        weakref.finalize(self, self._held.pop, self._number, None)

    def put(self, reader: Reader) -> None:
        with self._lock:
            self._held[self._number] = reader
            while len(self._held) > HELD:
                self._held.popitem(last=False)

    def take(self) -> Reader | None:
        with self._lock:
            if self._number in self._held:
                self._held.move_to_end(self._number)
            return self._held.get(self._number)


def _decoded(path: Path, kind: Kind) -> tuple[Found, Reader]:
    whole = wholeness.check_promise(path, kind)
    with _opened(path, kind) as (container, stream, found):
        spool = Spool(["audio"], found.sample_rate, found.channels)
        take = _Take(path, kind, container, stream, found, spool)
        take.all()
        if not take.frames or take.damaged > take.packets // 2:
            undecoded = take.damaged if take.frames else take.packets
            what = f"{undecoded} of {take.packets} packets of {found.codec} in {kind.demuxer} cannot be decoded"
            raise AudioFileError(path, f"{what}: {wholeness.UNDECODED if whole else wholeness.SHORTENED}")
        if not whole and streams.is_cut(path, kind.demuxer or ""):
            take.damaged -= take.last_is_damaged
            have_s = take.frames / found.sample_rate
            found.warnings.append(
                f"it ends within a frame at {have_s:.3f} s, and states no length: how much is missing cannot be told"
            )
        if take.damaged:
            found.warnings.append(f"{take.damaged} of its {take.packets} packets are damaged and left out or silent")
        exact = _exact_frames(stream) if kind.promises else None
        have = take.frames - take.lead
        # What a codec's last packet has beyond the declared end is padding.
        counts_frames = stream.time_base == Fraction(1, found.sample_rate)
        if exact is not None and counts_frames and 0 < have - exact <= CODEC_FRAMES:
            have = exact
        short = _shortfall(take, exact, have)
        if short:
            if not whole or take.damaged:
                why = wholeness.UNDECODED if whole else wholeness.SHORTENED
                raise AudioFileError(path, f"{short} of {found.codec} could be decoded: {why}")
            found.warnings.append(f"{short} are there, though no byte is missing: what is there is used")
    found.frames = take.lead + have
    return found, part(spool.reader("audio"), 0, found.frames)


@contextmanager
def _opened(path: Path, kind: Kind) -> Iterator[tuple[Any, Any, Found]]:
    """(container, the track that is read, what it says), through PyAV, whose errors become AudioFileError."""
    try:
        import av
    except ImportError:
        raise AudioFileError(
            path, f"is a {kind.demuxer} file, for which gbsep needs PyAV: pip install gbsep[av]"
        ) from None
    # From 19 on PyAV gives bytes that are no UTF-8 as surrogates, and has no word for it.
    older: dict[str, Any] = {"metadata_errors": "surrogateescape"} if int(av.__version__.split(".")[0]) < 19 else {}
    try:
        with av.open(str(path), format=kind.demuxer, **older) as container:
            stream, warnings = _choose(path, container.streams.audio)
            codec = stream.codec_context
            if codec is None or not codec.sample_rate or not codec.layout.nb_channels:
                raise AudioFileError(path, "has an audio track that PyAV cannot decode: convert it to WAV first")
            words, unread = tags.of_av(container.metadata, stream.metadata)
            warnings += tags.warnings(unread)
            yield container, stream, Found(codec.sample_rate, codec.layout.nb_channels, 0, codec.name, words, warnings)
    except av.FFmpegError as error:
        if kind.demuxer == "ogg" and wholeness.ogg_streams(path) > 1:
            why = "it is several streams joined, of other formats; bring the parts to one format before joining them"
        else:
            why = wholeness.SHORTENED
        raise AudioFileError(path, f"cannot be decoded ({error.strerror}): {why}") from None


def _flags(stream: Any) -> int:
    return int(getattr(stream.disposition, "value", stream.disposition))


def _choose(path: Path, streams: Iterable[Any]) -> tuple[Any, list[str]]:
    """The track that is flagged default, else the first, and a word where there are several."""
    streams = list(streams)
    if not streams:
        raise AudioFileError(path, "has no audio track, so there is nothing to separate: leave it out")
    stream = next((each for each in streams if _flags(each) & _DEFAULT), streams[0])
    if len(streams) == 1:
        return stream, []
    number = streams.index(stream)
    title = printable(stream.metadata.get("title", ""))
    name = f"{number + 1} ({title})" if title else number + 1
    flagged = ", flagged default" if _flags(stream) & _DEFAULT else ""
    return stream, [
        f"it holds {len(streams)} audio tracks: gbsep takes number {name}{flagged}; "
        f"for another: ffmpeg -i IN -map 0:a:N -c copy OUT, N from 0 to {len(streams) - 1}"
    ]


def _pictures(container: Any) -> list[Any]:
    """The film's tracks of moving pictures: no covers."""
    return [stream for stream in container.streams.video if not _flags(stream) & _ATTACHED_PICTURE]


def _exact_frames(stream: Any) -> int | None:
    """The frames that the container declares for the stream, where it counts frames."""
    if stream.duration is None or not stream.time_base:
        return None
    frames: int = round(stream.duration * stream.time_base * stream.codec_context.sample_rate)
    return frames


def _stated_end_s(stream: Any) -> float | None:
    """When the track ends by Matroska's statistics, None where there are none."""
    words = stream.metadata.get("DURATION", "").split(":")
    try:
        hours, minutes, seconds = map(float, words)
    except ValueError:
        return None
    return 3600 * hours + 60 * minutes + seconds


class _Take:
    """Decodes a track into a spool: `frames` in all, `lead` of them silence before the first, and what went wrong."""

    def __init__(self, path: Path, kind: Kind, container: Any, stream: Any, found: Found, spool: Spool):
        self.path, self.kind, self.container, self.stream = path, kind, container, stream
        self.found, self.spool = found, spool
        self.frames = self.lead = self.packets = self.damaged = self.filled = 0
        self.last_is_damaged = False
        self.end_s: float | None = None
        self.track_end_s: float | None = None
        self.first_s: Fraction | None = None
        self.next_s: Fraction | None = None
        self.resampler: Any = None
        self.shape: Any = None

    def all(self) -> None:
        import av

        for packet in self.container.demux():
            if packet.size and packet.pts is not None and packet.time_base:
                end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                self.end_s = max(end, self.end_s or end)
                if packet.stream.index == self.stream.index:
                    self.track_end_s = max(end, self.track_end_s or end)
            if packet.stream.index != self.stream.index:
                continue
            self.packets += bool(packet.size)
            self.last_is_damaged = self.last_is_damaged and not packet.size
            try:
                decoded = packet.decode()
            except av.FFmpegError:
                # A stream's dump begins within a packet and ends within one.
                self.last_is_damaged = bool(self.frames)
                self.damaged += self.last_is_damaged
                continue
            for frame in decoded:
                self._take(frame)
        self._flush()
        if self.filled:
            seconds = self.filled / self.found.sample_rate
            self.found.warnings.append(f"{seconds:.3f} s of sound are missing in it: they are silent")

    def _take(self, frame: Any) -> None:
        import av

        if self.kind.demuxer in _TIMED and frame.pts is not None and frame.time_base:
            self._place(frame.pts * frame.time_base, Fraction(frame.samples, frame.sample_rate or 1))
        shape = frame.format.name, frame.layout.name, frame.sample_rate
        if shape != self.shape:
            self._flush()
            layout = "mono" if self.found.channels == 1 else "stereo"
            self.resampler, self.shape = av.AudioResampler("fltp", layout, self.found.sample_rate), shape
        self._write(self.resampler.resample(frame))

    def _flush(self) -> None:
        if self.resampler is not None:
            self._write(self.resampler.resample(None))
        self.resampler = None

    def _write(self, parts: Iterable[Any]) -> None:
        for each in parts:
            block = each.to_ndarray()
            if block.shape[1]:
                self._put(block)

    def _put(self, block: Block) -> None:
        check_file(self.path, block, self.frames, self.found.sample_rate)
        self.spool.write({"audio": block})
        self.frames += block.shape[1]

    def _place(self, begin_s: Fraction, length_s: Fraction) -> None:
        """Silence up to where a frame begins, if it is not where the one before ended."""
        if self.first_s is None or self.next_s is None:
            self.first_s = begin_s
            self.lead = silent = self._lead_frames(begin_s)
        else:
            is_gap = _GAP_S < begin_s - self.next_s < _GAP_LIMIT_S
            place = self.lead + round((begin_s - self.first_s) * self.found.sample_rate)
            silent = max(0, place - self.frames) if is_gap else 0
            if silent and self.container.duration and self.kind.promises:
                left = self.container.duration * self.found.sample_rate // 1_000_000 - self.frames
                silent = silent if silent <= left + CODEC_FRAMES else 0
            self.filled += silent
        self.next_s = begin_s + length_s
        for start in range(0, silent, 2**18):
            self._put(np.zeros((self.found.channels, min(2**18, silent - start)), np.float32))

    def _lead_frames(self, begin_s: Fraction) -> int:
        starts = [each.start_time * each.time_base for each in _pictures(self.container) if each.start_time is not None]
        if not starts:
            return 0
        late_s = float(begin_s - min(starts))
        if abs(late_s) < 0.002 or abs(late_s) > _GAP_LIMIT_S:
            return 0
        if late_s < -_GAP_S:
            self.found.warnings.append(f"its sound begins {-late_s:.3f} s before its picture, and so do the stems")
        if late_s > _GAP_S:
            self.found.warnings.append(
                f"its sound begins {late_s:.3f} s after its picture: so much silence comes first, to fit the film"
            )
        return max(0, round(late_s * self.found.sample_rate))


def _shortfall(take: _Take, exact: int | None, have: int) -> str:
    """How much of a track is there, as "3.0 s of 5.0 s"; empty where nothing is missing."""
    rate = take.found.sample_rate
    if exact is not None:
        return f"{have / rate:.3f} s of {exact / rate:.3f} s" if exact - have > CODEC_FRAMES else ""
    if not take.kind.promises:
        return ""
    stated = _stated_end_s(take.stream)
    if stated is not None and take.track_end_s is not None and stated - take.track_end_s > _SLACK_S:
        return f"{take.track_end_s:.3f} s of {stated:.3f} s"
    total = (take.container.duration or 0) / 1_000_000
    begin = (take.container.start_time or 0) / 1_000_000
    if take.end_s is not None and begin + total - take.end_s > _SLACK_S:
        return f"{take.end_s - begin:.3f} s of {total:.3f} s"
    return ""
