"""The content of a report: the renders below an output folder, song by song.

A song is one recording, or one excerpt of it: renders of the same content and the same seconds are shown together on
one time axis. Everything comes from render.json and review.json; audio is opened when it is needed.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from ..audio import Reader
from ..errors import OutputError, SmallFileError, exact, exact_sum
from ..io.read import open_reader
from ..measure import levels
from ..measure.figures import COLUMNS
from ..measure.levels import Levels
from ..notes import files as note_files
from ..notes.folders import score_folder
from ..notes.line import Note as WrittenNote
from ..shelf import batch, record, review
from ..shelf.measured import evaluate_folder, reference_of
from ..shelf.record import FindingRow, Record
from ..shelf.stems import StemFolder, find_stems, renders_in
from ..stemnames import BASS
from ..store import pictures
from ..store.hashes import remembered_hash
from ..store.identity import json_hash

Open = Callable[[float, float | None], Reader]
"""open(start_s, duration_s) gives that part of a sound, to its end for None."""


@dataclass(frozen=True)
class Source:
    """One sound of a song: its mixture, a stem or the residual of a render, or a true stem.

    `kind` is one of these: mixture, stem, residual, reference. `file` is what a reader of the report may open, and
    `made_of` are the files that it is the sum of, `part` the excerpt of them. `written` are the notes of a stem, where
    they are kept beside it.
    """

    name: str
    kind: str
    open: Open = field(repr=False)
    file: Path | None = None
    known: Levels | None = None
    made_of: tuple[Path, ...] = ()
    part: tuple[float, float | None] = (0.0, None)
    written: tuple[WrittenNote, ...] = ()

    @cached_property
    def levels(self) -> Levels:
        """The levels in render.json, or else measured."""
        return self.known or self._measured()

    def _measured(self) -> Levels:
        def measure() -> bytes:
            found = levels.measure(self.open(0.0, None))
            return struct.pack("<3d", found.peak_dbfs, found.rms_dbfs, found.loudness_lufs)

        return Levels(*struct.unpack("<3d", self.kept("levels 1", measure, 24)))

    def kept(self, what: str, make: Callable[[], bytes], size: int | None = None, kind: str = "pictures") -> bytes:
        """What `make` makes of the sound, or made of the same content before; `what` says what it is and how it is
        made, `size` how many bytes it must have, `kind` where it is kept."""
        if not self.made_of:
            return make()
        content = [remembered_hash(path) for path in self.made_of]
        found = pictures.kept(json_hash([what, content, *self.part]), make, kind)
        return found if size in (None, len(found)) else make()

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Sample rate and frames."""
        reader = self.open(0.0, None)
        return reader.sample_rate, reader.frames


