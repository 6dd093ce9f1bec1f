"""A page in a real browser, what it plays and what is on it."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from gbsep.studio import Server

RATE = 44100


@contextmanager
def launched(*arguments: str) -> Iterator[Any]:
    """A real Chromium; skips where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install gbsep[dev]")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium: install it (apt-get install chromium) to test the pages for real")
    with api.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=path, args=list(arguments))
        yield chromium
        chromium.close()


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """The server, answering in a thread of its own."""
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Tab:
    """A page of the browser, and all it said and asked for."""

    def __init__(self, browser: Any, address: str, **context: Any):
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **context})
        self.context.set_default_timeout(120_000)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("requestfailed", self._failed)
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(address)
        self.page.wait_for_selector(".lane canvas")

    def _failed(self, request: Any) -> None:
        if request.failure != "net::ERR_ABORTED":  # what a page asked for when it was left
            self.said.append(f"{request.failure}: {request.url}")

    def heard(self) -> dict[str, Any]:
        """The last 46 ms that sounded, the time that the player says it is, and the source it says it plays."""
        return self.page.evaluate("""() => {
            const { player } = gbsep, samples = new Float32Array(2048);
            const seconds = player.seconds;
            player.analyser.getFloatTimeDomainData(samples);
            return { seconds, source: player.sounding, samples: [...samples] };
        }""")

    def lateness_s(self, source: np.ndarray) -> float:
        """As below, as soon as the source is heard: a busy machine may leave a gap in what it plays."""
        deadline = time.monotonic() + 5
        while True:
            try:
                return lateness_s(self.heard(), source)
            except AssertionError:
                if time.monotonic() > deadline:
                    raise
            self.page.wait_for_timeout(50)

    def begins_s(self, click: Callable[[], None]) -> float:
        """Where in the song the sound begins that a click starts, as the page itself sees it."""
        self.page.evaluate("""() => {
            const watch = () => {
                if (gbsep.player.sounding !== null) globalThis.began = gbsep.player.seconds;
                else requestAnimationFrame(watch);
            };
            watch();
        }""")
        click()
        self.until("globalThis.began !== undefined")
        return self.page.evaluate("began")

    def until(self, condition: str) -> None:
        """Wait for it. The page forbids eval, and with it Playwright's own way to wait for a condition."""
        deadline = time.monotonic() + 60
        while not self.page.evaluate(condition):
            assert time.monotonic() < deadline, f"never: {condition}; {self.said}"
            self.page.wait_for_timeout(20)


def samples(path: Path) -> np.ndarray:
    """A file, folded to mono as the analyser does."""
    return soundfile.read(path, always_2d=True)[0].mean(1)


def lateness_s(heard: dict[str, Any], source: np.ndarray) -> float:
    """By how much what was heard lies behind where the player says it is in the source, which it must be a part of."""
    tail = np.array(heard["samples"])
    end = round(heard["seconds"] * RATE)
    first = max(0, end - tail.size - RATE // 5)
    around = source[first : end + RATE // 5]
    product = np.correlate(around, tail, "valid")
    power = np.convolve(around**2, np.ones(tail.size), "valid")
    match = product / np.sqrt(power * np.sum(tail**2))
    assert match.max() > 0.95, "what is heard is not this source at this time"
    return (end - (first + int(match.argmax()) + tail.size)) / RATE


def lane(tab: Tab, stem: str, preset: str) -> Any:
    return (
        tab.page.locator(".group").filter(has=tab.page.locator("h3", has_text=stem)).locator(".lane", has_text=preset)
    )


def file_of(out: Path, preset: str, stem: str) -> np.ndarray:
    return samples(next(out.glob(f"*/{preset}/{stem}.wav")))


def chip(tab: Tab, text: str) -> Any:
    return tab.page.locator("#choices").get_by_role("button", name=text, exact=True)
