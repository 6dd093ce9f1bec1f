"""What is read is what was written, to the last frame: files, containers for PyAV, spools and hashes."""

from __future__ import annotations

import gc
import hashlib
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from gbsep.audio import join
from gbsep.errors import AudioError, AudioFileError, ParameterError
from gbsep.io.formats import BIT_DEPTHS, FORMATS, Container
from gbsep.io.probe import probe
from gbsep.io.read import open_reader, read
from gbsep.io.spool import Spool
from gbsep.store.identity import content_hash

from .soundfiles import cut, hypothesis_settings, leftovers, make, noise

ROOT = Path(__file__).parents[1]
RATE = 44100


def make_av(path: Path, samples: np.ndarray, codec: str, rate: int = RATE, title: str = "제목") -> Path:
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        container.metadata["title"] = title
        stream = container.add_stream(codec, rate=rate, layout="mono" if samples.shape[1] == 1 else "stereo")
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), "fltp", stream.layout.name)
        frame.sample_rate, frame.pts = rate, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


# Reading


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    ("container", "subtype", "format"),
    [
        ("wav", subtype, "WAV") for subtype in ("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")
    ] + [
        ("wav", "PCM_24", "WAVEX"), ("rf64", "PCM_24", "RF64"), ("rf64", "FLOAT", "RF64"), ("w64", "PCM_24", "W64"),
        ("flac", "PCM_16", "FLAC"), ("flac", "PCM_24", "FLAC"), ("aiff", "PCM_16", "AIFF"), ("aiff", "PCM_24", "AIFF"),
        ("aiff", "FLOAT", "AIFF"), ("caf", "PCM_24", "CAF"), ("au", "PCM_16", "AU"),
    ],
)  # fmt: skip
def test_lossless_formats_give_the_samples_back(tmp_path, container, subtype, format, channels):
    samples = noise(channels=channels)
    path = make(tmp_path / "a.x", samples, subtype, format)
    info = probe(path)
    assert (info.container, info.subtype, info.frames) == (container, subtype, len(samples))
    assert (info.sample_rate, info.channels, info.seconds) == (RATE, channels, len(samples) / RATE)
    np.testing.assert_array_equal(read(path).samples, samples.T)


def test_8_bit_wav_is_read_to_half_a_step(tmp_path):
    samples = noise()
    decoded = read(make(tmp_path / "a.wav", samples, "PCM_U8", "WAV"))
    assert np.abs(decoded.samples - samples.T).max() <= 1 / 128


@pytest.mark.parametrize(
    ("format", "subtype", "rate"), [("OGG", "VORBIS", 44100), ("OGG", "OPUS", 48000), ("MP3", "MPEG_LAYER_III", 44100)]
)
def test_lossy_formats_keep_length_and_place(tmp_path, format, subtype, rate):
    tone = 0.5 * np.sin(2 * np.pi * 440 / rate * np.arange(30_000))
    decoded = read(make(tmp_path / "a.x", tone, subtype, format, rate))
    assert decoded.frames == 30_000
    assert np.abs(decoded.samples[0, 5000:25_000] - tone[5000:25_000]).max() < 0.05


@given(
    st.integers(1, 5000),
    st.integers(1, 6000),
    st.floats(0, 0.999),
    st.floats(0.001, 2),
    st.sampled_from(["wav", "flac", "mp3"]),
)
@hypothesis_settings
def test_every_excerpt_in_every_block_size_is_a_slice_of_the_whole(
    tmp_path, frames, block_frames, begin, length, format
):
    path = make(tmp_path / "a.x", noise(frames), None, format.upper())
    whole = soundfile.read(path, dtype="float32", always_2d=True)[0].T
    start_s, duration_s = begin * frames / RATE, max(length * frames, 1) / RATE
    start = min(round(start_s * RATE), frames - 1)
    reader = open_reader(path, start / RATE, duration_s)
    blocks = list(reader.blocks(block_frames))
    assert all(1 <= block.shape[1] <= block_frames and block.dtype == np.float32 for block in blocks)
    expected = whole[:, start : start + round(duration_s * RATE)]
    np.testing.assert_array_equal(join(blocks), expected)
    assert reader.frames == expected.shape[1]
    np.testing.assert_array_equal(reader.read().samples, expected)


@pytest.mark.parametrize(
    ("start_s", "duration_s"), [(-1.0, None), (float("nan"), None), (0.0, -1.0), (0.0, float("inf"))]
)
def test_excerpts_need_times(tmp_path, start_s, duration_s):
    path = make(tmp_path / "a.wav", noise(), "PCM_16", "WAV")
    with pytest.raises(ParameterError, match=r"(start_s|duration_s) = .* is not allowed: a finite time, 0 or later"):
        open_reader(path, start_s, duration_s)


def test_excerpts_lie_within_the_file(tmp_path):
    path = make(tmp_path / "a.wav", noise(RATE), "PCM_16", "WAV")
    with pytest.raises(AudioFileError, match=r"start 1 s is beyond its end at 1.000 s"):
        open_reader(path, 1.0)
    with pytest.raises(ParameterError, match="at least one frame"):
        open_reader(path, 0.5, 1e-6)
    assert open_reader(path, 0.75, 99.0).frames == round(0.25 * RATE)


