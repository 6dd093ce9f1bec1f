"""Butterworth filters over blocks of audio, in float64.

Conventions: a filter is a `sos`, an array of second-order sections, shape (sections, 6), as scipy.signal has it, with
all poles inside the unit circle. Blocks come in and go out as float32 of shape (channels, n); between them all is
float64, so that a cut-off of 20 Hz at 192 kHz keeps its shape.

- *Causal*: one pass, -3.01 dB at the cut-off and 6 dB per octave and order. The state is carried from block to block,
  so the result does not depend on how the signal is cut.
- *Zero-phase*: forward, then backward: no phase shift, -6.02 dB at the cut-off, 12 dB per octave and order. It is
  scipy.signal.sosfiltfilt's result (odd extension at both ends, the step response's steady state as initial state). The
  backward pass over a block starts `look_ahead_frames` later, where its state is a guess that has died away when the
  block is reached.

References: S. Butterworth, "On the theory of filter amplifiers", Wireless Engineer 7 (1930); F. Gustafsson,
"Determining the initial states in forward-backward filtering", IEEE Trans. Signal Processing 44 (1996).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, Literal, get_args

import numpy as np

from ..arguments import checked
from ..audio import BLOCK_FRAMES, Block, rechunk
from ..errors import ParameterError, nearest
from ..params import SAMPLE_RATE
from .processor import Changes, in_pieces

Mode = Literal["lowpass", "highpass"]
MODES: tuple[Mode, ...] = get_args(Mode)
MAX_ORDER = 8
LOWEST_CUTOFF = 1e-8
"""Of the sample rate: below it float64 cannot tell the filter from one that lets nothing, or all, through."""


@checked
def butterworth_sos(order: int, cutoff_hz: float, mode: Mode, sample_rate: int) -> np.ndarray:
    """The Butterworth filter of `order` 1 to 8 and `mode` "lowpass" or "highpass", as second-order sections.

    Raises ParameterError for another order or mode, and for a cut-off that is not between LOWEST_CUTOFF and half of the
    sample rate.

    >>> butterworth_sos(4, 200.0, "lowpass", 44100).shape
    (2, 6)
    """
    if isinstance(order, bool) or not isinstance(order, (int, np.integer)) or not 1 <= order <= MAX_ORDER:
        raise ParameterError("order", order, f"a whole number from 1 to {MAX_ORDER}")
    if mode not in MODES:
        raise ParameterError("mode", mode, f"one of {', '.join(MODES)}{nearest(str(mode), MODES)}")
    SAMPLE_RATE.check(sample_rate)
    if not (cutoff_hz < sample_rate / 2 and cutoff_hz / sample_rate > LOWEST_CUTOFF):
        allowed = f"above {LOWEST_CUTOFF * sample_rate:g} and below {sample_rate / 2:g} Hz, half the sample rate"
        raise ParameterError("cutoff_hz", cutoff_hz, allowed, "Hz")
    from scipy import signal

    sos: np.ndarray = signal.butter(int(order), float(cutoff_hz), mode, fs=sample_rate, output="sos")
    return sos


def moving_butterworth_sos(order: int, cutoff_hz: float, mode: Mode, sample_rate: int) -> np.ndarray:
    """The same filter for a cut-off that moves while the filter runs; shape (ceil(order / 2), 6).

    Each section has unit gain in the pass-band, so a state carried over to another cut-off keeps its level, where
    scipy puts the gain of all into the first; and it is quick enough to be made anew every few milliseconds. Takes what
    `butterworth_sos` has checked.
    """
    w = math.tan(math.pi * cutoff_hz / sample_rate)
    lowpass = mode == "lowpass"
    sections = []
    if order % 2:
        numerator = (w, w, 0.0) if lowpass else (1.0, -1.0, 0.0)
        sections.append([*(b / (1 + w) for b in numerator), 1.0, (w - 1) / (w + 1), 0.0])
    for pair in range(order // 2):
        damping = 2 * w * math.sin(math.pi * (2 * pair + 1) / (2 * order))
        a0 = 1 + damping + w * w
        numerator = (w * w, 2 * w * w, w * w) if lowpass else (1.0, -2.0, 1.0)
        sections.append([*(b / a0 for b in numerator), 1.0, 2 * (w * w - 1) / a0, (1 - damping + w * w) / a0])
    return np.array(sections)


def response(sos: np.ndarray, frequencies_hz: np.ndarray, sample_rate: int) -> np.ndarray:
    """The complex frequency response of one causal pass, shape of `frequencies_hz`; zero-phase: abs(response) ** 2."""
    from scipy import signal

    _, gains = signal.sosfreqz(sos, worN=np.asarray(frequencies_hz, dtype=np.float64), fs=sample_rate)
    return np.asarray(gains)


def decay_frames(sos: np.ndarray, accuracy: float = 1e-12) -> int:
    """Frames in which whatever is left in the filter's state has decayed to about `accuracy`, by its slowest pole.

    At 1e-12 that is 23 periods of the cut-off for order 8, and 6 for order 2.
    """
    slowest = max(float(np.abs(np.roots(section[3:])).max()) for section in sos)
    return math.ceil(math.log(accuracy) / math.log(slowest)) if slowest > accuracy else 1


def filter_block(block: np.ndarray, sos: np.ndarray, state: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """One causal pass over the next block, in float64, and the state after it, shape (sections, channels, 2).

    Without a state the filter starts from silence.
    """
    from scipy import signal

    state = np.zeros((len(sos), block.shape[0], 2)) if state is None else state
    filtered, state = signal.sosfilt(sos, block.astype(np.float64, copy=False), axis=1, zi=state)
    return filtered, np.asarray(state)


def filter_blocks(blocks: Iterable[Block], sos: np.ndarray) -> Iterator[Block]:
    """The causal filter, starting from silence: one block out for each block in."""
    state = None
    for block in blocks:
        filtered, state = filter_block(block, sos, state)
        yield filtered.astype(np.float32)


def filter_blocks_zero_phase(
    blocks: Iterable[Block], sos: np.ndarray, look_ahead_frames: int | None = None
) -> Iterator[Block]:
    """The zero-phase filter: as many frames out as in, in blocks of its own size.

    `look_ahead_frames` (default: `decay_frames(sos)`) is how much later than a block its backward pass starts. In
    memory are that and max(BLOCK_FRAMES, 4 * look_ahead_frames) frames. A signal too short for scipy's extension,
    which scipy refuses, is extended by its length less one.
    """
    from scipy import signal

    ahead = max(_extension_frames(sos), decay_frames(sos) if look_ahead_frames is None else look_ahead_frames)
    steady = signal.sosfilt_zi(sos)[:, np.newaxis, :]
    blocks = rechunk(blocks, max(BLOCK_FRAMES, 4 * ahead))
    first = next(blocks, None)
    if first is None:
        return
    extension = min(_extension_frames(sos), first.shape[1] - 1)

    def backward(forward: np.ndarray) -> np.ndarray:
        state = steady * forward[np.newaxis, :, -1:]
        return filter_block(forward[:, ::-1], sos, state)[0][:, ::-1].astype(np.float32)

    held, skip, state = np.zeros((first.shape[0], 0)), extension, None
    for block in _extended(chain([first], blocks), extension):
        state = steady * block[np.newaxis, :, :1] if state is None else state
        filtered, state = filter_block(block, sos, state)
        held = np.concatenate([held, filtered], axis=1)
        done = held.shape[1] - ahead
        if done > ahead:
            yield backward(held)[:, skip:done]
            held, skip = held[:, done:], 0
    yield backward(held)[:, skip : held.shape[1] - extension]


def _extended(blocks: Iterable[Block], extension: int) -> Iterator[np.ndarray]:
    """The signal in float64, with `extension` frames of it turned about its first and last point at either end."""
    ending = None
    for block in blocks:
        block = block.astype(np.float64)
        if ending is None:
            ending = block[:, :0]
            block = np.concatenate([2 * block[:, :1] - block[:, extension:0:-1], block], axis=1)
        yield block
        ending = np.concatenate([ending, block], axis=1)[:, -1 - extension :]
    if ending is not None and extension:
        yield 2 * ending[:, -1:] - ending[:, -2::-1]


def _extension_frames(sos: np.ndarray) -> int:
    """scipy.signal.sosfiltfilt's default `padlen`."""
    taps = 2 * len(sos) + 1 - min(int((sos[:, 2] == 0).sum()), int((sos[:, 5] == 0).sum()))
    return 3 * taps


def sos_of(params: Mapping[str, Any], sample_rate: int) -> np.ndarray:
    """The filter that the parameters of the effect `Butterworth` describe."""
    return butterworth_sos(params["order"], params["cutoff_hz"], params["mode"], sample_rate)


class Butterworth:
    """The causal filter as a Processor: the state is carried on when the cut-off changes."""

    latency_frames = 0

    def __init__(self, params: Mapping[str, Any], sample_rate: int):
        self._params, self._sample_rate = dict(params), sample_rate
        self._sos = sos_of(params, sample_rate)
        self._state: np.ndarray | None = None

    def process(self, block: Block, changes: Changes = ()) -> Block:
        return in_pieces(block.astype(np.float64), changes, self._process, self._set).astype(np.float32)

    def _process(self, block: np.ndarray) -> np.ndarray:
        filtered, self._state = filter_block(block, self._sos, self._state)
        return filtered

    def _set(self, name: str, value: float) -> None:
        self._params[name] = value
        order, mode, cutoff_hz = self._params["order"], self._params["mode"], self._params["cutoff_hz"]
        self._sos = moving_butterworth_sos(order, cutoff_hz, mode, self._sample_rate)
