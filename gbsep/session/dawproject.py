"""DAWproject 1.0 (.dawproject), which Bitwig Studio, Cubase, Studio One and others open: XML in a ZIP.

- Times are seconds: the arrangement says so itself, so no tempo is needed and none is made up.
- A file that is not embedded is `external`, its path relative to the .dawproject.
- A folder is a track that holds tracks, its channel a submix; channels lead to that of their folder, or to the master.
- Volumes are amplitude ratios from 0 to 2, pan 0.5 is the centre.
- A VST3 goes by its class id in the 32 digits of a .vstpreset, as Bitwig writes it; its state is such a file.

References: github.com/bitwig/dawproject: README, Project.xsd, MetaData.xsd.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from ..measure.levels import to_amplitude
from ..version import __version__
from .model import Clip, Insert, NoteClip, Session, Track, label

_MASTER = "master"


def speakable(path: str) -> bool:
    """Whether a path can stand in the XML as it is."""
    return path == label(path)


def write(session: Session, path: Path, place: Path, seal: str, embed: bool = False) -> None:
    """Write the session to `path`, for use from the folder `place`: paths of files are relative to it.

    With `embed` the audio files are put into the container. The file ends with `seal`, the comment of the ZIP.
    """
    files: dict[str, Path | bytes] = {}
    project = _project(session, place, files, embed)
    metadata = Element("MetaData")
    SubElement(metadata, "Title").text = label(session.name)
    if session.notes:
        SubElement(metadata, "Comment").text = "\n".join(map(label, session.notes))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as container:
        container.comment = seal.encode()
        for name, root in (("metadata.xml", metadata), ("project.xml", project)):
            ElementTree.indent(root)
            container.writestr(_entry(name), ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True))
        for name, content in files.items():
            if isinstance(content, bytes):
                container.writestr(_entry(name), content)
                continue
            entry = _entry(name)
            entry.compress_type, entry.file_size = zipfile.ZIP_STORED, content.stat().st_size
            with content.open("rb") as source, container.open(entry, "w") as target:
                shutil.copyfileobj(source, target, 2**20)


def _entry(name: str) -> zipfile.ZipInfo:
    """An entry without a time, so that one session gives the same bytes every time."""
    entry = zipfile.ZipInfo(name)
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def _project(session: Session, place: Path, files: dict[str, Path | bytes], embed: bool) -> Element:
    ids = (f"id{number}" for number in count())
    project = Element("Project", version="1.0")
    SubElement(project, "Application", name="gbsep", version=__version__)
    if session.tempo_bpm:
        transport = SubElement(project, "Transport")
        SubElement(transport, "Tempo", unit="bpm", value=_number(session.tempo_bpm), id=next(ids), name="Tempo")
        SubElement(transport, "TimeSignature", numerator="4", denominator="4", id=next(ids))
    structure = SubElement(project, "Structure")
    arrangement = SubElement(project, "Arrangement", id=next(ids))
    lanes = SubElement(arrangement, "Lanes", timeUnit="seconds", id=next(ids))

    def add(parent: Element, track: Track, destination: str) -> None:
        element = _described(SubElement(parent, "Track"), track.name, track.color, track.note)
        own, channel = next(ids), next(ids)
        content = "tracks" if track.tracks else "notes" if track.written else "audio"
        element.attrib |= {"id": own, "contentType": content, "loaded": "true"}
        _channel(element, track, channel, destination, files, ids)
        if track.clips or track.written:
            clips = SubElement(SubElement(lanes, "Lanes", track=own, id=next(ids)), "Clips", id=next(ids))
            for clip in track.clips:
                _clip(clips, clip, track.color, _file(clip, place, files, embed), next(ids))
            for written in track.written:
                _note_clip(clips, written, track.color, next(ids))
        for inner in track.tracks:
            add(element, inner, channel)

    for track in session.tracks:
        add(structure, track, _MASTER)
    master = SubElement(structure, "Track", id=next(ids), contentType="audio notes", loaded="true", name="Master")
    channel = SubElement(master, "Channel", id=_MASTER, role="master", audioChannels="2", solo="false")
    _faders(channel, mute=False, gain_db=0.0, ids=ids)
    if session.markers:
        markers = SubElement(arrangement, "Markers", timeUnit="seconds", id=next(ids))
        for marker in session.markers:
            SubElement(markers, "Marker", time=_number(marker.time_s), name=label(marker.text))
    return project


def _channel(
    element: Element, track: Track, id: str, destination: str, files: dict[str, Path | bytes], ids: Iterator[str]
) -> None:
    role = "submix" if track.tracks else "regular"
    channel = SubElement(element, "Channel", id=id, destination=destination, role=role, audioChannels="2", solo="false")
    if track.inserts:
        devices = SubElement(channel, "Devices")
        for insert in track.inserts:
            _device(devices, insert, files, ids)
    _faders(channel, track.mute, track.gain_db, ids)


def _faders(channel: Element, mute: bool, gain_db: float, ids: Iterator[str]) -> None:
    SubElement(channel, "Mute", value=str(mute).lower(), id=next(ids), name="Mute")
    SubElement(channel, "Pan", min="0", max="1", unit="normalized", value="0.5", id=next(ids), name="Pan")
    volume = _number(to_amplitude(gain_db))
    SubElement(channel, "Volume", min="0", max="2", unit="linear", value=volume, id=next(ids), name="Volume")


def _device(devices: Element, insert: Insert, files: dict[str, Path | bytes], ids: Iterator[str]) -> None:
    device = SubElement(
        devices,
        "Vst3Plugin",
        id=next(ids),
        name=label(insert.name),
        deviceID=insert.class_id,
        deviceName=label(insert.name),
        deviceRole="audioFX",
        loaded="true",
    )
    for name, text in (("deviceVendor", insert.vendor), ("pluginVersion", insert.version)):
        if text:
            device.set(name, label(text))
    SubElement(device, "Parameters")
    SubElement(device, "Enabled", value="false", id=next(ids), name="On/Off")
    if insert.state is not None:
        name = f"plugins/{len(files)}.vstpreset"
        files[name] = insert.state
        SubElement(device, "State", path=name, external="false")


def _clip(clips: Element, clip: Clip, color: int, file: dict[str, str], id: str) -> None:
    length = _number(clip.length_s)
    element = _described(SubElement(clips, "Clip"), clip.name, color)
    element.attrib |= {
        "time": _number(clip.start_s),
        "duration": length,
        "contentTimeUnit": "seconds",
        "playStart": "0",
        "playStop": length,
    }
    audio = SubElement(element, "Audio", id=id, timeUnit="seconds", duration=length)
    audio.attrib |= {"channels": str(clip.channels), "sampleRate": str(clip.sample_rate)}
    SubElement(audio, "File", file)


def _note_clip(clips: Element, clip: NoteClip, color: int, id: str) -> None:
    length = _number(clip.length_s)
    element = _described(SubElement(clips, "Clip"), clip.name, color)
    element.attrib |= {"time": _number(clip.start_s), "duration": length, "contentTimeUnit": "seconds"}
    element.attrib |= {"playStart": "0", "playStop": length}
    notes = SubElement(element, "Notes", id=id, timeUnit="seconds")
    for note in clip.notes:
        made = SubElement(notes, "Note", time=_number(note.start_s), duration=_number(note.end_s - note.start_s))
        made.attrib |= {"channel": "0", "key": str(note.midi), "vel": _number(note.velocity / 127)}


def _file(clip: Clip, place: Path, files: dict[str, Path | bytes], embed: bool) -> dict[str, str]:
    if not embed:
        return {"path": clip.path.relative_to(place).as_posix(), "external": "true"}
    name = f"audio/{len(files)}{clip.path.suffix}"
    files[name] = clip.path
    return {"path": name, "external": "false"}


def _described(element: Element, name: str, color: int, comment: str = "") -> Element:
    element.attrib |= {"name": label(name), "color": f"#{color:06x}"}
    if comment:
        element.set("comment", label(comment))
    return element


def _number(value: float) -> str:
    return repr(float(value))
