"""`gbsep presets`."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import click

from ..errors import GbsepError, ParameterError
from .common import complain_of, debug_option, plugin_paths_option, print_json, print_table, say
from .completion import complete_presets
from .helping import group

set_option = click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Change one value first.")


@group()
def presets() -> None:
    """List, show, make and check presets.

    A preset is a JSON object. One of your own gives only what differs from the one that it extends.

    \b
    gbsep presets list
    gbsep presets new warm --from default       a preset of your own
    gbsep presets edit warm                     in your editor
    gbsep render song.wav -p warm
    """


@presets.command("list")
@click.option("--all", "everything", is_flag=True, help="Also the variants of exp002 and exp003.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each preset on stdout.")
@debug_option
def list_presets(everything: bool, as_json: bool) -> None:
    """The presets that can be named: your own, then those that people use first.

    \b
    gbsep presets list
    gbsep presets list --all
    """
    from ..preset.load import load_preset
    from ..preset.own import is_own, listed_names

    names, left_out = listed_names(everything)
    rows: list[dict[str, Any]] = []
    for name, path in names.items():
        row = {"name": name, "file": str(path), "own": is_own(path)}
        try:
            preset = load_preset(path)
            row |= {"backend": preset.backend, "title": preset.title, "stems": list(preset.stems), "error": None}
        except GbsepError as error:
            row |= {"backend": None, "title": None, "stems": [], "error": str(error)}
        rows.append(row)
    if as_json:
        for row in rows:
            print_json(row)
        return
    print_table(
        ("preset", "stems", "backend", "title"),
        [
            (
                str(row["name"]),
                ", ".join(row["stems"]),
                str(row["backend"] or "not valid"),
                row["title"] or row["error"],
            )
            for row in rows
        ],
    )
    if left_out:
        say(f"{left_out} more, variants of exp002 and exp003: gbsep presets list --all", err=True)


@presets.command()
@click.argument("preset", metavar="NAME|FILE", shell_complete=complete_presets)
@set_option
@debug_option
def show(preset: str, overrides: tuple[str, ...]) -> None:
    """Print a preset as JSON, whole: what it extends is merged, and every default filled in.

    \b
    gbsep presets show exp002
    gbsep presets show default --set output.format=flac
    """
    from ..preset.load import load_preset
    from ..preset.overrides import parse_override

    document = load_preset(preset, [parse_override(text) for text in overrides]).document
    print_json(document, indent=2)


@presets.command()
@click.argument("name", metavar="NAME")
@click.option(
    "--from",
    "base",
    metavar="PRESET",
    default="default",
    show_default=True,
    help="The preset to begin with.",
    shell_complete=complete_presets,
)
@click.option("--title", default="", help="What it is for, in a few words.")
@click.option("--set", "changes", metavar="KEY=VALUE", multiple=True, help="Put a value into it; may be given again.")
@debug_option
def new(name: str, base: str, title: str, changes: tuple[str, ...]) -> None:
    """Make a preset of your own that extends another one.

    It lands in your presets folder, and holds the chains of its stems: add effects there, and whatever else is to
    differ. `gbsep effects list` says which effects there are.

    \b
    gbsep presets new warm --from default
    gbsep presets new low --from exp002 --set separate.cutoff_hz=150
    """
    from ..preset.overrides import parse_override
    from ..preset.own import new_preset

    path = new_preset(name, base, title, [parse_override(text) for text in changes])
    say(str(path))
    say(f"gbsep presets edit {name} opens it; gbsep effects list says what chains may hold", err=True)
    say(f"gbsep render song.wav -p {name} uses it", err=True)


@presets.command()
@click.argument("name", metavar="NAME|FILE", shell_complete=complete_presets)
@debug_option
def edit(name: str) -> int:
    """Open a preset of your own in your editor, and check it afterwards.

    The editor is the one that VISUAL or EDITOR names, else nano, or Notepad on Windows. Where there is none of these,
    and where nobody sits at a terminal, it says where the file is.

    \b
    gbsep presets edit warm

    \b
    Exit codes: 0 it is valid, 2 it is not: everything that is wrong is said.
    """
    from ..preset.names import find_preset
    from ..preset.own import is_own

    path = find_preset(name)
    if path == Path(name):
        if not path.is_file():
            raise ParameterError("preset", name, "a file that is there; gbsep presets new makes one")
    elif not is_own(path):
        raise ParameterError(
            "preset", name, f"one of your own; this one is shipped with gbsep: gbsep presets new NAME --from {name}"
        )
    editor = _editor()
    if editor is None:
        say(str(path))
        say(f"open it in any editor (VISUAL or EDITOR would name yours), then: gbsep presets validate {name}", err=True)
        return 0
    click.edit(filename=str(path), editor=editor)
    return _check(name, plugin_paths=False)


def _editor() -> str | None:
    """The editor that the user names, else one that says how it is left; none without a terminal."""
    if named := os.environ.get("VISUAL") or os.environ.get("EDITOR"):
        return named
    if os.name == "nt":
        return "notepad"
    return "nano" if sys.stdin.isatty() and sys.stdout.isatty() and shutil.which("nano") else None


@presets.command()
@click.argument("presets", metavar="NAME|FILE...", nargs=-1, required=True, shell_complete=complete_presets)
@plugin_paths_option
@debug_option
def validate(presets: tuple[str, ...], allow_plugin_paths: bool) -> int:
    """Check presets, and say everything that is wrong, each with its place and the nearest word.

    That includes the plug-ins of this machine that their chains name, with parameters and states, and the stems that
    their side chains hear. What depends on a recording, such as a cut-off at its sample rate, is checked by render.

    \b
    gbsep presets validate warm mine.json

    \b
    Exit codes: 0 all are valid, 2 one is not.
    """
    return max(_check(preset, allow_plugin_paths) for preset in presets)


def _check(preset: str, plugin_paths: bool) -> int:
    """Say whether a preset is valid; the exit code."""
    from ..effects.chain import check_references
    from ..preset.load import load_preset

    try:
        loaded = load_preset(preset)
        for stem, nodes in loaded.chains.items():
            for warning in check_references(nodes, loaded.stems, f"stems.{stem}.chain", plugin_paths):
                say(f"{preset}: warning: {warning}", err=True)
    except GbsepError as error:
        complain_of(error, about=preset)
        return 2
    say(f"{preset}: valid")
    return 0


@presets.command()
def schema() -> None:
    """Print the JSON Schema of presets, for editors and validators.

    \b
    gbsep presets schema > preset.schema.json
    """
    from ..preset.schema import preset_schema

    print_json(preset_schema(), indent=2)
