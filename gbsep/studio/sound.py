"""What the page plays: pieces of PIECE_FRAMES frames of the stems of a take, as rendered, dry, or through a live chain.

Conventions: a piece is float32, little-endian, planar: track by track, left then right, PIECE_FRAMES each (the last one
of a song is filled up with silence). All tracks come at the song's own sample rate, so a piece of one lies on the frame
beside the same piece of another. A track is asked for by name and *voice*: "-" is as it was rendered, "dry" before its
chain, and any other the key of a chain that `Chains.keep` gave.

A live chain is the real chain: `effects.chain.apply_blocks` over the dry stem. It starts PREROLL_S before the first
piece that is asked for, so that filters, compressors and rooms have settled, and goes on from piece to piece as long as
they are asked for in order. A chain that needs a whole signal (PitchShift) is given HORIZON_S of it at a time.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..audio import Block, Reader, join, part
from ..effects.chain import Node, apply_blocks, check_chain, parse_chain, sidechains_of
from ..effects.nodes import Effect, Parallel
from ..effects.table import spec_of
from ..errors import AudioError, GbsepError
from ..io.read import open_reader
from ..store.identity import json_hash
from .asking import Refusal
from .library import Song, Take

PIECE_FRAMES = 2**15
PREROLL_S = 2.0
HORIZON_S = 12.0
MAX_TAPES = 24
"""Sounds that are held open; each is a file, and a chain at work in it."""
MAX_CHAINS = 200
MAX_SECONDS_AHEAD = 3e5

Opener = Callable[[int], Iterator[Block]]
"""The signal from a frame on."""


class Chains:
    """Chains that the page has asked for, by the hash of what they are: the last MAX_CHAINS."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[Node, ...]] = OrderedDict()

    def keep(self, chain: list[Any], sample_rate: int, stems: tuple[str, ...]) -> str:
        """The key of a chain. Raises GbsepError for one that cannot be run."""
        nodes = parse_chain(chain)
        check_chain(nodes, sample_rate, stems)
        key = json_hash(json.loads(json.dumps(chain)), sort_keys=True)[:16]
        with self._lock:
            self._kept[key] = nodes
            self._kept.move_to_end(key)
            while len(self._kept) > MAX_CHAINS:
                self._kept.popitem(last=False)
        return key

    def nodes(self, key: str) -> tuple[Node, ...]:
        """The chain of that key. Raises Refusal when it is not known any more."""
        with self._lock:
            if key not in self._kept:
                raise Refusal(410, "that chain is not at hand any more")
            self._kept.move_to_end(key)
            return self._kept[key]


@dataclass
class _Tape:
    """A sound that is being read: where it is, what of the last block is left."""

    opener: Opener
    lock: threading.Lock
    position: int = -1
    blocks: Iterator[Block] | None = None
    rest: Block | None = None

    def read(self, start: int, frames: int) -> Block:
        """So many frames from `start` on; fewer at the end."""
        if self.blocks is None or start != self.position:
            self.blocks, self.rest, self.position = self.opener(start), None, start
        got: list[Block] = [] if self.rest is None else [self.rest]
        have = sum(one.shape[1] for one in got)
        while have < frames and (block := next(self.blocks, None)) is not None:
            got.append(block)
            have += block.shape[1]
        whole = join(got) if got else np.zeros((1, 0), np.float32)
        self.rest = whole[:, frames:]
        self.position = start + min(frames, have)
        return whole[:, :frames]


