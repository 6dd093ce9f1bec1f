"""The network of Open-Unmix, one per target, from a published state dict.

Conventions as in `openunmix`: C = 2 channels, F bins (the lowest are looked at), H the hidden size, n spectrogram
frames. A network is run in four steps, so that a track can flow through each: `encode` and `squeeze` and `decode` look
at one frame at a time, and between the first two stands a bidirectional LSTM, here as one module per layer and
direction.

- Stöter, Uhlich, Liutkus, Mitsufuji, "Open-Unmix - A Reference Implementation for Music Source Separation", Journal of
  Open Source Software 4(41), 2019.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import BackendError

if TYPE_CHECKING:
    import torch

BATCH_NORM_EPS = 1e-5
MAX_HIDDEN_SIZE, MAX_LAYERS = 8192, 16


@dataclass(frozen=True, eq=False)
class Network:
    """One target's network: its state dict, and its LSTM as one module per layer and direction."""

    state: Mapping[str, torch.Tensor]
    layers: tuple[tuple[torch.nn.LSTM, torch.nn.LSTM], ...]

    @property
    def hidden_size(self) -> int:
        return len(self.state["fc1.weight"])

    @property
    def device(self) -> torch.device:
        return self.state["fc1.weight"].device


def build(state: Mapping[str, Any], bins: int, device: str = "cpu") -> Network:
    """The network in a published state dict, its sizes taken from the tensors; other entries are ignored.

    `bins` is n_fft / 2 + 1. Raises BackendError when a tensor is missing, is not finite, or has a shape that does
    not follow from the others.
    """
    import torch

    layers = sum(f"lstm.weight_ih_l{layer}" in state for layer in range(MAX_LAYERS + 1))
    shape = tuple(state["fc1.weight"].shape) if "fc1.weight" in state else ()
    hidden_size = shape[0] if len(shape) == 2 else 0
    if not (2 <= hidden_size <= MAX_HIDDEN_SIZE and hidden_size % 2 == 0 and 1 <= layers <= MAX_LAYERS):
        raise BackendError(
            f"not an Open-Unmix network: fc1.weight has shape {shape} and there are {layers} LSTM layers; allowed are "
            f"an even hidden size up to {MAX_HIDDEN_SIZE} and 1 to {MAX_LAYERS} layers"
        )
    shapes = _shapes(hidden_size, layers, shape[1] // 2, bins)
    for name, expected in shapes.items():
        found = state.get(name)
        if not isinstance(found, torch.Tensor) or tuple(found.shape) != expected or not found.is_floating_point():
            what = f"is {found.dtype} {tuple(found.shape)}" if isinstance(found, torch.Tensor) else "is missing"
            raise BackendError(f"not an Open-Unmix network for {bins} bins in stereo: {name} {what}, not {expected}")
        if not found.isfinite().all() or (name.endswith("running_var") and (found < 0).any()):
            raise BackendError(f"{name} holds NaN, infinity or a negative variance: the weight file is damaged")
    state = {name: state[name].detach().to(device, torch.float32) for name in shapes}
    pairs = ((_lstm(state, f"l{layer}"), _lstm(state, f"l{layer}_reverse")) for layer in range(layers))
    return Network(state, tuple(pairs))


def _shapes(hidden_size: int, layers: int, input_bins: int, bins: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors in a published state dict of a stereo network."""
    shapes: dict[str, tuple[int, ...]] = {
        "input_mean": (input_bins,),
        "input_scale": (input_bins,),
        "output_mean": (bins,),
        "output_scale": (bins,),
        "fc1.weight": (hidden_size, 2 * input_bins),
        "fc2.weight": (hidden_size, 2 * hidden_size),
        "fc3.weight": (2 * bins, hidden_size),
    }
    for norm, size in {"bn1": hidden_size, "bn2": hidden_size, "bn3": 2 * bins}.items():
        shapes |= {f"{norm}.{name}": (size,) for name in ("weight", "bias", "running_mean", "running_var")}
    for layer in range(layers):
        for end in (f"l{layer}", f"l{layer}_reverse"):
            shapes |= {
                f"lstm.weight_ih_{end}": (2 * hidden_size, hidden_size),
                f"lstm.weight_hh_{end}": (2 * hidden_size, hidden_size // 2),
                f"lstm.bias_ih_{end}": (2 * hidden_size,),
                f"lstm.bias_hh_{end}": (2 * hidden_size,),
            }
    return shapes


def _lstm(state: Mapping[str, torch.Tensor], end: str) -> torch.nn.LSTM:
    import torch

    weights = {f"{kind}_l0": state[f"lstm.{kind}_{end}"] for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    size = weights["weight_hh_l0"].shape[1]
    lstm = torch.nn.LSTM(weights["weight_ih_l0"].shape[1], size, device="meta")
    lstm.load_state_dict(weights, assign=True)
    return lstm.requires_grad_(False)


def _batch_norm(network: Network, name: str, x: torch.Tensor) -> torch.Tensor:
    import torch

    mean, variance, weight, bias = (
        network.state[f"{name}.{what}"] for what in ("running_mean", "running_var", "weight", "bias")
    )
    return torch.nn.functional.batch_norm(x, mean, variance, weight, bias, eps=BATCH_NORM_EPS)


def encode(network: Network, magnitude: torch.Tensor) -> torch.Tensor:
    """Magnitudes (C, F, n) to the LSTM's input (n, H)."""
    import torch

    state = network.state
    x = magnitude.permute(2, 0, 1)[..., : len(state["input_mean"])]
    x = (x + state["input_mean"]) * state["input_scale"]
    x = torch.nn.functional.linear(x.flatten(1), state["fc1.weight"])
    return torch.tanh(_batch_norm(network, "bn1", x))


def squeeze(network: Network, encoded: torch.Tensor, recurrent: torch.Tensor) -> torch.Tensor:
    """The LSTM's input and output, (n, H) each, to the features (n, H) that the mask is made from."""
    import torch

    x = torch.nn.functional.linear(torch.cat([encoded, recurrent], 1), network.state["fc2.weight"])
    return torch.relu(_batch_norm(network, "bn2", x))


def decode(network: Network, features: torch.Tensor, magnitude: torch.Tensor) -> torch.Tensor:
    """Features (n, H) and the mixture's magnitudes (C, F, n) to the target's magnitudes (C, F, n)."""
    import torch

    state = network.state
    x = torch.nn.functional.linear(features.to(network.device), state["fc3.weight"])
    x = torch.unflatten(_batch_norm(network, "bn3", x), 1, (2, -1))
    x = x.mul_(state["output_scale"]).add_(state["output_mean"]).relu_()
    result: torch.Tensor = x.permute(1, 2, 0).cpu() * magnitude
    return result
