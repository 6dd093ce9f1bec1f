"""External plug-ins in a sandbox against the same plug-ins loaded into the process: time, faults, leaks."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pedalboard
import psutil

from gbsep import host
from gbsep.audio import BLOCK_FRAMES
from gbsep.errors import PluginError

SAMPLE_RATE = 44100
PLUGINS = {
    "ZamCompX2": {"threshold_db": -20.0, "ratio": 4.0},
    "ZamGateX2": {"threshold_db": -30.0},
    "ZaMaximX2": {"threshold_db": -10.0},
}
FAULTS = [
    f"{where}-{what}"
    for where, kinds in {
        "library": ("crash", "hang", "exit"),
        "load": ("crash", "abort", "hang", "spin", "exit", "throw", "complain", "orphan"),
        "process": ("crash", "abort", "hang", "spin", "exit", "nan", "scribble", "orphan"),
    }.items()
    for what in kinds
]


def inside(path: Path, parameters: dict[str, float], blocks: list[np.ndarray]) -> tuple[float, float, bytes]:
    """Seconds to load, seconds to process, output: pedalboard alone."""
    begin = time.perf_counter()
    plugin = pedalboard.load_plugin(str(path))
    for name, value in parameters.items():
        parameter = plugin.parameters[name]
        parameter.raw_value = parameter.get_raw_value_for_text(str(value))
    plugin.reset()
    loaded = time.perf_counter()
    out = [plugin.process(block, SAMPLE_RATE, reset=False) for block in blocks]
    processed = time.perf_counter()
    return loaded - begin, processed - loaded, np.concatenate(out, axis=1).tobytes()


def outside(path: Path, parameters: dict[str, float], blocks: list[np.ndarray]) -> tuple[float, float, bytes]:
    """The same in a sandbox."""
    begin = time.perf_counter()
    with host.open_plugin(path, SAMPLE_RATE, 2, parameters) as instance:
        loaded = time.perf_counter()
        out = [instance.process(block) for block in blocks]
        processed = time.perf_counter()
        late = instance.latency_frames
    return loaded - begin, processed - loaded, np.concatenate(out, axis=1)[:, late:].tobytes()


def compare(seconds: float, rounds: int) -> None:
    signal = (0.2 * np.random.default_rng(0).standard_normal((2, round(seconds * SAMPLE_RATE)))).astype(np.float32)
    click.echo(f"{seconds:g} s of stereo, the best of {rounds} rounds; in-process = 1")
    for name, parameters in PLUGINS.items():
        path = host.find(name).path
        for block_frames in (2**13, 2**16, BLOCK_FRAMES):
            blocks = np.split(signal, range(block_frames, signal.shape[1], block_frames), axis=1)
            runs = [(inside(path, parameters, blocks), outside(path, parameters, blocks)) for _ in range(rounds)]
            (in_load, in_time, in_bytes), (out_load, out_time, out_bytes) = (
                (min(run[side][0] for run in runs), min(run[side][1] for run in runs), runs[0][side][2])
                for side in (0, 1)
            )
            click.echo(
                f"{name:10} blocks of {block_frames:6} frames: processing {out_time / in_time:.3f}, "
                f"with loading {(out_load + out_time) / (in_load + in_time):.3f}; in-process {in_load:.2f} "
                f"+ {in_time:.2f} s; {'same bytes' if in_bytes == out_bytes else 'OTHER BYTES'}"
            )


def late(action: Callable[[], object], timeout_s: float) -> tuple[str, float]:
    begin = time.perf_counter()
    with contextlib.suppress(PluginError):
        action()
        return "no error", 0.0
    took = time.perf_counter() - begin
    return ("timeout +", took - timeout_s) if took > timeout_s else ("after", took)


def faults(library: Path, folder: Path, timeout_s: float) -> None:
    click.echo(f"seconds until a fault is reported; deadline {timeout_s:g} s")
    block = np.ones((2, SAMPLE_RATE), np.float32)
    for name in FAULTS:
        bundle = folder / f"{name}.vst3"
        target = bundle / library.relative_to(library.parents[2]).parent / f"{name}.so"
        target.parent.mkdir(parents=True)
        target.write_bytes(library.read_bytes())
        if name.startswith("process"):
            instance = host.open_plugin(bundle, SAMPLE_RATE, 2, block_timeout_s=timeout_s)
            instance.process(block)
            instance.set("armed", 1.0)
            how, seconds = late(lambda instance=instance: instance.process(block), timeout_s)
        else:
            how, seconds = late(
                lambda bundle=bundle: host.open_plugin(bundle, SAMPLE_RATE, 2, load_timeout_s=timeout_s), timeout_s
            )
        click.echo(f"{name:18} {how:9} {seconds:.3f}")
    click.echo(f"processes left: {len(psutil.Process().children(recursive=True))}")


def leaks(path: Path, opens: int) -> None:
    me, block = psutil.Process(), np.ones((2, 4096), np.float32)
    for number in range(1, opens + 1):
        with host.open_plugin(path, SAMPLE_RATE, 2) as instance:
            instance.process(block)
        if number in (10, opens // 2, opens):
            click.echo(f"after {number:3} opens: {me.memory_info().rss / 1e6:.1f} MB, {me.num_fds()} open files")


@click.command(help=__doc__)
@click.option("--seconds", default=240.0, help="Length of the stem.")
@click.option("--rounds", default=3, help="Rounds of which the best counts.")
@click.option("--opens", default=300, help="Instances opened one after the other.")
@click.option("--timeout", "timeout_s", default=2.0, help="Deadline for the faults, in seconds.")
def command(seconds: float, rounds: int, opens: int, timeout_s: float) -> None:
    compare(seconds, rounds)
    with tempfile.TemporaryDirectory() as folder:
        build = Path(__file__).parents[2] / "tests" / "plugin" / "build.sh"
        subprocess.run([build, folder], check=True, stdout=sys.stderr)
        library = next(Path(folder).rglob("*.so"))
        faults(library, Path(folder), timeout_s)
        leaks(library.parents[2], opens)


if __name__ == "__main__":
    command()
