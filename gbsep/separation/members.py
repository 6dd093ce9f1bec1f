"""Separators inside a separator: the members of an ensemble, the first stage of two guitars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..audio import Reader
from ..errors import GbsepError, ParameterError
from ..schema import Misplaced
from ..store import stemcache
from .backend import BackendModule, Context, backend_named, parse_settings, stem_blocks
from .settings import BackendSettings


@dataclass(frozen=True)
class Member:
    """A backend's name and its checked settings."""

    name: str
    settings: BackendSettings

    @property
    def module(self) -> BackendModule:
        return backend_named(self.name).load()


def parsed_member(document: Mapping[str, Any]) -> Member:
    """A member as it stands in "separate", without a seed. Raises ParameterError."""
    name = str(document["backend"])
    return Member(name, parse_settings(name, {key: value for key, value in document.items() if key != "backend"}))


def checked_member(place: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """A member with every default filled in. Raises Misplaced; `place` is where it stands, such as `[1]`."""
    try:
        if not isinstance(document.get("backend"), str):
            raise Misplaced(place, "must name a backend")
        member = parsed_member(document)
        return {"backend": member.name, **member.settings.model_dump()}
    except ParameterError as error:
        raise Misplaced(f"{place}.{error.name}", error.allowed) from None
    except GbsepError as error:
        raise Misplaced(place, str(error)) from None


def member_stems(reader: Reader, member: Member, context: Context) -> Mapping[str, Reader]:
    """A member's stems of a mixture, as they lie on disk: from the cache, where there is one."""
    if context.member is not None:
        return context.member(member.name, member.settings, context)
    shape = stemcache.Shape(context.wanted, reader.sample_rate, reader.channels, reader.frames)
    return stemcache.spool(stem_blocks(reader, member.name, member.settings, context), shape)
