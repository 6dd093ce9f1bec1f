"""A chain of effects and plug-ins over blocks: routing, latency, dry and wet, automation, side chains, finiteness.

A chain is a tuple of nodes, each a stage that takes `frames` frames and gives as many. In JSON:

    [{"effect": "Compressor", "threshold_db": -18, "ratio": 2, "wet": 0.5},
     {"effect": "Parallel", "branches": [{"chain": []}, {"chain": [{"effect": "Reverb"}], "mix_db": -12}]},
     {"effect": "Plugin", "name": "ZamCompX2", "parameters": {"ratio": 4}, "on_failure": "bypass"}]

Conventions:

- What a stage gives is aligned to the frame with what it takes, whatever its latency, so branches add up in phase.
- A stage's signal is the input followed by the tail that was asked for; silence comes before and after it.
- `wet` (0 to 1) is the share of any effect's output, the rest being its input. The branches of Parallel are summed,
  each at its `mix_db`; a branch without effects is the dry signal.
- Times of automation are seconds from the first frame of the song. Lanes of `wet` and `mix_db` are applied to the
  frame. Any other lane is applied in steps of AUTOMATION_STEP_S by two instances of the effect that hear the same
  input: while one fades in, the other fades out, and each takes a new value only when it is silent. So nothing clicks,
  and between two steps the output, not the parameter, is interpolated. The steps begin at the lanes' points; a jump of
  "hold" is faded in the step after it. (Lanes of BrickwallLimiter act earlier by its look-ahead.)
- A side chain's key is the named stem as it goes into its own chain (separated, restored, dry), so no order of
  chains is needed and no circle can arise.
- Each stage's output is checked to be finite: one NaN turns the next effect full-scale.
- A plug-in that may be bypassed keeps its input and output on disk until the last frame is there. So whenever it fails,
  all of the signal passes unprocessed, and nothing is heard of it from half-way.

Memory is a few blocks, except for effects that do not stream (PitchShift, GSMFullRateCompressor): they hold the signal.
So do Parallel and a `wet` below 1 around a plug-in that may be bypassed, for the dry signal has to wait.
"""

from __future__ import annotations

import base64
import math
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from itertools import chain as concatenated
from itertools import count, islice, pairwise, repeat, starmap, tee
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..arguments import checked
from ..audio import Audio, Block, Reader, check_finite, join, rechunk
from ..errors import AudioError, ParameterError, PluginError, PresetError, nearest
from ..io.spool import Spool
from ..params import SAMPLE_RATE, TAIL_S, Param
from ..plugins import host
from .automation import Automation, automation_schema, dump_automation, parse_automation
from .butterworth import butterworth_sos, filter_block, filter_blocks_zero_phase, moving_butterworth_sos
from .ducker import ducker_gains
from .plugin import ON_FAILURE, SETTING, Plugin, PluginReport, bypassed, check_plugin, locate, plugin_files
from .table import (
    EFFECTS,
    MIX_DB,
    WET,
    Builtin,
    Changes,
    check_files,
    in_pieces,
    is_lowpass,
    render_whole,
    spec_of,
)

AUTOMATION_STEP_S = 0.008
"""A gain moving by 60 dB in a second is then -68 dB away from one that moves by frames."""
MAX_NESTING = 16
"""Parallel within Parallel."""
MAX_EFFECTS = 64
"""Effects of a chain, with those in its branches: all of them run at once, plug-ins in a process or two each."""
BUFFER_FRAMES = 8192
"""Frames that an effect is given at a time: Pedalboard's own default."""
PLUGIN_FRAMES = 2**16
"""Frames that the process of a plug-in is given at a time: large, so that the way there and back costs little."""
PLUGIN_TEXTS = {
    "name": "as `gbsep plugins list` has it",
    "vendor": "where several plug-ins have that name",
    "format": "where several plug-ins have that name: VST3 or Audio Unit",
    "path": "of the plug-in's file; needs --allow-plugin-paths",
    "sidechain": "the stem that the plug-in's side-chain bus hears",
    "state": "base64, or a .vstpreset file in the folder of the preset",
}
PLUGIN_TIMEOUTS = {
    name: replace(host.TIMEOUT_S, name=name, default=None) for name in ("load_timeout_s", "block_timeout_s")
}


@dataclass(frozen=True)
class Effect:
    """A row of EFFECTS and all its parameters: numbers, switches, texts, or lanes of Automation."""

    name: str
    params: Mapping[str, Any]
    wet: float | Automation = 1.0


@dataclass(frozen=True)
class Branch:
    chain: tuple[Node, ...]
    mix_db: float | Automation = 0.0


@dataclass(frozen=True)
class Parallel:
    """The sum of branches that hear the same input."""

    branches: tuple[Branch, ...]
    wet: float | Automation = 1.0
    name = "Parallel"


