"""The project's own environment: `.venv` in the checkout, with gbsep and all that developing it needs.

Needs Python 3.10 or later and nothing else.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".venv"
ALONE = ["--no-deps", "openunmix==1.3.0"]
"""Only compared with, in tests; what it asks for (torchaudio) does not go with a CPU build of torch."""

PYTHON = FOLDER / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def enter() -> None:
    """Go on in the environment: make it or bring it up to date, and run this script again with its Python."""
    if Path(sys.prefix).resolve() == FOLDER.resolve():
        return
    if sys.version_info < (3, 10):  # noqa: UP036 (said here, where it can be read)
        sys.exit(f"gbsep needs Python 3.10 or later; this is {sys.version.split()[0]}")
    _install()
    sys.exit(subprocess.run([PYTHON, *sys.argv]).returncode)


def _install() -> None:
    stamp = FOLDER / "gbsep-installed"
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    print(f"Setting up {FOLDER} (once; a few minutes) ...", flush=True)
    try:
        venv.create(FOLDER, with_pip=True, clear=True)
    except subprocess.CalledProcessError:
        sys.exit("Python's venv does not work here; on Debian and Ubuntu: apt install python3-venv")
    pip = [PYTHON, "-m", "pip", "install", "--quiet"]
    if any(subprocess.run([*pip, *what]).returncode for what in (["--editable", f"{ROOT}[dev]"], ALONE)):
        sys.exit(
            "installing failed; with no network, point pip at a folder of wheels: PIP_FIND_LINKS=DIR PIP_NO_INDEX=1"
        )
    stamp.write_text(wanted)
