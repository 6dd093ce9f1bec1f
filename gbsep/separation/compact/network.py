"""The network of the `compact` backend: which part of each spectral bin belongs to the bass.

This is the network as it is trained, in torch; `graph` is the same for separation.

Conventions
- Its input is one channel at Config.sample_rate, as complex short-time spectra (batch, bins, frames) of a Hann window
  scaled by 2 / n_fft. Stereo only adds geometry, which needs no network (see `places`).
- Pitch has an axis of its own, with `bins_per_octave` steps. Harmonic number h of every pitch is read from the linear
  spectrum at the input and written back at h times the pitch at the output (Bittner et al., "Deep salience
  representations for f0 estimation", 2017), so weights are shared over pitch and a note is seen as a whole.
- Between the two, a U-net of dilated convolutions has a context of about four seconds on either side. It is finite,
  Config.context frames, so a song can be fed piece by piece.
- Inside, time comes before pitch, and channels are last in memory, which is fastest for convolutions.
- It may hear a song twice (Config.passes). The second pass also reads the first estimate: the levels of the bass and of
  what is left without it. A line that was in doubt is then seen beside those that were not. What comes out is the mean
  of both estimates (see SECOND).
- Its output is complex filter coefficients over `taps` neighbouring frames (Mack & Habets, "Deep filtering", 2019), not
  a mask, so partials that beat within a bin can be separated.

Weights are a plain {name: tensor}; every function here is a pure function of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from .axis import harmonic_bins, interpolation, spread
from .config import Config

if TYPE_CHECKING:
    import torch

Weights = dict[str, "torch.Tensor"]
Tensor = TypeVar("Tensor")

FEATURES = 3
"""Local features of a bin: its level and its complex phase advance."""

GIVEN = 2
"""Local features of a bin in an earlier estimate: the levels of the bass and of the rest."""

AGAIN = "again."
"""How the names of a second pass's weights begin."""

SECOND = 0.6
"""Part that the second of two passes has in the mean of both estimates."""


def channels_last(value: torch.Tensor) -> torch.Tensor:
    """`value` in the memory order in which convolutions over (frames, pitches) are fastest."""
    import torch

    if value.dim() != 4:
        return value
    return value.transpose(2, 3).contiguous(memory_format=torch.channels_last).transpose(2, 3)


