"""`gbsep demo`: a song with known stems."""

from __future__ import annotations

from pathlib import Path

import click

from .common import debug_option, say
from .helping import command


@command(short_help="Make a song with known stems to try things on.")
@click.option("--out", "-o", type=click.Path(path_type=Path), default="gbsep-demo", show_default=True, help="Folder.")
@click.option("--seconds", type=float, default=60.0, show_default=True, help="Length of the song.")
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Other seed, other playing."
)
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
@debug_option
def demo(out: Path, seconds: float, seed: int, overwrite: bool) -> None:
    """Write a song for two guitars and a bass, with its true stems.

    String models play it. It is there to try commands on, never evidence of
    quality: real strings are harder.

    \b
    gbsep demo
    gbsep render gbsep-demo/mixture.wav
    gbsep evaluate gbsep-out/mixture --reference gbsep-demo
    """
    from ..demo import write_demo

    for name, path in write_demo(out, seconds=seconds, seed=seed, overwrite=overwrite).items():
        say(f"{name:8} {path}")
