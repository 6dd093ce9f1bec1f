"""scripts/fuzz.py in its short form, that it finds what it looks for, and what its long runs found."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gbsep
from gbsep import batch
from gbsep.audio import Audio
from gbsep.batch import inputs
from gbsep.errors import AudioError, AudioFileError, BackendError, OutputError, ParameterError, PluginError
from gbsep.models.verify import record_of, trust
from gbsep.plugins.worker import state
from gbsep.rendering import Options
from gbsep.report import collect
from gbsep.session.model import color_of
from gbsep.shelf import record
from gbsep.shelf.stems import find_stems

SCRIPTS = Path(__file__).parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))

import fuzz  # noqa: E402
import fuzz_readers  # noqa: E402

SHORT = {
    "readers": 150,
    "api": 300,
    "presets": 200,
    "manifests": 60,
    "records": 12,
    "files": 80,
    "served": 60,
    "plugins": 4,
}

POSIX = pytest.mark.skipif(os.name != "posix", reason="pipes and limits of POSIX")


@POSIX
@pytest.mark.parametrize("kind", fuzz.KINDS)
def test_nothing_comes_but_errors_of_ours(kind: str) -> None:
    """The long form is `scripts/fuzz.py all`."""
    tally = fuzz.fuzz(kind, SHORT[kind], seed=0)
    assert [f"input {fault.number}: {fault.what}\n{fault.told}" for fault in tally.faults] == []
    assert tally.tried == SHORT[kind]


def test_damage_is_neither_all_taken_nor_all_refused(tmp_path: Path) -> None:
    faults, refused = fuzz.here("readers", 3, range(100), tmp_path)
    assert not faults
    assert 20 < refused < 95


def test_an_input_is_the_same_each_time(tmp_path: Path) -> None:
    samples = []
    for name in ("first", "second"):
        time.sleep(1.0)  # libsndfile writes the second down
        (tmp_path / name).mkdir()
        fuzz_readers.audio_samples(tmp_path / name)
        samples.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert samples[0] == samples[1]


PLANTED = {
    "taken": "pass",
    "refused": "raise gbsep.GbsepError('no')",
    "foreign exceptions": "{}['x']",
    "crashes": "os.abort()",
    "hangs": "time.sleep(60)",
    "files outside": "open(place.parent.parent / 'beside', 'w')",
}


@POSIX
@pytest.mark.parametrize("fault", PLANTED)
def test_the_fuzzer_sees(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = f"""
import os, time, gbsep
def prepare(place):
    def draw(chance):
        def call():
            if not (place / "done").exists():
                (place / "done").touch()
                {PLANTED[fault]}
        yield "planted", call
    return draw
"""
    (tmp_path / "fuzz_planted.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(fuzz, "HANG_S", 1.0)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    tally = fuzz.fuzz("planted", 1, seed=0)
    seen = {one.what for one in tally.faults}
    assert tally.tried == 1
    assert {one.number for one in tally.faults} <= {0}
    assert seen == {fault} & set(fuzz.FAULTS) | ({"foreign exceptions"} if fault == "files outside" else set())
    assert f"| planted | {tally.tried} |" in fuzz.table([tally])


@POSIX
def test_the_guard_stops_what_leads_outside(tmp_path: Path) -> None:
    code = """
import os, shutil, sys
from pathlib import Path
import fuzz_guard
place, beside = Path(sys.argv[1]), Path(sys.argv[2])
(place / "link").symlink_to(beside)
fuzz_guard.watch(place)
(place / "new").write_text("x")
(place / "new").rename(place / "newer")
(place / "link").unlink()
os.symlink(beside, place / "again")
folder = os.open(beside, os.O_RDONLY)
tries = [lambda: (beside / "a").write_text("x"), lambda: (beside / "kept").unlink(), lambda: shutil.rmtree(beside),
         lambda: os.rename(place / "newer", beside / "b"), lambda: (place / "again" / "kept").write_text("x"),
         lambda: os.remove("kept", dir_fd=folder), lambda: os.truncate(beside / "kept", 0),
         lambda: os.mkdir(place / ".." / "c")]
for number, act in enumerate(tries):
    assert not fuzz_guard.touched()
    try:
        act()
    except PermissionError:
        assert fuzz_guard.touched(), number
    else:
        raise AssertionError(number)
