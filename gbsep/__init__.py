"""gbsep: a recording in, guitar and bass out, each through its own effect chain.

>>> import gbsep
>>> outcome = gbsep.render("song.wav", preset="exp002", out="stems")  # doctest: +SKIP
>>> stems = gbsep.separate(gbsep.read("song.wav"), "crossover", cutoff_hz=250.0)  # doctest: +SKIP
>>> gbsep.evaluate("gbsep-out/song/exp002", "true-stems")["bass"].sdr  # doctest: +SKIP
>>> [finding.message for finding in gbsep.diagnose("gbsep-out/song/exp002")]  # doctest: +SKIP
>>> warm = gbsep.apply_chain(stems.stems["bass"], [{"effect": "Gain", "gain_db": 3.0}])  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .privacy import tell_nobody
from .version import __version__

tell_nobody()

if TYPE_CHECKING:
    from .audio import Audio as Audio
    from .audio import Stems as Stems
    from .effects.chain import apply_chain as apply_chain
    from .errors import GbsepError as GbsepError
    from .io.read import read as read
    from .io.write import write as write
    from .preset.load import load_preset as load_preset
    from .preset.model import Preset as Preset
    from .rendering import Options as Options
    from .rendering import Outcome as Outcome
    from .rendering import render as render
    from .separation.backend import separate as separate
    from .session.write import write_sessions as write_sessions
    from .shelf.measured import diagnose_folder as diagnose  # noqa: F401 - listed in _HOMES
    from .shelf.measured import evaluate_folder as evaluate  # noqa: F401

_HOMES = {
    "Audio": "audio",
    "GbsepError": "errors",
    "Options": "rendering",
    "Outcome": "rendering",
    "Preset": "preset.model",
    "Stems": "audio",
    "apply_chain": "effects.chain",
    "diagnose": "shelf.measured:diagnose_folder",
    "evaluate": "shelf.measured:evaluate_folder",
    "load_preset": "preset.load",
    "read": "io.read",
    "render": "rendering",
    "separate": "separation.backend",
    "write": "io.write",
    "write_sessions": "session.write",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    """Public names are imported at first use, so that `import gbsep` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home, _, own_name = _HOMES[name].partition(":")
    return getattr(importlib.import_module(f".{home}", __name__), own_name or name)


def __dir__() -> list[str]:
    return sorted(__all__)
