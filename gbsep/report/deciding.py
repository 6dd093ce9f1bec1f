"""The songs of a folder as a server shows them, and what one person decides on them: review.json.

A song goes by its `song_id`, not by its place in a list: a page that was loaded before renders came or went asks for
what is no more, and is told so (Stale), where a number would lead it to another song.

Files are those of the songs shown, looked up in a table: no path of a request ever reaches the disk. Files of a render
must lie below the folder served, wherever links in it lead; a mixture is the recording itself, which lies outside by
nature.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from ..errors import exact, nearest
from ..notes.correct import correct
from ..notes.line import Note
from ..notes.table import LATEST_S
from ..schema import StrictModel
from ..shelf import review
from .songs import Render, Song, Source, collect


class Swap(StrictModel):
    """Two stems of a render to exchange, or to leave again."""

    preset: str
    stems: list[str] = Field(min_length=2, max_length=2)


class Written(StrictModel):
    """What tells a note from the others of its song."""

    written_at: str
    text: str


class Decision(StrictModel):
    """One decision on one song of the page: exactly the keys that change something."""

    song: str
    status: Literal["accepted", "rejected"] | None = None
    preset: str | None = None
    swap: Swap | None = None
    note: review.Remark | None = None
    remove_note: Written | None = None


class Meant(StrictModel):
    """What tells a note of a line from the others."""

    onset_s: float = Field(ge=0, le=LATEST_S, allow_inf_nan=False)
    midi: int = Field(ge=0, le=127)


class Placed(Meant):
    """Where a note of a line is to be."""

    end_s: float = Field(gt=0, le=LATEST_S, allow_inf_nan=False)


class Correction(StrictModel):
    """One note of a stem of a render: as it `was`, None for a new one, and as it is `now`, None to take it away."""

    song: str
    preset: str
    stem: str
    was: Meant | None = None
    now: Placed | None = None


class Stale(Exception):
    """A page asks for a song that is not there, or no more with those sounds."""


def song_id(song: Song) -> str:
    """Of a song and the sounds it has, in their order: the same as long as they are."""
    recordings = [
        (render.record.recording.sha256, render.record.excerpt.model_dump(exclude={"frames"}))
        for render in song.renders[:1]
    ]
    sounds = [(source.name, source.kind) for source in song.sources], [render.preset for render in song.renders]
    told = json.dumps([str(song.folder.resolve()), recordings, sounds])
    return hashlib.sha256(told.encode()).hexdigest()[:16]


class Shown:
    """The songs below the folder `out`, by their ids."""

    def __init__(self, out: Path, songs: Sequence[Song] = ()):
        self.out, self.songs = out, _by_id(songs)
        self._deciding = threading.Lock()

    def link(self, file: Path) -> str | None:
        """The address of a file of a song, relative to the page."""
        for name, song in self.songs.items():
            for index, source in enumerate(song.sources):
                if source.file == file:
                    return f"files/{name}/{index}"
        return None

    def look_again(self) -> Mapping[str, Song]:
        """The songs as they are now: renders may have been made since. Raises OutputError when there are none."""
        with self._deciding:
            self.songs = _by_id(collect(self.out))
        return self.songs

    def song(self, name: str) -> Song:
        """The song of that id. Raises Stale when there is none any more."""
        if name not in self.songs:
            raise Stale
        return self.songs[name]

    def may_be_served(self, source: Source) -> bool:
        """Whether a sound is the recording, or lies below OUT with all links followed."""
        out = self.out.resolve()
        return source.kind == "mixture" or source.file is None or source.file.resolve().is_relative_to(out)

    def decide(self, decision: Decision) -> review.Review:
        """Put a decision into review.json.

        Raises Stale for a song that is no more, LookupError for what it does not have, and OutputError.
        """
        with self._deciding:
            song = self.song(decision.song)
            decided = _decided(song, review.load(song.folder), decision)
            review.save(song.folder, decided)
            self.songs = {
                name: replace(one, decided=decided) if one.folder == song.folder else one
                for name, one in self.songs.items()
            }
        return decided

    def correct(self, correction: Correction) -> tuple[Note, ...]:
        """Correct a note in the file kept beside a stem; what is written down there now.

        Raises Stale for a song that is no more, LookupError for what it does not have, and OutputError.
        """
        was, now = correction.was, correction.now
        if now is not None and now.onset_s >= now.end_s:
            raise LookupError("a note begins before it ends")
        with self._deciding:
            song = self.song(correction.song)
            renders = {render.preset: render for render in song.renders}
            _known("render", correction.preset, renders)
            render = renders[correction.preset]
            _known("stem", correction.stem, {source.name for source in render.sources if source.kind == "stem"})
            line = correct(
                render.folder,
                correction.stem,
                None if was is None else (was.onset_s, was.midi),
                None if now is None else (now.onset_s, now.end_s, now.midi),
            )
            self.songs = {**self.songs, correction.song: _written(song, render, correction.stem, line.notes)}
        return line.notes


def _written(song: Song, render: Render, stem: str, notes: tuple[Note, ...]) -> Song:
    """A song with other notes of a stem of a render."""
    sources = (replace(one, written=notes) if (one.name, one.kind) == (stem, "stem") else one for one in render.sources)
    fresh = replace(render, sources=tuple(sources))
    return replace(song, renders=tuple(fresh if one is render else one for one in song.renders))


def _by_id(songs: Sequence[Song]) -> dict[str, Song]:
    return {song_id(song): song for song in songs}


def _decided(song: Song, decided: review.Review, decision: Decision) -> review.Review:
    """A review with a decision in it. Raises LookupError, with the reason, for what the song does not have."""
    given = decision.model_fields_set
    renders = {render.preset: render for render in song.renders}
    if "status" in given:
        if not renders and decision.status:
            raise LookupError("the song has no render: there is nothing to accept or reject")
        decided = decided.model_copy(update={"status": decision.status})
    if "preset" in given:
        if decision.preset is not None:
            _known("render", decision.preset, renders)
        decided = decided.model_copy(update={"preset": decision.preset})
    if decision.swap is not None:
        _known("render", decision.swap.preset, renders)
        first, second = decision.swap.stems
        for stem in (first, second):
            _known("stem", stem, renders[decision.swap.preset].record.stems)
        if first == second:
            raise LookupError(f"{first!r} cannot be swapped with itself")
        decided = decided.swapped(decision.swap.preset, first, second)
    if decision.note is not None:
        note = review.Note(**decision.note.model_dump())
        _check_note(song, note)
        notes = sorted([*decided.notes, note], key=lambda note: note.time_s)
        decided = decided.model_copy(update={"notes": notes})
    if decision.remove_note is not None:
        written = [Written(written_at=note.written_at, text=note.text) for note in decided.notes]
        if decision.remove_note not in written:
            raise LookupError("the song has no such note any more; load the page again")
        gone = written.index(decision.remove_note)
        decided = decided.model_copy(update={"notes": [*decided.notes[:gone], *decided.notes[gone + 1 :]]})
    return decided


def _check_note(song: Song, note: review.Note) -> None:
    seconds = max((source.shape[1] / source.shape[0] for source in song.sources), default=0.0)
    if not note.text.strip():
        raise LookupError("the note is blank: write what you heard")
    if note.time_s > seconds + 0.001:  # the page gives whole milliseconds
        raise LookupError(f"the note is at {exact(note.time_s)} s, and the song ends at {seconds:.1f} s")
    renders = {render.preset: render for render in song.renders}
    if note.preset is not None:
        _known("render", note.preset, renders)
    if note.stem is not None:
        about = renders[note.preset].sources if note.preset is not None else song.sources
        _known("stem", note.stem, {source.name for source in about})


def _known(what: str, name: str, among: Collection[str]) -> None:
    if name not in among:
        raise LookupError(f"the song has no {what} {name!r}{nearest(name, among)}; load the page again")
