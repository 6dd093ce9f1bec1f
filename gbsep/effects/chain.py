"""Chains of effects and plug-ins: the room's public names, and the conventions that hold for all of them.

A chain is a tuple of nodes. Each takes a signal and gives one of the same length. In JSON:

    [{"effect": "Compressor", "threshold_db": -18, "ratio": 2, "wet": 0.5},
     {"effect": "Parallel", "branches": [{"chain": []}, {"chain": [{"effect": "Reverb"}], "mix_db": -12}]},
     {"effect": "Plugin", "name": "ZamCompX2", "parameters": {"ratio": 4}, "on_failure": "bypass"}]

Conventions:

- The output of a node is aligned to the frame with its input, whatever its latency, so branches add up in phase.
- The signal is the input followed by the tail that was asked for; silence comes before and after it.
- `wet` (0 to 1) is the share of any effect's output, the rest being its input. The branches of Parallel are summed,
  each at its `mix_db`; a branch without effects is the dry signal.
- Times of automation are seconds from the first frame of the song. Lanes of `wet` and `mix_db` are applied to the
  frame. Any other lane is applied in steps of AUTOMATION_STEP_S, between which the output is faded; see stream.py.
- A side chain's key is the named stem as it goes into its own chain (separated, restored, dry). So chains need no
  order, and no circle can arise.
- The output of each node is checked to be finite: a single NaN turns the next effect full-scale.
- A plug-in that may be bypassed keeps its input and output on disk until the last frame is there. So whenever it fails,
  the whole signal passes unprocessed, never a part of it.

Memory is a few blocks, except for effects that do not stream (PitchShift, GSMFullRateCompressor): they hold the signal.
So do Parallel and a `wet` below 1 around a plug-in that may be bypassed, because the dry signal has to wait.

Where things are: nodes.py (what a chain is made of), table.py (the effects), parse.py (JSON and its schema), check.py
(before it runs), apply.py (routing), stream.py (one effect over blocks), builtin.py, butterworth.py, ducker.py and
plugin.py (the effects themselves).
"""

from __future__ import annotations

from .apply import apply_blocks, apply_chain
from .check import chain_files, check_chain, check_references, sidechains_of, spooled_signals
from .nodes import Branch, Effect, Node, Parallel, placed
from .parse import MAX_EFFECTS, MAX_NESTING, chain_schema, dump_chain, parse_chain
from .stream import AUTOMATION_STEP_S

__all__ = [
    "AUTOMATION_STEP_S",
    "MAX_EFFECTS",
    "MAX_NESTING",
    "Branch",
    "Effect",
    "Node",
    "Parallel",
    "apply_blocks",
    "apply_chain",
    "chain_files",
    "chain_schema",
    "check_chain",
    "check_references",
    "dump_chain",
    "parse_chain",
    "placed",
    "sidechains_of",
    "spooled_signals",
]