"""
    for name in ("place", "beside"):
        (tmp_path / name).mkdir()
    (tmp_path / "beside" / "kept").write_text("kept")
    words = [sys.executable, "-c", code, str(tmp_path / "place"), str(tmp_path / "beside")]
    subprocess.run(words, check=True, env=os.environ | {"PYTHONPATH": str(SCRIPTS)})
    assert (tmp_path / "beside" / "kept").read_text() == "kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["beside", "place"]


def test_all_kinds_share_the_inputs() -> None:
    assert sum(fuzz.shares(20_000).values()) == 20_000
    assert min(fuzz.shares(10).values()) == 1
    assert set(SHORT) == set(fuzz.KINDS)


# What the long runs found


@POSIX
@pytest.mark.parametrize("target", ["/dev/zero", "fifo", "m.csv", "."])
def test_a_manifest_that_is_no_regular_file_is_refused_at_once(target: str, tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    if target == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(target)
    with pytest.raises(AudioFileError, match=r"m\.csv: (is not a regular file|cannot be read)"):
        inputs.read_manifest(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.csv", 'input\n"a"b\n', "line 2 is not CSV"),
        ("m.csv", '"input"x,preset\na.wav,y\n', "line 1 is not CSV"),
        ("m.jsonl", '{"input": ' + "[" * 100_000, "line 1: is nested too deeply"),
        ("m.jsonl", '{"input": ' + "9" * 5000 + "}", "line 1: holds a number of 5000 digits"),
        ("m.jsonl", '{"input" "a"}', "line 1: is not JSON: Expecting ':' delimiter at column 10"),
        (
            "m.csv",
            'input,overrides\na.wav,"{""a"": ' + "[" * 100_000 + '"\n',
            "line 2: overrides: is nested too deeply",
        ),
        ("m.csv", "input\nfile:///a%00b.wav\n", "cannot be the name of a file: it holds a null byte"),
    ],
)
def test_a_row_that_makes_no_sense_is_that_rows_failure(name: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    gbsep.write(tmp_path / "a.wav", Audio(np.zeros((1, 100)), 8000))
    try:
        planned = batch.plan([tmp_path / name], ["exp002"], Options(tmp_path / "out"))
    except AudioFileError as error:
        assert message in str(error)
    else:
        assert [message in str(one.error) for one in planned.refused] == [True]


@pytest.mark.parametrize("rate", [8000, 44_100, 768_000])
@pytest.mark.parametrize("order", range(1, 9))
def test_a_cut_off_is_refused_where_its_filter_is_singular(order: int, rate: int) -> None:
    tone = Audio(np.ones((1, 1000)), rate)
    for cutoff_hz in (1e-9, 1e-12, 1e-300):
        with pytest.raises(ParameterError, match="cutoff_hz"):
            gbsep.separate(tone, "crossover", cutoff_hz=cutoff_hz, order=order)
    stems = gbsep.separate(tone, "crossover", cutoff_hz=1.1e-8 * rate, order=order).stems
    assert all(np.isfinite(stem.samples).all() for stem in stems.values())


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    gbsep.write(tmp_path / "a.wav", Audio(np.zeros((1, 8000)), 8000))
    plain = gbsep.render(tmp_path / "a.wav", "exp002", tmp_path / "out", start_s=0.25, duration_s=0.5)
    numpy: dict[str, Any] = {"start_s": np.float32(0.25), "duration_s": np.float32(0.5)}
    assert gbsep.render(tmp_path / "a.wav", "exp002", tmp_path / "out", **numpy).status == "skipped"
    assert plain.status == "ok"


@pytest.mark.parametrize("out", ["\0", "a\0b", "\ud800"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_can_be_no_path_is_refused(out: str, overwrite: bool, tmp_path: Path) -> None:
    gbsep.write(tmp_path / "a.wav", Audio(np.zeros((1, 800)), 8000))
    with pytest.raises(ParameterError, match="^out = "):
        gbsep.render(tmp_path / "a.wav", "exp002", out, overwrite=overwrite)


LONG = "a" * 5000


@pytest.mark.parametrize(
    "words",
    [
        ["render", "a.wav", "--out", LONG], ["render", LONG], ["report", LONG], ["diagnose", LONG], ["session", LONG],
        ["evaluate", ".", "--reference", LONG], ["compare", "a.wav", "-p", "exp002", "--out", LONG],
        ["chain", "a.wav", "-p", "exp002", "--stem", "bass", "--out", LONG + ".wav"],
        ["log", LONG], ["review", LONG], pytest.param(["demo", "--out", LONG], marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_a_name_that_no_disk_takes_is_refused_in_words(words: list[str], typed: Any) -> None:
    gbsep.write("a.wav", Audio(np.zeros((1, 800)), 8000))
    code, _, told = typed(*words)
    assert code in (1, 2)
    assert "report it" not in told


def test_sessions_of_a_name_that_no_disk_takes() -> None:
    with pytest.raises(OutputError, match="cannot be read"):
        gbsep.write_sessions(LONG)


def test_a_message_is_one_line_whatever_was_given() -> None:
    with pytest.raises(AudioError) as caught:
        Audio(np.zeros((1, 8)), np.zeros((2, 3), np.int16))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    saved = bytearray(state.pack("vstpreset", (b"x", b""), "0" * 32, "1.0"))
    saved[10:20] = b"\n" * 10
    with pytest.raises(PluginError) as refused:
        state.unpack(bytes(saved), "0" * 32, "1.0")
    assert "\n" not in str(refused.value)


def test_a_record_of_weights_that_cannot_be_removed(tmp_path: Path) -> None:
    weights = tmp_path / "own.th"
    weights.write_bytes(b"x")
    record_of(weights).mkdir(parents=True)
    with pytest.raises(BackendError, match="cannot be removed"):
        trust(weights)


@pytest.mark.parametrize("damage", ["cut", "header", "empty", "pickle", "counts", "list", "number", "players"])
def test_a_damaged_pool_is_refused_in_words(damage: str, tmp_path: Path) -> None:
    from gbsep.train import pool

    np.save(tmp_path / "0000.npy", np.zeros((2, 3, 50), np.int16))
    good = (tmp_path / "0000.npy").read_bytes()
    about = '{"sample_rate": 22050, "players": [["a"], ["b"]]}'
    (tmp_path / "0000.json").write_text(about)
    assert pool.load([tmp_path], 22050).players == (("a",), ("b",))
    shards = {"cut": good[:-9], "header": good.replace(b"'<i2'", b"'\0i2("), "empty": b"", "counts": good}
    if damage == "pickle":
        saved = io.BytesIO()
        np.save(saved, np.array([print], object), allow_pickle=True)
        shards["pickle"] = saved.getvalue()
    texts = {
        "counts": about.replace(', ["b"]', ""),
        "list": "[]",
        "number": "3",
        "players": about.replace('["a"]', "1"),
    }
    (tmp_path / "0000.npy").write_bytes(shards.get(damage, good))
    (tmp_path / "0000.json").write_text(texts.get(damage, about))
    with pytest.raises(gbsep.GbsepError):
        pool.load([tmp_path], 22050)


def test_a_record_of_a_recording_that_no_disk_could_hold(tmp_path: Path) -> None:
    gbsep.write(tmp_path / "a.wav", Audio(np.zeros((1, 800)), 8000))
    folder = gbsep.render(tmp_path / "a.wav", "exp002", tmp_path / "out").folder
    told = json.loads((folder / record.RECORD).read_text())
    told["input"]["path"] = LONG
    (folder / record.RECORD).write_text(json.dumps(record.sealed(told)))
    assert [song.name for song in collect(tmp_path / "out")] == ["a"]
    assert find_stems(folder).mixture() is None
    assert gbsep.write_sessions(tmp_path / "out")


@pytest.mark.parametrize("name", ["\udcff", "노래", ""])
def test_any_name_of_a_stem_has_a_colour(name: str) -> None:
    assert 0 <= color_of(name) < 2**24


def test_a_state_in_an_encoding_that_is_none() -> None:
    saved = state.pack("vstpreset", (b"x", b""), "0" * 32, "1.0")
    assert b"'utf-8'" in saved
    with pytest.raises(PluginError, match="damaged"):
        state.unpack(saved.replace(b"'utf-8'", b"'utd-8'"), "0" * 32, "1.0")
