"""External plug-ins, VST3 and on macOS Audio Units, each in a process of its own.

    for info in plugins(): ...                                  what is on this machine
    with open_plugin(find("ZamCompX2"), 44100, 2, {"ratio": 12.34}) as instance:
        late = instance.process(block)                          by instance.latency_frames
    show(find("ZamCompX2"), probe=True)                         parameters, and whether it repeats itself

A plug-in can crash, hang, end its process, print anywhere, or give NaN: the caller gets PluginCrashed, PluginTimeout or
PluginError naming the plug-in and the phase, and nothing is left behind. See sandbox.py for the outside of the process,
worker.py for the inside, loader.py for why something does not load, parameters.py and state.py for exactness.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import PluginError
from .instance import BLOCK_TIMEOUT_S, LOAD_TIMEOUT_S, Changes, PluginInstance, open_path
from .loader import library
from .parameters import PluginParameter, Value, is_near
from .sandbox import MEMORY_LIMIT_BYTES
from .scan import PluginInfo, examine, find, folders, plugins
from .state import preset_chunks, read_state, state_file, unpack

__all__ = [
    "Changes",
    "PluginDetails",
    "PluginInfo",
    "PluginInstance",
    "PluginParameter",
    "Value",
    "examine",
    "find",
    "folders",
    "is_near",
    "library",
    "open_plugin",
    "plugins",
    "preset_chunks",
    "read_state",
    "show",
    "state_file",
    "unpack",
]

PROBE_SAMPLE_RATE = 44100


@dataclass(frozen=True)
class PluginDetails:
    """A plug-in with its parameters. `nondeterministic` is None unless it was probed."""

    info: PluginInfo
    parameters: tuple[PluginParameter, ...]
    nondeterministic: bool | None = None


def open_plugin(
    plugin: PluginInfo | str | Path,
    sample_rate: int,
    channels: int,
    parameters: Mapping[str, Value] | None = None,
    state: bytes | None = None,
    *,
    load_timeout_s: float = LOAD_TIMEOUT_S,
    block_timeout_s: float = BLOCK_TIMEOUT_S,
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
) -> PluginInstance:
    """A fresh instance of a plug-in, or of the only one in a file, for a signal of `channels` (1 or 2) channels.

    `state` is restored first, then `parameters` are set by their text values and read back. `load_timeout_s` holds for
    each of loading, restoring and setting, `block_timeout_s` for each 65536 frames. Raises ParameterError,
    PluginCrashed, PluginTimeout, PluginError.
    """
    if isinstance(plugin, PluginInfo) and plugin.reason:
        raise PluginError(f"{plugin.path} is in quarantine: {plugin.reason}")
    path, name = (plugin.path, plugin.name) if isinstance(plugin, PluginInfo) else (Path(plugin), None)
    return open_path(
        path.absolute(),
        name,
        sample_rate,
        channels,
        parameters,
        state,
        load_timeout_s=load_timeout_s,
        block_timeout_s=block_timeout_s,
        memory_limit_bytes=memory_limit_bytes,
    )


def show(plugin: PluginInfo | str, probe: bool = False) -> PluginDetails:
    """Everything about one plug-in, by name; with `probe`, two renders tell whether it repeats itself."""
    info = find(plugin) if isinstance(plugin, str) else plugin
    channels = max(info.channels, default=2)
    with open_plugin(info, PROBE_SAMPLE_RATE, channels) as instance:
        parameters = instance.parameters()
    return PluginDetails(info, parameters, _differs(info, channels) if probe else None)


def _differs(info: PluginInfo, channels: int) -> bool:
    """Whether two fresh instances, each in its own process, make different sound of the same noise."""
    noise = np.random.default_rng(0).standard_normal((channels, 2 * PROBE_SAMPLE_RATE)).astype(np.float32) * 0.1
    outputs = []
    for _ in range(2):
        with open_plugin(info, PROBE_SAMPLE_RATE, channels) as instance:
            outputs.append(instance.process(noise).tobytes())
    return outputs[0] != outputs[1]
