"""A Butterworth render beside a bare script that does the least: read, filter with scipy, Pedalboard, write.

Both are whole processes, start-up included. Also: what `gbsep --help` costs beside importing click and numpy, and how
much more memory an hour takes than four minutes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import numpy as np

from .timing import side_by_side

CHAIN = [{"effect": "Gain", "gain_db": -1.0}]

BARE = """
import sys
import numpy as np, soundfile
from pedalboard import Gain, Pedalboard
from scipy.signal import butter, sosfiltfilt
samples, rate = soundfile.read(sys.argv[1], dtype="float32", always_2d=True)
mixture = np.ascontiguousarray(samples.T)
bass = sosfiltfilt(butter(4, 200, fs=rate, output="sos"), mixture.astype(np.float64)).astype(np.float32)
board = Pedalboard([Gain(-1)])
for name, stem in (("bass", bass), ("guitar", mixture - bass)):
    soundfile.write(f"{sys.argv[2]}/{name}.wav", board(stem, rate).T, rate, subtype="FLOAT")
"""

PEAK = """
import resource, sys
from gbsep.cli import main
try:
    main()
except SystemExit as exit:
    assert not exit.code
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def song(path: Path, minutes: float) -> Path:
    """Stereo noise and tones, written a block at a time."""
    from gbsep.io.formats import OutputFormat
    from gbsep.io.write import open_writer

    rate, rng = 44100, np.random.default_rng(0)
    frames = round(minutes * 60 * rate)
    with open_writer(path, OutputFormat("wav", "16"), rate, 2, frames) as file:
        for start in range(0, frames, rate):
            n = min(rate, frames - start)
            time_s = (start + np.arange(n)) / rate
            tone = 0.3 * np.sin(2 * np.pi * 82.4 * time_s) + 0.1 * np.sin(2 * np.pi * 660 * time_s)
            file.write((tone + 0.02 * rng.standard_normal((2, n))).astype(np.float32))
    return path


def arguments(path: Path, out: Path) -> list[str]:
    chains = [f"--set=stems.{stem}.chain={json.dumps(CHAIN)}" for stem in ("bass", "guitar")]
    return ["render", str(path), "-p", "exp002", "-o", str(out), "--overwrite", "--no-cache", *chains]


@click.command(help=__doc__)
@click.option("--rounds", default=5, show_default=True)
@click.option("--long", "long_minutes", default=60.0, show_default=True, help="Minutes of the long recording.")
def command(rounds: int, long_minutes: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        short = song(place / "short.wav", 4)

        def run(*words: str) -> None:
            subprocess.run([sys.executable, *words], check=True, capture_output=True)

        ours, bare, ratio = side_by_side(
            lambda: run("-m", "gbsep", *arguments(short, place / "out")),
            lambda: run("-c", BARE, str(short), str(place)),
            rounds,
        )
        click.echo(f"render of 4 minutes: gbsep {ours:.2f} s, bare script {bare:.2f} s, {1 / ratio:.2f}x (limit 2x)")
        ours, bare, ratio = side_by_side(
            lambda: run("-m", "gbsep", "--help"), lambda: run("-c", "import click, numpy"), max(rounds, 9)
        )
        click.echo(
            f"gbsep --help {ours * 1000:.0f} ms, import click, numpy {bare * 1000:.0f} ms, {1 / ratio:.2f}x (limit 2x)"
        )

        def peak_mb(path: Path) -> float:
            words = [sys.executable, "-c", PEAK, *arguments(path, place / "out")]
            done = subprocess.run(words, check=True, capture_output=True, text=True)
            return int(done.stderr.split()[-1]) / (1e6 if sys.platform == "darwin" else 1e3)

        small = peak_mb(short)
        short.unlink()
        large = peak_mb(song(place / "long.wav", long_minutes))
        click.echo(
            f"peak memory: 4 minutes {small:.0f} MB, {long_minutes:g} minutes {large:.0f} MB, "
            f"{large - small:+.0f} MB (limit +150)"
        )
