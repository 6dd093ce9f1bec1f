"""Short-time spectra of Open-Unmix, in blocks: from a signal and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...audio import Block
from .wiener import WIENER_FRAMES

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Transform:
    """The short-time Fourier transform of a model: Hann window, centred, the signal mirrored at both ends."""

    sample_rate: int = 44100
    n_fft: int = 4096
    hop_length: int = 1024

    @property
    def bins(self) -> int:
        return self.n_fft // 2 + 1

    @property
    def shortest(self) -> int:
        """Frames that a signal must have to be mirrored."""
        return self.n_fft // 2 + 1


def stft(blocks: Iterable[Block], transform: Transform) -> Iterator[torch.Tensor]:
    """Spectra (C, F, WIENER_FRAMES), the last one shorter, of a signal of at least `transform.shortest` frames."""
    import torch

    n_fft, hop_length = transform.n_fft, transform.hop_length
    window = torch.hann_window(n_fft)
    advance = WIENER_FRAMES * hop_length
    # One array for all pieces: new ones, as large as the blocks happen to be, would leave ever more holes in the heap.
    held = np.empty((2, advance - hop_length + n_fft), np.float32)
    filled = 0

    def transformed(samples: np.ndarray) -> torch.Tensor:
        return torch.stft(
            torch.from_numpy(samples), n_fft, hop_length, window=window, center=False, return_complex=True
        )

    for block in _mirrored(blocks, n_fft // 2):
        taken = 0
        while taken < block.shape[1]:
            count = min(block.shape[1] - taken, held.shape[1] - filled)
            held[:, filled : filled + count] = block[:, taken : taken + count]
            taken, filled = taken + count, filled + count
            if filled == held.shape[1]:
                yield transformed(held)
                filled -= advance
                held[:, :filled] = held[:, advance:].copy()
    if filled >= n_fft:
        yield transformed(held[:, :filled].copy())


def _mirrored(blocks: Iterable[Block], pad: int) -> Iterator[Block]:
    """The signal, which is longer than `pad` frames, with so many mirrored at either end."""
    last = np.zeros((2, 0), np.float32)
    begun = False
    for block in blocks:
        if not begun:
            block = np.concatenate([last, block], axis=1)
            begun = block.shape[1] > pad
            if not begun:
                last = block
                continue
            yield block[:, pad:0:-1]
        last = np.concatenate([last, block[:, -pad - 1 :]], axis=1)[:, -pad - 1 :]
        yield block
    yield last[:, -2::-1]


def istft(spectra: Iterable[Sequence[torch.Tensor]], transform: Transform, frames: int) -> Iterator[Block]:
    """The inverse: float32 (S, n), `frames` long in all, from S spectra (F, n) at a time."""
    import torch

    n_fft, hop_length = transform.n_fft, transform.hop_length
    window = torch.hann_window(n_fft)[:, None]

    def overlap_add(windows: torch.Tensor) -> torch.Tensor:
        length = hop_length * (windows.shape[1] - 1) + n_fft
        return torch.nn.functional.fold(windows[None], (1, length), (1, n_fft), stride=(1, hop_length))[0, 0, 0]

    held: torch.Tensor | None = None
    start, stop = n_fft // 2, n_fft // 2 + frames  # where the signal lies in what is still to come
    for spectrum in spectra:
        count = spectrum[0].shape[1]
        complete = hop_length * count
        # One more row adds up the squared window, by which the sums are divided in the end.
        total = torch.stack(
            [overlap_add(torch.fft.irfft(row, n_fft, dim=0) * window) for row in spectrum]
            + [overlap_add(window.square().expand(-1, count))]
        )
        if held is not None:
            total[:, : held.shape[1]] += held
        held = total[:, complete:]
        yield (total[:-1, start : min(complete, stop)] / total[-1:, start : min(complete, stop)]).numpy()
        start, stop = max(start - complete, 0), stop - complete
    if held is not None and stop > start:
        yield (held[:-1, start:stop] / held[-1:, start:stop]).numpy()
