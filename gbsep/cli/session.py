"""`gbsep session`: projects for DAWs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import GbsepError, OutputError
from ..shelf.projects import FORMATS, SCOPES
from .common import complain, debug_option, print_json, say
from .completion import complete_presets
from .helping import command

if TYPE_CHECKING:
    from ..rendering import Outcome
    from ..session.write import Written

FORMAT = click.Choice(list(FORMATS))
SCOPE = click.Choice(list(SCOPES))


@command(short_help="Write DAW projects of finished renders.")
@click.argument("out", metavar="[OUT]", type=click.Path(path_type=Path), default="gbsep-out")
@click.option(
    "--format",
    "format_",
    type=FORMAT,
    default="reaper",
    show_default=True,
    help="REAPER's .rpp, or .dawproject for Bitwig Studio, Cubase, Studio One and others.",
)
@click.option(
    "--per",
    type=SCOPE,
    default="song",
    show_default=True,
    help="A project for each song, or one with all of them, one after the other.",
)
@click.option(
    "--heard",
    metavar="PRESET",
    shell_complete=complete_presets,
    help="The preset that is heard, its folder's name. [default: as before]",
)
@click.option("--fader-gains", is_flag=True, help="Show restored gains on the faders; what is heard stays the same.")
@click.option("--embed", is_flag=True, help="Put the audio into the .dawproject.")
@click.option("--notes", is_flag=True, help="Write down the bass's notes, as a MIDI track beside it.")
@click.option("--overwrite", is_flag=True, help="Replace projects that were changed since gbsep wrote them.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per project on stdout, and nothing else there.")
@debug_option
def session(
    out: Path,
    format_: str,
    per: str,
    heard: str | None,
    fader_gains: bool,
    embed: bool,
    notes: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write a DAW project for every song in OUT, the folder of renders.

    It opens with the original (muted) and a folder for each preset: its stems, its
    dry stems and what no stem took (both muted), aligned to the sample; a marker
    for every warning; the tempo if the recording's tags state it. The folder can
    be moved as a whole. A project that you saved since stays without --overwrite.

    \b
    gbsep session                                 OUT/<track>/<track>.rpp
    gbsep session stems --format dawproject       OUT/<track>/<track>.dawproject
    gbsep session stems --per batch               all songs on one time line
    """
    from ..session.write import LEFT, write_sessions

    if notes:
        _keep_notes(out)
    written = write_sessions(out, format_, per, heard=heard, fader_gains=fader_gains, embed=embed, overwrite=overwrite)
    if not any(project.session for project in written):
        more = f"; so are {len(written) - 1} more, and there is no other" if len(written) > 1 else ""
        raise OutputError(written[0].path, LEFT + more)
    if as_json:
        for project in written:
            print_json(project.as_json())
    _report(written, quiet=as_json)


def _keep_notes(out: Path) -> None:
    """The notes of every render with a bass, kept in its folder; those that are there stay as they are."""
    from ..notes.files import read
    from ..notes.folders import keep
    from ..session.renders import find_renders
    from ..stemnames import BASS

    for renders in find_renders(out).values():
        for render in renders:
            if BASS in render.record.stems and not render.missing:
                path = keep(render.folder)
                if not read(path).notes:
                    say(f"{path}: no notes of a bass were heard", err=True)


def _report(written: list[Written], quiet: bool) -> None:
    warned: dict[str, list[str]] = {}
    for project in written:
        for warning in project.warnings:
            warned.setdefault(warning, []).append(str(project.path))
    for warning, (first, *more) in warned.items():
        say(f"{first}{f' and {len(more)} more' if more else ''}: warning: {warning}", err=True)
    for project in written:
        if project.session:
            say(str(project.path), err=quiet)


def session_options(command: Callable[..., int]) -> Callable[..., int]:
    """`--session` and `--session-per`, for the command that renders."""
    per = click.option("--session-per", type=SCOPE, default="song", help="One for each song, or for all.")
    what = "Also write a DAW project, with dry stems."
    return click.option("--session", "session_format", type=FORMAT, help=what)(per(command))


def write_after(out: Path, outcomes: Iterable[Outcome], format_: str, per: str, overwrite: bool, as_json: bool) -> bool:
    """The projects of what was rendered, or was there already; False and a complaint when they cannot be written.

    One that was changed since gbsep wrote it is left as it is.
    """
    from ..session.write import write_sessions

    folders = [Path(outcome.folder) for outcome in outcomes if outcome.folder]
    songs = {folder.parent for folder in folders}
    try:
        if folders:
            first = folders[0].name
            written = write_sessions(out, format_, per, heard=first, overwrite=overwrite, songs=songs)
            _report(written, quiet=as_json)
    except GbsepError as error:
        if click.get_current_context().obj["debug"]:
            raise
        complain(str(error))
        return False
    return True
