"""Forged output folders: records changed at any place to any value and sealed again, and everything run over them.

Nothing but a GbsepError may come of it, and nothing outside the output folder may change.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_damage import forged

import gbsep
from gbsep import rendering
from gbsep.audio import Audio
from gbsep.batch import planning
from gbsep.preset.load import load_preset
from gbsep.report import collect
from gbsep.report.deciding import song_id
from gbsep.report.log import write_log
from gbsep.report.page import song_model
from gbsep.report.spectrogram import mel_db, mel_hz
from gbsep.session.write import write_sessions
from gbsep.shelf import batch as batch_report
from gbsep.shelf import record, review
from gbsep.shelf.measured import diagnose_folder, evaluate_folder

RATE = 8000

# Now, before anything is guarded: numba keeps beside librosa what it compiles for it.
mel_db(Audio(np.zeros((1, RATE)), RATE).reader(), 4, 4)
mel_hz(RATE, 4)


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
            "log": lambda: write_log([self.out], self.out / "log.md"),
            "session": lambda: write_sessions(self.out, fader_gains=True),
            "render": lambda: self.render("exp002"),
            "another format": lambda: self.render("exp002_100"),
            "overwrite": lambda: self.render("exp002", overwrite=True),
        }

    def attack(self, draw: random.Random) -> Iterator[tuple[str, Callable[[], object]]]:
        """One forged folder, and all that is done to it."""
        told = self.forge(draw)
        for name, act in self.tries().items():
            if name == "log" and draw.random() < 0.8:  # its pictures take as long as all the rest
                continue
            before = self.files_inside() if "dry run" in name else None
            yield f"{name}: {told}", act
            if before is not None and self.files_inside() != before:
                raise AssertionError(f"{name} changed the output folder: {told}")
        if (now := self.files_outside()) != self.outside:
            for path in now.keys() - self.outside.keys():
                Path(path).unlink()
            for path, content in self.outside.items():
                Path(path).write_bytes(content)
            raise AssertionError(f"a file outside the output folder changed: {told}")


def prepare(place: Path) -> Callable[[random.Random], Iterator[tuple[str, Callable[[], object]]]]:
    """What draws a forged folder."""
    return Ground(place).attack