Node = Effect | Parallel | Plugin


class Processor(Protocol):
    """One running instance of an effect, built-in or hosted.

    `process` takes blocks of about one size and gives blocks of that size, or shorter ones at first; what it gives is
    `latency_frames` late beyond that.
    """

    latency_frames: int

    def process(self, block: Block, changes: Changes = ()) -> Block: ...


Opener = Callable[[Mapping[str, Any], int], AbstractContextManager[Processor]]
"""Gives a fresh instance with fixed parameters; no block, nor any piece between changes, will be shorter than the
frames that it is told."""


@dataclass(frozen=True)
class _Run:
    """What all stages of a running chain share; `frames` counts the tail too."""

    sample_rate: int
    channels: int
    frames: int
    start_s: float
    sidechains: Mapping[str, Reader] = field(repr=False)
    report: Callable[[PluginReport], None]
    folder: Path | None

    def times_s(self, first_frame: int, frames: int) -> np.ndarray:
        return self.start_s + np.arange(first_frame, first_frame + frames) / self.sample_rate


# --- JSON -------------------------------------------------------------------------------------------------------------


@checked
def parse_chain(items: object, where: str = "chain", folder: Path | None = None) -> tuple[Node, ...]:
    """The chain that a preset's JSON describes, defaults filled in.

    Paths are relative to `folder`. Raises PresetError with the JSON path (`chain[1].ratio`) and, for a misspelt name,
    the nearest one.
    """
    if not isinstance(items, (list, tuple)):
        raise PresetError("", where, f"a chain is a list of effects, not {_kind(items)}")
    nodes = tuple(_parse_node(item, f"{where}[{index}]", folder) for index, item in enumerate(items))
    if (effects := _count(nodes)) > MAX_EFFECTS:
        raise PresetError("", where, f"{effects} effects, and a chain has {MAX_EFFECTS} at most")
    return nodes


def _count(nodes: Iterable[Node]) -> int:
    """Effects in a chain; a branch without any counts as one."""
    inner = (node.branches if isinstance(node, Parallel) else () for node in nodes)
    return sum(1 + sum(max(1, _count(branch.chain)) for branch in branches) for branches in inner)


def _parse_node(item: object, where: str, folder: Path | None) -> Node:
    if where.count(".branches[") > MAX_NESTING:
        raise PresetError("", where, f"Parallel is nested more than {MAX_NESTING} deep")
    form = 'an effect is an object such as {"effect": "Gain", "gain_db": -3}'
    name, given = _parse_object(item, where, "effect", form)
    if not isinstance(name, str):
        raise PresetError("", f"{where}.effect", f"the name of an effect, not {_kind(name)}")
    wet = _parse_value(WET, given.pop("wet", WET.default), where, folder)
    if name == "Parallel":
        branches = given.pop("branches", None)
        _refuse_unknown(given, ["branches", "wet"], where)
        if not isinstance(branches, (list, tuple)) or not branches:
            raise PresetError("", f"{where}.branches", 'a list of one or more {"chain": [...], "mix_db": 0}')
        parsed = (_parse_branch(branch, f"{where}.branches[{n}]", folder) for n, branch in enumerate(branches))
        return Parallel(tuple(parsed), wet)
    if name == "Plugin":
        return _parse_plugin(given, wet, where, folder)
    try:
        spec = spec_of(name)
    except ParameterError as error:
        raise PresetError("", f"{where}.effect", f"{reprlib.repr(name)}: {error.allowed}") from None
    _refuse_unknown(given, [*(param.name for param in spec.params), "wet"], where)
    params = {}
    for param in spec.params:
        if param.name not in given and param.default is None:
            raise PresetError("", where, f"{name} needs {param.help}")
        params[param.name] = _parse_value(param, given.get(param.name, param.default), where, folder)
    return Effect(name, params, wet)


