"""The embedded model: a small network, shipped inside gbsep, that tells bass from guitar.

Conventions
- The network (see `harmonic_net`) works at a low sample rate, where a bass has all but a few thousandths of its
  energy. It estimates the bass; that is resampled to the mixture's rate, and the guitar is the mixture less the bass.
  So the stems sum to the mixture, and whatever else sounds (drums, cymbals, voices) stays with the guitar.
- The network hears one channel. Of a stereo recording that is what comes from the bass's place, which is looked for
  first, as are the guitars'; then their places make the estimate better (see `places`). Places hold for a whole song:
  where the bass has none, or moves, the louder of mid and side is heard, and its mask serves the other too.
- With Settings.shifts above 1 the network hears a song more often, each time a part of a hop later, and the mean of all
  estimates counts: where frames fall on a note is chance, and so are the errors that hang on it.
- What is heard first of a song also tells how its bass and its guitars sound, by which every estimate is made better
  (see `timbre`).
- What is surely low stays with a bass that plays (`lows_kept`), and a line that sounds alone with one instrument (see
  `lines`), whatever register it goes to.
- Where one of the two is estimated to be no more than a trace of the other for a while, it is taken to rest: its trace
  goes to the other's stem (`rests_settled`).
- The reader is read twice, first for the tuning (see `tuning`), for places, for timbres and for the levels that the
  network's input is scaled by, second by second: stems scale with the mixture, and quiet passages come apart as loud
  ones do.
- A constant offset is no music: it is taken away before the network hears anything, and stays with the guitar.
- The network is fed pieces of PIECE_S seconds and keeps what the next one needs, so nothing is computed twice; what
  comes after it works on PLACED of them at once, amid all that it can see. So the stems depend neither on the reader's
  blocks nor on where pieces meet. Memory is bounded by the piece.
- Spectra have frames before bins. Nothing here needs torch, which takes longer to load than a short song to separate;
  the network runs on the CPU, in ONNX Runtime (see `harmonic_graph`).

Weights are float16 safetensors with the network's Config as JSON under `config` in the metadata. `compact` is the file
beside this module, described by `compact.json`; others are found as all models are (see `models`).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from ...atomic import write_whole
from ...audio import BLOCK_FRAMES, Block, Reader, ahead, rechunk
from ...errors import BackendError, SeparationFailed
from ...io.resample import resample, resample_blocks
from ...models.find import Found
from ...models.verify import check_once
from ...stemnames import BASS_AND_GUITAR
from ..backend import Context
from ..compute import threads, versions
from ..settings import BackendSettings
from ..weights import find
from . import lines
from . import network as harmonic_net
from .graph import Halfway, Network, Stream, load_runtime, spectrum, waves
from .network import Config
from .places import LOOK, TINY, Places, by_place, look, power_of
from .timbre import Pair, by_timbre, learnt
from .tuning import tuned, tuning_cents

PIECE_S, PLACED = 8.0, 4
LOOKED_AT, LOOKED_AT_S = 6, 8
"""At most so many pieces of so many seconds, evenly spread over the song, are heard first, for places and timbres."""

KEPT = 48
"""Pieces that are kept for that choice, among them those of silence: 384 seconds."""

BESIDE = 1e-3
"""Part of its mid's level that a piece's side must reach for it to be looked at."""

SHUT_DB, OPEN_DB = -16.0, -12.0
"""Part of the mixture's power below which a stem is taken to rest, and above which it is left as it is."""

REST_FRAMES = 16
"""Spectra on either side that such a power is a weighted mean of."""

LOW_HZ = 65.0, 85.0
"""Below the first of them all is the bass's while it plays, above the second what the network says."""

PLAYS = 0.05, 0.1
"""Part of the power below which the bass is not taken to play, and above which it is."""

QUIET_DB = -20.0
"""Pieces that far below the mean power are not looked at."""

LEVEL_S = 4
"""The level of a second is a mean over so many seconds on either side, weighted by a Hann window, of levels in dB: a
quiet passage beside a loud one is not heard too quiet, which does more harm than too loud."""

FAINT_DB = -50.0
"""No second counts as fainter than that, against the mean power."""

OFFSET_S = 2
"""The offset of a second is the median of the means of it and so many on either side: where music with an offset
begins, it does so within a second."""


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


def save(path: Path, config: Config, weights: Mapping[str, Any]) -> None:
    """Write weights, arrays or tensors, as float16 safetensors with `config` in the metadata; never half a file."""
    from safetensors.numpy import save as packed

    half = {name: np.ascontiguousarray(value, np.float16) for name, value in sorted(weights.items())}
    write_whole(path, packed(half, metadata={"config": json.dumps(asdict(config), sort_keys=True)}))


