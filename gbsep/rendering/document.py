"""What a render says of itself in render.json: how the files came about, and how to make them again."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..measure import levels
from ..measure.diagnose import Finding
from ..separation.backend import SEPARATION_VERSION
from ..separation.compute import versions
from ..shelf import folder as shelf
from ..version import __version__
from .planning import RENDERING_VERSION, Plan
from .process import Written
from .restore import Restored
from .separate import Separated

PACKAGES = ("numpy", "scipy", "soundfile", "soxr", "pedalboard", "pyloudnorm", "onnxruntime", "torch", "demucs")
"""Those whose version may change a render, recorded in render.json."""


@dataclass(frozen=True)
class Work:
    """What the stages of a render gave: the peak of the null test, the findings, the seconds that each took."""

    separated: Separated
    restored: Restored
    written: Written
    null_peak_dbfs: float
    findings: tuple[Finding, ...]
    seconds: Mapping[str, float]
    expected: tuple[str, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """Those of the plan and of all stages, in their order."""
        return (*self.expected, *self.separated.warnings, *self.restored.warnings, *self.written.warnings)


def document(plan: Plan, work: Work) -> dict[str, Any]:
    info, preset, options = plan.info, plan.preset, plan.options
    swap = {} if work.separated.swap is None else {"swap": work.separated.swap}
    signals = work.written.signals
    return {
        "gbsep": {"version": __version__, "rendering": RENDERING_VERSION, "separation": SEPARATION_VERSION},
        "input": {
            "path": shelf.address(plan.source),
            "sha256": plan.separation.input_sha256,
            "container": info.container,
            "subtype": info.subtype,
            "sample_rate": info.sample_rate,
            "channels": info.channels,
            "frames": info.frames,
            "tags": dict(info.tags),
            "time_reference": info.time_reference,
        },
        "excerpt": {"start_s": options.start_s, "duration_s": options.duration_s, "frames": plan.reader.frames},
        "preset": preset.document,
        "overrides": dict(preset.overrides),
        "review": {"swap": plan.swaps},
        "separation": {
            "backend": preset.backend,
            "seed": preset.seed,
            "device": options.device,
            "stems": preset.wanted,
            **plan.separation.identity,
            "from_cache": work.separated.from_cache,
            **swap,
        },
        "stems": {
            name: {
                "file": plan.names[name],
                "dry": plan.names.get(f"{name}.dry"),
                "from": preset.stems[name].sources,
                "restored_gain_db": round(track.gain_db, 4),
                "before": signals[name].before.as_json(),
                "after": signals[name].after.as_json(),
                "plugins": [report.as_json() for report in signals[name].plugins],
            }
            for name, track in work.restored.tracks.items()
        },
        "residual": {"file": plan.names.get("residual"), **signals["residual"].after.as_json()},
        "null_test": {"peak_dbfs": levels.as_json(work.null_peak_dbfs)},
        "diagnoses": [finding.as_json() for finding in work.findings],
        "shared_gain_db": work.written.shared_gain_db,
        "warnings": list(work.warnings),
        "seconds": {name: round(value, 3) for name, value in work.seconds.items()},
        "machine": {"system": platform.platform(), "processors": os.cpu_count()},
        "versions": {"python": platform.python_version(), **versions(*PACKAGES)},
        "fingerprint": dict(plan.fingerprint),
    }