def _parse_plugin(given: dict[str, Any], wet: float | Automation, where: str, folder: Path | None) -> Plugin:
    known = [*PLUGIN_TEXTS, *PLUGIN_TIMEOUTS, "parameters", "on_failure"]
    _refuse_unknown(given, [*known, "wet"], where)
    texts = {key: given.get(key) for key in PLUGIN_TEXTS}
    for key, text in texts.items():
        if text is not None and not (isinstance(text, str) and text):
            raise PresetError("", f"{where}.{key}", f"a text, not {_kind(text) if text != '' else 'an empty one'}")
    if texts["name"] is None and texts["path"] is None:
        raise PresetError("", where, "'name' is missing: what the plug-in calls itself, as `gbsep plugins list` has it")
    parameters = given.get("parameters", {})
    if not isinstance(parameters, Mapping):
        raise PresetError("", f"{where}.parameters", f"an object of names and values, not {_kind(parameters)}")
    base, state, outside = folder or Path(), None, ""
    try:
        if texts["state"] is not None:
            state, file = host.read_state(texts["state"], base), host.state_file(texts["state"], base)
            outside = texts["state"] if file and not file.is_relative_to(base.resolve()) else ""
    except (PluginError, OSError, ValueError) as error:
        raise PresetError("", f"{where}.state", str(error)) from None
    settings = {
        str(name): _parse_setting(str(name), value, f"{where}.parameters") for name, value in parameters.items()
    }
    timeouts = {key: param for key, param in PLUGIN_TIMEOUTS.items() if key in given}
    return Plugin(
        texts["name"] or "",
        settings,
        state,
        path=texts["path"] and str(base / texts["path"]),
        vendor=texts["vendor"],
        format=texts["format"],
        on_failure=_parse_value(ON_FAILURE, given.get("on_failure", ON_FAILURE.default), where, folder),
        wet=wet,
        outside=outside,
        sidechain=texts["sidechain"],
        **{key: _parse_value(param, given[key], where, folder) for key, param in timeouts.items()},
    )


def _parse_setting(name: str, value: object, where: str) -> Any:
    if not name.isprintable():
        raise PresetError("", where, f"{reprlib.repr(name)} cannot be the name of a parameter")
    return value if isinstance(value, (bool, str)) else _parse_value(replace(SETTING, name=name), value, where, None)


def _parse_branch(item: object, where: str, folder: Path | None) -> Branch:
    chain, given = _parse_object(item, where, "chain", 'a branch is an object {"chain": [...], "mix_db": 0}')
    mix_db = _parse_value(MIX_DB, given.pop("mix_db", MIX_DB.default), where, folder)
    _refuse_unknown(given, ["chain", "mix_db"], where)
    return Branch(parse_chain(chain, f"{where}.chain", folder), mix_db)


def _parse_object(item: object, where: str, key: str, form: str) -> tuple[Any, dict[str, Any]]:
    """The value under `key` and the rest."""
    if not isinstance(item, Mapping):
        raise PresetError("", where, f"{form}, not {_kind(item)}")
    if key not in item:
        raise PresetError("", where, f"{key!r} is missing: {form}")
    rest = dict(item)
    return rest.pop(key), rest


def _refuse_unknown(given: Mapping[str, Any], known: list[str], where: str) -> None:
    for name in given:
        if name not in known:
            here = f"{where}.{name}" if str(name).isidentifier() else where
            raise PresetError("", here, f"unknown parameter {reprlib.repr(name)}{nearest(str(name), known)}")


def _parse_value(param: Param, value: Any, where: str, folder: Path | None) -> Any:
    try:
        if isinstance(value, Mapping):
            return parse_automation(value, param)
        checked = param.check(value)
    except ParameterError as error:
        raise PresetError(
            "", f"{where}.{error.name}", f"{reprlib.repr(error.value)} is not allowed: {error.allowed}"
        ) from None
    return str(folder / str(checked)) if param.kind == "path" and folder is not None else checked


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def dump_chain(nodes: Iterable[Node]) -> list[dict[str, Any]]:
    """The chain as JSON, every parameter written out; `parse_chain` gives the same chain back."""

    def plain(value: Any) -> Any:
        return dump_automation(value) if isinstance(value, Automation) else value

    def dump(node: Node) -> dict[str, Any]:
        if isinstance(node, Parallel):
            branches = [{"chain": dump_chain(b.chain), "mix_db": plain(b.mix_db)} for b in node.branches]
            return {"effect": "Parallel", "branches": branches, "wet": plain(node.wet)}
        if isinstance(node, Plugin):
            given = {
                "name": node.plugin or None,
                "state": None if node.state is None else base64.b64encode(node.state).decode(),
                **{key: getattr(node, key) for key in ("path", "vendor", "format", "sidechain", *PLUGIN_TIMEOUTS)},
            }
            return {
                "effect": "Plugin",
                **{key: value for key, value in given.items() if value is not None},
                "parameters": {name: plain(value) for name, value in node.parameters.items()},
                "on_failure": node.on_failure,
                "wet": plain(node.wet),
            }
        params = {name: plain(value) for name, value in node.params.items()}
        return {"effect": node.name, **params, "wet": plain(node.wet)}

    return [dump(node) for node in nodes]


