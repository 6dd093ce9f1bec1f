"""External plug-ins, VST3 and on macOS Audio Units, each at work in a process of its own.

    for info in plugins(): ...                                  what is on this machine, with all parameters
    with open_plugin(find("ZamCompX2"), 44100, 2, {"ratio": 12.34}) as instance:
        late = instance.process(block)                          by instance.latency_frames
    repeats(find("ZamCompX2"))                                  whether it makes the same sound twice

A plug-in can crash, hang, end its process, print anywhere, or give NaN: the caller gets PluginCrashed, PluginTimeout or
PluginError naming the plug-in and the phase, and nothing is left behind.

This is the room's public door: other rooms import from here alone. sandbox.py is the outside of the process,
gbsep.plugins.worker its inside; scan.py finds plug-ins, instance.py runs them.
"""

from __future__ import annotations

import numpy as np

from .instance import Changes, PluginInstance, open_plugin
from .sandbox import TIMEOUT_S, how_it_ended
from .scan import PluginInfo, Stamp, examine, find, folders, matching, names, plugins, stamp
from .worker.loader import library
from .worker.parameters import PluginParameter, Value
from .worker.state import preset_chunks, read_file, read_state, state_file, unpack

__all__ = [
    "PROBE_SAMPLE_RATE",
    "TIMEOUT_S",
    "Changes",
    "PluginInfo",
    "PluginInstance",
    "PluginParameter",
    "Stamp",
    "Value",
    "examine",
    "find",
    "folders",
    "how_it_ended",
    "library",
    "matching",
    "names",
    "open_plugin",
    "plugins",
    "preset_chunks",
    "read_file",
    "read_state",
    "repeats",
    "stamp",
    "state_file",
    "unpack",
]

PROBE_SAMPLE_RATE = 44100


def repeats(info: PluginInfo) -> bool:
    """Whether two fresh instances, each in its own process, make the same sound of two seconds of the same noise."""
    channels = max(info.channels, default=2)
    noise = np.random.default_rng(0).standard_normal((channels, 2 * PROBE_SAMPLE_RATE)).astype(np.float32) * 0.1
    outputs = []
    for _ in range(2):
        with open_plugin(info, PROBE_SAMPLE_RATE, channels) as instance:
            outputs.append(instance.process(noise).tobytes())
    return outputs[0] == outputs[1]
