"""`gbsep cache`: separated stems, and copies of what is at URLs."""

from __future__ import annotations

from .common import debug_option, say
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
@debug_option
def info() -> None:
    """Where the cache is, and how much is in it.

    \b
    gbsep cache info
    """
    from ..shelf import remote
    from ..store import pictures
    from ..store.stemcache import locate, usage

    cache = locate()
    used = usage(cache)
    size, limit = used.bytes / 1e6, cache.limit_bytes / 1e6
    say(f"{cache.folder}: {used.entries} separations, {size:.0f} of {limit:.0f} MB")
    count, size_bytes = pictures.usage(cache.folder)
    say(f"{count} spectrograms, {size_bytes / 1e6:.0f} MB")
    kept = remote.usage()
    say(f"{kept.entries} copies of what is at URLs, {kept.bytes / 1e6:.0f} MB")


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
    pictures.clear(cache.folder)
    gone, copies = clear(cache), remote.clear()
    say(f"removed {gone.entries} separations, {gone.bytes / 1e6:.0f} MB")
    say(f"removed {count} spectrograms, {size_bytes / 1e6:.0f} MB")
    say(f"removed {copies.entries} copies of what is at URLs, {copies.bytes / 1e6:.0f} MB")
