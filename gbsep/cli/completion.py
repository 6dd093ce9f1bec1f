"""`gbsep completion`: what shells complete. Names are looked up where that takes no time: nothing heavy is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from ..errors import GbsepError, SmallFileError
from .common import debug_option
from .helping import command

SHELLS = ("bash", "zsh", "fish")

KNOWN_STEMS = ("bass", "guitar", "drums", "vocals", "other", "minus_bass", "minus_guitar")
"""Stems of the presets that are shipped, where no preset is named yet."""


@command()
@click.argument("shell", metavar="|".join(SHELLS), type=click.Choice(SHELLS))
@debug_option
def completion(shell: str) -> None:
    """Print what makes a shell complete commands, options and names.

    Names of presets, models, plug-ins, effects and stems.

    \b
    gbsep completion bash >> ~/.bashrc
    gbsep completion zsh >> ~/.zshrc
    gbsep completion fish > ~/.config/fish/completions/gbsep.fish
    """
    root = click.get_current_context().find_root()
    kind = get_completion_class(shell)
    assert kind is not None
    template: str = kind.source_template
    click.echo(template % kind(root.command, {}, "gbsep", "_GBSEP_COMPLETE").source_vars())


def _beginning(incomplete: str, names: Iterable[str]) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def complete_presets(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of presets, or else files."""
    from ..preset.names import preset_names

    with suppress(GbsepError, OSError):
        if found := _beginning(incomplete, preset_names()):
            return found
    return [CompletionItem(incomplete, type="file")]


def complete_models(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of published models."""
    from ..models.catalogue import EMBEDDED, MODELS

    return _beginning(incomplete, (EMBEDDED.name, *MODELS))


def complete_plugins(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the plug-ins that the last scan found."""
    from ..plugins.scan import remembered_names

    with suppress(GbsepError, OSError):
        return _beginning(incomplete, remembered_names())
    return []


def complete_effects(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of effects."""
    from ..effects.table import EFFECTS

    return _beginning(incomplete, sorted((*EFFECTS, "Parallel", "Plugin")))


def complete_stems(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the stems of the preset that is named before, or of any."""
    named = context.params.get("presets") or context.params.get("preset") or ()
    names: dict[str, None] = {}
    for preset in (named,) if isinstance(named, str) else named:
        names |= dict.fromkeys(_stems_of(preset))
    return _beginning(incomplete, names or KNOWN_STEMS)


def _stems_of(preset: str) -> Iterable[str]:
    """The stems that a preset's file names; those of a preset that it extends count as well."""
    from ..preset.names import find_preset
    from ..store import smallfiles

    names: dict[str, None] = {}
    for _ in range(8):
        with suppress(GbsepError, SmallFileError, OSError):
            document: Any = smallfiles.read_json(find_preset(preset), 1_000_000)
            if isinstance(document, Mapping):
                stems = document.get("stems")
                names |= dict.fromkeys(stems if isinstance(stems, Mapping) else ())
                if isinstance(base := document.get("extends"), str) and base != preset:
                    preset = base
                    continue
        break
    return names
