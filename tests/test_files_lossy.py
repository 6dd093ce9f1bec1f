"""Lossy files: the sound is at its place, as loud and as long as before, and the bytes are the same every time."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import gbsep
from gbsep.audio import Audio
from gbsep.errors import ParameterError
from gbsep.io.formats import OutputFormat
from gbsep.io.probe import is_stem, probe
from gbsep.io.read import open_reader, read
from gbsep.io.resample import resample
from gbsep.io.write import check_output, open_writer, write

RATE = 44100
LOSSY = ["mp3", "m4a", "ogg", "opus"]


def plucks(pitches: list[int], seconds: float, rate: int) -> np.ndarray:
    """Half a second of each pitch, over and over."""
    time_s = np.arange(round(seconds * rate)) / rate
    within, hz = time_s % 0.5, 440 * 2 ** ((np.array(pitches)[(time_s / 0.5).astype(int) % len(pitches)] - 69) / 12)
    partials = sum(np.sin(2 * np.pi * number * hz * within) / number**1.5 for number in range(1, 9))
    return partials * np.exp(-5 * within) * np.minimum(within / 0.003, 1)


def song(seconds: float = 6.0, rate: int = RATE) -> Audio:
    samples = np.stack([plucks([40, 45, 43], seconds, rate), plucks([64, 67, 71], seconds, rate)])
    return Audio((0.5 * samples / np.abs(samples).max()).astype(np.float32), rate)


def rms_db(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(samples, dtype=np.float64))))


@pytest.mark.parametrize("container", LOSSY)
@pytest.mark.parametrize("rate", [32000, 44100, 48000])
def test_the_sound_is_where_it_was_and_as_loud(tmp_path: Path, container: str, rate: int) -> None:
    before = song(rate=rate)
    path = tmp_path / f"a.{container}"
    write(path, before)
    found = probe(path)
    assert found.seconds == pytest.approx(before.frames / rate, abs=0.5 / found.sample_rate)
    assert found.warnings == ()
    after = resample(open_reader(path), rate).read()
    assert after.samples.shape == before.samples.shape
    for channel in range(2):
        assert rms_db(after.samples[channel]) == pytest.approx(rms_db(before.samples[channel]), abs=0.1)

    def error_db(lag: int) -> float:
        middle = slice(4096, -4096)
        return rms_db(np.roll(after.samples, lag, axis=1)[:, middle] - before.samples[:, middle])

    assert min(range(-3, 4), key=error_db) == 0
    assert error_db(0) < rms_db(before.samples) - 20


@pytest.mark.parametrize("container", LOSSY)
def test_other_programs_hear_the_same(tmp_path: Path, container: str) -> None:
    """ffmpeg plays the padding of AAC's last packet too."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("no ffmpeg on this machine")
    before = song()
    write(tmp_path / f"a.{container}", before)
    words = ["ffmpeg", "-v", "error", "-i", f"a.{container}", "-ar", str(RATE), "-c:a", "pcm_f32le", "a.wav"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    after = soundfile.read(tmp_path / "a.wav", dtype="float32")[0].T
    assert before.frames <= after.shape[1] + 1
    assert after.shape[1] <= before.frames + 1023
    frames = min(before.frames, after.shape[1])
    assert rms_db(after[:, :frames] - before.samples[:, :frames]) < rms_db(before.samples) - 20


def test_an_ogg_stream_has_a_number_of_its_content(tmp_path: Path) -> None:
    """libsndfile takes it at random; streams of one number cannot be joined."""
    numbers = set()
    for name, audio in (("a", song()), ("b", song()), ("c", song(5.0))):
        write(tmp_path / f"{name}.ogg", audio)
        numbers.add((tmp_path / f"{name}.ogg").read_bytes()[14:18])
    assert (tmp_path / "a.ogg").read_bytes() == (tmp_path / "b.ogg").read_bytes()
    assert len(numbers) == 2


@pytest.mark.parametrize("container", LOSSY)
def test_blocks_of_any_size_give_the_same_file(tmp_path: Path, container: str) -> None:
    audio, written = song(2.0), []
    for block_frames in (777, 2**17):
        path = tmp_path / f"{block_frames}.{container}"
        with open_writer(path, OutputFormat(container), RATE, 2, audio.frames) as writer:
            for block in audio.reader().blocks(block_frames):
                writer.write(block)
        written.append(read(path).samples)
    assert np.abs(written[0] - written[1]).max() < 0.01


def test_what_they_do_not_take_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    check_output(OutputFormat("opus"), 96000, 2)
    check_output(OutputFormat("m4a"), 96000, 2)
    with pytest.raises(ParameterError, match="m4a takes 7350, .* or 96000 Hz; choose wav or flac"):
        check_output(OutputFormat("m4a"), 192000, 2)
    with pytest.raises(ParameterError, match="ogg takes up to 192000 Hz; choose wav or flac"):
        check_output(OutputFormat("ogg"), 352800, 2)
    with pytest.raises(ParameterError, match="opus has no bit depth"):
        check_output(OutputFormat("opus", "16"), 48000, 2)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ParameterError, match=r"needs PyAV: pip install gbsep\[av\], or choose ogg or mp3"):
        check_output(OutputFormat("m4a"), 48000, 2)


@pytest.mark.parametrize("container", LOSSY)
def test_renders_resume_and_say_that_they_lose(tmp_path: Path, typed: Any, container: str) -> None:
    gbsep.write(tmp_path / "song.wav", song())
    words = ("render", "song.wav", "-p", "exp002", "--format", container, "--json")
    assert typed(*words)[0] == 0
    code, out, _ = typed(*words)
    assert code == 0
    assert json.loads(out)["status"] == "skipped"
    folder = Path("gbsep-out/song/exp002")
    before = {path.name: path.read_bytes() for path in folder.glob(f"*.{container}")}
    assert set(before) >= {f"bass.{container}", f"guitar.{container}"}
    assert all(is_stem(folder / name) for name in before)
    record = json.loads((folder / "render.json").read_text())
    assert record["null_test"]["lossy"] is True
    assert any("48000 Hz, opus has no other rate" in note for note in record["notes"]) == (container == "opus")
    assert typed(*words, "--overwrite")[0] == 0
    assert {path.name: path.read_bytes() for path in folder.glob(f"*.{container}")} == before


@pytest.mark.parametrize("container", LOSSY)
def test_renders_are_measured_and_go_into_a_daw(tmp_path: Path, typed: Any, container: str) -> None:
    gbsep.write(tmp_path / "song.wav", song())
    for format_ in ("wav", container):
        assert typed("render", "song.wav", "-p", "exp002", "--format", format_, "-o", format_)[0] == 0
    scores = gbsep.evaluate(tmp_path / container / "song" / "exp002", tmp_path / "wav" / "song" / "exp002")
    assert min(score.sdr for score in scores.values()) > 15
    code, _, said = typed("diagnose", f"{container}/song/exp002", "--mixture", "song.wav")
    assert code == 0, said
    code, _, said = typed("session", f"{container}/song/exp002", "--format", "reaper")
    assert code == 0, said
    [project] = (tmp_path / container).rglob("*.rpp")
    files = [shlex.split(line)[1] for line in project.read_text().splitlines() if line.strip().startswith("FILE ")]
    kinds = {probe(project.parent / file).container for file in files if "original" not in file}
    assert kinds == ({"mp3"} if container == "mp3" else {"wav"})
