"""`gbsep render` and `gbsep chain`: a recording, or a stem of one, through a preset."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import GbsepError, ParameterError
from .common import complain, debug_option, figure, plugin_paths_option, print_table, progress_bar
from .session import session_options, write_after

if TYPE_CHECKING:
    from ..preset import Preset
    from ..rendering import Options, Outcome, Plan


@click.command(short_help="Separate recordings and write processed stems.")
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--preset", "-p", "presets", metavar="NAME|FILE", multiple=True, help="Preset; may be given again. [default]"
)
@click.option(
    "--out", "-o", type=click.Path(path_type=Path), default="gbsep-out", show_default=True, help="Output folder."
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
    inputs: tuple[Path, ...],
    presets: tuple[str, ...],
    out: Path,
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
    from ..preset import load_preset, parse_override
    from ..rendering import Options
    from ..session import check_projects

    pairs = [parse_override(text) for text in overrides]
    loaded = [
        load_preset(preset, pairs, seed=seed, format=format_, bit_depth=bit_depth, models=models)
        for preset in dict.fromkeys(presets or ("default",))
    ]
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
    plans, refused = _plan(inputs, loaded, options)
    if refused and not keep_going:
        _report([], refused, as_json)
        return 2
    if session_format:
        check_projects(out, [plan.folder.parent for plan in plans], session_format, session_per, overwrite=overwrite)
    if dry_run:
        _show_plans(plans, as_json)
        return 1 if refused else 0
    outcomes = list(_run(plans))
    _report(outcomes, refused, as_json)
    failed = bool(refused) or any(outcome.status == "failed" for outcome in outcomes)
    if session_format and not write_after(out, outcomes, session_format, session_per, overwrite, as_json):
        failed = True
    return int(failed)


def _plan(inputs: Iterable[Path], presets: list[Preset], options: Options) -> tuple[list[Plan], list[Outcome]]:
    """A plan for every input and preset, and an outcome for each that cannot be had."""
    from ..rendering import Outcome, plan, track_names

    plans, refused = [], []
    for path, track in track_names(inputs).items():
        for preset in presets:
            try:
                plans.append(plan(path, preset, options, track))
            except GbsepError as error:
                refused.append(Outcome(path, preset.folder, "failed", error=str(error)))
    taken = Counter(one.folder for one in plans)
    for one in [one for one in plans if taken[one.folder] > 1]:
        reason = f"{taken[one.folder]} renders would land in {one.folder}: give the presets names of their own"
        refused.append(Outcome(one.input, one.preset.folder, "failed", error=reason))
    return [one for one in plans if taken[one.folder] == 1], refused


def _run(plans: list[Plan]) -> Iterator[Outcome]:
    """Carry the plans out, one after the other; what fails does not stop the others."""
    from ..rendering import Outcome, run

    for number, plan in enumerate(plans, 1):
        label = f"{plan.track} {plan.preset.folder}" + (f" ({number}/{len(plans)})" if len(plans) > 1 else "")
        try:
            with progress_bar(label) as progress:
                outcome = run(plan, progress)
        except GbsepError as error:
            if click.get_current_context().obj["debug"]:
                raise
            outcome = Outcome(plan.input, plan.preset.folder, "failed", error=str(error))
        if len(plans) > 1:
            click.echo(f"{label}: {outcome.status}", err=True)
        yield outcome


def _report(outcomes: list[Outcome], refused: list[Outcome], as_json: bool) -> None:
    """Results on stdout: a table, or one JSON object per line. Warnings and errors on stderr."""
    for outcome in [*outcomes, *refused]:
        if as_json:
            click.echo(json.dumps(outcome.as_json(), ensure_ascii=False))
        for warning in outcome.warnings:
            click.echo(f"{outcome.input}: warning: {warning}", err=True)
        if outcome.error:
            complain(outcome.error, about=outcome.input)
    if not as_json and outcomes:
        print_table(
            ("track", "preset", "", "stem", "restored", "loudness", "peak", "seconds"),
            [row for outcome in outcomes for row in _rows(outcome)],
        )
        folders = dict.fromkeys(str(outcome.folder) for outcome in outcomes if outcome.folder)
        click.echo("\n".join(folders))


def _rows(outcome: Outcome) -> Iterator[tuple[str, ...]]:
    head = (outcome.input.stem, outcome.preset, outcome.status)
    seconds = f"{sum(outcome.seconds.values()):.1f}" if outcome.seconds else ""
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


def _show_plans(plans: list[Plan], as_json: bool) -> None:
    for plan in plans:
        if as_json:
            click.echo(
                json.dumps(
                    {
                        "input": str(plan.input),
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
        click.echo(f"{plan.action:6} {plan.input} -> {plan.folder}{' (' + plan.reason + ')' if plan.reason else ''}")
        click.echo(f"       {', '.join(plan.names.values())}")
        for warning in plan.warnings:
            click.echo(f"       warning: {warning}")


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
