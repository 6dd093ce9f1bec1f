"""What is read is what was written, to the last frame; what is not whole is refused; nothing half-written stays."""

from __future__ import annotations

import gc
import hashlib
import os
import struct
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gbsep.audio import Audio, join
from gbsep.errors import AudioError, AudioFileError, ParameterError
from gbsep.io.formats import BIT_DEPTHS, FORMATS, Container, OutputFormat, largest_sample, may_clip, needs_rf64
from gbsep.io.probe import FileInfo, probe, shift_time_reference
from gbsep.io.read import excerpt, open_reader, read
from gbsep.io.resample import resample, resample_blocks
from gbsep.io.spool import Spool
from gbsep.io.write import check_output, open_writer, write
from gbsep.store.identity import content_hash

ROOT = Path(__file__).parents[1]
RATE = 44100
BROADCAST = struct.pack(
    "=256s32s32s10s8s2xIIh64s5h180sI",
    b"take 3", b"recorder", b"REF", b"2024-05-06", b"07:08:09", 123456789, 2, 1, b"", 0, 0, 0, 0, 0, b"", 0,
)  # fmt: skip
TAGS = {
    "title": "제목 é",
    "artist": "A",
    "album": "B",
    "tracknumber": "7",
    "date": "2024",
    "genre": "Rock",
    "comment": "C",
}
hypothesis_settings = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def noise(frames: int = 20_000, channels: int = 2, seed: int = 0) -> np.ndarray:
    """(frames, channels) within +-0.9, on the grid of 16-bit samples."""
    codes = np.random.default_rng(seed).integers(-29_000, 29_000, (frames, channels))
    return (codes / 2**15).astype(np.float32)


def make(path: Path, samples: np.ndarray, subtype: str, format: str, rate: int = RATE) -> Path:
    soundfile.write(path, samples, rate, subtype=subtype, format=format)
    return path


def patched(path: Path, at: int, value: bytes) -> Path:
    raw = bytearray(path.read_bytes())
    raw[at : at + len(value)] = value
    path.write_bytes(raw)
    return path


def cut(path: Path, keep: float) -> Path:
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * keep)])
    return path


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


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


# Files that are not whole


