"""External plug-ins in a sandbox against the same ones in this process: time, faults, leaks; and automation."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import pedalboard
import psutil

import gbsep
from gbsep.audio import BLOCK_FRAMES
from gbsep.effects.chain import AUTOMATION_STEP_S
from gbsep.errors import PluginError
from gbsep.plugins import host

SAMPLE_RATE = 44100
PLUGINS = {
    "ZamCompX2": {"threshold_db": -20.0, "ratio": 4.0},
    "ZamGateX2": {"threshold_db": -30.0},
    "ZaMaximX2": {"threshold_db": -10.0},
}
LANES = {
    "Gain": ("gain_db", -60.0, 0.0, {}),
    "Butterworth": ("cutoff_hz", 200.0, 4000.0, {"mode": "lowpass"}),
    "Compressor": ("threshold_db", -40.0, -10.0, {"ratio": 4}),
    "LadderFilter": ("cutoff_hz", 200.0, 4000.0, {}),
    "Phaser": ("rate_hz", 0.2, 5.0, {}),
    "Reverb": ("room_size", 0.1, 0.9, {}),
}
"""A parameter of built-ins, its first and last value, and what else they need."""
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


def inside(plugin: Any, blocks: list[np.ndarray]) -> Iterator[np.ndarray]:
    return (plugin.process(block, SAMPLE_RATE, reset=False) for block in blocks)


def outside(instance: host.PluginInstance, blocks: list[np.ndarray]) -> Iterator[np.ndarray]:
    return instance.stream((block, ()) for block in blocks)


def use(made: Iterator[np.ndarray]) -> None:
    """Take one block after the other and forget it, as a chain does."""
    deque(made, maxlen=0)


def processor_s() -> float:
    """Processor time that this process, its children and those that ended have used."""
    me = psutil.Process()
    own, children = me.cpu_times(), [child.cpu_times() for child in me.children()]
    return sum(own[:4]) + sum(child.user + child.system for child in children)


def ratio(ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> str:
    """Their time / ours, by the clock and by the processor, each run in turn; of each the best, for what else the
    machine does only adds to it."""
    taken = []
    for _ in range(rounds):
        for work in (ours, theirs):
            begin = time.perf_counter(), processor_s()
            work()
            taken.append((time.perf_counter() - begin[0], processor_s() - begin[1]))
    clock, processor = np.min(taken[1::2], axis=0) / np.min(taken[::2], axis=0)
    return f"{clock:.2f} (processor {processor:.2f})"


def compare(names: Sequence[str], length_s: float, rounds: int) -> None:
    signal = (0.2 * np.random.default_rng(0).standard_normal((2, round(length_s * SAMPLE_RATE)))).astype(np.float32)
    click.echo(f"{length_s:g} s of stereo: time in a sandbox / time in-process, best of {rounds} rounds, same bytes")
    for name in names:
        path, parameters = host.find(name).path, PLUGINS[name]
        for block_frames in (2**13, 2**16, BLOCK_FRAMES):
            blocks = np.split(signal, range(block_frames, signal.shape[1], block_frames), axis=1)
            plugin = load(path, parameters)
            with host.open_plugin(path, SAMPLE_RATE, 2, parameters) as instance:
                same = np.concatenate(list(outside(instance, blocks)), axis=1)[:, instance.latency_frames :]
                if same.tobytes() != np.concatenate(list(inside(plugin, blocks)), axis=1).tobytes():
                    raise click.ClickException(f"{name} gives other bytes in a sandbox")
                alone = ratio(
                    lambda plugin=plugin, blocks=blocks: use(inside(plugin, blocks)),
                    lambda instance=instance, blocks=blocks: use(outside(instance, blocks)),
                    rounds,
                )
            loaded = ratio(
                partial(loaded_inside, path, parameters, blocks),
                partial(loaded_outside, path, parameters, blocks),
                rounds,
            )
            click.echo(f"{name:10} blocks of {block_frames:6} frames: processing {alone}, with loading {loaded}")


def loaded_inside(path: Path, parameters: dict[str, float], blocks: list[np.ndarray]) -> None:
    use(inside(load(path, parameters), blocks))


def loaded_outside(path: Path, parameters: dict[str, float], blocks: list[np.ndarray]) -> None:
    with host.open_plugin(path, SAMPLE_RATE, 2, parameters) as instance:
        use(outside(instance, blocks))


def automation(length_s: float) -> None:
    """Stereo noise through built-ins of which one parameter moves all the time, in steps of AUTOMATION_STEP_S."""
    signal = (0.2 * np.random.default_rng(0).standard_normal((2, round(length_s * SAMPLE_RATE)))).astype(np.float32)
    audio = gbsep.Audio(signal, SAMPLE_RATE)
    click.echo(f"{length_s:g} s of stereo with a moving parameter, a step every {1000 * AUTOMATION_STEP_S:g} ms")
    for name, (parameter, first, last, more) in LANES.items():
        lane = {"points": [[0, first], [length_s, last]]}
        chain = [{"effect": name, parameter: lane, **more}]
        gbsep.apply_chain(gbsep.Audio(signal[:, :SAMPLE_RATE], SAMPLE_RATE), chain)  # imports what it needs
        begin = time.process_time()
        gbsep.apply_chain(audio, chain)
        took_s = time.process_time() - begin
        click.echo(f"{name:12} {length_s / took_s:5.0f} times as fast as it sounds, by processor time")


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
            left = len(me.children(recursive=True)), sum("gbsep-plugin" in area.path for area in me.memory_maps())
            click.echo(
                f"after {number:3} renders: {size:.1f} MB, {files} open files, {left[0]} processes, "
                f"{left[1]} pieces of shared memory"
            )


@click.command("host", help=__doc__)
@click.option("--seconds", "length_s", default=240.0, help="Length of the stem.")
@click.option("--plugin", "names", multiple=True, type=click.Choice(list(PLUGINS)), default=list(PLUGINS))
@click.option("--rounds", default=5, help="Rounds, of which the best counts.")
@click.option("--opens", default=300, help="Instances opened one after the other.")
@click.option("--renders", default=300, help="Renders one after the other.")
@click.option("--timeout", "timeout_s", default=2.0, help="Deadline for the faults, in seconds.")
def command(length_s: float, names: tuple[str, ...], rounds: int, opens: int, renders: int, timeout_s: float) -> None:
    compare(names, length_s, rounds)
    automation(min(length_s, 60.0))
    with tempfile.TemporaryDirectory() as folder:
        build = Path(__file__).parents[2] / "tests" / "plugin" / "build.sh"
        subprocess.run([build, folder], check=True, stdout=sys.stderr)
        library = next(Path(folder).rglob("*.so"))
        faults(library, Path(folder), timeout_s)
        leaks(library.parents[2], opens)
        batch(library.parents[2], Path(folder), renders)