def load(path: Path) -> tuple[Config, dict[str, np.ndarray]]:
    """What `save` wrote, as float32. Raises BackendError for anything else."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            config = harmonic_net.config_from(json.loads((file.metadata() or {}).get("config", "null")))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, TypeError, RecursionError) as error:
        raise BackendError(f"{path} holds no weights of the compact network: {error}") from error
    weights = {name: value.astype(np.float32) for name, value in tensors.items() if value.dtype.kind == "f"}
    if {name: value.shape for name, value in weights.items()} != harmonic_net.shapes(config):
        reason = "its tensors are not those of the network that its metadata describes"
        raise BackendError(f"{path}: {reason}; if an earlier gbsep trained it, train it again")
    if not all(np.isfinite(value).all() for value in weights.values()):
        raise BackendError(f"{path} holds NaN or infinity in place of weights; train it again, at a lower --rate")
    return config, weights


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


@dataclass(frozen=True, eq=False)
class Reading:
    """What was heard of a song at first.

    powers and means: of mid and side in every second (n, 2); pieces: mid and side (2, frames) of what is looked at more
    closely.
    """

    powers: np.ndarray
    means: np.ndarray
    pieces: list[np.ndarray]


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


@dataclass(frozen=True, eq=False)
class Song:
    """What there is to know of a song before it is separated.

    levels: of every second, the RMS of mid and side together; offsets: of every second, those of mid and side (n, 2);
    angle: what the network is to hear, in radians: the bass's place, or else the louder of mid (0) and side (pi / 2);
    places: None for mono, and as of `look`; timbres: as of `timbre.learnt`.
    """

    levels: np.ndarray
    offsets: np.ndarray
    angle: float
    places: Places | None
    timbres: Sequence[Pair]

    def level(self, start: int, frames: int, sample_rate: int) -> np.ndarray:
        """The level around every frame, float32 (frames,)."""
        return np.exp(_between_seconds(np.log(self.levels), start, frames, sample_rate)).astype(np.float32)

    def offset(self, start: int, frames: int, sample_rate: int) -> np.ndarray:
        """The offset of mid and side around every frame, float32 (2, frames)."""
        both = [_between_seconds(one, start, frames, sample_rate) for one in self.offsets.T]
        return np.stack(both).astype(np.float32)


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
    return Song(_levels(reading.powers.sum(axis=1)), _offsets(reading.means), angle, places, timbres)


def _between_seconds(values: np.ndarray, start: int, frames: int, sample_rate: int) -> np.ndarray:
    """Values of the seconds of a song, interpolated from their middles to its frames."""
    second = (np.arange(start, start + frames) + 0.5) / sample_rate - 0.5
    return np.interp(second, np.arange(len(values)), values)


def _offsets(means: np.ndarray) -> np.ndarray:
    """Offsets as of Song from the means of its seconds."""
    padded = np.pad(means, ((OFFSET_S, OFFSET_S), (0, 0)), mode="edge")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * OFFSET_S + 1, axis=0), axis=-1)


def _levels(powers: np.ndarray) -> np.ndarray:
    """Levels as of Song from the powers of its seconds."""
    heard = np.log(np.maximum(powers, max(powers.mean() * 10 ** (FAINT_DB / 10), 1e-60)))
    window = np.hanning(2 * LEVEL_S + 3)[1:-1]
    return np.exp(np.convolve(np.pad(heard, LEVEL_S, mode="edge"), window / window.sum(), mode="valid") / 2)


def _seen(network: Network, mid_side: np.ndarray) -> np.ndarray:
    """A piece's spectra as `look` wants them."""
    mid_side = _centred(mid_side)
    powers = mid_side.var(axis=1)
    louder, level = int(powers[1] > powers[0]), max(float(np.sqrt(powers.sum())), 1e-30)
    pieces = list(_estimates(iter([mid_side[[louder, 1 - louder]] / level]), network, shifts=1))
    bass, heard, other = _settled(network.config, np.concatenate(pieces, axis=1), shifts=1)
    return np.stack([*((other, heard) if louder else (heard, other)), heard, bass])


def _centred(block: Block) -> Block:
    return block - block.mean(axis=1, keepdims=True, dtype=np.float64)


def _power(block: Block) -> np.ndarray:
    """Mean power of each channel without its mean, but for a hundredth of that."""
    samples = block.astype(np.float64)
    return np.maximum(samples.var(axis=1), np.square(samples).mean(axis=1) / 100)


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


def lows_kept(config: Config, mixture: np.ndarray, bass: np.ndarray) -> np.ndarray:
    """`bass` (frames, bins), and all of `mixture` at the lowest frequencies while it plays: no guitar is there."""
    hz = np.arange(config.bins) * config.sample_rate / config.n_fft
    playing = _gradual(_shares(mixture, bass)[0], *PLAYS)[:, np.newaxis]
    return bass + (1 - _gradual(hz, *LOW_HZ)) * playing * (mixture - bass)


def rests_settled(mixture: np.ndarray, bass: np.ndarray) -> np.ndarray:
    """`bass` (frames, bins): all of `mixture` in its bins where the guitar rests, none where the bass does.

    Between SHUT_DB and OPEN_DB of the mixture's power in these bins the change is gradual.
    """
    share_db = 10 * np.log10(_shares(mixture, bass) + 1e-30)
    bass_open, guitar_open = _gradual(share_db, SHUT_DB, OPEN_DB)[..., np.newaxis]
    return bass_open * (bass + (1 - guitar_open) * (mixture - bass))


def _gradual(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """From 0 at `low` to 1 at `high`."""
    return np.clip((value - low) / (high - low), 0, 1).astype(np.float32)


def _shares(mixture: np.ndarray, bass: np.ndarray) -> np.ndarray:
    """Parts of the power that bass and guitar have around every frame, (2, frames)."""
    window = np.hanning(2 * REST_FRAMES + 3)[1:-1]
    powers = [power_of(spectra).sum(axis=1) for spectra in (bass, mixture - bass)]
    smooth = np.stack([np.convolve(one, window)[REST_FRAMES : REST_FRAMES + len(one)] for one in powers])
    return smooth / (smooth.sum(axis=0) + 1e-12)


def _mid_side(block: Block) -> np.ndarray:
    """Mid and side, float32 (2, n), of a mono or stereo block."""
    left, right = block[0], block[-1]
    left, right = left * np.float32(0.5), right * np.float32(0.5)
    return np.stack([left + right, left - right])
