"""What is written is what was given, with tags and time; nothing is clipped unsaid and nothing half-written stays."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from gbsep.audio import Audio
from gbsep.errors import AudioError, AudioFileError, ParameterError
from gbsep.io.formats import FORMATS, OutputFormat, largest_sample, may_clip, needs_rf64
from gbsep.io.probe import FileInfo, probe, shift_time_reference
from gbsep.io.read import excerpt, read
from gbsep.io.write import check_output, open_writer, write

from .soundfiles import hypothesis_settings, leftovers, make, noise

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


# Writing


ALL_FORMATS = [
    OutputFormat("wav"), OutputFormat("wav", "16"), OutputFormat("wav", "24"), OutputFormat("flac"),
    OutputFormat("flac", "16"), OutputFormat("mp3"), OutputFormat("m4a"), OutputFormat("ogg"), OutputFormat("opus"),
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
    assert decoded.sample_rate == (48000 if format.container == "opus" else rate)
    assert decoded.samples.shape == (channels, max(1, round(frames * decoded.sample_rate / rate)))
    if not format.is_lossy:
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
    assert [format.bit_depth for format in map(OutputFormat, FORMATS)] == ["float32", "24", *[None] * 4]


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
