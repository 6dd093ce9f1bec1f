"""The studio in a real browser: the journeys of a bassist and of a producer, what is heard, and who can use it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import gbsep
from gbsep.audio import Audio
from gbsep.io.formats import OutputFormat
from gbsep.io.write import write
from gbsep.measure.levels import measure
from gbsep.shelf import record
from gbsep.studio import Server

from .browsing import launched, serving
from .test_notes import line_of, sound_of

RATE = 22050
HOSTILE = "노래 '<img src=x onerror=hacked=1>' & 🎸"


def song(seconds: float, seed: int = 0) -> Audio:
    """A bass on every beat of 120 a minute, under noise that decays."""
    time_s = np.arange(round(seconds * RATE)) / RATE
    beat = np.exp(-6 * (time_s % 0.5))
    noise = np.random.default_rng(seed).standard_normal((2, len(time_s)))
    return Audio(0.3 * np.sin(2 * np.pi * 82.4 * time_s) * beat + 0.05 * noise * beat, RATE)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched("--autoplay-policy=no-user-gesture-required") as chromium:
        yield chromium


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr("gbsep.studio.hand.Hand.warm", lambda self: None)
    with serving(Server(tmp_path / "songs")) as server:
        yield server


class Tab:
    """A page of the studio, and all it said and asked for."""

    def __init__(self, browser: Any, server: Server, **context: Any):
        self.context = browser.new_context(**{"viewport": {"width": 1400, "height": 950}, **context})
        self.context.set_default_timeout(200_000)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(server.address)
        self.page.wait_for_selector("#drop button")
        self.until("gbsep.state.library.presets.length > 0")

    def until(self, wanted: str, seconds: float = 300) -> None:
        end = time.monotonic() + seconds
        while not self.page.evaluate(wanted):
            assert time.monotonic() < end, (wanted, self.page.evaluate("gbsep.state.jobs"), self.said)
            time.sleep(0.05)

    def separate(self, preset: str) -> None:
        self.page.select_option("#preset", preset)
        self.page.click("#render")
        self.until(f"gbsep.state.take?.name === {json.dumps(preset)}")

    def hears(self) -> dict[str, float]:
        """The peaks of the tracks, once sound has come."""
        self.until(
            "gbsep.deck.playing && !gbsep.deck.stalled && Object.values(gbsep.deck.peaks).some((one) => one > 0)"
        )
        time.sleep(0.4)
        peaks: dict[str, float] = self.page.evaluate("""async () => {
            const most = {};
            for (let count = 0; count < 20; count += 1) {
                const peaks = Object.entries(gbsep.deck.peaks);
                for (const [name, peak] of peaks) most[name] = Math.max(most[name] ?? 0, peak);
                await new Promise((resolve) => setTimeout(resolve, 50));
            }
            return most;
        }""")
        return peaks

    def close(self, server: Server) -> None:
        assert self.said == []
        assert all(url.startswith((f"http://{server.host}/", "data:")) for url in self.asked)
        self.context.close()


def test_a_bassist_drops_a_song_loops_it_slowly_and_takes_the_play_along_home(
    browser: Any, server: Server, tmp_path: Path
) -> None:
    path = tmp_path / f"{HOSTILE}.wav"
    gbsep.write(path, song(30))
    tab = Tab(browser, server)
    page = tab.page
    page.evaluate("gbsep.state.preset = 'exp002'")
    page.set_input_files("#files", path)
    tab.until("gbsep.state.take && gbsep.deck.playing")
    first = page.evaluate("gbsep.state.take.name")
    assert first in ("first~exp002", "exp002")
    assert max(tab.hears().values()) > 0.01
    tab.until("gbsep.state.take.name === 'exp002'")
    page.click('[data-strip="bass"] [data-does="solo"]')
    page.keyboard.press("Escape")
    peaks = tab.hears()
    assert peaks["bass"] > 0.05
    assert peaks["guitar"] < 0.001
    tab.until("gbsep.state.tempo !== null")
    page.evaluate("gbsep.deck.seek(4)")  # a slow machine may be near the song's end by now
    page.click("#bars")
    loop = page.evaluate("gbsep.deck.loop")
    assert loop["end"] - loop["start"] == pytest.approx(8, abs=0.4)
    page.select_option("#speed", "0.7")
    tab.until("gbsep.deck.setting.speed === 0.7 && gbsep.deck.playing && !gbsep.deck.stalled")
    assert tab.hears()["bass"] > 0.02
    page.click('[data-strip="bass"] [data-does="solo"]')
    page.locator('[data-strip="bass"] .fader').fill("-12")
    page.click("#tab-home")
    page.check("#onlyloop")
    page.click("#export")
    page.wait_for_selector("#taken li a")
    (place,) = (server.studio.out).glob("*/exp002@mix*")  # type: ignore[union-attr]
    found = record.read(place)
    assert found is not None
    mix = found.overrides["mix"]
    assert (mix["speed"], mix["strips"][0]["gain_db"]) == (0.7, -12.0)
    assert soundfile.info(place / "mix.wav").duration == pytest.approx((loop["end"] - loop["start"]) / 0.7, abs=0.01)
    assert page.evaluate("globalThis.hacked") is None
    page.screenshot(path=tmp_path / "bassist.png", full_page=True)
    tab.close(server)


def test_a_producer_changes_the_chain_saves_it_renders_all_and_takes_the_session(
    browser: Any, server: Server, tmp_path: Path
) -> None:
    paths = [tmp_path / f"song {number}.wav" for number in range(10)]
    for number, path in enumerate(paths):
        gbsep.write(path, song(4, number))
    tab = Tab(browser, server)
    page = tab.page
    page.evaluate("gbsep.state.preset = 'exp002'")
    page.set_input_files("#files", paths)
    tab.until("gbsep.state.library.songs.filter((one) => one.takes.includes('exp002')).length === 10", 900)
    tab.until("gbsep.state.take?.name === 'exp002'")
    page.keyboard.press("Escape")
    page.select_option("#effect", "HighpassFilter")
    page.click("#add")
    tab.until("gbsep.deck.take.tracks[0].voice !== '-'")
    page.locator('[data-param="cutoff_frequency_hz"]').fill("0.9")
    tab.until("gbsep.state.past.length === 2")
    page.click("#undo")
    page.click("#redo")
    assert page.evaluate("gbsep.state.chains.bass[0].cutoff_frequency_hz") > 4_000
    page.fill("#presetname", "thin bass")
    page.click("#savepreset")
    tab.until("gbsep.state.library.presets.some((one) => one.name === 'thin bass')")
    tab.page.evaluate("gbsep.studio.build()")
    page.click("#batch")
    tab.until("gbsep.state.library.songs.every((one) => one.takes.includes('thin bass'))", 900)
    tab.until("gbsep.state.take?.name === 'thin bass'")
    gbsep.render(paths[0], server.studio.folder / "presets/thin bass.json", tmp_path / "apart", use_cache=False)  # type: ignore[union-attr]
    for stem in ("bass", "guitar"):
        here = server.studio.out / "song 0/thin bass" / f"{stem}.wav"  # type: ignore[union-attr]
        assert here.read_bytes() == (tmp_path / "apart/song 0/thin bass" / f"{stem}.wav").read_bytes()
    page.click("#tab-home")
    page.click('[data-session="reaper"]')
    page.wait_for_selector("#taken li a")
    assert "song 0.rpp" in page.inner_text("#taken")
    page.screenshot(path=tmp_path / "producer.png", full_page=True)
    tab.close(server)


def test_the_notes_of_a_bass_are_written_seen_and_taken_back(browser: Any, server: Server, tmp_path: Path) -> None:
    server.studio.folder.mkdir(exist_ok=True)  # type: ignore[union-attr]
    line = line_of([28, 33, 35, 40, 38, 33, 31, 28, 36, 40])
    write(server.studio.folder / "line.wav", sound_of(line), OutputFormat("wav", "16"))  # type: ignore[union-attr]
    tab = Tab(browser, server)
    page = tab.page
    tab.until("gbsep.state.song !== null")
    tab.separate("exp002")
    kept = server.studio.out / "line/exp002/bass.notes.csv"  # type: ignore[union-attr]
    button, undo = (f'[data-strip="bass"] [data-notes="{what}"]' for what in ("show", "undo"))
    picture = """() => new Promise((resolve) => setTimeout(() => resolve(
        document.querySelector('[data-strip="bass"] canvas:not(.meter)').toDataURL()), 600))"""
    page.evaluate("gbsep.state.picture = 'wave'; gbsep.studio.lanes()")  # one that is drawn once
    page.wait_for_selector('[data-strip="bass"] .picture.wave')
    bare = page.evaluate(picture)
    assert page.get_attribute(button, "aria-pressed") == "false"
    page.click(button)
    page.wait_for_selector(undo)
    assert kept.is_file()
    assert page.get_attribute(button, "aria-pressed") == "true"
    assert page.evaluate("gbsep.state.written.bass.notes.length") > 5
    assert page.evaluate(picture) != bare
    page.screenshot(path=tmp_path / "notes.png")
    page.evaluate("""() => {
        const before = OscillatorNode.prototype.start;
        globalThis.plucked = [];
        OscillatorNode.prototype.start = function (...when) {
            plucked.push(this.frequency.value);
            return before.apply(this, when);
        };
    }""")
    onset_s, end_s, midi, _ = page.evaluate("gbsep.state.written.bass.notes[3]")
    lane = page.locator('[data-strip="bass"] canvas:not(.meter)')
    box = lane.bounding_box()
    lowest, highest = page.evaluate("""() => {
        const pitches = gbsep.state.written.bass.notes.map((note) => note[2]);
        return [Math.min(...pitches) - 2, Math.max(...pitches)];
    }""")
    rows = max(highest, lowest + 12) + 3 - lowest
    across = (onset_s + end_s) / 2 / page.evaluate("gbsep.state.song.seconds")
    lane.click(position={"x": across * box["width"], "y": box["height"] * (1 - (midi - lowest + 0.5) / rows)})
    assert page.evaluate("plucked") == [pytest.approx(440 * 2 ** ((midi - 69) / 12), rel=1e-4)]
    assert page.evaluate("gbsep.deck.seconds") == pytest.approx(onset_s, abs=0.01)
    page.click(button)
    assert page.evaluate(picture) == bare
    assert kept.is_file()
    page.click(button)
    page.reload()
    tab.until("gbsep.state.written?.bass?.notes.length > 5")
    assert page.locator(undo).count() == 0
    kept.unlink()
    page.reload()
    tab.until("gbsep.state.take !== null")
    page.click(button)
    page.click(undo)
    tab.until("!gbsep.state.written.bass")
    assert not kept.exists()
    tab.close(server)


def test_200_changes_in_ten_minutes_leave_the_stems_in_step_to_the_frame(browser: Any, server: Server) -> None:
    """In the browser's own audio thread, in time lapse: every frame of both stems is where it should be."""
    tab = Tab(browser, server)
    how = {"seconds": 600, "rate": 22050, "every": 128 * 487, "piece": 2**15, "fade": 256}
    told = tab.page.evaluate(Path(__file__).with_name("studio_sync.js").read_text(), how)
    assert told["changes"] >= 200
    assert told["checked"] > 0.98 * how["seconds"] * how["rate"]
    assert told["off"] == 0
    tab.close(server)