def data_at(path: Path, name: bytes = b"data") -> int:
    """Where the size of a WAV or AIFF chunk stands."""
    return path.read_bytes().index(name) + 4


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (lambda path: path, "no such file"),
        (lambda path: path.mkdir() or path, "is a folder"),
        (lambda path: path.touch() or path, "is empty"),
        (lambda path: path.write_text("Verse one\n" * 100) and path, "is no audio that gbsep can read"),
        (lambda path: path.write_text("#EXTM3U\nhttp://localhost/a.ts\n") and path, "is no audio that gbsep can read"),
        (lambda path: path.write_bytes(bytes(5000)) and path, "is no audio that gbsep can read"),
        (lambda path: path.write_bytes(b"RIFF") and path, "is no audio that gbsep can read"),
        (lambda path: make(path, np.zeros((0, 2)), "PCM_16", "WAV"), "zero frames"),
        (lambda path: make(path, np.zeros((0, 2)), "PCM_16", "AIFF"), "zero frames"),
        (lambda path: make(path, np.zeros((9, 6)), "PCM_16", "WAV"), "6 channels; gbsep takes mono or stereo"),
        (lambda path: make(path, np.zeros((9, 3)), "PCM_16", "FLAC"), "3 channels; gbsep takes mono or stereo"),
        (lambda path: make(path, noise(), "PCM_16", "MAT5"), "is a MAT5 file; gbsep reads aiff, au, caf, flac"),
    ],
)  # fmt: skip
def test_what_is_no_usable_audio_is_refused(tmp_path, broken, reason):
    path = broken(tmp_path / "a.wav")
    with pytest.raises(AudioFileError, match=reason) as caught:
        probe(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_raw_samples_are_refused(tmp_path):
    path = tmp_path / "a.raw"
    path.write_bytes(bytes(1000))
    with pytest.raises(AudioFileError, match="neither rate nor channels"):
        probe(path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_without_permission_is_refused(tmp_path):
    path = make(tmp_path / "a.wav", noise(), "PCM_16", "WAV")
    path.chmod(0)
    with pytest.raises(AudioFileError, match="cannot be read: Permission denied"):
        probe(path)


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9, 0.999])
@pytest.mark.parametrize(
    ("format", "subtype"),
    [
        ("WAV", "PCM_16"), ("WAV", "FLOAT"), ("RF64", "PCM_24"), ("W64", "PCM_16"), ("AIFF", "PCM_16"),
        ("CAF", "PCM_16"), ("AU", "PCM_16"), ("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("OGG", "OPUS"),
    ],
)  # fmt: skip
def test_truncated_files_are_refused(tmp_path, format, subtype, keep):
    path = make(tmp_path / "a.x", noise(48_000), subtype, format, 48_000)
    probe(path)
    with pytest.raises(AudioFileError, match=r"cut short or damaged|is no audio"):
        probe(cut(path, keep))


def test_truncated_mp3_is_refused(tmp_path):
    path = make(tmp_path / "a.mp3", noise(48_000), "MPEG_LAYER_III", "MP3", 48_000)
    with pytest.raises(
        AudioFileError, match=r"header promises 1\.\d+ s of sound, 0\.4\d+ s are there: it is cut short"
    ):
        probe(cut(path, 0.5))


@pytest.mark.parametrize("factor", [0, 0.5, 1.5, 1e4])
@pytest.mark.parametrize(("name", "order"), [("WAV", "<"), ("AIFF", ">")])
def test_a_header_that_lies_about_its_length_is_refused(tmp_path, name, order, factor):
    path = make(tmp_path / "a.x", noise(), "PCM_16", name)
    at = data_at(path, {"WAV": b"data", "AIFF": b"SSND"}[name])
    (size,) = struct.unpack_from(order + "I", path.read_bytes(), at)
    with pytest.raises(AudioFileError, match=r"cut short|header knows nothing of|is no audio"):
        probe(patched(path, at, struct.pack(order + "I", int(size * factor))))


@pytest.mark.parametrize("frames", [100, 19_999, 20_001, 10**6])
def test_a_flac_header_that_lies_about_its_length_is_refused(tmp_path, frames):
    path = make(tmp_path / "a.flac", noise(20_000), "PCM_16", "FLAC")
    with pytest.raises(AudioFileError, match=f"header promises {frames} frames, the audio ends at 20000"):
        probe(patched(path, 22, struct.pack(">I", frames)))


@pytest.mark.parametrize("blocks", [1, 100, 4095, 4096, 4097, 70_000, 600_000])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_flac_without_a_length_is_read_to_its_last_frame(tmp_path, blocks, subtype):
    samples = noise(blocks)
    path = patched(make(tmp_path / "a.flac", samples, subtype, "FLAC"), 22, bytes(4))
    assert probe(path).frames == blocks
    start = blocks // 3
    np.testing.assert_array_equal(read(path, start / RATE).samples, samples[start:].T)
    with pytest.raises(AudioFileError, match="states no length, and its last FLAC frame is not whole"):
        probe(cut(path, 0.95))


@pytest.mark.parametrize("format", ["WAV", "RF64", "AIFF", "W64", "FLAC", "OGG", "MP3"])
@given(
    st.floats(0, 1),
    st.lists(st.tuples(st.integers(0, 200), st.binary(min_size=1, max_size=4)), max_size=3),
    st.lists(st.tuples(st.integers(0, 10_000), st.binary(min_size=1, max_size=4)), max_size=2),
)
@settings(hypothesis_settings, max_examples=40, derandomize=True)
def test_damaged_files_are_read_or_refused(tmp_path, format, keep, head, anywhere):
    path = make(tmp_path / "a.x", noise(2000), None, format)
    for at, value in head + anywhere:
        patched(path, at, value)
    if keep < 0.8:
        cut(path, keep)
    try:
        decoded = read(path)
    except AudioFileError as error:
        reason = error.reason
    else:
        reason = ""
        assert decoded.frames == probe(path).frames
    assert "\n" not in reason


def test_a_header_without_a_rate_is_refused(tmp_path):
    path = make(tmp_path / "a.wav", noise(), "PCM_16", "WAV")
    with pytest.raises(AudioFileError, match=r"0 Hz|is no audio"):
        probe(patched(path, 24, bytes(4)))


def test_a_streamed_wav_ends_where_the_file_ends(tmp_path):
    samples = noise()
    path = make(tmp_path / "a.wav", samples, "PCM_16", "WAV")
    at = data_at(path)
    patched(path, at, b"\xff" * 4)
    np.testing.assert_array_equal(read(path).samples, samples.T)  # no WAV holds as much
    told = struct.unpack("<I", path.read_bytes()[4:8])[0]
    patched(path, 4, struct.pack("<I", told + 2))
    with pytest.raises(AudioFileError, match="header promises 4294967295 bytes"):
        probe(path)
    patched(path, 4, b"\xff" * 4)
    np.testing.assert_array_equal(read(path).samples, samples.T)


@pytest.mark.parametrize(
    "tail",
    [b"LIST\x04\0\0\0INFO", b"id3 \x03\0\0\0abc\0", bytes(99), b"TAG" + b"x" * 125],
    ids=["chunk", "odd chunk", "zeros", "id3v1"],
)
def test_what_may_follow_the_audio_in_a_wav(tmp_path, tail):
    samples = noise()
    path = make(tmp_path / "a.wav", samples, "PCM_16", "WAV")
    path.write_bytes(path.read_bytes() + tail)
    np.testing.assert_array_equal(read(path).samples, samples.T)


def without_info_frame(raw: bytes) -> bytes:
    """An MP3 file without its first frame, which states the length."""
    at = raw.index(b"\xff\xfb")
    return raw[raw.index(b"\xff\xfb", at + 100) :]


@pytest.mark.parametrize("channels", [1, 2])
def test_variable_rate_mp3_without_a_length_is_read_whole(tmp_path, channels):
    samples = np.concatenate([noise(RATE, channels), np.zeros((RATE, channels))])
    stated, bare = tmp_path / "a.mp3", tmp_path / "b.mp3"
    with soundfile.SoundFile(
        stated, "w", RATE, channels, "MPEG_LAYER_III", format="MP3", bitrate_mode="VARIABLE", compression_level=0.5
    ) as sound:
        sound.write(samples)
    id3v2, id3v1 = b"ID3\x04\0\0\0\0\0\x20".ljust(42, b"\0"), b"TAG" + bytes(125)
    bare.write_bytes(id3v2 + without_info_frame(stated.read_bytes()) + id3v1)
    assert soundfile.info(bare).frames < RATE * 1.7, "libsndfile alone would cut it"
    decoded, whole = read(bare), read(stated)
    assert probe(bare).frames == decoded.frames
    assert all(probe(bare).tags.values()), "an empty ID3v1 tag tells nothing"
    assert 2 * RATE <= decoded.frames <= 2 * RATE + 2 * 1152
    # The delays of encoder and decoder, which the lost frame told, stay before the audio, as in other programs.
    delay = 576 + 529
    np.testing.assert_allclose(decoded.samples[:, delay + 5000 : delay + 2 * RATE], whole.samples[:, 5000:], atol=1e-3)


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


# Writing


ALL_FORMATS = [
    OutputFormat("wav"), OutputFormat("wav", "16"), OutputFormat("wav", "24"), OutputFormat("flac"),
    OutputFormat("flac", "16"), OutputFormat("mp3"),
]  # fmt: skip


def label(format: OutputFormat) -> str:
    return f"{format.container}-{format.bit_depth}"


@pytest.mark.parametrize("format", ALL_FORMATS, ids=label)
@given(st.integers(1, 9000), st.integers(1, 10_000), st.integers(1, 2), st.sampled_from([8000, 44100, 48000]))
@hypothesis_settings
def test_files_come_back_with_every_frame(tmp_path, format, frames, block_frames, channels, rate):
    samples = noise(frames, channels).T
    path = tmp_path / f"a{format.suffix}"
    with open_writer(path, format, rate, channels, frames) as writer:
        for block in Audio(samples, rate).reader().blocks(block_frames):
            writer.write(block)
    decoded = read(path)
    assert decoded.sample_rate == rate
    assert decoded.samples.shape == samples.shape
    if format.container != "mp3":
        np.testing.assert_array_equal(decoded.samples, samples)
    assert leftovers(tmp_path) == [path.name]


@pytest.mark.parametrize("bits", [16, 24])
@pytest.mark.parametrize("container", ["wav", "flac"])
def test_integers_are_rounded_to_the_nearest_step(tmp_path, rng, container, bits):
    samples = rng.uniform(-1, 1, (2, 10_000)).astype(np.float32)
    samples[0, :4] = [1.0, -1.0, 0.6 / 2 ** (bits - 1), -0.6 / 2 ** (bits - 1)]
    write(tmp_path / "a", Audio(samples, RATE), OutputFormat(container, str(bits)))
    codes = soundfile.read(tmp_path / "a", dtype="int32")[0].T / 2.0 ** (32 - bits)
    expected = np.minimum(np.rint(samples.astype(np.float64) * 2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    np.testing.assert_array_equal(codes, expected)


@pytest.mark.parametrize("format", [each for each in ALL_FORMATS if may_clip(each)], ids=label)
def test_nothing_is_clipped_without_a_word(tmp_path, format):
    limit = largest_sample(format)
    write(tmp_path / "a", Audio(np.full((1, 99), limit), RATE), format)
    with pytest.raises(AudioFileError, match=r"a peak of \+0.09 dBFS would clip"):
        write(tmp_path / "b", Audio(np.array([[0.0, -1.01, 0.0]]), RATE), format)
    assert leftovers(tmp_path) == ["a"]


@pytest.mark.parametrize("format", [each for each in ALL_FORMATS if may_clip(each)], ids=label)
@given(st.floats(1.0, 100.0))
@hypothesis_settings
def test_a_gain_to_the_largest_sample_is_always_accepted(tmp_path, format, peak):
    loud = np.float32(peak) * np.array([[1.0, -1.0, 0.3]], np.float32)
    gain = largest_sample(format) / float(np.abs(loud).max())
    write(tmp_path / "a", Audio((loud * np.float32(gain)), RATE), format)


def test_float_wav_is_never_clamped(tmp_path):
    samples = np.array([[1e-30, -17.5, 3e38]], np.float32)
    assert not may_clip(OutputFormat())
    write(tmp_path / "a.wav", Audio(samples, RATE))
    np.testing.assert_array_equal(read(tmp_path / "a.wav").samples, samples)


def test_equal_signals_give_equal_bytes_at_any_time(tmp_path):
    audio = Audio(noise().T, RATE)

    def written() -> list[bytes]:
        for format in ALL_FORMATS:
            write(tmp_path / label(format), audio, format, TAGS, BROADCAST)
        return [(tmp_path / label(format)).read_bytes() for format in ALL_FORMATS]

    before = written()
    time.sleep(1.1)  # clocks in file headers tick in seconds
    assert written() == before


@pytest.mark.parametrize(
    ("container", "bit_depth", "rate", "channels", "reason"),
    [
        (
            "mp3",
            None,
            96_000,
            2,
            r"sample_rate = 96000 Hz is not allowed: mp3 takes 8000, .* or 48000 Hz; choose wav or flac",
        ),
        ("mp3", None, 44_101, 2, "sample_rate = 44101 Hz"),
        ("mp3", "16", 44_100, 2, "mp3 has no bit depth"),
        ("flac", "float32", 44_100, 2, "flac takes 24 or 16; for float32 choose wav"),
        ("flac", "16", 768_000, 2, "sample_rate = 768000 Hz .* choose wav"),
        ("flac", "24", 65_537, 2, "sample_rate = 65537 Hz"),
        ("wav", "24", 44_100, 3, "channels = 3 is not allowed: 1 or 2"),
        ("wav", "24", 0, 1, "sample_rate = 0 Hz"),
    ],
)
def test_what_a_format_cannot_take_is_refused_beforehand(tmp_path, container, bit_depth, rate, channels, reason):
    format = OutputFormat(container, bit_depth)
    with pytest.raises(ParameterError, match=reason):
        check_output(format, rate, channels)
    with pytest.raises(ParameterError, match=reason), open_writer(tmp_path / "a", format, rate, channels, 10):
        pass
    assert leftovers(tmp_path) == []


def test_formats_that_are_not_known_are_refused():
    with pytest.raises(ParameterError, match="did you mean 'flac'"):
        OutputFormat("flak")
    with pytest.raises(ParameterError, match="bit_depth = '32' is not allowed: 16, 24 or float32"):
        OutputFormat("wav", "32")
    assert [format.bit_depth for format in map(OutputFormat, FORMATS)] == ["float32", "24", None]


def test_rf64_begins_where_a_wav_file_ends():
    assert not needs_rf64(OutputFormat("wav"), 2, 500_000_000)
    assert needs_rf64(OutputFormat("wav"), 2, 2**29)
    assert not needs_rf64(OutputFormat("wav", "16"), 2, 2**29)
    assert not needs_rf64(OutputFormat("flac"), 2, 2**40)


def test_rf64_is_written_and_read_back_with_tags_and_time(tmp_path, monkeypatch):
    monkeypatch.setattr("gbsep.io.write.needs_rf64", lambda *_: True)
    samples = noise()
    write(tmp_path / "a.wav", Audio(samples.T, RATE), None, TAGS, BROADCAST)
    info = probe(tmp_path / "a.wav")
    assert (info.container, info.tags["title"], info.time_reference) == ("rf64", TAGS["title"], 2 << 32 | 123456789)
    np.testing.assert_array_equal(read(tmp_path / "a.wav").samples, samples.T)


@pytest.mark.parametrize("wrong", [99, 101])
def test_the_number_of_frames_is_checked(tmp_path, wrong):
    with (
        pytest.raises(AudioFileError, match=r"99 frames written, 100 announced|more frames than the 100"),
        open_writer(tmp_path / "a.wav", OutputFormat(), RATE, 2, 100) as writer,
    ):
        writer.write(np.zeros((2, wrong), np.float32))
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("block", [np.zeros((1, 10)), np.zeros(10), np.full((2, 10), np.nan)])
def test_blocks_that_are_no_audio_are_refused(tmp_path, block):
    with (
        pytest.raises(AudioError, match=r"takes blocks of shape|NaN or infinite"),
        open_writer(tmp_path / "a.wav", OutputFormat(), RATE, 2, 10) as writer,
    ):
        writer.write(block)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("format", ALL_FORMATS, ids=label)
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, OSError])
def test_an_exception_leaves_what_was_there(tmp_path, format, error):
    path = tmp_path / "a"
    path.write_text("older")

    def interrupted():
        with open_writer(path, format, RATE, 2, 100) as writer:
            writer.write(np.zeros((2, 50), np.float32))
            assert len(leftovers(tmp_path)) == 2
            raise error("stop")

    with pytest.raises(error, match="stop"):
        interrupted()
    assert leftovers(tmp_path) == ["a"]
    assert path.read_text() == "older"


def test_a_file_takes_the_place_of_another(tmp_path):
    path = tmp_path / "a.wav"
    path.write_text("older")
    write(path, Audio(noise().T, RATE))
    assert probe(path).frames == 20_000


@pytest.mark.parametrize("format", ALL_FORMATS, ids=label)
@pytest.mark.parametrize("limit", [10, 3000, 60_000, 100_000])
def test_a_disk_that_is_full_gives_an_error_and_no_file(tmp_path, format, limit):
    pytest.importorskip("resource")
    script = f"""
        import resource
        import numpy as np
        from gbsep.io.formats import OutputFormat
        from gbsep.io.write import write
        from gbsep.audio import Audio
        from gbsep.errors import AudioFileError
        audio = Audio(np.random.default_rng(0).uniform(-0.5, 0.5, (2, 150_000)), 44100)
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
        format = OutputFormat({format.container!r}, {format.bit_depth!r})
        try:
            write({str(tmp_path / "a.x")!r}, audio, format)
        except AudioFileError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True,
        cwd=ROOT,
    )  # fmt: skip
    assert "a.x: cannot be written" in done.stdout or "a.x: was not written whole" in done.stdout
    assert leftovers(tmp_path) == []


def test_a_folder_that_takes_no_files(tmp_path):
    with pytest.raises(AudioFileError, match="cannot be written: No such file or directory"):
        write(tmp_path / "none" / "a.wav", Audio(noise().T, RATE))
    (tmp_path / "file").touch()
    with pytest.raises(AudioFileError, match="cannot be written: Not a directory"):
        write(tmp_path / "file" / "a.wav", Audio(noise().T, RATE))
    (tmp_path / "locked").mkdir(mode=0o500)
    if not os.access(tmp_path / "locked", os.W_OK):
        with pytest.raises(AudioFileError, match="cannot be written: Permission denied"):
            write(tmp_path / "locked" / "a.wav", Audio(noise().T, RATE))


# Tags and time


@pytest.mark.parametrize("format", ALL_FORMATS, ids=label)
def test_tags_survive(tmp_path, format):
    write(tmp_path / "a", Audio(noise().T, RATE), format, TAGS)
    assert {name: value for name, value in probe(tmp_path / "a").tags.items() if name in TAGS} == TAGS
    again = tmp_path / "b"
    write(again, read(tmp_path / "a"), OutputFormat("wav"), probe(tmp_path / "a").tags)
    assert probe(again).tags.items() >= TAGS.items()


def test_tags_that_are_not_known_or_empty_are_left_out(tmp_path):
    write(tmp_path / "a.wav", Audio(noise().T, RATE), None, {"title": "", "mood": "blue"})
    assert probe(tmp_path / "a.wav").tags == {}


@pytest.mark.parametrize("bit_depth", ["16", "24", "float32"])
def test_the_time_reference_survives_and_moves_with_an_excerpt(tmp_path, bit_depth):
    format = OutputFormat("wav", bit_depth)
    write(tmp_path / "a.wav", Audio(noise().T, RATE), format, None, BROADCAST)
    info = probe(tmp_path / "a.wav")
    assert info.time_reference == 2 << 32 | 123456789
    assert info.broadcast[:340] == BROADCAST[:340]
    start, frames = excerpt(info, 0.1, 0.2)
    moved = shift_time_reference(info.broadcast, start)
    write(tmp_path / "b.wav", read(info.path, 0.1, 0.2), format, info.tags, moved)
    again = probe(tmp_path / "b.wav")
    assert again.time_reference == info.time_reference + 4410
    assert again.frames == frames == 8820


@given(st.integers(0, 2**63), st.integers(0, 2**40))
def test_shifting_a_time_reference_is_addition(reference, frames):
    broadcast = bytearray(BROADCAST)
    struct.pack_into("=II", broadcast, 340, reference & 0xFFFFFFFF, reference >> 32)
    moved = shift_time_reference(bytes(broadcast), frames)
    info = FileInfo(Path("a"), RATE, 1, 1, "wav", "PCM_16", {}, moved)
    assert info.time_reference == reference + frames
    assert moved[:340] == broadcast[:340]
    assert moved[348:] == broadcast[348:]


def test_files_without_broadcast_information_have_no_time(tmp_path):
    assert probe(make(tmp_path / "a.wav", noise(), "PCM_16", "WAV")).time_reference is None


def test_the_bext_chunk_is_the_one_of_the_standard(tmp_path):
    """EBU Tech 3285: 64-bit time reference, little-endian, 338 bytes into the chunk."""
    write(tmp_path / "a.wav", Audio(noise().T, RATE), None, None, BROADCAST)
    raw = (tmp_path / "a.wav").read_bytes()
    body = raw.index(b"bext") + 8
    assert raw[body : body + 6] == b"take 3"
    assert struct.unpack_from("<Q", raw, body + 338)[0] == 2 << 32 | 123456789


# Resampling


@given(
    st.integers(1, 30_000),
    st.integers(1, 40_000),
    st.sampled_from([8000, 22050, 44100, 48000, 96000, 192_000]),
    st.sampled_from([8000, 44100, 48000, 192_000]),
    st.integers(1, 2),
)
@hypothesis_settings
def test_resampling_in_blocks_is_resampling_the_whole(frames, block_frames, from_rate, to_rate, channels):
    samples = noise(frames, channels)
    reader = resample(Audio(samples.T, from_rate).reader(), to_rate)
    blocks = list(reader.blocks(block_frames))
    assert all(1 <= block.shape[1] <= block_frames for block in blocks)
    result = join(blocks)
    assert result.dtype == np.float32
    assert result.shape == (channels, reader.frames) == (channels, max(1, round(frames * to_rate / from_rate)))
    expected = soxr.resample(samples, from_rate, to_rate, quality="VHQ")
    both = min(len(expected), reader.frames)
    assert abs(len(expected) - reader.frames) <= 1
    np.testing.assert_allclose(result[:, :both], expected[:both].T, atol=1e-6)


@pytest.mark.parametrize(("from_rate", "to_rate"), [(44100, 48000), (48000, 44100), (192_000, 44100), (8000, 44100)])
def test_a_resampled_sine_is_the_sine_at_the_new_rate(from_rate, to_rate):
    def sine(rate: int) -> np.ndarray:
        return 0.5 * np.sin(2 * np.pi * 997 * np.arange(rate) / rate + 0.3)[np.newaxis]

    result = resample(Audio(sine(from_rate), from_rate).reader(), to_rate).read()
    middle = slice(to_rate // 10, -to_rate // 10)
    np.testing.assert_allclose(result.samples[:, middle], sine(to_rate)[:, middle], atol=1e-6)


def test_the_same_rate_is_not_touched():
    reader = Audio(noise().T, RATE).reader()
    assert resample(reader, RATE) is reader
    np.testing.assert_array_equal(join(resample_blocks(reader.blocks(999), RATE, RATE, 2, 20_000)), noise().T)


@given(st.integers(1, 50_000), st.sampled_from([8000, 11025, 48000, 88200, 192_000]), st.integers(1, 3))
@hypothesis_settings
def test_there_and_back_again_has_every_frame(frames, rate, seed):
    there = resample(Audio(noise(frames, 1, seed).T, rate).reader(), RATE)
    back = join(resample_blocks(there.blocks(), RATE, rate, 1, frames))
    assert back.shape == (1, frames)


@pytest.mark.parametrize("frames", [900, 1100])
def test_a_length_that_does_not_fit_is_refused(frames):
    for rate in (RATE, RATE // 2):
        with pytest.raises(AudioError, match="resampling gives"):
            list(resample_blocks([noise(1000).T], RATE, rate, 2, frames * rate // RATE))


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
