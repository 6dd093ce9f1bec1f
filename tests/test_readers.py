"""Files as people have them: headers that do not tell the truth, streams without any, tags in any bytes."""

from __future__ import annotations

import gc
import random
import struct
import subprocess
import sys
import weakref
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from gbsep.audio import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE, Audio
from gbsep.errors import AudioError, AudioFileError
from gbsep.io import mp3
from gbsep.io import pyav as decoding
from gbsep.io.probe import probe
from gbsep.io.read import open_audio, open_reader, read
from gbsep.io.write import write
from gbsep.preset.load import load_preset
from gbsep.rendering import Options, plan
from tests.soundfiles import RATE, make, noise, patched

ROOT = Path(__file__).parents[1]
MPEG_FRAME = 1152


def make_mp3(path: Path, samples: np.ndarray, rate: int = RATE) -> Path:
    """Variable in its bit rate, with a header that tells the truth."""
    channels = samples.shape[1]
    with soundfile.SoundFile(
        path, "w", rate, channels, "MPEG_LAYER_III", format="MP3", bitrate_mode="VARIABLE", compression_level=0.5
    ) as sound:
        sound.write(samples)
    return path


def song(seconds: float = 2.0, channels: int = 2, rate: int = RATE) -> np.ndarray:
    """(frames, channels): noise, then a tone, so that the bit rate at the beginning is not that of the rest."""
    frames = round(seconds * rate)
    tone = np.repeat(0.3 * np.sin(2 * np.pi * 440 / rate * np.arange(frames))[:, None], channels, axis=1)
    tone[: frames // 4] += 0.5 * noise(frames // 4, channels)
    return tone.astype(np.float32)


def count_at(raw: bytes) -> int:
    """Where the frame count of an MP3 file's header stands."""
    return max(raw.find(b"Xing"), raw.find(b"Info")) + 8


def headless(raw: bytes) -> bytes:
    """An MP3 file without its header frame."""
    return raw[raw.index(b"\xff\xfb", count_at(raw)) :]


def make_av(
    path: Path,
    samples: np.ndarray,
    codec: str,
    rate: int = RATE,
    *,
    format: str | None = None,
    starts: Iterable[float] = (),
    picture_s: float = 0.0,
    metadata: dict[str, str] | None = None,
) -> Path:
    """Audio in a container; `starts`: parts of equal length begin at these times; `picture_s`: so long a picture."""
    av = pytest.importorskip("av")
    parts = list(starts) or [0.0]
    with av.open(str(path), "w", format=format) as container:
        container.metadata.update(metadata or {})
        audio = container.add_stream(codec, rate=rate, layout="mono" if samples.shape[1] == 1 else "stereo")
        if codec == "wmav2":
            audio.bit_rate = 128_000
        video = container.add_stream("mpeg4", rate=10) if picture_s else None
        if video is not None:
            video.width = video.height = 64
            video.pix_fmt = "yuv420p"
            for number in range(round(picture_s * 10)):
                picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), number % 256, np.uint8))
                picture.pts = number
                container.mux(video.encode(picture))
            container.mux(video.encode(None))
        to_codec = av.AudioResampler(audio.codec_context.format.name, audio.layout.name, rate)
        size = audio.codec_context.frame_size or 1024
        for part, begin in zip(np.array_split(samples, len(parts)), parts, strict=True):
            for at in range(0, len(part) - size + 1, size):
                block = np.ascontiguousarray(part[at : at + size].T)
                frame = av.AudioFrame.from_ndarray(block, "fltp", audio.layout.name)
                frame.sample_rate, frame.pts = rate, round(begin * rate) + at
                for converted in to_codec.resample(frame):
                    container.mux(audio.encode(converted))
        container.mux(audio.encode(None))
    return path


# MP3


