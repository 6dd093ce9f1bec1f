"""Batches: two jobs beside one, presets that share a separation beside one preset, what a file costs beyond its work.

Whole commands are timed, start-up included, each in a process group of its own with a fresh cache and output folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np

from .timing import seconds, side_by_side

CORES = 2


def songs(folder: Path, count: int, length_s: float) -> Path:
    """Stereo noise and a low tone, each song another."""
    folder.mkdir()
    from gbsep import write
    from gbsep.audio import Audio

    time_s = np.arange(round(length_s * 44100)) / 44100
    for number in range(count):
        rng = np.random.default_rng(number)
        low = 0.2 * np.sin(2 * np.pi * (60 + number % 40) * time_s)
        write(folder / f"{number:04}.wav", Audio(low + 0.05 * rng.standard_normal((2, time_s.size)), 44100))
    return folder


def render(place: Path, *words: str | Path, threads: int | None = None, fresh: bool = True) -> None:
    """Run `gbsep render` into place/out, on two cores at most."""
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    if threads:
        environment |= {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    environment |= {"GBSEP_STATE": str(place / "state")}
    with tempfile.TemporaryDirectory(dir=place) as home:
        out = Path(home) / "out" if fresh else place / "out"
        environment["GBSEP_CACHE"] = str((Path(home) if fresh else place) / "cache")
        done = subprocess.run(
            [sys.executable, "-m", "gbsep", "render", *map(str, words), "-o", str(out)],
            env=environment,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr


def jobs(place: Path, preset: str, count: int, length_s: float, rounds: int) -> None:
    folder = songs(place / preset, count, length_s)

    def two() -> None:
        render(place, folder, "-p", preset, "--jobs", "2")

    for threads, how, least in ((1, "one thread", 1.7), (None, "all threads", 1.0)):

        def one(threads: int | None = threads) -> None:
            render(place, folder, "-p", preset, "--jobs", "1", threads=threads)

        one_s, two_s, ratio = side_by_side(one, two, rounds)
        speed = f"{1 / ratio:.2f}x (at least {least}x)"
        click.echo(f"{preset}: one job on {how} {one_s:.1f} s, two jobs {two_s:.1f} s: {speed}")


def shared_separation(place: Path, length_s: float, rounds: int) -> None:
    """Three chains on one htdemucs_6s of random weights."""
    from random_models import write_bag

    from gbsep.preset import load_preset

    write_bag("htdemucs_6s", place / "models")
    folder = songs(place / "demucs", 1, length_s)
    document = dict(load_preset("exp005", models=place / "models").document)
    names = []
    for number in range(3):
        path = place / f"chain{number}.json"
        path.write_text(json.dumps(document | {"name": f"chain{number}"}))
        names += ["-p", str(path)]
    common = [folder, "--models", place / "models"]
    render(place, *common, *names[:2], "--duration", "1")  # what is exported for OpenVINO stays with the weights
    one_s, three_s, ratio = side_by_side(
        lambda: render(place, *common, *names[:2]), lambda: render(place, *common, *names), rounds
    )
    click.echo(f"three presets on one Demucs separation: {one_s:.1f} s, {three_s:.1f} s: {ratio:.2f}x (limit 1.15x)")


class Memory:
    """The most memory that this process' descendants hold together, in MB, looked at ten times a second."""

    def __enter__(self) -> Memory:
        self.peaks_mb: list[float] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def _look(self) -> None:
        import psutil

        while not self._ended.wait(0.1):
            total = 0
            for process in psutil.Process().children(recursive=True):
                try:
                    total += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self.peaks_mb.append(total / 1e6)

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def median_mb(self, part: slice) -> float:
        """Of a part of the time, such as its last quarter."""
        return float(np.median(self.peaks_mb[part]))


def many(place: Path, count: int) -> None:
    folder = songs(place / "many", count, 0.5)
    with Memory() as memory:
        wall_s = seconds(lambda: render(place, folder, "-p", "exp002", "--jobs", str(CORES), fresh=False))
    told = json.loads((place / "out/batch.json").read_text())
    work_s = sum(sum(row["seconds"].values()) for row in told["renders"])
    each_ms = 1000 * (CORES * wall_s - work_s) / count
    click.echo(f"{count} files: {wall_s:.1f} s, {each_ms:.0f} ms beyond the work for each (limit 50 ms)")
    looks = len(memory.peaks_mb)
    early, late = memory.median_mb(slice(looks // 4, looks // 2)), memory.median_mb(slice(3 * looks // 4, looks))
    click.echo(f"memory of all processes in the second quarter {early:.0f} MB, in the last {late:.0f} MB")
    again_s = seconds(lambda: render(place, folder, "-p", "exp002", "--jobs", str(CORES), fresh=False))
    start_s = seconds(lambda: render(place, folder / "0000.wav", "-p", "exp002", fresh=False))
    click.echo(
        f"again: {again_s:.1f} s, {1000 * (again_s - start_s) / count:.1f} ms for each; one alone {start_s:.1f} s"
    )


def skipping(place: Path, rounds: int) -> None:
    folder = songs(place / "forty", 40, 1.0)
    words: Sequence[str | Path] = (folder, "-p", "exp002")
    render(place, *words, fresh=False)
    times = [seconds(lambda: render(place, *words, fresh=False)) for _ in range(rounds)]
    click.echo(f"forty finished songs: {np.median(times):.2f} s (limit 2 s)")


@click.command(help=__doc__)
@click.option("--rounds", default=3, show_default=True)
@click.option("--songs", "count", default=8, show_default=True, help="Songs for the jobs.")
@click.option("--files", default=1000, show_default=True, help="Short files.")
@click.option("--only", type=click.Choice(["jobs", "presets", "many", "skip"]), multiple=True, help="Parts. [all]")
def command(rounds: int, count: int, files: int, only: tuple[str, ...]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        begun = time.monotonic()
        if not only or "jobs" in only:
            jobs(place, "exp002", count, 120.0, rounds)
            jobs(place, "exp003_1", count, 20.0, rounds)
        if not only or "presets" in only:
            shared_separation(place, 30.0, rounds)
        if not only or "many" in only:
            many(place, files)
        if not only or "skip" in only:
            skipping(place, rounds)
        click.echo(f"measured in {time.monotonic() - begun:.0f} s on {os.cpu_count()} cores")
