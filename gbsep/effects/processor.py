"""One running instance of an effect: what every kind of effect offers to a chain."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from ..audio import Block

Changes = Sequence[tuple[int, Mapping[str, float]]]
"""Automation within a block: (frame of the block, parameters that hold from there on), in order of the frames."""


class Processor(Protocol):
    """One running instance of an effect, built-in or hosted.

    `process` takes blocks of about one size. It gives blocks of that size, or shorter ones at first. Beyond that its
    output is late by `latency_frames`.
    """

    latency_frames: int

    def process(self, block: Block, changes: Changes = ()) -> Block: ...


def in_pieces(
    block: Block, changes: Changes, process: Callable[[Block], Block], set_param: Callable[[str, float], None]
) -> Block:
    """The block processed in the pieces between the changes, each of which is set before its piece."""
    pieces, begin = [], 0
    for frame, values in [*changes, (block.shape[1], {})]:
        if frame > begin:
            pieces.append(process(block[:, begin:frame]))
            begin = frame
        for name, value in values.items():
            set_param(name, value)
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=1)