@pytest.mark.parametrize("count", [0, 10, 40])
def test_an_mp3_is_as_long_as_its_frames_whatever_the_header_counts(tmp_path, count):
    path = make_mp3(tmp_path / "a.mp3", song())
    whole = read(path)
    patched(path, count_at(path.read_bytes()), struct.pack(">I", count))
    info, reader = open_audio(path)
    assert info.frames == reader.frames == probe(path).frames
    assert len(song()) <= info.frames <= len(song()) + 2 * MPEG_FRAME
    np.testing.assert_array_equal(reader.read().samples[:, : whole.frames], whole.samples)
    told = [warning for warning in info.warnings if "its header tells of" in warning]
    assert len(told) == bool(count)
    if count:
        assert f"{count * MPEG_FRAME / RATE:.3f} s of sound, 2." in told[0]


def test_two_joined_mp3_files_are_read_whole(tmp_path):
    path = make_mp3(tmp_path / "a.mp3", song())
    one, raw = read(path), path.read_bytes()
    path.write_bytes(raw + raw)
    info, reader = open_audio(path)
    both = reader.read()
    assert 2 * one.frames <= both.frames == info.frames
    np.testing.assert_array_equal(both.samples[:, : one.frames - 2 * MPEG_FRAME], one.samples[:, : -2 * MPEG_FRAME])
    assert "its header tells of" in info.warnings[0]


@pytest.mark.parametrize("rate", [44100, 22050])
def test_an_mp3_without_a_header_begins_where_other_decoders_begin(tmp_path, rate):
    av = pytest.importorskip("av")
    path = make_mp3(tmp_path / "a.mp3", song(rate=rate), rate)
    path.write_bytes(headless(path.read_bytes()) if rate == 44100 else path.read_bytes()[len_of_first_frame(path) :])
    with av.open(str(path), format="mp3") as container:
        other = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)
    decoded = read(path)
    assert decoded.samples.shape == other.shape
    np.testing.assert_allclose(decoded.samples, other, atol=1e-4)
    raw = soundfile.read(path, dtype="float32")[0].T
    np.testing.assert_allclose(decoded.samples[:, :5000], raw[:, :5000], atol=1e-6)


def len_of_first_frame(path: Path) -> int:
    raw = path.read_bytes()
    header = raw.index(b"Info") if b"Info" in raw[:200] else raw.index(b"Xing")
    return raw.index(raw[:2], header)


def test_a_dump_of_a_stream_that_begins_within_a_frame_is_read(tmp_path):
    path = make_mp3(tmp_path / "a.mp3", song())
    stream = headless(path.read_bytes())
    path.write_bytes(stream[150:])
    whole = tmp_path / "b.mp3"
    whole.write_bytes(stream)
    decoded, other = read(path).samples, read(whole).samples
    lost = other.shape[1] - decoded.shape[1]
    assert MPEG_FRAME <= lost <= 4 * MPEG_FRAME
    np.testing.assert_array_equal(decoded[:, 5 * MPEG_FRAME :], other[:, lost + 5 * MPEG_FRAME :])
    assert not decoded[:, :MPEG_FRAME].any() or np.abs(decoded[:, :MPEG_FRAME]).max() < 1


def test_an_mp3_that_is_shorter_than_its_header_tells_is_refused_with_both_lengths(tmp_path):
    path = make_mp3(tmp_path / "a.mp3", song())
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) * 6 // 10])
    with pytest.raises(AudioFileError, match=r"header promises 2\.\d+ s of sound, [01]\.\d+ s are there"):
        probe(path)


def test_mp3_parts_of_different_kinds_are_told_apart(tmp_path):
    first, second = make_mp3(tmp_path / "a.mp3", song()), make_mp3(tmp_path / "b.mp3", song(channels=1))
    first.write_bytes(first.read_bytes() + second.read_bytes())
    with pytest.raises(AudioFileError, match=r"changes its sample rate or channels at 2\.\d+ s: it is several files"):
        probe(first)


