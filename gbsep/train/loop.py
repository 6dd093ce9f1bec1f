"""The optimisation, whatever is learnt: Muon or Adam with averaged weights, resumable to the last bit.

A Job says what is learnt: its loss is a function of the weights and the number of the step alone. Kernels (`*.weight`)
take steps of Muon (Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024; scaled to Adam's
steps after Liu et al., "Muon is scalable for LLM training", 2025), all else, or all there is with `Plan.muon` off,
steps of Adam (with decoupled weight decay on kernels, Loshchilov & Hutter, 2019). Learning rate: linear warm-up,
constant, then a linear run-out over the last `cooldown` steps. What is shipped and validated is the exponential average
of the weights.

A state file holds weights, averages, both moments and the step. So a run cut in two gives the same bytes as one that
was not, on one machine with one thread count.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..atomic import replacing
from ..errors import OutputError, ParameterError

if TYPE_CHECKING:
    import torch

    Weights = dict[str, torch.Tensor]

SAVE_S = 120.0
"""How often a run's state is saved."""


@dataclass(frozen=True)
class Plan:
    """How to train. `steps` counts from the very beginning; a resumed run goes on to it.

    half: convolutions in bfloat16; None means where the device has arithmetic for it.
    """

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
    half: bool | None = None
    muon: bool = True

    def __post_init__(self) -> None:
        for name, low in (("steps", 1), ("batch_size", 1), ("excerpt_s", 0.5), ("learning_rate", 0.0)):
            if not getattr(self, name) >= low:
                raise ParameterError(name, getattr(self, name), f"at least {low}")

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        up = min(1.0, (step + 1) / max(self.warmup, 1))
        down = min(1.0, (self.steps - step) / max(self.cooldown, 1))
        return self.learning_rate * up * down


@dataclass(frozen=True, eq=False)
class Job:
    """What is learnt.

    about: JSON-able, what a state must have been begun for to go on with this job; weights: where a fresh run starts;
    loss(weights, step): what to descend, and the figure to tell; write(path, weights): the finished weights as a file
    that a backend reads, never half written.
    """

    about: Mapping[str, Any]
    weights: Weights
    loss: Callable[[Weights, int], tuple[torch.Tensor, torch.Tensor]]
    write: Callable[[Path, Weights], None]


@dataclass(eq=False)
class State:
    """Where a run is: everything that a resumed run needs."""

    about: Mapping[str, Any]
    weights: Weights
    averages: Weights
    first_moments: Weights
    second_moments: Weights
    step: int = 0


PARTS = ("weights", "averages", "first_moments", "second_moments")


def begin(job: Job) -> State:
    """A fresh state; the job's own weights stay as they are."""
    import torch

    def start(of: Callable[[torch.Tensor], torch.Tensor]) -> Weights:
        return {name: of(value.detach()) for name, value in job.weights.items()}

    return State(job.about, start(torch.clone), start(torch.clone), start(torch.zeros_like), start(torch.zeros_like))


def save(state: State, path: Path) -> None:
    """Write a state as safetensors, replacing `path` only once it is whole."""
    from safetensors.torch import save_file

    tensors = {
        f"{part}/{name}": value.detach().contiguous().cpu()
        for part in PARTS
        for name, value in getattr(state, part).items()
    }
    # One entry alone: safetensors writes several in no fixed order.
    metadata = {"run": json.dumps({"config": state.about, "step": state.step})}
    with replacing(path) as hidden:
        save_file(tensors, hidden, metadata=metadata)


