#!/usr/bin/env python3
"""Teach the notes' network how notes begin (gbsep/notes/kinds.py), and add that to its weights.

    scripts/train_kinds.py WEIGHTS --notes DIR ... [--strings 12] [--without NAME ...]

Basses of the generator play alone, each way of playing by itself; a logistic regression learns from what is measured
where their notes begin. The same weights, recordings and seed give the same file. It takes minutes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from train_notes import TAKE_S
from train_notes import heard as played_notes

from gbsep.atomic import write_whole
from gbsep.audio import Audio
from gbsep.notes import hear, network
from gbsep.notes.line import KINDS
from gbsep.train import generator, instruments
from gbsep.train.scores import compose
from gbsep.train.styles import BASS_STYLES

SONGS = {
    "legato": 48, "ghosts": 24, "slap": 24, "melody": 20, "run": 14, "fill": 14, "solo": 12, "walk": 10, "riff": 10,
    "roots": 8, "quavers": 8, "octaves": 6,
}  # fmt: skip
"""How many songs of each way of playing."""
UNTOLD = "slid"
"""A kind that is taken for struck: from nowhere it cannot be told."""
PENALTY = 1e-4
NEAR_S = 0.05


def songs(players: list, seed: int) -> Iterator[tuple[np.ndarray, list]]:
    for way, count in SONGS.items():
        for number in range(count):
            rng = np.random.default_rng([seed, list(BASS_STYLES).index(way), number])
            part = compose(rng, TAKE_S, 0, styles=(way,)).parts[0]
            stem = generator.amplify(rng, generator.play(rng, part, players[number % len(players)], TAKE_S), "bass")
            if stem.any():
                yield stem, played_notes(part)


def examples(stem: np.ndarray, played: list, weights: dict) -> Iterator[tuple[str, np.ndarray]]:
    """The kind that was played, and what is measured, of every note that is heard where one begins."""
    measured: list[np.ndarray] = []

    def number(figures: np.ndarray) -> str:
        measured.append(figures)
        return str(len(measured) - 1)

    reader = Audio(stem[np.newaxis], generator.SAMPLE_RATE).reader()
    free = list(hear.hear(reader, anyway=True, weights=weights, tell=number).notes)
    for onset_s, _, _, _, kind in played:
        nearest = min(free, key=lambda note: abs(note.onset_s - onset_s), default=None)
        if nearest is not None and abs(nearest.onset_s - onset_s) < NEAR_S:
            free.remove(nearest)
            yield KINDS[kind], measured[int(nearest.kind)]


def fitted(figures: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from scipy.optimize import minimize

    mean, deviation = figures.mean(axis=0), figures.std(axis=0)
    given = np.concatenate([(figures - mean) / deviation, np.ones((len(figures), 1))], axis=1)
    own = np.eye(len(KINDS))[wanted]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(-1, len(KINDS))
        logits = given @ weights
        logits -= logits.max(axis=1, keepdims=True)
        likely = np.exp(logits)
        likely /= likely.sum(axis=1, keepdims=True)
        missed = -np.log((likely * own).sum(axis=1) + 1e-12).mean() + PENALTY * np.square(weights).sum()
        return missed, (given.T @ (likely - own) / len(given) + 2 * PENALTY * weights).ravel()

    found = minimize(loss, np.zeros(given.shape[1] * len(KINDS)), jac=True, method="L-BFGS-B", options={"maxiter": 500})
    weights = found.x.reshape(-1, len(KINDS))
    slopes = weights[:-1] / deviation[:, np.newaxis]
    return slopes, weights[-1] - mean @ slopes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--notes", type=Path, action="append", required=True, help="folder with an index.csv")
    parser.add_argument("--strings", type=int, default=12, help="basses from the string model")
    parser.add_argument("--without", nargs="*", default=[], help="recorded instruments to leave out")
    parser.add_argument("--seed", type=int, default=11)
    args = parser.parse_args()
    from safetensors.numpy import load_file, save

    arrays = {name: value for name, value in load_file(args.weights).items() if name in network.shapes()}
    players = [one for folder in args.notes for one in instruments.recorded(folder) if one.name not in args.without]
    players += instruments.plucked_strings(args.seed, args.strings)
    players = [one for one in players if one.role == "bass"]
    weights = {name: value.astype(np.float32) for name, value in arrays.items()} | {"gathered": network.gathered()}
    rows = [row for stem, played in songs(players, args.seed) for row in examples(stem, played, weights)]
    wanted = np.array([KINDS.index("plucked" if kind == UNTOLD else kind) for kind, _ in rows])
    slopes, offsets = fitted(np.array([figures for _, figures in rows]), wanted)
    offsets[KINDS.index(UNTOLD)] = -1e4
    arrays |= {"kind.w": slopes.astype(np.float32), "kind.b": offsets.astype(np.float32)}
    write_whole(args.weights, save(arrays))
    print(f"{args.weights}: {len(rows)} notes, {', '.join(f'{np.sum(wanted == n)} {k}' for n, k in enumerate(KINDS))}")


if __name__ == "__main__":
    main()
