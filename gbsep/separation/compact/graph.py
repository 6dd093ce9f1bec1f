"""A pass of the network of `network` as two ONNX graphs, which `stream` feeds piece by piece.

The graphs are built from the trained weights at every load; a test checks that both compute the same.

Conventions
- Time comes first: spectra are (frames, bins), as `spectrum` gives them.
- Every convolution keeps the frames that the next piece needs as a state, which is an input and an output of its graph.
  So nothing is computed twice, and the pieces together equal the whole.
- The first graph does half of the work. While one thread runs the second graph on a piece, another runs the first on
  the next piece. That keeps two cores busier than splitting every small product between them.
- Harmonics are read and written by the same sums as in `network`, in the order that is fastest here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .axis import harmonic_bins, interpolation, spread
from .config import Config
from .network import FEATURES, GIVEN

if TYPE_CHECKING:
    import onnx

OPSET, IR_VERSION = 18, 8
"""Versions of ONNX that ONNX Runtime has supported since 1.14."""

PASSED = "fine", "half", "deep"
"""Outputs of the first graph that are inputs of the second."""

TIME = 2
"""The axis of frames in (1, channels, frames, pitches or bins)."""


@dataclass(frozen=True, eq=False)
class Half:
    """One graph while it is built.

    inputs and outputs: (channels, width) by name, without states; states: their shapes at the start of a song; next:
    the output that holds each state for the next piece.
    """

    inputs: dict[str, tuple[int, int]]
    outputs: dict[str, tuple[int, int]] = field(default_factory=dict)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    states: dict[str, tuple[int, ...]] = field(default_factory=dict)
    next: dict[str, str] = field(default_factory=dict)


class Graph:
    """Builds both graphs of a pass; `again`: one that reads an earlier estimate.

    The first has the inputs `local` (see `network.features`), `last` (1 for the last piece, else 0) and its states, and
    the outputs PASSED and the states for the next piece. The second has the inputs PASSED, `local`, `last` and its
    states, and the outputs `filters` and its states.
    """

    def __init__(self, config: Config, weights: Mapping[str, np.ndarray], again: bool) -> None:
        from onnx import helper, numpy_helper

        self._make, self._tensor = helper, numpy_helper.from_array
        self._config, self._w, self._features = config, weights, FEATURES + GIVEN * again
        self.halves: list[Half] = []
        self._begin_half({})
        self._build()

    def _begin_half(self, passed: Mapping[str, tuple[int, int]]) -> None:
        """Begin the next graph."""
        self._half = Half({"local": (self._features, self._config.n_fft // 2), **passed})
        self._numbers: dict[int, str] = {}
        self._zeros: dict[tuple[int, ...], str] = {}
        self.halves.append(self._half)

    def model(self, half: Half) -> onnx.ModelProto:
        make = self._make
        number, real = make.TensorProto.INT64, make.TensorProto.FLOAT
        sizes = {**{name: (c, n) for name, (_, c, _, n) in half.states.items()}, **half.inputs}
        inputs = [make.make_tensor_value_info(name, real, [1, c, None, n]) for name, (c, n) in sizes.items()]
        inputs.append(make.make_tensor_value_info("last", number, [1]))
        given = [*half.outputs, *(half.next[name] for name in half.states)]
        outputs = [make.make_tensor_value_info(name, real, None) for name in given]
        graph = make.make_graph(half.nodes, "compact", inputs, outputs, half.constants)
        result: onnx.ModelProto = make.make_model(
            graph, opset_imports=[make.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
        return result

    def _build(self) -> None:
        config = self._config
        (top, middle, deepest), pitches, bins = config.widths, config.pitches, config.bins
        fine = self.plus(self.conv("in", self.gathered(), pitches), "in.pitch")
        half = self.block("middle1", self.rectified("down1", fine, pitches, stride=2), pitches // 2)
        deep = self.plus(self.rectified("down2", half, pitches // 2, stride=2), "deep.pitch")
        for number, dilation in enumerate(config.dilations):
            if number == self._first_half():
                sizes = (top, pitches), (middle, pitches // 2), (deepest, pitches // 4)
                for name, to, size in zip((fine, half, deep), PASSED, sizes, strict=True):
                    self.op("Identity", name, to=to)
                    self._half.outputs[to] = size
                self._begin_half(self._half.outputs)
                fine, half, deep = PASSED
            deep = self.block(f"deep{number}", deep, pitches // 4, dilation)
        up = self.upsampled(self.rectified("up2", deep, pitches // 4))
        half = self.op("Add", up, self.buffered("up2 skip", half, self.length(up), middle, pitches // 2))
        up = self.upsampled(self.rectified("up1", self.block("middle2", half, pitches // 2), pitches // 2))
        fine = self.op("Add", up, self.buffered("up1 skip", fine, self.length(up), top, pitches))
        laid = self.lay_out(self.op("Relu", self.block("top", fine, pitches)))
        local = self.buffered("head1 skip", self.slice("local", 0, bins, 3), self.length(laid), self._features, bins)
        hidden = self.plus(self.conv("head1", self.op("Concat", laid, local, axis=1), bins), "head1.bin")
        coefficients = self.plus(self.rectified("out", self.rectified("head2", hidden, bins), bins), "out.bin")
        two = self.constant([2.0], np.float32)
        self.op("Mul", self.op("Tanh", self.op("Div", coefficients, two)), two, to="filters")
        self._half.outputs["filters"] = 2 * config.taps, bins

    def _first_half(self) -> int:
        """How many blocks of the deepest level the first graph gets, so that both take about as long."""
        config, w = self._config, self._w

        def cost(width: int, *names: str) -> int:
            """Multiplications in all frames that belong to one frame of the deepest level."""
            frames = 4 * width // config.pitches if width != config.bins else 4
            return sum(w[f"{name}.weight"].size for name in names) * width * frames

        def block(name: str, width: int) -> int:
            return cost(width, f"{name}.a", f"{name}.b")

        fine, half, coarse = config.pitches, config.pitches // 2, config.pitches // 4
        before = cost(fine, "in") + cost(half, "down1") + block("middle1", half) + cost(coarse, "down2")
        before += 4 * (self._features - FEATURES + 1) * config.gathered * config.pitches * config.n_fft // 2
        after = cost(coarse, "up2") + block("middle2", half) + cost(half, "up1") + block("top", fine)
        after += cost(fine, "spread") + cost(config.bins, "head1", "head2", "out")
        deep = np.cumsum([0, *(block(f"deep{number}", coarse) for number in range(len(config.dilations)))])
        return int(np.argmin(np.abs(before + deep[:-1] - (after + deep[-1] - deep[:-1]))))

    def conv(self, name: str, x: str, width: int, dilation: tuple[int, int] = (1, 1), stride: int = 1) -> str:
        """A convolution over `x`, which has `width` pitches or bins; `dilation` is (pitch, time)."""
        channels, size = self._w[f"{name}.weight"].shape[1:3]
        if size > 1:
            in_time = size // 2 * dilation[1] if stride == 1 else 0
            x = self.around(name, x, channels, width, in_time, stride)
        return self.convolved(name, x, dilation, stride)

    def around(self, name: str, x: str, channels: int, width: int, in_time: int, stride: int = 1) -> str:
        """`x` with the frames before it that a convolution reads, `in_time` on either side of each."""
        state = f"{name} before"
        x = self.after(state, x, channels, width, in_time)
        if stride == 1:
            self.keep(state, x, -2 * in_time)
        else:
            frames = self.length(x)
            self.keep(state, x, self.op("Sub", frames, self.op("Mod", frames, self.number(stride))))
        return x

    def convolved(self, name: str, x: str, dilation: tuple[int, int] = (1, 1), stride: int = 1) -> str:
        """The convolution itself, of frames with those around them."""
        kernel = self._w[f"{name}.weight"].swapaxes(2, 3)
        in_pitch = kernel.shape[2] // 2 * dilation[0] if stride == 1 else 0
        learnt = self.constant(kernel, np.float32), self.constant(self._w[f"{name}.bias"], np.float32)
        pads, dilations = [0, in_pitch, 0, in_pitch], [dilation[1], dilation[0]]
        return self.op("Conv", x, *learnt, pads=pads, dilations=dilations, strides=[stride, stride])

    def rectified(self, name: str, x: str, width: int, dilation: tuple[int, int] = (1, 1), stride: int = 1) -> str:
        return self.conv(name, self.op("Relu", x), width, dilation, stride)

    def block(self, name: str, x: str, width: int, dilation: tuple[int, int] = (1, 1)) -> str:
        channels, _ = self._config.blocks[name]
        in_time = dilation[1]
        x = self.around(f"{name}.a", x, channels, width, in_time)
        made = self.rectified(f"{name}.b", self.convolved(f"{name}.a", self.op("Relu", x), dilation), width, dilation)
        # What is made ends as far before `x` as both convolutions reach, or where the song does, before the zeros.
        stop = self.op("Sub", self.op("Mul", "last", self.number(in_time)), self.number(2 * in_time))
        return self.op("Add", made, self.slice(x, self.op("Sub", stop, self.length(made)), stop))

    def plus(self, x: str, name: str) -> str:
        return self.op("Add", x, self.constant(self._w[name].swapaxes(2, 3), np.float32))

    def upsampled(self, x: str) -> str:
        scales = self.constant([1, 1, 2, 2], np.float32)
        ways = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return self.op("Resize", x, "", scales, **ways)

    def gathered(self) -> str:
        """The features of each pitch: levels at its harmonics, the others at its fundamental."""
        config = self._config
        reading = interpolation(harmonic_bins(config), config.n_fft // 2).T

        def read(feature: int, count: int) -> str:
            x = self.slice("local", feature, feature + 1, 1)
            return self.op("MatMul", x, self.constant(reading[:, :count], np.float32))

        def levels(feature: int) -> str:
            harmonics = self.constant([-1, config.gathered, config.pitches])
            by_harmonic = self.op("Reshape", read(feature, reading.shape[1]), harmonics)
            return self.op("Unsqueeze", self.op("Transpose", by_harmonic, perm=[1, 0, 2]), self.number(0))

        turns = (read(feature, config.pitches) for feature in range(1, FEATURES))
        return self.op("Concat", levels(0), *turns, *map(levels, range(FEATURES, self._features)), axis=1)

    def lay_out(self, top: str) -> str:
        """Write each pitch's features to the bins of its harmonics.

        A bin reads few pitches of each harmonic. The bins of an octave are computed together, from all pitches that any
        of them reads: such products are small and dense.
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
        """The state `name`, then `x`, then after the last piece `reach` frames of zeros."""
        shape = self._half.states[name] = (1, channels, reach, width)
        if reach and shape not in self._zeros:
            frames = self.op("Mul", "last", self.number(reach))
            sizes = self.op("Concat", *map(self.number, shape[:TIME]), frames, self.number(width), axis=0)
            self._zeros[shape] = self.op("ConstantOfShape", sizes)
        return self.op("Concat", name, x, *([self._zeros[shape]] if reach else []), axis=TIME)

    def keep(self, name: str, x: str, start: int | str) -> None:
        """Keep the frames of `x` from `start` on as the state `name`."""
        self._half.next[name] = self.slice(x, start, 2**62, to=f"{name} next")

    def buffered(self, name: str, x: str, frames: str, channels: int, width: int) -> str:
        """A first-in first-out buffer: the next `frames` frames of the signal that comes in as `x`."""
        joined = self.after(name, x, channels, width, 0)
        self.keep(name, joined, frames)
        return self.slice(joined, 0, frames)

    def op(self, kind: str, *inputs: str, to: str = "", **attributes: Any) -> str:
        """Add a node; return the name of its output."""
        name = to or f"{kind} {len(self._half.nodes)}"
        self._half.nodes.append(self._make.make_node(kind, inputs, [name], **attributes))
        return name

    def constant(self, value: Any, kind: type = np.int64) -> str:
        name = f"constant {len(self._half.constants)}"
        self._half.constants.append(self._tensor(np.ascontiguousarray(value, kind), name))
        return name

    def number(self, value: int) -> str:
        if value not in self._numbers:
            self._numbers[value] = self.constant([value])
        return self._numbers[value]

    def slice(self, x: str, start: int | str, stop: int | str, axis: int = TIME, to: str = "") -> str:
        bounds = (bound if isinstance(bound, str) else self.number(bound) for bound in (start, stop))
        return self.op("Slice", x, *bounds, self.number(axis), to=to)

    def length(self, x: str) -> str:
        return self.op("Shape", x, start=TIME, end=TIME + 1)
