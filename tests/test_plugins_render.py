"""External plug-ins in chains, renders and on the command line: Debian's zam-plugins and one of our own."""

from __future__ import annotations

import base64
import gc
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import psutil
import pytest

import gbsep
from gbsep.audio import Audio, join
from gbsep.effects.chain import (
    Node,
    apply_blocks,
    apply_chain,
    chain_schema,
    check_chain,
    dump_chain,
    parse_chain,
)
from gbsep.effects.plugin import PluginReport
from gbsep.errors import ParameterError, PluginCrashed, PluginError, PluginNotFound, PresetError
from gbsep.plugins import host
from gbsep.preset.load import load_preset
from gbsep.rendering import Options, plan, plan_chain
from gbsep.shelf import folder as outputs

from .bundles import BY_ANOTHER, FAULTS, FILES, trip_state, zam
from .helpers import exit_code, read

RATE = 44100
IMPULSE_FRAME = 5000
TEST_PLUGIN = "gbsep test"


@pytest.fixture(scope="session")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder in which the plug-ins of this machine have been scanned."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GBSEP_CACHE", str(folder))
        host.plugins()
    return folder


@pytest.fixture(autouse=True)
def scanned_before(scanned: Path, own_folders: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GBSEP_CACHE", str(scanned))


@pytest.fixture
def installed(bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Puts the test plug-in, with the fault that `name` says, where it is found."""

    def install(name: str = "good") -> Path:
        path = bundle(name)
        monkeypatch.setenv("GBSEP_PLUGIN_PATH", str(path.parent))
        return path

    return install


def plugin(name: str, **more: Any) -> dict[str, Any]:
    return {"effect": "Plugin", "name": name, **more}


def preset(bass: list[dict[str, Any]], name: str = "plugged") -> dict[str, Any]:
    return {
        "schema_version": 1,
        "name": name,
        "title": "A crossover with plug-ins",
        "separate": {"backend": "crossover", "cutoff_hz": 200.0},
        "stems": {"bass": {"from": ["bass"], "chain": bass}},
        "output": {"residual": False},
    }


def noise(frames: int, channels: int = 2) -> Audio:
    samples = 0.2 * np.random.default_rng(1).standard_normal((channels, frames))
    return Audio(samples.astype(np.float32), RATE)


def write_song(path: Path, seconds: float) -> Path:
    gbsep.write(path, noise(round(seconds * RATE)))
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Call the command in a folder of its own: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        return exit_code(*arguments), *capsys.readouterr()

    return run


ARMED_AFTER_A_SECOND = {"armed": {"points": [[0, 0], [1.0, 1]], "shape": "hold"}}
"""With it, the test plug-in fails in a song longer than this."""


# --- what a preset says -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "where", "reason"),
    [
        ({}, "chain[0]", "'name' is missing"),
        ({"name": 3}, "chain[0].name", "a text, not a number"),
        ({"name": ""}, "chain[0].name", "not an empty one"),
        ({"name": "A", "parameter": {}}, "chain[0].parameter", "did you mean 'parameters'"),
        ({"name": "A", "parameters": [1]}, "chain[0].parameters", "not a list"),
        ({"name": "A", "parameters": {"ratio": None}}, "chain[0].parameters.ratio", "a finite number"),
        ({"name": "A", "parameters": {"ratio": float("nan")}}, "chain[0].parameters.ratio", "nan .*a finite number"),
        ({"name": "A", "parameters": {"ratio": float("inf")}}, "chain[0].parameters.ratio", "inf .*a finite number"),
        ({"name": "A", "parameters": {"a\nb": 1}}, "chain[0].parameters", "cannot be the name"),
        ({"name": "A", "state": "\N{GREEK SMALL LETTER MU}"}, "chain[0].state", "."),
        (
            {"name": "A", "parameters": {"gain": {"points": [[0, -1], [1, 1]], "shape": "exponential"}}},
            "chain[0].parameters.gain.points",
            "all above zero",
        ),
        ({"name": "A", "on_failure": "bypas"}, "chain[0].on_failure", "did you mean 'bypass'"),
        ({"name": "A", "on_failure": "ignore"}, "chain[0].on_failure", "one of fail, bypass$"),
        (
            {"name": "A", "parameters": {"gain": {"points": [[0, 1], [1, float("nan")]]}}},
            "chain[0].parameters.gain.points[1]",
            "a finite number",
        ),
        ({"name": "A", "state": "no such file!"}, "chain[0].state", "is no file in"),
        ({"name": "A", "wet": 2}, "chain[0].wet", "from 0 to 1"),
        ({"name": "A", "vendor": 3}, "chain[0].vendor", "a text, not a number"),
        ({"name": "A", "load_timeout_s": 0}, "chain[0].load_timeout_s", "from 0.1 to 3600 s"),
        ({"name": "A", "block_timeout_s": {"points": [[0, 1]]}}, "chain[0].block_timeout_s", "not an automation"),
        ({"name": "A", "block_timeouts_s": 1}, "chain[0].block_timeouts_s", "did you mean 'block_timeout_s'"),
    ],
)
def test_a_wrong_node_is_refused_with_its_place(node: dict[str, Any], where: str, reason: str) -> None:
    with pytest.raises(PresetError, match=reason) as caught:
        parse_chain([{"effect": "Plugin", **node}])
    assert caught.value.json_path == where


def test_a_node_survives_json_and_the_schema(tmp_path: Path) -> None:
    (tmp_path / "warm.vstpreset").write_bytes(b"VST3 something")
    lane = {"points": [[0.0, -60.0], [1.0, 0.0]], "shape": "linear"}
    parameters = {"gain": lane, "ratio": 4.0, "on": True, "mode": "soft"}
    given = plugin(
        "A",
        vendor="B & Co",
        format="VST3",
        parameters=parameters,
        state="warm.vstpreset",
        path="a.vst3",
        load_timeout_s=60.0,
        block_timeout_s=5.5,
        on_failure="bypass",
        wet=0.5,
    )
    nodes = parse_chain([given, plugin("B")], folder=tmp_path)
    document = dump_chain(nodes)
    assert document[0] == {
        **given,
        "path": str(tmp_path / "a.vst3"),
        "state": base64.b64encode(b"VST3 something").decode(),
    }
    assert parse_chain(json.loads(json.dumps(document))) == nodes
    check = jsonschema.Draft202012Validator(chain_schema())
    check.validate(document)
    for wrong in ({"effect": "Plugin"}, plugin("A", parameters={"x": None}), plugin("A", on_failure="no")):
        assert not check.is_valid([wrong])


def test_a_parameter_or_plugin_that_is_not_there_is_refused_with_the_nearest() -> None:
    zam("ZamCompX2")
    audio = noise(RATE // 10)
    with pytest.raises(PluginNotFound, match="did you mean 'ZamCompX2'"):
        apply_chain(audio, [plugin("ZamCompX3", on_failure="bypass")])
    with pytest.raises(ParameterError, match=r"chain\[0\]\.parameters\.ratoi.*did you mean 'ratio'"):
        apply_chain(audio, [plugin("ZamCompX2", parameters={"ratoi": 4})])
    with pytest.raises(ParameterError, match=r"ratio = 99.*1 to 20"):
        apply_chain(audio, [plugin("ZamCompX2", parameters={"ratio": 99})])
    with pytest.raises(ParameterError, match=r"ratio\.points\[1\] = 0.5.*1 to 20"):
        apply_chain(audio, [plugin("ZamCompX2", parameters={"ratio": {"points": [[0, 2], [1, 0.5]]}})])
    with pytest.raises(ParameterError, match="PoppySnare"):
        apply_chain(audio, [plugin("ZamCompX2", parameters={"current_program": "Poppy"})])
    with pytest.raises(ParameterError, match="only numbers can be"):
        apply_chain(audio, [plugin("ZamCompX2", parameters={"current_program": {"points": [[0, 1]]}})])


# --- exactness --------------------------------------------------------------------------------------------------------


def test_what_was_asked_stands_in_the_record_and_is_heard(tmp_path: Path) -> None:
    zam("ZamCompX2")
    song = write_song(tmp_path / "song.wav", 1.0)
    chain = [plugin("ZamCompX2", parameters={"threshold_db": -40.1, "ratio": 12.34})]
    outcome = gbsep.render(song, preset(chain), tmp_path / "out", dry_stems=True)
    stem = json.loads((outcome.folder / "render.json").read_text())["stems"]["bass"]
    (row,) = stem["plugins"]
    assert row["parameters"]["ratio"] == 12.34
    assert row["parameters"]["threshold_db"] == -40.1
    assert row["parameters"]["release_ms"] == 80.0
    assert (row["where"], row["name"], row["latency_frames"]) == ("chain[0]", "ZamCompX2", 0)
    assert len(row["class_id"]) == 32
    assert row["version"]
    assert stem["after"]["rms_dbfs"] < stem["before"]["rms_dbfs"] - 3
    assert not np.array_equal(read(outcome.files["bass"]), read(outcome.files["bass.dry"]))


PROCESSORS: list[tuple[dict[str, Any], float]] = [
    (plugin("ZaMaximX2"), 0.3),
    (plugin(TEST_PLUGIN), 0.0),
    ({"effect": "BrickwallLimiter", "ceiling_db": 0.0}, 1e-4),
]


@pytest.mark.parametrize(("node", "tolerance"), PROCESSORS, ids=["ZaMaximX2", "256 samples", "BrickwallLimiter"])
@pytest.mark.parametrize("block_frames", [None, 777], ids=["whole", "in blocks"])
def test_an_impulse_comes_out_at_its_frame(
    node: dict[str, Any], tolerance: float, block_frames: int | None, installed: Callable[..., Path]
) -> None:
    if node.get("name") == TEST_PLUGIN:
        installed()
    elif "name" in node:
        zam(node["name"])
    impulse = np.zeros((2, RATE // 4), np.float32)
    impulse[:, IMPULSE_FRAME] = 0.5
    alone = through([node], impulse, block_frames)
    assert (np.abs(alone).argmax(axis=1) == IMPULSE_FRAME).all()
    np.testing.assert_allclose(alone[:, IMPULSE_FRAME], 0.5, atol=tolerance)
    assert np.abs(np.delete(alone, IMPULSE_FRAME, axis=1)).max() <= tolerance
    branches = [{"chain": []}, {"chain": [node]}, {"chain": [node, {"effect": "Invert"}]}]
    parallel = through([{"effect": "Parallel", "branches": branches}], impulse, block_frames)
    np.testing.assert_array_equal(parallel, impulse)


def through(chain: list[dict[str, Any]], samples: np.ndarray, block_frames: int | None) -> np.ndarray:
    reader = Audio(samples, RATE).reader()
    blocks = reader.blocks(block_frames or reader.frames)
    return join(apply_blocks(blocks, parse_chain(chain), RATE, reader.channels, reader.frames))


REPEATED = """
import hashlib, sys, numpy as np
from gbsep import Audio, apply_chain
audio = Audio((0.2 * np.random.default_rng(1).standard_normal((2, 60000))).astype(np.float32), 44100)
for chain in (
    [{"effect": "Chorus"}, {"effect": "Reverb"}, {"effect": "Compressor", "threshold_db": -30, "ratio": 4}],
    [{"effect": "Plugin", "name": "ZamCompX2", "parameters": {"threshold_db": -30, "ratio": 4}}],
    [{"effect": "Plugin", "name": "ZamGateX2", "parameters": {"threshold_db": -20}}],
    [{"effect": "Plugin", "name": "ZaMaximX2", "parameters": {"threshold_db": -20}}],
):
    print(hashlib.sha256(apply_chain(audio, chain).samples.tobytes()).hexdigest())
"""


@pytest.mark.slow
def test_three_processes_give_the_same_bytes() -> None:
    for name in ("ZamCompX2", "ZamGateX2", "ZaMaximX2"):
        zam(name)
    command = [sys.executable, "-W", "error", "-c", REPEATED]
    outputs = {subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(3)}
    assert len(outputs) == 1
    assert len(set(outputs.pop().split())) == 4


def test_a_saved_state_is_restored_before_the_parameters(tmp_path: Path, installed: Callable[..., Path]) -> None:
    path, audio = installed(), noise(RATE // 10)
    with host.open_plugin(path, RATE, 2, {"gain_db": -12.0, "polarity": "inverted"}) as instance:
        (tmp_path / "saved.vstpreset").write_bytes(instance.save_state())
    restored = parse_chain([plugin(TEST_PLUGIN, state="saved.vstpreset")], folder=tmp_path)
    np.testing.assert_allclose(apply_chain(audio, restored).samples, -audio.samples * 10 ** (-12 / 20), rtol=1e-5)
    state = base64.b64encode((tmp_path / "saved.vstpreset").read_bytes()).decode()
    changed = [plugin(TEST_PLUGIN, state=state, parameters={"gain_db": 0})]
    np.testing.assert_allclose(apply_chain(audio, changed).samples, -audio.samples, rtol=1e-5)


# --- automation -------------------------------------------------------------------------------------------------------


def test_an_automated_parameter_follows_the_ramp(installed: Callable[..., Path]) -> None:
    installed()
    audio = noise(RATE)
    lane = {"points": [[0, -60.0], [1.0, 0.0]]}
    out = apply_chain(audio, [plugin(TEST_PLUGIN, parameters={"gain_db": lane})])
    ramp = 10 ** (np.linspace(-60, 0, RATE, endpoint=False) / 20)
    error = out.samples - audio.samples * ramp
    assert 10 * np.log10(np.mean(error**2) / np.mean((audio.samples * ramp) ** 2)) < -60


def test_automation_that_moves_the_latency_is_refused(installed: Callable[..., Path]) -> None:
    installed()
    lane = {"points": [[0, 0], [1.0, 300]]}
    with pytest.raises(PluginError, match=r"chain\[0\]: .* its latency changed from 256 .*automated: lookahead"):
        apply_chain(noise(RATE), [plugin(TEST_PLUGIN, parameters={"lookahead": lane})])


def test_a_held_parameter_gives_the_pieces_rendered_alone(installed: Callable[..., Path]) -> None:
    installed()
    audio = noise(RATE)
    lane = {"points": [[0, -6.0], [0.5, 3.0]], "shape": "hold"}
    out = apply_chain(audio, [plugin(TEST_PLUGIN, parameters={"gain_db": lane})]).samples
    pieces = [apply_chain(audio, [plugin(TEST_PLUGIN, parameters={"gain_db": gain})]).samples for gain in (-6.0, 3.0)]
    jump, fade = RATE // 2, round(0.01 * RATE)
    np.testing.assert_array_equal(out[:, :jump], pieces[0][:, :jump])
    np.testing.assert_array_equal(out[:, jump + fade :], pieces[1][:, jump + fade :])


# --- failures ---------------------------------------------------------------------------------------------------------


def test_a_crash_in_a_batch_is_reported_and_the_others_are_done(
    run: Any, tmp_path: Path, installed: Callable[..., Path], nothing_left: None
) -> None:
    installed("process-crash")
    chain = [plugin(TEST_PLUGIN, parameters=ARMED_AFTER_A_SECOND)]
    (tmp_path / "p.json").write_text(json.dumps(preset(chain)))
    songs = [write_song(tmp_path / f"{name}.wav", seconds) for name, seconds in (("a", 0.5), ("b", 3.0), ("c", 0.5))]
    code, out, err = run("render", *songs, "-p", "p.json", "--json", "--dry-stems")
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
    run: Any, tmp_path: Path, installed: Callable[..., Path], nothing_left: None
) -> None:
    installed("load-crash")
    write_song(tmp_path / "song.wav", 0.5)
    (tmp_path / "bad.json").write_text(json.dumps(preset([plugin("load-crash")], "bad")))
    (tmp_path / "good.json").write_text(json.dumps(preset([], "good")))
    bypassed = preset([plugin("load-crash", on_failure="bypass")], "bypassed")
    (tmp_path / "bypassed.json").write_text(json.dumps(bypassed))
    presets = [word for name in ("bad", "good", "bypassed") for word in ("-p", f"{name}.json")]
    code, out, err = run("render", "song.wav", *presets, "--json")
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
    run: Any, tmp_path: Path, bundle: Callable[..., Path], nothing_left: None
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
    code, out, _ = run("render", "song.wav", *presets, "--allow-plugin-paths", "--json")
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


def test_a_plugin_that_is_missing_is_refused_before_anything_is_written(run: Any, tmp_path: Path) -> None:
    write_song(tmp_path / "song.wav", 0.1)
    (tmp_path / "p.json").write_text(json.dumps(preset([plugin("NoSuchPlugin")])))
    code, _, err = run("render", "song.wav", "-p", "p.json")
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
    run: Any, tmp_path: Path, node: dict[str, Any], said: str, on_failure: str
) -> None:
    zam("ZamCompX2")
    write_song(tmp_path / "song.wav", 0.1)
    (tmp_path / "p.json").write_text(json.dumps(preset([plugin("ZamCompX2", on_failure=on_failure, **node)])))
    before, after = said.split(" .* ") if " .* " in said else (said, "")
    for command in (("render",), ("chain", "--stem", "bass")):
        code, _, err = run(*command, "song.wav", "-p", "p.json")
        assert code == 2
        assert f"stems.bass.chain[0]{before}" in err
        assert after in err
    assert {path.name for path in tmp_path.iterdir()} == {"song.wav", "p.json"}


# --- plug-ins by path, and changed ones -------------------------------------------------------------------------------


def test_a_path_needs_permission(run: Any, tmp_path: Path, bundle: Callable[..., Path]) -> None:
    trap = bundle("library-crash")
    write_song(tmp_path / "song.wav", 0.1)
    (tmp_path / "p.json").write_text(json.dumps(preset([{"effect": "Plugin", "path": trap.name}])))
    code, _, err = run("render", "song.wav", "-p", "p.json")
    assert code == 2
    assert "--allow-plugin-paths" in err
    assert "crashed" not in err
    code, _, err = run("render", "song.wav", "-p", "p.json", "--allow-plugin-paths")
    assert code == 1
    assert "crashed during load" in err
    good = bundle("good")
    (tmp_path / "p.json").write_text(json.dumps(preset([plugin(TEST_PLUGIN, path=good.name)])))
    assert run("render", "song.wav", "-p", "p.json", "--allow-plugin-paths")[0] == 0
    (tmp_path / "p.json").write_text(json.dumps(preset([plugin("Another", path=good.name)])))
    code, _, err = run("render", "song.wav", "-p", "p.json", "--allow-plugin-paths", "--overwrite")
    assert code == 2
    assert "no plug-in 'Another'" in err


def test_a_state_outside_the_presets_folder_needs_permission(
    run: Any, tmp_path: Path, installed: Callable[..., Path]
) -> None:
    installed()
    home = tmp_path / "home"
    home.mkdir()
    write_song(tmp_path / "song.wav", 0.1)
    with host.open_plugin(host.find(TEST_PLUGIN), RATE, 2, {"gain_db": -12.0}) as instance:
        (tmp_path / "far.vstpreset").write_bytes(instance.save_state())
    (home / "near.vstpreset").write_bytes((tmp_path / "far.vstpreset").read_bytes())
    (home / "link.vstpreset").symlink_to("../far.vstpreset")
    for state in ("../far.vstpreset", str(tmp_path / "far.vstpreset"), "link.vstpreset"):
        (home / "p.json").write_text(json.dumps(preset([plugin(TEST_PLUGIN, state=state)])))
        code, _, err = run("render", "song.wav", "-p", "home/p.json", "--overwrite")
        assert code == 2
        assert f"chain[0].state = {state!r} is not allowed" in err
        assert "--allow-plugin-paths" in err
        arguments = ("-p", "home/p.json", "--overwrite", "--allow-plugin-paths")
        assert run("render", "song.wav", *arguments)[0] == 0
    for state in ("near.vstpreset", "../home/near.vstpreset"):
        (home / "p.json").write_text(json.dumps(preset([plugin(TEST_PLUGIN, state=state)])))
        assert run("render", "song.wav", "-p", "home/p.json", "--overwrite")[0] == 0


def test_a_changed_plugin_renders_again(tmp_path: Path, installed: Callable[..., Path]) -> None:
    library = next(installed().rglob("*.so"))
    song = write_song(tmp_path / "song.wav", 0.1)
    document = preset([plugin(TEST_PLUGIN)])
    assert gbsep.render(song, document, tmp_path / "out").status == "ok"
    assert gbsep.render(song, document, tmp_path / "out").status == "skipped"
    library.write_bytes(library.read_bytes() + b"\0")
    assert gbsep.render(song, document, tmp_path / "out").status == "ok"


# --- the command line -------------------------------------------------------------------------------------------------


def test_chain_alone_over_any_file(run: Any, tmp_path: Path, installed: Callable[..., Path]) -> None:
    installed()
    song = write_song(tmp_path / "loop.wav", 0.5)
    document = preset([plugin(TEST_PLUGIN, parameters={"gain_db": -6.0})])
    (tmp_path / "p.json").write_text(json.dumps(document))
    code, out, err = run("chain", "loop.wav", "-p", "p.json", "--stem", "bass", "--json")
    assert code == 0, err
    done = json.loads(out)
    assert done["file"] == "loop.bass.wav"
    assert done["plugins"][0]["parameters"]["gain_db"] == -6.0
    expected = apply_chain(Audio(read(song), RATE), document["stems"]["bass"]["chain"]).samples
    np.testing.assert_array_equal(read(tmp_path / "loop.bass.wav"), expected)
    code, _, err = run("chain", "loop.wav", "-p", "p.json", "--stem", "bass")
    assert code == 2
    assert "--overwrite" in err
    arguments = ("--stem", "bass", "--overwrite", "--start", "0.25", "--out", "part.flac")
    assert run("chain", "loop.wav", "-p", "p.json", *arguments)[0] == 0
    np.testing.assert_allclose(read(tmp_path / "part.flac"), expected[:, RATE // 4 :], atol=1e-6)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_what_a_killed_chain_left_is_swept(run: Any, tmp_path: Path) -> None:
    write_song(tmp_path / "loop.wav", 0.1)
    (tmp_path / "p.json").write_text(json.dumps(preset([])))
    script = "import os; from pathlib import Path; from gbsep.shelf import folder as outputs"
    script += "; stack = outputs.staging(Path('loop.bass.wav')); stack.__enter__(); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", script], cwd=tmp_path).returncode == 9
    assert len([path for path in tmp_path.iterdir() if path.name.startswith(".loop.bass.wav.")]) == 2
    assert run("chain", "loop.wav", "-p", "p.json", "--stem", "bass")[0] == 0
    assert {path.name for path in tmp_path.iterdir()} == {"loop.wav", "p.json", "loop.bass.wav"}


def test_chain_refuses_what_it_cannot_do(run: Any, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    write_song(tmp_path / "loop.wav", 0.1)
    (tmp_path / "p.json").write_text(json.dumps(preset([])))
    for arguments, message in {
        ("--stem", "bas"): "did you mean 'bass'",
        ("--stem", "bass", "--out", "loop.wav", "--overwrite"): "is the input",
        ("--stem", "bass", "--out", "loop.xyz"): "xyz",
        ("--stem", "bass", "--sidechain", "bass"): "STEM=FILE",
        ("--stem", "bass", "--sidechain", "key=none.wav"): "none.wav",
        ("--stem", "bass", "--sidechain", "bass=loop.wav"): "the chain of bass hears no other stem",
        ("--stem", "bass", "--sidechain", "key=loop.wav", "--sidechain", "key=loop.wav"): "key is loop.wav already",
        ("--stem", "bass", "--out", "folder"): "folder: is a folder; name a file",
    }.items():
        code, _, err = run("chain", "loop.wav", "-p", "p.json", *arguments)
        assert (code, message in err) == (2, True), err


def test_chain_takes_its_side_chain_from_a_file(run: Any, tmp_path: Path) -> None:
    write_song(tmp_path / "loop.wav", 0.5)
    gbsep.write(tmp_path / "key.wav", Audio(np.full((1, RATE // 2), 0.5, np.float32), RATE))
    document = preset([{"effect": "Ducker", "sidechain": "bass"}])
    (tmp_path / "p.json").write_text(json.dumps(document))
    code, _, err = run("chain", "loop.wav", "-p", "p.json", "--stem", "bass")
    assert code == 2
    assert "--sidechain bass=FILE" in err
    code, _, err = run("chain", "loop.wav", "-p", "p.json", "--stem", "bass", "--sidechain", "bas=key.wav")
    assert code == 2
    assert "sidechain = 'bas' is not allowed: the chain of bass hears no such stem; did you mean 'bass'?" in err
    before = (tmp_path / "key.wav").read_bytes()
    arguments = ("--stem", "bass", "--sidechain", "bass=key.wav", "--out", "./key.wav", "--overwrite")
    code, _, err = run("chain", "loop.wav", "-p", "p.json", *arguments)
    assert (code, (tmp_path / "key.wav").read_bytes()) == (2, before)
    assert "is the side-chain bass" in err
    code, out, err = run("chain", "loop.wav", "-p", "p.json", "--stem", "bass", "--sidechain", "bass=key.wav", "--json")
    assert code == 0, err
    done = json.loads(out)
    assert done["after"]["rms_dbfs"] < done["before"]["rms_dbfs"] - 10


def test_chain_that_crashes_leaves_no_file(run: Any, tmp_path: Path, installed: Callable[..., Path]) -> None:
    installed("process-exit")
    write_song(tmp_path / "loop.wav", 0.1)
    (tmp_path / "p.json").write_text(json.dumps(preset([plugin(TEST_PLUGIN, parameters={"armed": 1.0})])))
    before = set(tmp_path.iterdir())
    code, _, err = run("chain", "loop.wav", "-p", "p.json", "--stem", "bass")
    assert code == 1
    assert "exit status 0" in err
    assert set(tmp_path.iterdir()) == before


def test_plugins_are_listed_shown_and_probed(run: Any, installed: Callable[..., Path]) -> None:
    folder = installed("process-random").parent
    (folder / "empty.vst3").mkdir()
    (folder / "two\nlines.vst3").symlink_to("nowhere\nat all")
    code, out, _ = run("plugins", "list")
    assert code == 0
    assert TEST_PLUGIN in out
    assert r"two\nlines.vst3: a link to nowhere\nat all" in out
    assert "not a plug-in" in next(line for line in out.splitlines() if "empty.vst3" in line)
    assert out.splitlines()[-1] == "`gbsep plugins scan --retry` tries those in quarantine again"
    code, out, _ = run("plugins", "show", TEST_PLUGIN, "--probe")
    assert code == 0
    assert "nondeterministic" in out
    assert "gain_db" in out
    assert "-60 to 24" in out
    code, _, err = run("plugins", "show", "gbsep tes")
    assert code == 2
    assert f"did you mean '{TEST_PLUGIN}'" in err


def test_a_state_that_was_saved_here_is_what_a_preset_restores(
    run: Any, tmp_path: Path, installed: Callable[..., Path]
) -> None:
    installed()
    arguments = ("plugins", "save", TEST_PLUGIN, "warm.vstpreset")
    assert run(*arguments, "--set", "gain_db=-12.34", "--set", "polarity=inverted")[0] == 0
    code, _, err = run(*arguments)
    assert (code, "is there already" in err) == (2, True)
    code, _, err = run(*arguments, "--overwrite", "--set", "gain_db")
    assert (code, "such as ratio=12.34" in err) == (2, True)
    code, _, err = run(*arguments, "--overwrite", "--set", "gain_db=-3", "--set", "pad_db=-10")
    assert (code, "gain_db = -3" in err) == (2, True)
    code, _, err = run(*arguments, "--overwrite", "--set", "gain=3")
    assert (code, "did you mean 'gain_db'" in err) == (2, True)
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".vst3"] == ["warm.vstpreset"]
    audio = noise(RATE // 10)
    out = apply_chain(audio, parse_chain([plugin(TEST_PLUGIN, state="warm.vstpreset")], folder=tmp_path))
    np.testing.assert_allclose(out.samples, -(10 ** (-12.34 / 20)) * audio.samples, rtol=1e-5)
    code, out, _ = run("plugins", "show", TEST_PLUGIN, "--state", "warm.vstpreset", "--json")
    shown = {row["name"]: row["value"] for row in json.loads(out)["parameters"]}
    assert (code, shown["gain_db"], shown["polarity"]) == (0, pytest.approx(-12.34), "inverted")
    (tmp_path / "odd.vstpreset").write_bytes(b"VST3")
    for file, said in (("none.vstpreset", "there is no file"), ("odd.vstpreset", "odd.vstpreset")):
        code, _, err = run("plugins", "show", TEST_PLUGIN, "--state", file)
        assert (code, len(err.splitlines())) == (2, 1)
        assert said in err or "state" in err


@pytest.mark.parametrize("text", ["-3.5", "-03.5", "+.25", "2."])
def test_a_number_may_be_typed_as_people_do(
    run: Any, tmp_path: Path, installed: Callable[..., Path], text: str
) -> None:
    installed()
    assert run("plugins", "save", TEST_PLUGIN, "a.vstpreset", "--set", f"gain_db={text}")[0] == 0
    _, out, _ = run("plugins", "show", TEST_PLUGIN, "--state", "a.vstpreset", "--json")
    assert {row["name"]: row["value"] for row in json.loads(out)["parameters"]}["gain_db"] == pytest.approx(float(text))
    code, _, err = run("plugins", "save", TEST_PLUGIN, "b.vstpreset", "--set", f"gain_db={text} dB")
    assert (code, "a number without its unit, -60 to 24" in err) == (2, True)


def test_plugins_with_one_name_are_told_apart(
    run: Any, tmp_path: Path, installed: Callable[..., Path], bundle: Callable[..., Path]
) -> None:
    folder = installed("a").parent
    bundle("b", BY_ANOTHER)
    code, out, _ = run("plugins", "list")
    assert code == 0
    assert f"shadowed: {folder}/b.vst3: {TEST_PLUGIN} is found first at {folder}/a.vst3" in out
    code, out, _ = run("plugins", "list", "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(row["path"], row["vendor"], row["shadowed"]) for row in rows if row["name"] == TEST_PLUGIN] == [
        (f"{folder}/a.vst3", "gbsep", False),
        (f"{folder}/b.vst3", "other", True),
    ]
    code, out, _ = run("plugins", "show", TEST_PLUGIN, "--vendor", "other", "--json")
    shown = json.loads(out)
    assert (shown["path"], shown["nondeterministic"]) == (f"{folder}/b.vst3", None)
    assert [row["name"] for row in shown["parameters"]][1:3] == ["gain_db", "armed"]
    write_song(tmp_path / "song.wav", 0.1)
    for vendor, warned in ((None, True), ("other", False)):
        node = plugin(TEST_PLUGIN, **({"vendor": vendor} if vendor else {}))
        (tmp_path / "p.json").write_text(json.dumps(preset([node])))
        code, _, err = run("render", "song.wav", "-p", "p.json")
        assert code == 0
        assert (f"2 plug-ins are called {TEST_PLUGIN}: {folder}/a.vst3 (gbsep, 1.2.3, VST3) is used" in err) is warned
    (tmp_path / "p.json").write_text(json.dumps(preset([plugin(TEST_PLUGIN, vendor="nobody")])))
    code, _, err = run("render", "song.wav", "-p", "p.json")
    assert code == 2
    assert "of vendor 'nobody'" in err


def test_each_plugin_is_reported_once(installed: Callable[..., Path]) -> None:
    installed()
    lane = {"points": [[0, -6.0], [1, 0.0]]}
    branches = [{"chain": [plugin(TEST_PLUGIN)]}, {"chain": [plugin(TEST_PLUGIN, parameters={"gain_db": lane})]}]
    nodes: tuple[Node, ...] = parse_chain([{"effect": "Parallel", "branches": branches}])
    reports: list[PluginReport] = []
    reader = noise(RATE // 10).reader()
    join(apply_blocks(reader.blocks(), nodes, RATE, 2, reader.frames, report=reports.append))
    assert sorted(report.where for report in reports) == [
        "chain[0].branches[0].chain[0]",
        "chain[0].branches[1].chain[0]",
    ]
    gains_db = [report.parameters["gain_db"] for report in sorted(reports, key=lambda report: report.where)]
    assert gains_db == pytest.approx([0.0, -6.0], abs=1e-5)
    assert {report.latency_frames for report in reports} == {256}