def chain_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a chain: a reference into its own `$defs`."""

    def closed(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}

    def value(param: Param) -> dict[str, Any]:
        return {"anyOf": [param.schema, automation_schema(param)]} if param.automatable else param.schema

    wet = {"wet": value(WET)}
    chain = {"$ref": "#/$defs/chain"}
    branch = closed({"chain": chain, "mix_db": value(MIX_DB)}, ["chain"])
    branches = {"type": "array", "items": branch, "minItems": 1}
    definitions = {
        spec.name: {
            "title": spec.summary,
            **closed(
                {"effect": {"const": spec.name}, **{param.name: value(param) for param in spec.params}, **wet},
                ["effect", *(param.name for param in spec.params if param.default is None)],
            ),
        }
        for spec in EFFECTS.values()
    }
    definitions["Parallel"] = {
        "title": "branches that hear the same input, summed",
        **closed({"effect": {"const": "Parallel"}, "branches": branches, **wet}, ["effect", "branches"]),
    }
    setting = {"anyOf": [value(SETTING), {"type": "boolean"}, {"type": "string"}]}
    text = {"type": "string", "minLength": 1}
    definitions["Plugin"] = {
        "title": "an external plug-in; needs a name, or a path where that is allowed",
        **closed(
            {
                "effect": {"const": "Plugin"},
                **{key: {**text, "description": about} for key, about in PLUGIN_TEXTS.items()},
                **{key: param.schema for key, param in PLUGIN_TIMEOUTS.items()},
                "parameters": {"type": "object", "additionalProperties": setting, "default": {}},
                "on_failure": ON_FAILURE.schema,
                **wet,
            },
            ["effect"],
        ),
        "anyOf": [{"required": ["name"]}, {"required": ["path"]}],
    }
    effects = [{"$ref": f"#/$defs/{name}"} for name in definitions]
    return {**chain, "$defs": {"chain": {"type": "array", "items": {"oneOf": effects}}, **definitions}}


# --- planning ---------------------------------------------------------------------------------------------------------


@checked
def check_chain(
    nodes: Iterable[Node],
    sample_rate: int,
    sidechains: Iterable[str] | None = None,
    where: str = "chain",
    allow_plugin_paths: bool = False,
) -> list[str]:
    """Warnings about a chain at this sample rate: a low-pass whose cut-off is at or above half of it passes through.

    Raises ParameterError for any other cut-off there, for an effect that does not work at the sample rate, for a file
    that is missing or no audio, and, when the names of the `sidechains` are given, for a key that is not among them;
    for plug-ins what `external.check_plugin` raises.
    """
    SAMPLE_RATE.check(sample_rate)
    nodes = tuple(nodes)
    warnings = check_references(nodes, sidechains, where, allow_plugin_paths)
    for here, node in placed(nodes, where):
        if isinstance(node, Plugin):
            continue
        spec = spec_of(node.name)
        if spec.sample_rates and sample_rate not in spec.sample_rates:
            allowed = f"{node.name} ({here}) works at {', '.join(map(str, spec.sample_rates))} Hz"
            raise ParameterError("sample_rate", sample_rate, allowed, "Hz")
        if not spec.streams:
            warnings.append(f"{here}: {node.name} cannot work block by block and holds the whole stem in memory")
        check_files(node.name, node.params)
        if _passes_through(node, sample_rate):
            warnings.append(f"{here}: {node.name} passes everything: its cut-off is not below {sample_rate / 2:g} Hz")
            continue
        for param in spec.params:
            value = node.params[param.name]
            if param.cutoff and not max(_values(value)) < sample_rate / 2:
                allowed = f"below {sample_rate / 2:g} Hz, half the sample rate"
                raise ParameterError(f"{here}.{param.name}", max(_values(value)), allowed, param.unit)
            if node.params.get("zero_phase") and isinstance(value, Automation):
                raise ParameterError(f"{here}.{param.name}", "automated", "a fixed value, as the filter is zero-phase")
    return warnings


def check_references(
    nodes: Iterable[Node], stems: Iterable[str] | None, where: str, allow_plugin_paths: bool
) -> list[str]:
    """Warnings about what a chain names beyond itself, at any sample rate: plug-ins, and stems that it hears.

    Raises ParameterError for a key that is not among the `stems`, when they are given; for plug-ins what
    `external.check_plugin` raises.
    """
    warnings = []
    for here, node in placed(nodes, where):
        if isinstance(node, Plugin):
            warnings += check_plugin(node, here, allow_plugin_paths)
        for name, key in _keys(node).items():
            if stems is not None and key not in stems:
                raise ParameterError(f"{here}.{name}", key, f"no such stem{nearest(key, stems)}")
    return warnings


def placed(nodes: Iterable[Node], where: str) -> Iterator[tuple[str, Effect | Plugin]]:
    """Every effect of a chain and its JSON path, those in parallel one after the other."""
    for index, node in enumerate(nodes):
        here = f"{where}[{index}]"
        if not isinstance(node, Parallel):
            yield here, node
            continue
        for number, branch in enumerate(node.branches):
            yield from placed(branch.chain, f"{here}.branches[{number}].chain")


def _keys(node: Effect | Plugin) -> dict[str, str]:
    """The stems that an effect hears, by the name of the parameter."""
    if isinstance(node, Plugin):
        return {} if node.sidechain is None else {"sidechain": node.sidechain}
    return {param.name: str(node.params[param.name]) for param in spec_of(node.name).params if param.kind == "stem"}


def chain_files(chains: Iterable[Iterable[Node]]) -> list[Path]:
    """The files that chains read: impulse responses, the libraries of plug-ins."""
    found = set()
    for nodes in chains:
        for node in nodes:
            if isinstance(node, Parallel):
                found.update(chain_files(branch.chain for branch in node.branches))
            elif isinstance(node, Plugin):
                found.update(plugin_files(node))
            else:
                paths = [param.name for param in spec_of(node.name).params if param.kind == "path"]
                found.update(Path(node.params[name]) for name in paths)
    return sorted(found)


def spooled_signals(nodes: Iterable[Node]) -> int:
    """How many times the length of the signal a chain keeps on disk while it runs: twice for what may be bypassed."""
    count = 0
    for node in nodes:
        if isinstance(node, Parallel):
            count += sum(spooled_signals(branch.chain) for branch in node.branches)
        elif isinstance(node, Plugin) and node.on_failure == "bypass":
            count += 2
    return count


def sidechains_of(nodes: Iterable[Node]) -> set[str]:
    """The stems that a chain listens to."""
    return {key for _, node in placed(nodes, "chain") for key in _keys(node).values()}


def _values(value: Any) -> tuple[float, ...]:
    return value.values if isinstance(value, Automation) else (value,)


def _passes_through(node: Effect, sample_rate: int) -> bool:
    cutoffs = [node.params[param.name] for param in spec_of(node.name).params if param.cutoff]
    fixed = [value for value in cutoffs if not isinstance(value, Automation)]
    return is_lowpass(node.name, node.params) and bool(fixed) and float(fixed[0]) >= sample_rate / 2


# --- running ----------------------------------------------------------------------------------------------------------


@checked
def apply_chain(
    audio: Audio,
    chain: tuple[Node, ...] | list[Any],
    tail_s: float = 0.0,
    warn: Callable[[str], None] = lambda message: None,
    sidechains: Mapping[str, Audio] | None = None,
    allow_plugin_paths: bool = False,
) -> Audio:
    """A chain, as a list of JSON objects or from `parse_chain`, over a signal in memory: a signal `tail_s` longer.

    Raises what `parse_chain` and `apply_blocks` raise, and ParameterError for a tail outside TAIL_S.

    >>> apply_chain(Audio(np.ones((1, 3)), 44100), [{"effect": "Invert"}]).samples.tolist()
    [[-1.0, -1.0, -1.0]]
    """
    nodes = chain if isinstance(chain, tuple) else parse_chain(chain)
    tail_frames = round(float(TAIL_S.check(tail_s)) * audio.sample_rate)
    blocks = apply_blocks(
        audio.reader().blocks(),
        nodes,
        audio.sample_rate,
        audio.channels,
        audio.frames,
        tail_frames,
        warn,
        {name: key.reader() for name, key in (sidechains or {}).items()},
        report=lambda report: warn(report.bypassed) if report.bypassed else None,
        allow_plugin_paths=allow_plugin_paths,
    )
    return Audio(join(blocks), audio.sample_rate)


def apply_blocks(
    blocks: Iterable[Block],
    nodes: Iterable[Node],
    sample_rate: int,
    channels: int,
    frames: int,
    tail_frames: int = 0,
    warn: Callable[[str], None] = lambda message: None,
    sidechains: Mapping[str, Reader] | None = None,
    start_s: float = 0.0,
    report: Callable[[PluginReport], None] = lambda report: None,
    folder: Path | None = None,
    allow_plugin_paths: bool = False,
) -> Iterator[Block]:
    """The chain over `frames` frames that come in blocks of any size: exactly frames + tail_frames come out.

    `sidechains` are the stems by name, for effects with a key; `start_s` is where in the song the first frame lies.
    `warn` takes the warnings of `check_chain`, whose errors are raised at once; `report` is told of each plug-in when
    it is loaded or bypassed; `folder` is for what has to wait on disk. While running, AudioError names the effect and
    the frame when something is not finite, and is raised when the blocks are not `frames` long; PluginError and
    ParameterError come from plug-ins.
    """
    nodes, sidechains = tuple(nodes), sidechains or {}
    for name, reader in sidechains.items():
        if reader.sample_rate != sample_rate:
            raise AudioError(f"side chain {name!r} is at {reader.sample_rate} Hz, the chain at {sample_rate} Hz")
    for message in check_chain(nodes, sample_rate, sidechains, allow_plugin_paths=allow_plugin_paths):
        warn(message)
    run = _Run(sample_rate, channels, frames + tail_frames, start_s, sidechains, report, folder)
    return _through(_with_tail(blocks, channels, frames, tail_frames), nodes, "chain", run)


def _with_tail(blocks: Iterable[Block], channels: int, frames: int, tail_frames: int) -> Iterator[Block]:
    seen = 0
    for block in blocks:
        seen += block.shape[1]
        yield block
    if seen != frames:
        raise AudioError(f"a chain was promised {frames} frames and given {seen}")
    for start in range(0, tail_frames, BUFFER_FRAMES):
        yield np.zeros((channels, min(BUFFER_FRAMES, tail_frames - start)), np.float32)


def _through(blocks: Iterator[Block], nodes: tuple[Node, ...], where: str, run: _Run) -> Iterator[Block]:
    if nodes:
        blocks = _finite(blocks, f"the input of {where}")
    for index, node in enumerate(nodes):
        here = f"{where}[{index}]"
        blocks = _finite(_mixed(blocks, node, here, run), f"the output of {here}, {node.name}")
    return blocks


def _finite(blocks: Iterable[Block], what: str) -> Iterator[Block]:
    frame = 0
    for block in blocks:
        try:
            check_finite(block, frame)
        except AudioError as error:
            raise AudioError(f"{what}: {error}") from None
        yield block
        frame += block.shape[1]


def _mixed(blocks: Iterator[Block], node: Node, where: str, run: _Run) -> Iterator[Block]:
    if node.wet == 1.0:
        yield from _stage(blocks, node, where, run)
        return
    dry, heard = tee(blocks)
    wet = _stage(heard, node, where, run)
    frame = 0
    for before, after in zip(rechunk(dry, BUFFER_FRAMES), rechunk(wet, BUFFER_FRAMES), strict=True):
        share = np.float32(_by_frame(node.wet, run.times_s(frame, before.shape[1])))
        yield before + share * (after - before)
        frame += before.shape[1]


def _stage(blocks: Iterator[Block], node: Node, where: str, run: _Run) -> Iterator[Block]:
    if isinstance(node, Effect) and _passes_through(node, run.sample_rate):
        return blocks
    return _STAGES.get(node.name, _builtin)(blocks, node, where, run)


def _by_frame(value: float | Automation, times_s: np.ndarray) -> np.ndarray | float:
    return value.at(times_s, AUTOMATION_STEP_S) if isinstance(value, Automation) else value


def _parallel(blocks: Iterator[Block], node: Parallel, where: str, run: _Run) -> Iterator[Block]:
    branches = [
        rechunk(_through(heard, branch.chain, f"{where}.branches[{number}].chain", run), BUFFER_FRAMES)
        for number, (branch, heard) in enumerate(zip(node.branches, tee(blocks, len(node.branches)), strict=True))
    ]
    frame = 0
    for together in zip(*branches, strict=True):
        times_s = run.times_s(frame, together[0].shape[1])
        total = np.zeros(together[0].shape)
        for branch, block in zip(node.branches, together, strict=True):
            total += block * 10 ** (_by_frame(branch.mix_db, times_s) / 20)
        yield total.astype(np.float32)
        frame += total.shape[1]


def _builtin(blocks: Iterator[Block], node: Effect, where: str, run: _Run) -> Iterator[Block]:
    if not spec_of(node.name).streams:
        whole = join(blocks)
        return iter([render_whole(node.name, node.params, whole, run.sample_rate)])
    return _processed(
        blocks,
        lambda params, frames: nullcontext(Builtin(node.name, params, run.sample_rate, frames)),
        node.params,
        run,
    )


def _butterworth(blocks: Iterator[Block], node: Effect, where: str, run: _Run) -> Iterator[Block]:
    if node.params["zero_phase"]:
        return filter_blocks_zero_phase(blocks, _sos(node.params, run.sample_rate))
    return _processed(
        blocks, lambda params, frames: nullcontext(_Butterworth(params, run.sample_rate)), node.params, run
    )


def _duck(blocks: Iterator[Block], node: Effect, where: str, run: _Run) -> Iterator[Block]:
    params = {**node.params}
    reader = run.sidechains[str(params.pop("sidechain"))]
    key = _key(reader, run)
    gains = (gain[np.newaxis] for gain in ducker_gains(key, params, run.sample_rate, run.start_s))
    for block, gain in zip(rechunk(blocks, BUFFER_FRAMES), rechunk(gains, BUFFER_FRAMES), strict=True):
        yield (block * gain).astype(np.float32)


def _plugin(blocks: Iterator[Block], node: Plugin, where: str, run: _Run) -> Iterator[Block]:
    return (_hosted if node.on_failure == "fail" else _hosted_or_bypassed)(blocks, node, where, run)


def _hosted(blocks: Iterator[Block], node: Plugin, where: str, run: _Run) -> Iterator[Block]:
    info, opened, channels = locate(node), False, run.channels
    key = run.sidechains[node.sidechain] if node.sidechain is not None else None

    def open_(parameters: Mapping[str, Any], frames: int) -> host.PluginInstance:
        nonlocal opened
        try:
            instance = host.open_plugin(
                info,
                run.sample_rate,
                channels,
                parameters,
                node.state,
                load_timeout_s=node.load_timeout_s,
                block_timeout_s=node.block_timeout_s,
                where=where if node.on_failure == "fail" else "",
                key_channels=key.channels if key else 0,
            )
        except ParameterError as error:
            allowed = f"{error.allowed} ({node.label})"
            raise ParameterError(f"{where}.parameters.{error.name}", error.value, allowed, error.unit) from None
        if not opened:
            about = instance.class_id, instance.version, instance.latency_frames, instance.values
            run.report(PluginReport(where, info.name, *about))
        opened = True
        return instance

    if key is not None:
        blocks = _with_key(blocks, key, run)
    wide = replace(run, channels=channels + (key.channels if key else 0))
    yield from _processed(blocks, open_, node.parameters, wide, PLUGIN_FRAMES)


def _with_key(blocks: Iterator[Block], key: Reader, run: _Run) -> Iterator[Block]:
    """Blocks with the rows of a side chain's key below those of the signal; the key is silent beyond its end."""
    keys = _key(key, run)
    for block, heard in zip(rechunk(blocks, BUFFER_FRAMES), rechunk(keys, BUFFER_FRAMES), strict=True):
        yield np.concatenate([block, heard])


