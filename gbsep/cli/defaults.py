"""Options that a user always gives: defaults.json in the configuration folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..errors import PresetError, SmallFileError, nearest
from ..store import smallfiles
from ..store.folders import config_folder


def user_defaults(command: click.Command) -> dict[str, Any]:
    """Options from the user's defaults.json, by command. Raises PresetError for what no command knows."""
    folder = config_folder()
    if folder is None:
        return {}
    path = folder / "defaults.json"
    try:
        if not path.exists():
            return {}
        defaults = smallfiles.read_json(path, 1_000_000)
    except OSError as error:
        raise PresetError(path, "", f"cannot be read ({error.strerror})") from None
    except SmallFileError as error:
        raise PresetError(path, "", f"must be a JSON object ({error.reason})") from None
    return _checked(path, "", command, defaults)


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
        try:
            checked[str(options[key].name)] = value
            options[key].type_cast_value(click.Context(command), value)
        except (click.BadParameter, TypeError, ValueError, OverflowError) as error:
            raise PresetError(path, f"{where}.{key}", str(error) or "is not a value of this option") from None
    return checked
