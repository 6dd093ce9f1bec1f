"""Tags of a recording: title, artist and the like, from ID3, from text of no stated encoding, from PyAV.

Nothing is guessed. Text is decoded as UTF-8, or in the encoding that the tag names. A tag that cannot be decoded is
left out, with a warning that names it: wrong letters in a file that gbsep writes could not be repaired.

References: id3.org (ID3v2.4); Microsoft, "Multimedia Programming Interface" (RIFF INFO).
"""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

NAMES = {
    "title": "TIT2", "artist": "TPE1", "album": "TALB", "tracknumber": "TRCK", "date": "TDRC", "genre": "TCON",
    "comment": "COMM", "copyright": "TCOP", "software": "TSSE", "license": "TXXX",
}  # fmt: skip
"""The tags that gbsep carries, as libsndfile names them, and the ID3v2.4 frame for each."""

STEM_MARK = "gbsep stem"
"""What the tag `software` of a stem ends with, by which `probe.is_stem` knows what gbsep made, wherever it lies."""

Found = tuple[dict[str, str], tuple[str, ...]]
"""Tags by name, and the names of those whose text cannot be read."""


def decoded(raw: bytes) -> str | None:
    """The text of a tag, None where it is none: no UTF-8, control characters, or letters that were lost before.

    >>> decoded("노래".encode()), decoded("노래".encode("cp949"))
    ('노래', None)
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return _sound(text)


def _sound(text: str) -> str | None:
    text = text.strip("\0 \t\r\n")
    bad = any(letter == "\ufffd" or unicodedata.category(letter) in ("Cc", "Cs") for letter in text.translate(_SPACES))
    return None if bad else text


_SPACES = {ord(space): " " for space in "\t\r\n"}


def of(items: Iterable[tuple[str, bytes]]) -> Found:
    """Those of NAMES among tags by name, whose text is in no stated encoding; empty ones are left out."""
    tags, unread = {}, []
    for name, raw in items:
        if name not in NAMES or not raw.strip(b"\0 \t\r\n"):
            continue
        text = decoded(raw)
        if text is None:
            unread.append(name)
        elif text:
            tags[name] = text
    return tags, tuple(unread)


def of_av(*metadata: Mapping[str, str]) -> Found:
    """The same of PyAV's metadata, in which bytes that are no UTF-8 are surrogates; the last one wins."""
    found = {name.lower(): value for each in metadata for name, value in each.items()}
    found.setdefault("tracknumber", found.get("track", ""))
    return of((name, value.encode("utf-8", "surrogateescape")) for name, value in found.items())


def of_id3(source: Path | bytes) -> Found:
    """The tags in the ID3 tag of a file, or in a chunk that holds one.

    A damaged tag gives no texts, and the name `ID3` among those that cannot be read.
    """
    from mutagen import id3

    try:
        frames = id3.ID3(io.BytesIO(source) if isinstance(source, bytes) else source)
    except id3.ID3NoHeaderError:
        return {}, ()
    except Exception:
        return {}, ("ID3",)
    tags, unread = {}, []
    for name, key in NAMES.items():
        texts = _id3_texts(frames.getall(key), name)
        text = _sound(", ".join(texts))
        if text is None:
            unread.append(name)
        elif text:
            tags[name] = text
    return tags, tuple(unread)


def _id3_texts(frames: Iterable[object], name: str) -> list[str]:
    """The words of the first of a tag's frames that is meant: programs keep figures of their own in comments."""
    for frame in frames:
        about = getattr(frame, "desc", "")
        if (name == "comment" and about.startswith("iTun")) or (name == "license" and about.lower() != "license"):
            continue
        words = getattr(frame, "genres" if name == "genre" else "text", [])
        return [str(word).strip("\0") for word in words if str(word).strip("\0 ")]
    return []


def merged(*found: Found) -> Found:
    """Several results as one: of a tag that several have, the first; what any of them could read counts as read."""
    tags: dict[str, str] = {}
    for each, _ in found:
        tags = {**each, **tags}
    unread = dict.fromkeys(name for _, names in found for name in names if name not in tags)
    return tags, tuple(unread)


def warnings(unread: Iterable[str]) -> tuple[str, ...]:
    """Warnings for tags that cannot be read, by their names."""
    return tuple(
        "its ID3 tag is damaged and left out" if name == "ID3"
        else f"its {name} is in an encoding that it does not tell, and is left out: save the tags in UTF-8 to keep it"
        for name in unread
    )  # fmt: skip


def write_id3(path: Path, tags: Mapping[str, str]) -> None:
    """Tags of an MP3 file, in UTF-8: libsndfile writes them through an encoder that knows Latin-1 only."""
    from mutagen import id3

    frames = id3.ID3()
    for name, frame in NAMES.items():
        if tags.get(name):
            described = {"COMM": {"lang": "eng"}, "TXXX": {"desc": name}}.get(frame, {})
            frames.add(getattr(id3, frame)(encoding=id3.Encoding.UTF8, text=[tags[name]], **described))
    if frames:
        with mutagen_errors():
            frames.save(path)


_MP4 = {
    "title": "\xa9nam", "artist": "\xa9ART", "album": "\xa9alb", "date": "\xa9day", "genre": "\xa9gen",
    "comment": "\xa9cmt", "copyright": "cprt",
}  # fmt: skip
"""The atoms of an MP4 file's tags; the others get one of their own name."""


def write_mp4(path: Path, tags: Mapping[str, str]) -> None:
    """Tags of an m4a file."""
    from mutagen import mp4

    with mutagen_errors():
        file = mp4.MP4(path)
        for name in NAMES:
            if tags.get(name) and name in _MP4:
                file[_MP4[name]] = [tags[name]]
            elif tags.get(name):
                file[f"----:com.apple.iTunes:{name}"] = [mp4.MP4FreeForm(tags[name].encode())]
        file.save()


@contextmanager
def mutagen_errors() -> Iterator[None]:
    """Errors of mutagen become OSError."""
    from mutagen import MutagenError

    try:
        yield
    except MutagenError as error:
        raise OSError(None, str(error)) from None


def marked(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags that say that the file they go into is a stem, made by gbsep: `"REAPER v7, gbsep stem"`."""
    before = tags.get("software", "").split(STEM_MARK)[0].rstrip(" ,")
    return {**tags, "software": f"{before}, {STEM_MARK}" if before else STEM_MARK}


def read_tempo_bpm(path: str | Path) -> float | None:
    """The tempo that the tags of a file state (ID3 `TBPM`, Vorbis `BPM` or `TEMPO`, MP4 `tmpo`), in beats per minute.

    None when they state none, or one outside 20 to 999: many programs write 0 for "not known".
    """
    import mutagen

    # mutagen meets damaged tags with exceptions of every kind.
    with suppress(Exception):
        file = mutagen.File(path)
        words = file.tags if file is not None else None
        for name in ("TBPM", "BPM", "TEMPO", "tmpo"):
            found = words.get(name) if words else None
            if not found:
                continue
            with suppress(ValueError):
                tempo = float(str(found[0]).replace(",", "."))
                if 20 <= tempo <= 999:
                    return tempo
    return None
