"""A preset's chain over a file as it is, such as a stem from elsewhere: nothing is separated, nothing restored."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..audio import Reader
from ..effects import chain as chains
from ..errors import OutputError, ParameterError, PluginError, PresetError, nearest
from ..io.formats import OutputFormat
from ..io.read import open_audio, open_reader
from ..io.write import check_output
from ..preset.model import Preset
from ..shelf import folder as shelf
from ..shelf.record import Levels, PluginRow
from .document import rows
from .options import Options, Progress, output_format, silent
from .planning import check_chains, target
from .process import Signal, Target, write


@dataclass(frozen=True)
class ChainPlan:
    """A chain that can be applied to a file; see `plan_chain`."""

    input: Path
    signal: Signal
    sidechains: Mapping[str, Reader]
    path: Path
    target: Target
    failure: PluginError | None

    @property
    def warnings(self) -> tuple[str, ...]:
        return self.target.expected


@dataclass(frozen=True)
class ChainOutcome:
    """What was done to a file: the new file, the levels before and after, the plug-ins."""

    input: Path
    file: Path
    before: Levels
    after: Levels
    plugins: tuple[PluginRow, ...]
    warnings: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The same as one JSON object."""
        return {
            "input": str(self.input),
            "file": str(self.file),
            "before": self.before.model_dump(),
            "after": self.after.model_dump(),
            "plugins": [row.model_dump() for row in self.plugins],
            "warnings": list(self.warnings),
        }


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
    options, sidechains = options or Options(), sidechains or {}
    if stem not in preset.chains:
        raise ParameterError("stem", stem, f"preset {preset.name!r} has no such stem{nearest(stem, preset.chains)}")
    out, output = _destination(path, preset, stem, out)
    info, reader = open_audio(path, options.start_s, options.duration_s)
    keys = {name: open_reader(file, options.start_s, options.duration_s) for name, file in sidechains.items()}
    for name, key in keys.items():
        if key.sample_rate != reader.sample_rate:
            allowed = f"{reader.sample_rate} Hz, the sample rate of {path}"
            raise ParameterError(f"sidechain {name}", key.sample_rate, allowed, "Hz")
    nodes = preset.chains[stem]
    wanted = chains.sidechains_of(nodes)
    for name in sorted(set(keys) - wanted):
        allowed = f"hears no such stem{nearest(name, wanted)}" if wanted else "hears no other stem"
        raise ParameterError("sidechain", name, f"the chain of {stem} {allowed}")
    warnings, failure = check_chains(preset.name, {stem: nodes}, reader.sample_rate, wanted, options)
    for name in sorted(wanted - set(keys)):
        raise PresetError(preset.name, f"stems.{stem}.chain", f"it hears the {name}; give --sidechain {name}=FILE")
    check_output(output, reader.sample_rate, reader.channels)
    _check_replaced(out, path, sidechains, options.overwrite)
    spooled = 2 + chains.spooled_signals(nodes)
    shelf.check_place(out.parent, spooled * reader.frames * reader.channels * 4)
    expected = (*info.warnings, *warnings)
    made = target(preset, {stem: out.name}, output, info, reader, options, expected)
    return ChainPlan(path, Signal(stem, reader, chain=nodes), keys, out, made, failure)


def _destination(path: Path, preset: Preset, stem: str, out: Path | None) -> tuple[Path, OutputFormat]:
    """The file to write and its format."""
    output = output_format(preset)
    out = out or path.with_name(f"{path.stem}.{stem}{output.suffix}")
    if os.path.isdir(out):
        raise OutputError(out, "is a folder; name a file in it with --out")
    container = out.suffix.removeprefix(".").lower()
    return out, output if container == preset.output.format else OutputFormat(container)


def _check_replaced(out: Path, path: Path, sidechains: Mapping[str, Path], overwrite: bool) -> None:
    """Raise OutputError when `out` would take the place of what is read, or of a file that is to stay."""
    if not os.path.exists(out):
        return
    read = {"the input": path, **{f"the side-chain {name}": file for name, file in sidechains.items()}}
    for what, file in read.items():
        if out.samefile(file):
            raise OutputError(out, f"is {what}; choose another with --out")
    if not overwrite:
        raise OutputError(out, "is there already; give --overwrite to replace it, or choose another with --out")


def run_chain(plan: ChainPlan, progress: Progress = silent) -> ChainOutcome:
    """Carry out a plan. Raises GbsepError and leaves no partial file."""
    if plan.failure is not None:
        raise plan.failure
    with shelf.staged_file(plan.path) as file:
        written = write(plan.target, [plan.signal], plan.sidechains, file.parent, partial(progress, "process"))
    before, after, plugins = rows(written.signals[plan.signal.name])
    return ChainOutcome(plan.input, plan.path, before, after, plugins, (*plan.warnings, *written.warnings))
