"""Open-Unmix: a bidirectional LSTM per target estimates magnitudes, a multichannel Wiener filter does the rest.

Conventions: T is the number of spectrogram frames, F of bins, C = 2 channels, J of targets, H the hidden size.
Magnitudes are float32, spectra complex. The mixture is brought to the model's sample rate and to stereo, and what
comes out back to the mixture's own.

Memory is bounded by WIENER_FRAMES spectrogram frames, and the result is that of the whole track at once: a forward
LSTM hands its state from one piece to the next, a backward one does the same from the end, and what lies between the
layers waits in unnamed temporary files (2 H to 3 H float32 values per frame and one target, H for each finished one).

References
- network: see network.py
- filter: Duong, Vincent, Gribonval, "Under-determined reverberant audio source separation using a full-rank spatial
  covariance model", IEEE TASLP 18(7), 2010, in the form of Uhlich et al., ICASSP 2017; each WIENER_FRAMES frames on
  their own, as published.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from ...audio import Audio, Block, Reader
from ...errors import BackendError, ParameterError, SeparationFailed, SmallFileError, nearest
from ...io.resample import resample, resample_blocks
from ...models.catalogue import MODELS
from ...models.find import Found
from ...models.package import load_state
from ...models.verify import check_once
from ...store import smallfiles
from ..backend import Context
from ..compute import pick_device, threads, versions
from ..settings import BackendSettings
from ..weights import find, find_for
from . import network as openunmix_network
from .network import Network
from .spectra import Transform, istft, stft
from .weights import target_of
from .wiener import WIENER_FRAMES, wiener

if TYPE_CHECKING:
    import torch


MAX_N_FFT = 2**14


class Settings(BackendSettings):
    """The settings of this backend in a preset.

    model: umx, umxhq, umxl, or a model of your own.
    niter: passes of expectation-maximisation in the filter; 0 gives the networks' own estimates.
    residual: let the filter give what no target explains to a source of its own.
    """

    model: str = "umxl"
    niter: Annotated[int, Field(ge=0, le=20)] = 1
    residual: bool = False


def stem_names(settings: Settings, models_dir: Path | None = None) -> tuple[str, ...]:
    """A published model's targets from the table, another's from its files (raises WeightsMissing without them)."""
    if settings.model in MODELS:
        return MODELS[settings.model].stems
    return tuple(target_of(path) for path in find(settings.model, "openunmix", models_dir).files)


def identity(settings: Settings, context: Context) -> dict[str, Any]:
    """What changes the stems besides the settings. Raises WeightsMissing, or BackendError for damaged files."""
    found = find(settings.model, "openunmix", context.models, download=context.download, progress=context.progress)
    transform = _transform(found)
    check_once(found, lambda: deque(_networks(found, transform), 0), f"{transform.bins} bins")
    return {
        "engine": "torch",
        "precision": "float32",
        "device": pick_device(context.device),
        "threads": threads(),
        "weights": found.hashes,
        "weights_sha256": found.digest,
        "transform": asdict(transform),
        "licence": found.licence,
        **versions("torch"),
    }


def run(reader: Reader, settings: Settings, context: Context) -> Iterator[dict[str, Block]]:
    """Yield the wanted stems' blocks; every target's network runs first, so the first block takes a while.

    Raises WeightsMissing or BackendError for missing or damaged weights, ParameterError for a stem that is no target of
    the model, SeparationFailed for stems that are not finite.
    """
    networks, transform = load(find_for(context, settings.model, "openunmix"), pick_device(context.device))
    for name in context.wanted:
        if name not in networks:
            raise ParameterError("stem", name, f"{settings.model} does not give it{nearest(name, networks)}")
    if len(networks) == 1 and settings.niter and not settings.residual:
        raise ParameterError(
            "residual", False, f"{settings.model} has one target, which the filter would give all of the mixture; true"
        )
    yield from separate(
        reader, networks, transform, context.wanted, settings.niter, settings.residual, context.progress
    )


# The network over a track


@dataclass(frozen=True, eq=False)
class Rows:
    """A table of float32 rows in a file, written and read in pieces."""

    file: IO[bytes]
    width: int

    def write(self, first: int, rows: torch.Tensor) -> None:
        try:
            self.file.seek(first * self.width * 4)
            self.file.write(rows.cpu().contiguous().numpy().data)
        except OSError as error:
            place = tempfile.gettempdir()
            raise SeparationFailed(f"{place}: {error.strerror}; make room, or name another with TMPDIR") from error

    def read(self, first: int, stop: int) -> torch.Tensor:
        import torch

        rows = torch.empty(stop - first, self.width)
        self.file.seek(first * self.width * 4)
        self.file.readinto(rows.numpy().data)  # type: ignore[attr-defined]
        return rows


def compute_features(
    network: Network, spectra: Iterable[torch.Tensor], features: Rows, step: Callable[[], None] = lambda: None
) -> None:
    """Run all of a network but its last layer over a track of spectra (C, F, n <= WIENER_FRAMES) into `features`.

    One reading forward encodes the spectra; then each layer reads what the one before it left on disk, once in either
    direction. `step` is called after each piece.
    """
    import torch

    hidden_size, device = network.hidden_size, network.device
    total = 0
    for spectrum in spectra:
        features.write(total, openunmix_network.encode(network, spectrum.abs().to(device)))
        total += spectrum.shape[2]
        step()
    pieces = [(first, min(first + WIENER_FRAMES, total)) for first in range(0, total, WIENER_FRAMES)]

    with contextlib.ExitStack() as scratch, torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        pairs = [
            [Rows(scratch.enter_context(tempfile.TemporaryFile()), hidden_size // 2) for _ in range(2)]
            for _ in range(2)
        ]
        inputs = [features]
        for layer, outputs in zip(network.layers, itertools.cycle(pairs)):
            for lstm, output, backward in zip(layer, outputs, (False, True), strict=True):
                state = None
                for first, stop in reversed(pieces) if backward else pieces:
                    x = torch.cat([rows.read(first, stop) for rows in inputs], 1).to(device)
                    y, state = lstm(x.flip(0) if backward else x, state)
                    output.write(first, y.flip(0) if backward else y)
                    step()
            inputs = outputs
        for first, stop in pieces:
            encoded, *recurrent = (rows.read(first, stop).to(device) for rows in (features, *inputs))
            features.write(first, openunmix_network.squeeze(network, encoded, torch.cat(recurrent, 1)))
            step()


# A track


@lru_cache(maxsize=1)
def load(found: Found, device: str = "cpu") -> tuple[dict[str, Network], Transform]:
    """The networks of a model, one per target, and its transform; kept for the next song of a batch."""
    transform = _transform(found)
    return dict(_networks(found, transform, device)), transform


def _networks(found: Found, transform: Transform, device: str = "cpu") -> Iterator[tuple[str, Network]]:
    """Target and network of each file, one after the other."""
    for path in found.files:
        state = load_state(path)
        try:
            network = openunmix_network.build(state, transform.bins, device)
        except BackendError as error:
            raise BackendError(f"{path}: {error}") from None
        yield target_of(path), network


def _transform(found: Found) -> Transform:
    """What a `separator.json` beside the weights says; the published models' transform without one."""
    path = found.files[0].parent / "separator.json"
    if not path.is_file():
        return Transform()
    try:
        content = smallfiles.read_json(path, 1_000_000)
        sizes = {key: content[key] for key in ("sample_rate", "nfft", "nhop", "nb_channels")}
        rate, n_fft, hop_length, channels = (int(size) for size in sizes.values())
    except SmallFileError as error:
        raise BackendError(f"{path} is not Open-Unmix's description of a model: {error.reason}") from error
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise BackendError(f"{path} is not Open-Unmix's description of a model: {error!r}") from error
    if not (
        8000 <= rate <= 192000
        and 64 <= n_fft <= MAX_N_FFT
        and n_fft % 2 == 0
        and n_fft // 8 <= hop_length <= n_fft // 2
    ):
        raise BackendError(
            f"{path}: {sizes} is out of range; allowed are a sample_rate of 8000 to 192000 Hz, an even nfft of 64 to "
            f"{MAX_N_FFT} and an nhop of an eighth to half of it"
        )
    if channels != 2:
        raise BackendError(f"{path}: nb_channels is {channels}; only stereo models (2) can be used")
    return Transform(rate, n_fft, hop_length)


