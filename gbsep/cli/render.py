"""`gbsep render` and `gbsep chain`: a recording, or a stem of one, through a preset."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import GbsepError, ParameterError, printable
from .common import complain, debug_option, figure, plugin_paths_option, print_table, progress_bar
from .progress import batch_progress, two_stops
from .session import session_options, write_after

if TYPE_CHECKING:
    from ..batch import Batch, Event
    from ..rendering import Outcome

MANY = 20
"""More outcomes than this get a row each in the table, not one for each stem."""


@click.command(short_help="Separate recordings and write processed stems.")
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@click.option(
    "--preset", "-p", "presets", metavar="NAME|FILE", multiple=True, help="Preset; may be given again. [default]"
)
@click.option(
    "--out", "-o", type=click.Path(path_type=Path), default="gbsep-out", show_default=True, help="Output folder."
)
@click.option(
    "--jobs",
    "-j",
    type=click.IntRange(1),
    help="Renders at a time, each in a process. [default: one per core, as far as each has 3 GB of memory]",
)
@click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Change one value of the preset.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Seed of everything random, in place of the preset's.")
@click.option("--start", "start_s", type=float, default=0.0, help="Render from this second on.")
@click.option("--duration", "duration_s", type=float, help="Render this many seconds.")
@click.option(
    "--format", "format_", type=click.Choice(["wav", "flac", "mp3"]), help="File format, in place of the preset's."
)
@click.option("--bit-depth", type=click.Choice(["16", "24", "float32"]), help="Of WAV and FLAC.")
@click.option(
    "--name", default="{stem}", show_default=True, help="Names of the files, of {track}, {preset} and {stem}."
)
@click.option("--dry-stems", is_flag=True, help="Also write each stem before its effects, as <stem>.dry.")
@click.option("--overwrite", is_flag=True, help="Render again, and replace files that gbsep did not write.")
@click.option("--keep-going", is_flag=True, help="Leave out inputs that cannot be rendered; do the others.")
@click.option("--dry-run", is_flag=True, help="Check everything and say what would be done.")
@click.option("--no-cache", is_flag=True, help="Separate again, even if the stems are at hand.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True)
@click.option("--models", type=click.Path(path_type=Path), envvar="GBSEP_MODELS", help="Folder with model weights.")
@session_options
@plugin_paths_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object per render on stdout, and nothing else there.")
@debug_option
def render(
    inputs: tuple[str, ...],
    presets: tuple[str, ...],
    out: Path,
    jobs: int | None,
    overrides: tuple[str, ...],
    seed: int | None,
    start_s: float,
    duration_s: float | None,
    format_: str | None,
    bit_depth: str | None,
    name: str,
    dry_stems: bool,
    overwrite: bool,
    keep_going: bool,
    dry_run: bool,
    no_cache: bool,
    device: str,
    models: Path | None,
    session_format: str | None,
    session_per: str,
    allow_plugin_paths: bool,
    as_json: bool,
) -> int:
    """Separate recordings and write their processed stems to OUT/<track>/<preset>/.

    Everything is checked before anything is written. A render that is already there and unchanged is skipped; one
    whose input or preset has changed is replaced; files that gbsep did not write are never touched without --overwrite.

    \b
    gbsep render song.wav                                     the default preset
    gbsep render song.wav -p exp005_1 --start 60 --duration 20      try twenty seconds first
    gbsep render a.flac b.mp3 -p exp002 -p minus_bass --format flac
    gbsep render song.wav -p exp002 --set separate.cutoff_hz=250    lands in exp002@cutoff_hz=250
    gbsep render song.wav --name "{track} - {stem}"           names for a DAW
    gbsep render song.wav --session reaper                    a project that opens with all of it

    \b
    Exit codes: 0 all well, 1 an input failed while running, 2 refused before anything was written, 130 interrupted.
    """
    from .. import batch
    from ..preset import parse_override
    from ..rendering import Options
    from ..session import check_projects

    begun = time.time()
    options = Options(
        out,
        overwrite,
        dry_stems or session_format is not None,
        start_s,
        duration_s,
        name,
        device,
        models,
        use_cache=not no_cache,
        download=not dry_run,
        allow_plugin_paths=allow_plugin_paths,
    )
    pairs = [parse_override(text) for text in overrides]
    changes = {"seed": seed, "format": format_, "bit_depth": bit_depth}
    planned = batch.plan(
        inputs, presets or ("default",), options, overrides=pairs, jobs=jobs, check_space=not keep_going, **changes
    )
    _tell_left_out(planned.left_out)
    if planned.refused and not keep_going:
        _report(planned.refused, as_json)
        return 2
    after = None
    if session_format:
        songs = [plan.folder.parent for plan in planned.plans]
        check_projects(out, songs, session_format, session_per, overwrite=overwrite)
        after = partial(write_after, out, format_=session_format, per=session_per, overwrite=overwrite, as_json=as_json)
    if dry_run:
        _report(planned.refused, as_json)
        _show_plans(planned, as_json)
        return 1 if planned.refused else 0
    return carry_out(planned, begun, as_json, after)


def carry_out(
    planned: Batch, begun: float, as_json: bool, after: Callable[[Sequence[Outcome]], bool] | None = None
) -> int:
    """Run a batch, show how it goes and what became of it; the exit code.

    Of more than one render there is a report in batch.json. One song alone is ended by the first Ctrl-C. `after` is
    called with the outcomes of a run that was not interrupted, and returns whether it went well.
    """
    from .. import batch
    from ..batch import history, report

    several = len(planned.plans) + len(planned.refused) > 1
    if several:
        report.check(planned.options.out)
    debug = click.get_current_context().obj["debug"]
    outcomes: list[Outcome] = []
    interrupted = False

    def tell(event: Event) -> None:
        show(event)
        if debug and event.kind == "finished" and event.message:
            click.echo(event.message, err=True)

    with batch_progress(planned) as show, nullcontext() if planned.alone else two_stops() as stop:
        try:
            for outcome in batch.run(planned, on_event=tell, stop=stop):
                outcomes.append(outcome)  # noqa: PERF402 - those before a Ctrl-C count
        except KeyboardInterrupt:
            interrupted = True
    interrupted |= stop is not None and stop.is_set()
    outcomes = planned.in_order(outcomes)
    _report(outcomes, as_json)
    history.learn(planned, outcomes)
    failed = any(outcome.status == "failed" for outcome in outcomes)
    if several and outcomes:
        try:
            path = report.write(planned, outcomes, ["gbsep", *sys.argv[1:]], begun, interrupted)
            _summary(outcomes, path)
        except GbsepError as error:
            complain(str(error))
            failed = True
    if interrupted:
        raise KeyboardInterrupt
    if after and not after(outcomes):
        failed = True
    return 1 if failed else 0


def _tell_left_out(paths: Sequence[Path]) -> None:
    if paths:
        named = ", ".join(printable(str(path)) for path in paths[:3]) + (", ..." if len(paths) > 3 else "")
        click.echo(f"left out, as no audio by their names: {named} ({len(paths)})", err=True)


def _report(outcomes: Sequence[Outcome], as_json: bool) -> None:
    """Results on stdout: a table, or one JSON object per line. Warnings and errors on stderr."""
    for outcome in outcomes:
        if as_json:
            click.echo(json.dumps(outcome.as_json(), ensure_ascii=False))
        for warning in outcome.warnings:
            click.echo(f"{outcome.input}: warning: {warning}", err=True)
    for error, about in dict.fromkeys((outcome.error, outcome.input) for outcome in outcomes if outcome.error):
        complain(error, about)
    done = [outcome for outcome in outcomes if outcome.folder]
    if as_json or not done:
        return
    if len(outcomes) <= MANY:
        header = ("track", "preset", "", "stem", "restored", "loudness", "peak", "seconds")
        print_table(header, [row for outcome in outcomes for row in _rows(outcome)])
        click.echo("\n".join(dict.fromkeys(str(outcome.folder) for outcome in done)))
    else:
        rows = [(one.track, one.preset, one.status, one.reason, _seconds(one)) for one in outcomes]
        print_table(("track", "preset", "", "", "seconds"), rows)


def _summary(outcomes: Sequence[Outcome], path: Path) -> None:
    counts = Counter(outcome.status for outcome in outcomes)
    words = [f"{counts[status]} {status}" for status in ("ok", "skipped", "failed") if counts[status]]
    click.echo(f"{', '.join(words)}; {path}", err=True)


def _seconds(outcome: Outcome) -> str:
    return f"{sum(outcome.seconds.values()):.1f}" if outcome.seconds else ""


def _rows(outcome: Outcome) -> Iterator[tuple[str, ...]]:
    head, seconds = (outcome.track, outcome.preset, outcome.status), _seconds(outcome)
    for name, stem in outcome.levels.items():
        after = stem["after"]
        yield (
            *head,
            name,
            f"{stem['restored_gain_db']:+.1f} dB",
            figure(after["loudness_lufs"], "LUFS"),
            figure(after["peak_dbfs"], "dBFS"),
            seconds,
        )
        head, seconds = ("", "", ""), ""
    if not outcome.levels:
        yield (*head, "", "", "", "", "")


def _show_plans(planned: Batch, as_json: bool) -> None:
    from ..batch import history

    for plan in planned.plans:
        if as_json:
            click.echo(
                json.dumps(
                    {
                        "input": str(plan.source),
                        "preset": plan.preset.folder,
                        "action": plan.action,
                        "reason": plan.reason,
                        "folder": str(plan.folder),
                        "files": list(plan.names.values()),
                        "warnings": list(plan.warnings),
                    }
                )
            )
            continue
        click.echo(f"{plan.action:6} {plan.source} -> {plan.folder}{' (' + plan.reason + ')' if plan.reason else ''}")
        click.echo(f"       {', '.join(plan.names.values())}")
        for warning in plan.warnings:
            click.echo(f"       warning: {warning}")
    seconds, learned = history.estimate(planned)
    if seconds and not as_json:
        basis = "earlier renders here" if learned else "typical speeds, until such renders were made here"
        takes = f"{seconds / 60:.0f} min" if seconds > 100 else f"{seconds:.0f} s"
        at_a_time = f", {planned.jobs} at a time" if planned.jobs > 1 else ""
        click.echo(f"about {takes}{at_a_time}: an estimate from {basis}")


@click.command("chain", short_help="Send a file through a chain, without separating.")
@click.argument("path", metavar="INPUT", type=click.Path(path_type=Path))
@click.option("--preset", "-p", metavar="NAME|FILE", required=True, help="Preset that holds the chain.")
@click.option("--stem", metavar="NAME", required=True, help="The stem of the preset whose chain it is.")
@click.option(
    "--out", "-o", metavar="FILE", type=click.Path(path_type=Path), help="Output file. [default: INPUT.<stem>.wav]"
)
@click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Change one value of the preset.")
@click.option("--sidechain", "sidechains", metavar="STEM=FILE", multiple=True, help="What a Ducker hears as that stem.")
@click.option("--start", "start_s", type=float, default=0.0, help="Process from this second on.")
@click.option("--duration", "duration_s", type=float, help="Process this many seconds.")
@click.option("--overwrite", is_flag=True, help="Replace the output file.")
@plugin_paths_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, and nothing else there.")
@debug_option
def apply_chain(
    path: Path,
    preset: str,
    stem: str,
    out: Path | None,
    overrides: tuple[str, ...],
    sidechains: tuple[str, ...],
    start_s: float,
    duration_s: float | None,
    overwrite: bool,
    allow_plugin_paths: bool,
    as_json: bool,
) -> int:
    """Send any file through the chain of a preset's stem: effects and plug-ins, no separation, no restored level.

    \b
    gbsep chain bounce.wav -p exp005_1 --stem guitar                  writes bounce.guitar.wav
    gbsep chain bounce.wav -p mine.json --stem guitar --sidechain bass=bass.wav --out ducked.flac

    \b
    Exit codes: 0 all well, 1 failed while running, 2 refused before anything was written.
    """
    from ..preset import load_preset, parse_override
    from ..rendering import Options, plan_chain, run_chain

    keys: dict[str, Path] = {}
    for text in sidechains:
        name, equals, file = text.partition("=")
        if not (name and equals and file):
            raise ParameterError("sidechain", text, "STEM=FILE, such as bass=bass.wav")
        if name in keys:
            raise ParameterError("sidechain", text, f"{name} is {keys[name]} already; give each stem once")
        keys[name] = Path(file)
    options = Options(
        overwrite=overwrite, start_s=start_s, duration_s=duration_s, allow_plugin_paths=allow_plugin_paths
    )
    loaded = load_preset(preset, [parse_override(text) for text in overrides])
    plan = plan_chain(path, loaded, stem, out, options, keys)
    try:
        with progress_bar(path.name) as progress:
            done = run_chain(plan, progress)
    except GbsepError as error:
        if click.get_current_context().obj["debug"]:
            raise
        complain(str(error), about=path)
        return 1
    for warning in done["warnings"]:
        click.echo(f"{path}: warning: {warning}", err=True)
    after = done["after"]
    figures = f"{figure(after['loudness_lufs'], 'LUFS')}, {figure(after['peak_dbfs'], 'dBFS')}"
    click.echo(json.dumps(done, ensure_ascii=False) if as_json else f"{done['file']}: {figures}")
    return 0
