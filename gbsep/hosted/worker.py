"""The process of one plug-in, seen from inside; gbsep.host.sandbox starts it.

Every request `{"do": name, ...}` has one answer, `{"ok": ...}` or `{"error": kind, "args": [...]}`; whatever else may
happen, a crash, a hang, exit(0), is for the other side to notice.

Renders repeat because an instance has heard nothing before its first block: pedalboard sends random noise through a
plug-in while loading it, and silence has to be sent to learn its latency, so then the instance is thrown away and made
anew with the same state and parameters.
"""

from __future__ import annotations

import base64
import mmap
import os
import resource
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ParameterError, PluginError
from . import channel, loader, parameters, state

BUFFER_FRAMES = 8192
"""The longest piece a plug-in gets at once; pedalboard's own default, so that both give the same bytes."""

SILENCE_FRAMES = 512

SCAN_RATE_HZ = 44100

STATES = {"vstpreset": "preset_data", "raw": "raw_state"}
"""Pedalboard's names for the forms of a state."""

Changes = list[tuple[int, dict[str, Any]]]


@dataclass
class Voice:
    """A plug-in at work: one instance, or two for a mono plug-in on a stereo signal.

    `width` is the channel count of each instance, `known` their parameters. `buffer_frames` is the length of the first
    piece: a longer one later would make pedalboard prepare the plug-in again, which silences it.
    """

    plugins: list[Any]
    known: list[parameters.Known]
    sample_rate: int
    channels: int
    width: int
    class_id: str
    version: str
    form: str
    state: tuple[str, bytes] | None = None
    values: dict[str, parameters.Value] = field(default_factory=dict)
    buffer_frames: int = 0


def load(path: str, name: str | None, sample_rate: int, channels: int) -> Voice:
    """Load the plug-in, in a width that can carry `channels` channels."""
    plugin = _load(Path(path), name)
    if plugin.is_instrument:
        raise PluginError("it is an instrument, and only effects can process a stem")
    width = next((width for width in (channels, 3 - channels) if _accepts(plugin, sample_rate, width)), 0)
    if not width:
        raise PluginError("it takes neither one channel nor two")
    plugins = [plugin]
    if width < channels:
        plugins.append(_load(Path(path), name))
        _accepts(plugins[1], sample_rate, width)
    form = "vstpreset" if hasattr(plugin, "preset_data") else "raw"
    known = [plugin.parameters for plugin in plugins]
    return Voice(plugins, known, sample_rate, channels, width, class_id(plugin), plugin.version, form)


def _load(path: Path, name: str | None) -> Any:
    import pedalboard

    pedalboard._pedalboard.get_text_for_raw_value = _text  # type: ignore[assignment]
    try:
        loader.check_loadable(path)
        return pedalboard.load_plugin(str(path), plugin_name=name)
    except UnicodeDecodeError:
        raise
    except (OSError, ImportError, ValueError, RuntimeError) as error:
        raise PluginError(str(error)) from error


def _text(parameter: Any, raw_value: float, slow: bool = False) -> str:
    """What `parameter` shows at `raw_value`.

    Stands in for pedalboard's own, which while loading sets a parameter that has one text only to 1001 values to see
    whether the text changes. A plug-in that loads something for each of them (ZamVerb: its impulse responses) then
    takes minutes.
    """
    return parameter.get_text_for_raw_value(raw_value)


def _accepts(plugin: Any, sample_rate: int, width: int) -> bool:
    """Whether the plug-in takes `width` channels; it then knows that arrays have shape (channels, frames)."""
    try:
        plugin.process(np.zeros((width, SILENCE_FRAMES), np.float32), sample_rate)
    except ValueError:
        return False
    return True


def class_id(plugin: Any) -> str:
    """The VST3 class id as its `.vstpreset` spells it; for Audio Units pedalboard's identifier."""
    return plugin.preset_data[8:40].decode("ascii") if hasattr(plugin, "preset_data") else plugin.identifier


def restore_state(voice: Voice, data: str) -> None:
    voice.state = state.unpack(base64.b64decode(data), voice.class_id, voice.version)
    restore(voice)


def restore(voice: Voice) -> None:
    """Give every instance the state and the parameters asked for."""
    for plugin, known in zip(voice.plugins, voice.known, strict=True):
        if voice.state is not None:
            form, data = voice.state
            setattr(plugin, STATES[form], data)
        parameters.write(known, voice.values)


def recall(voice: Voice, plugin: Any) -> None:
    """Give an instance, and with it what shows its parameters, the state that it has."""
    setattr(plugin, STATES[voice.form], getattr(plugin, STATES[voice.form]))


