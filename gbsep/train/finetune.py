"""Fine-tuning a Demucs checkpoint on songs of one's own.

A song is a folder with `bass.*`, and `guitar.*` or the parts `guitar<N>.*`. A checkpoint keeps its sources: bass learns
the bass; the guitar goes to `guitar` where the checkpoint has one, else to `other`; all further sources learn silence.
Excerpts are read from disk as they are wanted, so memory does not grow with the songs. Loss: mean absolute error of the
waveforms, as the published checkpoints were trained with (Rouard, Massa & Défossez, ICASSP 2023).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import files, models
from ..audio import Audio
from ..errors import BackendError, OutputError
from ..separation import demucs_network
from .loop import Plan
from .pool import song_stems

if TYPE_CHECKING:
    import torch


def finetune_demucs(
    checkpoint: Path, songs: Path, target: Path, plan: Plan, device: str = "cpu"
) -> Iterator[tuple[int, float]]:
    """Train `checkpoint` on `songs` for plan.steps; yields (step, loss) after each and then writes `target`.

    The batch size, excerpt length, learning rate and clip are the plan's. `target` is in the hub's safetensors format:
    `<folder>/<name>.safetensors` is a model that `--models <folder>` finds by name. Raises OutputError when `target`
    exists, BackendError for a checkpoint without places for bass and guitar, AudioFileError for songs that lack a stem.
    """
    import torch

    if target.exists():
        raise OutputError(target, "is there already; choose another name, the original stays as it is")
    package = models.load_package(checkpoint)
    network = demucs_network.build(package).to(device).train().requires_grad_(True)
    places = _places(list(network.sources))
    stems = song_stems(songs)
    parameters = [parameter for parameter in network.parameters() if parameter.is_floating_point()]
    optimiser = torch.optim.Adam(parameters, lr=plan.learning_rate)
    torch.manual_seed(plan.seed)
    for step in range(plan.steps):
        for group in optimiser.param_groups:
            group["lr"] = plan.rate(step)
        truth = torch.from_numpy(_batch(stems, plan, step, places, len(network.sources), network.samplerate)).to(device)
        loss = (network(truth.sum(dim=1)) - truth).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, plan.clip)
        optimiser.step()
        yield step + 1, loss.item()
    write_package(target, package, network.state_dict())


def _places(sources: list[str]) -> tuple[int, int]:
    """Where bass and guitar stand among a checkpoint's sources."""
    guitar = "guitar" if "guitar" in sources else "other"
    if "bass" not in sources or guitar not in sources:
        raise BackendError(f"a checkpoint for {', '.join(sources)} has no place for bass and guitar")
    return sources.index("bass"), sources.index(guitar)


def _batch(
    songs: list[tuple[Path, list[Path]]], plan: Plan, step: int, places: tuple[int, int], sources: int, sample_rate: int
) -> np.ndarray:
    """Truth of every source, float32 (batch_size, sources, 2, frames), the mixture's standard deviation one.

    Levels move by up to 3 dB each, channels swap and polarity turns at random.
    """
    rng = np.random.default_rng([plan.seed, step])
    frames = round(plan.excerpt_s * sample_rate)
    truth = np.zeros((plan.batch_size, sources, 2, frames), np.float32)
    for one in truth:
        bass, guitars = songs[int(rng.integers(len(songs)))]
        info = files.probe(bass)
        start_s = rng.uniform(0, max(0.0, info.seconds - plan.excerpt_s))
        for place, paths in zip(places, ([bass], guitars), strict=True):
            gain = 10 ** (rng.uniform(-3, 3) / 20) * rng.choice([-1.0, 1.0])
            for path in paths:
                one[place] += gain * _excerpt(path, start_s, plan.excerpt_s, sample_rate, frames)
        if rng.random() < 0.5:
            one[:] = one[:, ::-1]
        one /= one.sum(axis=0).std() + 1e-4
    return truth


def _excerpt(path: Path, start_s: float, duration_s: float, sample_rate: int, frames: int) -> np.ndarray:
    """Float32 (2, frames) from `start_s` on, silence after the file's end."""
    seconds = files.probe(path).seconds
    if start_s >= seconds:
        return np.zeros((2, frames), np.float32)
    audio = files.read(path, start_s, min(duration_s, seconds - start_s))
    samples = files.resample(Audio(audio.samples, audio.sample_rate).reader(), sample_rate).read().samples[:, :frames]
    return np.pad(np.broadcast_to(samples, (2, samples.shape[1])), ((0, 0), (0, frames - samples.shape[1])))


def write_package(path: Path, package: models.Package, state: dict[str, torch.Tensor]) -> None:
    """Write a Demucs network in the hub's format: `package`'s class and arguments with the tensors of `state`."""
    from safetensors.torch import save_file

    metadata = {
        "klass": package.architecture,
        "args": json.dumps(_encode(list(package.args))),
        "kwargs": json.dumps(_encode(package.kwargs)),
    }
    partial = path.with_suffix(".part")
    save_file({name: value.detach().cpu().contiguous() for name, value in state.items()}, partial, metadata=metadata)
    partial.replace(path)


def _encode(value: Any) -> Any:
    """The hub's JSON form of arguments: a fraction is an object of its own."""
    if isinstance(value, Fraction):
        return {"_type": "fraction", "numerator": value.numerator, "denominator": value.denominator}
    if isinstance(value, dict):
        return {key: _encode(item) for key, item in value.items()}
    return [_encode(item) for item in value] if isinstance(value, (list, tuple)) else value
