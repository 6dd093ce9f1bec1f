"""What a chain needs, checked before it runs: sample rate, files, plug-ins, side chains, room on disk."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..arguments import checked
from ..errors import ParameterError, nearest
from ..params import SAMPLE_RATE
from .automation import Automation
from .builtin import check_files
from .nodes import Effect, Node, Parallel, placed
from .plugin import Plugin, check_plugin, plugin_files
from .table import is_lowpass, spec_of


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
    for plug-ins what `plugin.check_plugin` raises.
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
        if passes_through(node, sample_rate):
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
    """Warnings about what a chain names beyond itself, at any sample rate: plug-ins, and stems as side chains.

    Raises ParameterError for a key that is not among the `stems`, when they are given; for plug-ins what
    `plugin.check_plugin` raises.
    """
    warnings = []
    for here, node in placed(nodes, where):
        if isinstance(node, Plugin):
            warnings += check_plugin(node, here, allow_plugin_paths)
        for name, key in _keys(node).items():
            if stems is not None and key not in stems:
                raise ParameterError(f"{here}.{name}", key, f"no such stem{nearest(key, stems)}")
    return warnings


def _keys(node: Effect | Plugin) -> dict[str, str]:
    """The stems that are side chains of an effect, by the name of the parameter."""
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
    """The stems that are side chains of a chain."""
    return {key for _, node in placed(nodes, "chain") for key in _keys(node).values()}


def _values(value: Any) -> tuple[float, ...]:
    return value.values if isinstance(value, Automation) else (value,)


def passes_through(node: Effect, sample_rate: int) -> bool:
    cutoffs = [node.params[param.name] for param in spec_of(node.name).params if param.cutoff]
    fixed = [value for value in cutoffs if not isinstance(value, Automation)]
    return is_lowpass(node.name, node.params) and bool(fixed) and float(fixed[0]) >= sample_rate / 2
