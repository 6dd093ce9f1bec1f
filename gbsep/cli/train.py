"""`gbsep train`: models taught on one's own songs."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import click

from ..params import DEVICES
from .common import debug_option, progress_bar, say
from .helping import command

if TYPE_CHECKING:
    from ..train.loop import Plan

MEAN_STEPS = 10
"""Steps over which the figures at the beginning and at the end are means, or half of all when there are fewer."""

LINE_S = 60.0
"""How often a log, which is no terminal, gets a line of how far training is."""


@command(short_help="Teach a model on your own songs.")
@click.option("--from", "start", metavar="MODEL|FILE", default="compact", show_default=True, help="Where to begin.")
@click.option("--stems", metavar="DIR", required=True, type=click.Path(path_type=Path), help="A folder for each song.")
@click.option("--out", "-o", metavar="NAME|FILE", help="The new model. [default: MODEL-DIR]")
@click.option("--steps", type=click.IntRange(1, 10**7), help="Steps of training. [default: 500]")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Stop after so long, if not done by then.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of all chance.")
@click.option(
    "--rate",
    type=click.FloatRange(0, 1, min_open=True),
    help="Highest learning rate. [default: 3e-4 for compact, 1e-4 for Demucs]",
)
@click.option("--batch", type=click.IntRange(1, 1024), help="Excerpts a step. [default: 6 for compact, 2 for Demucs]")
@click.option("--device", type=click.Choice(DEVICES), default="auto", help="Where it is trained.")
@click.option("--models", type=click.Path(path_type=Path), envvar="GBSEP_MODELS", help="Folder of models, old and new.")
@debug_option
def train(
    start: str,
    stems: Path,
    out: str | None,
    steps: int | None,
    minutes: float | None,
    seed: int,
    rate: float | None,
    batch: int | None,
    device: str,
    models: Path | None,
) -> int:
    """Go on training a model on songs whose stems you have: a model of your own.

    DIR holds a folder for each song, with bass.* and guitar.* (or guitar1.*,
    guitar2.* ...), all equally long. MODEL is compact, a Demucs model, or one of
    your own; it is only read. Ctrl-C stops after the step at hand, and the same
    command goes on from there.

    \b
    gbsep train --stems songs --out mine
    gbsep render song.wav --set separate.model=mine
    gbsep train --from htdemucs_6s --stems songs --out mine_6s --minutes 60

    \b
    Exit codes: 0 done, 2 refused before anything was written, 130 interrupted,
    143 ended by SIGTERM.
    """
    from ..separation.compute import pick_device
    from ..train import finetune, loop

    usual_name = f"{Path(start).stem}-{stems.resolve().name}"
    target = finetune.find_target(usual_name if out is None else out, models)
    with progress_bar(target.stem, LINE_S) as show:
        backend, file = finetune.find_start(start, models, partial(show, "download"))
        plan = _plan_of(finetune.PLANS[backend], steps=steps, learning_rate=rate, batch_size=batch, seed=seed)
        show("reading songs", 0.0)
        job = finetune.songs_job(backend, file, stems, plan, pick_device(device))
        target.parent.mkdir(parents=True, exist_ok=True)
        kept = target.with_suffix(".state")
        state = loop.opened(job, kept)
        figures, before = list[float](), state.step
        running = loop.run(state, job, plan, kept, math.inf if minutes is None else 60 * minutes)
        with _interrupted() as interrupted, closing(running):
            for step, figure in running:
                figures.append(figure)
                show(f"step {step}, {_mean(figures[-MEAN_STEPS:], backend)}", step / plan.steps)
                if interrupted():
                    break
    if code := interrupted():
        done = f"step {state.step} of {plan.steps}"
        click.echo(f"interrupted after {done}; the same command goes on from there", err=True)
        return code
    finetune.finish(job, state, target)
    kept.unlink(missing_ok=True)
    if figures:
        click.echo(_change(figures, before, state.step, backend), err=True)
    say(str(target))
    return 0


def _plan_of(usual: Plan, **given: Any) -> Plan:
    """The usual plan with what was given instead; a short training rises and falls in a part of its steps."""
    plan = replace(usual, **{name: value for name, value in given.items() if value is not None})
    return replace(plan, cooldown=min(usual.cooldown, plan.steps // 2), warmup=min(usual.warmup, plan.steps // 10))


def _change(figures: list[float], before: int, after: int, backend: str) -> str:
    """How the error changed from step `before` to step `after`."""
    few = min(MEAN_STEPS, max(1, len(figures) // 2))
    first, last = _mean(figures[:few], backend), _mean(figures[-few:], backend)
    since = f"{before + 1} to " if before else ""
    return f"{since}{after} steps, error {first} at first, {last} at last (means of {few}, each step on other excerpts)"


def _mean(figures: list[float], backend: str) -> str:
    """The mean of some steps' errors, in the unit of the backend."""
    mean = fmean(figures)
    return f"{mean:.2f} dB" if backend == "compact" else f"{mean:.4f}"


@contextmanager
def _interrupted() -> Iterator[Callable[[], int]]:
    """Within, Ctrl-C or SIGTERM only makes the answer its exit code, 0 before; a second one interrupts at once."""
    code = 0

    def press(number: int, frame: object) -> None:
        nonlocal code
        code = 128 + number
        restore()

    def restore() -> None:
        for number, handler in usual.items():
            signal.signal(number, handler)

    usual = {number: signal.signal(number, press) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: code
    finally:
        restore()
