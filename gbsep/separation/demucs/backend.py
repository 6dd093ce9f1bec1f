"""Demucs: neural separation of songs into drums, bass, other, vocals (and guitar, piano in htdemucs_6s).

The published networks run on overlapping segments, whose outputs are added under triangular weights, as
`demucs.apply.apply_model` does; but the track is streamed, and only what the wanted stems need is computed:

- A run is one pass of one network over the track, starting up to half a second before it (a shift). Its segments lie
  `stride` apart. Every segment's weights are divided beforehand by the sum of all that overlap it, and by the number
  of shifts, and multiplied by the network's share in the bag; so all segments of all runs are added into one buffer,
  in the order of their starts, and everything before the next start is finished.
- Networks of a bag whose share in every wanted stem is 0 do not run; last layers give the wanted stems only.
- The track is read twice: for the mean and the standard deviation of its mono sum, and for the segments.

Mono is fed as two equal channels and averaged back. Shifts are drawn for every network, used or not, so a stem does
not depend on which others are wanted.

References
- A. Défossez et al.: Music source separation in the waveform domain. 2019. (overlapping segments, shifts)
- see also network, openvino, segments
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from ...audio import Block, Reader
from ...errors import BackendError, BackendNotInstalled, ParameterError, SeparationFailed
from ...models.catalogue import MODELS
from ...models.find import Found
from ...models.package import load_package
from ...models.verify import check_once
from ..backend import Context
from ..compute import pick_device, threads, versions
from ..inference import GPU_BATCH_S, Forward, at_rate, torch_forward, window
from ..settings import BackendSettings
from ..weights import find, find_for
from . import export as demucs_export
from . import network as demucs_network
from . import openvino as demucs_openvino
from .segments import mean_and_std, triangle

MAX_SHIFT_S = 0.5
"""Most that a shifted run starts before the track, as in Demucs."""


class Settings(BackendSettings):
    """The settings of this backend in a preset.

    model: a published Demucs model or the name of your own.
    shifts: runs at random starts that are averaged; 0 is one run without a shift.
    overlap: overlap of one segment with the next, as a fraction of a segment.
    segment_s: length of a segment; None is the length the network was trained on (at most that for HTDemucs).
    engine: what runs the networks. auto takes OpenVINO (`pip install gbsep[fast]`) for HTDemucs on a CPU when it is
    installed, else torch.
    """

    model: str = "htdemucs"
    shifts: Annotated[int, Field(ge=0, le=100)] = 1
    overlap: Annotated[float, Field(ge=0.0, le=0.99)] = 0.25
    segment_s: Annotated[float, Field(ge=0.5, le=120.0)] | None = None
    engine: Literal["auto", "torch", "openvino"] = "auto"


def stem_names(settings: Settings, models_dir: Path | None = None) -> tuple[str, ...]:
    """A published model's stems from the table, another's from its weights (raises WeightsMissing without them)."""
    if settings.model in MODELS:
        return MODELS[settings.model].stems
    found = find(settings.model, "demucs", models_dir)
    return tuple(_network(found, 0).sources)


def identity(settings: Settings, context: Context) -> dict[str, Any]:
    """What changes the stems besides settings and seed. Raises WeightsMissing, or BackendError for damaged weights."""
    device = pick_device(context.device)
    fast = _takes_openvino(settings, device)
    found = find(settings.model, "demucs", context.models, download=context.download, progress=context.progress)
    check_once(found, lambda: _check(found))
    return {
        "engine": "openvino for HTDemucs" if fast else "torch",
        "precision": "float32",
        "device": device,
        "threads": threads(),
        "weights": found.hashes,
        "weights_sha256": found.digest,
        "licence": found.licence,
        **({"export_version": demucs_openvino.EXPORT_VERSION} if fast else {}),
        **versions("torch", "demucs", *(["openvino"] if fast else [])),
    }


def _check(found: Found) -> None:
    """Raise BackendError when a network of the bag is damaged; one is in memory at a time."""
    for index in range(len(found.files)):
        _network(found, index)


def _takes_openvino(settings: Settings, device: str) -> bool:
    """Whether HTDemucs runs on OpenVINO. Raises BackendNotInstalled or ParameterError when it should but cannot."""
    installed = importlib.util.find_spec("openvino") is not None
    if settings.engine == "openvino" and device != "cpu":
        raise ParameterError("engine", "openvino", "it runs on the CPU only; choose --device cpu")
    if settings.engine == "openvino" and not installed:
        raise BackendNotInstalled("demucs", "engine 'openvino' needs OpenVINO: pip install 'gbsep[fast]'")
    return installed and settings.engine != "torch" and device == "cpu"


def run(reader: Reader, settings: Settings, context: Context) -> Iterator[dict[str, Block]]:
    """Yield the wanted stems' blocks.

    Raises WeightsMissing or BackendError for missing or damaged weights, ParameterError for a stem that the model
    does not have or a segment that it does not allow, SeparationFailed when the network fails or its output is not
    finite.
    """
    found = find_for(context, settings.model, "demucs")
    members = _members(found, settings, context)
    rate, channels = members[0].facts.sample_rate, len(context.wanted) * reader.channels
    stacks = at_rate(reader, rate, channels, lambda own: _separate(own, members, settings, context))
    for stack in stacks:
        stems = stack.reshape(len(context.wanted), reader.channels, -1)
        yield dict(zip(context.wanted, stems, strict=True))


# ----------------------------------------------------------------------------------------------------------- the bag


@dataclass(frozen=True, eq=False)
class _Member:
    """A network of the bag that contributes to the wanted stems.

    shares: (stem's row, network's source, share) for each wanted stem that it contributes to. shifts: frames by which
    each of its runs starts before the track.
    """

    facts: demucs_network.Facts
    forward: Forward
    shares: tuple[tuple[int, int, float], ...]
    segment_s: float | Fraction
    shifts: tuple[int, ...]


def _members(found: Found, settings: Settings, context: Context) -> list[_Member]:
    """The networks to run, loaded and reduced to the wanted stems."""
    stems = stem_names(settings, context.models)
    unknown = set(context.wanted) - set(stems)
    if unknown:
        raise ParameterError("stems", sorted(unknown), f"{found.name} gives {', '.join(stems)}")
    weights = np.array(found.weights or np.ones((len(found.files), len(stems))), np.float64)
    if weights.shape != (len(found.files), len(stems)):
        raise BackendError(f"{found.name}: its bag has weights for {weights.shape[1]} stems, not for {len(stems)}")
    columns = [stems.index(stem) for stem in context.wanted]
    totals = weights.sum(axis=0)
    if not totals[columns].all():
        raise BackendError(f"{found.name}: no network of its bag has a weight for one of {', '.join(context.wanted)}")
    device = pick_device(context.device)
    fast = _takes_openvino(settings, device)
    rows_of = {index: np.flatnonzero(row).tolist() for index, row in enumerate(weights[:, columns]) if row.any()}
    ready = {
        index: _ready(
            found, index, stems, tuple(context.wanted[row] for row in rows), device, fast, threads(), len(rows_of) == 1
        )
        for index, rows in rows_of.items()
    }
    sample_rates = {loaded.facts.sample_rate for loaded in ready.values()}
    if len(sample_rates) > 1:
        raise BackendError(f"{found.name}: its networks work at different sample rates")
    longest = int(MAX_SHIFT_S * sample_rates.pop())
    # Drawn for every network, used or not, so that a stem does not depend on which others are wanted.
    shifts = longest - context.rng.integers(0, longest + 1, (len(found.files), settings.shifts))
    members = []
    for index, rows in rows_of.items():
        facts = ready[index].facts
        if facts.fixed and settings.segment_s and settings.segment_s > float(facts.segment_s):
            longest_s = f"{found.name} takes at most {float(facts.segment_s):g}"
            raise ParameterError("segment_s", settings.segment_s, longest_s, "s")
        for warning in ready[index].warnings:
            context.warn(warning)
        shares = tuple(
            (row, facts.sources.index(context.wanted[row]), weights[index, columns[row]] / totals[columns[row]])
            for row in rows
        )
        forward = ready[index].forward(context.warn)
        own_shifts = tuple(shifts[index].tolist()) or (0,)
        members.append(_Member(facts, forward, shares, settings.segment_s or facts.segment_s, own_shifts))
    return members


@dataclass(frozen=True, eq=False)
class _Ready:
    """A network reduced to the stems it contributes to, its `forward`, which is told where to warn, and warnings."""

    facts: demucs_network.Facts
    forward: Callable[[Callable[[str], None]], Forward]
    warnings: tuple[str, ...] = ()


@lru_cache(maxsize=4)
def _ready(
    found: Found,
    index: int,
    sources: tuple[str, ...],
    stems: tuple[str, ...],
    device: str,
    fast: bool,
    cores: int,
    alone: bool,
) -> _Ready:
    """The bag's network `index`; the last ones are kept, for the next song of a batch.

    Torch is loaded only where it runs the network, or none is exported yet.
    """
    path, network = found.files[index], None
    warnings: tuple[str, ...] = ()
    if fast:
        try:
            place = demucs_openvino.export_path(path, found.segment_s)
            export = demucs_openvino.kept(place)
            if export is None:
                network = _network(found, index)
                if demucs_network.facts(network).fixed:
                    export = demucs_export.keep(network, place, cores)
            if export is not None and export.sources == sources:
                return _accelerated(demucs_openvino.load(place, export, cores, alone), export, stems)
        except Exception as error:
            warnings = (f"OpenVINO cannot run {path.name}, going on with torch: {' '.join(str(error).split())}",)
    network = network or _network(found, index)
    if tuple(network.sources) != sources:
        raise BackendError(f"{path} separates {', '.join(network.sources)}, not {', '.join(sources)}")
    demucs_network.decode_only(network, stems)
    network.to(device)

    def forward(warn: Callable[[str], None]) -> Forward:
        import torch

        torch.set_num_threads(cores)
        return torch_forward(network, device, warn)

    return _Ready(demucs_network.facts(network), forward, warnings)


def _accelerated(run: demucs_openvino.Run, export: demucs_openvino.Export, stems: tuple[str, ...]) -> _Ready:
    """An exported network, giving `stems` alone."""
    rows = [row for row, source in enumerate(export.sources) if source in stems]

    def forward(mixtures: np.ndarray) -> np.ndarray:
        return np.stack([run(mixture, rows) for mixture in mixtures])

    names = tuple(export.sources[row] for row in rows)
    segment_s = Fraction(export.frames, export.sample_rate)
    return _Ready(demucs_network.Facts(names, export.sample_rate, segment_s, fixed=True), lambda warn: forward)


def _network(found: Found, index: int) -> Any:
    """A network of the bag, with the segment the bag says."""
    network = demucs_network.build(load_package(found.files[index]))
    fixed = demucs_network.facts(network).fixed
    if found.segment_s is not None and not (fixed and found.segment_s > network.segment):
        network.segment = found.segment_s
    return network


# ------------------------------------------------------------------------------------------- segments that overlap


@dataclass(frozen=True, eq=False)
class _Run:
    """One pass of a voice: segments of `length` frames every `stride`, from `start` (not after frame 0) to the end."""

    member: _Member
    start: int
    length: int
    stride: int


def _weights(run: _Run, start: int, frames: int) -> np.ndarray:
    """The triangle of the segment at `start`, divided by the sum of those of its run wherever they overlap it.

    The last segment is cut to `frames`; later ones would start beyond it.
    """
    own, total = triangle(run.length), np.zeros(frames, np.float32)
    before = min((start - run.start) // run.stride, (run.length - 1) // run.stride)
    for other in range(start - before * run.stride, start + frames, run.stride):
        first, stop = max(start, other), min(start + frames, other + run.length)
        total[first - start : stop - start] += own[first - other : stop - other]
    return own[:frames] / total


def _separate(reader: Reader, members: Sequence[_Member], settings: Settings, context: Context) -> Iterator[Block]:
    """The wanted stems at the networks' sample rate: blocks of shape (stems * channels, n), float32."""
    mean, std = mean_and_std(reader)
    runs = []
    for member in members:
        length = int(member.facts.sample_rate * member.segment_s)
        runs += [_Run(member, -shift, length, int((1 - settings.overlap) * length)) for shift in member.shifts]
    segments = [(start, run) for run in runs for start in range(run.start, reader.frames, run.stride)]
    segments = sorted((pair for pair in segments if pair[0] + pair[1].length > 0), key=itemgetter(0))
    at_once = _batch(members, pick_device(context.device))
    take = window(np.divide(block - mean, std) for block in reader.blocks())
    buffer, first = np.zeros((len(context.wanted), 2, 0), np.float32), 0
    for index in range(0, len(segments), at_once):
        group = segments[index : index + at_once]
        missing = max(min(start + run.length, reader.frames) for start, run in group) - first - buffer.shape[2]
        buffer = np.concatenate([buffer, np.zeros((*buffer.shape[:2], max(0, missing)), np.float32)], axis=2)
        for start, run, sources in _estimates(group, take, reader.frames):
            before = max(0, first - start)
            span = slice(start + before - first, start + sources.shape[2] - first)
            for row, source, share in run.member.shares:
                buffer[row, :, span] += np.float32(share / len(run.member.shifts)) * sources[source, :, before:]
        following = segments[index + at_once][0] if index + at_once < len(segments) else reader.frames
        finished = max(0, following - first)
        if finished:
            block = buffer[:, :, :finished] * std + mean
            if not np.isfinite(block.sum(dtype=np.float64)):
                raise SeparationFailed(f"{settings.model} gave values that are not finite after frame {first}")
            block = block if reader.channels == 2 else block.mean(axis=1, keepdims=True)
            yield block.reshape(-1, finished)
        buffer, first = buffer[:, :, finished:], first + finished
        context.progress(min(1.0, (index + at_once) / len(segments)))


