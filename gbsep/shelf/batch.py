"""batch.json: the outcome of each render of a batch, in one file beside the renders.

The same models write and read it. It is read as an untrusted file: missing keys get their defaults, unknown keys are
ignored, and names in it are looked for in its own folder only.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ..errors import SmallFileError
from ..schema import Lenient, Text, TrackName, is_plain_name, validated
from ..store import smallfiles
from .record import FindingRow, Stem, plain_track

REPORT = "batch.json"
WRITTEN_BY = "gbsep batch"
MAX_BYTES = 64_000_000


class Row(Lenient):
    """The outcome of one render; the fields are those of `gbsep.rendering.Outcome`."""

    input: Text
    preset: Text = ""
    status: Text
    folder: Text | None = None
    track: TrackName = ""
    reason: Text = ""
    from_cache: bool = False
    files: dict[Text, Text] = Field({})
    levels: dict[Text, Stem] = Field({})
    seconds: dict[Text, float] = Field({})
    findings: tuple[FindingRow, ...] = Field((), strict=False)
    warnings: tuple[Text, ...] = Field((), strict=False)
    notes: tuple[Text, ...] = Field((), strict=False)
    error: Text | None = None

    @property
    def song(self) -> str:
        """The name of the song, or of its file if the render was refused before it had one."""
        name = self.track or plain_track(Path(self.input).stem)
        return name if all(map(is_plain_name, name.split("/"))) else "?"

    @property
    def label(self) -> str:
        """The name of the render's folder; "?" where the preset is only known by the path of a file."""
        return self.preset if is_plain_name(self.preset) else "?"


class Versions(Lenient):
    """The gbsep that ran the batch."""

    version: Text = ""
    rendering: int = 0
    python: Text = ""


class Machine(Lenient):
    """The machine that ran the batch."""

    host: Text = ""
    system: Text = ""
    processors: int | None = None


class Pending(Lenient):
    """A render that was not started."""

    input: Text
    preset: Text


class Report(Lenient):
    """A batch.json; the keys in their order."""

    written_by: Literal["gbsep batch"]
    gbsep: Versions = Versions()
    command: tuple[Text, ...] = Field((), strict=False)
    started: Text = ""
    seconds: float = 0.0
    machine: Machine = Machine()
    jobs: int = 0
    threads: int = 0
    interrupted: bool = False
    counts: dict[Text, int] = Field({})
    renders: tuple[Row, ...] = Field((), strict=False)
    not_done: tuple[Pending, ...] = Field((), strict=False)
    left_out: tuple[Text, ...] = Field((), strict=False)
    unreviewed: tuple[Text, ...] = Field((), strict=False)

    def as_json(self) -> dict[str, Any]:
        """The same as one JSON object."""
        return self.model_dump(by_alias=True)

    def as_text(self) -> str:
        """The content of the file."""
        return json.dumps(self.as_json(), indent=2, ensure_ascii=False) + "\n"


def read(folder: Path) -> Report | None:
    """The report in an output folder, or None where there is none that gbsep wrote."""
    try:
        return parse(folder / REPORT, smallfiles.read_bytes(folder / REPORT, MAX_BYTES, follow=False))
    except SmallFileError:
        return None


def parse(path: Path | str, content: bytes) -> Report:
    """The report in the content of a batch.json; `path` is for the message. Raises SmallFileError."""
    return validated(path, Report, smallfiles.parse_json(path, content))