@pytest.fixture
def opened(browser: Any, server: Server) -> Iterator[Tab]:
    """A song that two presets have rendered."""
    server.studio.folder.mkdir(exist_ok=True)  # type: ignore[union-attr]
    gbsep.write(server.studio.folder / "here.wav", song(12))  # type: ignore[union-attr]
    tab = Tab(browser, server)
    tab.until("gbsep.state.song !== null")
    for preset in ("exp002_150", "exp002"):
        tab.separate(preset)
    tab.page.evaluate("gbsep.deck.setLoop({ start: 1, end: 9 })")  # it shall not end before the test does
    yield tab
    tab.close(server)


def test_what_is_turned_while_sound_is_on_its_way_does_not_stop_it(opened: Tab) -> None:
    opened.page.click("#play")
    opened.hears()
    for turned in (
        "setLoop({ start: 1, end: 4 })",
        "setLevels({ bass: [1, 1], mixture: [1, 1] })",
        "seek(2)",
        "setLoop({ start: 3, end: 7 })",
    ):
        for speed in (0.8, 1):
            opened.page.evaluate(f"gbsep.deck.setSpeed({{ speed: {speed}, semitones: 0 }}); gbsep.deck.{turned}")
        assert opened.hears()


def test_a_blind_test_hides_the_names_until_the_vote(opened: Tab, server: Server) -> None:
    page = opened.page
    page.click("#tab-review")
    page.click("#blindbegin")
    page.click("#play")
    for letter in ("1", "2"):
        page.keyboard.press(f"Digit{letter}")
        assert set(opened.hears()) >= {"bass", "guitar"}
    assert not page.is_visible(".heading .chips")
    assert "exp00" not in page.inner_text("#panel")
    page.click(".card .main >> nth=1")
    assert {"exp002", "exp002_150"} <= set(page.inner_text(".blindtest .cards").split())
    page.click(".card.chosen .small")
    opened.until("gbsep.state.song.review.preset !== null")
    chosen = page.inner_text(".card.chosen b")
    assert json.loads((server.studio.out / "here/review.json").read_text())["preset"] == chosen  # type: ignore[union-attr]
    assert f"★ {chosen}" in page.inner_text("#songlist")
    page.click("#endblind")
    page.click("#dock-accepted")
    opened.until("gbsep.state.song.review.status === 'accepted'")
    assert "✓ here" in page.inner_text("#songlist")


