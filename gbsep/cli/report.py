"""`gbsep compare`, `sweep`, `report` and `review`: renders to hear, to see and to judge."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import ParameterError
from .batches import Choices, batch_options, choices_of, run_batch
from .common import complain, debug_option, print_json, print_table, progress_bar, say, typed
from .helping import command

if TYPE_CHECKING:
    from ..report.songs import Song

SHOWN = ("sdr", "si_sdr", "bleed_db", "note_f1", "findings", "loudness_lufs")
"""The figures on the terminal; the page has all."""

MANY_RENDERS = 40
"""A sweep of more renders than this is asked about first."""


PAGE: tuple[Callable[..., Any], ...] = (
    click.option("--reference", type=click.Path(path_type=Path), metavar="DIR",
                 help="True stems: figures, and to be heard."),
    click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Where the page goes."),
    click.option("--embed", "embed_mb", type=click.FloatRange(0), default=40.0, show_default=True, metavar="MB",
                 help="Sound up to this size is in the page itself."),
)  # fmt: skip


def page_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say what is on a page and where it goes."""
    for option in reversed(PAGE):
        command = option(command)
    return command


@command(short_help="Render through several presets and compare them in one page.")
@click.argument("path", metavar="INPUT", type=click.Path(path_type=Path))
@batch_options("required")
@page_options
@debug_option
def compare(path: Path, reference: Path | None, html: Path | None, embed_mb: float, **chosen: Any) -> int:
    """Render a recording through several presets, and make one page of them.

    The page plays all at one loudness, has a blind test, and opens in any browser
    without a network. It lands in OUT/<track>/compare.html, in place of the one
    before; --html names another. What is rendered already is taken as it is.

    \b
    gbsep compare song.wav -p default -p exp002 -p exp005_1
    gbsep compare song.wav -p default -p warm --reference stems/
    gbsep compare song.wav -p exp002 -p exp003_1 --start 1:00 --duration 20

    \b
    Exit codes: 0 all well, 1 a render failed, 2 refused before anything was
    written, 130 interrupted.
    """
    choices = choices_of(**chosen)
    return _render_and_show(path, choices, [()], html or "compare.html", reference, embed_mb)


@command(short_help="Render through ranges of a preset's values and compare them.")
@click.argument("path", metavar="INPUT", type=click.Path(path_type=Path))
@click.option(
    "--vary",
    "vary",
    metavar="KEY=VALUES",
    multiple=True,
    required=True,
    help="START:STOP:STEP, or A,B,C; again to combine.",
)
@click.option("--yes", is_flag=True, help=f"Do not ask before {MANY_RENDERS} renders and more.")
@batch_options("required")
@page_options
@debug_option
def sweep(
    path: Path, vary: tuple[str, ...], yes: bool, reference: Path | None, html: Path | None, embed_mb: float,
    **chosen: Any,
) -> int:  # fmt: skip
    """Render a recording through a preset with other values, and compare them.

    Each render lands in a folder of its own, such as exp002@cutoff_hz=150, and
    all of them on one page with a plot of the figures against the value:
    OUT/<track>/sweep.html.

    \b
    gbsep sweep song.wav -p exp002 --vary separate.cutoff_hz=100:300:50
    gbsep sweep song.wav -p exp002 --vary separate.order=2,4 --reference stems/

    \b
    Exit codes: 0 all well, 1 a render failed, 2 refused before anything was
    written, 130 interrupted.
    """
    from ..report.sweep import grid, parse_vary

    choices = choices_of(**chosen)
    combinations = grid([parse_vary(text) for text in vary])
    count = len(combinations) * len(choices.presets)
    if count > MANY_RENDERS and not yes:
        if choices.as_json or not sys.stdin.isatty():
            raise ParameterError("vary", f"{count} renders", f"more than {MANY_RENDERS} only with --yes")
        click.confirm(f"These are {count} renders. Go on?", abort=True, err=True)
    return _render_and_show(path, choices, combinations, html or "sweep.html", reference, embed_mb)


