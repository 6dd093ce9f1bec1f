"""Open-Unmix: a bidirectional LSTM per target estimates magnitudes, a multichannel Wiener filter does the rest.

Conventions: T is the number of spectrogram frames, F of bins, C = 2 channels, J of targets, H the hidden size.
Magnitudes are float32, spectra complex. The mixture is brought to the model's sample rate and to stereo, and what
comes out back to the mixture's own.

Memory is bounded by WIENER_FRAMES spectrogram frames, and the result is that of the whole track at once: a forward
LSTM hands its state from one piece to the next, a backward one does the same from the end, and what lies between the
layers waits in unnamed temporary files (2 H to 3 H float32 values per frame and one target, H for each finished one).

References
- network: see openunmix_network
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
from .weights import target_of

if TYPE_CHECKING:
    import torch

WIENER_FRAMES = 300
"""Spectrogram frames that the filter looks at together, 7 s at the published hop: part of the published method."""

EPS = 1e-10
"""Power below which a bin counts as silent; its root is the noise the filter assumes in each channel."""

MAX_N_FFT = 2**14


class Settings(BackendSettings):
    """What a preset may say to this backend.

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


# The filter


def wiener(magnitudes: torch.Tensor, mixture: torch.Tensor, niter: int, residual: bool = False) -> torch.Tensor:
    """Share out a stereo mixture among sources of roughly known magnitudes.

    magnitudes: (J, C, F, T); mixture: complex (C, F, T). Returns complex64 (J, C, F, T), computed in double precision,
    for channels that are alike make the covariances nearly singular. With `niter` 0 the magnitudes get the mixture's
    phase. Otherwise each pass estimates, per source and bin, its power over time and one spatial covariance, and
    filters the mixture accordingly, so that the sources sum to the mixture, less EPS. `residual` adds the rest of the
    mixture as one more source while filtering; it is not returned.
    """
    import torch

    scale = max(1.0, mixture.abs().max().item() / 10.0)
    estimates = torch.empty(magnitudes.shape, dtype=torch.complex64)
    for first in range(0, mixture.shape[1], 32):  # bins are independent; few at a time stay in the processor's cache
        bins = slice(first, first + 32)
        x = mixture[:, bins].to(torch.complex128)
        y = magnitudes[:, :, bins] * torch.where(x == 0, 1.0, x / x.abs())
        if residual:
            y = torch.cat([y, (x - y.sum(0))[None]])
        if niter:
            y = _expectation_maximisation(y / scale, x / scale, niter) * scale
        estimates[:, :, bins] = y[: len(magnitudes)]
    return estimates


def _expectation_maximisation(y: torch.Tensor, x: torch.Tensor, niter: int) -> torch.Tensor:
    """Refine source spectra y (J, 2, F, T) of the mixture x (2, F, T)."""
    for _ in range(niter):
        left, right = y[:, 0], y[:, 1]
        power = (left.abs().square() + right.abs().square()) / 2
        weight = EPS + power.sum(-1, keepdim=True)
        # The spatial covariance of each source and bin, (J, F, 1): Hermitian, so two real numbers and a complex one.
        r00 = left.abs().square().sum(-1, keepdim=True) / weight
        r11 = right.abs().square().sum(-1, keepdim=True) / weight
        r01 = (left * right.conj()).sum(-1, keepdim=True) / weight
        # The mixture's covariance, (F, T), and its inverse applied to the mixture.
        c00 = EPS**0.5 + (power * r00).sum(0)
        c11 = EPS**0.5 + (power * r11).sum(0)
        c01 = (power * r01).sum(0)
        determinant = c00 * c11 - c01.abs().square()
        u0 = (c11 * x[0] - c01 * x[1]) / determinant
        u1 = (c00 * x[1] - c01.conj() * x[0]) / determinant
        y[:, 0] = power * (r00 * u0 + r01 * u1)
        y[:, 1] = power * (r01.conj() * u0 + r11 * u1)
    return y


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


