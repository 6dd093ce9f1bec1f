"""Around a network: a track at its rate, pieces of it that overlap, a batch of them run on whatever device."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..audio import Block, Reader
from ..errors import SeparationFailed

Forward = Callable[[np.ndarray], np.ndarray]
"""(segments, channels, frames) -> (segments, sources, channels, frames), float32."""

GPU_BATCH_S = 64.0
"""Seconds of audio in one batch on a GPU."""


def at_rate(
    reader: Reader, rate: int, channels: int, separate: Callable[[Reader], Iterator[np.ndarray]]
) -> Iterator[np.ndarray]:
    """What `separate` gives for the recording at `rate` Hz, brought back to the recording's own rate.

    Blocks have the shape (channels, frames).
    """
    if reader.sample_rate == rate:
        return separate(reader)
    from ..io.resample import resample, resample_blocks

    stacks = separate(resample(reader, rate))
    return resample_blocks(stacks, rate, reader.sample_rate, channels, reader.frames)


def window(blocks: Iterator[Block]) -> Callable[[int, int], np.ndarray]:
    """take(start, frames) -> (2, frames): the signal with silence around it; mono twice.

    Starts may go back by no more than twice the longest piece taken so far.
    """
    held, first, longest = np.zeros((2, 0), np.float32), 0, 0

    def take(start: int, frames: int) -> np.ndarray:
        nonlocal held, first, longest
        longest = max(longest, frames)
        while first + held.shape[1] < start + frames and (block := next(blocks, None)) is not None:
            keep = max(first, start - 2 * longest)
            held = np.concatenate([held[:, keep - first :], np.broadcast_to(block, (2, block.shape[1]))], axis=1)
            first = keep
        piece = np.zeros((2, frames), np.float32)
        begin, end = max(start, first), min(start + frames, first + held.shape[1])
        if begin < end:
            piece[:, begin - start : end - start] = held[:, begin - first : end - first]
        return piece

    return take


def torch_forward(network: Any, device: str, warn: Callable[[str], None], precision: str = "float32") -> Forward:
    """The network on `device`; after a batch that is too large for its memory, batches are smaller.

    With the precision bfloat16 products are taken in that, and sums in float32.
    """
    import torch

    network.to(device)
    limit = sys.maxsize

    def infer(batch: np.ndarray) -> np.ndarray:
        # The fast path of torch's attention holds the whole matrix and is a third slower than its flash attention.
        fast_path = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            half = torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16")
            with torch.inference_mode(), half:
                result: np.ndarray = network(torch.from_numpy(batch).to(device)).float().cpu().numpy()
                return result
        finally:
            torch.backends.mha.set_fastpath_enabled(fast_path)

    def forward(mixtures: np.ndarray) -> np.ndarray:
        nonlocal limit
        outputs: list[np.ndarray] = []
        done = 0
        while done < len(mixtures):
            batch = mixtures[done : done + limit]
            try:
                outputs.append(infer(batch))
                done += len(batch)
            except RuntimeError as error:
                if "out of memory" not in str(error):
                    raise
                if len(batch) == 1:
                    advice = "choose a smaller segment_s, or --device cpu"
                    raise SeparationFailed(f"{device} has too little memory for one segment: {advice}") from error
                limit = len(batch) // 2
                warn(f"{device} has too little memory for {len(batch)} segments at once: going on with {limit}")
                torch.cuda.empty_cache()
        return np.concatenate(outputs)

    return forward
