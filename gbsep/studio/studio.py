"""The studio of a folder: its songs, its presets, its queue; the page, and the routes of all three.

GET  /                          the page             GET /worklet.mjs   what mixes on the page, in a thread of its own
GET  /api/library               songs, presets, what cannot be read
PUT  /api/uploads?name=...      a recording, as the body; the answer is the song
GET  /api/jobs                  the queue            POST /api/jobs, /api/jobs/<number>/cancel, /api/jobs/cancel
GET  /api/effects               the table of effects; GET /api/plugins the plug-ins of this machine
POST /api/demo                  a song that is made up, to try it with
POST /api/presets               keep a preset        POST /api/weights  get the weights of a model
"""

from __future__ import annotations

import math
import secrets
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from ..effects.guide import PARALLEL, example
from ..effects.table import EFFECTS, MIX_DB
from ..errors import OutputError
from ..io.formats import AUDIO_SUFFIXES
from ..models.catalogue import MODELS
from ..models.fetch import fetch
from ..plugins import scan
from ..report.deciding import Decision, Shown
from ..schema import StrictModel
from ..shelf import review
from ..shelf.stems import renders_in
from ..store.folders import state_folder
from ..store.identity import path_hash
from ..store.locks import holding
from . import songs, takehome, written
from .asking import MAX_DOCUMENT_BYTES, Handler, Refusal, document, told, whole_number
from .jobs import Jobs, Wish
from .library import Library, Song
from .page import page, page_policy, worklet
from .presets import Presets
from .sound import Sound


class Wanted(StrictModel):
    """Songs to render by a preset; `format`, `bit_depth` and `name` as of `gbsep render`."""

    songs: list[str] = Field(min_length=1, max_length=1000)
    preset: str = Field(max_length=100)
    format: str | None = None
    bit_depth: str | None = None
    name: str = Field("{stem}", max_length=200)


class NewPreset(StrictModel):
    """A preset to keep: `base` with other chains."""

    name: str = Field(min_length=1, max_length=64)
    title: str = Field("", max_length=200)
    base: str = Field(max_length=100)
    chains: dict[str, list[Any]] = Field({})


class Nothing(StrictModel):
    """A request that says nothing more."""


class Weights(StrictModel):
    """A model whose weights are wanted."""

    model: str = Field(max_length=100)


class Studio:
    """All that the page works on."""

    def __init__(self, folder: Path, out: Path):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(folder, f"cannot be used: {error.strerror or error}; name another folder") from None
        self.folder, self.out = folder.resolve(), out.absolute()
        self.library, self.presets, self.sound = Library(self.folder, self.out), Presets(self.folder), Sound()
        self.jobs = Jobs(self.library, self.presets)
        self._alone = ExitStack()
        self._open()

    def _open(self) -> None:
        """Two studios of one output folder would undo each other's queue. Raises OutputError."""
        locks = state_folder() / "studio"
        with suppress(OSError):
            locks.mkdir(parents=True, exist_ok=True)
        try:
            self._alone.enter_context(holding(locks / f"{path_hash(self.out.resolve())}.lock", timeout_s=0.0))
        except TimeoutError:
            reason = "is open in another studio: use the page of that one, or end it with Ctrl-C"
            raise OutputError(self.folder, reason) from None
        except OSError:  # no place for a lock: as before
            return

    def start(self) -> None:
        """Begin with what is in the queue."""
        self.library.look_again()
        self.jobs.start()

    def stop(self) -> None:
        self.jobs.stop()
        self._alone.close()

    def routes(self, shown: Shown) -> list[BaseRoute]:
        """The routes of the page and of what it asks for."""
        return [
            Route("/", self._page),
            Route("/worklet.mjs", self._worklet),
            Route("/api/library", self._look),
            Route("/api/uploads", self._put, methods=["PUT"]),
            Route("/api/demo", self._demo, methods=["POST"]),
            Route("/api/jobs", self._queue, methods=["GET"]),
            Route("/api/jobs", self._add, methods=["POST"]),
            Route("/api/jobs/cancel", self._cancel_all, methods=["POST"]),
            Route("/api/jobs/{number}/cancel", self._cancel, methods=["POST"]),
            Route("/api/effects", _effects),
            Route("/api/plugins", _plugins),
            Route("/api/presets", self._save, methods=["POST"]),
            Route("/api/weights", _get_weights, methods=["POST"]),
            Route("/api/songs/{song}/review", _deciding(self.library, shown), methods=["POST"]),
            *songs.routes(self.library, self.sound),
            *takehome.routes(self.library, self.jobs, self.sound),
            *written.routes(self.library),
        ]

    async def _page(self, request: Request) -> Response:
        nonce = secrets.token_urlsafe(16)
        policy = page_policy(nonce, str(request.base_url))
        return Response(page(nonce), media_type="text/html", headers={"Content-Security-Policy": policy})

    async def _worklet(self, request: Request) -> Response:
        return Response(worklet(), media_type="text/javascript")

    @property
    def _songs(self) -> list[dict[str, Any]]:
        return [song_row(song) for song in self.library.look_again()]

    async def _look(self, request: Request) -> Response:
        return await told(self._looked)(request)

    async def _looked(self, request: Request) -> Response:
        rows = await run_in_threadpool(lambda: self._songs)
        presets = await run_in_threadpool(self.presets.listed)
        reviewable = bool(await run_in_threadpool(renders_in, self.out)) if self.out.is_dir() else False
        answer = {
            "folder": self.folder.name,
            "songs": rows,
            "presets": presets,
            "unreadable": self.library.unreadable,
            "suffixes": sorted(AUDIO_SUFFIXES),
            "reviewable": reviewable,
        }
        return JSONResponse(answer)

    async def _put(self, request: Request) -> Response:
        return await told(self._taken)(request)

    async def _taken(self, request: Request) -> Response:
        stated = request.headers.get("content-length")
        if stated is not None and not (stated.isascii() and stated.isdigit() and len(stated) < 16):
            raise Refusal(400, "the length of the file is no number")
        name = request.query_params.get("name", "")
        song = await self.library.put(name, request.stream(), None if stated is None else int(stated))
        return JSONResponse(song_row(song))

    async def _demo(self, request: Request) -> Response:
        return await told(self._made_up)(request)

    async def _made_up(self, request: Request) -> Response:
        await document(request, Nothing)
        return JSONResponse(song_row(await run_in_threadpool(self.library.make_up)))

    async def _queue(self, request: Request) -> Response:
        return JSONResponse({"jobs": self.jobs.as_json()})

    async def _add(self, request: Request) -> Response:
        return await told(self._added)(request)

    async def _added(self, request: Request) -> Response:
        wanted = await document(request, Wanted, MAX_DOCUMENT_BYTES)
        form = wanted.model_dump(exclude={"songs"})
        wishes = [Wish(song=self.library.song(song).id, **form) for song in dict.fromkeys(wanted.songs)]
        jobs = [job for wish in wishes for job in await run_in_threadpool(self.jobs.add, wish)]
        return JSONResponse({"jobs": [job.as_json() for job in jobs]})

    async def _cancel(self, request: Request) -> Response:
        return await told(self._cancelled)(request)

    async def _cancelled(self, request: Request) -> Response:
        await run_in_threadpool(self.jobs.cancel, whole_number(request, "number", 0, 10**9))
        return JSONResponse({"jobs": self.jobs.as_json()})

    async def _cancel_all(self, request: Request) -> Response:
        return await told(self._all_cancelled)(request)

    async def _all_cancelled(self, request: Request) -> Response:
        await document(request, Nothing)
        await run_in_threadpool(self.jobs.cancel_all)
        return JSONResponse({"jobs": self.jobs.as_json()})

    async def _save(self, request: Request) -> Response:
        return await told(self._saved)(request)

    async def _saved(self, request: Request) -> Response:
        new = await document(request, NewPreset, MAX_DOCUMENT_BYTES)
        title = new.title or f"{new.base}, changed in the studio"
        preset = await run_in_threadpool(self.presets.save, new.name, title, new.base, new.chains)
        return JSONResponse({"name": preset.name, "title": preset.title, "file": f"presets/{preset.name}.json"})


