"""What the commands share: options, tables, progress bars, complaints."""

from __future__ import annotations

import json
import math
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import GbsepError, PresetError, printable
from . import streams

if TYPE_CHECKING:
    from ..rendering import Progress
    from ..shelf.record import Levels

    TimeType = click.ParamType[float]
else:  # no older click has a generic one
    TimeType = click.ParamType


def _set_debug(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    context.obj["debug"] |= value


class Time(TimeType):
    """Seconds, or minutes and seconds with a colon between them: `90`, `1:30`, `1:02:03.5`."""

    name = "time"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> float:
        try:
            *above, seconds = str(value).split(":")
            if len(above) > 2 or (above and not 0 <= float(seconds) < 60):
                raise ValueError(value)
            return float(seconds) + sum(60.0 ** (place + 1) * int(part) for place, part in enumerate(reversed(above)))
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no time: seconds such as 90, or 1:30", parameter, context)


class AtLeast(click.IntRange):
    """A whole number from a least one on; a help does not spell the range out, an error does."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = click.INT.convert(value, param, ctx)
        assert self.min is not None
        if number < self.min or number > (self.max or number):
            self.fail(f"{number} is not {self.min} {f'to {self.max}' if self.max else 'or more'}", param, ctx)
        return number

    def _describe_range(self) -> str:
        return ""

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return "N"


class Seed(AtLeast):
    """What a generator of random numbers begins with."""

    def __init__(self) -> None:
        super().__init__(0, 2**32 - 1)


debug_option = click.option(
    "--debug", is_flag=True, expose_value=False, callback=_set_debug, help="Show the traceback of an error."
)


plugin_paths_option = click.option(
    "--allow-plugin-paths",
    is_flag=True,
    help="Let presets name files of plug-ins: native code.",
)


@contextmanager
def progress_bar(label: str, line_s: float = math.inf) -> Iterator[Progress]:
    """A progress bar on stderr for what takes longer than a second; a line every `line_s` where that is no terminal."""
    label, begun = printable(label), time.monotonic()
    if not sys.stderr.isatty():
        told = begun

        def tell(stage: str, fraction: float) -> None:
            nonlocal told
            if time.monotonic() - told >= line_s:
                told = time.monotonic()
                say(f"{label}: {stage}, {fraction:.0%}", err=True)

        yield tell
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task(label, total=1.0)

    def show(stage: str, fraction: float) -> None:
        if time.monotonic() - begun > 1:
            bar.start()
        bar.update(task, description=f"{label}: {stage}", completed=fraction)

    try:
        yield show
    finally:
        bar.stop()


def figure(value: float | None, unit: str) -> str:
    return "silent" if value is None else f"{round(value, 1) + 0.0:.1f} {unit}"


LONG_S = 5.0
"""What takes longer without a word of its own is told."""


@contextmanager
def told_when_long(what: str) -> Iterator[None]:
    """A line on stderr for work that goes on for longer than LONG_S; without a word for it nothing."""
    if not what:
        yield
        return
    timer = threading.Timer(LONG_S, say, (f"{what}; Ctrl-C ends it",), {"err": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


LOUD_RMS_DBFS = -60.0
"""What is louder and has no loudness yet is shorter than the 400 ms that BS.1770 measures by."""


def loudness(levels: Levels) -> str:
    """The loudness of a stem, or why it has none: it is silent, too short or too quiet for BS.1770."""
    rms_dbfs = levels.rms_dbfs
    if levels.loudness_lufs is not None or rms_dbfs is None:
        return figure(levels.loudness_lufs, "LUFS")
    return "too short" if rms_dbfs > LOUD_RMS_DBFS else "too quiet"


def say(text: str, err: bool = False) -> None:
    """One line to be read, whatever the names of files in it hold: a terminal obeys some letters."""
    click.echo(printable(text), err=err)


def typed(path: object) -> str:
    """A path as people type it into a command, in any shell.

    >>> typed("a song"), typed("song")
    ('"a song"', 'song')
    """
    return f'"{path}"' if " " in str(path) else str(path)


def print_json(value: Any, indent: int | None = None) -> None:
    """One JSON value on stdout, on a line of its own; in ASCII where stdout has not all letters."""
    click.echo(json.dumps(value, indent=indent, ensure_ascii=not streams.takes_any_letter()))


def print_table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """A table on stdout, a line for each row; on a terminal it wraps to the width."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(*header, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*map(printable, row))
    Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 1000).print(table)


def complain_of(error: GbsepError, about: Path | str | None = None) -> None:
    """What an error says; of a preset everything that is wrong, a line each."""
    if isinstance(error, PresetError):
        for place, reason in error.problems:
            complain(str(PresetError(error.path, place, reason)), about)
    else:
        complain(str(error), about)


def complain(message: str, about: Path | str | None = None) -> None:
    """One line on stderr, which begins with the file it is `about`."""
    if about is not None and not message.startswith(str(about)):
        message = f"{about}: {message}"
    click.echo(f"{click.style('error', fg='red')}: {printable(message)}", err=True)
