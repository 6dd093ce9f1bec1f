"""The network of the `compact` backend: which part of each spectral bin belongs to the bass.

Conventions
- It hears one channel at Config.sample_rate, as complex short-time spectra (batch, bins, frames) of a Hann window
  scaled by 2 / n_fft. What a stereo picture adds is geometry and needs no network (see `places`).
- Pitch has an axis of its own, `bins_per_octave` to the octave. Harmonic number h of every pitch is gathered from
  the linear spectrum on the way in and laid back at h times the pitch on the way out (Bittner et al., "Deep salience
  representations for f0 estimation", 2017), so weights are shared over pitch and a note is seen as a whole.
- Between the two, a U-net of dilated convolutions looks at about three and a half seconds either side. All context is
  finite: Config.context frames, so a piece with that much around it comes out as in the whole.
- It gives complex filter coefficients over `taps` neighbouring frames (Mack & Habets, "Deep filtering", 2019), not a
  mask, so partials that beat within a bin can be told apart.

Weights are a plain {name: tensor}; every function here is a pure function of them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

Weights = dict[str, "torch.Tensor"]

FEATURES = 3
"""Local features of a bin: its level and its complex phase advance."""


@dataclass(frozen=True)
class Config:
    """The network's shape; kept with its weights.

    bins: how many bins, from 0 Hz, can hold bass; gathered and harmonics: how many a pitch sees and is laid out to;
    widths: channels of the U-net's levels; dilations: of each block of the deepest level, in pitch and in time.
    """

    sample_rate: int = 8000
    n_fft: int = 1024
    hop_length: int = 256
    bins: int = 320
    lowest_hz: float = 27.5
    bins_per_octave: int = 36
    pitches: int = 192
    gathered: int = 16
    harmonics: int = 16
    widths: tuple[int, int, int] = (32, 64, 128)
    dilations: tuple[tuple[int, int], ...] = ((1, 1), (2, 2), (4, 4), (1, 1), (4, 1), (2, 1), (1, 2), (1, 1))
    projected: int = 8
    head: int = 32
    taps: int = 3

    @property
    def context(self) -> int:
        """Frames on either side that an output frame can depend on."""
        deep = 4 * (2 * sum(in_time for _, in_time in self.dilations) + 1)
        middle = 2 * (2 * 2 + 2)
        top = 1 + 2
        return deep + middle + top + 2 + self.taps // 2 + 4 + 1

    @property
    def grid_frames(self) -> int:
        """Frames of sound between places where a piece may begin: the deepest level's step."""
        return 4 * self.hop_length


def config_from(values: dict[str, Any]) -> Config:
    """A Config from its JSON form. Raises TypeError or ValueError for unknown keys or values that are no sizes."""
    config = Config(**{name: _tuples(value) for name, value in values.items()})
    plain = [value for name, value in asdict(config).items() if name not in ("widths", "dilations", "lowest_hz")]
    pairs = config.dilations
    sizes = [*plain, *config.widths, *(size for pair in pairs for size in pair)]
    if not all(isinstance(size, int) and 0 < size <= 2**16 for size in sizes):
        raise ValueError(f"{values} is no shape of a network")
    if len(config.widths) != 3 or not pairs or any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"{values} is no shape of a network")
    if config.bins > config.n_fft // 2 or config.pitches % 4 or not 0 < config.lowest_hz < config.sample_rate / 2:
        raise ValueError(f"{values} is no shape of a network")
    return config


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def laid_out(value: torch.Tensor) -> torch.Tensor:
    """`value` in the memory order that convolutions are fastest in."""
    import torch

    return value.contiguous(memory_format=torch.channels_last) if value.dim() == 4 else value


