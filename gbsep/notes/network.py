"""The network that hears notes: what begins, what sounds, and how it was struck, frame by frame.

One function computes it, on numpy's arrays where notes are read and on torch's tensors where it is trained. Every
convolution is without padding, so the output has CONTEXT frames less at either end, and a song may be cut anywhere.

First each pitch looks at its own harmonics with the same weights, then all that is heard in a frame becomes one vector,
and convolutions through time over these vectors decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .features import BINS, BINS_PER_SEMITONE, LOWEST_MIDI
from .line import KINDS

FIRST_MIDI, LAST_MIDI = 21, 72
PITCHES = LAST_MIDI - FIRST_MIDI + 1

HARMONICS = ((0.5, 1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 3, 4, 6), (1, 2, 4, 8))
"""Those looked at through each of the windows of `features`."""
BESIDE = (1, 1, 0)
"""And how many bins of the pitch axis on either side of each."""

SEEN, LOCAL, WIDTH = 16, 8, 128
DILATIONS = (1, 2, 4, 8, 16, 1)
CONTEXT = 1 + sum(DILATIONS)


def gathered() -> np.ndarray:
    """Indices (PITCHES, looked at) of each pitch's harmonics in spectra whose windows lie end to end."""
    rows = []
    for pitch in range(FIRST_MIDI, LAST_MIDI + 1):
        row: list[int] = []
        for window, (harmonics, beside) in enumerate(zip(HARMONICS, BESIDE, strict=True)):
            for harmonic in harmonics:
                middle = round(BINS_PER_SEMITONE * (pitch - LOWEST_MIDI + 12 * np.log2(harmonic)))
                around = range(middle - beside, middle + beside + 1)
                row += [window * BINS + min(max(at, 0), BINS - 1) for at in around]
        rows.append(row)
    return np.array(rows)


def shapes() -> dict[str, tuple[int, ...]]:
    """Name and shape of every array of weights."""
    looked = gathered().shape[1]
    made: dict[str, tuple[int, ...]] = {
        "see.w": (looked, SEEN),
        "see.b": (SEEN,),
        "near.w": (3, 3 * SEEN, SEEN),
        "near.b": (SEEN,),
        "local.w": (SEEN, LOCAL),
        "local.b": (LOCAL,),
        "frame.w": (PITCHES * LOCAL + 2 * (BINS // BINS_PER_SEMITONE), WIDTH),
        "frame.b": (WIDTH,),
        "out.w": (WIDTH, 2 * PITCHES + len(KINDS)),
        "out.b": (2 * PITCHES + len(KINDS),),
        "own.w": (LOCAL, 2),
    }
    for number in range(len(DILATIONS)):
        made |= {f"time{number}.w": (3, WIDTH, WIDTH), f"time{number}.b": (WIDTH,)}
    return made


def logits(weights: Mapping[str, Any], spectra: Any, xp: Any) -> tuple[Any, Any, Any]:
    """Of spectra (..., frames, windows, BINS): onsets and frames (..., frames - 2 * CONTEXT, PITCHES), and kinds
    (..., frames - 2 * CONTEXT, KINDS), each the logarithm of the odds. `xp` is numpy or torch."""
    flat = spectra.reshape(*spectra.shape[:-2], -1)
    seen = _rectified(flat[..., weights["gathered"]] @ weights["see.w"] + weights["see.b"])
    none = xp.zeros_like(seen[..., :1, :])
    around = xp.concatenate(
        [
            xp.concatenate([none, seen[..., :-1, :]], -2),
            seen,
            xp.concatenate([seen[..., 1:, :], none], -2),
        ],
        -1,
    )
    first, middle, last = weights["near.w"]
    near = around[..., :-2, :, :] @ first + around[..., 1:-1, :, :] @ middle + around[..., 2:, :, :] @ last
    local = _rectified(_rectified(near + weights["near.b"]) @ weights["local.w"] + weights["local.b"])
    coarse = spectra[..., 1:-1, 1:, ::BINS_PER_SEMITONE]
    everything = xp.concatenate([part.reshape(*part.shape[:-2], -1) for part in (local, coarse)], -1)
    state = _rectified(everything @ weights["frame.w"] + weights["frame.b"])
    for number, apart in enumerate(DILATIONS):
        first, middle, last = weights[f"time{number}.w"]
        before, now, after = state[..., : -2 * apart, :], state[..., apart:-apart, :], state[..., 2 * apart :, :]
        state = now + _rectified(before @ first + now @ middle + after @ last + weights[f"time{number}.b"])
    out = state @ weights["out.w"] + weights["out.b"]
    rest = CONTEXT - 1
    own = local[..., rest:-rest, :, :] @ weights["own.w"]
    onsets = out[..., :PITCHES] + own[..., 0]
    frames = out[..., PITCHES : 2 * PITCHES] + own[..., 1]
    return onsets, frames, out[..., 2 * PITCHES :]


def _rectified(values: Any) -> Any:
    return values.clip(min=0)
