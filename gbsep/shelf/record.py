"""render.json: what a finished render says of itself, read as a stranger's file.

Conventions: the file holds a checksum of its own content, which shows that nobody altered it by chance, not who wrote
it. So every value is checked before it is used: types, ranges, and names of files, which are plain names in the
render's own folder. What an older or a newer version did not write, or wrote beside, is no fault: missing keys take
their defaults where there is one, unknown ones are left alone. A record of which that does not hold is no record.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainValidator, model_validator

from ..errors import SmallFileError
from ..schema import Lenient, Place, Sha256, Text, checked_text, is_plain_name, validated
from ..store import smallfiles
from ..store.identity import json_hash

RECORD = "render.json"
MAX_BYTES = 8_000_000
MAX_SECONDS = 1e9


def _file_name(value: Any) -> str:
    name = checked_text(value)
    if not is_plain_name(name) or name == RECORD:
        raise ValueError(f"{name!r} must be the plain name of a file in this folder")
    return name


FileName = Annotated[str, PlainValidator(_file_name)]
Seconds = Annotated[float, Field(ge=0, le=MAX_SECONDS)]
Decibels = Annotated[float, Field(ge=-1e6, le=1e6)]


def plain_track(name: str) -> str:
    """The name of a track without parts that lead elsewhere, such as what is left of `...wav` without its suffix.

    >>> plain_track("album/..")
    'album/__'
    """
    return "/".join("_" * len(part) if set(part) == {"."} else part for part in name.split("/"))


class Stamp(Lenient):
    """By what a file is known that gbsep wrote."""

    bytes: int = Field(ge=0, lt=2**63)
    modified_ns: int = Field(0, ge=-(2**62), lt=2**62)
    sha256: Sha256


class Recording(Lenient):
    """What was rendered, where it was and what it was then."""

    path: Place
    sha256: Sha256
    container: Text = ""
    sample_rate: int = Field(ge=1, lt=2**31)
    channels: int = Field(ge=1, lt=2**16)
    frames: int = Field(0, ge=0, lt=2**62)
    time_reference: int | None = Field(None, ge=0, lt=2**64)


class Excerpt(Lenient):
    """The part of the recording, in seconds; `duration_s` None is to its end."""

    start_s: Seconds = 0.0
    duration_s: Seconds | None = None


class Levels(Lenient):
    """Peak, RMS and loudness; None where there is none."""

    peak_dbfs: Decibels | None = None
    rms_dbfs: Decibels | None = None
    loudness_lufs: Decibels | None = None


class PluginRow(Lenient):
    """A plug-in of a chain as it was in the render."""

    where: Text = ""
    name: Text = ""
    class_id: Text = ""
    version: Text = ""
    bypassed: Text | None = None


class Stem(Lenient):
    """A stem: its files, its level before and after."""

    file: FileName
    dry: FileName | None = None
    restored_gain_db: Annotated[float, Field(ge=-1000, le=1000)] = 0.0
    after: Levels = Levels()
    plugins: tuple[PluginRow, ...] = Field((), strict=False)


class Residual(Levels):
    """What no stem took."""

    file: FileName | None = None


class FindingRow(Lenient):
    """A finding of the diagnosis; the fields are those of `gbsep.measure.diagnose.Finding`."""

    kind: Text = ""
    stem: Text = ""
    start_s: Seconds = 0.0
    end_s: Seconds = 0.0
    severity: Text = ""
    message: Text = ""
    value: float = 0.0
    partner: Text | None = None


class RestoreRow(Lenient):
    method: Text = "none"


class PresetStem(Lenient):
    """A stem of the preset: what it is made of, and its chain as it stands there."""

    sources: tuple[Text, ...] = Field((), alias="from", strict=False)
    restore: RestoreRow = RestoreRow()
    chain: tuple[dict[Text, Any], ...] = Field((), strict=False)


class OutputRow(Lenient):
    format: Text = "wav"
    bit_depth: Text | None = None


def _with_document(value: Any) -> Any:
    return {**value, "document": value} if isinstance(value, dict) else value


class PresetRow(Lenient):
    """The preset of a render; `document` is all of it, for the strict reader of presets."""

    document: dict[Text, Any]
    name: Text
    title: Text = ""
    separate: dict[Text, Any]
    stems: dict[Text, PresetStem] = Field({})
    output: OutputRow = OutputRow()

    def effects(self, stem: str) -> list[str]:
        """The names of the effects in a stem's chain."""
        return [str(node.get("effect")) for node in self.stems[stem].chain] if stem in self.stems else []


class ReviewRow(Lenient):
    """What the song's review exchanged."""

    swap: tuple[Annotated[tuple[Text, Text], Field(strict=False)], ...] = Field((), strict=False)


class Record(Lenient):
    """A render.json. `files` are all files that it vouches for, by name, those of earlier renders in it as well."""

    files: dict[FileName, Stamp]
    recording: Recording = Field(alias="input")
    excerpt: Excerpt = Excerpt()
    preset: Annotated[PresetRow, BeforeValidator(_with_document)]
    overrides: dict[Text, Any] = Field({})
    review: ReviewRow = ReviewRow()
    stems: dict[Text, Stem]
    residual: Residual = Residual()
    diagnoses: tuple[FindingRow, ...] | None = Field(None, strict=False)
    warnings: tuple[Text, ...] = Field((), strict=False)
    fingerprint: dict[Text, Any] = Field({})

    @model_validator(mode="after")
    def _files_are_vouched_for(self) -> Record:
        for name in self.own_files:
            if name not in self.files:
                raise ValueError(f"{name!r} is not among its files")
        return self

    @property
    def own_files(self) -> list[str]:
        """The files of this render itself, without those of earlier ones that were kept."""
        named = [name for stem in self.stems.values() for name in (stem.file, stem.dry)]
        return list(dict.fromkeys(name for name in (*named, self.residual.file) if name is not None))


def fingerprint(parts: Mapping[str, Any]) -> dict[str, str]:
    """A hash for each part of what a render depends on, so that a change can be told by its name."""
    return {name: json_hash(part, sort_keys=True) for name, part in parts.items()}


def sealed(document: Mapping[str, Any]) -> dict[str, Any]:
    """A record as it is written: as plain JSON, with the checksum of its content."""
    plain = json.loads(json.dumps({key: value for key, value in document.items() if key != "checksum"}))
    return {**plain, "checksum": fingerprint({RECORD: plain})[RECORD]}


def parse(path: str | Path, content: bytes) -> Record:
    """The record in the content of a render.json; `path` is for the message.

    Raises SmallFileError for one that gbsep did not write, that was altered, or that is not as it must be.
    """
    document = smallfiles.parse_json(path, content)
    foreign = SmallFileError(path, "its checksum is missing or does not hold")
    if not isinstance(document, dict) or "checksum" not in document:
        raise foreign
    checksum = document.pop("checksum")
    if checksum != fingerprint({RECORD: document})[RECORD]:
        raise foreign
    return validated(path, Record, document)


def load(folder: Path) -> Record:
    """The record in a folder. Raises SmallFileError; `missing` is set where there is none."""
    path = folder / RECORD
    return parse(path, smallfiles.read_bytes(path, MAX_BYTES, follow=False))


def read(folder: Path) -> Record | None:
    """The record in a folder, or None where there is none that can be used."""
    try:
        return load(folder)
    except SmallFileError:
        return None
