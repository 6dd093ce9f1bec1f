"""The report: songs and their renders as one self-contained HTML file.

Conventions: the page holds its model as JSON. Larger parts (a song's model, spectrograms, audio) are *assets*, named
`<song>`, `<song>-<source>-mel`, `<song>-<source>-<piece>`. They are in the file while their total is small; otherwise
each is a script beside it, in `<report>_files/`, as a page opened from a disk may load only scripts. The page runs only
scripts with its nonce and connects to no network.

Text reaches the page as JSON in which `<`, `>` and `&` are escaped, and is shown in text nodes only.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import html
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

from ..errors import OutputError
from ..io.formats import largest_sample
from ..measure.figures import COLUMNS
from ..measure.levels import SILENCE_DBFS, shared_gain
from ..notes.line import Note
from ..shelf import folder as outputs
from ..store.smallfiles import head, is_regular
from ..version import __version__
from . import preview
from .scripts import FOLDER, bundle
from .songs import Render, Song, Source
from .spectrogram import mel_hz

INLINE_BYTES = 40_000_000
"""Largest total of the assets, as text, that are kept in the file itself."""

GENERATOR = '<meta name="generator" content="gbsep '
ASSET = re.compile(r"\d+(-\d+-(mel|\d+))?")

Link = Callable[[Path], str | None]
"""The address of a file in the page, or None for a file that it must not link."""

Progress = Callable[[str, float], None]


def song_model(song: Song, link: Link) -> dict[str, Any]:
    """The data of a song for the page, as JSON."""
    peaks_dbfs = [source.levels.peak_dbfs for source in song.sources]
    shared_db = shared_gain(peaks_dbfs, largest_sample(preview.FORMAT))
    owner = {id(source): number for number, render in enumerate(song.renders) for source in render.sources}

    def source_model(source: Source, gain_db: float) -> dict[str, Any]:
        rate, frames = source.shape
        return {
            "name": source.name,
            "kind": source.kind,
            "render": owner.get(id(source)),
            "seconds": frames / rate,
            "chunks": preview.chunk_count(frames / rate),
            "gain_db": round(gain_db, 3),
            "silent": source.levels.peak_dbfs < SILENCE_DBFS,
            "file": link(source.file) if source.file else None,
            "written": note_rows(source.written),
        }

    rates = [source.shape[0] for source in song.sources]
    return {
        "name": song.name,
        "seconds": max((source.shape[1] / source.shape[0] for source in song.sources), default=0.0),
        "sample_rate_hz": preview.preview_rate(rates[0]) if rates else preview.RATES_HZ[1],
        "hz": [round(float(hz), 1) for hz in mel_hz(rates[0], preview.N_MELS)] if rates else [],
        "shared_gain_db": round(shared_db, 3),
        "sources": [source_model(source, gain_db) for source, gain_db in zip(song.sources, _gains(song), strict=True)],
        "renders": [_render_model(render) for render in song.renders],
        "review": song.decided.model_dump(),
        "failures": dict(song.failures),
    }


def note_rows(notes: Iterable[Note]) -> list[list[float]]:
    """Notes that were written down, as the page has them."""
    return [[note.onset_s, note.end_s, note.midi, note.confidence] for note in notes]


def _render_model(render: Render) -> dict[str, Any]:
    record = render.record
    return {
        "name": render.preset,
        "title": record.preset.title,
        "recipe": render.recipe,
        "overrides": record.overrides,
        "stems": list(record.stems),
        "swapped": record.review.swap,
        "remarks": list(render.remarks),
        "figures": render.figures,
        "findings": [finding.model_dump() for finding in render.findings],
    }


def asset(songs: Sequence[Song], name: str, link: Link) -> bytes:
    """The bytes of one asset. Raises KeyError for an unknown name."""
    if not ASSET.fullmatch(name):
        raise KeyError(name)
    first, *rest = name.split("-")
    try:
        song = songs[int(first)]
        if not rest:
            return _json(song_model(song, link)).encode()
        source = song.sources[int(rest[0])]
    except IndexError:
        raise KeyError(name) from None
    if rest[1] == "mel":
        return preview.spectrogram(source)
    rate, frames = source.shape
    if int(rest[1]) >= preview.chunk_count(frames / rate):
        raise KeyError(name)
    return preview.chunk(source, _gains(song)[int(rest[0])], int(rest[1]))


def _gains(song: Song) -> list[float]:
    return preview.matched_gains([source.levels for source in song.sources])


def asset_script(name: str, content: bytes) -> str:
    """An asset as a script that passes it to the page."""
    return _script(name, _base64(content))


def _script(name: str, text: str) -> str:
    return f'gbsepAsset("{name}", "{text}");\n'


def _text_of(name: str, script: str) -> str:
    """The base64 text in an asset's script."""
    head, tail = _script(name, "\n\n").split("\n\n")
    return script.removeprefix(head).removesuffix(tail)


def page(
    title: str,
    songs: Sequence[Song],
    folder: str,
    *,
    nonce: str,
    inline: Mapping[str, str] | None = None,
    served: Sequence[str] = (),
) -> str:
    """The HTML of a report. `folder` is the path of its assets; `inline` are the assets in the file, in base64.

    `served` are the songs' names at a server; in a page without a server they are numbers.
    """
    folders = list(dict.fromkeys(song.folder for song in songs))
    model = {
        "folder": folder,
        "served": bool(served),
        "columns": {name: asdict(column) for name, column in COLUMNS.items()},
        "chunk_s": preview.CHUNK_S,
        "n_mels": preview.N_MELS,
        "range_db": preview.RANGE_DB,
        "songs": [
            {
                "id": served[number] if served else str(number),
                "name": song.name,
                "folder": folders.index(song.folder),
                "status": song.decided.status,
                "notes": len(song.decided.notes),
                "renders": len(song.renders),
                "failed": list(song.failures),
            }
            for number, song in enumerate(songs)
        ],
    }
    return Template((FOLDER / "page.html").read_text(encoding="utf-8")).substitute(
        version=__version__,
        title=html.escape(title),
        policy=policy(nonce, "'self'" if served else "'none'"),
        nonce=nonce,
        style=(FOLDER / "style.css").read_text(encoding="utf-8"),
        report=_json(model),
        inline="\n".join(
            f'<script type="text/plain" data-asset="{name}">{text}</script>' for name, text in (inline or {}).items()
        ),
        script=bundle(),
    )


