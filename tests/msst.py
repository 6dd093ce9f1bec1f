"""Random checkpoints in the published formats, by scripts/random_models.py."""

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location("random_models", Path(__file__).parents[1] / "scripts/random_models.py")
random_models = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(random_models)

SMALL = tuple(name for name in random_models.CHECKPOINTS if name.startswith("tiny_") and "six" not in name)
