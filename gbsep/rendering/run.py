"""One recording, start to finish: separate, restore the level, send through the chains, write.

A render has two halves. `plan` reads no more than headers and touches nothing: all that can be known to be wrong is
raised there. `run` does the work, block by block; what separators give is spooled, so memory does not grow with
the recording, and the spools and half-written files lie in a staging folder that becomes the result in one step.
"""

from __future__ import annotations

import importlib
import math
import os
import platform
import re
import string
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..arguments import checked
from ..audio import Block, Reader, mix, zip_blocks
from ..effects import chain
from ..effects.plugin import PluginReport
from ..errors import (
    OutputError,
    ParameterError,
    PluginError,
    PluginNotFound,
    PresetError,
    exact,
    exact_sum,
    expect,
    legible,
    nearest,
)
from ..io.formats import OutputFormat, bytes_per_sample, largest_sample, may_clip
from ..io.probe import FileInfo, shift_time_reference
from ..io.read import excerpt, open_audio, open_reader
from ..io.spool import Spool
from ..io.tags import marked
from ..io.write import check_output, open_writer
from ..measure import diagnose, levels
from ..params import Param
from ..preset.load import Loudness, MixtureFit, Peak, Preset, exchanged, load_preset, preset_names
from ..schema import is_plain_name
from ..separation import backend as separation
from ..separation.compute import find_blas, threads, versions
from ..shelf import folder as outputs
from ..shelf import record, review
from ..store import stemcache as cache
from ..store.folders import is_path, state_folder
from ..store.identity import content_hash
from ..version import __version__

PACKAGES = ("numpy", "scipy", "soundfile", "soxr", "pedalboard", "pyloudnorm", "onnxruntime", "torch", "demucs")
"""Those whose version may change a render, recorded in render.json."""

RENDERING_VERSION = 1
"""Raised whenever the same request would give other files than before."""

START_S = Param("start_s", "s", 0.0, 1e7, 0.0)
DURATION_S = replace(START_S, name="duration_s", default=None)
"""An excerpt lies within the first four months of a recording."""

MAX_NAME_BYTES = 200

RESERVED = frozenset('/\\:*?"<>|')
"""Letters that not every system takes in the name of a file, besides those that are not printed."""

Progress = Callable[[str, float], None]
"""Told the stage and how much of it is done, 0 to 1."""

Separations = MutableMapping[str, Mapping[str, Reader]]
"""Stems by `separation_key`: what renders of one separation hand on, with or without the cache."""


def _silent(stage: str, fraction: float) -> None:
    pass


@dataclass(frozen=True)
class Options:
    """How to render, beside the preset.

    Files land in out/<track>/<preset>/, those of an excerpt in out/<track>/<preset>@5s-10s/. `name` is a template for
    their names, of {track}, {preset} and {stem}.
    `start_s` and `duration_s` cut an excerpt. `models` is a folder searched first for weights; `device` is auto, cpu,
    cuda or mps; `download` lets missing weights be fetched. `allow_plugin_paths` lets presets name plug-in files, which
    is native code of the preset's choice. With `dry_run` it is only planned, and nothing on the disk is touched.
    """

    out: Path = Path("gbsep-out")
    overwrite: bool = False
    dry_stems: bool = False
    start_s: float = 0.0
    duration_s: float | None = None
    name: str = "{stem}"
    device: str = "auto"
    models: Path | None = None
    use_cache: bool = True
    download: bool = True
    allow_plugin_paths: bool = False
    dry_run: bool = False

    def __post_init__(self) -> None:
        expect("out", self.out, str, Path)
        object.__setattr__(self, "out", Path(self.out))
        if not is_path(self.out):
            raise ParameterError("out", str(self.out), "the path of a folder, without a null byte")
        for switch in ("overwrite", "dry_stems", "use_cache", "download", "allow_plugin_paths", "dry_run"):
            expect(switch, getattr(self, switch), bool)
        object.__setattr__(self, "start_s", START_S.check(self.start_s))
        if self.duration_s is not None:
            object.__setattr__(self, "duration_s", DURATION_S.check(self.duration_s))
        expect("name", self.name, str)
        expect("device", self.device, str)
        expect("models", self.models, str, Path, type(None))
        object.__setattr__(self, "models", self.models and Path(self.models))


def folder_name(preset: Preset, options: Options) -> str:
    """The name of a render beside the others of its song, by which reviews and reports know it: that of its folder.

    >>> from ..preset.load import load_preset
    >>> folder_name(load_preset("exp002"), Options(start_s=5.0, duration_s=0.1))
    'exp002@5s-5.1s'
    """
    start_s, duration_s = options.start_s, options.duration_s
    if not start_s and duration_s is None:
        return preset.folder
    end = "end" if duration_s is None else f"{exact_sum(start_s, duration_s)}s"
    return f"{preset.folder}@{exact(start_s)}s-{end}"


