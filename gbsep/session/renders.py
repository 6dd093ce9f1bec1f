"""From finished renders to a session: what render.json says becomes tracks, clips, markers and plug-ins.

- The time line is the recording's: the original begins at 0, an excerpt where it was cut.
- Each render is a folder: its processed stems, its dry stems (muted), what no stem took (muted). One render is heard;
  the folders of the others are muted, or all would sound at once. The original is muted.
- With gains on the faders the file of a stem is one without its restored gain, and file times fader is that stem to
  float32 rounding. A fader goes up to +6 dB, the most that every DAW has; what is beyond stays in the file. A processed
  stem can have its gain there only when no effect stands between the two.
- Plug-ins are those of the chain, bypassed: on the dry stem, or where there is none on the processed one, which has
  been through them. What the chain holds beside them is named in the track's note.
- Files that a session needs and no render holds lie in the song's `media/`, named by their content, so that nothing
  there is ever replaced: the original, as a copy (sharing the disk's blocks where the file system can), or decoded
  where programs disagree about where a file of its format begins; stems without their gains. A file whose path the
  format cannot spell is copied into `media/` beside the project.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..effects.automation import Automation
from ..effects.chain import parse_chain, placed
from ..effects.plugin import Plugin, locate
from ..errors import GbsepError, OutputError, PluginError
from ..io.formats import OutputFormat
from ..io.probe import probe
from ..io.read import open_reader
from ..io.tags import read_tempo_bpm
from ..io.write import open_writer
from ..measure.levels import to_amplitude
from ..notes import files as note_files
from ..notes.midi import ends
from ..plugins import host
from ..shelf import folder as outputs
from ..shelf import record, remote
from ..shelf.projects import MEDIA
from ..shelf.record import PluginRow, Record, Recording
from ..store.hashes import remembered_hash
from ..store.identity import content_hash
from .model import Clip, Insert, Marker, NoteClip, Session, Track, WrittenNote, color_of

FADER_RANGE_DB = (-60.0, 6.0)
AS_THEY_ARE = {"wav": ".wav", "rf64": ".wav", "aiff": ".aiff", "flac": ".flac"}
"""Containers that every DAW begins at the same sample, and the suffix of a copy."""

AS_WRITTEN = (".wav", ".flac", ".mp3")
"""Suffixes of stems that a session refers to where they lie; others are decoded for it."""


@dataclass(frozen=True)
class Render:
    """A finished render: its folder and its render.json."""

    folder: Path
    record: Record

    @property
    def recording(self) -> Recording:
        return self.record.recording

    @property
    def missing(self) -> list[str]:
        """The files that it had and has no longer."""
        return [name for name in self.record.own_files if not (self.folder / name).exists()]

    @property
    def start_s(self) -> float:
        """Where it begins in the recording, a whole number of frames."""
        rate = self.recording.sample_rate
        return round(self.record.excerpt.start_s * rate) / rate


@dataclass(frozen=True)
class Place:
    """Where a session is written, and a song's folder in it; what its format can spell; where warnings go.

    `copies` are the files that had to be copied for the format's spelling, with their bytes.
    """

    folder: Path
    song: Path
    speakable: Callable[[str], bool]
    warn: Callable[[str], None]
    copies: dict[Path, int] = field(default_factory=dict)

    @property
    def media(self) -> Path:
        return self.song / MEDIA


def find_renders(out: Path) -> dict[Path, list[Render]]:
    """The renders in a folder, by the folder of their song, of which one at least is whole. Hidden ones are left alone.

    Raises OutputError when there is none.
    """
    out = Path(os.path.abspath(out))
    songs: dict[Path, list[Render]] = {}
    try:
        records = sorted(out.rglob(outputs.RECORD))
    except OSError as error:
        raise OutputError(out, f"cannot be read: {error.strerror}") from None
    for path in records:
        folder = path.parent
        hidden = any(part.startswith(".") for part in folder.relative_to(out).parts)
        found = None if hidden else record.read(folder)
        if found:
            songs.setdefault(out if folder == out else folder.parent, []).append(Render(folder, found))
    songs = {song: renders for song, renders in songs.items() if not all(render.missing for render in renders)}
    if not songs:
        raise OutputError(out, "holds no finished render; make one first: gbsep render song.wav --out DIR")
    return songs


def song_session(
    name: str, renders: list[Render], place: Place, heard: str | None = None, fader_gains: bool = False
) -> Session:
    """The session of one song. `heard` is the folder name of the render that is heard, else the first."""
    for render in renders:
        if render.missing:
            place.warn(f"{render.folder.name} is left out, for {render.missing[0]} is missing: render it again")
    renders = [render for render in renders if not render.missing]
    first = renders[0]
    if heard not in [render.folder.name for render in renders]:
        heard = first.folder.name
    original, tempo_bpm = _original(name, first.recording, place)
    tracks = [original] if original else []
    for render in renders:
        if render.recording.sha256 != first.recording.sha256:
            place.warn(f"{render.folder.name} is of another recording than {first.folder.name}, whose original is here")
        tracks.append(_render_track(name, render, place, mute=render.folder.name != heard, fader_gains=fader_gains))
    bare = [render.folder.name for render in renders if not any(stem.dry for stem in render.record.stems.values())]
    if bare:
        place.warn(f"no dry stems of {', '.join(bare)}: gbsep render --dry-stems writes them")
    if place.copies:
        size = f"{len(place.copies)} files, {sum(place.copies.values()) / 1e6:.1f} MB"
        place.warn(f"{size}, are copied into {place.folder / MEDIA}: their own names have no spelling in a project")
    rate = first.recording.sample_rate
    return Session(
        name,
        rate,
        tuple(tracks),
        markers=tuple(_markers(renders)),
        tempo_bpm=tempo_bpm,
        origin_s=(first.recording.time_reference or 0) / rate,
    )


def _original(song: str, recording: Recording, place: Place) -> tuple[Track | None, float | None]:
    """The track of the original and its tempo; none and a warning when the recording is not what it was."""
    sha256, where = recording.sha256, recording.path
    kept = sorted(place.media.glob(f"original.{sha256[:12]}.*"))
    source = where if remote.is_url(where) else Path(where)
    there = next((path for path in remote.copies(source) if _is(path, sha256)), None)
    if not (kept or there):
        gone = "is gone or has changed since it was rendered"
        elsewhere = remote.is_url(where) and not where.startswith("file://")
        gone = "is not kept here any more, and a session downloads nothing: render it again" if elsewhere else gone
        place.warn(f"{where} {gone}: the session has no original")
        return None, None
    path = there or kept[0]
    tempo_bpm = read_tempo_bpm(path)
    if not kept:
        inside = path.is_relative_to(place.folder) and recording.container in AS_THEY_ARE
        kept = [path if inside else _copy_original(path, recording, place.media / f"original.{sha256[:12]}")]
    clip = _clip(kept[0], f"{song} original", 0.0, place)
    return Track("original", color_of("original"), (clip,), mute=True, note=remote.path_of(where).name), tempo_bpm


def _is(path: Path, sha256: str) -> bool:
    """Whether a file is there and has that content; the path may be anything that a record says."""
    try:
        return path.is_file() and remembered_hash(path) == sha256
    except (OSError, ValueError, GbsepError):
        return False


def _copy_original(path: Path, recording: Recording, target: Path) -> Path:
    suffix = AS_THEY_ARE.get(recording.container)
    if suffix:
        return _copy(path, target.with_name(target.name + suffix))
    return _write_wav(target.with_name(f"{target.name}.wav"), path, 1.0)


def _render_track(song: str, render: Render, place: Place, mute: bool, fader_gains: bool) -> Track:
    """The folder of a render: processed stems, dry stems, residual."""
    pairs = [_stem_tracks(song, render, stem, place, fader_gains) for stem in render.record.stems]
    tracks = [processed for processed, _ in pairs] + [dry for _, dry in pairs if dry]
    tracks += _note_tracks(song, render)
    if residual := render.record.residual.file:
        clip = _clip(_exact(render.folder / residual, place), f"{song} residual", render.start_s, place)
        tracks.append(Track("residual", color_of("residual"), (clip,), mute=True))
    if render.record.preset.output.format == "mp3":
        place.warn(f"{render.folder.name} is MP3, which some programs begin milliseconds late: WAV and FLAC are exact")
    return Track(render.folder.name, tracks[0].color, tracks=tuple(tracks), mute=mute)


def _stem_tracks(song: str, render: Render, stem: str, place: Place, fader_gains: bool) -> tuple[Track, Track | None]:
    """The processed stem and the dry one, where there is one."""
    row, color = render.record.stems[stem], color_of(stem)
    gain_db = float(np.clip(row.restored_gain_db, *FADER_RANGE_DB)) if fader_gains else 0.0
    has_effects = bool(render.record.preset.effects(stem))
    inserts, note = _inserts(render, stem)

    def clip(name: str, file: str, gain_db: float) -> tuple[Clip]:
        path = _without_gain(render, file, gain_db, place) if gain_db else _exact(render.folder / file, place)
        return (_clip(path, f"{song} {name}", render.start_s, place),)

    fader_db = 0.0 if has_effects else gain_db
    processed = Track(stem, color, clip(stem, row.file, fader_db), gain_db=fader_db)
    dry_file = row.dry
    if dry_file is None:
        if gain_db != fader_db:
            place.warn(f"{render.folder.name}: {stem} has effects after its gain and no dry stem to show the gain on")
        return replace(processed, inserts=inserts, note=note), None
    name = f"{stem} (dry)"
    clips = clip(name, dry_file, gain_db)
    return processed, Track(name, color, clips, mute=True, gain_db=gain_db, inserts=inserts, note=note)


def _note_tracks(song: str, render: Render) -> Iterator[Track]:
    """A track of notes for each stem whose notes are kept beside it."""
    for stem, row in render.record.stems.items():
        kept = note_files.kept_beside(render.folder, stem)
        if kept is None:
            continue
        info, line = probe(render.folder / row.file), note_files.read(kept, stem)
        length_s = info.frames / info.sample_rate
        notes = tuple(
            WrittenNote(note.onset_s, min(end_s, length_s), note.midi, note.velocity)
            for note, end_s in zip(line.notes, ends(line.notes), strict=True)
            if note.onset_s < length_s
        )
        clip = NoteClip(f"{song} {stem} notes", render.start_s, length_s, notes)
        yield Track(f"{stem} notes", color_of(stem), written=(clip,), note=f"written down in {kept.name}")


def _markers(renders: list[Render]) -> Iterator[Marker]:
    """What render.json found or warns of: what has a time at its time, the rest where the render begins."""
    said: dict[tuple[float, str], list[str]] = {}
    for render in renders:
        found = [
            (render.start_s + finding.start_s, finding.message or finding.kind)
            for finding in render.record.diagnoses or ()
        ]
        for what in [*found, *((render.start_s, warning) for warning in render.record.warnings)]:
            said.setdefault(what, []).append(render.folder.name)
    for (time_s, text), names in sorted(said.items()):
        by = "" if len(set(names)) == len(renders) else f"{', '.join(dict.fromkeys(names))}: "
        yield Marker(time_s, by + text)


# Files


def _clip(path: Path, name: str, start_s: float, place: Place) -> Clip:
    if not place.speakable(path.relative_to(place.folder).as_posix()):
        sha256 = content_hash(path)
        path = _copy(path, place.folder / MEDIA / f"{sha256[:12]}{path.suffix}")
        place.copies[path] = path.stat().st_size
    info = probe(path)
    return Clip(path, name, start_s, info.frames, info.sample_rate, info.channels, info.container)


def _exact(path: Path, place: Place) -> Path:
    """A stem's file, or WAV made of it where programs do not agree at which sample it begins."""
    if path.suffix in AS_WRITTEN:
        return path
    target = place.media / f"decoded.{remembered_hash(path)[:12]}.wav"
    return target if target.exists() else _write_wav(target, path, 1.0)