def test_a_knob_becomes_a_line_of_points_over_the_song(opened: Tab) -> None:
    page = opened.page
    page.select_option("#effect", "Gain")
    page.fill("#presetname", "line")
    page.evaluate("gbsep.studio.panels()")
    assert page.input_value("#presetname") == "line"
    page.click("#add")
    page.click('.param:has([data-param="gain_db"]) .link')
    points = "gbsep.state.chains.bass[0].gain_db.points"
    assert page.evaluate(points) == [[0, 1]]
    page.locator(".curve-plot").click(position={"x": 300, "y": 80})
    (_, (time_s, gain_db)) = page.evaluate(points)
    assert 2 < time_s < 6
    assert gain_db < -10
    page.locator(".dot-point >> nth=1").focus()
    page.keyboard.press("ArrowUp")
    assert page.evaluate(points)[1][1] > gain_db
    opened.until("gbsep.deck.take.tracks[0].voice !== '-'")
    page.keyboard.press("Delete")
    assert page.evaluate(points) == [[0, 1]]
    page.click("#undo")
    assert len(page.evaluate(points)) == 2


def test_branches_are_turned_where_they_stand(opened: Tab) -> None:
    page = opened.page
    page.select_option("#effect", "Parallel")
    page.click("#add")
    branches = "gbsep.state.chains.bass[0].branches"
    assert page.evaluate(f"{branches}.length") == 2
    first = page.locator(".branch >> nth=0")
    first.locator(".row select").select_option("Gain")
    first.locator(".row button").click()
    page.locator('.branch >> nth=0 >> [data-param="gain_db"]').fill("0.25")
    page.locator('.branch >> nth=1 >> [data-param="mix_db"] >> nth=0').fill("0.5")
    node = page.evaluate("gbsep.state.chains.bass[0]")
    assert node["branches"][0]["chain"][0]["gain_db"] < -10
    assert node["branches"][1]["mix_db"] == pytest.approx(-48, abs=1)
    opened.until("gbsep.deck.take.tracks[0].voice !== '-'")
    assert page.evaluate("gbsep.state.fault ?? null") is None
    page.click('[aria-label$=" 2"] button[aria-label*="2"]')
    assert page.evaluate(f"{branches}.length") == 1
    page.click("#undo")
    assert page.evaluate("gbsep.state.chains.bass[0]") == node


