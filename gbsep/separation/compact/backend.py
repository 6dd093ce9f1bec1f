"""The embedded model: a small network, shipped inside gbsep, that separates bass from guitar.

Conventions
- The network (see `network`) works at a low sample rate that holds almost all of a bass's energy. It estimates the
  bass. The estimate is resampled to the mixture's rate, and the guitar is the mixture minus the bass. So the stems sum
  to the mixture, and everything else (drums, cymbals, voices) stays with the guitar.
- The network reads one channel. In a stereo recording that is the signal from the bass's place, which is found first,
  as are the guitars' places, with what takes the guitars out of it, as far as that can be; afterwards the places refine
  the estimate (see `places` and `wiener`). Places hold for a whole song. Where the bass has none, as it is wide, moves
  or comes late in one channel, the network reads left and right, each by itself.
- Places are found with first estimates of the bass in excerpts, both in mid and in side where both have enough of the
  sound: a guitar in opposite phase is in one of them alone.
- A network of two passes hears a song again only where no places help: that takes as long as what places refine, or as
  a second channel.
- With Settings.shifts above 1 the network runs several times, each time a part of a hop later, and the estimates are
  averaged. Errors that depend on where the frames fall on a note then cancel in part.
- The first pass also learns how this song's bass and guitars sound; that refines every estimate (see `timbre`).
- While the bass plays, the lowest frequencies go to it whole (see `rests`). A line that sounds alone stays with one
  instrument, whatever its register (see `lines`).
- Where one stem is estimated to hold only a trace of the mixture for a while, that instrument is taken to rest, and its
  trace goes to the other stem (see `rests`).
- The reader is read twice. The first pass finds the tuning (see `tuning`), places, timbres, and the level of each
  second, by which the network's input is scaled: stems scale with the mixture, and quiet passages are separated as
  well as loud ones.
- A constant (DC) offset is removed before the network and stays with the guitar.
- The network is fed pieces of PIECE_S seconds and keeps the state that the next piece needs, so nothing is computed
  twice. The stages after it work on PIECES_PER_BATCH pieces at once, with all the context they depend on. So the stems
  depend neither on the reader's blocks nor on where pieces meet, and memory is bounded by the piece.
- Spectra have shape (frames, bins). Nothing here needs torch, which takes longer to load than a short song takes to
  separate; the network runs on the CPU in ONNX Runtime (see `graph`).

Weights are float16 safetensors with the network's Config as JSON under `config` in the metadata. `compact` is the file
beside this module, described by `compact.json`; other models are found like all models (see `models`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from ...audio import BLOCK_FRAMES, Block, Reader, ahead, rechunk
from ...io.resample import resample, resample_blocks
from ...models.find import Found
from ...models.verify import check_once
from ...stemnames import BASS_AND_GUITAR
from ..backend import Context
from ..compute import threads, versions
from ..settings import BackendSettings
from ..weights import find
from . import lines
from .config import Config
from .estimate import Settle, estimates, mean_estimate, piece_frames, settle_bass, to_grid, with_margins
from .places import TINY, both_are_heard, find_bass, find_beam, find_guitars, fuller, look
from .rests import REST_FRAMES
from .song import FirstPass, Song, centred, first_pass, levels_of, mid_side, offsets_of
from .spectra import power_of, spectrum, waves
from .stream import Network, load_runtime
from .timbre import learn_timbres, refine_by_timbre
from .tuning import tuned, tuning_cents
from .weights import load
from .wiener import CONTEXT_FRAMES, Guitars, learn_guitars, refine_by_place

PIECES_PER_BATCH = 4
"""Pieces that the stages after the network work on at once."""

MIN_SIDE_RATIO = 1e-3
"""Places are looked for where a piece's side reaches this part of its mid, both as RMS."""

APART = np.pi / 4
"""Radians by which mid and side are rotated to become left and right."""


class Settings(BackendSettings):
    """The settings of this backend in a preset.

    model: `compact`, or the name of a model of your own (see `gbsep train`).
    shifts: number of runs that are averaged, each a part of a hop later than the one before; time grows with it.
    """

    model: str = "compact"
    shifts: Annotated[int, Field(ge=1, le=16)] = 1


def stem_names(settings: Settings, models_dir: Path | None = None) -> tuple[str, ...]:
    return BASS_AND_GUITAR


def identity(settings: Settings, context: Context) -> dict[str, Any]:
    """What changes the stems, besides the settings. Raises WeightsMissing, or BackendError for damaged weights."""
    found = _find(settings, context)
    check_once(found, lambda: load(found.files[0]))
    return {
        "engine": "onnxruntime",
        "precision": "float32",
        "device": "cpu",
        "threads": threads(),
        "weights": found.hashes,
        "weights_sha256": found.digest,
        "licence": found.licence,
        **versions("onnxruntime"),
    }


