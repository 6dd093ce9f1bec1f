"""The user's own folders, where the platform wants them, and small files in them.

An environment variable puts a folder elsewhere.
"""

from __future__ import annotations

import os
from pathlib import Path


def config_folder() -> Path:
    """Presets and defaults.json: GBSEP_CONFIG."""
    return _folder("GBSEP_CONFIG", "user_config_path")


def cache_folder() -> Path:
    """What can be made again, such as separated stems: GBSEP_CACHE."""
    return _folder("GBSEP_CACHE", "user_cache_path")


def data_folder() -> Path:
    """What was fetched or trained, such as model weights: GBSEP_HOME."""
    return _folder("GBSEP_HOME", "user_data_path")


def state_folder() -> Path:
    """What gbsep remembers of what it saw, such as the hashes of weights: GBSEP_STATE."""
    return _folder("GBSEP_STATE", "user_state_path")


def write_whole(path: Path, text: str) -> None:
    """Write a file in one step; what a killed process leaves beside it is overwritten by the next. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.tmp")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def _folder(variable: str, kind: str) -> Path:
    if os.environ.get(variable):
        return Path(os.environ[variable]).expanduser().absolute()
    import platformdirs

    return getattr(platformdirs, kind)("gbsep", appauthor=False)
