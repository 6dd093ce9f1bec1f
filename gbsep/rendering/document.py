"""What a render says of itself in render.json: how the files came about, and how to make them again."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..measure import levels
from ..measure.diagnose import Finding
from ..separation.backend import SEPARATION_VERSION
from ..separation.compute import versions
from ..shelf import folder as shelf
from ..shelf import record
from ..version import __version__
from .options import output_format
from .planning import RENDERING_VERSION, Plan
from .process import Processed, Written
from .remarks import SILENT_RESIDUAL
from .restore import Restored
from .separate import Separated

PACKAGES = ("numpy", "scipy", "soundfile", "soxr", "pedalboard", "pyloudnorm", "onnxruntime", "torch", "demucs")
"""Those whose version may change a render, recorded in render.json."""


@dataclass(frozen=True)
class Work:
    """What the stages of a render gave: the peak of the null test, the findings, the seconds that each took; and what
    the separator `told` of stems."""

    separated: Separated
    restored: Restored
    written: Written
    null_peak_dbfs: float
    findings: tuple[Finding, ...]
    seconds: Mapping[str, float]
    expected: tuple[str, ...]
    notes: tuple[str, ...] = ()
    told: Mapping[str, str] = field(default_factory=dict)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Those of the plan and of all stages, in their order."""
        return (*self.expected, *self.separated.warnings, *self.restored.warnings, *self.written.warnings)


def document(plan: Plan, work: Work) -> record.Content:
    """The content of render.json."""
    preset, options, written = plan.preset, plan.options, work.written
    return record.Content(
        schema_version=record.SCHEMA_VERSION,
        gbsep=record.Versions(version=__version__, rendering=RENDERING_VERSION, separation=SEPARATION_VERSION),
        recording=_recording(plan),
        excerpt=record.Excerpt(start_s=options.start_s, duration_s=options.duration_s, frames=plan.reader.frames),
        preset=record.PresetRow.model_validate(preset.document),
        overrides=dict(preset.overrides),
        review=record.ReviewRow(swap=plan.swaps),
        separation=_separation(plan, work.separated),
        stems={name: _stem(plan, name, work) for name in preset.stems if name in plan.names},
        residual=record.Residual(
            file=None if SILENT_RESIDUAL in work.notes else plan.names.get("residual"),
            **written.signals["residual"].after.as_json(),
        ),
        null_test=record.NullTest(peak_dbfs=levels.as_json(work.null_peak_dbfs), lossy=output_format(preset).is_lossy),
        diagnoses=tuple(record.FindingRow(**finding.as_json()) for finding in work.findings),
        shared_gain_db=written.shared_gain_db,
        warnings=work.warnings,
        notes=work.notes,
        seconds={name: round(value, 3) for name, value in work.seconds.items()},
        machine=record.Machine(system=platform.platform(), processors=os.cpu_count()),
        versions={"python": platform.python_version(), **versions(*PACKAGES)},
        fingerprint=dict(plan.fingerprint),
    )


def _recording(plan: Plan) -> record.Recording:
    info = plan.info
    return record.Recording(
        path=shelf.address(plan.source),
        sha256=plan.separation.input_sha256,
        container=info.container,
        subtype=info.subtype,
        sample_rate=info.sample_rate,
        channels=info.channels,
        frames=info.frames,
        tags=dict(info.tags),
        time_reference=info.time_reference,
    )


def _separation(plan: Plan, separated: Separated) -> record.SeparationRow:
    return record.SeparationRow(
        backend=plan.preset.backend,
        seed=plan.preset.seed,
        device=plan.options.device,
        stems=plan.preset.wanted,
        identity=dict(plan.separation.identity),
        from_cache=separated.from_cache,
        swap=None if separated.swap is None else dict(separated.swap),
    )


def _stem(plan: Plan, name: str, work: Work) -> record.Stem:
    before, after, plugins = rows(work.written.signals[name])
    return record.Stem(
        file=plan.names[name],
        dry=plan.names.get(f"{name}.dry"),
        sources=tuple(plan.preset.stems[name].sources),
        restored_gain_db=round(work.restored.tracks[name].gain_db, 4),
        before=before,
        after=after,
        plugins=plugins,
        told=work.told.get(name, ""),
    )


def rows(processed: Processed) -> tuple[record.Levels, record.Levels, tuple[record.PluginRow, ...]]:
    """The levels of a signal before and after, and its plug-ins, as a record has them."""
    before, after = (record.Levels(**level.as_json()) for level in (processed.before, processed.after))
    return before, after, tuple(record.PluginRow(**report.as_json()) for report in processed.plugins)
