"""Two guitars: any separator's guitar in two, by their places in the stereo picture.

    {"backend": "guitars", "of": {"backend": "compact"}}

The stems are those of the separator, and `guitar1` and `guitar2`, which sum to its guitar (to `other`, where it has no
guitar). guitar1 is the left one. Where there are no two places, in mono or with all guitars at one place, guitar1 is
the whole guitar and guitar2 is silent, and the render says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import Field, field_validator

from ...audio import Block, Reader, join, rechunk
from ...errors import ParameterError
from ...stemnames import partners
from ..backend import Context
from ..members import checked_member, member_stems, parsed_member
from ..settings import BackendSettings
from .places import BLOCK, MIN_TOLD, Line, find_lines, split

FIRST, SECOND = "guitar1", "guitar2"


class Settings(BackendSettings):
    """What a preset may say to this backend.

    of: the separator whose guitar is taken apart, as it would stand in "separate", without a seed: that of the preset
    is its own.
    """

    of: dict[str, Any] = Field({"backend": "compact"}, validate_default=True)

    @field_validator("of")
    @classmethod
    def _member(cls, of: dict[str, Any]) -> dict[str, Any]:
        return checked_member("", of)

    def check(self, sample_rate: int) -> None:
        """Raise ParameterError when the separator cannot work on a mixture of `sample_rate` Hz."""
        parsed_member(self.of).settings.check(sample_rate)


def stem_names(settings: Settings, models_dir: Any = None) -> tuple[str, ...]:
    """Those of the separator, and the two guitars. Raises ParameterError where it has nothing to take apart."""
    member = parsed_member(settings.of)
    names = tuple(name for name in member.module.stem_names(member.settings, models_dir) if name not in (FIRST, SECOND))
    if not partners(names):
        raise ParameterError("of", member.name, f"it has no guitar to take apart; it gives {', '.join(names)}")
    return (*names, FIRST, SECOND)


def identity(settings: Settings, context: Context) -> dict[str, Any]:
    """What the separator says."""
    member = parsed_member(settings.of)
    own = replace(context, wanted=_asked(settings, context))
    return {"of": {"backend": member.name, **member.module.identity(member.settings, own)}}


def run(reader: Reader, settings: Settings, context: Context) -> Iterator[dict[str, Block]]:
    """Yield the wanted stems' blocks. Raises what the separator raises."""
    member, wanted = parsed_member(settings.of), _asked(settings, context)
    own = replace(context, wanted=wanted, progress=lambda fraction: context.progress(0.9 * fraction))
    stems = member_stems(reader, member, own)
    guitar = stems[_guitar(settings, context)]
    streams = {name: rechunk(stems[name].blocks(), BLOCK) for name in context.wanted if name in stems}
    done = 0
    for one, two in _two(guitar, context.warn) if {FIRST, SECOND} & set(context.wanted) else _alone(guitar):
        halves = {FIRST: one, SECOND: two}
        yield {name: next(streams[name]) if name in streams else halves[name] for name in context.wanted}
        done += one.shape[1]
        context.progress(min(1.0, 0.9 + 0.1 * done / max(1, reader.frames)))


def _guitar(settings: Settings, context: Context) -> str:
    return partners(stem_names(settings, context.models))[0]


def _asked(settings: Settings, context: Context) -> tuple[str, ...]:
    """What the separator is asked for: its own stems among the wanted ones, and the guitar."""
    own = [name for name in context.wanted if name not in (FIRST, SECOND)]
    return tuple(dict.fromkeys([*own, _guitar(settings, context)]))


def _alone(guitar: Reader) -> Iterator[tuple[Block, Block]]:
    """All in the first, nothing in the second."""
    for block in rechunk(guitar.blocks(), BLOCK):
        yield block, np.zeros_like(block)


def _two(guitar: Reader, told: Callable[[str], None]) -> Iterator[tuple[Block, Block]]:
    """The two guitars, in blocks of BLOCK frames; `told` is given what was found."""
    if guitar.channels != 2:
        told("guitar2 is silent: guitars are told apart by their places, and a mono recording has none")
        return _alone(guitar)
    lines = find_lines(guitar)
    if sum(line.share for line in lines) < MIN_TOLD:
        told("guitar2 is silent: no guitar has a place of its own; they are wide, move, or do not sound")
        return _alone(guitar)
    if len(lines) == 1:
        told(f"guitar2 is silent: all guitars are at one place, {_said(lines[0])}")
        return _alone(guitar)
    anchors = sorted(lines[:2], key=lambda line: -line.degrees)
    first = [min(anchors, key=lambda anchor: abs(anchor.degrees - line.degrees)) is anchors[0] for line in lines]
    groups = [[line for line, here in zip(lines, first, strict=True) if here is which] for which in (True, False)]
    places = "; ".join(
        f"{name} is {' and '.join(map(_said, group))}" for name, group in zip((FIRST, SECOND), groups, strict=True)
    )
    more = f" ({len(lines)} places: more than two guitars?)" if len(lines) > 2 else ""
    told(f"the guitars are told apart by their places: {places}{more}")
    return split(guitar, lines, first)


def two_guitars(guitar: Reader, told: Callable[[str], None] = lambda message: None) -> tuple[np.ndarray, np.ndarray]:
    """A guitar in two, in memory: arrays (channels, frames), float32, that sum to it; `told` is given the reason."""
    one, two = zip(*_two(guitar, told), strict=True)
    return join(one), join(two)


def _said(line: Line) -> str:
    percent = round(abs(line.degrees) / 45 * 100)
    return "in the centre" if percent < 3 else f"{percent} % {'left' if line.degrees > 0 else 'right'}"
