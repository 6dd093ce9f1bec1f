"""Training on songs of one's own: the embedded network, or a Demucs checkpoint.

A song is a folder with `bass.*`, and `guitar.*` or the parts `guitar<N>.*`. A Demucs checkpoint keeps its sources: bass
learns the bass; the guitar goes to `guitar` where the checkpoint has one, else to `other`; all further sources learn
silence. Its excerpts are read from disk as they are wanted, so memory does not grow with the songs; the embedded
network's songs are held at its own low rate. Demucs' loss is the mean absolute error of the waveforms, as the published
checkpoints were trained with (Rouard, Massa & Défossez, ICASSP 2023), and its optimiser theirs, Adam.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..atomic import write_whole
from ..audio import Audio
from ..errors import BackendError, OutputError, ParameterError
from ..io.probe import probe
from ..io.read import read
from ..io.resample import resample
from ..models import catalogue
from ..models.package import Package, load_package
from ..models.verify import trust
from ..separation.compact import network as compact_network
from ..separation.compact import weights as compact_weights
from ..separation.compact.weights import is_compact
from ..separation.demucs import network as demucs_network
from ..separation.weights import find, own_models
from ..stemnames import BASS, partners
from ..store.identity import Stamp, content_hash, json_hash
from . import mixing
from .loop import Job, Plan, State
from .objective import compact_job
from .pool import from_songs, song_stems

if TYPE_CHECKING:
    import torch

PLANS = {
    "compact": Plan(500, batch_size=6, excerpt_s=4.0, learning_rate=3e-4, warmup=20, cooldown=250),
    "demucs": Plan(500, batch_size=2, learning_rate=1e-4, warmup=20, cooldown=250, half=False, muon=False),
}
"""The default plan for fine-tuning models of each backend."""


def find_start(
    name: str, models_dir: Path | None = None, progress: Callable[[float], None] = lambda fraction: None
) -> tuple[str, Path]:
    """(backend, file) of the weights to begin from: a model by name, downloaded if need be, or a file.

    Raises ParameterError for what cannot be trained, WeightsMissing for what is not here.
    """
    path = Path(name).expanduser()
    if path.suffix in (".safetensors", ".th"):
        if not path.is_file():
            raise ParameterError("from", name, "no such file; name a weight file or a model")
        return ("compact" if is_compact(path) else "demucs"), path
    known = catalogue.published(name)
    own = {} if known else own_models(models_dir)
    if path.is_file() and name not in own and not known:
        raise ParameterError("from", name, "a weight file ends in .safetensors or .th")
    catalogue.check_name(name, "from")
    backend = known.backend if known else own.get(name, "compact")
    if backend not in PLANS:
        raise ParameterError("from", name, f"it is a model of {backend}; only those of {' and '.join(PLANS)} can learn")
    found = find(name, backend, models_dir, progress=progress)
    if len(found.files) > 1:
        reason = (
            f"it is a bag of {len(found.files)} networks; name one of its files: {', '.join(map(str, found.files))}"
        )
        raise ParameterError("from", name, reason)
    return backend, found.files[0]


def find_target(out: str, models_dir: Path | None = None) -> Path:
    """Where a trained model goes: a .safetensors file, or a name in `models_dir`, GBSEP_MODELS or gbsep's own folder.

    Raises OutputError when something is there, ParameterError for a published model's name, which would hide it.
    """
    path = Path(out).expanduser()
    if path.suffix != ".safetensors":
        given = models_dir or os.environ.get("GBSEP_MODELS")
        catalogue.check_name(out, "out", "; or a file that ends in .safetensors")
        path = (Path(given).expanduser() if given else catalogue.data_dir()) / f"{out}.safetensors"
    if catalogue.published(path.stem):
        raise ParameterError("out", out, f"{path.stem} is a published model; choose another name")
    if path.exists():
        raise OutputError(path, "is there already; choose another name with --out, or remove it")
    return path


def songs_job(backend: str, start: Path, songs: Path, plan: Plan, device: str = "cpu") -> Job:
    """Go on from the weights `start` on the `songs`. The batch size, excerpt length, rate and clip are the plan's.

    Raises AudioFileError for songs that lack a stem or have unequal ones, BackendError for weights that cannot be used.
    """
    stems = song_stems(songs)
    about = {"from": content_hash(start), "songs": _fingerprint(songs, stems), "plan": asdict(plan)}
    if backend == "compact":
        config, weights = compact_weights.load(start)
        sources = mixing.on_device(from_songs(songs, config), [], config.sample_rate, device, finished=True)
        return compact_job(config, compact_network.tensors(weights, device), sources, plan, about)
    return _demucs_job(start, stems, plan, about, device)


def finish(job: Job, state: State, target: Path) -> None:
    """Write the trained model, which is trusted from then on. Raises OutputError when another came there meanwhile."""
    if os.path.lexists(target):
        raise OutputError(target, "has come there meanwhile; move it away, and the same command ends this training")
    job.write(target, state.averages)
    trust(target)


def _fingerprint(folder: Path, songs: Iterable[tuple[Path, list[Path]]]) -> str:
    """What tells one set of songs from another: names, sizes and times of their files."""
    paths = [path for bass, guitars in songs for path in (bass, *guitars)]
    seen = [(str(path.relative_to(folder)), *Stamp.of(path.stat())[:2]) for path in paths]
    return json_hash(seen)


def _demucs_job(
    checkpoint: Path, songs: list[tuple[Path, list[Path]]], plan: Plan, about: dict[str, Any], device: str
) -> Job:
    """Excerpts are as long as the network's segment, or as the plan's when that is shorter."""
    import torch

    package = load_package(checkpoint)
    network = demucs_network.build(package).to(device).train()
    places = _places(list(network.sources))
    plan = replace(plan, excerpt_s=min(plan.excerpt_s, float(network.segment)))

    def loss(weights: dict[str, torch.Tensor], step: int) -> tuple[torch.Tensor, torch.Tensor]:
        torch.manual_seed(plan.seed * 1_000_003 + step)
        truth = torch.from_numpy(_batch(songs, plan, step, places, len(network.sources), network.samplerate)).to(device)
        error = (torch.func.functional_call(network, weights, (truth.sum(dim=1),)) - truth).abs().mean()
        return error, error

    def write(path: Path, weights: dict[str, torch.Tensor]) -> None:
        write_package(path, package, {**network.state_dict(), **weights})

    weights = {name: value.detach() for name, value in network.named_parameters() if value.is_floating_point()}
    return Job(about, weights, loss, write)


def _places(sources: list[str]) -> tuple[int, int]:
    """Where bass and guitar stand among a checkpoint's sources."""
    guitars = partners(sources)
    if BASS not in sources or not guitars:
        raise BackendError(f"a checkpoint for {', '.join(sources)} has no place for bass and guitar")
    return sources.index(BASS), sources.index(guitars[0])