class Sound:
    """Pieces of the sounds of takes; those that are read in order go on where they are."""

    def __init__(self) -> None:
        self.chains = Chains()
        self._lock = threading.Lock()
        self._tapes: OrderedDict[tuple[str, ...], _Tape] = OrderedDict()

    def piece(self, song: Song, take: Take, tracks: list[tuple[str, str]], number: int) -> bytes:
        """Piece `number` of the tracks, given as pairs of name and voice. Raises Refusal beyond the end."""
        start, frames = number * PIECE_FRAMES, take.record.excerpt.frames
        if start >= frames:
            raise Refusal(416, "the sound has no such piece yet")
        count = min(PIECE_FRAMES, frames - start)
        return b"".join(planar(self.read(song, take, *track, start, count)) for track in tracks)

    def read(self, song: Song, take: Take, track: str, voice: str, start: int, frames: int) -> Block:
        """So many frames of a track, (1 or 2, frames), silence where it has no more."""
        key = (song.id, str(take.folder), str(take.record.fingerprint.get("preset")), track, voice)
        opener = self._opener(song, take, track, voice)
        with self._lock:
            tape = self._tapes.pop(key, None) or _Tape(opener, threading.Lock())
            self._tapes[key] = tape
            while len(self._tapes) > MAX_TAPES:
                self._tapes.popitem(last=False)
        with tape.lock:
            tape.opener = opener
            try:
                got = tape.read(start, frames)
            except Exception:
                tape.blocks = None
                raise
        missing = frames - got.shape[1]
        return np.pad(got, ((0, 0), (0, missing))) if missing else got

    def forget(self) -> None:
        """Close all: renders have changed."""
        with self._lock:
            self._tapes.clear()

    def _opener(self, song: Song, take: Take, track: str, voice: str) -> Opener:
        source = _source(song, take, track, dry=voice != "-")
        if track in ("mixture", "residual") or voice in ("-", "dry"):
            return lambda start: source(start).blocks(PIECE_FRAMES)
        nodes = self.chains.nodes(voice)
        if not nodes:
            return lambda start: source(start).blocks(PIECE_FRAMES)
        keys = {name: _source(song, take, name, dry=True) for name in sidechains_of(nodes)}
        return lambda start: live(source, nodes, keys, start)


def live(
    source: Callable[[int], Reader], nodes: tuple[Node, ...], keys: dict[str, Callable[[int], Reader]], start: int
) -> Iterator[Block]:
    """A chain over a source, from `start` on; see the module's conventions."""
    whole = not all(map(_streams, nodes))
    while True:
        rate = source(0).sample_rate
        first = max(0, start - round(PREROLL_S * rate))
        reader = source(first)
        count = reader.frames
        if count <= start - first:
            return
        if whole:
            count = min(count, start - first + round(HORIZON_S * rate))
        key_readers = {name: _exactly(key(first), count) for name, key in keys.items()}
        blocks = apply_blocks(
            part(reader, 0, count).blocks(PIECE_FRAMES),
            nodes,
            rate,
            reader.channels,
            count,
            sidechains=key_readers,
            start_s=first / rate,
        )
        left = start - first
        for block in blocks:
            if left >= block.shape[1]:
                left -= block.shape[1]
                continue
            yield block[:, left:]
            left = 0
        if first + count >= source(0).frames:
            return
        start = first + count


def _streams(node: Node) -> bool:
    if isinstance(node, Parallel):
        return all(_streams(one) for branch in node.branches for one in branch.chain)
    return not isinstance(node, Effect) or spec_of(node.name).streams


def _exactly(reader: Reader, frames: int) -> Reader:
    return part(reader, 0, min(frames, reader.frames))


def _source(song: Song, take: Take, track: str, dry: bool) -> Callable[[int], Reader]:
    """Opens a file of a take from a frame on. Raises Refusal for a track that it does not have."""
    record = take.record
    if track == "mixture":
        path, begin_s = song.path, record.excerpt.start_s
    elif track == "residual" and record.residual.file:
        path, begin_s = take.folder / record.residual.file, 0.0
    elif track in record.stems:
        stem = record.stems[track]
        path, begin_s = take.folder / (stem.dry if dry and stem.dry else stem.file), 0.0
    else:
        raise Refusal(404, f"the render has no track {track[:80]!r}")
    if track != "mixture" and not path.resolve().is_relative_to(take.folder.resolve()):
        raise Refusal(404, "that file leads out of the folder")
    rate, frames = record.recording.sample_rate, record.excerpt.frames

    def open_from(start: int) -> Reader:
        try:
            reader = open_reader(path, begin_s + start / rate)
        except GbsepError as error:
            raise AudioError(f"{track}: {error}") from None
        return part(reader, 0, min(reader.frames, frames - start))

    return open_from


def planar(block: Block) -> bytes:
    """A piece as it is sent: left then right, filled up with silence."""
    both = np.zeros((2, PIECE_FRAMES), "<f4")
    both[:, : block.shape[1]] = block
    return both.tobytes()
