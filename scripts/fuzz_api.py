"""gbsep's public functions with arguments that make no sense: wrong types, wild numbers, empty and endless things.

A wrong type may be a TypeError with a sentence that names the argument; everything else is one of gbsep's own errors,
or a result.
"""

from __future__ import annotations

import inspect
import os
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_damage import cleared

import gbsep
from gbsep import rendering
from gbsep.audio import Audio
from gbsep.effects import automation, builtin, chain
from gbsep.effects import butterworth as filters
from gbsep.effects import table as effects
from gbsep.errors import shown
from gbsep.io.write import write
from gbsep.preset import load as preset
from gbsep.preset import overrides
from gbsep.report import sweep
from gbsep.separation import backend as separation


def public(folder: Path) -> dict[str, tuple[Callable[..., Any], dict[str, Any]]]:
    """Every public function, and arguments with which it works."""
    tone = Audio(np.sin(np.arange(4410) / 20)[np.newaxis] * 0.1, 44100)
    song = folder / "song.wav"
    write(song, tone)
    rendering.render(song, "exp002", folder / "made", use_cache=False)
    loaded = preset.load_preset("exp002")
    calls: tuple[tuple[Callable[..., Any], dict[str, Any]], ...] = (
        (Audio, {"samples": np.zeros((1, 100)), "sample_rate": 44100}),
        (gbsep.Stems, {"mixture": tone, "stems": {"bass": tone}, "backend": "crossover", "settings": {}}),
        (gbsep.apply_chain, {"audio": tone, "chain": [{"effect": "Reverb"}], "tail_s": 0.0, "sidechains": {}}),
        (gbsep.load_preset, {"preset": "exp002", "overrides": (), "seed": None, "format": None, "bit_depth": None}),
        (gbsep.read, {"path": song, "start_s": 0.0, "duration_s": None}),
        (gbsep.write, {"path": folder / "w.wav", "audio": tone}),
        (gbsep.render, {"path": song, "preset": "exp002", "out": folder / "out", "name": "{stem}", "start_s": 0.0,
                        "duration_s": None, "device": "auto", "overwrite": True, "use_cache": False, "models": None}),
        (gbsep.separate, {"audio": tone, "backend": "crossover", "seed": 0, "wanted": None, "device": "auto",
                          "models": None, "cutoff_hz": 200.0}),
        (gbsep.write_sessions, {"out": folder / "made", "format": "reaper", "per": "song"}),
        (rendering.Options, {"out": folder / "out", "start_s": 0.0, "duration_s": None, "name": "{stem}"}),
        (rendering.plan, {"path": song, "preset": loaded, "options": rendering.Options(folder / "out"), "track": "x"}),
        (chain.parse_chain, {"items": [{"effect": "Gain"}], "where": "chain"}),
        (chain.check_chain, {"nodes": chain.parse_chain([{"effect": "Reverb"}]), "sample_rate": 44100}),
        (effects.spec_of, {"name": "Gain"}),
        (builtin.Builtin, {"name": "Reverb", "params": {"room_size": 0.5}, "sample_rate": 44100,
                            "buffer_frames": 8192}),
        (builtin.render_whole, {"name": "PitchShift", "params": {"semitones": 1.0},
                                "samples": np.zeros((1, 4410), np.float32), "sample_rate": 44100}),
        (filters.butterworth_sos, {"order": 4, "cutoff_hz": 200.0, "mode": "lowpass", "sample_rate": 44100}),
        (automation.parse_automation, {"value": {"points": [[0, 1]]}, "param": effects.WET}),
        (separation.parse_settings, {"backend": "crossover", "settings": {"cutoff_hz": 200.0}}),
        (separation.backend_named, {"name": "crossover"}),
        (overrides.parse_override, {"text": "a=1"}),
        (preset.find_preset, {"preset": "exp002"}),
        (sweep.parse_vary, {"text": "a=1:2:1"}),
        (rendering.track_names, {"inputs": [song]}),
    )  # fmt: skip
    return {function.__qualname__: (function, arguments) for function, arguments in calls}


def garbage(rng: random.Random) -> Any:
    """A value that is hardly what was asked for."""
    shape = rng.choice(((), (0,), (1,), (2, 2), (1, 5), (3, 4), (2, 0), (1, 2, 3), (4410,)))
    return rng.choice((
        None, True, 0, -1, 1, 7, 2**31, 2**63, -(2**70), 10**5000, 1e308, 5e-324, -0.0, float("nan"), float("inf"),
        1e-9, "", "x", "\0", "\ud800", "../x", "~nosuch/x", "exp002", "a" * 5000, "{stem:>999999999}", "{0}",
        "{stem.__class__}", b"x",
        b"\xff", (), [], {}, [[]], [None], {"a": 1}, {1: 2}, {"points": []}, [{"effect": "Gain"}], [("a", 1)],
        [("a",)], ["a=1"],
        {"effect": "Nothing"}, {"semitones": 10**400}, {"bass": 3}, set(), object(), object, len,
        Path("."), Path("/dev/null"), Path("\0"),
        1j, range(5), np.float32(3), np.int64(-5), np.zeros(shape, rng.choice(("f4", "f8", "i2", "c8", "O", "U3"))),
        np.full((1, 8), np.nan), Audio(np.ones((2, 8)), 8000), effects.WET, rendering.Options(), lambda *_: 1 / 0,
    ))  # fmt: skip


def prepare(place: Path) -> Callable[[random.Random], Iterator[tuple[str, Callable[[], object]]]]:
    """What draws a call."""
    functions = public(place)
    cwd = place / "here"  # where relative paths lead: what a call leaves there is not there for the next
    cwd.mkdir()
    os.chdir(cwd)
    made = set(place.iterdir())

    def draw(rng: random.Random) -> Iterator[tuple[str, Callable[[], object]]]:
        name = rng.choice(list(functions))
        function, right = functions[name]
        arguments = dict(right)
        for key in rng.sample(list(right), rng.choice((1, 1, 1, 2, len(right))) if len(right) > 1 else 1):
            arguments[key] = garbage(rng)
        told = f"{name}({', '.join(f'{key}={shown(value)[:80]}' for key, value in arguments.items())})"
        try:
            yield told, lambda: call(function, arguments)
        finally:
            for path in (*place.iterdir(), *cwd.iterdir()):
                if path not in made:
                    cleared(path)

    return draw


def call(function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    try:
        function(**arguments)
    except TypeError as error:
        if not names_an_argument(str(error), function):
            raise


def names_an_argument(message: str, function: Callable[..., Any]) -> bool:
    """Whether a sentence says which argument must be what."""
    known = {*inspect.signature(function).parameters, *rendering.Options.__dataclass_fields__}
    return " must be " in message and message.split()[0].split("[")[0].split(".")[0] in known
