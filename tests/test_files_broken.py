"""Files that are not whole, or say what is not so: refused, or read to their last frame."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from gbsep.errors import AudioFileError
from gbsep.io.probe import probe
from gbsep.io.read import read

from .soundfiles import cut, hypothesis_settings, make, noise, patched

RATE = 44100


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
