"""What commands that render batches share: their options, planning, carrying out, and the report at the end."""

from __future__ import annotations

import glob
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import GbsepError
from ..io.formats import BIT_DEPTHS, FORMATS
from ..params import DEVICES
from .common import AtLeast, Seed, Time, complain, plugin_paths_option, say, told_when_long
from .completion import complete_presets, complete_stems
from .progress import batch_progress, two_stops
from .results import print_outcomes, print_summary

if TYPE_CHECKING:
    from ..batch import Batch
    from ..rendering import Options, Outcome
    from ..shelf.batch import Report

CHOSEN = "default: what the review chose, or default"
"""The preset of a song for which none is named, where one may be left out."""

OPTIONS = (
    click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Change one value of the preset."),
    click.option("--two-guitars", is_flag=True, help="Take the guitar apart too, by places or by what is played."),
    click.option(
        "--out", "-o", default="gbsep-out", show_default=True, metavar="FOLDER", help="Output folder, or its URL."
    ),
    click.option("--format", "format_", type=click.Choice(list(FORMATS)), help="Format of the files."),
    click.option("--bit-depth", type=click.Choice(BIT_DEPTHS), help="Bits of a sample in WAV and FLAC."),
    click.option(
        "--name", default="{stem}", metavar="TEXT", help="Names of files, of {track}, {preset}, {stem}."
    ),
    click.option(
        "--stem", "stems", metavar="NAME", multiple=True, help="Write this stem alone; again for more.",
        shell_complete=complete_stems,
    ),
    click.option("--no-residual", is_flag=True, help="Do not write what no stem took."),
    click.option("--dry-stems", is_flag=True, help="Also write each stem before its effects."),
    click.option("--overwrite", is_flag=True, help="Replace also what gbsep did not write."),
    click.option("--start", "start_s", type=Time(), default=0.0, help="Begin here: 90, or 1:30."),
    click.option("--duration", "duration_s", type=Time(), help="Render no more than this: 20, or 1:30."),
    click.option(
        "--jobs", "-j", type=AtLeast(1), help="Songs at a time. [default: as cores and memory allow]",
    ),
    click.option(
        "--device", type=click.Choice(DEVICES), default="auto", help="Where Demucs and Open-Unmix run.",
    ),
    click.option("--cluster", metavar="ADDRESS|local", help="Render on a Dask cluster."),
    click.option("--no-cache", is_flag=True, help="Separate again, and keep no stems."),
    click.option("--seed", type=Seed(), help="Seed of all chance, in place of the preset's."),
    click.option(
        "--models", type=click.Path(path_type=Path), envvar="GBSEP_MODELS", metavar="FOLDER",
        help="Where model weights are looked for first.",
    ),
    plugin_paths_option,
    click.option("--paths", is_flag=True, help="Print the folder of each render."),
    click.option("--quiet", "-q", is_flag=True, help="Say nothing but what is wrong."),
    click.option("--json", "as_json", is_flag=True, help="Only lines of JSON on stdout."),
)  # fmt: skip


