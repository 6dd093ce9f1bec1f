"""The `gbsep` command: it is ended by Ctrl-C from its first moment, and without a traceback."""

from __future__ import annotations

import signal


def main() -> None:
    """While the command is loaded nothing is in hand, and a signal just ends it."""
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if interruptible:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from .cli import main as command

    command(interruptible=interruptible)


if __name__ == "__main__":
    main()
