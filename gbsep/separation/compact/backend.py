"""The embedded model: a small network, shipped inside gbsep, that separates bass from guitar.

Conventions
- The network (see `network`) works at a low sample rate that holds almost all of a bass's energy. It estimates the
  bass. The estimate is resampled to the mixture's rate, and the guitar is the mixture minus the bass. So the stems sum
  to the mixture, and everything else (drums, cymbals, voices) stays with the guitar.
- The network reads one channel. In a stereo recording that is the signal from the bass's place, which is found first,
  as are the guitars' places, with what takes the guitars out of it, as far as that can be; afterwards the places refine
  the estimate (see `places` and `wiener`). Places hold for a whole song: where the bass has none, or moves, the network
  reads the louder of mid and side, and its mask serves the other too.
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
from .places import TINY, find_beam, find_places
from .rests import REST_FRAMES, keep_lows, settle_rests
from .song import FirstPass, Song, levels_of, offsets_of
from .spectra import power_of, spectrum, waves
from .stream import Network, Stream, load_runtime
from .timbre import learn_timbres, refine_by_timbre
from .tuning import tuned, tuning_cents
from .weights import load
from .wiener import CONTEXT_FRAMES, Guitars, learn_guitars, refine_by_place

PIECE_S, PIECES_PER_BATCH = 8.0, 4
EXCERPTS, EXCERPT_S = 6, 8
"""The first pass runs the network on at most this many pieces, evenly spread over the song, of this many seconds."""

MAX_KEPT_PIECES = 48
"""Pieces from which these excerpts are chosen, silent ones included: 384 seconds."""

MIN_SIDE_RATIO = 1e-3
"""Places are looked for where a piece's side reaches this part of its mid, both as RMS."""

QUIET_DB = -20.0
"""Pieces this far below the mean power are no excerpts."""


Settle = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""What the spectra of an estimate become, from those of the mixture and the estimate."""


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
    first_pass = _first_pass(low)
    cents = tuning_cents((spectrum(config, _centred(piece)) for piece in first_pass.pieces), config)
    network = Network(tuned(config, cents), weights, threads())
    settle = settle or partial(settle_bass, network.config)
    excerpt_frames = sum(piece.shape[1] for piece in first_pass.pieces)
    first = excerpt_frames / (excerpt_frames + shifts * low.frames)
    song = _song(first_pass, network, settle, lambda fraction: progress(first * fraction))
    bass = _bass(low, network, song, shifts, settle, lambda fraction: progress(first + (1 - first) * fraction))
    bass = resample_blocks(bass, config.sample_rate, reader.sample_rate, reader.channels, reader.frames)
    for mixture, block in zip(rechunk(reader.blocks(), BLOCK_FRAMES), rechunk(bass, BLOCK_FRAMES), strict=True):
        yield {"bass": block, "guitar": mixture - block}


def _first_pass(low: Reader) -> FirstPass:
    rate = low.sample_rate
    step = max(1, -(-low.frames // (EXCERPT_S * rate * MAX_KEPT_PIECES)))
    powers: list[np.ndarray] = []
    means: list[np.ndarray] = []
    moments: list[np.ndarray] = []
    kept: list[np.ndarray] = []
    seconds = (_mid_side(block) for block in rechunk(low.blocks(), rate))
    for number in itertools.count():
        piece = list(itertools.islice(seconds, EXCERPT_S))
        if not piece:
            break
        powers.extend(map(_power, piece))
        means.extend(second.mean(axis=1, dtype=np.float64) for second in piece)
        moments.extend(map(_moments, piece))
        if number % step == 0:
            kept.append(np.concatenate(piece, axis=1))
    by_piece = [piece.var(axis=1, dtype=np.float64).sum() for piece in kept]
    enough = min(np.sum(powers) / len(powers) * 10 ** (QUIET_DB / 10), max(by_piece))
    loud = [piece for piece, power in zip(kept, by_piece, strict=True) if power >= enough]
    return FirstPass(np.array(powers), np.array(means), np.array(moments), loud[:: max(1, -(-len(loud) // EXCERPTS))])


def _song(
    first_pass: FirstPass, network: Network, settle: Settle, progress: Callable[[float], None] = lambda fraction: None
) -> Song:
    pieces = []
    with ThreadPoolExecutor(min(2, threads())) as pool:  # the network has two halves; more would only take memory
        for spectra in pool.map(partial(_first_estimate, network, settle), first_pass.pieces):
            pieces.append(spectra)
            progress(len(pieces) / len(first_pass.pieces))
    levels = (piece.std(axis=1, dtype=np.float64) for piece in first_pass.pieces)
    places = find_places(pieces) if any(side > MIN_SIDE_RATIO * mid for mid, side in levels) else None
    mid_spectra, side_spectra, mixture, bass = np.concatenate(pieces, axis=1)
    timbres = learn_timbres(mixture, bass, threads())
    beam = find_beam(first_pass.moments, places) if places else np.zeros(len(first_pass.moments))
    mid, side = first_pass.powers.sum(axis=0)
    angle = float(np.radians(places.bass)) if places else np.pi / 2 * (side > mid)
    guitars: list[Guitars] = []
    if places:
        towards, across = _rotated(mid_spectra, side_spectra, angle)
        bass = _share(refine_by_timbre(mixture, bass, timbres, threads()), mixture) * towards
        guitars = learn_guitars(towards, across, bass, places, threads())
    return Song(
        levels_of(first_pass.powers.sum(axis=1)), offsets_of(first_pass.means), angle, places, timbres, guitars, beam
    )


def _first_estimate(network: Network, settle: Settle, mid_side: np.ndarray) -> np.ndarray:
    """A piece's spectra (4, frames, bins) for `find_places`: mid, side, the louder of both, the bass in that."""
    mid_side = _centred(mid_side)
    powers = mid_side.var(axis=1)
    louder, level = int(powers[1] > powers[0]), max(float(np.sqrt(powers.sum())), 1e-30)
    pieces = list(_estimates(iter([mid_side[[louder, 1 - louder]] / level]), network, shifts=1))
    bass, mixture, other = _mean_estimate(network.config, np.concatenate(pieces, axis=1), 1, settle)
    return np.stack([*((other, mixture) if louder else (mixture, other)), mixture, bass])


