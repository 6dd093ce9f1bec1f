"""`gbsep doctor`: a look at this installation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from .common import debug_option, print_json, print_table, say
from .helping import command

if TYPE_CHECKING:
    from ..doctor import Check


@command(short_help="Look at this installation: what works, what is missing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per check.")
@debug_option
def doctor(as_json: bool) -> int:
    """Look at this installation: what works, what is missing, what to do about it.

    \b
    gbsep doctor

    \b
    Exit codes: 0 nothing is wrong (things one can do without may be missing),
    1 something is.
    """
    from ..doctor import examine

    checks = list(examine())
    if as_json:
        for check in checks:
            print_json(asdict(check))
    else:
        for line in verdict(checks).splitlines():
            say(line)
        print_table(
            ("subject", "state", "found", "next step"),
            [(check.subject, check.state, check.detail, check.next_step) for check in checks],
        )
    return 1 if any(check.state == "problem" for check in checks) else 0


def verdict(checks: Sequence[Check]) -> str:
    """All of it in a line or two."""
    problems = [check for check in checks if check.state == "problem"]
    spared = [check for check in checks if check.state == "missing"]
    models = [check.subject for check in spared if check.next_step == f"gbsep models get {check.subject}"]
    missing = [check.subject for check in spared if check.subject not in models]
    if models:
        missing.append(f"the weights of {len(models)} model{'s' if len(models) > 1 else ''}")
    if problems:
        steps = "; ".join(f"{check.subject}: {check.next_step or check.detail}" for check in problems)
        return f"{len(problems)} thing{'s' if len(problems) > 1 else ''} to mend first. {steps}"
    spare = f"\nNot here, and not needed by the default preset: {', '.join(missing)}." if missing else ""
    return f"All is well: gbsep can render.{spare}"
