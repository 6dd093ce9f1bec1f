"""`gbsep plugins`: external plug-ins."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import OutputError
from .common import HELP, debug_option, print_json, print_table, say

if TYPE_CHECKING:
    from ..host import PluginInfo

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object for each plug-in on stdout.")


@click.group(context_settings=HELP)
def plugins() -> None:
    """External plug-ins, VST3 and Audio Units: what there is, and what presets can say about it.

    Each runs in a process of its own. Of several with one name the first in the list is used, unless a preset says
    which "vendor" or "format" it wants.

    \b
    GBSEP_PLUGIN_PATH     folders to look in before the standard ones, separated as in PATH
    GBSEP_PLUGIN_TIMEOUT  seconds that a plug-in may take to load, and for each block of sound; 30 without it
    """


@plugins.command("scan")
@json_option
@debug_option
def scan_plugins(as_json: bool) -> None:
    """Look at every plug-in again, also at those that crashed or did not load."""
    _list_plugins(refresh=True, as_json=as_json)


@plugins.command("list")
@json_option
@debug_option
def list_plugins(as_json: bool) -> None:
    """Every plug-in, and why those in quarantine are not used. What has not changed is not looked at again."""
    _list_plugins(refresh=False, as_json=as_json)


def _list_plugins(refresh: bool, as_json: bool) -> None:
    from .. import host

    found = host.plugins(refresh)
    used = {info.name: info for info in reversed(found) if not info.reason}
    if as_json:
        for info in found:
            row = info.as_json() | {"shadowed": not info.reason and used[info.name] is not info}
            del row["parameters"]
            print_json(row)
    else:
        _print_plugins(found, used)
    if not found:
        click.echo(f"no plug-ins in {', '.join(map(str, host.folders()))}", err=True)


def _print_plugins(found: list[PluginInfo], used: dict[str, PluginInfo]) -> None:
    """A table of what can be used, then why the others are not; `used` are those that count, by name."""
    rows = [
        (
            *(info.name, info.vendor, info.version, info.format, _channels(info.channels)),
            f"{info.latency_frames} frames",
            str(info.path),
        )
        for info in found
        if not info.reason
    ]
    if rows:
        header = ("plug-in", "vendor", "version", "format", "channels", "latency", "path")
        print_table(header, rows)
    for path, reason in dict.fromkeys((info.path, info.reason) for info in found if info.reason):
        say(f"quarantined: {path}: {reason}")
    for info in found:
        if not info.reason and used[info.name] is not info:
            say(f"shadowed: {info.path}: {info.name} is found first at {used[info.name].path}")
    if any(info.reason for info in found):
        say("`gbsep plugins scan` tries those in quarantine again")


def _channels(counts: Iterable[int]) -> str:
    return " or ".join({1: "mono", 2: "stereo"}[count] for count in counts) or "instrument"


@plugins.command("show")
@click.argument("name", metavar="NAME")
@click.option("--vendor", help="Of several plug-ins with that name, the one of this vendor.")
@click.option("--format", "format_", help="Of several plug-ins with that name, the one in this format.")
@click.option("--probe", is_flag=True, help="Render twice, to tell whether the plug-in repeats itself.")
@json_option
@debug_option
def show_plugin(name: str, vendor: str | None, format_: str | None, probe: bool, as_json: bool) -> None:
    """One plug-in and its parameters, by the names that presets use."""
    from .. import host

    info = host.find(name, vendor, format_)
    nondeterministic = not host.repeats(info) if probe else None
    if as_json:
        print_json(info.as_json() | {"nondeterministic": nondeterministic})
        return
    say(f"{info.name} {info.version}, {info.vendor}, {info.format}, {info.category}")
    say(f"{info.path}, class {info.class_id}")
    click.echo(f"{_channels(info.channels)}, latency {info.latency_frames} frames")
    if probe:
        click.echo("nondeterministic: two renders differ" if nondeterministic else "deterministic: two renders agree")
    rows = [(row.name, row.unit, row.allowed, f"{row.value}") for row in info.parameters]
    print_table(("parameter", "unit", "allowed", "now"), rows)


@plugins.command("save")
@click.argument("name", metavar="NAME")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--set", "settings", metavar="PARAMETER=VALUE", multiple=True, help="Set a parameter first.")
@click.option("--vendor", help="Of several plug-ins with that name, the one of this vendor.")
@click.option("--format", "format_", help="Of several plug-ins with that name, the one in this format.")
@click.option("--overwrite", is_flag=True, help="Replace FILE.")
@debug_option
def save_state(
    name: str, path: Path, settings: tuple[str, ...], vendor: str | None, format_: str | None, overwrite: bool
) -> None:
    """Save a plug-in's state, for "state" in a preset: a .vstpreset, as DAWs read and write it.

    \b
    gbsep plugins save ZamCompX2 warm.vstpreset --set threshold_db=-20 --set ratio=12.34
    """
    from .. import host, outputs
    from ..preset import parse_override

    if path.exists() and not overwrite:
        raise OutputError(path, "is there already; give --overwrite to replace it")
    info = host.find(name, vendor, format_)
    parameters = dict(parse_override(text, "ratio=12.34") for text in settings)
    with host.open_plugin(info, host.PROBE_SAMPLE_RATE, max(info.channels, default=2), parameters) as instance:
        state = instance.save_state()
    with outputs.replacing(path) as file:
        file.write_bytes(state)
    click.echo(f"{path}: {info.name} {info.version}, {len(state)} bytes")
