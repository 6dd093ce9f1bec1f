"""gbsep: a recording in, guitar and bass out, each through its own effect chain.

>>> import gbsep
>>> outcome = gbsep.render("song.wav", preset="exp002", out="stems")  # doctest: +SKIP
>>> stems = gbsep.separate(gbsep.read("song.wav"), "crossover", cutoff_hz=250.0)  # doctest: +SKIP
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
    from .rendering import Outcome as Outcome
    from .rendering import render as render
    from .separation.backend import separate as separate
    from .session.write import write_sessions as write_sessions

_HOMES = {
    "Audio": "audio",
    "GbsepError": "errors",
    "Outcome": "rendering",
    "Stems": "audio",
    "apply_chain": "effects.chain",
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
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
