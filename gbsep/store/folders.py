"""The user's folders for gbsep, where the platform has them.

An environment variable replaces each of them. All raise FolderUnknown for a folder in an unknown home directory.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from ..errors import FolderUnknown


def config_folder() -> Path | None:
    """Presets and defaults.json: GBSEP_CONFIG. None for a user without a home."""
    try:
        return _folder("GBSEP_CONFIG", "user_config_path")
    except FolderUnknown:
        if os.environ.get("GBSEP_CONFIG"):
            raise
        return None


def cache_folder() -> Path:
    """Files that can be made again, such as separated stems: GBSEP_CACHE."""
    return _folder("GBSEP_CACHE", "user_cache_path")


def data_folder() -> Path:
    """Downloaded and trained files, such as model weights: GBSEP_HOME."""
    return _folder("GBSEP_HOME", "user_data_path")


def state_folder() -> Path:
    """Records between runs, such as the hashes of weights: GBSEP_STATE."""
    return _folder("GBSEP_STATE", "user_state_path")


def is_path(path: str | Path) -> bool:
    """Whether the operating system can express this path, whatever its length."""
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:  # a lone surrogate that stands for no byte
        return False


def named(folder: Path, names: re.Pattern[str], suffix: str = "") -> list[Path]:
    """The paths in a folder whose names, less `suffix`, match `names`; none for a link or an unreadable folder."""
    with contextlib.suppress(OSError):
        there = [path.name for path in folder.iterdir()] if not folder.is_symlink() else []
        ours = [name.removesuffix(suffix) for name in there if name.endswith(suffix)]
        return [folder / name for name in ours if names.fullmatch(name)]
    return []


def _folder(variable: str, kind: str) -> Path:
    """The folder of an environment variable, or else platformdirs'. Raises FolderUnknown without a home."""
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
