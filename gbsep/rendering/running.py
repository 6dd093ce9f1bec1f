"""A render, start to finish: plan -> Separated -> Restored -> Written -> record.

`plan` (planning.py) touches nothing. `run` does the work, block by block: what separators give is spooled, so memory
does not grow with the recording, and the spools and half-written files lie in a staging folder that becomes the result
in one step.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ..arguments import checked
from ..errors import OutputError, ParameterError, nearest
from ..measure import levels
from ..preset.load import load_preset
from ..preset.model import Preset
from ..shelf import folder as shelf
from ..shelf import record
from ..shelf.record import FindingRow, Stem
from ..stemnames import RESIDUAL
from .document import Work, document
from .options import Options, Progress, Separations, silent
from .planning import Plan, plan
from .process import Signal, diagnosing, listening, write
from .remarks import SILENT_RESIDUAL_DBFS, notes, told_of
from .restore import Restored, restore
from .separate import loading_meters, separate


@dataclass(frozen=True)
class Outcome:
    """What became of one input: status "ok", "skipped" or "failed", and the files by stem name.

    `reason` says why it was rendered again, or not: "unchanged", "preset changed". `findings` are those of the
    diagnosis, and `notes` what is so and no fault. `from_cache`: it was not separated
    again. `input`, `folder` and `files` are URLs where a batch reads or writes those. `error` is for the user, and
    `traceback` for whoever mends it.
    """

    input: Path | str
    preset: str
    status: str
    track: str = ""
    reason: str = ""
    from_cache: bool = False
    folder: Path | str | None = None
    files: Mapping[str, Path | str] = field(default_factory=dict)
    levels: Mapping[str, Stem] = field(default_factory=dict)
    findings: tuple[FindingRow, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    error: str | None = None
    traceback: str = field(default="", repr=False)

    def as_json(self) -> dict[str, Any]:
        """The same as one JSON object."""
        return {
            "input": str(self.input),
            "preset": self.preset,
            "status": self.status,
            "folder": None if self.folder is None else str(self.folder),
            "track": self.track,
            "reason": self.reason,
            "from_cache": self.from_cache,
            "files": {name: str(path) for name, path in self.files.items()},
            "levels": {name: stem.model_dump(mode="json", by_alias=True) for name, stem in self.levels.items()},
            "findings": [finding.model_dump(mode="json") for finding in self.findings],
            "seconds": dict(self.seconds),
            "warnings": list(self.warnings),
            "notes": list(self.notes),
            "error": self.error,
        }


@checked
def render(
    path: str | Path,
    preset: str | Path | Mapping[str, Any] | Preset = "default",
    out: str | Path = "gbsep-out",
    *,
    progress: Progress = silent,
    **options: Any,
) -> Outcome:
    """Separate and process one recording; see Options for the keywords.

    Raises GbsepError (a subclass that says what is wrong) and leaves no partial file.

    >>> render("song.wav", "exp002", "stems").files["bass"]  # doctest: +SKIP
    PosixPath('stems/song/exp002/bass.wav')
    """
    unknown = set(options) - set(Options.__dataclass_fields__)
    if unknown:
        raise ParameterError("option", min(unknown), f"unknown{nearest(min(unknown), Options.__dataclass_fields__)}")
    loaded = preset if isinstance(preset, Preset) else load_preset(preset)
    return run(plan(Path(path), loaded, Options(Path(out), **options)), progress)


def run(plan: Plan, progress: Progress = silent, shared: Separations | None = None) -> Outcome:
    """Carry out a plan. Raises GbsepError; nothing partial is left at the destination or beside it.

    Stems of this separation are taken from `shared` if they are there, and put there if they are not.
    """
    if plan.failure is not None:
        raise plan.failure
    if plan.action == "skip":
        there = record.read(plan.folder)
        findings, notes = (there.diagnoses or (), there.notes) if there else ((), ())
        return _outcome(plan, "skipped", warnings=plan.warnings, findings=findings, notes=notes)
    try:
        with shelf.staging(plan.folder) as place, shelf.standing_in(place, plan.folder):
            work = _worked(plan, place, progress, shared)
            content = document(plan, work)
            dropped = [name for name in plan.names.values() if name not in content.own_files]
            shelf.publish(place, plan.folder, content, plan.options.overwrite, dropped)
    except OSError as error:
        reason = f"cannot be written: {error.strerror or error}; free some space, or choose another with --out"
        raise OutputError(plan.folder, reason) from None
    return _outcome(
        plan,
        "ok",
        from_cache=work.separated.from_cache,
        levels=content.stems,
        findings=content.diagnoses or (),
        seconds=work.seconds,
        warnings=work.warnings,
        notes=content.notes,
        names={name: file for name, file in plan.names.items() if file in content.own_files},
    )


def _worked(plan: Plan, place: Path, progress: Progress, shared: Separations | None) -> Work:
    """All stages, one after the other; the files lie in the folder `place`."""
    seconds: dict[str, float] = {}
    null_test = levels.NullTest()
    with ExitStack() as spools:
        with _timed("separate", seconds):
            reading = loading_meters(partial(progress, "separate"))
            separated = separate(plan.separation, plan.reader, place, spools, reading, shared)
        with _timed("restore", seconds):
            restored = restore(plan.preset.stems, separated, plan.targets_lufs, plan.swaps)
        signals = _signals(plan, restored, null_test)
        sidechains = restored.signals
        mixture, gains_db = restored.mixture, restored.gains_db
        with (
            _timed("process", seconds),
            listening(mixture) as noises_per_s,
            diagnosing(mixture, sidechains, gains_db) as diagnosis,
        ):
            written = write(plan.target, signals, sidechains, place, partial(progress, "process"))
            found, noises = diagnosis.result(), noises_per_s.result()
    findings = tuple(finding for finding in found if finding.stem in (*plan.names, RESIDUAL))
    if is_silent := written.signals[RESIDUAL].after.peak_dbfs < SILENT_RESIDUAL_DBFS and RESIDUAL in plan.names:
        (place / plan.names[RESIDUAL]).unlink()
    told = told_of(plan.preset, separated.told, plan.swaps)
    said = (*notes(plan.preset, is_silent, noises, plan.reader.sample_rate), *map(str, told))
    of_stems = {name: words for one in told for name, words in one.stems.items()}
    return Work(separated, restored, written, null_test.peak_dbfs, findings, seconds, plan.warnings, said, of_stems)


def _signals(plan: Plan, restored: Restored, null_test: levels.NullTest) -> list[Signal]:
    """What goes through chains and into files: the stems, the dry ones where they are asked for, the residual."""
    tracks = [(name, track) for name, track in restored.tracks.items() if name in plan.names]
    stems = [Signal(name, track.restored, track.gain_db, plan.preset.chains[name]) for name, track in tracks]
    dry = [Signal(f"{name}.dry", track.restored, track.gain_db) for name, track in tracks]
    residual = Signal(RESIDUAL, restored.residual(null_test))
    return [*stems, *(dry if plan.options.dry_stems else ()), residual]


def _outcome(plan: Plan, status: str, names: Mapping[str, str] | None = None, **facts: Any) -> Outcome:
    files = {name: plan.folder / file for name, file in (names or plan.names).items()}
    return Outcome(
        plan.source,
        plan.label,
        status,
        track=plan.track,
        reason=plan.reason,
        folder=plan.folder,
        files=files,
        **facts,
    )


@contextmanager
def _timed(stage: str, seconds: dict[str, float]) -> Iterator[None]:
    begun = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - begun
