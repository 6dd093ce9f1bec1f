"""The report and the review in a real browser: what is heard, seen and clicked; and that nothing leaves the machine."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gbsep
from gbsep.audio import Audio
from gbsep.report import collect, write_report
from gbsep.report.songs import Song
from gbsep.shelf import review
from gbsep.shelf.record import FindingRow
from gbsep.shelf.review import Note, Review
from gbsep.studio import Server

from .browsing import RATE, Tab, chip, file_of, lane, launched, samples, serving

SECONDS = 20
HOSTILE = "노래 \"quoted\" '<img src=x onerror=hacked=1>' & 🎸 <script> \u202ertl\u2028"
PRESETS = ("exp002", "exp002_100", "exp002_300")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three renders of noise, whose every moment is unlike every other, under a name that is out to break things."""
    folder = tmp_path_factory.mktemp("rendered")
    song = folder / f"{HOSTILE}.wav"
    noise = np.random.default_rng(0).standard_normal((2, SECONDS * RATE))
    gbsep.write(song, Audio((0.05 * noise + 0.1 * np.roll(noise, 1) + 0.1 * np.roll(noise, 2)), RATE))
    for preset in PRESETS:
        gbsep.render(song, preset, folder / "out", use_cache=False)
    return folder / "out"


@pytest.fixture(scope="module")
def report(out: Path) -> Path:
    """The report as a file beside its sound, with a note and findings."""
    songs = collect(out)
    hostile = f"</script><b>{HOSTILE}</b>"
    finding = FindingRow(
        kind="bleeding", stem="bass", start_s=12.0, end_s=13.5, severity="error", message=hostile, value=1.0
    )
    render = songs[0].renders[0]
    songs[0].__dict__["decided"] = Review(notes=[Note(time_s=3.0, text=hostile, preset=hostile, stem=hostile)])
    render.__dict__["findings"] = (finding,)
    render.record.preset.__dict__["title"] = hostile
    render.__dict__["remarks"] = (hostile,)
    write_report(out / "report.html", HOSTILE, songs, inline_bytes=100_000)
    return out / "report.html"


@pytest.fixture
def tab(browser: Any, report: Path) -> Iterator[Tab]:
    tab = Tab(browser, report.as_uri())
    yield tab
    tab.context.close()
    assert tab.said == []
    assert all(address.startswith(("file:", "data:")) for address in tab.asked)


def test_it_plays_and_stays_in_step_while_switching(tab: Tab, out: Path) -> None:
    tab.page.locator("#play").click()
    tab.until("gbsep.player.sounding !== null && gbsep.player.seconds > 0.3")
    late = []
    for stem, preset in [
        ("bass", "exp002"),
        ("bass", "exp002_300"),
        ("guitar", "exp002_300"),
        ("guitar", "exp002_100"),
    ]:
        chip(tab, stem).click()
        chip(tab, preset).click()
        tab.page.wait_for_timeout(300)
        late.append(tab.lateness_s(file_of(out, preset, stem)))
    assert max(late) - min(late) < 0.02
    assert max(map(abs, late)) < 0.06  # of which the size of the browser's audio buffer is a part
    before = tab.heard()["seconds"]
    tab.page.wait_for_timeout(400)
    assert tab.heard()["seconds"] - before > 0.3


def test_switching_leaves_no_gap_and_keeps_the_loudness(tab: Tab) -> None:
    tab.page.locator("#play").click()
    tab.until("gbsep.player.seconds > 0.5")
    tab.page.evaluate("""() => {
        globalThis.levels = [];
        const samples = new Float32Array(2048);
        const watch = () => {
            gbsep.player.analyser.getFloatTimeDomainData(samples);
            levels.push(10 * Math.log10(samples.reduce((sum, one) => sum + one * one, 0) / samples.length));
            if (levels.length < 90) requestAnimationFrame(watch);
        };
        watch();
    }""")
    for key in ("2", "3", "s", "x", "1"):
        tab.page.keyboard.press(key)
        tab.page.wait_for_timeout(200)
    tab.until("levels.length === 90")
    levels = tab.page.evaluate("levels")
    assert min(levels) > np.median(levels) - 8  # 46 ms of noise that has little but a few tens of Hz vary by some dB
    assert max(levels) < np.median(levels) + 8


