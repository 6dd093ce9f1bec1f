#!/usr/bin/env python3
"""How often `gbsep diagnose` finds a fault of known strength, and how often it finds one where there is none.

Ten-second excerpts of true stems, as they are and with one fault each. The thresholds of measure.diagnose were set on
the first two jams and on generated music (`--set calibration`); the table in docs is of the other two (`--set
report`). In both, each bass is heard with each guitar, as recorded, with the guitars tuned down by a tone and a
fourth, and with the bass up a fifth and an octave. A fault is put only into excerpts in which it can be: low end can
be missing where there is some, the high register thin where it is not all there is.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from scipy import signal

from gbsep.audio import Audio
from gbsep.demo import make_demo
from gbsep.io.read import read
from gbsep.measure.diagnose import diagnose

DATA = Path(os.environ.get("GBSEP_DATA", Path(__file__).parents[2] / "shared" / "data"))
RATE = 44100
LENGTH_S = 10.0
TUNINGS = {"as recorded": (0, 0), "guitar -2": (0, -2), "guitar -5": (0, -5), "bass +7": (7, 0), "bass +12": (12, 0)}
"""Semitones by which bass and guitar are moved."""

Samples = np.ndarray


@dataclass(frozen=True, eq=False)
class Excerpt:
    """Ten seconds: where from, the true stems and drums, float32 (channels, frames), whether the bass was moved up, and
    the seed of what is random in its faults."""

    name: str
    bass: Samples
    guitar: Samples
    drums: Samples
    raised: bool
    seed: int

    @property
    def rng(self) -> np.random.Generator:
        return np.random.default_rng(self.seed)


Faulty = tuple[Samples, dict[str, Samples]]


# Faults


def level_db(samples: Samples) -> float:
    return 10 * np.log10(np.mean(np.square(samples, dtype=np.float64)) + 1e-20)


def filtered(samples: Samples, kind: str, cutoff_hz: float) -> Samples:
    sections = signal.butter(4, cutoff_hz, kind, fs=RATE, output="sos")
    return signal.sosfiltfilt(sections, samples).astype(np.float32)


def has_low_end(one: Excerpt) -> bool:
    """Whether the bass below 65 Hz is at most 20 dB below the whole mixture."""
    return level_db(filtered(one.bass, "low", 65)) > level_db(one.bass + one.guitar) - 20


def gain(db: float) -> float:
    return 10 ** (db / 20)


def fade(start_s: float, end_s: float, frames: int) -> Samples:
    """0 up to start_s, 1 up to end_s, 0 from there on, with ramps of 50 ms."""
    time_s = np.arange(frames) / RATE
    return np.clip(np.minimum(time_s - start_s, end_s - time_s) / 0.05, 0, 1).astype(np.float32)


def swapped(one: Excerpt) -> Faulty:
    return one.bass + one.guitar, {"bass": one.guitar, "guitar": one.bass}


def phantom(one: Excerpt) -> Faulty:
    """The bass rests for five seconds; its stem holds the guitar below 400 Hz, 12 dB down."""
    rest = fade(3, 8, one.bass.shape[1])
    bass = one.bass * (1 - rest)
    leak = gain(-12) * rest * filtered(one.guitar, "low", 400)
    return bass + one.guitar, {"bass": bass + leak, "guitar": one.guitar - leak}


def level_lost(one: Excerpt) -> Faulty:
    return one.bass + one.guitar, {"bass": gain(-4) * one.bass, "guitar": one.guitar}


def guitar_level_lost(one: Excerpt) -> Faulty:
    return one.bass + one.guitar, {"bass": one.bass, "guitar": gain(-4) * one.guitar}


def swelling(one: Excerpt) -> Faulty:
    rate_hz, phase = one.rng.uniform(0.7, 3.0), one.rng.uniform(0, 2 * np.pi)
    time_s = np.arange(one.bass.shape[1]) / RATE
    swell = 10 ** (6 * np.sin(2 * np.pi * rate_hz * time_s + phase) / 20)
    return one.bass + one.guitar, {"bass": (one.bass * swell).astype(np.float32), "guitar": one.guitar}


def bleeding_into_bass(one: Excerpt) -> Faulty:
    leak = gain(-10) * one.guitar
    return one.bass + one.guitar, {"bass": one.bass + leak, "guitar": one.guitar - leak}


def bleeding_into_guitar(one: Excerpt) -> Faulty | None:
    leak = gain(-10) * one.bass
    if not has_low_end(one):
        return None
    return one.bass + one.guitar, {"bass": one.bass - leak, "guitar": one.guitar + leak}


def thin_high(one: Excerpt) -> Faulty | None:
    """The second half of the bass is played three times as high, and is 8 dB down in the stem."""
    found = high_line(one)
    if found is None:
        return None
    mixture, stems = found
    thin = stems["bass"].copy()
    thin[:, thin.shape[1] // 2 :] *= np.float32(gain(-8))
    return mixture, {"bass": thin, "guitar": mixture - thin}


def high_line(one: Excerpt) -> Faulty | None:
    """No fault: the second half of the bass is played three times as high."""
    if one.raised:
        return None
    half = one.bass.shape[1] // 2
    bass = np.concatenate([one.bass[:, :half], moved(one.bass[:, half:], 19)], axis=1)
    return bass + one.guitar, {"bass": bass, "guitar": one.guitar}


def nothing(one: Excerpt) -> Faulty:
    """No fault: the true stems."""
    return one.bass + one.guitar, {"bass": one.bass, "guitar": one.guitar}


def low_end_missing(one: Excerpt) -> Faulty | None:
    return (
        (one.bass + one.guitar, {"bass": filtered(one.bass, "high", 90), "guitar": one.guitar})
        if has_low_end(one)
        else None
    )


def low_end_left(one: Excerpt) -> Faulty | None:
    left = gain(-6) * filtered(one.bass, "low", 90)
    return (one.bass + one.guitar, {"bass": one.bass - left, "guitar": one.guitar + left}) if has_low_end(one) else None


def clipping(one: Excerpt) -> Faulty:
    top = gain(-3) * np.abs(one.bass).max()
    return one.bass + one.guitar, {"bass": np.clip(one.bass, -top, top), "guitar": one.guitar}


def dc_offset(one: Excerpt) -> Faulty:
    return one.bass + one.guitar, {"bass": one.bass, "guitar": one.guitar + np.float32(gain(-40))}


def silent(one: Excerpt) -> Faulty:
    return one.bass + one.guitar, {"bass": np.zeros_like(one.bass), "guitar": one.guitar}


def residual_loud(one: Excerpt) -> Faulty:
    third = one.drums * gain(level_db(one.bass + one.guitar) - level_db(one.drums) - 10)
    return one.bass + one.guitar + third, {"bass": one.bass, "guitar": one.guitar}


@dataclass(frozen=True)
class Fault:
    """A row of FAULTS: how it is made, the finding that it must lead to, and its strength in words."""

    make: Callable[[Excerpt], Faulty | None]
    kind: str
    stem: str
    strength: str


FAULTS = {
    "swapped": Fault(swapped, "swapped", "bass", "exchanged"),
    "phantom": Fault(phantom, "phantom", "bass", "guitar below 400 Hz at -12 dB where the bass rests 5 s"),
    "level lost, bass": Fault(level_lost, "level_lost", "bass", "4 dB quieter"),
    "level lost, guitar": Fault(guitar_level_lost, "level_lost", "guitar", "4 dB quieter"),
    "swelling": Fault(swelling, "swelling", "bass", "+-6 dB at 0.7 to 3 Hz"),
    "bleeding into bass": Fault(bleeding_into_bass, "bleeding", "bass", "guitar at -10 dB"),
    "bleeding into guitar": Fault(bleeding_into_guitar, "bleeding", "guitar", "bass at -10 dB"),
    "thin high register": Fault(thin_high, "thin_high", "bass", "high notes 8 dB down"),
    "low end missing": Fault(low_end_missing, "low_end_missing", "bass", "nothing below 90 Hz"),
    "low end left in guitar": Fault(low_end_left, "low_end_left", "guitar", "half of the bass below 90 Hz"),
    "clipping": Fault(clipping, "clipping", "bass", "3 dB off the peaks"),
    "DC offset": Fault(dc_offset, "dc_offset", "guitar", "-40 dBFS"),
    "silent": Fault(silent, "silent", "bass", "all zero"),
    "residual loud": Fault(residual_loud, "residual_loud", "residual", "drums at -10 dB in no stem"),
}


# Material


def moved(samples: Samples, semitones: int) -> Samples:
    """The samples at another pitch, as long as before (Rubber Band)."""
    if semitones == 0:
        return samples
    from pedalboard import PitchShift

    padded = np.pad(samples, ((0, 0), (0, RATE)))
    return PitchShift(semitones=semitones)(padded, RATE)[:, : samples.shape[1]].astype(np.float32)


def excerpts(data: Path, which: str, step_s: float) -> Iterator[Excerpt]:
    """Each bass of a set with each guitar, in each tuning, every `step_s` seconds where both play."""
    jams = sorted(path for path in (data / "jams").iterdir() if path.is_dir())
    songs = {
        jam.name[:2]: {stem: read(jam / f"{stem}.flac").samples for stem in ("bass", "guitar")}
        for jam in (jams[:2] if which == "calibration" else jams[2:])
    }
    if which == "calibration":
        _, stems = make_demo(40.0)
        songs["demo"] = {stem: stems[stem].samples for stem in ("bass", "guitar")}
    frames, step = round(LENGTH_S * RATE), round(step_s * RATE)
    loop = read(data / "mixes" / "drums_cc0" / "drums_Drums_100BPM.flac").samples
    drums = np.resize(loop[0], (1, frames)).repeat(2, axis=0)
    seed = 0
    for tuning, (up, down) in TUNINGS.items():
        basses = {name: moved(song["bass"], up) for name, song in songs.items()}
        guitars = {name: moved(song["guitar"], down) for name, song in songs.items()}
        for low, high in itertools.product(songs, songs):
            for start in range(0, min(basses[low].shape[1], guitars[high].shape[1]) - frames + 1, step):
                bass, guitar = (one[:, start : start + frames] for one in (basses[low], guitars[high]))
                seed += 1
                if level_db(bass) > -60 and level_db(guitar) > -60:
                    yield Excerpt(f"{low}+{high} {start / RATE:g} s {tuning}", bass, guitar, drums, up > 0, seed)


def found(one: Excerpt) -> tuple[dict[str, bool], list[set[str]]]:
    """Whether each fault that can be was found, and the kinds found in what has no fault."""

    def kinds(faulty: Faulty) -> set[tuple[str, str]]:
        mixture, stems = faulty
        readers = {name: Audio(samples, RATE).reader() for name, samples in stems.items()}
        return {(finding.kind, finding.stem) for finding in diagnose(Audio(mixture, RATE).reader(), readers)}

    made = {name: fault.make(one) for name, fault in FAULTS.items()}
    hits = {
        name: (FAULTS[name].kind, FAULTS[name].stem) in kinds(faulty)
        for name, faulty in made.items()
        if faulty is not None
    }
    clean = [faulty for faulty in (nothing(one), high_line(one)) if faulty is not None]
    return hits, [{kind for kind, _ in kinds(faulty)} for faulty in clean]


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path, exists=True), default=DATA, help="Folder that holds jams/.")
@click.option("--set", "which", type=click.Choice(["calibration", "report"]), default="report", show_default=True)
@click.option("--step", "step_s", default=3.0, show_default=True, help="Seconds from one excerpt to the next.")
@click.option("--jobs", default=os.cpu_count(), show_default=True, help="Excerpts at a time.")
def main(data: Path, which: str, step_s: float, jobs: int) -> None:
    results, waiting = [], excerpts(data, which, step_s)
    with ProcessPoolExecutor(jobs) as pool:
        while some := list(itertools.islice(waiting, 8 * jobs)):
            results += pool.map(found, some)
    clean = [kinds for _, some in results for kinds in some]
    click.echo(f"{len(results)} excerpts of {LENGTH_S:g} s, {len(clean)} without a fault\n")
    click.echo("| fault | strength | excerpts | found | false alarms |")
    click.echo("| --- | --- | ---: | ---: | ---: |")
    for name, fault in FAULTS.items():
        hits = [hits[name] for hits, _ in results if name in hits]
        alarms = np.mean([fault.kind in kinds for kinds in clean])
        click.echo(f"| {name} | {fault.strength} | {len(hits)} | {np.mean(hits):.0%} | {alarms:.1%} |")
    click.echo(f"\nanything found without a fault: {np.mean([bool(kinds) for kinds in clean]):.1%}")


if __name__ == "__main__":
    main()