def run(reader: Reader, settings: Settings, context: Context) -> Iterator[dict[str, Block]]:
    """Yield the wanted stems' blocks. Raises WeightsMissing or BackendError for weights that are missing or damaged."""
    config, weights = load(_find(settings, context).files[0])
    for stems in separate(reader, config, weights, context.progress, settings.shifts):
        yield {name: stems[name] for name in context.wanted}


def _find(settings: Settings, context: Context) -> Found:
    return find(settings.model, "compact", context.models, download=False)


def separate(
    reader: Reader,
    config: Config,
    weights: Mapping[str, Any],
    progress: Callable[[float], None] = lambda fraction: None,
    shifts: int = 1,
    settle: Settle | None = None,
) -> Iterator[dict[str, Block]]:
    """Yield blocks of `bass` and `guitar`, in the reader's sample rate and channels; `shifts` is as in Settings.

    Weights are arrays, or torch tensors on the CPU. `settle` has the last word on what the network estimates: spectra
    (frames, bins) from those of the mixture and the estimate. It holds what is known of basses unless another is given,
    for a network that tells other instruments apart.

    Raises SeparationFailed when the network's output is not finite, BackendNotInstalled when ONNX Runtime does not
    load.
    """
    load_runtime()  # fail before a long song is read in vain
    low = resample(reader, config.sample_rate)
    seen = first_pass(low)
    cents = tuning_cents((spectrum(config, centred(piece)) for piece in seen.pieces), config)
    network = Network(tuned(config, cents), weights, threads())
    settle = settle or partial(settle_bass, network.config)
    excerpt_frames = sum(piece.shape[1] for piece in seen.pieces)
    first = excerpt_frames / (excerpt_frames + shifts * low.frames)
    song = _song(seen, network, settle, lambda fraction: progress(first * fraction))
    bass = _bass(low, network, song, shifts, settle, lambda fraction: progress(first + (1 - first) * fraction))
    bass = resample_blocks(bass, config.sample_rate, reader.sample_rate, reader.channels, reader.frames)
    for mixture, block in zip(rechunk(reader.blocks(), BLOCK_FRAMES), rechunk(bass, BLOCK_FRAMES), strict=True):
        yield {"bass": block, "guitar": mixture - block}


def _song(
    seen: FirstPass, network: Network, settle: Settle, progress: Callable[[float], None] = lambda fraction: None
) -> Song:
    pieces = _first_estimates(seen, network, settle, 0.0, progress)
    mid, side, *_ = np.concatenate(pieces, axis=1)
    mixture, bass = np.concatenate([np.stack(fuller(piece)) for piece in pieces], axis=1)
    of_pieces = (piece.std(axis=1, dtype=np.float64) for piece in seen.pieces)
    is_stereo = any(side > MIN_SIDE_RATIO * mid for mid, side in of_pieces)
    picture = look(pieces if is_stereo else [])
    place = find_bass(picture)
    places = None if place is None else find_guitars(picture, place)
    heard, angle = 1, np.pi / 2 * (power_of(side).sum() > power_of(mid).sum())
    if place is not None:
        angle = np.radians(place)
    elif any(histogram.any() for histogram in picture.bass):
        heard, angle = 2, APART
        left, right, *basses = np.concatenate(_first_estimates(seen, network, settle, angle), axis=1)
        mixture, bass = np.concatenate([left, right]), np.concatenate(basses)
    timbres = learn_timbres(mixture, bass, threads())
    beam = find_beam(seen.moments, places) if places else np.zeros(len(seen.moments))
    guitars: list[Guitars] = []
    if places:
        towards, across = _rotated(mid, side, angle)
        bass = _share(refine_by_timbre(mixture, bass, timbres, threads()), mixture) * towards
        guitars = learn_guitars(towards, across, bass, places, threads())
    levels, offsets = levels_of(seen.powers.sum(axis=1)), offsets_of(seen.means)
    return Song(levels, offsets, float(angle), heard, places, timbres, guitars, beam)


def _first_estimates(
    seen: FirstPass,
    network: Network,
    settle: Settle,
    angle: float,
    progress: Callable[[float], None] = lambda fraction: None,
) -> list[np.ndarray]:
    """Of every excerpt the spectra (4, frames, bins) of mid and side, rotated, and of the bass in each of them."""
    found = []
    with ThreadPoolExecutor(min(2, threads())) as pool:  # the network has two halves; more would only take memory
        for spectra in pool.map(partial(_first_estimate, network, settle, angle), seen.pieces):
            found.append(spectra)
            progress(len(found) / len(seen.pieces))
    return found


