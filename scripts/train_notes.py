#!/usr/bin/env python3
"""Make music whose notes are known, teach the network of `gbsep notes` to hear them, and export it.

    scripts/train_notes.py render POOL --notes DIR ... --strings 40 [--without NAME ...] [--only NAME ...]
    scripts/train_notes.py fit RUN --pool POOL ... [--drums DIR] --steps 4000 --minutes 30
    scripts/train_notes.py export RUN WEIGHTS

`render` writes the generator's songs as shards: the bass, the guitars together, and, for `--separated` of the takes,
the bass as the embedded backend separates it, with the notes that are played. `fit` goes on where it stopped;
RUN/log.csv is the training curve.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from itertools import islice
from pathlib import Path

import numpy as np

from gbsep.atomic import replacing

TAKES_PER_SHARD = 32
TAKE_S = 16.0
ONSET_OF_SLUR_S = 0.02
"""A slurred pitch counts from here after its way there began."""
DEAD_MUTE = 0.95
KINDS = "plucked", "slurred", "slid", "dead"


def heard(part) -> list[tuple[float, float, float, float, int]]:
    """(onset_s, end_s, midi, velocity, number in KINDS) of what a part plays, slurred pitches by themselves."""
    made = []
    for note in part:
        end_s = note.start_s + note.duration_s
        if note.mute:
            end_s = min(end_s, note.start_s + 0.04 + 3.0 / (14 * note.mute))
        kind = 3 if note.mute >= DEAD_MUTE and note.snap else 2 if note.slide_from else 0
        pitch, begun_s = note.pitch, note.start_s
        for after_s, up in note.then:
            if abs(note.pitch + up - pitch) < 0.7:
                continue
            turn_s = note.start_s + after_s + ONSET_OF_SLUR_S
            if turn_s < end_s - 0.03:
                made.append((begun_s, turn_s, pitch, note.velocity, kind))
                pitch, begun_s, kind = note.pitch + up, turn_s, 1
        made.append((begun_s, end_s, pitch, note.velocity, kind))
    return sorted(made)


def separated(mixture: np.ndarray, sample_rate: int, config, weights) -> np.ndarray:
    from gbsep.audio import Audio, join
    from gbsep.separation.compact import backend

    reader = Audio(mixture[np.newaxis].astype(np.float32), sample_rate).reader()
    return join(block["bass"] for block in backend.separate(reader, config, weights))[0]


def render(args: argparse.Namespace) -> None:
    from gbsep.notes.features import SAMPLE_RATE
    from gbsep.separation.compact import weights as compact_weights
    from gbsep.train import generator, instruments, pool

    found = [one for folder in args.notes for one in instruments.recorded(folder)]
    found += list(instruments.plucked_strings(args.seed, args.strings))
    named = set(args.without or args.only or [])
    players = [one for one in found if (one.name in named) == bool(args.only) or one.kind == "string"]
    config, weights = compact_weights.load(args.weights)
    args.out.mkdir(parents=True, exist_ok=True)
    for number in range(args.shards):
        path = args.out / f"{number:04d}.npz"
        if path.exists():
            continue
        takes = generator.takes(args.seed * 100_003 + number, players, TAKE_S, plain=0.5, agile=0.35)
        made = list(islice((take for take in takes if take.stems[0].any()), args.takes))
        rng = np.random.default_rng([args.seed, number])
        rows = []
        for take in made:
            guitars = take.stems[1:].sum(axis=0) * 10 ** (rng.uniform(-6, 5) / 20)
            if rng.random() < args.separated:
                mixture = take.stems[0] + guitars
                scale = 0.5 / max(float(np.abs(mixture).max()), 1e-6)
                bass = separated(scale * mixture, generator.SAMPLE_RATE, config, weights) / scale
            else:
                bass = np.zeros_like(guitars)
            rows.append(pool.as_int16(np.stack([take.stems[0], guitars / 4, bass]), generator.SAMPLE_RATE, SAMPLE_RATE))
        notes = [(which, *note) for which, take in enumerate(made) for note in heard(take.parts[0])]
        with replacing(path) as hidden, hidden.open("wb") as file:
            np.savez(file, stems=np.stack(rows), notes=np.array(notes, np.float32))
        about = {"seed": args.seed, "number": number, "players": [take.players for take in made]}
        path.with_suffix(".json").write_text(json.dumps(about))
        print(path, flush=True)


# Training


def load(folders: list[Path]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Stems int16 (takes, 3, frames): bass, guitars / 4, bass as separated or silence; and the notes of each take."""
    stems, notes = [], []
    for folder in folders:
        for path in sorted(folder.glob("*.npz")):
            shard = np.load(path)
            stems.append(shard["stems"])
            notes += [shard["notes"][shard["notes"][:, 0] == which, 1:] for which in range(len(shard["stems"]))]
    return np.concatenate(stems), notes


