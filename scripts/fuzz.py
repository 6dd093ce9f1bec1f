#!/usr/bin/env python
"""Throws damaged input at a part of gbsep and tells what came out but a GbsepError: a traceback, a crash, a hang.

    python scripts/fuzz.py readers --seconds 60 --seed 1
    python scripts/fuzz.py records --inputs 1000

Inputs are numbered: input N of a seed is the same every time, however many processes work. What fails is kept in the
folder of --keep, for a test to be made of it. Exit code 1 when something failed.

Each TARGETS row names (a function that makes whole samples in a folder, one that tries a damaged one): another part of
gbsep is another row.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import multiprocessing
import random
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

import numpy as np

from gbsep.errors import GbsepError
from gbsep.io import files

HANG_S = 30.0
SAMPLES_S = 0.4


@dataclass(frozen=True)
class Target:
    """`samples(folder)` writes whole inputs there; `try_one(path)` may raise nothing but GbsepError."""

    samples: Callable[[Path], None]
    try_one: Callable[[Path], None]


@dataclass(frozen=True)
class Failure:
    """What input `number` did, and the bytes that did it."""

    number: int
    name: str
    what: str
    data: bytes


# Readers of audio

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
    files.write(folder / "id3.mp3", files.Audio(noise.T, rate), files.OutputFormat("mp3"), TAGS)
    with suppress(ImportError):
        import av

        for suffix, format, codec in AV:
            with suppress(av.FFmpegError, ValueError, TypeError):
                _write_av(folder / f"b.{suffix}", format, codec, noise, rate)
    for path in folder.iterdir():
        if not path.stat().st_size:
            path.unlink()


def _write_av(path: Path, format: str, codec: str, samples: np.ndarray, rate: int) -> None:
    import av

    with av.open(str(path), "w", format=format) as container:
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
    files.tempo_bpm(path)
    info, reader = files.opened(path)
    frames = sum(block.shape[1] for block in reader.blocks(4096))
    if not frames == reader.frames == info.frames:
        raise AssertionError(f"{frames} frames came, {reader.frames} and {info.frames} were told")
    files.probe(path)
    if info.frames > 100:
        files.read(path, info.frames / info.sample_rate / 2)
    for words in (*info.tags.values(), *info.warnings):
        words.encode()
        if "\ufffd" in words:
            raise AssertionError(f"U+FFFD in {words!r}")


TARGETS = {"readers": Target(audio_samples, read_audio)}

SCRIPTS = ("api", "presets", "records")
"""What scripts/fuzz_*.py try: inputs that are made up rather than damaged."""


# Damage


def damaged(data: bytes, chance: random.Random) -> bytes:
    """`data` with up to four changes: bytes, numbers of a header, parts taken out, put in or moved, cut or grown."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 3, 4))):
        if not out:
            break
        # Headers are where it hurts.
        at = chance.randrange(min(len(out), chance.choice((64, 512, len(out)))))
        change = chance.randrange(8)
        if change == 0:
            out[at] = chance.randrange(256)
        elif change == 1:
            out[at] ^= 1 << chance.randrange(8)
        elif change == 2:
            size = chance.choice((2, 4, 8))
            value = chance.choice((0, 1, 2 ** (8 * size) - 1, 2 ** (8 * size - 1), chance.getrandbits(8 * size)))
            out[at : at + size] = value.to_bytes(size, chance.choice(("little", "big")))
        elif change == 3:
            del out[at : at + chance.choice((1, 4, 100, 4000))]
        elif change == 4:
            out[at:at] = chance.choice((b"\0", b"\xff", chance.randbytes(4))) * chance.choice((1, 8, 600))
        elif change == 5:
            del out[chance.randrange(len(out)) :]
        elif change == 6:
            begin = chance.randrange(len(out))
            out[at:at] = out[begin : begin + chance.choice((4, 64, 2000))]
        else:
            out[at : at + 16] = chance.randbytes(16)
    return bytes(out)


def _input(seed: int, number: int, samples: list[tuple[str, bytes]]) -> tuple[str, bytes]:
    chance = random.Random(f"{seed} {number}")
    name, data = chance.choice(samples)
    if chance.randrange(20) == 0:
        data += chance.choice(samples)[1]
    return name, damaged(data, chance)


