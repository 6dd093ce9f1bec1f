"""Finding a model's weights on this machine, and the user's own models.

The embedded model is inside gbsep, with its SHA-256 on its card. The weights of all others are looked for in

1. the folder given as `--models` or, without one, `GBSEP_MODELS`,
2. gbsep's own folder, `data_dir()`,
3. the Hugging Face cache,

in each at `<folder>/<model>/` and then at `<folder>/`; if they are nowhere, they are downloaded into gbsep's own.
The backend knows which files a model consists of: see Layout.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from ..errors import BackendError, ParameterError, SmallFileError, WeightsMissing, nearest, sentence
from ..store import smallfiles
from ..store.identity import file_hash, json_hash
from .catalogue import (
    EMBEDDED,
    EMBEDDED_FOLDER,
    HUB_OWNER,
    MODELS,
    OWN_LICENCE,
    OWN_NEXT_STEP,
    Model,
    card,
    check_name,
    data_dir,
    next_step,
    published,
)
from .fetch import fetch
from .verify import state_dir, trust, verify, write_quietly


@dataclass(frozen=True)
class Found:
    """Weights on this machine, verified.

    files: one per network of a Demucs bag, or per target of an Open-Unmix model (the target is `target_of(path)`);
    sha256: one per file. weights and segment_s as in Model. `digest` is one hash of all of it.
    """

    name: str
    backend: str
    licence: str
    files: tuple[Path, ...]
    sha256: tuple[str, ...]
    weights: tuple[tuple[float, ...], ...] | None = None
    segment_s: float | None = None

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 by name of the file."""
        return {path.name: sha256 for path, sha256 in zip(self.files, self.sha256, strict=True)}

    @property
    def digest(self) -> str:
        return json_hash([self.sha256, self.weights, self.segment_s])


@dataclass(frozen=True)
class Files:
    """A model's files in a folder: all their paths, or none and the name of the first that is missing.

    weights and segment_s as in Model.
    """

    paths: tuple[Path, ...] = ()
    missing: str = ""
    weights: tuple[tuple[float, ...], ...] | None = None
    segment_s: float | None = None


class Layout(Protocol):
    """How a backend finds weights in folders: a module with these functions, named in the backend's row."""

    def find_files(self, folder: Path, name: str) -> Files:
        """The files of a model in a folder."""

    def own_models(self, places: Sequence[Path]) -> Iterable[str]:
        """The names of models in these places; published ones may be among them."""


def find(
    name: str,
    backend: str,
    layouts: Mapping[str, Layout],
    models_dir: str | Path | None = None,
    *,
    download: bool = True,
    accept: bool = False,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Found:
    """The verified weights of model `name`, downloaded if `download` is set and they are not on this machine.

    `layouts` are those of every backend with weights, by name.
    `accept` trusts files that have changed since gbsep first used them, and records them as they are now.

    Raises ParameterError when `name` is not valid or belongs to another backend, WeightsMissing when there are no such
    weights here, and BackendError when a file does not match its name or its record.
    """
    check_name(name)
    known = published(name)
    if known is EMBEDDED and backend == EMBEDDED.backend:
        return _embedded()
    if known is not None and known.backend != backend:
        raise ParameterError("model", name, f"it is a model of the backend {known.backend!r}, not of {backend!r}")
    looked_in = []
    there = ["--models", str(models_dir)] if models_dir else []
    accepting = shlex.join(["gbsep", "models", "verify", name, *there, "--accept"])
    check = trust if accept else partial(verify, accepting=accepting)
    for place in _places(known, models_dir):
        found, lacking = _look(place, name, backend, layouts[backend], check)
        if found is not None:
            return found
        looked_in.append(f"{place} (no {lacking})")
    if known is None:
        names = {row.name: row.backend for row in (EMBEDDED, *MODELS.values())} | own_models(layouts, models_dir)
        hint = nearest(name, (known for known, owner in names.items() if owner == backend))
        raise WeightsMissing(name, looked_in, f"{sentence(f'No model has this name{hint}')} {OWN_NEXT_STEP}")
    if not download:
        raise WeightsMissing(name, looked_in, next_step(known))
    try:
        fetch(name, progress)
    except OSError as error:
        raise WeightsMissing(name, looked_in, f"Downloading failed ({error}). {next_step(known)}") from None
    return find(name, backend, layouts, models_dir, download=False)


def _embedded() -> Found:
    """The model inside gbsep, whose SHA-256 is known."""
    path = EMBEDDED_FOLDER / EMBEDDED.files[0]
    wanted, found = card()["sha256"], file_hash(path)
    if found != wanted:
        raise BackendError(
            f"{path} is damaged: its SHA-256 begins with {found[:12]}, not with {wanted[:12]}; install gbsep again"
        )
    return Found(EMBEDDED.name, EMBEDDED.backend, EMBEDDED.licence, (path,), (found,))


def _places(model: Model | None, models_dir: str | Path | None) -> Iterator[Path]:
    given = models_dir or os.environ.get("GBSEP_MODELS")
    if given:
        yield Path(given).expanduser()
    yield data_dir()
    if model is not None and model.hub is not None:
        home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
        cache = Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()
        repository = cache / f"models--{HUB_OWNER}--{model.hub}"
        revision = repository / "refs" / "main"
        yield repository / "snapshots" / (revision.read_text().strip() if revision.is_file() else "")


def _look(
    place: Path, name: str, backend: str, layout: Layout, check: Callable[[Path], str]
) -> tuple[Found | None, str]:
    """The model in `place`, or None and the first missing file."""
    missing = ""
    for folder in (place / name, place):
        files = layout.find_files(folder, name)
        missing = files.missing
        if files.paths:
            licence = MODELS[name].licence if name in MODELS else OWN_LICENCE
            sha256 = tuple(check(path) for path in files.paths)
            return Found(name, backend, licence, files.paths, sha256, files.weights, files.segment_s), ""
    return None, missing


def own_models(layouts: Mapping[str, Layout], models_dir: str | Path | None = None) -> dict[str, str]:
    """The user's own models in `models_dir` (or GBSEP_MODELS) and in gbsep's own folder: {name: backend}, not verified.

    A model that several layouts recognise belongs to the first of them.
    """
    places = list(_places(None, models_dir))
    backends: dict[str, str] = {}
    for backend, layout in layouts.items():
        for name in layout.own_models(places):
            backends.setdefault(name, backend)
    return {name: backends[name] for name in sorted(backends) if not published(name)}


def subfolders(place: Path) -> list[Path]:
    """The folders in a place, sorted; none where there is no such place."""
    return sorted(path for path in place.iterdir() if path.is_dir()) if place.is_dir() else []


def listed(folder: Path, suffix: str) -> list[Path]:
    """The files in a folder whose names end in `suffix`, sorted."""
    return sorted(path for path in folder.glob(f"*{suffix}") if path.is_file())


def notice(found: Found) -> str | None:
    """The licence of the weights in one line the first time this model is used here, afterwards None."""
    shown = state_dir() / f"{found.name}.licence"
    with contextlib.suppress(SmallFileError):
        if smallfiles.read_text(shown) == found.licence:
            return None
    write_quietly(shown, found.licence)
    limits = f" ({MODELS[found.name].limits})" if found.name in MODELS else ""
    return f"{found.name}{limits}: {found.licence}"
