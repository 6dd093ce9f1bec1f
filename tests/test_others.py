"""Drums in a song that is taken for guitars and a bass: told where they are, not where strings alone sound."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gbsep
from gbsep.audio import Audio
from gbsep.measure.others import DRUMS_PER_S, noises_per_s
from gbsep.preset.load import load_preset
from gbsep.rendering.remarks import DRUMS, may_hold_others
from gbsep.report import collect

from .helpers import exit_code

RATE = 44100
SECONDS = 8.0


def strings(rng: np.random.Generator, rate: int = RATE) -> np.ndarray:
    """Plucked notes with partials: sharp beginnings, but no noise."""
    time_s = np.arange(round(SECONDS * rate)) / rate
    since = time_s % 0.5
    attack = 1 - np.exp(-since * 300)
    partials = attack * sum(np.sin(2 * np.pi * 110 * n * time_s) * np.exp(-since * n) / n for n in range(1, 30))
    return np.stack([0.1 * partials, 0.1 * partials]) + 1e-5 * rng.standard_normal((2, time_s.size))


def drums(rng: np.random.Generator, rate: int = RATE) -> np.ndarray:
    """Bursts of noise, four a second."""
    time_s = np.arange(round(SECONDS * rate)) / rate
    return 0.1 * rng.standard_normal((2, time_s.size)) * np.exp(-(time_s % 0.25) * 40)


@pytest.mark.parametrize("rate", [44100, 48000, 96000])
def test_noise_that_begins_is_counted(rng: np.random.Generator, rate: int) -> None:
    assert noises_per_s(Audio(strings(rng, rate), rate).reader()) < 0.3
    both = strings(rng, rate) + drums(rng, rate)
    assert noises_per_s(Audio(both, rate).reader()) == pytest.approx(4.0, abs=0.7)


@pytest.mark.parametrize(("rate", "frames"), [(22050, 5 * 22050), (44100, 1000), (44100, 0)])
def test_what_has_no_room_for_it_is_not_told(rng: np.random.Generator, rate: int, frames: int) -> None:
    reader = Audio(rng.standard_normal((2, max(frames, 1))), rate).reader()
    assert np.isnan(noises_per_s(reader))
    assert noises_per_s(Audio(np.zeros((2, 2 * RATE)), RATE).reader()) == 0.0


def test_separators_that_know_drums_are_left_alone() -> None:
    told = {name: may_hold_others(load_preset(name)) for name in ("default", "minus_bass", "minus_guitar", "exp005")}
    assert told == {"default": True, "minus_bass": False, "minus_guitar": True, "exp005": False}


def test_drums_are_told_in_table_record_and_page(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    gbsep.write(tmp_path / "drums.wav", Audio(strings(rng) + drums(rng), RATE))
    gbsep.write(tmp_path / "strings.wav", Audio(strings(rng), RATE))
    assert exit_code("render", "drums.wav", "-p", "exp002") == 0
    assert f"drums.wav: {DRUMS}" in capsys.readouterr().out
    told: dict[str, Any] = json.loads(Path("gbsep-out/drums/exp002/render.json").read_text())
    assert DRUMS in told["notes"]
    (song,) = collect(tmp_path / "gbsep-out")
    assert DRUMS in song.renders[0].remarks
    assert exit_code("render", "drums.wav", "strings.wav", "-p", "exp002", "-p", "exp002_100") == 0
    assert capsys.readouterr().out.count(f"drums: {DRUMS}") == 1
    assert DRUMS not in json.loads(Path("gbsep-out/strings/exp002/render.json").read_text())["notes"]
    assert DRUMS_PER_S < 4
