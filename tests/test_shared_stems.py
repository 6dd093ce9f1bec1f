"""One separation for presets that need some of its stems: in the cache, in a batch, byte for byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gbsep
from gbsep import batch
from gbsep.audio import Audio
from gbsep.batch.planning import separations
from gbsep.rendering import Options
from gbsep.store import stemcache

from .helpers import exit_code

RATE = 22050


@pytest.fixture
def song(tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GBSEP_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    gbsep.write(tmp_path / "song.wav", Audio(0.1 * rng.standard_normal((2, 2 * RATE)), RATE))
    return tmp_path / "song.wav"


def entries() -> int:
    return stemcache.usage(stemcache.locate()).entries


def render(song: Path, preset: Any, out: str = "out", **options: Any) -> Any:
    return gbsep.render(song, preset, out, **options)


def content(outcome: Any) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in outcome.files.items()}


@pytest.mark.parametrize("separate", [{"backend": "compact"}, {"backend": "nmf", "n_fft": 1024}])
def test_an_entry_of_more_stems_serves_fewer(song: Path, separate: dict[str, Any]) -> None:
    both = {"name": "both", "separate": separate, "stems": {"bass": {}, "guitar": {}}}
    minus = {"name": "minus", "separate": separate, "stems": {"minus": {"from": ["mixture", "-bass"]}}}
    alone = render(song, minus, "alone", use_cache=False)
    assert not render(song, both).from_cache
    served = render(song, minus)
    assert served.from_cache
    assert entries() == 1
    assert content(served) == content(alone)


def test_an_entry_of_fewer_stems_does_not_serve_more(song: Path) -> None:
    render(song, "minus_bass")
    assert not render(song, "default").from_cache
    assert entries() == 2


def test_a_damaged_entry_is_passed_over(song: Path, tmp_path: Path) -> None:
    first = content(render(song, "default"))
    (entry,) = (tmp_path / "cache" / "entries").iterdir()
    (entry / "0.f32").write_bytes(b"x")
    minus = render(song, "minus_bass")
    assert not minus.from_cache
    assert len(first) == 2


@pytest.mark.parametrize("order", [("default", "minus_bass", "minus_guitar"), ("minus_bass", "default")])
def test_a_batch_separates_once(song: Path, order: tuple[str, ...]) -> None:
    planned = batch.plan([song], order, Options(Path("out"), use_cache=False))
    (group,) = separations(planned.plans)
    assert group[0].label == "default"
    assert planned.alone
    outcomes = {one.preset: one for one in batch.run(planned)}
    assert {name: one.from_cache for name, one in outcomes.items()} == {name: name != "default" for name in order}
    for name, one in outcomes.items():
        assert content(one) == content(render(song, name, f"alone-{name}", use_cache=False))


def test_songs_keep_their_order_and_share_nothing(song: Path, rng: np.random.Generator, tmp_path: Path) -> None:
    gbsep.write(tmp_path / "other.wav", Audio(0.1 * rng.standard_normal((2, RATE)), RATE))
    words = ["song.wav", "other.wav"]
    planned = batch.plan(words, ("minus_bass", "default"), Options(Path("out"), use_cache=False), jobs=1)
    groups = separations(planned.plans)
    assert [[(one.track, one.label) for one in group] for group in groups] == [
        [(track, "default"), (track, "minus_bass")] for track in ("song", "other")
    ]
    assert exit_code("render", *words, "-p", "minus_bass", "-p", "default", "--jobs", "1", "--no-cache", "-q") == 0
    assert gbsep.render(song, "default", "gbsep-out").status == "skipped"
