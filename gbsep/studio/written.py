"""The routes of the notes of stems: what is kept beside them, and the first ones.

GET  /api/songs/<song>/notes/<take>     the notes of each stem that has any, with a mark of the file
POST /api/songs/<song>/notes/<take>     write those of a stem that has none, or take back what has this mark; the same
"""

from __future__ import annotations

import hashlib
import threading
from typing import Any

from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from ..errors import GbsepError, SmallFileError
from ..notes import files
from ..notes.folders import keep
from ..report.page import note_rows
from ..schema import StrictModel
from ..store import smallfiles
from .asking import Refusal, document, told
from .library import Library, Take
from .songs import take_of

_writing = threading.Lock()


class Writing(StrictModel):
    """A stem whose notes are wanted; with `undo`, the mark of its notes that are to go."""

    stem: str = Field(max_length=100)
    undo: str | None = Field(None, min_length=64, max_length=64)


def routes(library: Library) -> list[BaseRoute]:
    """The routes of the notes of a library's songs."""

    def take(request: Request) -> Take:
        name = request.path_params["take"]
        if name.startswith("first~"):
            raise Refusal(409, "the rest of the song is not there yet")
        return take_of(library, library.song(request.path_params["song"]), name)

    @told
    async def look(request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(_kept, take(request)))

    @told
    async def write(request: Request) -> Response:
        found, wanted = take(request), await document(request, Writing)
        if wanted.stem not in found.record.stems:
            raise Refusal(404, "the render has no such stem")
        return JSONResponse(await run_in_threadpool(_written, found, wanted))

    path = "/api/songs/{song}/notes/{take}"
    return [Route(path, look, methods=["GET"]), Route(path, write, methods=["POST"])]


def _kept(take: Take) -> dict[str, Any]:
    """The notes that are kept of each stem; a file that holds none counts as none, as on the page of a review."""
    found = {}
    for stem in take.record.stems:
        path = files.kept_beside(take.folder, stem)
        if path is not None:
            try:
                found[stem] = {"notes": note_rows(files.read(path, stem).notes), "mark": _mark(take, stem)}
            except SmallFileError:
                continue
    return found


def _written(take: Take, wanted: Writing) -> dict[str, Any]:
    with _writing:
        try:
            if wanted.undo is None:
                keep(take.folder, wanted.stem)
            elif wanted.undo != _mark(take, wanted.stem):
                raise Refusal(409, "somebody has corrected these notes since: they stay")
            else:
                files.kept_place(take.folder, wanted.stem).unlink()
        except (GbsepError, OSError) as error:  # told without the place
            why = getattr(error, "reason", "") or getattr(error, "strerror", "") or str(error)
            raise Refusal(409, f"the notes of {wanted.stem}: {why}") from None
    return _kept(take)


def _mark(take: Take, stem: str) -> str:
    """What tells the file of a stem's notes from another; nothing where there is no such table."""
    path = files.kept_place(take.folder, stem)
    return hashlib.sha256(smallfiles.read_bytes(path)).hexdigest() if smallfiles.is_regular(path) else ""