@dataclass(frozen=True)
class Render:
    """One render of a song.

    `figures` are numbers by stem and name in COLUMNS, `findings` the diagnoses, `remarks` warnings and notes on both.
    """

    preset: str
    record: Record
    folder: Path
    sources: tuple[Source, ...]
    figures: Mapping[str, Mapping[str, float | None]]
    findings: tuple[FindingRow, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def recipe(self) -> str:
        """Backend and settings in one line: `crossover, cutoff_hz 200, order 4`."""
        separate = dict(self.record.preset.separate)
        words = [str(separate.pop("backend", ""))]
        words += [f"{key} {value}" for key, value in separate.items() if value is not None and key != "seed"]
        return ", ".join(words)


@dataclass(frozen=True)
class Song:
    """One recording and its renders.

    `failures` are reasons by the name of what failed: presets that could not be rendered, a review.json that is not
    valid.
    """

    name: str
    folder: Path
    mixture: Source | None
    renders: tuple[Render, ...]
    references: tuple[Source, ...]
    decided: review.Review
    failures: Mapping[str, str] = field(default_factory=dict)

    @property
    def sources(self) -> tuple[Source, ...]:
        """All sounds: the mixture, the true stems, then render by render."""
        mixture = (self.mixture,) if self.mixture else ()
        return (*mixture, *self.references, *(source for render in self.renders for source in render.sources))


def collect(out: Path, references: Path | None = None, presets: Sequence[str] = ()) -> list[Song]:
    """The songs below an output folder, or a folder of one song or one render.

    `references` is a folder of true stems, for scores and for listening, or of such folders called as the songs.
    `presets` are the folder names of the renders to show, in this order; without it all are shown. Raises OutputError
    when there are none.
    """
    found = renders_in(out) if os.path.isdir(out) else {}
    groups: dict[tuple[Any, ...], list[StemFolder]] = {}
    for folder in found.values():
        render = find_stems(folder)
        assert render.record is not None
        excerpt = render.excerpt
        key = folder.parent, render.record.recording.sha256, excerpt.start_s, excerpt.duration_s
        if not presets or folder.name in presets:
            groups.setdefault(key, []).append(render)
    failures = _failures(out)
    order = {name: number for number, name in enumerate(presets)}
    songs = []
    for (parent, _, start_s, duration_s), renders in groups.items():
        name = _name(out, parent)
        alone = sum(key[0] == parent for key in groups) == 1
        songs.append(
            _song(
                name if alone else f"{name}, {_seconds(start_s, duration_s)}",
                parent,
                sorted(renders, key=lambda render: order.get(render.path.name, 0)),
                reference_of(references, renders[0].path) if references else None,
                {preset: why for preset, why in failures.pop(name, {}).items() if not (parent / preset).exists()},
            )
        )
    songs += [Song(name, out / name, None, (), (), *_reviewed(out / name, why)) for name, why in failures.items()]
    if not songs:
        raise OutputError(out, "holds no renders; make some with gbsep render, and name the folder given to --out")
    return songs


def _song(
    name: str, folder: Path, renders: list[StemFolder], references: Path | None, failures: Mapping[str, str]
) -> Song:
    mixture = next(filter(None, (_mixture(render) for render in renders)), None)
    true_stems: tuple[Source, ...] = ()
    if references:
        truth = find_stems(references)
        excerpt = renders[0].excerpt
        true_stems = tuple(
            Source(
                stem,
                "reference",
                partial(_part, partial(truth.open, stem), excerpt.start_s, excerpt.duration_s),
                made_of=files,
                part=(excerpt.start_s, excerpt.duration_s),
            )
            for stem, files in truth.files.items()
        )
    shown = tuple(_render(render, references) for render in renders)
    return Song(name, folder, mixture, shown, true_stems, *_reviewed(folder, failures))


def _reviewed(folder: Path, failures: Mapping[str, str]) -> tuple[review.Review, Mapping[str, str]]:
    """The review of a song, and its failures: an invalid review.json is one of them and stops no other song."""
    try:
        return review.load(folder), failures
    except OutputError as error:
        return review.Review(), {**failures, review.FILE: f"{review.FILE} {error.reason}"}


def _render(folder: StemFolder, references: Path | None) -> Render:
    record = folder.record
    assert record is not None
    there = find_stems(references, parts=folder.has_parts).files if references is not None else {}
    meets = not folder.files.keys().isdisjoint(there)
    scores = evaluate_folder(folder.path, references) if references and meets else {}
    told = {BASS} & scores.keys()
    figures: dict[str, dict[str, float | None]] = {}
    sources = []
    for stem, row in record.stems.items():
        score = scores[stem].as_json() if stem in scores else {}
        figures[stem] = {
            **{name: score[name] for name in COLUMNS if name in score},
            **({"note_f1": 100 * score_folder(folder.path, references).f1} if references and stem in told else {}),
            "loudness_lufs": row.after.loudness_lufs,
            "peak_dbfs": row.after.peak_dbfs,
            "restored_gain_db": row.restored_gain_db,
            **({} if record.diagnoses is None else {"findings": sum(row.stem == stem for row in record.diagnoses)}),
        }
        path = folder.path / row.file
        source = Source(stem, "stem", partial(open_reader, path), path, _levels(row.after), (path,))
        sources.append(replace(source, written=_written(folder.path, stem)))
    residual = record.residual
    if residual.file:
        path = folder.path / residual.file
        sources.append(Source("residual", "residual", partial(open_reader, path), path, _levels(residual), (path,)))
    remarks = [f"{stem}: {note}" for stem, score in scores.items() for note in score.notes]
    if references and not meets:
        remarks.append(f"none of its stems is among the true ones in {references.name}: stems are paired by name")
    findings, remarks = record.diagnoses or (), [*record.warnings, *record.notes, *remarks]
    return Render(folder.path.name, record, folder.path, tuple(sources), figures, findings, tuple(remarks))


def _written(folder: Path, stem: str) -> tuple[WrittenNote, ...]:
    """The notes of a stem that are kept in its folder; of a file that holds none, none."""
    kept = note_files.kept_beside(folder, stem)
    try:
        return note_files.read(kept, stem).notes if kept else ()
    except SmallFileError:
        return ()


def _mixture(folder: StemFolder) -> Source | None:
    found = folder.mixture_file()
    if found is None:
        return None
    path, start_s, duration_s = found
    part = start_s, duration_s
    return Source("mixture", "mixture", partial(_part, partial(open_reader, path), *part), path, None, (path,), part)


def _part(
    whole: Open, first_s: float, length_s: float | None, start_s: float = 0.0, duration_s: float | None = None
) -> Reader:
    """From the part of a sound at `first_s`, `length_s` long, the part at `start_s`, `duration_s` long."""
    if length_s is not None:
        duration_s = length_s - start_s if duration_s is None else min(duration_s, length_s - start_s)
    return whole(first_s + start_s, duration_s)


def _levels(row: record.Levels | record.Residual) -> Levels:
    values = (row.peak_dbfs, row.rms_dbfs, row.loudness_lufs)
    return Levels(*(-math.inf if value is None else value for value in values))


def _name(out: Path, folder: Path) -> str:
    inside = folder.relative_to(out).as_posix() if folder.is_relative_to(out) else folder.name
    return folder.resolve().name if inside == "." else inside


def _seconds(start_s: float, duration_s: float | None) -> str:
    if duration_s is None:
        return f"from {exact(start_s)} s"
    return f"{exact(start_s)} to {exact_sum(start_s, duration_s)} s"


def _failures(out: Path) -> dict[str, dict[str, str]]:
    """The reasons of failed renders of the last batch into this folder, by song and preset."""
    failures: dict[str, dict[str, str]] = {}
    report = batch.read(out)
    for row in report.renders if report else ():
        if row.status == "failed":
            failures.setdefault(row.song, {})[row.label] = row.error or ""
    return failures
