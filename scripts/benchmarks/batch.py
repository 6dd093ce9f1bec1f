"""Batches: two jobs beside one, presets that share a separation beside one preset, what a file costs beyond its work.

Whole commands are timed, start-up included, each in a process group of its own with a fresh cache and output folder.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import numpy as np

from .timing import seconds, side_by_side

CORES = 2


def songs(folder: Path, count: int, length_s: float) -> Path:
    """Stereo noise and a low tone, each song another."""
    folder.mkdir(parents=True)
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


def compare(ours: Callable[[], None], theirs: Callable[[], None], rounds: int) -> str:
    """Median seconds of both, and how many times those of ours theirs are; the same in processor time.

    Where other programs keep the cores busy, processor time is the one to believe.
    """
    used_s = {ours: 0.0, theirs: 0.0}

    def run(work: Callable[[], None]) -> None:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        work()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used_s[work] += after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    ours_s, theirs_s, ratio = side_by_side(lambda: run(ours), lambda: run(theirs), rounds)
    processor = used_s[theirs] / used_s[ours]
    return f"{ours_s:.1f} s and {theirs_s:.1f} s: {ratio:.2f}x, in processor time {processor:.2f}x"


def jobs(place: Path, preset: str, count: int, length_s: float, rounds: int) -> None:
    folder = songs(place / preset, count, length_s)

    def two() -> None:
        render(place, folder, "-p", preset, "--jobs", "2")

    for threads, how, limit in ((1, "one thread", 1 / 1.7), (None, "all threads", 1.0)):

        def one(threads: int | None = threads) -> None:
            render(place, folder, "-p", preset, "--jobs", "1", threads=threads)

        click.echo(f"{preset}, one job on {how} and two jobs: {compare(one, two, rounds)} (limit {limit:.2f}x)")


def shared_separation(place: Path, length_s: float, rounds: int) -> None:
    """Three chains on one htdemucs_6s of random weights."""
    from random_models import write_bag

    from gbsep.preset.load import load_preset

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
    took = compare(
        lambda: render(place, *common, *names[:2], threads=1), lambda: render(place, *common, *names, threads=1), rounds
    )
    click.echo(f"one preset and three on one Demucs separation: {took} (limit 1.15x)")


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
    """The cost of a file is the difference between a tenth of the files and all of them: start-up is no file's."""
    spent_s = []
    for part in (count // 10, count):
        folder = songs(place / f"many{part}", part, 0.5)
        with Memory() as memory:
            wall_s = seconds(
                lambda folder=folder: render(place, folder, "-p", "exp002", "--jobs", str(CORES), fresh=False)
            )
        told = json.loads((place / "out/batch.json").read_text())
        renders = [row for row in told["renders"] if row["status"] == "ok"]
        spent_s.append((len(renders), CORES * wall_s - sum(sum(row["seconds"].values()) for row in renders)))
    (few, few_s), (all_, all_s) = spent_s
    each_ms = 1000 * (all_s - few_s) / (all_ - few)
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
    place = place / "skip"
    folder = songs(place / "forty", 40, 1.0)
    words: Sequence[str | Path] = (folder, "-p", "exp002")
    render(place, *words, fresh=False)
    times = [seconds(lambda: render(place, *words, fresh=False)) for _ in range(rounds)]
    click.echo(f"forty finished songs: {np.median(times):.2f} s (limit 2 s)")


@click.command(help=__doc__)
@click.option("--rounds", default=3, show_default=True)
@click.option("--songs", "count", default=24, show_default=True, help="Songs for the jobs.")
@click.option("--files", default=1000, show_default=True, help="Short files.")
@click.option("--only", type=click.Choice(["jobs", "presets", "many", "skip"]), multiple=True, help="Parts. [all]")
def command(rounds: int, count: int, files: int, only: tuple[str, ...]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        begun = time.monotonic()
        if not only or "jobs" in only:
            jobs(place, "exp002", count, 120.0, rounds)
            jobs(place, "exp003_1", count, 40.0, rounds)
        if not only or "presets" in only:
            shared_separation(place, 30.0, rounds)
        if not only or "many" in only:
            many(place, files)
        if not only or "skip" in only:
            skipping(place, rounds)
        click.echo(f"measured in {time.monotonic() - begun:.0f} s on {os.cpu_count()} cores")
