"""HTDemucs exported from torch to OpenVINO. An export is kept only if it agrees with torch on noise."""

from __future__ import annotations

import contextlib
import copy
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import BackendError
from ...models.verify import trust
from ...store.folders import cache_folder
from ...store.locks import holding
from . import openvino as demucs_openvino
from .openvino import Export

if TYPE_CHECKING:
    import torch

MAX_RELATIVE_ERROR = 1e-4


def keep(network: Any, path: Path, threads: int) -> Export:
    """Export the HTDemucs `network` to `path`, unless it is there. It takes half a minute.

    Raises BackendError when OpenVINO would not compute in float32 or not the same, or the network gives no spectra as
    channels, and whatever OpenVINO and torch raise at a network they cannot export.
    """
    with _exporting():
        there = demucs_openvino.kept(path)
        if there is not None:
            return there
        if not network.cac:
            raise BackendError("its estimates are no spectra")
        length = int(network.segment * network.samplerate)
        export = Export(
            sources=tuple(network.sources),
            sample_rate=network.samplerate,
            frames=length,
            n_fft=network.nfft,
        )
        model = _export(network, length)
        _check(network, demucs_openvino.runner(demucs_openvino.compiled(model, threads), export), length)
        _write(model, export, path)
        for part in demucs_openvino.parts(path):
            trust(part)
        return export


def _write(model: Any, export: Export, path: Path) -> None:
    """Write the files of an export, each in one step: another process may be running what is there already."""
    import openvino

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".gbsep-", dir=path.parent) as folder:
        hidden = Path(folder) / path.name
        openvino.save_model(model, hidden, compress_to_fp16=False)
        hidden.with_suffix(".json").write_text(export.model_dump_json(), encoding="utf-8")
        for source, target in reversed(
            list(zip(demucs_openvino.parts(hidden), demucs_openvino.parts(path), strict=True))
        ):
            source.replace(target)


@contextlib.contextmanager
def _exporting() -> Iterator[None]:
    """Processes that work at a batch need the same export: one makes it, the others wait."""
    folder = cache_folder() / "openvino"
    folder.mkdir(parents=True, exist_ok=True)
    with holding(folder / ".lock"):
        yield


def _check(network: Any, run: demucs_openvino.Run, length: int) -> None:
    """Raise BackendError unless the exported network gives torch's numbers on noise."""
    import torch

    noise = np.random.default_rng(0).standard_normal((2, length), np.float32)
    with torch.inference_mode():
        truth = network(torch.from_numpy(noise[np.newaxis])).numpy()[0]
    relative = float(np.abs(run(noise, range(len(truth))) - truth).max() / np.abs(truth).max())
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
        exported = torch.export.export(Core().eval(), (channels, mixture), strict=False)
        model = openvino.convert_model(exported)
    # The converter forgets the lengths. Where they are fixed, OpenVINO needs a quarter less memory.
    model.reshape(dict(zip(model.inputs, (list(channels.shape), list(mixture.shape)), strict=True)))
    return model