def coloured(rng: np.random.Generator, wave: np.ndarray) -> np.ndarray:
    """Another tone: a smooth equaliser, now and then without its low or its high end."""
    from gbsep.notes.features import SAMPLE_RATE

    bins = np.fft.rfft(wave)
    hz = np.maximum(np.fft.rfftfreq(len(wave), 1 / SAMPLE_RATE), 1.0)
    gain_db = np.interp(np.log2(hz), np.linspace(np.log2(30), np.log2(SAMPLE_RATE / 2), 7), rng.normal(0, 4, 7))
    if rng.random() < 0.35:
        gain_db -= 10 * np.log10(1 + (10 ** rng.uniform(1.5, 2.3) / hz) ** (2 * rng.integers(1, 4)))
    if rng.random() < 0.5:
        gain_db -= 10 * np.log10(1 + (hz / 10 ** rng.uniform(2.5, 3.6)) ** (2 * rng.integers(1, 6)))
    return np.fft.irfft(bins * 10 ** (gain_db / 20), len(wave)).astype(np.float32)


def masked(rng: np.random.Generator, bass: np.ndarray, other: np.ndarray) -> np.ndarray:
    """What a mask that is not quite right leaves of the bass beside the others."""
    from scipy import ndimage, signal

    _, _, one = signal.stft(bass, nperseg=1024, noverlap=768)
    _, _, two = signal.stft(other, nperseg=1024, noverlap=768)
    size = int(rng.integers(1, 4)), int(rng.integers(1, 5))
    first, second = (ndimage.uniform_filter(abs(part) ** 2, size) for part in (one, two))
    wrong = ndimage.gaussian_filter(rng.normal(0, 1, one.shape), (4, 6)) * rng.uniform(0, 100)
    mask = first / (first + second * 10 ** ((wrong + rng.uniform(-12, 6)) / 10) + 1e-12)
    _, made = signal.istft((one + two) * mask, nperseg=1024, noverlap=768)
    return made[: len(bass)].astype(np.float32)


def rms(wave: np.ndarray) -> float:
    """That of what sounds: of the half-seconds within 30 dB of the loudest."""
    hop = 5512
    power = np.square(wave[: len(wave) - len(wave) % hop], dtype=np.float64).reshape(-1, hop).mean(axis=1)
    return float(np.sqrt(power[power >= power.max() * 1e-3].mean())) if power.max() > 0 else 0.0


def slack(rng: np.random.Generator, notes: np.ndarray, start: int, samples: int, speed: float) -> np.ndarray:
    """Speeds at which slack strings sound: sharp where they are struck, the lower the more, and settling."""
    from gbsep.notes.features import SAMPLE_RATE

    up = np.zeros(samples, np.float32)
    if rng.random() < 0.6:
        most, steady = rng.uniform(0, (1.0, 0.6)) * (rng.random(2) < 0.7)
        settles_s = rng.uniform(0.06, 0.5)
        for onset_s, _, midi, velocity, _ in notes:
            first = max(0, int((onset_s * SAMPLE_RATE - start) / speed))
            if first < samples:
                low = np.clip((43 - midi) / 12, 0.1, 1) * (0.3 + 0.7 * velocity) * rng.uniform(0.5, 1)
                time_s = np.arange(samples - first) / SAMPLE_RATE
                up[first:] = low * (most * np.exp(-time_s / settles_s) + 0.5 * steady)
    return 2 ** (up / 12)