@lru_cache(maxsize=4)
def _harmonic_maps(config: Config, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """(gather, spread): (gathered * pitches, n_fft // 2) reads harmonics, (bins, harmonics * pitches) lays them out.

    `spread` is sparse: in each row two numbers for each harmonic.
    """
    import torch

    bin_hz = config.sample_rate / config.n_fft
    pitch_hz = config.lowest_hz * 2 ** (np.arange(config.pitches) / config.bins_per_octave)
    gather = _interpolation(np.outer(np.arange(1, config.gathered + 1), pitch_hz).ravel() / bin_hz, config.n_fft // 2)
    bin_centre_hz = np.maximum(np.arange(config.bins), 0.5) * bin_hz
    spread = [
        _interpolation(
            config.bins_per_octave * np.log2(bin_centre_hz / h / config.lowest_hz),
            config.pitches,
        )
        for h in range(1, config.harmonics + 1)
    ]
    # Made for keeps: whoever asks first may be in inference mode, and whoever asks next may be training.
    with torch.inference_mode(False):
        return (
            torch.tensor(gather, dtype=torch.float32, device=device),
            torch.tensor(np.concatenate(spread, axis=1), dtype=torch.float32, device=device).to_sparse().coalesce(),
        )


def _interpolation(places: np.ndarray, length: int) -> np.ndarray:
    """Matrix (len(places), length) that reads a signal of `length` at fractional places; zero outside it."""
    matrix = np.zeros((len(places), length))
    inside = np.flatnonzero((places >= 0) & (places <= length - 1))
    low = np.minimum(np.floor(places[inside]).astype(int), length - 2)
    fraction = places[inside] - low
    matrix[inside, low] = 1 - fraction
    matrix[inside, low + 1] = fraction
    return matrix


def new_weights(config: Config, seed: int) -> Weights:
    """Untrained weights; with them the bass is half of the mixture below the highest bin."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    w: Weights = {}

    def conv(name: str, inputs: int, outputs: int, size: int, gain: float = 1.0) -> None:
        spread = gain * (2.0 / (inputs * size * size)) ** 0.5
        w[f"{name}.weight"] = torch.randn(outputs, inputs, size, size, generator=generator) * spread
        w[f"{name}.bias"] = torch.zeros(outputs)

    def block(name: str, width: int) -> None:
        conv(f"{name}.a", width, width, 3)
        conv(f"{name}.b", width, width, 3, 0.3)

    top, middle, deep = config.widths
    conv("in", config.gathered + FEATURES - 1, top, 3)
    w["in.pitch"] = torch.zeros(1, top, config.pitches, 1)
    conv("down1", top, middle, 2)
    block("middle1", middle)
    conv("down2", middle, deep, 2)
    w["deep.pitch"] = torch.zeros(1, deep, config.pitches // 4, 1)
    for number in range(len(config.dilations)):
        block(f"deep{number}", deep)
    conv("up2", deep, middle, 1, 0.7)
    block("middle2", middle)
    conv("up1", middle, top, 1, 0.7)
    block("top", top)
    conv("spread", top, config.harmonics * config.projected, 1, 0.5)
    conv("head1", config.projected + FEATURES, config.head, 3)
    w["head1.bin"] = torch.zeros(1, config.head, config.bins, 1)
    conv("head2", config.head, config.head, 3)
    conv("out", config.head, 2 * config.taps, 1, 0.05)
    w["out.bin"] = torch.zeros(1, 2 * config.taps, config.bins, 1)
    w["out.bin"][0, config.taps // 2] = 0.5
    return w


def grown(old: Config, weights: Weights, config: Config, seed: int) -> Weights:
    """Weights of a larger network that computes exactly what `weights` do in the `old` one.

    New channels begin at random and are read by nothing, new blocks add nothing: both only once they have learnt to.
    Raises ValueError where `config` is no larger form of `old`.
    """

    new = new_weights(config, seed)
    same = replace(old, gathered=config.gathered, widths=config.widths, head=config.head, dilations=config.dilations)
    if config != same or config.dilations[: len(old.dilations)] != old.dilations:
        raise ValueError("a network grows by gathered harmonics, channels and further blocks alone")
    for name, value in new.items():
        if name not in weights:
            if name.endswith(".b.weight"):
                value.zero_()
            continue
        before = weights[name]
        if name == "in.weight":
            before = _regathered(old, before, config)
        if any(size < least for size, least in zip(value.shape, before.shape, strict=True)):
            raise ValueError(f"{name} would shrink from {tuple(before.shape)} to {tuple(value.shape)}")
        if value.dim() == 4 and not name.endswith((".pitch", ".bin")):
            value[:, before.shape[1] :] = 0
        value[tuple(slice(size) for size in before.shape)] = before
    return new


def _regathered(old: Config, kernel: torch.Tensor, config: Config) -> torch.Tensor:
    """The first convolution's kernel with more harmonics' levels among its inputs, before all others."""
    import torch

    levels, rest = kernel.split([old.gathered, kernel.shape[1] - old.gathered], dim=1)
    more = kernel.new_zeros(kernel.shape[0], config.gathered - old.gathered, *kernel.shape[2:])
    return torch.cat([levels, more, rest], dim=1)


def spectrum(config: Config, waves: torch.Tensor) -> torch.Tensor:
    """Spectra (batch, n_fft // 2 + 1, frames) of waves (batch, n), centred, zeros outside."""
    import torch

    return torch.stft(
        waves * (2.0 / config.n_fft),
        config.n_fft,
        config.hop_length,
        window=torch.hann_window(config.n_fft, device=waves.device),
        center=True,
        pad_mode="constant",
        return_complex=True,
    )


def waves(config: Config, spectra: torch.Tensor, length: int) -> torch.Tensor:
    """The inverse of `spectrum`; of (batch, bins, frames) the highest bins may be missing and are zero."""
    import torch

    padded = torch.nn.functional.pad(spectra, (0, 0, 0, config.n_fft // 2 + 1 - spectra.shape[-2]))
    return torch.istft(
        padded * (config.n_fft / 2.0),
        config.n_fft,
        config.hop_length,
        window=torch.hann_window(config.n_fft, device=spectra.device),
        center=True,
        length=length,
    )


def bass_spectrum(config: Config, w: Weights, mixture: torch.Tensor, half: bool = False) -> torch.Tensor:
    """The bass in spectra `mixture` (batch, n_fft // 2 + 1, frames), as complex (batch, bins, frames).

    The mixture's RMS is taken to be about 1. `half` runs the convolutions in bfloat16.
    """
    import torch
    from torch.nn import functional as nn

    frames = mixture.shape[-1]
    mixture = nn.pad(mixture, (0, -frames % 4))
    gather, spread = _harmonic_maps(config, str(mixture.device))
    with torch.no_grad():
        local = _features(config, mixture[:, : config.n_fft // 2])
        stack = _gather(config, local, gather)

    def conv(name: str, x: torch.Tensor, dilation: tuple[int, int] = (1, 1), stride: int = 1) -> torch.Tensor:
        weight = w[f"{name}.weight"]
        reach = weight.shape[-1] // 2 if stride == 1 else 0
        padding = (reach * dilation[0], reach * dilation[1])
        return nn.conv2d(x, weight, w[f"{name}.bias"], stride=stride, padding=padding, dilation=dilation)

    def block(name: str, x: torch.Tensor, dilation: tuple[int, int] = (1, 1)) -> torch.Tensor:
        return x + conv(f"{name}.b", nn.relu(conv(f"{name}.a", nn.relu(x), dilation)), dilation)

    def plus(x: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        return x + offsets.to(x.dtype)

    def double(x: torch.Tensor) -> torch.Tensor:
        return nn.interpolate(x, scale_factor=2.0, mode="nearest")

    with torch.autocast(mixture.device.type, torch.bfloat16, enabled=half):
        channels_last = torch.channels_last
        top = plus(conv("in", stack.contiguous(memory_format=channels_last)), w["in.pitch"])
        middle = block("middle1", conv("down1", nn.relu(top), stride=2))
        deep = plus(conv("down2", nn.relu(middle), stride=2), w["deep.pitch"])
        for number, dilation in enumerate(config.dilations):
            deep = block(f"deep{number}", deep, dilation)
        middle = block("middle2", middle + double(conv("up2", nn.relu(deep))))
        top = block("top", top + double(conv("up1", nn.relu(middle))))
        laid = _lay_out(config, w, nn.relu(top).contiguous(), spread, half)
        seen = torch.cat([laid, local[:, :, : config.bins].to(laid.dtype)], dim=1)
        hidden = nn.relu(plus(conv("head1", seen.contiguous(memory_format=channels_last)), w["head1.bin"]))
        hidden = nn.relu(conv("head2", hidden))
        coefficients = conv("out", hidden)
    filters = 2.0 * torch.tanh((coefficients.float() + w["out.bin"]) / 2.0)
    return _filter(config, filters, mixture[:, : config.bins])[..., :frames]


def _features(config: Config, mixture: torch.Tensor) -> torch.Tensor:
    """Local features (batch, FEATURES, bins, frames)."""
    import torch

    level, floor = mixture.abs(), 1e-3
    advance = torch.zeros_like(mixture)
    advance[..., 1:] = mixture[..., 1:] * mixture[..., :-1].conj()
    turn = np.pi * 2 * config.hop_length / config.n_fft * np.arange(mixture.shape[-2])
    expected = torch.tensor(np.exp(-1j * turn), dtype=mixture.dtype, device=mixture.device)[:, None]
    advance = advance * expected / (advance.abs() + floor**2)
    return torch.stack([torch.log10(level + floor) + 1.5, advance.real, advance.imag], dim=1)


def _gather(config: Config, local: torch.Tensor, gather: torch.Tensor) -> torch.Tensor:
    """What a pitch shows (batch, gathered + 2, pitches, frames): levels at its harmonics, the rest at itself."""
    import torch

    batch, _, _, frames = local.shape
    levels = torch.matmul(gather, local[:, 0]).reshape(batch, config.gathered, config.pitches, frames)
    rest = torch.matmul(gather[: config.pitches], local[:, 1:])
    return torch.cat([levels, rest], dim=1)


def _lay_out(config: Config, w: Weights, top: torch.Tensor, spread: torch.Tensor, half: bool) -> torch.Tensor:
    """What pitches tell, (batch, channels, pitches, frames), at their harmonics, (batch, projected, bins, frames)."""
    import torch
    from torch.nn import functional as nn

    flat, kernel, bias = top.flatten(2), w["spread.weight"].flatten(1), w["spread.bias"]
    rows = config.harmonics * config.pitches
    if half:
        # In bfloat16 the dense product is the faster one, in one dimension.
        rays = nn.conv1d(flat, kernel[:, :, None], bias).reshape(-1, rows, top.shape[-1])
        return nn.conv1d(rays, spread.to_dense()[:, :, None]).reshape(len(top), config.projected, config.bins, -1)
    parts = list(zip(kernel.split(config.harmonics), bias.split(config.harmonics), strict=True))
    laid = [
        torch.sparse.mm(spread, torch.addmm(b[:, None], k, one).reshape(rows, -1)) for one in flat for k, b in parts
    ]
    return torch.stack(laid).reshape(len(top), config.projected, config.bins, -1)


def _filter(config: Config, filters: torch.Tensor, mixture: torch.Tensor) -> torch.Tensor:
    """Complex coefficients (batch, 2 * taps, bins, frames), all real parts first, times the mixture, over the taps."""
    import torch
    from torch.nn import functional as nn

    frames = mixture.shape[-1]
    around = nn.pad(mixture, (config.taps // 2, config.taps // 2))
    x = torch.stack([around[..., tap : tap + frames] for tap in range(config.taps)], dim=1)
    real, imaginary = filters.chunk(2, dim=1)
    return torch.complex(
        (real * x.real - imaginary * x.imag).sum(dim=1), (real * x.imag + imaginary * x.real).sum(dim=1)
    )
