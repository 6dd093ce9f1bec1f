"""Two guitars: any separator's guitar in two, by their places in the stereo picture or by what they play.

    {"backend": "guitars", "how": "auto", "of": {"backend": "compact"}}

The stems are those of the separator, and `guitar1` and `guitar2`, which sum to its guitar (to `other`, where it has no
guitar). By places, guitar1 is the left one, or a rhythm guitar that was played twice, once for each side, around a
lead; by roles, the one that plays chords. Where there is but one guitar, or no telling, guitar1 is the whole guitar
and guitar2 is silent, and the render says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator

from ...audio import Block, Reader, join, rechunk
from ...errors import ParameterError
from ...stemnames import TWO_GUITARS, partners
from ..backend import Context, Told
from ..members import checked_member, member_stems, parsed_member
from ..settings import BackendSettings
from . import roles
from .alike import find_doubled, is_echo
from .places import BLOCK, MIN_TOLD, Line, alone, find_lines, split

FIRST, SECOND = TWO_GUITARS

BY_PLACES = "the guitars are told apart by their places"

SEPARATION, SEPARATION_BEFORE_ROLES = 0.9, 0.55
"""Part of the work that the separator does."""


class Settings(BackendSettings):
    """What a preset may say to this backend.

    of: the separator whose guitar is taken apart, as it would stand in "separate", without a seed: that of the preset
    is its own.
    how: by their `places` in stereo, by their `roles`, or `auto`: by places where there are two, else by roles.
    """

    how: Literal["places", "roles", "auto"] = "places"
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
    learnt = roles.identity() if settings.how != "places" else {}
    return {"of": {"backend": member.name, **member.module.identity(member.settings, own)}, **learnt}


def run(reader: Reader, settings: Settings, context: Context) -> Iterator[dict[str, Block]]:
    """Yield the wanted stems' blocks. Raises what the separator raises."""
    member, wanted = parsed_member(settings.of), _asked(settings, context)
    first = SEPARATION if settings.how == "places" else SEPARATION_BEFORE_ROLES
    own = replace(context, wanted=wanted, progress=lambda fraction: context.progress(first * fraction))
    stems = member_stems(reader, member, own)
    guitar = stems[_guitar(settings, context)]
    streams = {name: rechunk(stems[name].blocks(), BLOCK) for name in context.wanted if name in stems}

    reached, done = first, 0

    def halfway(fraction: float) -> None:
        nonlocal reached
        reached = first + (0.99 - first) * fraction
        context.progress(reached)

    wants_both = bool({FIRST, SECOND} & set(context.wanted))
    for one, two in _two(guitar, settings.how, context.tell, halfway) if wants_both else alone(guitar):
        halves = {FIRST: one, SECOND: two}
        yield {name: next(streams[name]) if name in streams else halves[name] for name in context.wanted}
        done += one.shape[1]
        context.progress(reached + (1 - reached) * min(1.0, done / max(1, reader.frames)))


def _guitar(settings: Settings, context: Context) -> str:
    return partners(stem_names(settings, context.models))[0]


def _asked(settings: Settings, context: Context) -> tuple[str, ...]:
    """What the separator is asked for: its own stems among the wanted ones, and the guitar."""
    own = [name for name in context.wanted if name not in (FIRST, SECOND)]
    return tuple(dict.fromkeys([*own, _guitar(settings, context)]))


def _two(
    guitar: Reader, how: str, tell: Callable[[Told], None], progress: Callable[[float], None] = lambda fraction: None
) -> Iterator[tuple[Block, Block]]:
    """The two guitars, in blocks of BLOCK frames; `tell` is given what was found."""
    if how == "roles":
        return roles.split(guitar, tell, progress)
    lines, reason = _places(guitar)
    doubled = find_doubled(guitar, lines)
    if doubled:
        tell(Told({FIRST: "plays the same left and right", SECOND: f"is {_said(doubled[2])}"}, BY_PLACES))
        return split(guitar, doubled, [True, True, False])
    if len(lines) > 1:
        if not is_echo(guitar, lines):
            return _by_place(guitar, lines, tell)
        reason = "one guitar is at two places, the second an echo of the first"
    elif how == "auto":
        return roles.split(guitar, tell, progress)
    tell(Told({SECOND: f"is silent: {reason}"}))
    return alone(guitar)


def _places(guitar: Reader) -> tuple[list[Line], str]:
    """Where guitars are; and why, where these are not two places or more."""
    if guitar.channels != 2:
        return [], "guitars are told apart by their places, and a mono recording has none"
    lines = find_lines(guitar)
    if sum(line.share for line in lines) < MIN_TOLD:
        return [], "no guitar has a place of its own; they are wide, move, or do not sound"
    return lines, f"all guitars are at one place, {_said(lines[0])}"


def _by_place(guitar: Reader, lines: list[Line], tell: Callable[[Told], None]) -> Iterator[tuple[Block, Block]]:
    anchors = sorted(lines[:2], key=lambda line: -line.degrees)
    first = [min(anchors, key=lambda anchor: abs(anchor.degrees - line.degrees)) is anchors[0] for line in lines]
    groups = [[line for line, here in zip(lines, first, strict=True) if here is which] for which in (True, False)]
    places = {name: f"is {' and '.join(map(_said, each))}" for name, each in zip((FIRST, SECOND), groups, strict=True)}
    more = f" ({len(lines)} of them, so there may be more than two guitars)" if len(lines) > 2 else ""
    tell(Told(places, BY_PLACES + more))
    return split(guitar, lines, first)


def two_guitars(
    guitar: Reader, tell: Callable[[Told], None] = lambda what: None, how: str = "places"
) -> tuple[np.ndarray, np.ndarray]:
    """A guitar in two, in memory: arrays (channels, frames), float32, that sum to it. `tell` gets what was found."""
    one, two = zip(*_two(guitar, how, tell), strict=True)
    return join(one), join(two)


def _said(line: Line) -> str:
    percent = round(abs(line.degrees) / 45 * 100)
    if percent > 100:
        return f"{'left' if line.degrees > 0 else 'right'}, its channels in opposite phase"
    return "in the centre" if percent < 3 else f"{percent} % {'left' if line.degrees > 0 else 'right'}"
