"""Demucs in gbsep beside the `demucs` command line: time and memory, same weights, same file, two threads.

The networks are randomly initialised ones of the published sizes, in the published format, and both sides read the
same files. Each run is a process of its own, from start to written stems, and the two sides take turns. On a machine
that does other things too, compare the CPU seconds.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import random_models  # noqa: E402

SAMPLE_RATE = 44100
THREADS = "2"


class Case(NamedTuple):
    """A bag, the stems gbsep gives of it, and how many times faster than demucs it has to be on torch and OpenVINO."""

    model: str
    stems: tuple[str, ...]
    torch: float
    openvino: float | None


CASES = {
    "6s": Case("htdemucs_6s", ("guitar", "bass"), 1.0, 1.6),
    "ft": Case("htdemucs_ft", ("bass", "other"), 1.9, 3.0),
    "ft-bass": Case("htdemucs_ft", ("bass",), 3.5, None),
}

WORKER = """
import sys
from pathlib import Path
import numpy as np
from gbsep.io.formats import OutputFormat
from gbsep.io.read import open_reader
from gbsep.io.write import open_writer
from gbsep.separation.backend import Context; from gbsep.separation.demucs import backend as demucs
song, models, out, model, engine, *stems = sys.argv[1:]
reader = open_reader(song)
context = Context(tuple(stems), np.random.default_rng(0), "cpu", Path(models))
writers = {}
import contextlib
with contextlib.ExitStack() as stack:
    for stem in stems:
        path = Path(out) / f"{stem}.wav"
        made = open_writer(path, OutputFormat(), reader.sample_rate, reader.channels, reader.frames)
        writers[stem] = stack.enter_context(made)
    for block in demucs.run(reader, demucs.Settings(model=model, engine=engine), context):
        for stem, writer in writers.items():
            writer.write(block[stem])
"""


class Run(NamedTuple):
    seconds: float
    cpu_seconds: float
    peak_mb: float


def measure(command: list[str]) -> Run:
    """Run a process to its end: wall and CPU seconds, and the peak of its resident memory."""
    environment = os.environ | {"OMP_NUM_THREADS": THREADS, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    begin = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    complaint = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise click.ClickException(f"{' '.join(command[:4])}...: {complaint.decode()[-2000:]}")
    return Run(time.perf_counter() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def run_gbsep(song: Path, models: Path, out: Path, model: str, engine: str, stems: tuple[str, ...]) -> Run:
    return measure([sys.executable, "-c", WORKER, *map(str, (song, models, out)), model, engine, *stems])


def run_demucs(song: Path, models: Path, out: Path, model: str) -> Run:
    arguments = ["-n", model, "--repo", str(models), "-o", str(out), "-d", "cpu", "--float32", str(song)]
    return measure([sys.executable, "-m", "demucs", *arguments])


def write_song(path: Path, seconds: float) -> None:
    """Noise that swells and ebbs, stereo."""
    import soundfile

    rng = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 2, "PCM_16") as file:
        for start in range(0, int(seconds * SAMPLE_RATE), SAMPLE_RATE):
            frames = min(SAMPLE_RATE, int(seconds * SAMPLE_RATE) - start)
            swell = 0.1 + 0.05 * np.sin(start / SAMPLE_RATE)
            file.write(swell * rng.standard_normal((frames, 2)))


def compare_time(name: str, folder: Path, seconds: float, rounds: int, engines: list[str]) -> None:
    case, song = CASES[name], folder / "song.wav"
    write_song(song, seconds)
    random_models.write_bag(case.model, folder / "models")
    for engine in engines:
        needed = {"torch": case.torch, "openvino": case.openvino}[engine]
        if needed is None:
            continue
        if engine == "openvino":
            run_gbsep(song, folder / "models", folder, case.model, engine, case.stems)  # exports the network
        ours, theirs = [], []
        for _ in range(rounds):
            theirs.append(run_demucs(song, folder / "models", folder, case.model))
            ours.append(run_gbsep(song, folder / "models", folder, case.model, engine, case.stems))
        wall = statistics.median(b.seconds / a.seconds for a, b in zip(ours, theirs, strict=True))
        cpu = statistics.median(b.cpu_seconds / a.cpu_seconds for a, b in zip(ours, theirs, strict=True))
        click.echo(
            f"{case.model} {' + '.join(case.stems)} of {seconds:g} s, {engine} (wanted: {needed:g}): "
            f"demucs takes {wall:.2f} times as long, {cpu:.2f} times the CPU time\n"
            f"    gbsep {summary(ours)}\n    demucs {summary(theirs)}"
        )


def summary(runs: list[Run]) -> str:
    seconds, cpu_seconds, _ = (statistics.median(column) for column in zip(*runs, strict=True))
    return f"{seconds:.1f} s, {cpu_seconds:.1f} CPU s, {max(run.peak_mb for run in runs):.0f} MB"


def compare_memory(folder: Path, minutes: list[float], with_demucs: list[float]) -> None:
    random_models.write_bag("tiny", folder / "models")
    song = folder / "long.wav"
    for length in minutes:
        write_song(song, 60 * length)
        ours = run_gbsep(song, folder / "models", folder, "tiny", "torch", ("bass", "other"))
        click.echo(f"tiny network, {length:g} min: gbsep {ours.peak_mb:.0f} MB in {ours.seconds:.0f} s")
        if length in with_demucs:
            theirs = run_demucs(song, folder / "models", folder, "tiny")
            click.echo(f"tiny network, {length:g} min: demucs {theirs.peak_mb:.0f} MB in {theirs.seconds:.0f} s")


@click.command(help=__doc__)
@click.option("--case", "cases", multiple=True, type=click.Choice(list(CASES)), help="Times to compare; default: all.")
@click.option("--engine", "engines", multiple=True, type=click.Choice(["torch", "openvino"]), help="Default: both.")
@click.option("--seconds", default=60.0, show_default=True, help="Length of the song.")
@click.option("--rounds", default=3, show_default=True, help="Runs of each side, in turn.")
@click.option("--memory/--no-memory", default=True, show_default=True, help="Compare peak memory over long files.")
@click.option("--minutes", multiple=True, type=float, default=(4.0, 60.0), show_default=True, help="Lengths for gbsep.")
@click.option("--demucs-minutes", multiple=True, type=float, default=(4.0,), show_default=True, help="... and demucs.")
@click.option("--folder", type=click.Path(path_type=Path), help="Keep the networks here for the next time.")
def command(
    cases: tuple[str, ...],
    engines: tuple[str, ...],
    seconds: float,
    rounds: int,
    memory: bool,
    minutes: tuple[float, ...],
    demucs_minutes: tuple[float, ...],
    folder: Path | None,
) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        place = folder or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        for name in cases or CASES:
            compare_time(name, place, seconds, rounds, list(engines or ("torch", "openvino")))
        if memory:
            compare_memory(place, list(minutes), list(demucs_minutes))


if __name__ == "__main__":
    command()
