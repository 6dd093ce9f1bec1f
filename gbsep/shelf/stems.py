"""A folder of stems: a finished render, or files from anywhere, found by the names of their stems.

Conventions: a render's stems are those in its render.json; in any other folder every audio file is a stem, named
without its suffix, except `mixture` and `residual`. Without a `guitar`, `guitar1`, `guitar2`, ... are summed to one:
guitars recorded on tracks of their own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..audio import Reader, mix
from ..errors import AudioFileError, OutputError
from ..io.formats import AUDIO_SUFFIXES
from ..io.read import open_reader
from ..io.resample import resample
from ..stemnames import NO_STEMS, NUMBERED_GUITAR
from ..store.hashes import remembered_hash
from . import record
from .record import RECORD, Excerpt, Record


@dataclass(frozen=True)
class StemFolder:
    """The files of a folder by stem name, and the `record` (render.json) where it is a finished render."""

    path: Path
    files: Mapping[str, tuple[Path, ...]]
    record: Record | None = None

    @property
    def excerpt(self) -> Excerpt:
        """The part of the recording that the stems are of."""
        return self.record.excerpt if self.record else Excerpt()

    @property
    def has_parts(self) -> bool:
        """Whether guitars have stems of their own."""
        return any(NUMBERED_GUITAR.fullmatch(name) for name in self.files)

    def open(self, name: str, start_s: float = 0.0, duration_s: float | None = None) -> Reader:
        """A stem, or an excerpt of it, as a Reader; the sum of its files where it has several.

        A stem of a render has the sample rate of the recording, whatever that of its file is.
        """
        found = _sum(self.files[name], start_s, duration_s)
        rate = self.record.recording.sample_rate if self.record else None
        return resample(found, rate) if rate else found

    def mixture(self) -> Reader | None:
        """The mixture that the stems were separated from; None where it is missing."""
        found = self.mixture_file()
        return open_reader(*found) if found else None

    def mixture_file(self) -> tuple[Path, float, float | None] | None:
        """The file of the mixture: a `mixture` file in the folder, or a render's recording if it still exists.

        Returns (path, start in seconds, duration in seconds or None). A recording whose content has changed counts as
        missing.
        """
        path = self._beside("mixture")
        if path is not None:
            return path, 0.0, None
        if self.record is None:
            return None
        made_of = self.record.recording
        path = Path(made_of.path)
        try:
            if not os.path.isfile(path) or remembered_hash(path) != made_of.sha256:
                return None
        except AudioFileError:  # no longer to be read
            return None
        return path, self.excerpt.start_s, self.excerpt.duration_s

    def residual(self) -> Reader | None:
        """The file `residual`, if there is one."""
        path = self._beside("residual")
        return open_reader(path) if path else None

    def _beside(self, name: str) -> Path | None:
        paths = (path for path in self.path.iterdir() if path.stem == name and path.suffix.lower() in AUDIO_SUFFIXES)
        return next(paths, None)


def find_stems(folder: str | Path, dry: bool = False, parts: bool = False) -> StemFolder:
    """The stems in a folder; with `dry` a render's stems before their effects, where they were written.

    With `parts`, for true stems, `guitar1`, `guitar2`, ... stand in place of the guitar that they sum to.

    Raises OutputError for a folder that is missing, holds no stems, or one stem twice.
    """
    folder = Path(folder)
    if not os.path.isdir(folder):
        raise OutputError(folder, "is not a folder" if os.path.lexists(folder) else "no such folder; check the name")
    found_record = record.read(folder)
    if found_record is not None:
        chosen = {name: (dry and stem.dry) or stem.file for name, stem in found_record.stems.items()}
        return StemFolder(folder, {name: (folder / file,) for name, file in chosen.items()}, found_record)
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in AUDIO_SUFFIXES and path.stem not in NO_STEMS and not path.name.startswith("."):
            if path.stem in found:
                raise OutputError(folder, f"holds {path.stem} twice: {found[path.stem].name} and {path.name}")
            found[path.stem] = path
    numbered = [name for name in found if NUMBERED_GUITAR.fullmatch(name)]
    guitars = tuple(found.pop(name) for name in numbered)
    stems_of: dict[str, tuple[Path, ...]] = {name: (path,) for name, path in found.items()}
    if guitars and parts:
        stems_of.pop("guitar", None)
        stems_of |= {name: (path,) for name, path in zip(numbered, guitars, strict=True)}
    elif guitars and "guitar" not in stems_of:
        stems_of["guitar"] = guitars
    if not stems_of:
        reason = "holds no stems: no render.json and no audio file such as bass.wav; name the folder of a render"
        raise OutputError(folder, reason)
    return StemFolder(folder, dict(sorted(stems_of.items())))


def renders_in(folder: str | Path) -> dict[str, Path]:
    """The finished renders below a folder such as OUT or OUT/<track>, by their path in it; itself as ".".

    >>> renders_in("gbsep-out")  # doctest: +SKIP
    {'song/exp002': PosixPath('gbsep-out/song/exp002')}
    """
    folder = Path(folder)
    records = sorted(path for path in _below(folder, RECORD) if not _is_staging(path.relative_to(folder)))
    return {path.parent.relative_to(folder).as_posix(): path.parent for path in records if record.read(path.parent)}


def _is_staging(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _sum(paths: tuple[Path, ...], start_s: float, duration_s: float | None) -> Reader:
    readers = [open_reader(path, start_s, duration_s) for path in paths]
    shape = (readers[0].sample_rate, readers[0].channels, readers[0].frames)
    for path, reader in zip(paths, readers, strict=True):
        if (reader.sample_rate, reader.channels, reader.frames) != shape:
            raise AudioFileError(
                path,
                f"is {reader.channels} channels, {reader.frames} frames at {reader.sample_rate} Hz, which does not add "
                f"up with {paths[0].name}: {shape[1]} channels, {shape[2]} frames at {shape[0]} Hz",
            )
    return mix([(1.0, reader) for reader in readers])


def _below(folder: Path, name: str) -> Iterator[Path]:
    """The files called `name` in a folder and all folders below; unreadable folders are skipped."""
    for place, _, names in os.walk(folder):
        if name in names:
            yield Path(place, name)
