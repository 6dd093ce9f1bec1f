"""render.json: the record of a finished render, read as an untrusted file.

Conventions: the file holds a checksum of its own content, which shows that it was not altered by accident, not who
wrote it. So every value is checked before it is used: types, ranges, and names of files, which have to be plain names
in the render's own folder. Files of older and newer versions are fine: missing keys get their defaults where there is
one, unknown keys are ignored. Anything else makes a record invalid. It is written from the same models, and then every
key has to be set; see `written`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    Field,
    PlainValidator,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from ..errors import SmallFileError
from ..schema import Lenient, Place, Sha256, Text, checked_text, is_plain_name, validated
from ..store import smallfiles
from ..store.identity import json_hash

RECORD = "render.json"
MAX_BYTES = 8_000_000
SCHEMA_VERSION = 1
"""Raised when a key is removed or changes its meaning, not when one is added. Version 1 is not written to the file."""

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
    """The name of a track without parts of dots, which could lead elsewhere, such as `...wav` without its suffix.

    >>> plain_track("album/..")
    'album/__'
    """
    return "/".join("_" * len(part) if set(part) == {"."} else part for part in name.split("/"))


class Stamp(Lenient):
    """Size, time and SHA-256 of a file that gbsep wrote."""

    bytes: int = Field(ge=0, lt=2**63)
    modified_ns: int = Field(0, ge=-(2**62), lt=2**62)
    sha256: Sha256


class Versions(Lenient):
    """The version of gbsep, and those of its renders and separations."""

    version: Text = ""
    rendering: int = 0
    separation: int = 0


class Recording(Lenient):
    """The recording: its path, hash and format when it was rendered."""

    path: Place
    sha256: Sha256
    container: Text = ""
    subtype: Text = ""
    sample_rate: int = Field(ge=1, lt=2**31)
    channels: int = Field(ge=1, lt=2**16)
    frames: int = Field(0, ge=0, lt=2**62)
    tags: dict[Text, Text] = Field({})
    time_reference: int | None = Field(None, ge=0, lt=2**64)


class Excerpt(Lenient):
    """The part of the recording, in seconds; `duration_s` None is to its end. `frames` is its length."""

    start_s: Seconds = 0.0
    duration_s: Seconds | None = None
    frames: int = Field(0, ge=0, lt=2**62)


class Levels(Lenient):
    """Peak, RMS and loudness; None for silence."""

    peak_dbfs: Decibels | None = None
    rms_dbfs: Decibels | None = None
    loudness_lufs: Decibels | None = None


class PluginRow(Lenient):
    """A plug-in of a chain as it ran; a bypassed one has only a name and the reason."""

    where: Text = ""
    name: Text = ""
    class_id: Text = ""
    version: Text = ""
    latency_frames: int = 0
    parameters: dict[Text, Any] = Field({})
    bypassed: Text | None = None

    @model_serializer(mode="wrap")
    def _without_unset(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in dump(self).items() if name in self.model_fields_set}


class Stem(Lenient):
    """A stem: its files, its sources, its levels as separated and as written."""

    file: FileName
    dry: FileName | None = None
    sources: tuple[Text, ...] = Field((), validation_alias="from", serialization_alias="from", strict=False)
    restored_gain_db: Annotated[float, Field(ge=-1000, le=1000)] = 0.0
    before: Levels = Levels()
    after: Levels = Levels()
    plugins: tuple[PluginRow, ...] = Field((), strict=False)
    told: Text = Field("", description="what the separator found of it: `is 42 % left`, `plays chords`")


class Residual(Lenient):
    """The mixture minus all stems: its file and its levels."""

    file: FileName | None = None
    peak_dbfs: Decibels | None = None
    rms_dbfs: Decibels | None = None
    loudness_lufs: Decibels | None = None


class NullTest(Lenient):
    """The peak of the mixture minus stems and residual, as they are before they are written."""

    peak_dbfs: Decibels | None = None
    lossy: bool = Field(False, description="the format of the files loses something: they themselves do not add up so")


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
    """A stem of the preset: its sources, restoration and chain."""

    sources: tuple[Text, ...] = Field((), alias="from", strict=False)
    restore: RestoreRow = RestoreRow()
    chain: tuple[dict[Text, Any], ...] = Field((), strict=False)


class OutputRow(Lenient):
    format: Text = "wav"
    bit_depth: Text | None = None


class PresetRow(Lenient):
    """The parts of a render's preset that are used here; `document` is the whole preset as JSON."""

    document: dict[Text, Any]
    name: Text
    title: Text = ""
    separate: dict[Text, Any]
    stems: dict[Text, PresetStem] = Field({})
    output: OutputRow = OutputRow()

    @model_validator(mode="before")
    @classmethod
    def _with_document(cls, value: Any) -> Any:
        return {**value, "document": value} if isinstance(value, dict) else value

    @model_serializer
    def _document(self) -> dict[str, Any]:
        return self.document

    def effects(self, stem: str) -> list[str]:
        """The names of the effects in a stem's chain."""
        return [str(node.get("effect")) for node in self.stems[stem].chain] if stem in self.stems else []


