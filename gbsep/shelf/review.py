"""The decisions of a person on the renders of a song: `review.json` beside them, which the next render follows.

    OUT/<track>/review.json
    {"schema_version": 1,
     "status": "accepted",                            or "rejected", or null: nobody has decided
     "preset": "exp005_1",                            the one to use for this song when none is named, or null
     "swap": {"exp004": [["bass", "guitar"]]},        stems that hold each other's signal, by the render's folder
     "notes": [{"time_s": 18.0, "text": "guitar in the bass", "preset": "exp004", "stem": "bass",
                "written_at": "2025-01-14T20:15:00+00:00"}]}

A swap belongs to one render: where one separator takes the guitar for the bass, another may be right. It exchanges the
restored signals of two stems, after the preset's own `swap`; each stem keeps its chain.

Reading is strict: any other key, type or value is an error, so that no decision is lost silently.
"""

from __future__ import annotations

import json
import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from ..atomic import write_whole
from ..errors import OutputError, SmallFileError
from ..schema import StrictModel, first_problem
from ..store import smallfiles

FILE = "review.json"
MAX_BYTES = 1_000_000
MAX_NOTE = 2000

Pair = Annotated[list[str], Field(min_length=2, max_length=2)]


class Remark(StrictModel):
    """A remark on a time in a stem of a preset, or in the whole song."""

    time_s: float = Field(ge=0)
    text: str = Field(min_length=1, max_length=MAX_NOTE)
    preset: str | None = None
    stem: str | None = None


class Note(Remark):
    """A remark as it is kept: with the time at which it was written."""

    written_at: str = Field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds"))


class Review(StrictModel):
    """The decisions on one song; empty when nothing is set.

    >>> Review().swapped("exp004", "bass", "guitar").swap
    {'exp004': [['bass', 'guitar']]}
    """

    schema_version: Literal[1] = 1
    status: Literal["accepted", "rejected"] | None = None
    preset: str | None = None
    swap: dict[str, list[Pair]] = Field({})
    notes: list[Note] = Field([])

    @property
    def is_done(self) -> bool:
        """Whether somebody has decided on the song."""
        return self.status is not None

    def swaps(self, preset: str) -> tuple[tuple[str, str], ...]:
        """The pairs of stems to exchange in the render of this preset."""
        return tuple((first, second) for first, second in self.swap.get(preset, []))

    def swapped(self, preset: str, first: str, second: str) -> Review:
        """With two stems of a render exchanged; a second exchange, or one with another stem, undoes the first."""
        pair = sorted((first, second))
        kept = [other for other in self.swap.get(preset, []) if not set(other) & set(pair)]
        pairs = kept if pair in self.swap.get(preset, []) else [*kept, pair]
        others = {name: other for name, other in self.swap.items() if name != preset}
        return self.model_copy(update={"swap": {**others, preset: pairs} if pairs else others})


def load(folder: Path) -> Review:
    """The review in the folder of a song; an empty one where there is none.

    Raises OutputError, which names the place in the file, for one that is not valid.
    """
    path = folder / FILE
    if not os.path.lexists(path):  # also where the folder's name is one that no disk takes
        return Review()
    try:
        review = Review.model_validate(smallfiles.read_json(path, MAX_BYTES))
    except SmallFileError as error:
        raise OutputError(path, f"{error.reason}; mend it, or move it away") from None
    except ValidationError as error:
        where, reason = first_problem(error, Review)
        place = f"{where}: " if where else ""
        raise OutputError(path, f"{place}{reason}; mend it, or delete the file") from None
    for preset, pairs in review.swap.items():
        named = [name for pair in pairs for name in pair]
        if len(set(named)) < len(named):
            raise OutputError(path, f"swap.{preset}: a stem is named twice; mend it, or delete the file")
    return review


def save(folder: Path, review: Review) -> None:
    """Write the review of a song atomically. Raises OutputError when the folder cannot be written."""
    path = folder / FILE
    try:
        write_whole(path, json.dumps(review.model_dump(), indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise OutputError(path, f"cannot be written: {error.strerror}") from None
