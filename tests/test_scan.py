"""Scanning for plug-ins: what works is listed, what does not is quarantined, each is examined once."""

from __future__ import annotations

import json
import os
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from gbsep.errors import ParameterError, PluginError, PluginNotFound
from gbsep.plugins import host, scan
from gbsep.plugins.worker import loader
from gbsep.store.folders import cache_folder

from .bundles import ARCHITECTURE, BY_ANOTHER, LATENCY_FRAMES, SAMPLE_RATE, examined, needs, zam


def test_a_scan_lists_what_works_and_quarantines_what_does_not(bundle, plugin_path, nothing_left):
    good, crash = bundle(), bundle("load-crash")
    bundle("gone", needs(b"libstdc++.so.6\0", b"libgone+++.so\0\0"))
    found = {info.path.stem: info for info in host.plugins()}
    assert found["good"] == host.PluginInfo(
        name="gbsep test",
        path=good,
        format="VST3",
        vendor="gbsep",
        version="1.2.3",
        category="Fx|Stereo",
        class_id=found["good"].class_id,
        layouts=((2, 2),),
        latency_frames=LATENCY_FRAMES,
        parameters=found["good"].parameters,
    )
    assert found["load-crash"].path == crash
    assert "crashed during load" in found["load-crash"].reason
    assert "missing library: libgone" in found["gone"].reason
    assert host.find("gbsep test") == found["good"]
    with pytest.raises(PluginNotFound, match=r"'gbsep tset' .*did you mean 'gbsep test'\? Other folders"):
        host.find("gbsep tset")
    with pytest.raises(PluginError, match=r"quarantine: .*crashed during load"):
        host.find("load-crash")
    with pytest.raises(PluginError, match=r"quarantine: .*missing library"):
        host.open_plugin(found["gone"], SAMPLE_RATE, 2)


def test_trouble_of_the_machine_is_not_kept_as_the_plug_ins(bundle, plugin_path, tmp_path, monkeypatch):
    bundle()
    with monkeypatch.context() as full_disk:
        full_disk.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
        (found,) = host.plugins()
    assert "cannot be started: No such file or directory" in found.reason
    assert [(info.name, info.reason) for info in host.plugins()] == [("gbsep test", "")]


def test_what_cannot_be_opened_is_quarantined_and_the_rest_is_listed(bundle, plugin_path):
    bundle()
    (plugin_path / "dangling.vst3").symlink_to("nowhere.vst3")
    (plugin_path / "loop.vst3").symlink_to("loop.vst3")
    os.mkfifo(plugin_path / "fifo.vst3")
    (plugin_path / "device.vst3").symlink_to("/dev/zero")
    inner = plugin_path / "inner.vst3" / "Contents" / ARCHITECTURE
    inner.mkdir(parents=True)
    os.mkfifo(inner / "inner.so")
    for _ in range(2):
        reasons = {info.path.stem: info.reason for info in host.plugins()}
        assert reasons.pop("good") == ""
        assert reasons.pop("inner").count("not a plug-in: no shared library") == 1
        assert reasons == {
            "dangling": "a link to nowhere.vst3, which is not there",
            "loop": "cannot be read: Too many levels of symbolic links",
            "fifo": "not a regular file",
            "device": "not a regular file",
        }
    (plugin_path / "loop.vst3").unlink()
    (plugin_path / "loop.vst3").write_bytes(b"")
    assert "not a plug-in" in next(info.reason for info in host.plugins() if info.path.stem == "loop")


def test_folders_that_link_in_circles_are_walked_once(plugin_path):
    (plugin_path / "a" / "empty.vst3").mkdir(parents=True)
    (plugin_path / "b").mkdir()
    for folder in ("a", "b"):
        for name in ("up", "down", "round"):
            (plugin_path / folder / name).symlink_to(plugin_path)
    assert scan.files() == [plugin_path / "a" / "empty.vst3"]