def _first_estimate(network: Network, settle: Settle, angle: float, piece: np.ndarray) -> np.ndarray:
    """Those of one excerpt. The bass in the quieter signal is silence where that is much quieter."""
    mid, side = centred(piece)
    signals = np.stack(_rotated(mid, side, angle))
    powers = signals.var(axis=1)
    order = [0, 1] if powers[0] >= powers[1] else [1, 0]
    heard = 1 + both_are_heard(*powers)
    level = max(float(np.sqrt(powers.sum())), 1e-30)
    spectra = np.concatenate(list(estimates(iter([signals[order] / np.float32(level)]), network, 1, heard)), axis=1)
    mixtures, basses = spectra[heard:], np.zeros_like(spectra[heard:])
    for channel in range(heard):
        basses[channel] = mean_estimate(network.config, spectra[channel : channel + 1], mixtures[channel], settle)
    return np.concatenate([mixtures[order], basses[order]])


def _bass(
    low: Reader, network: Network, song: Song, shifts: int, settle: Settle, progress: Callable[[float], None]
) -> Iterator[Block]:
    """Blocks of the bass at the network's sample rate, in the channels of `low`."""
    config, rate = network.config, low.sample_rate
    hop, edge, bins = config.hop_length, -(-config.n_fft // config.hop_length), config.bins
    end = np.zeros((2, to_grid(config, config.n_fft)), np.float32)

    def rotated() -> Iterator[np.ndarray]:
        """What the network reads, and in stereo the signals from the bass's place and across it. Silence around."""
        at = -end.shape[1]
        for mid, side in itertools.chain([end], scaled(), [end]):
            towards, across = _rotated(mid, side, song.angle)
            if song.heard == 2:
                yield np.stack([towards, across])
            else:
                read = towards + song.beam_around(at, len(mid), rate) * across
                yield np.stack([read, towards, across][: 1 if low.channels == 1 else 3])
            at += len(mid)

    def scaled() -> Iterator[np.ndarray]:
        at = 0
        for block in low.blocks():
            around = at, block.shape[1], rate
            yield (mid_side(block) - song.offset(*around)) / song.level(*around)
            at += block.shape[1]

    def estimated() -> Iterator[np.ndarray]:
        done = -end.shape[1]
        for piece in ahead(estimates(ahead(rotated()), network, shifts, song.heard, song.again)):
            yield piece.reshape(len(piece), -1)
            done += piece.shape[1] * hop
            progress(min(max(done, 0) / low.frames, 1.0))

    at = -end.shape[1]
    blocks = rechunk(estimated(), PIECES_PER_BATCH * piece_frames(config) * bins)
    margin = 2 * edge + 2 * REST_FRAMES + (CONTEXT_FRAMES if song.places else 0)
    within = slice(lines.MARGIN, -lines.MARGIN)
    for whole, inside in with_margins(blocks, (margin + lines.MARGIN) * bins):
        spectra = whole.reshape(len(whole), -1, bins)
        start, stop = margin, margin + (inside.stop - inside.start) // bins
        shifted, mixtures = np.split(spectra, [song.heard * shifts])
        basses = []
        for estimate, mixture in zip(shifted.reshape(song.heard, shifts, *spectra.shape[1:]), mixtures, strict=False):
            mean = mean_estimate(config, estimate, mixture, settle)[within]
            basses.append(refine_by_timbre(mixture[within], mean, song.timbres, threads()))
        bass = _panned(basses, mixtures[:, within], song)[:, start - edge : stop + edge]
        made = waves(config, bass, (bass.shape[1] - 1) * hop)
        end_at = at + (stop - start) * hop
        kept = made[:, edge * hop + max(0, -at) : edge * hop + min(end_at, low.frames) - at]
        if kept.size:
            kept = kept * song.level(max(0, at), kept.shape[1], rate)
            yield kept if low.channels == 1 else _left_right(kept, song.angle)
        at = end_at


def _rotated(mid: np.ndarray, side: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """The signals from the bass's place, `angle` radians, and across it."""
    along, aside = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return along * mid + aside * side, along * side - aside * mid


def _left_right(rotated: Block, angle: float) -> Block:
    """Left and right, float32 (2, n), from the signals rotated to the bass's place."""
    mid, side = _rotated(rotated[0], rotated[1], -angle)
    return np.stack([mid + side, mid - side])


def _panned(basses: Sequence[np.ndarray], mixtures: np.ndarray, song: Song) -> np.ndarray:
    """Spectra of the bass, from its place and, in stereo, across it, from those of what was read and of all signals."""
    if song.heard == 2:
        return np.stack(basses)
    bass, (read, *stereo) = basses[0], mixtures
    if song.places:
        towards, across = stereo
        bass = refine_by_place(towards, across, bass, song.places, song.guitars, threads())
        return np.stack([bass, np.zeros_like(bass)])
    return np.stack([bass, *(_share(bass, read) * across for across in stereo[1:])])


def _share(bass: np.ndarray, heard: np.ndarray) -> np.ndarray:
    """What the bass is of what is heard, no more than 1, complex64."""
    share: np.ndarray = bass * heard.conj() / (power_of(heard) + np.float32(TINY))
    share /= np.maximum(abs(share), np.float32(1.0))
    return share
