"""Instruments as banks of single notes, all of one form wherever they come from.

- `recorded`: a folder of recorded notes with an `index.csv` (columns file, instrument, family, artic, midi,
  vel_layer, onset_s, and kind when they are no recordings); `write_notes` writes such a folder of any instruments;
- `soundfont`: General MIDI programs 25-40 (numbered from 1) of a soundfont, rendered note by note by fluidsynth;
- `plucked_string`: a modal model of a string with a random body: partials f_k = k f0 sqrt(1 + B k^2) (Fletcher &
  Rossing, The Physics of Musical Instruments, 2.18), pluck and pickup position as combs sin(pi k p) sin(pi k q),
  damping that grows with frequency, and two polarisations slightly apart that beat.

Notes are mono float32 at SAMPLE_RATE and begin at the onset. Pitches are MIDI note numbers, 69 = 440 Hz.
"""

from __future__ import annotations

import csv
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..audio import Audio
from ..errors import AudioFileError, BackendNotInstalled
from ..io.formats import OutputFormat
from ..io.read import open_reader, read
from ..io.resample import resample
from ..io.write import write

SAMPLE_RATE = 22050
"""Rate of all notes and of the music made from them, in Hz."""

RANGES = {"bass": (26, 67), "guitar": (33, 86)}
"""Pitches that a role may be asked to play, lowest and highest: a bass up to G4, a guitar tuned down to A1."""

NOTE_S = 3.0
PROGRAMS = {"guitar": range(25, 33), "bass": range(33, 41)}


@dataclass(frozen=True, eq=False)
class Instrument:
    """`notes` maps a sampled pitch to its layers, soft to loud; `role` is `bass` or `guitar`; `kind` is where it comes
    from: `recorded`, `soundfont` or `string`; `bend` is how many semitones above where they were recorded its notes are
    played, which makes its strings and body another size."""

    name: str
    role: str
    kind: str
    notes: Mapping[int, tuple[np.ndarray, ...]]
    bend: float = 0.0

    def tone(self, pitches: np.ndarray, velocity: float) -> np.ndarray:
        """One note of as many frames as `pitches` (frames,), its pitch frame by frame, velocity 0..1.

        The sampled pitch that is nearest to `bend` below is played faster or slower by linear interpolation, so a glide
        costs nothing extra.
        """
        middle = float(pitches.mean()) - self.bend
        sampled = min(self.notes, key=lambda pitch: (abs(pitch - middle), pitch))
        layers = self.notes[sampled]
        layer = layers[min(int(velocity * len(layers)), len(layers) - 1)]
        place = np.concatenate([[0.0], np.cumsum(2.0 ** ((pitches[1:] - sampled) / 12.0))])
        moved: np.ndarray = np.interp(place, np.arange(len(layer)), layer, right=0.0).astype(np.float32)
        return moved


def recorded(folder: Path) -> list[Instrument]:
    """The instruments of `folder/index.csv`, one for each articulation with at least eight pitches.

    Raises AudioFileError when the index or a file it names is missing.
    """
    index = folder / "index.csv"
    if not index.is_file():
        raise AudioFileError(index, "no such index of notes")
    banks: dict[tuple[str, str, str, str], dict[int, list[tuple[int, np.ndarray]]]] = {}
    with index.open(newline="") as rows:
        for row in csv.DictReader(rows):
            audio = resample(open_reader(folder / row["file"]), SAMPLE_RATE).read()
            note = audio.samples.mean(axis=0)[int(float(row["onset_s"]) * SAMPLE_RATE) :]
            role = "guitar" if row["family"] == "guitar" else "bass"
            kind = row.get("kind") or "recorded"
            bank = banks.setdefault((row["instrument"], role, kind, row["artic"]), {})
            bank.setdefault(int(row["midi"]), []).append((int(row["vel_layer"]), note))
    return [
        _levelled(
            name,
            role,
            kind,
            {pitch: [note for _, note in sorted(layers, key=lambda pair: pair[0])] for pitch, layers in bank.items()},
        )
        for (name, role, kind, _), bank in sorted(banks.items())
        if len(bank) >= 8
    ]


