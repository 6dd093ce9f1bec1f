"""The embedded model: a small network, shipped inside gbsep, that tells bass from guitar.

Conventions
- The network (see `network`) works at a low sample rate, where a bass has all but a few thousandths of its
  energy. It estimates the bass; that is resampled to the mixture's rate, and the guitar is the mixture less the bass.
  So the stems sum to the mixture, and whatever else sounds (drums, cymbals, voices) stays with the guitar.
- The network hears one channel. Of a stereo recording that is what comes from the bass's place, which is looked for
  first, as are the guitars'; then their places make the estimate better (see `places`). Places hold for a whole song:
  where the bass has none, or moves, the louder of mid and side is heard, and its mask serves the other too.
- With Settings.shifts above 1 the network hears a song more often, each time a part of a hop later, and the mean of all
  estimates counts: where frames fall on a note is chance, and so are the errors that hang on it.
- What is heard first of a song also tells how its bass and its guitars sound, by which every estimate is made better
  (see `timbre`).
- What is surely low stays with a bass that plays (see `rests`), and a line that sounds alone with one instrument (see
  `lines`), whatever register it goes to.
- Where one of the two is estimated to be no more than a trace of the other for a while, it is taken to rest: its trace
  goes to the other's stem (see `rests`).
- The reader is read twice, first for the tuning (see `tuning`), for places, for timbres and for the levels that the
  network's input is scaled by, second by second: stems scale with the mixture, and quiet passages come apart as loud
  ones do.
- A constant offset is no music: it is taken away before the network hears anything, and stays with the guitar.
- The network is fed pieces of PIECE_S seconds and keeps what the next one needs, so nothing is computed twice; what
  comes after it works on PLACED of them at once, amid all that it can see. So the stems depend neither on the reader's
  blocks nor on where pieces meet. Memory is bounded by the piece.
- Spectra have frames before bins. Nothing here needs torch, which takes longer to load than a short song to separate;
  the network runs on the CPU, in ONNX Runtime (see `graph`).

Weights are float16 safetensors with the network's Config as JSON under `config` in the metadata. `compact` is the file
beside this module, described by `compact.json`; others are found as all models are (see `models`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from ...audio import BLOCK_FRAMES, Block, Reader, ahead, rechunk
from ...errors import SeparationFailed
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
from .graph import Halfway, Network, Stream, load_runtime, spectrum, waves
from .places import LOOK, TINY, Places, by_place, look, power_of
from .rests import REST_FRAMES, lows_kept, rests_settled
from .song import Reading, Song, levels_of, offsets_of
from .timbre import by_timbre, learnt
from .tuning import tuned, tuning_cents
from .weights import load

PIECE_S, PLACED = 8.0, 4
LOOKED_AT, LOOKED_AT_S = 6, 8
"""At most so many pieces of so many seconds, evenly spread over the song, are heard first, for places and timbres."""

KEPT = 48
"""Pieces that are kept for that choice, among them those of silence: 384 seconds."""

BESIDE = 1e-3
"""Part of its mid's level that a piece's side must reach for it to be looked at."""


QUIET_DB = -20.0
"""Pieces that far below the mean power are not looked at."""


class Settings(BackendSettings):
    """What a preset may say to this backend.

    model: `compact`, or the name of a model of your own (see `gbsep train`).
    shifts: runs, each a part of a hop later than the one before, that are averaged: time grows with them.
    """

    model: str = "compact"
    shifts: Annotated[int, Field(ge=1, le=16)] = 1


def stem_names(settings: Settings, models_dir: Path | None = None) -> tuple[str, ...]:
    return BASS_AND_GUITAR


def identity(settings: Settings, context: Context) -> dict[str, Any]:
    """What changes the stems besides the settings. Raises WeightsMissing, or BackendError for broken weights."""
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
) -> Iterator[dict[str, Block]]:
    """Yield blocks of `bass` and `guitar`, in the reader's sample rate and channels; `shifts` is as in Settings.

    Weights are arrays, or torch's tensors in the processor's memory.

    Raises SeparationFailed when the network gives what is not finite, BackendNotInstalled where ONNX Runtime does not
    load.
    """
    load_runtime()  # before a long song is read for nothing
    low = resample(reader, config.sample_rate)
    reading = _first_reading(low)
    cents = tuning_cents((spectrum(config, _centred(piece)) for piece in reading.pieces), config)
    network = Network(tuned(config, cents), weights, threads())
    looked_at = sum(piece.shape[1] for piece in reading.pieces)
    first = looked_at / (looked_at + shifts * low.frames)
    song = _song(reading, network, lambda fraction: progress(first * fraction))
    bass = _bass(low, network, song, shifts, lambda fraction: progress(first + (1 - first) * fraction))
    bass = resample_blocks(bass, config.sample_rate, reader.sample_rate, reader.channels, reader.frames)
    for mixture, block in zip(rechunk(reader.blocks(), BLOCK_FRAMES), rechunk(bass, BLOCK_FRAMES), strict=True):
        yield {"bass": block, "guitar": mixture - block}


def _first_reading(low: Reader) -> Reading:
    rate = low.sample_rate
    step = max(1, -(-low.frames // (LOOKED_AT_S * rate * KEPT)))
    powers: list[np.ndarray] = []
    means: list[np.ndarray] = []
    kept: list[np.ndarray] = []
    seconds = (_mid_side(block) for block in rechunk(low.blocks(), rate))
    for number in itertools.count():
        piece = list(itertools.islice(seconds, LOOKED_AT_S))
        if not piece:
            break
        powers.extend(map(_power, piece))
        means.extend(second.mean(axis=1, dtype=np.float64) for second in piece)
        if number % step == 0:
            kept.append(np.concatenate(piece, axis=1))
    by_piece = [piece.var(axis=1, dtype=np.float64).sum() for piece in kept]
    enough = min(np.sum(powers) / len(powers) * 10 ** (QUIET_DB / 10), max(by_piece))
    loud = [piece for piece, power in zip(kept, by_piece, strict=True) if power >= enough]
    return Reading(np.array(powers), np.array(means), loud[:: max(1, -(-len(loud) // LOOKED_AT))])


def _song(reading: Reading, network: Network, progress: Callable[[float], None] = lambda fraction: None) -> Song:
    pieces = []
    with ThreadPoolExecutor(min(2, threads())) as pool:  # more would take memory, and the network has two halves
        for seen in pool.map(partial(_seen, network), reading.pieces):
            pieces.append(seen)
            progress(len(pieces) / len(reading.pieces))
    levels = (piece.std(axis=1, dtype=np.float64) for piece in reading.pieces)
    places = look(pieces) if any(side > BESIDE * mid for mid, side in levels) else None
    _, _, heard, bass = np.concatenate(pieces, axis=1)
    timbres = learnt(heard, bass, threads())
    mid, side = reading.powers.sum(axis=0)
    angle = float(np.radians(places.bass)) if places else np.pi / 2 * (side > mid)
    return Song(levels_of(reading.powers.sum(axis=1)), offsets_of(reading.means), angle, places, timbres)


def _seen(network: Network, mid_side: np.ndarray) -> np.ndarray:
    """A piece's spectra as `look` wants them."""
    mid_side = _centred(mid_side)
    powers = mid_side.var(axis=1)
    louder, level = int(powers[1] > powers[0]), max(float(np.sqrt(powers.sum())), 1e-30)
    pieces = list(_estimates(iter([mid_side[[louder, 1 - louder]] / level]), network, shifts=1))
    bass, heard, other = _settled(network.config, np.concatenate(pieces, axis=1), shifts=1)
    return np.stack([*((other, heard) if louder else (heard, other)), heard, bass])


