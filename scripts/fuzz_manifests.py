"""Manifests as people and strangers might write them: rows of CSV and JSON lines, damaged, forged, or no file at all.

One must be planned, or refused, row by row where it is one row's fault, and every render lies below its OUT; the first
that is quick is rendered.
"""

from __future__ import annotations

import csv
import io
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_damage import TEXTS, VALUES, cleared, damaged, put_special

from gbsep import batch, rendering
from gbsep.audio import Audio
from gbsep.io.write import write
from gbsep.preset.load import load_preset
from gbsep.rendering import Options

INPUTS = (
    "a.wav", "songs", "songs/", "songs/*.wav", "**", "*", "b c.wav", "missing.wav", "../a.wav", "/dev/zero", "pipe.wav",
    "file:///a.wav", "memory://x/", "http://127.0.0.1:9/a.wav", "http://[", "s3://b/a", "nosuch://x", "file://[::1",
    "[a", "a.wav\0", "\ud800.wav", "\udce9.wav", "x" * 300 + ".wav", "/".join(["x"] * 3000), ".", "", " ", "~/a.wav",
    "m.csv", "-", "--out", "노래.wav", "loop.wav", "file:///dev/zero", "http://a b/", "zip://x::file:///a.zip",
)  # fmt: skip
PRESETS = (
    "exp002", "default", "own.json", "songs", "../x", "nosuch", "", "\0", "x" * 5000, "exp002.json", "/dev/zero",
    "loop.json", "{}", "\ud800", "pipe.json", "a.wav",
)  # fmt: skip
OVERRIDES: tuple[Any, ...] = (
    "", "separate.cutoff_hz=250", "separate.cutoff_hz=250 separate.order=8", {"separate.cutoff_hz": 250},
    '{"separate.cutoff_hz": 250}', ["separate.cutoff_hz=250"], "'", '"', "\\", "{", "{" * 99, '{"a":' + "[" * 20_000,
    '{"a": ' + "9" * 5000 + "}", '{"a": NaN}', "a=" + "9" * 5000, {"a": 10**300}, {"": None}, {"name": "../x"},
    {"name": "x/y"}, {"separate": None}, [1], "name=..", "output.tail_s=1e308", {"stems": {}}, '{"a":1}{"b":2}',
    "stems.bass.chain=[]", "separate.backend=nmf", {"a.b[99999999999]": 1}, "=", "a", "a==", {"title": "\ud800"},
)  # fmt: skip
ENCODINGS = ("utf-8",) * 12 + ("utf-8-sig", "utf-16", "latin-1", "cp949")
SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".CSV")


def prepare(place: Path) -> Callable[[random.Random], Iterator[tuple[str, Callable[[], object]]]]:
    """What draws a manifest, and plans it."""
    noise = Audio(0.1 * np.random.default_rng(0).standard_normal((1, 2000)).astype(np.float32), 8000)
    (place / "songs" / "deep").mkdir(parents=True)
    for name in ("a.wav", "b c.wav", "노래.wav", "songs/s.wav", "songs/deep/s.wav", "\udce9.wav"):
        write(place / name, noise)
    os.mkfifo(place / "pipe.wav")
    os.mkfifo(place / "pipe.json")
    for name in ("loop.wav", "loop.json"):
        (place / name).symlink_to(name)
    (place / "own.json").write_text(json.dumps(dict(load_preset("exp002").document, name="own")))
    options = Options(place / "out", overwrite=True, use_cache=False, download=False)

    def draw(chance: random.Random) -> Iterator[tuple[str, Callable[[], object]]]:
        path = place / f"m{chance.choice(SUFFIXES)}"
        try:
            if chance.random() < 0.03:
                told = put_special(path, chance)
            else:
                content = manifest(chance, path.suffix.lower())
                path.write_bytes(content)
                told = repr(content[:500])
            yield f"{path.name}: {told}", lambda: plan(path, options)
        finally:
            cleared(path)

    return draw


def manifest(chance: random.Random, suffix: str) -> bytes:
    """The content of a manifest: mostly rows, sometimes whole nonsense, then damaged or in another encoding."""
    if chance.random() < 0.08:
        return chance.choice(TEXTS)
    keys = ["input", "preset", "overrides"][: chance.choice((1, 2, 3, 3))]
    if chance.random() < 0.15:
        keys.insert(chance.randrange(len(keys) + 1), chance.choice(("Input", "", " input ", "x", "input", "\0")))
    rows = [["a.wav", "exp002", ""], *(_row(chance) for _ in range(chance.choice((1, 1, 2, 5))))]
    chance.shuffle(rows)
    if suffix in (".jsonl", ".ndjson"):
        documents = [dict(zip(keys, row, strict=False)) for row in rows]
        text = "\n".join(json.dumps(chance.choice(VALUES) if chance.random() < 0.1 else row) for row in documents)
    else:
        out = io.StringIO()
        delimiter = "\t" if suffix == ".tsv" else chance.choice((",", ",", ";"))
        writer = csv.writer(out, delimiter=delimiter, lineterminator=chance.choice(("\n", "\r\n", "\r")))
        writer.writerows([keys, *(map(_cell, row[: len(keys) + (chance.random() < 0.1)]) for row in rows)])
        text = out.getvalue()
    content = text.encode(chance.choice(ENCODINGS), "replace" if chance.random() < 0.5 else "backslashreplace")
    return damaged(content, chance) if chance.random() < 0.3 else content


def _row(chance: random.Random) -> list[Any]:
    row: list[Any] = [chance.choice(INPUTS), chance.choice(PRESETS), chance.choice(OVERRIDES)]
    if chance.random() < 0.3:
        row[0], row[1] = "a.wav", "exp002"
    if chance.random() < 0.3:
        row[chance.randrange(3)] = chance.choice(VALUES)
    return row


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode("utf-8", "replace").decode().replace("\0", "\\0")


def plan(path: Path, options: Options) -> None:
    """Plan a manifest as the command does, and render the first song that is quick."""
    planned = batch.plan([path], ["exp002"], options)
    for outcome in planned.refused:
        if "unexpected" in (outcome.error or ""):
            raise AssertionError(f"{outcome.error}\n{outcome.traceback}")
    for one in planned.plans:
        if options.out.resolve() not in one.folder.resolve().parents:
            raise AssertionError(f"{one.folder} is outside {options.out}")
    quick = [one for one in planned.plans if one.preset.backend == "crossover" and one.preset.output.tail_s < 1]
    for one in quick[:1]:
        rendering.run(one)
