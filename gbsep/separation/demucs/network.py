"""Demucs networks: built from a weight file that is not trusted, cut to the stems that are wanted, run on a segment.

The networks themselves (Demucs, HDemucs, HTDemucs) come from the `demucs` package. A file's arguments are checked by
type and size, the network is laid out without memory (torch's meta device) and compared with the tensors in the file,
and only then takes those tensors as its own: it can never be larger than the file.

References
- A. Défossez: Hybrid spectrogram and waveform source separation. MDX workshop, ISMIR 2021. (HDemucs)
- S. Rouard, F. Massa, A. Défossez: Hybrid transformers for music source separation. ICASSP 2023. (HTDemucs)
"""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ...errors import BackendError
from ...models.package import Package

_RANGES: dict[str, tuple[float, float]] = {
    "audio_channels": (2, 2),
    "channels": (1, 512),
    "channels_time": (1, 512),
    "growth": (1, 4),
    "nfft": (16, 2**14),
    "depth": (1, 8),
    "multi_freqs_depth": (0, 8),
    "kernel_size": (1, 64),
    "stride": (1, 16),
    "time_stride": (1, 16),
    "context": (0, 8),
    "context_enc": (0, 8),
    "norm_groups": (1, 64),
    "wiener_iters": (-1, 8),
    "end_iters": (-1, 8),
    "dconv_depth": (-8, 8),
    "dconv_comp": (0.25, 64),
    "bottom_channels": (0, 4096),
    "t_layers": (0, 32),
    "t_heads": (1, 64),
    "t_hidden_scale": (0.25, 16),
    "t_max_positions": (1, 10**6),
    "lstm_layers": (0, 8),
    "samplerate": (8000, 192_000),
    "segment": (0.1, 120),
}
"""Lowest and highest value of the arguments that decide a network's size. audio_channels: gbsep feeds stereo."""


def build(package: Package) -> Any:
    """The network of a weight file, float32, ready to run.

    Raises BackendError when an argument is out of range, or the tensors are not finite or not those the arguments ask
    for.
    """
    import torch

    module, name = package.architecture.rsplit(".", 1)
    architecture = getattr(importlib.import_module(module), name)
    parameters = inspect.signature(architecture).parameters
    try:
        # Demucs drops arguments that its classes no longer know; so does gbsep.
        known = {key: value for key, value in package.kwargs.items() if key in parameters}
        arguments = inspect.signature(architecture).bind(*package.args, **known).arguments
        for key, value in arguments.items():
            _check_argument(key, value, parameters[key].default)
        # What these two do to the initial values is lost with them.
        arguments |= {key: 0 for key in ("rescale", "emb_smooth") if key in parameters}
        with torch.device("meta"), _without_initial_values():
            network = architecture(**arguments)
    except Exception as error:
        reason = " ".join(str(error).split()) or f"its arguments do not fit together ({type(error).__name__})"
        raise BackendError(f"{package.path} asks for an impossible {name}: {reason}") from error
    expected, given = network.state_dict(), package.state
    for key in [*expected, *given]:
        shapes = [tuple(state[key].shape) if key in state else "nothing" for state in (expected, given)]
        if shapes[0] != shapes[1]:
            raise BackendError(f"{package.path}: {key} should be {shapes[0]} by the arguments, but is {shapes[1]}")
    for key, tensor in given.items():
        if not tensor.is_floating_point():
            raise BackendError(f"{package.path}: {key} holds whole numbers, which is not what the network takes")
        if not tensor.isfinite().all():
            raise BackendError(f"{package.path}: {key} holds NaN or infinity: the weight file is damaged")
    state = {key: tensor.to(torch.float32) for key, tensor in given.items()}
    torch.nn.Module.load_state_dict(network, state, assign=True)
    return network.eval().requires_grad_(False)


