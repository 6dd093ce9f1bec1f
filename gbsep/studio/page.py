"""The studio's page: one document, its modules as one script, and the script that mixes in a thread of its own."""

from __future__ import annotations

from pathlib import Path
from string import Template

from ..report.scripts import FOLDER as SHARED
from ..report.scripts import bundle
from ..version import __version__

FOLDER = Path(__file__).parent / "assets"


def page(nonce: str) -> str:
    """The HTML of the studio."""
    return Template((FOLDER / "studio.html").read_text(encoding="utf-8")).substitute(
        version=__version__,
        nonce=nonce,
        style=(SHARED / "style.css").read_text(encoding="utf-8") + (FOLDER / "studio.css").read_text(encoding="utf-8"),
        script=bundle("studio", (FOLDER,)),
    )


def worklet() -> str:
    """The script of the mixer's thread."""
    return bundle("worklet", (FOLDER,))


def page_policy(nonce: str, address: str) -> str:
    """The Content-Security-Policy of the page: its own scripts and styles, the mixer's script, this server alone."""
    return (
        f"default-src 'none'; script-src 'nonce-{nonce}' {address}worklet.mjs; style-src 'nonce-{nonce}'; "
        "img-src data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'"
    )
