"""How a song was left on the page: faders, loop, speed, tempo, and chains that are no preset yet; a small file each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from ..atomic import write_whole
from ..errors import OutputError, SmallFileError
from ..schema import StrictModel
from ..store import smallfiles
from .stretch import SEMITONES, SPEEDS

FOLDER = "desks"


class Fader(StrictModel):
    """A strip of the mixer."""

    gain_db: float = Field(0.0, ge=-120, le=24)
    pan: float = Field(0.0, ge=-1, le=1)
    mute: bool = False
    solo: bool = False


class Tempo(StrictModel):
    """Tempo, key and bars as somebody corrected them; `bar_s` is where a bar begins."""

    bpm: float | None = Field(None, gt=0, le=1000)
    key: str | None = Field(None, max_length=40)
    bar_s: float | None = Field(None, ge=0, le=10_000_000)
    per_bar: int | None = Field(None, ge=2, le=7)


class Desk(StrictModel):
    """What is kept of a song."""

    take: str = Field(max_length=300)
    chains: dict[str, list[Any]] = Field({}, max_length=40)
    bypassed: dict[str, list[int]] = Field({}, max_length=40)
    strips: dict[str, Fader] = Field({}, max_length=200)
    loop: list[float] | None = Field(None, min_length=2, max_length=2)
    speed: float = Field(1.0, ge=SPEEDS[0], le=SPEEDS[1])
    semitones: float = Field(0.0, ge=-SEMITONES, le=SEMITONES)
    tempo: Tempo | None = None


def keep(hidden: Path, song: str, desk: Desk) -> None:
    """Write it. Raises OutputError."""
    path = hidden / FOLDER / f"{song}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, desk.model_dump_json())
    except (OSError, ValueError) as error:
        raise OutputError(path, f"cannot be written: {getattr(error, 'strerror', None) or error}") from None


def kept(hidden: Path, song: str) -> dict[str, Any] | None:
    """As it was left; None when it never was."""
    try:
        return Desk.model_validate(smallfiles.read_json(hidden / FOLDER / f"{song}.json")).model_dump()
    except (SmallFileError, ValidationError):
        return None
