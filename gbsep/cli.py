"""The command line: parse, call, print, exit code. It alone prints, and it alone catches GbsepError.

Exit codes: 0 all well; 1 at least one input failed while running; 2 refused in planning, before anything was written;
130 interrupted. Results go to stdout; progress, messages and errors to stderr.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import __version__
from .errors import GbsepError, ParameterError, PresetError, WeightsMissing, nearest, printable

if TYPE_CHECKING:
    from .models import Found
    from .preset import Preset
    from .rendering import Options, Outcome, Plan, Progress

HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


def main(arguments: list[str] | None = None) -> None:
    """The `gbsep` command."""
    state = {"debug": False}
    try:
        code = cli.main(arguments, prog_name="gbsep", standalone_mode=False, obj=state, default_map=_user_defaults())
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; nothing partial was left", err=True)
        code = 130
    except GbsepError as error:
        if state["debug"]:
            raise
        _complain(str(error))
        code = 2
    except BrokenPipeError:
        sys.stderr.close()
        code = 1
    sys.exit(code or 0)


def _set_debug(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    context.obj["debug"] |= value


debug_option = click.option(
    "--debug", is_flag=True, expose_value=False, callback=_set_debug, help="Show the traceback of an error."
)


@click.group(context_settings=HELP)
@click.version_option(__version__, prog_name="gbsep")
def cli() -> None:
    """Take a recording apart: guitar and bass, each through its own effect chain, at the right level.

    \b
    gbsep demo                                    make a song with known stems to try things on
    gbsep render song.wav                         separate with the default preset into gbsep-out/
    gbsep render song.wav --preset exp002 --set separate.cutoff_hz=250
    gbsep presets list                            what other presets there are, and what for

    Options that you always give can stand in defaults.json in gbsep's configuration folder:
    {"render": {"preset": ["exp002"], "out": "stems"}}.
    """


plugin_paths_option = click.option(
    "--allow-plugin-paths",
    is_flag=True,
    help="Let presets name plug-in files (native code) and states outside their folder.",
)


@cli.command(short_help="Separate recordings and write processed stems.")
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

    \b
    Exit codes: 0 all well, 1 an input failed while running, 2 refused before anything was written, 130 interrupted.
    """
    from .preset import load_preset, parse_override
    from .rendering import Options

    pairs = [parse_override(text) for text in overrides]
    loaded = [
        load_preset(preset, pairs, seed=seed, format=format_, bit_depth=bit_depth, models=models)
        for preset in dict.fromkeys(presets or ("default",))
    ]
    options = Options(
        out,
        overwrite,
        dry_stems,
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
    if dry_run:
        _show_plans(plans, as_json)
        return 1 if refused else 0
    outcomes = list(_run(plans))
    _report(outcomes, refused, as_json)
    return 1 if refused or any(outcome.status == "failed" for outcome in outcomes) else 0


def _plan(inputs: Iterable[Path], presets: list[Preset], options: Options) -> tuple[list[Plan], list[Outcome]]:
    """A plan for every input and preset, and an outcome for each that cannot be had."""
    from .rendering import Outcome, plan, track_names

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
    from .rendering import Outcome, run

    for number, plan in enumerate(plans, 1):
        label = f"{plan.track} {plan.preset.folder}" + (f" ({number}/{len(plans)})" if len(plans) > 1 else "")
        try:
            with _progress(label) as progress:
                outcome = run(plan, progress)
        except GbsepError as error:
            if click.get_current_context().obj["debug"]:
                raise
            outcome = Outcome(plan.input, plan.preset.folder, "failed", error=str(error))
        if len(plans) > 1:
            click.echo(f"{label}: {outcome.status}", err=True)
        yield outcome


@contextmanager
def _progress(label: str) -> Iterator[Progress]:
    """A progress bar on stderr for what takes longer than a second, on a terminal."""
    if not sys.stderr.isatty():
        yield lambda stage, fraction: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    begun = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task(label, total=1.0)

    def show(stage: str, fraction: float) -> None:
        if time.monotonic() - begun > 1:
            bar.start()
        bar.update(task, description=f"{label}: {stage}", completed=fraction)

    try:
        yield show
    finally:
        bar.stop()


def _report(outcomes: list[Outcome], refused: list[Outcome], as_json: bool) -> None:
    """Results on stdout: a table, or one JSON object per line. Warnings and errors on stderr."""
    for outcome in [*outcomes, *refused]:
        if as_json:
            click.echo(json.dumps(outcome.as_json(), ensure_ascii=False))
        for warning in outcome.warnings:
            click.echo(f"{outcome.input}: warning: {warning}", err=True)
        if outcome.error:
            _complain(outcome.error, about=outcome.input)
    if not as_json and outcomes:
        _table(
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
            _figure(after["loudness_lufs"], "LUFS"),
            _figure(after["peak_dbfs"], "dBFS"),
            seconds,
        )
        head, seconds = ("", "", ""), ""
    if not outcome.levels:
        yield (*head, "", "", "", "", "")


def _figure(value: float | None, unit: str) -> str:
    return "silent" if value is None else f"{round(value, 1) + 0.0:.1f} {unit}"


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(*header, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 120).print(table)


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


@cli.command("chain", short_help="Send a file through a chain, without separating.")
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
    from .preset import load_preset, parse_override
    from .rendering import Options, plan_chain, run_chain

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
        with _progress(path.name) as progress:
            done = run_chain(plan, progress)
    except GbsepError as error:
        if click.get_current_context().obj["debug"]:
            raise
        _complain(str(error), about=path)
        return 1
    for warning in done["warnings"]:
        click.echo(f"{path}: warning: {warning}", err=True)
    after = done["after"]
    figures = f"{_figure(after['loudness_lufs'], 'LUFS')}, {_figure(after['peak_dbfs'], 'dBFS')}"
    click.echo(json.dumps(done, ensure_ascii=False) if as_json else f"{done['file']}: {figures}")
    return 0


@cli.command(short_help="Make a song with known stems to try things on.")
@click.option("--out", "-o", type=click.Path(path_type=Path), default="gbsep-demo", show_default=True, help="Folder.")
@click.option("--seconds", type=float, default=60.0, show_default=True, help="Length of the song.")
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Other seed, other playing."
)
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
@debug_option
def demo(out: Path, seconds: float, seed: int, overwrite: bool) -> None:
    """Write a song for two guitars and a bass, played by string models, with its true stems.

    It is there to try commands on, never evidence of quality: real strings are harder.
    """
    from .demo import write_demo

    for name, path in write_demo(out, seconds=seconds, seed=seed, overwrite=overwrite).items():
        click.echo(f"{name:8} {path}")