def test_it_plays_on_across_pieces_and_round_a_loop(tab: Tab, out: Path) -> None:
    source = file_of(out, "exp002", "guitar")
    chip(tab, "guitar").click()
    tab.page.evaluate("gbsep.player.seek(7.7, true)")
    tab.until("gbsep.player.seconds > 8.1")
    assert abs(tab.lateness_s(source)) < 0.06
    tab.page.evaluate("gbsep.player.setLoop({ start: 15.6, end: 16.4 })")
    tab.page.wait_for_timeout(1500)
    heard = tab.heard()
    assert 15.6 <= heard["seconds"] <= 16.4
    for key in ("ArrowRight", "Shift+ArrowLeft", "ArrowRight"):
        tab.page.keyboard.press(key)
        assert 15.6 <= tab.heard()["seconds"] < 16.4
        assert tab.page.evaluate("gbsep.player.loop !== null")
    tab.page.keyboard.press("l")
    tab.until("gbsep.player.seconds > 16.5")
    assert abs(tab.lateness_s(source)) < 0.06


def test_it_stops_at_the_end(tab: Tab) -> None:
    tab.page.evaluate(f"gbsep.player.seek({SECONDS - 0.3}, true)")
    tab.until("gbsep.player.playing")
    tab.until("!gbsep.player.playing")
    assert tab.page.get_by_role("button", name="Play", exact=True).is_visible()


def test_a_click_on_a_spectrogram_plays_that_sound_from_there(tab: Tab, out: Path) -> None:
    picture = lane(tab, "guitar", "exp002_100").locator(".picture")
    box = picture.bounding_box()
    assert tab.begins_s(lambda: picture.click(position={"x": box["width"] * 0.6, "y": 20})) == pytest.approx(
        12, abs=0.3
    )
    tab.until("gbsep.player.seconds > 12.2")
    tab.lateness_s(file_of(out, "exp002_100", "guitar"))


def test_a_drag_loops(tab: Tab) -> None:
    picture = lane(tab, "bass", "exp002_100").locator(".picture")
    picture.scroll_into_view_if_needed()
    box = picture.bounding_box()
    tab.page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 9)
    tab.page.mouse.down()
    tab.page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 9, steps=4)
    tab.page.mouse.up()
    assert tab.page.evaluate("gbsep.player.loop") == {
        "start": pytest.approx(5, abs=0.1),
        "end": pytest.approx(10, abs=0.1),
    }


def test_a_finding_is_marked_and_leads_there(tab: Tab) -> None:
    pin = lane(tab, "bass", "exp002").locator(".pin").first
    assert "bleeding" in tab.page.locator("#findings").inner_text()
    assert tab.begins_s(pin.click) == pytest.approx(11.7, abs=0.3)  # a little before it
    tab.page.keyboard.press("p")
    tab.until("gbsep.player.seconds < 5")  # the note at 3 s


def test_a_hostile_name_is_text_and_nothing_else(tab: Tab) -> None:
    assert tab.page.locator("h1").text_content() == HOSTILE
    assert tab.page.evaluate("document.querySelectorAll('h1 *, img, b b').length") == 0
    assert tab.page.evaluate("typeof hacked") == "undefined"
    assert "onerror" in tab.page.locator("#recipes").inner_text()
    assert "onerror" in tab.page.locator("#notes").inner_text()


