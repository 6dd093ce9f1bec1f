"""Audio as values: what each stage of gbsep passes to the next.

Conventions, everywhere in gbsep:

- samples are float32, shape (channels, frames), channels 1 or 2, full scale at +-1.0;
- a *frame* is one point in time in all channels; `sample_rate` is in frames per second;
- a *block* is such an array holding the next piece of a longer signal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from .errors import AudioError, NotFinite, expect, shown
from .params import SAMPLE_RATE

T = TypeVar("T")

BLOCK_FRAMES = 2**18
"""Frames in a block unless a caller asks otherwise: 6 s at 44.1 kHz, 2 MB in stereo."""

Block = NDArray[np.float32]
"""float32 array, shape (channels, n)."""

MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = int(SAMPLE_RATE.low), int(SAMPLE_RATE.high)
"""In Hz, both allowed."""


@dataclass(frozen=True, eq=False)
class Audio:
    """A signal in memory.

    `samples` is stored as a read-only float32 array of shape (channels, frames); a 1-D array is taken as mono.
    Raises AudioError for other shapes, more than two channels, no frames, samples that are not finite, or a sample rate
    that is no whole number from MIN_SAMPLE_RATE to MAX_SAMPLE_RATE.

    >>> Audio(np.zeros((2, 441)), 44100)
    Audio(2 channels, 441 frames, 44100 Hz)
    """

    samples: np.ndarray
    sample_rate: int

    def __post_init__(self) -> None:
        samples = np.asarray(self.samples)
        if samples.dtype.kind != "f":
            raise AudioError(f"samples must be floating point with full scale at +-1.0, not {samples.dtype}")
        samples = samples[np.newaxis] if samples.ndim == 1 else samples
        if samples.ndim != 2 or samples.shape[0] not in (1, 2):
            raise AudioError(f"samples must have shape (channels, frames) with 1 or 2 channels, not {samples.shape}")
        if samples.shape[1] == 0:
            raise AudioError("audio has no frames")
        whole = isinstance(self.sample_rate, (int, np.integer)) and not isinstance(self.sample_rate, bool)
        if not (whole and MIN_SAMPLE_RATE <= self.sample_rate <= MAX_SAMPLE_RATE):
            allowed = f"a whole number of Hz from {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE}"
            raise AudioError(f"sample_rate must be {allowed}, not {shown(self.sample_rate)}")
        samples = np.array(samples, dtype=np.float32, order="C")
        check_finite(samples)
        samples.flags.writeable = False
        object.__setattr__(self, "samples", samples)
        object.__setattr__(self, "sample_rate", int(self.sample_rate))

    @property
    def channels(self) -> int:
        return int(self.samples.shape[0])

    @property
    def frames(self) -> int:
        return int(self.samples.shape[1])

    @property
    def seconds(self) -> float:
        return self.frames / self.sample_rate

    def reader(self) -> Reader:
        """The same signal as a Reader."""
        samples = self.samples

        def blocks(block_frames: int) -> Iterator[Block]:
            for start in range(0, samples.shape[1], block_frames):
                yield samples[:, start : start + block_frames]

        return Reader(self.sample_rate, self.channels, self.frames, blocks)

    def __repr__(self) -> str:
        return f"Audio({self.channels} channels, {self.frames} frames, {self.sample_rate} Hz)"


@dataclass(frozen=True, eq=False)
class Reader:
    """A signal that is read block by block, as often as needed: `blocks()` starts from the first frame each time.

    Blocks are float32, shape (channels, n) with 1 <= n <= block_frames, finite, `frames` long in all, and must not
    be written to.
    """

    sample_rate: int
    channels: int
    frames: int
    open_blocks: Callable[[int], Iterator[Block]] = field(repr=False)

    def blocks(self, block_frames: int = BLOCK_FRAMES) -> Iterator[Block]:
        return self.open_blocks(block_frames)

    def read(self) -> Audio:
        """The whole signal in memory."""
        return Audio(join(self.blocks()), self.sample_rate)


@dataclass(frozen=True, eq=False)
class Stems:
    """The result of a separation: named stems of the mixture's shape and sample rate.

    `residual` is mixture minus the sum of the stems: what no stem took.
    """

    mixture: Audio
    stems: Mapping[str, Audio]
    backend: str
    settings: Mapping[str, Any]

    def __post_init__(self) -> None:
        expect("mixture", self.mixture, Audio)
        expect("stems", self.stems, Mapping)
        for name, stem in self.stems.items():
            expect(f"stems[{shown(name)}]", stem, Audio)
            if stem.samples.shape != self.mixture.samples.shape or stem.sample_rate != self.mixture.sample_rate:
                raise AudioError(f"stem {name!r} is {stem}, but the mixture is {self.mixture}")

    @property
    def residual(self) -> Audio:
        total = np.sum([stem.samples for stem in self.stems.values()], axis=0, dtype=np.float64)
        return Audio(self.mixture.samples - total, self.mixture.sample_rate)


def check_finite(block: np.ndarray, first_frame: int = 0) -> None:
    """Raise AudioError when `block` (channels, n) holds NaN or infinity, naming the first such frame."""
    finite = np.isfinite(block)
    if not finite.all():
        frame = first_frame + int((~finite).any(axis=0).argmax())
        count = int((~finite).sum())
        raise AudioError(f"{count} sample{'s are' if count > 1 else ' is'} NaN or infinite, the first at frame {frame}")


def check_file(path: Path, block: np.ndarray, first_frame: int, sample_rate: int) -> None:
    """As `check_finite`, for samples read from the file `path`: raise NotFinite, with the time in seconds."""
    try:
        check_finite(block, first_frame)
    except AudioError as error:
        frame = first_frame + int(np.argmin(np.isfinite(block).all(axis=0)))
        raise NotFinite(path, f"{error}; export it again without them", frame / sample_rate) from None


def join(blocks: Iterable[Block]) -> Block:
    """All blocks as one array, shape (channels, frames)."""
    return np.concatenate(list(blocks), axis=1)


def rechunk(blocks: Iterable[Block], block_frames: int) -> Iterator[Block]:
    """The same signal in blocks of exactly `block_frames` frames, the last one shorter."""
    waiting: list[Block] = []
    held = 0
    for block in blocks:
        waiting.append(block)
        held += block.shape[1]
        if held < block_frames:
            continue
        whole = waiting[0] if len(waiting) == 1 else np.concatenate(waiting, axis=1)
        cut = held - held % block_frames
        for start in range(0, cut, block_frames):
            yield whole[:, start : start + block_frames]
        waiting, held = ([whole[:, cut:]], held - cut) if held > cut else ([], 0)
    if held:
        yield waiting[0] if len(waiting) == 1 else np.concatenate(waiting, axis=1)


def ahead(blocks: Iterable[T]) -> Iterator[T]:
    """The same blocks, each made in a thread of its own while the one before is in use."""
    source = iter(blocks)
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, source, None)
        while (block := coming.result()) is not None:
            coming = pool.submit(next, source, None)
            yield block


def overlap_add(windows: np.ndarray, hop_length: int) -> np.ndarray:
    """Overlap-add: windows of shape (..., windows, n), `hop_length` frames apart, summed to shape (..., frames)."""
    *before, count, length = windows.shape
    steps = length // hop_length
    made = np.zeros((*before, count + steps - 1, hop_length), np.float32)
    for step, part in enumerate(np.split(windows, steps, axis=-1)):
        made[..., step : step + count, :] += part
    return made.reshape(*before, -1)


def zip_blocks(*streams: Iterable[Block]) -> Iterator[tuple[Block, ...]]:
    """Several signals of equal length side by side: tuples of blocks that cover the same frames."""
    sources = [iter(stream) for stream in streams]
    held: list[Block | None] = [None] * len(sources)
    while True:
        for index, source in enumerate(sources):
            if held[index] is None:
                held[index] = next(source, None)
        if all(block is None for block in held):
            return
        if any(block is None for block in held):
            raise AudioError("signals that belong together differ in length")
        frames = min(block.shape[1] for block in held if block is not None)
        yield tuple(block[:, :frames] for block in held if block is not None)
        held = [block[:, frames:] if block is not None and block.shape[1] > frames else None for block in held]


def mix(parts: Iterable[tuple[float, Reader]]) -> Reader:
    """The weighted sum of signals of one shape, as a Reader; summed in float64, rounded once."""
    parts = tuple(parts)
    first = parts[0][1]
    if len(parts) == 1 and parts[0][0] == 1.0:
        return first

    def blocks(block_frames: int) -> Iterator[Block]:
        for pieces in zip_blocks(*(reader.blocks(block_frames) for _, reader in parts)):
            total = pieces[0] * np.float64(parts[0][0])
            for (gain, _), piece in zip(parts[1:], pieces[1:], strict=True):
                total += gain * piece.astype(np.float64)
            yield total.astype(np.float32)

    return Reader(first.sample_rate, first.channels, first.frames, blocks)


def part(reader: Reader, start: int, frames: int) -> Reader:
    """`frames` frames of a Reader from `start` on."""

    def blocks(block_frames: int) -> Iterator[Block]:
        at = 0
        for block in reader.blocks(block_frames):
            cut = block[:, max(0, start - at) : max(0, start + frames - at)]
            at += block.shape[1]
            if cut.shape[1]:
                yield cut
            if at >= start + frames:
                return

    whole = start == 0 and frames == reader.frames
    return reader if whole else Reader(reader.sample_rate, reader.channels, frames, blocks)