def excerpt(rng: np.random.Generator, stems: np.ndarray, notes: list, drums: list, frames: int):
    """(wave with its margins, rows of notes in frames), as a stem may sound."""
    from gbsep.notes.features import FRAMES_PER_S, HOP_LENGTH, LEVEL, MARGIN, SAMPLE_RATE

    samples = (frames - 1) * HOP_LENGTH + 2 * MARGIN
    up = float(rng.integers(-8, 5)) if rng.random() < 0.7 else 0.0
    speed = 2 ** ((up + rng.normal(0, 0.1)) / 12)
    wanted = int(samples * speed * 1.02) + 2
    take = int(rng.integers(len(stems)))
    start = int(rng.integers(stems.shape[-1] - wanted + 1))
    bass, guitars, separated = stems[take, :, start : start + wanted].astype(np.float32) / 32767
    guitars = guitars * 4
    loops = drums[int(rng.integers(len(drums)))] if drums else np.zeros(wanted)
    drum = np.take(loops, np.arange(wanted) + int(rng.integers(len(loops))), mode="wrap").astype(np.float32)
    drum = drum if rng.random() < 0.25 else np.zeros(wanted, np.float32)
    place = np.cumsum(speed * slack(rng, notes[take], start, samples, speed))
    place *= min(1.0, (wanted - 2) / place[-1])

    def moved(wave: np.ndarray) -> np.ndarray:
        return np.interp(place, np.arange(wanted), wave).astype(np.float32)

    bass, guitars, separated = moved(bass), moved(guitars), moved(separated)
    drum = drum[:samples] if len(drum) >= samples else np.resize(drum, samples)
    what = rng.random()
    bass = coloured(rng, bass)
    if what < 0.04 and drums:  # drums alone, as loud as a bass would be
        rows = np.zeros((0, 5), np.float32)
        loop = np.take(loops, np.arange(wanted) + int(rng.integers(len(loops))), mode="wrap").astype(np.float32)
        wave = coloured(rng, moved(loop))
        wave = wave * np.float32(LEVEL / max(rms(wave), 1e-3) * 10 ** (rng.uniform(-14, 6) / 20))
    elif what < 0.09:
        rows = np.zeros((0, 5), np.float32)
        wave = [guitars, drum * 0.5, np.zeros(samples, np.float32)][int(rng.integers(3))] * 10 ** (
            rng.uniform(-40, -10) / 20
        )
    else:
        rows = notes[take].copy()
        rows[:, :2] = np.interp(rows[:, :2] * SAMPLE_RATE - start, place, np.arange(samples), -1e6, 1e6)
        rows[:, :2] = (rows[:, :2] - MARGIN) / HOP_LENGTH
        rows[:, 2] += up
        if what < 0.35:
            wave = masked(rng, bass, coloured(rng, guitars) + 0.5 * drum)
        elif what < 0.6 and separated.any():
            wave = separated + drum * 10 ** (rng.uniform(-40, -12) / 20)
        else:
            wave = bass + guitars * 10 ** (rng.uniform(-50, -14) / 20) * (rng.random() < 0.5)
            wave = wave + drum * 10 ** (rng.uniform(-40, -8) / 20)
        if what > 0.95:  # the bass pauses
            first = int(rng.integers(frames))
            last = first + int(rng.uniform(0.5, 3) * FRAMES_PER_S)
            fade = np.ones(samples, np.float32)
            fade[MARGIN + first * HOP_LENGTH : MARGIN + last * HOP_LENGTH] = 0.01
            wave = wave * fade
            rows = rows[(rows[:, 0] < first - 2) | (rows[:, 0] > last)]
            rows[:, 1] = np.where(rows[:, 0] < first, np.minimum(rows[:, 1], first), rows[:, 1])
        wave = wave * np.float32(LEVEL / max(rms(wave), 1e-3) * 10 ** (rng.uniform(-14, 6) / 20))
    if rng.random() < 0.5:
        wave = wave + rng.standard_normal(samples).astype(np.float32) * np.float32(10 ** (rng.uniform(-90, -45) / 20))
    return wave.astype(np.float32), rows


