"""What commands that render batches share: their options, planning, carrying out, and the report at the end."""

from __future__ import annotations

import glob
import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import GbsepError
from ..io.formats import BIT_DEPTHS, FORMATS
from ..params import DEVICES
from .common import (
    AtLeast,
    Seed,
    Time,
    complain,
    figure,
    loudness,
    plugin_paths_option,
    print_json,
    print_table,
    say,
    told_when_long,
)
from .completion import complete_presets, complete_stems
from .progress import batch_progress, two_stops

if TYPE_CHECKING:
    from ..batch import Batch
    from ..rendering import Options, Outcome
    from ..shelf.batch import Report

CHOSEN = "the review's, or default"
"""The preset of a song for which none is named, where one may be left out."""

MANY = 20
"""More outcomes than this get a row each in the table, not one for each stem."""

OPTIONS = (
    click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Change one value of the preset."),
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
    seed: int | None,
    format_: str | None,
    bit_depth: str | None,
    no_residual: bool,
    no_cache: bool,
    as_json: bool,
    download: bool = True,
    **options: Any,
) -> Choices:
    """The values of `batch_options`, checked. Raises PresetError."""
    from ..preset.overrides import parse_override
    from ..rendering import Options
    from ..shelf.remote import is_url

    return Choices(
        presets=presets,
        options=Options(Path(out), use_cache=not no_cache, download=download, **options),
        destination=out if is_url(out) else None,
        overrides=[parse_override(text) for text in overrides],
        changes={"seed": seed, "format": format_, "bit_depth": bit_depth, "residual": False if no_residual else None},
        jobs=jobs,
        cluster=cluster,
        as_json=as_json,
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
    outcomes, interrupted = run_batch(planned, choices.cluster, watching)
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
    print_outcomes(outcomes, choices.as_json)
    if told:
        counts = {**told.counts, "not done": len(planned.plans) + len(planned.refused) - len(outcomes)}
        words = [f"{count} {word}" for word, count in counts.items() if count]
        say(f"{', '.join(words)}; {report.place(planned)}", err=True)
        if left := told.unreviewed:
            say(f"{len(left)} unreviewed; gbsep review {planned.options.out} opens them", err=True)
    if problem:
        complain(problem)
    if interrupted:
        raise KeyboardInterrupt
    return 1 if failed else 0


def run_batch(planned: Batch, cluster: str | None, watching: bool = False) -> tuple[list[Outcome], bool]:
    """Run a batch and show how it goes: the outcomes there are, in order, and whether it was interrupted.

    One separation alone is done in this process, and ended by the first Ctrl-C; but while `watching` every one is done
    in another process, whose end is not the end of the watch.
    """
    from .. import batch

    outcomes: list[Outcome] = []
    interrupted = False

    here = planned.alone and not cluster and not watching
    with batch_progress(planned) as show, nullcontext() if here else two_stops() as stop:
        try:
            outcomes.extend(batch.run(planned, cluster=cluster, apart=watching, on_event=show, stop=stop))
        except KeyboardInterrupt:
            interrupted = True
    return planned.in_order(outcomes), interrupted or (stop is not None and stop.is_set())


def tell_left_out(planned: Batch) -> None:
    for why, paths in {
        "as no audio by their names": planned.left_out,
        "as stems that gbsep made; name a file itself to render it": planned.stems,
    }.items():
        if paths:
            named = ", ".join(paths[:3]) + (", ..." if len(paths) > 3 else "")
            say(f"left out, {why}: {named} ({len(paths)})", err=True)


def print_outcomes(outcomes: Sequence[Outcome], as_json: bool) -> None:
    """Results on stdout: a table, or one JSON object per line. Warnings and errors on stderr."""
    for outcome in outcomes:
        if as_json:
            print_json(outcome.as_json())
        for warning in outcome.warnings:
            say(f"{outcome.input}: warning: {warning}", err=True)
        if outcome.traceback and click.get_current_context().obj["debug"]:
            click.echo(outcome.traceback, err=True)
    about: dict[str, list[Path | str]] = {}
    for outcome in outcomes:
        if outcome.error and outcome.input not in about.setdefault(outcome.error, []):
            about[outcome.error].append(outcome.input)
    for error, paths in about.items():
        complain(error + (f" (the same with {len(paths) - 1} more)" if len(paths) > 1 else ""), paths[0])
    done = [outcome for outcome in outcomes if outcome.folder]
    if as_json or not done:
        return
    if len(outcomes) <= MANY:
        header = ("track", "preset", "", "stem", "restored", "loudness", "peak", "seconds")
        print_table(header, [row for outcome in outcomes for row in _rows(outcome)])
        for folder in dict.fromkeys(str(outcome.folder) for outcome in done):
            say(folder)
    else:
        rows = [(_song(one), one.preset, one.status, one.reason or _fault(one), _seconds(one)) for one in outcomes]
        print_table(("track", "preset", "", "", "seconds"), rows)


def _song(outcome: Outcome) -> str:
    return outcome.track or str(outcome.input)


def _fault(outcome: Outcome) -> str:
    """The beginning of what went wrong; the whole of it is on stderr."""
    return textwrap.shorten((outcome.error or "").removeprefix(f"{outcome.input}: "), 50, placeholder="...")


def _seconds(outcome: Outcome) -> str:
    return f"{sum(outcome.seconds.values()):.1f}" if outcome.seconds else ""


def _rows(outcome: Outcome) -> Iterator[tuple[str, ...]]:
    head, seconds = (_song(outcome), outcome.preset, outcome.status), _seconds(outcome)
    for name, stem in outcome.levels.items():
        after = stem.after
        yield (
            *head,
            name,
            f"{stem.restored_gain_db:+.1f} dB",
            loudness(after),
            figure(after.peak_dbfs, "dBFS"),
            seconds,
        )
        head, seconds = ("", "", ""), ""
    if not outcome.levels:
        yield (*head, _fault(outcome), "", "", "", "")