def policy(nonce: str, connect: str) -> str:
    """The Content-Security-Policy of a page: its own scripts and styles, and connections to `connect` only."""
    return (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; "
        f"connect-src {connect}; base-uri 'none'; form-action 'none'"
    )


def write_report(
    path: Path,
    title: str,
    songs: Sequence[Song],
    *,
    inline_bytes: int = INLINE_BYTES,
    overwrite: bool = False,
    progress: Progress = lambda stage, fraction: None,
) -> list[Path]:
    """Write a report to `path`, and large assets into a folder beside it; returns the paths of both.

    An older report is replaced. Raises OutputError for any other file in the way, unless `overwrite`, and for a folder
    that cannot be written.
    """
    check_free(path, overwrite)
    try:
        outputs.recover(path)
        with outputs.staging(path) as place:
            return _write(path, title, songs, inline_bytes, place, progress)
    except OSError as error:
        raise OutputError(path, f"cannot be written: {error.strerror or error}; choose another with --html") from None


def _write(path: Path, title: str, songs: Sequence[Song], limit: int, place: Path, progress: Progress) -> list[Path]:
    beside, staged = beside_of(path), place / "assets"
    staged.mkdir()
    texts: dict[str, str] = {}
    sources = [
        (f"{number}-{index}", song, index) for number, song in enumerate(songs) for index in range(len(song.sources))
    ]

    def prepare(job: tuple[str, Song, int]) -> None:
        label, song, index = job
        source = song.sources[index]
        texts[f"{label}-mel"] = _base64(preview.spectrogram(source))
        for piece, content in enumerate(preview.chunks(source, _gains(song)[index])):
            name = f"{label}-{piece}"
            (staged / f"{name}.js").write_text(asset_script(name, content), encoding="ascii")

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, _ in enumerate(pool.map(prepare, sources), 1):
            progress("report", done / len(sources))
    for number, song in enumerate(songs):
        texts[str(number)] = _base64(_json(song_model(song, lambda file: _relative(file, path.parent))).encode())
    texts = dict(sorted(texts.items()))

    sounds = sorted(staged.iterdir())
    spent = sum(map(len, texts.values()))
    if spent > limit:  # many songs: each loads its pictures when it is opened
        for name, text in texts.items():
            if name != "0":
                (staged / f"{name}.js").write_text(_script(name, text), encoding="ascii")
        texts = {"0": texts["0"]}
    elif spent + sum(sound.stat().st_size for sound in sounds) <= limit:
        for sound in sounds:
            texts[sound.stem] = _text_of(sound.stem, sound.read_text(encoding="ascii"))
            sound.unlink()
    nonce = hashlib.sha256("".join(texts.values()).encode()).hexdigest()[:32]
    document = page(title, songs, f"{quote(beside.name)}/", nonce=nonce, inline=texts)
    (place / "page.html").write_text(document, encoding="utf-8")

    made = [path]
    for file in _assets(beside):
        file.unlink()
    if sounds := sorted(staged.iterdir()):
        beside.mkdir(exist_ok=True)
        for sound in sounds:
            sound.replace(beside / sound.name)
        made.append(beside)
    else:
        with contextlib.suppress(OSError):
            beside.rmdir()
    (place / "page.html").replace(path)
    return made


def check_free(path: Path, overwrite: bool) -> None:
    """Raise OutputError when a report at `path` would replace anything but a report."""
    if os.path.isdir(path):
        raise OutputError(path, "is a folder; name a file in it with --html")
    if path.suffix.lower() not in (".html", ".htm"):
        raise OutputError(path, "is not the name of a page: end it with .html")
    beside = beside_of(path)
    if os.path.islink(beside):
        raise OutputError(beside, "is a link, which a report does not follow; name another page with --html")
    if overwrite:
        return
    if os.path.lexists(path) and not _is_report(path):
        raise OutputError(path, "was not written by gbsep; give --overwrite to replace it, or another name with --html")
    for file in sorted(set(beside.iterdir()) - set(_assets(beside))) if os.path.isdir(beside) else ():
        raise OutputError(file, "was not written by gbsep; move it away, or name another page with --html")


def _assets(beside: Path) -> list[Path]:
    """The assets in the folder beside a report."""
    there = beside.iterdir() if os.path.isdir(beside) else ()
    return [file for file in there if ASSET.fullmatch(file.stem) and file.suffix == ".js" and is_regular(file)]


def _is_report(path: Path) -> bool:
    try:
        return GENERATOR.encode() in head(path, 2000)
    except OSError:
        return False


def beside_of(path: Path) -> Path:
    """The folder for the large assets of a report at `path`."""
    return path.with_name(f"{path.stem}_files")


def _relative(file: Path, folder: Path) -> str | None:
    try:
        return quote(Path(os.path.relpath(file, folder)).as_posix())
    except ValueError:  # another drive
        return None


def _json(value: object) -> str:
    """JSON that can stand in a script element: no end tag, no line separators."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
