"""Commands and groups as all of gbsep has them: options in groups, lists of commands in sections, nothing cut off.

Help is plain text in ASCII wherever it goes; on a terminal its headings are bold. The groups of options are told from
one table, so that an option stands under the same heading in every command.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import click
import cloup
from click.core import ParameterSource
from cloup.styling import Style

from ..errors import GbsepError

OPTION_GROUPS = {
    "Output": (
        "--out", "--format", "--bit-depth", "--name", "--stem", "--no-residual", "--dry-stems", "--overwrite", "--html",
        "--embed",
    ),
    "Excerpt": ("--start", "--duration"),
    "Speed": ("--jobs", "--device", "--cluster", "--no-cache"),
    "DAW": ("--session", "--session-per"),
    "Expert": (
        "--seed", "--models", "--allow-plugin-paths", "--keep-going", "--dry-run", "--paths", "--quiet", "--json",
        "--debug",
    ),
}  # fmt: skip
"""The headings of a long help, and the options under each; what stands in none goes first."""

Decorator = Callable[[Callable[..., Any]], click.Command]

MANY_OPTIONS = 10
"""A command with no more options than this shows them in one list."""

HELP = {
    "help_option_names": ["-h", "--help"],
    "max_content_width": 100,
    "formatter_settings": cloup.HelpFormatter.settings(
        col1_max_width=29, theme=cloup.HelpTheme(heading=Style(bold=True), invoked_command=Style(bold=True))
    ),
}


class Command(cloup.Command):
    """A command whose options stand in groups, and whose help is a sentence that is not cut off."""

    def __init__(self, *args: Any, params: Sequence[click.Parameter] | None = None, **kwargs: Any):
        params = list(params or ())
        options = [param for param in params if isinstance(param, click.Option)]
        if len(options) > MANY_OPTIONS:
            first = cloup.OptionGroup("Options")
            groups = {name: title for title, names in OPTION_GROUPS.items() for name in names}
            made = {title: cloup.OptionGroup(title) for title in OPTION_GROUPS}
            for option in options:
                title = next((groups[name] for name in option.opts if name in groups), "")
                option.group = made[title] if title else first  # type: ignore[attr-defined]
            order = [first, *made.values()]
            options.sort(key=lambda option: order.index(option.group))  # type: ignore[attr-defined]
            params = [param for param in params if not isinstance(param, click.Option)] + list(options)
        super().__init__(*args, params=params, **kwargs)

    def get_default_option_group(
        self, ctx: click.Context, is_the_only_visible_option_group: bool = False
    ) -> cloup.OptionGroup:
        group = super().get_default_option_group(ctx, is_the_only_visible_option_group)
        if not is_the_only_visible_option_group:
            group.hidden = True  # it is --help alone, which whoever reads this has found
        return group

    def get_short_help_str(self, limit: int = 0) -> str:
        return first_sentence(self)

    def invoke(self, ctx: click.Context) -> Any:
        """As click does; of a command that is refused it is noted which options the user's defaults.json gave."""
        try:
            return super().invoke(ctx)
        except GbsepError:
            names = {param.name: max(param.opts, key=len) for param in self.params}
            kept = (name for name in ctx.params if ctx.get_parameter_source(name) == ParameterSource.DEFAULT_MAP)
            (ctx.obj or {})["by_default"] = sorted(names[name] for name in kept)
            raise


class Group(cloup.Group):
    """A group of such commands."""

    context_class = cloup.Context

    def command(self, *args: Any, **kwargs: Any) -> Decorator:  # type: ignore[override]
        """Make a function a command of the group."""
        decorator: Decorator = super().command(*args, cls=Command, **kwargs)
        return decorator

    def get_short_help_str(self, limit: int = 0) -> str:
        return first_sentence(self)


def first_sentence(command: click.Command) -> str:
    """What stands for a command in a list: its short help, or else the first sentence of its help."""
    text = command.short_help or inspect.cleandoc(command.help or "").partition("\n\n")[0]
    words = " ".join(text.split())
    return words.partition(". ")[0].rstrip(".") + "."


def command(*args: Any, **kwargs: Any) -> Decorator:
    """Make a function a command."""
    decorator: Decorator = click.command(*args, cls=Command, context_settings=HELP, **kwargs)
    return decorator


def group(*args: Any, **kwargs: Any) -> Callable[[Callable[..., Any]], Group]:
    """Make a function a group of commands."""
    decorator: Callable[[Callable[..., Any]], Group] = click.group(*args, cls=Group, context_settings=HELP, **kwargs)
    return decorator
