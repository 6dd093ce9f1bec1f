"""The process of a plug-in, seen from inside; gbsep.plugins.sandbox starts it.

Every request `{"do": name, ...}` has one answer, `{"ok": ...}` or `{"error": kind, "args": [...]}`; whatever else may
happen, a crash, a hang, exit(0), is for the other side to notice.

Renders repeat because an instance has heard nothing before its first block. A plug-in takes its parameters with a
block, and its latency may follow them; so a first instance is set, hears silence, and leaves its state. A second one
starts from that state, and what it shows then is what it makes heard.
"""

from __future__ import annotations

import base64
import ctypes
import mmap
import os
import resource
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ParameterError, PluginError
from . import channel, layout, loader, parameters, state
from .audio_unit import AudioUnitModule
from .vst3 import ClassRow
from .vst3_interfaces import INPUT, OUTPUT
from .vst3_module import Module

SILENCE_FRAMES = 512
SCAN_RATE_HZ = 44100

Values = Mapping[str, parameters.Value]
Changes = list[tuple[int, dict[str, Any]]]


@dataclass
class Voice:
    """A plug-in at work: one instance, or two for a mono plug-in on a stereo signal.

    `known` are the parameters of each instance, `kept` the state from which they started. `key_channels` are the rows
    that follow those of the signal in each block: what the side-chain bus `sidechain` hears, by way of `key_way`.
    """

    module: Module | AudioUnitModule
    row: ClassRow
    plugins: list[Any]
    sample_rate: int
    channels: int
    form: str
    key_channels: int = 0
    layout: layout.Layout = field(init=False)
    known: list[parameters.Known] = field(default_factory=list)
    kept: tuple[bytes, bytes] = (b"", b"")
    sidechain: int | None = None
    key_way: np.ndarray | None = None


_MODULES: dict[str, Module | AudioUnitModule] = {}


def open_module(path: str) -> Module | AudioUnitModule:
    """The bundle's library, loaded once."""
    if path not in _MODULES:
        try:
            loader.check_loadable(Path(path))
        except (OSError, ImportError) as error:
            raise PluginError(str(error)) from error
        _MODULES[path] = AudioUnitModule(Path(path)) if path.endswith(".component") else Module(Path(path))
    return _MODULES[path]


def row_of(module: Module | AudioUnitModule, name: str | None) -> ClassRow:
    """The plug-in of that name, or the only one."""
    found = [row for row in module.rows if name in (None, row.name)]
    if not found:
        raise PluginError("it holds no plug-in" + f" {name!r}" * bool(name))
    if name is None and len(found) > 1:
        raise PluginError(f"it holds several plug-ins; give a name: {', '.join(row.name for row in found)}")
    return found[0]


def load(path: str, name: str | None, sample_rate: int, channels: int, key_channels: int = 0) -> Voice:
    """Load the plug-in, in a layout that can carry `channels` channels, and `key_channels` more on a side chain."""
    module = open_module(path)
    row = row_of(module, name)
    plugin = module.create(row)
    form = "raw" if isinstance(module, AudioUnitModule) else "vstpreset"
    voice = Voice(module, plugin.row, [plugin], sample_rate, channels, form, key_channels)
    voice.layout = layout.choose(plugin, channels)
    if key_channels:
        voice.sidechain = sidechain_bus(plugin)
        if voice.sidechain is None:
            raise PluginError('it has no side-chain bus; {"effect": "Ducker", "sidechain": ...} follows another stem')
        voice.key_way = layout.sidechain_way(plugin.buses(INPUT)[voice.sidechain], key_channels)
    return voice


def sidechain_bus(plugin: Any) -> int | None:
    """The first input bus beside the main one; None when there is none."""
    return next((index for index, bus in enumerate(plugin.buses(INPUT)) if index and bus.channels), None)


def fresh(voice: Voice) -> Any:
    """Another instance in the same layout, not yet prepared."""
    plugin = voice.module.create(voice.row)
    layout.choose(plugin, voice.channels)
    return plugin


def restore_state(voice: Voice, data: str) -> None:
    voice.kept = state.unpack(base64.b64decode(data), voice.row.class_id, voice.row.version)
    restore(voice, voice.plugins[0], voice.kept)


def restore(voice: Voice, plugin: Any, kept: tuple[bytes, bytes]) -> None:
    """Give an instance a state: some take one only when they know the sample rate, none while it is at work."""
    prepare(voice, plugin)
    plugin.deactivate()
    plugin.restore(*kept)


