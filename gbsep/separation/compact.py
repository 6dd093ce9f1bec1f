"""The embedded model: a small network, shipped inside gbsep, that tells bass from guitar.

Conventions
- The network (see `harmonic_net`) works at a low sample rate, where a bass has all but a few thousandths of its
  energy. It estimates the bass; that is resampled to the mixture's rate, and the guitar is the mixture less the bass.
  So the stems sum to the mixture, and whatever else sounds (drums, cymbals, voices) stays with the guitar.
- Mono is given to the network as a mid signal with a silent side.
- Where one of the two is estimated to be no more than a trace of the other for a while, it is taken to rest: its trace
  goes to the other's stem (`rests_settled`).
- The reader is read twice, once for the level that the network's input is scaled by: stems scale with the mixture.
- Pieces of PIECE_S seconds lie on a fixed grid from the first frame and overlap by all the context that the network can
  see: the stems depend neither on the reader's blocks nor on where pieces meet. Memory is bounded by the piece.

Weights are float16 safetensors with the network's Config as JSON under `config` in the metadata. `compact` is the file
beside this module, described by `compact.json`; others are found as all models are (see `models`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import files, models
from ..audio import BLOCK_FRAMES, Block, Reader, rechunk
from ..errors import BackendError, SeparationFailed
from . import Context, harmonic_net
from .compute import pick_device, threads, versions
from .harmonic_net import Config
from .settings import BackendSettings

if TYPE_CHECKING:
    import torch

PIECE_S = 15.0
SHUT_DB, OPEN_DB = -16.0, -12.0
"""Part of the mixture's power below which a stem is taken to rest, and above which it is left as it is."""

REST_FRAMES = 16
"""Spectra on either side that such a power is a weighted mean of."""

QUIET_DB = -20.0
"""Seconds that far below the mean power do not count towards the mixture's level, as in BS.1770's relative gate."""


class Settings(BackendSettings):
    """What a preset may say to this backend.

    model: `compact`, or the name of a model of your own (see `gbsep train`).
    """

    model: str = "compact"


def stem_names(settings: Settings, models_dir: Path | None = None) -> tuple[str, ...]:
    return ("bass", "guitar")


def identity(settings: Settings, context: Context) -> dict[str, Any]:
    """What changes the stems besides the settings. Raises WeightsMissing, or BackendError for broken weights."""
    found = _find(settings, context)
    models.check_once(found, lambda: load(found.files[0]))
    return {
        "engine": "torch",
        "precision": "float32",
        "device": pick_device(context.device),
        "threads": threads(),
        "weights": found.hashes,
        "weights_sha256": found.digest,
        "licence": found.licence,
        **versions("torch"),
    }


def run(reader: Reader, settings: Settings, context: Context) -> Iterator[dict[str, Block]]:
    """Yield the wanted stems' blocks. Raises WeightsMissing or BackendError for weights that are missing or damaged."""
    import torch

    torch.set_num_threads(threads())
    config, weights = load(_find(settings, context).files[0], pick_device(context.device))
    for stems in separate(reader, config, weights, context.progress):
        yield {name: stems[name] for name in context.wanted}


def _find(settings: Settings, context: Context) -> models.Found:
    return models.find(settings.model, "compact", context.models, download=False)


def save(path: Path, config: Config, weights: harmonic_net.Weights) -> None:
    """Write weights as float16 safetensors, with `config` in the metadata; never half a file."""
    import torch
    from safetensors.torch import save_file

    half = {name: value.detach().cpu().contiguous().to(torch.float16) for name, value in sorted(weights.items())}
    partial = path.with_name(f"{path.name}.part")
    save_file(half, partial, metadata={"config": json.dumps(asdict(config), sort_keys=True)})
    partial.replace(path)


