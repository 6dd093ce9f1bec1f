"""Stems of several separators put together, block by block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ...audio import Block, Reader, rechunk

N_FFT = 4096
HOP = 1024
BLOCK = 2**18
"""Frames put together at a time."""

Members = Sequence[tuple[Reader, float]]
"""What each member gives of a stem, and its weight."""


def combined(stems: Mapping[str, Members], how: str) -> Iterator[dict[str, Block]]:
    """{stem: block} of all stems, `how` being mean, median_spectrum, max_spectrum or min_spectrum."""
    put = _mean if how == "mean" else _spectra
    streams = {name: rechunk(put(members, how), BLOCK) for name, members in stems.items()}
    while blocks := {name: block for name, stream in streams.items() if (block := next(stream, None)) is not None}:
        yield blocks


def _mean(members: Members, how: str) -> Iterator[Block]:
    total = sum(weight for _, weight in members)
    shares = [weight / total for _, weight in members]
    for blocks in zip(*(rechunk(reader.blocks(), BLOCK) for reader, _ in members), strict=True):
        mean = sum(share * block.astype(np.float64) for share, block in zip(shares, blocks, strict=True))
        yield np.asarray(mean, np.float32)


def _spectra(members: Members, how: str) -> Iterator[Block]:
    """Overlapping spectra put together and added up again; one member alone comes out as it is."""
    if len(members) == 1:
        yield from rechunk(members[0][0].blocks(), BLOCK)
        return
    frames, channels = members[0][0].frames, members[0][0].channels
    margin = N_FFT - HOP
    held = [np.zeros((channels, margin), np.float32) for _ in members]
    tail = np.zeros((channels, margin))
    window = np.hanning(N_FFT + 1)[:-1]
    scale = HOP / (window**2).sum()
    streams = [rechunk(_padded(reader, margin), BLOCK) for reader, _ in members]
    at = -margin
    for blocks in zip(*streams, strict=True):
        held = [np.concatenate([before, block], axis=1) for before, block in zip(held, blocks, strict=True)]
        count = (held[0].shape[1] - margin) // HOP
        added = np.zeros((channels, count * HOP + margin))
        added[:, :margin] = tail
        for index in range(count):
            span = slice(index * HOP, index * HOP + N_FFT)
            pieces = np.stack([signal[:, span] for signal in held])
            together = _together(np.fft.rfft(pieces * window, axis=2), how)
            added[:, span] += scale * window * np.fft.irfft(together, N_FFT, axis=1)
        done = added[:, : count * HOP]
        tail = added[:, count * HOP :]
        held = [signal[:, count * HOP :] for signal in held]
        block = done[:, max(0, -at) : max(0, frames - at)]
        at += count * HOP
        if block.shape[1]:
            yield block.astype(np.float32)


def _padded(reader: Reader, margin: int) -> Iterator[Block]:
    """The signal with silence behind it, so that spectra cover its end."""
    yield from reader.blocks()
    yield np.zeros((reader.channels, margin + N_FFT), np.float32)


def _together(spectra: np.ndarray, how: str) -> np.ndarray:
    """(members, channels, bins) -> (channels, bins)."""
    if how == "median_spectrum":
        result: np.ndarray = np.median(spectra.real, axis=0) + 1j * np.median(spectra.imag, axis=0)
        return result
    magnitude = np.abs(spectra)
    chosen = magnitude.argmax(axis=0) if how == "max_spectrum" else magnitude.argmin(axis=0)
    result = np.take_along_axis(spectra, chosen[np.newaxis], axis=0)[0]
    return result