@cli.group(context_settings=HELP)
def presets() -> None:
    """List, show and check presets."""


@presets.command("list")
@debug_option
def list_presets() -> None:
    """Every preset that can be named, with its title."""
    from .preset import load_preset, preset_names

    rows = []
    for name, path in preset_names().items():
        try:
            preset = load_preset(path)
            rows.append((name, preset.backend, preset.title))
        except GbsepError as error:
            rows.append((name, "not valid", str(error)))
    _table(("preset", "backend", "title"), rows)


@presets.command()
@click.argument("preset", metavar="NAME|FILE")
@click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Change one value first.")
@debug_option
def show(preset: str, overrides: tuple[str, ...]) -> None:
    """Print a preset as JSON, with every default filled in: a start for one of your own."""
    from .preset import load_preset, parse_override

    document = load_preset(preset, [parse_override(text) for text in overrides]).document
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


@presets.command()
@click.argument("presets", metavar="NAME|FILE...", nargs=-1, required=True)
@debug_option
def validate(presets: tuple[str, ...]) -> int:
    """Check presets; exit code 2 when one is not valid."""
    from .preset import load_preset

    bad = 0
    for preset in presets:
        try:
            load_preset(preset)
            click.echo(f"{preset}: valid")
        except GbsepError as error:
            _complain(str(error))
            bad += 1
    return 2 if bad else 0


@presets.command()
def schema() -> None:
    """Print the JSON Schema of presets, for editors and validators."""
    from .preset import preset_schema

    click.echo(json.dumps(preset_schema(), indent=2))


@cli.group(context_settings=HELP)
def models() -> None:
    """Weights of separation models: what there is, where it is, fetching, checking.

    Weights are looked for in --models DIR or GBSEP_MODELS, in gbsep's own folder, and in the Hugging Face cache.

    \b
    GBSEP_MODELS  folder searched first
    GBSEP_HOME    where gbsep's own folder of weights is (and what was trained)
    GBSEP_STATE   where the hashes of weights are recorded
    """


models_option = click.option(
    "--models", "folder", type=click.Path(path_type=Path), envvar="GBSEP_MODELS", help="Folder searched first."
)


@models.command("list")
@models_option
@debug_option
def list_models(folder: Path | None) -> None:
    """Every published model and your own ones: stems, size, licence, and whether the weights are here."""
    from .models import MODELS, OWN_LICENCE, own_models
    from .separation import backend_named, parse_settings

    rows = [
        (model.name, model.backend, ", ".join(model.stems), f"{model.size_mb} MB", _place(model.name, folder))
        for model in MODELS.values()
    ]
    own = own_models(folder)
    for name, backend in own.items():
        stems = size = ""
        try:
            found = _weights(name, folder).files
            place, size = str(found[0].parent), f"{sum(path.stat().st_size for path in found) / 1e6:.0f} MB"
            stems = ", ".join(
                backend_named(backend).load().stem_names(parse_settings(backend, {"model": name}), folder)
            )
        except GbsepError as error:
            place = _few_words(error)
        rows.append((name, backend, stems, size, place))
    _table(("model", "backend", "stems", "size", "weights"), rows)
    for model in MODELS.values():
        click.echo(f"{model.name}: {model.licence}; {model.limits}")
    for name in own:
        click.echo(f"{name}: {OWN_LICENCE}")


