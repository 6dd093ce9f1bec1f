"""The shape of the `compact` network, which is kept with its weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Config:
    """The network's shape; kept with its weights.

    bins: number of bins, from 0 Hz, that can hold bass; gathered: harmonics that each pitch reads; harmonics: harmonics
    that each pitch is written to; widths: channels of the U-net's levels; dilations: (pitch, time) of each block of the
    deepest level; projected: channels of each harmonic; head: channels of the last layers; taps: frames of the filter;
    inner: channels inside each block, first to last, where these differ from the width of its level; passes: how often
    the network hears a song, 1 or 2: the second time with the first estimate, by weights of its own.
    """

    sample_rate: int = 8000
    n_fft: int = 1024
    hop_length: int = 256
    bins: int = 320
    lowest_hz: float = 27.5
    bins_per_octave: int = 36
    pitches: int = 192
    gathered: int = 16
    harmonics: int = 16
    widths: tuple[int, int, int] = (32, 64, 128)
    dilations: tuple[tuple[int, int], ...] = ((1, 1), (2, 2), (4, 4), (1, 1), (4, 1), (2, 1), (1, 2), (1, 1))
    projected: int = 8
    head: int = 32
    taps: int = 3
    inner: tuple[int, ...] = ()
    passes: int = 1

    @property
    def blocks(self) -> dict[str, tuple[int, int]]:
        """(channels, channels inside) of every block, in signal order."""
        top, middle, deep = self.widths
        deepest = {f"deep{number}": deep for number in range(len(self.dilations))}
        widths = {"middle1": middle, **deepest, "middle2": middle, "top": top}
        return {
            name: (width, inside)
            for (name, width), inside in zip(widths.items(), self.inner or widths.values(), strict=True)
        }

    @property
    def context(self) -> int:
        """Frames on either side that an output frame of a pass can depend on."""
        deep = 4 * (2 * sum(in_time for _, in_time in self.dilations) + 1)
        middle = 2 * (2 * 2 + 2)
        top = 1 + 2
        return deep + middle + top + 2 + self.taps // 2 + 4 + 1

    @property
    def grid_frames(self) -> int:
        """Samples from one possible start of a piece to the next: the step of the deepest level."""
        return 4 * self.hop_length


def config_from(values: dict[str, Any]) -> Config:
    """A Config from its JSON form. Raises TypeError or ValueError for unknown keys and values out of range."""
    if not isinstance(values, dict):
        raise TypeError(f"a network's shape is an object, not {values!r}")
    config = Config(**{name: _tuples(value) for name, value in values.items()})

    def size(value: Any, largest: int = 2**12) -> bool:
        return type(value) is int and 0 < value <= largest

    def sizes(value: Any, count: int) -> bool:
        return isinstance(value, tuple) and len(value) == count and all(map(size, value))

    rules: dict[str, Callable[[Any], bool]] = {
        "sample_rate": lambda hz: size(hz, 384_000),
        "n_fft": lambda frames: size(frames, 2**14) and frames % 2 == 0,
        "hop_length": lambda frames: size(frames) and config.n_fft in [frames * n for n in range(2, 17)],
        "bins": lambda count: size(count) and count <= config.n_fft // 2,
        "lowest_hz": lambda hz: type(hz) in (int, float) and 0 < hz < config.sample_rate / 4,
        "gathered": lambda count: size(count, 64),
        "harmonics": lambda count: size(count, 64),
        "taps": lambda count: size(count) and count % 2 == 1,
        "pitches": lambda count: size(count) and count % 4 == 0,
        "widths": lambda found: sizes(found, 3),
        "dilations": lambda found: (
            isinstance(found, tuple) and 0 < len(found) < 100 and all(sizes(pair, 2) for pair in found)
        ),
        "passes": lambda count: size(count, 2),
        "inner": lambda found: found == () or sizes(found, len(config.dilations) + 3),
    }
    for name, value in asdict(config).items():
        if not rules.get(name, size)(value):
            raise ValueError(f"{name} {value!r} is no shape of a network")
    return config


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
