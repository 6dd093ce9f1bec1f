"""The studio's mixer, as it runs in the thread of the audio: all tracks in step, whatever is turned, for hours."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ENGINE = Path(__file__).parents[1] / "gbsep/studio/assets/engine.mjs"
CHECKS = Path(__file__).with_name("studio_engine.mjs")


def run(check: str) -> Any:
    """What came out of a check of the mixer's."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node to run the mixer in")
    words = [node, str(CHECKS), ENGINE.as_uri(), check]
    done = subprocess.run(words, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_tracks_are_in_step_to_the_frame_through_200_changes_in_ten_minutes() -> None:
    told = run("tracks_are_in_step_to_the_frame_through_200_changes_in_ten_minutes")
    assert told["changes"] >= 200
    assert told["checked"] > 500 * 44100
    assert told["off"] == 0


def test_a_loop_comes_round_to_the_frame_for_an_hour() -> None:
    told = run("a_loop_comes_round_to_the_frame_for_an_hour")
    assert told["off"] == 0, told
    assert told["laps"] == 3600 * 8000 // (7 * 3001)
    assert told["held"] == 16


def test_a_missing_piece_of_one_track_stops_all() -> None:
    told = run("a_missing_piece_of_one_track_stops_all")
    assert told == {"waiting": [4096, True], "after": 4096 + 128, "same": True}


def test_a_track_that_is_turned_down_is_not_waited_for() -> None:
    told = run("a_track_that_is_turned_down_is_not_waited_for")
    assert told == {"waiting": [0, True], "after": [10 * 128, False]}


def test_nothing_jumps_when_it_is_turned() -> None:
    """A steady tone stays steady when another voice of the same sound takes its place, and fades when it is muted."""
    told = run("nothing_jumps_when_it_is_turned")
    assert told["worst"] < 0.5 * 2 * 3.1416 * 100 / 44100 * 1.3
    assert told["off"] < 1e-6
    assert told["end"] == 0
