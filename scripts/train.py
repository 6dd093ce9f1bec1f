#!/usr/bin/env python3
"""Make music, train the network of the `compact` backend, look at how good it is, and export it.

    scripts/train.py render OUT --notes DIR --soundfont FILE ... [--phrases DIR] --strings 20 [--without NAME ...]
    scripts/train.py notes OUT --soundfont FILE         (a folder for --notes on machines without fluidsynth)
    scripts/train.py fit RUN --pool DIR ... [--valid DIR] [--drums DIR] --steps 20000 --minutes 70
    scripts/train.py prune WEIGHTS FOLDER --pool DIR    (what it hardly uses; then fit again)
    scripts/train.py evaluate WEIGHTS --songs DIR ...
    scripts/train.py export RUN WEIGHTS [--pool DIR ...] [--songs DIR ...] [--credits FILE]

To teach a finished model on songs of your own there is `gbsep train`. `fit` goes on from RUN/state.safetensors when it
is there; RUN/log.csv is the training curve and RUN/valid.csv the validation curve. `--without` leaves whole instruments
out of what is rendered, so that they can be validated on; `--only` renders nothing but those.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from gbsep.errors import GbsepError


def band(args: argparse.Namespace) -> list:
    from gbsep.train import instruments

    found = [one for folder in args.notes for one in instruments.recorded(folder)]
    found += [one for path in args.soundfont for one in instruments.soundfont(path)]
    found += instruments.plucked_strings(args.seed, args.strings)
    named = set(args.without or args.only or [])
    unknown = named - {one.name for one in found}
    if unknown:
        raise SystemExit(f"no such instruments: {', '.join(sorted(unknown))}")
    return [one for one in found if (one.name in named) == bool(args.only)] if named else found


def notes(args: argparse.Namespace) -> None:
    from gbsep.train import instruments

    instruments.write_notes(args.out, band(args))


def render(args: argparse.Namespace) -> None:
    from gbsep.separation.compact.config import Config
    from gbsep.train import instruments, pool

    players, played = band(args), instruments.phrases(args.phrases) if args.phrases else []
    lacking = set(instruments.RANGES) - {one.role for one in players}
    if lacking:
        raise SystemExit(
            f"no {' and no '.join(sorted(lacking))} among the instruments: give --notes, --soundfont or --strings"
        )
    shards = range(args.shards)
    write = partial(
        pool.write_shard,
        args.out,
        seed=args.seed,
        instruments=players,
        sample_rate=Config().sample_rate,
        phrases=played,
        agile=args.agile,
        plain=args.plain,
        roles=args.roles,
        broken=args.broken,
    )
    # Forked workers share the instruments' memory.
    with ProcessPoolExecutor(args.jobs, get_context("fork"), _keep, (write,)) as workers:
        for path in workers.map(_write_kept, shards):
            print(path, flush=True)


_kept: list = []


def _keep(write) -> None:
    _kept.append(write)


def _write_kept(number: int) -> Path:
    return _kept[0](number)


def loaded(path: Path) -> tuple:
    """(config, weights) of a weight file, for torch."""
    from gbsep.separation.compact import network as compact_network
    from gbsep.separation.compact import weights as compact_weights

    config, weights = compact_weights.load(path)
    return config, compact_network.tensors(weights)


def fit(args: argparse.Namespace) -> None:
    import torch

    from gbsep.separation.compact import network as compact_network
    from gbsep.separation.compact.config import Config, config_from
    from gbsep.train import loop, mixing, objective, pool

    torch.set_num_threads(args.threads)
    args.run.mkdir(parents=True, exist_ok=True)
    smaller, weights = loaded(args.start) if args.start else (Config(), None)
    changes = json.loads(args.config.read_text()) if args.config else {}
    config = config_from({**asdict(smaller), **changes})
    if weights is None:
        weights = compact_network.new_weights(config, args.seed)
    elif changes and set(changes) <= {"lowest_hz", "bins"}:
        weights = compact_network.moved(smaller, weights, config)
    elif changes:
        weights = compact_network.grown(smaller, weights, config, args.seed)
    fixed = None
    if args.second:
        fixed = {name: value for name, value in weights.items() if not name.startswith(compact_network.AGAIN)}
        weights = {name: value for name, value in weights.items() if name not in fixed}
        if not weights:
            raise SystemExit('there is no second pass: give {"passes": 2} as --config')
    rate = config.sample_rate
    loops = pool.load_loops(args.drums, rate) if args.drums else []
    sources = mixing.on_device(pool.load(args.pool, rate, args.shards), loops, rate, args.device)
    held_out = mixing.on_device(pool.load([args.valid], rate), [], rate, args.device) if args.valid else None
    plan = loop.Plan(
        args.steps,
        args.seed,
        args.batch,
        args.excerpt,
        args.rate,
        cooldown=args.cooldown,
        half=False if args.full else None,
    )
    job = objective.compact_job(config, weights, sources, plan, fixed=fixed)
    state = loop.opened(job, args.run / "state.safetensors")
    print(f"{sources.stems.shape[0]} takes; from step {state.step}; {plan}", flush=True)
    begun, errors = time.monotonic(), []
    for step, error_db in loop.run(state, job, plan, args.run / "state.safetensors", args.minutes * 60):
        errors.append(error_db)
        if step % 20 == 0 or step == plan.steps:
            row = {
                "step": step,
                "seconds": round(time.monotonic() - begun, 1),
                "rate": plan.rate(step - 1),
                "error_db": round(float(np.mean(errors)), 3),
            }
            append(args.run / "log.csv", row)
            errors = []
        if held_out is not None and (step % args.valid_every == 0 or step == plan.steps):
            row = {"step": step, **validate(config, {**(fixed or {}), **state.averages}, held_out, args)}
            append(args.run / "valid.csv", row)
            print(row, flush=True)


def validate(config, weights: dict, held_out, args: argparse.Namespace) -> dict[str, float]:
    """Error in dB on held-out instruments, always in the same mixtures."""
    import torch

    from gbsep.train import mixing, objective

    with torch.no_grad():
        mixture, bass = mixing.batch(held_out, 1_000_003, 0, 16, args.excerpt)
        return {"error_db": round(objective.error_db(config, weights, mixture, bass, False).mean().item(), 3)}


def prune(args: argparse.Namespace) -> None:
    from gbsep.separation.compact import weights as compact_weights
    from gbsep.train import mixing, pool, pruning

    config, weights = loaded(args.weights)
    rate = config.sample_rate
    mixture, _ = mixing.batch(mixing.on_device(pool.load(args.pool, rate, 2), [], rate, "cpu"), args.seed, 0, 16, 6.0)
    channels = pruning.kept_channels(config, weights, mixture, args.keep)
    args.out.mkdir(parents=True, exist_ok=True)
    for path in (args.weights, *args.alike):
        smaller = pruning.pruned(config, loaded(path)[1], channels)
        compact_weights.save(args.out / path.name, *smaller)
        print(f"{args.out / path.name}: {sum(value.numel() for value in smaller[1].values())} weights")


def evaluate(args: argparse.Namespace) -> None:
    from gbsep.separation.compact import weights as compact_weights

    for row in song_table(*compact_weights.load(args.weights), args.songs):
        print(f"{row['song']:40} {row['fold']:6}" + "".join(f"  {name} {row[name]:6.2f}" for name in MEASURES))


def song_table(config, weights: dict, songs: list[Path]) -> list[dict]:
    """SDR of every song, stereo as given and folded to mono, what stays in a stem that rests, and all medians."""
    from benchmarks.quality import Jam, compact_bass, rest_db

    def bass(jam: Jam) -> np.ndarray:
        return compact_bass(jam, config, weights)

    rows = []
    for fold in ("stereo", "mono"):
        jams = [Jam.read(song, fold == "mono") for song in songs]
        scores = np.array([[*jam.score(bass(jam)), *rest_db(jam, bass)] for jam in jams])
        for name, score in zip(
            [*(song.name for song in songs), "median"], [*scores, np.median(scores, 0)], strict=True
        ):
            rows.append({"song": name, "fold": fold, **dict(zip(MEASURES, np.round(score, 2).tolist(), strict=True))})
    return rows


def export(args: argparse.Namespace) -> None:
    from gbsep.models import catalogue
    from gbsep.separation.compact import weights as compact_weights
    from gbsep.separation.compact.config import config_from
    from gbsep.store.identity import content_hash
    from gbsep.train import loop

    about, step, averages = loop.averages(args.run / "state.safetensors")
    # Weights with a common past lie close together: their mean beats each (Wortsman et al., "Model soups", 2022).
    alike = [averages, *(loaded(path)[1] for path in args.mean)]
    averages = {name: sum(one[name] for one in alike) / len(alike) for name in averages}
    if args.first:
        averages = {**loaded(args.first)[1], **averages}
    compact_weights.save(args.weights, config_from(about), averages)
    config, weights = compact_weights.load(args.weights)
    before = json.loads(args.before.read_text()) if args.before else {}
    shards = [json.loads(path.read_text()) for folder in args.pool for path in sorted(folder.glob("[0-9]*.json"))]
    curve = list(csv.DictReader((args.run / "log.csv").open()))[-10:]
    card = {
        "name": args.weights.stem,
        "sha256": content_hash(args.weights),
        "licence": catalogue.EMBEDDED.licence,
        "config": asdict(config),
        "seed": args.seed,
        "steps": step + before.get("steps", 0),
        "final_error_db": round(float(np.mean([float(row["error_db"]) for row in curve])), 3),
        "instruments": sorted(
            {name for shard in shards for take in shard["players"] for name in take} | {*before.get("instruments", [])}
        ),
        "pool_seeds": sorted({shard["seed"] for shard in shards} | {*before.get("pool_seeds", [])}),
        "hours_rendered": round(
            sum(len(shard["players"]) for shard in shards) * 16 / 3600 + before.get("hours_rendered", 0.0), 1
        ),
        "credits": args.credits.read_text().splitlines() if args.credits else [],
        "quality": song_table(config, weights, args.songs) if args.songs else [],
    }
    if args.held_out:
        card["held_out"] = {
            "sha256": content_hash(args.held_out),
            "without": args.without or [],
            "unheard": args.unheard or [],
            "quality": song_table(*compact_weights.load(args.held_out), args.songs),
        }
    args.weights.with_suffix(".json").write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n")
    print(f"{args.weights}: step {step}, {args.weights.stat().st_size / 1e6:.2f} MB")


MEASURES = ("bass_sdr_db", "guitar_sdr_db", "bass_rest_db", "guitar_rest_db")
"""Of a song; rest: how far a stem is below the other instrument while its own is muted."""


SONGS = "folders of songs, each with mixture, bass and guitar as FLAC, and its instruments in jam.json"


def append(path: Path, row: dict) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


def main() -> None:
    from gbsep.train.generator import AGILE, PLAIN

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)

    who = argparse.ArgumentParser(add_help=False)
    who.add_argument("out", type=Path)
    who.add_argument("--notes", type=Path, action="append", default=[], help="folder with an index.csv")
    who.add_argument("--soundfont", type=Path, action="append", default=[])
    who.add_argument("--strings", type=int, default=0, help="basses and guitars from the string model, of each")
    who.add_argument("--seed", type=int, default=1)
    which = who.add_mutually_exclusive_group()
    which.add_argument("--without", nargs="*", help="instruments to leave out")
    which.add_argument("--only", nargs="*", help="instruments to leave all others out for")

    one = commands.add_parser("notes", parents=[who], help="write instruments as a folder of notes")
    one.set_defaults(run=notes)

    one = commands.add_parser("render", parents=[who], help="render shards of stems")
    one.add_argument("--phrases", type=Path, help="folder of played guitar phrases, gtr_*.flac")
    one.add_argument("--agile", type=float, default=AGILE, help="how often players leave their register, 0 to 1")
    one.add_argument("--plain", type=float, default=PLAIN, help="how often one of the other songs is a plain one")
    one.add_argument("--roles", action="store_true", help="two guitars, lead and rhythm, in place of a band")
    one.add_argument(
        "--broken", type=float, default=0.0, help="how often both of these play one note at a time, 0 to 1"
    )
    one.add_argument("--shards", type=int, default=24)
    one.add_argument("--jobs", type=int, default=1, help="processes")
    one.set_defaults(run=render)

    one = commands.add_parser("fit", help="train, going on where the run stopped")
    one.add_argument("run_folder", type=Path)
    one.add_argument(
        "--from", dest="start", type=Path, help="weights a new run goes on from, its network may be larger"
    )
    one.add_argument("--config", type=Path, help="JSON of a new run's network, where it is not the usual Config")
    one.add_argument("--pool", type=Path, action="append", required=True, help="folder of shards; may be repeated")
    one.add_argument("--shards", type=int, help="use only the first so many of each pool")
    one.add_argument("--valid", type=Path)
    one.add_argument("--valid-every", type=int, default=200)
    one.add_argument("--drums", type=Path)
    one.add_argument("--steps", type=int, required=True)
    one.add_argument("--minutes", type=float, default=70)
    one.add_argument("--batch", type=int, default=8)
    one.add_argument("--excerpt", type=float, default=5.0, help="seconds")
    one.add_argument("--rate", type=float, default=2e-3)
    one.add_argument("--cooldown", type=int, default=500)
    one.add_argument("--second", action="store_true", help="learn the second pass alone, beside a first that is fixed")
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--threads", type=int, default=2)
    one.add_argument("--device", default="cpu")
    one.add_argument("--full", action="store_true", help="float32 also where bfloat16 is faster")
    one.set_defaults(run=lambda args: fit(argparse.Namespace(**{**vars(args), "run": args.run_folder})))

    one = commands.add_parser("prune", help="leave out the channels that a trained network hardly uses")
    one.add_argument("weights", type=Path)
    one.add_argument("out", type=Path, help="folder for the smaller files")
    one.add_argument("--alike", type=Path, nargs="*", default=[], help="weights that are to lose the same channels")
    one.add_argument("--pool", type=Path, action="append", required=True, help="what it is listened to on")
    one.add_argument("--keep", type=float, default=0.995, help="part of every block's energy that is kept")
    one.add_argument("--seed", type=int, default=0)
    one.set_defaults(run=prune)

    one = commands.add_parser("evaluate", help="SDR on songs with known stems, stereo and folded to mono")
    one.add_argument("weights", type=Path)
    one.add_argument("--songs", type=Path, nargs="+", required=True, help=SONGS)
    one.set_defaults(run=evaluate)

    one = commands.add_parser("export", help="write the averaged weights of a run, and a card beside them")
    one.add_argument("run_folder", type=Path)
    one.add_argument("weights", type=Path)
    one.add_argument("--pool", type=Path, action="append", default=[], help="what it was trained on, for the card")
    one.add_argument("--credits", type=Path, help="text file for the card")
    one.add_argument("--songs", type=Path, nargs="*", help=f"for the card: {SONGS}")
    one.add_argument(
        "--before", type=Path, help="card of the weights that came before: its steps, music and instruments count too"
    )
    one.add_argument("--mean", type=Path, nargs="*", default=[], help="other weights that the mean is taken with")
    one.add_argument("--first", type=Path, help="weights of the first pass, where the run learnt the second alone")
    one.add_argument("--held-out", type=Path, help="weights of a run without some instruments, for the card")
    one.add_argument("--without", nargs="*", help="the instruments that run was without")
    one.add_argument("--unheard", nargs="*", help="those of the songs none of whose instruments it had heard")
    one.add_argument("--seed", type=int, default=0)
    one.set_defaults(run=lambda args: export(argparse.Namespace(**{**vars(args), "run": args.run_folder})))

    args = parser.parse_args()
    try:
        args.run(args)
    except GbsepError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
