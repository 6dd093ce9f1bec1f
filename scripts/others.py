"""How well drums are told from guitars and bass alone: `python scripts/others.py QUIET... --drums LOOP...`

QUIET are recordings of guitars and bass, LOOP are drum loops. Printed is how often a second high noise begins in each,
and in each QUIET with each LOOP at 0, -6 and -12 dB; false alarms and misses are counted at the end.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import gbsep
from gbsep.audio import Audio
from gbsep.measure.others import DRUMS_PER_S, noises_per_s

SECONDS = 30


def excerpt(path: Path) -> Audio:
    audio = gbsep.read(path)
    return Audio(audio.samples[:, : SECONDS * audio.sample_rate], audio.sample_rate)


def with_drums(song: Audio, loop: Audio, level_db: float) -> Audio:
    drums = np.tile(loop.samples.mean(0), song.samples.shape[1] // loop.samples.shape[1] + 1)[: song.samples.shape[1]]
    gain = np.sqrt(np.mean(song.samples**2) / np.mean(drums**2)) * 10 ** (level_db / 20)
    return Audio((song.samples + gain * drums).astype(np.float32), song.sample_rate)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("quiet", nargs="+", type=Path)
    parser.add_argument("--drums", nargs="*", type=Path, default=[])
    given = parser.parse_args()
    songs, loops = [excerpt(path) for path in given.quiet], [excerpt(path) for path in given.drums]
    alone = [noises_per_s(song.reader()) for song in songs]
    for path, figure in zip(given.quiet, alone, strict=True):
        print(f"{figure:5.2f}  {path.parent.name}/{path.name}")
    mixed = [
        noises_per_s(with_drums(song, loop, level_db).reader())
        for song in songs
        for loop in loops
        for level_db in (0.0, -6.0, -12.0)
    ]
    print(f"false alarms: {sum(figure >= DRUMS_PER_S for figure in alone)} of {len(alone)}, at most {max(alone):.2f}")
    if mixed:
        missed = sum(figure < DRUMS_PER_S for figure in mixed)
        print(f"missed: {missed} of {len(mixed)}, at least {min(mixed):.2f}")


if __name__ == "__main__":
    main()
