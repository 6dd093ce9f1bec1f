#!/usr/bin/env python3
"""Make music, train the network of the `compact` backend, look at how good it is, and export it.

    scripts/train.py render OUT --notes DIR --soundfont FILE ... [--phrases DIR] --strings 20 [--without NAME ...]
    scripts/train.py notes OUT --soundfont FILE         (a folder for --notes on machines without fluidsynth)
    scripts/train.py fit RUN --pool DIR ... [--valid DIR] [--drums DIR] --steps 20000 --minutes 70
    scripts/train.py fit RUN --stems DIR --from WEIGHTS --rate 2e-4 --steps 500
    scripts/train.py demucs CHECKPOINT TARGET --stems DIR --steps 500
    scripts/train.py evaluate WEIGHTS --songs DIR ...
    scripts/train.py export RUN WEIGHTS [--pool DIR ...] [--songs DIR ...] [--credits FILE]

`fit` goes on from RUN/state.safetensors when it is there; RUN/log.csv is the training curve and RUN/valid.csv the
validation curve. `--without` leaves whole instruments out of what is rendered, so that they can be validated on;
`--only` renders nothing but those.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np


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
    from gbsep.separation.harmonic_net import Config
    from gbsep.train import instruments, pool

    players, played = band(args), instruments.phrases(args.phrases) if args.phrases else []
    shards = range(args.shards)
    write = partial(
        pool.write_shard,
        args.out,
        seed=args.seed,
        instruments=players,
        sample_rate=Config().sample_rate,
        phrases=played,
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


def fit(args: argparse.Namespace) -> None:
    import torch

    from gbsep.separation import compact
    from gbsep.separation.harmonic_net import Config, config_from
    from gbsep.train import loop, mixing, pool

    torch.set_num_threads(args.threads)
    args.run.mkdir(parents=True, exist_ok=True)
    path = args.run / "state.safetensors"
    if path.exists():
        state = loop.resume(path, args.device)
    else:
        shape = {**asdict(Config()), **(json.loads(args.config.read_text()) if args.config else {})}
        config, weights = compact.load(args.start, args.device) if args.start else (config_from(shape), None)
        state = loop.begin(config, args.seed, args.device, weights)
    rate = state.config.sample_rate
    loops = pool.load_loops(args.drums, rate) if args.drums else []
    music = pool.from_songs(args.stems, rate) if args.stems else pool.load(args.pool, rate, args.shards)
    sources = mixing.on_device(music, loops, rate, args.device)
    held_out = mixing.on_device(pool.load([args.valid], rate), [], rate, args.device) if args.valid else None
    plan = loop.Plan(
        args.steps, args.seed, args.batch, args.excerpt, args.rate, cooldown=args.cooldown, half=not args.full
    )
    print(f"{sources.stems.shape[0]} takes; from step {state.step}; {plan}", flush=True)
    begun = saved = time.monotonic()
    errors: list[float] = []
    for step, error_db in loop.train(state, sources, plan):
        errors.append(error_db)
        now = time.monotonic()
        last = step == plan.steps or now - begun > args.minutes * 60
        if step % 20 == 0 or last:
            row = {
                "step": step,
                "seconds": round(now - begun, 1),
                "rate": plan.rate(step - 1),
                "error_db": round(float(np.mean(errors)), 3),
            }
            append(args.run / "log.csv", row)
            errors = []
        if held_out is not None and (step % args.valid_every == 0 or last):
            row = {"step": step, **validate(state, held_out, args)}
            append(args.run / "valid.csv", row)
            print(row, flush=True)
        if last or now - saved > 120:
            loop.save(state, path)
            saved = now
        if last:
            break


def demucs(args: argparse.Namespace) -> None:
    from gbsep.train import finetune, loop

    plan = loop.Plan(args.steps, args.seed, args.batch, args.excerpt, args.rate, cooldown=args.steps // 4)
    for step, loss in finetune.finetune_demucs(args.checkpoint, args.stems, args.target, plan, args.device):
        print(f"{step:6} {loss:.5f}", flush=True)


def validate(state, held_out, args: argparse.Namespace) -> dict[str, float]:
    """Error in dB of the averaged weights on held-out instruments, always in the same mixtures, and SDR on songs."""
    import torch

    from gbsep.train import loop, mixing

    with torch.no_grad():
        mixture, bass = mixing.batch(held_out, 1_000_003, 0, 16, args.excerpt)
        found = {"error_db": round(loop.error_db(state.config, state.averages, mixture, bass, False).mean().item(), 3)}
        for song in args.songs or []:
            for mono in (False, True):
                scores = song_sdr_db(state.config, state.averages, song, mono)
                name = f"{song.name[:2]}_{'mono' if mono else 'stereo'}"
                found |= {f"{name}_{stem}": round(value, 2) for stem, value in scores.items()}
    return found


def song_sdr_db(config, weights: dict, song: Path, mono: bool) -> dict[str, float]:
    """SDR in dB of both stems of a song folder (bass.flac, guitar.flac), through the backend."""
    from gbsep import files
    from gbsep.audio import Audio
    from gbsep.separation import compact

    bass, guitar = files.read(song / "bass.flac"), files.read(song / "guitar.flac")
    fold = (lambda x: x.mean(axis=0, keepdims=True)) if mono else (lambda x: x)
    truth = {"bass": fold(bass.samples), "guitar": fold(guitar.samples)}
    mixture = Audio(truth["bass"] + truth["guitar"], bass.sample_rate)
    made = {name: [] for name in truth}
    for stems in compact.separate(mixture.reader(), config, weights):
        for name in made:
            made[name].append(stems[name])
    error = {name: np.concatenate(made[name], axis=1) - truth[name] for name in truth}
    return {name: float(10 * np.log10(np.sum(truth[name] ** 2) / np.sum(error[name] ** 2))) for name in truth}


def evaluate(args: argparse.Namespace) -> None:
    from gbsep.separation import compact

    config, weights = compact.load(args.weights)
    for row in song_table(config, weights, args.songs):
        print(f"{row['song']:40} {row['fold']:6}  bass {row['bass_sdr_db']:6.2f}  guitar {row['guitar_sdr_db']:6.2f}")


def song_table(config, weights: dict, songs: list[Path]) -> list[dict]:
    """SDR of every song, stereo as given and folded to mono, and the medians of both."""
    rows = []
    for fold in ("stereo", "mono"):
        scores = [song_sdr_db(config, weights, song, fold == "mono") for song in songs]
        scores.append({stem: float(np.median([score[stem] for score in scores])) for stem in ("bass", "guitar")})
        for name, score in zip([*(song.name for song in songs), "median"], scores, strict=True):
            rows.append({"song": name, "fold": fold, **{f"{stem}_sdr_db": round(v, 2) for stem, v in score.items()}})
    return rows


def export(args: argparse.Namespace) -> None:
    from gbsep.separation import compact
    from gbsep.train import loop

    state = loop.resume(args.run / "state.safetensors", "cpu")
    compact.save(args.weights, state.config, state.averages)
    config, weights = compact.load(args.weights)
    shards = [json.loads(path.read_text()) for folder in args.pool for path in sorted(folder.glob("[0-9]*.json"))]
    curve = list(csv.DictReader((args.run / "log.csv").open()))
    card = {
        "name": args.weights.stem,
        "sha256": hashlib.sha256(args.weights.read_bytes()).hexdigest(),
        "licence": "that of gbsep; trained on CC0 recordings and MIT soundfonts alone: what you make with it is yours",
        "config": asdict(config),
        "seed": args.seed,
        "steps": state.step,
        "final_error_db": float(curve[-1]["error_db"]),
        "instruments": sorted({name for shard in shards for take in shard["players"] for name in take}),
        "hours_rendered": round(sum(len(shard["players"]) for shard in shards) * 16 / 3600, 1),
        "credits": args.credits.read_text().splitlines() if args.credits else [],
        "unheard": args.unheard or [],
        "quality": song_table(config, weights, args.songs or []) if args.songs else [],
    }
    args.weights.with_suffix(".json").write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n")
    print(f"{args.weights}: step {state.step}, {args.weights.stat().st_size / 1e6:.2f} MB")


def append(path: Path, row: dict) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


def main() -> None:
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
    one.add_argument("--shards", type=int, default=24)
    one.add_argument("--jobs", type=int, default=1, help="processes")
    one.set_defaults(run=render)

    one = commands.add_parser("fit", help="train, going on where the run stopped")
    one.add_argument("run_folder", type=Path)
    begin = one.add_mutually_exclusive_group()
    begin.add_argument("--from", dest="start", type=Path, help="weights that a new run goes on from")
    begin.add_argument("--config", type=Path, help="JSON of a new run's network, where it is not the usual Config")
    music = one.add_mutually_exclusive_group(required=True)
    music.add_argument("--pool", type=Path, action="append", help="folder of rendered shards; may be repeated")
    music.add_argument("--stems", type=Path, help="folder of songs, each with bass.* and guitar.*")
    one.add_argument("--shards", type=int, help="use only the first so many of each pool")
    one.add_argument("--valid", type=Path)
    one.add_argument("--valid-every", type=int, default=200)
    one.add_argument("--songs", type=Path, nargs="*")
    one.add_argument("--drums", type=Path)
    one.add_argument("--steps", type=int, required=True)
    one.add_argument("--minutes", type=float, default=70)
    one.add_argument("--batch", type=int, default=8)
    one.add_argument("--excerpt", type=float, default=5.0, help="seconds")
    one.add_argument("--rate", type=float, default=2e-3)
    one.add_argument("--cooldown", type=int, default=500)
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--threads", type=int, default=2)
    one.add_argument("--device", default="cpu")
    one.add_argument("--full", action="store_true", help="float32 instead of bfloat16")
    one.set_defaults(run=lambda args: fit(argparse.Namespace(**{**vars(args), "run": args.run_folder})))

    one = commands.add_parser("demucs", help="fine-tune a Demucs checkpoint on songs")
    one.add_argument("checkpoint", type=Path, help="a network's .safetensors or .th file")
    one.add_argument("target", type=Path, help="the .safetensors file to write, which must not be there yet")
    one.add_argument("--stems", type=Path, required=True, help="folder of songs, each with bass.* and guitar.*")
    one.add_argument("--steps", type=int, required=True)
    one.add_argument("--batch", type=int, default=2)
    one.add_argument("--excerpt", type=float, default=7.8, help="seconds")
    one.add_argument("--rate", type=float, default=1e-4)
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--device", default="cpu")
    one.set_defaults(run=demucs)

    one = commands.add_parser("evaluate", help="SDR on songs with known stems, stereo and folded to mono")
    one.add_argument("weights", type=Path)
    one.add_argument("--songs", type=Path, nargs="+", required=True)
    one.set_defaults(run=evaluate)

    one = commands.add_parser("export", help="write the averaged weights of a run, and a card beside them")
    one.add_argument("run_folder", type=Path)
    one.add_argument("weights", type=Path)
    one.add_argument("--pool", type=Path, action="append", default=[], help="what it was trained on, for the card")
    one.add_argument("--credits", type=Path, help="text file for the card")
    one.add_argument("--songs", type=Path, nargs="*", help="songs with known stems, for the card")
    one.add_argument("--unheard", nargs="*", help="those of the songs whose instruments were not in training")
    one.add_argument("--seed", type=int, default=0)
    one.set_defaults(run=lambda args: export(argparse.Namespace(**{**vars(args), "run": args.run_folder})))

    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
