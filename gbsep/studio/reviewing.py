"""The report and its review, with buttons: what somebody decides goes into review.json at once.

GET  /review                    the page
GET  /assets/<name>.js          spectrograms and sound, made when they are asked for
GET  /files/<song>/<source>     a file of a render, in ranges if wanted
POST /review                    one decision as JSON; the answer is the song's review
POST /review/notes              one corrected note of a stem; the answer is all that is written down there
"""

from __future__ import annotations

import mimetypes
import re
import secrets
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from ..errors import GbsepError
from ..report.deciding import Correction, Decision, Shown
from ..report.page import asset, asset_script, note_rows, page, policy
from .asking import Refusal, document, told

ASSET = re.compile(r"([0-9a-f]{16})((-[0-9]{1,6}-(mel|[0-9]{1,6}))?)")


def routes(shown: Shown) -> list[BaseRoute]:
    """The routes of the review of what is shown."""

    @told
    async def look(request: Request) -> Response:
        songs = await run_in_threadpool(shown.look_again)
        nonce = secrets.token_urlsafe(16)
        made = page("gbsep review", list(songs.values()), "assets/", nonce=nonce, served=list(songs))
        return Response(made, media_type="text/html", headers={"Content-Security-Policy": policy(nonce, "'self'")})

    @told
    async def give_asset(request: Request) -> Response:
        found = ASSET.fullmatch(request.path_params["name"])
        if not found:
            raise Refusal(404, "there is nothing here")
        text = await run_in_threadpool(_asset, shown, found[1], found[2])
        return Response(text, media_type="text/javascript")

    @told
    async def give_file(request: Request) -> Response:
        name, number = request.path_params["song"], request.path_params["source"]
        if not re.fullmatch("[0-9a-f]{16}", name) or not re.fullmatch("[0-9]{1,6}", number):
            raise Refusal(404, "there is nothing here")
        try:
            source = shown.song(name).sources[int(number)]
            if source.file is None or not shown.may_be_served(source):
                raise FileNotFoundError
            source.file.stat()
        except (IndexError, OSError):
            raise Refusal(404, "there is no such file any more") from None
        return file_response(source.file)

    @told
    async def decide(request: Request) -> Response:
        decision = await document(request, Decision)
        decided = await run_in_threadpool(shown.decide, decision)
        return JSONResponse(decided.model_dump())

    @told
    async def correct(request: Request) -> Response:
        correction = await document(request, Correction)
        notes = await run_in_threadpool(shown.correct, correction)
        return JSONResponse(note_rows(notes))

    return [
        Route("/review", look, methods=["GET"]),
        Route("/review", decide, methods=["POST"]),
        Route("/review/notes", correct, methods=["POST"]),
        Route("/assets/{name}.js", give_asset),
        Route("/files/{song}/{source}", give_file),
    ]


def file_response(path: object, name: str | None = None, download: bool = False) -> Response:
    """A file, in ranges if wanted, under its own name."""
    shown_name = name or str(getattr(path, "name", path))
    kind = mimetypes.guess_type(shown_name)[0] or "application/octet-stream"
    place = "attachment" if download else "inline"
    headers = {"Content-Disposition": f"{place}; filename*=UTF-8''{quote(shown_name)}"}
    return FileResponse(str(path), media_type=kind, headers=headers)


def _asset(shown: Shown, song: str, part: str) -> str:
    try:
        found = shown.song(song)
        if not all(map(shown.may_be_served, found.sources)):
            raise KeyError(song)
        content = asset([found], f"0{part}", shown.link)
    except KeyError:
        raise Refusal(404, "there is no such sound or picture") from None
    except GbsepError as error:
        raise Refusal(410, str(error)) from None
    return asset_script(f"{song}{part}", content)