def song_row(song: Song) -> dict[str, Any]:
    """A song for the list."""
    decided = review.load(song.folder)
    takes = {name: take for name, take in song.takes.items() if not take.is_mix}
    worst = [len(take.record.diagnoses or ()) for take in takes.values()]
    return {
        "id": song.id,
        "name": song.name,
        "seconds": song.info.seconds,
        "sample_rate": song.info.sample_rate,
        "takes": list(takes),
        "findings": min(worst) if worst else None,
        "status": decided.status,
        "best": decided.preset,
    }


async def _effects(request: Request) -> Response:
    rows = {}
    for name, spec in EFFECTS.items():
        params = [
            {**asdict(param), "logarithmic": is_logarithmic(param.unit, param.low, param.high)} for param in spec.params
        ]
        rows[name] = {"summary": spec.summary, "params": [finite(one) for one in params], "streams": spec.streams}
    level = {**asdict(MIX_DB), "logarithmic": False}
    rows["Parallel"] = {"summary": PARALLEL.summary, "params": [], "streams": True, "branch": [finite(level)]}
    rows["Parallel"]["start"] = example("Parallel")
    return JSONResponse(rows)


def finite(row: dict[str, Any]) -> dict[str, Any]:
    """A row for JSON, where nothing is infinite."""
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}


async def _plugins(request: Request) -> Response:
    return await told(_hosted)(request)


async def _hosted(request: Request) -> Response:
    """Effects that can be used, without where they lie on this machine."""
    found = await run_in_threadpool(scan.plugins)
    kept = ("name", "vendor", "format", "sidechain")
    rows = [
        {key: getattr(one, key) for key in kept} | {"parameters": [finite(asdict(param)) for param in one.parameters]}
        for one in found
        if one.is_effect and not one.reason
    ]
    return JSONResponse({"plugins": rows})


def is_logarithmic(unit: str, low: float, high: float) -> bool:
    """Whether a knob turns by equal ratios: where the range spans more than two decades above nothing."""
    return unit != "dB" and low > 0 and high / low > 99


def _deciding(library: Library, shown: Shown) -> Handler:
    """A decision on a song by the studio's name for it, as the review keeps it."""

    @told
    async def decide(request: Request) -> Response:
        song, decision = library.song(request.path_params["song"]), await document(request, Decision)
        found = await run_in_threadpool(shown.look_again)
        names = [name for name, one in found.items() if one.folder.resolve() == song.folder.resolve() and one.renders]
        if not names:
            raise Refusal(409, "the song has no finished render yet")
        decided = await run_in_threadpool(shown.decide, decision.model_copy(update={"song": names[0]}))
        return JSONResponse(decided.model_dump())

    return decide


async def _get_weights(request: Request) -> Response:
    return await told(_fetched)(request)


async def _fetched(request: Request) -> Response:
    wanted = await document(request, Weights)
    if wanted.model not in MODELS:
        raise Refusal(400, "there is no such model")
    try:
        await run_in_threadpool(fetch, wanted.model)
    except OSError as error:
        raise Refusal(503, f"the weights cannot be fetched ({error}); see gbsep models get {wanted.model}") from None
    return JSONResponse({"model": wanted.model})