def _without_gain(render: Render, file: str, gain_db: float, place: Place) -> Path:
    """The stem in `file` as it was before it got `gain_db`."""
    sha256 = remembered_hash(render.folder / file)
    key = hashlib.sha256(f"{sha256} {gain_db!r}".encode()).hexdigest()[:12]
    target = place.media / f"unrestored.{key}.wav"
    return target if target.exists() else _write_wav(target, render.folder / file, 1 / to_amplitude(gain_db))


def _write_wav(target: Path, source: Path, amplitude: float) -> Path:
    """An audio file as float32 WAV, with another gain."""
    reader, info = open_reader(source), probe(source)
    channels, frames = reader.channels, reader.frames
    outputs.check_place(target.parent, 4 * frames * channels)
    about = info.tags, info.broadcast
    with (
        outputs.staged_file(target) as path,
        open_writer(path, OutputFormat("wav"), reader.sample_rate, channels, frames, *about) as writer,
    ):
        for block in reader.blocks():
            writer.write((block.astype(np.float64) * amplitude).astype(np.float32))
    return target


def _copy(source: Path, target: Path) -> Path:
    """A copy, as a clone where the file system has those; one that is there already is kept.

    No link: what a program does to the copy must not reach the original.
    """
    if not target.exists():
        outputs.check_place(target.parent, source.stat().st_size)
        with outputs.staged_file(target) as path:
            _clone(source, path)
    return target


