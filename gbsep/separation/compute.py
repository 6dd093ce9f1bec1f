"""The device, threads and library versions that networks run on, found without loading torch where possible.

They are part of the stems' cache key, so a cached render asks for them too and has to stay quick.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BackendError, ParameterError
from ..params import DEVICES

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

MISSING = "missing"
"""The version of a package that is not installed."""


def pick_device(requested: str) -> str:
    """The device that `requested` (one of DEVICES) means on this machine: cpu, cuda or mps.

    Raises ParameterError for another word, BackendError when this machine has no such device.
    """
    if requested not in DEVICES:
        raise ParameterError("device", requested, f"one of {', '.join(DEVICES)}")
    if requested == "cpu" or (requested == "auto" and not (_may_have_cuda() or _may_have_mps())):
        return "cpu"
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if requested == "auto":
        return next(device for device, available in there.items() if available)
    if not there[requested]:
        raise BackendError(f"device {requested!r} is not available to torch {torch.__version__} here; use --device cpu")
    return requested


def _may_have_cuda() -> bool:
    if _version("torch").endswith("+cpu"):
        return False
    return bool(shutil.which("nvidia-smi")) or any(map(os.path.exists, ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")))


def _may_have_mps() -> bool:
    return platform.system() == "Darwin" and platform.machine() == "arm64"


def threads() -> int:
    """CPU threads that a network runs on: `OMP_NUM_THREADS`, else one for each core.

    Sums are split among threads, so the number of threads changes the last bits of the result.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) > 0 else processors()


def processors() -> int:
    """The cores this process may use; two hardware threads of one core count once."""
    logical = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    hyperthreading = Path("/sys/devices/system/cpu/smt/active")
    return max(1, logical // 2 if hyperthreading.is_file() and hyperthreading.read_text().strip() == "1" else logical)


def one_blas_thread() -> AbstractContextManager[Any]:
    """A context in which numpy's matrix products use one thread: for work that is split into larger parts."""
    result: AbstractContextManager[Any] = find_blas().limit(limits=1, user_api="blas")
    return result


@cache
def find_blas() -> ThreadpoolController:
    """The BLAS libraries of this process, found once: the search goes through all loaded libraries.

    Call it before another thread begins to import libraries. Otherwise the two may deadlock: one holds the lock of the
    system's list of libraries and the other that of Python's imports.
    """
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def versions(*packages: str) -> dict[str, str]:
    """Installed version of each package, or MISSING."""
    return {package: _version(package) for package in packages}


@cache
def _version(package: str) -> str:
    """Cached, as each look-up reads a file of the package and every render of a batch asks."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return MISSING
