"""Signals end the command as tidily as errors do."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FrameType


@contextmanager
def ending_tidily(interruptible: bool, command: CodeType) -> Iterator[None]:
    """SIGTERM, SIGHUP and SIGINT end the command through its `finally` clauses, so that nothing partial is left.

    `interruptible`: SIGINT, which now ends the process at once, is to end it tidily. `command` is the code of the
    function that runs the command.

    Where Python loses an exception, the signal comes again: amid an import, whose compiler and extension modules may
    swallow it or make another of it, and amid a finaliser or the callback of a weak reference.
    """
    code = 0

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal code
        if _is_importing(frame, command):
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


def _is_importing(frame: FrameType | None, command: CodeType) -> bool:
    """Whether the command is inside an import at this frame."""
    while frame is not None and frame.f_code is not command:
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
