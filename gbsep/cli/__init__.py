"""The command line: parse, call, print, exit code. It alone prints, and it alone catches GbsepError.

Exit codes: 0 all well; 1 at least one input failed while running; 2 refused in planning, before anything was written;
130 interrupted; 143 ended by SIGTERM and 129 by SIGHUP, as tidily. Results go to stdout; progress, messages and errors
to stderr.
"""

from __future__ import annotations

import _thread
import atexit
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click

from .. import __version__
from ..errors import GbsepError, PresetError, SmallFileError, nearest, unexpected
from ..store import smallfiles
from . import streams
from .cache import cache_group
from .common import HELP, complain
from .demo import demo
from .doctor import doctor
from .measure import diagnose, evaluate, log
from .models import models
from .plugins import plugins
from .presets import presets
from .render import apply_chain, render
from .report import compare, report, review, sweep
from .session import session
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
    state = {"debug": False}
    streams.prepare()
    try:
        _check_memory()
        with _ending_tidily(interruptible):
            code = cli.main(
                arguments, prog_name="gbsep", standalone_mode=False, obj=state, default_map=_user_defaults()
            )
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; nothing partial was left", err=True)
        code = 130
    except GbsepError as error:
        if state["debug"]:
            raise
        complain(str(error))
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


@contextmanager
def _ending_tidily(interruptible: bool) -> Iterator[None]:
    """SIGTERM, SIGHUP and SIGINT end the command through its `finally` clauses, so that nothing partial is left.

    Where Python loses an exception, the signal comes again: amid an import, whose compiler and extension modules may
    swallow it or make another of it, and amid a finaliser or the callback of a weak reference.
    """
    code = 0

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal code
        if _importing(frame):
            _send_again(number)
            return
        code = 128 + number
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(code)

    def ignored(unraisable: sys.UnraisableHookArgs) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            _send_again(signal.SIGINT)
        elif code and issubclass(unraisable.exc_type, SystemExit):
            _send_again(code - 128)
        else:
            hook_before(unraisable)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    hook_before, sys.unraisablehook = sys.unraisablehook, ignored
    taken = [signal.SIGTERM]
    if interruptible or signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        taken.append(signal.SIGINT)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # not under nohup
        taken.append(signal.SIGHUP)
    before = {number: signal.signal(number, end) for number in taken}
    try:
        yield
    except Exception as error:  # what some library made of it
        if not code:
            raise
        raise (KeyboardInterrupt if code == 128 + signal.SIGINT else SystemExit(code)) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook_before


def _importing(frame: FrameType | None) -> bool:
    """Whether the command is at an import there."""
    while frame is not None and frame.f_code is not main.__code__:
        if frame.f_code.co_filename.startswith("<frozen importlib."):
            return True
        frame = frame.f_back
    return False


def _send_again(number: int) -> None:
    """Send the main thread, who asks for it, a signal once it has gone on.

    Amid a signal's handler no lock may be waited for, so the thread is not one of `threading`.
    """
    asking = _thread.get_ident()

    def later() -> None:
        time.sleep(0.02)
        if hasattr(signal, "pthread_kill"):
            signal.pthread_kill(asking, number)
        else:
            signal.raise_signal(number)

    _thread.start_new_thread(later, ())


@click.group(context_settings=HELP)
@click.version_option(__version__, prog_name="gbsep")
def cli() -> None:
    """Take a recording apart: guitar and bass, each through its own effect chain, at the right level.

    \b
    gbsep demo                                    make a song with known stems to try things on
    gbsep render song.wav                         separate with the default preset into gbsep-out/
    gbsep render song.wav --preset exp002 --set separate.cutoff_hz=250
    gbsep presets list                            what other presets there are, and what for
    gbsep compare song.wav -p exp002 -p default   hear and see them side by side, in one page
    gbsep review gbsep-out                        accept, swap stems, write notes

    Options that you always give can stand in defaults.json in gbsep's configuration folder:
    {"render": {"preset": ["exp002"], "out": "stems"}}.
    """


for command in (
    render, apply_chain, watch, session, compare, sweep, report, review, evaluate, diagnose, log, demo, presets, models,
    train, plugins, cache_group, doctor,
):  # fmt: skip
    cli.add_command(command)


def _user_defaults() -> dict[str, Any]:
    """Options from the user's defaults.json, by command. Raises PresetError for what no command knows."""
    from ..store.folders import config_folder

    folder = config_folder()
    if folder is None:
        return {}
    path = folder / "defaults.json"
    try:
        if not path.exists():
            return {}
        defaults = smallfiles.read_json(path, 1_000_000)
    except OSError as error:
        raise PresetError(path, "", f"cannot be read ({error.strerror})") from None
    except SmallFileError as error:
        raise PresetError(path, "", f"must be a JSON object ({error.reason})") from None
    return _check_defaults(path, "", cli, defaults)


def _check_defaults(path: Path, where: str, command: click.Command, defaults: Any) -> dict[str, Any]:
    """Defaults of a command, or of the commands of a group, by the names that click knows."""
    if not isinstance(defaults, dict):
        raise PresetError(path, where, "must be a JSON object of commands and their options")
    if isinstance(command, click.Group):
        for name in defaults:
            if name not in command.commands:
                raise PresetError(path, name, f"no such command{nearest(name, command.commands)}")
        return {name: _check_defaults(path, name, command.commands[name], value) for name, value in defaults.items()}
    options = {option.opts[0].lstrip("-"): option for option in command.params if isinstance(option, click.Option)}
    checked = {}
    for key, value in defaults.items():
        if key not in options:
            raise PresetError(path, f"{where}.{key}", f"no such option{nearest(key, options)}")
        if value is None:
            raise PresetError(path, f"{where}.{key}", "null is no value; leave the option out")
        try:
            checked[str(options[key].name)] = value
            options[key].type_cast_value(click.Context(command), value)
        except (click.BadParameter, TypeError, ValueError, OverflowError) as error:
            raise PresetError(path, f"{where}.{key}", str(error) or "is not a value of this option") from None
    return checked