def start(voice: Voice, values: Values) -> dict[str, Any]:
    """Set the parameters, make instances that have heard nothing yet, and read them."""
    trial = voice.plugins[0]
    known = parameters.known_parameters(trial)
    wanted = parameters.raws(known) if any(voice.kept) else {}
    wanted |= parameters.write(known, values)
    hear_silence(voice, trial)
    voice.kept = trial.state()
    prepare(voice, trial)  # a latency that follows a parameter counts from then on
    latency_frames = trial.latency_frames
    trial.close()
    again = settle(voice, values, wanted) if wanted else {}
    restart_random_numbers()
    voice.plugins = [fresh(voice) for _ in range(voice.layout.instances)]
    voice.known = [set_up(voice, plugin, values, wanted, again) for plugin in voice.plugins]
    for plugin in voice.plugins:
        prepare(voice, plugin)
    shown = {**parameters.read(voice.known[0]), **values}
    return {"latency_frames": latency_frames, "values": shown}


def settle(voice: Voice, values: Values, wanted: Mapping[str, float]) -> dict[str, float]:
    """Find the state that an instance keeps once it has heard a block, and the raw values to be set besides.

    Some plug-ins take a state with a block only, one parameter may change another as they are restored, and some forget
    their state as they start to work, or have none. `wanted` are the raw values to be had: those of `values`, and those
    of a state that was given. Raises ParameterError for one of `values` that is not kept either way.
    """
    start = voice.kept
    again = {} if any(start) else dict(wanted)
    for last in (False, True) if any(start) else (True,):
        try:
            voice.kept = start
            for _ in range(2 if values or again else 0):  # a state as it was given has been heard already
                plugin = fresh(voice)
                set_up(voice, plugin, values, wanted, again)
                hear_silence(voice, plugin)
                voice.kept = plugin.state()
                plugin.close()
            plugin = fresh(voice)
            known = set_up(voice, plugin, values, wanted, {})  # which checks `values`
            lost = parameters.lost(known, {name: raw for name, raw in wanted.items() if name not in values})
            plugin.close()
        except ParameterError:
            if last:
                raise
            lost = dict(wanted)
        if last or not lost:
            break
        again = lost
    return again


def set_up(
    voice: Voice, plugin: Any, values: Values, wanted: Mapping[str, float], again: Mapping[str, float]
) -> parameters.Known:
    """Give an instance the state, check that it has the values then, and set the raw values of `again` besides."""
    restore(voice, plugin, voice.kept)
    known = parameters.known_parameters(plugin)
    if any(voice.kept):
        parameters.check_kept(known, values, wanted)
    parameters.write_raws(known, again)
    return known


def restart_random_numbers() -> None:
    """Begin the C library's random numbers anew, so that what was tried before does not change what is heard."""
    ctypes.CDLL(None).srand(1)


def hear_silence(voice: Voice, plugin: Any) -> None:
    prepare(voice, plugin)
    plugin.process(np.zeros((len(voice.layout.way_in), SILENCE_FRAMES), np.float32))


def prepare(voice: Voice, plugin: Any) -> None:
    plugin.prepare(voice.sample_rate, voice.sidechain)


def process(voice: Voice, block: np.ndarray) -> np.ndarray:
    """The next block, late by the latency: (channels + key_channels, n) to (channels, n)."""
    signal, key = block[: voice.channels], block[voice.channels :]
    if voice.key_way is not None:
        key = (voice.key_way @ key).astype(np.float32)
    parts = voice.layout.split(signal)
    return voice.layout.join([_process(voice, *pair, key) for pair in zip(voice.plugins, parts, strict=True)])


def _process(voice: Voice, plugin: Any, block: np.ndarray, key: np.ndarray) -> np.ndarray:
    out: np.ndarray = plugin.process(block, None if voice.sidechain is None else (voice.sidechain, key))
    return out


def process_in_place(voice: Voice, block: np.ndarray, changes: Changes) -> None:
    """Process `block`; each of `changes`, in order, is a frame and the parameters that hold from there on."""
    begin = 0
    for frame, values in [*changes, (block.shape[1], {})]:
        if frame > begin:
            block[: voice.channels, begin:frame] = process(voice, block[:, begin:frame])
            begin = frame
        for known in voice.known:
            for name, value in values.items():
                parameters.move(known, name, value)


