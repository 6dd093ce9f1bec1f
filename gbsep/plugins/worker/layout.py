"""How a mono or stereo signal goes through the buses of a plug-in.

A plug-in that takes the signal's channels as they are gets them so. Otherwise, in this order: a mono plug-in treats the
channels of a stereo signal each by itself; a stereo plug-in gets a mono signal on both channels, and the mean of what
it makes of them comes back; a plug-in with one channel in and two out gets the mean of a stereo signal; one with two in
and one out fills both channels. What has a layout of its own with more channels gets left and right as its first two. A
plug-in whose own layout is ambisonic keeps that. On an ambisonic bus (ACN, SN3D) left and right are sources at 90
degrees, and are heard through two cardioids that face there: with nothing in between they come back as they were.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ...errors import PluginError
from .vst3 import Bus
from .vst3_interfaces import AMBISONIC, INPUT, OUTPUT

PREFERENCES = {1: ((1, 1), (2, 2), (1, 2), (2, 1)), 2: ((2, 2), (1, 1), (1, 2), (2, 1))}
"""Channels in and out that a plug-in is asked for, by the channels of the signal."""


class Plugin(Protocol):
    def buses(self, direction: int) -> list[Bus]: ...
    def arrange(self, channels_in: int, channels_out: int) -> bool: ...


@dataclass(frozen=True)
class Layout:
    """`way_in` has shape (channels of the first input bus, channels of the signal), `way_out` the other way round.

    Of a layout with two `instances` each hears one channel of the signal.
    """

    way_in: np.ndarray
    way_out: np.ndarray
    instances: int = 1

    def split(self, block: np.ndarray) -> list[np.ndarray]:
        """What each instance hears of a block."""
        if self.instances > 1:
            return list(np.split(block, self.instances))
        return [block if _is_identity(self.way_in) else (self.way_in @ block).astype(np.float32)]

    def join(self, blocks: list[np.ndarray]) -> np.ndarray:
        """The block that instances have made."""
        if self.instances > 1:
            return np.concatenate(blocks)
        return blocks[0] if _is_identity(self.way_out) else (self.way_out @ blocks[0]).astype(np.float32)


def _is_identity(way: np.ndarray) -> bool:
    return way.shape[0] == way.shape[1] and bool((way == np.eye(len(way))).all())


def choose(plugin: Plugin, channels: int) -> Layout:
    """Arrange the plug-in for a signal of 1 or 2 channels. Raises PluginError when no sound goes in or comes out."""
    own = [plugin.buses(direction) for direction in (INPUT, OUTPUT)]
    if not own[0] or not own[0][0].channels:
        raise PluginError("it takes no sound: it is an instrument or a generator, and only effects can process a stem")
    if not own[1] or not own[1][0].channels:
        raise PluginError("no sound comes out of it, and only effects can process a stem")
    for channels_in, channels_out in () if any(_is_ambisonic(buses[0]) for buses in own) else PREFERENCES[channels]:
        if plugin.arrange(channels_in, channels_out):
            if channels == 2 and (channels_in, channels_out) == (1, 1):
                return Layout(np.eye(1), np.eye(1), instances=2)
            break
    bus_in, bus_out = (plugin.buses(direction)[0] for direction in (INPUT, OUTPUT))
    return Layout(_into(bus_in, channels), _out_of(bus_out, channels))


def sidechain_way(bus: Bus, channels: int) -> np.ndarray:
    """How a key of 1 or 2 channels goes into a side-chain bus, shape (channels of the bus, channels)."""
    return _into(bus, channels)


def _into(bus: Bus, channels: int) -> np.ndarray:
    if bus.channels == 1:
        return np.full((1, channels), 1 / channels)
    way = np.zeros((bus.channels, channels))
    if _is_ambisonic(bus):
        way[0] = 1.0
        way[1] = (0.0,) if channels == 1 else (1.0, -1.0)
    else:
        way[0, 0] = way[1, -1] = 1.0
    return way


def _out_of(bus: Bus, channels: int) -> np.ndarray:
    if bus.channels == 1:
        return np.ones((channels, 1))
    way = np.zeros((channels, bus.channels))
    if _is_ambisonic(bus):
        way[:, 0] = 1.0 if channels == 1 else 0.5
        way[:, 1] = 0.0 if channels == 1 else (0.5, -0.5)
    elif channels == 1:
        way[0, :2] = 0.5
    else:
        way[0, 0] = way[1, 1] = 1.0
    return way


def _is_ambisonic(bus: Bus) -> bool:
    return bus.channels >= 4 and bus.arrangement & ~AMBISONIC == 0 and bus.arrangement != 0