def _clone(source: Path, target: Path) -> None:
    if hasattr(os, "copy_file_range"):
        try:
            with source.open("rb") as reads, target.open("wb") as writes:
                while os.copy_file_range(reads.fileno(), writes.fileno(), 2**30):
                    pass
            if target.stat().st_size == source.stat().st_size:
                return
        except OSError:
            pass  # not between these two file systems
    shutil.copyfile(source, target)


# Plug-ins


def _inserts(render: Render, stem: str) -> tuple[tuple[Insert, ...], str]:
    """The plug-ins of a stem's chain that a session can hold, and the whole chain in words."""
    of_preset = render.record.preset.stems.get(stem)
    nodes = parse_chain(list(of_preset.chain)) if of_preset else ()
    reports = {row.where: row for row in render.record.stems[stem].plugins}
    inserts, words = [], []
    for where, node in placed(nodes, "chain"):
        if not isinstance(node, Plugin):
            words.append(f"{node.name} (not in the session)")
            continue
        report = reports.get(where, PluginRow())
        insert, said = _insert(node, report, render)
        words.append(f"{node.label} ({said})")
        if insert:
            inserts.append(insert)
    return tuple(inserts), f"chain: {', '.join(words)}" if words else ""


def _insert(node: Plugin, report: PluginRow, render: Render) -> tuple[Insert | None, str]:
    """The plug-in as it was in the render, and what of it is in the session."""
    class_id, version = report.class_id, report.version
    if not class_id:
        return None, "was bypassed in the render; not in the session"
    info, state, reason = None, None, ""
    try:
        if node.path is not None:
            raise PluginError("it was loaded by its path, which is not done here")
        info = locate(node)
        if (info.class_id, info.version) != (class_id, version):
            raise PluginError(f"version {info.version} is on this machine, the render had {version}")
        values = tuple((name, _at_start(value, render.start_s)) for name, value in node.parameters.items())
        state = _state(info, render.recording.sample_rate, render.recording.channels, values, node.state)
    except GbsepError as error:
        state, reason = node.state, str(error)
    if not _is_vst3(class_id) or (info and info.format != "VST3"):
        return None, "not in the session: it is no VST3"
    if state is not None and not state.startswith(b"VST3"):
        state = None
    insert = Insert(node.label, class_id, info.vendor if info else "", version, info.path.name if info else "", state)
    moving = ", at its first values where it is automated" if _is_automated(node) else ""
    if not reason:
        return insert, f"bypassed, with its state{moving}"
    held = "the state that its preset names" if state else "its defaults"
    return insert, f"bypassed, with {held}: {reason}"


@lru_cache(maxsize=64)
def _state(
    info: host.PluginInfo,
    sample_rate: int,
    channels: int,
    values: tuple[tuple[str, host.Value], ...],
    state: bytes | None,
) -> bytes:
    """What a plug-in remembers once it is set; the songs of a batch share it."""
    with host.open_plugin(info, sample_rate, channels, dict(values), state) as instance:
        return instance.save_state()


def _is_vst3(class_id: str) -> bool:
    return len(class_id) == 32 and set(class_id) <= set("0123456789abcdefABCDEF")


def _is_automated(node: Plugin) -> bool:
    return any(isinstance(value, Automation) for value in node.parameters.values())


def _at_start(value: Any, start_s: float) -> Any:
    return float(value.at(np.array([start_s]))[0]) if isinstance(value, Automation) else value
