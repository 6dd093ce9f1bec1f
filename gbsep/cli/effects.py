"""`gbsep effects`: what a chain can hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .common import debug_option, print_json, print_table, say
from .completion import complete_effects
from .helping import group

if TYPE_CHECKING:
    from ..effects.table import EffectSpec


@group()
def effects() -> None:
    """Effects for the chains of presets: what there is, with ranges, units and an example.

    \b
    gbsep effects list
    gbsep effects show Compressor
    """


@effects.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each effect on stdout.")
@debug_option
def list_effects(as_json: bool) -> None:
    """Every effect, with what it does.

    \b
    gbsep effects list
    """
    from ..effects import guide

    if as_json:
        for name in guide.ALL:
            print_json(guide.as_json(name))
        return
    print_table(("effect", "what it does"), [(name, spec.summary) for name, spec in guide.ALL.items()])
    say("gbsep effects show NAME has the parameters, and an example", err=True)


@effects.command("show")
@click.argument("name", metavar="NAME", shell_complete=complete_effects)
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each effect, and nothing else.")
@debug_option
def show_effect(name: str, as_json: bool) -> None:
    """An effect, its parameters with ranges, units and defaults, and how it stands in a preset.

    \b
    gbsep effects show Compressor
    gbsep effects show EQ            those that people call so
    """
    from ..effects import guide

    specs = guide.find(name)
    for spec in specs:
        if as_json:
            print_json(guide.as_json(spec.name))
        else:
            _show(spec)
            if len(specs) > 1:
                say("")


def _show(spec: EffectSpec) -> None:
    """All that there is to know of one effect."""
    from ..effects import guide

    say(f"{spec.name}: {spec.summary}")
    if not spec.streams:
        say("It holds the whole signal in memory.")
    if spec.sample_rates:
        say(f"It works at {', '.join(map(str, spec.sample_rates))} Hz.")
    print_table(("parameter", "range", "unit", "default", "over time"), guide.parameters(spec.name))
    say(f"in a chain:   {guide.example_text(spec.name)}")
    if number := next((param for param in spec.params if param.kind == "float"), None):
        key = f"stems.bass.chain.{spec.name}.{number.name}"
        say(f"for a render: --set {key}={guide.example(spec.name).get(number.name, number.default)}")
