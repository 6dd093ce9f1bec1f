"""`gbsep render` and `gbsep chain`: a recording, or a stem of one, through a preset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import GbsepError, ParameterError
from ..stemnames import RESIDUAL
from .batches import CHOSEN, batch_options, carry_out, choices_of, tell_left_out
from .common import Time, complain, debug_option, figure, loudness, plugin_paths_option, print_json, progress_bar, say
from .completion import complete_presets, complete_stems
from .helping import command
from .results import duration, print_outcomes
from .session import session_options, write_after

if TYPE_CHECKING:
    from ..batch import Batch
    from ..rendering import Outcome
    from .batches import Choices


@command(short_help="Separate recordings and write processed stems.")
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@batch_options(CHOSEN)
@session_options
@click.option("--keep-going", is_flag=True, help="Leave out what cannot be rendered.")
@click.option("--dry-run", is_flag=True, help="Say what it would do, and how long.")
@debug_option
def render(
    inputs: tuple[str, ...],
    keep_going: bool,
    dry_run: bool,
    session_format: str | None,
    session_per: str,
    dry_stems: bool,
    **chosen: Any,
) -> int:
    """Separate recordings and write their stems to OUT/<track>/<preset>/.

    INPUT is a file, a folder with all below it, a glob, a URL, or a table: CSV or
    JSON lines with the columns input, preset and overrides. All is checked before
    anything is written. A render that is there and unchanged is skipped; files
    that gbsep did not write stay without --overwrite.

    \b
    gbsep render song.wav                               bass and guitar
    gbsep render song.wav --start 1:30 --duration 20    try twenty seconds first
    gbsep render song.wav -p minus_bass --format mp3    to play along
    gbsep render album/ "more/**/*.flac" -p default -p exp002
    gbsep render songs.csv --jobs 2 --dry-run           what it would do
    gbsep render song.wav -p exp002 --set separate.cutoff_hz=250
    gbsep render song.wav --session reaper              and a project for a DAW

    Ctrl-C lets the songs in hand finish, twice stops at once. Either way the same
    command goes on from there.

    \b
    Exit codes: 0 all well, 1 an input failed, 2 refused before anything was
    written, 130 interrupted.
    """
    choices = choices_of(
        download=not dry_run, dry_run=dry_run, dry_stems=dry_stems or session_format is not None, **chosen
    )
    planned = choices.plan(inputs, check_space=not keep_going)
    tell_left_out(planned)
    if planned.refused and not keep_going:
        print_outcomes(planned.refused, choices.as_json)
        return 2
    after = None
    if session_format:
        after = _sessions(planned, choices, session_format, session_per, tell=dry_run)
    if dry_run:
        print_outcomes(planned.refused, choices.as_json)
        _show_plans(planned, choices.as_json)
        return 1 if planned.refused else 0
    return carry_out(planned, choices, after)


def _sessions(
    planned: Batch, choices: Choices, format_: str, per: str, tell: bool
) -> Callable[[Sequence[Outcome]], bool]:
    """What writes the DAW projects when the batch is done; `tell` now which ones it would leave as they are.

    Raises ParameterError when there is no place for any.
    """
    from ..session.write import LEFT, is_altered, projects_of

    if choices.destination:
        raise ParameterError("session", format_, f"projects are written to folders, and --out is {choices.destination}")
    out, overwrite = choices.options.out, choices.options.overwrite
    songs = dict.fromkeys(plan.folder.parent for plan in planned.plans)
    for project in projects_of(out, songs, format_, per) if tell and not overwrite else ():
        if is_altered(project):
            say(f"{project}: warning: {LEFT}", err=True)
    return partial(write_after, out, format_=format_, per=per, overwrite=overwrite, as_json=choices.as_json)


def _show_plans(planned: Batch, as_json: bool) -> None:
    from ..batch import history

    for plan in planned.plans:
        if as_json:
            print_json(
                {
                    "input": str(plan.source),
                    "preset": plan.label,
                    "action": plan.action,
                    "reason": plan.reason,
                    "folder": str(plan.folder),
                    "files": list(plan.names.values()),
                    "warnings": list(plan.warnings),
                }
            )
            continue
        say(f"{plan.action:6} {plan.source} -> {plan.folder}{' (' + plan.reason + ')' if plan.reason else ''}")
        unsure = RESIDUAL if plan.action == "render" else ""
        files = (f"{file} (unless silent)" if name == unsure else file for name, file in plan.names.items())
        say(f"       {', '.join(files)}")
        for warning in plan.warnings:
            say(f"       warning: {warning}")
    for url in planned.unseen:
        why = "it would be downloaded: until then nothing more is known of it"
        if as_json:
            print_json({"input": url, "action": "unknown", "reason": why})
        else:
            say(f"?      {url}: {why}")
    seconds, learned = history.estimate(planned)
    if seconds and not as_json:
        basis = "earlier renders here" if learned else "typical speeds, until such renders were made here"
        at_a_time = f", {planned.jobs} at a time" if planned.jobs > 1 else ""
        click.echo(f"about {duration(seconds)}{at_a_time}: an estimate from {basis}")


@command("chain", short_help="Send a file through a chain, without separating.")
@click.argument("path", metavar="INPUT", type=click.Path(path_type=Path))
@click.option(
    "--preset",
    "-p",
    metavar="NAME|FILE",
    required=True,
    help="Preset that holds the chain.",
    shell_complete=complete_presets,
)
@click.option(
    "--stem",
    metavar="NAME",
    required=True,
    help="The stem of the preset whose chain it is.",
    shell_complete=complete_stems,
)
@click.option(
    "--out", "-o", metavar="FILE", type=click.Path(path_type=Path), help="Output file. [default: INPUT.<stem>.wav]"
)
@click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Change one value of the preset.")
@click.option(
    "--sidechain",
    "sidechains",
    metavar="STEM=FILE",
    multiple=True,
    help="What a Ducker or a plug-in's side chain hears as that stem.",
)
@click.option("--start", "start_s", type=Time(), default=0.0, help="Process from this second on.")
@click.option("--duration", "duration_s", type=Time(), help="Process this many seconds.")
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
    """Send a file through the chain of a preset's stem, without separating it.

    \b
    gbsep chain bounce.wav -p warm --stem guitar        writes bounce.guitar.wav
    gbsep chain bounce.wav -p warm --stem guitar --sidechain bass=bass.wav

    \b
    Exit codes: 0 all well, 1 failed, 2 refused before anything was written.
    """
    from ..preset.load import load_preset
    from ..preset.overrides import parse_override
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
    for warning in done.warnings:
        say(f"{path}: warning: {warning}", err=True)
    after = done.after
    figures = f"{loudness(after)}, {figure(after.peak_dbfs, 'dBFS')}"
    if as_json:
        print_json(done.as_json())
    else:
        say(f"{done.file}: {figures}")
    return 0