def batch(seed: int, step: int, size: int, frames: int, stems: np.ndarray, notes: list, drums: list):
    """Spectra float32 (size, frames, ...), wanted onsets, frames and kinds without the context."""
    from gbsep.notes import features, network

    rng = np.random.default_rng([seed, step])
    inner = frames - 2 * network.CONTEXT
    heard_of, onsets, sounding = [], np.zeros((size, inner, network.PITCHES), np.float32), None
    sounding, kinds = np.zeros_like(onsets), np.full((size, inner), -1)
    at = np.arange(inner)
    for number in range(size):
        wave, rows = excerpt(rng, stems, notes, drums, frames)
        heard_of.append(features.spectra(wave))
        for onset, end, midi, _, kind in rows:
            pitch, onset, end = round(midi) - network.FIRST_MIDI, onset - network.CONTEXT, end - network.CONTEXT
            if not 0 <= pitch < network.PITCHES or end < 0 or onset > inner:
                continue
            onsets[number, :, pitch] = np.maximum(onsets[number, :, pitch], np.clip(1.25 - abs(at - onset) / 2, 0, 1))
            sounding[number, :, pitch] = np.maximum(sounding[number, :, pitch], (at >= onset - 0.5) & (at < end))
            if 0 <= round(onset) < inner:
                kinds[number, max(0, round(onset) - 1) : round(onset) + 2] = int(kind)
    return np.stack(heard_of), onsets, sounding, kinds


def make_batches(waiting, step: int, args: argparse.Namespace, stems, notes, drums) -> None:
    """In a process beside the one that trains."""
    os.setsid()
    for number in range(step, args.steps):
        waiting.put(batch(args.seed, number, args.batch, args.frames, stems, notes, drums))


def fit(args: argparse.Namespace) -> None:
    from multiprocessing import get_context

    import torch

    from gbsep.notes import network
    from gbsep.train.objective import computes_in_bfloat16
    from gbsep.train.pool import load_loops

    torch.set_num_threads(args.threads)
    args.run_folder.mkdir(parents=True, exist_ok=True)
    stems, notes = load(args.pool)
    from gbsep.notes.features import SAMPLE_RATE

    drums = (
        [loop.astype(np.float32) / 32767 for loop in load_loops(args.drums, SAMPLE_RATE)[: args.loops]]
        if args.drums
        else []
    )
    state_path = args.run_folder / "state.pt"
    rng = np.random.default_rng(args.seed)
    weights = {
        name: torch.from_numpy(first_weights(rng, name, shape)).requires_grad_()
        for name, shape in network.shapes().items()
    }
    optimizer = torch.optim.AdamW(weights.values(), lr=args.rate, betas=(0.9, 0.98), weight_decay=1e-3)
    averages = {name: value.detach().clone() for name, value in weights.items()}
    step = 0
    if state_path.exists() or args.start:
        state = torch.load(state_path if state_path.exists() else args.start)
        step = state["step"] if state_path.exists() else 0
        with torch.no_grad():
            for name, value in weights.items():
                value.copy_(state["weights" if state_path.exists() else "averages"][name])
        averages = state["averages"]
        if state_path.exists():
            optimizer.load_state_dict(state["optimizer"])
    gathered = torch.from_numpy(network.gathered())
    context = get_context("fork")
    waiting = context.Queue(4)
    maker = context.Process(target=make_batches, args=(waiting, step, args, stems, notes, drums), daemon=True)
    maker.start()
    dtype = torch.bfloat16 if computes_in_bfloat16("cpu") else torch.float32
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    begun, losses = time.monotonic(), []
    while step < args.steps and time.monotonic() - begun < args.minutes * 60:
        rate = args.rate * min(1, (step + 1) / 50) * max(0.02, min(1, (args.steps - step) / args.cooldown))
        for group in optimizer.param_groups:
            group["lr"] = rate
        spectra, onsets, sounding, kinds = map(torch.from_numpy, waiting.get())
        halved = {name: value.to(dtype) for name, value in weights.items()}
        made = network.logits({**halved, "gathered": gathered}, spectra.to(dtype), torch)
        made = [one.float() for one in made]
        begins = bce(made[0], onsets, reduction="none").sum(-1).mean()
        sounds = bce(made[1], sounding, reduction="none").sum(-1).mean()
        kind = torch.nn.functional.cross_entropy(made[2].reshape(-1, len(KINDS)), kinds.reshape(-1), ignore_index=-1)
        loss = 2 * begins + sounds + 0.05 * kind
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(weights.values()), 1.0)
        optimizer.step()
        step += 1
        with torch.no_grad():
            decay = min(0.995, (step + 1) / (step + 10))
            for name, value in weights.items():
                averages[name].lerp_(value, 1 - decay)
        losses.append([begins.item(), sounds.item(), kind.item()])
        if step % 20 == 0:
            values = np.mean(losses, 0)
            row = dict(zip(("onsets", "frames", "kinds"), np.round(values, 4).tolist(), strict=True))
            append(
                args.run_folder / "log.csv",
                {"step": step, "seconds": round(time.monotonic() - begun), "rate": rate, **row},
            )
            losses = []
        if step % 100 == 0 or step == args.steps:
            keep = {"step": step, "weights": weights, "averages": averages, "optimizer": optimizer.state_dict()}
            with replacing(state_path) as hidden:
                torch.save(keep, hidden)