def _batch(members: Sequence[_Member], device: str) -> int:
    """Segments to take at once: one on a CPU, where more would only cost memory."""
    if device == "cpu":
        return 1
    return max(1, int(GPU_BATCH_S / max(member.segment_s for member in members))) * len(members)


def _estimates(
    segments: Sequence[tuple[int, _Run]], take: Callable[[int, int], np.ndarray], track_frames: int
) -> Iterator[tuple[int, _Run, np.ndarray]]:
    """Start, run and weighted sources (sources, 2, n) of each segment; those of one network and length go together."""

    def kind(segment: tuple[int, _Run]) -> tuple[int, int]:
        return id(segment[1].member), min(segment[1].length, track_frames - segment[0])

    for (_, frames), same in groupby(sorted(segments, key=kind), key=kind):
        starts, runs = zip(*same, strict=True)
        member = runs[0].member
        # A network may want more than the piece: the piece in the middle, what surrounds it around.
        given = member.facts.given(frames, member.segment_s)
        ahead = (given - frames) // 2
        try:
            outputs = member.forward(np.stack([take(start - ahead, given) for start in starts]))
        except (RuntimeError, AssertionError, ValueError) as error:
            raise SeparationFailed(
                f"the network broke at frame {max(0, starts[0])}: {' '.join(str(error).split())}"
            ) from error
        for start, run, output in zip(starts, runs, outputs, strict=True):
            yield start, run, output[:, :, ahead : ahead + frames] * _weights(run, start, frames)
