"""Damage: what bytes, JSON documents and files can be in place of what was written."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**300, -(10**300), 0.0, -0.5, 1e-320, 1e308, -1e308, "", "x",
    ".", "..", "../../../precious.txt", "/etc/passwd", "a/b", "a\\b", "nul\0byte", "\ud800", "\udcff.wav", "x" * 300,
    "http://[", "file:///dev/zero", "/dev/zero", "bass.wav", "render.json", "0" * 64, "NaN", [], {}, [[]], [None],
    ["x", 1], {"x": 1}, {"file": "../x"}, {"../../../precious.txt": {"bytes": 9, "sha256": "x"}}, [0.0, [1, {}]],
)  # fmt: skip
"""What stands in a forged document in place of what was there; keys are taken from its words."""
TEXTS = (
    b"", b"\0", b"null", b"[]", b"{}", b'"x"', b"1e999", b"-1", b"9" * 400, b"9" * 5000, b"NaN", b"[" * 100_000,
    b'{"a":' * 5000, b"[" * 60 + b"]" * 60, b"\xff\xfe{\0}\0", b"\xef\xbb\xbf{}", b"- " * 3000, b"? " * 3000,
    b"a: &a [*a]", b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]", b"!!python/object/apply:os.system [ls]", b"{" * 9,
    b"a: 0x" + b"f" * 300, b"a: 1:" + b"59:" * 250 + b"0", b"a: 2024-13-45", b"\r\r\n\n", b"---\n---\n", b"%YAML 9.9\n",
)  # fmt: skip
"""Whole small files that nobody would write."""


def damaged(data: bytes, chance: random.Random) -> bytes:
    """`data` with up to four changes: bytes, numbers of a header, parts taken out, put in or moved, cut or grown."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 3, 4))):
        if not out:
            break
        # Headers are where it hurts.
        at = chance.randrange(min(len(out), chance.choice((64, 512, len(out)))))
        change = chance.randrange(8)
        if change == 0:
            out[at] = chance.randrange(256)
        elif change == 1:
            out[at] ^= 1 << chance.randrange(8)
        elif change == 2:
            size = chance.choice((2, 4, 8))
            value = chance.choice((0, 1, 2 ** (8 * size) - 1, 2 ** (8 * size - 1), chance.getrandbits(8 * size)))
            out[at : at + size] = value.to_bytes(size, chance.choice(("little", "big")))
        elif change == 3:
            del out[at : at + chance.choice((1, 4, 100, 4000))]
        elif change == 4:
            out[at:at] = chance.choice((b"\0", b"\xff", chance.randbytes(4))) * chance.choice((1, 8, 600))
        elif change == 5:
            del out[chance.randrange(len(out)) :]
        elif change == 6:
            begin = chance.randrange(len(out))
            out[at:at] = out[begin : begin + chance.choice((4, 64, 2000))]
        else:
            out[at : at + 16] = chance.randbytes(16)
    return bytes(out)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in a JSON document, as keys and indices; the document itself at ()."""
    yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*path, key))


def forged(document: Any, draw: random.Random) -> Any:
    """A document with one to three of its places changed, taken away or called otherwise."""
    document = json.loads(json.dumps(document))
    for _ in range(draw.randint(1, 3)):
        ways = [path for path in places(document) if path]
        if not ways:
            break
        *way, last = draw.choice(ways)
        place: Any = document
        for key in way:
            place = place[key]
        change = draw.randrange(4)
        if change == 0:
            del place[last]
        elif change == 1 and isinstance(place, dict):
            place[draw.choice([value for value in VALUES if isinstance(value, str)])] = place.pop(last)
        else:
            place[last] = json.loads(json.dumps(draw.choice(VALUES)))
    return document


def put_special(path: Path, chance: random.Random, fifo: bool = True) -> str:
    """Put at a path what is no file of its own, in place of what is there; what it is."""
    what = chance.choice(("folder", "/dev/zero", "/dev/full", "itself", "nothing", "elsewhere", *["fifo"] * fifo))
    if what == "folder":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)
    else:
        targets = {"itself": path.name, "nothing": "not/there", "elsewhere": "../beside"}
        path.symlink_to(targets.get(what, what))
    return what


def cleared(path: Path) -> None:
    """Remove what `put_special` or a test put at a path."""
    if path.is_dir() and not path.is_symlink():
        for inside in path.iterdir():
            cleared(inside)
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
