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
