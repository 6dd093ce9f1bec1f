"""Networks of the family: laid out from checked arguments, filled with a checkpoint's tensors, cut to some stems.

The networks come from `pymss-core` (HTDemucs from `demucs`). One is laid out without memory for its weights, compared
with the tensors of the checkpoint by name and shape, and only then takes those as its own: it is never larger than the
file.

References
- W.-T. Lu et al.: Music source separation with band-split RoPE transformer. ICASSP 2024. (BS-RoFormer)
- J.-C. Wang et al.: Mel-RoFormer for vocal separation and vocal melody transcription. ISMIR 2024.
- W. Tong et al.: SCNet: sparse compression network for music source separation. ICASSP 2024.
- M. Kim et al.: KUIELab-MDX-Net. MDX workshop, ISMIR 2021. (TFC-TDF)
- K. Watcharasupat et al.: A generalized bandsplit neural network for cinematic audio source separation. 2023. (Bandit)
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import BackendError, BackendNotInstalled, shown
from ...models.package import Package
from ..demucs import network as demucs_network
from .arguments import ARCHITECTURES
from .config import Config

HTDEMUCS = "htdemucs"


def check_installed(architecture: str) -> None:
    """Raise BackendNotInstalled when the package that has the network is missing."""
    if architecture != HTDEMUCS and importlib.util.find_spec("pymss_core") is None:
        raise BackendNotInstalled("msst", f"{architecture} needs pymss-core: pip install 'gbsep[msst]'")


def build(config: Config, path: Path, state: Mapping[str, Any]) -> Any:
    """The network of a configuration with the tensors of the checkpoint at `path`: float32, ready to run.

    Raises BackendError when the two do not belong together or the tensors are not finite.
    """
    if config.architecture == HTDEMUCS:
        return _htdemucs(config, path, state)
    import torch

    network = _laid_out(config, state)
    expected = network.state_dict()
    for key in [*expected, *state]:
        shapes = [tuple(tensors[key].shape) if key in tensors else None for tensors in (expected, state)]
        if shapes[0] != shapes[1]:
            raise BackendError(f"{path} and {config.path.name} do not belong together: {_differing(key, *shapes)}")
    for key, tensor in state.items():
        if tensor.is_floating_point() != expected[key].is_floating_point():
            kinds = "whole numbers" if expected[key].is_floating_point() else "fractions"
            raise BackendError(f"{path}: {key} holds {kinds}, which is not what the network takes")
        if not tensor.isfinite().all():
            raise BackendError(f"{path}: {key} holds NaN or infinity: the weight file is damaged")
    floats = {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in state.items()}
    torch.nn.Module.load_state_dict(network, floats, assign=True)
    return network.eval().requires_grad_(False)


def _differing(key: str, expected: tuple[int, ...] | None, given: tuple[int, ...] | None) -> str:
    if given is None:
        return f"the checkpoint lacks {key}"
    if expected is None:
        return f"the configuration asks for no {shown(key)}"
    return f"{key} should be {expected} by the configuration, but is {given}"


def _laid_out(config: Config, state: Mapping[str, Any]) -> Any:
    """The network with its layers' weights on torch's meta device."""
    from torch.nn import Module

    check_installed(config.architecture)
    module, name = ARCHITECTURES[config.architecture].built_by
    arguments = dict(config.arguments)
    if config.architecture == "mel_band_roformer":
        arguments["mlp_hidden_layers"] = _hidden_layers(state)
    try:
        built = getattr(importlib.import_module(f"pymss_core.modules.{module}"), name)
        if "config" in arguments:
            from pymss_core import to_attrdict

            arguments["config"] = to_attrdict(arguments["config"])
        with _without_weights():
            network = built(**arguments)
    except Exception as error:
        reason = " ".join(str(error).split()) or f"its arguments do not fit together ({type(error).__name__})"
        raise BackendError(f"{config.path} asks for an impossible {config.architecture}: {reason}") from error
    assert isinstance(network, Module)
    return network


def _hidden_layers(state: Mapping[str, Any]) -> int | None:
    """Hidden layers of MelBand-RoFormer's mask estimators: trainings disagree about what their depth counts."""
    pattern = re.compile(r"mask_estimators\.0\.to_freqs\.0\.0\.\d+\.weight")
    layers = sum(1 for key in state if pattern.fullmatch(str(key)))
    return min(layers, 16) - 1 if layers else None


def _without_weights() -> Any:
    """A context in which torch's layers are made without memory and without initial values; the rest is real."""
    import torch
    from torch.overrides import TorchFunctionMode

    class WithoutWeights(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = dict(kwargs or {})
            if function.__name__ in ("kaiming_uniform_", "xavier_uniform_", "orthogonal_", "uniform_", "normal_"):
                return args[0] if args else kwargs["tensor"]
            if function is torch.empty and kwargs.get("device") is None:
                kwargs["device"] = "meta"
            return function(*args, **kwargs)

    return WithoutWeights()


def _htdemucs(config: Config, path: Path, state: Mapping[str, Any]) -> Any:
    from fractions import Fraction

    segment = Fraction(config.segment, config.sample_rate)
    arguments = config.arguments | {
        "audio_channels": config.channels,
        "samplerate": config.sample_rate,
        "segment": segment,
    }
    package = Package(path, "demucs.htdemucs.HTDemucs", (list(config.sources),), arguments, dict(state))
    return demucs_network.build(package)


# ----------------------------------------------------------------------------------------------- cut to some stems


def keep_only(network: Any, config: Config, rows: Sequence[int]) -> None:
    """Cut the network, in place, to some of its sources: the others are not computed, and what is left is as before."""
    if len(rows) == len(config.sources):
        return
    kept = [config.sources[row] for row in rows]
    if config.architecture == HTDEMUCS:
        demucs_network.decode_only(network, kept)
    elif config.architecture in ("bs_roformer", "mel_band_roformer"):
        import torch

        network.mask_estimators = torch.nn.ModuleList([network.mask_estimators[row] for row in rows])
    elif config.architecture == "scnet":
        for layer in network.decoder[-1][1].convtrs:
            _keep_channels(layer, rows, len(config.sources), transposed=True)
        network.sources = kept
    elif config.architecture == "mdx23c":
        _keep_channels(network.final_conv[2], rows, len(config.sources))
        network.num_target_instruments = len(rows)
    else:
        estimators = network.bsrnn.mask_estim
        for name in [name for index, name in enumerate(estimators) if index not in rows]:
            del estimators[name]


def _keep_channels(layer: Any, rows: Sequence[int], sources: int, transposed: bool = False) -> None:
    """Keep the output channels of some sources: each has its own, one after the other."""
    import torch

    each = layer.out_channels // sources
    channels = [row * each + channel for row in rows for channel in range(each)]
    weight = layer.weight[:, channels] if transposed else layer.weight[channels]
    layer.weight = torch.nn.Parameter(weight.contiguous(), requires_grad=False)
    if layer.bias is not None:
        layer.bias = torch.nn.Parameter(layer.bias[channels].contiguous(), requires_grad=False)
    layer.out_channels = len(channels)
