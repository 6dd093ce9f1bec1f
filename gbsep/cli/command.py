"""The command line: parse, call, print, exit code. It alone prints, and it alone catches GbsepError.

Exit codes: 0 all well; 1 at least one input failed while running; 2 refused in planning, before anything was written;
130 interrupted; 143 ended by SIGTERM and 129 by SIGHUP, as tidily. Results go to stdout; progress, messages and errors
to stderr.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from typing import Any

import click

from ..errors import GbsepError, unexpected
from ..version import __version__
from . import defaults, signals, streams
from .cache import cache_group
from .common import complain, complain_of, say
from .completion import completion
from .demo import demo
from .doctor import doctor
from .effects import effects
from .helping import group
from .measure import diagnose, evaluate, log
from .models import models
from .notes import notes
from .plugins import plugins
from .presets import presets
from .render import apply_chain, render
from .report import compare, report, sweep
from .session import session
from .studio import review, studio
from .train import train
from .watch import watch

LIBRARIES_BYTES = 2**29
"""Address space that the libraries of a quick render take."""
BLAS_BYTES = 2**25 + 2**12
"""What OpenBLAS takes for each of its threads."""

# At the end Python would search all that was loaded for cycles, which takes a third of a second.
atexit.register(gc.freeze)


def main(arguments: list[str] | None = None, interruptible: bool = False) -> None:
    """The `gbsep` command. `interruptible`: SIGINT, which now ends the process at once, is to end it tidily."""
    state: dict[str, Any] = {"debug": False}
    streams.prepare()
    try:
        _check_memory()
        with signals.ending_tidily(interruptible, main.__code__):
            code = cli.main(
                arguments, prog_name="gbsep", standalone_mode=False, obj=state, default_map=defaults.user_defaults(cli)
            )
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; nothing partial was left, and the same command does the rest", err=True)
        code = 130
    except GbsepError as error:
        if state["debug"]:
            raise
        complain_of(error)
        if given := state.get("by_default"):
            say(f"{', '.join(given)}: from {defaults.place()}", err=True)
        code = 2
    except Exception as error:
        if state["debug"]:
            raise
        code = 1
        if not (isinstance(error, OSError) and _is_unprintable()):
            complain(unexpected(error))
    else:
        code = code or int(_is_unprintable())
    sys.exit(code or 0)


def _check_memory() -> None:
    """Raise GbsepError under a limit on memory (`ulimit -v`) that is too low to load what a render needs.

    OpenBLAS, which scipy and numpy each bring, would try without an end to get its buffers, and hear of no signal.
    """
    try:
        import resource
    except ImportError:  # Windows knows no such limit
        return
    limits = [resource.getrlimit(which)[0] for which in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    least = min(limit for limit in (*limits, sys.maxsize) if limit != resource.RLIM_INFINITY)
    needed = LIBRARIES_BYTES + 2 * BLAS_BYTES * (os.cpu_count() or 1)
    if least < needed:
        raise GbsepError(
            f"this process may have {least / 1e6:.0f} MB of memory, and loading what a render needs takes"
            f" {needed / 1e6:.0f} MB: raise the limit (ulimit -v)"
        )


def _is_unprintable() -> bool:
    """Whether stdout does not take the results; unless that is because the reader has gone, it is told."""
    fault = streams.fault_of_stdout()
    if fault is not None and not isinstance(fault, BrokenPipeError):
        complain(f"the results cannot be printed: {fault.strerror}; whatever was to be written to files is there")
    return fault is not None


@group()
@click.version_option(__version__, prog_name="gbsep")
def cli() -> None:
    """Take a recording apart: bass and guitar, each through its own effect chain, at the right level.

    \b
    gbsep render song.wav                   bass and guitar, into gbsep-out/
    gbsep render song.wav -p minus_bass     no bass, to play along
    gbsep render album/                     every song; what is done is skipped
    gbsep studio                            drop a song, hear it apart: a page
    gbsep review gbsep-out                  hear, see, accept, write notes
    gbsep presets list                      what else there is, and what for
    gbsep demo                              a song with known stems, to try on

    `gbsep render --help` says more of a command. Options that you always give
    can stand in defaults.json in the configuration folder, which `gbsep doctor`
    names: {"render": {"preset": ["exp002"], "out": "stems"}}.
    """


SECTIONS: dict[str, tuple[click.Command, ...]] = {
    "Everyday": (render, studio, watch, compare, review),
    "Research": (notes, sweep, evaluate, diagnose, log, report),
    "DAW": (session, apply_chain, plugins),
    "Manage": (presets, effects, models, cache_group, train, demo, doctor, completion),
}
"""Every command, under the heading where it is found."""

for title, commands in SECTIONS.items():
    cli.section(title, *commands)