def latency_frames(voice: Voice) -> int:
    frames: list[int] = [plugin.latency_frames for plugin in voice.plugins]
    return max(frames)


def names(path: str) -> list[dict[str, Any]]:
    """The plug-ins that a file lists, none of them loaded."""
    return [asdict(row) for row in open_module(path).rows]


def examine(path: str, name: str) -> dict[str, Any]:
    """What can be said of one plug-in of a file."""
    module = open_module(path)
    plugin = module.create(row_of(module, name))
    row = plugin.row
    inputs, outputs = plugin.buses(INPUT), plugin.buses(OUTPUT)
    is_effect = bool(inputs and outputs and inputs[0].channels and outputs[0].channels)
    is_effect = is_effect and (not row.is_instrument or "Fx" in row.category)
    layouts = []
    for channels in (1, 2) if is_effect else ():
        layout.choose(plugin, channels)
        now = (plugin.buses(INPUT)[0].channels, plugin.buses(OUTPUT)[0].channels)
        layouts += [now] if now not in layouts else []
    if (1, 1) in layouts or (2, 2) in layouts:
        layouts = [pair for pair in layouts if pair in ((1, 1), (2, 2))]
    sidechain = is_effect and sidechain_bus(plugin) is not None
    latency = 0
    if is_effect:
        plugin.prepare(SCAN_RATE_HZ)
        latency = plugin.latency_frames
    described = [asdict(parameter) for parameter in parameters.describe(parameters.known_parameters(plugin))]
    plugin.close()
    return {
        **asdict(row),
        "layouts": layouts,
        "sidechain": sidechain,
        "latency_frames": latency,
        "parameters": described,
    }


def save_state(voice: Voice) -> str:
    """The state from which the instances started: what is heard with the first frame."""
    packed = state.pack(voice.form, voice.kept, voice.row.class_id, voice.row.version)
    return base64.b64encode(packed).decode()


REQUESTS: dict[str, Callable[..., Any]] = {
    "state": restore_state,
    "start": start,
    "save": save_state,
}
"""What can be asked of a loaded plug-in, besides `process`."""

QUESTIONS: dict[str, Callable[..., Any]] = {"names": names, "examine": examine}
"""What can be asked of a file."""


def serve(messages: socket.socket, memory: mmap.mmap) -> None:
    """Answer requests until the other side hangs up."""
    voice: Any = None
    answer: Any
    while True:
        try:
            request = channel.receive(messages)
        except EOFError:
            return
        verb = request.pop("do")
        try:
            if verb == "process":
                rows = voice.channels + voice.key_channels
                block = channel.slot(memory, request["slot"], rows, request["frames"])
                process_in_place(voice, block, request["changes"])
                answer = latency_frames(voice)
            elif verb in QUESTIONS:
                answer = QUESTIONS[verb](**request)
            elif verb == "load":
                voice = load(**request)
                answer = {"class_id": voice.row.class_id, "version": voice.row.version}
            else:
                answer = REQUESTS[verb](voice, **request)
            channel.send(messages, {"ok": answer})
        except ParameterError as error:
            arguments = [error.name, error.value, error.allowed, error.unit]
            channel.send(messages, {"error": "ParameterError", "args": arguments})
        except PluginError as error:
            channel.send(messages, {"error": "PluginError", "args": [str(error)]})
        except Exception as error:  # the boundary of the process: a plug-in may raise anything through Pedalboard
            channel.send(messages, {"error": "PluginError", "args": [f"{type(error).__name__}: {error}"]})


def confine(memory_limit_bytes: int) -> None:
    """Write no core, and on Linux, where the system has it, limit memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        allowed_bytes = resource.getrlimit(resource.RLIMIT_AS)[1]
        if allowed_bytes != resource.RLIM_INFINITY:
            memory_limit_bytes = min(memory_limit_bytes, allowed_bytes)
        resource.setrlimit(resource.RLIMIT_AS, (memory_limit_bytes, memory_limit_bytes))


def main(arguments: list[str]) -> None:
    """Arguments: the file descriptors of the messages and of the shared memory, and the most bytes of memory to use."""
    messages_fd, memory_fd, memory_limit_bytes = map(int, arguments)
    for descriptor in (messages_fd, memory_fd):
        os.set_inheritable(descriptor, False)
    confine(memory_limit_bytes)
    serve(socket.socket(fileno=messages_fd), mmap.mmap(memory_fd, 0))