def _render_and_show(
    path: Path,
    choices: Choices,
    combinations: Sequence[Sequence[tuple[str, Any]]],
    html: Path | str,
    reference: Path | None,
    embed_mb: float,
) -> int:
    """Render what is not there yet through every preset with every combination of overrides, and make the page.

    `html` is the page's path, or its name in the folder of the song. Returns the exit code.
    """
    from .. import batch
    from ..preset.load import load_preset
    from ..report import collect
    from ..report.page import check_free
    from ..shelf.measured import reference_of
    from ..shelf.stems import find_stems

    if not choices.presets:
        raise click.UsageError("Name one preset or more, such as --preset default --preset exp002.")
    if os.path.isdir(path):
        raise ParameterError(
            "input", str(path), "one recording; gbsep render takes folders, and gbsep report shows them"
        )
    if choices.destination:
        raise ParameterError("out", choices.destination, "a folder of this machine, where the page can be opened")
    presets = [
        load_preset(preset, (*choices.overrides, *overrides), models=choices.options.models, **choices.changes)
        for preset in dict.fromkeys(choices.presets)
        for overrides in combinations
    ]
    planned = batch.plan([path], presets, choices.options, jobs=choices.jobs)
    for outcome in planned.refused:
        complain(outcome.error or "", outcome.input)
    if planned.refused:
        return 2
    folder = planned.plans[0].folder.parent
    if reference:
        find_stems(reference_of(reference, planned.plans[0].folder))
    page = html if isinstance(html, Path) else folder / html
    check_free(page, choices.options.overwrite)
    outcomes, interrupted = run_batch(planned, choices)
    if interrupted:
        raise KeyboardInterrupt
    failed = {outcome.preset: outcome.error or "" for outcome in outcomes if outcome.status == "failed"}
    for preset, error in failed.items():
        complain(f"{preset}: {error}", path)
    if len(failed) == len(outcomes):
        return 1
    done = [outcome.preset for outcome in outcomes if outcome.preset not in failed]
    songs = [replace(song, failures=failed) for song in collect(folder, reference, done)]
    _show(page, folder, path.stem, songs, embed_mb, choices.options.overwrite, choices.as_json)
    return 1 if failed else 0


@command(short_help="Make one page of renders that are there already.")
@click.argument("outs", metavar="OUT...", nargs=-1, required=True, type=click.Path(path_type=Path))
@page_options
@click.option("--overwrite", is_flag=True, help="Replace a page that gbsep did not write.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, and nothing else there.")
@debug_option
def report(
    outs: tuple[Path, ...], reference: Path | None, html: Path | None, embed_mb: float, overwrite: bool, as_json: bool
) -> int:
    """Make one page of all renders below OUT, song by song.

    It lands in OUT/report.html of the first folder, which may also be that of one
    song or of one render, and says which songs nobody has reviewed.

    \b
    gbsep report gbsep-out
    gbsep report gbsep-out/song --reference stems/ --html song.html

    \b
    Exit codes: 0 all well, 2 refused before anything was written.
    """
    from ..report import collect
    from ..report.page import check_free

    page = html or outs[0] / "report.html"
    check_free(page, overwrite)
    songs = [song for out in dict.fromkeys(outs) for song in collect(out, reference)]
    _show(page, outs[0], outs[0].resolve().name, songs, embed_mb, overwrite, as_json)
    return 0


def _show(
    page: Path, out: Path, title: str, songs: list[Song], embed_mb: float, overwrite: bool, as_json: bool
) -> None:
    """Write the page, and print the figures that are on it and where it is."""
    from ..report import write_report

    with progress_bar(page.name) as progress:
        written = write_report(
            page, title, songs, inline_bytes=round(embed_mb * 1e6), overwrite=overwrite, progress=progress
        )
    if as_json:
        told = {
            "report": str(page),
            "files": [str(path) for path in written],
            "songs": [_as_json(one) for one in songs],
        }
        print_json(told)
        return
    _print_figures(out, songs)
    for path in written:
        say(f"{path} ({_megabytes(path):.1f} MB)")


def _as_json(song: Song) -> dict[str, Any]:
    renders = [
        {
            "preset": one.preset,
            "folder": str(one.folder),
            "figures": one.figures,
            "findings": [finding.model_dump() for finding in one.findings],
        }
        for one in song.renders
    ]
    return {"name": song.name, "status": song.decided.status, "renders": renders, "failures": dict(song.failures)}


def _print_figures(out: Path, songs: list[Song]) -> None:
    """The figures of one song, or what has become of each of several, and how those of `out` are reviewed."""
    from ..measure.figures import COLUMNS

    if len(songs) > 1:
        rows = [
            (
                song.name,
                str(len(song.renders)),
                (song.decided.status or "unreviewed") if song.renders else "failed",
                "; ".join(dict.fromkeys(song.failures.values())),
            )
            for song in songs
        ]
        print_table(("song", "renders", "", "failed"), rows)
    for song in songs if len(songs) == 1 else ():
        lines = [(one.preset, stem, figures) for one in song.renders for stem, figures in one.figures.items()]
        known = [name for name in SHOWN if any(figures.get(name) is not None for _, _, figures in lines)]
        units = [f"{COLUMNS[name].heading} {COLUMNS[name].unit}".strip() for name in known]
        print_table(
            ("preset", "stem", *units),
            [(preset, stem, *(_figure(figures.get(name)) for name in known)) for preset, stem, figures in lines],
        )
    status = {song.folder: song.decided.is_done for song in songs if song.renders}
    if left := sum(not done for done in status.values()):
        how_many = f"{left} of {len(status)} songs " if len(status) > 1 else ""
        say(f"{how_many}unreviewed; gbsep review {typed(out)} opens {'it' if left == 1 else 'them'}")


def _figure(value: float | None) -> str:
    return "" if value is None else f"{round(value, 1) + 0.0:.1f}" if isinstance(value, float) else str(value)


def _megabytes(path: Path) -> float:
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*"))) / 1e6