def _batch(
    songs: list[tuple[Path, list[Path]]], plan: Plan, step: int, places: tuple[int, int], sources: int, sample_rate: int
) -> np.ndarray:
    """True sources, float32 (batch_size, sources, 2, frames), scaled to a standard deviation of 1 for the mixture.

    Levels move by up to 3 dB each, channels swap and polarity turns at random.
    """
    rng = np.random.default_rng([plan.seed, step])
    frames = round(plan.excerpt_s * sample_rate)
    truth = np.zeros((plan.batch_size, sources, 2, frames), np.float32)
    for excerpt in truth:
        bass, guitars = songs[int(rng.integers(len(songs)))]
        info = probe(bass)
        start_s = rng.uniform(0, max(0.0, info.seconds - plan.excerpt_s))
        for place, paths in zip(places, ([bass], guitars), strict=True):
            gain = 10 ** (rng.uniform(-3, 3) / 20) * rng.choice([-1.0, 1.0])
            for path in paths:
                excerpt[place] += gain * _excerpt(path, start_s, plan.excerpt_s, sample_rate, frames)
        if rng.random() < 0.5:
            excerpt[:] = excerpt[:, ::-1]
        excerpt /= excerpt.sum(axis=0).std() + 1e-4
    return truth


def _excerpt(path: Path, start_s: float, duration_s: float, sample_rate: int, frames: int) -> np.ndarray:
    """Float32 (2, frames) from `start_s` on, silence after the file's end."""
    seconds = probe(path).seconds
    if start_s >= seconds:
        return np.zeros((2, frames), np.float32)
    audio = read(path, start_s, min(duration_s, seconds - start_s))
    samples = resample(Audio(audio.samples, audio.sample_rate).reader(), sample_rate).read().samples[:, :frames]
    return np.pad(np.broadcast_to(samples, (2, samples.shape[1])), ((0, 0), (0, frames - samples.shape[1])))


def write_package(path: Path, package: Package, state: dict[str, torch.Tensor]) -> None:
    """Write a Demucs network in the hub's format: `package`'s class and arguments with the tensors of `state`."""
    from safetensors.torch import save as packed

    metadata = {
        "klass": package.architecture,
        "args": json.dumps(_encode(list(package.args))),
        "kwargs": json.dumps(_encode(package.kwargs)),
    }
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    write_whole(path, packed(tensors, metadata=metadata))


def _encode(value: Any) -> Any:
    """The hub's JSON form of arguments: a fraction is an object of its own."""
    if isinstance(value, Fraction):
        return {"_type": "fraction", "numerator": value.numerator, "denominator": value.denominator}
    if isinstance(value, dict):
        return {key: _encode(item) for key, item in value.items()}
    return [_encode(item) for item in value] if isinstance(value, (list, tuple)) else value
