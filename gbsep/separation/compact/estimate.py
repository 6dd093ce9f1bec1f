"""The network's estimate of the bass in a song, piece by piece, and what is known of basses applied to it.

Spectra have shape (frames, bins). The network keeps the state that its next piece needs, so the estimates depend
neither on the blocks that come in nor on where pieces meet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ...audio import Block, ahead, rechunk
from ...errors import SeparationFailed
from . import lines
from .config import Config
from .rests import keep_lows, settle_rests
from .spectra import spectrum, waves
from .stream import Network, Stream

PIECE_S = 8.0

Settle = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""What the spectra of an estimate become, from those of the mixture and the estimate."""


def estimates(
    blocks: Iterator[Block], network: Network, shifts: int, heard: int = 1, again: bool = False
) -> Iterator[np.ndarray]:
    """Spectra (heard * shifts + channels, frames, config.bins), piece by piece: the estimates, then `blocks`.

    The network reads the first `heard` channels of `blocks`, each `shifts` times, a part of a hop later than the time
    before; `again`: in both passes, where the network has two. Raises SeparationFailed where what it gives is not
    finite.
    """
    config = network.config
    hop, held = config.hop_length, np.zeros((0, 0, config.bins), np.complex64)
    streams = [Stream(network, again) for _ in range(heard * shifts)]

    def first_halves() -> Iterator[tuple[np.ndarray, list[Callable[[], np.ndarray]]]]:
        pieces = with_margins(rechunk(blocks, piece_frames(config) * hop), to_grid(config, config.n_fft))
        piece = next(pieces, None)
        while piece is not None:
            (whole, inside), piece = piece, next(pieces, None)
            first, frames = inside.start // hop, to_grid(config, inside.stop - inside.start) // hop
            x = whole.astype(np.float32)
            later = (np.pad(x[:heard], ((0, 0), (n * hop // shifts, 0)))[:, : x.shape[1]] for n in range(1, shifts))
            spectra = spectrum(config, np.concatenate([x, *later]))[:, first : first + frames]
            read = np.concatenate([spectra[:heard], spectra[len(x) :]])
            inputs = [one for channel in range(heard) for one in read[channel::heard]]
            halfway = [stream.begin(x, last=piece is None) for stream, x in zip(streams, inputs, strict=True)]
            yield spectra[: len(x), :, : config.bins], halfway

    for mixture, halfway in ahead(first_halves()):
        bass = np.stack([finish() for finish in halfway])
        if not np.isfinite(bass).all():
            raise SeparationFailed("the network gave NaN or infinity: its weights are damaged, or the song is too loud")
        held = np.concatenate([held, mixture], axis=1) if held.size else mixture
        yield np.concatenate([bass, held[:, : bass.shape[1]]])
        held = held[:, bass.shape[1] :]


def mean_estimate(config: Config, shifted: np.ndarray, mixture: np.ndarray, settle: Settle) -> np.ndarray:
    """The bass in `mixture`, from the estimates of all shifts (shifts, frames, bins).

    Each estimate is resynthesised and analysed again before the mean, which makes it steadier from frame to frame.
    """
    hop = config.hop_length
    length = (mixture.shape[0] - 1) * hop
    bass = np.zeros_like(mixture)
    for number in range(len(shifted)):
        late = number * hop // len(shifted)
        wave = waves(config, shifted[number : number + 1], length + late)[:, late:]
        bass = bass + spectrum(config, wave)[0, :, : config.bins]
    return settle(mixture, bass / np.float32(len(shifted)))


def settle_bass(config: Config, mixture: np.ndarray, bass: np.ndarray) -> np.ndarray:
    """The estimate of a bass with what is known of basses: it has the lows, goes on with its lines, and rests."""
    kept = keep_lows(config, mixture, bass)
    return settle_rests(mixture, lines.assign_lines(config, mixture, kept))


def piece_frames(config: Config) -> int:
    """Frames of spectra in a piece: whole steps of the deepest level, more than the network's context."""
    return 4 * max(config.context // 4 + 1, round(PIECE_S * config.sample_rate / config.grid_frames))


def to_grid(config: Config, frames: int) -> int:
    """`frames` of sound, rounded up to whole steps of the network's deepest level."""
    return -(-frames // config.grid_frames) * config.grid_frames


def with_margins(blocks: Iterator[np.ndarray], margin: int) -> Iterator[tuple[np.ndarray, slice]]:
    """Each block (..., n) with `margin` of context on either side, zeros beyond the ends; and its slice in that."""
    coming: list[np.ndarray] = []
    before: np.ndarray | None = None
    while True:
        while sum(block.shape[-1] for block in coming[1:]) < margin and (block := next(blocks, None)) is not None:
            coming.append(block)
        if not coming:
            return
        if before is None:
            before = np.zeros_like(coming[0], shape=(*coming[0].shape[:-1], margin))
        length = coming[0].shape[-1]
        whole = np.concatenate([before, *coming, np.zeros_like(before)], axis=-1)[..., : length + 2 * margin]
        yield whole, slice(margin, margin + length)
        before = whole[..., length : length + margin]
        coming.pop(0)