def _read(path: Path) -> tuple[dict[str, Any], int, Weights]:
    """What a state file holds: about, step, tensors by part and name."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            kept = json.loads(file.metadata()["run"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return kept["config"], int(kept["step"]), tensors
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise OutputError(path, f"is no state of a training run ({error}); remove it to begin anew") from error


def averages(path: Path) -> tuple[dict[str, Any], int, Weights]:
    """What is finished of the state at `path`: (about, step, averaged weights). Raises OutputError when it is none."""
    about, step, tensors = _read(path)
    start = "averages/"
    return about, step, {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}


def resume(path: Path, job: Job) -> State:
    """The state that `save` wrote. Raises OutputError when it is none, or that of another job."""
    about, step, tensors = _read(path)
    names = {f"{part}/{name}": value.shape for part in PARTS for name, value in job.weights.items()}
    if about != json.loads(json.dumps(job.about)) or {name: value.shape for name, value in tensors.items()} != names:
        other = "other weights, songs or seed, or with other steps, rate or batch size"
        raise OutputError(path, f"is the state of a training run with {other}; remove it, or choose another name")
    parts = {
        part: {name: tensors[f"{part}/{name}"].to(value.device) for name, value in job.weights.items()}
        for part in PARTS
    }
    return State(job.about, **parts, step=step)


def opened(job: Job, path: Path) -> State:
    """The state at `path`, or a fresh one when there is none."""
    if not os.path.lexists(path):
        return begin(job)
    if not path.is_file():
        raise OutputError(path, "is no state of a training run, and no regular file; remove it, or choose another name")
    return resume(path, job)


def run(
    state: State, job: Job, plan: Plan, path: Path, seconds: float = math.inf
) -> Generator[tuple[int, float], None, None]:
    """Train to plan.steps or for `seconds`, and yield (step, figure) after each step.

    The state is saved to `path` now and then, when the time is over, at the end, and when the iterator is closed.
    """
    begun = saved = time.monotonic()
    try:
        for step, figure in train(state, job.loss, plan):
            now = time.monotonic()
            over = now - begun > seconds
            if now - saved > SAVE_S:
                save(state, path)
                saved = now
            yield step, figure
            if over:
                break
    except GeneratorExit:
        save(state, path)
        raise
    save(state, path)


def train(
    state: State, loss_of: Callable[[Weights, int], tuple[torch.Tensor, torch.Tensor]], plan: Plan
) -> Iterator[tuple[int, float]]:
    """Go on from `state`, which is changed in place, to plan.steps; yields (step, figure) after every step."""
    import torch

    names = sorted(state.weights)
    for name in names:
        state.weights[name].requires_grad_(True)
    while state.step < plan.steps:
        loss, figure = loss_of(state.weights, state.step)
        gradients = torch.autograd.grad(loss, [state.weights[name] for name in names], materialize_grads=True)
        with torch.no_grad():
            norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
            scale = torch.where(norm.isfinite(), (plan.clip / (norm + 1e-6)).clamp(max=1.0), torch.zeros_like(norm))
            _update(state, plan, names, [torch.nan_to_num(gradient) * scale for gradient in gradients])
        state.step += 1
        yield state.step, figure.item()


def _update(state: State, plan: Plan, names: list[str], gradients: list[torch.Tensor]) -> None:
    """One step of the weights and of their average."""
    step, rate, momentum, beta1, beta2 = state.step + 1, plan.rate(state.step), 0.95, 0.9, 0.99
    keep = min(plan.average, step / (step + 10))
    for name, gradient in zip(names, gradients, strict=True):
        weight, m, v = state.weights[name], state.first_moments[name], state.second_moments[name]
        kernel = name.endswith(".weight") and weight.dim() > 1
        if kernel and plan.muon:
            m.mul_(momentum).add_(gradient)
            update = _orthogonal(gradient + momentum * m)
        else:
            m.lerp_(gradient, 1 - beta1)
            v.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
            update = (m / (1 - beta1**step)) / ((v / (1 - beta2**step)).sqrt() + 1e-8)
        if kernel:
            weight.mul_(1 - rate * plan.weight_decay)
        weight.sub_(update, alpha=rate)
        state.averages[name].lerp_(weight, 1 - keep)


def _orthogonal(kernel: torch.Tensor) -> torch.Tensor:
    """`kernel` with the singular values of its (outputs, rest) matrix near one, times what gives it an RMS near 0.2.

    Newton-Schulz iteration with the coefficients of Jordan et al., the scale of Liu et al.
    """
    matrix = kernel.flatten(1)
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    update: torch.Tensor = (0.2 * max(matrix.shape) ** 0.5 * (x.T if tall else x)).reshape(kernel.shape)
    return update
