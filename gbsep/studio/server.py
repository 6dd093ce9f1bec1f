"""The server of the studio and of the review: one app on 127.0.0.1, for one person on this machine.

Server(out=Path("gbsep-out"))        the review of the renders there; `address` is what to open in a browser
Server(Path("songs"))                the studio for the songs of a folder, its renders in songs/gbsep-out
"""

from __future__ import annotations

import logging
import secrets
import socket
import threading
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ..report import collect
from ..report.deciding import Shown
from . import reviewing
from .asking import refuse
from .guard import Guard
from .studio import Studio

HOST = "127.0.0.1"
CLOSING_S = 2
"""How long requests in hand may take once the server is to end."""


class Server:
    """Serves the studio of `folder`, or the review of the renders below `out`, until it is shut down.

    Raises OutputError for a review of a folder without renders, OSError for a port that cannot be had.
    """

    def __init__(self, folder: Path | None = None, out: Path | None = None, port: int = 0):
        self.token = secrets.token_urlsafe(24)
        if folder is None:
            assert out is not None
            self.studio, self.shown = None, Shown(out, collect(out))
        else:
            self.studio = Studio(folder, out or folder / "gbsep-out")
            self.shown = Shown(self.studio.out)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._socket.bind((HOST, port))
            self._socket.listen(64)
        except BaseException:
            self._socket.close()
            if self.studio:
                self.studio.stop()
            raise
        self.server_address: tuple[str, int] = self._socket.getsockname()
        config = uvicorn.Config(
            Guard(_app(self.shown, self.studio), self.host, self.token),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            ws="none",
            http="h11",
            timeout_keep_alive=30,
            timeout_graceful_shutdown=CLOSING_S,
        )
        self._server = uvicorn.Server(config)
        self._ended = threading.Event()
        logging.getLogger("uvicorn.error").addFilter(self._is_worth_saying)

    def _is_worth_saying(self, record: logging.LogRecord) -> bool:
        """What is cut off because the server ends is no error, and a request that is none is answered, not told of."""
        return not self._server.should_exit and record.levelno > logging.WARNING

    @property
    def host(self) -> str:
        return f"{HOST}:{self.server_address[1]}"

    @property
    def address(self) -> str:
        """What to open in a browser."""
        return f"http://{self.host}/{'' if self.studio else 'review'}?token={self.token}"

    def serve_forever(self) -> None:
        """Answer until `shutdown`, or until Ctrl-C, which comes out as KeyboardInterrupt."""
        if self.studio:
            self.studio.start()
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._ended.set()

    def shutdown(self) -> None:
        """End `serve_forever`, which runs in another thread."""
        self._server.should_exit = True
        self._ended.wait()

    def server_close(self) -> None:
        """End what is at work: unfinished jobs stay in the queue for the next time."""
        logging.getLogger("uvicorn.error").removeFilter(self._is_worth_saying)
        if self.studio:
            self.studio.stop()
        self._socket.close()


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return refuse(error.status_code, "there is nothing here" if error.status_code == 404 else error.detail)


def _app(shown: Shown, studio: Studio | None) -> Starlette:
    handlers: dict[Any, Any] = {HTTPException: _refused}
    routes = [*reviewing.routes(shown), *(studio.routes(shown) if studio else ())]
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return app