def _centred(block: Block) -> Block:
    result: Block = block - block.mean(axis=1, keepdims=True, dtype=np.float64)
    return result


def _power(block: Block) -> np.ndarray:
    """Mean power of each channel without its mean, but for a hundredth of that."""
    samples = block.astype(np.float64)
    result: np.ndarray = np.maximum(samples.var(axis=1), np.square(samples).mean(axis=1) / 100)
    return result


def _bass(low: Reader, network: Network, song: Song, shifts: int, progress: Callable[[float], None]) -> Iterator[Block]:
    """The bass at the network's own rate, in the channels of `low`."""
    config, rate = network.config, low.sample_rate
    hop, edge, bins = config.hop_length, -(-config.n_fft // config.hop_length), config.bins
    along, aside = np.float32(np.cos(song.angle)), np.float32(np.sin(song.angle))
    end = np.zeros((2, _to_grid(config, config.n_fft)), np.float32)

    def turned() -> Iterator[np.ndarray]:
        """What comes from the bass's place and, in stereo, what is across; between two ends of silence."""
        for mid, side in itertools.chain([end], scaled(), [end]):
            yield np.stack([along * mid + aside * side, along * side - aside * mid])[: low.channels]

    def scaled() -> Iterator[np.ndarray]:
        at = 0
        for block in low.blocks():
            around = at, block.shape[1], rate
            yield (_mid_side(block) - song.offset(*around)) / song.level(*around)
            at += block.shape[1]

    def estimated() -> Iterator[np.ndarray]:
        done = -end.shape[1]
        for piece in ahead(_estimates(ahead(turned()), network, shifts)):
            yield piece.reshape(len(piece), -1)
            done += piece.shape[1] * hop
            progress(min(max(done, 0) / low.frames, 1.0))

    at = -end.shape[1]
    blocks = rechunk(estimated(), PLACED * _piece_frames(config) * bins)
    margin = 2 * edge + 2 * REST_FRAMES + (LOOK if song.places else 0)
    for whole, inside in _with_margins(blocks, (margin + lines.MARGIN) * bins):
        spectra = whole.reshape(len(whole), -1, bins)
        start, stop = margin, margin + (inside.stop - inside.start) // bins
        settled = _settled(config, spectra, shifts)[:, lines.MARGIN : -lines.MARGIN]
        settled[0] = by_timbre(settled[1], settled[0], song.timbres, threads())
        bass = _placed(settled, song.places)[:, start - edge : stop + edge]
        made = waves(config, bass, (bass.shape[1] - 1) * hop)
        end_at = at + (stop - start) * hop
        kept = made[:, edge * hop + max(0, -at) : edge * hop + min(end_at, low.frames) - at]
        if kept.size:
            kept = kept * song.level(max(0, at), kept.shape[1], rate)
            yield kept if low.channels == 1 else _left_right(kept[0], kept[1], along, aside)
        at = end_at


def _left_right(towards: np.ndarray, across: np.ndarray, along: np.float32, aside: np.float32) -> Block:
    """Turned back, and from mid and side to left and right."""
    mid, side = along * towards - aside * across, aside * towards + along * across
    return np.stack([mid + side, mid - side])


def _estimates(blocks: Iterator[Block], network: Network, shifts: int) -> Iterator[np.ndarray]:
    """Spectra (shifts + channels, frames, config.bins), piece after piece: the estimates of all shifts, and `blocks`.

    It is the first channel of `blocks` that the network hears, each time a part of a hop later than the time before.
    """
    config = network.config
    hop, held = config.hop_length, np.zeros((0, 0, config.bins), np.complex64)
    streams = [Stream(network) for _ in range(shifts)]

    def begun() -> Iterator[tuple[np.ndarray, list[Halfway]]]:
        pieces = _with_margins(rechunk(blocks, _piece_frames(config) * hop), _to_grid(config, config.n_fft))
        piece = next(pieces, None)
        while piece is not None:
            (whole, inside), piece = piece, next(pieces, None)
            first, frames = inside.start // hop, _to_grid(config, inside.stop - inside.start) // hop
            x = whole.astype(np.float32)
            later = (np.pad(x[:1], ((0, 0), (n * hop // shifts, 0)))[:, : x.shape[1]] for n in range(1, shifts))
            spectra = spectrum(config, np.concatenate([x, *later]))[:, first : first + frames]
            heard = [spectra[0], *spectra[len(x) :]]
            halfway = [stream.begin(one, last=piece is None) for stream, one in zip(streams, heard, strict=True)]
            yield spectra[: len(x), :, : config.bins], halfway

    for mixture, halfway in ahead(begun()):
        bass = np.stack([stream.finish(one) for stream, one in zip(streams, halfway, strict=True)])
        if not np.isfinite(bass).all():
            raise SeparationFailed(
                "the network gave NaN or infinity: its weights are unusable, or the song is too loud"
            )
        held = np.concatenate([held, mixture], axis=1) if held.size else mixture
        yield np.concatenate([bass, held[:, : bass.shape[1]]])
        held = held[:, bass.shape[1] :]


def _settled(config: Config, spectra: np.ndarray, shifts: int) -> np.ndarray:
    """Spectra (1 + channels, frames, config.bins) from those of `_estimates`: the mean estimate, rests settled.

    An estimate is taken as the spectra of the wave that it gives, which are steadier than itself.
    """
    hop, mixture = config.hop_length, spectra[shifts:]
    length = (spectra.shape[1] - 1) * hop
    bass = np.zeros_like(mixture[0])
    for number in range(shifts):
        late = number * hop // shifts
        wave = waves(config, spectra[number : number + 1], length + late)[:, late:]
        bass = bass + spectrum(config, wave)[0, :, : config.bins]
    bass = lows_kept(config, mixture[0], bass / np.float32(shifts))
    bass = rests_settled(mixture[0], lines.followed(config, mixture[0], bass))
    return np.concatenate([bass[np.newaxis], mixture])


def _placed(spectra: np.ndarray, places: Places | None) -> np.ndarray:
    """The bass, towards its place and, in stereo, across, from spectra as of `_settled`."""
    bass, towards, *across = spectra
    if places:
        bass = by_place(towards, across[0], bass, places.guitars, places.placeless, threads())
        return np.stack([bass, np.zeros_like(bass)])
    share = bass * towards.conj() / (power_of(towards) + np.float32(TINY))
    share /= np.maximum(abs(share), np.float32(1.0))
    return np.stack([bass, *(share * one for one in across)])


def _piece_frames(config: Config) -> int:
    """Spectra of a piece: whole steps of the deepest level, more than the network's context."""
    return 4 * max(config.context // 4 + 1, round(PIECE_S * config.sample_rate / config.grid_frames))


def _to_grid(config: Config, frames: int) -> int:
    return -(-frames // config.grid_frames) * config.grid_frames


def _with_margins(blocks: Iterator[np.ndarray], margin: int) -> Iterator[tuple[np.ndarray, slice]]:
    """Each block (..., n) amid `margin` of what is around it, zero beyond the ends; and where in this it lies."""
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


def _mid_side(block: Block) -> np.ndarray:
    """Mid and side, float32 (2, n), of a mono or stereo block."""
    left, right = block[0], block[-1]
    left, right = left * np.float32(0.5), right * np.float32(0.5)
    return np.stack([left + right, left - right])
