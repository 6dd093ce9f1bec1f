"""How well the notes of a bass are told: F1 of notes (onset within 50 ms, pitch within half a semitone; mir_eval).

Heard are the true stems, and the stems that the embedded backend gives of the mixture, stereo and folded to mono, with
weights that have heard none of the jam's instruments where the card says so (jams 1 and 3; those of 2 and 4 were heard
in part). `held out` are weights of the notes' network that have heard none of any jam's basses and guitars, `shipped`
are what `gbsep notes` uses, which have heard all of them. Beside them pYIN with librosa's onsets on the true stems,
and basic-pitch's ONNX file, where it is given.

Then, how many notes are invented where there are none (`--odd`: only that), and how much faster than real time it is
on one core. `--hours 4` has the command write down a stem of four hours, for its time and its memory.
"""

from __future__ import annotations

import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import numpy as np

from gbsep.audio import Audio
from gbsep.io.formats import OutputFormat
from gbsep.io.read import open_reader
from gbsep.io.write import open_writer
from gbsep.notes import files, hear
from gbsep.notes.compare import compare
from gbsep.notes.line import Line, Note

from .quality import DATA, HELD_OUT, Jam, by_weights

HELD_OUT_NOTES = Path(__file__).parents[2] / "training" / "notes_held_out.safetensors"
COLUMNS = ("precision", "recall", "f1", "f1_with_offsets")
NOISE_S = 60.0

Listener = Callable[[Audio], Line]


def by_network(path: Path) -> Listener:
    weights = hear.load(path)
    return lambda audio: hear.hear(audio.reader(), anyway=True, weights=weights)


def by_pyin(audio: Audio) -> Line:
    """The median of pYIN's pitch from each onset to the next, where more than half of it is voiced."""
    import librosa

    mono = audio.samples.mean(axis=0)
    rate = 22050
    mono = librosa.resample(mono, orig_sr=audio.sample_rate, target_sr=rate)
    hop = 256
    hz, voiced, _ = librosa.pyin(mono, fmin=28.0, fmax=420.0, sr=rate, frame_length=4096, hop_length=hop)
    onsets = librosa.onset.onset_detect(y=mono, sr=rate, hop_length=hop, backtrack=False)
    notes = []
    for first, last in zip(onsets, [*onsets[1:], len(hz)], strict=True):
        inside = hz[first:last][voiced[first:last]]
        if len(inside) > 0.5 * min(last - first, 20):
            end = first + np.nonzero(voiced[first:last])[0][-1] + 1
            midi = round(float(np.median(librosa.hz_to_midi(inside))))
            notes.append(Note(first * hop / rate, end * hop / rate, midi))
    return Line(tuple(notes), len(mono) / rate)


def by_basic_pitch(path: Path) -> Listener:
    """basic-pitch's network in ONNX with its thresholds, without its search for notes that have no onset."""
    import librosa
    import onnxruntime
    from scipy.signal import argrelmax

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    rate, hop, window, edge = 22050, 256, 43844, 15

    def listen(audio: Audio) -> Line:
        mono = librosa.resample(audio.samples.mean(axis=0), orig_sr=audio.sample_rate, target_sr=rate)
        padded = np.pad(mono, (edge * hop, window))
        step = window - 2 * edge * hop
        at_s, sounding, beginning = [], [], []
        for first in range(0, len(mono), step):
            piece = padded[np.newaxis, first : first + window, np.newaxis].astype(np.float32)
            names = ["StatefulPartitionedCall:1", "StatefulPartitionedCall:2"]
            frames, onsets = (part[0, edge:-edge] for part in session.run(names, {given.name: piece}))
            inside = np.arange(len(frames)) * hop < step
            at_s.append((first + hop * np.arange(len(frames))[inside]) / rate)
            sounding.append(frames[inside])
            beginning.append(onsets[inside])
        seconds, frames, onsets = map(np.concatenate, (at_s, sounding, beginning))
        notes = []
        for frame, pitch in zip(*argrelmax(onsets, axis=0), strict=True):
            if onsets[frame, pitch] >= 0.5:
                quiet = frames[frame + 1 :, pitch] < 0.3
                runs = np.convolve(quiet, np.ones(11), "valid") == 11
                length = int(np.argmax(runs)) if runs.any() else len(quiet)
                if length > 11:
                    end = min(frame + 1 + length, len(seconds) - 1)
                    notes.append(Note(float(seconds[frame]), float(seconds[end]), int(pitch) + 21))
        return Line(tuple(sorted(notes, key=lambda note: note.onset_s)), len(mono) / rate)

    return listen


def truth(jam: Path) -> Line:
    return files.read(jam / "notes.csv")


def octaves(true: Line, told: Line) -> int:
    """Notes at a true one's onset that are whole octaves off, where none there is right."""
    found = 0
    for note in true.notes:
        near = [one.midi - note.midi for one in told.notes if abs(one.onset_s - note.onset_s) <= 0.05]
        found += bool(near) and 0 not in near and any(off % 12 == 0 for off in near)
    return found


def separated(jam: Jam) -> Audio:
    return Audio(by_weights(HELD_OUT)(jam), jam.sample_rate)


def show(label: str, rows: list[tuple[float, ...]], wrong: int) -> None:
    cells = "".join(f"{row[2]:7.3f}" for row in rows)
    middle = np.median(np.array(rows), axis=0)
    figures = "  ".join(f"{name} {value:.3f}" for name, value in zip(COLUMNS, middle, strict=True))
    click.echo(f"{label:34}{cells}   median: {figures}; octave errors {wrong}")


