"""`gbsep doctor`: a look at this installation."""

from __future__ import annotations

from dataclasses import asdict

import click

from .common import debug_option, print_json, print_table
from .helping import command


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
        print_table(
            ("subject", "state", "found", "next step"),
            [(check.subject, check.state, check.detail, check.next_step) for check in checks],
        )
    return 1 if any(check.state == "problem" for check in checks) else 0
