"""Two guitars of one: SDR (dB) of guitar1 and guitar2, by places in stereo and by roles in mono, on the jams and on
songs made at random.

Both from the true guitar stem and from the mixture through a separator. References are in either order; the better one
counts, and how often it is left and right as named stands beside it. Songs made at random are played by the instruments
that the held-out weights of `compact` have never heard, the bass in the middle, the guitars level and APART of the
width from each other. By roles guitar1 plays chords and guitar2 a line; beside the SDR stands how far it is above that
of the guitar itself as an estimate. Rhythm guitars that were played twice, left and right, stand around a lead in the
centre. Then songs with one guitar, also in a stereo room or with an echo: how far guitar2 lies below it.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import pedalboard
import soundfile

from gbsep.audio import Audio
from gbsep.models.catalogue import card
from gbsep.separation.backend import separate
from gbsep.separation.guitars.backend import two_guitars
from gbsep.train import generator, instruments, styles
from gbsep.train import scores as train_scores
from gbsep.train.roles import role_takes

from .quality import DATA

HALF_WIDTH_DEG = 45.0
"""From the centre to hard left, as the angle of mid and side."""
APART = (0.2, 0.4, 0.7)
TWICE = ("strum", "barre", "power", "chug", "arpeggio", "held")
"""What rhythm guitars play that play it twice (see `styles.GUITAR_STYLES`)."""
LATE_S, LOUDER = 0.01, 0.08
"""How much two takes of a note differ in time and velocity, as standard deviations."""
HALVES = ("guitar1", "guitar2")


class Song(NamedTuple):
    """Samples (2, frames), float32; the first guitar lies left of the second."""

    name: str
    sample_rate: int
    mixture: np.ndarray
    guitars: tuple[np.ndarray, np.ndarray]


def jams(folder: Path) -> Iterator[Song]:
    """Those in stereo whose guitars do not lie at one place."""
    for jam in sorted(path.parent for path in folder.glob("*/guitar2.*")):
        parts = {path.stem: path for path in jam.iterdir()}
        sound = {name: soundfile.read(parts[name], dtype="float32", always_2d=True) for name in ("mixture", "guitar1")}
        (mixture, rate), (one, _) = sound["mixture"], sound["guitar1"]
        two = soundfile.read(parts["guitar2"], dtype="float32", always_2d=True)[0]
        left, right = sorted((one.T, two.T), key=place, reverse=True)
        if mixture.shape[1] == 2 and place(left) - place(right) > 1:
            yield Song(jam.name, rate, mixture.T, (left, right))


def place(samples: np.ndarray) -> float:
    mid, side = samples[0] + samples[1], samples[0] - samples[1]
    return float(np.degrees(0.5 * np.arctan2(2 * (mid * side).sum(), (mid**2 - side**2).sum())))


def at(samples: np.ndarray, degrees: float) -> np.ndarray:
    """A part at a place, as loud as in the middle."""
    mid, side = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.float32(np.stack([(mid + side) * samples, (mid - side) * samples]))


def made(band: list[instruments.Instrument], seed: int, count: int, seconds: float, apart: float) -> Iterator[Song]:
    takes = (
        take
        for take in generator.takes(seed, band, seconds, revoiced=False, agile=0.0)
        if all(part.any() for part in take.stems)
    )
    for number, take in enumerate(itertools.islice(takes, count)):
        rng = np.random.default_rng([seed, number])
        width = apart * 2 * HALF_WIDTH_DEG
        middle = rng.uniform(-HALF_WIDTH_DEG + width / 2, HALF_WIDTH_DEG - width / 2)
        level = [part / np.sqrt(np.mean(part**2)) for part in take.stems]
        left, right = at(level[1], middle + width / 2), at(level[2], middle - width / 2)
        bass = 1.4 * at(level[0], 0.0)
        scale = np.float32(0.5 / np.abs(bass + left + right).max())
        yield Song("", instruments.SAMPLE_RATE, scale * (bass + left + right), (scale * left, scale * right))


def made_doubled(band: list[instruments.Instrument], seed: int, count: int, seconds: float) -> Iterator[Song]:
    """Chords played twice, 50 to 100 % left and right, a line of their level in the centre, and a bass."""
    guitars, basses = ([one for one in band if one.role == role] for role in ("guitar", "bass"))
    made = 0
    for number in itertools.count():
        rng = np.random.default_rng([seed, number])
        song = train_scores.compose(rng, seconds, 2, "plain", ["roots", str(rng.choice(TWICE)), "lead"])
        players = [generator.choose(rng, basses), *(generator.choose(rng, guitars) for _ in range(2))]
        parts = [(0, song.parts[0]), (1, again(rng, song.parts[1])), (1, again(rng, song.parts[1])), (2, song.parts[2])]
        dry = [generator.play(rng, part, players[who], seconds, revoiced=False) for who, part in parts]
        heard = [generator.amplify(rng, part, players[who].role) for part, (who, _) in zip(dry, parts, strict=True)]
        if not all(part.any() for part in heard):
            continue
        bass, one, two, lead = (part / np.sqrt(np.mean(part**2)) for part in heard)
        width = HALF_WIDTH_DEG * rng.uniform(0.5, 1.0)
        rhythm, centre = at(0.7 * one, width) + at(0.7 * two, -width), at(lead, 0.0)
        mixture = rhythm + centre + 1.4 * at(bass, 0.0)
        scale = np.float32(0.5 / np.abs(mixture).max())
        yield Song("", instruments.SAMPLE_RATE, scale * mixture, (scale * rhythm, scale * centre))
        made += 1
        if made == count:
            return


def again(rng: np.random.Generator, part: tuple[styles.Note, ...]) -> list[styles.Note]:
    """A part as it is played another time."""
    return [
        replace(
            note,
            start_s=max(0.0, note.start_s + rng.normal(0, LATE_S)),
            velocity=float(np.clip(note.velocity + rng.normal(0, LOUDER), 0.1, 1.0)),
        )
        for note in part
    ]


def wide(song: Song, number: int) -> Song:
    """One guitar in the centre, in a stereo room, with a chorus or with echoes that change sides."""
    dry = np.float32(np.repeat(song.guitars[number % 2].mean(axis=0, keepdims=True), 2, axis=0))
    late = round(0.3 * song.sample_rate)
    echo = np.stack([np.pad(dry[side], (late * (1 + side), 0))[: dry.shape[1]] for side in (0, 1)])
    room = pedalboard.Reverb(room_size=0.6, wet_level=0.3, dry_level=0.7, width=1.0)
    both = [
        pedalboard.Pedalboard([room])(dry, song.sample_rate),
        pedalboard.Pedalboard([pedalboard.Chorus(), room])(dry, song.sample_rate),
        np.float32(dry + 0.5 * echo),
    ][number % 3]
    return song._replace(mixture=both, guitars=(both, np.zeros_like(both)))


def in_mono(folder: Path) -> Iterator[Song]:
    """The jams folded to mono: the first guitar plays chords, the second a line."""
    for jam in sorted(path.parent for path in folder.glob("*/guitar2.*")):
        parts = {path.stem: path for path in jam.iterdir()}
        sounds = [soundfile.read(parts[name], dtype="float32", always_2d=True) for name in ("mixture", *HALVES)]
        mixture, one, two = (sound.T.mean(axis=0, keepdims=True) for sound, _ in sounds)
        yield Song(jam.name, sounds[0][1], mixture, (one, two))


def made_roles(band: list[instruments.Instrument], seed: int, count: int, seconds: float) -> Iterator[Song]:
    """Chords and a line of the same level, beside a bass of another song."""
    basses = (take.stems[:1] for take in generator.takes(seed, band, seconds, revoiced=False) if take.stems[0].any())
    pairs = (take for take in role_takes(seed, band, seconds) if all(part.any() for part in take.stems))
    for take, bass in itertools.islice(zip(pairs, basses, strict=False), count):
        line, chords = (part[np.newaxis] / np.sqrt(np.mean(part**2)) for part in take.stems)
        bass = 1.4 * bass / np.sqrt(np.mean(bass**2))
        scale = np.float32(0.5 / np.abs(bass + line + chords).max())
        yield Song("", instruments.SAMPLE_RATE, scale * (bass + line + chords), (scale * chords, scale * line))


def sdr(reference: np.ndarray, estimate: np.ndarray) -> float:
    return float(10 * np.log10((reference**2).sum() / (((reference - estimate) ** 2).sum() + 1e-12)))


def scores(song: Song, guitar: np.ndarray, how: str = "places") -> tuple[float, float, bool]:
    """SDR of both, the better order, and whether that is the named one."""
    one, two = two_guitars(Audio(guitar, song.sample_rate).reader(), how=how)
    as_named = [sdr(reference, estimate) for reference, estimate in zip(song.guitars, (one, two), strict=True)]
    swapped = [sdr(reference, estimate) for reference, estimate in zip(song.guitars, (two, one), strict=True)]
    better = max(as_named, swapped, key=sum)
    return better[0], better[1], better is as_named


def separated(song: Song, backend: str, settings: dict[str, object]) -> np.ndarray:
    stems = separate(Audio(song.mixture, song.sample_rate), backend, wanted=["guitar"], **settings).stems
    return stems["guitar"].samples


def silenced(song: Song, other: np.ndarray, how: str, backend: str, settings: dict[str, object]) -> float:
    """How far guitar2 lies from the guitar in dB where one of the guitars does not play."""
    guitar = separated(song._replace(mixture=song.mixture - other), backend, settings)
    _, two = two_guitars(Audio(guitar, song.sample_rate).reader(), how=how)
    return float(10 * np.log10(((two**2).sum() + 1e-12) / (guitar**2).sum()))


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path, exists=True), default=DATA, help="Folder of jams/ and notes/.")
@click.option("--songs", "count", default=8, show_default=True, help="Songs at random, for each distance.")
@click.option("--seconds", default=20.0, show_default=True, help="Of a song at random.")
@click.option("--seed", default=7, show_default=True)
@click.option("--backend", default="compact", show_default=True)
@click.option("--settings", default="{}", show_default=True, help="Of the backend, as JSON.")
def command(data: Path, count: int, seconds: float, seed: int, backend: str, settings: str) -> None:
    chosen = json.loads(settings)
    unheard = card()["held_out"]["without"]
    band = [one for one in instruments.recorded(data / "notes") if one.name in unheard]
    click.echo(f"{'guitar1 / guitar2, dB':28}{'from the true guitar':>24}{'from the mixture':>24}{'in order':>10}")
    groups: list[tuple[str, list[Song]]] = [(song.name[:24], [song]) for song in jams(data / "jams")]
    groups += [(f"{count} songs, {apart:.0%} apart", list(made(band, seed, count, seconds, apart))) for apart in APART]
    groups.append((f"{count} songs, twice and lead", list(made_doubled(band, seed, count, seconds))))
    for name, songs in groups:
        true = [scores(song, song.guitars[0] + song.guitars[1]) for song in songs]
        heard = [scores(song, separated(song, backend, chosen)) for song in songs]
        cells = "".join(f"{np.median(t, axis=0)[0]:15.1f} /{np.median(t, axis=0)[1]:7.1f}" for t in (true, heard))
        click.echo(f"{name:28}{cells}{sum(row[2] for row in heard):7} of {len(songs)}")
    click.echo(f"{'chords / line in mono, dB':28}{'from the true guitar':>24}{'from the mixture':>24}{'above it':>14}")
    groups = [(song.name[:24], [song]) for song in in_mono(data / "jams")]
    groups.append((f"{count} songs", list(made_roles(band, seed, count, seconds))))
    for name, songs in groups:
        guitars = [song.guitars[0] + song.guitars[1] for song in songs]
        before = [[sdr(part, guitar) for part in song.guitars] for song, guitar in zip(songs, guitars, strict=True)]
        true = [scores(song, guitar, "roles") for song, guitar in zip(songs, guitars, strict=True)]
        heard = [scores(song, separated(song, backend, chosen), "roles") for song in songs]
        above = np.median(np.array([row[:2] for row in true]) - before, axis=0)
        cells = "".join(f"{np.median(t, axis=0)[0]:15.1f} /{np.median(t, axis=0)[1]:7.1f}" for t in (true, heard))
        named = f"{sum(row[2] for row in true):4} of {len(songs)} named right"
        click.echo(f"{name:28}{cells}{above[0]:7.1f} /{above[1]:5.1f}{named}")
    stereo = [song for apart in APART for song in made(band, seed + 1, count, seconds, apart)]
    down = [silenced(song, song.guitars[1], "places", backend, chosen) for song in stereo]
    mono = list(made_roles(band, seed + 1, count, seconds))
    down += [silenced(song, part, "roles", backend, chosen) for song in mono for part in song.guitars]
    in_rooms = (wide(song, number) for number, song in enumerate(mono))
    down += [silenced(song, song.guitars[1], "places", backend, chosen) for song in in_rooms]
    below = sum(level <= -25 for level in down)
    click.echo(
        f"one guitar: guitar2 is 25 dB or more below it in {below} of {len(down)} songs, {max(down):.1f} dB at worst"
    )