def _place(name: str, folder: Path | None) -> str:
    """Where the weights of a model are, or in few words why they cannot be used."""
    try:
        return str(_weights(name, folder).files[0].parent)
    except WeightsMissing:
        return "not here"
    except GbsepError as error:
        return _few_words(error)


def _few_words(error: GbsepError) -> str:
    """The file's name and what is wrong with it; `gbsep models verify` says more."""
    return re.split(r": | \(SHA", str(error), maxsplit=1)[0].rpartition(os.sep)[2]


@models.command()
@click.argument("names", metavar="MODEL...", nargs=-1, required=True)
@debug_option
def get(names: tuple[str, ...]) -> None:
    """Download weights into gbsep's own folder; a broken download goes on where it stopped."""
    from .models import fetch, next_step, row

    for model in [row(name) for name in names]:
        click.echo(f"{model.name}: {model.licence}; {model.limits}", err=True)
        with _progress(model.name) as progress:
            try:
                paths = fetch(model.name, partial(progress, "download"))
            except OSError as error:
                reason = f"Downloading failed ({error}). {next_step(model)}"
                raise WeightsMissing(model.name, [model.url], reason) from None
        click.echo("\n".join(map(str, paths)))


@models.command("verify")
@click.argument("names", metavar="MODEL...", nargs=-1, required=True)
@models_option
@click.option("--accept", is_flag=True, help="Trust files that have changed since they were first used.")
@debug_option
def verify_models(names: tuple[str, ...], folder: Path | None, accept: bool) -> None:
    """Check weights against the hashes in their names and those recorded when they were first used."""
    for name in names:
        found = _weights(name, folder, accept)
        for path, sha256 in zip(found.files, found.sha256, strict=True):
            click.echo(f"{sha256}  {path}")


@models.command("path")
@click.argument("name", metavar="MODEL")
@models_option
@debug_option
def path_of_model(name: str, folder: Path | None) -> None:
    """Print where a model's weights are."""
    click.echo("\n".join(str(path) for path in _weights(name, folder).files))


def _weights(name: str, folder: Path | None, accept: bool = False) -> Found:
    """The weights of a published model or of one's own, as they are on this machine."""
    from .models import BACKENDS, MODELS, OWN_NEXT_STEP, find

    looked_in: list[str] = []
    for backend in [MODELS[name].backend] if name in MODELS else BACKENDS:
        try:
            return find(name, backend, folder, download=False, accept=accept)
        except WeightsMissing as error:
            if name in MODELS:
                raise
            looked_in += error.looked_in
    reason = f"It is no published model{nearest(name, MODELS)}. {OWN_NEXT_STEP}"
    raise WeightsMissing(name, looked_in, reason)


@cli.group(context_settings=HELP)
def plugins() -> None:
    """External plug-ins, VST3 and Audio Units: what there is, and what presets can say about it.

    Each runs in a process of its own. Of several with one name the first in the list is used, unless a preset says
    which "vendor" or "format" it wants.

    \b
    GBSEP_PLUGIN_PATH     folders to look in before the standard ones, separated as in PATH
    GBSEP_PLUGIN_TIMEOUT  seconds that a plug-in may take to load, and for each block of sound; 30 without it
    """


plugins_json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object per plug-in on stdout.")


@plugins.command("scan")
@plugins_json_option
@debug_option
def scan_plugins(as_json: bool) -> None:
    """Look at every plug-in again, also at those that crashed or did not load."""
    _list_plugins(refresh=True, as_json=as_json)


@plugins.command("list")
@plugins_json_option
@debug_option
def list_plugins(as_json: bool) -> None:
    """Every plug-in, and why those in quarantine are not used. What has not changed is not looked at again."""
    _list_plugins(refresh=False, as_json=as_json)


