#!/usr/bin/env python3
"""Take the documentation's pictures in real Chromium: the report of a song through two presets, and the studio with it.

The song is made by gbsep: nobody's recording is shown. Needs Chromium and the environment of scripts/test.py.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import environment

PICTURES = environment.ROOT / "docs" / "pictures"
SECONDS = 24
WIDTH, HEIGHT = 1100, 860
QUALITY = 72


def gbsep(*words: str, folder: Path) -> None:
    """Run a command in a folder."""
    subprocess.run([sys.executable, "-m", "gbsep", *words], cwd=folder, check=True)


@contextmanager
def opened(address: str, scheme: str) -> Iterator[Any]:
    """A page in Chromium."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        sys.exit("there is no Chromium: install it (apt-get install chromium)")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=["--autoplay-policy=no-user-gesture-required"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme)
        page.goto(address)
        yield page
        browser.close()


def until(page: Any, what: str, seconds: float = 120) -> None:
    """Wait for something of a page to be so."""
    end = time.monotonic() + seconds
    while not page.evaluate(what):
        if time.monotonic() > end:
            sys.exit(f"it never came: {what}")
        time.sleep(0.1)


def report(folder: Path, picture: Path) -> None:
    """The report of the song, with its true stems."""
    presets = ["-p", "default", "-p", "exp002"]
    gbsep("compare", "stems/mixture.wav", *presets, "--reference", "stems", "--html", "page.html", folder=folder)
    with opened((folder / "page.html").as_uri(), "light") as page:
        until(page, "[...document.images].every(image => image.complete)")
        page.wait_for_timeout(1500)
        page.screenshot(path=str(picture), type="jpeg", quality=QUALITY)


def studio(folder: Path, picture: Path) -> None:
    """The studio: four bars of the song as a loop, a compressor on the bass."""
    songs = folder / "songs"
    songs.mkdir()
    shutil.copy(folder / "stems" / "mixture.wav", songs / "song.wav")
    gbsep("render", "song.wav", folder=songs)
    words = [sys.executable, "-m", "gbsep", "studio", str(songs), "--no-browser"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        try:
            with opened(server.stdout.readline().strip(), "dark") as page:
                until(page, "globalThis.gbsep?.state.take && gbsep.state.tempo?.bpm && gbsep.state.plugins")
                page.evaluate("gbsep.deck.seek(10); document.getElementById('language').remove()")
                page.click("#bars")
                page.select_option("#effect", "Compressor")
                page.click("#add")
                page.locator('[data-param="threshold_db"]').fill("0.6")
                page.locator('[data-param="ratio"]').fill("0.3")
                page.click("#play")
                until(page, "gbsep.deck.playing && gbsep.deck.seconds > gbsep.deck.loop.start + 3")
                until(page, "!document.querySelector('.picture.wave')")
                page.evaluate("document.activeElement.blur()")
                page.screenshot(path=str(picture), type="jpeg", quality=QUALITY)
        finally:
            server.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("which", nargs="*", default=["report", "studio"], help="report, studio [default: both]")
    wanted = parser.parse_args().which
    environment.enter()
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        gbsep("demo", "--seconds", str(SECONDS), "--out", "stems", folder=folder)
        for name, take in (("report", report), ("studio", studio)):
            if name in wanted:
                take(folder, PICTURES / f"{name}.jpg")
                print(f"{name}.jpg: {(PICTURES / f'{name}.jpg').stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