@dataclass(frozen=True)
class Plan:
    """A render that can be done: everything was checked that can be without doing it.

    `swaps` are stems that the song's review exchanges.
    `source` is where the recording came from: `input` itself, or a URL of which that is a copy.
    `action` is "render" or "skip" (the very same render is there already); `reason` says why. `failure` is a plug-in
    that is there and does not work: it ends this render before it begins, and no other. On the disk the files will take
    `output_bytes`, and while it works another `scratch_bytes`.
    """

    input: Path
    source: Path | str
    track: str
    info: FileInfo
    input_hash: str
    reader: Reader
    preset: Preset
    options: Options
    identity: Mapping[str, Any]
    targets_lufs: Mapping[str, float]
    folder: Path
    names: Mapping[str, str]
    swaps: tuple[tuple[str, str], ...]
    fingerprint: Mapping[str, str]
    action: str
    reason: str
    warnings: tuple[str, ...]
    output_bytes: int
    scratch_bytes: int
    failure: PluginError | None = None

    @property
    def start_frame(self) -> int:
        """Where the excerpt begins in the file."""
        return excerpt(self.info, self.options.start_s, self.options.duration_s)[0]

    @property
    def output(self) -> OutputFormat:
        return output_format(self.preset)

    @property
    def label(self) -> str:
        """What tells the render from the others of its song; see `folder_name`."""
        return folder_name(self.preset, self.options)


