"""Forged output folders: records changed at any place to any value and sealed again, and everything run over them.

    python scripts/fuzz.py records --inputs 2000 --seconds 300

Nothing but a GbsepError may come of it, and nothing outside the output folder may change. `run` is for other scripts.
"""

from __future__ import annotations

import json
import random
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import gbsep
from gbsep.audio import Audio
from gbsep.batch import planning
from gbsep.batch import report as batch_report
from gbsep.errors import GbsepError
from gbsep.measure.diagnose import diagnose_folder
from gbsep.measure.evaluate import evaluate_folder
from gbsep.preset.load import load_preset
from gbsep.rendering import run as rendering
from gbsep.report import collect
from gbsep.report.page import song_model
from gbsep.report.server import song_id
from gbsep.session.write import write_sessions
from gbsep.shelf import record, review

RATE = 8000
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**300, -(10**300), 0.0, -0.5, 1e-320, 1e308, -1e308, "", "x",
    ".", "..", "../../../precious.txt", "/etc/passwd", "a/b", "a\\b", "nul\0byte", "\ud800", "\udcff.wav", "x" * 300,
    "http://[", "file:///dev/zero", "/dev/zero", "bass.wav", "render.json", "0" * 64, "NaN", [], {}, [[]], [None],
    ["x", 1], {"x": 1}, {"file": "../x"}, {"../../../precious.txt": {"bytes": 9, "sha256": "x"}}, [0.0, [1, {}]],
)  # fmt: skip
"""What stands in a forged record in place of what was there; keys are taken from its words."""


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in a JSON document, as keys and indices; the document itself at ()."""
    yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*path, key))


def forged(document: dict[str, Any], draw: random.Random) -> Any:
    """A document with one to three of its places changed, taken away or called otherwise."""
    document = json.loads(json.dumps(document))
    for _ in range(draw.randint(1, 3)):
        *way, last = draw.choice([path for path in places(document) if path])
        place: Any = document
        for key in way:
            place = place[key]
        change = draw.randrange(4)
        if change == 0:
            del place[last]
        elif change == 1 and isinstance(place, dict):
            place[draw.choice([value for value in VALUES if isinstance(value, str)])] = place.pop(last)
        else:
            place[last] = json.loads(json.dumps(draw.choice(VALUES)))
        if not document:
            break
    return document


class Ground:
    """A song, a finished render of it in `out`, true stems, and a file beside `out` that nobody may touch."""

    def __init__(self, place: Path):
        self.place, self.out, self.truth = place, place / "out", place / "truth"
        time_s = np.arange(RATE) / RATE
        samples = np.stack([0.3 * np.sin(500 * time_s), 0.2 * np.sin(9000 * time_s)]).astype(np.float32)
        self.song = place / "song.wav"
        gbsep.write(self.song, Audio(samples, RATE))
        (place / "precious.txt").write_text("precious\n")
        self.render("exp002", dry_stems=True)
        self.folder = self.out / "song" / "exp002"
        self.good = json.loads((self.folder / record.RECORD).read_text("utf-8"))
        shutil.copytree(self.folder, self.truth, ignore=shutil.ignore_patterns(record.RECORD, "*.dry.*"))
        self.reviewed = review.Review(preset="exp002", swap={"exp002": [["bass", "guitar"]]}).model_dump()
        self.batch: dict[str, Any] = {
            "written_by": batch_report.WRITTEN_BY,
            "renders": [{"input": "a.wav", "preset": "exp002", "status": "failed", "track": "a", "error": "no"}],
        }
        shutil.copytree(self.out, place / "kept")
        self.outside = self.files_outside()

    def render(self, preset: str, **options: Any) -> None:
        gbsep.render(self.song, preset, self.out, use_cache=False, **options)

    def files_outside(self) -> dict[str, bytes]:
        files = [path for path in self.place.rglob("*") if path.is_file() and self.out not in path.parents]
        return {str(path): path.read_bytes() for path in files}

    def files_inside(self) -> dict[str, tuple[int, int]]:
        return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_ino) for path in sorted(self.out.rglob("*"))}

    def forge(self, draw: random.Random) -> dict[str, Any]:
        """Put the output folder back as it was, but for what is forged; that is the answer."""
        shutil.rmtree(self.out)
        shutil.copytree(self.place / "kept", self.out)
        told: dict[str, Any] = {record.RECORD: forged(self.good, draw)}
        if isinstance(told[record.RECORD], dict):
            told[record.RECORD] = record.sealed(told[record.RECORD])
        (self.folder / record.RECORD).write_text(json.dumps(told[record.RECORD]), "utf-8")
        if draw.random() < 0.3:
            told[review.FILE] = forged(self.reviewed, draw)
            (self.folder.parent / review.FILE).write_text(json.dumps(told[review.FILE]), "utf-8")
        if draw.random() < 0.3:
            told[batch_report.REPORT] = forged(self.batch, draw)
            (self.out / batch_report.REPORT).write_text(json.dumps(told[batch_report.REPORT]), "utf-8")
        return told

    def tries(self) -> dict[str, Callable[[], Any]]:
        """What is done to a forged folder, by name; what changes it comes last."""

        def plan(**options: Any) -> None:
            chosen = rendering.Options(self.out, use_cache=False, **options)
            rendering.plan(self.song, load_preset("exp002"), chosen)

        def shown() -> None:
            for song in collect(self.out, self.truth):
                json.dumps(song_model(song, lambda path: path.name))
                song_id(song)

        return {
            "dry run": lambda: plan(dry_run=True),
            "dry run, overwriting": lambda: plan(dry_run=True, overwrite=True),
            "batch dry run": lambda: planning.plan(
                [self.song], options=rendering.Options(self.out, use_cache=False, dry_run=True)
            ),
            "report": shown,
            "evaluate": lambda: evaluate_folder(self.folder, self.truth),
            "diagnose": lambda: diagnose_folder(self.folder),
            "chosen preset": lambda: rendering.chosen_preset(self.out, "song"),
            "session": lambda: write_sessions(self.out, fader_gains=True),
            "render": lambda: self.render("exp002"),
            "another format": lambda: self.render("exp002_100"),
            "overwrite": lambda: self.render("exp002", overwrite=True),
        }

    def attack(self, draw: random.Random) -> list[str]:
        """One forged folder; what went wrong with it."""
        told = self.forge(draw)
        failures = []
        for name, act in self.tries().items():
            before = self.files_inside() if "dry run" in name else None
            try:
                act()
            except GbsepError:
                pass
            except Exception:
                failures.append(f"{name}: {traceback.format_exc()}\n{told}")
            if before is not None and self.files_inside() != before:
                failures.append(f"{name}: the output folder changed\n{told}")
        if self.files_outside() != self.outside:
            failures.append(f"a file outside the output folder changed\n{told}")
            raise RuntimeError(failures[-1])
        return failures


def run(seed: int, inputs: int, seconds: float) -> list[str]:
    """Attack up to `inputs` forged folders for up to `seconds`; what went wrong, each as a text."""
    draw, until = random.Random(seed), time.monotonic() + seconds
    failures: list[str] = []
    with tempfile.TemporaryDirectory(prefix="gbsep-fuzz-") as place:
        ground = Ground(Path(place))
        for number in range(inputs):
            if time.monotonic() > until:
                break
            failures += [f"seed {seed}, input {number}: {failure}" for failure in ground.attack(draw)]
    return failures
