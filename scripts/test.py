#!/usr/bin/env python3
"""Set gbsep up and run the whole test suite; arguments go to pytest, as in `python3 scripts/test.py -k chain`."""

from __future__ import annotations

import os
import subprocess
import sys

import environment


def main() -> int:
    environment.enter()
    # Tests run side by side, so each process keeps to one thread.
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [sys.executable, "-m", "pytest", "--numprocesses=auto", "--dist=loadfile", *sys.argv[1:]]
    return subprocess.run(command, cwd=environment.ROOT, env={**os.environ, **threads}).returncode


if __name__ == "__main__":
    sys.exit(main())
