"""The base classes of everything that gbsep reads as JSON, their shared types, and plain error messages.

- StrictModel is for what users write: an unknown key or a wrong type is an error that names the place.
- Lenient is for what gbsep wrote, perhaps in another version: unknown keys are ignored, types are exact.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from .errors import SmallFileError, nearest, printable, shown, similar

Model = TypeVar("Model", bound=BaseModel)


class StrictModel(BaseModel):
    """A JSON object whose keys and types are exactly these."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, populate_by_name=True)


class Lenient(BaseModel):
    """A JSON object with exactly these types; unknown keys are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False, populate_by_name=True)


def validated(path: str | Path, model: type[Model], document: Any) -> Model:
    """A document that gbsep wrote, as a model; `path` is for the message.

    Raises SmallFileError that names the first place that is not valid.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        reason = problem["msg"].removeprefix("Value error, ")
        raise SmallFileError(path, printable(f"is not as gbsep writes it: {where}: {reason}"[:400])) from None


class Misplaced(ValueError):
    """What a validator finds wrong with a value; `place` is where in the value, such as `.points[1]`."""

    def __init__(self, place: str, reason: str):
        super().__init__(reason)
        self.place, self.reason = place, reason


def first_problem(error: ValidationError, model: Any) -> tuple[str, str]:
    """The JSON path of the first problem and the reason, with the nearest known key for one that `model` lacks.

    `model` is a StrictModel or another type that pydantic validates.

    >>> try: StrictModel.model_validate({"x": 1})
    ... except ValidationError as error: first_problem(error, StrictModel)
    ('x', 'unknown key; known: ')
    """
    return all_problems(error, model)[0]


def all_problems(error: ValidationError, model: Any, hint: Callable[[str], str] | None = None) -> list[tuple[str, str]]:
    """The JSON path and the reason of every problem, as `first_problem` gives them, each place once.

    `hint` says of an unknown tag of a union what may be meant, in place of the nearest known one.
    """
    found: dict[str, str] = {}
    for problem in _ordered(error.errors(include_url=False)):
        found.setdefault(*_in_words(problem, model, hint))
    return list(found.items())


def _in_words(problem: ErrorDetails, model: Any, hint: Callable[[str], str] | None) -> tuple[str, str]:
    path, fields = _follow(model, problem["loc"])
    context = problem.get("ctx", {})
    if problem["type"] == "extra_forbidden":
        key = str(problem["loc"][-1])
        if key.isidentifier() or len(problem["loc"]) == 1:
            return path, f"unknown key{nearest(key, fields)}"
        return path[: -1 - len(key)], f"unknown key {shown(key)}{nearest(key, fields)}"
    if problem["type"] == "missing":
        about = fields[str(problem["loc"][-1])].description
        return path, f"is missing{': ' if about else ''}{about or ''}"
    if problem["type"] == "union_tag_invalid":
        known = [tag.strip(" '") for tag in context["expected_tags"].split(",")]
        key, tag = context["discriminator"].strip("'"), context["tag"]
        return f"{path}.{key}", f"{shown(tag)} is unknown{hint(tag) if hint else nearest(tag, known)}"
    if problem["type"] in _WANTED:
        return path, f"must be {_WANTED[problem['type']]}, not {shown(problem['input'])}"
    path = path.removesuffix(".[key]")
    if context.get("pattern") == NAME:
        return path, f"{NAME_WORDS}, not {shown(problem['input'])}"
    if isinstance(context.get("error"), Misplaced):
        return path + context["error"].place, context["error"].reason
    return path, f"{problem['msg'][:1].lower()}{problem['msg'][1:]}, not {shown(problem['input'])}"


_WANTED = {
    "bool_type": "true or false",
    "dict_type": "an object in { }",
    "float_type": "a number",
    "int_type": "a whole number",
    "list_type": "a list in [ ]",
    "model_type": "an object in { }",
    "string_type": "text in quotes",
}
"""What a value must be, by pydantic's name of the problem."""


def _ordered(problems: list[ErrorDetails]) -> list[ErrorDetails]:
    """Problems in their order, but an unknown key before a missing one: it may be the same key, misspelt.

    If it is, the missing key is not told again; nor is each member of a union that a value does not fit.
    """
    unknown = [problem for problem in problems if problem["type"] == "extra_forbidden"]

    def is_told(problem: ErrorDetails) -> bool:
        *above, missing = problem["loc"]
        beside = (str(one["loc"][-1]) for one in unknown if one["loc"][:-1] == tuple(above))
        return any(similar(word, [str(missing)]) for word in beside)

    places = [problem["loc"] for problem in problems]
    plain = [problem for problem in problems if problem["type"] != "missing" and not _is_other_member(problem, places)]
    return [*plain, *(problem for problem in problems if problem["type"] == "missing" and not is_told(problem))]


