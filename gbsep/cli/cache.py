"""`gbsep cache`: separated stems, and downloaded recordings."""

from __future__ import annotations

import click

from .common import debug_option, print_json, say
from .helping import group


@group("cache")
def cache_group() -> None:
    """Stems that are kept, so that a changed chain renders at once.

    \b
    gbsep cache info
    gbsep cache clear

    \b
    GBSEP_CACHE       the folder it is in
    GBSEP_CACHE_SIZE  how much it may hold, such as "20 GB"; 10 GB without it
    """


@cache_group.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, and nothing else there.")
@debug_option
def info(as_json: bool) -> None:
    """Where the cache is, and how much is in it.

    \b
    gbsep cache info
    """
    from ..shelf import remote
    from ..store import pictures
    from ..store.stemcache import locate, usage

    cache = locate()
    used, kept = usage(cache), remote.usage()
    count, size_bytes = pictures.usage(cache.folder)
    pieces, pieces_bytes = pictures.usage(cache.folder, "previews")
    if as_json:
        found = {"separations": (used.entries, used.bytes), "spectrograms": (count, size_bytes)}
        found |= {"previews": (pieces, pieces_bytes), "copies": (kept.entries, kept.bytes)}
        told = {name: {"entries": entries, "bytes": size} for name, (entries, size) in found.items()}
        print_json({"folder": str(cache.folder), "limit_bytes": cache.limit_bytes, **told})
        return
    size, limit = used.bytes / 1e6, cache.limit_bytes / 1e6
    say(f"{cache.folder}: {used.entries} separations, {size:.0f} of {limit:.0f} MB")
    say(f"{count} spectrograms, {size_bytes / 1e6:.0f} MB")
    say(f"{pieces} previews, {pieces_bytes / 1e6:.0f} MB")
    say(f"{kept.entries} downloaded recordings, {kept.bytes / 1e6:.0f} MB")


@cache_group.command()
@debug_option
def clear() -> None:
    """Empty the cache; a render from or to a URL that is under way may fail by it.

    \b
    gbsep cache clear
    """
    from ..shelf import remote
    from ..store import pictures
    from ..store.stemcache import clear, locate

    cache = locate()
    count, size_bytes = pictures.usage(cache.folder)
    pieces, pieces_bytes = pictures.usage(cache.folder, "previews")
    pictures.clear(cache.folder)
    gone, copies = clear(cache), remote.clear()
    say(f"removed {gone.entries} separations, {gone.bytes / 1e6:.0f} MB")
    say(f"removed {count} spectrograms, {size_bytes / 1e6:.0f} MB")
    say(f"removed {pieces} previews, {pieces_bytes / 1e6:.0f} MB")
    say(f"removed {copies.entries} downloaded recordings, {copies.bytes / 1e6:.0f} MB")
