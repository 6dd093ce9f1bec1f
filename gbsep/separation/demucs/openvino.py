"""HTDemucs on OpenVINO, in float32: torch's numbers to about 3e-6, in about 60 % of the time on a CPU.

A network is exported once (see `export`), for segments of the length it was trained on, and the export kept beside its
weights. What is exported lies between the spectrogram and its inverse, as OpenVINO knows no complex numbers; those are
numpy's, so that a kept export runs without torch. It is used only where OpenVINO confirms that it computes in float32
(left alone it may choose bfloat16).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from ...errors import BackendError, SmallFileError
from ...models.verify import verify
from ...schema import Lenient, Text, validated
from ...store import smallfiles
from ...store.folders import cache_folder
from ...store.identity import json_hash
from ..compute import versions
from .transform import spectrum, wave

EXPORT_VERSION = 2
"""Raised when exports made before, or what is done around them, give other numbers."""

Run = Callable[[np.ndarray, Sequence[int]], np.ndarray]
"""A mixture (2, frames), no longer than the export's segment, and rows of sources, to (len(rows), 2, frames)."""


class Export(Lenient):
    """What is kept of a network beside its export: its sources, sample rate in Hz, segment and window in frames."""

    sources: Annotated[tuple[Text, ...], Field(strict=False)]
    sample_rate: Annotated[int, Field(ge=1)]
    frames: Annotated[int, Field(ge=1, le=2**24)]
    n_fft: Annotated[int, Field(ge=16, le=2**14)]


def export_path(weights: Path, segment_s: float | None) -> Path:
    """Where the export is kept: beside the weights, or in gbsep's cache when nothing can be written there.

    `segment_s` is the segment that the bag asks for, in place of the network's own.
    """
    key = [verify(weights), segment_s, EXPORT_VERSION, versions("torch", "demucs", "openvino")]
    name = f"{weights.stem}.{json_hash(key)[:12]}.xml"
    if os.access(weights.parent, os.W_OK):
        return weights.parent / name
    return cache_folder() / "openvino" / name


def parts(path: Path) -> tuple[Path, Path, Path]:
    """The files of an export: the graph, its weights, and what is kept of the network."""
    return path, path.with_suffix(".bin"), path.with_suffix(".json")


def kept(path: Path) -> Export | None:
    """What an export was made of, if it is whole and as it was written; else None."""
    try:
        if not all(part.is_file() and bool(verify(part)) for part in parts(path)):
            return None
        return validated(path, Export, smallfiles.read_json(path.with_suffix(".json")))
    except (BackendError, SmallFileError):
        return None


def load(path: Path, export: Export, threads: int, alone: bool = True) -> Run:
    """An export that is kept, ready to run. Raises BackendError when OpenVINO would not compute in float32.

    Unless it is `alone`, it gives back what memory it needs for a segment (a third of a gigabyte) after each.
    """
    import openvino

    return runner(compiled(openvino.Core().read_model(path), threads), export, alone)


def runner(network: Any, export: Export, alone: bool = True) -> Run:
    """A compiled export as a function of a mixture; `alone` as for `load`."""
    busy = threading.Lock()  # it takes one request at a time

    def run(mixture: np.ndarray, rows: Sequence[int]) -> np.ndarray:
        frames = mixture.shape[1]
        padded = np.pad(mixture, ((0, 0), (0, export.frames - frames)))
        with busy:
            spectra, waves = network([spectrum(padded, export.n_fft)[np.newaxis], padded[np.newaxis]]).values()
            chosen = list(rows)
            estimate = wave(spectra[0, chosen], export.frames) + waves[0, chosen]
            if not alone:
                del spectra, waves
                network.release_memory()
        result: np.ndarray = estimate[..., :frames]
        return result

    return run


def compiled(model: Any, threads: int) -> Any:
    """An OpenVINO model for the CPU. Raises BackendError when it would not compute in float32."""
    import openvino

    wishes = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,
    }
    result = openvino.Core().compile_model(model, "CPU", wishes)
    precision = result.get_property("INFERENCE_PRECISION_HINT")
    if precision != openvino.Type.f32:
        raise BackendError(f"it would compute in {precision.get_type_name()}, not in float32")
    return result
