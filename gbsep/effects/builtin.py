"""Pedalboard's built-in effects, block by block or over a whole signal.

Pedalboard as gbsep uses it (0.9.26): an effect is reset once and then fed blocks with `reset=False` and one
`buffer_size`, for a buffer larger than the first makes it start anew. Its output comes later by its latency and is
aligned with its input. Cut that way, every effect marked `streams` in the table gives the samples of one whole-file
call. The others are given the whole signal.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..arguments import checked
from ..audio import Block
from ..errors import AudioError, ParameterError
from ..params import BUFFER, SAMPLE_RATE
from .processor import Changes, in_pieces
from .table import spec_of


class Builtin:
    """A fresh instance of a Pedalboard built-in, taking a signal block by block.

    `process` takes (channels, n) and gives as many frames, fewer at first where the effect has latency: what it gives
    is aligned with what it takes. A jump of `changes` may click. Blocks, and the pieces between changes, must have more
    than two frames, for Pedalboard guesses from the shape which axis is which, and the first at least `buffer_frames`.
    """

    latency_frames = 0

    @checked
    def __init__(self, name: str, params: Mapping[str, Any], sample_rate: int, buffer_frames: int):
        self._sample_rate, self._buffer_frames = SAMPLE_RATE.check(sample_rate), BUFFER.check(buffer_frames)
        self._pedal = _make(name, params)
        self._pedal.reset()

    def process(self, block: Block, changes: Changes = ()) -> Block:
        return in_pieces(block, changes, self._process, self._set)

    def _process(self, block: Block) -> Block:
        block = np.ascontiguousarray(block, dtype=np.float32)
        out: Block = self._pedal.process(block, self._sample_rate, buffer_size=self._buffer_frames, reset=False)
        return out.reshape(block.shape[0], -1)

    def _set(self, name: str, value: float) -> None:
        setattr(self._pedal, name, value)


@checked
def render_whole(name: str, params: Mapping[str, Any], samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """A built-in over a whole signal, shape kept: for the effects that do not stream."""
    SAMPLE_RATE.check(sample_rate)
    if samples.ndim != 2 or samples.dtype.kind != "f":
        raise AudioError(
            f"samples must be floating point of shape (channels, frames), not {samples.dtype} {samples.shape}"
        )
    padded = np.pad(samples, ((0, 0), (0, max(0, 3 - samples.shape[1]))))
    out: np.ndarray = _make(name, params).process(padded, sample_rate)
    return out[:, : samples.shape[1]]


def check_files(name: str, params: Mapping[str, Any]) -> None:
    """Raise ParameterError when a file that the effect needs is missing or no audio, which Pedalboard may let pass."""
    from pedalboard.io import AudioFile

    for param in spec_of(name).params:
        if param.kind == "path":
            if os.path.exists(params[param.name]) and not os.path.isfile(params[param.name]):
                raise ParameterError(param.name, params[param.name], "an audio file (it is no regular file)")
            try:
                AudioFile(params[param.name]).close()
            except (OSError, ValueError, RuntimeError) as error:
                raise ParameterError(param.name, params[param.name], f"an audio file ({error})") from error


def _make(name: str, params: Mapping[str, Any]) -> Any:
    import pedalboard

    spec = spec_of(name)
    params = {key: spec.param(key).check(value) for key, value in params.items()}
    enumerations = {"quality": pedalboard.Resample.Quality, "mode": pedalboard.LadderFilter.Mode}
    arguments = {
        key: getattr(enumerations[key], value) if key in enumerations else value for key, value in params.items()
    }
    return getattr(pedalboard, name)(**arguments)