def first_weights(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name == "out.b":
        return np.full(shape, -4.0, np.float32)
    if name.endswith(".b"):
        return np.zeros(shape, np.float32)
    scale = np.sqrt(2 / np.prod(shape[:-1])) * (0.3 if name.startswith(("time", "out", "own")) else 1.0)
    return rng.normal(0, scale, shape).astype(np.float32)


def append(path: Path, row: dict) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


def export(args: argparse.Namespace) -> None:
    import torch
    from safetensors.numpy import save_file

    state = torch.load(args.run_folder / "state.pt")
    arrays = {name: value.numpy().astype(np.float16) for name, value in state["averages"].items()}
    save_file(arrays, args.weights)
    print(f"{args.weights}: step {state['step']}, {args.weights.stat().st_size / 1e6:.2f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("render", help="render shards of takes with their notes")
    one.add_argument("out", type=Path)
    one.add_argument("--notes", type=Path, action="append", default=[], help="folder with an index.csv")
    one.add_argument("--strings", type=int, default=40, help="basses and guitars from the string model, of each")
    one.add_argument("--without", nargs="*", help="recorded instruments to leave out")
    one.add_argument("--only", nargs="*", help="recorded instruments to leave all others out for")
    one.add_argument("--weights", type=Path, required=True, help="of the embedded backend, which separates")
    one.add_argument("--separated", type=float, default=0.3, help="part of the takes that are separated too")
    one.add_argument("--takes", type=int, default=TAKES_PER_SHARD, help="of a shard")
    one.add_argument("--shards", type=int, default=20)
    one.add_argument("--seed", type=int, default=1)
    one.set_defaults(run=render)

    one = commands.add_parser("fit", help="train, going on where the run stopped")
    one.add_argument("run_folder", type=Path)
    one.add_argument("--from", dest="start", type=Path, help="state.pt of another run to begin with")
    one.add_argument("--pool", type=Path, action="append", required=True, help="folder of shards; may be repeated")
    one.add_argument("--drums", type=Path, help="folder of drum loops")
    one.add_argument("--loops", type=int, help="use only the first so many of them")
    one.add_argument("--steps", type=int, required=True)
    one.add_argument("--minutes", type=float, default=70)
    one.add_argument("--batch", type=int, default=8)
    one.add_argument("--frames", type=int, default=580, help="of an excerpt, context and all")
    one.add_argument("--rate", type=float, default=3e-3)
    one.add_argument("--cooldown", type=int, default=800)
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--threads", type=int, default=1)
    one.set_defaults(run=fit)

    one = commands.add_parser("export", help="write the averaged weights of a run")
    one.add_argument("run_folder", type=Path)
    one.add_argument("weights", type=Path)
    one.set_defaults(run=export)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
