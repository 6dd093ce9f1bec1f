"""External plug-ins in chains and renders: what a preset says of them, exactness, automation and changed files."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

import gbsep
from gbsep.audio import Audio, join
from gbsep.effects.chain import (
    apply_blocks,
    apply_chain,
    chain_schema,
    dump_chain,
    parse_chain,
)
from gbsep.errors import ParameterError, PluginError, PluginNotFound, PresetError
from gbsep.plugins import host

from .bundles import zam
from .helpers import read
from .plugged import RATE, TEST_PLUGIN, noise, plugin, preset, write_song

IMPULSE_FRAME = 5000


pytestmark = pytest.mark.usefixtures("scanned_before")


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


# --- plug-ins by path, and changed ones -------------------------------------------------------------------------------


def test_a_path_needs_permission(typed: Any, tmp_path: Path, bundle: Callable[..., Path]) -> None:
    trap = bundle("library-crash")
    write_song(tmp_path / "song.wav", 0.1)
    (tmp_path / "p.json").write_text(json.dumps(preset([{"effect": "Plugin", "path": trap.name}])))
    code, _, err = typed("render", "song.wav", "-p", "p.json")
    assert code == 2
    assert "--allow-plugin-paths" in err
    assert "crashed" not in err
    code, _, err = typed("render", "song.wav", "-p", "p.json", "--allow-plugin-paths")
    assert code == 1
    assert "crashed during load" in err
    good = bundle("good")
    (tmp_path / "p.json").write_text(json.dumps(preset([plugin(TEST_PLUGIN, path=good.name)])))
    assert typed("render", "song.wav", "-p", "p.json", "--allow-plugin-paths")[0] == 0
    (tmp_path / "p.json").write_text(json.dumps(preset([plugin("Another", path=good.name)])))
    code, _, err = typed("render", "song.wav", "-p", "p.json", "--allow-plugin-paths", "--overwrite")
    assert code == 2
    assert "no plug-in 'Another'" in err


def test_a_state_outside_the_presets_folder_needs_permission(
    typed: Any, tmp_path: Path, installed: Callable[..., Path]
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
        code, _, err = typed("render", "song.wav", "-p", "home/p.json", "--overwrite")
        assert code == 2
        assert f"chain[0].state = {state!r} is not allowed" in err
        assert "--allow-plugin-paths" in err
        arguments = ("-p", "home/p.json", "--overwrite", "--allow-plugin-paths")
        assert typed("render", "song.wav", *arguments)[0] == 0
    for state in ("near.vstpreset", "../home/near.vstpreset"):
        (home / "p.json").write_text(json.dumps(preset([plugin(TEST_PLUGIN, state=state)])))
        assert typed("render", "song.wav", "-p", "home/p.json", "--overwrite")[0] == 0


def test_a_changed_plugin_renders_again(tmp_path: Path, installed: Callable[..., Path]) -> None:
    library = next(installed().rglob("*.so"))
    song = write_song(tmp_path / "song.wav", 0.1)
    document = preset([plugin(TEST_PLUGIN)])
    assert gbsep.render(song, document, tmp_path / "out").status == "ok"
    assert gbsep.render(song, document, tmp_path / "out").status == "skipped"
    library.write_bytes(library.read_bytes() + b"\0")
    assert gbsep.render(song, document, tmp_path / "out").status == "ok"
