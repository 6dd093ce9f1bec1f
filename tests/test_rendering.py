"""Renders from Python: what the files hold, what render.json says, and what happens to what is there already."""

from __future__ import annotations

import hashlib
import json
import os
import signal as signals
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal

import gbsep
from gbsep.audio import Audio, Reader
from gbsep.errors import AudioFileError, GbsepError, OutputError, ParameterError, PresetError
from gbsep.preset.load import load_preset
from gbsep.rendering import track_names
from gbsep.rendering.process import diagnosing
from gbsep.shelf import folder as outputs

from .helpers import hashes, left_behind, record

RATE = 44100
CROSSOVER: dict[str, Any] = {
    "schema_version": 1,
    "name": "cross",
    "title": "A crossover",
    "separate": {"backend": "crossover", "cutoff_hz": 200.0},
    "stems": {"bass": {"from": ["bass"]}, "guitar": {"from": ["guitar"]}},
}


def preset(**changes: Any) -> dict[str, Any]:
    return {**json.loads(json.dumps(CROSSOVER)), **changes}


def with_stems(
    bass: dict[str, Any] | None = None, guitar: dict[str, Any] | None = None, **changes: Any
) -> dict[str, Any]:
    stems = {"bass": {"from": ["bass"], **(bass or {})}, "guitar": {"from": ["guitar"], **(guitar or {})}}
    return preset(stems=stems, **changes)


