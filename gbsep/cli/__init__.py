"""The command line: parse, call, print, exit code."""

from .command import cli, main

__all__ = ["cli", "main"]