def load(path: Path, device: str = "cpu") -> tuple[Config, harmonic_net.Weights]:
    """What `save` wrote, as float32. Raises BackendError for anything else."""
    import torch
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            config = harmonic_net.config_from(json.loads((file.metadata() or {})["config"]))
            weights = {name: file.get_tensor(name).to(device, torch.float32) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise BackendError(f"{path} holds no weights of the compact network: {error}") from error
    wanted = {name: value.shape for name, value in harmonic_net.new_weights(config, 0).items()}
    if {name: value.shape for name, value in weights.items()} != wanted:
        raise BackendError(f"{path}: its tensors do not fit the network that its metadata describes")
    return config, {name: harmonic_net.laid_out(value) for name, value in weights.items()}


def separate(
    reader: Reader,
    config: Config,
    weights: harmonic_net.Weights,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Iterator[dict[str, Block]]:
    """Yield blocks of `bass` and `guitar`, in the reader's sample rate and channels.

    Raises SeparationFailed when the network gives samples that are not finite.
    """
    low = files.resample(reader, config.sample_rate)
    bass = _bass(low, config, weights, _level(low), progress)
    bass = files.resample_blocks(bass, config.sample_rate, reader.sample_rate, reader.channels, reader.frames)
    for mixture, block in zip(rechunk(reader.blocks(), BLOCK_FRAMES), rechunk(bass, BLOCK_FRAMES), strict=True):
        if not np.isfinite(block).all():
            raise SeparationFailed("the network gave samples that are NaN or infinite: its weights are unusable")
        yield {"bass": block, "guitar": mixture - block}


def _level(low: Reader) -> float:
    """RMS of mid and side together over the seconds that are not quiet; 0 for silence."""
    power = np.array(
        [np.mean(np.square(_mid_side(block), dtype=np.float64)) for block in rechunk(low.blocks(), low.sample_rate)]
    )
    loud = power[power >= power.mean() * 10 ** (QUIET_DB / 10)]
    return float(np.sqrt(loud.mean()))


def _bass(
    low: Reader, config: Config, weights: harmonic_net.Weights, level: float, progress: Callable[[float], None]
) -> Iterator[Block]:
    """The bass at the network's own rate."""
    import torch

    grid = config.grid_frames
    margin = -(-((config.context + REST_FRAMES) * config.hop_length + config.n_fft) // grid) * grid
    piece = max(1, round(PIECE_S * config.sample_rate / grid)) * grid
    scale = 1.0 / max(level, 1e-9)
    silence = np.zeros((low.channels, margin), np.float32)
    device = next(iter(weights.values())).device
    before, done = silence, 0
    pieces = rechunk(low.blocks(), piece)
    current: Block | None = next(pieces)
    while current is not None:
        following = next(pieces, None)
        after = silence if following is None else np.concatenate([following, silence], axis=1)[:, :margin]
        to_grid = silence[:, : -current.shape[1] % grid]
        whole = np.concatenate([before, current, after, to_grid], axis=1)
        with torch.inference_mode():
            waves = torch.from_numpy(_mid_side(whole) * np.float32(scale)).to(device)[None]
            mixture = harmonic_net.spectrum(config, waves)
            bass = rests_settled(mixture, harmonic_net.bass_spectrum(config, weights, mixture))
            made = harmonic_net.waves(config, bass, whole.shape[1])[0].cpu().numpy() / np.float32(scale)
        made = made[:, margin : margin + current.shape[1]]
        yield made[:1] if low.channels == 1 else np.stack([made[0] + made[1], made[0] - made[1]])
        done += current.shape[1]
        progress(done / low.frames)
        before, current = np.concatenate([before, current], axis=1)[:, -margin:], following


def rests_settled(mixture: torch.Tensor, bass: torch.Tensor) -> torch.Tensor:
    """`bass` (batch, 2, bins, frames): all of `mixture` in its bins where the guitar rests, none where the bass does.

    Between SHUT_DB and OPEN_DB of the mixture's power in these bins the change is gradual.
    """
    import torch

    guitar = mixture[:, :, : bass.shape[2]] - bass
    window = torch.hann_window(2 * REST_FRAMES + 3, periodic=False, device=bass.device)[None, None, 1:-1]

    def power(spectra: torch.Tensor) -> torch.Tensor:
        by_frame = spectra.abs().square().sum(dim=(1, 2))[:, None]
        return torch.nn.functional.conv1d(by_frame, window, padding=REST_FRAMES)

    powers = power(bass), power(guitar)
    bass_open, guitar_open = (
        ((10 * (one / (sum(powers) + 1e-12)).log10() - SHUT_DB) / (OPEN_DB - SHUT_DB)).clamp(0, 1)[:, None]
        for one in powers
    )
    return bass_open * (bass + (1 - guitar_open) * guitar)


def _mid_side(block: Block) -> np.ndarray:
    """Mid and side, float32 (2, n), of a mono or stereo block."""
    left, right = block[0], block[-1]
    return np.stack([(left + right) * np.float32(0.5), (left - right) * np.float32(0.5)])