def _centred(block: Block) -> Block:
    result: Block = block - block.mean(axis=1, keepdims=True, dtype=np.float64)
    return result


def _moments(block: Block) -> np.ndarray:
    """Power of mid, of side, and their product, without the DC offset, (3,)."""
    mid, side = block - block.mean(axis=1, keepdims=True, dtype=np.float64)
    return np.array([mid @ mid, side @ side, mid @ side])


def _power(block: Block) -> np.ndarray:
    """Power of each channel without its DC offset, at least a hundredth of the power with it."""
    samples = block.astype(np.float64)
    result: np.ndarray = np.maximum(samples.var(axis=1), np.square(samples).mean(axis=1) / 100)
    return result


def _bass(
    low: Reader, network: Network, song: Song, shifts: int, settle: Settle, progress: Callable[[float], None]
) -> Iterator[Block]:
    """Blocks of the bass at the network's sample rate, in the channels of `low`."""
    config, rate = network.config, low.sample_rate
    hop, edge, bins = config.hop_length, -(-config.n_fft // config.hop_length), config.bins
    end = np.zeros((2, _to_grid(config, config.n_fft)), np.float32)

    def rotated() -> Iterator[np.ndarray]:
        """What the network reads; in stereo the signals from the bass's place and across it, too. Silence around."""
        at = -end.shape[1]
        for mid, side in itertools.chain([end], scaled(), [end]):
            towards, across = _rotated(mid, side, song.angle)
            heard = towards + song.beam_around(at, len(mid), rate) * across
            yield np.stack([heard, towards, across][: 1 if low.channels == 1 else 3])
            at += len(mid)

    def scaled() -> Iterator[np.ndarray]:
        at = 0
        for block in low.blocks():
            around = at, block.shape[1], rate
            yield (_mid_side(block) - song.offset(*around)) / song.level(*around)
            at += block.shape[1]

    def estimated() -> Iterator[np.ndarray]:
        done = -end.shape[1]
        for piece in ahead(_estimates(ahead(rotated()), network, shifts)):
            yield piece.reshape(len(piece), -1)
            done += piece.shape[1] * hop
            progress(min(max(done, 0) / low.frames, 1.0))

    at = -end.shape[1]
    blocks = rechunk(estimated(), PIECES_PER_BATCH * _piece_frames(config) * bins)
    margin = 2 * edge + 2 * REST_FRAMES + (CONTEXT_FRAMES if song.places else 0)
    for whole, inside in _with_margins(blocks, (margin + lines.MARGIN) * bins):
        spectra = whole.reshape(len(whole), -1, bins)
        start, stop = margin, margin + (inside.stop - inside.start) // bins
        estimate = _mean_estimate(config, spectra, shifts, settle)[:, lines.MARGIN : -lines.MARGIN]
        estimate[0] = refine_by_timbre(estimate[1], estimate[0], song.timbres, threads())
        bass = _panned(estimate, song)[:, start - edge : stop + edge]
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


def _estimates(blocks: Iterator[Block], network: Network, shifts: int) -> Iterator[np.ndarray]:
    """Spectra (shifts + channels, frames, config.bins), piece by piece: the estimates of all shifts, then `blocks`.

    The network reads the first channel of `blocks`, for each shift a part of a hop later than for the one before.
    """
    config = network.config
    hop, held = config.hop_length, np.zeros((0, 0, config.bins), np.complex64)
    streams = [Stream(network) for _ in range(shifts)]

    def first_halves() -> Iterator[tuple[np.ndarray, list[Callable[[], np.ndarray]]]]:
        pieces = _with_margins(rechunk(blocks, _piece_frames(config) * hop), _to_grid(config, config.n_fft))
        piece = next(pieces, None)
        while piece is not None:
            (whole, inside), piece = piece, next(pieces, None)
            first, frames = inside.start // hop, _to_grid(config, inside.stop - inside.start) // hop
            x = whole.astype(np.float32)
            later = (np.pad(x[:1], ((0, 0), (n * hop // shifts, 0)))[:, : x.shape[1]] for n in range(1, shifts))
            spectra = spectrum(config, np.concatenate([x, *later]))[:, first : first + frames]
            inputs = [spectra[0], *spectra[len(x) :]]
            halfway = [stream.begin(x, last=piece is None) for stream, x in zip(streams, inputs, strict=True)]
            yield spectra[: len(x), :, : config.bins], halfway

    for mixture, halfway in ahead(first_halves()):
        bass = np.stack([finish() for finish in halfway])
        if not np.isfinite(bass).all():
            raise SeparationFailed("the network gave NaN or infinity: its weights are damaged, or the song is too loud")
        held = np.concatenate([held, mixture], axis=1) if held.size else mixture
        yield np.concatenate([bass, held[:, : bass.shape[1]]])
        held = held[:, bass.shape[1] :]


def _mean_estimate(config: Config, spectra: np.ndarray, shifts: int, settle: Settle) -> np.ndarray:
    """Spectra (1 + channels, frames, config.bins) from those of `_estimates`: the bass, then the mixture.

    Each estimate is resynthesised and analysed again before the mean, which makes it steadier from frame to frame.
    """
    hop, mixture = config.hop_length, spectra[shifts:]
    length = (spectra.shape[1] - 1) * hop
    bass = np.zeros_like(mixture[0])
    for number in range(shifts):
        late = number * hop // shifts
        wave = waves(config, spectra[number : number + 1], length + late)[:, late:]
        bass = bass + spectrum(config, wave)[0, :, : config.bins]
    bass = settle(mixture[0], bass / np.float32(shifts))
    return np.concatenate([bass[np.newaxis], mixture])


def settle_bass(config: Config, mixture: np.ndarray, bass: np.ndarray) -> np.ndarray:
    """The estimate of a bass with what is known of basses: it has the lows, goes on with its lines, and rests."""
    kept = keep_lows(config, mixture, bass)
    return settle_rests(mixture, lines.assign_lines(config, mixture, kept))


def _panned(spectra: np.ndarray, song: Song) -> np.ndarray:
    """Spectra of the bass, from its place and, in stereo, across it, from the spectra of `_mean_estimate`."""
    bass, heard, *stereo = spectra
    if song.places:
        towards, across = stereo
        bass = refine_by_place(towards, across, bass, song.places, song.guitars, threads())
        return np.stack([bass, np.zeros_like(bass)])
    return np.stack([bass, *(_share(bass, heard) * across for across in stereo[1:])])


def _share(bass: np.ndarray, heard: np.ndarray) -> np.ndarray:
    """What the bass is of what is heard, no more than 1, complex64."""
    share: np.ndarray = bass * heard.conj() / (power_of(heard) + np.float32(TINY))
    share /= np.maximum(abs(share), np.float32(1.0))
    return share


def _piece_frames(config: Config) -> int:
    """Frames of spectra in a piece: whole steps of the deepest level, more than the network's context."""
    return 4 * max(config.context // 4 + 1, round(PIECE_S * config.sample_rate / config.grid_frames))


def _to_grid(config: Config, frames: int) -> int:
    return -(-frames // config.grid_frames) * config.grid_frames


def _with_margins(blocks: Iterator[np.ndarray], margin: int) -> Iterator[tuple[np.ndarray, slice]]:
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


def _mid_side(block: Block) -> np.ndarray:
    """Mid and side, float32 (2, n), of a mono or stereo block."""
    left, right = block[0], block[-1]
    left, right = left * np.float32(0.5), right * np.float32(0.5)
    return np.stack([left + right, left - right])
