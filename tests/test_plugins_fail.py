"""Plug-ins that fail in a render: reported, bypassed where that is asked for, and the rest of the batch is done."""

from __future__ import annotations

import base64
import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import gbsep
from gbsep.effects.chain import (
    apply_chain,
    check_chain,
    parse_chain,
)
from gbsep.errors import PluginCrashed, PluginError
from gbsep.plugins import host
from gbsep.preset.load import load_preset
from gbsep.rendering import Options, plan, plan_chain
from gbsep.shelf import folder as outputs

from .bundles import FAULTS, FILES, trip_state, zam
from .helpers import read
from .plugged import RATE, TEST_PLUGIN, noise, plugin, preset, write_song

pytestmark = pytest.mark.usefixtures("scanned_before")


ARMED_AFTER_A_SECOND = {"armed": {"points": [[0, 0], [1.0, 1]], "shape": "hold"}}
"""With it, the test plug-in fails in a song longer than this."""


def test_a_crash_in_a_batch_is_reported_and_the_others_are_done(
    typed: Any, tmp_path: Path, installed: Callable[..., Path], nothing_left: None
) -> None:
    installed("process-crash")
    chain = [plugin(TEST_PLUGIN, parameters=ARMED_AFTER_A_SECOND)]
    (tmp_path / "p.json").write_text(json.dumps(preset(chain)))
    songs = [write_song(tmp_path / f"{name}.wav", seconds) for name, seconds in (("a", 0.5), ("b", 3.0), ("c", 0.5))]
    code, out, err = typed("render", *songs, "-p", "p.json", "--json", "--dry-stems")
    assert code == 1
    assert [json.loads(line)["status"] for line in out.splitlines()] == ["ok", "failed", "ok"]
    assert f"plugged: stems.bass.chain[0]: plug-in '{TEST_PLUGIN}' crashed during process" in err
    assert '"on_failure": "bypass" lets its stem pass' in err
    assert not (tmp_path / "gbsep-out/b").exists()
    done = tmp_path / "gbsep-out/c/plugged"
    np.testing.assert_array_equal(read(done / "bass.wav"), read(done / "bass.dry.wav"))


def test_a_crash_half_way_leaves_nothing_half_processed(tmp_path: Path, installed: Callable[..., Path]) -> None:
    installed("process-crash")
    song = write_song(tmp_path / "song.wav", 3.0)
    parameters = {"gain_db": -6.0, **ARMED_AFTER_A_SECOND}
    chain = [plugin(TEST_PLUGIN, parameters=parameters, on_failure="bypass"), {"effect": "Invert"}]
    outcome = gbsep.render(song, preset(chain), tmp_path / "out", dry_stems=True)
    np.testing.assert_array_equal(read(outcome.files["bass"]), -read(outcome.files["bass.dry"]))
    record = json.loads((outcome.folder / "render.json").read_text())
    assert "crashed during process" in record["stems"]["bass"]["plugins"][0]["bypassed"]
    (warning,) = record["warnings"]
    assert warning.startswith(f"stems.bass.chain[0]: {TEST_PLUGIN} is bypassed: plug-in {TEST_PLUGIN!r} crashed")
    assert outcome.warnings == (warning,)


def test_a_render_with_a_bypassed_plugin_is_done_again(tmp_path: Path, installed: Callable[..., Path]) -> None:
    song = write_song(tmp_path / "song.wav", 0.1)
    document = preset([plugin(TEST_PLUGIN, parameters={"gain_db": -6.0, "armed": 1.0}, on_failure="bypass")])
    crashing = installed("process-crash")
    first = gbsep.render(song, document, tmp_path / "out", dry_stems=True)
    np.testing.assert_array_equal(read(first.files["bass"]), read(first.files["bass.dry"]))
    again = plan(song, load_preset(document), Options(tmp_path / "out", dry_stems=True))
    assert (again.action, again.reason) == ("render", f"{TEST_PLUGIN} was bypassed")
    library = next(crashing.rglob("*.so"))
    library.rename(library.with_name("mended.so"))
    crashing.rename(crashing.with_name("mended.vst3"))
    assert gbsep.render(song, document, tmp_path / "out", dry_stems=True).status == "ok"
    assert not np.array_equal(read(first.files["bass"]), read(first.files["bass.dry"]))
    assert gbsep.render(song, document, tmp_path / "out", dry_stems=True).status == "skipped"


