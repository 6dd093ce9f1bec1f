"""Saved states of real plug-ins, damaged, and what shows, saves and plays them: `gbsep plugins show/save`, a preset.

Whatever a plug-in makes of it (it may end its process) is an error of gbsep's that names it, and its process is gone.
The first effects that are installed are used; without any, or where VST3 cannot be hosted, nothing is tried.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
from fuzz_damage import TEXTS, cleared, damaged, put_special
from fuzz_files import typed

from gbsep.plugins import host, scan
from gbsep.plugins.worker import state

MOST_PLUGINS = 3
FRAMES = 2000


def prepare(place: Path) -> Callable[[random.Random], Iterator[tuple[str, Callable[[], object]]]]:
    """What draws a state of an installed plug-in, damaged."""
    os.environ.pop("GBSEP_PLUGIN_PATH", None)
    (place / "plugins").mkdir()
    installed = [path for folder in scan.folders() for path in sorted(folder.glob("*.vst3"))]
    for path in installed[:MOST_PLUGINS]:
        copy = shutil.copytree if path.is_dir() else shutil.copy
        copy(path, place / "plugins" / path.name)
    cast(Any, scan).folders = lambda: [place / "plugins"]  # to look into all of them takes long
    effects = [info for info in host.plugins() if info.is_effect and not info.reason]
    saved = {}
    for info in effects:
        with host.open_plugin(info, host.PROBE_SAMPLE_RATE, max(info.channels, default=2)) as instance:
            saved[info.name] = instance.save_state()
    file = place / "warm.vstpreset"

    def draw(chance: random.Random) -> Iterator[tuple[str, Callable[[], object]]]:
        if not effects:
            return
        info = chance.choice(effects)
        content = another(saved[info.name], info.class_id, info.version, chance)
        cleared(file)
        if chance.random() < 0.1:
            told = put_special(file, chance)
        else:
            file.write_bytes(content)
            told = repr(content[:300])

        def play() -> None:
            channels = max(info.channels, default=2)
            with host.open_plugin(info, host.PROBE_SAMPLE_RATE, channels, state=host.read_file(file)) as instance:
                sound = instance.process(np.zeros((channels, FRAMES), np.float32))
                assert np.isfinite(sound).all()

        try:
            yield f"show {info.name}: {told}", lambda: typed("plugins", "show", info.name, "--state", str(file))
            if chance.random() < 0.5:
                yield f"play {info.name}: {told}", play
            if chance.random() < 0.3:
                yield f"save {info.name}: {told}", lambda: typed("plugins", "save", info.name, str(file), "--overwrite")
        finally:
            cleared(file)

    return draw


def another(good: bytes, class_id: str, version: str, chance: random.Random) -> bytes:
    """A state: of damaged bytes, of another plug-in, or whole with damaged parts, which reach the plug-in itself."""
    roll = chance.random()
    if roll < 0.1:
        return chance.choice(TEXTS)
    if roll < 0.4:
        return damaged(good, chance)
    component, controller = state.unpack(good, class_id, version)
    if roll < 0.5:
        return state.pack("vstpreset", (component, controller), chance.choice(("0" * 32, class_id)), "9" * 5000)
    if roll < 0.8:
        component = damaged(component, chance) if component else chance.randbytes(30)
    else:
        component = chance.choice((b"", b"\xff" * 40_000, chance.randbytes(chance.randrange(5000)), component * 50))
    return state.pack("vstpreset", (component, damaged(controller or b"x", chance)), class_id, version)
