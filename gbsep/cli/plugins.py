"""`gbsep plugins`: external plug-ins."""

from __future__ import annotations

from collections.abc import Iterable

import click

from ..errors import printable
from .common import HELP, debug_option, print_table


@click.group(context_settings=HELP)
def plugins() -> None:
    """External plug-ins, VST3 and Audio Units: what there is, and what presets can say about it.

    They are looked for in the folders of GBSEP_PLUGIN_PATH and in the standard ones. Each runs in a process of its own.
    """


@plugins.command("scan")
@debug_option
def scan_plugins() -> None:
    """Look at every plug-in again, also at those that crashed or did not load."""
    _list_plugins(refresh=True)


@plugins.command("list")
@debug_option
def list_plugins() -> None:
    """Every plug-in, and why those in quarantine are not used. What has not changed is not looked at again."""
    _list_plugins(refresh=False)


def _list_plugins(refresh: bool) -> None:
    from .. import host

    found = host.plugins(refresh)
    rows = [
        (
            *map(printable, (info.name, info.vendor, info.version)),
            info.format,
            _channels(info.channels),
            f"{info.latency_frames} frames",
        )
        for info in found
        if not info.reason
    ]
    if rows:
        print_table(("plug-in", "vendor", "version", "format", "channels", "latency"), rows)
    for info in found:
        if info.reason:
            click.echo(printable(f"quarantined: {info.path}: {info.reason}"))
    if not found:
        click.echo(f"no plug-ins in {', '.join(map(str, host.folders()))}", err=True)


def _channels(counts: Iterable[int]) -> str:
    return " or ".join({1: "mono", 2: "stereo"}[count] for count in counts) or "instrument"


@plugins.command("show")
@click.argument("name", metavar="NAME")
@click.option("--probe", is_flag=True, help="Render twice, to tell whether the plug-in repeats itself.")
@debug_option
def show_plugin(name: str, probe: bool) -> None:
    """One plug-in and its parameters, by the names that presets use."""
    from .. import host

    details = host.show(name, probe)
    info = details.info
    click.echo(f"{info.name} {info.version}, {info.vendor}, {info.format}, {info.category}")
    click.echo(f"{info.path}, class {info.class_id}")
    click.echo(f"{_channels(info.channels)}, latency {info.latency_frames} frames")
    if probe:
        same = (
            "nondeterministic: two renders differ" if details.nondeterministic else "deterministic: two renders agree"
        )
        click.echo(same)
    rows = [(row.name, row.unit, row.allowed, f"{row.value}") for row in details.parameters]
    print_table(("parameter", "unit", "allowed", "now"), rows)
