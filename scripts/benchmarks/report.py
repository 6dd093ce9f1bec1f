"""A comparison of five presets over four minutes: what the page weighs, how fast it opens and how fast it sounds.

The page is opened from the disk by the Chromium of this machine; beside it, an empty page.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import click

PRESETS = ("exp002_100", "exp002_150", "exp002_200", "exp002_250", "exp002_300")
MEGABYTE = 1e6


def weigh(page: Path) -> tuple[float, float, float]:
    """Megabytes of the page, of what lies beside it, and the megabytes of those that are sound."""
    beside = list(page.with_name(f"{page.stem}_files").glob("*.js"))
    sound = sum(path.stat().st_size for path in beside if not path.stem.endswith("mel"))
    return (
        page.stat().st_size / MEGABYTE,
        sum(path.stat().st_size for path in beside) / MEGABYTE,
        sound / MEGABYTE,
    )


def open_page(browser: Any, address: str, drawn: str) -> tuple[float, Any]:
    """Seconds until `drawn` holds on a page that is opened anew, and the page."""
    page = browser.new_page()
    begun = time.perf_counter()
    page.goto(address)
    until(page, drawn)
    return time.perf_counter() - begun, page


def until(page: Any, condition: str) -> None:
    while not page.evaluate(condition):
        page.wait_for_timeout(5)


DRAWN = """(() => {
    const shown = [...document.querySelectorAll(".lane canvas")].filter((one) => one.clientWidth);
    return shown.length > 10 && shown.every((one) => one.width === Math.round(one.clientWidth * devicePixelRatio));
})()"""


@click.command(help=__doc__)
@click.option("--minutes", default=4.0, show_default=True)
@click.option("--rounds", default=5, show_default=True)
def command(minutes: float, rounds: int) -> None:
    from playwright.sync_api import sync_playwright

    from gbsep import demo, render
    from gbsep.report import collect, write_report

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        place = Path(folder)
        song = demo.write_demo(place / "demo", seconds=60.0 * minutes)["mixture"]
        begun = time.perf_counter()
        for preset in PRESETS:
            render(song, preset, place / "out", use_cache=False)
        rendered = time.perf_counter()
        page = write_report(place / "out" / "report.html", "report", collect(place / "out"))[0]
        written = time.perf_counter()
        (place / "empty.html").write_text("<title>empty</title>", encoding="utf-8")
        whole, beside, sound = weigh(page)
        renders = sum(path.stat().st_size for path in (place / "out").rglob("*.wav")) / MEGABYTE
        click.echo(f"{len(PRESETS)} renders of {minutes:g} minutes: {rendered - begun:.1f} s, {renders:.0f} MB")
        click.echo(
            f"the page: {written - rendered:.1f} s, {(written - rendered) / (rendered - begun):.2f} of the renders"
        )
        click.echo(f"{whole + beside - sound:.1f} MB beside {sound:.0f} MB of sound (limit 60 MB)")

        browser = play.chromium.launch(executable_path=shutil.which("chromium"))
        opened, empty, sounded = [], [], []
        for _ in range(rounds):
            seconds, tab = open_page(browser, (place / "empty.html").as_uri(), "true")
            empty.append(seconds)
            tab.close()
            seconds, tab = open_page(browser, page.as_uri(), DRAWN)
            opened.append(seconds)
            tab.locator("#play").click()
            begun = time.perf_counter()
            until(tab, "gbsep.player.seconds > 0")
            sounded.append(time.perf_counter() - begun)
            tab.close()
        browser.close()
        click.echo(
            f"opens, all drawn, in {statistics.median(opened):.2f} s (limit 3 s; an empty page "
            f"{statistics.median(empty):.2f} s), sounds {statistics.median(sounded):.2f} s after a click"
        )
