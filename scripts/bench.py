#!/usr/bin/env python3
"""Benchmarks: `python scripts/bench.py --help` lists them. All times are ratios measured side by side in one run."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parent))


@click.group(help=__doc__)
def bench() -> None:
    pass


for module in pkgutil.iter_modules([str(Path(__file__).parent / "benchmarks")]):
    try:
        command = getattr(importlib.import_module(f"benchmarks.{module.name}"), "command", None)
    except ModuleNotFoundError as error:
        sys.exit(f"{error}; benchmarks need what tests need: pip install -e '.[dev]'")
    if command is not None:
        bench.add_command(command, module.name)

if __name__ == "__main__":
    bench()
