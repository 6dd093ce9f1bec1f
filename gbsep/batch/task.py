"""One render of a batch, in a form that can be sent to another process or machine, and its outcome."""

from __future__ import annotations

import shutil
import traceback
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path

from .. import rendering
from ..errors import unexpected
from ..preset.model import Preset
from ..rendering import Options, Outcome, Plan, Progress, Separations
from ..shelf import remote


@dataclass(frozen=True)
class Task:
    """One render. `destination` is the URL below which it goes, in place of `options.out`."""

    source: Path | str
    preset: Preset
    options: Options
    track: str
    destination: str | None = None

    @property
    def url(self) -> str | None:
        """Where the render goes, if not on this machine."""
        return (
            self.destination
            and f"{self.destination.rstrip('/')}/{self.track}/{rendering.folder_name(self.preset, self.options)}"
        )

    def plan(self) -> Plan:
        """Download a remote input, and plan. Raises GbsepError; in a dry run NotFetched for an input without a copy."""
        source = remote.fetch(self.source, download=not self.options.dry_run)
        if not self.url:
            return rendering.plan(source, self.preset, self.options, self.track, self.source)
        folder = self.options.out / self.track / rendering.folder_name(self.preset, self.options)
        try:
            remote.mirror(self.url, folder, look_only=self.options.dry_run)
            return rendering.plan(source, self.preset, self.options, self.track, self.source)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def run(self, plan: Plan, progress: Progress, shared: Separations) -> Outcome:
        """Carry out the plan, and upload the render if its destination is remote. Raises GbsepError."""
        if not self.url:
            return rendering.run(plan, progress, shared)
        try:
            outcome = rendering.run(plan, progress, shared)
            if outcome.status == "ok":
                remote.upload(plan.folder, self.url)
        finally:
            shutil.rmtree(plan.folder, ignore_errors=True)
        files = {name: f"{self.url}/{plan.names[name]}" for name in outcome.files}
        return replace(outcome, folder=self.url, files=files)

    def failed(self, error: Exception, where: str = "") -> Outcome:
        """The outcome for `error`; the path of a stand-in is replaced by the URL that it stands for."""
        reason = in_place(where, unexpected(error))
        if self.destination:
            reason = reason.replace(str(self.options.out), self.destination.rstrip("/"))
        label = rendering.folder_name(self.preset, self.options)
        return Outcome(self.source, label, "failed", self.track, error=reason, traceback=traceback_of(error))


@dataclass(frozen=True)
class Event:
    """Something that happens to a render.

    `kind` is "started", "progress" (with stage and fraction), "retried" (with the reason as message) or "finished"
    (with the outcome).
    """

    kind: str
    plan: Plan
    stage: str = ""
    fraction: float = 0.0
    outcome: Outcome | None = None
    message: str = ""


Results = Generator[tuple[Plan, Outcome], None, None]


def in_place(where: str, reason: str) -> str:
    """The reason, after the row of the manifest that it is about, if any."""
    return f"{where}: {reason}" if where and not reason.startswith(where) else reason


def traceback_of(error: Exception) -> str:
    return "".join(traceback.format_exception(error))


def task_of(plan: Plan, destination: str | None) -> Task:
    return Task(plan.source, plan.preset, plan.options, plan.track, destination)


def perform(task: Task, progress: Progress, shared: Separations) -> Outcome:
    """Plan and render; any exception becomes a failed outcome.

    The batch was planned before, to refuse bad input before anything runs. A worker plans again: threads, device and
    library versions of the process that renders are part of the separation's identity, and so of the record; and a
    plan holds readers, which cannot be sent.
    """
    try:
        return task.run(task.plan(), progress, shared)
    except Exception as error:
        return task.failed(error)