def _is_other_member(problem: ErrorDetails, places: list[tuple[int | str, ...]]) -> bool:
    """Whether it is the literal of a union beside a member whose problems say more."""
    if not problem["loc"]:
        return False
    *above, last = problem["loc"]
    return str(last).startswith("literal[") and sum(place[: len(above)] == tuple(above) for place in places) > 1


def _follow(model: Any, location: tuple[int | str, ...]) -> tuple[str, dict[str, FieldInfo]]:
    """A pydantic location as a JSON path, without the tags of unions, and the fields that its last step may have."""
    path, place, fields = "", model, dict[str, FieldInfo]()
    for part in location:
        while get_origin(place) is Annotated:
            place = get_args(place)[0]
        if get_origin(place) in (dict, list):
            place = get_args(place)[-1]
        else:
            if get_origin(place) in (Union, UnionType) and str(part).startswith(("list[", "literal[")):
                place = next((member for member in get_args(place) if get_origin(member) is list), None)
                continue
            models = [leaf for leaf in _leaves(place) if isinstance(leaf, type) and issubclass(leaf, BaseModel)]
            tagged = [leaf for leaf in models if part in _tags(leaf)]
            if len(models) > 1 and tagged:
                place = tagged[0]
                continue
            fields = {field.alias or name: field for kind in models for name, field in kind.model_fields.items()}
            place = fields[str(part)].annotation if part in fields else None
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path, fields


def _tags(model: type[BaseModel]) -> set[Any]:
    """The values by which a union distinguishes this model."""
    literals = (field.annotation for field in model.model_fields.values() if get_origin(field.annotation) is Literal)
    return {value for literal in literals for value in get_args(literal)}


def _leaves(annotation: Any) -> Iterator[Any]:
    inner = get_args(annotation)
    if not inner:
        yield annotation
    for part in inner:
        yield from _leaves(part)


def checked_text(value: Any) -> str:
    """The value if it is text. Raises ValueError otherwise."""
    # Pydantic's `str` refuses the lone surrogates with which Python spells file names that are not UTF-8.
    if not isinstance(value, str):
        raise ValueError("must be text")
    return value


_DEVICES = frozenset({"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"}) | {
    f"{port}{number}" for port in ("COM", "LPT") for number in "123456789\u00b9\u00b2\u00b3"
}
"""Names that stand for a device on Windows, in any folder and with any suffix."""
NAME = r"^[\w][\w .+-]{0,63}$"
"""Names of presets and stems, which are parts of names of files."""
NAME_WORDS = "must be a name of 1 to 64 letters, digits, blanks and . _ + -, which begins with a letter, a digit or _"


def is_device(name: str) -> bool:
    """Whether Windows takes the name of a file or folder for a device: `con`, `nul.wav`, `com1`.

    >>> is_device("Aux.wav"), is_device("auxiliary")
    (True, False)
    """
    return name.split(".")[0].rstrip(" ").upper() in _DEVICES


def fault_of_name(name: str) -> str | None:
    """Why a preset or stem cannot have a name, None where it can."""
    if not re.fullmatch(NAME, name):
        return f"{NAME_WORDS}, not {shown(name)}"
    if is_device(name):
        return f"{name!r} stands for a device on Windows and cannot be the name of a file: choose another"
    if name.endswith((" ", ".")):
        return f"{name!r} ends in a blank or a stop, which Windows leaves out: choose another name"
    return None


def _usable(name: str) -> str:
    fault = fault_of_name(name)
    if fault:
        raise Misplaced("", fault)
    return name


Name = Annotated[str, Field(pattern=NAME), AfterValidator(_usable)]
"""A name that files and folders can have on every system."""


def is_plain_name(name: str) -> bool:
    """Whether a name stands for a file directly in a folder, and cannot lead out of it."""
    plain = name not in ("", ".", "..") and not set(name) & set("/\\\0")
    return plain and _is_of_a_file(name) and len(os.fsencode(name)) <= 255


def _is_of_a_file(name: str) -> bool:
    """Whether the lone surrogates in a name, if any, are those that Python makes of bytes that are not UTF-8."""
    return all(not 0xD800 <= ord(letter) <= 0xDFFF or 0xDC80 <= ord(letter) <= 0xDCFF for letter in name)


def _track(value: Any) -> str:
    track = checked_text(value)
    if track and not all(map(is_plain_name, track.split("/"))):
        raise ValueError(f"{track!r} must be the name of a folder in this one")
    return track


def _place(value: Any) -> str:
    where = checked_text(value)
    if "\0" in where or not _is_of_a_file(where):
        raise ValueError("must be a path or a URL")
    if "://" in where:
        urlsplit(where)
    return where


Text = Annotated[str, PlainValidator(checked_text)]
"""Any text, including file names that are not UTF-8."""
TrackName = Annotated[str, PlainValidator(_track)]
"""The path of a song's folder below the output folder; empty for the output folder itself."""
Place = Annotated[str, PlainValidator(_place)]
"""A path or a URL."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