def test_four_bars_begin_where_a_bar_was_told_to_begin(opened: Tab) -> None:
    page = opened.page
    opened.until("gbsep.state.tempo !== null")
    page.fill("#bpm", "240")
    page.select_option("#perbar", "3")
    first = page.evaluate("gbsep.state.tempo.beats[0]")
    page.evaluate(f"gbsep.deck.setLoop(null); gbsep.deck.seek({first} + 0.51)")
    page.click("#barhere")
    page.evaluate(f"gbsep.deck.seek({first} + 2.6)")
    page.click("#bars")
    loop = page.evaluate("gbsep.deck.loop")
    assert loop["start"] == pytest.approx(first + 0.5 + 2 * 0.75, abs=0.01)  # bars of three beats of a quarter second
    assert loop["end"] - loop["start"] == pytest.approx(4 * 0.75, abs=0.01)
    assert page.locator(".beats .bar").count() > 5
    page.wait_for_timeout(2000)
    page.reload()
    opened.until("gbsep.state.tempo?.per_bar === 3")
    assert page.evaluate("gbsep.state.tempo.bar_s") == pytest.approx(first + 0.51, abs=0.01)


def test_a_stem_can_be_dragged_out_of_the_page(opened: Tab, server: Server) -> None:
    page = opened.page
    page.click("#tab-home")
    kind, name, address = page.evaluate("""() => {
        const carried = new DataTransfer();
        const link = [...document.querySelectorAll(".files a")].find((one) => one.download === "bass.wav");
        link.dispatchEvent(new DragEvent("dragstart", { dataTransfer: carried, bubbles: true }));
        const [kind, name, ...address] = carried.getData("DownloadURL").split(":");
        return [kind, name, address.join(":")];
    }""")
    assert (kind, name) == ("application/octet-stream", "here - bass.wav")
    here = server.studio.out / "here/exp002/bass.wav"  # type: ignore[union-attr]
    assert page.request.get(address).body() == here.read_bytes()