@lru_cache(maxsize=4)
def _harmonic_maps(config: Config, device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(gather, first, spread), sparse matrices with two entries for each harmonic.

    (gathered * pitches, n_fft // 2) reads harmonics, (pitches, n_fft // 2) only the first of them, and
    (bins, harmonics * pitches) writes them.
    """
    import torch

    gather = interpolation(harmonic_bins(config), config.n_fft // 2)
    # Cached, so never inference tensors: the first caller may be in inference mode, the next one training.
    with torch.inference_mode(False):
        read, first, laid = (
            torch.tensor(matrix, dtype=torch.float32, device=device).to_sparse().coalesce()
            for matrix in (gather, gather[: config.pitches], spread(config))
        )
        return read, first, laid


def _layers(config: Config) -> Iterator[tuple[str, tuple[int, ...], float]]:
    """(name, shape, gain) of all parameters: convolutions by their kernels; offsets have a gain of 0."""
    yield from _pass_layers(config, 0)
    if config.passes > 1:
        yield from ((f"{AGAIN}{name}", shape, gain) for name, shape, gain in _pass_layers(config, GIVEN))


def _pass_layers(config: Config, given: int) -> Iterator[tuple[str, tuple[int, ...], float]]:
    """Those of one pass, which reads `given` features of an earlier estimate."""
    top, middle, deep = config.widths

    def conv(name: str, inputs: int, outputs: int, size: int, gain: float = 1.0) -> tuple[str, tuple[int, ...], float]:
        return name, (outputs, inputs, size, size), gain

    def block(name: str) -> Iterator[tuple[str, tuple[int, ...], float]]:
        width, inside = config.blocks[name]
        yield conv(f"{name}.a", width, inside, 3)
        yield conv(f"{name}.b", inside, width, 3, 0.3)

    yield conv("in", (1 + given) * config.gathered + FEATURES - 1, top, 3)
    yield "in.pitch", (1, top, config.pitches, 1), 0.0
    yield conv("down1", top, middle, 2)
    yield from block("middle1")
    yield conv("down2", middle, deep, 2)
    yield "deep.pitch", (1, deep, config.pitches // 4, 1), 0.0
    for number in range(len(config.dilations)):
        yield from block(f"deep{number}")
    yield conv("up2", deep, middle, 1, 0.7)
    yield from block("middle2")
    yield conv("up1", middle, top, 1, 0.7)
    yield from block("top")
    yield conv("spread", top, config.harmonics * config.projected, 1, 0.5)
    yield conv("head1", config.projected + FEATURES + given, config.head, 3)
    yield "head1.bin", (1, config.head, config.bins, 1), 0.0
    yield conv("head2", config.head, config.head, 3)
    yield conv("out", config.head, 2 * config.taps, 1, 0.05)
    yield "out.bin", (1, 2 * config.taps, config.bins, 1), 0.0


def shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """The shapes of all weights, by name."""
    found: dict[str, tuple[int, ...]] = {}
    for name, shape, gain in _layers(config):
        found |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]} if gain else {name: shape}
    return found


def new_weights(config: Config, seed: int) -> Weights:
    """Untrained weights; with them the bass is half of the mixture below the highest bin."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    w: Weights = {name: torch.zeros(shape) for name, shape in shapes(config).items()}
    for name, shape, gain in _layers(config):
        if gain:
            scale = gain * (2.0 / (shape[1] * shape[2] * shape[3])) ** 0.5
            w[f"{name}.weight"] = torch.randn(shape, generator=generator) * scale
    for own in passes(w):
        own["out.bin"][0, config.taps // 2] = 0.5
    return w


def passes(weights: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """The weights of each pass, by their names within it."""
    again = {name.removeprefix(AGAIN): value for name, value in weights.items() if name.startswith(AGAIN)}
    return [{name: value for name, value in weights.items() if not name.startswith(AGAIN)}, *([again] if again else [])]


def tensors(weights: Mapping[str, np.ndarray], device: str = "cpu") -> Weights:
    """Weights as torch tensors, in the memory order in which torch is fastest."""
    import torch

    return {name: channels_last(torch.from_numpy(value).to(device)) for name, value in weights.items()}


def grown(old: Config, weights: Weights, config: Config, seed: int) -> Weights:
    """Weights of a larger network that computes exactly what `weights` do in the `old` one.

    New channels start at random and are not read yet, new blocks add nothing yet. A second pass starts as the first,
    and does not read its estimate yet. Raises ValueError where `config` is no larger form of `old`.
    """
    if config.passes > 1:
        if replace(old, passes=config.passes) != config:
            raise ValueError("a network that hears a song twice does not grow in anything else")
        return weights if old.passes > 1 else {**weights, **_twice(config, weights)}
    new = new_weights(config, seed)
    free = ("gathered", "widths", "head", "dilations", "inner")
    same = replace(old, **{name: getattr(config, name) for name in free})
    if config != same or config.dilations[: len(old.dilations)] != old.dilations:
        raise ValueError("a network grows only in gathered harmonics, channels and further blocks")
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


def _twice(config: Config, weights: Weights) -> Weights:
    """The weights of a second pass that computes what the first does."""
    import torch

    made = {f"{AGAIN}{name}": value.clone() for name, value in weights.items()}
    for name, shape in shapes(config).items():
        if name.startswith(AGAIN) and (more := shape[1] - made[name].shape[1] if len(shape) > 1 else 0):
            made[name] = torch.cat([made[name], made[name].new_zeros(shape[0], more, *shape[2:])], dim=1)
    return made


def moved(old: Config, weights: Weights, config: Config) -> Weights:
    """Weights to begin with for a network that reads other pitches and more bins: those of the `old` one.

    They compute something else there. New bins begin as the last one of the old. Raises ValueError where `config`
    differs from `old` in anything else.
    """
    import torch

    if config != replace(old, lowest_hz=config.lowest_hz, bins=config.bins) or config.bins < old.bins:
        raise ValueError("a network moves only in its lowest pitch, and to more bins")
    at = torch.arange(config.bins).clamp(max=old.bins - 1)
    return {name: value[:, :, at] if name.endswith(".bin") else value.clone() for name, value in weights.items()}


def _regathered(old: Config, kernel: torch.Tensor, config: Config) -> torch.Tensor:
    """The first convolution's kernel with more harmonics' levels among its inputs, before all others."""
    import torch

    levels, rest = torch.split(kernel, [old.gathered, kernel.shape[1] - old.gathered], dim=1)
    more = kernel.new_zeros(kernel.shape[0], config.gathered - old.gathered, *kernel.shape[2:])
    return torch.cat([levels, more, rest], dim=1)


def spectrum(config: Config, waves: torch.Tensor) -> torch.Tensor:
    """Spectra (batch, n_fft // 2 + 1, frames) of waves (batch, n); centred windows, zero padding."""
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
    """The inverse of `spectrum`, (batch, length); highest bins that are missing in `spectra` are zero."""
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

    The mixture's RMS has to be about 1. `half` runs the convolutions in bfloat16.
    """
    result: torch.Tensor = mean_of_passes(*bass_spectra(config, w, mixture, half))
    return result


def mean_of_passes(first: Any, second: Any = None) -> Any:
    """The network's estimate from those of its passes, spectra of one shape."""
    return first if second is None else (1 - SECOND) * first + SECOND * second


def bass_spectra(config: Config, w: Weights, mixture: torch.Tensor, half: bool = False) -> Iterator[torch.Tensor]:
    """The bass after each pass, as in `bass_spectrum`."""
    estimate = None
    for own in passes(w):
        estimate = _pass(config, own, mixture, estimate, half)
        yield estimate


def _pass(config: Config, w: Weights, mixture: torch.Tensor, estimate: torch.Tensor | None, half: bool) -> torch.Tensor:
    """The bass after a pass that reads `estimate`, where there is one."""
    import torch
    from torch.nn import functional as nn

    frames = mixture.shape[-1]
    mixture = nn.pad(mixture.transpose(1, 2), (0, 0, 0, -frames % 4))[..., : config.n_fft // 2]
    gather, first, spread = _harmonic_maps(config, str(mixture.device))

    def conv(name: str, x: torch.Tensor, dilation: tuple[int, int] = (1, 1), stride: int = 1) -> torch.Tensor:
        weight = w[f"{name}.weight"].transpose(2, 3)
        reach = weight.shape[-1] // 2 if stride == 1 else 0
        padding = reach * dilation[1], reach * dilation[0]
        return nn.conv2d(x, weight, w[f"{name}.bias"], stride=stride, padding=padding, dilation=dilation[::-1])

    def rectified(name: str, x: torch.Tensor, dilation: tuple[int, int] = (1, 1), stride: int = 1) -> torch.Tensor:
        return conv(name, nn.relu(x), dilation, stride)

    def block(name: str, x: torch.Tensor, dilation: tuple[int, int] = (1, 1)) -> torch.Tensor:
        return rectified(f"{name}.b", rectified(f"{name}.a", x, dilation), dilation).add_(x)

    def plus(x: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        return x.add_(offsets.transpose(2, 3).to(x.dtype))

    def double(x: torch.Tensor) -> torch.Tensor:
        return nn.interpolate(x, scale_factor=2.0, mode="nearest")

    with torch.no_grad():
        given = None if estimate is None else nn.pad(estimate.transpose(1, 2), (0, 0, 0, -frames % 4))
        local = features(config, nn.pad(mixture, (0, 0, 1, 0)), torch, given)
        stack = _gather(config, local, gather, first)
    with torch.autocast(mixture.device.type, torch.bfloat16, enabled=half):
        top = plus(conv("in", stack), w["in.pitch"])
        middle = block("middle1", rectified("down1", top, stride=2))
        deep = plus(rectified("down2", middle, stride=2), w["deep.pitch"])
        for number, dilation in enumerate(config.dilations):
            deep = block(f"deep{number}", deep, dilation)
        middle = block("middle2", double(rectified("up2", deep)).add_(middle))
        top = block("top", double(rectified("up1", middle)).add_(top))
        laid = _lay_out(config, w, nn.relu(top), spread, half)
        inputs = torch.cat([laid, local[..., : config.bins].to(laid.dtype)], dim=1)
        hidden = plus(conv("head1", inputs.contiguous(memory_format=torch.channels_last)), w["head1.bin"])
        coefficients = plus(rectified("out", rectified("head2", hidden)).float().contiguous(), w["out.bin"])
    filters = 2.0 * torch.tanh(coefficients / 2.0)
    around = nn.pad(mixture[..., : config.bins], (0, 0, config.taps // 2, config.taps // 2))
    result: torch.Tensor = filtered(config, filters, around, torch)[:, :frames].transpose(1, 2)
    return result


def features(config: Config, mixture: Any, xp: ModuleType, given: Any = None) -> Any:
    """Local features (batch, FEATURES, frames - 1, bins) of `mixture` (batch, frames, bins), without the first frame.

    With an estimate `given` (batch, frames - 1, config.bins) there are GIVEN more. `xp` is torch or numpy, as `mixture`
    is.
    """
    heard, floor = mixture[:, 1:], 1e-3
    advance = heard * mixture[:, :-1].conj()
    turn = np.pi * 2 * config.hop_length / config.n_fft * np.arange(mixture.shape[-1])
    expected = np.exp(-1j * turn).astype(np.complex64)
    if xp is not np:
        expected = xp.from_numpy(expected).to(mixture.device)
    advance = advance * expected / (abs(advance) + floor**2)

    def level(spectra: Any) -> Any:
        return xp.log10(abs(spectra) + floor) + 1.5

    known = []
    if given is not None:
        bass = xp.concatenate([given, 0 * heard[..., config.bins :]], -1)
        known = [level(bass), level(heard - bass)]
    return xp.stack([level(heard), advance.real, advance.imag, *known], 1)


def filtered(config: Config, filters: Any, mixture: Any, xp: ModuleType) -> Any:
    """The mixture filtered by complex coefficients (batch, 2 * taps, frames, bins), all real parts first.

    The mixture, complex (batch, frames, bins), has taps // 2 frames more on either side. `xp` is torch or numpy.
    """
    frames, taps = filters.shape[-2], config.taps
    x = xp.stack([mixture[..., tap : tap + frames, :] for tap in range(taps)], 1)
    real, imaginary = filters[:, :taps], filters[:, taps:]
    return (real * x.real - imaginary * x.imag).sum(1) + 1j * (real * x.imag + imaginary * x.real).sum(1)


def _gather(config: Config, local: torch.Tensor, gather: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    """Features of pitches (batch, channels, frames, pitches): levels of all harmonics, the rest of the first."""
    import torch

    batch, count, frames, bins = local.shape
    columns = local.permute(1, 3, 0, 2).reshape(count, bins, batch * frames)
    maps = [gather, *[first] * (FEATURES - 1), *[gather] * (count - FEATURES)]
    read = [torch.sparse.mm(one, column) for one, column in zip(maps, columns, strict=True)]
    shown = torch.cat(read).reshape(-1, config.pitches, batch, frames)
    return shown.permute(2, 0, 3, 1).contiguous(memory_format=torch.channels_last)


def _lay_out(config: Config, w: Weights, top: torch.Tensor, spread: torch.Tensor, half: bool) -> torch.Tensor:
    """Write features of pitches (batch, channels, frames, pitches) to harmonics (batch, projected, frames, bins)."""
    import torch

    frames, kernel, bias = top.shape[-2], w["spread.weight"].flatten(1), w["spread.bias"]
    rows = config.harmonics * config.pitches
    if half:
        # In bfloat16 the dense product is the faster one; `top` is (frames, pitches, channels) in memory.
        dense, count = spread.to_dense(), len(top) * frames
        rays = torch.bmm(kernel.expand(count, -1, -1), top.permute(0, 2, 3, 1).flatten(0, 1).transpose(1, 2))
        laid = (rays.reshape(-1, rows) @ dense.T).reshape(-1, frames, config.projected, config.bins).transpose(1, 2)
        offsets = bias.reshape(config.projected, -1) @ dense.reshape(config.bins, config.harmonics, -1).sum(dim=2).T
        return laid + offsets[:, None].to(laid.dtype)
    flat = top.transpose(2, 3).flatten(2)
    parts = list(zip(torch.split(kernel, config.harmonics), torch.split(bias, config.harmonics), strict=True))
    made = [
        torch.sparse.mm(spread, torch.addmm(b[:, None], k, x).reshape(rows, frames)) for x in flat for k, b in parts
    ]
    return torch.stack(made).reshape(len(top), config.projected, config.bins, frames).transpose(2, 3)
