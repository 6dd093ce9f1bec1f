"""From what the network says of every frame to notes.

A note begins where the odds of an onset are highest around, and lasts while its pitch sounds. Of pitches that begin
together only those count that are nearly as likely as the likeliest: a bass plays one note at a time, mostly.
Neighbours a semitone apart are one note, whose pitch is the one that is heard once it has settled. What comes in may be
cut anywhere: what is not settled yet is held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from . import kinds as starts
from . import register
from .features import FRAMES_PER_S
from .line import Note
from .network import FIRST_MIDI, PITCHES

ONSET = 0.35
"""Least probability of a beginning."""
AGAIN = 0.48
"""That of a pitch that sounds already: something else may have begun on it."""
SOUNDING = 0.4
"""Least probability with which a note goes on."""
TOGETHER = 4
"""Frames within which two beginnings are one, unless both are likely."""
BESIDE = 0.75
"""Part of the likeliest's probability that another pitch needs to begin with it."""
SECOND = 0.7
"""And the probability that it needs at the least."""
GAP = 3
"""Frames that a note may be unheard without being over."""
SETTLED, SETTLING = 4, 14
"""Frames after an onset from and to which its pitch is looked for: slack strings begin sharp."""
AHEAD = 16
"""Frames after an onset that are waited for."""
SHORTEST_S = 0.03
RANGE_DB = 46.0
TOP_DB = 6.0


@dataclass
class _Begun:
    onset: float
    pitch: int
    strength: float
    confidence: float
    kind: str
    last: int


@dataclass
class Decoder:
    """Feed it probabilities, (frames, PITCHES) and (frames, KINDS), the level in dB and spectra of frames; take notes.

    `tell` says of what is measured at a note's start (see `kinds`) which of KINDS it is; `low` is how many notes only a
    bass has (see `register`).
    """

    tell: Callable[[np.ndarray], str]
    at: int = 0
    low: int = 0
    held: list[np.ndarray] = field(default_factory=list)
    begun: dict[int, _Begun] = field(default_factory=dict)

    def feed(
        self,
        onsets: np.ndarray,
        frames: np.ndarray,
        kinds: np.ndarray,
        level_db: np.ndarray,
        spectra: np.ndarray,
        last: bool,
    ) -> Iterator[Note]:
        """Notes that are over, in no order; all of them after the last piece."""
        new = [onsets, frames, kinds, level_db[:, np.newaxis], spectra]
        whole = [np.concatenate(pair) for pair in zip(self.held, new, strict=True)] if self.held else new
        onsets, frames = whole[:2]
        count, before = len(onsets), min(self.at, TOGETHER)
        settled = count if last else max(before, count - AHEAD)
        for frame, pitch, likely in self._beginnings(onsets, frames, before, settled):
            yield from self._go_on(frames, self.at - before, frame)
            if pitch in self.begun and likely < AGAIN:
                continue
            again = self.begun.pop(pitch, None)
            if again:
                yield from self._note(again, self.at - before + frame)
            self._begin(whole, self.at - before, frame, pitch)
        yield from self._go_on(frames, self.at - before, settled)
        if last:
            for one in self.begun.values():
                yield from self._note(one, one.last + 1)
        self.at += settled - before
        self.held = [part[max(0, settled - TOGETHER) :] for part in whole]

    def _beginnings(
        self, onsets: np.ndarray, frames: np.ndarray, first: int, stop: int
    ) -> list[tuple[int, int, float]]:
        """(frame, pitch, how likely) of the beginnings from frame `first` up to `stop`, in their order."""
        below, above = np.pad(onsets, ((0, 0), (1, 1)))[:, :-2], np.pad(onsets, ((0, 0), (1, 1)))[:, 2:]
        pooled = onsets + np.maximum(below, above)
        ranked = np.pad(pooled + 1e-3 * onsets, ((TOGETHER, TOGETHER), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(ranked, (2 * TOGETHER + 1, 3)).max(axis=(-2, -1))
        likeliest = windows.max(axis=1, keepdims=True)
        alone = pooled >= ONSET
        chord = pooled >= np.where(pooled + 1e-3 * onsets >= likeliest, 0.0, SECOND)
        peaks = alone & chord & (pooled + 1e-3 * onsets == windows) & (pooled >= BESIDE * likeliest)
        found = []
        for at, pitch in np.argwhere(peaks[first:stop]):
            frame = first + int(at)
            near = range(max(0, int(pitch) - 1), min(PITCHES, int(pitch) + 2))
            sounding = frames[frame + SETTLED : frame + SETTLING].sum(axis=0)
            settled = max(near, key=lambda one: float(onsets[frame, one] + sounding[one]))
            found.append((frame, settled, float(pooled[frame, pitch])))
        return found

    def _begin(self, whole: Sequence[np.ndarray], offset: int, frame: int, pitch: int) -> None:
        onsets, frames, kinds, level, spectra = whole
        near = onsets[max(0, frame - 1) : frame + 2, max(0, pitch - 1) : pitch + 2].sum(axis=1)
        at = frame + float(near @ np.arange(-min(1, frame), len(near) - min(1, frame)) / near.sum())
        ahead = slice(frame, frame + SETTLING)
        strength = float(np.clip((level[ahead].max() + RANGE_DB - TOP_DB) / RANGE_DB, 0.01, 1))
        begins, sounds = min(1.0, float(near.max())), float(frames[ahead, pitch].max())
        kind = self.tell(starts.measures(onsets, frames, kinds, level, spectra, frame, pitch))
        confidence = float(np.sqrt(begins * sounds))
        self.low += register.only_a_bass(FIRST_MIDI + pitch, spectra[ahead, 0])
        self.begun[pitch] = _Begun(offset + at, pitch, strength, confidence, kind, offset + frame)

    def _go_on(self, frames: np.ndarray, offset: int, stop: int) -> Iterator[Note]:
        """Follow all that sounds up to frame `stop` of the piece."""
        for pitch, one in list(self.begun.items()):
            first = one.last + 1 - offset
            sounds = np.nonzero(frames[first:stop, pitch] >= SOUNDING)[0]
            steps = np.diff(sounds, prepend=-1)
            over = np.nonzero(steps > GAP)[0]
            if len(over):
                sounds = sounds[: over[0]]
            if len(sounds):
                one.last = offset + first + int(sounds[-1])
            if stop - 1 + offset - one.last >= GAP and (len(over) or stop + offset - 1 - one.last > GAP):
                del self.begun[pitch]
                yield from self._note(one, one.last + 1)

    def _note(self, one: _Begun, end: int) -> Iterator[Note]:
        onset_s = max(0.0, one.onset / FRAMES_PER_S)
        end_s = max(end / FRAMES_PER_S, onset_s + SHORTEST_S)
        yield Note(
            round(onset_s, 4),
            round(end_s, 4),
            FIRST_MIDI + one.pitch,
            round(one.strength, 3),
            round(one.confidence, 3),
            one.kind,
        )
