"""The network of `harmonic_net` for separation: an ONNX graph, fed piece by piece, without torch.

ONNX Runtime loads in a tenth of the time that torch takes, and is as fast. What training made is turned into a graph
whenever it is loaded; that both compute the same is tested.

Conventions
- Time comes first: spectra are (frames, bins), as `spectrum` makes them.
- Every convolution keeps the frames that the next piece needs as a state, an input and an output of the graph. So
  nothing is computed twice, and all pieces together are what the whole gives.
- What a pitch sees and where its harmonics are laid are the same sums as in `harmonic_net`, in the order that is
  fastest here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.fft

from ..audio import overlap_add
from ..errors import BackendNotInstalled
from .harmonic_net import FEATURES, Config, features, filtered, harmonic_bins, interpolation, spread

if TYPE_CHECKING:
    import onnx

OPSET, IR_VERSION = 18, 8
"""Of ONNX: what ONNX Runtime has known since version 1.14."""

REINSTALL = "pip install --force-reinstall onnx onnxruntime"

TIME = 2
"""The axis of frames in (1, channels, frames, pitches or bins)."""


def spectrum(config: Config, waves: np.ndarray) -> np.ndarray:
    """Spectra, complex64 (channels, frames, n_fft // 2 + 1), of waves (channels, n), centred, zeros outside."""
    padded = np.pad(waves, ((0, 0), (config.n_fft // 2, config.n_fft // 2)))
    cut = np.lib.stride_tricks.sliding_window_view(padded, config.n_fft, axis=1)[:, :: config.hop_length]
    return scipy.fft.rfft(cut * (_window(config) * np.float32(2.0 / config.n_fft)), axis=-1)


def waves(config: Config, spectra: np.ndarray, length: int) -> np.ndarray:
    """The inverse of `spectrum`; of (channels, frames, bins) the highest bins may be missing and are zero."""
    window = _window(config) * np.float32(config.n_fft / 2.0)
    cut = scipy.fft.irfft(spectra, config.n_fft, axis=-1) * window
    power = np.broadcast_to(_window(config) ** 2, cut.shape[-2:])
    start = config.n_fft // 2
    made = np.zeros((len(cut), length), np.float32)
    added, weight = (overlap_add(one, config.hop_length)[..., start : start + length] for one in (cut, power))
    made[:, : added.shape[-1]] = added / np.maximum(weight, np.float32(1e-11))
    return made


def _window(config: Config) -> np.ndarray:
    return np.hanning(config.n_fft + 1)[:-1].astype(np.float32)


def load_runtime() -> ModuleType:
    """ONNX Runtime, once it is sure that graphs can be built for it. Raises BackendNotInstalled where not."""
    try:
        import onnx  # noqa: F401
        import onnxruntime
    except (ImportError, OSError) as error:
        raise BackendNotInstalled("compact", f"ONNX Runtime does not load ({error}); {REINSTALL}") from error
    return onnxruntime


class Network:
    """Trained weights of the shapes that the config asks for, ready to be fed with a Stream.

    Raises BackendNotInstalled where ONNX Runtime does not load.
    """

    def __init__(self, config: Config, weights: Mapping[str, Any], threads: int) -> None:
        runtime = load_runtime()
        graph = _Graph(config, {name: np.asarray(value, np.float32) for name, value in weights.items()})
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors
        options.use_deterministic_compute = True
        options.enable_mem_pattern = False  # pieces differ in length: each pattern would be held for ever
        self.config, self.states = config, graph.states
        self.session = runtime.InferenceSession(graph.model().SerializeToString(), options, ["CPUExecutionProvider"])


class Stream:
    """A song on its way through a network: `feed` takes piece after piece of its spectra."""

    def __init__(self, network: Network) -> None:
        config = network.config
        self._network = network
        self._states = {name: np.zeros(shape, np.float32) for name, shape in network.states.items()}
        self._before = np.zeros((1, config.n_fft // 2), np.complex64)
        self._waiting = np.zeros((config.taps // 2, config.bins), np.complex64)

    def feed(self, mixture: np.ndarray, last: bool) -> np.ndarray:
        """The bass, complex64 (frames, config.bins), as far as it can be told after `mixture`, the next piece.

        `mixture` has at least n_fft // 2 bins, and its RMS is taken to be about 1. What comes out goes on where it
        stopped: at most Config.context frames behind while more is to come, up to the end after the `last` piece. Every
        piece but the last must be a multiple of four frames and longer than Config.context.
        """
        config = self._network.config
        edge, spare = config.taps // 2, -len(mixture) % 4 if last else 0
        mixture = np.pad(mixture[:, : config.n_fft // 2], ((0, spare), (0, 0)))
        local = features(config, np.concatenate([self._before, mixture])[np.newaxis], np)
        self._before = mixture[-1:]
        inputs = {**self._states, "local": local, "last": np.array([last], np.int64)}
        filters, *states = self._network.session.run(None, inputs)
        self._states = dict(zip(self._states, states, strict=True))
        heard = [self._waiting, mixture[:, : config.bins], np.zeros((edge * last, config.bins), np.complex64)]
        around, made = np.concatenate(heard), filters.shape[TIME]
        self._waiting = around[made:]
        return filtered(config, filters, around[np.newaxis, : made + 2 * edge], np)[0, : made - spare]


class _Graph:
    """Inputs: `local` (see `harmonic_net.features`), `last` (1 for the last piece, else 0) and all `states`; these are
    given with the shapes that a song begins with. Outputs: `filters`, and the states for the next piece."""

    def __init__(self, config: Config, weights: Mapping[str, np.ndarray]) -> None:
        from onnx import helper, numpy_helper

        self._make, self._tensor = helper, numpy_helper.from_array
        self._config, self._w = config, weights
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._numbers: dict[int, str] = {}
        self._zeros: dict[tuple[int, ...], str] = {}
        self._next: dict[str, str] = {}
        self.states: dict[str, tuple[int, ...]] = {}
        self._build()

    def model(self) -> onnx.ModelProto:
        make = self._make
        number, real = make.TensorProto.INT64, make.TensorProto.FLOAT
        inputs = [
            *(make.make_tensor_value_info(name, real, [1, c, None, n]) for name, (_, c, _, n) in self.states.items()),
            make.make_tensor_value_info("local", real, [1, FEATURES, None, self._config.n_fft // 2]),
            make.make_tensor_value_info("last", number, [1]),
        ]
        outputs = [
            make.make_tensor_value_info(name, real, None)
            for name in ("filters", *(self._next[name] for name in self.states))
        ]
        graph = make.make_graph(self._nodes, "harmonic_net", inputs, outputs, self._constants)
        return make.make_model(graph, opset_imports=[make.make_opsetid("", OPSET)], ir_version=IR_VERSION)

    def _build(self) -> None:
        config = self._config
        (top, middle, _), pitches, bins = config.widths, config.pitches, config.bins
        fine = self.plus(self.conv("in", self.gathered(), pitches), "in.pitch")
        half = self.block("middle1", self.rectified("down1", fine, pitches, stride=2), pitches // 2)
        deep = self.plus(self.rectified("down2", half, pitches // 2, stride=2), "deep.pitch")
        for number, dilation in enumerate(config.dilations):
            deep = self.block(f"deep{number}", deep, pitches // 4, dilation)
        up = self.doubled(self.rectified("up2", deep, pitches // 4))
        half = self.op("Add", up, self.waited("up2 skip", half, self.length(up), middle, pitches // 2))
        up = self.doubled(self.rectified("up1", self.block("middle2", half, pitches // 2), pitches // 2))
        fine = self.op("Add", up, self.waited("up1 skip", fine, self.length(up), top, pitches))
        laid = self.lay_out(self.op("Relu", self.block("top", fine, pitches)))
        local = self.waited("head1 skip", self.slice("local", 0, bins, 3), self.length(laid), FEATURES, bins)
        hidden = self.plus(self.conv("head1", self.op("Concat", laid, local, axis=1), bins), "head1.bin")
        coefficients = self.plus(self.rectified("out", self.rectified("head2", hidden, bins), bins), "out.bin")
        two = self.constant([2.0], np.float32)
        self.op("Mul", self.op("Tanh", self.op("Div", coefficients, two)), two, to="filters")

    def conv(self, name: str, x: str, width: int, dilation: tuple[int, int] = (1, 1), stride: int = 1) -> str:
        """A convolution of `x` with its `width` pitches or bins; the dilation is that in pitch and in time."""
        kernel = self._w[f"{name}.weight"].swapaxes(2, 3)
        channels, size = kernel.shape[1:3]
        reach = size // 2 if stride == 1 else 0
        in_pitch, in_time = reach * dilation[0], reach * dilation[1]
        if size > 1:
            state = f"{name} before"
            x = self.after(state, x, channels, width, in_time)
            if stride == 1:
                self.keep(state, x, -2 * in_time)
            else:
                frames = self.length(x)
                self.keep(state, x, self.op("Sub", frames, self.op("Mod", frames, self.number(stride))))
        learnt = self.constant(kernel, np.float32), self.constant(self._w[f"{name}.bias"], np.float32)
        pads, dilations = [0, in_pitch, 0, in_pitch], [dilation[1], dilation[0]]
        return self.op("Conv", x, *learnt, pads=pads, dilations=dilations, strides=[stride, stride])

    def rectified(self, name: str, x: str, width: int, dilation: tuple[int, int] = (1, 1), stride: int = 1) -> str:
        return self.conv(name, self.op("Relu", x), width, dilation, stride)

    def block(self, name: str, x: str, width: int, dilation: tuple[int, int] = (1, 1)) -> str:
        made = self.rectified(f"{name}.b", self.rectified(f"{name}.a", x, width, dilation), width, dilation)
        channels, _ = self._config.blocks[name]
        return self.op("Add", made, self.waited(f"{name} skip", x, self.length(made), channels, width))

    def plus(self, x: str, name: str) -> str:
        return self.op("Add", x, self.constant(self._w[name].swapaxes(2, 3), np.float32))

    def doubled(self, x: str) -> str:
        scales = self.constant([1, 1, 2, 2], np.float32)
        ways = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return self.op("Resize", x, "", scales, **ways)

    def gathered(self) -> str:
        """What a pitch shows: levels at its harmonics, the other features at itself."""
        config = self._config
        reading = interpolation(harmonic_bins(config), config.n_fft // 2).T

        def read(feature: int, count: int) -> str:
            x = self.slice("local", feature, feature + 1, 1)
            return self.op("MatMul", x, self.constant(reading[:, :count], np.float32))

        levels = self.op("Reshape", read(0, reading.shape[1]), self.constant([-1, config.gathered, config.pitches]))
        levels = self.op("Unsqueeze", self.op("Transpose", levels, perm=[1, 0, 2]), self.number(0))
        return self.op("Concat", levels, *(read(feature, config.pitches) for feature in range(1, FEATURES)), axis=1)

    def lay_out(self, top: str) -> str:
        """What pitches tell, at their harmonics.

        A bin reads few of the pitches of each harmonic. Bins an octave wide are laid out together, from all that any of
        them reads: such products are small, and dense.
        """
        config, channels, projected = self._config, self._config.widths[0], self._config.projected
        kernel = self._w["spread.weight"].reshape(projected, config.harmonics, channels).swapaxes(0, 1)
        bias = self._w["spread.bias"].reshape(projected, config.harmonics)
        by_pitch = self.op("Transpose", self.op("Squeeze", top, self.number(0)), perm=[2, 0, 1])
        rays = self.op("MatMul", self.constant(kernel.reshape(-1, channels), np.float32), by_pitch)
        rays = self.op("Reshape", rays, self.constant([config.pitches * config.harmonics, -1]))
        laying = spread(config).reshape(config.bins, config.harmonics, config.pitches)
        by_ray = laying.swapaxes(1, 2).reshape(config.bins, -1)
        octaves, stop = list[str](), config.bins
        while stop:
            start = stop // 2 if stop > 16 else 0
            read = np.flatnonzero(by_ray[start:stop].any(axis=0))
            some = self.op("Gather", rays, self.constant(read), axis=0)
            octaves.insert(0, self.op("MatMul", self.constant(by_ray[start:stop, read], np.float32), some))
            stop = start
        laid = self.op("Reshape", self.op("Concat", *octaves, axis=0), self.constant([config.bins, projected, -1]))
        offsets = np.einsum("bhq,ph->bp", laying, bias)[:, :, np.newaxis]
        laid = self.op("Transpose", self.op("Add", laid, self.constant(offsets, np.float32)), perm=[1, 2, 0])
        return self.op("Unsqueeze", laid, self.number(0))

    def after(self, name: str, x: str, channels: int, width: int, reach: int) -> str:
        """`x` after what was kept under a name, and amid `reach` frames of zeros at the ends of the song."""
        shape = self.states[name] = (1, channels, reach, width)
        if reach and shape not in self._zeros:
            frames = self.op("Mul", "last", self.number(reach))
            sizes = self.op("Concat", *map(self.number, shape[:TIME]), frames, self.number(width), axis=0)
            self._zeros[shape] = self.op("ConstantOfShape", sizes)
        return self.op("Concat", name, x, *([self._zeros[shape]] if reach else []), axis=TIME)

    def keep(self, name: str, x: str, start: int | str) -> None:
        """Keep what lies from `start` on under a name."""
        self._next[name] = self.slice(x, start, 2**62, to=f"{name} next")

    def waited(self, name: str, x: str, frames: str, channels: int, width: int) -> str:
        """The next so many frames of what comes in as `x`."""
        joined = self.after(name, x, channels, width, 0)
        self.keep(name, joined, frames)
        return self.slice(joined, 0, frames)

    def op(self, kind: str, *inputs: str, to: str = "", **attributes: Any) -> str:
        """A node; the name of its output."""
        name = to or f"{kind} {len(self._nodes)}"
        self._nodes.append(self._make.make_node(kind, inputs, [name], **attributes))
        return name

    def constant(self, value: Any, kind: type = np.int64) -> str:
        name = f"constant {len(self._constants)}"
        self._constants.append(self._tensor(np.ascontiguousarray(value, kind), name))
        return name

    def number(self, value: int) -> str:
        if value not in self._numbers:
            self._numbers[value] = self.constant([value])
        return self._numbers[value]

    def slice(self, x: str, start: int | str, stop: int | str, axis: int = TIME, to: str = "") -> str:
        bounds = (one if isinstance(one, str) else self.number(one) for one in (start, stop))
        return self.op("Slice", x, *bounds, self.number(axis), to=to)

    def length(self, x: str) -> str:
        return self.op("Shape", x, start=TIME, end=TIME + 1)
