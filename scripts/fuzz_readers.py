"""Damaged audio files of every format that can be written here, read as a render and a session read them.

Nothing but a GbsepError may come of it, as many frames as were told, and no text that stands for what is unreadable.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from fuzz_damage import damaged

from gbsep.audio import Audio
from gbsep.io.formats import OutputFormat
from gbsep.io.probe import probe
from gbsep.io.read import open_audio, read
from gbsep.io.tags import read_tempo_bpm
from gbsep.io.write import write

SAMPLES_S = 0.4
SOUND = (
    ("wav", "WAV", "PCM_16"), ("float.wav", "WAV", "FLOAT"), ("adpcm.wav", "WAV", "MS_ADPCM"),
    ("rf64", "RF64", "PCM_24"), ("w64", "W64", "PCM_16"), ("aiff", "AIFF", "PCM_16"), ("caf", "CAF", "PCM_16"),
    ("au", "AU", "PCM_16"), ("flac", "FLAC", "PCM_16"), ("ogg", "OGG", "VORBIS"), ("opus", "OGG", "OPUS"),
    ("mp3", "MP3", "MPEG_LAYER_III"),
)  # fmt: skip
"""(suffix, format, subtype) that libsndfile writes."""
AV = (
    ("m4a", "ipod", "aac"), ("alac.m4a", "ipod", "alac"), ("mkv", "matroska", "aac"), ("webm", "webm", "libopus"),
    ("mka", "matroska", "flac"), ("flv", "flv", "aac"), ("wma", "asf", "wmav2"), ("avi", "avi", "ac3"),
    ("ts", "mpegts", "mp2"), ("mpg", "mpeg", "mp2"), ("aac", "adts", "aac"), ("ac3", "ac3", "ac3"),
    ("mp2", "mp2", "mp2"), ("oga", "ogg", "flac"), ("alac.caf", "caf", "alac"), ("tta", "tta", "tta"),
    ("wv", "wv", "wavpack"),
)  # fmt: skip
"""(suffix, format, codec) that PyAV writes."""
TAGS = {"title": "제목", "artist": "Renardé", "album": "B", "date": "2024", "comment": "C"}


def audio_samples(folder: Path) -> None:
    """Short stereo files of every format that can be written here, with tags."""
    import soundfile

    rate = 48_000
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, (round(SAMPLES_S * rate), 2)).astype(np.float32)
    for suffix, format, subtype in SOUND:
        with soundfile.SoundFile(folder / f"a.{suffix}", "w", rate, 2, subtype, format=format) as sound:
            with suppress(soundfile.LibsndfileError):
                for name, text in TAGS.items():
                    setattr(sound, name, text)
            sound.write(noise)
    write(folder / "id3.mp3", Audio(noise.T, rate), OutputFormat("mp3"), TAGS)
    with suppress(ImportError):
        import av

        for suffix, format, codec in AV:
            with suppress(av.FFmpegError, ValueError, TypeError):
                _write_av(folder / f"b.{suffix}", format, codec, noise, rate)
    for path in folder.iterdir():
        if not path.stat().st_size:
            path.unlink()
        elif path.suffix in (".ogg", ".opus"):
            path.write_bytes(_with_serial(path.read_bytes(), 1))
        elif (content := path.read_bytes())[:4] == b"RIFF" and (at := content.find(b"PEAK")) > 0:
            path.write_bytes(content[: at + 12] + bytes(4) + content[at + 16 :])  # when it was written


def _with_serial(ogg: bytes, serial: int) -> bytes:
    """An Ogg stream of which every page has this serial number, which libsndfile draws, and the checksum for it.

    Reference: RFC 3533, section 6.
    """
    out, at = bytearray(ogg), 0
    while at < len(out):
        segments = out[at + 26]
        end = at + 27 + segments + sum(out[at + 27 : at + 27 + segments])
        out[at + 14 : at + 26] = serial.to_bytes(4, "little") + out[at + 18 : at + 22] + bytes(4)
        checksum = 0
        for byte in out[at:end]:
            checksum ^= byte << 24
            for _ in range(8):
                checksum = (checksum << 1 ^ (0x104C11DB7 if checksum >> 31 else 0)) & 0xFFFFFFFF
        out[at + 22 : at + 26] = checksum.to_bytes(4, "little")
        at = end
    return bytes(out)


def _write_av(path: Path, format: str, codec: str, samples: np.ndarray, rate: int) -> None:
    import av

    with av.open(str(path), "w", format=format, options={"fflags": "+bitexact"}) as container:
        container.metadata.update(TAGS)
        stream = container.add_stream(codec, rate=rate, layout="stereo")
        if codec == "wmav2":
            stream.bit_rate = 128_000
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), "fltp", "stereo")
        frame.sample_rate, frame.pts = rate, 0
        wanted = stream.codec_context.format.name if stream.codec_context.format else "fltp"
        for part in av.AudioResampler(wanted, "stereo", rate).resample(frame):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))


def read_audio(path: Path) -> None:
    """Probe, read in blocks, read an excerpt, look for a tempo, as a render and a session do."""
    read_tempo_bpm(path)
    info, reader = open_audio(path)
    frames = sum(block.shape[1] for block in reader.blocks(4096))
    if not frames == reader.frames == info.frames:
        raise AssertionError(f"{frames} frames came, {reader.frames} and {info.frames} were told")
    probe(path)
    if info.frames > 100:
        read(path, info.frames / info.sample_rate / 2)
    for words in (*info.tags.values(), *info.warnings):
        words.encode()
        if "\ufffd" in words:
            raise AssertionError(f"U+FFFD in {words!r}")


def prepare(place: Path) -> Callable[[random.Random], Iterator[tuple[str, Callable[[], object]]]]:
    """What draws a damaged file, and reads it."""
    whole = place / "whole"
    whole.mkdir()
    audio_samples(whole)
    samples = [(path.name, path.read_bytes()) for path in sorted(whole.iterdir())]

    def draw(chance: random.Random) -> Iterator[tuple[str, Callable[[], object]]]:
        name, data = chance.choice(samples)
        if chance.randrange(20) == 0:
            data += chance.choice(samples)[1]
        path = place / name
        path.write_bytes(damaged(data, chance))
        yield name, lambda: read_audio(path)

    return draw
