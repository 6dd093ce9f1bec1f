"""`gbsep plugins`: external plug-ins."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import OutputError, PluginError, printable
from .common import debug_option, print_json, print_table, say
from .completion import complete_plugins
from .helping import group

if TYPE_CHECKING:
    from ..plugins.host import PluginInfo

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object for each plug-in on stdout.")


@group()
def plugins() -> None:
    """External plug-ins, VST3 and Audio Units: what there is on this machine.

    Each runs in a process of its own. Of several with one name the first in the
    list is used, unless a preset says which "vendor" or "format" it wants.

    \b
    gbsep plugins list
    gbsep plugins show ZamCompX2

    \b
    GBSEP_PLUGIN_PATH     folders to look in before the standard ones
    GBSEP_PLUGIN_TIMEOUT  seconds to load, and for each block of sound; 30
    """


@plugins.command("scan")
@click.option("--retry", is_flag=True, help="Try those in quarantine once more.")
@click.option(
    "--all", "refresh", is_flag=True, help="Look at every plug-in again, also at those that have not changed."
)
@json_option
@debug_option
def scan_plugins(retry: bool, refresh: bool, as_json: bool) -> int:
    """Look at the plug-ins that are new or have changed, and list them all.

    A scan that was interrupted goes on where it was. A plug-in that crashes, hangs
    or does not load is put in quarantine with the reason.

    \b
    gbsep plugins scan
    gbsep plugins scan --retry       after mending what kept one from loading
    """
    try:
        _list_plugins(refresh, retry, as_json)
    except KeyboardInterrupt:
        say("interrupted; what was found is kept, and the next scan goes on from there", err=True)
        return 130
    return 0


@plugins.command("list")
@json_option
@debug_option
def list_plugins(as_json: bool) -> None:
    """Every plug-in, and why those in quarantine are not used.

    \b
    gbsep plugins list
    """
    _list_plugins(refresh=False, retry=False, as_json=as_json)


def _list_plugins(refresh: bool, retry: bool, as_json: bool) -> None:
    from ..plugins import host

    with _scanning() as show:
        found = host.plugins(refresh, retry, show)
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


@contextmanager
def _scanning() -> Iterator[Callable[[str, int, int], None]]:
    """A function that shows the plug-in that was examined last, on a terminal's stderr; elsewhere every 50th."""
    from rich.console import Console
    from rich.markup import escape
    from rich.status import Status

    if not sys.stderr.isatty():
        yield lambda name, done, total: say(f"examined {name} ({done}/{total})", err=True) if done % 50 == 0 else None
        return
    status, begun_s = Status("scanning", console=Console(stderr=True)), time.monotonic()

    def show(name: str, done: int, total: int) -> None:
        if time.monotonic() - begun_s > 0.5:
            status.start()
        status.update(escape(printable(f"examined {name}" + f" ({done} of {total} in its file)" * (total > 1))))

    try:
        yield show
    finally:
        status.stop()


def _print_plugins(found: list[PluginInfo], used: dict[str, PluginInfo]) -> None:
    """A table of what can be used, then why the others are not; `used` are those that count, by name."""
    rows = [
        (
            *(info.name, info.vendor, info.version, info.format, _channels(info.layouts)),
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
        say("`gbsep plugins scan --retry` tries those in quarantine again")


def _channels(layouts: Iterable[tuple[int, int]]) -> str:
    names = {(1, 1): "mono", (2, 2): "stereo"}
    return " or ".join(names.get(pair, f"{pair[0]} in, {pair[1]} out") for pair in layouts) or "instrument"


@plugins.command("show")
@click.argument("name", metavar="NAME", shell_complete=complete_plugins)
@click.option("--vendor", help="Of several plug-ins with that name, the one of this vendor.")
@click.option("--format", "format_", help="Of several plug-ins with that name, the one in this format.")
@click.option("--probe", is_flag=True, help="Render twice, to tell whether the plug-in repeats itself.")
@click.option("--state", type=click.Path(path_type=Path), metavar="FILE", help="Show what is set in a .vstpreset.")
@json_option
@debug_option
def show_plugin(
    name: str, vendor: str | None, format_: str | None, probe: bool, state: Path | None, as_json: bool
) -> None:
    """One plug-in and its parameters, by the names that presets use.

    \b
    gbsep plugins show ZamCompX2                    what it has, its defaults
    gbsep plugins show ZamCompX2 --state warm.vstpreset
    """
    from dataclasses import replace

    from ..plugins import host

    info = host.find(name, vendor, format_)
    if probe and not info.is_effect:
        raise PluginError(f"{info.name} is an instrument: no sound goes through it, so there is nothing to compare")
    nondeterministic = not host.repeats(info) if probe else None
    if state is not None:
        with host.open_plugin(
            info, host.PROBE_SAMPLE_RATE, max(info.channels, default=2), state=host.read_file(state)
        ) as instance:
            values = instance.values
        info = replace(info, parameters=tuple(replace(p, value=values.get(p.name, p.value)) for p in info.parameters))
    if as_json:
        print_json(info.as_json() | {"nondeterministic": nondeterministic})
        return
    say(f"{info.name} {info.version}, {info.vendor}, {info.format}, {info.category}")
    say(f"{info.path}, class {info.class_id}")
    sidechain = ", with a side-chain bus" if info.sidechain else ""
    click.echo(f"{_channels(info.layouts)}{sidechain}, latency {info.latency_frames} frames")
    if probe:
        click.echo("nondeterministic: two renders differ" if nondeterministic else "deterministic: two renders agree")
    rows = [(row.name, row.unit, row.allowed, f"{row.value}") for row in info.parameters]
    print_table(("parameter", "unit", "allowed", "now"), rows)


@plugins.command("save")
@click.argument("name", metavar="NAME", shell_complete=complete_plugins)
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--set", "settings", metavar="PARAMETER=VALUE", multiple=True, help="Set a parameter first.")
@click.option("--vendor", help="Of several plug-ins with that name, the one of this vendor.")
@click.option("--format", "format_", help="Of several plug-ins with that name, the one in this format.")
@click.option("--overwrite", is_flag=True, help="Replace FILE.")
@debug_option
def save_state(
    name: str, path: Path, settings: tuple[str, ...], vendor: str | None, format_: str | None, overwrite: bool
) -> None:
    """Save a plug-in's state as a .vstpreset, for "state" in a preset.

    \b
    gbsep plugins save ZamCompX2 warm.vstpreset --set threshold_db=-20
    """
    from ..plugins import host
    from ..preset.overrides import parse_override
    from ..shelf import folder as outputs

    info = host.find(name, vendor, format_)
    if not info.is_effect:
        raise PluginError(f"{info.name} is an instrument: no sound goes through it, and presets take effects only")
    parameters = dict(parse_override(text, "ratio=12.34") for text in settings)
    if path.exists() and not overwrite:
        raise OutputError(path, "is there already; give --overwrite to replace it")
    with host.open_plugin(info, host.PROBE_SAMPLE_RATE, max(info.channels, default=2), parameters) as instance:
        state = instance.save_state()
    with outputs.staged_file(path) as file:
        file.write_bytes(state)
    click.echo(f"{path}: {info.name} {info.version}, {len(state)} bytes")