def measure(label: str, listen: Listener, sounds: list[Audio], lines: list[Line]) -> None:
    told = [listen(sound) for sound in sounds]
    scores = [compare(true, line) for true, line in zip(lines, told, strict=True)]
    rows = [tuple(getattr(score, name) for name in COLUMNS) for score in scores]
    show(label, rows, sum(octaves(true, line) for true, line in zip(lines, told, strict=True)))


def odd_sounds(data: Path) -> Iterator[tuple[str, Audio]]:
    """Sounds in which no bass plays, or hardly anything."""
    rng = np.random.default_rng(0)
    rate = 44100
    yield "silence", Audio(np.zeros((1, int(NOISE_S * rate)), np.float32), rate)
    yield "one frame", Audio(np.full((1, 1), 0.5, np.float32), rate)
    noise = 0.1 * rng.standard_normal((1, int(NOISE_S * rate))).astype(np.float32)
    yield "white noise", Audio(noise, rate)
    yield "white noise at 8 kHz", Audio(noise[:, : int(NOISE_S * 8000)], 8000)
    for path in sorted((data / "mixes" / "drums_cc0").glob("*.flac"))[6:]:
        yield f"drums alone, {path.stem}", open_reader(path).read()
    for folder in ("jams", "played"):
        for path in sorted((data / folder).glob("*/guitar.flac")):
            yield f"guitars as a bass, {folder} {path.parent.name[:2]}", open_reader(path).read()


def invented(data: Path, weights: Path) -> None:
    """Notes a minute where no bass plays; `anyway` of a stem that is taken for a bass whatever it sounds like."""
    network = hear.load(weights)
    click.echo(f"{'notes a minute':40}{'told':>8}{'sure':>8}{'anyway':>8}")
    for name, audio in odd_sounds(data):
        told, anyway = (hear.hear(audio.reader(), anyway=one, weights=network).notes for one in (False, True))
        sure = [note for note in told if note.confidence >= 0.6]
        minutes = max(audio.frames / audio.sample_rate, 1.0) / 60
        click.echo(f"{name:40}" + "".join(f"{len(notes) / minutes:8.1f}" for notes in (told, sure, anyway)))


def long_file(hours: float, stem: Audio) -> None:
    """In a process of its own `gbsep notes` writes down a stem that is repeated for so many hours."""
    with tempfile.TemporaryDirectory() as work:
        path = Path(work) / "bass.wav"
        repeats = math.ceil(hours * 3600 * stem.sample_rate / stem.frames)
        with open_writer(path, OutputFormat("wav", "16"), stem.sample_rate, 1, repeats * stem.frames) as writer:
            for _ in range(repeats):
                writer.write(stem.samples.mean(axis=0, keepdims=True))
        outs = ["--out", str(path.with_suffix(".mid"))]
        made = subprocess.run(
            [sys.executable, "-m", "gbsep", "notes", str(path), *outs], capture_output=True, text=True
        )
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = used.ru_utime + used.ru_stime
        click.echo(made.stderr.splitlines()[-1])
        times = f"{repeats * stem.frames / stem.sample_rate / seconds:.0f} times real time"
        click.echo(f"{hours:g} hours: {seconds:.0f} s of processor, {times}, {used.ru_maxrss / 1024:.0f} MiB at most")


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path, exists=True), default=DATA, help="Folder that holds jams/.")
@click.option("--baseline/--no-baseline", default=True, show_default=True, help="pYIN too, which takes minutes.")
@click.option(
    "--basic-pitch", "other", type=click.Path(path_type=Path, exists=True), help="nmp.onnx of the package basic-pitch."
)
@click.option("--odd", is_flag=True, help="Only sounds in which no bass plays.")
@click.option("--hours", type=float, help="Only a stem of so many hours, for time and memory.")
@click.option("--weights", type=click.Path(path_type=Path, exists=True), multiple=True, help="Weights beside them.")
def command(
    data: Path, baseline: bool, other: Path | None, odd: bool, hours: float | None, weights: tuple[Path, ...]
) -> None:
    folders = sorted(path.parent for path in (data / "jams").glob("*/notes.csv"))
    if hours is not None:
        long_file(hours, open_reader(folders[0] / "bass.flac").read())
        return
    if odd:
        invented(data, hear.WEIGHTS)
        return
    lines = [truth(folder) for folder in folders]
    listeners: dict[str, Listener] = {"held out": by_network(HELD_OUT_NOTES), "shipped": by_network(hear.WEIGHTS)}
    listeners |= {path.stem: by_network(path) for path in weights}
    stems = [open_reader(folder / "bass.flac").read() for folder in folders]
    click.echo(f"{'F1':34}" + "".join(f"{folder.name[:2]:>7}" for folder in folders))
    sounds = {"true stem": stems}
    for title, mono in (("mixture, stereo", False), ("mixture, mono", True)):
        sounds[title] = [separated(Jam.read(folder, mono)) for folder in folders]
    for title, heard in sounds.items():
        for label, listen in listeners.items():
            measure(f"{title}, {label}", listen, heard, lines)
    if other is not None:
        for title, heard in sounds.items():
            measure(f"{title}, basic-pitch", by_basic_pitch(other), heard, lines)
    if baseline:
        measure("true stem, pYIN and onsets", by_pyin, stems, lines)
    click.echo("")
    invented(data, hear.WEIGHTS)
    begun = time.process_time()
    seconds = sum(stem.frames / stem.sample_rate for stem in stems)
    for stem in stems:
        listeners["shipped"](stem)
    click.echo(f"\n{seconds / (time.process_time() - begun):.0f} times real time on one core")