def write_notes(folder: Path, instruments: Sequence[Instrument]) -> None:
    """Write instruments as a folder that `recorded` reads, for machines that have no fluidsynth."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "index.csv").open("w", newline="") as index:
        rows = csv.writer(index)
        rows.writerow(["file", "instrument", "family", "kind", "artic", "midi", "vel_layer", "onset_s"])
        for number, instrument in enumerate(instruments):
            loudest = max(float(np.abs(note).max()) for layers in instrument.notes.values() for note in layers)
            for pitch, layers in instrument.notes.items():
                for layer, note in enumerate(layers):
                    name = f"{number:03d}_{pitch:03d}_{layer}.flac"
                    quieter = Audio(note / max(loudest, 1.0) * 0.99, SAMPLE_RATE)
                    write(folder / name, quieter, OutputFormat("flac", "16"))
                    row = [name, instrument.name, instrument.role, instrument.kind, number, pitch, layer, 0.0]
                    rows.writerow(row)


def phrases(folder: Path) -> list[np.ndarray]:
    """Played guitar phrases: each FLAC and WAV of `folder` called `gtr_*`, RMS 0.1, float32 (frames,).

    Raises AudioFileError when there are none.
    """
    found = []
    for path in sorted([*folder.glob("gtr_*.flac"), *folder.glob("gtr_*.wav")]):
        samples = resample(open_reader(path), SAMPLE_RATE).read().samples.mean(axis=0)
        found.append(samples * np.float32(0.1 / max(float(np.sqrt(np.mean(samples**2))), 1e-6)))
    if not found:
        raise AudioFileError(folder, "no phrases here: FLAC or WAV files called gtr_*")
    return found


def soundfont(path: Path) -> list[Instrument]:
    """The guitars and basses of a General MIDI soundfont.

    Raises AudioFileError for what is no soundfont, which fluidsynth would replace by one of its own, and
    BackendNotInstalled without fluidsynth.
    """
    fluidsynth = shutil.which("fluidsynth")
    if fluidsynth is None:
        raise BackendNotInstalled("train", "soundfonts need fluidsynth on the PATH (Debian package fluidsynth)")
    if not path.is_file():
        raise AudioFileError(path, "no such soundfont")
    with path.open("rb") as file:
        head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"sfbk":
        raise AudioFileError(path, "no soundfont (SF2, SF3)")
    made = []
    with tempfile.TemporaryDirectory() as work:
        for role, programs in PROGRAMS.items():
            low, high = RANGES[role]
            pitches = range(low - 2, high + 1, 3)
            asked = [(pitch, velocity) for pitch in pitches for velocity in (55, 85, 115)]
            for program in programs:
                midi, wav = Path(work) / "notes.mid", Path(work) / "notes.wav"
                midi.write_bytes(_midi_file(program - 1, asked))
                options = ["-ni", "-q", "-R", "0", "-C", "0", "-g", "0.6", "-r", str(SAMPLE_RATE), "-T", "wav"]
                subprocess.run(
                    [fluidsynth, *options, "-F", str(wav), str(path), str(midi)], check=True, capture_output=True
                )
                samples = read(wav).samples.mean(axis=0)
                bank: dict[int, list[np.ndarray]] = {}
                for number, (pitch, _) in enumerate(asked):
                    start = int(number * NOTE_S * SAMPLE_RATE)
                    bank.setdefault(pitch, []).append(samples[start : start + int(NOTE_S * SAMPLE_RATE)])
                made.append(_levelled(f"{path.stem}_{program:03d}", role, "soundfont", bank))
    return made


def plucked_string(rng: np.random.Generator, role: str, name: str) -> Instrument:
    """An instrument that never was: one random string, body and player."""
    low, high = RANGES[role]
    stiffness = 10 ** rng.uniform(-5.0, -3.6)
    pickup, second_pickup, blend = (
        rng.uniform(0.05, 0.3),
        rng.uniform(0.05, 0.3),
        rng.uniform(0, 1) * (rng.random() < 0.4),
    )
    pluck = rng.uniform(0.06, 0.4)
    sustain_s = rng.uniform(0.5, 4.0)
    damping_per_hz = 10 ** rng.uniform(-3.6, -2.4)
    tone_hz, tilt = 10 ** rng.uniform(2.6, 3.7), rng.uniform(0.3, 1.3)
    split = 10 ** rng.uniform(-4.5, -3.2)
    click = 10 ** rng.uniform(-3.0, -1.3)
    time = np.arange(int(NOTE_S * SAMPLE_RATE)) / SAMPLE_RATE
    bank: dict[int, list[np.ndarray]] = {}
    for pitch in range(low - 2, high + 1, 4):
        f0 = 440.0 * 2 ** ((pitch - 69 + rng.normal(0, 0.05)) / 12)
        k = np.arange(1, max(2, min(48, int(5500 / f0))))
        f = k * f0 * np.sqrt(1 + stiffness * k**2)
        position = pluck * rng.uniform(0.8, 1.25)
        seen = np.sin(np.pi * k * pickup) * (1 - blend) + np.sin(np.pi * k * second_pickup) * blend
        rate = (1 / sustain_s + damping_per_hz * f) * rng.uniform(0.7, 1.4, len(k)) * (f0 / 80.0) ** 0.4
        phase = rng.uniform(-0.3, 0.3, len(k))
        partials = np.empty((len(k), len(time)), np.float32)
        for row, fk, r, p in zip(partials, f, rate, phase, strict=True):
            turn = 2 * np.pi * fk * time
            row[:] = np.exp(-r * time) * (np.sin(turn + p) + 0.4 * np.sin((1 + split) * turn))
        burst, attack = int(rng.uniform(0.002, 0.012) * SAMPLE_RATE), int(rng.uniform(0.0005, 0.004) * SAMPLE_RATE)
        noise = rng.standard_normal(burst) * np.linspace(1, 0, burst)
        for hardness in (0.6, 1.0, 1.6):
            amplitude = np.sin(np.pi * k * position) * seen / k**tilt / np.sqrt(1 + (f / (tone_hz * hardness)) ** 4)
            note = amplitude.astype(np.float32) @ partials
            note[:burst] += (click * np.abs(note).max() * noise).astype(np.float32)
            note[:attack] *= np.linspace(0, 1, attack, dtype=np.float32)
            bank.setdefault(pitch, []).append(np.float32(hardness) * note)
    return _levelled(name, role, "string", bank)


def plucked_strings(seed: int, count: int) -> Iterator[Instrument]:
    """`count` basses and as many guitars from the string model."""
    for number in range(count):
        for which, role in enumerate(RANGES):
            yield plucked_string(np.random.default_rng([seed, number, which]), role, f"string_{role}_{number:03d}")


def _levelled(name: str, role: str, kind: str, bank: Mapping[int, list[np.ndarray]]) -> Instrument:
    """One gain for the whole instrument, so that its loudest layers have an RMS of 0.1 over their first second."""
    loudest = [np.sqrt(np.mean(np.square(layers[-1][:SAMPLE_RATE], dtype=np.float64))) for layers in bank.values()]
    gain = np.float32(0.1 / max(float(np.median(loudest)), 1e-6))
    return Instrument(
        name, role, kind, {pitch: tuple(gain * note for note in layers) for pitch, layers in bank.items()}
    )


def _midi_file(program: int, asked: list[tuple[int, int]]) -> bytes:
    """A format 0 Standard MIDI File: each (pitch, velocity) held for most of NOTE_S, 500 ticks a second."""
    ticks = int(NOTE_S * 500)
    held = int(ticks * 0.95)
    events = bytearray(b"\x00\xc0" + bytes([program]))
    wait = 0
    for pitch, velocity in asked:
        events += _variable_length(wait) + bytes([0x90, pitch, velocity])
        events += _variable_length(held) + bytes([0x80, pitch, 0])
        wait = ticks - held
    events += _variable_length(wait) + b"\xff\x2f\x00"
    return struct.pack(">4sIHHH4sI", b"MThd", 6, 0, 1, 250, b"MTrk", len(events)) + bytes(events)


def _variable_length(number: int) -> bytes:
    """MIDI's variable-length quantity: seven bits a byte, most significant first."""
    parts = [number & 0x7F]
    while number := number >> 7:
        parts.append(0x80 | (number & 0x7F))
    return bytes(reversed(parts))