# Spectra in blocks


@dataclass(frozen=True)
class Transform:
    """The short-time Fourier transform of a model: Hann window, centred, the signal mirrored at both ends."""

    sample_rate: int = 44100
    n_fft: int = 4096
    hop_length: int = 1024

    @property
    def bins(self) -> int:
        return self.n_fft // 2 + 1

    @property
    def shortest(self) -> int:
        """Frames that a signal must have to be mirrored."""
        return self.n_fft // 2 + 1


def stft(blocks: Iterable[Block], transform: Transform) -> Iterator[torch.Tensor]:
    """Spectra (C, F, WIENER_FRAMES), the last one shorter, of a signal of at least `transform.shortest` frames."""
    import torch

    n_fft, hop_length = transform.n_fft, transform.hop_length
    window = torch.hann_window(n_fft)
    advance = WIENER_FRAMES * hop_length
    # One array for all pieces: new ones, as large as the blocks happen to be, would leave ever more holes in the heap.
    held = np.empty((2, advance - hop_length + n_fft), np.float32)
    filled = 0

    def transformed(samples: np.ndarray) -> torch.Tensor:
        return torch.stft(
            torch.from_numpy(samples), n_fft, hop_length, window=window, center=False, return_complex=True
        )

    for block in _mirrored(blocks, n_fft // 2):
        taken = 0
        while taken < block.shape[1]:
            count = min(block.shape[1] - taken, held.shape[1] - filled)
            held[:, filled : filled + count] = block[:, taken : taken + count]
            taken, filled = taken + count, filled + count
            if filled == held.shape[1]:
                yield transformed(held)
                filled -= advance
                held[:, :filled] = held[:, advance:].copy()
    if filled >= n_fft:
        yield transformed(held[:, :filled].copy())


def _mirrored(blocks: Iterable[Block], pad: int) -> Iterator[Block]:
    """The signal, which is longer than `pad` frames, with so many mirrored at either end."""
    last = np.zeros((2, 0), np.float32)
    begun = False
    for block in blocks:
        if not begun:
            block = np.concatenate([last, block], axis=1)
            begun = block.shape[1] > pad
            if not begun:
                last = block
                continue
            yield block[:, pad:0:-1]
        last = np.concatenate([last, block[:, -pad - 1 :]], axis=1)[:, -pad - 1 :]
        yield block
    yield last[:, -2::-1]


def istft(spectra: Iterable[Sequence[torch.Tensor]], transform: Transform, frames: int) -> Iterator[Block]:
    """The inverse: float32 (S, n), `frames` long in all, from S spectra (F, n) at a time."""
    import torch

    n_fft, hop_length = transform.n_fft, transform.hop_length
    window = torch.hann_window(n_fft)[:, None]

    def overlap_add(windows: torch.Tensor) -> torch.Tensor:
        length = hop_length * (windows.shape[1] - 1) + n_fft
        return torch.nn.functional.fold(windows[None], (1, length), (1, n_fft), stride=(1, hop_length))[0, 0, 0]

    held: torch.Tensor | None = None
    start, stop = n_fft // 2, n_fft // 2 + frames  # where the signal lies in what is still to come
    for spectrum in spectra:
        count = spectrum[0].shape[1]
        complete = hop_length * count
        # One more row adds up the squared window, by which the sums are divided in the end.
        total = torch.stack(
            [overlap_add(torch.fft.irfft(row, n_fft, dim=0) * window) for row in spectrum]
            + [overlap_add(window.square().expand(-1, count))]
        )
        if held is not None:
            total[:, : held.shape[1]] += held
        held = total[:, complete:]
        yield (total[:-1, start : min(complete, stop)] / total[-1:, start : min(complete, stop)]).numpy()
        start, stop = max(start - complete, 0), stop - complete
    if held is not None and stop > start:
        yield (held[:-1, start:stop] / held[-1:, start:stop]).numpy()


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
