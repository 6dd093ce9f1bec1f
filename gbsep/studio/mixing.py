"""A mix as the faders stand: one file, in the folder of a render with a render.json, slower or higher if wanted.

Conventions: a fader is in dB, a pan from -1 to 1 turns the other side down (cos), so that the middle changes nothing.
The page's mixer does the same sums. The mix is a render of its own, `<take>@mix_<what was turned>`, whose record is
that of the take with one stem, `mix`, and under `overrides` what was turned, with the chains that are no preset yet.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from pydantic import Field

from ..audio import Block
from ..effects.chain import dump_chain
from ..errors import ParameterError
from ..io.formats import BitDepth, Container, OutputFormat, largest_sample, may_clip
from ..io.spool import Spool
from ..io.tags import marked
from ..io.write import check_output, open_writer
from ..measure.levels import Levels, Meter, as_json, shared_gain, to_amplitude
from ..schema import StrictModel
from ..shelf import folder as shelf
from ..shelf import record
from ..store.identity import json_hash
from . import stretch
from .library import Song, Take
from .sound import Sound

BLOCK_FRAMES = 2**17


class Strip(StrictModel):
    """A strip of the mixer: which sound, and where its fader and its pan stand."""

    track: str = Field(max_length=100)
    voice: str = Field("-", max_length=16)
    gain_db: float = Field(0.0, ge=-120, le=24)
    pan: float = Field(0.0, ge=-1, le=1)


class Mix(StrictModel):
    """What is to be mixed: strips that are heard, at which speed and pitch, into which format."""

    take: str = Field(max_length=300)
    strips: list[Strip] = Field(min_length=1, max_length=40)
    speed: float = Field(1.0, ge=stretch.SPEEDS[0], le=stretch.SPEEDS[1])
    semitones: float = Field(0.0, ge=-stretch.SEMITONES, le=stretch.SEMITONES)
    format: Container = "wav"
    bit_depth: BitDepth | None = None
    start_s: float = Field(0.0, ge=0)
    end_s: float | None = Field(None, ge=0)


def mix_down(sound: Sound, song: Song, take: Take, mix: Mix, tell: Callable[[float], None]) -> dict[str, Any]:
    """Write the mix; the name of its render and its file. Raises GbsepError, and what `tell` raises."""
    output = OutputFormat(mix.format, mix.bit_depth)
    rate, total = song.info.sample_rate, take.record.excerpt.frames
    check_output(output, rate, 2)
    setting = stretch.Setting(mix.speed, mix.semitones)
    first = min(total, round(mix.start_s * rate))
    last = min(total, round((mix.end_s if mix.end_s is not None else total / rate) * rate))
    if last - first < rate // 10:
        raise ParameterError("end_s", mix.end_s, "a tenth of a second after start_s, or later", "s")
    live = [one for one in mix.strips if one.voice not in ("-", "dry")]
    chains = {one.track: dump_chain(sound.chains.nodes(one.voice)) for one in live}
    folder = take.folder.with_name(f"{take.name}@{label_of(mix)}")
    file = f"mix.{output.suffix.removeprefix('.')}"
    frames = setting.length(last - first)
    shelf.recover(folder)
    shelf.check_place(folder, 3 * 8 * frames)
    with shelf.staging(folder) as place:
        meter, done = Meter(rate, 2), 0
        with Spool(["mix"], rate, 2, place) as spool:
            for block in _blocks(sound, song, take, mix, setting, first, last):
                meter.add(block)
                spool.write({"mix": block})
                done += block.shape[1]
                tell(0.99 * done / frames)
            levels = meter.levels()
            lower_db = shared_gain([levels.peak_dbfs], largest_sample(output)) if may_clip(output) else 0.0
            tags = marked(dict(take.record.recording.tags))
            with open_writer(place / file, output, rate, 2, frames, tags) as writer:
                for block in spool.reader("mix").blocks():
                    writer.write(block * np.float32(to_amplitude(lower_db)))
        content = _content(take, mix, chains, file, levels, lower_db)
        shelf.publish(place, folder, content, overwrite=True)
    return {"take": folder.name, "file": file, "lower_db": lower_db}


def label_of(mix: Mix) -> str:
    """What tells a mix from others of its take: `mix_bass-12dB_70%`."""
    words = [f"{one.track}{one.gain_db:+.3g}dB" for one in mix.strips if one.gain_db]
    if mix.speed != 1:
        words.append(f"{100 * mix.speed:g}%")
    if mix.semitones:
        words.append(f"{mix.semitones:+g}st")
    if mix.start_s or mix.end_s is not None:
        words.append(f"{mix.start_s:.1f}s-{'end' if mix.end_s is None else f'{mix.end_s:.1f}s'}")
    mark = json_hash(mix.model_dump(exclude={"format", "bit_depth"}), sort_keys=True)[:6]
    plain = re.sub(r"[^\w .+%=-]", "", "_".join(words))[:60]
    return f"mix_{plain}{'_' if plain else ''}{mark}"


def _blocks(
    sound: Sound, song: Song, take: Take, mix: Mix, setting: stretch.Setting, first: int, last: int
) -> Iterator[Block]:
    def read(start: int, frames: int) -> Block:
        made = np.zeros((2, frames), np.float64)
        for strip in mix.strips:
            block = sound.read(song, take, strip.track, strip.voice, first + start, frames)
            made += np.broadcast_to(block, (2, frames)) * _gains(strip)
        return made.astype(np.float32)

    length = setting.length(last - first)
    for start in range(0, length, BLOCK_FRAMES):
        frames = min(BLOCK_FRAMES, length - start)
        if setting.plain:
            yield read(start, frames)
        else:
            yield stretch.stretched(read, last - first, song.info.sample_rate, setting, start, frames, None)


def _gains(strip: Strip) -> np.ndarray:
    """The amplitudes of left and right, (2, 1)."""
    left = math.cos(max(0.0, strip.pan) * math.pi / 2)
    right = math.cos(max(0.0, -strip.pan) * math.pi / 2)
    return np.array([[left], [right]]) * to_amplitude(strip.gain_db)


def _content(
    take: Take, mix: Mix, chains: dict[str, Any], file: str, levels: Levels, lower_db: float
) -> record.Content:
    after = levels.raised(lower_db)
    told = record.Levels(
        peak_dbfs=as_json(after.peak_dbfs), rms_dbfs=as_json(after.rms_dbfs), loudness_lufs=as_json(after.loudness_lufs)
    )
    sources = tuple(strip.track for strip in mix.strips)
    stem = record.Stem(
        file=file, dry=None, sources=sources, restored_gain_db=0.0, before=told, after=told, plugins=(), told=""
    )
    silent = record.Residual(file=None, peak_dbfs=None, rms_dbfs=None, loudness_lufs=None)
    separation = take.record.separation
    base = {name: value for name, value in dict(take.record).items() if name not in ("files", "seconds")}
    turned = {"mix": {**mix.model_dump(), "chains": chains}}
    changes = {
        "separation": separation.model_copy(update={"swap": separation.swap}),
        "overrides": {**take.record.overrides, **turned},
        "stems": {"mix": stem},
        "residual": silent,
        "diagnoses": None,
        "shared_gain_db": lower_db,
        "seconds": {},
        "fingerprint": {**take.record.fingerprint, "mix": json_hash(mix.model_dump(), sort_keys=True)},
    }
    return record.Content(**{**base, **changes})
