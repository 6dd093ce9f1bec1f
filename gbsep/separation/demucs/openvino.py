"""HTDemucs on OpenVINO, in float32: torch's numbers to about 3e-6, in about half the time on a CPU.

A network is exported once, for segments of the length it was trained on, and the export kept beside its weights. What
is exported lies between the spectrogram and its inverse, as OpenVINO knows no complex numbers; those stay in torch. An
export is kept only if it agrees with torch on noise, and used only where OpenVINO confirms that it computes in float32
(left alone it may choose bfloat16).
"""

from __future__ import annotations

import contextlib
import copy
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import BackendError
from ...models.verify import trust, verify
from ...store.folders import cache_folder
from ...store.identity import json_hash
from ...store.locks import holding
from ..compute import versions

if TYPE_CHECKING:
    import torch

MAX_RELATIVE_ERROR = 1e-4
_EXPORT_VERSION = 1


def forward(network: Any, weights: Path, threads: int) -> Callable[[np.ndarray, Sequence[int]], np.ndarray]:
    """The HTDemucs `network`, read from the file `weights`, on OpenVINO.

    The function returned takes a mixture (1, 2, frames), no longer than the network's segment, and rows of sources to
    (1, len(rows), 2, frames). Exporting takes half a minute, the first time. Raises BackendError when OpenVINO would
    not compute in float32 or not the same, and whatever OpenVINO and torch raise at a network they cannot export.
    """
    import openvino

    length = int(network.segment * network.samplerate)
    path = _export_path(weights, length)
    with _exporting():
        if not _is_kept(path):
            model = _export(network, length)
            _check(network, _compile(model, threads), length)
            openvino.save_model(model, path, compress_to_fp16=False)
            for part in _parts(path):
                trust(part)
            del model
    compiled = _compile(openvino.Core().read_model(path), threads)
    busy = threading.Lock()  # it takes one request at a time

    def run(mixture: np.ndarray, rows: Sequence[int]) -> np.ndarray:
        with busy:
            return _run(network, compiled, mixture, length, rows)

    return run


@contextlib.contextmanager
def _exporting() -> Iterator[None]:
    """Processes that work at a batch need the same export: one makes it, the others wait."""
    folder = cache_folder() / "openvino"
    folder.mkdir(parents=True, exist_ok=True)
    with holding(folder / ".lock"):
        yield


def _run(network: Any, compiled: Any, mixture: np.ndarray, length: int, rows: Sequence[int]) -> np.ndarray:
    import torch

    frames = mixture.shape[-1]
    with torch.inference_mode():
        padded = torch.nn.functional.pad(torch.from_numpy(mixture), (0, length - frames))
        spectrogram = network._spec(padded)
        outputs = compiled([network._magnitude(spectrogram).contiguous().numpy(), padded.numpy()])
        frequency, time = (torch.from_numpy(outputs[index])[:, list(rows)] for index in range(2))
        estimate = time + network._ispec(network._mask(spectrogram, frequency), length)
        result: np.ndarray = estimate[..., :frames].numpy()
        return result


def _compile(model: Any, threads: int) -> Any:
    import openvino

    wishes = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,
    }
    compiled = openvino.Core().compile_model(model, "CPU", wishes)
    precision = compiled.get_property("INFERENCE_PRECISION_HINT")
    if precision != openvino.Type.f32:
        raise BackendError(f"it would compute in {precision.get_type_name()}, not in float32")
    return compiled


def _check(network: Any, compiled: Any, length: int) -> None:
    """Raise BackendError unless the exported network gives torch's numbers on noise."""
    import torch

    noise = np.random.default_rng(0).standard_normal((1, 2, length), np.float32)
    with torch.inference_mode():
        truth = network(torch.from_numpy(noise)).numpy()
    error = _run(network, compiled, noise, length, range(truth.shape[1])) - truth
    relative = float(np.abs(error).max() / np.abs(truth).max())
    if not relative < MAX_RELATIVE_ERROR:
        raise BackendError(f"its result is off by {relative:.1e}")


def _export(network: Any, length: int) -> Any:
    """(spectrogram as channels, mixture) -> (spectrograms of the sources, their time branch), as an OpenVINO model."""
    import openvino
    import torch

    class Core(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = copy.copy(network)

        def forward(self, channels: torch.Tensor, mixture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            """The published forward, told that both transforms are done: it hands over what it would invert."""
            estimates: list[torch.Tensor] = []

            def hand_over(estimate: torch.Tensor, length: int) -> torch.Tensor:
                estimates.append(estimate)
                return torch.zeros(())

            self.network._spec = lambda mixture: channels
            self.network._magnitude = lambda channels: channels
            self.network._mask = lambda channels, estimate: estimate
            self.network._ispec = hand_over
            time = self.network(mixture)
            return estimates[0], time

    mixture = torch.zeros(1, 2, length)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        channels = network._magnitude(network._spec(mixture)).contiguous()
        return openvino.convert_model(torch.export.export(Core().eval(), (channels, mixture), strict=False))


def _export_path(weights: Path, length: int) -> Path:
    """Where the export is kept: beside the weights, or in gbsep's cache when nothing can be written there."""
    key = [verify(weights), length, _EXPORT_VERSION, versions("torch", "demucs", "openvino")]
    name = f"{weights.stem}.{json_hash(key)[:12]}.xml"
    if os.access(weights.parent, os.W_OK):
        return weights.parent / name
    return cache_folder() / "openvino" / name


def _parts(path: Path) -> tuple[Path, Path]:
    return path, path.with_suffix(".bin")


def _is_kept(path: Path) -> bool:
    """Whether there is an export, whole and as it was written."""
    try:
        return all(part.is_file() and bool(verify(part)) for part in _parts(path))
    except BackendError:
        return False
