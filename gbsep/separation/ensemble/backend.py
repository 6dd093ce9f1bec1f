"""Ensembles: what several separators agree on, or the first of them whose weights are here.

    {"backend": "ensemble", "how": "mean",
     "of": [{"backend": "msst", "model": "bs_roformer_sw"}, {"backend": "demucs", "model": "htdemucs_6s"}],
     "weights": {"bass": [2, 1], "guitar": [1, 0]}}

Members work one after the other, each into stems of its own on disk (in the cache, where there is one), and the stems
are put together block by block: memory is that of the largest member. A member that a stem gives no weight to is not
asked for it, nor run for nothing. `first` takes one member for everything, the first that can be used on this machine
as it is: nothing is downloaded for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from ...audio import Block, Reader
from ...errors import BackendError, BackendNotInstalled, ParameterError, WeightsMissing, nearest
from ...schema import Misplaced
from ..backend import Context, backend_named, stem_blocks
from ..members import Member, checked_member, member_stems, parsed_member
from ..settings import BackendSettings
from .spectra import combined

MAX_DEPTH = 3
"""Ensembles in ensembles."""

Weights = list[Annotated[float, Field(ge=0.0, le=1000.0)]]


class Settings(BackendSettings):
    """What a preset may say to this backend.

    of: the members, each as it would stand in "separate", without a seed: that of the preset is theirs.
    how: mean; median_spectrum (of real and imaginary parts), max_spectrum or min_spectrum (the value of the largest or
    smallest magnitude) for each bin and moment; first, the first member that is here.
    weights: for a stem a number per member, for the mean; a member with 0 has no part in the stem, however they are put
    together. A stem without an entry takes all members alike.
    """

    of: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=8)]
    how: Literal["mean", "median_spectrum", "max_spectrum", "min_spectrum", "first"] = "mean"
    weights: dict[str, Weights] = Field({})

    @field_validator("of")
    @classmethod
    def _members(cls, of: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [checked_member(f"[{index}]", member) for index, member in enumerate(of)]

    @model_validator(mode="after")
    def _one_each(self) -> Settings:
        for name, row in self.weights.items():
            if len(row) != len(self.of) or not any(row):
                raise Misplaced(f"weights.{name}", f"must be {len(self.of)} numbers, one for each member, not all 0")
        if self.weights and self.how == "first":
            raise Misplaced("weights", "mean nothing where the first member that is here is taken: leave them out")
        if _depth(self.of) > MAX_DEPTH:
            raise Misplaced("of", f"may hold ensembles of ensembles {MAX_DEPTH} deep, no deeper")
        return self

    def check(self, sample_rate: int) -> None:
        """Raise ParameterError when a member cannot work on a mixture of `sample_rate` Hz."""
        for member in members(self):
            member.settings.check(sample_rate)


def members(settings: Settings) -> list[Member]:
    """The members' backends and settings."""
    return [parsed_member(member) for member in settings.of]


def stem_names(settings: Settings, models_dir: Path | None = None) -> tuple[str, ...]:
    """All that a member gives and that has a weight; of `first` what every member gives that is here.

    Raises ParameterError for weights of a stem that none gives, and what members raise whose weights are missing.
    """
    names: dict[str, None] = {}
    lists = _given(settings, models_dir)
    unknown = [name for name in settings.weights if not any(name in given for given in lists)]
    if unknown:
        known = dict.fromkeys(name for given in lists for name in given)
        raise ParameterError("weights", unknown[0], f"no member gives this stem{nearest(unknown[0], known)}")
    for name in dict.fromkeys(name for given in lists for name in given):
        if settings.how == "first":
            if all(name in given for given in lists):
                names[name] = None
        elif any(name in given for given, weight in zip(lists, _row(settings, name), strict=True) if weight):
            names[name] = None
    return tuple(names)