def test_a_page_that_is_loaded_again_is_as_it_was_left(opened: Tab) -> None:
    page = opened.page
    page.select_option("#effect", "Gain")
    page.click("#add")
    page.locator('[data-param="gain_db"]').fill("0.2")
    page.locator('[data-strip="guitar"] .fader').fill("-12")
    page.select_option("#speed", "0.8")
    opened.until("gbsep.deck.take.tracks[0].voice !== '-' && !gbsep.deck.stalled")
    gain_db = page.evaluate("gbsep.state.chains.bass[0].gain_db")
    with page.expect_response("**/desk"):
        page.fill("#bpm", "77")
    page.reload()
    opened.until("(globalThis.gbsep?.deck.take?.tracks[0].voice ?? '-') !== '-'")
    opened.until("gbsep.state.tempo?.bpm === 77")
    kept = page.evaluate("[gbsep.state.take.name, gbsep.state.chains.bass[0].gain_db, gbsep.deck.loop]")
    assert kept == ["exp002", gain_db, {"start": 1, "end": 9}]
    assert page.input_value('[data-strip="guitar"] .fader') == "-12"
    assert page.input_value("#speed") == "0.8"


def _gain_and_compressor(page: Any) -> None:
    for effect in ("Gain", "Compressor"):
        page.select_option("#effect", effect)
        page.click("#add")


def test_what_was_turned_just_before_the_page_is_left_is_kept(opened: Tab) -> None:
    page = opened.page
    _gain_and_compressor(page)
    page.click('[aria-label="Bypass Gain"]')
    page.click('[aria-label="Later Gain"]')
    assert page.evaluate("[...gbsep.state.bypassed.bass]") == [1]
    page.locator('[data-strip="guitar"] .fader').fill("-9")
    page.reload()
    opened.until("gbsep.state?.take && !gbsep.deck.stalled")
    assert page.input_value('[data-strip="guitar"] .fader') == "-9"
    assert page.evaluate("gbsep.state.chains.bass.map((one) => one.effect)") == ["Compressor", "Gain"]
    assert page.get_attribute('[aria-label="Bypass Gain"]', "aria-pressed") == "true"


