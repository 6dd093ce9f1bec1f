"""Many recordings, several presets: plan all of it, then run it in worker processes, or on a cluster.

    batch.plan(["album/", "more/*.flac", "songs.csv"], ["exp002", "exp005"], Options(Path("stems"))) -> Batch
    batch.run(batch, on_event=show) -> an iterator of Outcome

Planning raises or collects all that can be known to be wrong, and writes nothing. Running isolates: what happens to one
song happens to no other. There is no journal beside the renders themselves: render.json says what a finished folder was
made of, inputs by their content, and appears last; so what it does not vouch for is not done, whatever killed the run.
"""

from __future__ import annotations

from .planning import Batch, plan
from .running import run
from .task import Event

__all__ = ["Batch", "Event", "plan", "run"]
