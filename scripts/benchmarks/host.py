"""External plug-ins in a sandbox against the same plug-ins loaded into the process: time, faults, leaks."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import pedalboard
import psutil

import gbsep
from gbsep import host
from gbsep.audio import BLOCK_FRAMES
from gbsep.errors import PluginError

from .timing import side_by_side

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


def load(path: Path, parameters: dict[str, float]) -> Any:
    plugin = pedalboard.load_plugin(str(path))
    for name, value in parameters.items():
        parameter = plugin.parameters[name]
        parameter.raw_value = parameter.get_raw_value_for_text(str(value))
    plugin.reset()
    return plugin


def inside(plugin: Any, blocks: list[np.ndarray]) -> bytes:
    return np.concatenate([plugin.process(block, SAMPLE_RATE, reset=False) for block in blocks], axis=1).tobytes()


def outside(instance: host.PluginInstance, blocks: list[np.ndarray]) -> bytes:
    out = np.concatenate(list(instance.stream((block, ()) for block in blocks)), axis=1)
    return out[:, instance.latency_frames :].tobytes()


def ratios(path: Path, parameters: dict[str, float], blocks: list[np.ndarray], rounds: int) -> tuple[float, float]:
    """Time in a sandbox / time in this process: of processing alone, and with loading."""
    plugin = load(path, parameters)
    with host.open_plugin(path, SAMPLE_RATE, 2, parameters) as instance:
        if inside(plugin, blocks) != outside(instance, blocks):
            raise click.ClickException(f"{path.stem} gives other bytes in a sandbox")
        *_, processing = side_by_side(lambda: inside(plugin, blocks), lambda: outside(instance, blocks), rounds)

    def sandboxed() -> None:
        with host.open_plugin(path, SAMPLE_RATE, 2, parameters) as instance:
            outside(instance, blocks)

    *_, whole = side_by_side(lambda: inside(load(path, parameters), blocks), sandboxed, rounds)
    return processing, whole


def compare(names: Sequence[str], seconds: float, rounds: int) -> None:
    signal = (0.2 * np.random.default_rng(0).standard_normal((2, round(seconds * SAMPLE_RATE)))).astype(np.float32)
    click.echo(f"{seconds:g} s of stereo: time in a sandbox / time in-process, median of {rounds} rounds, same bytes")
    for name in names:
        for block_frames in (2**13, 2**16, BLOCK_FRAMES):
            blocks = np.split(signal, range(block_frames, signal.shape[1], block_frames), axis=1)
            processing, whole = ratios(host.find(name).path, PLUGINS[name], blocks, rounds)
            click.echo(
                f"{name:10} blocks of {block_frames:6} frames: processing {processing:.3f}, with loading {whole:.3f}"
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


def batch(plugin: Path, folder: Path, renders: int) -> None:
    """The same song again and again, through a chain with the plug-in on one stem and nothing on the other."""
    me, song = psutil.Process(), folder / "song.wav"
    gbsep.write(song, gbsep.Audio(np.ones((2, SAMPLE_RATE // 2), np.float32) / 4, SAMPLE_RATE))
    chain = [{"effect": "Plugin", "name": "gbsep test", "path": str(plugin)}]
    preset = {
        "schema_version": 1,
        "name": "batch",
        "title": "A crossover with a plug-in",
        "separate": {"backend": "crossover"},
        "stems": {"bass": {"from": ["bass"], "chain": chain}, "guitar": {"from": ["guitar"]}},
    }
    for number in range(1, renders + 1):
        gbsep.render(song, preset, folder / "out", overwrite=True, allow_plugin_paths=True)
        if number in (10, renders // 2, renders):
            size, files = me.memory_info().rss / 1e6, me.num_fds()
            click.echo(f"after {number:3} renders: {size:.1f} MB, {files} open files, {len(me.children())} processes")


@click.command("host", help=__doc__)
@click.option("--seconds", default=240.0, help="Length of the stem.")
@click.option("--plugin", "names", multiple=True, type=click.Choice(list(PLUGINS)), default=list(PLUGINS))
@click.option("--rounds", default=3, help="Rounds, of which the median counts.")
@click.option("--opens", default=300, help="Instances opened one after the other.")
@click.option("--renders", default=300, help="Renders one after the other.")
@click.option("--timeout", "timeout_s", default=2.0, help="Deadline for the faults, in seconds.")
def command(seconds: float, names: tuple[str, ...], rounds: int, opens: int, renders: int, timeout_s: float) -> None:
    compare(names, seconds, rounds)
    with tempfile.TemporaryDirectory() as folder:
        build = Path(__file__).parents[2] / "tests" / "plugin" / "build.sh"
        subprocess.run([build, folder], check=True, stdout=sys.stderr)
        library = next(Path(folder).rglob("*.so"))
        faults(library, Path(folder), timeout_s)
        leaks(library.parents[2], opens)
        batch(library.parents[2], Path(folder), renders)
