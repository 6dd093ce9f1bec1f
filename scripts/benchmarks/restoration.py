"""Error of the restored gains: true stems, attenuated by known gains, with a third source and with bleeding.

Each jam's bass and guitar are attenuated by every pair of -1 to -6 dB, and `fit_gains` (limit 12 dB) has to find the
way back from the mixture. The error is restored gain + attenuation, 0 dB when the level came back. The third source is
each drum loop in turn, repeated, as loud as the mixture, and in no stem; bleeding adds a share of the other stem.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import click
import numpy as np
import soundfile

from gbsep.measure import levels

STEMS = ("bass", "guitar")
LIMIT_DB = 12.0
ATTENUATIONS_DB = (-1.0, -3.0, -6.0)
DATA = Path(os.environ.get("GBSEP_DATA", Path(__file__).parents[3] / "shared" / "data"))


def read(path: Path) -> np.ndarray:
    """float32 samples, shape (channels, frames)."""
    return soundfile.read(path, dtype="float32")[0].T


def rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def errors_db(mixture: np.ndarray, sources: dict[str, np.ndarray], bleeding: float, alone: bool) -> list[list[float]]:
    """Error of each stem's gain, shape (attenuation pairs, stems)."""
    total = sources["bass"] + sources["guitar"]
    stems = {name: source + bleeding * (total - source) for name, source in sources.items()}
    groups = [(name,) for name in STEMS] if alone else [STEMS]
    errors = []
    for attenuation_db in itertools.product(ATTENUATIONS_DB, repeat=len(STEMS)):
        amplitudes = dict(zip(STEMS, map(levels.to_amplitude, attenuation_db), strict=True))
        gains_db: dict[str, float] = {}
        for names in groups:
            gram = levels.Gram(names)
            gram.add(mixture, {name: np.float32(amplitudes[name]) * stems[name] for name in names})
            gains_db |= levels.fit_gains(gram, dict.fromkeys(names, LIMIT_DB))
        errors.append([gains_db[name] + db for name, db in zip(STEMS, attenuation_db, strict=True)])
    return errors


def measure(data: Path) -> list[tuple[str, str, np.ndarray]]:
    """Rows of (what is wrong with the stems, how they are fitted, errors in dB of shape (cases, stems))."""
    jams = sorted((data / "jams").glob("*/mixture.flac"))
    loops = [read(path) for path in sorted((data / "mixes" / "drums_cc0").glob("*.flac"))]
    cases = [("true stems", 0.0, 0), ("third source, as loud as the mixture", 0.0, len(loops))]
    cases += [(f"bleeding {share:g}", share, 0) for share in (0.1, 0.3)]
    rows: dict[tuple[str, str], list[list[float]]] = {}
    for jam in jams:
        mixture = read(jam)
        sources = {name: read(jam.with_name(f"{name}.flac")) for name in STEMS}
        for title, bleeding, thirds in cases:
            for third in range(max(thirds, 1)):
                heard = mixture
                if thirds:
                    loop = np.resize(loops[third].T, mixture.T.shape).T
                    heard = mixture + np.float32(rms(mixture) / rms(loop)) * loop
                for fit, alone in (("together", False), ("alone", True)):
                    rows.setdefault((title, fit), []).extend(errors_db(heard, sources, bleeding, alone))
    return [(title, fit, np.array(errors)) for (title, fit), errors in rows.items()]


@click.command("restoration", help=__doc__)
def command() -> None:
    click.echo(f"{'':36}  {'fitted':8}  {'bass: median, worst':>20}  {'guitar: median, worst':>22}   (dB)")
    for title, fit, errors in measure(DATA):
        worst = errors[np.abs(errors).argmax(axis=0), range(len(STEMS))]
        (bass, guitar), (bass_worst, guitar_worst) = np.median(errors, axis=0), worst
        click.echo(f"{title:36}  {fit:8}  {bass:+13.2f} {bass_worst:+6.2f}  {guitar:+15.2f} {guitar_worst:+6.2f}")


if __name__ == "__main__":
    command()
