"""torch.load for files of strangers: tensors and plain containers in bounded memory, and nothing else.

Memory for a pickle is some seventy times its bytes, and tensors lie outside it; so it may be no longer than
MAX_PICKLE_BYTES. NumPy's numbers, which trainings note beside the tensors (the best result so far), are left out.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import warnings
import zipfile
from pathlib import Path
from typing import IO, Any

from ..errors import one_line
from ..store.smallfiles import head

MAX_PICKLE_BYTES = 2**23

_PICKLES = 5
"""How many a file from before PyTorch 1.6 begins with; its tensors follow."""


class _LeftOut:
    """Stands for a value of NumPy's and holds nothing of it."""

    def __init__(self, *arguments: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        pass


NUMPY = [
    (type(name.rsplit(".", 1)[1], (_LeftOut,), {}), name)
    for core in ("numpy.core", "numpy._core")
    for name in (f"{core}.multiarray.scalar", f"{core}.multiarray._reconstruct")
] + [(type(name, (_LeftOut,), {}), f"numpy.{name}") for name in ("dtype", "ndarray")]
"""What stands for NumPy's numbers and arrays: (stand-in, dotted name in the file)."""


def is_safetensors(path: Path) -> bool:
    """Whether a file is of this kind by its name or by its first bytes."""
    return path.suffix == ".safetensors" or head(path, 9)[8:] == b"{"


def unpickle(path: Path, allowed: list[Any]) -> Any:
    """torch.load restricted to tensors, plain containers and `allowed`: (stand-in, dotted name in the file)."""
    import torch

    _check_size(path)
    with torch.serialization.safe_globals(allowed), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(path, map_location="cpu", weights_only=True)


def _check_size(path: Path) -> None:
    """Raise ValueError for a file that is no PyTorch file, is cut short, or would be larger in memory than it is."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > path.stat().st_size:
                raise ValueError("its parts are larger than the file itself")
            pickles = [member.file_size for member in members if member.filename.endswith(".pkl")]
        if not pickles:
            raise ValueError("it is a ZIP archive of something else")
        if max(pickles) > MAX_PICKLE_BYTES:
            raise ValueError(_TOO_LONG)
        return
    start = head(path, 2)
    if not start:
        raise ValueError("it is empty: fetch it again")
    if start == b"PK":
        raise ValueError("it is cut short: fetch it again")
    if start[0] != 0x80:
        raise ValueError("it is neither a PyTorch file nor safetensors")
    with path.open("rb") as file:
        for _ in range(_PICKLES):
            _check_length(file)


def _check_length(file: IO[bytes]) -> None:
    """Read over a pickle. Raises ValueError for one that is damaged or too long; the end of the file is none."""
    try:
        for _, _, position in pickletools.genops(file):
            if position is not None and position > MAX_PICKLE_BYTES:
                raise ValueError(_TOO_LONG)
    except MemoryError:
        raise ValueError("it is damaged") from None
    except ValueError:
        if file.read(1):
            raise


_TOO_LONG = f"what it holds besides tensors is longer than {MAX_PICKLE_BYTES / 1e6:.1f} MB"


def unreadable(error: Exception) -> str:
    """Why a file could not be read, in one line, without torch's advice to trust it."""
    reason = str(error).partition(" This is an internal miniz error")[0]
    refused = re.search(r"\bGLOBAL (\S+)|reduce for unrecognized function (.+)", reason)
    if refused:
        return f"it asks to run {refused[1] or refused[2]} and was refused"
    if isinstance(error, pickle.UnpicklingError):
        reason = reason.rpartition("WeightsUnpickler error:")[2].partition("Check the documentation")[0]
    if isinstance(error, (pickle.UnpicklingError, RuntimeError)):
        return one_line(type(error)(reason))
    return one_line(error)
