"""The routes of one song: what it is, its pictures, its sound, its tempo and key, its chains.

    GET  /api/songs/<song>                              takes, stems, levels, findings, chains
    GET  /api/songs/<song>/wave/<take>/<track>          two bytes for each of WAVE_COLUMNS: the lowest and the highest
    GET  /api/songs/<song>/mel/<take>/<track>           a mel spectrogram, a byte for each point
    GET  /api/songs/<song>/tempo                        tempo, beats, key, loudness
    GET  /api/songs/<song>/sound/<take>/<number>?tracks=bass:-,guitar:dry&speed=0.7&semitones=0
    POST /api/songs/<song>/desk                         keep how faders, loop, speed and chains were left
    POST /api/songs/<song>/chain                        keep a chain; the answer is the voice to ask for

A take is the name of a render's folder, `first~<preset>` for the first seconds of one, or `mixture`.
"""

from __future__ import annotations

import asyncio
import math
import threading
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from ..audio import Block
from ..io.read import open_reader
from ..report import preview
from ..report.songs import Source
from ..report.spectrogram import mel_hz
from ..schema import StrictModel
from ..shelf import review
from ..shelf.record import RECORD
from ..store.identity import json_hash
from . import desks, stretch
from .analysis import told_of
from .asking import MAX_DOCUMENT_BYTES, Refusal, document, told, whole_number
from .desks import Desk
from .library import Library, Song, Take
from .sound import PIECE_FRAMES, Sound, planar

WAVE_COLUMNS = 2000
MAX_TRACKS = 40
STRETCHING_AT_ONCE = 2
"""Pieces that are stretched at once; what is not waited for any more by its turn is left."""

_painting = threading.Lock()


class Turned(StrictModel):
    """A chain as it was turned, of one stem of a take."""

    take: str = Field(max_length=300)
    stem: str = Field(max_length=100)
    chain: list[Any] = Field(max_length=64)


def routes(library: Library, sound: Sound) -> list[BaseRoute]:
    """The routes of the songs of a library."""

    stretching = asyncio.Semaphore(STRETCHING_AT_ONCE)

    def song_of(request: Request) -> Song:
        return library.song(request.path_params["song"])

    @told
    async def look(request: Request) -> Response:
        song = await run_in_threadpool(library.refresh, song_of(request).id)
        return JSONResponse(await run_in_threadpool(song_model, library, song))

    @told
    async def wave(request: Request) -> Response:
        song, take = song_of(request), request.path_params["take"]
        content = await run_in_threadpool(_wave, library, song, take, request.path_params["track"])
        return Response(content, media_type="application/octet-stream")

    @told
    async def mel(request: Request) -> Response:
        song = song_of(request)
        take, track = request.path_params["take"], request.path_params["track"]
        content = await run_in_threadpool(_mel, library, song, take, track)
        return Response(content, media_type="application/octet-stream")

    @told
    async def tempo(request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(told_of, song_of(request).path))

    @told
    async def give(request: Request) -> Response:
        song, number = song_of(request), whole_number(request, "number", 0, 10**8)
        found = take_of(library, song, request.path_params["take"])
        tracks, setting = _tracks(request), _setting(request)
        async with nullcontext() if setting.plain else stretching:
            if not setting.plain and await request.is_disconnected():
                raise Refusal(410, "nobody waits for it any more")
            content = await run_in_threadpool(_piece, library, sound, song, found, tracks, setting, number)
        return Response(content, media_type="application/octet-stream")

    return [
        Route("/api/songs/{song}", look),
        Route("/api/songs/{song}/wave/{take}/{track}", wave),
        Route("/api/songs/{song}/mel/{take}/{track}", mel),
        Route("/api/songs/{song}/tempo", tempo),
        Route("/api/songs/{song}/sound/{take}/{number}", give),
        *_changing(library, sound),
    ]