def _without_initial_values() -> Any:
    """A context in which torch's initialisers do nothing: on the meta device they would load half of torch to do it."""
    from torch.overrides import TorchFunctionMode

    class WithoutInitialValues(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function.__name__ in ("kaiming_uniform_", "uniform_", "normal_"):
                return args[0] if args else kwargs["tensor"]
            return function(*args, **(kwargs or {}))

    return WithoutInitialValues()


def _check_argument(name: str, value: Any, default: Any) -> None:
    """Raise ValueError unless `value` has the kind of `default` and a sensible size."""
    if name == "sources":
        if not (isinstance(value, (list, tuple)) and 1 <= len(value) <= 32 and len(set(value)) == len(value)):
            raise ValueError("sources must be 1 to 32 different names")
        if not all(isinstance(source, str) and 1 <= len(source) <= 64 for source in value):
            raise ValueError("sources must be short names")
    elif name in ("t_sparse_self_attn", "t_sparse_cross_attn", "t_auto_sparsity", "t_sin_random_shift"):
        if value:
            raise ValueError(f"{name} is not supported")
    elif isinstance(value, (list, tuple)):
        if len(value) > 8 or not all(_is_number(item) for item in value):
            raise ValueError(f"{name} must be at most 8 numbers")
    elif isinstance(default, (bool, str)) and not isinstance(value, (bool, str)):
        raise ValueError(f"{name} = {str(value)[:40]} must be like {default!r}")
    elif isinstance(value, (bool, str)) or value is None:
        if name in _RANGES and value is not None:
            raise ValueError(f"{name} = {str(value)[:40]!r} must be a number")
    else:
        low, high = _RANGES.get(name, (-1e6, 1e6))
        if not _is_number(value) or not low <= value <= high:
            raise ValueError(f"{name} = {str(value)[:40]} must be a number from {low:g} to {high:g}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, Fraction)) and not isinstance(value, bool) and math.isfinite(value)


def decode_only(network: Any, stems: Iterable[str]) -> None:
    """Cut from the network's last layers, in place, the output channels of all sources but `stems`.

    Each source has its own channels there and nothing after mixes them, so what is left comes out as before. Nothing
    is cut where that does not hold: a normalisation over all channels, or a Wiener filter that needs every source.
    """
    import torch

    rows = [row for row, source in enumerate(network.sources) if source in set(stems)]
    last = _last_layers(network)
    if len(rows) == len(network.sources) or not last:
        return
    for layer in last:
        per_source = layer.out_channels // len(network.sources)
        channels = [row * per_source + channel for row in rows for channel in range(per_source)]
        layer.weight = torch.nn.Parameter(layer.weight[:, channels].contiguous(), requires_grad=False)
        layer.bias = torch.nn.Parameter(layer.bias[channels].contiguous(), requires_grad=False)
        layer.out_channels = len(channels)
    network.sources = [network.sources[row] for row in rows]


def _last_layers(network: Any) -> list[Any]:
    """The transposed convolutions that give the sources; none where their channels cannot be told apart."""
    import torch

    if not hasattr(network, "cac"):
        last = network.decoder[-1][-1]
        return [last] if isinstance(last, torch.nn.ConvTranspose1d) else []
    if not network.cac and network.wiener_iters >= 0:
        return []
    decoders = [*getattr(network.decoder[-1], "layers", [network.decoder[-1]]), *getattr(network, "tdecoder", [])[-1:]]
    plain = all(isinstance(decoder.norm2, torch.nn.Identity) for decoder in decoders)
    return [decoder.conv_tr for decoder in decoders] if plain else []


@dataclass(frozen=True)
class Facts:
    """What segments of a track are cut and added by: a network's sources, sample rate in Hz and segment in seconds.

    fixed: it takes pieces of exactly the segment asked for, and of no more than its own (HTDemucs).
    valid_length: the frames that other networks want for a piece.
    """

    sources: tuple[str, ...]
    sample_rate: int
    segment_s: float | Fraction
    fixed: bool
    valid_length: Callable[[int], int] = int

    def given(self, frames: int, segment_s: float | Fraction) -> int:
        """Frames the network wants for a piece of `frames`: the piece in the middle, its surroundings around."""
        return int(segment_s * self.sample_rate) if self.fixed else self.valid_length(frames)


def facts(network: Any) -> Facts:
    """The facts of a network on torch."""
    return Facts(
        tuple(network.sources),
        network.samplerate,
        network.segment,
        hasattr(network, "use_train_segment"),
        getattr(network, "valid_length", int),
    )
