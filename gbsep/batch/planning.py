"""A batch before it runs: every input probed, every preset checked, every place looked at, and nothing written."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import rendering
from ..errors import ParameterError, unexpected
from ..preset.load import load_preset
from ..preset.model import Preset
from ..rendering import Options, Outcome, Plan
from ..separation.backend import backend_named
from ..separation.compute import processors, threads
from ..shelf import folder as outputs
from ..shelf import record, remote
from ..store import stemcache as cache
from . import inputs
from .inputs import Request
from .task import Task, in_place, traceback_of

WORKER_BYTES = 3 * 2**30
"""Memory that a worker may need: a large network, or NMF with a song of some minutes."""

AnyPreset = str | Path | Mapping[str, Any] | Preset


@dataclass(frozen=True)
class Batch:
    """A batch that can be run: a plan for each render, and an outcome for each that cannot be had.

    `left_out` are files in folders and globs that are no audio, `stems` those that gbsep made. `destination` is a URL
    where the renders go. `unseen` are URLs of which a dry run has no copy: it downloads nothing. `jobs` is the number
    of worker processes, and each computes on `threads` threads; both follow from what was asked for and from the
    machine, never from what is done already, so that a batch that was cut short ends with the same bytes as one that
    was not.
    """

    plans: tuple[Plan, ...]
    refused: tuple[Outcome, ...]
    left_out: tuple[str, ...]
    stems: tuple[str, ...]
    options: Options
    destination: str | None
    jobs: int
    threads: int
    unseen: tuple[str, ...] = ()

    def in_order(self, outcomes: Iterable[Outcome]) -> list[Outcome]:
        """Outcomes in the order of the plans, then those that were refused."""
        place = {(plan.source, plan.label): number for number, plan in enumerate(self.plans)}
        return sorted(outcomes, key=lambda outcome: place.get((outcome.input, outcome.preset), len(place)))

    @property
    def alone(self) -> bool:
        """Whether all of it is one separation, which is done in this very process and on all threads."""
        return len(separations(self.plans)) < 2


def separations(plans: Iterable[Plan]) -> list[list[Plan]]:
    """The plans in groups that share a separation; in each, those come first that need most of its stems."""
    families: dict[str, list[Plan]] = {}
    for plan in plans:
        families.setdefault(plan.separation.family, []).append(plan)
    return [group for family in families.values() for group in _sharing(family)]


def _sharing(family: Iterable[Plan]) -> list[list[Plan]]:
    """Plans that differ in the stems they need, in groups whose first plan needs all that the others need."""
    groups: list[list[Plan]] = []
    for plan in sorted(family, key=lambda one: -len(one.separation.wanted)):
        wanted = set(plan.separation.wanted)
        if group := next((group for group in groups if wanted <= set(group[0].separation.wanted)), None):
            group.append(plan)
        else:
            groups.append([plan])
    return groups


def plan(
    words: Iterable[str | Path],
    presets: Sequence[AnyPreset] = (),
    options: Options | None = None,
    *,
    overrides: Sequence[tuple[str, Any]] = (),
    destination: str | None = None,
    below: Path | None = None,
    jobs: int | None = None,
    check_space: bool = True,
    **changes: Any,
) -> Batch:
    """Plan to render every input through every preset; a manifest's row may name a preset of its own.

    Without presets, each song gets the one that its review chose, or `default`.

    `words` are files, folders, globs, URLs and manifests, see `batch.inputs`. `overrides` and `changes` (seed, format,
    bit_depth) go to `load_preset`; the overrides of a manifest's row come after. Renders go to the URL `destination`,
    if there is one, in place of `options.out`. Tracks are named by their files, with as many folders as tell them
    apart, or, if a folder `below` is given, by their whole place in it; a shorter name that a song was rendered by
    before stays. `jobs` None means one for each core that has 3 GB of memory.

    What is wrong with one input is an Outcome in `refused`. What is wrong with all of them is raised: a preset that is
    not valid, a manifest that cannot be read, a disk too small for all together. Without `check_space` only those
    renders fail for which, when their time comes, there is no room.
    """
    options = options or Options()
    if destination is not None:
        remote.check_destination(destination)
        if not options.dry_run:
            remote.sweep()
        options = replace(options, out=remote.stand_in_for(destination))
    if jobs is not None and jobs < 1:
        raise ParameterError("jobs", jobs, "1 or more")
    choice = _Presets(tuple(presets), tuple(overrides), options, changes)
    requests, left_out, stems = inputs.expand(words, destination or options.out)
    refused: list[Outcome] = []
    unseen: list[str] = []
    tracks = _with_tracks(requests, options.out, below)
    plans = list(_without_collisions(list(_plan_each(tracks, choice, options, destination, refused, unseen)), refused))
    work = len(separations(plans))
    jobs = max(1, min(jobs or min(processors(), _memory_bytes() // WORKER_BYTES), work))
    if check_space and not destination:
        _check_space(plans, options, jobs)
    return Batch(
        tuple(plans),
        tuple(refused),
        tuple(left_out),
        tuple(stems),
        options,
        destination,
        jobs,
        _threads(jobs, work),
        tuple(dict.fromkeys(unseen)),
    )


class _Presets:
    """The presets of a batch: those that are asked for, each read once."""

    def __init__(
        self,
        asked: tuple[AnyPreset, ...],
        overrides: tuple[tuple[str, Any], ...],
        options: Options,
        changes: Mapping[str, Any],
    ):
        self._asked, self._overrides, self._options, self._changes = asked, overrides, options, changes
        self._loaded: dict[str, Preset] = {}
        for preset in asked or ("default",):
            self._load(preset)

    def chosen(self, request: Request, track: str) -> list[Preset]:
        """Those of a request: its own, or those of the batch, or else the one that its song's review chose."""
        if request.preset or self._asked:
            asked = [request.preset] if request.preset else self._asked
            return [self._load(preset, request.overrides) for preset in asked]
        overrides = (*self._overrides, *request.overrides)
        return [rendering.chosen_preset(self._options.out, track, overrides, self._read)]

    def _load(self, preset: AnyPreset, more: Sequence[tuple[str, Any]] = ()) -> Preset:
        if isinstance(preset, Preset):
            if more:
                raise ParameterError("overrides", more, "for presets given by name, file or document")
            return preset
        return self._read(preset, (*self._overrides, *more))

    def _read(self, preset: str | Path | Mapping[str, Any], overrides: Iterable[tuple[str, Any]]) -> Preset:
        overrides = tuple(overrides)
        key = json.dumps([str(preset), overrides], default=str)
        if key not in self._loaded:
            self._loaded[key] = load_preset(preset, overrides, models=self._options.models, **self._changes)
        return self._loaded[key]