@pytest.fixture
def song(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Two seconds of stereo noise with a strong low tone."""
    time_s = np.arange(2 * RATE) / RATE
    samples = 0.05 * rng.standard_normal((2, time_s.size)) + 0.3 * np.sin(2 * np.pi * 80 * time_s)
    path = tmp_path / "song.wav"
    gbsep.write(path, Audio(samples, RATE))
    return path


def read(path: Path) -> np.ndarray:
    return soundfile.read(path, dtype="float64", always_2d=True)[0].T


# What is in the files


def test_stems_and_mixture_add_up(song: Path, tmp_path: Path) -> None:
    outcome = gbsep.render(song, CROSSOVER, tmp_path / "out")
    assert set(outcome.files) == {"bass", "guitar"}
    mixture = read(song)
    parts = [read(path) for path in outcome.files.values()]
    assert np.abs(sum(parts) - mixture).max() < 1e-6
    sos = signal.butter(4, 200, fs=RATE, output="sos")
    np.testing.assert_allclose(parts[0], signal.sosfiltfilt(sos, mixture), atol=1e-6)


def test_24_bit_files_add_up_as_well(song: Path, tmp_path: Path) -> None:
    outcome = gbsep.render(song, preset(output={"bit_depth": "24"}), tmp_path / "out")
    assert soundfile.info(outcome.files["bass"]).subtype == "PCM_24"
    assert np.abs(sum(read(path) for path in outcome.files.values()) - read(song)).max() < 1e-6


def test_the_chain_is_applied_and_dry_stems_are_not(song: Path, tmp_path: Path) -> None:
    louder = with_stems(bass={"chain": [{"effect": "Gain", "gain_db": 6.0}]})
    outcome = gbsep.render(song, louder, tmp_path / "out", dry_stems=True)
    dry, wet = read(outcome.files["bass.dry"]), read(outcome.files["bass"])
    np.testing.assert_allclose(wet, dry * 10 ** (6 / 20), rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(read(outcome.files["guitar.dry"]), read(outcome.files["guitar"]))
    assert record(outcome)["residual"]["peak_dbfs"] < -120
    stem = record(outcome)["stems"]["bass"]
    assert stem["after"]["rms_dbfs"] - stem["before"]["rms_dbfs"] == pytest.approx(6.0, abs=0.01)


def test_a_complement_is_the_mixture_without_the_restored_stem(song: Path, tmp_path: Path) -> None:
    stems = {
        "bass": {"from": ["bass"], "restore": {"method": "peak", "dbfs": -3.0}},
        "rest": {"from": ["mixture", "-bass"]},
        "both": {"from": ["bass", "guitar"]},
    }
    outcome = gbsep.render(song, preset(stems=stems), tmp_path / "out")
    bass, rest, both = (read(outcome.files[name]) for name in stems)
    assert np.abs(bass).max() == pytest.approx(10 ** (-3 / 20), rel=1e-4)
    np.testing.assert_allclose(bass + rest, read(song), atol=1e-6)
    np.testing.assert_allclose(both, read(song), atol=1e-6)


def test_swapped_outputs_change_names(song: Path, tmp_path: Path) -> None:
    straight = gbsep.render(song, CROSSOVER, tmp_path / "a")
    swapped = gbsep.render(song, preset(swap=[["bass", "guitar"]]), tmp_path / "b")
    np.testing.assert_array_equal(read(straight.files["bass"]), read(swapped.files["guitar"]))
    np.testing.assert_array_equal(read(straight.files["guitar"]), read(swapped.files["bass"]))


def test_mixture_fit_restores_what_a_filter_took(song: Path, tmp_path: Path) -> None:
    outcome = gbsep.render(song, with_stems(bass={"restore": {"method": "mixture_fit"}}), tmp_path / "out")
    assert record(outcome)["stems"]["bass"]["restored_gain_db"] == pytest.approx(0.0, abs=0.3)
    alone = preset(stems={"bass": {"from": ["bass"], "restore": {"method": "loudness", "lufs": -30.0}}})
    outcome = gbsep.render(song, alone, tmp_path / "out2")
    assert record(outcome)["stems"]["bass"]["after"]["loudness_lufs"] == pytest.approx(-30.0, abs=0.05)


def test_loudness_can_match_another_render(song: Path, tmp_path: Path) -> None:
    first = gbsep.render(song, CROSSOVER, tmp_path / "a")
    louder = gbsep.read(song)
    loud = tmp_path / "loud.wav"
    gbsep.write(loud, Audio(louder.samples * 2, RATE))
    match = {"restore": {"method": "loudness", "match": str(first.folder)}}
    second = gbsep.render(loud, with_stems(bass=match), tmp_path / "b")
    levels = [record(outcome)["stems"]["bass"]["after"]["loudness_lufs"] for outcome in (first, second)]
    assert levels[0] == pytest.approx(levels[1], abs=0.02)
    with pytest.raises(OutputError, match="holds no render with a stem 'bass'"):
        gbsep.render(loud, with_stems(bass={"restore": {"method": "loudness", "match": str(tmp_path)}}), tmp_path / "c")


def test_a_tail_lengthens_every_file(song: Path, tmp_path: Path) -> None:
    delayed = with_stems(
        bass={"chain": [{"effect": "Delay", "delay_seconds": 0.25, "mix": 1.0, "feedback": 0.0}]},
        output={"tail_s": 0.5},
    )
    outcome = gbsep.render(song, delayed, tmp_path / "out")
    frames = {soundfile.info(path).frames for path in outcome.files.values()}
    assert frames == {2 * RATE + RATE // 2}
    assert np.abs(read(outcome.files["bass"])[:, 2 * RATE : 2 * RATE + RATE // 5]).max() > 0.1


def test_one_gain_is_shared_where_a_format_would_clip(song: Path, tmp_path: Path) -> None:
    loud = with_stems(bass={"chain": [{"effect": "Gain", "gain_db": 20.0}]}, output={"bit_depth": "16"})
    outcome = gbsep.render(song, loud, tmp_path / "pcm")
    shared_db = record(outcome)["shared_gain_db"]
    assert shared_db < -5
    assert any("quieter" in warning for warning in outcome.warnings)
    unclipped = gbsep.render(
        song, with_stems(bass={"chain": [{"effect": "Gain", "gain_db": 20.0}]}), tmp_path / "float"
    )
    for name in ("bass", "guitar"):
        expected = read(unclipped.files[name]) * 10 ** (shared_db / 20)
        np.testing.assert_allclose(read(outcome.files[name]), expected, atol=2e-5)
    assert np.abs(read(unclipped.files["bass"])).max() > 1
    assert np.abs(read(outcome.files["bass"])).max() <= 1


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("sample_rate", [8000, 192000])
@pytest.mark.parametrize("frames", [1, 100])
def test_short_and_odd_recordings(tmp_path: Path, channels: int, sample_rate: int, frames: int) -> None:
    path = tmp_path / "odd.wav"
    gbsep.write(path, Audio(np.full((channels, frames), 0.25), sample_rate))
    outcome = gbsep.render(path, CROSSOVER, tmp_path / "out")
    info = soundfile.info(outcome.files["bass"])
    assert (info.frames, info.channels, info.samplerate) == (frames, channels, sample_rate)


def test_silence(tmp_path: Path) -> None:
    path = tmp_path / "silence.wav"
    gbsep.write(path, Audio(np.zeros((2, RATE)), RATE))
    fit = {"restore": {"method": "mixture_fit"}}
    outcome = gbsep.render(path, with_stems(bass=fit, guitar=fit), tmp_path / "out")
    assert all(np.all(read(stem) == 0) for stem in outcome.files.values())
    stem = record(outcome)["stems"]["bass"]
    assert stem["restored_gain_db"] == 0
    assert stem["after"] == {"peak_dbfs": None, "rms_dbfs": None, "loudness_lufs": None}


def test_an_excerpt_is_the_same_piece_of_the_mixture(song: Path, tmp_path: Path) -> None:
    outcome = gbsep.render(song, CROSSOVER, tmp_path / "out", start_s=0.5, duration_s=1.0)
    total = sum(read(path) for path in outcome.files.values())
    np.testing.assert_allclose(total, read(song)[:, RATE // 2 : RATE // 2 + RATE], atol=1e-6)
    with pytest.raises(AudioFileError, match="start 9 s is beyond its end"):
        gbsep.render(song, CROSSOVER, tmp_path / "out", start_s=9.0)


def test_names_follow_the_template(song: Path, tmp_path: Path) -> None:
    outcome = gbsep.render(song, CROSSOVER, tmp_path / "out", name="{track} - {stem}")
    assert sorted(path.name for path in outcome.files.values()) == [
        "song - bass.wav",
        "song - guitar.wav",
    ]
    for name, message in (
        ("{track}", "{stem} must be in it"),
        ("{stem}{stm}", "no field {stm}; did you mean 'stem'"),
        ("{stem", "a template"),
        ("../{stem}", "cannot be the name of a file"),
    ):
        with pytest.raises(ParameterError, match=message):
            gbsep.render(song, CROSSOVER, tmp_path / "no", name=name)


def test_two_renders_are_byte_identical(song: Path, tmp_path: Path) -> None:
    effects = [{"effect": "Compressor", "threshold_db": -30.0}, {"effect": "Reverb"}]
    both = [
        gbsep.render(song, with_stems(bass={"chain": effects}), tmp_path / out, use_cache=False) for out in ("a", "b")
    ]
    assert hashes(both[0].folder) == hashes(both[1].folder)


def test_the_record_tells_the_whole_story(song: Path, tmp_path: Path) -> None:
    outcome = gbsep.render(song, CROSSOVER, tmp_path / "out")
    told = record(outcome)
    assert told["input"]["sha256"] == hashlib.sha256(song.read_bytes()).hexdigest()
    assert told["preset"] == load_preset(CROSSOVER).document
    assert told["separation"]["backend"] == "crossover"
    assert {"numpy", "scipy", "pedalboard", "python"} <= set(told["versions"])
    assert set(told["seconds"]) == {"separate", "restore", "process"}
    assert told["residual"]["peak_dbfs"] < -120
    for name, stamp in told["files"].items():
        assert hashlib.sha256((outcome.folder / name).read_bytes()).hexdigest() == stamp["sha256"]
    peak_dbfs = 20 * np.log10(np.abs(read(outcome.files["bass"])).max())
    assert told["stems"]["bass"]["after"]["peak_dbfs"] == pytest.approx(peak_dbfs, abs=1e-3)


def test_a_diagnosis_made_meanwhile_is_given_up_with_the_render(rng: np.random.Generator) -> None:
    block, blocks = np.float32(0.1 * rng.standard_normal((2, RATE))), 600
    begun, read_blocks = threading.Event(), 0

    def mixture(block_frames: int) -> Iterator[np.ndarray]:
        nonlocal read_blocks
        for _ in range(blocks):
            begun.set()
            read_blocks += 1
            yield block

    mixture_reader = Reader(RATE, 2, blocks * RATE, mixture)
    stems = {name: Reader(RATE, 2, blocks * RATE, lambda _: repeat(block, blocks)) for name in ("bass", "guitar")}

    def fail() -> None:
        with diagnosing(mixture_reader, stems, {"bass": 0.0, "guitar": 0.0}):
            begun.wait()
            raise OutputError(Path("out"), "no space left")

    with pytest.raises(OutputError, match="no space left"):
        fail()
    assert 0 < read_blocks < blocks


# What is there already


def test_an_unchanged_render_is_skipped_and_a_changed_one_replaced(song: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = gbsep.render(song, CROSSOVER, out)
    stamps = {path: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    again = gbsep.render(song, CROSSOVER, out)
    assert again.status == "skipped"
    assert {path: path.stat().st_mtime_ns for path in first.folder.iterdir()} == stamps
    changed = gbsep.render(song, preset(separate={"backend": "crossover", "cutoff_hz": 300.0}), out)
    assert changed.status == "ok"
    assert changed.folder == first.folder
    assert gbsep.render(song, preset(output={"format": "flac"}), out).status == "ok"
    stems = ("bass", "guitar")
    both = {f"{stem}.{suffix}" for stem in stems for suffix in ("flac", "wav")}
    assert {path.name for path in first.folder.iterdir()} == {*both, "render.json"}
    assert set(record(again)["files"]) == both
    assert set(gbsep.render(song, preset(output={"format": "flac"}), out, overwrite=True).files) == set(stems)
    assert {path.name for path in first.folder.iterdir()} == {*(f"{stem}.flac" for stem in stems), "render.json"}


def test_dry_stems_that_are_there_stay(song: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    plain = gbsep.render(song, CROSSOVER, out)
    assert not list(plain.folder.glob("*.dry.wav"))
    with_dry = gbsep.render(song, CROSSOVER, out, dry_stems=True)
    assert (with_dry.status, with_dry.reason) == ("ok", "bass.dry.wav wanted as well")
    dry = sorted(plain.folder.glob("*.dry.wav"))
    assert [path.name for path in dry] == ["bass.dry.wav", "guitar.dry.wav"]
    again = gbsep.render(song, CROSSOVER, out)
    assert (again.status, again.reason, set(again.files)) == ("skipped", "unchanged", set(with_dry.files))
    before = dry[0].read_bytes()
    louder = gbsep.render(song, preset(separate={"backend": "crossover", "cutoff_hz": 300.0}), out)
    assert (louder.status, louder.reason) == ("ok", "preset changed")
    assert sorted(plain.folder.glob("*.dry.wav")) == dry
    assert dry[0].read_bytes() != before


def test_the_reason_names_what_changed(song: Path, tmp_path: Path) -> None:
    gbsep.render(song, CROSSOVER, tmp_path)
    renamed = gbsep.render(song, CROSSOVER, tmp_path, name="{track} - {stem}")
    assert (renamed.status, renamed.reason) == ("ok", "file names changed")
    gbsep.write(song, Audio(gbsep.read(song).samples * 0.5, RATE))
    halved = gbsep.render(song, CROSSOVER, tmp_path, name="{track} - {stem}")
    assert (halved.status, halved.reason) == ("ok", "input changed")


def test_a_changed_input_is_rendered_again(song: Path, tmp_path: Path) -> None:
    gbsep.render(song, CROSSOVER, tmp_path / "out")
    gbsep.write(song, Audio(gbsep.read(song).samples * 0.5, RATE))
    assert gbsep.render(song, CROSSOVER, tmp_path / "out").status == "ok"


def test_a_deleted_file_is_made_again(song: Path, tmp_path: Path) -> None:
    outcome = gbsep.render(song, CROSSOVER, tmp_path / "out")
    outcome.files["bass"].unlink()
    assert gbsep.render(song, CROSSOVER, tmp_path / "out").status == "ok"
    assert outcome.files["bass"].exists()


def test_foreign_files_are_never_touched(song: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    outcome = gbsep.render(song, CROSSOVER, out)
    mine = outcome.folder / "my notes.txt"
    mine.write_text("take two")
    outcome.files["bass"].write_bytes(b"edited by hand")
    for document in (CROSSOVER, preset(title="changed")):
        with pytest.raises(OutputError, match=r"bass\.wav was changed since gbsep wrote it.*; give --overwrite"):
            gbsep.render(song, document, out)
    assert outcome.files["bass"].read_bytes() == b"edited by hand"
    assert gbsep.render(song, CROSSOVER, out, overwrite=True).status == "ok"
    assert mine.read_text() == "take two"
    assert soundfile.info(outcome.files["bass"]).frames == 2 * RATE


def test_a_foreign_file_of_the_same_name_is_in_the_way(song: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out" / "song" / "cross"
    folder.mkdir(parents=True)
    (folder / "bass.wav").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"bass\.wav was not written by gbsep"):
        gbsep.render(song, CROSSOVER, tmp_path / "out")


def test_a_touched_but_unaltered_file_is_still_ours(song: Path, tmp_path: Path) -> None:
    outcome = gbsep.render(song, CROSSOVER, tmp_path / "out")
    os.utime(outcome.files["bass"])
    assert gbsep.render(song, CROSSOVER, tmp_path / "out").status == "skipped"


# What can go wrong


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_an_output_folder_that_cannot_be(song: Path, tmp_path: Path, out: str) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="is a file, not a folder"):
        gbsep.render(song, CROSSOVER, tmp_path / out)


def test_too_little_space_is_found_before(song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr(outputs.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OutputError, match=r"are needed and 0\.0 MB are free"):
        gbsep.render(song, CROSSOVER, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_samples_that_are_not_finite_leave_nothing(tmp_path: Path) -> None:
    path = tmp_path / "nan.wav"
    samples = np.zeros((RATE, 2))
    samples[30000, 1] = np.nan
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    with pytest.raises(AudioFileError, match=r"1 sample is NaN or infinite, the first at frame 30000"):
        gbsep.render(path, CROSSOVER, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_effect_beyond_half_the_sample_rate(tmp_path: Path) -> None:
    path = tmp_path / "low.wav"
    gbsep.write(path, Audio(np.zeros((1, 8000)) + 0.1, 8000))
    high = {"chain": [{"effect": "HighpassFilter", "cutoff_frequency_hz": 5000.0}]}
    with pytest.raises(ParameterError, match=r"cutoff_frequency_hz = 5000\.0 Hz is not allowed: below 4000 Hz"):
        gbsep.render(path, with_stems(bass=high), tmp_path / "out")
    low = {"chain": [{"effect": "LowpassFilter", "cutoff_frequency_hz": 5000.0}]}
    outcome = gbsep.render(path, with_stems(bass=low), tmp_path / "out")
    assert any("passes everything" in warning for warning in outcome.warnings)


def test_unknown_words_of_the_api() -> None:
    with pytest.raises(ParameterError, match="did you mean 'overwrite'"):
        gbsep.render("song.wav", CROSSOVER, overwrit=True)
    with pytest.raises(PresetError, match="no preset of this name"):
        gbsep.render("song.wav", "nothing")
    with pytest.raises(AttributeError, match="has no attribute 'rendr'"):
        gbsep.rendr  # noqa: B018


def test_a_full_disk_leaves_nothing(song: Path, tmp_path: Path) -> None:
    """The process may write no file above 300 kB: less than a stem needs."""
    script = (
        "import resource, signal, sys, gbsep\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))\n"
        "try: gbsep.render(sys.argv[1], 'exp002', sys.argv[2])\n"
        "except gbsep.GbsepError as error: print(error); sys.exit(3)\n"
    )
    pytest.importorskip("resource", reason="no limits on the size of files on this platform")
    done = subprocess.run([sys.executable, "-c", script, song, tmp_path / "out"], capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert "cannot be written" in done.stdout or "could not be written" in done.stdout
    assert "System error" not in done.stdout
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.name == "nt", reason="kills a process the POSIX way")
def test_a_killed_render_is_swept_by_the_next(song: Path, tmp_path: Path) -> None:
    """Kill where a render is complete but not yet in place, and where it is half way."""
    script = (
        "import os, signal, sys, gbsep\n"
        "from gbsep.shelf import folder as outputs; from gbsep import rendering; from gbsep.rendering import running\n"
        "def die(*_): os.kill(os.getpid(), signal.SIGKILL)\n"
        "setattr(*{'move': (outputs, '_move', die), 'write': (running, 'write', die)}[sys.argv[3]])\n"
        "gbsep.render(sys.argv[1], 'exp002', sys.argv[2])\n"
    )
    expected = hashes(gbsep.render(song, "exp002", tmp_path / "undisturbed").folder)
    for moment, status in (("write", "ok"), ("move", "skipped")):
        out = tmp_path / moment
        done = subprocess.run([sys.executable, "-c", script, song, out, moment])
        assert done.returncode == -signals.SIGKILL
        assert left_behind(out)
        outcome = gbsep.render(song, "exp002", out)
        assert outcome.status == status
        assert hashes(outcome.folder) == expected
        assert not left_behind(out)


def test_inputs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    paths = [tmp_path / "a" / "mix.wav", tmp_path / "b" / "mix.wav", tmp_path / "b" / "solo.wav"]
    assert list(track_names(paths).values()) == ["a/mix", "b/mix", "solo"]
    same = [tmp_path / "mix.wav", tmp_path / "mix.flac"]
    assert list(track_names(same).values()) == ["mix.wav", "mix.flac"]
    twice = [tmp_path / "mix.wav", tmp_path / "a" / ".." / "mix.wav"]
    assert list(track_names(twice).values()) == ["mix"]


parts = st.sampled_from(["a", "b", "mix", "solo"])
files_in_trees = st.builds(
    lambda folders, name, suffix: Path("/top", *folders, name + suffix),
    st.lists(parts, max_size=3),
    parts,
    st.sampled_from([".wav", ".flac", ".wav.mp3", ""]),
)


@given(st.lists(files_in_trees, max_size=8, unique=True))
def test_names_are_as_short_as_they_can_be(paths: list[Path]) -> None:
    """As by comparing every two."""
    names = track_names(paths)
    assert list(names) == paths
    assert len(set(names.values())) == len(paths)
    stems = [path.with_suffix("") for path in paths]
    alike = [path for path, stem in zip(paths, stems, strict=True) if stems.count(stem) > 1]
    own = [path if path in alike or stem in alike else stem for path, stem in zip(paths, stems, strict=True)]
    for path, whole in zip(paths, own, strict=True):
        lengths = range(1, len(whole.parts) + 1)
        shortest = next(n for n in lengths if [one.parts[-n:] for one in own].count(whole.parts[-n:]) == 1)
        assert names[path] == "/".join(whole.parts[-shortest:])


def test_every_error_is_one_line(tmp_path: Path) -> None:
    for content in (b"", b"hello", b"RIFF\0\0\0\0WAVE"):
        path = tmp_path / "bad.wav"
        path.write_bytes(content)
        with pytest.raises(GbsepError, match=r"bad\.wav") as caught:
            gbsep.render(path, CROSSOVER, tmp_path / "out")
        assert "\n" not in str(caught.value)


def test_another_impulse_response_renders_again(song: Path, tmp_path: Path) -> None:
    response = tmp_path / "room.wav"
    room = with_stems(bass={"chain": [{"effect": "Convolution", "impulse_response_filename": str(response)}]})
    gbsep.write(response, Audio(np.eye(1, 100), RATE))
    assert gbsep.render(song, room, tmp_path / "out").status == "ok"
    assert gbsep.render(song, room, tmp_path / "out").status == "skipped"
    gbsep.write(response, Audio(0.5 * np.eye(1, 100), RATE))
    assert gbsep.render(song, room, tmp_path / "out").status == "ok"


def test_a_stem_can_be_the_key_of_anothers_ducker(song: Path, tmp_path: Path) -> None:
    ducked = with_stems(guitar={"chain": [{"effect": "Ducker", "sidechain": "bass", "threshold_db": -40.0}]})
    outcome = gbsep.render(song, ducked, tmp_path / "out", dry_stems=True)
    levels = record(outcome)["stems"]["guitar"]
    assert levels["after"]["rms_dbfs"] < levels["before"]["rms_dbfs"] - 3


def test_a_preset_may_use_the_mixture_alone(song: Path, tmp_path: Path) -> None:
    only = preset(stems={"all": {"from": ["mixture"], "chain": [{"effect": "Gain", "gain_db": -6.0}]}})
    outcome = gbsep.render(song, only, tmp_path / "out")
    np.testing.assert_allclose(read(outcome.files["all"]), read(song) * 10 ** (-6 / 20), atol=1e-6)


def test_another_song_of_the_same_name_is_not_a_changed_input(song: Path, tmp_path: Path) -> None:
    first = gbsep.render(song, CROSSOVER, tmp_path / "out")
    other = tmp_path / "album two" / song.name
    other.parent.mkdir()
    gbsep.write(other, Audio(gbsep.read(song).samples * 0.3, RATE))
    before = hashes(first.folder)
    with pytest.raises(OutputError, match="holds the render of another recording, .*song.wav; give --overwrite"):
        gbsep.render(other, CROSSOVER, tmp_path / "out")
    assert hashes(first.folder) == before
    moved = tmp_path / "album two" / "moved" / song.name
    moved.parent.mkdir()
    song.rename(moved)
    assert gbsep.render(moved, CROSSOVER, tmp_path / "out").status == "skipped"


@pytest.mark.parametrize("content", ['{"my": "json"}', '{"files": {"bass.wav": 3}}', "[]", "not json"])
def test_a_foreign_record_is_in_the_way(song: Path, tmp_path: Path, content: str) -> None:
    folder = tmp_path / "out" / "song" / "cross"
    folder.mkdir(parents=True)
    (folder / "render.json").write_text(content)
    with pytest.raises(OutputError, match="render.json was changed since gbsep wrote it, or is not gbsep's"):
        gbsep.render(song, CROSSOVER, tmp_path / "out")
    assert (folder / "render.json").read_text() == content
    with pytest.raises(OutputError, match="holds no render with a stem"):
        outputs.stem_file(folder, "bass")


def test_an_edited_record_is_the_users(song: Path, tmp_path: Path) -> None:
    outcome = gbsep.render(song, CROSSOVER, tmp_path / "out")
    told = record(outcome)
    (outcome.folder / "render.json").write_text(json.dumps({**told, "warnings": ["my note"]}))
    with pytest.raises(OutputError, match="render.json was changed"):
        gbsep.render(song, preset(title="changed"), tmp_path / "out")


def test_names_that_no_disk_takes(song: Path, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="names of at most 200 bytes"):
        gbsep.render(song, CROSSOVER, tmp_path / "out", name="y" * 300 + "{stem}")
    with pytest.raises(OutputError, match="cannot be used: File name too long"):
        gbsep.render(song, CROSSOVER, tmp_path / ("y" * 300))


def test_a_format_without_a_place_for_the_time_reference_says_so(tmp_path: Path) -> None:
    from gbsep.io.probe import probe, shift_time_reference
    from gbsep.io.write import write

    path = tmp_path / "bwf.wav"
    audio = Audio(np.full((1, 1000), 0.1), RATE)
    write(path, audio, broadcast=shift_time_reference(bytes(608), 12345))
    in_wav = gbsep.render(path, CROSSOVER, tmp_path / "wav")
    assert probe(in_wav.files["bass"]).time_reference == 12345
    in_flac = gbsep.render(path, preset(output={"format": "flac"}), tmp_path / "flac")
    assert any("no place for the time reference" in warning for warning in in_flac.warnings)


@pytest.mark.parametrize("tries", [1, 2])
def test_a_folder_that_another_process_leaves_empty_and_removes_is_made_again(tries, tmp_path, monkeypatch):
    import filelock

    folder = tmp_path / "song" / "preset"

    def too_late(lock, *args, **kwargs):
        folder.parent.rmdir()
        monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
        raise FileNotFoundError(2, "No such file or directory")

    acquire = filelock.FileLock.acquire
    monkeypatch.setattr(filelock.FileLock, "acquire", too_late)
    monkeypatch.setattr(outputs, "STAGING_TRIES", tries)
    if tries == 1:
        with pytest.raises(OutputError, match="cannot be written to: No such file"), outputs.staging(folder):
            pass
    else:
        with outputs.staging(folder) as place:
            assert place.is_dir()
    assert not list(tmp_path.iterdir())