def test_a_plugin_that_stopped_working_after_the_scan_is_bypassed(
    tmp_path: Path, installed: Callable[..., Path]
) -> None:
    library = next(installed().rglob("*.so"))
    song = write_song(tmp_path / "song.wav", 0.1)
    host.plugins()
    library.write_bytes(library.read_bytes()[:3000])
    with pytest.raises(PluginError, match="in quarantine: .*is truncated"):
        gbsep.render(song, preset([plugin(TEST_PLUGIN)]), tmp_path / "out")
    outcome = gbsep.render(song, preset([plugin(TEST_PLUGIN, on_failure="bypass")]), tmp_path / "out")
    assert any("is bypassed" in warning and "is truncated" in warning for warning in outcome.warnings)


def test_a_plugin_by_path_that_changes_is_examined_again(tmp_path: Path, bundle: Callable[..., Path]) -> None:
    library = next((path := bundle()).rglob("*.so"))
    nodes = parse_chain([{"effect": "Plugin", "path": str(path)}])
    assert not check_chain(nodes, RATE, allow_plugin_paths=True)
    library.write_bytes(library.read_bytes()[:3000])
    with pytest.raises(PluginError, match="is truncated"):
        check_chain(nodes, RATE, allow_plugin_paths=True)


def test_room_on_disk_is_needed_for_what_may_be_bypassed(
    tmp_path: Path, installed: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed()
    song, free = write_song(tmp_path / "song.wav", 1.0), []

    def check_place(folder: Path, size_bytes: int) -> None:
        free.append(size_bytes)

    monkeypatch.setattr(outputs, "check_place", check_place)
    failing, bypassed = plugin(TEST_PLUGIN), plugin(TEST_PLUGIN, on_failure="bypass")
    for chain in ([failing], [bypassed], [bypassed, {"effect": "Parallel", "branches": [{"chain": [bypassed]}]}]):
        plan(song, load_preset(preset(chain)), Options(tmp_path / "out"))
        plan_chain(song, load_preset(preset(chain)), "bass", tmp_path / "bass.wav")
    signal_bytes = RATE * 2 * 4
    assert np.diff(free[::2]).tolist() == np.diff(free[1::2]).tolist() == [2 * signal_bytes, 2 * signal_bytes]


def test_a_plugin_that_works_is_not_bypassed(installed: Callable[..., Path]) -> None:
    installed()
    audio, told = noise(RATE // 2), []
    chain = [plugin(TEST_PLUGIN, parameters={"gain_db": -6.0}, on_failure="bypass", wet=0.5)]
    out = apply_chain(audio, chain, warn=told.append)
    np.testing.assert_allclose(out.samples, audio.samples * (0.5 + 0.5 * 10 ** (-6 / 20)), rtol=1e-5)
    assert not told


def test_bypass_does_not_hide_the_crash_of_another(installed: Callable[..., Path]) -> None:
    zam("ZamCompX2")
    installed("process-crash")
    chain = [plugin(TEST_PLUGIN, parameters=ARMED_AFTER_A_SECOND), plugin("ZamCompX2", on_failure="bypass")]
    with pytest.raises(PluginCrashed, match=f"{TEST_PLUGIN}.*during process"):
        apply_chain(noise(2 * RATE), chain)


def test_a_plugin_that_does_not_load_fails_its_render_alone(
    typed: Any, tmp_path: Path, installed: Callable[..., Path], nothing_left: None
) -> None:
    installed("load-crash")
    write_song(tmp_path / "song.wav", 0.5)
    (tmp_path / "bad.json").write_text(json.dumps(preset([plugin("load-crash")], "bad")))
    (tmp_path / "good.json").write_text(json.dumps(preset([], "good")))
    bypassed = preset([plugin("load-crash", on_failure="bypass")], "bypassed")
    (tmp_path / "bypassed.json").write_text(json.dumps(bypassed))
    presets = [word for name in ("bad", "good", "bypassed") for word in ("-p", f"{name}.json")]
    code, out, err = typed("render", "song.wav", *presets, "--json")
    assert code == 1
    assert [json.loads(line)["status"] for line in out.splitlines()] == ["failed", "ok", "ok"]
    assert "in quarantine" in err
    assert "crashed during load" in err
    assert err.count("bypassed/") == 0
    assert err.count("load-crash is bypassed") == 1
    folder = tmp_path / "gbsep-out/song"
    np.testing.assert_array_equal(read(folder / "bypassed/bass.wav"), read(folder / "good/bass.wav"))


IN_A_BATCH: dict[str, Callable[[bytes], bytes] | None] = {
    **{name: None for name, *_ in FAULTS},
    **{name: edit for name, edit, _ in FILES},
}


NOT_IN_A_BATCH = "load-allocate"
"""It takes all the memory that a plug-in may have."""


@pytest.mark.slow
def test_whatever_goes_wrong_the_rest_of_the_batch_is_done(
    typed: Any, tmp_path: Path, bundle: Callable[..., Path], nothing_left: None
) -> None:
    write_song(tmp_path / "song.wav", 0.2)
    lane = {"points": [[0, 0], [0.1, 1]], "shape": "hold"}
    armed = {"parameter": {"armed": 1.0}, "process": {"armed": lane}}
    names = [name for name in IN_A_BATCH if name != NOT_IN_A_BATCH]
    assert len(names) >= 20
    for name in [*names, "good"]:
        path = bundle(name, IN_A_BATCH.get(name))
        state = base64.b64encode(trip_state(path)).decode() if name.startswith("state-") else None
        node = {
            "effect": "Plugin",
            "path": path.name,
            **({"state": state} if state else {}),
            "parameters": armed.get(name.partition("-")[0], {}),
            **(dict.fromkeys(("load_timeout_s", "block_timeout_s"), 2.0) if name.endswith(("hang", "spin")) else {}),
        }
        (tmp_path / f"{name}.json").write_text(json.dumps(preset([node], name)))
    presets = [word for name in [*names, "good"] for word in ("-p", f"{name}.json")]
    code, out, _ = typed("render", "song.wav", *presets, "--allow-plugin-paths", "--json")
    assert code == 1
    outcomes = {outcome["preset"]: outcome for outcome in map(json.loads, out.splitlines())}
    assert outcomes.pop("good")["status"] == "ok"
    assert set(outcomes) == set(names)
    for name, outcome in outcomes.items():
        assert (outcome["status"], name in outcome["error"] or TEST_PLUGIN in outcome["error"]) == ("failed", True)
        assert ("gave no answer within 2 s" in outcome["error"]) == name.endswith(("hang", "spin"))
    assert [path.name for path in (tmp_path / "gbsep-out/song").iterdir()] == ["good"]


def test_a_batch_leaves_memory_and_open_files_flat(tmp_path: Path, bundle: Callable[..., Path]) -> None:
    song, me = write_song(tmp_path / "song.wav", 0.05), psutil.Process()
    document = preset([{"effect": "Plugin", "path": str(bundle())}])

    def renders(count: int) -> tuple[int, int, int, int]:
        for _ in range(count):
            gbsep.render(song, document, tmp_path / "out", overwrite=True, allow_plugin_paths=True)
        gc.collect()
        shared = sum("gbsep-plugin" in mapping.path for mapping in me.memory_maps())
        return me.num_fds(), shared, len(me.children(recursive=True)), me.memory_info().rss

    *before, memory = renders(4)
    *after, memory_after = renders(26)
    assert after == before
    assert memory_after < memory + 8e6


def test_a_plugin_that_is_missing_is_refused_before_anything_is_written(typed: Any, tmp_path: Path) -> None:
    write_song(tmp_path / "song.wav", 0.1)
    (tmp_path / "p.json").write_text(json.dumps(preset([plugin("NoSuchPlugin")])))
    code, _, err = typed("render", "song.wav", "-p", "p.json")
    assert code == 2
    assert "plugged: stems.bass.chain[0]: no plug-in 'NoSuchPlugin'" in err
    assert not (tmp_path / "gbsep-out").exists()


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ({"parameters": {"stereo_detection": 0.5}}, ".parameters.stereo_detection = 0.5 .* one of 0, 1 (ZamCompX2)"),
        ({"parameters": {"gain_reduction_db": 1}}, ".parameters.gain_reduction_db = 1.0 dB .* read-only"),
        ({"state": "AAAA"}, ".state: ZamCompX2 cannot take it: the state is neither a .vstpreset"),
    ],
)
@pytest.mark.parametrize("on_failure", ["fail", "bypass"])
def test_what_a_plugin_cannot_be_is_a_mistake_in_the_preset(
    typed: Any, tmp_path: Path, node: dict[str, Any], said: str, on_failure: str
) -> None:
    zam("ZamCompX2")
    write_song(tmp_path / "song.wav", 0.1)
    (tmp_path / "p.json").write_text(json.dumps(preset([plugin("ZamCompX2", on_failure=on_failure, **node)])))
    before, after = said.split(" .* ") if " .* " in said else (said, "")
    for command in (("render",), ("chain", "--stem", "bass")):
        code, _, err = typed(*command, "song.wav", "-p", "p.json")
        assert code == 2
        assert f"stems.bass.chain[0]{before}" in err
        assert after in err
    assert {path.name for path in tmp_path.iterdir()} == {"song.wav", "p.json"}
