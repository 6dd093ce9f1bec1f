"""The default preset as a whole process, start-up included: speed for four minutes, peak memory for any length.

The song is a minute of the demo over and over: in stereo, where places are looked for, found, and made use of.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from .render import PEAK


def song(path: Path, minutes: float) -> Path:
    from gbsep import demo
    from gbsep.io.formats import OutputFormat
    from gbsep.io.write import open_writer

    mixture, _ = demo.make_demo(60.0)
    frames = round(minutes * 60 * mixture.sample_rate)
    with open_writer(path, OutputFormat("wav", "24"), mixture.sample_rate, mixture.channels, frames) as file:
        for start in range(0, frames, mixture.frames):
            file.write(mixture.samples[:, : frames - start])
    return path


@click.command(help=__doc__)
@click.option("--long", "long_minutes", default=20.0, show_default=True, help="Minutes of the long one, 0 for none.")
def command(long_minutes: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for minutes in filter(None, (4.0, long_minutes)):
            path = song(place / "song.wav", minutes)
            words = [
                sys.executable,
                "-c",
                PEAK,
                "render",
                str(path),
                "-o",
                str(place / "out"),
                "--overwrite",
                "--no-cache",
            ]
            begun = time.perf_counter()
            done = subprocess.run(words, check=True, capture_output=True, text=True)
            seconds = time.perf_counter() - begun
            peak_mb = int(done.stderr.split()[-1]) / (1e6 if sys.platform == "darwin" else 1e3)
            speed = f"{seconds:.1f} s, {minutes * 60 / seconds:.1f}x real time (limit 15x on two cores)"
            click.echo(f"{minutes:g} minutes: {speed}, {peak_mb:.0f} MB (limit 1000 MB)")
