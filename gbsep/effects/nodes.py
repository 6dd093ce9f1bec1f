"""What a chain is made of: effects, plug-ins, and branches in parallel, checked and with every parameter filled in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .automation import Automation
from .plugin import Plugin


@dataclass(frozen=True)
class Effect:
    """A row of EFFECTS and all its parameters: numbers, switches, texts, or lanes of Automation."""

    name: str
    params: Mapping[str, Any]
    wet: float | Automation = 1.0


@dataclass(frozen=True)
class Branch:
    """A chain, and the level at which its output is added."""

    chain: tuple[Node, ...]
    mix_db: float | Automation = 0.0


@dataclass(frozen=True)
class Parallel:
    """Branches that get the same input, summed."""

    branches: tuple[Branch, ...]
    wet: float | Automation = 1.0
    name = "Parallel"


Node = Effect | Parallel | Plugin


def count_effects(nodes: Iterable[Node]) -> int:
    """How many effects a chain has, those of its branches included; an empty branch counts as one."""
    inner = (node.branches if isinstance(node, Parallel) else () for node in nodes)
    return sum(1 + sum(max(1, count_effects(branch.chain)) for branch in branches) for branches in inner)


def placed(nodes: Iterable[Node], where: str) -> Iterator[tuple[str, Effect | Plugin]]:
    """The JSON path of each effect in a chain, and the effect, those of its branches included."""
    for index, node in enumerate(nodes):
        here = f"{where}[{index}]"
        if not isinstance(node, Parallel):
            yield here, node
            continue
        for number, branch in enumerate(node.branches):
            yield from placed(branch.chain, f"{here}.branches[{number}].chain")
