"""Keeps from the user what a C library writes to C's standard error.

mpg123, inside libsndfile, reports damaged frames there, and has no switch for it. Only C's `stderr` is exchanged, not
the file descriptor: what Python and other processes write, and the report of a crash, still come through.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

_lock = threading.Lock()
_depth = 0
_stderr: int | None = None


@cache
def _handles() -> tuple[ctypes.c_void_p, int] | None:
    """(C's `stderr`, a stream to nowhere), None where the system has no such variable."""
    if os.name != "posix":
        return None
    try:
        library = ctypes.CDLL(None)
        variable = ctypes.c_void_p.in_dll(library, "__stderrp" if sys.platform == "darwin" else "stderr")
        library.fopen.restype = ctypes.c_void_p
        nowhere = library.fopen(os.devnull.encode(), b"w")
    except (OSError, ValueError, AttributeError):
        return None
    return (variable, nowhere) if nowhere and variable.value else None


@contextmanager
def hushed() -> Iterator[None]:
    """Meanwhile C's standard error of this process goes nowhere; where that cannot be done, nothing is changed."""
    global _depth, _stderr
    handles = _handles()
    if handles is None:
        yield
        return
    variable, nowhere = handles
    with _lock:
        if not _depth:
            _stderr, variable.value = variable.value, nowhere
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if not _depth:
                variable.value = _stderr
