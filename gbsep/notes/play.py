"""A line played by a plucked string, in time with the song, to hear whether it is right."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..audio import Block, Reader, rechunk
from ..demo import pluck
from .line import Line, Note
from .midi import ends

SAMPLE_RATE = 44100
BLOCK = 2**16
RELEASE_S = 0.04
LONGEST_S = 12.0
GAIN = 0.25
DECAY_S, TREBLE_DECAY_S, PICK, BRIGHTNESS_HZ = 6.0, 0.4, 0.18, 900.0


def frames_of(line: Line, sample_rate: int = SAMPLE_RATE) -> int:
    """How long it takes until the last note is over."""
    return round((max([line.seconds, *ends(line.notes)]) + 0.5) * sample_rate)


def played(line: Line, sample_rate: int = SAMPLE_RATE, frames: int | None = None) -> Iterator[Block]:
    """The line in blocks, float32 (1, n), as many `frames` as are wanted, or until its last note is over."""
    total = frames if frames is not None else frames_of(line, sample_rate)
    rng = np.random.default_rng(0)
    tuned = 440.0 * 2 ** (line.cents / 1200)
    waiting = list(zip(line.notes, ends(line.notes), strict=True))[::-1]
    sounding: list[tuple[int, np.ndarray]] = []
    for first in range(0, total, BLOCK):
        block = np.zeros(min(BLOCK, total - first), np.float32)
        while waiting and waiting[-1][0].onset_s * sample_rate < first + len(block):
            note, end_s = waiting.pop()
            start = round(note.onset_s * sample_rate)
            sounding.append((start, _tone(note, end_s, tuned, sample_rate, rng)))
        for start, tone in sounding:
            begin, end = max(start, first), min(start + len(tone), first + len(block))
            if begin < end:
                block[begin - first : end - first] += tone[begin - start : end - start]
        sounding = [(start, tone) for start, tone in sounding if start + len(tone) > first + len(block)]
        yield np.clip(block, -0.99, 0.99)[np.newaxis]


def _tone(note: Note, end_s: float, tuned_hz: float, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    seconds = min(LONGEST_S, end_s - note.onset_s) + RELEASE_S
    hz = tuned_hz * 2 ** ((note.midi - 69) / 12)
    tone = pluck(hz, seconds, sample_rate, rng, DECAY_S, TREBLE_DECAY_S, PICK, BRIGHTNESS_HZ)
    fade = min(len(tone), round(RELEASE_S * sample_rate))
    tone[len(tone) - fade :] *= np.linspace(1, 0, fade)
    if note.kind == "dead":
        tone *= np.exp(-np.arange(len(tone)) / (0.02 * sample_rate))
    loud: np.ndarray = (GAIN * (0.3 + 0.7 * note.strength) * tone).astype(np.float32)
    return loud


def beside(line: Line, song: Reader) -> Iterator[Block]:
    """The song, folded to one channel, on the left, and the line on the right: float32 (2, n), as long as the song."""
    blocks = zip(rechunk(song.blocks(), BLOCK), played(line, song.sample_rate, song.frames), strict=True)
    for heard, own in blocks:
        yield np.concatenate([heard.mean(axis=0, keepdims=True, dtype=np.float32), own])
