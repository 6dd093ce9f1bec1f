"""Stops this process from changing anything outside a folder, and remembers what it tried.

What Python opens, moves, makes or removes is told to audit hooks before it is done; one that raises stops it. Libraries
that write by themselves are not seen: a whole run looks at what lies beside its folder as well.

References: PEP 578; Python's "Audit events table".
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
DEVICES = {os.devnull, "/dev/tty"}
PATHS = {
    "os.chmod": (0,), "os.chown": (0,), "os.link": (1,), "os.mkdir": (0,), "os.remove": (0,), "os.removexattr": (0,),
    "os.rename": (0, 1), "os.rmdir": (0,), "os.setxattr": (0,), "os.symlink": (1,), "os.truncate": (0,),
    "os.utime": (0,), "shutil.rmtree": (0,),
}  # fmt: skip
"""Events that change what is on disk, and which of their arguments are its paths."""
FOLLOWED = {"os.chmod", "os.chown", "os.truncate", "os.utime", "open"}
FOLDERS = {"os.chmod": (2,), "os.link": (2, 3), "os.mkdir": (2,), "os.remove": (1,), "os.rename": (2, 3),
           "os.rmdir": (1,), "os.symlink": (2,), "os.utime": (3,)}  # fmt: skip
"""Which arguments are the open folders that the paths are relative to."""
HOSTS = ("socket.getaddrinfo", "socket.gethostbyname")

_allowed: Path | None = None
_touched: list[str] = []


def watch(folder: Path | None) -> None:
    """From now on allow changes below `folder` alone; None allows all. A hook once there stays, and costs little."""
    global _allowed
    if _allowed is None and folder is not None:
        sys.addaudithook(_hook)
    _allowed = folder and folder.resolve()


def touched() -> list[str]:
    """What was tried outside since this was last asked."""
    told = list(_touched)
    _touched.clear()
    return told


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _allowed is None:
        return
    if event == "open":
        path, _, flags = arguments
        if isinstance(flags, int) and flags & WRITES:
            _check(event, path, -1)
    elif event in PATHS:
        folders = FOLDERS.get(event, ())
        for number, which in enumerate(PATHS[event]):
            at = folders[min(number, len(folders) - 1)] if folders else -1
            _check(event, arguments[which], arguments[at] if 0 <= at < len(arguments) else -1)
    elif event in HOSTS:
        raise OSError(101, "no network in a test")


def _check(event: str, path: Any, folder: Any) -> None:
    assert _allowed is not None
    if isinstance(path, int) or path is None:  # what is open has been looked at
        return
    try:
        whole = os.fsdecode(path)
        if isinstance(folder, int) and folder >= 0:
            whole = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), whole)
        if event in FOLLOWED:
            real = os.path.realpath(whole)
        else:
            above, name = os.path.split(whole.rstrip("/") or "/")
            real = os.path.join(os.path.realpath(above), name)
    except (ValueError, TypeError, OSError):  # no path at all, which the call itself will say
        return
    if real in DEVICES or real == str(_allowed) or real.startswith(f"{_allowed}{os.sep}"):
        return
    _touched.append(f"{event} {real}")
    raise PermissionError(13, "outside the folder of this test", real)
