"""The training objective of the embedded network: the waveform of the bass.

The error of the bass is the error of the guitar too, since the two sum to the mixture: 10 log10(error energy / mixture
energy). The loss is that of whole excerpts plus LOCAL times that of each second, so that passages in which one
instrument rests count however loud the rest of the excerpt is. Both are floored at SOLVED_DB, so that excerpts that are
nearly solved have small gradients. The reported figure is floored at FLOOR_DB only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..separation.compact import network as compact_network
from ..separation.compact import weights as compact_weights
from ..separation.compact.config import Config
from .loop import Job, Plan
from .mixing import Sources, batch

if TYPE_CHECKING:
    import torch

FLOOR_DB = -35.0
SOLVED_DB = -25.0
LOCAL = 0.5
"""How much the error second by second counts in the loss, beside that of the whole excerpt."""

QUIET = 0.01
"""Seconds below this part of an excerpt's mean power count the less the quieter they are."""


def compact_job(
    config: Config,
    weights: compact_network.Weights,
    sources: Sources,
    plan: Plan,
    about: Mapping[str, Any] | None = None,
    fixed: compact_network.Weights | None = None,
) -> Job:
    """Learn to tell the bass in mixtures of `sources`; `about` is kept beside the network's shape in the state.

    The network's other weights may be `fixed`. A first pass counts as much as a second one, unless it is fixed.
    """
    import torch

    device = sources.stems.device
    half = computes_in_bfloat16(device.type) if plan.half is None else plan.half

    def loss(weights: compact_network.Weights, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        mixture, bass = batch(sources, plan.seed, step, plan.batch_size, plan.excerpt_s)
        errors = _errors(config, {**(fixed or {}), **weights}, mixture, bass, half)[-1 if fixed else 0 :]
        whole, second = mixture.shape[-1], min(config.sample_rate, mixture.shape[-1])
        losses = [
            _ratio_db(error, mixture, whole, SOLVED_DB).mean()
            + LOCAL * _ratio_db(error, mixture, second, SOLVED_DB).mean()
            for error in errors
        ]
        return torch.stack(losses).mean(), _ratio_db(errors[-1].detach(), mixture, whole).mean()

    return Job(
        {**asdict(config), **(about or {})},
        {name: value.to(device) for name, value in weights.items()},
        loss,
        lambda path, learnt: _write(config, path, {**(fixed or {}), **learnt}),
    )


def computes_in_bfloat16(device: str) -> bool:
    """Whether a device, such as cpu, has arithmetic for bfloat16: without, it takes ten times as long as float32."""
    import torch

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    has_mkldnn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return device == "cpu" and has_mkldnn and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _write(config: Config, path: Any, weights: compact_network.Weights) -> None:
    compact_weights.save(path, config, {name: value.detach().cpu() for name, value in weights.items()})


def error_db(
    config: Config, weights: compact_network.Weights, mixture: torch.Tensor, bass: torch.Tensor, half: bool
) -> torch.Tensor:
    """Energy of the bass's error over the mixture's, in dB for each excerpt (size,), floored near FLOOR_DB."""
    error = compact_network.mean_of_passes(*_errors(config, weights, mixture, bass, half))
    return _ratio_db(error, mixture, mixture.shape[-1])[:, 0]


def _errors(
    config: Config, weights: compact_network.Weights, mixture: torch.Tensor, bass: torch.Tensor, half: bool
) -> list[torch.Tensor]:
    """The bass's error after each pass, as waves (size, frames)."""
    weights = {name: compact_network.channels_last(value) for name, value in weights.items()}
    estimates = compact_network.bass_spectra(config, weights, compact_network.spectrum(config, mixture), half)
    return [compact_network.waves(config, estimate, mixture.shape[-1]) - bass for estimate in estimates]


def _ratio_db(error: torch.Tensor, mixture: torch.Tensor, frames: int, floor_db: float = FLOOR_DB) -> torch.Tensor:
    """Energy of `error` over that of `mixture`, in dB for each whole piece of `frames`, (size, pieces)."""

    def power(x: torch.Tensor) -> torch.Tensor:
        pieces = x.shape[-1] // frames
        return x[:, : pieces * frames].reshape(len(x), pieces, frames).square().mean(dim=2)

    quiet = QUIET * mixture.square().mean(dim=1)[:, None] if frames < mixture.shape[-1] else 0.0
    return 10.0 * (power(error) / (power(mixture) + quiet + 1e-8) + 10 ** (floor_db / 10)).log10()