@pytest.mark.parametrize("size", [b"\0\0\0\xed", b"\0\0\0\x05", b"\0\0\x02\0"])
@pytest.mark.parametrize("header", [True, False])
def test_a_wrong_size_in_an_id3_tag_costs_the_tag_alone(tmp_path, size, header):
    path = make_mp3(tmp_path / "a.mp3", song())
    stream = path.read_bytes() if header else headless(path.read_bytes())
    path.write_bytes(stream)
    whole = read(path).samples
    title = b"TIT2" + struct.pack(">IH", 51, 0) + b"\3" + b"x" * 50
    path.write_bytes(b"ID3\x04\0\0" + size + title + stream)
    np.testing.assert_array_equal(read(path).samples, whole)


def test_damaged_mp3_frames_are_silent_and_told(tmp_path):
    path = make_mp3(tmp_path / "a.mp3", song())
    raw, whole = path.read_bytes(), read(path)
    frames = [at for at in range(len(raw)) if raw[at : at + 2] == b"\xff\xfb"]
    middle = frames[len(frames) // 2]
    patched(path, middle + 4, b"\xff" * 32)
    info, reader = open_audio(path)
    assert reader.frames == whole.frames
    assert any("MP3 frames are damaged and silent" in warning for warning in info.warnings)


def test_libraries_keep_to_themselves_what_they_think_of_a_file(tmp_path):
    path = make_mp3(tmp_path / "a.mp3", song())
    raw = bytearray(path.read_bytes())
    chance = random.Random(0)
    for at in range(3000, len(raw), 97):
        raw[at] ^= 1 << chance.randrange(8)
    path.write_bytes(b"ID3\x04\0\0\0\0\0\xed" + bytes(200) + raw)
    script = (
        f"from gbsep.errors import AudioFileError; from gbsep.io.read import read\n"
        f"try: read({str(path)!r})\nexcept AudioFileError: pass"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stderr == ""


def test_an_mp3_is_scanned_frame_by_frame(tmp_path):
    path = make_mp3(tmp_path / "a.mp3", song())
    found = mp3.scan(path)
    assert found is not None
    assert found.header is not None
    assert (found.header.count, found.lost, found.cut, found.changes_at) == (found.count, 0, False, None)
    assert found.header.delay is not None
    total = found.count * MPEG_FRAME - found.header.delay - found.header.padding
    assert probe(path).frames == len(song()) == total


# FLAC, WAV


def with_seek_table(raw: bytes) -> bytes:
    """A FLAC file with a seek table that points anywhere."""
    points = b"".join(struct.pack(">QQH", 4096 * number, 7 + 13 * number, 4096) for number in range(1, 5))
    end = 4 + 4 + 34
    first = raw[4] & 0x80
    table = bytes([first | 3]) + len(points).to_bytes(3, "big") + points
    return raw[:4] + bytes([raw[4] & 0x7F]) + raw[5:end] + table + raw[end:]


def test_a_wrong_seek_table_in_a_flac_file_does_no_harm(tmp_path):
    samples = noise(60_000)
    path = make(tmp_path / "a.flac", samples, "PCM_16", "FLAC")
    path.write_bytes(with_seek_table(path.read_bytes()))
    np.testing.assert_array_equal(read(path).samples, samples.T)
    for start in (1, 9000, 40_000, 59_999):
        np.testing.assert_array_equal(read(path, start / RATE).samples, samples[start:].T)


def test_a_flac_file_behind_an_id3_tag_is_checked_as_well(tmp_path):
    samples = noise(20_000)
    path = make(tmp_path / "a.flac", samples, "PCM_16", "FLAC")
    raw = path.read_bytes()
    path.write_bytes(b"ID3\x04\0\0\0\0\0\x20" + bytes(32) + raw)
    np.testing.assert_array_equal(read(path).samples, samples.T)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(AudioFileError, match="cut short or damaged"):
        probe(path)


@pytest.mark.parametrize("rate", [1, MIN_SAMPLE_RATE - 1, MAX_SAMPLE_RATE + 1, 10_000_000, 2**31 - 1])
def test_sample_rates_that_effects_do_not_survive_are_refused(tmp_path, rate):
    path = make(tmp_path / "a.wav", noise(), "PCM_16", "WAV")
    with pytest.raises(AudioFileError, match=f"header says {rate} Hz, gbsep takes 1000 to 768000 Hz"):
        probe(patched(path, 24, struct.pack("<I", rate)))
    with pytest.raises(AudioError, match=f"a whole number of Hz from 1000 to 768000, not {rate}"):
        Audio(noise().T, rate)


@pytest.mark.parametrize("rate", [MIN_SAMPLE_RATE, MAX_SAMPLE_RATE])
def test_sample_rates_at_the_bounds_are_taken(tmp_path, rate):
    assert read(make(tmp_path / "a.wav", noise(), "PCM_16", "WAV", rate)).sample_rate == rate


# Tags


def test_an_id3_chunk_in_a_wav_is_carried(tmp_path):
    from mutagen import id3
    from mutagen.wave import WAVE

    path = make(tmp_path / "a.wav", noise(), "PCM_16", "WAV")
    file = WAVE(path)
    file.add_tags()
    for frame in (id3.TIT2(3, "제목"), id3.TPE1(1, "Renardé"), id3.TRCK(3, "7"), id3.TCON(3, "(17)")):
        file.tags.add(frame)
    file.tags.add(id3.COMM(3, "eng", "iTunNORM", "000"))
    file.save()
    expected = {"title": "제목", "artist": "Renardé", "tracknumber": "7", "genre": "Rock"}
    assert probe(path).tags == expected
    write(tmp_path / "b.wav", read(path), None, probe(path).tags)
    assert probe(tmp_path / "b.wav").tags == expected


@pytest.mark.parametrize("title", ["노래".encode("cp949"), b"caf\xe9", "lost \ufffd".encode()])
def test_text_in_an_encoding_that_nothing_tells_is_left_out_with_a_word(tmp_path, title):
    path = make(tmp_path / "a.wav", noise(), "PCM_16", "WAV")
    size = len(title) + 1 + (len(title) + 1) % 2
    info = b"INFO" + b"IART" + struct.pack("<I", 2) + b"B\0"
    info += b"INAM" + struct.pack("<I", len(title) + 1) + title.ljust(size, b"\0")
    path.write_bytes(path.read_bytes() + b"LIST" + struct.pack("<I", len(info)) + info)
    found = probe(path)
    assert found.tags == {"artist": "B"}
    assert found.warnings == (
        "its title is in an encoding that it does not tell, and is left out: save the tags in UTF-8 to keep it",
    )


@pytest.mark.parametrize("suffix", ["m4a", "mka"])
def test_tags_that_are_no_utf_8_in_other_containers_are_left_out_with_a_word(tmp_path, suffix):
    path = make_av(tmp_path / f"a.{suffix}", song(), "aac", metadata={"title": "cafXY", "artist": "가수"})
    path.write_bytes(path.read_bytes().replace(b"cafXY", b"caf\xe9Y"))
    found = probe(path)
    assert found.tags["artist"] == "가수"
    assert "title" not in found.tags
    assert "its title is in an encoding" in found.warnings[0]


# Containers for PyAV


@pytest.mark.parametrize(
    ("name", "codec", "format"),
    [
        ("a.oga", "flac", "ogg"), ("a.caf", "alac", "caf"), ("a.ac3", "ac3", "ac3"), ("a.tta", "tta", "tta"),
        ("a.wv", "wavpack", "wv"), ("a.ts", "mp2", "mpegts"), ("a.mpg", "mp2", "mpeg"), ("a.flv", "aac", "flv"),
        ("a.avi", "ac3", "avi"), ("a.aac", "aac", "adts"), ("a.mka", "aac", "matroska"), ("a.w", "ac3", "wav"),
    ],
)  # fmt: skip
def test_what_pyav_reads_is_read_to_the_length_of_what_was_put_in(tmp_path, name, codec, format):
    samples = song(3.0)
    path = make_av(tmp_path / name, samples, codec, format=format)
    info, reader = open_audio(path)
    assert info.frames == reader.frames == reader.read().frames
    assert abs(info.frames - len(samples)) <= 3 * 1536
    assert info.warnings == ()
    render = plan(path, load_preset("exp002"), Options(tmp_path / "out", use_cache=False))
    assert render.info.frames == render.reader.frames == info.frames


def test_of_many_decoded_files_few_take_up_room(tmp_path, monkeypatch):
    spools = weakref.WeakSet()

    class Counted(decoding.Spool):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            spools.add(self)

    monkeypatch.setattr(decoding, "Spool", Counted)
    gc.collect()
    names = [f"{number}.m4a" for number in range(decoding.HELD + 3)]
    opened = [open_audio(make_av(tmp_path / name, noise(RATE // 2), "aac")) for name in names]
    assert len(spools) <= decoding.HELD
    first = [reader.read().samples for _, reader in opened]
    for (_, reader), samples in zip(opened, first, strict=True):
        np.testing.assert_array_equal(reader.read().samples, samples)
        assert len(spools) <= decoding.HELD + 1
    late = open_reader(tmp_path / "0.m4a", 0.25).read().samples
    np.testing.assert_array_equal(late, first[0][:, -late.shape[1] :])
    del opened, reader
    gc.collect()
    assert not spools


def test_a_film_that_changes_between_planning_and_rendering_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "HELD", 0)
    path = make_av(tmp_path / "a.m4a", noise(RATE), "aac")
    reader = open_reader(path)
    make_av(path, noise(2 * RATE), "aac")
    with pytest.raises(AudioFileError, match="has changed since it was looked at"):
        reader.read()


def in_wav(path: Path, sound: bytes, code: int) -> Path:
    """Compressed audio in a WAV file, under the number of its codec."""
    head = b"WAVEfmt " + struct.pack("<IHHIIHHH", 18, code, 2, RATE, 16000, 1, 0, 0)
    body = head + b"data" + struct.pack("<I", len(sound)) + sound + bytes(len(sound) % 2)
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path


@pytest.mark.parametrize(
    ("codec", "format", "code"), [("aac", "adts", 0x1600), ("aac", "adts", 0xFF), ("libmp3lame", "mp3", 0x55)]
)
def test_compressed_audio_in_wav_is_read(tmp_path, codec, format, code):
    whole = make_av(tmp_path / "a.x", song(3.0), codec, format=format).read_bytes()
    info, reader = open_audio(in_wav(tmp_path / "a.wav", whole, code))
    assert abs(info.frames - 3 * RATE) <= 3 * 1152
    assert reader.read().frames == info.frames


def test_a_codec_in_wav_that_cannot_be_told_is_not_called_damaged(tmp_path):
    """ffmpeg writes AAC without the description that decoders need, and cannot read it itself."""
    path = make_av(tmp_path / "a.wav", song(3.0), "aac", format="wav")
    with pytest.raises(AudioFileError, match=r"packets of aac in wav cannot be decoded: no byte is missing, so it is"):
        open_reader(path)


def test_a_wav_in_which_nobody_can_jump_is_whole_all_the_same(tmp_path):
    """libsndfile goes through GSM from its beginning alone."""
    path = tmp_path / "a.wav"
    soundfile.write(path, song(3.0)[:, 0], 8000, subtype="GSM610")
    info, reader = open_audio(path)
    whole = reader.read().samples
    assert info.frames == whole.shape[1] >= 3 * RATE
    late = open_reader(path, 2.0, 1.0).read().samples
    np.testing.assert_array_equal(late, whole[:, 16000:24000])


@pytest.mark.parametrize(("name", "codec", "format"), [("a.oga", "flac", "ogg"), ("a.caf", "alac", "caf")])
def test_without_pyav_the_way_to_get_it_is_told(tmp_path, monkeypatch, name, codec, format):
    path = make_av(tmp_path / name, song(), codec, format=format)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(AudioFileError, match=r"for which gbsep needs PyAV: pip install gbsep\[av\]"):
        probe(path)


@pytest.mark.parametrize("before", [b"", b"ID3\x04\0\0\0\0\0\x20" + bytes(32)])
def test_a_raw_stream_is_as_long_as_its_packets(tmp_path, before):
    """Its bit rate falls from the beginning on, so that ffmpeg's guess at the length is too short by far."""
    path = make_av(
        tmp_path / "a.aac", np.concatenate([noise(RATE), np.zeros((6 * RATE, 2), np.float32)]), "aac", format="adts"
    )
    path.write_bytes(before + path.read_bytes())
    assert abs(probe(path).frames - 7 * RATE) <= 3 * 1024
    assert open_reader(path).frames == probe(path).frames


@pytest.mark.parametrize(
    ("name", "codec", "keep"),
    [
        ("a.mkv", "aac", 0.6), ("a.mkv", "aac", 0.99), ("a.webm", "libopus", 0.6), ("a.webm", "libopus", 0.99),
        ("a.avi", "ac3", 0.6), ("a.avi", "ac3", 0.99), ("a.flv", "aac", 0.6), ("a.tta", "tta", 0.6),
        ("a.wma", "wmav2", 0.6), ("a.wma", "wmav2", 0.99),
    ],
)  # fmt: skip
def test_containers_that_are_cut_short_are_refused(tmp_path, name, codec, keep):
    path = make_av(tmp_path / name, song(4.0, rate=48_000), codec, 48_000)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * keep)])
    with pytest.raises(AudioFileError, match="cut short or damaged"):
        open_reader(path)


def test_a_stream_that_tells_no_length_is_read_to_its_end(tmp_path):
    av = pytest.importorskip("av")
    path = tmp_path / "a.webm"
    with path.open("wb") as file, av.open(Unseekable(file), "w", format="webm") as container:
        stream = container.add_stream("libopus", rate=48_000, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(song(2.0, rate=48_000).T), "fltp", "stereo")
        frame.sample_rate, frame.pts = 48_000, 0
        for part in av.AudioResampler(stream.codec_context.format.name, "stereo", 48_000).resample(frame):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    info, reader = open_audio(path)
    assert abs(info.frames - 96_000) <= 1000
    assert abs(probe(path).frames - 96_000) <= 2000
    assert reader.frames == info.frames


class Unseekable:
    """A pipe, for a container to be written into."""

    def __init__(self, file):
        self.write = file.write


def test_joined_ogg_streams_are_read_whole(tmp_path, monkeypatch):
    pytest.importorskip("av")
    path = make(tmp_path / "a.ogg", song(), "VORBIS", "OGG")
    path.write_bytes(2 * path.read_bytes())
    assert 0 <= read(path).frames - 2 * len(song()) <= 2048
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(AudioFileError, match=r"pip install gbsep\[av\]"):
        probe(path)


def lag(decoded: np.ndarray, samples: np.ndarray, search_from: int) -> int:
    """The frame of `decoded`, (channels, frames), where `samples`, (frames, channels), begin: where they match best."""
    found = np.correlate(decoded[0, search_from : search_from + 2 * RATE], samples[: RATE // 2, 0], "valid")
    return search_from + int(np.argmax(found))


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "mov"])
def test_the_sound_of_a_film_lies_on_the_time_line_of_the_film(tmp_path, suffix):
    samples = song(3.0)
    path = make_av(tmp_path / f"a.{suffix}", samples, "aac", starts=[1.5], picture_s=5)
    info, reader = open_audio(path)
    decoded = reader.read().samples
    assert not decoded[:, : round(1.4 * RATE)].any()
    assert abs(decoded.shape[1] - 4.5 * RATE) <= 3 * 1024
    assert abs(lag(decoded, samples, RATE) - 1.5 * RATE) < 0.002 * RATE
    assert [warning for warning in info.warnings if "s after its picture" in warning]


def test_gaps_in_the_sound_of_a_film_are_silent(tmp_path):
    samples = np.concatenate([song(2.0), song(2.0)])
    path = make_av(tmp_path / "a.mkv", samples, "pcm_s16le", starts=[0.0, 3.0])
    info, reader = open_audio(path)
    decoded = reader.read().samples
    assert abs(decoded.shape[1] - 5 * RATE) <= 3 * 1024
    assert not decoded[:, round(2.1 * RATE) : round(2.9 * RATE)].any()
    assert abs(lag(decoded, samples[2 * RATE :], 2 * RATE) - 3 * RATE) < 0.002 * RATE
    assert "s of sound are missing in it: they are silent" in info.warnings[0]


def test_of_several_tracks_the_one_flagged_default_is_taken_with_a_word(tmp_path):
    av = pytest.importorskip("av")
    path = tmp_path / "a.mka"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("pcm_s16le", rate=RATE, layout=layout) for layout in ("mono", "stereo")]
        try:
            streams[0].disposition, streams[1].disposition = 0, av.stream.Disposition.default
        except (AttributeError, TypeError):
            pytest.skip("this PyAV writes no default flag")
        for stream in streams:
            channels = stream.codec_context.layout.nb_channels
            codes = np.zeros((1, RATE * channels), np.int16)
            frame = av.AudioFrame.from_ndarray(codes, "s16", stream.layout.name)
            frame.sample_rate, frame.pts = RATE, 0
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    info = probe(path)
    assert info.channels == 2
    assert "it holds 2 audio tracks: gbsep takes number 2, flagged default" in info.warnings[0]


JOINABLE = {"flac": "PCM_16", "au": "PCM_16", "caf": "PCM_16"}


@pytest.mark.parametrize("suffix", JOINABLE)
def test_files_joined_by_their_bytes_are_refused_rather_than_cut_to_the_first(tmp_path: Path, suffix: str) -> None:
    path, alone = tmp_path / f"joined.{suffix}", tmp_path / f"a.{suffix}"
    soundfile.write(alone, noise(RATE), RATE, JOINABLE[suffix])
    assert probe(alone).frames == RATE
    path.write_bytes(2 * alone.read_bytes())
    with pytest.raises(AudioFileError, match="several files joined"):
        probe(path)


def test_a_large_flac_that_is_two_is_refused_too(tmp_path: Path) -> None:
    """Two of one length, as the last frame tells those of others; a large one that is whole is read."""
    path = tmp_path / "large.flac"
    soundfile.write(path, noise(45 * RATE, 2), RATE, "PCM_16")
    assert path.stat().st_size > 2**22
    assert probe(path).frames == 45 * RATE
    path.write_bytes(2 * path.read_bytes())
    with pytest.raises(AudioFileError, match="several files joined"):
        probe(path)


@pytest.mark.parametrize("sizes", [(0x80000024, 0x80000000), (None, 0xFFFFFFFF), (0x80000023, 0x7FFFFFFF)])
def test_a_wav_that_was_written_into_a_pipe_is_whole(tmp_path: Path, sizes: tuple[int | None, int]) -> None:
    """The sizes are those that arecord, ffmpeg and others leave in the header."""
    path = tmp_path / "pipe.wav"
    soundfile.write(path, noise(RATE), RATE, "PCM_16")
    data = bytearray(path.read_bytes())
    form_size, size = sizes
    struct.pack_into("<I", data, data.index(b"data") + 4, size)
    if form_size:
        struct.pack_into("<I", data, 4, form_size)
    path.write_bytes(data)
    assert probe(path).frames == RATE


def test_a_line_end_after_the_audio_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "line.wav"
    soundfile.write(path, noise(RATE), RATE, "PCM_16")
    path.write_bytes(path.read_bytes() + b"\n")
    assert probe(path).frames == RATE


def test_ogg_streams_of_other_formats_that_are_joined_are_not_called_damaged(tmp_path: Path) -> None:
    pytest.importorskip("av")
    path, content = tmp_path / "joined.ogg", b""
    for rate, channels in ((RATE, 1), (48000, 2)):
        soundfile.write(tmp_path / "part.ogg", noise(RATE, channels), rate, "VORBIS")
        content += (tmp_path / "part.ogg").read_bytes()
    path.write_bytes(content)
    with pytest.raises(AudioFileError, match="several streams joined") as failed:
        read(path)
    assert "damaged" not in str(failed.value)
