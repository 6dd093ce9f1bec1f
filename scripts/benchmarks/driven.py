"""SDR (dB) of the bass where it went through an amp: the real jams, folded to mono, each bass as loud as before.

The songs' basses are high-passed, driven, or both (Pedalboard), then mixed with the guitars again. Beside what is
shipped, which has heard all of these instruments, the held-out weights, which have not (see `quality`). Further weights
may be given, such as those of an earlier training.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pedalboard as pb

from .quality import DATA, HELD_OUT, SHIPPED, Jam, by_weights

AMPS = {
    "as it is": pb.Pedalboard(),
    "60 Hz high-pass": pb.Pedalboard([pb.HighpassFilter(60)]),
    "15 dB drive": pb.Pedalboard([pb.Distortion(15)]),
    "25 dB drive": pb.Pedalboard([pb.Distortion(25)]),
    "both, 25 dB": pb.Pedalboard([pb.HighpassFilter(60), pb.Distortion(25)]),
}


def amplified(jam: Jam, amp: pb.Pedalboard) -> Jam:
    bass = amp(jam.bass, jam.sample_rate)
    bass *= np.sqrt(np.mean(jam.bass**2) / np.mean(bass**2))
    return replace(jam, bass=bass, mixture=bass + jam.guitar)


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path, exists=True), default=DATA, help="Folder that holds jams/.")
@click.option("--weights", type=click.Path(path_type=Path, exists=True), multiple=True, help="Weights beside them.")
def command(data: Path, weights: tuple[Path, ...]) -> None:
    jams = [Jam.read(folder, mono=True) for folder in sorted((data / "jams").glob("0*"))]
    click.echo(f"{'weights, song':36}" + "".join(f"{name:>17}" for name in AMPS))
    for path in (SHIPPED, HELD_OUT, *weights):
        separate = by_weights(path)
        songs = [[amplified(jam, amp) for amp in AMPS.values()] for jam in jams]
        scores = [[song.score(separate(song))[0] for song in row] for row in songs]
        for name, row in zip([*(jam.name for jam in jams), "median"], [*scores, np.median(scores, 0)], strict=True):
            click.echo(f"{path.stem + ', ' + name[:22]:36}" + "".join(f"{score:17.2f}" for score in row))
