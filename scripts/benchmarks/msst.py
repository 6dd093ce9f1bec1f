"""BS-RoFormer-SW in gbsep beside audio-separator's and pymss' command lines: time and memory, same checkpoint and file.

The network is a random one of the published size, in the published format. Each run is a process of its own, from start
to written stems, and all take turns. gbsep makes bass and guitar; the others make all six stems, as they cannot do
otherwise. Compare CPU seconds on a machine that does other things too, with one thread: threads that wait for each
other count as work. Name the command lines with --pymss and --audio-separator, in an environment of their own.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import click

from .neural import SAMPLE_RATE, write_song

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import random_models  # noqa: E402

SW = "BS-Rofo-SW-Fixed"
SMALL = "tiny_bs_roformer"

WORKER = """
import contextlib, sys
from pathlib import Path
from gbsep.io.formats import OutputFormat
from gbsep.io.read import open_reader
from gbsep.io.write import open_writer
from gbsep.separation.backend import Context, parse_settings, stem_blocks
song, models, out, model, overlap, precision = sys.argv[1:]
reader = open_reader(song)
settings = parse_settings("msst", {"model": model, "precision": precision,
                                   "overlap": float(overlap) if overlap != "yaml" else None})
context = Context(("bass", "guitar"), device="cpu", models=Path(models))
with contextlib.ExitStack() as stack:
    made = {stem: stack.enter_context(open_writer(Path(out) / f"{stem}.wav", OutputFormat(), reader.sample_rate,
            reader.channels, reader.frames)) for stem in context.wanted}
    for blocks in stem_blocks(reader, "msst", settings, context):
        for stem, block in blocks.items():
            made[stem].write(block)
"""


class Run(NamedTuple):
    seconds: float
    cpu_seconds: float
    peak_mb: float

    def __str__(self) -> str:
        return f"{self.seconds:.0f} s, {self.cpu_seconds:.1f} CPU s, {self.peak_mb:.0f} MB"


class Bench(NamedTuple):
    """Where the models, the song and the results are, and the command lines of the others."""

    folder: Path
    threads: int
    pymss: str | None
    separator: str | None

    @property
    def song(self) -> Path:
        return self.folder / "song.wav"

    def measure(self, command: list[str]) -> Run:
        environment = os.environ | {"OMP_NUM_THREADS": str(self.threads), "PYTHONWARNINGS": "ignore"}
        environment |= {"HOME": str(self.folder)}
        begin = time.perf_counter()
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(command, env=environment, stdout=said, stderr=said)
            _, status, usage = os.wait4(process.pid, 0)
            if status:
                said.seek(0)
                raise click.ClickException(f"{' '.join(command[:3])}: {said.read().decode()[-2000:]}")
        return Run(time.perf_counter() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)

    def ours(self, model: str, overlap: str, precision: str = "float32") -> Run:
        arguments = [str(self.song), str(self.folder), str(self.folder), model, overlap, precision]
        os.environ["PYTHONPATH"] = str(ROOT)
        return self.measure([sys.executable, "-c", WORKER, *arguments])

    def of_pymss(self, model: str) -> Run:
        checkpoint = self.folder / f"{model}.ckpt"
        files = ["--model", str(checkpoint), "--config", str(checkpoint.with_suffix(".yaml")), "--force"]
        self.measure([str(self.pymss), "register", "bench", "--type", "bs_roformer", *files])
        out = ["-o", str(self.folder / "pymss"), "--device", "cpu", "--format", "wav"]
        return self.measure([str(self.pymss), "infer", "bench", "-i", str(self.song), *out])

    def of_separator(self, model: str) -> Run:
        """audio-separator knows checkpoints by name: the one at hand goes by that of BS-RoFormer-SW."""
        models = self.folder / "separator"
        models.mkdir(exist_ok=True)
        lists = ("vr", "mdx", "mdx_vip", "mdx23c", "mdx23c_vip", "roformer", "demucs")
        names = [f"{name.removesuffix('_vip')}_download_{'vip_' * name.endswith('_vip')}list" for name in lists]
        (models / "download_checks.json").write_text(json.dumps({name: {} for name in names}))
        for suffix in (".ckpt", ".yaml"):
            target = models / f"BS-Roformer-SW{suffix}"
            target.unlink(missing_ok=True)
            shutil.copy(self.folder / f"{model}{suffix}", target)
        there = ["--model_file_dir", str(models), "--output_dir", str(self.folder / "separated")]
        command = [str(self.separator), str(self.song), "--model_filename", "BS-Roformer-SW.ckpt", *there]
        return self.measure([*command, "--output_format", "WAV"])

    def all(self, model: str, overlaps: tuple[str, ...]) -> dict[str, Callable[[], Run]]:
        made: dict[str, Callable[[], Run]] = {}
        for overlap in overlaps:
            made[f"gbsep, overlap {overlap}"] = lambda overlap=overlap: self.ours(model, overlap)  # type: ignore[misc]
        if self.pymss:
            made["pymss"] = lambda: self.of_pymss(model)
        if self.separator:
            made["audio-separator"] = lambda: self.of_separator(model)
        return made


@click.command(help=__doc__)
@click.option("--seconds", default=30.0, help="Length of the song for the comparison of time.")
@click.option("--rounds", default=3)
@click.option("--threads", default=1)
@click.option(
    "--overlap", "overlaps", multiple=True, default=("yaml", "0.25"), help="Of gbsep; yaml: the checkpoint's."
)
@click.option("--pymss", help="The command line of pymss.")
@click.option("--audio-separator", "separator", help="The command line of audio-separator.")
@click.option("--minutes", multiple=True, type=float, default=(4.0, 60.0), help="Songs for memory, small network.")
@click.option("--others-minutes", multiple=True, type=float, default=(4.0,), help="Those that the others get, too.")
@click.option("--folder", type=click.Path(path_type=Path), help="Keep models and songs here.")
def command(
    seconds: float,
    rounds: int,
    threads: int,
    overlaps: tuple[str, ...],
    pymss: str | None,
    separator: str | None,
    minutes: tuple[float, ...],
    others_minutes: tuple[float, ...],
    folder: Path | None,
) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(folder or Path(temporary), threads, pymss, separator)
        bench.folder.mkdir(parents=True, exist_ok=True)
        if rounds:
            random_models.write_checkpoint(SW, bench.folder)
            write_song(bench.song, seconds)
            runs = bench.all(SW, overlaps)
            results: dict[str, list[Run]] = {name: [] for name in runs}
            for _ in range(rounds):
                for name, run in runs.items():
                    results[name].append(run())
                    click.echo(f"{SW}, {seconds:g} s, {name}: {results[name][-1]}")
            first = next(iter(results))
            for name, rows in results.items():
                ratio = statistics.median(
                    b.cpu_seconds / a.cpu_seconds for a, b in zip(results[first], rows, strict=True)
                )
                click.echo(f"{name} takes {ratio:.2f} times the CPU seconds of {first}")
        random_models.write_checkpoint(SMALL, bench.folder)
        for length in minutes:
            write_song(bench.song, 60 * length)
            runs = bench.all(SMALL, ("0.0",))
            for name, run in runs.items():
                if name.startswith("gbsep") or length in others_minutes:
                    click.echo(f"small network, {length:g} min ({SAMPLE_RATE} Hz), {name}: {run()}")
        for file in bench.folder.glob("*.wav"):
            file.unlink()
