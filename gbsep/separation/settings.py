"""The base of every backend's settings: strict, frozen, no unknown keys, no NaN; and what pydantic says, in our words."""

from __future__ import annotations

import typing

from pydantic import BaseModel, ConfigDict, ValidationError

from ..errors import nearest


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
    path = ""
    for part in problem["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    if problem["type"] == "extra_forbidden":
        return path, f"unknown key{nearest(str(problem['loc'][-1]), _keys(model, problem['loc'][:-1]))}"
    if problem["type"] == "missing":
        return path, "is missing"
    value = repr(problem["input"])
    return path, f"{problem['msg'][:1].lower()}{problem['msg'][1:]}, not {value if len(value) < 60 else value[:60] + '...'}"


def _keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The JSON keys of the model at `location` below `model`."""
    known: typing.Any = model
    for part in location:
        if isinstance(known, type) and issubclass(known, BaseModel):
            by_key = {field.alias or name: field.annotation for name, field in known.model_fields.items()}
            known = by_key.get(str(part), known)
        models = [kind for kind in _leaves(known) if isinstance(kind, type) and issubclass(kind, BaseModel)]
        tagged = [kind for kind in models if str(part) in {str(field.default) for field in kind.model_fields.values()}]
        known = (tagged or models or [known])[0]
    return [field.alias or name for name, field in known.model_fields.items()]


def _leaves(annotation: typing.Any) -> typing.Iterator[typing.Any]:
    inner = typing.get_args(annotation)
    if not inner:
        yield annotation
    for part in inner:
        yield from _leaves(part)