def _changing(library: Library, sound: Sound) -> list[BaseRoute]:
    """The routes that keep something of a song."""

    @told
    async def leave(request: Request) -> Response:
        song, left = library.song(request.path_params["song"]), await document(request, Desk, MAX_DOCUMENT_BYTES)
        await run_in_threadpool(desks.keep, library.hidden, song.id, left)
        return JSONResponse({})

    @told
    async def turn(request: Request) -> Response:
        song = library.song(request.path_params["song"])
        turned = await document(request, Turned, MAX_DOCUMENT_BYTES)
        found = take_of(library, song, turned.take)
        if turned.stem not in found.record.stems:
            raise Refusal(404, "the render has no such stem")
        stems = tuple(found.record.stems)
        voice = await run_in_threadpool(sound.chains.keep, turned.chain, song.info.sample_rate, stems)
        return JSONResponse({"voice": voice})

    return [
        Route("/api/songs/{song}/desk", leave, methods=["POST"]),
        Route("/api/songs/{song}/chain", turn, methods=["POST"]),
    ]


def take_of(library: Library, song: Song, name: str) -> Take:
    """The take of that name. Raises Refusal when there is none any more."""
    found = library.first(song, name.removeprefix("first~")) if name.startswith("first~") else song.takes.get(name)
    if found is None or not (found.folder / RECORD).is_file():
        raise Refusal(410, "there is no such render any more")
    return found


def song_model(library: Library, song: Song) -> dict[str, Any]:
    """What the page knows of a song."""
    takes = [_take_model(take, take.name) for take in song.takes.values() if not take.is_mix]
    mixes = [take for take in song.takes.values() if take.is_mix]
    first = library.hidden / "first" / song.name
    names = (
        {path.name.split("@")[0] for path in first.iterdir() if not path.name.startswith(".")}
        if first.is_dir()
        else set()
    )
    early = [_take_model(take, f"first~{name}") for name in names if (take := library.first(song, name))]
    return {
        "id": song.id,
        "name": song.name,
        "seconds": song.info.seconds,
        "frames": song.info.frames,
        "sample_rate": song.info.sample_rate,
        "channels": song.info.channels,
        "piece_frames": PIECE_FRAMES,
        "n_mels": preview.N_MELS,
        "range_db": preview.RANGE_DB,
        "hz": [round(float(hz), 1) for hz in mel_hz(song.info.sample_rate, preview.N_MELS)],
        "takes": [*takes, *(one for one in early if one["preset"] not in song.takes)],
        "mixes": [{"take": take.name, "file": stem.file} for take in mixes for stem in take.record.stems.values()],
        "review": review.load(song.folder).model_dump(),
        "desk": desks.kept(library.hidden, song.id),
    }


def _take_model(take: Take, name: str) -> dict[str, Any]:
    record = take.record
    tracks = [
        {
            "name": stem,
            "loudness_lufs": told_of.after.loudness_lufs,
            "gain_db": told_of.restored_gain_db,
            "file": told_of.file,
            "chain": list(record.preset.stems[stem].chain) if stem in record.preset.stems else [],
            "dry": bool(told_of.dry),
        }
        for stem, told_of in record.stems.items()
    ]
    if record.residual.file:
        loud = record.residual.loudness_lufs
        tracks.append({"name": "residual", "loudness_lufs": loud, "file": record.residual.file, "chain": None})
    return {
        "name": name,
        "preset": take.folder.name.split("@")[0] if name.startswith("first~") else take.name,
        "base": record.preset.name,
        "title": record.preset.title,
        "seconds": take.seconds,
        "frames": record.excerpt.frames,
        "tracks": tracks,
        "findings": [finding.model_dump() for finding in record.diagnoses or ()],
        "swapped": [list(pair) for pair in record.review.swap],
    }


def _as_source(song: Song, take: Take, track: str) -> Source:
    if track == "mixture":
        return Source("mixture", "mixture", partial(open_reader, song.path), song.path)
    record = take.record
    name = record.residual.file if track == "residual" else track in record.stems and record.stems[track].file
    if not name or not (take.folder / name).resolve().is_relative_to(take.folder.resolve()):
        raise Refusal(404, "the render has no such track")
    return Source(track, "stem", partial(open_reader, take.folder / name), take.folder / name)