# Processes


def _work(target: str, folder: Path, seed: int, pipe: Connection) -> None:
    """Try the inputs whose numbers come; answer each with what went wrong, or nothing."""
    faulthandler.enable(open(folder / f"crash-{multiprocessing.current_process().pid}.txt", "w"))  # noqa: SIM115
    warnings.simplefilter("ignore")
    samples = _samples(folder)
    place = Path(tempfile.mkdtemp(dir=folder))
    while (number := pipe.recv()) is not None:
        name, data = _input(seed, number, samples)
        path = place / name
        path.write_bytes(data)
        what = ""
        try:
            TARGETS[target].try_one(path)
        except GbsepError as error:
            what = f"several lines: {error}" if "\n" in str(error) else ""
        except Exception:
            what = traceback.format_exc()
        pipe.send(what)
        path.unlink(missing_ok=True)


def _samples(folder: Path) -> list[tuple[str, bytes]]:
    return [(path.name, path.read_bytes()) for path in sorted((folder / "samples").iterdir())]


@dataclass
class _Worker:
    process: multiprocessing.process.BaseProcess
    pipe: Connection
    number: int = -1
    since: float = 0.0


def fuzz(target: str, seconds: float, inputs: int, seed: int, jobs: int = 2) -> tuple[int, list[Failure]]:
    """(inputs tried, what failed) until the time or the number is up."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "samples").mkdir()
        TARGETS[target].samples(folder / "samples")
        samples = _samples(folder)

        def start() -> _Worker:
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(target, folder, seed, theirs), daemon=True)
            process.start()
            theirs.close()
            return _Worker(process, ours)

        def fail(number: int, what: str) -> Failure:
            return Failure(number, *_named(_input(seed, number, samples), what))

        numbers: Iterator[int] = iter(range(inputs))
        end = time.monotonic() + seconds
        workers, failures, tried = [start() for _ in range(jobs)], [], 0
        while True:
            for place, worker in enumerate(workers):
                if worker.number < 0:
                    continue
                if worker.pipe.poll():
                    try:
                        what = worker.pipe.recv()
                    except EOFError:
                        worker.process.join()
                        what = f"the process ended: {worker.process.exitcode}"
                        workers[place] = start()
                elif time.monotonic() - worker.since > HANG_S:
                    worker.process.kill()
                    what, workers[place] = f"no answer within {HANG_S:.0f} s", start()
                else:
                    continue
                if what:
                    failures.append(fail(worker.number, what))
                tried, worker.number = tried + 1, -1
            over = time.monotonic() > end
            for worker in workers:
                if worker.number < 0 and not over and (number := next(numbers, None)) is not None:
                    worker.number, worker.since = number, time.monotonic()
                    worker.pipe.send(number)
            busy = [worker.pipe for worker in workers if worker.number >= 0]
            if not busy:
                break
            wait(busy, 1.0)
        for worker in workers:
            worker.process.kill()
            worker.process.join()
    return tried, failures


def _named(sample: tuple[str, bytes], what: str) -> tuple[str, str, bytes]:
    return sample[0], what, sample[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=sorted({*TARGETS, *SCRIPTS}))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--inputs", type=int, default=10**9)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="folder for the inputs that fail")
    given = parser.parse_args()
    if given.target in SCRIPTS:
        told = importlib.import_module(f"fuzz_{given.target}").run(given.seed, given.inputs, given.seconds)
        print("\n".join([*told, f"{given.target}: {len(told)} failed"]))
        return 1 if told else 0
    tried, failures = fuzz(given.target, given.seconds, given.inputs, given.seed, given.jobs)
    for failure in failures:
        print(f"--- input {failure.number}, {failure.name}\n{failure.what}")
        if given.keep:
            given.keep.mkdir(parents=True, exist_ok=True)
            (given.keep / f"{given.seed}-{failure.number}-{failure.name}").write_bytes(failure.data)
    print(f"{given.target}: {tried} inputs, {len(failures)} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
