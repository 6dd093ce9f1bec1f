"""Notes on the page of a review: a click plays one, and what somebody corrects is in the file that is kept."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gbsep
from gbsep.errors import SmallFileError
from gbsep.io.formats import OutputFormat
from gbsep.io.write import write
from gbsep.notes import files
from gbsep.notes.correct import correct, corrected
from gbsep.studio import Server

from .browsing import Tab, lane, launched, serving
from .test_notes import line_of, sound_of

LINE = line_of([33, 35, 40, 38, 33, 31, 28, 36], apart_s=0.5)


def test_a_note_is_moved_put_in_and_taken_away() -> None:
    line = corrected(LINE, (0.1, 33), (0.15, 0.5, 34))
    assert (line.notes[0].onset_s, line.notes[0].midi, line.notes[0].confidence) == (0.15, 34, 1.0)
    assert line.notes[1:] == LINE.notes[1:]
    assert len(corrected(LINE, (0.1, 33), None).notes) == len(LINE.notes) - 1
    added = corrected(LINE, None, (9.0, 9.5, 30))
    assert added.notes[-1].midi == 30
    assert added.seconds == 9.5


def test_a_note_that_is_none_is_told() -> None:
    with pytest.raises(LookupError, match="no such note"):
        corrected(LINE, (0.1, 60), None)
    with pytest.raises(LookupError, match="already"):
        corrected(LINE, None, (0.1, 0.4, 33))


def test_notes_that_are_not_kept_or_none_are_told(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="--keep"):
        correct(tmp_path, "bass", None, (0.0, 1.0, 30))
    (tmp_path / "bass.notes.csv").write_text("nonsense")
    with pytest.raises(SmallFileError):
        correct(tmp_path, "bass", None, (0.0, 1.0, 30))


def test_a_kept_midi_file_stays_as_it_is(tmp_path: Path) -> None:
    kept = tmp_path / "bass.notes.mid"
    files.write(kept, files.Sheet(LINE))
    before = kept.read_bytes()
    correct(tmp_path, "bass", None, (9.0, 9.5, 30))
    assert kept.read_bytes() == before
    found = files.kept_beside(tmp_path, "bass")
    assert found is not None
    assert len(files.read(found).notes) == len(LINE.notes) + 1


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    write(folder / "song.wav", sound_of(LINE), OutputFormat("wav", "16"))
    gbsep.render(folder / "song.wav", "exp002", out=folder / "out")
    return folder / "out"


@pytest.fixture
def kept(out: Path) -> Path:
    path = files.kept_place(out / "song" / "exp002", "bass")
    files.write(path, files.Sheet(LINE), overwrite=True)
    return path


@pytest.fixture
def server(out: Path, kept: Path) -> Iterator[Server]:
    with serving(Server(out=out)) as server:
        yield server


def post(server: Server, **correction: Any) -> tuple[int, Any]:
    body = {"song": next(iter(server.shown.songs)), "preset": "exp002", "stem": "bass", **correction}
    request = urllib.request.Request(
        f"http://{server.host}/review/notes",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "X-Gbsep-Token": server.token},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_correction_is_in_the_file_at_once(server: Server, kept: Path) -> None:
    status, rows = post(server, was={"onset_s": 0.1, "midi": 33}, now={"onset_s": 0.1, "end_s": 0.5, "midi": 45})
    assert status == 200
    assert rows[0] == [0.1, 0.5, 45, 1.0]
    assert files.read(kept).notes[0].midi == 45
    song = next(iter(server.shown.songs.values()))
    assert next(source for source in song.sources if source.name == "bass").written[0].midi == 45


@pytest.mark.parametrize(
    "correction",
    [
        {"was": {"onset_s": 0.1, "midi": 60}},
        {"now": {"onset_s": 2, "end_s": 1, "midi": 30}},
        {"now": {"onset_s": 1, "end_s": 2, "midi": 300}},
        {"now": {"onset_s": -1, "end_s": 2, "midi": 30}},
        {"now": {"onset_s": 1, "end_s": 1e9, "midi": 30}},
        {"preset": "../exp002", "was": {"onset_s": 0.1, "midi": 33}},
        {"stem": "../bass", "was": {"onset_s": 0.1, "midi": 33}},
        {"stem": "residual", "was": {"onset_s": 0.1, "midi": 33}},
        {"onset_s": 1},
    ],
)
def test_what_is_no_correction_changes_nothing(server: Server, kept: Path, correction: dict[str, Any]) -> None:
    before = kept.read_bytes()
    status, reason = post(server, **correction)
    assert status == 400, reason
    assert kept.read_bytes() == before


def test_a_song_that_is_no_more_has_no_notes(server: Server) -> None:
    assert post(server, song="0" * 16, was={"onset_s": 0.1, "midi": 33})[0] == 409


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as chromium:
        yield chromium


def test_a_click_picks_a_note_and_its_buttons_correct_it(browser: Any, server: Server, kept: Path) -> None:
    tab = Tab(browser, server.address)
    page = tab.page
    picture = lane(tab, "Bass", "exp002").locator(".picture")
    picture.scroll_into_view_if_needed()
    box = picture.bounding_box()
    lowest, rows = 26, 17
    seconds = page.evaluate("gbsep.player.seconds") + LINE.seconds + 0.5
    third = LINE.notes[2]
    at = (third.onset_s + third.end_s) / 2 / seconds
    high = 1 - (third.midi - lowest + 0.5) / rows
    picture.click(position={"x": box["width"] * at, "y": box["height"] * high})
    assert page.locator("#picked").inner_text().startswith("E2, 0:01.10")
    assert page.evaluate("gbsep.player.seconds") == pytest.approx(third.onset_s, abs=0.01)
    assert not page.evaluate("gbsep.player.playing")

    page.get_by_role("button", name="Lower by a semitone").click()
    page.get_by_text("D♯2, 0:01.10").wait_for()
    page.get_by_role("button", name="Later").click()
    page.get_by_text("D♯2, 0:01.12").wait_for()
    changed = files.read(kept).notes[2]
    assert (changed.midi, changed.onset_s, changed.confidence) == (39, pytest.approx(1.12), 1.0)

    page.get_by_role("button", name="Remove the picked note").click()
    page.get_by_text("7 notes").wait_for()
    page.get_by_role("button", name="Add a note at the playhead").click()
    page.get_by_text("B1, 0:01.12").wait_for()
    assert len(files.read(kept).notes) == len(LINE.notes)
    page.get_by_role("button", name="Next note").click()
    assert page.locator("#picked").inner_text().startswith("D2")
    tab.context.close()
    assert tab.said == []
