"""A look at this installation: what works, what is missing, and what to do about it.

Nothing is downloaded, and nothing is written but the list of plug-ins, which is brought up to date.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

from .errors import BackendNotInstalled, GbsepError, WeightsMissing, unexpected
from .models.catalogue import MODELS
from .plugins import host
from .preset.own import own_folder
from .separation import compute, weights
from .separation.compact import stream as compact_stream
from .store import folders
from .store import stemcache as cache

EXTRAS = ("fast", "av", "cluster")
"""Extras of gbsep that a user may want."""

SPARED = {
    "demucs": "for presets with Demucs",
    "librosa": "for the studio's tempo and key",
    "torch": "for Demucs, Open-Unmix and training",
}
"""Packages that a smaller installation leaves out, and what they are for."""

LOW_SPACE_BYTES = 2 * 10**9
"""About what a ten-minute stereo song takes on its way through a Demucs preset."""


@dataclass(frozen=True)
class Check:
    """One thing looked at: state "ok", "missing" (something one can do without) or "problem", and the next step."""

    subject: str
    state: str
    detail: str
    next_step: str = ""


def examine() -> Iterator[Check]:
    """Every check, those that everything depends on first."""
    yield Check("Python", "ok", f"{platform.python_version()}, {platform.platform()}")
    yield from _packages()
    yield _device()
    yield _runtime()
    for subject, look in (("weights", _weights), ("plug-ins", _plugins)):
        try:
            yield from look()
        except Exception as error:
            yield Check(subject, "problem", unexpected(error))
    yield from _places()


def _packages() -> Iterator[Check]:
    try:
        wanted_texts = importlib.metadata.requires("gbsep") or []
    except importlib.metadata.PackageNotFoundError:
        yield Check("gbsep", "missing", "runs from its source without being installed", "pip install -e .")
        return
    for text in wanted_texts:
        wanted = Requirement(text)
        extra = ""
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            extra = next((name for name in EXTRAS if wanted.marker.evaluate({"extra": name})), "")
            if not extra:
                continue
        remedy = f"pip install 'gbsep[{extra}]'" if extra else f"pip install '{wanted.name}{wanted.specifier}'"
        purpose = SPARED.get(wanted.name, "")
        try:
            found = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            state = "missing" if extra or purpose else "problem"
            yield Check(wanted.name, state, f"not installed{purpose and f'; {purpose}'}", remedy)
            continue
        if wanted.specifier.contains(found, prereleases=True):
            yield Check(wanted.name, "ok", found)
        else:
            yield Check(wanted.name, "problem", f"{found}, where {wanted.specifier} is needed", remedy)


def _device() -> Check:
    try:
        device = compute.pick_device("auto")
    except (ImportError, OSError) as error:
        return Check("device", "problem", f"torch does not load: {error}", "pip install --force-reinstall torch")
    return Check("device", "ok", f"{device}, {compute.threads()} threads of {os.cpu_count()} processors")


def _runtime() -> Check:
    try:
        runtime = compact_stream.load_runtime()
    except BackendNotInstalled as error:
        return Check("ONNX Runtime", "problem", str(error), compact_stream.REINSTALL)
    return Check("ONNX Runtime", "ok", f"{runtime.__version__}, for the embedded model")


def _weights() -> Iterator[Check]:
    for model in MODELS.values():
        try:
            found = weights.find(model.name, model.backend, download=False)
        except WeightsMissing:
            remedy = f"gbsep models get {model.name}"
            yield Check(model.name, "missing", f"weights not here ({model.size_mb} MB)", remedy)
        except GbsepError as error:
            yield Check(model.name, "problem", str(error), f"gbsep models verify {model.name}")
        else:
            yield Check(model.name, "ok", str(found.files[0].parent))


def _plugins() -> Iterator[Check]:
    found = host.plugins()
    broken = sum(bool(plugin.reason) for plugin in found)
    detail = f"{len(found) - broken} usable, {broken} in quarantine"
    if found:
        yield Check("plug-ins", "ok", detail, "gbsep plugins list" if broken else "")
        return
    places = ", ".join(map(str, host.folders()))
    yield Check("plug-ins", "missing", f"none in {places}", "name their folder in GBSEP_PLUGIN_PATH")


def _places() -> Iterator[Check]:
    locations: tuple[tuple[str, Callable[[], Path], str], ...] = (
        ("cache", lambda: cache.locate().folder, "GBSEP_CACHE"),
        ("own models", folders.data_folder, "GBSEP_HOME"),
        ("state", folders.state_folder, "GBSEP_STATE"),
        ("configuration", lambda: own_folder().parent, "GBSEP_CONFIG"),
        ("temporary files", lambda: Path(tempfile.gettempdir()), "TMPDIR"),
        ("working folder", Path.cwd, ""),
    )
    for subject, locate, variable in locations:
        try:
            folder = locate()
        except (GbsepError, OSError) as error:
            yield Check(subject, "problem", str(error), f"name a folder in {variable}" if variable else "")
            continue
        there = next(place for place in (folder, *folder.parents) if place.exists())
        remedy = f"name another folder in {variable}" if variable else "work in another folder, or name one with --out"
        if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
            yield Check(subject, "problem", f"{folder} cannot be written to", remedy)
            continue
        free_bytes = shutil.disk_usage(there).free
        low = free_bytes < LOW_SPACE_BYTES
        detail = f"{folder}, {free_bytes / 1e9:.1f} GB free"
        yield Check(subject, "problem" if low else "ok", detail, f"free some space, or {remedy}" if low else "")
