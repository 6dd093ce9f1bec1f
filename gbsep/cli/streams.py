"""The three standard streams, whatever the process was given for them: nothing, another code page, a full disk."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ..atomic import ESCAPED


def prepare() -> None:
    """Make the streams fit to be written to: letters that a code page lacks are escaped, a missing stream is mute."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # else the next file that is opened would get the number, and the words
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - as long as the process
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ESCAPED)
    if sys.stdout is sys.__stdout__:
        sys.stdout = _Watched(sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _Watched(sys.stderr, is_log=True)


class _Watched(io.TextIOWrapper):
    """A stream that remembers why it could not be written to.

    To a log no word is owed: what the disk has no room for is lost, and the work goes on.
    """

    def __init__(self, stream: Any, is_log: bool = False):
        self.fault: OSError | None = None
        self._is_log = is_log
        line_buffering, write_through = stream.line_buffering, stream.write_through
        super().__init__(
            stream.buffer, stream.encoding, ESCAPED, line_buffering=line_buffering, write_through=write_through
        )

    def write(self, text: str) -> int:
        with self._watched():
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with self._watched():
            super().flush()

    @contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.fault = error
            if isinstance(error, BrokenPipeError) or not self._is_log:
                raise


def fault_of_stdout() -> OSError | None:
    """Why results cannot be written to stdout, if that is so; it is mute from then on."""
    with suppress(OSError):
        sys.stdout.flush()
    fault: OSError | None = getattr(sys.stdout, "fault", None)
    if fault is not None:
        # Python would try once more at its end, and print a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return fault


def takes_any_letter() -> bool:
    """Whether stdout has all letters, or JSON on it must be in ASCII."""
    return (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "") in ("utf8", "utf16", "utf32")
