"""Presets, and `--set` and `--vary` texts, as nobody would write them, through gbsep's public functions.

Each input must be taken, or refused with one of gbsep's own errors; a preset that is taken must render a tenth of a
second of sound or fail with one of them.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gbsep import rendering
from gbsep.audio import Audio
from gbsep.effects.table import EFFECTS
from gbsep.errors import shown
from gbsep.io.formats import FORMATS
from gbsep.io.write import write
from gbsep.preset.load import load_preset
from gbsep.preset.names import preset_names
from gbsep.preset.overrides import parse_override
from gbsep.rendering import Options
from gbsep.report.sweep import grid, parse_vary

STRANGE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 3, 10**30, 10**4000, 1e308, -1e308, 5e-324, float("nan"), float("inf"), 0.5, "", " ",
    "bass", "-bass", "mixture", "-mixture", "guitar", "-guitar", "auto", "\0", "\ud800", "../x",
    "/etc/passwd", "~nobody/x",
    "x" * 5000, "노래", "{}", "%s", "-", "a\nb", [], {}, [[]], [None], {"": None}, ["bass"], ["-bass"],
    ["mixture", "-bass"], ["mixture", "-guitar"], {"points": [[0, 1]]}, {"points": [[0, 1], [0, 2]]},
    {"method": "loudness"}, {"effect": "Gain"},
)  # fmt: skip

TEXTS = (
    "", "=", "a", "a=", "=1", "separate.cutoff_hz=", "separate.cutoff_hz=1e308", "separate.cutoff_hz=" + "9" * 5000,
    "stems.bass.chain[" + "9" * 5000 + "]=1", "stems.bass.chain[0].x=1", "separate=1", "stems=[]", "stems.bass.from=[]",
    "a=" + "[" * 5000, "..=1", "[0]=1", "separate.seed=-1", "separate.backend=nmf", "name=\0", "name=../x",
    "output.tail_s=NaN",
    "a=1:1e999999:1", "a=1:2:1e-999999", "a=1:2", "a=NaN:1:1", "a=0:9e99:9e98", "a=" + ",".join("123456789" * 9),
    "separate.cutoff_hz=100:300:50", "a=sNaN:1:1", "a=[1,2", "a=Infinity", "title=1,2", "a=0:9999:1",
)  # fmt: skip


def strange(rng: random.Random, depth: int = 0) -> Any:
    """A value of any kind; now and then a nest of them."""
    roll = rng.random()
    if roll < 0.1 and depth < 4:
        return [strange(rng, depth + 1) for _ in range(rng.randrange(4))]
    if roll < 0.2 and depth < 4:
        return {text_of(strange(rng, 9))[:50]: strange(rng, depth + 1) for _ in range(rng.randrange(4))}
    if roll < 0.3:
        effect = rng.choice(list(EFFECTS.values()))
        params = {param.name: rng.choice([param.low, param.high, param.default]) for param in effect.params}
        return {"effect": effect.name, **params}
    if roll < 0.35:
        nest: Any = []
        for _ in range(rng.choice((3, 50, 3000))):
            nest = [nest] if rng.random() < 0.5 else {"effect": "Parallel", "branches": [{"chain": nest}]}
        return nest
    return copy.deepcopy(rng.choice(STRANGE))


def text_of(value: Any) -> str:
    return value if isinstance(value, str) else shown(value)


def mutated(rng: random.Random, document: Any) -> Any:
    """The document with a few of its values, keys or elements changed, taken out or added."""
    for _ in range(rng.randrange(1, 4)):
        place, key = document, None
        while isinstance(place, (dict, list)) and place and (key is None or rng.random() < 0.75):
            parent, key = place, rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
            place = parent[key]
        if key is None:
            return strange(rng)
        roll = rng.random()
        if roll < 0.15:
            del parent[key]
        elif roll < 0.3 and isinstance(parent, dict):
            parent[text_of(strange(rng, 9))[:70]] = strange(rng)
        elif roll < 0.4 and isinstance(parent, list):
            parent += [place] * rng.choice((1, 3, 100))
        else:
            parent[key] = strange(rng)
    return document


def likely(rng: random.Random, document: dict[str, Any]) -> dict[str, Any]:
    """A preset with stems, chains and files that may well be right, and values at the ends of what they may be."""
    names = rng.sample(("bass", "guitar", "other", "a b", "노래"), rng.randrange(1, 4))
    sources = ("bass", "guitar", "mixture", "-bass", "-guitar", f"-{names[0]}")
    restores = ({}, {"method": "none"}, {"method": "mixture_fit", "limit_db": 24}, {"method": "peak", "dbfs": -60},
                {"method": "loudness", "lufs": 0}, {"method": "loudness", "lufs": -70})  # fmt: skip
    stems: dict[str, Any] = {}
    for name in names:
        stem = {
            "from": rng.choice(
                [
                    [name],
                    ["bass"],
                    ["guitar", "-bass"],
                    rng.sample(sources, rng.randrange(1, 4)),
                    ["mixture", f"-{names[0]}"],
                ]
            )
        }
        stem |= {"restore": restore} if (restore := rng.choice(restores)) else {}
        stems[name] = stem | {"chain": [_effect(rng, names) for _ in range(rng.choice((0, 1, 1, 2)))]}
    form = rng.choice(list(FORMATS))
    output = {"format": form, "bit_depth": rng.choice([None, *FORMATS[form].subtypes]), "residual": rng.random() < 0.5}
    swap = rng.choice(([], [], "auto", [["bass", "guitar"]]))
    return {**document, "stems": stems, "output": output | {"tail_s": rng.choice((0.0, 1e-9, 0.01, 1))}, "swap": swap}


def _effect(rng: random.Random, names: list[str]) -> dict[str, Any]:
    effect = rng.choice([one for one in EFFECTS.values() if all(param.kind != "path" for param in one.params)])
    node: dict[str, Any] = {"effect": effect.name}
    for param in effect.params:
        if param.default is None or rng.random() < 0.6:
            numbers = param.kind in ("float", "int")
            node[param.name] = rng.choice([param.low, param.high, param.default] if numbers else [*param.choices, True])
            if numbers and param.automatable and rng.random() < 0.2:
                node[param.name] = {"points": [[0, param.low], [0.01, param.high], [9, param.low]]}
    if "sidechain" in node:
        node["sidechain"] = rng.choice(names)
    return {key: value for key, value in node.items() if value is not None}


def prepare(place: Path) -> Callable[[random.Random], Iterator[tuple[str, Callable[[], object]]]]:
    """What draws a preset, or a text for one."""
    song = place / "a.wav"
    write(song, Audio(0.1 * np.random.default_rng(0).standard_normal((2, 4410)), 44100))
    shipped = [json.loads(path.read_text(encoding="utf-8")) for path in preset_names().values()]
    light = [document for document in shipped if document["separate"]["backend"] in ("crossover", "compact")]
    names = [document["name"] for document in light]
    options = Options(place / "out", overwrite=True, use_cache=False, download=False)

    def draw(rng: random.Random) -> Iterator[tuple[str, Callable[[], object]]]:
        kind = rng.choice(("preset", "preset", "render", "likely", "extends", "set", "vary"))
        if kind == "likely":
            document = likely(rng, rng.choice([one for one in light if one["separate"]["backend"] == "crossover"]))
            yield f"render {json.dumps(document)}", lambda: taken(document, song, options)
        elif kind == "extends":
            document = extending(rng, names)
            yield f"extends {shown(document)}", lambda: taken(document, song, options)
        elif kind in ("preset", "render"):
            document = mutated(rng, copy.deepcopy(rng.choice(light if kind == "render" else shipped)))
            yield f"{kind} {shown(document)}", lambda: taken(document, song if kind == "render" else None, options)
        elif kind == "set":
            text = rng.choice(TEXTS) if rng.random() < 0.5 else f"{rng.choice(TEXTS)}={shown(strange(rng))}"
            yield f"set {text[:200]!r}", lambda: load_preset("exp002", [parse_override(text)])
        else:
            texts = rng.choices(TEXTS, k=rng.randrange(1, 4))
            yield f"vary {str(texts)[:200]}", lambda: grid(map(parse_vary, texts))

    return draw


def extending(rng: random.Random, names: list[str]) -> dict[str, Any]:
    """A preset that extends another one, or what it takes for one, and changes what is there or is not."""
    base = rng.choice(names) if rng.random() < 0.8 else strange(rng)
    layer = {"extends": base}
    for key in rng.sample(("separate", "stems", "swap", "output", "title", "name", "extends"), rng.randrange(4)):
        layer[key] = strange(rng)
    if rng.random() < 0.7:
        stems = {rng.choice(("bass", "guitar", "new", "")): rng.choice((None, {}, strange(rng))) for _ in range(2)}
        layer["stems"] = stems
        for stem in stems.values():
            if isinstance(stem, dict):
                stem["chain"] = [_effect(rng, ["bass", "guitar"])] if rng.random() < 0.5 else strange(rng)
    return layer


def taken(document: Any, song: Path | None, options: Options) -> None:
    """Load a preset, and render a song with it if there is one."""
    try:
        preset = load_preset(document)
    except TypeError as error:
        if " must be " not in str(error):
            raise
        return
    if song is not None and preset.output.tail_s <= 5:
        rendering.run(rendering.plan(song, preset, options))
