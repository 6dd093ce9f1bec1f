"""The gain of a compressor that listens to another signal, its key.

The key's level is the peak over its channels in steps of half a millisecond. Above the threshold the gain falls by
1 - 1/ratio dB for each dB, at most by the range; it moves towards that with the time constants attack (down) and
release (up), in dB, and in straight lines from step to step.

Reference: D. Giannoulis, M. Massberg, J. Reiss, "Digital dynamic range compressor design", J. Audio Eng. Soc. 60
(2012), the smooth, branching detector in the log domain.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from ..audio import Block, rechunk
from .automation import Automation, value_at

STEP_S = 0.0005
_FLOOR = 1e-10


def ducker_gains(
    key: Iterable[Block], params: Mapping[str, float | Automation], sample_rate: int, start_s: float = 0.0
) -> Iterator[np.ndarray]:
    """The gain for each frame of the key: float64 arrays of shape (n,), as many frames in all as the key has.

    `params` are the effect's threshold_db, ratio, attack_ms, release_ms and range_db; `start_s` is when the first frame
    sounds.
    """
    step = max(1, round(STEP_S * sample_rate))
    reduction_db, frame = 0.0, 0
    for block in rechunk(key, step * 4096):
        frames = block.shape[1]
        steps = math.ceil(frames / step)
        level = np.pad(np.abs(block).max(axis=0), (0, steps * step - frames)).reshape(steps, step).max(axis=1)
        times_s = start_s + (frame + step * np.arange(steps)) / sample_rate
        now = {name: value_at(value, times_s) for name, value in params.items()}
        over_db = np.maximum(20 * np.log10(np.maximum(level, _FLOOR)) - now["threshold_db"], 0)
        wanted_db = np.minimum(over_db * (1 - 1 / now["ratio"]), now["range_db"])
        down = 1 - np.exp(-step / (now["attack_ms"] / 1000 * sample_rate))
        up = 1 - np.exp(-step / (now["release_ms"] / 1000 * sample_rate))
        track_db = [reduction_db]
        for want, fall, rise in zip(wanted_db.tolist(), down.tolist(), up.tolist(), strict=True):
            reduction_db += (fall if want > reduction_db else rise) * (want - reduction_db)
            track_db.append(reduction_db)
        smooth_db = np.interp(np.arange(frames), step * np.arange(steps + 1), track_db)
        yield 10 ** (-smooth_db / 20)
        frame += frames