def start(voice: Voice, values: dict[str, parameters.Value]) -> dict[str, Any]:
    """Set the parameters, make instances that have heard nothing yet, and read them.

    A plug-in takes parameters with a block, here of silence. Then they are in the state that the new instance takes
    over, and the latency is the one they bring about. What the state holds is what is heard, so they are read from it.
    """
    from pedalboard_native import ExternalPluginReloadType

    voice.values = values
    restore(voice)
    kept = []
    for plugin, known in zip(voice.plugins, voice.known, strict=True):
        plugin.process(np.zeros((voice.width, SILENCE_FRAMES), np.float32), voice.sample_rate)
        kept.append(parameters.recalled(known, values, partial(recall, voice, plugin)))
        plugin._reload_type = ExternalPluginReloadType.PersistsAudioOnReset
        plugin.reset()
    restore(voice)
    return {"latency_frames": latency_frames(voice), "values": kept[0]}


def latency_frames(voice: Voice) -> int:
    return max(plugin.reported_latency_samples for plugin in voice.plugins)


def process(voice: Voice, block: np.ndarray) -> np.ndarray:
    """The next block, late by the latency; same shape (channels, n)."""
    if voice.width == voice.channels:
        return _process(voice, voice.plugins[0], block)
    if voice.width > voice.channels:
        return _process(voice, voice.plugins[0], np.repeat(block, 2, axis=0)).mean(axis=0, keepdims=True)
    rows = np.split(block, len(voice.plugins))
    return np.concatenate([_process(voice, *pair) for pair in zip(voice.plugins, rows, strict=True)])


def _process(voice: Voice, plugin: Any, block: np.ndarray) -> np.ndarray:
    voice.buffer_frames = voice.buffer_frames or min(block.shape[1], BUFFER_FRAMES)
    made = plugin.process(block, voice.sample_rate, buffer_size=voice.buffer_frames, reset=False)
    missing = block.shape[1] - made.shape[1]  # pedalboard leaves out what comes before the latency has passed
    return np.pad(made, ((0, 0), (missing, 0))) if missing else made


def process_in_place(voice: Voice, block: np.ndarray, changes: Changes) -> None:
    """Process `block`; each of `changes`, in order, is a frame and the parameters that hold from there on."""
    begin = 0
    for frame, values in [*changes, (block.shape[1], {})]:
        if frame > begin:
            block[:, begin:frame] = process(voice, block[:, begin:frame])
            begin = frame
        for known in voice.known:
            for name, value in values.items():
                parameters.move(known, name, value)


def scan(path: str) -> list[dict[str, Any]]:
    """What a plug-in file holds: one row for each plug-in."""
    import pedalboard

    try:
        loader.check_loadable(Path(path))
        names = pedalboard.VST3Plugin.get_plugin_names_for_file(path) if path.endswith(".vst3") else [None]
    except (OSError, ImportError) as error:
        raise PluginError(str(error)) from error
    return [_row(name, _load(Path(path), name)) for name in names]


def _row(name: str | None, plugin: Any) -> dict[str, Any]:
    channels = [] if plugin.is_instrument else [width for width in (1, 2) if _accepts(plugin, SCAN_RATE_HZ, width)]
    return {
        "name": name or plugin.name,
        "vendor": plugin.manufacturer_name,
        "version": plugin.version,
        "category": plugin.category,
        "class_id": class_id(plugin),
        "channels": channels,
        "latency_frames": plugin.reported_latency_samples,
        "parameters": [asdict(parameter) for parameter in parameters.describe(plugin.parameters)],
    }


def save_state(voice: Voice) -> str:
    plugin = voice.plugins[0]
    data = getattr(plugin, STATES[voice.form])
    return base64.b64encode(state.pack(voice.form, data, voice.class_id, voice.version)).decode()


REQUESTS: dict[str, Callable[..., Any]] = {
    "state": restore_state,
    "start": start,
    "save": save_state,
}
"""What can be asked of a loaded plug-in, besides `process`."""


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
                block = channel.slot(memory, request["slot"], voice.channels, request["frames"])
                process_in_place(voice, block, request["changes"])
                answer = latency_frames(voice)
            elif verb == "scan":
                answer = scan(**request)
            elif verb == "load":
                voice = load(**request)
                answer = {"class_id": voice.class_id, "version": voice.version}
            else:
                answer = REQUESTS[verb](voice, **request)
            channel.send(messages, {"ok": answer})
        except ParameterError as error:
            arguments = [error.name, error.value, error.allowed, error.unit]
            channel.send(messages, {"error": "ParameterError", "args": arguments})
        except PluginError as error:
            channel.send(messages, {"error": "PluginError", "args": [str(error)]})
        except UnicodeDecodeError:
            reason = "it gives a text that is not UTF-8; its file may be damaged"
            channel.send(messages, {"error": "PluginError", "args": [reason]})
        except Exception as error:  # the boundary of the process: a plug-in may raise anything through pedalboard
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
