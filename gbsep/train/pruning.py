"""Pruning of a trained network: channels that its blocks hardly use are removed; further training makes up for it.

A channel inside a block counts by the energy that it adds to the block's output: the mean of its squares times those
of its kernel (after Li et al., "Pruning filters for efficient ConvNets", 2017, who use kernels only; here the signal
counts too, so a channel whose rectifier never opens counts nothing).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import ParameterError
from ..separation.compact import network as compact_network
from ..separation.compact.config import Config
from ..separation.compact.network import Weights

if TYPE_CHECKING:
    import torch

STEP = 8
"""Channels come in multiples of this, as processors like them."""


def kept_channels(config: Config, weights: Weights, mixture: torch.Tensor, keep: float) -> dict[str, torch.Tensor]:
    """For every block the channels inside it that hold the part `keep` of its energy on `mixture` (batch, frames), and
    the strongest of the rest up to a multiple of STEP. Raises ParameterError for a part that is
    none, or a network that hears a song twice."""
    import torch
    from torch.overrides import TorchFunctionMode

    if not 0.0 < keep <= 1.0:
        raise ParameterError("keep", keep, "above 0, at most 1")
    if config.passes > 1:
        raise ParameterError("weights", "two passes", "those of a network with one pass")
    blocks = {weights[f"{name}.b.weight"].data_ptr(): name for name in config.blocks}
    energy: dict[str, torch.Tensor] = {}

    class Watch(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function is torch.conv2d and (name := blocks.get(args[1].data_ptr())):
                energy[name] = args[0].square().mean(dim=(0, 2, 3)) * args[1].square().sum(dim=(0, 2, 3))
            return function(*args, **(kwargs or {}))

    with torch.inference_mode(), Watch():
        compact_network.bass_spectrum(config, weights, compact_network.spectrum(config, mixture))
    found = {}
    for name, of_channel in energy.items():
        order = of_channel.argsort(descending=True)
        reached = of_channel[order].cumsum(0)
        count = int((reached < keep * reached[-1]).sum()) + 1
        found[name] = order[: -(-count // STEP) * STEP].sort().values
    return found


def pruned(config: Config, weights: Weights, channels: dict[str, torch.Tensor]) -> tuple[Config, Weights]:
    """The network with these channels alone inside its blocks."""
    smaller = dict(weights)
    for name, kept in channels.items():
        smaller[f"{name}.a.weight"] = weights[f"{name}.a.weight"][kept]
        smaller[f"{name}.a.bias"] = weights[f"{name}.a.bias"][kept]
        smaller[f"{name}.b.weight"] = weights[f"{name}.b.weight"][:, kept]
    return replace(config, inner=tuple(len(channels[name]) for name in config.blocks)), smaller
