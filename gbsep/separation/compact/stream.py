"""The network of `network` for separation: ONNX graphs, fed piece by piece, without torch.

ONNX Runtime loads in a tenth of the time that torch takes, and is as fast. Each pass has two graphs (see `graph`), and
they keep the state that the next piece needs, so nothing is computed twice and the pieces together equal the whole.
Spectra are (frames, bins), as `spectra.spectrum` gives them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from ...errors import BackendNotInstalled
from .config import Config
from .graph import PASSED, TIME, Graph
from .network import features, filtered, mean_of_passes, passes

REINSTALL = "pip install --force-reinstall onnx onnxruntime"


def load_runtime() -> ModuleType:
    """ONNX Runtime; also loads what else is slow to load. Raises BackendNotInstalled where it does not load."""
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import scipy.fft  # noqa: F401
    except (ImportError, OSError) as error:
        raise BackendNotInstalled("compact", f"ONNX Runtime does not load ({error}); {REINSTALL}") from error
    result: ModuleType = onnxruntime
    return result


class Network:
    """A trained network, ready to run in a Stream; `weights` have the shapes that the config asks for.

    Raises BackendNotInstalled where ONNX Runtime does not load.
    """

    def __init__(self, config: Config, weights: Mapping[str, Any], threads: int) -> None:
        runtime = load_runtime()
        arrays = {name: np.asarray(value, np.float32) for name, value in weights.items()}
        self.config = config
        self.passes = [_Pass(runtime, Graph(config, own, bool(n)), threads) for n, own in enumerate(passes(arrays))]


class _Pass:
    """The sessions of a pass, one for each graph, and their states at the start of a song."""

    def __init__(self, runtime: ModuleType, graph: Graph, threads: int) -> None:
        options = runtime.SessionOptions()
        options.intra_op_num_threads = max(1, threads // len(graph.halves))
        options.log_severity_level = 3  # errors
        options.use_deterministic_compute = True
        options.enable_mem_pattern = False  # pieces differ in length: each pattern would be held for ever
        self.states = [half.states for half in graph.halves]
        self.sessions = [
            runtime.InferenceSession(graph.model(half).SerializeToString(), options, ["CPUExecutionProvider"])
            for half in graph.halves
        ]


class Stream:
    """One song through a network: `feed` takes its spectra piece by piece.

    `again`: with a second pass, where the network has one. The output is then the mean of both.
    """

    def __init__(self, network: Network, again: bool = False) -> None:
        config = network.config
        self._config, self._passes = config, [_PassStream(config, one) for one in network.passes[: 1 + again]]
        self._heard = np.zeros((0, config.n_fft // 2), np.complex64)
        self._given = self._once = np.zeros((0, config.bins), np.complex64)

    def feed(self, mixture: np.ndarray, last: bool) -> np.ndarray:
        """The next frames of the bass, complex64 (frames, config.bins), from the next piece of the mixture.

        `mixture` is (frames, at least n_fft // 2 bins), with an RMS of about 1. The output lags and catches up with the
        `last` piece. Every other piece has to be a multiple of four frames and longer than Config.context.
        """
        return self.begin(mixture, last)()

    def begin(self, mixture: np.ndarray, last: bool) -> Callable[[], np.ndarray]:
        """The first half of `feed`, and what does the other.

        Each must see all pieces in order; the two may run in different threads.
        """
        first = self._passes[0]
        if len(self._passes) == 1:
            return partial(first.finish, first.begin(mixture, last))
        return partial(self._hear_again, mixture, first.finish(first.begin(mixture, last)), last)

    def _hear_again(self, mixture: np.ndarray, given: np.ndarray, last: bool) -> np.ndarray:
        """The second pass, over as many frames as the first has estimated, and the mean of both."""
        self._heard = np.concatenate([self._heard, mixture[:, : self._heard.shape[1]]])
        self._given, self._once = (np.concatenate([kept, given]) for kept in (self._given, self._once))
        frames = len(self._given) if last else len(self._given) // 4 * 4
        if not last and frames <= self._config.context:
            return np.zeros((0, self._config.bins), np.complex64)
        heard, given = self._heard[:frames], self._given[:frames]
        self._heard, self._given = self._heard[frames:], self._given[frames:]
        second = self._passes[1]
        twice = second.finish(second.begin(heard, last, given))
        once, self._once = self._once[: len(twice)], self._once[len(twice) :]
        result: np.ndarray = mean_of_passes(once, twice)
        return result


@dataclass(frozen=True, eq=False)
class _Halfway:
    """A piece after the first graph: the mixture, its local features, what that graph gave, and whether it is the last.

    `spare` frames were added to fill the deepest level's step.
    """

    mixture: np.ndarray
    local: np.ndarray
    passed: list[np.ndarray]
    spare: int
    last: bool


class _PassStream:
    """One song through a pass."""

    def __init__(self, config: Config, network: _Pass) -> None:
        self._config, self._network = config, network
        self._states = [
            {name: np.zeros(shape, np.float32) for name, shape in states.items()} for states in network.states
        ]
        self._before = np.zeros((1, config.n_fft // 2), np.complex64)
        self._waiting = np.zeros((config.taps // 2, config.bins), np.complex64)

    def begin(self, mixture: np.ndarray, last: bool, given: np.ndarray | None = None) -> _Halfway:
        """The first graph; a second pass is `given` the estimate of the first."""
        config = self._config
        spare = -len(mixture) % 4 if last else 0
        mixture = np.pad(mixture[:, : config.n_fft // 2], ((0, spare), (0, 0)))
        known = None if given is None else np.pad(given, ((0, spare), (0, 0)))[np.newaxis]
        local = features(config, np.concatenate([self._before, mixture])[np.newaxis], np, known)
        self._before = mixture[-1:]
        passed = self._run(0, {"local": local}, last)
        return _Halfway(mixture[:, : config.bins], local, passed, spare, last)

    def finish(self, piece: _Halfway) -> np.ndarray:
        """The second graph."""
        config = self._config
        edge, passed = config.taps // 2, dict(zip(PASSED, piece.passed, strict=True))
        (filters,) = self._run(1, {"local": piece.local, **passed}, piece.last)
        pieces = [self._waiting, piece.mixture, np.zeros((edge * piece.last, config.bins), np.complex64)]
        around, made = np.concatenate(pieces), filters.shape[TIME]
        self._waiting = around[made:]
        result: np.ndarray = filtered(config, filters, around[np.newaxis, : made + 2 * edge], np)[
            0, : made - piece.spare
        ]
        return result

    def _run(self, half: int, inputs: Mapping[str, np.ndarray], last: bool) -> list[np.ndarray]:
        """A graph's outputs; its states are kept for the next piece."""
        states = self._states[half]
        inputs = {**states, **inputs, "last": np.array([last], np.int64)}
        outputs = self._network.sessions[half].run(None, inputs)
        given = len(outputs) - len(states)
        self._states[half] = dict(zip(states, outputs[given:], strict=True))
        result: list[np.ndarray] = outputs[:given]
        return result
