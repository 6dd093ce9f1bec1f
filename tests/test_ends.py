"""Files that are joined, cut where nothing states a length, or begin within a frame: read whole, or told."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from gbsep.errors import AudioFileError
from gbsep.io import streams
from gbsep.io.probe import probe
from gbsep.io.read import open_audio
from tests.test_files import RATE
from tests.test_readers import Unseekable, make_av, song

JOINED = {
    "w64": ("pcm_s16le", "w64"), "tta": ("tta", "tta"), "wv": ("wavpack", "wv"), "voc": ("pcm_s16le", "voc"),
    "wav": ("pcm_s16le", "wav"), "aiff": ("pcm_s16be", "aiff"), "wma": ("wmav2", "asf"), "caf": ("alac", "caf"),
}  # fmt: skip
STREAMS = {
    "ac3": ("ac3", "ac3", 48_000), "eac3": ("eac3", "eac3", 44_100), "dts": ("dca", "dts", 48_000),
    "mp2": ("mp2", "mp2", 44_100), "aac": ("aac", "adts", 44_100), "latm": ("aac", "latm", 44_100),
    "thd": ("truehd", "truehd", 44_100), "mlp": ("mlp", "mlp", 44_100), "ts": ("mp2", "mpegts", 44_100),
    "mpg": ("mp2", "mpeg", 44_100),
}  # fmt: skip
PACKET = 4096
"""More frames than a packet of these codecs holds."""


def made(path: Path, codec: str, format: str, rate: int = RATE, seconds: float = 2.0) -> Path:
    """By PyAV, or by ffmpeg what PyAV makes with trouble: skipped where that has no such encoder."""
    if codec in ("dca", "truehd", "mlp", "wmav2", "aac", "pcm_s16be", "pcm_s16le"):
        soundfile.write(path.parent / "source.wav", song(seconds, rate=rate), rate, "PCM_16")
        words = ["ffmpeg", "-v", "error", "-i", path.parent / "source.wav", "-c:a", codec, "-strict", "-2"]
        try:
            done = subprocess.run([*words, "-f", format, "-y", path], capture_output=True, text=True)
        except FileNotFoundError:
            pytest.skip("no ffmpeg to make the file with")
        if done.returncode:
            pytest.skip(f"this ffmpeg makes no {format}: {done.stderr[-100:]}")
        return path
    return make_av(path, song(seconds, rate=rate), codec, rate, format=format)


@pytest.mark.parametrize("suffix", JOINED)
def test_a_joined_file_is_never_read_to_its_first_part_or_called_damaged(tmp_path: Path, suffix: str) -> None:
    path = made(tmp_path / f"a.{suffix}", *JOINED[suffix])
    assert abs(open_audio(path)[0].frames - 2 * RATE) <= PACKET
    path.write_bytes(2 * path.read_bytes())
    for act in (probe, open_audio):
        with pytest.raises(AudioFileError, match="is several files joined") as caught:
            act(path)
        assert "damaged" not in str(caught.value)


def test_a_joined_file_is_known_behind_tags(tmp_path: Path) -> None:
    path = made(tmp_path / "a.tta", *JOINED["tta"])
    alone = path.read_bytes()
    tag = b"APETAGEX" + struct.pack("<IIII8x", 2000, 40, 1, 0) + bytes(40)
    for between in (b"TAG" + bytes(125), tag, b"ID3\x04\0\0\0\0\0\x20" + bytes(32)):
        path.write_bytes(alone + between)
        assert probe(path).frames == probe(path).frames > 0
        path.write_bytes(alone + between + alone)
        with pytest.raises(AudioFileError, match="is several files joined"):
            probe(path)


@pytest.mark.parametrize("mark", ["MAC ", "DSD ", "FRM8"])
def test_forms_that_nothing_here_writes_are_told_by_their_sizes(tmp_path: Path, mark: str) -> None:
    sound = bytes(1000)
    whole = {
        "MAC ": b"MAC \x8c\x0f\0\0" + struct.pack("<7I", 52, 24, 0, 0, 1000 - 24, 0, 0) + bytes(16) + sound,
        "DSD ": b"DSD " + struct.pack("<QQQ", 28, 28 + 1000, 0) + sound,
        "FRM8": b"FRM8" + struct.pack(">Q", 4 + 1000) + b"DSD " + sound,
    }[mark]
    (tmp_path / "cut").write_bytes(whole[:-200])
    with pytest.raises(AudioFileError, match=rf"header promises {len(whole)} bytes, {len(whole) - 200} are there"):
        probe(tmp_path / "cut")
    (tmp_path / "joined").write_bytes(2 * whole)
    with pytest.raises(AudioFileError, match="is several files joined"):
        probe(tmp_path / "joined")


@pytest.mark.parametrize("suffix", STREAMS)
def test_a_stream_that_is_cut_is_used_with_a_word(tmp_path: Path, suffix: str) -> None:
    codec, format, rate = STREAMS[suffix]
    path = made(tmp_path / f"a.{suffix}", codec, format, rate)
    assert open_audio(path)[0].warnings == ()
    raw = path.read_bytes()
    for keep in (0.5, 0.7, 0.9):
        for odd in (1, 7):
            path.write_bytes(raw[: int(len(raw) * keep) // 188 * 188 + odd])
            info = open_audio(path)[0]
            words = " ".join(info.warnings)
            assert "it ends within a frame" in words, (keep, odd)
            assert f"at {info.seconds:.3f} s" in words
            assert "how much is missing cannot be told" in words


@pytest.mark.parametrize("suffix", [suffix for suffix in STREAMS if suffix not in ("mpg", "mp2", "aac", "ts")])
def test_a_stream_that_begins_within_a_frame_is_read(tmp_path: Path, suffix: str) -> None:
    codec, format, rate = STREAMS[suffix]
    path = made(tmp_path / f"a.{suffix}", codec, format, rate)
    raw, whole = path.read_bytes(), open_audio(path)[0]
    for lost in (1, 100, 501):
        path.write_bytes(raw[lost:])
        info = open_audio(path)[0]
        assert info.subtype == whole.subtype
        assert 0 < whole.frames - info.frames < rate // 4
    path.write_bytes(b"\0" * 20_000 + raw)
    assert abs(open_audio(path)[0].frames - whole.frames) < rate // 4


def test_noise_is_no_stream(rng: np.random.Generator) -> None:
    assert streams.begins_within(rng.bytes(2**20)) is None


def piped(path: Path, format: str) -> Path:
    """Matroska or FLV without a size or length, as ffmpeg writes into a pipe."""
    av = pytest.importorskip("av")
    with path.open("wb") as file, av.open(Unseekable(file), "w", format=format) as container:
        stream = container.add_stream("aac", rate=RATE, layout="stereo")
        for at in range(0, 3 * RATE - 1024, 1024):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(song(3.0)[at : at + 1024].T), "fltp", "stereo")
            frame.sample_rate, frame.pts = RATE, at
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_matroska_from_a_pipe_that_is_cut_is_used_with_a_word(tmp_path: Path) -> None:
    path = piped(tmp_path / "a.mka", "matroska")
    assert open_audio(path)[0].warnings == ()
    raw = path.read_bytes()
    for keep in (0.5, 0.9):
        path.write_bytes(raw[: int(len(raw) * keep)])
        info = open_audio(path)[0]
        assert "it ends within a frame" in " ".join(info.warnings)
        assert 0.3 < info.frames / (3 * RATE) < 0.95


def test_a_caf_of_unknown_size_ends_where_the_file_ends(tmp_path: Path) -> None:
    """Apple's Core Audio Format: the data chunk's size may be -1 where it is the last one."""
    path = made(tmp_path / "a.caf", "pcm_s16be", "caf")
    frames, raw = probe(path).frames, path.read_bytes()
    at = raw.index(b"data") + 4
    path.write_bytes(raw[:at] + b"\xff" * 8 + raw[at + 8 :])
    info, reader = open_audio(path)
    assert info.frames == frames
    assert info.warnings == ()
    assert reader.read().frames == frames
    path.write_bytes(raw[: len(raw) // 2])
    with pytest.raises(AudioFileError, match=r"header promises \d+ bytes, \d+ are there: it is cut short"):
        open_audio(path)