@pytest.fixture(scope="module")
def scored(out: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Song]:
    """A report with true stems, and so with many figures, some of them the best."""
    folder = tmp_path_factory.mktemp("scored")
    (folder / "truth").mkdir()
    for name in ("bass", "guitar"):
        mixed = file_of(out, "exp002", name) + 0.3 * file_of(out, "exp002_300", name)
        gbsep.write(folder / "truth" / f"{name}.wav", Audio(mixed, RATE))
    (song,) = collect(out, folder / "truth")
    write_report(folder / "page.html", "scored", [song], inline_bytes=10**9)
    return folder / "page.html", song


def test_the_best_figure_is_marked(browser: Any, scored: tuple[Path, Song]) -> None:
    path, song = scored
    assert not path.with_name("page_files").exists()
    tab = Tab(browser, path.as_uri())
    best = max(song.renders, key=lambda render: render.figures["bass"]["sdr"] or 0.0)
    rows = tab.page.locator("#figures tbody").first.locator("tr")
    marked = rows.filter(has=tab.page.locator("td:nth-child(2).best")).all_inner_texts()
    assert [text.split("\t")[0].strip() for text in marked] == [best.preset]
    chip(tab, "True stem").click()
    tab.page.locator("#play").click()
    tab.until("gbsep.player.seconds > 0.4")
    tab.lateness_s(samples(path.parent / "truth" / "bass.wav"))
    tab.context.close()
    assert tab.said == []


def test_a_blind_test_hides_and_reveals(tab: Tab) -> None:
    page = tab.page
    everything = "document.documentElement.outerHTML + document.title"
    assert "exp002_300" in page.evaluate(everything)
    orders = set()
    for _ in range(3):
        page.get_by_role("button", name="Blind test").click()
        assert "exp002" not in page.evaluate(everything)
        assert page.locator(".card").count() == 3
        page.keyboard.press("2")
        assert page.locator("#now").inner_text().startswith("B")
        page.get_by_role("button", name="Listen to C").click()
        tab.until("gbsep.player.playing && gbsep.player.sounding !== null")
        assert "exp002" not in page.evaluate(everything)
        page.get_by_role("button", name="C is best").click()
        cards = page.locator(".card").all_inner_texts()
        assert sorted(text.split("\n")[1] for text in cards) == sorted(PRESETS)
        assert "1 of 1" in page.locator(".card.chosen").inner_text()
        assert page.locator(".card.chosen").inner_text().startswith("C")
        orders.add(tuple(text.split("\n")[1] for text in cards))
        page.get_by_role("button", name="Next round").click()
        assert "exp002" not in page.evaluate(everything)
        page.get_by_role("button", name="A is best").click()
        assert "of 2" in page.locator(".card.chosen").inner_text()
        orders.add(tuple(text.split("\n")[1] for text in page.locator(".card").all_inner_texts()))
        page.get_by_role("button", name="End the test").click()
    assert len(orders) > 1
    assert page.locator("#figures").is_visible()


def test_a_blind_test_knows_no_stem_without_letters(tab: Tab) -> None:
    page = tab.page
    page.get_by_role("button", name="Blind test").click()
    stems = page.get_by_role("group", name="Stem", exact=True).get_by_role("button")
    assert stems.all_inner_texts() == ["mixture", "bass", "guitar"]
    heard = set()
    for _ in range(4):
        page.keyboard.press("s")
        heard.add(page.locator("#now").inner_text())
    assert {name.split(" · ")[1] for name in heard} == {"bass", "guitar"}
    assert {name.split(" · ")[0] for name in heard} <= set("ABC")
    page.get_by_role("button", name="B is best").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "again"


