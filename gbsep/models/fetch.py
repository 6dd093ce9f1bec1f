"""Downloading published weights into gbsep's own folder.

Not with huggingface_hub, which downloads from one host: most weights are on others. Without a network this module fails
within about a second.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import BackendError, one_line
from ..store.identity import file_hash
from ..store.locks import holding
from .catalogue import HUB, HUB_OWNER, data_dir, row
from .verify import CHECKSUM, state_dir

_CONNECT_S = 1.0

_READ_S = 30.0

_TRIES = 3


def fetch(name: str, progress: Callable[[float], None] = lambda fraction: None) -> list[Path]:
    """Download a published model into gbsep's own folder; the paths of its files.

    Existing files are kept, an interrupted download is resumed, and a file gets its name only when it is complete and
    its SHA-256 is right. `progress` gets the fraction that is done, 0 to 1. Raises ParameterError for an unknown model,
    OSError within about a second when there is no network, BackendError for a wrong SHA-256.
    """
    model = row(name)
    folder = data_dir() / name
    try:
        return _download([f"{model.url}/{file}" for file in model.files], folder, progress, model.sha256)
    except urllib.error.HTTPError:
        if model.hub is None:
            raise
    signatures = [file.split("-")[0] for file in model.files]
    files = [f"{name}.yaml", *(f"{signature}.safetensors" for signature in signatures)]
    return _download([f"{HUB}/{HUB_OWNER}/{model.hub}/resolve/main/{file}" for file in files], folder, progress)


def _download(
    urls: list[str], folder: Path, progress: Callable[[float], None], hashes: Sequence[str] = ()
) -> list[Path]:
    """`hashes` are the files' SHA-256; without them, their names say how those begin."""
    paths = [folder / url.rsplit("/", 1)[1] for url in urls]
    if not all(path.is_file() for path in paths):
        _connect(urls[0])
    state_dir().mkdir(parents=True, exist_ok=True)
    with holding(state_dir() / f"{folder.name}.lock"):
        for done, (url, path) in enumerate(zip(urls, paths, strict=True)):
            if not path.is_file():
                part = path.with_name(f"{path.name}.part")
                _resume(url, part, lambda fraction, done=done: progress((done + fraction) / len(urls)))  # type: ignore[misc]
                named = CHECKSUM.search(path.stem)
                wanted = hashes[done] if hashes else named[1] if named else ""
                if not file_hash(part).startswith(wanted):
                    part.unlink()
                    with contextlib.suppress(OSError):
                        folder.rmdir()
                    raise BackendError(f"{url}: the SHA-256 is not {wanted[:8]}... as published; nothing was kept")
                part.replace(path)
            progress((done + 1) / len(urls))
    return paths


def _connect(url: str) -> None:
    """Raise OSError unless the host (or the proxy) answers within a second, as a name look-up has no time limit."""
    target = urllib.parse.urlsplit(url)
    proxy = urllib.request.getproxies().get(target.scheme)
    if proxy and not urllib.request.proxy_bypass(target.hostname or ""):
        target = urllib.parse.urlsplit(proxy)
    address = target.hostname or "", target.port or (443 if target.scheme == "https" else 80)
    outcome: list[str] = []

    def attempt() -> None:
        try:
            socket.create_connection(address, _CONNECT_S).close()
            outcome.append("")
        except Exception as error:
            outcome.append(one_line(error))

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(_CONNECT_S)
    failure = outcome[0] if outcome else f"no answer within {_CONNECT_S:g} s"
    if failure:
        raise OSError(f"{address[0]} cannot be reached: {failure}")


def _resume(url: str, part: Path, progress: Callable[[float], None]) -> None:
    """Download the rest of `url` into `part`, after the bytes that it has."""
    have, total, failure = 0, 0, ""
    for _ in range(_TRIES):
        have = part.stat().st_size if part.is_file() else 0
        request = urllib.request.Request(url, headers={"Range": f"bytes={have}-", "User-Agent": "gbsep"})
        try:
            response = urllib.request.urlopen(request, timeout=_READ_S)
        except urllib.error.HTTPError as error:
            if error.code != 416:
                raise
            part.unlink()
            continue
        with response:
            if response.status != 206:
                have = 0
            total = have + int(response.headers.get("Content-Length") or 0)
            part.parent.mkdir(parents=True, exist_ok=True)
            try:
                with part.open("ab" if have else "wb") as file:
                    while chunk := response.read(2**18):
                        file.write(chunk)
                        have += len(chunk)
                        progress(have / total if total else 0.0)
            except (OSError, http.client.HTTPException) as error:
                failure = f" ({one_line(error)})"
        if have >= total:
            return
    raise OSError(f"{url} broke off at {have} of {total} bytes{failure}; the next try goes on from there")
