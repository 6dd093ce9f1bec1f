"""The duration of a batch, estimated from earlier renders on this machine.

The real-time factor (seconds of work per second of audio) of each separation (backend, settings, threads), and of the
rest of a render (by preset), is remembered. Unknown ones come from the backend's row and EFFECTS_REAL_TIME_FACTOR.
"""

from __future__ import annotations

import contextlib
import heapq
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, RootModel

from ..atomic import write_whole
from ..errors import FolderUnknown, SmallFileError
from ..rendering import Outcome, Plan
from ..schema import validated
from ..separation.backend import backend_named
from ..store import smallfiles
from ..store.folders import state_folder
from .planning import Batch, separations

EFFECTS_REAL_TIME_FACTOR = 0.006
"""Real-time factor of levels, chains and files of one preset, for a first guess."""

Speeds = RootModel[dict[str, Annotated[float, Field(ge=0, le=1e6)]]]
"""Real-time factors by separation and preset."""

NEWEST_WEIGHT = 0.5
MAX_ENTRIES = 500

LEAST_AUDIO_S = 10.0
"""What a shorter recording counts as: to load a network takes as long for a second of sound as for a song."""


def estimate(batch: Batch) -> tuple[float, bool]:
    """Seconds that the batch will take, and whether all of it is known from earlier renders."""
    each, learned = _costs(batch)
    free_at = [0.0] * batch.jobs
    for plans in separations(plan for plan in batch.plans if plan.action == "render"):
        heapq.heapreplace(free_at, free_at[0] + sum(each[plan.folder] for plan in plans))
    return max(free_at), learned


def costs(batch: Batch) -> Mapping[Path, float]:
    """Seconds of work that each render of a batch will take, by its folder."""
    return _costs(batch)[0]


def _costs(batch: Batch) -> tuple[dict[Path, float], bool]:
    """The same, and whether all of it is known from earlier renders. The first of a separation does it for all."""
    known = _read()
    learned = True
    found: dict[Path, float] = {}

    def seconds(key: str, otherwise: float, plan: Plan) -> float:
        nonlocal learned
        learned &= key in known
        return (
            known[key] * _counted_s(plan) if key in known else otherwise * plan.reader.frames / plan.reader.sample_rate
        )

    for plans in separations(plan for plan in batch.plans if plan.action == "render"):
        first = plans[0]
        shifts = max(1, getattr(first.preset.settings, "shifts", 1))
        guess = backend_named(first.preset.backend).real_time_factor * shifts
        for plan in plans:
            found[plan.folder] = seconds(_after(plan.preset.folder), EFFECTS_REAL_TIME_FACTOR, plan)
        found[first.folder] += seconds(_separation(first, batch.threads), guess, first)
    return found, learned


def learn(batch: Batch, outcomes: Iterable[Outcome]) -> None:
    """Remember how long the renders of a batch took; nothing where the file cannot be written."""
    known = _read()
    plans = {(plan.source, plan.label): plan for plan in batch.plans}
    for outcome in outcomes:
        if outcome.status != "ok":
            continue
        plan = plans[outcome.input, outcome.preset]
        audio_s = _counted_s(plan)
        after_s = sum(outcome.seconds.values()) - outcome.seconds["separate"]
        factors = {_after(plan.preset.folder): after_s / audio_s}
        if not outcome.from_cache:
            factors[_separation(plan, batch.threads)] = outcome.seconds["separate"] / audio_s
        for key, value in factors.items():
            known[key] = value + (1 - NEWEST_WEIGHT) * (known.pop(key, value) - value)
    with contextlib.suppress(OSError, FolderUnknown):
        write_whole(_path(), json.dumps(dict(list(known.items())[-MAX_ENTRIES:])))


def _counted_s(plan: Plan) -> float:
    return max(LEAST_AUDIO_S, plan.reader.frames / plan.reader.sample_rate)


def _separation(plan: Plan, threads: int) -> str:
    return json.dumps([plan.preset.backend, plan.preset.settings.model_dump(), threads], sort_keys=True)


def _after(preset: str) -> str:
    return f"after {preset}"


def _path() -> Path:
    return state_folder() / "speeds.json"


def _read() -> dict[str, float]:
    try:
        return validated(_path(), Speeds, smallfiles.read_json(_path())).root
    except (SmallFileError, FolderUnknown):
        return {}
