"""The project's own environment: `.venv` in the checkout, with gbsep and what a script asks for.

Needs Python 3.10 or later and nothing else. Three amounts, each of which holds the ones before: `demo` is what the
default preset needs, without torch; `docs` also builds the documentation; `dev` is everything. A later script brings
the rest into the same environment.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".venv"
STAMP = FOLDER / "gbsep-installed"
ALONE = ["--no-deps", "openunmix==1.3.0"]
"""Only compared with, in tests; what it asks for (torchaudio) does not go with a CPU build of torch."""

LARGE = ("demucs", "librosa", "torch")
"""What gbsep runs without as long as nothing asks for Demucs, Open-Unmix, training or the studio's tempo and key."""
AMOUNTS = ("demo", "docs", "dev")

PYTHON = FOLDER / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def enter(amount: str = "dev") -> None:
    """Go on in the environment: make it or bring it up to date, and run this script again with its Python."""
    if Path(sys.prefix).resolve() == FOLDER.resolve():
        return
    if sys.version_info < (3, 10):  # noqa: UP036 (said here, where it can be read)
        sys.exit(f"gbsep needs Python 3.10 or later; this is {sys.version.split()[0]}")
    _install(amount)
    sys.exit(subprocess.run([PYTHON, *sys.argv]).returncode)


def _install(amount: str) -> None:
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    found = STAMP.read_text().split() if STAMP.is_file() else []
    is_current = len(found) == 2 and found[0] == wanted
    if is_current and AMOUNTS.index(found[1]) >= AMOUNTS.index(amount):
        return
    print(f"Setting up {FOLDER} (once; {'a minute' if amount == 'demo' else 'a few minutes'}) ...", flush=True)
    if not is_current:
        try:
            venv.create(FOLDER, with_pip=True, clear=True)
        except subprocess.CalledProcessError:
            sys.exit("Python's venv does not work here; on Debian and Ubuntu: apt install python3-venv")
    if amount == "dev":
        _pip("--editable", f"{ROOT}[dev]")
        _pip(*ALONE)
    else:
        _pip("--no-deps", "--editable", str(ROOT))
        _pip("--no-warn-conflicts", "--no-compile", *_requirements(extra="docs" if amount == "docs" else ""))
    STAMP.write_text(f"{wanted} {amount}")


def _pip(*what: str) -> None:
    if subprocess.run([PYTHON, "-m", "pip", "install", "--quiet", *what]).returncode:
        sys.exit(
            "installing failed; with no network, point pip at a folder of wheels: PIP_FIND_LINKS=DIR PIP_NO_INDEX=1"
        )


def _requirements(extra: str = "") -> list[str]:
    """What the installed gbsep requires, as far as it is asked for."""
    ask = "import importlib.metadata as m; print(*m.requires('gbsep'), sep='\\n')"
    texts = subprocess.run([PYTHON, "-c", ask], check=True, capture_output=True, text=True).stdout.splitlines()
    return asked_for(texts, extra)


def asked_for(texts: list[str], extra: str = "") -> list[str]:
    """Of the requirements in a package's metadata those without an extra but for what is large, and an extra's."""
    plain = [text for text in texts if "extra ==" not in text and re.split(r"[^\w-]", text)[0] not in LARGE]
    added = [text.split(";")[0].strip() for text in texts if re.search(rf"extra == .{extra}.$", text)] if extra else []
    return plain + added