def separate(
    reader: Reader,
    networks: Mapping[str, Network],
    transform: Transform,
    wanted: Sequence[str],
    niter: int = 1,
    residual: bool = False,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Iterator[dict[str, Block]]:
    """Yield blocks of the wanted targets, in the reader's sample rate and channels.

    All `networks` run, whatever is wanted, for the filter weighs the targets against each other. A mono track is given
    to both channels, and the mean of both comes back. One too short for the transform is followed by silence.
    """
    source = resample(reader, transform.sample_rate)
    frames = source.frames
    if frames < transform.shortest:
        padding = ((0, 0), (0, transform.shortest - frames))
        source = Audio(np.pad(source.read().samples, padding), source.sample_rate).reader()
    pieces = -(-(1 + source.frames // transform.hop_length) // WIENER_FRAMES)
    steps = pieces * (1 + sum(2 + 2 * len(network.layers) for network in networks.values()))
    done = itertools.count(1)

    def step() -> None:
        progress(next(done) / steps)

    def mixture() -> Iterator[torch.Tensor]:
        return stft((np.broadcast_to(block, (2, block.shape[1])) for block in source.blocks()), transform)

    _check_room(source.frames // transform.hop_length, networks)
    with contextlib.ExitStack() as stack:
        features = {}
        for target, network in networks.items():
            features[target] = Rows(stack.enter_context(tempfile.TemporaryFile()), network.hidden_size)
            compute_features(network, mixture(), features[target], step)
        estimates = _estimates(mixture(), networks, features, wanted, niter, residual, step)
        blocks = (
            block if reader.channels == 2 else block.reshape(-1, 2, block.shape[1]).mean(1)
            for block in istft(estimates, transform, frames)
        )
        channels = len(wanted) * reader.channels
        for block in resample_blocks(blocks, transform.sample_rate, reader.sample_rate, channels, reader.frames):
            if not np.isfinite(block).all():
                raise SeparationFailed("the network gave samples that are NaN or infinite: its weights are unusable")
            yield dict(zip(wanted, np.split(block, len(wanted)), strict=True))


def _check_room(count: int, networks: Mapping[str, Network]) -> None:
    """Raise SeparationFailed when the features of `count` frames, and what one network needs beside, have no room."""
    sizes = [network.hidden_size for network in networks.values()]
    needed, free = 4 * count * (sum(sizes) + 2 * max(sizes)), shutil.disk_usage(tempfile.gettempdir()).free
    if needed > free:
        raise SeparationFailed(
            f"{needed / 1e9:.1f} GB of temporary files are needed and {tempfile.gettempdir()} has room for "
            f"{free / 1e9:.1f} GB: make room, or name another folder with TMPDIR"
        )


def _estimates(
    mixture: Iterable[torch.Tensor],
    networks: Mapping[str, Network],
    features: Mapping[str, Rows],
    wanted: Sequence[str],
    niter: int,
    residual: bool,
    step: Callable[[], None],
) -> Iterator[list[torch.Tensor]]:
    """Spectra (F, n) of the wanted targets' channels from the mixture's (C, F, n) and all targets' features."""
    import torch

    chosen = [list(networks).index(name) for name in wanted]
    first = 0
    # One array for all pieces: so large a one, made anew each time, would leave ever more holes in the heap.
    buffer = torch.empty(0)
    for spectrum in mixture:
        stop = first + spectrum.shape[2]
        magnitudes = buffer.resize_(len(networks), *spectrum.shape)
        for target, (name, network) in zip(magnitudes, networks.items(), strict=True):
            target[:] = openunmix_network.decode(network, features[name].read(first, stop), spectrum.abs())
        estimates = wiener(magnitudes, spectrum, niter, residual)
        yield [channel for index in chosen for channel in estimates[index]]
        first = stop
        step()