def test_all_of_it_works_from_the_keyboard(tab: Tab) -> None:
    page = tab.page
    page.keyboard.press(" ")
    tab.until("gbsep.player.playing && gbsep.player.seconds > 0.1")
    page.keyboard.press("ArrowRight")
    tab.until("gbsep.player.seconds > 5")
    page.keyboard.press("m")
    tab.until("gbsep.player.source === 0")
    page.keyboard.press("m")
    tab.until("gbsep.player.source !== 0")
    page.keyboard.press("e")
    assert not page.locator("#matched").is_checked()
    page.keyboard.press(" ")
    tab.until("!gbsep.player.playing")
    page.keyboard.press("?")
    assert "Blind test on or off" in page.locator("#help").inner_text()
    assert "[object" not in page.locator("body").inner_text()
    page.keyboard.press("Escape")
    assert not page.locator("#help").is_visible()
    page.keyboard.press("t")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.keyboard.press("+")
    assert page.locator(".ruler span").count() > 3
    page.reload()
    page.wait_for_selector(".lane canvas")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_space_plays_and_pauses_wherever_the_mouse_was(tab: Tab) -> None:
    page = tab.page
    for control in (chip(tab, "exp002_300"), page.locator("#seek"), page.locator("#matched"), page.locator("#play")):
        control.click()
        was = page.locator("#matched").is_checked()
        playing = not page.evaluate("gbsep.player.playing")
        page.keyboard.press(" ")
        tab.until(f"gbsep.player.playing === {json.dumps(playing)}")
        assert page.locator("#matched").is_checked() == was
    page.get_by_role("button", name="Keyboard help").focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press(" ")  # on the button for the theme, where the keyboard went
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.evaluate("gbsep.player.playing") == playing


def test_arrows_are_left_to_what_they_move(tab: Tab) -> None:
    for control in (".volume input", "#findings .list"):
        tab.page.locator(control).focus()
        tab.page.keyboard.press("ArrowRight")
        tab.page.keyboard.press("ArrowDown")
    assert tab.page.evaluate("gbsep.player.seconds") == 0
    assert "exp002_100" not in tab.page.locator("#now").inner_text()


def test_a_chosen_chip_can_be_read_under_the_mouse(tab: Tab) -> None:
    chosen = chip(tab, "guitar")
    chosen.click()
    ground = "(one) => getComputedStyle(one).backgroundColor"
    under = chip(tab, "guitar").evaluate(ground)
    tab.page.mouse.move(0, 0)
    assert chip(tab, "guitar").evaluate(ground) == under


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_text_can_be_read_in_both_themes(browser: Any, report: Path, scheme: str) -> None:
    """WCAG 2.2 AA: contrast of at least 4.5 for all text that is shown on the page's own surfaces."""
    tab = Tab(browser, report.as_uri(), color_scheme=scheme)
    contrasts = tab.page.evaluate("""() => {
        const brush = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
        const rgb = (colour, under) => {
            brush.fillStyle = under; brush.fillRect(0, 0, 1, 1);
            brush.fillStyle = colour; brush.fillRect(0, 0, 1, 1);
            return [...brush.getImageData(0, 0, 1, 1).data].slice(0, 3);
        };
        const linear = (one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
        const light = ([red, green, blue]) =>
            0.2126 * linear(red / 255) + 0.7152 * linear(green / 255) + 0.0722 * linear(blue / 255);
        const ground = (element) => {
            const layers = [];
            for (let at = element; at; at = at.parentElement) layers.unshift(getComputedStyle(at).backgroundColor);
            return layers.reduce((under, colour) => `rgb(${rgb(colour, under)})`, "white");
        };
        const shown = [...document.querySelectorAll("body *")].filter((one) =>
            one.checkVisibility() && !one.disabled && !one.closest("dialog, #say, .sr")
            && [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()));
        return shown.map((one) => {
            const under = ground(one);
            const lights = [light(rgb(getComputedStyle(one).color, under)), light(rgb(under, "white"))];
            const contrast = (Math.max(...lights) + 0.05) / (Math.min(...lights) + 0.05);
            return [contrast, `${one.className}: ${one.textContent.slice(0, 30)}`];
        });
    }""")
    assert len(contrasts) > 50
    assert [one for one in contrasts if one[0] < 4.5] == []
    tab.context.close()