@pytest.mark.parametrize("rate", [8000, 192_000])
def test_one_frame_at_any_rate(tmp_path, rate):
    path = make(tmp_path / "a.wav", noise(1, 1), "PCM_16", "WAV", rate)
    assert read(path).samples.shape == (1, 1)
    assert probe(path).sample_rate == rate


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite_are_refused_at_their_frame(tmp_path, bad):
    samples = noise()
    samples[12_345, 1] = bad
    path = make(tmp_path / "a.wav", samples, "FLOAT", "WAV")
    with pytest.raises(AudioFileError, match="1 sample is NaN or infinite, the first at frame 12345"):
        list(open_reader(path, 0.1).blocks(1000))


def test_real_recordings_are_read_as_soundfile_reads_them(data):
    path = sorted(data.glob("jams/*/mixture.flac"))[0]
    expected, rate = soundfile.read(path, dtype="float32", start=RATE, frames=RATE)
    decoded = read(path, RATE / rate, RATE / rate)
    np.testing.assert_array_equal(decoded.samples, np.atleast_2d(expected.T))
    assert probe(path).frames == soundfile.info(path).frames


# Containers for PyAV


@pytest.mark.parametrize(
    ("suffix", "codec", "rate"),
    [("m4a", "aac", 44100), ("m4a", "alac", 44100), ("mkv", "pcm_f32le", 48000), ("webm", "libopus", 48000)],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_other_containers_are_decoded(tmp_path, suffix, codec, rate, channels):
    tone = np.repeat(0.5 * np.sin(2 * np.pi * 440 / rate * np.arange(rate))[:, np.newaxis], channels, axis=1)
    path = make_av(tmp_path / f"a.{suffix}", tone.astype(np.float32), codec, rate)
    info = probe(path)
    assert (info.sample_rate, info.channels, info.tags["title"]) == (rate, channels, "제목")
    reader = open_reader(path)
    decoded = join(reader.blocks(1000))
    assert decoded.shape == (channels, reader.frames)
    assert abs(reader.frames - rate) <= 1024
    assert abs(info.frames - rate) <= 2048
    assert np.abs(decoded[:, 5000 : rate - 5000] - tone.T[:, 5000 : rate - 5000]).max() < 0.05
    np.testing.assert_array_equal(read(path, 0.25, 0.5).samples, decoded[:, rate // 4 : rate // 4 + rate // 2])


def test_other_layers_of_mpeg_audio_are_decoded(tmp_path):
    path = make_av(tmp_path / "a.mp2", noise(RATE), "mp2")
    assert RATE <= read(path).frames <= RATE + 1152


def test_truncated_m4a_is_refused(tmp_path):
    path = make_av(tmp_path / "a.m4a", noise(RATE), "aac")
    with pytest.raises(AudioFileError, match=r"header promises \d+ bytes, \d+ are there: it is cut short"):
        probe(cut(path, 0.5))


def test_without_pyav_the_command_that_brings_it_is_named(tmp_path, monkeypatch):
    path = tmp_path / "a.m4a"
    path.write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(AudioFileError, match=r"pip install gbsep\[av\]"):
        probe(path)


def test_a_spool_lives_as_long_as_something_reads_it(tmp_path):
    path = make_av(tmp_path / "a.m4a", noise(RATE), "aac")
    blocks = open_reader(path).blocks(1000)
    gc.collect()
    assert join(blocks).shape == (2, RATE)


# Spool and hash


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=6), st.integers(1, 4000), st.integers(1, 2))
@hypothesis_settings
def test_a_spool_gives_back_what_it_was_given(tmp_path, sizes, block_frames, channels):
    samples = noise(sum(sizes), channels).T
    with Spool(["bass", "guitar"], RATE, channels, tmp_path) as spool:
        at = 0
        for size in sizes:
            spool.write({"bass": samples[:, at : at + size], "guitar": -samples[:, at : at + size]})
            at += size
        bass, guitar = (spool.reader(name).blocks(block_frames) for name in ("bass", "guitar"))
        together = list(zip(bass, guitar, strict=True))
        assert all(1 <= block.shape[1] <= block_frames for block, _ in together)
        np.testing.assert_array_equal(join(block for block, _ in together), samples)
        np.testing.assert_array_equal(join(block for _, block in together), -samples)
        np.testing.assert_array_equal(spool.reader("bass").read().samples, samples)
    assert leftovers(tmp_path) == []


def test_a_spool_refuses_other_shapes_and_folders(tmp_path):
    with Spool(["bass"], RATE, 2) as spool, pytest.raises(AudioError, match=r"blocks of shape \(2, n\)"):
        spool.write({"bass": np.zeros((1, 10), np.float32)})
    with pytest.raises(AudioFileError, match="cannot be written: No such file"):
        Spool(["bass"], RATE, 2, tmp_path / "none")


def test_the_hash_is_of_the_content(tmp_path):
    content = b"abc" * 10**6
    (tmp_path / "a").write_bytes(content)
    assert content_hash(tmp_path / "a") == hashlib.sha256(content).hexdigest()
    with pytest.raises(AudioFileError, match="cannot be read: No such file"):
        content_hash(tmp_path / "none")


def test_the_words_of_presets_are_those_of_the_formats():
    assert set(get_args(Container)) == set(FORMATS)
    assert set(BIT_DEPTHS) == {depth for row in FORMATS.values() for depth in row.subtypes} - {None}


def test_importing_the_module_loads_no_library_for_files():
    script = (
        "import sys, gbsep.io.probe, gbsep.io.read, gbsep.io.resample, gbsep.io.write\n"
        "print({'soundfile', 'soxr', 'av', 'mutagen'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "set()"