def _with_tracks(requests: list[Request], out: Path, below: Path | None) -> Iterator[tuple[Request, str]]:
    """Each request and the name of its track; the name of one that has a problem does not matter."""
    places = [None if asked.problem else _place(asked) for asked in requests]
    good = [place for place in places if place]
    names = _names_below(below, good) if below else rendering.track_names(good)
    names = _as_before(names, out, 0 if below else None)
    tracks = {os.path.realpath(place): track for place, track in names.items()}
    return (
        (asked, tracks[os.path.realpath(place)] if place else "") for place, asked in zip(places, requests, strict=True)
    )


def _as_before(names: Mapping[Path, str], out: Path, fewer: int | None) -> dict[Path, str]:
    """The names, but those that recordings were rendered by when they had no namesake, so that none is done again.

    Such a name has no suffix, and up to `fewer` folders less.
    """
    kept, taken = dict(names), set(names.values())
    for place, name in names.items():
        if os.path.exists(out / name):
            continue
        parts = Path(name).parts
        tails = [Path(*parts[first:]) for first in range(len(parts) if fewer is None else fewer + 1)]
        shorter = dict.fromkeys(path.as_posix() for tail in tails for path in (tail, rendering.without_suffix(tail)))
        for earlier in shorter:
            if earlier not in taken and _holds_render_of(out / earlier, place):
                kept[place] = earlier
                taken.add(earlier)
                break
    return kept


def _holds_render_of(folder: Path, recording: Path) -> bool:
    with suppress(OSError):
        found = [record.read(path.parent) for path in folder.glob(f"*/{outputs.RECORD}")]
        return any(render is not None and render.recording.path == outputs.address(recording) for render in found)
    return False


