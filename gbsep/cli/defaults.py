"""Options that a user always gives: defaults.json in the configuration folder."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from ..errors import PresetError, SmallFileError, nearest, shown
from ..store import smallfiles
from ..store.folders import config_folder
from .common import Time

_KINDS: tuple[tuple[type[Any], tuple[type, ...], str], ...] = (
    (click.IntRange, (int,), "a whole number"),
    (type(click.INT), (int,), "a whole number"),
    (click.FloatRange, (int, float), "a number"),
    (type(click.FLOAT), (int, float), "a number"),
    (Time, (int, float, str), 'a time: seconds such as 90, or "1:30"'),
    (click.ParamType, (str,), "a text"),
)
"""What a value in JSON may be, by the type of its option, and in words."""


def user_defaults(command: click.Command) -> dict[str, Any]:
    """Options from the user's defaults.json, by command. Raises PresetError for what no command knows."""
    path = place()
    if path is None:
        return {}
    try:
        if not path.exists():
            return {}
        defaults = smallfiles.read_json(path, 1_000_000)
    except OSError as error:
        raise PresetError(path, "", f"cannot be read ({error.strerror})") from None
    except SmallFileError as error:
        raise PresetError(path, "", f"must be a JSON object ({error.reason})") from None
    return _checked(path, "", command, defaults)


def place() -> Path | None:
    """Where defaults.json lies, if it is there; None for a user without a home."""
    folder = config_folder()
    return folder and folder / "defaults.json"


def _checked(path: Path, where: str, command: click.Command, defaults: Any) -> dict[str, Any]:
    """Defaults of a command, or of the commands of a group, by the names that click knows."""
    if not isinstance(defaults, dict):
        raise PresetError(path, where, "must be a JSON object of commands and their options")
    if isinstance(command, click.Group):
        for name in defaults:
            if name not in command.commands:
                raise PresetError(path, name, f"no such command{nearest(name, command.commands)}")
        return {name: _checked(path, name, command.commands[name], value) for name, value in defaults.items()}
    options = {option.opts[0].lstrip("-"): option for option in command.params if isinstance(option, click.Option)}
    checked = {}
    for key, value in defaults.items():
        if key not in options:
            raise PresetError(path, f"{where}.{key}", f"no such option{nearest(key, options)}")
        if value is None:
            raise PresetError(path, f"{where}.{key}", "null is no value; leave the option out")
        reason = _fault(command, options[key], value)
        if reason:
            raise PresetError(path, f"{where}.{key}", reason)
        checked[str(options[key].name)] = value
    return checked


def _fault(command: click.Command, option: click.Option, value: Any) -> str | None:
    """Why a JSON value is none of an option, None where it is one."""
    several = option.multiple or option.nargs != 1
    if several and not (isinstance(value, list) and value):
        return f'must be a JSON array of values, such as ["exp002"], not {shown(value)}'
    kinds, words = next(row[1:] for row in _KINDS if isinstance(option.type, row[0]))
    if option.is_flag:
        kinds, words = (bool,), "true or false"
    for each in value if several else [value]:
        if type(each) not in kinds or (isinstance(each, float) and not math.isfinite(each)):
            return f"must be {words}, not {shown(each)}"
    try:
        option.type_cast_value(click.Context(command), value)
    except click.BadParameter as error:
        return error.message.rstrip(".")
    except (TypeError, ValueError, OverflowError):
        return f"must be {words}, not {shown(value)}"
    return None