def test_bypasses_are_undone_and_move_with_their_effects(opened: Tab) -> None:
    page = opened.page
    _gain_and_compressor(page)
    page.click('[aria-label="Bypass Compressor"]')
    page.click('[aria-label="Remove Gain"]')
    assert page.evaluate("[...gbsep.state.bypassed.bass]") == [0]
    page.click("#undo")
    assert page.evaluate("[...gbsep.state.bypassed.bass]") == [1]
    page.click("#undo")
    assert page.evaluate("[...gbsep.state.bypassed.bass]") == []
    page.click("#redo")
    assert page.evaluate("[...gbsep.state.bypassed.bass]") == [1]


def test_an_undo_is_heard_though_the_answer_to_what_it_undid_comes_later(opened: Tab) -> None:
    page = opened.page
    held: list[Any] = []
    page.route("**/chain", lambda route: held.append(route))
    page.select_option("#effect", "Gain")
    page.click("#add")
    page.locator('[data-param="gain_db"]').fill("0.2")
    page.click("#undo")
    page.click("#undo")
    (late,) = held
    with page.expect_response("**/chain"):
        late.continue_()
    page.wait_for_timeout(300)
    assert page.evaluate("gbsep.deck.take.tracks.map((one) => one.voice)") == ["-", "-", "-"]


def test_what_is_drawn_anew_leaves_the_keyboard_where_it_was(opened: Tab) -> None:
    page = opened.page
    held = "document.activeElement.id || document.activeElement.getAttribute('aria-label')"
    for selector in (".song", "#preset", "#play", '[data-strip="bass"] [data-does="solo"]'):
        page.focus(selector)
        before = page.evaluate(held)
        for drawn in ("sidebar", "lanes", "panels", "build"):
            page.evaluate(f"gbsep.studio.{drawn}()")
            assert page.evaluate(held) == before, (selector, drawn)
    button = page.query_selector(".song")
    page.evaluate("gbsep.studio.sidebar()")
    assert button.evaluate("(one) => one.isConnected")  # what has not changed stays: a click on it is not lost
    page.evaluate("gbsep.deck.setVolume(0.25); gbsep.studio.build()")
    assert page.input_value(".volume input") == "0.5"


def test_mixes_that_were_taken_home_are_no_takes_and_stay_at_hand(opened: Tab) -> None:
    page = opened.page
    page.select_option("#speed", "0.7")
    page.click("#tab-home")
    page.click("#export")
    page.wait_for_selector("#taken li a")
    made = page.inner_text("#taken")
    page.wait_for_timeout(500)
    page.reload()
    opened.until("gbsep.state?.take && !gbsep.deck.stalled")
    assert page.locator("[data-take]").all_inner_texts() == ["exp002", "exp002_150"]
    assert "@mix" not in page.inner_text("#songlist")
    page.click("#tab-home")
    assert page.inner_text("#taken") == made
    for stem in ("bass", "guitar"):
        page.click(f'[data-strip="{stem}"] [data-does="mute"]')
    page.click("#export")
    assert page.inner_text("#say") == page.inner_text("#mixwords")


def test_the_page_goes_on_when_what_it_plays_is_taken_away(opened: Tab, server: Server) -> None:
    page = opened.page
    page.click("#play")
    opened.hears()
    out = server.studio.out / "here"  # type: ignore[union-attr]
    shutil.rmtree(out / "exp002")
    page.evaluate("gbsep.deck.setLoop(null); gbsep.deck.seek(10)")
    opened.until("gbsep.state.take.name === 'exp002_150' && gbsep.deck.playing && !gbsep.deck.stalled")
    shutil.rmtree(out / "exp002_150")
    page.evaluate("gbsep.deck.seek(1)")
    opened.until("gbsep.state.take === null && !gbsep.deck.playing")
    assert page.is_visible("#render")
    gbsep.write(server.studio.folder / "other.wav", song(3))  # type: ignore[union-attr]
    (server.studio.folder / "here.wav").unlink()  # type: ignore[union-attr]
    page.evaluate("dispatchEvent(new Event('focus'))")
    opened.until("gbsep.state.library.songs.map((one) => one.name).join() === 'other'")
    opened.said.clear()  # the browser tells of what was not found


