"""SDR (dB) on songs of nothing but instruments that the held-out weights of `compact` have never heard, trio by trio.

Every trio of one bass and two guitars among them plays the generator's songs (scores, sizes, amps and rooms at random,
harmonics as recorded), each its own, bass and guitars equally loud, folded to mono and panned by level at random. As in
training, one guitar may play both parts, and now and then a guitar an octave down the bass's.
None of them is one of the generator's agile songs (see `gbsep.train.scores`) and none a plain one, unless `--plain`
says so.
Beside it the cut-off of a Butterworth filter (order 4, zero phase) that is best for each song, and the ideal ratio
mask. Medians over a trio's songs, and quartiles over all: scores differ by more than instruments. Medians by how much
of the bass's power is low end, too: amps at random leave some basses little of it.

Then, for passages in which one instrument is muted: how many of its stems are far enough below the other instrument.
Further weights may be given, such as those of another training without these instruments.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import numpy as np

from gbsep.models.catalogue import card
from gbsep.train import generator, instruments

from .quality import (
    CUTOFFS_HZ,
    DATA,
    HELD_OUT,
    PASSAGES_S,
    Jam,
    Separator,
    by_weights,
    ideal_ratio_mask,
    low_pass,
    rest_db,
)

REST_DB = -25.0
LOW_END_HZ = 170.0
LOW_ENDS = (0.0, 0.2, 0.4, 1.0)
"""Between each two of them is a class of songs, by the part of the bass's power that lies below LOW_END_HZ."""
LEAST_S = max(stop_s for _, stop_s in PASSAGES_S.values())


def songs(
    band: Sequence[instruments.Instrument], seed: int, count: int, seconds: float, mono: bool, plain: float = 0.0
) -> Iterator[Jam]:
    """Songs in which both sides play, float32 (channels, frames)."""
    names = tuple(sorted({one.name for one in band}))
    with_both = (
        take
        for take in generator.takes(seed, band, seconds, revoiced=False, plain=plain, agile=0.0)
        if take.stems[0].any() and take.stems[1:].any()
    )
    for number, take in enumerate(itertools.islice(with_both, count)):
        yield mixed(take.stems, np.random.default_rng([seed, number]), mono, ", ".join(names), names)


def mixed(stems: np.ndarray, rng: np.random.Generator, mono: bool, name: str, names: tuple[str, ...]) -> Jam:
    """`stems` (parts, frames), the bass first, as a song: bass and guitars equally loud, each part at its place."""
    angles = np.full(len(stems), np.pi / 4) if mono else rng.uniform(0.1, np.pi / 2 - 0.1, len(stems))
    gains = np.stack([np.cos(angles), np.sin(angles)])[: 1 if mono else 2]
    placed = stems[:, np.newaxis] * gains.T[:, :, np.newaxis]
    bass, guitar = (part / (np.sqrt(np.mean(part**2)) or 1.0) for part in (placed[0], placed[1:].sum(axis=0)))
    scale = 0.5 / np.abs(bass + guitar).max()
    bass, guitar = (np.float32(scale * part) for part in (bass, guitar))
    return Jam(name, instruments.SAMPLE_RATE, bass + guitar, bass, guitar, names)


def low_end(jam: Jam) -> float:
    """The part of the bass's power that lies below LOW_END_HZ."""
    power = np.square(np.abs(np.fft.rfft(jam.bass))).sum(axis=0)
    return float(power[: int(LOW_END_HZ * jam.bass.shape[1] / jam.sample_rate)].sum() / power.sum())


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path, exists=True), default=DATA, help="Folder that holds notes/.")
@click.option("--songs", "count", default=4, show_default=True, help="Songs of every trio.")
@click.option("--seconds", type=click.FloatRange(min=LEAST_S), default=30.0, show_default=True, help="Of a song.")
@click.option("--seed", default=77, show_default=True)
@click.option("--plain", type=click.FloatRange(0, 1), default=0.0, show_default=True, help="Part of plain songs.")
@click.option("--weights", type=click.Path(path_type=Path, exists=True), multiple=True, help="Weights beside them.")
def command(data: Path, count: int, seconds: float, seed: int, plain: float, weights: tuple[Path, ...]) -> None:
    unheard = card()["held_out"]["without"]
    players = [one for one in instruments.recorded(data / "notes") if one.name in unheard]
    basses, guitars = (sorted({one.name for one in players if one.role == role}) for role in ("bass", "guitar"))
    named = [("compact, held out", HELD_OUT), *((path.stem, path) for path in weights)]
    labels = [label for label, _ in named]
    networks: list[Separator] = [by_weights(path) for _, path in named]
    trios = [(bass, *pair) for bass, pair in itertools.product(basses, itertools.combinations(guitars, 2))]
    for title, mono in (("mono", True), ("stereo", False)):
        columns = "".join(f"{label:>20}" for label in ("cut-off, best", *labels, "ideal ratio mask"))
        click.echo(f"\n{title + ', bass / guitar':36}{columns}")
        scores: list[np.ndarray] = []
        lows: list[float] = []
        rests: list[list[tuple[float, float]]] = []
        for number, trio in enumerate(trios):
            band = [one for one in players if one.name in trio]
            jams = list(songs(band, seed + number, count, seconds, mono, plain))
            filtered = [np.max([jam.score(low_pass(jam, hz)) for hz in CUTOFFS_HZ[::3]], axis=0) for jam in jams]
            separated = [[jam.score(of(jam)) for jam in jams] for of in (*networks, ideal_ratio_mask)]
            scores.append(np.array([filtered, *separated]))
            lows += map(low_end, jams)
            with np.errstate(divide="ignore", invalid="ignore"):  # where the other one rests too
                rests += [[rest_db(jam, separate) for separate in networks] for jam in jams]
            show(" + ".join(trio), scores[-1])
        whole = np.concatenate(scores, axis=1)
        for part in (0.25, 0.5, 0.75):
            show(f"all, {part:.0%} are below", whole, part)
        for least, most in itertools.pairwise(LOW_ENDS):
            chosen = [least <= low < most for low in lows]
            if any(chosen):
                show(f"low end {least:.0%} to {most:.0%}, songs: {sum(chosen)}", whole[:, chosen])
        for label, found in zip(labels, np.moveaxis(np.array(rests), 1, 0), strict=True):
            for name, rest in zip(("bass", "guitar"), found.T, strict=True):
                heard = rest[np.isfinite(rest)]
                enough = f"{np.mean(heard <= REST_DB):.0%} of {len(heard)} at {REST_DB:g} dB or below"
                click.echo(f"{label}, muted {name}: {enough}")


def show(label: str, scores: np.ndarray, part: float = 0.5) -> None:
    """One line: quantiles over songs, `scores` of shape (rows, songs, 2)."""
    cells = np.quantile(scores, part, axis=1)
    click.echo(f"{label:36}" + "".join(f"{bass:12.2f} /{guitar:6.2f}" for bass, guitar in cells))
