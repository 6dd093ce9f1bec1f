"""`gbsep session`: projects for DAWs."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .common import debug_option


@click.command(short_help="Write DAW projects of finished renders.")
@click.argument("out", metavar="[OUT]", type=click.Path(path_type=Path), default="gbsep-out")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["reaper", "dawproject"]),
    default="reaper",
    show_default=True,
    help="REAPER's .rpp, or .dawproject for Bitwig Studio, Cubase, Studio One and others.",
)
@click.option(
    "--per",
    type=click.Choice(["song", "batch"]),
    default="song",
    show_default=True,
    help="A project for each song, or one with all of them, one after the other.",
)
@click.option("--fader-gains", is_flag=True, help="Show restored gains on the faders; what is heard stays the same.")
@click.option("--embed", is_flag=True, help="Put the audio into the .dawproject.")
@click.option("--overwrite", is_flag=True, help="Replace projects that were changed since gbsep wrote them.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per project on stdout, and nothing else there.")
@debug_option
def session(out: Path, format_: str, per: str, fader_gains: bool, embed: bool, overwrite: bool, as_json: bool) -> None:
    """Write a DAW project for every song in OUT, the folder of renders.

    It opens with the original (muted) and a folder for each preset: its processed stems, its dry stems and what no stem
    took (both muted), coloured by instrument and aligned to the sample; a marker for every warning; the tempo if the
    recording's tags state it. Of several presets the first is heard. Dry stems are there when they were rendered:
    `gbsep render --dry-stems`. The whole folder can be moved.

    \b
    gbsep session                                         OUT/<track>/<track>.rpp
    gbsep session stems --format dawproject               OUT/<track>/<track>.dawproject
    gbsep session stems --per batch                       OUT/<OUT>.rpp, all songs on one time line

    Projects that you have saved since are not replaced without --overwrite.
    """
    from ..session import write_sessions

    written = write_sessions(out, format_, per, fader_gains=fader_gains, embed=embed, overwrite=overwrite)
    for project in written:
        if as_json:
            click.echo(json.dumps(project.as_json(), ensure_ascii=False))
        for warning in project.warnings:
            click.echo(f"{project.path}: warning: {warning}", err=True)
    if not as_json:
        click.echo("\n".join(str(project.path) for project in written))
