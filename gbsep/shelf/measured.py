"""Diagnosis and evaluation of stems in folders.

gbsep.measure works on signals; this module finds the signals on the disk.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from ..audio import Reader, mix
from ..errors import AudioError, NotFinite, StemMissing
from ..io.read import open_reader
from ..measure.diagnose import Finding, diagnose, finding
from ..measure.evaluate import Score, evaluate
from ..stemnames import TWO_GUITARS
from .folder import is_unaltered
from .stems import StemFolder, find_stems


def diagnose_folder(folder: str | Path, mixture: str | Path | None = None) -> tuple[Finding, ...]:
    """The faults of the stems in a folder: a finished render, or stems from anywhere.

    For an unaltered render these are the findings in its render.json, which were made before the effects. Otherwise the
    files are measured, dry stems where there are any, against the mixture: the given file, or else `mixture` in the
    folder, or the recording of the render, or the sum of the stems and of `residual`, in which nothing can be missing.
    A stem with NaN or infinity gives one finding and is not measured.

    Raises OutputError for a folder without stems, AudioFileError for files that cannot be read, AudioError for
    signals of different shapes.
    """
    found = find_stems(folder, dry=True)
    recorded = found.record.diagnoses if found.record else None
    if mixture is None and recorded is not None and found.record and is_unaltered(found.path, found.record):
        return tuple(Finding(**finding.model_dump()) for finding in recorded)
    restored_db = {name: stem.restored_gain_db for name, stem in found.record.stems.items()} if found.record else {}
    names = list(found.files)
    unread: list[Finding] = []
    while names:
        stems = {name: found.open(name) for name in names}
        try:
            whole = _mixture_of(found, stems) if mixture is None else open_reader(mixture)
            _check_alike(whole, stems)
            return (*unread, *diagnose(whole, stems, restored_db))
        except NotFinite as error:
            stem = next((name for name in names if error.path in found.files[name]), None)
            if stem is None:
                raise
            names.remove(stem)
            end_s = stems[stem].frames / stems[stem].sample_rate
            unread.append(finding("non_finite", stem, "", error.time_s, end_s, error.time_s))
    return tuple(unread)


def _mixture_of(found: StemFolder, stems: Mapping[str, Reader]) -> Reader:
    whole = found.mixture()
    if whole is not None:
        return whole
    residual = found.residual()
    return mix([(1.0, reader) for reader in (*stems.values(), *([residual] if residual else []))])


def _check_alike(mixture: Reader, stems: Mapping[str, Reader]) -> None:
    for name, stem in stems.items():
        for what in ("sample_rate", "channels", "frames"):
            if getattr(stem, what) != getattr(mixture, what):
                raise AudioError(
                    f"{name} has {what} = {getattr(stem, what)}, its mixture {getattr(mixture, what)}: give the "
                    "mixture that the stems were separated from"
                )


def reference_of(references: Path, folder: Path) -> Path:
    """The folder of true stems for the render in `folder`: the one called as its song, where there is one."""
    own = references / folder.parent.name
    return own if os.path.isdir(own) else references


def evaluate_folder(estimates: str | Path, references: str | Path, dry: bool = False) -> dict[str, Score]:
    """The score of each stem in a folder that has a reference of its name in another.

    An excerpt that gbsep rendered is compared with the same part of the references. `dry` takes the stems before their
    effects, where the render has them. Raises OutputError where no stem has a reference, AudioFileError for files that
    cannot be read.
    """
    estimate = find_stems(estimates, dry, parts=True)
    truth = find_stems(references, parts=estimate.has_parts)
    if not truth.has_parts:
        estimate = find_stems(estimates, dry)
    names = [name for name in truth.files if name in estimate.files]
    if not names:
        raise StemMissing(
            estimate.path,
            f"has {', '.join(estimate.files)}; {truth.path} has {', '.join(truth.files)}: stems are paired by name",
        )
    excerpt = estimate.excerpt
    true_stems = {name: truth.open(name, excerpt.start_s, excerpt.duration_s) for name in truth.files}
    scores = evaluate({name: estimate.open(name) for name in names}, true_stems)
    crossed = _crossed(scores)
    return {
        name: replace(score, notes=(*score.notes, *crossed.get(name, ()), *_about(estimate, name, dry)))
        for name, score in scores.items()
    }


def _crossed(scores: Mapping[str, Score]) -> dict[str, tuple[str, ...]]:
    """What is said of two guitars of which each holds more of the other than of itself."""
    bleeds = [scores[name].bleed_db if name in scores else None for name in TWO_GUITARS]
    if any(bleed is None or bleed <= 0 for bleed in bleeds):
        return {}
    one, two = TWO_GUITARS
    hint = "these two seem to be crossed; swap them in gbsep review, or rename the references"
    return {name: (f"it holds more of {other} than of {name}: {hint}",) for name, other in ((one, two), (two, one))}


def _about(estimate: StemFolder, name: str, dry: bool) -> Iterator[str]:
    if estimate.record is None:
        return
    effects = estimate.record.preset.effects(name)
    if effects and not (dry and estimate.record.stems[name].dry):
        yield (
            f"what the effects changed ({', '.join(effects)}) counts as distortion: "
            "render with --dry-stems, and evaluate with --dry, to judge the separation alone"
        )
