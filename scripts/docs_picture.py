#!/usr/bin/env python3
"""Take the documentation's picture of the report in real Chromium: the demo song through two presets.

The song is made by gbsep: nobody's recording is shown. Needs Chromium and the environment of scripts/test.py.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import environment

PICTURE = environment.ROOT / "docs" / "pictures" / "report.jpg"
SECONDS = 24
WIDTH, HEIGHT = 1100, 860
QUALITY = 72


def take(page_file: Path, picture: Path) -> None:
    """A picture of a page, as it is when it has drawn itself."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        sys.exit("there is no Chromium: install it (apt-get install chromium)")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(page_file.as_uri())
        page.wait_for_function("[...document.images].every(image => image.complete)")
        page.wait_for_timeout(1500)
        page.screenshot(path=str(picture), type="jpeg", quality=QUALITY)
        browser.close()


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    environment.enter()
    with tempfile.TemporaryDirectory() as temporary:
        for words in (
            ["demo", "--seconds", str(SECONDS), "--out", "stems"],
            [
                "compare",
                "stems/mixture.wav",
                "-p",
                "default",
                "-p",
                "exp002",
                "--reference",
                "stems",
                "--html",
                "page.html",
            ],
        ):
            subprocess.run([sys.executable, "-m", "gbsep", *words], cwd=temporary, check=True)
            if words[0] == "demo":
                shutil.copy(Path(temporary, "stems", "mixture.wav"), Path(temporary, "song.wav"))
        PICTURE.parent.mkdir(exist_ok=True)
        take(Path(temporary) / "page.html", PICTURE)
    print(f"{PICTURE}: {PICTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
