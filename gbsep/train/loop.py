"""The optimisation: AdamW on the error of the bass's waveform, with averaged weights, resumable to the last bit.

The error of the bass is the error of the guitar too, since the two sum to the mixture: one number per excerpt,
10 log10(error energy / mixture energy), floored at FLOOR_DB so that excerpts already solved stop pulling. Learning
rate: linear warm-up, constant, then a linear run-out over the last `cooldown` steps. What is shipped and validated is
the exponential average of the weights.

A state file holds weights, averages, both moments and the step; a batch depends on (seed, step) alone. So a run cut in
two gives the same bytes as one that was not, on one machine with one thread count.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ParameterError
from ..separation import harmonic_net
from .mixing import Sources, batch

if TYPE_CHECKING:
    import torch

FLOOR_DB = -35.0


@dataclass(frozen=True)
class Plan:
    """How to train. `steps` counts from the very beginning; a resumed run goes on to it."""

    steps: int
    seed: int = 0
    batch_size: int = 8
    excerpt_s: float = 5.0
    learning_rate: float = 2e-3
    warmup: int = 100
    cooldown: int = 500
    average: float = 0.998
    weight_decay: float = 1e-3
    clip: float = 1.0
    half: bool = True

    def __post_init__(self) -> None:
        for name, low in (("steps", 1), ("batch_size", 1), ("excerpt_s", 0.5), ("learning_rate", 0.0)):
            if not getattr(self, name) >= low:
                raise ParameterError(name, getattr(self, name), f"at least {low}")

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        up = min(1.0, (step + 1) / max(self.warmup, 1))
        down = min(1.0, (self.steps - step) / max(self.cooldown, 1))
        return self.learning_rate * up * down


@dataclass(eq=False)
class State:
    """Where a run is: everything that a resumed run needs."""

    config: harmonic_net.Config
    weights: dict[str, torch.Tensor]
    averages: dict[str, torch.Tensor]
    first_moments: dict[str, torch.Tensor]
    second_moments: dict[str, torch.Tensor]
    step: int = 0


def begin(config: harmonic_net.Config, seed: int, device: str, weights: dict | None = None) -> State:
    """A fresh state, untrained or going on from `weights` (fine-tuning)."""
    import torch

    start = {name: value.to(device) for name, value in (weights or harmonic_net.new_weights(config, seed)).items()}
    return State(
        config,
        {name: harmonic_net.laid_out(value.clone()) for name, value in start.items()},
        {name: value.clone() for name, value in start.items()},
        {name: torch.zeros_like(value) for name, value in start.items()},
        {name: torch.zeros_like(value) for name, value in start.items()},
    )


PARTS = ("weights", "averages", "first_moments", "second_moments")


def save(state: State, path: Path) -> None:
    """Write a state as safetensors, replacing `path` only once it is whole."""
    from safetensors.torch import save_file

    tensors = {f"{part}/{name}": v.contiguous().cpu() for part in PARTS for name, v in getattr(state, part).items()}
    partial = path.with_suffix(".part")
    # One entry alone: safetensors writes several in no fixed order.
    about = {"config": asdict(state.config), "step": state.step}
    save_file(tensors, partial, metadata={"run": json.dumps(about)})
    partial.replace(path)


def resume(path: Path, device: str) -> State:
    """The state that `save` wrote."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["run"])
        tensors = {name: file.get_tensor(name).to(device) for name in file.keys()}  # noqa: SIM118

    def part(which: str) -> dict[str, torch.Tensor]:
        return {
            name.partition("/")[2]: harmonic_net.laid_out(value)
            for name, value in tensors.items()
            if name.startswith(f"{which}/")
        }

    config = harmonic_net.config_from(about["config"])
    weights, averages, first_moments, second_moments = map(part, PARTS)
    return State(config, weights, averages, first_moments, second_moments, about["step"])


def error_db(
    config: harmonic_net.Config, weights: dict, mixture: torch.Tensor, bass: torch.Tensor, half: bool
) -> torch.Tensor:
    """Energy of the bass's error over the mixture's, in dB for each excerpt (size,), floored near FLOOR_DB."""
    estimate = harmonic_net.bass_spectrum(config, weights, harmonic_net.spectrum(config, mixture), half)
    error = harmonic_net.waves(config, estimate, mixture.shape[-1]) - bass
    ratio = error.square().sum(dim=(1, 2)) / (mixture.square().sum(dim=(1, 2)) + 1e-3)
    return 10.0 * (ratio + 10 ** (FLOOR_DB / 10)).log10()


def train(state: State, sources: Sources, plan: Plan) -> Iterator[tuple[int, float]]:
    """Go on from `state`, which is changed in place, to plan.steps; yields (step, error in dB) after every step."""
    import torch

    names = sorted(state.weights)
    for name in names:
        state.weights[name].requires_grad_(True)
    while state.step < plan.steps:
        mixture, bass = batch(sources, plan.seed, state.step, plan.batch_size, plan.excerpt_s)
        loss = error_db(state.config, state.weights, mixture, bass, plan.half).mean()
        gradients = torch.autograd.grad(loss, [state.weights[name] for name in names])
        with torch.no_grad():
            norm = torch.stack([g.norm() for g in gradients]).norm()
            scale = torch.where(norm.isfinite(), (plan.clip / (norm + 1e-6)).clamp(max=1.0), torch.zeros_like(norm))
            _adamw(state, plan, names, [torch.nan_to_num(g) * scale for g in gradients])
        state.step += 1
        yield state.step, loss.item()


def _adamw(state: State, plan: Plan, names: list[str], gradients: list[torch.Tensor]) -> None:
    """One step of AdamW (Loshchilov & Hutter 2019) and of the average of the weights."""
    step, rate, beta1, beta2 = state.step + 1, plan.rate(state.step), 0.9, 0.99
    keep = min(plan.average, step / (step + 10))
    for name, gradient in zip(names, gradients, strict=True):
        weight, m, v = state.weights[name], state.first_moments[name], state.second_moments[name]
        m.lerp_(gradient, 1 - beta1)
        v.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        update = (m / (1 - beta1**step)) / ((v / (1 - beta2**step)).sqrt() + 1e-8)
        if name.endswith(".weight"):
            weight.mul_(1 - rate * plan.weight_decay)
        weight.sub_(update, alpha=rate)
        state.averages[name].lerp_(weight, 1 - keep)
