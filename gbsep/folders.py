"""The user's own folders: an environment variable names each, else it is where the platform wants it."""

from __future__ import annotations

import os
from pathlib import Path


def config_folder() -> Path:
    """Presets and defaults.json: GBSEP_CONFIG."""
    return _folder("GBSEP_CONFIG", "user_config_dir")


def cache_folder() -> Path:
    """What can be made again, such as separated stems: GBSEP_CACHE."""
    return _folder("GBSEP_CACHE", "user_cache_dir")


def data_folder() -> Path:
    """What was fetched or trained, such as model weights: GBSEP_DATA_DIR."""
    return _folder("GBSEP_DATA_DIR", "user_data_dir")


def _folder(variable: str, kind: str) -> Path:
    if variable in os.environ:
        return Path(os.environ[variable])
    import platformdirs

    return Path(getattr(platformdirs, kind)("gbsep", appauthor=False))
