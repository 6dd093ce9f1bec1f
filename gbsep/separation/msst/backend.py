"""Checkpoints of the Music-Source-Separation-Training family, which say in a YAML file beside them what they are.

BS-RoFormer, MelBand-RoFormer, SCNet, MDX23C, Bandit and HTDemucs, in segments that overlap as the family's own tools
have them (see segments), so that stems are theirs; but the track flows through, and only what is asked for is computed:

- A run is one pass over the track; with shifts there are several, which start up to half a second early. Weights of all
  segments are divided beforehand by the sum of those that overlap them, so all runs are added into one buffer.
- Mask estimators, or the channels of the last layer, of stems that nobody asked for are cut from the network.
- A network of one stem gives that and the rest of the mixture, which is taken at the recording's own rate.

Mono is fed as two equal channels and averaged back; to a network of one channel, both channels go one by one.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from ...audio import Block, Reader
from ...errors import ParameterError, SeparationFailed
from ...models.catalogue import MODELS
from ...models.find import Found
from ...models.package import load_checkpoint
from ...models.verify import check_once
from ..backend import Context
from ..compute import pick_device, threads, versions
from ..demucs.segments import mean_and_std
from ..inference import GPU_BATCH_S, Forward, at_rate, torch_forward, window
from ..settings import BackendSettings
from ..weights import find, find_for
from . import network as networks
from .arguments import ARCHITECTURES
from .config import Config, read_config
from .lean import make_lean
from .segments import Cut

MAX_SHIFT_S = 0.5


class Settings(BackendSettings):
    """What a preset may say to this backend.

    model: a published checkpoint or the name of your own.
    shifts: runs at random starts that are averaged; 0 is one run without a shift, as the family's own tools do it.
    overlap: of one segment with the next, as a fraction; None is what the checkpoint's configuration says.
    segment_s: length of a segment; None is what the configuration says.
    precision: float32, or bfloat16 for products: faster where the processor or the GPU has it, and another 1e-2 or so
    of the loudest sample away from what float32 gives.
    """

    model: str = "bs_roformer_sw"
    shifts: Annotated[int, Field(ge=0, le=100)] = 0
    overlap: Annotated[float, Field(ge=0.0, le=0.99)] | None = None
    segment_s: Annotated[float, Field(ge=0.5, le=60.0)] | None = None
    precision: Literal["float32", "bfloat16"] = "float32"


def stem_names(settings: Settings, models_dir: Path | None = None) -> tuple[str, ...]:
    """A published checkpoint's stems from the table, another's from its configuration."""
    if settings.model in MODELS and MODELS[settings.model].backend == "msst":
        return MODELS[settings.model].stems
    return _config(find(settings.model, "msst", models_dir)).stems


def identity(settings: Settings, context: Context) -> dict[str, Any]:
    """What changes the stems besides settings and seed. Raises WeightsMissing, or BackendError for broken weights."""
    found = find(settings.model, "msst", context.models, download=context.download, progress=context.progress)
    config = _config(found)
    networks.check_installed(config.architecture)
    _cut(settings, config, 1, 0)
    check_once(found, lambda: _network(found, config))
    package = "demucs" if config.architecture == networks.HTDEMUCS else "pymss-core"
    return {
        "engine": "torch",
        "precision": settings.precision,
        "device": pick_device(context.device),
        "threads": threads(),
        "weights": found.hashes,
        "weights_sha256": found.digest,
        "licence": found.licence,
        "architecture": config.architecture,
        **versions("torch", package),
    }


def check(checkpoint: Path, configuration: Path) -> Config:
    """Read and build a checkpoint as a render would. Raises BackendError for what cannot be used."""
    config = read_config(configuration)
    networks.check_installed(config.architecture)
    networks.build(config, checkpoint, load_checkpoint(checkpoint))
    return config


def run(reader: Reader, settings: Settings, context: Context) -> Iterator[dict[str, Block]]:
    """Yield the wanted stems' blocks.

    Raises WeightsMissing or BackendError for missing or broken weights, ParameterError for a stem the model does not
    give, SeparationFailed when the network breaks or gives values that are not finite.
    """
    import torch

    found = find_for(context, settings.model, "msst")
    torch.set_num_threads(threads())
    voice = _voice(found, settings, context)
    channels = len(voice.rows) * reader.channels
    stacks = at_rate(reader, voice.config.sample_rate, channels, lambda own: _separate(own, voice, settings, context))
    take, at = window(reader.blocks()), 0
    for stack in stacks:
        stems = dict(zip(voice.made, stack.reshape(len(voice.rows), reader.channels, -1), strict=True))
        if voice.config.rest in context.wanted:
            mixture = take(at, stack.shape[1])[: reader.channels]
            stems[voice.config.rest] = mixture - stems[voice.config.sources[0]]
        at += stack.shape[1]
        yield {name: stems[name] for name in context.wanted}


# ------------------------------------------------------------------------------------------------------- the network


@dataclass(frozen=True, eq=False)
class _Voice:
    """A network cut to the rows of its sources that are needed."""

    config: Config
    rows: tuple[int, ...]
    forward: Forward

    @property
    def made(self) -> tuple[str, ...]:
        """The names of what the network gives."""
        return tuple(self.config.sources[row] for row in self.rows)


def _config(found: Found) -> Config:
    return read_config(found.files[1])


def _network(found: Found, config: Config) -> Any:
    return networks.build(config, found.files[0], load_checkpoint(found.files[0]))


def _voice(found: Found, settings: Settings, context: Context) -> _Voice:
    config = _config(found)
    unknown = set(context.wanted) - set(config.stems)
    if unknown:
        raise ParameterError("stems", sorted(unknown), f"{found.name} gives {', '.join(config.stems)}")
    wanted = set(context.wanted) if config.rest is None else set(config.sources)
    rows = tuple(row for row, name in enumerate(config.sources) if name in wanted)
    device = pick_device(context.device)
    network = _ready(found, rows, device)
    return _Voice(config, rows, torch_forward(network, device, context.warn, settings.precision))


@lru_cache(maxsize=1)
def _ready(found: Found, rows: tuple[int, ...], device: str) -> Any:
    """The network on its device; the last one is kept, for the next song of a batch."""
    config = _config(found)
    network = _network(found, config)
    networks.keep_only(network, config, rows)
    if device == "cpu" and hasattr(network, "mask_estimators"):
        make_lean(network)
    return network.to(device)


# -------------------------------------------------------------------------------------------- segments that overlap


def _cut(settings: Settings, config: Config, frames: int, shift: int) -> Cut:
    length, step = config.segment, config.step
    if settings.segment_s is not None:
        if ARCHITECTURES[config.architecture].fixed:
            allowed = f"{config.architecture} takes segments of {length / config.sample_rate:.4g} s only: leave it out"
            raise ParameterError("segment_s", settings.segment_s, allowed, "s")
        step = round(settings.segment_s * config.sample_rate * step / length)
        length = int(settings.segment_s * config.sample_rate)
        if length < config.shortest:
            least = f"at least {config.shortest / config.sample_rate:.4g}, for the network's spectra"
            raise ParameterError("segment_s", settings.segment_s, least, "s")
    if settings.overlap is not None:
        step = int((1 - settings.overlap) * length)
    return Cut(frames, length, max(1, step), shift, plain=config.architecture == networks.HTDEMUCS)


def _separate(reader: Reader, voice: _Voice, settings: Settings, context: Context) -> Iterator[Block]:
    """The network's stems at its sample rate: blocks of shape (stems * channels, n), float32."""
    config = voice.config
    mean, std = mean_and_std(reader) if config.standardised else (np.float32(0), np.float32(1))
    longest = int(MAX_SHIFT_S * config.sample_rate)
    shifts = (longest - context.rng.integers(0, longest + 1, settings.shifts)).tolist() or [0]
    cuts = [_cut(settings, config, reader.frames, shift) for shift in shifts]
    segments = sorted(((start, cut) for cut in cuts for start in cut.starts()), key=itemgetter(0))
    seconds = cuts[0].length / config.sample_rate
    at_once = 1 if pick_device(context.device) == "cpu" else max(1, int(GPU_BATCH_S / seconds))
    take = window(np.divide(block - mean, std) for block in reader.blocks())
    buffer, first = np.zeros((len(voice.rows), 2, 0), np.float32), 0
    for index in range(0, len(segments), at_once):
        group = segments[index : index + at_once]
        stop = max(min(start + cut.length, reader.frames) for start, cut in group)
        missing = max(0, stop - first - buffer.shape[2])
        buffer = np.concatenate([buffer, np.zeros((*buffer.shape[:2], missing), np.float32)], axis=2)
        outputs = _estimates(voice, np.stack([cut.piece(take, start) for start, cut in group]), group[0][0])
        for (start, cut), sources in zip(group, outputs, strict=True):
            weights = cut.weights(start) / np.float32(len(cuts))
            begin, end = max(start, first), min(start + len(weights), reader.frames)
            if begin < end:
                span = slice(begin - start, end - start)
                buffer[:, :, begin - first : end - first] += sources[:, :, span] * weights[span]
        following = segments[index + at_once][0] if index + at_once < len(segments) else reader.frames
        finished = max(0, min(following, reader.frames) - first)
        if finished:
            yield _finished(buffer[:, :, :finished] * std + mean, reader.channels, settings.model, first)
        buffer, first = buffer[:, :, finished:], first + finished
        context.progress(min(1.0, (index + at_once) / len(segments)))