def _mel(library: Library, song: Song, take: str, track: str) -> bytes:
    """One at a time: sound that is about to be heard goes before pictures."""
    with _painting:
        if take == "mixture":
            return preview.spectrogram(Source(track, "mixture", partial(open_reader, song.path), song.path))
        return preview.spectrogram(_as_source(song, take_of(library, song, take), track))


def _wave(library: Library, song: Song, take: str, track: str) -> bytes:
    """The lowest and the highest sample of each column, as signed bytes."""
    if take == "mixture":
        reader = open_reader(song.path)
    else:
        found = take_of(library, song, take)
        reader = _as_source(song, found, track).open(0.0, None)
    columns = min(WAVE_COLUMNS, max(1, reader.frames))
    low, high = np.zeros(columns, np.float32), np.zeros(columns, np.float32)
    at = 0
    for block in reader.blocks():
        edges = np.arange(at, at + block.shape[1]) * columns // reader.frames
        starts = np.flatnonzero(np.diff(edges, prepend=-1))
        where = edges[starts]
        low[where] = np.minimum(low[where], np.minimum.reduceat(block.min(0), starts))
        high[where] = np.maximum(high[where], np.maximum.reduceat(block.max(0), starts))
        at += block.shape[1]
    return np.clip(np.rint(np.stack([low, high], 1) * 127), -127, 127).astype(np.int8).tobytes()


def _tracks(request: Request) -> list[tuple[str, str]]:
    """`bass:-,guitar:dry` as pairs. Raises Refusal."""
    asked = request.query_params.getlist("track")
    pairs = [(name, voice) for name, _, voice in (one.rpartition(":") for one in asked)]
    if not 0 < len(pairs) <= MAX_TRACKS or any(len(name) > 100 or not name for name, _ in pairs):
        raise Refusal(400, f"track is NAME:VOICE, up to {MAX_TRACKS} times")
    return pairs


def _setting(request: Request) -> stretch.Setting:
    try:
        speed = float(request.query_params.get("speed", "1"))
        semitones = float(request.query_params.get("semitones", "0"))
    except ValueError:
        raise Refusal(400, "speed and semitones are numbers") from None
    low, high = stretch.SPEEDS
    if not (low <= speed <= high and math.isfinite(semitones) and abs(semitones) <= stretch.SEMITONES):
        raise Refusal(400, f"speed is from {low} to {high}, semitones up to {stretch.SEMITONES} either way")
    return stretch.Setting(round(speed, 3), round(semitones, 2))


def _piece(
    library: Library,
    sound: Sound,
    song: Song,
    take: Take,
    tracks: list[tuple[str, str]],
    setting: stretch.Setting,
    number: int,
) -> bytes:
    if setting.plain:
        return sound.piece(song, take, tracks, number)
    total, start = take.record.excerpt.frames, number * PIECE_FRAMES
    if start >= setting.length(total):
        raise Refusal(416, "the sound has no such piece yet")
    read = reader_of(sound, song, take, tracks)
    key = json_hash([song.id, str(take.folder), take.record.fingerprint, tracks, setting.speed, setting.semitones])[:24]
    keep = stretch.Keep(library.hidden / "stretched", key, 2 * len(tracks))
    frames = min(PIECE_FRAMES, setting.length(total) - start)
    block = stretch.stretched(read, total, song.info.sample_rate, setting, start, frames, keep)
    return b"".join(planar(block[2 * index : 2 * index + 2]) for index in range(len(tracks)))


def reader_of(sound: Sound, song: Song, take: Take, tracks: list[tuple[str, str]]) -> stretch.Read:
    """All tracks together, each as two channels."""

    def read(start: int, frames: int) -> Block:
        parts = [sound.read(song, take, name, voice, start, frames) for name, voice in tracks]
        return np.concatenate([np.broadcast_to(part, (2, frames)) for part in parts])

    return read
