"""Pools: rendered stems on disk, in shards of a fixed number of takes.

A shard is `NNNN.npy`, int16 (takes, stems, frames) at the network's sample rate with the bass first, and `NNNN.json`:
how it was made and who plays. Shard n depends on the seed, n and the instruments alone, so a pool may grow.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from ..atomic import replacing, write_whole
from ..audio import Audio
from ..errors import AudioFileError
from ..io.probe import probe
from ..io.read import open_reader, read
from ..io.resample import resample, resample_blocks
from ..schema import Lenient, Text, validated
from ..separation.compact.config import Config
from ..separation.compact.spectra import spectrum
from ..separation.compact.tuning import tuning_cents
from ..store import smallfiles
from .generator import AGILE, GUITARS, PLAIN, takes
from .instruments import SAMPLE_RATE, Instrument
from .roles import role_takes

TAKES_PER_SHARD = 64
TAKE_S = 16.0
FULL_SCALE = 32767.0


@dataclass(frozen=True, eq=False)
class Pool:
    """`stems` int16 (takes, stems, frames), the bass first; `players` one tuple of names for each take."""

    stems: np.ndarray
    players: tuple[tuple[str, ...], ...]


class _About(Lenient):
    """How a shard was made, as far as it is read again."""

    sample_rate: int
    players: Annotated[tuple[Annotated[tuple[Text, ...], Field(strict=False)], ...], Field(strict=False)]


def write_shard(
    folder: Path,
    number: int,
    seed: int,
    instruments: Sequence[Instrument],
    sample_rate: int,
    phrases: Sequence[np.ndarray] = (),
    agile: float = AGILE,
    plain: float = PLAIN,
    roles: bool = False,
    broken: float = 0.0,
) -> Path:
    """Render one shard at `sample_rate`; what is already there is kept.

    `agile` and `plain` are shares of songs, as for `generator.takes`. With `roles` it is two guitars, lead and rhythm;
    `broken` is a share of these songs, as for `roles.role_takes`.
    """
    path = folder / f"{number:04d}.npy"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    own = seed * 100_003 + number
    usual = partial(takes, phrases=phrases, agile=agile, plain=plain)
    music = (partial(role_takes, broken=broken) if roles else usual)(own, instruments, TAKE_S)
    made = list(islice(music, TAKES_PER_SHARD))
    stems = np.stack([as_int16(take.stems, SAMPLE_RATE, sample_rate) for take in made])
    about = {"seed": seed, "number": number, "sample_rate": sample_rate, "players": [take.players for take in made]}
    write_whole(path.with_suffix(".json"), json.dumps(about))
    with replacing(path) as hidden, hidden.open("wb") as file:
        np.save(file, stems)
    return path


def as_int16(stems: np.ndarray, sample_rate: int, wanted: int) -> np.ndarray:
    """Each of `stems` (stems, frames) resampled from `sample_rate` to `wanted`, as int16."""
    rows = [resample(Audio(stem, sample_rate).reader(), wanted).read().samples[0] for stem in stems]
    codes: np.ndarray = np.round(np.clip(np.stack(rows), -1, 1) * FULL_SCALE).astype(np.int16)
    return codes


def load(folders: Sequence[Path], sample_rate: int, shards: int | None = None) -> Pool:
    """All takes of some pools, or of the first `shards` of each. Raises AudioFileError when there are none."""
    stems: list[np.ndarray] = []
    players: list[tuple[str, ...]] = []
    for folder in folders:
        paths = sorted(path for path in folder.glob("[0-9]*.npy") if path.stem.isdigit())[:shards]
        if not paths:
            raise AudioFileError(folder, "no rendered stems here; make some with scripts/train.py render")
        for path in paths:
            beside = path.with_suffix(".json")
            about = validated(beside, _About, smallfiles.read_json(beside))
            if about.sample_rate != sample_rate:
                raise AudioFileError(path, f"rendered at {about.sample_rate} Hz, the network works at {sample_rate} Hz")
            stems.append(_shard(path, len(about.players)))
            players += about.players
    if len({shard.shape[1:] for shard in stems}) > 1:
        raise AudioFileError(folders[0], "its shards and those beside it are not of one shape: render them again")
    return Pool(np.concatenate(stems), tuple(players))


def _shard(path: Path, count: int) -> np.ndarray:
    try:
        with smallfiles.open_regular(path) as file:
            stems = np.load(file)
    except Exception as error:  # numpy has no kind of its own for what is damaged
        raise AudioFileError(path, f"is no shard of stems: {' '.join(str(error).split())}; render it again") from None
    if not isinstance(stems, np.ndarray) or stems.dtype != np.int16 or stems.ndim != 3 or len(stems) != count:
        raise AudioFileError(path, f"does not hold int16 stems of the {count} takes that it should; render it again")
    return stems


def from_songs(folder: Path, config: Config) -> Pool:
    """A pool of finished songs to fine-tune on: a folder each, with `bass.*`, and `guitar.*` or parts `guitar<N>.*`.

    Channels are folded to one, songs are brought to A = 440 Hz and cut into takes; after its end a song begins again
    to fill the last one. Raises AudioFileError as `song_stems` does, and for a song that is silent.
    """
    sample_rate = config.sample_rate
    takes_of, players = [], []
    for bass_path, guitar_paths in song_stems(folder):
        bass = _mono(bass_path, sample_rate)
        guitars = [_mono(path, sample_rate) for path in guitar_paths]
        stems = np.zeros((1 + GUITARS, len(bass)), np.float32)
        stems[0] = bass
        for guitar in guitars:
            stems[1, : len(guitar)] += guitar[: len(bass)]
        if not stems.any():
            raise AudioFileError(bass_path.parent, "its stems are silent: there is nothing to learn; leave it out")
        stems = _in_tune(stems, config)
        stems *= 0.99 / max(0.99, float(np.abs(stems).max()))
        frames, count = round(TAKE_S * sample_rate), -(-stems.shape[1] // round(TAKE_S * sample_rate))
        stems = np.take(stems, np.arange(count * frames) % stems.shape[1], axis=1)
        takes_of.append(np.round(stems * FULL_SCALE).astype(np.int16).reshape(-1, count, frames).swapaxes(0, 1))
        players += [(bass_path.parent.name,)] * count
    return Pool(np.concatenate(takes_of), tuple(players))


def song_stems(folder: Path) -> list[tuple[Path, list[Path]]]:
    """The bass and the guitars of every song in `folder`.

    Raises AudioFileError when there is no song, a stem lacks or is no audio, or those of a song are not equally long.
    """
    if not folder.is_dir():
        raise AudioFileError(folder, "no such folder")
    found = []
    for song in sorted(path for path in folder.iterdir() if path.is_dir()):
        bass, whole = sorted(song.glob("bass.*")), sorted(song.glob("guitar.*"))
        guitars = whole or sorted(song.glob("guitar[0-9]*.*"))
        if len(bass) != 1 or len(whole) > 1:
            raise AudioFileError(song, f"{len(bass)} files are named bass.*, {len(whole)} guitar.*; one is wanted")
        if not guitars:
            raise AudioFileError(song, "no guitar.* and no guitar<N>.* here")
        infos = {path: probe(path) for path in (bass[0], *guitars)}
        if len({info.seconds for info in infos.values()}) > 1:
            each = (f"{path.name} {info.frames} frames at {info.sample_rate} Hz" for path, info in infos.items())
            raise AudioFileError(song, f"the stems are not equally long: {', '.join(each)}; pad or trim them")
        found.append((bass[0], guitars))
    if not found:
        instead = f"; this is one itself, so give {folder.parent}" if list(folder.glob("bass.*")) else ""
        raise AudioFileError(folder, f"no songs here: a folder for each, with bass.* and guitar.* in it{instead}")
    return found


def _mono(path: Path, sample_rate: int) -> np.ndarray:
    mono: np.ndarray = resample(open_reader(path), sample_rate).read().samples.mean(axis=0)
    return mono


def _in_tune(stems: np.ndarray, config: Config) -> np.ndarray:
    """Stems (stems, frames) of a song played faster or slower, so that it is tuned as the network's semitones are."""
    cents = tuning_cents([spectrum(config, stems.sum(axis=0, keepdims=True))], config)
    wanted = config.sample_rate * 2 ** (cents / 1200)
    frames = round(stems.shape[1] * wanted / config.sample_rate)
    return np.concatenate([*resample_blocks([stems], config.sample_rate, wanted, len(stems), frames)], axis=1)


def load_loops(folder: Path, sample_rate: int) -> list[np.ndarray]:
    """Every audio file of `folder` folded to mono, int16 (frames,), its RMS 0.1."""
    loops = []
    for path in sorted(folder.glob("*.flac")) + sorted(folder.glob("*.wav")):
        loop = read(path)
        mono = loop.samples.mean(axis=0, keepdims=True)
        mono = mono * (0.1 / max(float(np.sqrt(np.mean(mono**2))), 1e-6))
        loops.append(as_int16(mono, loop.sample_rate, sample_rate)[0])
    return loops
