"""`gbsep effects`: what a chain can hold."""

from __future__ import annotations

import click

from .common import debug_option, print_json, print_table, say
from .completion import complete_effects
from .helping import group


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
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, and nothing else there.")
@debug_option
def show_effect(name: str, as_json: bool) -> None:
    """An effect, its parameters with ranges, units and defaults, and how it stands in a preset.

    \b
    gbsep effects show Compressor
    """
    from ..effects import guide

    spec = guide.find(name)
    if as_json:
        print_json(guide.as_json(spec.name))
        return
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
