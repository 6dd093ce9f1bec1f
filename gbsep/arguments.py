"""Arguments of public functions against their annotations: a wrong type is a TypeError that names the argument.

    @checked
    def read(path: str | Path, start_s: float = 0.0) -> Audio: ...

    read(3)     TypeError: path must be str or Path, not int (3)

Values are looked at, not converted; a number may be of any kind of number. What a value has to be beyond its type is
the function's own affair, and one of gbsep's errors.
"""

from __future__ import annotations

import functools
import inspect
import numbers
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from .errors import shown

F = TypeVar("F", bound=Callable[..., Any])


def checked(function: F) -> F:
    """The function, which raises TypeError for arguments that are not of their annotated types."""
    signature = inspect.signature(function)

    @functools.cache
    def hints() -> dict[str, Any]:
        return typing.get_type_hints(function, include_extras=True)

    @functools.wraps(function)
    def call(*positional: Any, **named: Any) -> Any:
        given = signature.bind(*positional, **named).arguments
        for name, value in given.items():
            kind, hint = signature.parameters[name].kind, hints().get(name, Any)
            if kind not in (kind.VAR_KEYWORD, kind.VAR_POSITIONAL) and not _fits(value, hint):
                raise TypeError(f"{name} must be {_words(hint)}, not {type(value).__name__} ({shown(value)})")
        return function(*positional, **named)

    return typing.cast(F, call)


def _fits(value: object, hint: Any) -> bool:
    """Whether a value is of a type; of lists, tuples and mappings what is in them too."""
    origin, parts = get_origin(hint), get_args(hint)
    if hint is Any or isinstance(hint, TypeVar):
        return True
    if hint is None or hint is types.NoneType:
        return value is None
    if origin in (Union, types.UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is Annotated:
        return _fits(value, parts[0])
    if origin is Literal:
        return isinstance(value, tuple(type(part) for part in parts))
    if hint in (int, float):
        return isinstance(value, numbers.Real)
    if origin is None:
        return not inspect.isclass(hint) or getattr(hint, "_is_protocol", False) or isinstance(value, hint)
    if origin is Callable:
        return callable(value)
    is_text = isinstance(value, (str, bytes)) or hasattr(value, "dtype")
    if not isinstance(value, origin) or (is_text and issubclass(origin, Iterable)):
        return False
    if isinstance(value, Mapping):
        pair = parts if len(parts) == 2 else (parts[0], Any)
        return all(_fits(key, pair[0]) and _fits(item, pair[1]) for key, item in value.items())
    if origin is tuple and parts[-1] is not ...:
        return len(value) == len(parts) and all(map(_fits, value, parts))
    return not isinstance(value, (list, tuple, set, frozenset, range)) or all(_fits(item, parts[0]) for item in value)


def _words(hint: Any) -> str:
    """A type as a message names it."""
    parts = get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(map(_words, parts))
    if get_origin(hint) is Annotated:
        return _words(parts[0])
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, parts))
    name = "None" if hint is types.NoneType else getattr(hint, "__name__", None) or str(hint)
    inner = [_words(part) for part in parts if part is not ... and not isinstance(part, list) and part is not Any]
    return f"{name} of {', '.join(inner)}" if inner and name != "Callable" else name