def _key(reader: Reader, run: _Run) -> Iterator[Block]:
    return _cut(concatenated(reader.blocks(), _silence(BUFFER_FRAMES, reader.channels)), run.frames)


def _hosted_or_bypassed(blocks: Iterator[Block], node: Plugin, where: str, run: _Run) -> Iterator[Block]:
    with Spool(["dry", "wet"], run.sample_rate, run.channels, run.folder) as spool:
        for block in blocks:
            spool.write({"dry": block})
        chosen = "wet"
        try:
            for block in _hosted(spool.reader("dry").blocks(), node, where, run):
                spool.write({"wet": block})
        except PluginError as error:
            run.report(PluginReport(where, node.label, bypassed=bypassed(where, node, error)))
            chosen = "dry"
        yield from spool.reader(chosen).blocks()


def _sos(params: Mapping[str, Any], sample_rate: int) -> np.ndarray:
    return butterworth_sos(params["order"], params["cutoff_hz"], params["mode"], sample_rate)


class _Butterworth:
    """The causal filter as a Processor: the state is carried on when the cut-off changes."""

    latency_frames = 0

    def __init__(self, params: Mapping[str, Any], sample_rate: int):
        self._params, self._sample_rate = dict(params), sample_rate
        self._sos = _sos(params, sample_rate)
        self._state: np.ndarray | None = None

    def process(self, block: Block, changes: Changes = ()) -> Block:
        return in_pieces(block.astype(np.float64), changes, self._process, self._set).astype(np.float32)

    def _process(self, block: np.ndarray) -> np.ndarray:
        filtered, self._state = filter_block(block, self._sos, self._state)
        return filtered

    def _set(self, name: str, value: float) -> None:
        self._params[name] = value
        order, mode, cutoff_hz = self._params["order"], self._params["mode"], self._params["cutoff_hz"]
        self._sos = moving_butterworth_sos(order, cutoff_hz, mode, self._sample_rate)