def _list_plugins(refresh: bool, as_json: bool) -> None:
    from . import host

    found = host.plugins(refresh)
    usable = [info for info in found if not info.reason]
    used = {info.name: info for info in reversed(usable)}
    if as_json:
        for info in found:
            row = info.as_json()
            del row["parameters"]
            click.echo(json.dumps(row | {"shadowed": not info.reason and used[info.name] is not info}))
    elif usable:
        header = ("plug-in", "vendor", "version", "format", "channels", "latency", "path")
        _table(
            header,
            [
                (
                    *map(printable, (info.name, info.vendor, info.version)),
                    info.format,
                    _channels(info.channels),
                    f"{info.latency_frames} frames",
                    printable(str(info.path)),
                )
                for info in usable
            ],
        )
    for info in () if as_json else found:
        if info.reason:
            click.echo(printable(f"quarantined: {info.path}: {info.reason}"))
        elif (first := used[info.name]) is not info:
            click.echo(printable(f"shadowed: {info.path}: {info.name} is found first at {first.path}"))
    if not found:
        click.echo(f"no plug-ins in {', '.join(map(str, host.folders()))}", err=True)


def _channels(counts: Iterable[int]) -> str:
    return " or ".join({1: "mono", 2: "stereo"}[count] for count in counts) or "instrument"


@plugins.command("show")
@click.argument("name", metavar="NAME")
@click.option("--vendor", help="Of several plug-ins with that name, the one of this vendor.")
@click.option("--format", "format_", help="Of several plug-ins with that name, the one in this format.")
@click.option("--probe", is_flag=True, help="Render twice, to tell whether the plug-in repeats itself.")
@plugins_json_option
@debug_option
def show_plugin(name: str, vendor: str | None, format_: str | None, probe: bool, as_json: bool) -> None:
    """One plug-in and its parameters, by the names that presets use."""
    from . import host

    info = host.find(name, vendor, format_)
    nondeterministic = not host.repeats(info) if probe else None
    if as_json:
        click.echo(json.dumps(info.as_json() | {"nondeterministic": nondeterministic}))
        return
    click.echo(printable(f"{info.name} {info.version}, {info.vendor}, {info.format}, {info.category}"))
    click.echo(printable(f"{info.path}, class {info.class_id}"))
    click.echo(f"{_channels(info.channels)}, latency {info.latency_frames} frames")
    if probe:
        click.echo("nondeterministic: two renders differ" if nondeterministic else "deterministic: two renders agree")
    rows = [tuple(map(printable, (row.name, row.unit, row.allowed, f"{row.value}"))) for row in info.parameters]
    _table(("parameter", "unit", "allowed", "now"), rows)


@cli.group("cache", context_settings=HELP)
def cache_group() -> None:
    """The cache of separated stems, which makes a changed chain render at once.

    \b
    GBSEP_CACHE       the folder it is in
    GBSEP_CACHE_SIZE  how much it may hold, such as "20 GB"; 10 GB without it
    """


@cache_group.command()
@debug_option
def info() -> None:
    """Where the cache is, and how much is in it."""
    from .cache import locate, usage

    cache = locate()
    used = usage(cache)
    size, limit = used.bytes / 1e6, cache.limit_bytes / 1e6
    click.echo(f"{cache.folder}: {used.entries} separations, {size:.0f} of {limit:.0f} MB")


@cache_group.command()
@debug_option
def clear() -> None:
    """Empty the cache."""
    from .cache import clear, locate

    gone = clear(locate())
    click.echo(f"removed {gone.entries} separations, {gone.bytes / 1e6:.0f} MB")


def _complain(message: str, about: Path | None = None) -> None:
    """One line on stderr, which begins with the file it is `about`."""
    if about is not None and not message.startswith(str(about)):
        message = f"{about}: {message}"
    click.echo(f"{click.style('error', fg='red')}: {printable(message)}", err=True)


def _user_defaults() -> dict[str, Any]:
    """Options from the user's defaults.json, by command. Raises PresetError for what no command knows."""
    from .folders import config_folder

    path = config_folder() / "defaults.json"
    if not path.exists():
        return {}
    try:
        defaults = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise PresetError(path, "", f"must be a JSON object ({error})") from None
    return _check_defaults(path, "", cli, defaults)


def _check_defaults(path: Path, where: str, command: click.Command, defaults: Any) -> dict[str, Any]:
    """Defaults of a command, or of the commands of a group, by the names that click knows."""
    if not isinstance(defaults, dict):
        raise PresetError(path, where, "must be a JSON object of commands and their options")
    if isinstance(command, click.Group):
        for name in defaults:
            if name not in command.commands:
                raise PresetError(path, name, f"no such command{nearest(name, command.commands)}")
        return {name: _check_defaults(path, name, command.commands[name], value) for name, value in defaults.items()}
    options = {option.opts[0].lstrip("-"): option for option in command.params if isinstance(option, click.Option)}
    checked = {}
    for key, value in defaults.items():
        if key not in options:
            raise PresetError(path, f"{where}.{key}", f"no such option{nearest(key, options)}")
        try:
            checked[str(options[key].name)] = value
            options[key].type_cast_value(click.Context(command), value)
        except (click.BadParameter, TypeError) as error:
            raise PresetError(path, f"{where}.{key}", str(error) or "is not a value of this option") from None
    return checked