def batch_options(without_presets: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options that say how a batch is rendered. The command hands them to `choices_of`.

    `without_presets` says in the help what becomes of a command that names no preset.
    """
    presets = click.option(
        "--preset", "-p", "presets", metavar="NAME|FILE", multiple=True,
        help=f"Preset; again for more. [{without_presets}]", shell_complete=complete_presets,
    )  # fmt: skip

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed((presets, *OPTIONS)):
            command = option(command)
        return command

    return add


@dataclass(frozen=True)
class Choices:
    """What was chosen by `batch_options`."""

    presets: tuple[str, ...]
    options: Options
    destination: str | None
    overrides: list[tuple[str, Any]]
    changes: Mapping[str, Any]
    jobs: int | None
    cluster: str | None
    as_json: bool
    quiet: bool
    paths: bool
    begun: float = field(default_factory=time.time)

    def plan(self, inputs: Iterable[str], **more: Any) -> Batch:
        from .. import batch

        inputs = tuple(inputs)
        with told_when_long(_searching(inputs)):
            return batch.plan(
                inputs,
                self.presets,
                self.options,
                overrides=self.overrides,
                destination=self.destination,
                jobs=self.jobs,
                **self.changes,
                **more,
            )


def _searching(inputs: Iterable[str]) -> str:
    """What takes its time before a batch begins, empty where that is nothing but files."""
    folders = [word for word in inputs if os.path.isdir(word) or glob.has_magic(word)]
    return f"looking for songs in {', '.join(folders[:3])}{', ...' if len(folders) > 3 else ''}" if folders else ""


def choices_of(
    *,
    presets: tuple[str, ...],
    out: str,
    jobs: int | None,
    cluster: str | None,
    overrides: tuple[str, ...],
    two_guitars: bool,
    seed: int | None,
    format_: str | None,
    bit_depth: str | None,
    no_residual: bool,
    no_cache: bool,
    download: bool = True,
    **options: Any,
) -> Choices:
    """The values of `batch_options`, checked. Raises PresetError."""
    from ..preset.overrides import parse_override
    from ..rendering import Options
    from ..shelf.remote import is_url

    shown = {name: options.pop(name) for name in ("as_json", "quiet", "paths")}
    return Choices(
        presets=presets,
        options=Options(Path(out), use_cache=not no_cache, download=download, **options),
        destination=out if is_url(out) else None,
        overrides=[("separate.guitars", "auto")] * two_guitars + [parse_override(text) for text in overrides],
        changes={"seed": seed, "format": format_, "bit_depth": bit_depth, "residual": False if no_residual else None},
        jobs=jobs,
        cluster=cluster,
        **shown,
    )


def carry_out(
    planned: Batch,
    choices: Choices,
    after: Callable[[Sequence[Outcome]], bool] | None = None,
    watching: bool = False,
) -> int:
    """Run a batch, show how it goes and what became of it; the exit code.

    `after` is called with the outcomes of a batch that was not interrupted, and returns whether it went well. Of more
    than one render there is a report in batch.json, but not while watching. All is written before anything is printed:
    whoever reads may close the pipe. `watching` is as for `run_batch`.
    """
    from ..batch import history, report

    several = len(planned.plans) + len(planned.refused) > 1 and not watching
    if several:
        report.check(planned)
    outcomes, interrupted = run_batch(planned, choices, watching)
    complete = interrupted or after is None or after(outcomes)
    history.learn(planned, outcomes)
    failed = not complete or any(outcome.status == "failed" for outcome in outcomes)
    told: Report | None = None
    problem = ""
    if several and outcomes:
        try:
            told = report.write(planned, outcomes, ["gbsep", *sys.argv[1:]], choices.begun, interrupted)
        except GbsepError as error:
            problem, failed = str(error), True
    print_outcomes(outcomes, choices.as_json, choices.quiet, choices.paths)
    if several and not (choices.as_json or choices.quiet):
        begun = {(outcome.input, outcome.preset) for outcome in outcomes}
        left = [plan.track for plan in planned.plans if (plan.source, plan.label) not in begun]
        place = planned.destination or str(planned.options.out)
        print_summary(outcomes, left, time.time() - choices.begun, place, len(told.unreviewed) if told else 0)
    if problem:
        complain(problem)
    if interrupted:
        raise KeyboardInterrupt
    return 1 if failed else 0


def run_batch(planned: Batch, choices: Choices, watching: bool = False) -> tuple[list[Outcome], bool]:
    """Run a batch and show how it goes: the outcomes there are, in order, and whether it was interrupted.

    One separation alone is done in this process, and ended by the first Ctrl-C; but while `watching` every one is done
    in another process, whose end is not the end of the watch.
    """
    from .. import batch

    outcomes: list[Outcome] = []
    interrupted = False
    cluster = choices.cluster
    here = planned.alone and not cluster and not watching
    quiet = choices.quiet or choices.as_json
    with batch_progress(planned, quiet) as show, nullcontext() if here else two_stops(show) as stop:
        try:
            outcomes.extend(batch.run(planned, cluster=cluster, apart=watching, on_event=show, stop=stop))
        except KeyboardInterrupt:
            interrupted = True
    return planned.in_order(outcomes), interrupted or (stop is not None and stop.is_set())


def tell_left_out(planned: Batch) -> None:
    """Say which files of folders and patterns are not rendered."""
    for paths, why in (
        (planned.left_out, "not audio files"),
        (planned.stems, "stems that gbsep made; name one to render it"),
    ):
        if paths:
            named = ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
            say(f"skipped, {why}: {named}", err=True)