def test_of_two_with_one_name_the_first_counts_unless_the_vendor_is_said(bundle, plugin_path):
    first, second = bundle("a"), bundle("b", BY_ANOTHER)
    assert [info.path for info in host.matching("gbsep test")] == [first, second]
    assert host.find("gbsep test").path == first
    assert host.find("gbsep test", vendor="other", format="VST3").path == second
    with pytest.raises(
        PluginNotFound, match=r"no plug-in 'gbsep test' of vendor 'another': .*b\.vst3 is VST3 by 'other'"
    ):
        host.find("gbsep test", vendor="another")
    with pytest.raises(PluginNotFound, match="of format 'Audio Unit'"):
        host.find("gbsep test", format="Audio Unit")


@pytest.mark.parametrize("text", ["soon", "0", "nan", "1e9", "-1"])
def test_a_deadline_from_the_environment_is_checked(plugin_path, monkeypatch, text):
    monkeypatch.setenv("GBSEP_PLUGIN_TIMEOUT", text)
    with pytest.raises(ParameterError, match=r"GBSEP_PLUGIN_TIMEOUT = .*a number from 0\.1 to 3600 s"):
        host.plugins()


def test_a_scan_keeps_the_deadline_from_the_environment(bundle, plugin_path, nothing_left, monkeypatch):
    bundle("library-hang")
    monkeypatch.setenv("GBSEP_PLUGIN_TIMEOUT", "1.5")
    (info,) = host.plugins()
    assert "gave no answer within 1.5 s during load" in info.reason


@pytest.mark.skipif(sys.platform != "linux", reason="a file that not even root can read comes from /proc")
def test_an_unreadable_file_is_quarantined(plugin_path):
    (plugin_path / "unreadable.vst3").symlink_to("/proc/self/mem")
    (info,) = host.plugins()
    assert info.reason.startswith("cannot be read: ")


def test_a_file_is_examined_again_only_when_it_changes(bundle, plugin_path, monkeypatch):
    path, count = bundle(), 0
    examine = scan.examine

    def counted(file: Path, wanted: Sequence[str], load_timeout_s: float | None = None) -> Iterator[host.PluginInfo]:
        nonlocal count
        count += len(wanted)
        return examine(file, wanted, load_timeout_s)

    def examined() -> int:
        nonlocal count
        before, count = count, 0
        return before

    monkeypatch.setattr(scan, "examine", counted)
    first = host.plugins()
    assert host.plugins() == first
    assert examined() == 1
    library = next(path.rglob("*.so"))
    os.utime(library, (1, 1))
    assert host.plugins() == first
    assert examined() == 0
    library.write_bytes(library.read_bytes() + b"changed")
    host.plugins()
    assert examined() == 1
    host.plugins(refresh=True)
    assert examined() == 1
    kept_file().write_text("{}")
    host.plugins()
    assert examined() == 1
    (path / "Contents" / "moduleinfo.json").write_text("later")
    os.utime(path / "Contents" / "moduleinfo.json", (2, 2))
    host.plugins()
    data = library.read_bytes()
    library.write_bytes(data[:-5] + b"other")
    os.utime(library, (1, 1))  # no newer than the newest, and as long as before
    host.plugins()
    assert examined() == 2


def kept_file() -> Path:
    """Where the only file of a scan is kept."""
    (file,) = (cache_folder() / "plugins").glob("*.json")
    return file


def test_a_scan_goes_on_where_it_was_interrupted(bundle, plugin_path, monkeypatch):
    for name in ("a", "b", "c"):
        bundle(name)
    examine, done = scan.examine, []

    def interrupted(
        file: Path, wanted: Sequence[str], load_timeout_s: float | None = None
    ) -> Iterator[host.PluginInfo]:
        if len(done) == 2:
            raise KeyboardInterrupt
        if wanted:
            done.append(file.stem)
        return examine(file, wanted, load_timeout_s)

    monkeypatch.setattr(scan, "examine", interrupted)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    with pytest.raises(KeyboardInterrupt):
        host.plugins()
    before, done[:] = list(done), []
    assert len(host.plugins()) == 3
    assert (before, done) == (["a", "b"], ["c"])


def test_only_the_plugin_that_is_named_is_loaded(bundle, plugin_path):
    """One that hangs has another name, and costs nothing."""
    bundle()
    bundle("load-hang", needs(b"\0gbsep test\0", b"\0gbsep tost\0"))
    assert host.find("gbsep test").path.stem == "good"
    with pytest.raises(PluginNotFound, match="did you mean 'gbsep test', 'gbsep tost'|did you mean"):
        host.find("gbsep tast")


