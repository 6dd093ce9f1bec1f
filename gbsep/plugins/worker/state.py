"""The saved state of a plug-in: everything it remembers, as bytes of its own.

Two forms:

- `.vstpreset`, Steinberg's: `VST3`, version 1, the class id of the plug-in in 32 characters, the offset of a list of
  chunks, the chunks, the list (`List`, a count, then id, offset and size of each). It can be made by any VST3 host.
- raw, for what has no `.vstpreset` (Audio Units): one line of JSON with the class id and the plug-in's version, then
  the state as the plug-in gave it.

In a `.vstpreset`, `Comp` is the state of the component, which makes the sound, and `Cont` that of its controller. Those
saved here carry the plug-in's version too, as an `Info` chunk. A state is refused when it belongs to another plug-in or
to another version: the same preset must not come out differently without a word.

Reference: Steinberg, "VST 3 Preset Format" (`public.sdk/source/vst/vstpresetfile.h`).
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from pathlib import Path
from xml.etree import ElementTree

from ...errors import PluginError, printable

HEADER = struct.Struct("<4si32sq")
LIST = struct.Struct("<4si")
ENTRY = struct.Struct("<4sqq")
PRESET_VERSION = 1
MAX_BYTES = 2**28
RAW_MAGIC = b"gbsep-plugin-state "


def read_state(text: str, folder: Path) -> bytes:
    """The state that a preset names: base64, or the path of a file relative to the preset's `folder`."""
    file = state_file(text, folder)
    if file is not None:
        return read_file(file)
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        shown = text if len(text) <= 60 else f"{text[:57]}..."
        raise PluginError(f"{shown!r} is no file in {folder}, nor a state in base64") from error


def read_file(file: Path) -> bytes:
    """The state in a file. Raises PluginError for one that is no regular file, or larger than any state."""
    if not file.is_file():
        raise PluginError(f"there is no file {file}")
    if (size := file.stat().st_size) > MAX_BYTES:
        raise PluginError(f"{file} has {size} bytes, more than any state ({MAX_BYTES})")
    return file.read_bytes()


def state_file(text: str, folder: Path) -> Path | None:
    """The file that a preset in `folder` names as a state, links followed; None when it names none."""
    try:
        file = (folder / text).resolve()
        return file if file.is_file() else None
    except (OSError, RuntimeError):  # base64 that is too long to be a file name, a loop of links
        return None


def pack(form: str, kept: tuple[bytes, bytes], class_id: str, version: str) -> bytes:
    """What a plug-in's component and controller remember, `form` "vstpreset" or "raw" (component only), as a file."""
    component, controller = kept
    if form == "raw":
        return RAW_MAGIC + json.dumps({"class_id": class_id, "version": version}).encode() + b"\n" + component
    meta = ElementTree.Element("MetaInfo")
    ElementTree.SubElement(meta, "Attribute", id="PlugInVersion", value=version, type="string", flags="")
    info = ElementTree.tostring(meta, encoding="utf-8", xml_declaration=True)
    chunks = [(name, data) for name, data in ((b"Comp", component), (b"Cont", controller), (b"Info", info)) if data]
    offset, entries = HEADER.size, []
    for name, data in chunks:
        entries.append((name, offset, len(data)))
        offset += len(data)
    header = HEADER.pack(b"VST3", PRESET_VERSION, class_id.encode("ascii"), offset)
    listing = LIST.pack(b"List", len(entries)) + b"".join(ENTRY.pack(*entry) for entry in entries)
    return header + b"".join(data for _, data in chunks) + listing


def unpack(state: bytes, class_id: str, version: str) -> tuple[bytes, bytes]:
    """What a state holds for the component and the controller, after checking that it is meant for this plug-in.

    Raises PluginError saying what the state is, when it is none, holds nothing, or is one of another plug-in or
    version.
    """
    if state.startswith(b"VST3"):
        _check_preset(state, class_id, version)
        chunks = preset_chunks(state)
        if not chunks.keys() & {b"Comp", b"Cont"}:
            raise PluginError("the state is a .vstpreset that holds no state: neither of the component nor controller")
        return chunks.get(b"Comp", b""), chunks.get(b"Cont", b"")
    if state.startswith(RAW_MAGIC):
        line, _, data = state[len(RAW_MAGIC) :].partition(b"\n")
        try:
            saved = json.loads(line)
            saved_class, saved_version = saved["class_id"], saved["version"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise PluginError("the state is damaged: its first line is not readable") from error
        _check_class(saved_class, class_id)
        _check_version(saved_version, version)
        return data, b""
    raise PluginError("the state is neither a .vstpreset nor one that gbsep saved")


def preset_chunks(preset: bytes) -> dict[bytes, bytes]:
    """The chunks of a .vstpreset by name: `Comp`, the state of the component, `Cont`, that of its controller, others.

    Raises PluginError when it is damaged.
    """
    try:
        return {name: preset[offset : offset + size] for name, offset, size in _entries(preset)}
    except (struct.error, ValueError) as error:
        raise PluginError(f"the state is a damaged .vstpreset: {error}") from error


def _check_preset(state: bytes, class_id: str, version: str) -> None:
    try:
        _, preset_version, preset_class, _ = HEADER.unpack_from(state)
        if preset_version != PRESET_VERSION:
            raise PluginError(f"the state is a .vstpreset of version {preset_version}, not {PRESET_VERSION}")
        _check_class(preset_class.decode("ascii", "replace"), class_id)
        info = [state[offset : offset + size] for name, offset, size in _entries(state) if name == b"Info"]
        attributes = [item for text in info for item in ElementTree.fromstring(text).iter("Attribute")]
    except struct.error as error:
        raise PluginError("the state is a damaged .vstpreset: it ends too early") from error
    except (ValueError, LookupError, ElementTree.ParseError) as error:  # LookupError: an encoding that is none
        raise PluginError(f"the state is a damaged .vstpreset: {error}") from error
    for attribute in attributes:
        if attribute.get("id") == "PlugInVersion":
            _check_version(attribute.get("value"), version)


def _entries(preset: bytes) -> list[tuple[bytes, int, int]]:
    list_offset = HEADER.unpack_from(preset)[3]
    magic, count = LIST.unpack_from(preset, list_offset)
    if magic != b"List" or not 0 < count <= 128:
        raise ValueError("no list of chunks where its header says")
    entries = [ENTRY.unpack_from(preset, list_offset + LIST.size + ENTRY.size * index) for index in range(count)]
    for name, offset, size in entries:
        if offset < 0 or size < 0 or offset + size > len(preset):
            raise ValueError(f"chunk {name!r} lies outside the file")
    return entries


def _check_class(saved: object, here: str) -> None:
    if not isinstance(saved, str) or saved.upper() != here.upper():
        raise PluginError(
            f"the state belongs to another plug-in: it was saved for class id {_shown(saved)}, this one is {here}"
        )


def _check_version(saved: object, here: str) -> None:
    if saved != here:
        raise PluginError(
            f"the state was saved for version {_shown(saved)}, but this plug-in has {here}: "
            f"install version {_shown(saved)}, or set the plug-in up again and save its state with `gbsep plugins save`"
        )


def _shown(saved: object) -> str:
    """What a file calls itself, short and in one line."""
    return printable(str(saved)[:60])
