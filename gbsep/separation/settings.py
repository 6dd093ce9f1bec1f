"""The base of every backend's settings: strict, frozen, no unknown keys, no NaN; and errors in our words."""

from __future__ import annotations

import typing

from pydantic import BaseModel, ConfigDict, ValidationError

from ..errors import nearest, shown


class StrictModel(BaseModel):
    """A JSON object whose keys and types are exactly these."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, populate_by_name=True)


class BackendSettings(StrictModel):
    """Settings of one backend, as they stand in a preset's "separate" beside "backend" and "seed"."""

    def check(self, sample_rate: int) -> None:
        """Raise ParameterError when these settings cannot work on a mixture of `sample_rate` Hz."""


def first_problem(error: ValidationError, model: type[BaseModel]) -> tuple[str, str]:
    """The JSON path of the first problem and the reason, with the nearest known key for one that `model` lacks.

    >>> try: BackendSettings.model_validate({"x": 1})
    ... except ValidationError as error: first_problem(error, BackendSettings)
    ('x', 'unknown key; known: ')
    """
    problem = error.errors(include_url=False)[0]
    path, keys = _follow(model, problem["loc"])
    if problem["type"] == "extra_forbidden":
        return path, f"unknown key{nearest(str(problem['loc'][-1]), keys)}"
    if problem["type"] == "missing":
        return path, "is missing"
    if problem["type"] == "union_tag_invalid":
        context = problem["ctx"]
        known = [tag.strip(" '") for tag in context["expected_tags"].split(",")]
        key = context["discriminator"].strip("'")
        return f"{path}.{key}", f"{context['tag']!r} is unknown{nearest(context['tag'], known)}"
    return path, f"{problem['msg'][:1].lower()}{problem['msg'][1:]}, not {shown(problem['input'])}"


def _follow(model: type[BaseModel], location: tuple[int | str, ...]) -> tuple[str, list[str]]:
    """A location of pydantic's as a JSON path, without the tags of unions, and the keys known at its last step."""
    path, place, keys = "", typing.cast(typing.Any, model), list[str]()
    for part in location:
        if typing.get_origin(place) in (dict, list):
            place = typing.get_args(place)[-1]
        else:
            models = [leaf for leaf in _leaves(place) if isinstance(leaf, type) and issubclass(leaf, BaseModel)]
            tagged = [leaf for leaf in models if any(field.default == part for field in leaf.model_fields.values())]
            if len(models) > 1 and tagged:
                place = tagged[0]
                continue
            fields = {
                field.alias or name: field.annotation for one in models for name, field in one.model_fields.items()
            }
            keys, place = list(fields), fields.get(str(part))
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path, keys


def _leaves(annotation: typing.Any) -> typing.Iterator[typing.Any]:
    inner = typing.get_args(annotation)
    if not inner:
        yield annotation
    for part in inner:
        yield from _leaves(part)
