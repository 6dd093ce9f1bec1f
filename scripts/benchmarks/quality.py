"""SDR (dB) of bass and guitar over real jams whose stems are known, stereo as given and folded to mono.

Guided NMF uses notes of other instruments than the jam's own. `compact` is what is shipped and has heard all the
instruments; the honest measure of it is `compact, held out`, trained without all those of the first and the third jam
and a guitar of each of the others (the card names them). `cut-off, best per set` is one Butterworth cut-off (order 4,
zero phase) for all jams, `best per jam` one for each, both chosen with the true stems at hand: a yardstick no user can
reach; so is the cut-off of the pan mask, which takes for bass what is low and in the centre. The ideal ratio mask is
the best that any mask of the mixture could do; what is told apart by its place in stereo may go beyond.

Then, for passages in which one instrument is muted: how far its stem is below the other instrument (dB).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np

from gbsep.audio import Audio, join
from gbsep.io.read import open_reader
from gbsep.measure.evaluate import sdr
from gbsep.models import catalogue
from gbsep.preset.load import load_preset
from gbsep.separation import nmf
from gbsep.separation.backend import Context
from gbsep.separation.compact import backend as compact
from gbsep.separation.compact import weights as compact_weights

DATA = Path(os.environ.get("GBSEP_DATA", Path(__file__).parents[3] / "shared" / "data"))
CUTOFFS_HZ = tuple(range(100, 401, 10))
SHIPPED = catalogue.EMBEDDED_FOLDER / catalogue.EMBEDDED.files[0]
HELD_OUT = Path(__file__).parents[2] / "training" / "fold_a.safetensors"
PASSAGES_S = {"bass": (10.0, 18.0), "guitar": (22.0, 30.0)}
"""When each instrument is muted, from second to second."""
GUARD_S = 0.25
"""Not measured at either end of such a passage."""

Separator = Callable[["Jam"], np.ndarray]
"""Bass (channels, frames) of a jam."""


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
        audio = {name: open_reader(folder / f"{name}.flac").read() for name in ("mixture", "bass", "guitar")}
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


def pan_mask(jam: Jam, cutoff_hz: float, n_fft: int = 4096) -> np.ndarray:
    """What is below the cut-off and stronger in the middle than at the sides."""
    left, right = (nmf.stft(channel, n_fft) for channel in (jam.mixture[0], jam.mixture[-1]))
    hz = np.arange(n_fft // 2 + 1) * jam.sample_rate / n_fft
    mask = (hz < cutoff_hz) & (np.abs(left - right) < 0.5 * np.abs(left + right))
    return np.stack([nmf.istft(one * mask, jam.mixture.shape[1]) for one in (left, right)[: len(jam.mixture)]])


def compact_bass(jam: Jam, config, weights: dict) -> np.ndarray:
    """The bass by weights of the embedded network, as its backend gives it."""
    blocks = compact.separate(Audio(jam.mixture, jam.sample_rate).reader(), config, weights)
    return join(block["bass"] for block in blocks)


def by_weights(path: Path) -> Separator:
    config, weights = compact_weights.load(path)
    return lambda jam: compact_bass(jam, config, weights)


def preset_nmf(name: str) -> Separator:
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


def muted(jam: Jam) -> Jam:
    """The jam with each instrument silent for a while."""
    stems = {"bass": jam.bass.copy(), "guitar": jam.guitar.copy()}
    for name, (start_s, stop_s) in PASSAGES_S.items():
        stems[name][:, round(start_s * jam.sample_rate) : round(stop_s * jam.sample_rate)] = 0
    return replace(jam, mixture=stems["bass"] + stems["guitar"], **stems)


def rest_db(jam: Jam, separator: Separator) -> tuple[float, float]:
    """How far the stems of bass and guitar are below the other instrument while they are muted."""
    jam = muted(jam)
    bass = separator(jam)
    found = []
    for (start_s, stop_s), made, other in zip(
        PASSAGES_S.values(), (bass, jam.mixture - bass), (jam.guitar, jam.bass), strict=True
    ):
        passage = slice(round((start_s + GUARD_S) * jam.sample_rate), round((stop_s - GUARD_S) * jam.sample_rate))
        found.append(float(10 * np.log10(np.sum(made[:, passage] ** 2) / np.sum(other[:, passage] ** 2) + 1e-20)))
    return found[0], found[1]


ROWS: dict[str, Callable[[], Separator]] = {
    "mixture as it is": lambda: lambda jam: jam.mixture,
    "exp003, plain NMF": lambda: preset_nmf("exp003"),
    "exp003_1, NMF with notes": lambda: preset_nmf("exp003_1"),
    "compact": lambda: by_weights(SHIPPED),
    "compact, held out": lambda: by_weights(HELD_OUT),
    "ideal ratio mask": lambda: ideal_ratio_mask,
}
"""Label of a row: what makes its separator, Jam -> bass (channels, frames)."""


def show(label: str, scores: np.ndarray) -> None:
    """One line: per jam and median, `scores` of shape (jams, 2)."""
    cells = [*scores, np.median(scores, axis=0)]
    click.echo(f"{label:30}" + "".join(f"{bass:8.2f} /{guitar:6.2f}" for bass, guitar in cells))


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path, exists=True), default=DATA, help="Folder that holds jams/.")
def command(data: Path) -> None:
    folders = sorted(path.parent for path in (data / "jams").glob("*/jam.json"))
    for title, mono in (("folded to mono", True), ("stereo as given", False)):
        jams = [Jam.read(folder, mono) for folder in folders]
        columns = [*(jam.name[:2] for jam in jams), "median"]
        click.echo(f"\n{title + ', bass / guitar':30}" + "".join(f"{column:>16}" for column in columns))
        for label, filtered, cutoffs_hz in (("cut-off", low_pass, CUTOFFS_HZ), ("pan mask", pan_mask, CUTOFFS_HZ[::5])):
            cut = np.array([[jam.score(filtered(jam, cutoff_hz)) for jam in jams] for cutoff_hz in cutoffs_hz])
            best = np.median(cut, axis=1).sum(axis=1).argmax()
            show(f"{label} {cutoffs_hz[best]} Hz, best per set", cut[best])
            if filtered is low_pass:
                show("cut-off, best per jam", cut.max(axis=0))
        for label, separator in ROWS.items():
            bass = separator()
            show(label, np.array([jam.score(bass(jam)) for jam in jams]))
        click.echo("while muted")
        for label in ("compact", "compact, held out"):
            bass = ROWS[label]()
            show(label, np.array([rest_db(jam, bass) for jam in jams]))
