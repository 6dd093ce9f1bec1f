"""`gbsep watch`: what is dropped into a folder comes out rendered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ..errors import GbsepError
from .batches import CHOSEN, batch_options, carry_out, choices_of
from .common import complain, debug_option, say
from .helping import command


@command(short_help="Render what is dropped into a folder.")
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@batch_options(CHOSEN)
@click.option(
    "--settle",
    "settle_s",
    type=click.FloatRange(0.1),
    default=2.0,
    show_default=True,
    help="Seconds without a change, and a file is complete.",
)
@click.option("--once", is_flag=True, help="Render what is there, and end.")
@debug_option
def watch(folder: Path, settle_s: float, once: bool, **chosen: Any) -> int:
    """Render every recording that comes into DIR, or below it, until Ctrl-C.

    The bridge to a DAW that bounces into a folder. A file is taken when its copy
    is complete; a broken one is told once, and tried again when it changes.
    DIR/take/1.wav lands in OUT/take/1/<preset>/. OUT may lie in DIR.

    \b
    gbsep watch ~/Bounces -p exp005 --out ~/Stems
    gbsep watch ~/Bounces -p exp002 --once        what is there now; for cron

    \b
    Exit codes: 130 after Ctrl-C; with --once 0 all well, 1 a file failed.
    """
    from ..batch.watch import arrivals

    choices = choices_of(**chosen)
    choices.plan([])
    if not once:
        say(f"watching {folder}; Ctrl-C ends it", err=True)
    worst = 0

    def tell(problem: GbsepError) -> None:
        nonlocal worst
        complain(str(problem))
        worst = 1

    out = choices.options.out
    for paths in arrivals(folder, out, settle_s=settle_s, once=once, tell=tell):
        planned = choices.plan(paths, below=folder, check_space=False)
        unfinished = tuple(plan for plan in planned.plans if plan.action == "render")
        worst = max(worst, carry_out(replace(planned, plans=unfinished), choices, watching=True))
    return worst
