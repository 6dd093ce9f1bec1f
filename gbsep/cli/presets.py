"""`gbsep presets`."""

from __future__ import annotations

import click

from ..errors import GbsepError
from .common import HELP, complain, debug_option, plugin_paths_option, print_json, print_table, say


@click.group(context_settings=HELP)
def presets() -> None:
    """List, show and check presets."""


@presets.command("list")
@debug_option
def list_presets() -> None:
    """Every preset that can be named, with its title."""
    from ..preset.load import load_preset, preset_names

    rows = []
    for name, path in preset_names().items():
        try:
            preset = load_preset(path)
            rows.append((name, preset.backend, preset.title))
        except GbsepError as error:
            rows.append((name, "not valid", str(error)))
    print_table(("preset", "backend", "title"), rows)


@presets.command()
@click.argument("preset", metavar="NAME|FILE")
@click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Change one value first.")
@debug_option
def show(preset: str, overrides: tuple[str, ...]) -> None:
    """Print a preset as JSON, with every default filled in: a start for one of your own."""
    from ..preset.load import load_preset
    from ..preset.overrides import parse_override

    document = load_preset(preset, [parse_override(text) for text in overrides]).document
    print_json(document, indent=2)


@presets.command()
@click.argument("presets", metavar="NAME|FILE...", nargs=-1, required=True)
@plugin_paths_option
@debug_option
def validate(presets: tuple[str, ...], allow_plugin_paths: bool) -> int:
    """Check presets; exit code 2 when one is not valid.

    That includes the plug-ins of this machine that their chains name, with parameters and states, and the stems that
    their side chains hear. What depends on a recording, such as a cut-off at its sample rate, is checked by render.
    """
    from ..effects.chain import check_references
    from ..preset.load import load_preset

    bad = 0
    for preset in presets:
        try:
            loaded = load_preset(preset)
            for stem, nodes in loaded.chains.items():
                for warning in check_references(nodes, loaded.stems, f"stems.{stem}.chain", allow_plugin_paths):
                    say(f"{preset}: warning: {warning}", err=True)
            say(f"{preset}: valid")
        except GbsepError as error:
            said = str(error)
            complain(said if said.startswith(preset) else f"{preset}: {said}")
            bad += 1
    return 2 if bad else 0


@presets.command()
def schema() -> None:
    """Print the JSON Schema of presets, for editors and validators."""
    from ..preset.schema import preset_schema

    print_json(preset_schema(), indent=2)