def _given(settings: Settings, models_dir: Path | None) -> list[tuple[str, ...]]:
    """The stems of each member. Of `first` those are left out that are not here, unless none is."""
    lists, missing = [], []
    for member in members(settings):
        try:
            lists.append(member.module.stem_names(member.settings, models_dir))
        except BackendError as error:
            if settings.how != "first":
                raise
            missing.append(error)
    if not lists:
        raise missing[-1]
    return lists


def identity(settings: Settings, context: Context) -> dict[str, Any]:
    """What the members say. Of `first` that of the one that is taken, which the render is told of."""
    if settings.how == "first":
        index, member, said = _first(settings, context)
        return {"took": _described(settings.of[index]), "of": [{"backend": member.name, **said}]}
    said_by = []
    for index, member in enumerate(members(settings)):
        wanted = _asked(settings, context, index)
        if wanted:
            said = member.module.identity(member.settings, replace(context, wanted=wanted))
            said_by.append({"backend": member.name, **said})
    return {"of": said_by}


def run(reader: Reader, settings: Settings, context: Context) -> Iterator[dict[str, Block]]:
    """Yield the wanted stems' blocks. Raises what the members raise."""
    if settings.how == "first":
        quiet = replace(context, warn=lambda message: None)
        _, member, _ = _first(settings, quiet)
        if member.name == "ensemble":  # what it is made of is kept already
            yield from stem_blocks(reader, member.name, member.settings, context)
        else:
            stems = member_stems(reader, member, context)
            yield from combined({name: [(stems[name], 1.0)] for name in context.wanted}, "mean")
        return
    given: dict[str, list[tuple[Reader, float]]] = {name: [] for name in context.wanted}
    todo = [(index, member, _asked(settings, context, index)) for index, member in enumerate(members(settings))]
    todo = [row for row in todo if row[2]]
    costs = [backend_named(member.name).real_time_factor for _, member, _ in todo]
    for place, (index, member, wanted) in enumerate(todo):
        before, share = sum(costs[:place]) / sum(costs), costs[place] / sum(costs)

        def report(fraction: float, before: float = before, share: float = share) -> None:
            context.progress(before + share * fraction)

        stems = member_stems(reader, member, replace(context, wanted=wanted, progress=report))
        for stem in wanted:
            given[stem].append((stems[stem], _row(settings, stem)[index]))
    yield from combined(given, settings.how)
    context.progress(1.0)


def _asked(settings: Settings, context: Context, index: int) -> tuple[str, ...]:
    """What a member is asked for: wanted stems that it gives and has a weight in."""
    member = members(settings)[index]
    gives = member.module.stem_names(member.settings, context.models)
    return tuple(stem for stem in context.wanted if stem in gives and _row(settings, stem)[index])


def _row(settings: Settings, stem: str) -> Weights:
    return settings.weights.get(stem, [1.0] * len(settings.of))


def _first(settings: Settings, context: Context) -> tuple[int, Member, dict[str, Any]]:
    """The first member that can be used as things are, and what it says of itself."""
    passed: list[str] = []
    local = replace(context, download=False)
    rows = members(settings)
    for index, member in enumerate(rows):
        try:
            said = member.module.identity(member.settings, local)
        except (WeightsMissing, BackendNotInstalled) as error:
            if index == len(rows) - 1:
                raise
            missing = "is not installed" if isinstance(error, BackendNotInstalled) else "is not here"
            passed.append(f"{_described(settings.of[index])} {missing}")
            continue
        except BackendError as error:
            if index == len(rows) - 1:
                raise
            passed.append(f"{_described(settings.of[index])} cannot be used ({error})")
            continue
        reason = f": {'; '.join(passed)}" if passed else ""
        context.warn(f"separated by {_described(settings.of[index])}{reason}")
        return index, member, said
    raise AssertionError("an ensemble has members")


def _described(member: Mapping[str, Any]) -> str:
    """A member in a few words: its model, or its backend."""
    if member["backend"] == "ensemble":
        return " with ".join(_described(part) for part in member["of"])
    return str(member.get("model", member["backend"]))


def _depth(of: list[dict[str, Any]]) -> int:
    return 1 + max((_depth(member["of"]) for member in of if member["backend"] == "ensemble"), default=0)