class ReviewRow(Lenient):
    """The stems that the song's review exchanged."""

    swap: tuple[Annotated[tuple[Text, Text], Field(strict=False)], ...] = Field((), strict=False)


class SeparationRow(Lenient):
    """The separation. `identity` is what the backend says of weights and engine; in the file it is not nested.

    `swap` is the verdict on a swap, and missing where none was looked for.
    """

    backend: Text = ""
    seed: int = 0
    device: Text = ""
    stems: tuple[Text, ...] = Field((), strict=False)
    identity: dict[Text, Any] = Field({})
    from_cache: bool = False
    swap: dict[Text, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _with_identity(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "identity" in value:
            return value
        own = {name: value[name] for name in cls.model_fields if name in value}
        return {**own, "identity": {name: other for name, other in value.items() if name not in own}}

    @model_serializer(mode="wrap")
    def _flat(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        plain = dump(self)
        identity, from_cache, swap = (plain.pop(name) for name in ("identity", "from_cache", "swap"))
        return {**plain, **identity, "from_cache": from_cache, **({} if swap is None else {"swap": swap})}


class Machine(Lenient):
    """The machine that rendered."""

    system: Text = ""
    processors: int | None = None


class Content(Lenient):
    """The keys of render.json in their order, except `files` and `checksum`: how to make the files again."""

    schema_version: int = Field(SCHEMA_VERSION, ge=1)
    gbsep: Versions = Versions()
    recording: Recording = Field(alias="input")
    excerpt: Excerpt = Excerpt()
    preset: PresetRow
    overrides: dict[Text, Any] = Field({}, description="key paths of the preset and what --set put there")
    review: ReviewRow = ReviewRow()
    separation: SeparationRow = SeparationRow()
    stems: dict[Text, Stem]
    residual: Residual = Residual()
    null_test: NullTest = NullTest()
    diagnoses: tuple[FindingRow, ...] | None = Field(None, strict=False, description="what the diagnosis found")
    shared_gain_db: Decibels = Field(0.0, description="by which all files were lowered, so that none clips")
    warnings: tuple[Text, ...] = Field((), strict=False, description="what the user was told")
    notes: tuple[Text, ...] = Field((), strict=False, description="what is so and no fault, such as drums heard")
    seconds: dict[Text, Seconds] = Field({}, description="that each stage took")
    machine: Machine = Machine()
    versions: dict[Text, Text] = Field({}, description="of Python and the libraries")
    fingerprint: dict[Text, Any] = Field({}, description="a hash of each part that the render depends on")

    @property
    def own_files(self) -> list[str]:
        """The files of this render, without those kept from earlier ones."""
        named = [name for stem in self.stems.values() for name in (stem.file, stem.dry)]
        return list(dict.fromkeys(name for name in (*named, self.residual.file) if name is not None))


class Record(Content):
    """A render.json. `files` are the stamps of all files in the folder by name, including those of earlier renders."""

    files: dict[FileName, Stamp] = Field(description="every file it vouches for, also those of earlier renders")

    @model_validator(mode="after")
    def _files_are_vouched_for(self) -> Record:
        for name in self.own_files:
            if name not in self.files:
                raise ValueError(f"{name!r} is not among its files")
        return self


def written(content: Content, files: Mapping[str, Stamp]) -> dict[str, Any]:
    """The JSON of a render.json: content, files and checksum.

    Every key has to be set, whatever its default is. Raises ValueError for a key that was not set, and pydantic's
    ValidationError for a value that could not be read again.
    """
    complete = Record(**{**dict(content), "files": dict(files)})
    if forgotten := next(_unset(complete, ""), None):
        raise ValueError(f"{forgotten.removeprefix('.')} has no value in {RECORD}")
    of_first = {"schema_version"} if complete.schema_version == 1 else set()
    return sealed(complete.model_dump(by_alias=True, exclude=of_first))


def _unset(value: Any, where: str) -> Iterator[str]:
    """The paths of fields, in a model and the models in it, that were not set."""
    if isinstance(value, (PresetRow, PluginRow)):  # as their own writers have them
        return
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            if name not in value.model_fields_set:
                yield f"{where}.{name}"
            yield from _unset(getattr(value, name), f"{where}.{name}")
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _unset(inner, f"{where}.{name}")
    elif isinstance(value, tuple):
        for number, inner in enumerate(value):
            yield from _unset(inner, f"{where}[{number}]")


def fingerprint(parts: Mapping[str, Any]) -> dict[str, str]:
    """A hash for each part that a render depends on, so that messages can name the part that changed."""
    return {name: json_hash(part, sort_keys=True) for name, part in parts.items()}


def sealed(document: Mapping[str, Any]) -> dict[str, Any]:
    """A record as plain JSON with the checksum of its content."""
    plain = json.loads(json.dumps({key: value for key, value in document.items() if key != "checksum"}))
    return {**plain, "checksum": fingerprint({RECORD: plain})[RECORD]}


def parse(path: str | Path, content: bytes) -> Record:
    """The record in the content of a render.json; `path` is for the message.

    Raises SmallFileError for a record that gbsep did not write, that was altered, or that is not valid.
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
    """The record in a folder; None where there is no usable one."""
    try:
        return load(folder)
    except SmallFileError:
        return None
