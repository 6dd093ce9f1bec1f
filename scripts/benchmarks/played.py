"""SDR (dB) by playing: lines that people played, and songs of the kinds of playing that are hardest.

First the played songs of the data (a real bass line beside played guitars), then songs that the generator makes of one
kind of playing each, on nothing but instruments that the held-out weights of `compact` have never heard (see
`unheard`): a bass that runs up the neck under guitars, bass and guitar in unison on one low riff, a slapped bass below
a guitar. Beside them the cut-off of a Butterworth filter (order 4, zero phase) that is best for each song, and the
ideal ratio mask. Medians, over the songs of a kind.

Then lines that sound alone: how much of their energy stays in their stem, the least and the median of the songs.
Further weights may be given, such as those of another training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np

from gbsep import demo
from gbsep.io.read import open_reader
from gbsep.models.catalogue import card
from gbsep.train import generator, instruments, scores

from .quality import CUTOFFS_HZ, DATA, HELD_OUT, SHIPPED, Jam, Separator, by_weights, ideal_ratio_mask, low_pass
from .unheard import mixed, show

SONG_S = 16.0
E1, G4, E2, E5 = 28, 67, 40, 76
SCALE = (0, 2, 3, 5, 7, 8, 10)
NOTE_S = 0.25, 0.5


@dataclass(frozen=True)
class Kind:
    """A kind of playing: how the parts play (see `scores`), and which of them are silent."""

    styles: tuple[str | None, ...]
    silent: tuple[int, ...] = ()


TOGETHER = {
    "runs under guitars": Kind(("run", "strum", "lead")),
    "unison": Kind(("low riff", "low riff", None), (2,)),
    "slap": Kind(("slap", None, None), (2,)),
}
ALONE = {
    "bass runs alone": Kind(("run", None, None), (1, 2)),
    "low guitar alone": Kind((None, "lowest line", None), (0, 2)),
    "palm mutes alone": Kind((None, "chug", None), (0, 2)),
    "guitar runs alone": Kind((None, "run", None), (0, 2)),
}


def played(data: Path, mono: bool) -> Iterator[Jam]:
    for folder in sorted((data / "played").glob("0*")):
        audio = [open_reader(folder / f"{name}.flac").read() for name in ("bass", "guitar")]
        bass, guitar = (one.samples.mean(axis=0, keepdims=True) if mono else one.samples for one in audio)
        yield Jam(folder.name, audio[0].sample_rate, bass + guitar, bass, guitar, ())


def generated(kind: Kind, band: Sequence[instruments.Instrument], seed: int, count: int, mono: bool) -> Iterator[Jam]:
    """`count` songs of a kind."""
    bands = [[one for one in band if one.role == role] for role in ("bass", "guitar", "guitar")]
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        song = scores.compose(rng, SONG_S, generator.GUITARS, "agile", kind.styles)
        stems = []
        for part, (notes, players) in enumerate(zip(song.parts, bands, strict=True)):
            player = players[int(rng.integers(len(players)))]
            stem = generator.amplify(rng, generator.play(rng, notes, player, SONG_S, revoiced=False), player.role)
            stems.append(np.zeros_like(stem) if part in kind.silent else stem)
        yield mixed(np.stack(stems), rng, mono, f"{number}", ())


def scales() -> Iterator[Jam]:
    """A bass that climbs from E1 to G4 and a guitar that falls from E5 to E2, alone, plucked strings of the demo."""
    steps = [pitch for pitch in range(E1, E5 + 1) if (pitch - E1) % 12 in SCALE]
    for name, part, pitches in (
        ("bass", 0, [pitch for pitch in steps if pitch <= G4]),
        ("guitar", 1, [pitch for pitch in steps if pitch >= E2][::-1]),
    ):
        for note_s in NOTE_S:
            rng = np.random.default_rng(0)
            how = replace(demo.BASS if part == 0 else demo.GUITAR1, vibrato_cents=0.0)
            tones = [
                demo.pluck(440 * 2 ** ((pitch - 69) / 12), note_s, instruments.SAMPLE_RATE, rng, how.decay_s,
                           how.treble_decay_s, how.pick_position, how.brightness_hz)
                for pitch in pitches
            ]  # fmt: skip
            stems = np.zeros((2, sum(map(len, tones))))
            stems[part] = np.concatenate(tones)
            yield mixed(stems, rng, True, f"{name} scale, {note_s:g} s a note", ())


def kept(jam: Jam, bass: np.ndarray) -> float:
    """How much of the energy of the side that sounds is in its stem."""
    own, estimate = (jam.bass, bass) if jam.bass.any() else (jam.guitar, jam.mixture - bass)
    return float(np.vdot(estimate, own) / np.vdot(own, own))


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path, exists=True), default=DATA, help="Folder with played/, notes/.")
@click.option("--songs", "count", default=4, show_default=True, help="Generated songs of every kind.")
@click.option("--seed", default=27, show_default=True)
@click.option("--weights", type=click.Path(path_type=Path, exists=True), multiple=True, help="Weights beside them.")
def command(data: Path, count: int, seed: int, weights: tuple[Path, ...]) -> None:
    unheard = card()["held_out"]["without"]
    band = [one for one in instruments.recorded(data / "notes") if one.name in unheard]
    named = [("compact", SHIPPED), ("compact, held out", HELD_OUT), *((path.stem, path) for path in weights)]
    networks: list[Separator] = [by_weights(path) for _, path in named]
    labels = [label for label, _ in named]
    for title, mono in (("mono", True), ("stereo", False)):
        columns = "".join(f"{label:>20}" for label in ("cut-off, best", *labels, "ideal ratio mask"))
        click.echo(f"\n{title + ', bass / guitar':36}{columns}")
        found = [_scores(jam, networks) for jam in played(data, mono)]
        for jam, row in zip(played(data, mono), found, strict=True):
            show(jam.name, row[:, np.newaxis])
        show("played, median", np.stack(found, axis=1))
        for name, kind in TOGETHER.items():
            jams = generated(kind, band, seed, count, mono)
            show(f"{name}, {count} songs", np.stack([_scores(jam, networks) for jam in jams], axis=1))
    click.echo(f"\n{'kept of what is alone, mono':36}" + "".join(f"{label:>20}" for label in labels))
    for name, kind in ALONE.items():
        rows = np.array([_kept(jam, networks) for jam in generated(kind, band, seed, count, True)])
        cells = zip(rows.min(axis=0), np.median(rows, axis=0), strict=True)
        click.echo(f"{name + ', least / median':36}" + "".join(f"{least:12.0%} /{half:6.0%}" for least, half in cells))
    for jam in scales():
        click.echo(f"{jam.name:36}" + "".join(f"{part:20.1%}" for part in _kept(jam, networks)))


def _scores(jam: Jam, networks: Sequence[Separator]) -> np.ndarray:
    """SDR of bass and guitar by the best filter, the networks and the ideal mask, (rows, 2)."""
    filtered = np.max([jam.score(low_pass(jam, hz)) for hz in CUTOFFS_HZ[::3]], axis=0)
    return np.array([filtered, *(jam.score(separate(jam)) for separate in (*networks, ideal_ratio_mask))])


def _kept(jam: Jam, networks: Sequence[Separator]) -> list[float]:
    return [kept(jam, separate(jam)) for separate in networks]