def _processed(
    blocks: Iterator[Block], open_: Opener, params: Mapping[str, Any], run: _Run, block_frames: int = BUFFER_FRAMES
) -> Iterator[Block]:
    """The signal through an effect, its latency taken off: silence follows the signal until all has come out."""
    lanes = {name: value for name, value in params.items() if isinstance(value, Automation)}
    signal = concatenated(blocks, _silence(BUFFER_FRAMES, run.channels))
    with ExitStack() as instances:
        if lanes:
            step_frames = max(8, round(AUTOMATION_STEP_S * run.sample_rate))
            begin = {name: float(lane.at(np.array(run.start_s))) for name, lane in lanes.items()}
            pair = [instances.enter_context(open_({**params, **begin}, step_frames // 2 - 1)) for _ in range(2)]
            outputs, latency_frames = _automated(signal, pair, lanes, step_frames, run), pair[0].latency_frames
        else:
            processor = instances.enter_context(open_(params, block_frames))
            outputs = _outputs(processor, ((block, ()) for block in rechunk(signal, block_frames)))
            latency_frames = processor.latency_frames
        yield from _cut(outputs, run.frames, latency_frames)


def _automated(
    signal: Iterator[Block], pair: Sequence[Processor], lanes: Mapping[str, Automation], step_frames: int, run: _Run
) -> Iterator[Block]:
    """The signal through two instances of an effect whose parameters follow the lanes; see the module's conventions.

    The lanes are read at nodes. Between two of them the output moves from the values at the one to those at the other:
    the first instance has the values of the even nodes and is alone there, the second those of the odd ones.
    """
    groups, for_first, for_second = tee(_groups(signal, lanes, step_frames, pair[0].latency_frames, run), 3)
    firsts = _outputs(pair[0], ((group.block, group.changes[0]) for group in for_first))
    seconds = _outputs(pair[1], ((group.block, group.changes[1]) for group in for_second))
    for edges, first, second in zip((group.edges for group in groups), firsts, seconds, strict=True):
        share = np.interp(np.arange(edges[-1] - first.shape[1], edges[-1]), edges, np.arange(len(edges)) % 2)
        yield first + share.astype(np.float32) * (second - first)


@dataclass(frozen=True)
class _Group:
    """A block from one node to another, the nodes in between, and what changes there in each of two instances."""

    block: Block
    edges: np.ndarray
    changes: tuple[Changes, Changes]


def _groups(
    signal: Iterator[Block], lanes: Mapping[str, Automation], step_frames: int, latency_frames: int, run: _Run
) -> Iterator[_Group]:
    nodes = _nodes(lanes, step_frames, latency_frames, run)
    steps = 2 * max(1, BUFFER_FRAMES // (2 * step_frames))
    now: list[dict[str, float]] = [{}, {}]
    held, end = np.zeros((run.channels, 0), np.float32), next(nodes)
    while True:
        group = np.array([end, *islice(nodes, steps)])
        end = group[-1]
        edges = group - group[0]
        while held.shape[1] < edges[-1]:
            held = np.concatenate([held, next(signal)], axis=1)
        block, held = held[:, : edges[-1]], held[:, edges[-1] :]
        times_s = run.start_s + (group - latency_frames) / run.sample_rate
        # A jump of "hold" lies just behind its node, so that it is faded from there to the next.
        late_s = {name: 0.5 / run.sample_rate * (lane.shape == "hold") for name, lane in lanes.items()}
        values = {name: lane.at(times_s - late_s[name]).tolist() for name, lane in lanes.items()}
        changes: tuple[list[Any], list[Any]] = ([], [])
        for turn in (0, 1):
            for step in (0, *range(1 + turn, steps, 2)):
                wanted = {name: at_nodes[step + (step + turn) % 2] for name, at_nodes in values.items()}
                if wanted != now[turn]:
                    changes[turn].append((int(edges[step]), wanted))
                    now[turn] = wanted
        yield _Group(block, edges, changes)


def _nodes(lanes: Mapping[str, Automation], step_frames: int, latency_frames: int, run: _Run) -> Iterator[int]:
    """Where the lanes are read: at their points and, without end, in equal steps of at most `step_frames`."""
    points_s = {time_s for lane in lanes.values() for time_s, _ in lane.points}
    corners = [0]
    for time_s in sorted(points_s):
        corner = round((time_s - run.start_s) * run.sample_rate) + latency_frames
        if corners[-1] + step_frames <= corner <= run.frames + latency_frames:
            corners.append(corner)
    for start, stop in pairwise(corners):
        steps = math.ceil((stop - start) / step_frames)
        yield from (start + step * (stop - start) // steps for step in range(steps))
    yield from count(corners[-1], step_frames)


def _outputs(processor: Processor, pieces: Iterable[tuple[Block, Changes]]) -> Iterator[Block]:
    """What a processor gives for each block and its changes; a plug-in works on one while the next is made."""
    if isinstance(processor, host.PluginInstance):
        return processor.stream(pieces)
    return starmap(processor.process, pieces)


_STAGES: dict[str, Callable[[Iterator[Block], Any, str, _Run], Iterator[Block]]] = {
    "Butterworth": _butterworth,
    "Ducker": _duck,
    "Parallel": _parallel,
    "Plugin": _plugin,
}
"""How nodes that are no Pedalboard built-ins are run: (blocks, node, JSON path, run) to blocks as long as before."""


def _silence(frames: int, channels: int) -> Iterator[Block]:
    return repeat(np.zeros((channels, frames), np.float32))


def _cut(blocks: Iterable[Block], frames: int, skip: int = 0) -> Iterator[Block]:
    """`frames` frames, after the first `skip`."""
    for block in blocks:
        kept = block[:, skip : skip + frames]
        skip -= min(skip, block.shape[1])
        frames -= kept.shape[1]
        if kept.shape[1]:
            yield kept
        if not frames:
            return