@dataclass(frozen=True)
class Outcome:
    """What became of one input: status "ok", "skipped" or "failed", and the files by stem name.

    `reason` says why it was rendered again, or not: "unchanged", "preset changed". `from_cache`: it was not separated
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
    levels: Mapping[str, Any] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
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
            "levels": dict(self.levels),
            "seconds": dict(self.seconds),
            "warnings": list(self.warnings),
            "error": self.error,
        }


@checked
def render(
    path: str | Path,
    preset: str | Path | Mapping[str, Any] | Preset = "default",
    out: str | Path = "gbsep-out",
    *,
    progress: Progress = _silent,
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


@checked
def plan(
    path: Path, preset: Preset, options: Options, track: str | None = None, source: Path | str | None = None
) -> Plan:
    """Check everything that can be checked without rendering, and look at what is there already.

    `track` is the file's name without another word, `source` the file itself; see Plan.
    Dry stems that a render at the destination has are kept, whether they are asked for or not: a DAW project may refer
    to them.
    Raises GbsepError. What a killed render left at the destination is put in place or swept.
    """
    info, reader = open_audio(path, options.start_s, options.duration_s)
    track, source = _checked_track(track or track_names([path])[path]), source or path
    try:
        preset.settings.check(reader.sample_rate)
    except ParameterError as error:
        raise ParameterError(f"separate.{error.name}", error.value, error.allowed, error.unit) from None
    warnings, failure = _check_chains(preset.name, preset.chains, reader.sample_rate, preset.stems, options)
    warnings = [*info.warnings, *warnings]
    output = output_format(preset)
    check_output(output, reader.sample_rate, reader.channels)
    if info.time_reference is not None and output.container != "wav":
        warnings.append(f"{output.container} has no place for the time reference of the recording")
    context = separation.Context(
        preset.wanted,
        preset.seed,
        options.device,
        options.models,
        warn=warnings.append,
        download=options.download,
    )
    identity = separation.backend_named(preset.backend).load().identity(preset.settings, context)

    targets_lufs = _loudness_targets(preset)
    label = folder_name(preset, options)
    folder = _inside(options.out, track, label)
    with _usable(folder):
        if not options.dry_run:
            outputs.recover(folder)
        options = replace(options, dry_stems=options.dry_stems or _has_dry_stems(folder))
    names = _file_names(preset, options, track)
    called = Path(track).name
    if legible(path.name) != path.name:
        warnings.append(f"the name of the file is not in UTF-8; in names that gbsep makes it is {called}")
    if "{track}" in options.name and portable(called) != called:
        warnings.append(f"not every system takes {called!r} in the name of a file: the files say {portable(called)!r}")
    swaps = review.load(folder.parent).swaps(label)
    for stem in sorted({name for pair in swaps for name in pair} - set(preset.stems)):
        warnings.append(f"the review swaps {stem!r}, which {label} does not have{nearest(stem, preset.stems)}")
    swaps = tuple(pair for pair in swaps if set(pair) <= set(preset.stems))
    remember = options.use_cache and not options.dry_run
    input_hash = cache.remembered_hash(cache.locate(), path) if remember else content_hash(path)
    fingerprint = outputs.fingerprint(
        {
            "input": [input_hash, options.start_s, options.duration_s],
            "preset": preset.document,
            "file names": _file_names(preset, replace(options, dry_stems=False), track),
            "loudness targets": targets_lufs,
            "review": swaps,
            # Another number of threads changes the last bits: no reason to render a finished batch again.
            "backend": {name: value for name, value in identity.items() if name != "threads"},
            "files": {str(file): content_hash(file) for file in chain.chain_files(preset.chains.values())},
            "version": [__version__, RENDERING_VERSION, separation.SEPARATION_VERSION],
        }
    )
    with _usable(folder):
        existing = outputs.inspect(folder, fingerprint, names.values(), output)
        other = outputs.other_recording(folder, source, input_hash) if existing.state == "stale" else None
        if (existing.state == "foreign" or other) and not options.overwrite:
            reason = f"holds the render of another recording, {other}" if other else existing.reason
            raise OutputError(folder, f"{reason}; give --overwrite to replace it, or another --out")
        existing = _unless_bypassed(existing, folder)
        if options.overwrite:
            gone = outputs.superseded(folder, names.values())
            for project, told in outputs.referring(folder, gone, options.out).items():
                warnings.append(f"{', '.join(told)} will be deleted, to which {project} refers: write it again")
        skip = existing.state == "same" and not options.overwrite
        samples = reader.frames * reader.channels
        spooled = 1 + len(preset.wanted) + (len(names) if may_clip(output) else 0)
        spooled += sum(map(chain.spooled_signals, preset.chains.values()))
        output_bytes, scratch_bytes = samples * bytes_per_sample(output) * len(names), 4 * samples * spooled
        if not skip:
            outputs.check_place(folder, output_bytes + scratch_bytes)
    return Plan(
        input=path,
        source=source,
        track=track,
        info=info,
        input_hash=input_hash,
        reader=reader,
        preset=preset,
        options=options,
        identity=identity,
        targets_lufs=targets_lufs,
        folder=folder,
        names=names,
        swaps=swaps,
        fingerprint=fingerprint,
        action="skip" if skip else "render",
        reason=existing.reason,
        warnings=tuple(warnings),
        output_bytes=output_bytes,
        scratch_bytes=scratch_bytes,
        failure=failure,
    )


@contextmanager
def _usable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(folder, f"cannot be used: {error.strerror}; choose another with --out") from None


def _inside(out: Path, track: str, label: str) -> Path:
    """The folder of a render. Raises ParameterError for a track whose name leads out of `out`."""
    parts = Path(track).parts
    if not parts or not all(map(is_plain_name, parts)):
        raise ParameterError("track", track, "a name of plain parts, which lie below --out")
    return out.joinpath(*parts, label)


def _has_dry_stems(folder: Path) -> bool:
    found = record.read(folder)
    return found is not None and any(stem.dry for stem in found.stems.values())


def _unless_bypassed(existing: outputs.Existing, folder: Path) -> outputs.Existing:
    """A render in which a plug-in had to be bypassed is not what was asked for: it is done again."""
    found = record.read(folder) if existing.state == "same" else None
    for stem in found.stems.values() if found else ():
        for row in stem.plugins:
            if row.bypassed is not None:
                return outputs.Existing("stale", f"{row.name} was bypassed")
    return existing


@contextmanager
def _naming(place: str) -> Iterator[None]:
    """Say of which preset, and where in it, a plug-in is that fails, or a parameter that is wrong."""
    try:
        yield
    except ParameterError as error:
        raise ParameterError(f"{place}{error.name}", error.value, error.allowed, error.unit) from None
    except PresetError as error:
        raise PresetError(error.path or place.removesuffix(": "), error.json_path, error.reason) from None
    except PluginError as error:
        raise type(error)(f"{place}{error}") from None


def _check_chains(
    preset: str,
    chains: Mapping[str, tuple[chain.Node, ...]],
    sample_rate: int,
    sidechains: Iterable[str],
    options: Options,
) -> tuple[list[str], PluginError | None]:
    """Warnings, and what a plug-in that is there and does not work will fail with."""
    warnings: list[str] = []
    failure = None
    for name, nodes in chains.items():
        try:
            with _naming(f"{preset}: "):
                told = chain.check_chain(
                    nodes, sample_rate, sidechains, f"stems.{name}.chain", allow_plugin_paths=options.allow_plugin_paths
                )
        except PluginNotFound:
            raise
        except PluginError as error:
            failure, told = error, [str(error)]
        warnings += told
    return warnings, failure


def run(plan: Plan, progress: Progress = _silent, shared: Separations | None = None) -> Outcome:
    """Carry out a plan. Raises GbsepError; nothing partial is left at the destination or beside it.

    Stems of this separation are taken from `shared` if they are there, and put there if they are not.
    """
    if plan.failure is not None:
        raise plan.failure
    paths = {name: plan.folder / file_name for name, file_name in plan.names.items()}
    outcome = partial(
        Outcome,
        plan.source,
        plan.label,
        track=plan.track,
        reason=plan.reason,
        folder=plan.folder,
        files=paths,
    )
    if plan.action == "skip":
        return outcome("skipped", warnings=plan.warnings)
    seconds: dict[str, float] = {}
    warnings = list(plan.warnings)
    try:
        with outputs.staging(plan.folder) as place, outputs.standing_in(place, plan.folder):
            with ExitStack() as spools:
                with _stage("separate", seconds):
                    stage = _loading_meters(partial(progress, "separate"))
                    sources, told = _separate(plan, place, spools, stage, warnings.append, shared)
                with _stage("restore", seconds):
                    tracks = _tracks(plan, sources, warnings.append)
                    null = levels.NullTest()
                    residual = Track("residual", _residual(sources["mixture"], tracks, null))
                restored = {name: track.restored for name, track in tracks.items()}
                gains_db = {name: track.gain_db for name, track in tracks.items()}
                dry = [track.unprocessed() for track in tracks.values()] if plan.options.dry_stems else []
                jobs = [*tracks.values(), *dry, residual]
                with _stage("process", seconds), _diagnosis(sources["mixture"], restored, gains_db) as diagnosis:
                    shared_db = _write(plan, jobs, restored, place, partial(progress, "process"), warnings.append)
                    findings = diagnosis.result()
            document = _record(plan, tracks, residual, shared_db, null, findings, told, warnings, seconds)
            outputs.publish(place, plan.folder, document, plan.options.overwrite)
    except OSError as error:
        reason = f"cannot be written: {error.strerror or error}; free some space, or choose another with --out"
        raise OutputError(plan.folder, reason) from None
    cached = told["from_cache"]
    return outcome("ok", from_cache=cached, levels=document["stems"], seconds=seconds, warnings=tuple(warnings))


@dataclass(frozen=True)
class ChainPlan:
    """A chain of a preset that can be applied to a file as it is, without separating; see `plan_chain`."""

    input: Path
    info: FileInfo
    reader: Reader
    preset: Preset
    stem: str
    options: Options
    path: Path
    output: OutputFormat
    sidechains: Mapping[str, Reader]
    warnings: tuple[str, ...]
    failure: PluginError | None

    @property
    def names(self) -> Mapping[str, str]:
        return {self.stem: self.path.name}

    @property
    def start_frame(self) -> int:
        return excerpt(self.info, self.options.start_s, self.options.duration_s)[0]


def plan_chain(
    path: Path,
    preset: Preset,
    stem: str,
    out: Path | None = None,
    options: Options | None = None,
    sidechains: Mapping[str, Path] | None = None,
) -> ChainPlan:
    """Check that a stem's chain can be applied to a file, such as a stem from elsewhere; nothing is restored.

    Its suffix says the format of `out`, which is `<path>.<stem>.wav` beside the file, or whatever the preset writes.
    Of the options `overwrite`, the excerpt and `allow_plugin_paths` count. `sidechains` are files by names of stems.
    Raises GbsepError.
    """
    options = options or Options()
    if stem not in preset.chains:
        raise ParameterError("stem", stem, f"preset {preset.name!r} has no such stem{nearest(stem, preset.chains)}")
    out = out or path.with_name(f"{path.stem}.{stem}{output_format(preset).suffix}")
    if out.is_dir():
        raise OutputError(out, "is a folder; name a file in it with --out")
    container = out.suffix.removeprefix(".").lower()
    same = container == preset.output.format
    output = output_format(preset) if same else OutputFormat(container)
    info, reader = open_audio(path, options.start_s, options.duration_s)
    keys = {name: open_reader(file, options.start_s, options.duration_s) for name, file in (sidechains or {}).items()}
    for name, key in keys.items():
        if key.sample_rate != reader.sample_rate:
            allowed = f"{reader.sample_rate} Hz, the sample rate of {path}"
            raise ParameterError(f"sidechain {name}", key.sample_rate, allowed, "Hz")
    nodes = preset.chains[stem]
    heard = chain.sidechains_of(nodes)
    for name in sorted(set(keys) - heard):
        allowed = f"hears no such stem{nearest(name, heard)}" if heard else "hears no other stem"
        raise ParameterError("sidechain", name, f"the chain of {stem} {allowed}")
    warnings, failure = _check_chains(preset.name, {stem: nodes}, reader.sample_rate, heard, options)
    for name in sorted(heard - set(keys)):
        raise PresetError(preset.name, f"stems.{stem}.chain", f"it hears the {name}; give --sidechain {name}=FILE")
    check_output(output, reader.sample_rate, reader.channels)
    if out.exists():
        read = {"the input": path, **{f"the side-chain {name}": file for name, file in (sidechains or {}).items()}}
        for what, file in read.items():
            if out.samefile(file):
                raise OutputError(out, f"is {what}; choose another with --out")
        if not options.overwrite:
            raise OutputError(out, "is there already; give --overwrite to replace it, or choose another with --out")
    spooled = 2 + chain.spooled_signals(nodes)
    outputs.check_place(out.parent, spooled * reader.frames * reader.channels * 4)
    warnings = [*info.warnings, *warnings]
    return ChainPlan(path, info, reader, preset, stem, options, out, output, keys, tuple(warnings), failure)


def run_chain(plan: ChainPlan, progress: Progress = _silent) -> dict[str, Any]:
    """Carry out a plan; what was done, as a JSON object. Raises GbsepError and leaves no partial file."""
    if plan.failure is not None:
        raise plan.failure
    warnings = list(plan.warnings)
    track = Track(plan.stem, plan.reader, chain=plan.preset.chains[plan.stem])
    with outputs.replacing(plan.path) as file:
        shared_db = _write(plan, [track], plan.sidechains, file.parent, partial(progress, "process"), warnings.append)
    return {
        "input": str(plan.input),
        "file": str(plan.path),
        "before": track.before.as_json(),
        "after": track.after.raised(shared_db).as_json(),
        "plugins": [report.as_json() for report in track.plugins.values()],
        "warnings": warnings,
    }


@dataclass
class Track:
    """One file of the render on its way: what was separated, the gain that restores it, the chain it goes through."""

    name: str
    separated: Reader
    gain_db: float = 0.0
    chain: tuple[chain.Node, ...] = ()
    before: levels.Levels = levels.SILENCE
    after: levels.Levels = levels.SILENCE
    plugins: dict[str, PluginReport] = field(default_factory=dict)

    @property
    def restored(self) -> Reader:
        return mix([(levels.to_amplitude(self.gain_db), self.separated)])

    def unprocessed(self) -> Track:
        return Track(f"{self.name}.dry", self.separated, self.gain_db)


def _loading_meters(progress: Callable[[float], None]) -> Callable[[float], None]:
    """`progress`, which at its first call begins to load what takes a second and is needed once there are stems.

    By then separators are at work outside Python; while they read the song it would hold them up.
    """
    loading = threading.Thread(target=importlib.import_module, args=("scipy.signal",))

    def told(fraction: float) -> None:
        if loading.ident is None:
            find_blas()
            loading.start()
        progress(fraction)

    return told


def _separate(
    plan: Plan,
    place: Path,
    spools: ExitStack,
    progress: Callable[[float], None],
    warn: Callable[[str], None],
    shared: Separations | None,
) -> tuple[dict[str, Reader], dict[str, Any]]:
    """The mixture and what the separator makes of it, under the names that hold after `swap`; and how it came about."""
    preset, options, rate, channels = plan.preset, plan.options, plan.reader.sample_rate, plan.reader.channels
    spool = spools.enter_context(Spool(["mixture"], rate, channels, place))
    for block in plan.reader.blocks():
        spool.write({"mixture": block})
    mixture = spool.reader("mixture")

    def separated() -> Iterator[dict[str, Block]]:
        context = separation.Context(
            preset.wanted, preset.seed, options.device, options.models, progress=progress, warn=warn
        )
        with _turn(plan.identity.get("device")):
            yield from separation.stem_blocks(mixture, preset.backend, preset.settings, context)

    quick = separation.backend_named(preset.backend).quick
    store = cache.locate() if options.use_cache and not quick else None
    if not preset.wanted:
        return {"mixture": mixture}, {"from_cache": False}
    key = separation_key(plan)
    shape = cache.Shape(preset.wanted, rate, channels, plan.reader.frames)
    stems = (shared or {}).get(key)
    try:
        stems = stems or (cache.get(store, key, shape) if store else None)
        told: dict[str, Any] = {"from_cache": stems is not None}
        if stems is None and store:
            stems = cache.put(store, key, separated(), shape)
    except cache.Unusable as error:
        warn(f"the stems are not kept for the next render: {error}")
        told = {"from_cache": False}
    if stems is None:
        # What is handed on must not lie in the staging folder, which goes when this render is done.
        spool = Spool(preset.wanted, rate, channels, place if shared is None else options.out)
        if shared is None:
            spools.enter_context(spool)
        for blocks in separated():
            spool.write(blocks)
        stems = {name: spool.reader(name) for name in preset.wanted}
    if shared is not None:
        shared[key] = stems

    names = {} if preset.swap == "auto" else exchanged(preset.swap)
    if preset.swap == "auto":
        verdict = diagnose.swapped(stems)
        told["swap"] = verdict.as_dict()
        if verdict.swapped:
            names = exchanged([("bass", verdict.partner)])
            warn(f"bass and {verdict.partner} were swapped back: {verdict.reason}")
        elif verdict.swapped is None:
            warn(f"whether bass and {verdict.partner} are swapped cannot be told, so they were left: {verdict.reason}")
    return {"mixture": mixture, **{names.get(name, name): stem for name, stem in stems.items()}}, told


@contextmanager
def _turn(device: str | None) -> Iterator[None]:
    """A GPU serves one separation at a time, of all that the user runs on this machine; a CPU as many as there are."""
    if device in (None, "cpu"):
        yield
        return
    import filelock

    folder = state_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder / f"{device}.lock"):
        yield


def separation_key(plan: Plan) -> str:
    """The name of the separation in the cache: renders that share it differ in what comes after it."""
    return cache.key(
        input_sha256=plan.input_hash,
        start_s=plan.options.start_s,
        duration_s=plan.options.duration_s,
        backend=plan.preset.backend,
        settings=plan.preset.settings.model_dump(),
        identity=plan.identity,
        seed=plan.preset.seed,
        separation_version=separation.SEPARATION_VERSION,
        wanted=plan.preset.wanted,
    )


def _tracks(plan: Plan, sources: Mapping[str, Reader], warn: Callable[[str], None]) -> dict[str, Track]:
    """The stems of the preset with their restored gains; a complement is what the restored others leave.

    Stems that the review swaps exchange what they are made of, at the level it was restored to.
    """
    preset = plan.preset
    tracks = {
        name: Track(name, _sum(stem.sources, sources), chain=preset.chains[name])
        for name, stem in preset.stems.items()
        if not stem.is_complement
    }
    for name, gain_db in _restored_gains(plan, sources["mixture"], tracks, warn).items():
        tracks[name].gain_db = gain_db
    known = {**sources, **{name: track.restored for name, track in tracks.items()}}
    for name, stem in preset.stems.items():
        if stem.is_complement:
            tracks[name] = Track(name, _sum(stem.sources, known), chain=preset.chains[name])
    names = exchanged(plan.swaps)
    taken = {name: tracks[names.get(name, name)] for name in preset.stems}
    return {name: replace(one, name=name, chain=preset.chains[name]) for name, one in taken.items()}


def _sum(terms: list[str], known: Mapping[str, Reader]) -> Reader:
    return mix([(-1.0 if term.startswith("-") else 1.0, known[term.removeprefix("-")]) for term in terms])


def _restored_gains(
    plan: Plan, mixture: Reader, tracks: Mapping[str, Track], warn: Callable[[str], None]
) -> dict[str, float]:
    """The gain in dB for each stem, from one pass over mixture and stems where a method asks for one."""
    methods = {name: _method(plan, name) for name in tracks}
    if all(how.method == "none" for how in methods.values()):
        return {}
    gram = levels.Gram(list(tracks))
    meters = {name: levels.Meter(mixture.sample_rate, mixture.channels) for name in tracks}
    signals = [mixture, *(track.separated for track in tracks.values())]
    for whole, *pieces in zip_blocks(*(signal.blocks() for signal in signals)):
        stems = dict(zip(tracks, pieces, strict=True))
        gram.add(whole, stems)
        for name, piece in stems.items():
            meters[name].add(piece)
    measured = {name: meter.levels() for name, meter in meters.items()}
    for name, how in methods.items():
        heard = measured[name].peak_dbfs > levels.SILENCE_DBFS
        if how.method == "loudness" and heard and not math.isfinite(measured[name].loudness_lufs):
            why = "too short" if mixture.frames < 0.4 * mixture.sample_rate else "too quiet"
            warn(
                f"stems.{name}: {why} for its loudness to be measured (BS.1770: 400 ms above -70 LUFS), so it keeps "
                "the level that it came with"
            )
    return levels.restoration_gains(methods, measured, gram)


def _method(plan: Plan, name: str) -> levels.Restore:
    restore = plan.preset.stems[name].restore
    if isinstance(restore, MixtureFit):
        return levels.Restore("mixture_fit", limit_db=restore.limit_db)
    if isinstance(restore, Loudness):
        return levels.Restore("loudness", target_lufs=plan.targets_lufs[name])
    if isinstance(restore, Peak):
        return levels.Restore("peak", target_dbfs=restore.dbfs)
    return levels.Restore()


def _loudness_targets(preset: Preset) -> dict[str, float]:
    """The loudness in LUFS that each stem restored by loudness is brought to."""
    targets = {}
    for name, stem in preset.stems.items():
        if not isinstance(stem.restore, Loudness):
            continue
        if stem.restore.lufs is not None:
            targets[name] = stem.restore.lufs
            continue
        match = Path(stem.restore.match or "")
        path = outputs.stem_file(match, name) if match.is_dir() else match
        loudness = levels.measure(open_reader(path)).loudness_lufs
        if loudness < -70:
            raise ParameterError("match", str(path), "a file loud enough to have a loudness (BS.1770: above -70 LUFS)")
        targets[name] = loudness
    return targets


def _residual(mixture: Reader, tracks: Mapping[str, Track], null: levels.NullTest) -> Reader:
    """Mixture less the restored, unprocessed stems; `null` sees how exactly all of them add up again."""

    def blocks(block_frames: int) -> Iterator[Block]:
        signals = [mixture, *(track.restored for track in tracks.values())]
        for whole, *stems in zip_blocks(*(signal.blocks(block_frames) for signal in signals)):
            left = whole.astype(np.float64)
            for stem in stems:
                left -= stem
            residual = left.astype(np.float32)
            null.add(whole, [*stems, residual])
            yield residual

    return Reader(mixture.sample_rate, mixture.channels, mixture.frames, blocks)


@contextmanager
def _diagnosis(
    mixture: Reader, stems: Mapping[str, Reader], gains_db: Mapping[str, float]
) -> Iterator[Future[tuple[diagnose.Finding, ...]]]:
    """What is wrong with unprocessed stems, found in a thread meanwhile; an error raised meanwhile ends it."""
    stop = threading.Event()

    def blocks(block_frames: int) -> Iterator[Block]:
        for block in mixture.blocks(block_frames):
            if stop.is_set():
                return
            yield block

    with ThreadPoolExecutor(1) as pool:
        try:
            yield pool.submit(diagnose.diagnose, replace(mixture, open_blocks=blocks), stems, gains_db)
        except BaseException:
            stop.set()
            raise


def _write(
    plan: Plan | ChainPlan,
    tracks: list[Track],
    sidechains: Mapping[str, Reader],
    place: Path,
    progress: Callable[[float], None],
    warn: Callable[[str], None],
) -> float:
    """Send every track through its chain, in threads, and write those that have a file; the gain in dB they all share.

    A format that can clip is written in a second step, when all peaks are known.
    """
    output = plan.output
    rate, channels = plan.reader.sample_rate, plan.reader.channels
    frames = plan.reader.frames + round(plan.preset.output.tail_s * rate)
    clips = may_clip(output)
    done = dict.fromkeys((track.name for track in tracks), 0)
    stop = threading.Event()

    def write(name: str, blocks: Iterable[Block]) -> None:
        broadcast = plan.info.broadcast and shift_time_reference(plan.info.broadcast, plan.start_frame)
        path = place / plan.names[name]
        with open_writer(path, output, rate, channels, frames, marked(plan.info.tags), broadcast) as file:
            for block in blocks:
                file.write(block)

    def watched(track: Track) -> Iterator[Block]:
        for block in _sound(plan, track, sidechains, place, warn):
            if stop.is_set():
                return
            done[track.name] += block.shape[1]
            progress(sum(done.values()) / (len(done) * frames))
            yield block

    def process(track: Track) -> None:
        if track.name not in plan.names:
            deque(watched(track), maxlen=0)
        elif clips:
            for block in watched(track):
                processed[track.name].write({track.name: block})
        else:
            write(track.name, watched(track))

    def convert(name: str) -> None:
        gain = np.float32(levels.to_amplitude(shared_db))
        write(name, (block * gain for block in processed[name].reader(name).blocks()))

    with ExitStack() as spools, ThreadPoolExecutor(min(len(tracks), threads())) as pool:
        processed = {name: spools.enter_context(Spool([name], rate, channels, place)) for name in plan.names if clips}
        try:
            list(pool.map(process, tracks))
            if not clips:
                return 0.0
            peaks_dbfs = [track.after.peak_dbfs for track in tracks if track.name in plan.names]
            shared_db = levels.shared_gain(peaks_dbfs, largest_sample(output))
            if shared_db:
                warn(f"all files are {-shared_db:.2f} dB quieter, so that none clips in {output.container}")
            list(pool.map(convert, plan.names))
        except BaseException:
            stop.set()
            raise
    return shared_db


def _sound(
    plan: Plan | ChainPlan, track: Track, sidechains: Mapping[str, Reader], place: Path, warn: Callable[[str], None]
) -> Iterator[Block]:
    """The track restored and processed, its levels measured on the way in and out."""
    restored = track.restored
    rate, channels, frames = restored.sample_rate, restored.channels, restored.frames
    before, after = levels.Meter(rate, channels), levels.Meter(rate, channels)
    blocks = _metered(restored.blocks(), before)
    tail_frames = round(plan.preset.output.tail_s * rate)

    def note(report: PluginReport) -> None:
        track.plugins[report.where] = report
        if report.bypassed and (message := f"stems.{track.name}.{report.bypassed}") not in plan.warnings:
            warn(message)

    if track.chain or tail_frames:
        blocks = chain.apply_blocks(
            blocks,
            track.chain,
            rate,
            channels,
            frames,
            tail_frames,
            sidechains=sidechains,
            start_s=plan.options.start_s,
            report=note,
            folder=place,
            allow_plugin_paths=plan.options.allow_plugin_paths,
        )
        with _naming(f"{plan.preset.name}: stems.{track.name}."):
            yield from _metered(blocks, after)
    else:
        yield from blocks
        after = before
    track.before, track.after = before.levels().raised(-track.gain_db), after.levels()


def _metered(blocks: Iterable[Block], meter: levels.Meter) -> Iterator[Block]:
    for block in blocks:
        meter.add(block)
        yield block


def _record(
    plan: Plan,
    tracks: Mapping[str, Track],
    residual: Track,
    shared_db: float,
    null: levels.NullTest,
    findings: Iterable[diagnose.Finding],
    told: Mapping[str, Any],
    warnings: list[str],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """What render.json says: everything needed to know how the files came about, and to make them again."""
    info, preset, options = plan.info, plan.preset, plan.options
    return {
        "gbsep": {"version": __version__, "rendering": RENDERING_VERSION, "separation": separation.SEPARATION_VERSION},
        "input": {
            "path": outputs.address(plan.source),
            "sha256": plan.input_hash,
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
            **plan.identity,
            **told,
        },
        "stems": {
            name: {
                "file": plan.names[name],
                "dry": plan.names.get(f"{name}.dry"),
                "from": preset.stems[name].sources,
                "restored_gain_db": round(track.gain_db, 4),
                "before": track.before.as_json(),
                "after": track.after.raised(shared_db).as_json(),
                "plugins": [report.as_json() for report in track.plugins.values()],
            }
            for name, track in tracks.items()
        },
        "residual": {"file": plan.names.get("residual"), **residual.after.raised(shared_db).as_json()},
        "null_test": {"peak_dbfs": levels.as_json(null.peak_dbfs)},
        "diagnoses": [finding.as_json() for finding in findings],
        "shared_gain_db": shared_db,
        "warnings": warnings,
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "machine": {"system": platform.platform(), "processors": os.cpu_count()},
        "versions": {"python": platform.python_version(), **versions(*PACKAGES)},
        "fingerprint": dict(plan.fingerprint),
    }


def chosen_preset(
    out: Path, track: str, overrides: Iterable[tuple[str, Any]] = (), load: Callable[..., Preset] = load_preset
) -> Preset:
    """The preset that a song's review chose for it, with the overrides of that render; `default` where none is.

    `overrides` come on top; `load` is `load_preset`, or one with more arguments. A preset that has no name here is
    taken from the render. Raises OutputError when the review chose one that is neither.
    """
    name = review.load(out / track).preset or "default"
    if name in preset_names():
        return load(name, overrides)
    folder = out / track / name
    found = record.read(folder) if is_plain_name(name) else None
    if found is None:
        path = out / track / review.FILE
        raise OutputError(path, f"preset {name!r} is neither known by name nor rendered here; choose with --preset")
    base = found.preset.name
    return load(base if base in preset_names() else found.preset.document, (*found.overrides.items(), *overrides))


def output_format(preset: Preset) -> OutputFormat:
    return OutputFormat(preset.output.format, preset.output.bit_depth)


@checked
def track_names(inputs: Iterable[Path]) -> dict[Path, str]:
    """A name for each input, that of its file; inputs of one name are told apart by as many folders as it takes.

    An input that is named twice is taken once.

    >>> list(track_names([Path("a/mix.wav"), Path("b/mix.wav"), Path("b/solo.wav"), Path("b/solo.mp3")]).values())
    ['a/mix', 'b/mix', 'solo.wav', 'solo.mp3']
    """
    paths: dict[Path, Path] = {}
    for path in inputs:
        paths.setdefault(Path(os.path.realpath(path)), path)
    places = {path: Path(os.path.abspath(path)) for path in paths.values()}
    stems = Counter(map(without_suffix, places.values()))
    alike = {place for place in places.values() if stems[without_suffix(place)] > 1}
    parts = {}
    for path, place in places.items():
        stem = without_suffix(place)
        parts[path] = (place if place in alike or stem in alike else stem).parts
    names = dict.fromkeys(parts, "")
    pending, depth = set(parts), 1
    while pending:
        ends = Counter(own[-depth:] for own in parts.values())
        known = {path for path in pending if ends[parts[path][-depth:]] == 1 or depth >= len(parts[path])}
        names |= {path: "/".join(map(_in_utf8, parts[path][-depth:])) for path in known}
        pending, depth = pending - known, depth + 1
    return {path: plain_track(name) for path, name in names.items()}


def plain_track(name: str) -> str:
    """The name of a track without parts that lead elsewhere, such as what is left of `...wav` without its suffix.

    >>> plain_track("album/..")
    'album/__'
    """
    return "/".join("_" * len(part) if set(part) == {"."} else part for part in name.split("/"))


def without_suffix(path: Path) -> Path:
    """A path as tracks are named by; a name that would be none without its suffix, such as `...wav`, keeps it."""
    return path if path.stem in ("", ".", "..") else path.with_name(path.stem)


def portable(name: str) -> str:
    """A name as every system takes it in the name of a file.

    >>> portable("What's Up?")
    "What's Up_"
    """
    safe = "".join("_" if letter in RESERVED or not letter.isprintable() else letter for letter in name)
    return f"_{safe[1:]}" if safe.startswith(".") else safe


def _in_utf8(name: str) -> str:
    """The name of a file as that of a folder; bytes that are no UTF-8 become `%E9`, as in a URL."""
    return re.sub("[\udc80-\udcff]", lambda byte: f"%{ord(byte[0]) - 0xDC00:02X}", name)


def _checked_track(track: str) -> str:
    """The name of a track, if it lies inside the output folder."""
    expect("track", track, str)
    path = Path(track)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in track:
        raise ParameterError("track", track, "the name of a folder in the output folder")
    return track


def _file_names(preset: Preset, options: Options, track: str) -> dict[str, str]:
    """The file name of every track that is written, by the template."""
    words = {"track": portable(Path(track).name), "preset": preset.name, "stem": ""}
    template = "a template such as '{track} - {stem}'"
    too_long = f"a template that makes names of at most {MAX_NAME_BYTES} bytes"
    if len(options.name) > MAX_NAME_BYTES:
        raise ParameterError("name", f"{options.name[:20]}...", too_long)
    try:
        parsed = list(string.Formatter().parse(options.name))
    except ValueError as error:
        raise ParameterError("name", options.name, f"{template} ({error})") from None
    if any(form or conversion for _, _, form, conversion in parsed):
        raise ParameterError("name", options.name, f"{template}, without ':' or '!' in braces")
    fields = {name for _, name, _, _ in parsed if name is not None}
    for unknown in fields - set(words):
        raise ParameterError("name", options.name, f"no field {{{unknown}}}{nearest(unknown, words)}")
    if "stem" not in fields:
        raise ParameterError("name", options.name, "{stem} must be in it, or all files would have one name")
    tracks = [*preset.stems, *([f"{name}.dry" for name in preset.stems] if options.dry_stems else [])]
    tracks += ["residual"] if preset.output.residual else []
    suffix = output_format(preset).suffix
    names = {name: options.name.format(**{**words, "stem": name}) + suffix for name in tracks}
    for name in names.values():
        if name != portable(name):
            raise ParameterError("name", options.name, f"{name!r} cannot be the name of a file everywhere")
        if len(name.encode()) > MAX_NAME_BYTES:
            raise ParameterError("name", options.name, too_long)
    return names


@contextmanager
def _stage(name: str, seconds: dict[str, float]) -> Iterator[None]:
    begun = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - begun
