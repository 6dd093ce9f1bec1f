"""The user's own folders, where the platform wants them.

An environment variable puts a folder elsewhere. Raises FolderUnknown where a folder would lie in a home directory that
is not known.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from ..errors import FolderUnknown


def config_folder() -> Path | None:
    """Presets and defaults.json: GBSEP_CONFIG. A user without a home has none, and does without."""
    try:
        return _folder("GBSEP_CONFIG", "user_config_path")
    except FolderUnknown:
        if os.environ.get("GBSEP_CONFIG"):
            raise
        return None


def cache_folder() -> Path:
    """What can be made again, such as separated stems: GBSEP_CACHE."""
    return _folder("GBSEP_CACHE", "user_cache_path")


def data_folder() -> Path:
    """What was fetched or trained, such as model weights: GBSEP_HOME."""
    return _folder("GBSEP_HOME", "user_data_path")


def state_folder() -> Path:
    """What gbsep remembers of what it saw, such as the hashes of weights: GBSEP_STATE."""
    return _folder("GBSEP_STATE", "user_state_path")


def is_path(path: str | Path) -> bool:
    """Whether the disk could have such a path, however long it may be."""
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:  # a lone surrogate that stands for no byte
        return False


def named(folder: Path, names: re.Pattern[str], suffix: str = "") -> list[Path]:
    """What lies in a folder under names of ours, without a suffix; nothing where that is a link or cannot be read."""
    with contextlib.suppress(OSError):
        there = [path.name for path in folder.iterdir()] if not folder.is_symlink() else []
        ours = [name.removesuffix(suffix) for name in there if name.endswith(suffix)]
        return [folder / name for name in ours if names.fullmatch(name)]
    return []


def _folder(variable: str, kind: str) -> Path:
    """Raises FolderUnknown when it is to lie in the home of a user who has none."""
    given = os.environ.get(variable, "")
    path = Path(os.path.expanduser(given))
    if not given:
        import platformdirs

        try:
            path = getattr(platformdirs, kind)("gbsep", appauthor=False)
        except RuntimeError:  # newer releases raise it, older ones leave the ~
            path = Path("~")
    if str(path).startswith("~"):
        where = f"{variable}={given}: there is no such user" if given else "HOME is not set, and this user has no home"
        raise FolderUnknown(f"{where}; name a folder in {variable}")
    return path.absolute()