DAMAGE: list[Callable[[dict], object]] = [
    lambda kept: kept.clear(),
    lambda kept: kept.pop("stamp"),
    lambda kept: kept.update(plugins=3),
    lambda kept: kept.update(path="/elsewhere.vst3"),
    lambda kept: kept["header"].update(version="1"),
    lambda kept: kept["plugins"]["gbsep test"].clear(),
    lambda kept: kept["plugins"]["gbsep test"].update(name=None),
    lambda kept: kept["plugins"]["gbsep test"].update(path="/etc/passwd"),
    lambda kept: kept["plugins"]["gbsep test"].update(parameters=[{}]),
]


def test_a_damaged_cache_is_as_good_as_none(bundle, plugin_path):
    bundle()
    whole, file = host.plugins(), kept_file()
    kept = file.read_text()
    for damage in DAMAGE:
        cache = json.loads(kept)
        damage(cache)
        file.write_text(json.dumps(cache))
        assert host.plugins() == whole
        assert file.read_text() == kept
    for text in ("[]", "null", "{", '{"header": 1, "files": 2}', "[" * 100_000):
        file.write_text(text)
        assert host.plugins() == whole


def test_a_plugin_that_no_longer_works_keeps_its_name_and_says_why(bundle, plugin_path):
    library = next(bundle().rglob("*.so"))
    assert not host.find("gbsep test").reason
    data = library.read_bytes()
    library.write_bytes(data[:3000])
    for refresh in (False, True):
        host.plugins(refresh)
        with pytest.raises(PluginError, match=r"good\.vst3 is in quarantine: .*is truncated") as raised:
            host.find("gbsep test")
        assert raised.type is PluginError
    with pytest.raises(PluginNotFound, match="1 in quarantine: `gbsep plugins list` says why"):
        host.find("another")
    library.write_bytes(data)
    assert not host.find("gbsep test").reason


def test_a_scan_knows_every_parameter_and_a_probe_whether_the_plugin_repeats_itself(bundle, plugin_path):
    bundle()
    for _ in range(2):  # as examined, and as kept
        info = host.find("gbsep test")
        assert [parameter.name for parameter in info.parameters][1:] == [
            "gain_db",
            "armed",
            "polarity",
            "lookahead",
            "pad_db",
        ]
        assert info.parameters[3].choices == ("normal", "inverted")
        gain = info.parameters[1]
        assert (gain.unit, gain.low, gain.high, gain.value) == ("dB", -60.0, 24.0, pytest.approx(0.0, abs=1e-5))
    assert host.repeats(info)
    assert not host.repeats(examined(bundle("process-random")))


def test_a_program_that_loads_something_is_not_tried_out():
    """ZamVerb loads an impulse response for each program: trying 1001 values, as pedalboard does, takes minutes."""
    with host.open_plugin(zam("ZamVerb"), SAMPLE_RATE, 2, load_timeout_s=25.0) as instance:
        assert instance.process(np.zeros((2, 100), np.float32)).shape == (2, 100)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"\x7fELF\x02\x01" + bytes(12) + b"\x3e\x00", ("x86_64",)),
        (b"\x7fELF\x02\x02" + bytes(12) + b"\x00\x15", ("ppc64",)),
        (b"\x7fELF\x02\x01" + bytes(12) + b"\x99\x99", ("ELF machine 39321",)),
        (b"\xcf\xfa\xed\xfe\x0c\x00\x00\x01", ("macOS arm64",)),
        (
            b"\xca\xfe\xba\xbe" + struct.pack(">11I", 2, 0x01000007, 0, 0, 0, 0, 0x0100000C, 0, 0, 0, 0),
            ("macOS x86_64", "macOS arm64"),
        ),
        (b"MZ\x90", ("Windows",)),
        (b"", ()),
        (b"\x7fELF", ()),
    ],
)
def test_the_head_of_a_library_names_its_processor(tmp_path, head, expected):
    file = tmp_path / "library"
    file.write_bytes(head)
    assert loader.architectures(file) == expected
