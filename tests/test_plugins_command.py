"""Plug-ins on the command line: chains over files, lists, probes and states."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gbsep
from gbsep.audio import Audio, join
from gbsep.effects.chain import (
    Node,
    apply_blocks,
    apply_chain,
    parse_chain,
)
from gbsep.effects.plugin import PluginReport

from .bundles import BY_ANOTHER
from .helpers import read
from .plugged import RATE, TEST_PLUGIN, noise, plugin, preset, write_song

pytestmark = pytest.mark.usefixtures("scanned_before")


def test_chain_alone_over_any_file(typed: Any, tmp_path: Path, installed: Callable[..., Path]) -> None:
    installed()
    song = write_song(tmp_path / "loop.wav", 0.5)
    document = preset([plugin(TEST_PLUGIN, parameters={"gain_db": -6.0})])
    (tmp_path / "p.json").write_text(json.dumps(document))
    code, out, err = typed("chain", "loop.wav", "-p", "p.json", "--stem", "bass", "--json")
    assert code == 0, err
    done = json.loads(out)
    assert done["file"] == "loop.bass.wav"
    assert done["plugins"][0]["parameters"]["gain_db"] == -6.0
    expected = apply_chain(Audio(read(song), RATE), document["stems"]["bass"]["chain"]).samples
    np.testing.assert_array_equal(read(tmp_path / "loop.bass.wav"), expected)
    code, _, err = typed("chain", "loop.wav", "-p", "p.json", "--stem", "bass")
    assert code == 2
    assert "--overwrite" in err
    arguments = ("--stem", "bass", "--overwrite", "--start", "0.25", "--out", "part.flac")
    assert typed("chain", "loop.wav", "-p", "p.json", *arguments)[0] == 0
    np.testing.assert_allclose(read(tmp_path / "part.flac"), expected[:, RATE // 4 :], atol=1e-6)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_what_a_killed_chain_left_is_swept(typed: Any, tmp_path: Path) -> None:
    write_song(tmp_path / "loop.wav", 0.1)
    (tmp_path / "p.json").write_text(json.dumps(preset([])))
    script = "import os; from pathlib import Path; from gbsep.shelf import folder as outputs"
    script += "; stack = outputs.staging(Path('loop.bass.wav')); stack.__enter__(); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", script], cwd=tmp_path).returncode == 9
    assert len([path for path in tmp_path.iterdir() if path.name.startswith(".loop.bass.wav.")]) == 2
    assert typed("chain", "loop.wav", "-p", "p.json", "--stem", "bass")[0] == 0
    assert {path.name for path in tmp_path.iterdir()} == {"loop.wav", "p.json", "loop.bass.wav"}


def test_chain_refuses_what_it_cannot_do(typed: Any, tmp_path: Path) -> None:
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
        code, _, err = typed("chain", "loop.wav", "-p", "p.json", *arguments)
        assert (code, message in err) == (2, True), err


def test_chain_takes_its_side_chain_from_a_file(typed: Any, tmp_path: Path) -> None:
    write_song(tmp_path / "loop.wav", 0.5)
    gbsep.write(tmp_path / "key.wav", Audio(np.full((1, RATE // 2), 0.5, np.float32), RATE))
    document = preset([{"effect": "Ducker", "sidechain": "bass"}])
    (tmp_path / "p.json").write_text(json.dumps(document))
    code, _, err = typed("chain", "loop.wav", "-p", "p.json", "--stem", "bass")
    assert code == 2
    assert "--sidechain bass=FILE" in err
    code, _, err = typed("chain", "loop.wav", "-p", "p.json", "--stem", "bass", "--sidechain", "bas=key.wav")
    assert code == 2
    assert "sidechain = 'bas' is not allowed: the chain of bass hears no such stem; did you mean 'bass'?" in err
    before = (tmp_path / "key.wav").read_bytes()
    arguments = ("--stem", "bass", "--sidechain", "bass=key.wav", "--out", "./key.wav", "--overwrite")
    code, _, err = typed("chain", "loop.wav", "-p", "p.json", *arguments)
    assert (code, (tmp_path / "key.wav").read_bytes()) == (2, before)
    assert "is the side-chain bass" in err
    code, out, err = typed(
        "chain", "loop.wav", "-p", "p.json", "--stem", "bass", "--sidechain", "bass=key.wav", "--json"
    )
    assert code == 0, err
    done = json.loads(out)
    assert done["after"]["rms_dbfs"] < done["before"]["rms_dbfs"] - 10


def test_chain_that_crashes_leaves_no_file(typed: Any, tmp_path: Path, installed: Callable[..., Path]) -> None:
    installed("process-exit")
    write_song(tmp_path / "loop.wav", 0.1)
    (tmp_path / "p.json").write_text(json.dumps(preset([plugin(TEST_PLUGIN, parameters={"armed": 1.0})])))
    before = set(tmp_path.iterdir())
    code, _, err = typed("chain", "loop.wav", "-p", "p.json", "--stem", "bass")
    assert code == 1
    assert "exit status 0" in err
    assert set(tmp_path.iterdir()) == before


def test_plugins_are_listed_shown_and_probed(typed: Any, installed: Callable[..., Path]) -> None:
    folder = installed("process-random").parent
    (folder / "empty.vst3").mkdir()
    (folder / "two\nlines.vst3").symlink_to("nowhere\nat all")
    code, out, _ = typed("plugins", "list")
    assert code == 0
    assert TEST_PLUGIN in out
    assert r"two\nlines.vst3: a link to nowhere\nat all" in out
    assert "not a plug-in" in next(line for line in out.splitlines() if "empty.vst3" in line)
    assert out.splitlines()[-1] == "`gbsep plugins scan --retry` tries those in quarantine again"
    code, out, _ = typed("plugins", "show", TEST_PLUGIN, "--probe")
    assert code == 0
    assert "nondeterministic" in out
    assert "gain_db" in out
    assert "-60 to 24" in out
    code, _, err = typed("plugins", "show", "gbsep tes")
    assert code == 2
    assert f"did you mean '{TEST_PLUGIN}'" in err


def test_a_state_that_was_saved_here_is_what_a_preset_restores(
    typed: Any, tmp_path: Path, installed: Callable[..., Path]
) -> None:
    installed()
    arguments = ("plugins", "save", TEST_PLUGIN, "warm.vstpreset")
    assert typed(*arguments, "--set", "gain_db=-12.34", "--set", "polarity=inverted")[0] == 0
    code, _, err = typed(*arguments)
    assert (code, "is there already" in err) == (2, True)
    code, _, err = typed(*arguments, "--overwrite", "--set", "gain_db")
    assert (code, "such as ratio=12.34" in err) == (2, True)
    code, _, err = typed(*arguments, "--overwrite", "--set", "gain_db=-3", "--set", "pad_db=-10")
    assert (code, "gain_db = -3" in err) == (2, True)
    code, _, err = typed(*arguments, "--overwrite", "--set", "gain=3")
    assert (code, "did you mean 'gain_db'" in err) == (2, True)
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".vst3"] == ["warm.vstpreset"]
    audio = noise(RATE // 10)
    out = apply_chain(audio, parse_chain([plugin(TEST_PLUGIN, state="warm.vstpreset")], folder=tmp_path))
    np.testing.assert_allclose(out.samples, -(10 ** (-12.34 / 20)) * audio.samples, rtol=1e-5)
    code, out, _ = typed("plugins", "show", TEST_PLUGIN, "--state", "warm.vstpreset", "--json")
    shown = {row["name"]: row["value"] for row in json.loads(out)["parameters"]}
    assert (code, shown["gain_db"], shown["polarity"]) == (0, pytest.approx(-12.34), "inverted")
    (tmp_path / "odd.vstpreset").write_bytes(b"VST3")
    for file, said in (("none.vstpreset", "there is no file"), ("odd.vstpreset", "odd.vstpreset")):
        code, _, err = typed("plugins", "show", TEST_PLUGIN, "--state", file)
        assert (code, len(err.splitlines())) == (2, 1)
        assert said in err or "state" in err


@pytest.mark.parametrize("text", ["-3.5", "-03.5", "+.25", "2."])
def test_a_number_may_be_typed_as_people_do(
    typed: Any, tmp_path: Path, installed: Callable[..., Path], text: str
) -> None:
    installed()
    assert typed("plugins", "save", TEST_PLUGIN, "a.vstpreset", "--set", f"gain_db={text}")[0] == 0
    _, out, _ = typed("plugins", "show", TEST_PLUGIN, "--state", "a.vstpreset", "--json")
    assert {row["name"]: row["value"] for row in json.loads(out)["parameters"]}["gain_db"] == pytest.approx(float(text))
    code, _, err = typed("plugins", "save", TEST_PLUGIN, "b.vstpreset", "--set", f"gain_db={text} dB")
    assert (code, "a number without its unit, -60 to 24" in err) == (2, True)


def test_plugins_with_one_name_are_told_apart(
    typed: Any, tmp_path: Path, installed: Callable[..., Path], bundle: Callable[..., Path]
) -> None:
    folder = installed("a").parent
    bundle("b", BY_ANOTHER)
    code, out, _ = typed("plugins", "list")
    assert code == 0
    assert f"shadowed: {folder}/b.vst3: {TEST_PLUGIN} is found first at {folder}/a.vst3" in out
    code, out, _ = typed("plugins", "list", "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(row["path"], row["vendor"], row["shadowed"]) for row in rows if row["name"] == TEST_PLUGIN] == [
        (f"{folder}/a.vst3", "gbsep", False),
        (f"{folder}/b.vst3", "other", True),
    ]
    code, out, _ = typed("plugins", "show", TEST_PLUGIN, "--vendor", "other", "--json")
    shown = json.loads(out)
    assert (shown["path"], shown["nondeterministic"]) == (f"{folder}/b.vst3", None)
    assert [row["name"] for row in shown["parameters"]][1:3] == ["gain_db", "armed"]
    write_song(tmp_path / "song.wav", 0.1)
    for vendor, warned in ((None, True), ("other", False)):
        node = plugin(TEST_PLUGIN, **({"vendor": vendor} if vendor else {}))
        (tmp_path / "p.json").write_text(json.dumps(preset([node])))
        code, _, err = typed("render", "song.wav", "-p", "p.json")
        assert code == 0
        assert (f"2 plug-ins are called {TEST_PLUGIN}: {folder}/a.vst3 (gbsep, 1.2.3, VST3) is used" in err) is warned
    (tmp_path / "p.json").write_text(json.dumps(preset([plugin(TEST_PLUGIN, vendor="nobody")])))
    code, _, err = typed("render", "song.wav", "-p", "p.json")
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
