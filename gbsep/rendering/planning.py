"""The plan of a render: all that can be known to be wrong is raised here, and nothing is written.

    plan(path, preset, options) -> Plan

No more than headers are read, besides the hash of the file and recordings whose loudness is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..arguments import checked
from ..audio import Reader
from ..effects import chain as chains
from ..effects.chain import Node
from ..errors import OutputError, ParameterError, PluginError, PluginNotFound, legible, nearest
from ..io.formats import OutputFormat, bytes_per_sample, may_clip
from ..io.probe import FileInfo, shift_time_reference
from ..io.read import excerpt, open_audio, open_reader
from ..io.write import check_output
from ..measure import levels
from ..preset.load import load_preset
from ..preset.model import Loudness, Preset
from ..preset.names import preset_names
from ..schema import is_plain_name
from ..separation.backend import SEPARATION_VERSION, Context, backend_named
from ..shelf import folder as shelf
from ..shelf import projects, record, review
from ..stemnames import RESIDUAL
from ..store.hashes import remembered_hash
from ..store.identity import content_hash
from ..version import __version__
from .names import checked_track, file_names, portable, track_names
from .options import Options, folder_name, output_format
from .process import Target, naming
from .separate import Pairs, Separation

RENDERING_VERSION = 2
"""Raised whenever the same request would give other files than before."""


@dataclass(frozen=True)
class Plan:
    """A render that can be done: everything was checked that can be without doing it.

    `source` is where the recording came from: `input` itself, or a URL of which that is a copy. `swaps` are stems that
    the song's review exchanges.
    `action` is "render" or "skip" (the very same render is there already); `reason` says why. `failure` is a plug-in
    that is there and does not work: it ends this render before it begins, and no other. On the disk the files will take
    `output_bytes`, and while it works another `scratch_bytes`.
    """

    input: Path
    source: Path | str
    track: str
    info: FileInfo
    reader: Reader
    preset: Preset
    options: Options
    separation: Separation
    targets_lufs: Mapping[str, float]
    folder: Path
    names: Mapping[str, str]
    swaps: Pairs
    fingerprint: Mapping[str, str]
    action: str
    reason: str
    warnings: tuple[str, ...]
    output_bytes: int
    scratch_bytes: int
    failure: PluginError | None = None

    @property
    def label(self) -> str:
        """What tells the render from the others of its song; see `folder_name`."""
        return folder_name(self.preset, self.options)

    @property
    def target(self) -> Target:
        """The files that it writes."""
        output = output_format(self.preset)
        return target(self.preset, self.names, output, self.info, self.reader, self.options, self.warnings)


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
    track, source = checked_track(track or track_names([path])[path]), source or path
    warnings, failure = _check_signal(info, reader, preset, options)
    context = Context(preset.wanted, preset.seed, options.device, options.models, download=options.download)
    identity = backend_named(preset.backend).load().identity(preset.settings, replace(context, warn=warnings.append))
    targets_lufs = _loudness_targets(preset)
    label = folder_name(preset, options)
    folder = _inside(options.out, track, label)
    with _usable(folder):
        if not options.dry_run:
            shelf.recover(folder)
        options = replace(options, dry_stems=options.dry_stems or _has_dry_stems(folder))
    names = file_names(preset, options, track)
    warnings += _naming_warnings(path, track, options)
    swaps, unknown = _swaps(folder.parent, preset, label)
    warnings += unknown
    separation = _separation(_content_hash(path, options), preset, options, context, identity)
    fingerprint = _fingerprint(separation, preset, options, track, targets_lufs, swaps)
    output_bytes, scratch_bytes = _sizes(preset, reader, len(names))
    with _usable(folder):
        existing = _existing(folder, fingerprint, names, preset, options, (source, separation.input_sha256))
        if options.overwrite:
            warnings += _orphans(folder, names.values(), options.out)
        skip = existing.state == "same" and not options.overwrite
        names = _as_there(folder, names) if skip else names
        if not skip:
            shelf.check_place(folder, output_bytes + scratch_bytes)
    return Plan(
        input=path,
        source=source,
        track=track,
        info=info,
        reader=reader,
        preset=preset,
        options=options,
        separation=separation,
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


def target(
    preset: Preset,
    names: Mapping[str, str],
    output: OutputFormat,
    info: FileInfo,
    reader: Reader,
    options: Options,
    warnings: tuple[str, ...],
) -> Target:
    """The files called `names` that are made of `reader`, which is the excerpt of the options."""
    start_frame, _ = excerpt(info, options.start_s, options.duration_s)
    return Target(
        preset=preset.name,
        names=names,
        output=output,
        sample_rate=reader.sample_rate,
        channels=reader.channels,
        frames=reader.frames,
        tail_s=preset.output.tail_s,
        start_s=options.start_s,
        tags=info.tags,
        broadcast=shift_time_reference(info.broadcast, start_frame) if info.broadcast else info.broadcast,
        expected=warnings,
    )


def _check_signal(
    info: FileInfo, reader: Reader, preset: Preset, options: Options
) -> tuple[list[str], PluginError | None]:
    """Whether the preset can work on a recording of this shape: warnings, and a plug-in that does not work."""
    try:
        preset.settings.check(reader.sample_rate)
    except ParameterError as error:
        raise ParameterError(f"separate.{error.name}", error.value, error.allowed, error.unit) from None
    warnings, failure = check_chains(preset.name, preset.chains, reader.sample_rate, preset.stems, options)
    output = output_format(preset)
    check_output(output, reader.sample_rate, reader.channels)
    warnings = [*info.warnings, *warnings]
    if info.time_reference is not None and output.container != "wav":
        warnings.append(f"{output.container} has no place for the time reference of the recording")
    return warnings, failure


def check_chains(
    preset: str,
    nodes_of: Mapping[str, tuple[Node, ...]],
    sample_rate: int,
    sidechains: Iterable[str],
    options: Options,
) -> tuple[list[str], PluginError | None]:
    """Warnings, and what a plug-in that is there and does not work will fail with."""
    warnings: list[str] = []
    failure = None
    allowed = options.allow_plugin_paths
    for name, nodes in nodes_of.items():
        try:
            with naming(f"{preset}: "):
                warnings += chains.check_chain(nodes, sample_rate, sidechains, f"stems.{name}.chain", allowed)
        except PluginNotFound:
            raise
        except PluginError as error:
            failure = error
            warnings.append(str(error))
    return warnings, failure


def _separation(
    input_sha256: str, preset: Preset, options: Options, context: Context, identity: Mapping[str, Any]
) -> Separation:
    return Separation(
        input_sha256,
        options.start_s,
        options.duration_s,
        preset.backend,
        preset.settings,
        context,
        identity,
        preset.swap,
        options.use_cache,
        options.out,
        preset.outputs,
    )


def _content_hash(path: Path, options: Options) -> str:
    remember = options.use_cache and not options.dry_run
    return remembered_hash(path) if remember else content_hash(path)


def _fingerprint(
    separation: Separation,
    preset: Preset,
    options: Options,
    track: str,
    targets_lufs: Mapping[str, float],
    swaps: Pairs,
) -> dict[str, str]:
    """A hash for each part of what the render depends on."""
    return record.fingerprint(
        {
            "input": [separation.input_sha256, options.start_s, options.duration_s],
            "preset": preset.document,
            "file names": file_names(preset, replace(options, dry_stems=False), track),
            "loudness targets": targets_lufs,
            "review": swaps,
            # Another number of threads changes the last bits: no reason to render a finished batch again.
            "backend": {name: value for name, value in separation.identity.items() if name != "threads"},
            "files": {str(file): content_hash(file) for file in chains.chain_files(preset.chains.values())},
            "version": [__version__, RENDERING_VERSION, SEPARATION_VERSION],
        }
    )


def _naming_warnings(path: Path, track: str, options: Options) -> list[str]:
    """Warnings about names that are not as they were given."""
    warnings, called = [], Path(track).name
    if legible(path.name) != path.name:
        warnings.append(f"the name of the file is not in UTF-8; in names that gbsep makes it is {called}")
    if "{track}" in options.name and portable(called) != called:
        warnings.append(f"not every system takes {called!r} in the name of a file: the files say {portable(called)!r}")
    return warnings


def _swaps(song: Path, preset: Preset, label: str) -> tuple[Pairs, list[str]]:
    """The stems that the review in the folder of a song exchanges, and warnings about those that are not there."""
    pairs = review.load(song).swaps(label)
    unknown = sorted({name for pair in pairs for name in pair} - set(preset.stems))
    warnings = [
        f"the review swaps {stem!r}, which {label} does not have{nearest(stem, preset.stems)}" for stem in unknown
    ]
    return tuple(pair for pair in pairs if set(pair) <= set(preset.stems)), warnings


def _existing(
    folder: Path,
    fingerprint: Mapping[str, str],
    names: Mapping[str, str],
    preset: Preset,
    options: Options,
    recording: tuple[Path | str, str],
) -> shelf.Existing:
    """What lies at the destination. Raises OutputError for what may not be replaced."""
    existing = shelf.inspect(folder, fingerprint, names.values(), output_format(preset), _residual(names))
    other = shelf.other_recording(folder, *recording) if existing.state == "stale" else None
    if (existing.state == "foreign" or other) and not options.overwrite:
        reason = f"holds the render of another recording, {other}" if other else existing.reason
        raise OutputError(folder, f"{reason}; give --overwrite to replace it, or another --out")
    return _unless_bypassed(existing, folder)


def _residual(names: Mapping[str, str]) -> tuple[str, ...]:
    """The file of the residual, which a render does not have where it is silent."""
    return (names[RESIDUAL],) if RESIDUAL in names else ()


def _as_there(folder: Path, names: Mapping[str, str]) -> dict[str, str]:
    """The names of the files that the render in a folder has."""
    found = record.read(folder)
    silent = found is not None and found.residual.file is None
    return {name: file for name, file in names.items() if not (silent and name == RESIDUAL)}


def _orphans(folder: Path, names: Collection[str], out: Path) -> list[str]:
    """Warnings about files that go, and that projects of DAWs refer to."""
    gone = shelf.superseded(folder, names)
    return [
        f"{', '.join(lost)} will be deleted, to which {project} refers: write it again"
        for project, lost in projects.referring(folder, gone, out).items()
    ]


def _sizes(preset: Preset, reader: Reader, count: int) -> tuple[int, int]:
    """Bytes on the disk of `count` files, and of what is spooled while they are made."""
    output, samples = output_format(preset), reader.frames * reader.channels
    spooled = 1 + len(preset.wanted) + (count if may_clip(output) else 0)
    spooled += sum(map(chains.spooled_signals, preset.chains.values()))
    return samples * bytes_per_sample(output) * count, 4 * samples * spooled


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


def _unless_bypassed(existing: shelf.Existing, folder: Path) -> shelf.Existing:
    """A render in which a plug-in had to be bypassed is not what was asked for: it is done again."""
    found = record.read(folder) if existing.state == "same" else None
    for stem in found.stems.values() if found else ():
        for row in stem.plugins:
            if row.bypassed is not None:
                return shelf.Existing("stale", f"{row.name} was bypassed")
    return existing


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
        path = shelf.stem_file(match, name) if os.path.isdir(match) else match
        loudness = levels.measure(open_reader(path)).loudness_lufs
        if loudness < -70:
            raise ParameterError("match", str(path), "a file loud enough to have a loudness (BS.1770: above -70 LUFS)")
        targets[name] = loudness
    return targets


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