def _finished(block: np.ndarray, channels: int, model: str, first: int) -> Block:
    if not np.isfinite(block.sum(dtype=np.float64)):
        raise SeparationFailed(f"{model} gave values that are not finite after frame {first}")
    block = block if channels == 2 else block.mean(axis=1, keepdims=True)
    return block.reshape(-1, block.shape[2])


def _estimates(voice: _Voice, pieces: np.ndarray, start: int) -> np.ndarray:
    """(segments, 2, frames) -> (segments, rows, 2, frames)."""
    count, _, frames = pieces.shape
    if voice.config.channels == 1:
        pieces = pieces.reshape(-1, 1, frames)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # SCNet leaves out the window of its spectra, which is how it was trained
            outputs = voice.forward(np.ascontiguousarray(pieces))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise SeparationFailed(f"the network broke at frame {max(0, start)}: {' '.join(str(error).split())}") from error
    if outputs.size and outputs.ndim == 3:
        outputs = outputs[:, np.newaxis]
    if voice.config.channels == 1:
        outputs = outputs.reshape(count, 2, len(voice.rows), -1).swapaxes(1, 2)
    if outputs.shape[:3] != (count, len(voice.rows), 2):
        raise SeparationFailed(f"the network gave {outputs.shape[1:]} for {len(voice.rows)} stems")
    lacking = frames - outputs.shape[3]
    outputs = outputs[..., :frames]
    return np.pad(outputs, ((0, 0), (0, 0), (0, 0), (0, lacking))) if lacking > 0 else outputs
