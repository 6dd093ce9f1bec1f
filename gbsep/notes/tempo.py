"""The tempo of a line, from the onsets of its notes alone.

Onsets that lie on a grid of sixteenths or triplets add up when they are turned by it. That is done in windows, so that
a tempo that wanders is found as well; the phases of the windows then are the tempo map.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .line import Beats, Note, even

SLOWEST_BPM, FASTEST_BPM, USUAL_BPM = 55.0, 200.0, 108.0
STEP_BPM = 0.25
WINDOW_S = 10.0
GRIDS = (1, 2, 3, 4)
"""Parts of a beat that onsets may lie on."""
LEAST_NOTES = 8
AGREED, DOUBT = 0.55, 1.0
"""How well the onsets of the windows lie on the grid, 0 to 1, for the tempo to be told: so much, and the more the fewer
notes there are, for a few lie on some grid by chance."""
WANDERING, WANDERS = 0.15, 0.03
"""What is asked for beyond that where the tempo wanders, by up to so much of itself."""
EVEN = 0.9
"""Of what the windows have, the part that one even tempo must reach to be taken for the tempo."""
FIRST = 1.25
"""How much likelier a bar begins with the first note than other beats with theirs."""


def find_beats(notes: Sequence[Note], bpm: float | None = None) -> Beats | None:
    """The beats of a line; `bpm` is the tempo where it is known. None where there is no tempo to be told."""
    if len(notes) < LEAST_NOTES:
        return even(bpm, notes[0].onset_s if notes else 0.0) if bpm else None
    at = np.array([note.onset_s for note in notes])
    weight = np.array([0.2 + note.strength for note in notes])
    windows = _windows(at)
    found = _coarse(at, weight, windows) if bpm is None else (bpm, _grid(at, weight, windows, bpm))
    if found is None:
        return None
    bpm, grid = found
    own = _agreement(at, weight, windows, bpm * grid)
    near = bpm + np.linspace(-0.6, 0.6, 241)
    whole = [_coherence(at, weight, one * grid) for one in near]
    if len(windows) < 3 or max(whole) >= max(AGREED, EVEN * own):
        bpm = float(near[int(np.argmax(whole))])
        phase = _phase(at, weight, bpm * grid) / grid
        anchors = [(0.0, -phase), (60.0, bpm - phase)]
    else:
        anchors = _followed(at, weight, windows, bpm, grid)
    return _from_the_bar(notes, Beats(tuple(anchors)))


def _windows(at: np.ndarray) -> list[np.ndarray]:
    starts = np.arange(at[0], max(at[0] + 1e-3, at[-1] - WINDOW_S / 2), WINDOW_S / 2)
    chosen = [np.nonzero((at >= start) & (at < start + WINDOW_S))[0] for start in starts]
    return [one for one in chosen if len(one) >= LEAST_NOTES] or [np.arange(len(at))]


def _sum(at: np.ndarray, weight: np.ndarray, per_minute: float) -> complex:
    total: complex = np.sum(weight * np.exp(2j * np.pi * at * per_minute / 60)) / weight.sum()
    return total


def _coherence(at: np.ndarray, weight: np.ndarray, per_minute: float) -> float:
    return float(abs(_sum(at, weight, per_minute)))


def _phase(at: np.ndarray, weight: np.ndarray, per_minute: float) -> float:
    """In turns: where on the grid second 0 lies before its next line."""
    return float(np.angle(_sum(at, weight, per_minute))) / (2 * np.pi)


def _agreement(at: np.ndarray, weight: np.ndarray, windows: Sequence[np.ndarray], per_minute: float) -> float:
    return float(np.mean([_coherence(at[one], weight[one], per_minute) for one in windows]))


def _grid(at: np.ndarray, weight: np.ndarray, windows: Sequence[np.ndarray], bpm: float) -> int:
    return max(GRIDS[1:], key=lambda parts: _agreement(at, weight, windows, bpm * parts))


def _coarse(at: np.ndarray, weight: np.ndarray, windows: Sequence[np.ndarray]) -> tuple[float, int] | None:
    """The likeliest tempo, and the parts of a beat that its grid has."""
    chosen = windows[:: max(1, len(windows) // 16)]
    tempi = np.arange(SLOWEST_BPM, FASTEST_BPM, STEP_BPM)
    each = np.array(
        [[[_coherence(at[one], weight[one], bpm * parts) for parts in GRIDS] for bpm in tempi] for one in chosen]
    )
    least = AGREED + DOUBT / np.sqrt(sum(map(len, chosen)) / 2)
    found = _best(tempi, each.mean(axis=0), least)
    if found is None and len(chosen) >= 4:
        steps = [range(max(0, n - round(n_steps)), n + round(n_steps) + 1) for n, n_steps in _reaches(tempi)]
        moved = np.stack([each[:, list(range(r.start, min(r.stop, len(tempi))))].max(axis=1) for r in steps], axis=1)
        found = _best(tempi, moved.mean(axis=0), least + WANDERING)
    return found


def _reaches(tempi: np.ndarray) -> list[tuple[int, float]]:
    """Of each tempo its number, and how many of their steps it may wander."""
    return [(number, WANDERS * bpm / STEP_BPM) for number, bpm in enumerate(tempi.tolist())]


def _best(tempi: np.ndarray, table: np.ndarray, least: float) -> tuple[float, int] | None:
    """`table` is the agreement of each tempo with each of GRIDS."""
    known = table * (0.0, 0.97, 0.98, 1.0)
    finest = known.max(axis=1)
    usual = np.exp(-0.5 * (np.log2(tempi / USUAL_BPM) / 0.6) ** 2)
    score = (finest + 0.35 * table[:, 1] + 0.25 * table[:, 0]) * (0.6 + 0.4 * usual)
    score[table[:, 1:].max(axis=1) < least] = 0.0
    best = int(np.argmax(score))
    if not score[best]:
        return None
    return float(tempi[best]), GRIDS[int(np.argmax(known[best]))]


def _followed(
    at: np.ndarray, weight: np.ndarray, windows: Sequence[np.ndarray], bpm: float, grid: int
) -> list[tuple[float, float]]:
    """Anchors in the middle of each window, where its onsets say the grid lies."""
    anchors: list[tuple[float, float]] = []
    before_bpm = bpm
    for one in windows:
        middle = float(np.average(at[one], weights=weight[one]))
        reach = WANDERS if not anchors else WANDERS / 2
        near = before_bpm * np.linspace(1 - reach, 1 + reach, 61)
        own = float(near[int(np.argmax([_coherence(at[one], weight[one], tempo * grid) for tempo in near]))])
        late = _phase(at[one] - middle, weight[one], own * grid)
        before_s, before = anchors[-1] if anchors else (middle, 0.0)
        usual = before + (middle - before_s) * (before_bpm + own) / 120
        beat = (round(usual * grid + late) - late) / grid
        if not anchors or (middle > before_s + 1 and beat > before):
            anchors.append((middle, beat))
            before_bpm = own
    return anchors if len(anchors) > 1 else [anchors[0], (anchors[0][0] + 60, anchors[0][1] + bpm)]


def _from_the_bar(notes: Sequence[Note], beats: Beats) -> Beats:
    """The same with beat 0 where a bar begins: where long, low and strong notes begin most often, before the first note
    or at it."""
    per_beat = np.zeros((4, 4))
    lowest = min(note.midi for note in notes)
    ends = [after.onset_s for after in notes[1:]] + [notes[-1].end_s]
    for note, end_s in zip(notes, ends, strict=True):
        beat = beats.beat(note.onset_s)
        part = round(4 * beat) % 16
        per_beat[part // 4, part % 4] += (
            note.strength * (1 + min(1.0, end_s - note.onset_s)) / (1 + 0.1 * (note.midi - lowest))
        )
    part = int(np.argmax(per_beat.sum(axis=0)))
    per_bar = per_beat[:, part]
    per_bar[round(beats.beat(notes[0].onset_s) - part / 4) % 4] *= FIRST
    bar = int(np.argmax(per_bar))
    first = bar + part / 4
    first += 4 * np.floor((beats.beat(notes[0].onset_s) + 1 / 8 - first) / 4)
    return Beats(tuple((second, beat - float(first)) for second, beat in beats.anchors))
