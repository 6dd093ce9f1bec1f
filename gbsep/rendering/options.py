"""How to render, beside the preset; and what follows from both: the label of a render, the format of its files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..audio import Reader
from ..errors import ParameterError, exact, exact_sum, expect, nearest
from ..io.formats import OutputFormat
from ..params import Param
from ..preset.model import Preset
from ..separation.backend import Told
from ..store.folders import is_path

START_S = Param("start_s", "s", 0.0, 1e7, 0.0)
DURATION_S = replace(START_S, name="duration_s", default=None)
"""An excerpt lies within the first four months of a recording."""

Progress = Callable[[str, float], None]
"""Called with the stage and how much of it is done, 0 to 1."""


@dataclass(frozen=True)
class Given:
    """What a separation gives: its stems, and what was found of them."""

    stems: Mapping[str, Reader]
    told: tuple[Told, ...] = ()


Separations = MutableMapping[str, Given]
"""What is given, by the key of the separation: what renders of one separation hand on, with or without the cache."""


def silent(stage: str, fraction: float) -> None:
    """Progress that nobody looks at."""


@dataclass(frozen=True)
class Options:
    """How to render, beside the preset.

    Files land in out/<track>/<preset>/, those of an excerpt in out/<track>/<preset>@5s-10s/. `name` is a template for
    their names, of {track}, {preset} and {stem}.
    `start_s` and `duration_s` cut an excerpt. `models` is a folder searched first for weights; `device` is auto, cpu,
    cuda or mps; `download` lets missing weights be fetched. `stems`, where any are named, are the only ones to be
    written, into a folder of their own. `allow_plugin_paths` lets presets name plug-in files, which
    is native code of the preset's choice. With `dry_run` it is only planned, and nothing on the disk is touched.
    """

    out: Path = Path("gbsep-out")
    overwrite: bool = False
    dry_stems: bool = False
    stems: tuple[str, ...] = ()
    start_s: float = 0.0
    duration_s: float | None = None
    name: str = "{stem}"
    device: str = "auto"
    models: Path | None = None
    use_cache: bool = True
    download: bool = True
    allow_plugin_paths: bool = False
    dry_run: bool = False

    def __post_init__(self) -> None:
        expect("out", self.out, str, Path)
        object.__setattr__(self, "out", Path(self.out))
        if not is_path(self.out):
            raise ParameterError("out", str(self.out), "the path of a folder, without a null byte")
        for switch in ("overwrite", "dry_stems", "use_cache", "download", "allow_plugin_paths", "dry_run"):
            expect(switch, getattr(self, switch), bool)
        object.__setattr__(self, "start_s", START_S.check(self.start_s))
        if self.duration_s is not None:
            object.__setattr__(self, "duration_s", DURATION_S.check(self.duration_s))
        expect("stems", self.stems, tuple, list)
        object.__setattr__(self, "stems", tuple(dict.fromkeys(self.stems)))
        for stem in self.stems:
            expect("stems", stem, str)
        expect("name", self.name, str)
        expect("device", self.device, str)
        expect("models", self.models, str, Path, type(None))
        object.__setattr__(self, "models", self.models and Path(self.models))


def folder_name(preset: Preset, options: Options) -> str:
    """The name of a render beside the others of its song, by which reviews and reports know it: that of its folder.

    >>> from ..preset.load import load_preset
    >>> folder_name(load_preset("exp002"), Options(start_s=5.0, duration_s=0.1))
    'exp002@5s-5.1s'
    >>> folder_name(load_preset("exp002"), Options(stems=("bass",)))
    'exp002@bass'
    """
    start_s, duration_s = options.start_s, options.duration_s
    name = preset.folder + (f"@{'+'.join(sorted(options.stems))}" if options.stems else "")
    if not start_s and duration_s is None:
        return name
    end = "end" if duration_s is None else f"{exact_sum(start_s, duration_s)}s"
    return f"{name}@{exact(start_s)}s-{end}"


def written_stems(preset: Preset, options: Options) -> tuple[str, ...]:
    """The stems that get files. Raises ParameterError for one that the preset does not have."""
    for stem in options.stems:
        if stem not in preset.stems:
            raise ParameterError("stem", stem, f"{preset.name} has no such stem{nearest(stem, preset.stems)}")
    return tuple(stem for stem in preset.stems if not options.stems or stem in options.stems)


def output_format(preset: Preset) -> OutputFormat:
    return OutputFormat(preset.output.format, preset.output.bit_depth)