def test_the_mixture_is_as_loud_as_what_is_left_of_the_mix(opened: Tab, server: Server) -> None:
    page = opened.page
    opened.until("gbsep.state.song.loudness_lufs !== undefined")
    page.click('[data-strip="bass"] [data-does="mute"]')
    page.click("#ab")
    (gain, same) = page.evaluate("gbsep.deck.levels.mixture")
    assert gain == same
    mixture = gbsep.read(server.studio.folder / "here.wav")  # type: ignore[union-attr]
    left = gbsep.read(server.studio.out / "here/exp002/guitar.wav")  # type: ignore[union-attr]
    loud, wanted = (measure(one.reader()).loudness_lufs for one in (mixture, left))
    assert loud + 20 * np.log10(gain) == pytest.approx(wanted, abs=0.02)


def test_a_count_in_is_heard_though_the_sound_is_still_on_its_way(opened: Tab) -> None:
    page = opened.page
    page.select_option("#countin", "4")
    page.select_option("#speed", "0.6")
    page.click("#play")
    opened.until("gbsep.deck.counting > 0")


@pytest.mark.parametrize(
    "look",
    [
        {"color_scheme": "dark"},
        {"color_scheme": "light", "locale": "ko-KR"},
        {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
        {"viewport": {"width": 700, "height": 475}, "device_scale_factor": 2},
    ],
    ids=["dark", "korean", "phone", "zoomed"],
)
def test_everybody_can_use_it(browser: Any, server: Server, tmp_path: Path, look: dict[str, Any]) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe: pip install gbsep[dev]")
    server.studio.folder.mkdir(exist_ok=True)  # type: ignore[union-attr]
    gbsep.write(server.studio.folder / "here.wav", song(4))  # type: ignore[union-attr]
    tab = Tab(browser, server, **look)
    page = tab.page
    tab.until("gbsep.state.song !== null")
    page.evaluate("gbsep.state.preset = 'exp002'; gbsep.studio.build()")
    page.click("#render")
    tab.until("gbsep.state.take?.name === 'exp002'")
    if "locale" in look:
        assert page.inner_text("#tab-home") == "가져가기"
        assert page.evaluate("document.documentElement.lang") == "ko"
    page.evaluate("""() => {
        gbsep.state.chains.bass.push({ effect: "Compressor", ratio: 4 }, gbsep.state.effects.Parallel.start);
        gbsep.studio.panels();
    }""")
    for tab_name in ("chain", "home", "review"):
        page.click(f"#tab-{tab_name}")
        page.screenshot(path=tmp_path / f"{tab_name}.png", full_page=True)
        found = axe.Axe().run(page).response["violations"]
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), tab_name
        grave = [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")]
        assert grave == []
    if look.get("is_mobile"):
        small = page.evaluate("""() => [...document.querySelectorAll("button, select, a, input")]
            .filter((one) => !one.matches("[type=checkbox], .sr"))
            .filter((one) => one.offsetParent && one.offsetHeight && !one.matches(".pin, .link"))
            .filter((one) => one.offsetHeight < 44).map((one) => one.outerHTML.slice(0, 80))""")
        assert small == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    tab.close(server)


def test_every_word_stands_in_both_languages(browser: Any, server: Server) -> None:
    tab = Tab(browser, server)
    words = tab.page.evaluate("gbsep.table()")
    assert len(words) > 80
    assert [key for key, both in words.items() if len(both) != 2 or not all(both)] == []
    assert [
        key
        for key, (english, _) in words.items()
        if any(ord(letter) > 0x2FFF for letter in english) and key != "language"
    ] == []
    tab.close(server)
