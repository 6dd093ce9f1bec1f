"""Segments of a track that overlap, as the tools of this family cut, fill and weigh them; here in bounded memory.

The signal that is cut is the track with its own ends mirrored before and behind it, by what two segments share. A
segment fades in and out over a tenth of its length, but not at the ends of the signal. One that is cut short by the end
is filled up, mirrored when more than half of it is there. HTDemucs has segments of equal weight and nothing mirrored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

Take = Callable[[int, int], np.ndarray]
"""(start, frames) -> (channels, frames) of the track, silence beyond its ends."""


@dataclass(frozen=True)
class Cut:
    """How a track of `frames` is cut: segments of `length` every `step`, the first of them `shift` frames early.

    plain: segments of equal weight, nothing mirrored.
    """

    frames: int
    length: int
    step: int
    shift: int = 0
    plain: bool = False

    @property
    def border(self) -> int:
        """Frames mirrored before and behind the track."""
        shared = self.length - self.step
        return 0 if self.plain or self.frames <= 2 * shared else shared

    @property
    def total(self) -> int:
        return self.frames + 2 * self.border

    @property
    def fade(self) -> int:
        return 0 if self.plain else min(self.length // 10, self.length - self.step)

    def starts(self) -> Iterator[int]:
        """Where segments begin, in frames of the track, leaving out those that have nothing to do with it."""
        for start in range(-self.shift, self.total, self.step):
            if -self.length < start - self.border < self.frames:
                yield start - self.border

    def shape(self, start: int) -> np.ndarray:
        """The weights of the segment at `start`, the others left aside: (n,), n frames inside the signal."""
        own = start + self.border
        frames = min(self.length, self.total - own)
        weights = np.ones(self.length, np.float32)
        if self.fade:
            if own > -self.shift:
                weights[: self.fade] = np.linspace(0, 1, self.fade, dtype=np.float32)
            if own + self.length < self.total:
                weights[-self.fade :] = np.linspace(1, 0, self.fade, dtype=np.float32)
        return weights[:frames]

    def weights(self, start: int) -> np.ndarray:
        """The weights of the segment at `start`, divided by the sum of those of all that overlap it."""
        own = self.shape(start)
        total = np.zeros(len(own), np.float32)
        first = -self.shift - self.border
        before = min((start - first) // self.step, (self.length - 1) // self.step)
        for other in range(start - before * self.step, start + len(own), self.step):
            shape = own if other == start else self.shape(other)
            begin, end = max(start, other), min(start + len(own), other + len(shape))
            total[begin - start : end - start] += shape[begin - other : end - other]
        result: np.ndarray = np.divide(own, total, out=np.zeros_like(own), where=total > 0)
        return result

    def piece(self, take: Take, start: int) -> np.ndarray:
        """What the network is given for the segment at `start`: (channels, length)."""
        end = min(start + self.length, self.frames + self.border)
        piece = self._mirrored(take, start, end - start)
        lacking = self.length - piece.shape[1]
        if not lacking:
            return piece
        if not self.plain and piece.shape[1] > self.length // 2 + 1:
            return np.concatenate([piece, piece[:, -2 : -2 - lacking : -1]], axis=1)
        return np.concatenate([piece, np.zeros((len(piece), lacking), np.float32)], axis=1)

    def _mirrored(self, take: Take, start: int, frames: int) -> np.ndarray:
        piece: np.ndarray = take(start, frames).copy()
        ahead, behind = min(-start, frames), start + frames - self.frames
        if self.border and ahead > 0:
            edge = max(0, -start - self.border)  # beyond what is mirrored there is silence
            mirrored = take(-start - ahead + 1, ahead)[:, ::-1]
            piece[:, edge:ahead] = mirrored[:, edge:]
        if self.border and behind > 0:
            here = min(behind, frames)
            first = 2 * (self.frames - 1) - (start + frames - 1)
            piece[:, frames - here :] = take(first, here)[:, ::-1]
        return piece
