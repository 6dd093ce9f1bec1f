"""Learn the dictionary of bass notes that guided NMF follows the bass line with: gbsep/separation/bass_notes.npz.

    python scripts/learn_notes.py NOTES_FOLDER [OUTPUT.npz]

NOTES_FOLDER holds recordings of single notes and index.csv with the columns file, instrument, family, midi, onset_s and
f0_hz. Each bass's recordings of a pitch (all layers and articulations) give two rows: attack and sustain. A pitch that
a bass lacks takes its nearest recording up to two semitones away: partials keep their amplitudes. The same recordings
give the same file, byte for byte.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
import zipfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gbsep.io.read import open_reader
from gbsep.separation import nmf

FAMILIES = ("bass", "upright")
PARTIALS = 64
N_FFT = 8192
SEGMENTS_S = ((0.0, 0.2), (0.2, 0.9))
REACH = 2
SOURCE = (
    "Partial amplitudes measured by scripts/learn_notes.py on recorded single notes, all CC0 1.0: Karoryfer swagbass, "
    "fashionbass, pastabass and ergo (players D. Smolken and spacecoyote), and PBF by chickenpickin."
)


def partial_amplitudes(path: Path, onset_s: float, f0_hz: float) -> np.ndarray:
    """Amplitudes of the partials in each segment after the onset: (segments, PARTIALS), each row of unit sum."""
    audio = open_reader(path).read()
    spectrogram = np.abs(nmf.stft(audio.samples.mean(axis=0)[round(onset_s * audio.sample_rate) :], N_FFT))
    step = audio.sample_rate / N_FFT
    centre_s = (np.arange(len(spectrogram)) - 1) * N_FFT / 4 / audio.sample_rate
    amplitudes = np.zeros((len(SEGMENTS_S), PARTIALS))
    for row, (low, high) in enumerate(SEGMENTS_S):
        spectrum = spectrogram[(centre_s >= low) & (centre_s < high)].sum(axis=0)
        for partial, hz in enumerate(nmf.partials_hz(f0_hz, PARTIALS)):
            reach = min(f0_hz / 2, 3 * step)
            first, last = round((hz - reach) / step), round((hz + reach) / step)
            if last < len(spectrum):
                amplitudes[row, partial] = spectrum[first : last + 1].max()
    return amplitudes / amplitudes.sum(axis=1, keepdims=True)


def learn(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of the dictionary file."""
    recorded: dict[str, dict[int, list[np.ndarray]]] = {}
    with (folder / "index.csv").open(newline="", encoding="utf-8") as index:
        for note in csv.DictReader(index):
            if note["family"] in FAMILIES:
                amplitudes = partial_amplitudes(folder / note["file"], float(note["onset_s"]), float(note["f0_hz"]))
                recorded.setdefault(note["instrument"], {}).setdefault(int(note["midi"]), []).append(amplitudes)
    rows = []
    for instrument, pitches in sorted(recorded.items()):
        for pitch in range(min(pitches), max(pitches) + 1):
            nearest = min(pitches, key=lambda other: (abs(other - pitch), other))
            if abs(nearest - pitch) <= REACH:
                rows += [(pitch, instrument, partials) for partials in np.mean(pitches[nearest], axis=0)]
    pitch, instrument, partials = zip(*rows, strict=True)
    return {
        "pitch": np.array(pitch, np.uint8),
        "instrument": np.array(instrument),
        "partials": np.array(partials, np.float16),
        "source": np.array(SOURCE),
    }


def write(arrays: dict[str, np.ndarray], path: Path) -> None:
    """A compressed .npz whose bytes depend on the arrays alone (numpy's own carries the time of writing)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), buffer.getvalue(), zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notes", type=Path)
    parser.add_argument("output", type=Path, nargs="?", default=nmf.NOTES_FILE)
    arguments = parser.parse_args()
    write(learn(arguments.notes), arguments.output)