def test_every_control_has_a_name(tab: Tab) -> None:
    nameless = tab.page.evaluate("""() => [...document.querySelectorAll("button, select, input, textarea, a")]
        .filter((one) => !one.textContent.trim() && !one.getAttribute("aria-label") && !one.labels?.length)
        .map((one) => one.outerHTML)""")
    assert nameless == []


def test_a_finger_can_hit_everything(browser: Any, report: Path) -> None:
    tab = Tab(browser, report.as_uri(), viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    tab.page.wait_for_selector(".pin")
    small = tab.page.evaluate("""() => [...document.querySelectorAll("button, a, input, select, summary")]
        .filter((one) => one.checkVisibility())
        .map((one) => [one.getBoundingClientRect(), one.outerHTML])
        .filter(([box]) => box.width < 23.9 || box.height < 23.9)
        .map(([box, text]) => [box.width, box.height, text])""")
    assert small == []
    tab.context.close()


def test_it_fits_a_phone(browser: Any, scored: tuple[Path, Song]) -> None:
    tab = Tab(browser, scored[0].as_uri(), viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    assert tab.page.locator("#figures thead th").count() > 5
    assert tab.page.locator("td.best").count() > 2
    assert tab.page.evaluate("document.documentElement.scrollWidth") == 390
    assert tab.page.evaluate("[visualViewport.width, visualViewport.height]") == [390, 844]
    box = tab.page.locator(".transport").bounding_box()
    assert (box["x"], box["width"], box["y"] + box["height"]) == pytest.approx((0, 390, 844), abs=1)
    lane(tab, "guitar", "exp002_100").locator(".play").tap()
    tab.until("gbsep.player.playing && gbsep.player.seconds > 0.1")
    tab.context.close()
    assert tab.said == []


def test_songs_are_opened_one_by_one_and_failures_told(browser: Any, out: Path, tmp_path: Path) -> None:
    broken = Song("broken", tmp_path / "broken", None, (), (), Review(), {"exp002": "<b>cannot be read</b>"})
    other = dataclasses.replace(
        collect(out)[0], name="other", folder=tmp_path / "other", decided=Review(status="rejected")
    )
    write_report(tmp_path / "page.html", "many", [*collect(out), other, broken], inline_bytes=100_000)
    tab = Tab(browser, (tmp_path / "page.html").as_uri())
    page = tab.page
    assert "1 of 2 unreviewed" in page.locator("#songs").inner_text()
    page.locator("#play").click()
    tab.until("gbsep.player.seconds > 0.1")
    page.locator("#songs").get_by_role("button", name="broken").click()
    tab.until("document.querySelector('h1').textContent === 'broken'")
    assert not page.evaluate("gbsep.player.playing")
    assert "<b>cannot be read</b>" in page.locator(".heading .failure").inner_text()
    page.keyboard.press(" ")
    page.keyboard.press(",")
    tab.until("document.querySelector('h1').textContent === 'other'")
    page.locator(".lane .play").nth(2).click()
    tab.until("gbsep.player.seconds > 0.1")
    tab.lateness_s(file_of(out, "exp002_100", "bass"))
    page.evaluate("gbsep.open(1); gbsep.open(0)")
    tab.until(f"document.querySelector('h1').textContent === {json.dumps(HOSTILE)}")
    page.wait_for_timeout(200)
    assert page.locator("h1").text_content() == HOSTILE
    tab.context.close()
    assert tab.said == []


def test_a_song_that_is_missing_is_said(browser: Any, out: Path, tmp_path: Path) -> None:
    songs = [*collect(out), dataclasses.replace(collect(out)[0], name="other")]
    write_report(tmp_path / "page.html", "two", songs, inline_bytes=100_000)
    (tmp_path / "page_files/1.js").unlink()
    tab = Tab(browser, (tmp_path / "page.html").as_uri())
    tab.page.locator("#song").select_option(index=1)
    tab.page.wait_for_selector("#say.shown")
    assert "1.js is missing" in tab.page.locator("#say").inner_text()
    assert tab.page.locator("#song").input_value() == "0"
    tab.context.close()


def test_a_missing_folder_of_sounds_is_said(browser: Any, report: Path, tmp_path: Path) -> None:
    shutil.copy(report, tmp_path / "alone.html")
    tab = Tab(browser, (tmp_path / "alone.html").as_uri())
    tab.page.locator("#play").click()
    tab.page.wait_for_selector("#say.shown")
    assert "report_files" in tab.page.locator("#say").inner_text()
    tab.context.close()


@pytest.fixture
def server(out: Path) -> Iterator[Server]:
    with serving(Server(out=out)) as server:
        yield server


def test_a_sound_that_is_gone_is_said(browser: Any, server: Server, out: Path) -> None:
    tab = Tab(browser, server.address)
    gone = next(out.glob("*/exp002/bass.wav"))
    gone.rename(gone.with_suffix(".away"))
    try:
        tab.page.locator("#play").click()
        tab.page.wait_for_selector("#say.shown")
        assert "bass.wav" in tab.page.locator("#say").inner_text()
    finally:
        gone.with_suffix(".away").rename(gone)
    tab.context.close()


def test_the_buttons_of_a_review_lead_to_other_files_on_the_next_render(
    browser: Any, server: Server, out: Path
) -> None:
    folder = next(path for path in out.iterdir() if path.is_dir() and (path / "exp002").is_dir())
    was = {stem: file_of(out, "exp002", stem) for stem in ("bass", "guitar")}
    tab = Tab(browser, server.address)
    page = tab.page

    page.get_by_role("button", name="Swap bass and guitar in exp002", exact=True).click()
    page.get_by_text("applies on the next render").wait_for()
    assert review.load(folder).swaps("exp002") == (("bass", "guitar"),)

    page.locator("#play").click()
    tab.until("gbsep.player.seconds > 0.5")
    page.keyboard.press("c")
    page.keyboard.type("기타 <b>")
    page.evaluate("document.querySelector('.verdict').onclick()")  # somebody is quicker than the server
    page.locator("#status[data-status=accepted]").wait_for()
    page.keyboard.type("소리</b>")
    page.keyboard.press("Enter")
    page.locator("#notes .text").wait_for()
    assert page.locator("#notes .text").inner_text() == "기타 <b>소리</b>"
    (note,) = review.load(folder).notes
    assert (note.text, note.stem) == ("기타 <b>소리</b>", "bass")
    assert 0.4 < note.time_s < SECONDS

    assert page.locator("#note").input_value() == ""
    page.get_by_role("button", name="Use exp002_300 for this song").click()
    page.locator(".presets [aria-pressed=true]", has_text="Used").wait_for()
    assert "Use exp002_300" in page.evaluate("document.activeElement.getAttribute('aria-label')")
    page.get_by_role("button", name="Reject").click()
    page.locator("#status[data-status=rejected]").wait_for()
    assert (review.load(folder).preset, review.load(folder).status) == ("exp002_300", "rejected")

    song = Path(json.loads((folder / "exp002/render.json").read_text(encoding="utf-8"))["input"]["path"])
    assert gbsep.render(song, "exp002", out, use_cache=False).status == "ok"
    np.testing.assert_array_equal(file_of(out, "exp002", "bass"), was["guitar"])
    np.testing.assert_array_equal(file_of(out, "exp002", "guitar"), was["bass"])
    page.reload()
    page.get_by_text("Swapped as reviewed").wait_for()
    assert page.get_by_text("applies on the next render").count() == 0

    page.get_by_role("button", name="Swap bass and guitar in exp002", exact=True).click()
    page.get_by_text("applies on the next render").wait_for()
    gbsep.render(song, "exp002", out, use_cache=False)
    np.testing.assert_array_equal(file_of(out, "exp002", "bass"), was["bass"])
    tab.context.close()
    assert tab.said == []
    assert all(address.startswith((f"http://{server.host}/", "data:")) for address in tab.asked)
