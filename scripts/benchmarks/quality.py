"""Median SDR (dB) of bass and guitar over real jams whose stems are known, stereo as given and folded to mono.

Guided NMF uses notes of other instruments than the jam's own. `cut-off, best per set` is one Butterworth cut-off (order
4, zero phase) for all jams, `best per jam` one for each, both chosen with the true stems at hand: a yardstick no user
can reach. The ideal ratio mask is what masking the mixture could reach at best.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from gbsep import files
from gbsep.audio import Audio
from gbsep.evaluate import sdr
from gbsep.preset import load_preset
from gbsep.separation import Context, nmf

DATA = Path(os.environ.get("GBSEP_DATA", Path(__file__).parents[3] / "shared" / "data"))
CUTOFFS_HZ = tuple(range(100, 401, 10))


@dataclass(frozen=True, eq=False)
class Jam:
    """A jam's mixture and true stems, float32 (channels, frames), and the instruments that play in it."""

    name: str
    sample_rate: int
    mixture: np.ndarray
    bass: np.ndarray
    guitar: np.ndarray
    instruments: tuple[str, ...]

    @classmethod
    def read(cls, folder: Path, mono: bool) -> Jam:
        about = json.loads((folder / "jam.json").read_text(encoding="utf-8"))
        audio = {name: files.open(folder / f"{name}.flac").read() for name in ("mixture", "bass", "guitar")}
        samples = {
            name: one.samples.mean(axis=0, keepdims=True) if mono else one.samples for name, one in audio.items()
        }
        instruments = (about["bass"], *about["guitars"])
        return cls(folder.name, audio["mixture"].sample_rate, **samples, instruments=instruments)

    def score(self, bass: np.ndarray) -> tuple[float, float]:
        """SDR of `bass` and of what it leaves to the guitar."""
        pairs = ((self.bass, bass), (self.guitar, self.mixture - bass))
        return tuple(sdr(*(Audio(samples, self.sample_rate) for samples in pair)) for pair in pairs)


def low_pass(jam: Jam, cutoff_hz: float) -> np.ndarray:
    from scipy import signal

    sections = signal.butter(4, cutoff_hz, fs=jam.sample_rate, output="sos")
    return signal.sosfiltfilt(sections, jam.mixture.astype(np.float64)).astype(np.float32)


def preset_nmf(name: str) -> Callable[[Jam], np.ndarray]:
    """Separate by an NMF preset, with notes of other instruments."""
    preset = load_preset(name)

    def bass(jam: Jam) -> np.ndarray:
        context = Context(nmf.stem_names(preset.settings), preset.seed)
        notes = nmf.load_notes().without(jam.instruments)
        return nmf.separate_bass(jam.mixture, jam.sample_rate, preset.settings, context, notes)

    return bass


def ideal_ratio_mask(jam: Jam, n_fft: int = 4096) -> np.ndarray:
    def channel(mixture: np.ndarray, bass: np.ndarray, guitar: np.ndarray) -> np.ndarray:
        powers = [np.abs(nmf.stft(stem, n_fft)) ** 2 for stem in (bass, guitar)]
        return nmf.istft(nmf.stft(mixture, n_fft) * powers[0] / (sum(powers) + 1e-12), len(mixture))

    return np.stack([channel(*channels) for channels in zip(jam.mixture, jam.bass, jam.guitar, strict=True)])


ROWS: dict[str, Callable[[], Callable[[Jam], np.ndarray]]] = {
    "mixture as it is": lambda: lambda jam: jam.mixture,
    "exp003, plain NMF": lambda: preset_nmf("exp003"),
    "exp003_1, NMF with notes": lambda: preset_nmf("exp003_1"),
    "ideal ratio mask": lambda: ideal_ratio_mask,
}
"""Label of a row: what makes its separator, Jam -> bass (channels, frames)."""


def show(label: str, scores: np.ndarray) -> None:
    """One line: per jam and median, `scores` of shape (jams, 2)."""
    cells = [*scores, np.median(scores, axis=0)]
    click.echo(f"{label:28}" + "".join(f"{bass:8.2f} /{guitar:6.2f}" for bass, guitar in cells))


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path, exists=True), default=DATA, help="Folder that holds jams/.")
def command(data: Path) -> None:
    folders = sorted(path.parent for path in (data / "jams").glob("*/jam.json"))
    for title, mono in (("folded to mono", True), ("stereo as given", False)):
        jams = [Jam.read(folder, mono) for folder in folders]
        columns = [*(jam.name[:2] for jam in jams), "median"]
        click.echo(f"\n{title + ', bass / guitar':28}" + "".join(f"{column:>16}" for column in columns))
        cut = np.array([[jam.score(low_pass(jam, cutoff_hz)) for jam in jams] for cutoff_hz in CUTOFFS_HZ])
        best = np.median(cut, axis=1).sum(axis=1).argmax()
        show(f"cut-off {CUTOFFS_HZ[best]} Hz, best per set", cut[best])
        show("cut-off, best per jam", cut.max(axis=0))
        for label, separator in ROWS.items():
            bass = separator()
            show(label, np.array([jam.score(bass(jam)) for jam in jams]))
