"""The studio in Chromium: from drop to sound, from knob to sound, and what memory it takes, also over hours.

The server is `gbsep studio`, in a process of its own. Times are seconds, and depend on what else the machine does:
beside them stands how fast it is just then, four minutes of `gbsep render` without a page.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np

RATE = 44100
LONG_RATE = 22050

KNOB = """async (value) => {
    const port = gbsep.deck.node.port, post = port.postMessage.bind(port);
    const heard = new Promise((resolve) => {
        port.postMessage = (message) => {
            post(message);
            if (message[0] === "take" && message[2] === "bass") resolve(performance.now());
        };
    });
    const knob = document.querySelector('[data-param="cutoff_frequency_hz"]');
    knob.value = value;
    const begun = performance.now();
    knob.dispatchEvent(new Event("input"));
    const took = (await heard) - begun;
    delete port.postMessage;
    return took + 1000 * (gbsep.deck.context.baseLatency + (gbsep.deck.context.outputLatency || 0));
}"""
"""Turn a knob; milliseconds until the mixer has the sound with it, which plays in its next block, and comes out."""


def resident_mb(process: int) -> float:
    """What a process and those that it started hold in memory, in megabytes."""
    total = 0.0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            told = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        except OSError:
            continue
        if process in (int(told["Pid"]), int(told["PPid"])):
            total += int(told.get("VmRSS", "0 kB").split()[0]) / 1000
    return total


def until(page: Any, what: str, seconds: float = 900) -> None:
    end = time.monotonic() + seconds
    while not page.evaluate(what):
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.02)


@contextmanager
def opened(browser: Any, folder: Path) -> Iterator[tuple[Any, int]]:
    """A page of the studio of a folder, and the process that serves it."""
    words = [sys.executable, "-m", "gbsep", "studio", str(folder), "--no-browser"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout
        page = browser.new_page(viewport={"width": 1400, "height": 950})
        try:
            page.goto(server.stdout.readline().strip())
            until(page, "globalThis.gbsep?.state.library.presets.length > 0")
            yield page, server.pid
        finally:
            page.close()
            server.terminate()


SOUNDS = "gbsep.deck.playing && !gbsep.deck.stalled && Object.values(gbsep.deck.peaks).some((one) => one > 0)"


def from_drop(browser: Any, song: Path, folder: Path, say: Callable[[str, str], None]) -> None:
    """Drop a song, wait for what comes, turn a knob."""
    with opened(browser, folder) as (page, server):
        page.wait_for_timeout(10_000)  # its processes load what they need
        begun = time.perf_counter()
        page.set_input_files("#files", song)
        until(page, "document.querySelector('#lanes canvas')?.width > 300 && gbsep.state.song")
        say("drop to waveform", f"{time.perf_counter() - begun:.1f} s")
        until(page, SOUNDS)
        say("drop to first sound", f"{time.perf_counter() - begun:.1f} s")
        until(page, "gbsep.state.take?.name === 'default'")
        took = time.perf_counter() - begun
        say(
            "drop to the whole song",
            f"{took:.1f} s, {page.evaluate('gbsep.state.song.seconds') / took:.0f} x real time",
        )
        page.select_option("#effect", "LowpassFilter")
        page.click("#add")
        until(page, "gbsep.deck.take.tracks[0].voice !== '-' && !gbsep.deck.stalled")
        times = []
        for number in range(40):
            times.append(page.evaluate(KNOB, str(0.3 + 0.01 * number)))
            page.wait_for_timeout(150)
        say("knob to sound", f"{statistics.median(times):.0f} ms in the median, {max(times):.0f} ms at most, of 40")
        memory(page, server, "four minutes", say)


def memory(page: Any, server: int, what: str, say: Callable[[str, str], None]) -> None:
    """What page and server hold after 60 jumps all over the song."""
    chance = np.random.default_rng(0)
    if not page.evaluate("gbsep.deck.playing"):
        page.click("#play")
    most = 0
    for _ in range(60):
        page.evaluate(f"gbsep.deck.seek({chance.random() * 0.99} * gbsep.state.song.seconds)")
        page.wait_for_timeout(300)
        most = max(most, page.evaluate("gbsep.deck.held"))
    client = page.context.new_cdp_session(page)
    client.send("HeapProfiler.collectGarbage")
    heap = client.send("Runtime.getHeapUsage")
    page_mb = (heap["usedSize"] + heap.get("backingStorageSize", 0)) / 1e6
    say(
        f"memory, {what}", f"page {page_mb:.0f} MB, {most} pieces of sound at most; server {resident_mb(server):.0f} MB"
    )


def over_hours(browser: Any, minutes: float, folder: Path, say: Callable[[str, str], None]) -> None:
    """A recording of hours through the Butterworth filter, and jumps all over it."""
    from gbsep.audio import Audio
    from gbsep.io.write import write

    chance = np.random.default_rng(1)
    noise = 0.1 * chance.standard_normal((1, round(60 * minutes * LONG_RATE)), np.float32)
    write(folder / "hours.wav", Audio(noise, LONG_RATE))
    del noise
    with opened(browser, folder) as (page, server):
        until(page, "gbsep.state.song")
        page.select_option("#preset", "exp002")
        begun = time.perf_counter()
        page.click("#render")
        until(page, "gbsep.state.take?.name === 'exp002'")
        say(f"{minutes:g} minutes by exp002", f"{time.perf_counter() - begun:.0f} s")
        memory(page, server, f"{minutes:g} minutes", say)


@click.command(help=__doc__)
@click.option("--song", type=click.Path(exists=True, path_type=Path), help="A recording. [default: a made-up one]")
@click.option("--minutes", default=4.0, show_default=True, help="Of the made-up one.")
@click.option("--long", "long_minutes", default=120.0, show_default=True, help="Minutes of the long one; 0: none.")
def command(song: Path | None, minutes: float, long_minutes: float) -> None:
    from playwright.sync_api import sync_playwright

    from gbsep.demo import make_demo
    from gbsep.io.write import write

    def say(what: str, told: str) -> None:
        click.echo(f"| {what} | {told} |")

    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        sys.exit("there is no Chromium: install it (apt-get install chromium)")
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as play:
        place = Path(temporary)
        if song is None:
            song = place / "song.wav"
            write(song, make_demo(60 * minutes, RATE)[0])
        click.echo("| what | how much |\n| --- | ---: |")
        begun = time.perf_counter()
        words = [sys.executable, "-m", "gbsep", "render", str(song), "--out", str(place / "alone"), "--no-cache"]
        subprocess.run(words, check=True, capture_output=True)
        say("`gbsep render` without a page", f"{time.perf_counter() - begun:.1f} s")
        browser = play.chromium.launch(executable_path=path, args=["--autoplay-policy=no-user-gesture-required"])
        short, hours = place / "short", place / "long"
        short.mkdir()
        from_drop(browser, song, short, say)
        if long_minutes:
            hours.mkdir()
            over_hours(browser, long_minutes, hours, say)
        browser.close()
