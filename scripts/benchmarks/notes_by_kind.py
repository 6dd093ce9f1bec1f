"""Notes of generated songs: how well they are told, each kind of them, and what is told of their guitars.

The generator knows every note that it plays: slurs, slides, dead notes, chords, slaps. It plays the basses and guitars
of DATA/notes, on which the held-out network has not been taught. F1 is that of `bench.py notes`. A kind is right where
a note of that kind begins within 50 ms, whatever its pitch. Guitars of the same songs are given as a bass, with and
without `anyway`, to see what is invented and, of the basses, what is left out that should not be. Then basses play
alone, each way of playing by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import click
import numpy as np
from train_notes import TAKE_S
from train_notes import heard as played_notes

from gbsep.audio import Audio
from gbsep.notes import hear
from gbsep.notes.compare import ONSET_S, NoteScore, compare
from gbsep.notes.line import KINDS, Line, Note
from gbsep.notes.register import GUITAR_LOWEST, LEAST_PART
from gbsep.train import generator, instruments
from gbsep.train.generator import Take
from gbsep.train.scores import compose
from gbsep.train.styles import BASS_STYLES

from .notes import HELD_OUT_NOTES
from .quality import DATA

Listener = Callable[[np.ndarray, bool], Line]

TAUGHT = ("upright_ergo",)
"""Instruments of DATA/notes that the held-out network was taught on."""


def truth(take: Take) -> Line:
    rows = played_notes(take.parts[0])
    notes = [Note(begin, end, round(midi), kind=KINDS[kind]) for begin, end, midi, _, kind in rows]
    return Line(tuple(notes), TAKE_S)


def songs(data: Path, seed: int, count: int) -> Iterator[Take]:
    players = [one for one in instruments.recorded(data / "notes") if one.name not in TAUGHT]
    takes = generator.takes(seed, players, TAKE_S, plain=0.5, agile=0.35)
    return islice((take for take in takes if take.stems[0].any()), count)


def alone(data: Path, seed: int, way: str, count: int) -> Iterator[Take]:
    """Basses that keep to one way of playing."""
    players = [one for one in instruments.recorded(data / "notes") if one.role == "bass" and one.name not in TAUGHT]
    for number in range(count):
        rng = np.random.default_rng([seed, list(BASS_STYLES).index(way), number])
        song = compose(rng, TAKE_S, 0, styles=(way,))
        player = players[number % len(players)]
        stem = generator.amplify(rng, generator.play(rng, song.parts[0], player, TAKE_S), "bass")
        if stem.any():
            yield Take(stem[np.newaxis], (player.name,), tuple(song.parts))


def counts(kind: str, true: Line, told: Line) -> np.ndarray:
    """Of one kind: true notes, told ones, and those that are both."""
    from mir_eval.util import match_events

    at = [np.array([note.onset_s for note in line.notes if note.kind == kind]) for line in (true, told)]
    both = len(match_events(*at, ONSET_S)) if all(map(len, at)) else 0
    return np.array([len(at[0]), len(at[1]), both])


def show_scores(label: str, scores: Sequence[NoteScore]) -> None:
    if scores:
        f1 = np.array([score.f1 for score in scores])
        wrong = f"a tenth below {np.quantile(f1, 0.1):.2f}"
        click.echo(f"{label:28}{len(f1):4} songs  F1 median {np.median(f1):.2f}, mean {f1.mean():.2f}, {wrong}")


def show_kinds(kinds: dict[str, np.ndarray]) -> None:
    click.echo(f"\n{'kind':12}{'true':>7}{'told':>7}{'precision':>11}{'recall':>8}")
    for kind, (true_ones, told_ones, both) in kinds.items():
        rates = both / max(1, told_ones), both / max(1, true_ones)
        click.echo(f"{kind:12}{true_ones:7}{told_ones:7}{rates[0]:11.2f}{rates[1]:8.2f}")


def measure_ways(listen: Listener, data: Path, seed: int, count: int) -> None:
    kinds = {kind: np.zeros(3, int) for kind in KINDS}
    for way in BASS_STYLES:
        scores = []
        for take in alone(data, seed, way, count):
            true, told = truth(take), listen(take.stems[0], True)
            scores.append(compare(true, told))
            for kind, row in kinds.items():
                row += counts(kind, true, told)
        show_scores(way, scores)
    show_kinds(kinds)


def measure_songs(listen: Listener, takes: Iterator[Take]) -> None:
    scores: list[NoteScore] = []
    by_bass: dict[str, list[NoteScore]] = {}
    kinds = {kind: np.zeros(3, int) for kind in KINDS}
    guitars: dict[bool, list[float]] = {True: [], False: []}
    lost, low = 0, 0
    for take in takes:
        true, told = truth(take), listen(take.stems[0], True)
        scores.append(compare(true, told))
        by_bass.setdefault(take.players[0], []).append(scores[-1])
        for kind, row in kinds.items():
            row += counts(kind, true, told)
        is_low = np.mean([note.midi < GUITAR_LOWEST for note in true.notes]) > LEAST_PART
        low += is_low
        lost += is_low and bool(listen(take.stems[0], False).left_out)
        for guitar, part in zip(take.stems[1:], take.parts[1:], strict=True):
            if guitar.any() and min((note.pitch for note in part), default=0) >= GUITAR_LOWEST:
                for anyway, told_of in guitars.items():
                    told_of.append(len(listen(guitar, anyway).notes) * 60 / TAKE_S)
    show_scores("all", scores)
    for name, group in sorted(by_bass.items()):
        show_scores(name, group)
    show_kinds(kinds)
    click.echo(f"\nbasses with notes below E2, taken for guitars and left out: {lost} of {low}")
    for anyway, told_of in guitars.items():
        how = "as a bass, with anyway" if anyway else "as a bass"
        some = sum(one > 0 for one in told_of)
        click.echo(
            f"guitars from E2 up, {how:24}{np.mean(told_of):6.1f} notes a minute, {some} of {len(told_of)} with any"
        )


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path, exists=True), default=DATA, help="Folder that holds notes/.")
@click.option("--songs", "count", default=97, show_default=True, help="Of 16 seconds.")
@click.option("--each", default=8, show_default=True, help="Basses alone, of each way of playing.")
@click.option("--seed", default=77, show_default=True, help="Of the songs.")
@click.option("--weights", type=click.Path(path_type=Path, exists=True), default=HELD_OUT_NOTES, help="Of the network.")
def command(data: Path, count: int, each: int, seed: int, weights: Path) -> None:
    network = hear.load(weights)

    def listen(samples: np.ndarray, anyway: bool) -> Line:
        return hear.hear(Audio(samples[np.newaxis], generator.SAMPLE_RATE).reader(), anyway=anyway, weights=network)

    click.echo("Songs\n")
    measure_songs(listen, songs(data, seed, count))
    click.echo("\nBasses alone, by how they are played\n")
    measure_ways(listen, data, seed, each)
