"""The `gbsep` command: it is ended by Ctrl-C from its first moment, and without a traceback."""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """While the command is loaded nothing is in hand, and a signal just ends it."""
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if interruptible:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    _have_names_in_utf8()
    from .cli import main as command

    command(interruptible=interruptible)


def _have_names_in_utf8() -> None:
    """Begin again in Python's UTF-8 mode where a locale has names of files in another encoding (PEP 540).

    One song gets one name then, whatever the locale, and what is kept of it is read again. What is printed stays in the
    encoding of the terminal, if that has more than ASCII.
    """
    if sys.getfilesystemencoding() == "utf-8" or sys.flags.utf8_mode or not sys.executable:
        return
    environment = {**os.environ, "PYTHONUTF8": "1"}
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    if not encoding.upper().startswith(("ANSI", "ASCII", "US-ASCII", "UTF")):
        environment.setdefault("PYTHONIOENCODING", encoding)
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


if __name__ == "__main__":
    main()
