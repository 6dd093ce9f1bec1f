"""What leaves the page: files of renders, mixes as the faders stand, sessions for DAWs, the report.

GET  /api/songs/<song>/file/<take>/<name>   a file of a render
POST /api/songs/<song>/mix                  a mix; the answer is its job, which says where it is
POST /api/songs/<song>/session              a REAPER project or a DAWproject of the song
POST /api/session                           one for every song
GET  /api/songs/<song>/project/<name>       such a project
POST /api/report, GET /api/report.html      the report of all renders
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from ..report import collect, write_report
from ..schema import StrictModel
from ..session.write import write_sessions
from .asking import Refusal, document, told
from .jobs import Jobs
from .library import Library, Take
from .mixing import Mix, mix_down
from .reviewing import file_response
from .songs import take_of
from .sound import Sound

PROJECTS = (".rpp", ".dawproject")
REPORT = "report.html"


class Project(StrictModel):
    """Which DAW a session is for."""

    format: Literal["reaper", "dawproject"] = "reaper"
    take: str | None = Field(None, max_length=300)


def routes(library: Library, jobs: Jobs, sound: Sound) -> list[BaseRoute]:
    """The routes by which things are taken home from a library."""

    @told
    async def give_file(request: Request) -> Response:
        song, name = library.song(request.path_params["song"]), request.path_params["name"]
        take = _any_take(library, request)
        path = take.folder / name
        if name not in take.record.files or not path.resolve().is_relative_to(library.out.resolve()):
            raise Refusal(404, "the render has no such file")
        return file_response(path, f"{song.name.rsplit('/', 1)[-1]} - {take.name} - {name}", download=True)

    @told
    async def make_mix(request: Request) -> Response:
        song, wanted = library.song(request.path_params["song"]), await document(request, Mix)
        take = take_of(library, song, wanted.take)
        job = jobs.add_mix(song, take.name, lambda tell: mix_down(sound, song, take, wanted, tell))
        return JSONResponse(job.as_json())

    return [
        Route("/api/songs/{song}/file/{take}/{name}", give_file),
        Route("/api/songs/{song}/mix", make_mix, methods=["POST"]),
        *_projects(library),
    ]


def _projects(library: Library) -> list[BaseRoute]:
    """The routes of sessions and of the report."""

    @told
    async def make_session(request: Request) -> Response:
        song, wanted = library.song(request.path_params["song"]), await document(request, Project)
        if not song.takes:
            raise Refusal(409, "the song has no finished render yet")
        heard = wanted.take if wanted.take in song.takes else None
        written = await run_in_threadpool(
            lambda: write_sessions(library.out, wanted.format, heard=heard, songs=[song.folder])
        )
        return JSONResponse({"projects": [_told_of(one) for one in written]})

    @told
    async def make_sessions(request: Request) -> Response:
        wanted = await document(request, Project)
        written = await run_in_threadpool(lambda: write_sessions(library.out, wanted.format))
        return JSONResponse({"projects": [_told_of(one) for one in written]})

    @told
    async def give_project(request: Request) -> Response:
        song, name = library.song(request.path_params["song"]), request.path_params["name"]
        found = [path for path in song.folder.iterdir() if path.name == name and path.suffix in PROJECTS]
        if not found or found[0].is_symlink() or not found[0].is_file():
            raise Refusal(404, "there is no such project")
        return file_response(found[0], download=True)

    @told
    async def make_report(request: Request) -> Response:
        path = library.out / REPORT
        await run_in_threadpool(lambda: write_report(path, library.folder.name, collect(library.out)))
        return JSONResponse({"file": REPORT})

    @told
    async def give_report(request: Request) -> Response:
        path = library.out / REPORT
        if path.is_symlink() or not path.is_file():
            raise Refusal(404, "there is no report yet")
        return file_response(path, download=True)

    return [
        Route("/api/songs/{song}/session", make_session, methods=["POST"]),
        Route("/api/session", make_sessions, methods=["POST"]),
        Route("/api/songs/{song}/project/{name}", give_project),
        Route("/api/report", make_report, methods=["POST"]),
        Route("/api/report.html", give_report),
    ]


def _any_take(library: Library, request: Request) -> Take:
    song = library.refresh(request.path_params["song"])
    return take_of(library, song, request.path_params["take"])


def _told_of(written: Any) -> dict[str, Any]:
    return {"name": written.path.name, "written": written.session is not None, "warnings": list(written.warnings)}