def _names_below(folder: Path, places: Iterable[Path]) -> dict[Path, str]:
    """The whole place of each file in a folder; with its suffix where files beside it differ in nothing else."""
    places = list(places)
    beside = {path for above in {place.parent for place in places} for path in above.glob("*") if inputs.is_audio(path)}
    stems = Counter(map(rendering.without_suffix, beside | set(places)))
    whole = {place: rendering.without_suffix(place) for place in places}
    whole = {place: place if stems[bare] > 1 else bare for place, bare in whole.items()}
    return {place: record.plain_track(path.relative_to(folder).as_posix()) for place, path in whole.items()}


def _place(asked: Request) -> Path:
    return remote.path_of(asked.input) if remote.is_url(asked.input) else Path(asked.input)


def _plan_each(
    tracks: Iterable[tuple[Request, str]],
    choice: _Presets,
    options: Options,
    destination: str | None,
    refused: list[Outcome],
    unseen: list[str],
) -> Iterator[Plan]:
    """The plans of all requests; what cannot be had is one more outcome in `refused`, or one more URL in `unseen`."""
    for asked, track in tracks:
        try:
            for preset in choice.chosen(asked, track):
                yield from _plan_one(asked, preset, options, track, destination, refused, unseen)
        except Exception as error:
            reason, origin = in_place(asked.row, unexpected(error)), traceback_of(error)
            refused.append(Outcome(asked.input, asked.preset or "", "failed", track, error=reason, traceback=origin))
    if destination:
        shutil.rmtree(options.out, ignore_errors=True)


def _plan_one(
    asked: Request,
    preset: Preset,
    options: Options,
    track: str,
    destination: str | None,
    refused: list[Outcome],
    unseen: list[str],
) -> Iterator[Plan]:
    """The plan, or nothing and one more outcome, or one more URL of which nothing is known."""
    source: Path | str = asked.input if remote.is_url(asked.input) else Path(asked.input)
    task = Task(source, preset, options, track, destination)
    try:
        if asked.problem:
            raise asked.problem
        yield task.plan()
    except remote.NotFetched:
        unseen.append(asked.input)
    except Exception as error:
        refused.append(task.failed(error, asked.row))


def _without_collisions(plans: Iterable[Plan], refused: list[Outcome]) -> Iterator[Plan]:
    """Plans whose place is theirs alone. The same render asked for twice counts once."""
    places: dict[Path, dict[str, Plan]] = {}
    for plan in plans:
        places.setdefault(plan.folder, {}).setdefault(json.dumps(plan.fingerprint), plan)
    for folder, there in places.items():
        if len(there) == 1:
            yield from there.values()
            continue
        recordings = list(dict.fromkeys(str(plan.source) for plan in there.values()))
        advice = "give the presets names of their own"
        if len(recordings) > 1:
            advice = f"{' and '.join(recordings)} are different recordings; rename one, or give it another --out"
        reason = f"{len(there)} renders would land in {folder}: {advice}"
        refused += [Outcome(plan.source, plan.label, "failed", plan.track, error=reason) for plan in there.values()]


def _check_space(plans: Iterable[Plan], options: Options, jobs: int) -> None:
    """Raise OutputError when the disk cannot take all files, what `jobs` renders spool, and the stems that are kept."""
    todo = [plan for plan in plans if plan.action == "render"]
    needed = sum(plan.output_bytes for plan in todo)
    needed += sum(sorted((plan.scratch_bytes for plan in todo), reverse=True)[:jobs])
    store = cache.locate() if options.use_cache else None
    if store and _disk(store.folder) == _disk(options.out):
        kept = {plan.separation.key: plan for plan in todo if not backend_named(plan.preset.backend).quick}
        stems = sum(4 * plan.reader.frames * plan.reader.channels * len(plan.preset.wanted) for plan in kept.values())
        needed += max(0, min(stems, store.limit_bytes - cache.usage(store).bytes))
    if todo:
        outputs.check_place(options.out, needed)


def _disk(folder: Path) -> int:
    folder = folder.absolute()
    return next(parent for parent in (folder, *folder.parents) if os.path.exists(parent)).stat().st_dev


def _threads(jobs: int, work: int) -> int:
    """Threads for each worker: its share of the cores, and no more than OMP_NUM_THREADS asks for."""
    return threads() if work < 2 else min(threads(), max(1, processors() // jobs))


def _memory_bytes() -> int:
    """The machine's memory, or what a container leaves of it; without an end where neither can be told."""
    known = [2**63]
    with suppress(AttributeError, ValueError, OSError):
        known.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with suppress(OSError, ValueError):
        known.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(known)
