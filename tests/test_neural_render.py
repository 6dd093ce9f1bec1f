"""Whole renders with networks: presets of the log, the stem cache, swapped stems, and life without a network.

The networks are small and untrained, under the names and in the formats of the published ones.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gbsep
from gbsep.audio import Audio
from gbsep.errors import WeightsMissing
from gbsep.preset.load import load_preset
from tests.networks import write_demucs, write_openunmix

from .helpers import exit_code, hashes, record

RATE = 44100
SIX = ("drums", "bass", "other", "vocals", "guitar", "piano")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    write_demucs(folder, "htdemucs_6s", SIX)
    write_demucs(folder, "htdemucs_ft", seed=1)
    write_openunmix(folder, "umxl")
    return folder


@pytest.fixture(autouse=True)
def models(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GBSEP_MODELS", str(weights))


@pytest.fixture
def song(tmp_path: Path, rng: np.random.Generator) -> Path:
    time_s = np.arange(RATE) / RATE
    low, high = np.sin(2 * np.pi * 60 * time_s), np.sin(2 * np.pi * 900 * time_s)
    path = tmp_path / "song.wav"
    gbsep.write(path, Audio(0.2 * low + 0.2 * high + 0.01 * rng.standard_normal((2, RATE)), RATE))
    return path


@pytest.mark.parametrize("name", ["exp001", "exp004", "exp005", "exp005_1", "exp005_1_fast"])
def test_neural_presets_render_and_repeat(song: Path, tmp_path: Path, name: str) -> None:
    first = gbsep.render(song, name, tmp_path / "a", use_cache=False)
    second = gbsep.render(song, name, tmp_path / "b", use_cache=False)
    assert hashes(first.folder) == hashes(second.folder)
    told = record(first)["separation"]
    assert told["weights_sha256"]
    assert told["licence"]
    assert told["engine"]
    assert told["from_cache"] is False


def test_the_fast_preset_runs_for_the_bass_alone() -> None:
    assert load_preset("exp005_1_fast").wanted == ("bass",)
    assert load_preset("exp005_1").wanted == ("bass", "other")
    assert set(load_preset("exp005").wanted) == {"bass", "guitar"}


def test_a_changed_chain_takes_the_stems_from_the_cache(song: Path, tmp_path: Path) -> None:
    first = gbsep.render(song, "exp005", tmp_path / "out")
    louder = load_preset("exp005", [("stems.bass.chain", [{"effect": "Gain", "gain_db": 6.0}])])
    second = gbsep.render(song, louder, tmp_path / "out")
    assert record(first)["separation"]["from_cache"] is False
    assert record(second)["separation"]["from_cache"] is True
    assert hashes(first.folder)["guitar.wav"] == hashes(second.folder)["guitar.wav"]
    assert hashes(first.folder)["bass.wav"] != hashes(second.folder)["bass.wav"]
    third = gbsep.render(song, load_preset("exp005", seed=9), tmp_path / "out")
    assert record(third)["separation"]["from_cache"] is False


def test_a_cached_render_does_not_load_torch(song: Path, tmp_path: Path) -> None:
    gbsep.render(song, "exp005", tmp_path / "a")
    script = (
        "import sys, gbsep\n"
        "outcome = gbsep.render(sys.argv[1], 'exp005', sys.argv[2])\n"
        "assert outcome.status == 'ok'\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script, song, tmp_path / "b"], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stdout + done.stderr


def test_swap_auto_puts_swapped_stems_right(song: Path, tmp_path: Path) -> None:
    """The crossover's stems are never swapped; exchanged by name first, they always are."""
    document = {
        "schema_version": 1,
        "name": "auto",
        "title": "Auto",
        "separate": {"backend": "crossover"},
        "swap": "auto",
        "stems": {"bass": {"from": ["bass"]}, "guitar": {"from": ["guitar"]}},
    }
    straight = gbsep.render(song, document, tmp_path / "a")
    assert record(straight)["separation"]["swap"]["swapped"] is False
    from gbsep.separation import crossover

    def exchanged(reader: Any, settings: Any, context: Any) -> Any:
        for stems in run(reader, settings, context):
            yield {"bass": stems["guitar"], "guitar": stems["bass"]}

    run = crossover.run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crossover, "run", exchanged)
        swapped = gbsep.render(song, document, tmp_path / "b")
    assert record(swapped)["separation"]["swap"]["swapped"] is True
    assert any("were swapped back" in warning for warning in swapped.warnings)
    assert hashes(straight.folder) == hashes(swapped.folder)


@pytest.mark.parametrize("arguments", [["render", "{song}", "-p", "exp005", "-o", "{out}"], ["models", "get", "umxl"]])
def test_without_weights_and_network_it_ends_soon_and_says_how(
    song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    """Sockets are refused outright."""
    for variable in ("GBSEP_MODELS", "GBSEP_HOME", "HF_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "nothing"))
    script = (
        "import socket, sys\n"
        "def refuse(*_): raise OSError('no network')\n"
        "socket.socket.connect = refuse\nsocket.getaddrinfo = refuse\n"
        "from gbsep.cli import main\nmain(sys.argv[1:])"
    )
    words = [word.format(song=song, out=tmp_path / "out") for word in arguments]
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    assert "by hand" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_missing_weights_are_a_clear_error_from_python(
    song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GBSEP_MODELS")
    mine = load_preset("exp005", [("separate.model", "htdemucs_ft"), ("stems.guitar.from", ["other"])])
    monkeypatch.setenv("GBSEP_HOME", str(tmp_path / "nothing"))
    monkeypatch.setattr("gbsep.models.find.fetch", lambda *_: (_ for _ in ()).throw(OSError("no network")))
    with pytest.raises(WeightsMissing, match="no weights for model 'htdemucs_ft'; looked in"):
        gbsep.render(song, mine, tmp_path / "out")


@pytest.mark.parametrize("name", ["exp004", "exp005"])
def test_the_licence_is_told_once_and_always_recorded(song: Path, tmp_path: Path, name: str) -> None:
    outcomes = [gbsep.render(song, name, tmp_path / out, use_cache=False) for out in ("a", "b")]
    licences = [record(outcome)["separation"]["licence"] for outcome in outcomes]
    assert licences[0] == licences[1]
    assert [any(licences[0] in warning for warning in outcome.warnings) for outcome in outcomes] == [True, False]


def test_a_dry_run_downloads_nothing(song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GBSEP_MODELS", str(tmp_path / "nothing"))
    fetched: list[str] = []
    monkeypatch.setattr("gbsep.models.find.fetch", lambda name, *_: fetched.append(name))
    assert exit_code("render", song, "-p", "exp005", "-o", tmp_path / "out", "--dry-run") == 2
    assert not fetched
