"""One recording, start to finish: separate, restore the level, send through the chains, write.

    plan(path, preset, options) -> Plan        all that can be known to be wrong is raised; nothing is written
    run(plan) -> Outcome                       separate -> restore -> process -> document
    plan_chain(path, preset, stem), run_chain  a preset's chain alone, over a file as it is

The modules are `planning` and `running`, as in gbsep.batch: `plan` and `run` are the functions.
"""

from __future__ import annotations

from .chain_only import ChainOutcome, ChainPlan, plan_chain, run_chain
from .names import track_names, without_suffix
from .options import Given, Options, Progress, Separations, folder_name
from .planning import RENDERING_VERSION, Plan, chosen_preset, plan
from .running import Outcome, render, run

__all__ = [
    "RENDERING_VERSION",
    "ChainOutcome",
    "ChainPlan",
    "Given",
    "Options",
    "Outcome",
    "Plan",
    "Progress",
    "Separations",
    "chosen_preset",
    "folder_name",
    "plan",
    "plan_chain",
    "render",
    "run",
    "run_chain",
    "track_names",
    "without_suffix",
]
