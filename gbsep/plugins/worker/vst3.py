"""A VST3 host: one plug-in at work. `vst3_module` says what is in a bundle.

gbsep talks to plug-ins itself rather than through Pedalboard, because there it cannot reach what a render needs: every
layout of buses, side chains, the two halves of a state, a value as fine as the plug-in takes it, an instance that has
heard nothing yet. (Pedalboard cannot make a plug-in with one channel in and two out, reads beyond its buffer with one
that has more inputs than outputs, and sends noise through each while loading it.)

A plug-in has two halves. The component makes the sound; the controller shows the parameters. They may know of each
other only through the host: what is set is told to both, and a state is that of the component, then of the controller.

Conventions: raw values of parameters are 0 to 1. Blocks are float32, shape (channels, frames). `prepare` activates;
changes of parameters go to the component with the next block.

References: Steinberg, VST 3 API, "Audio Processor Call Sequence".
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from ...errors import PluginError
from . import vst3_interfaces as abi
from .vst3_objects import ComponentHandler, EventList, HostApplication, ParameterChanges, Stream

BLOCK_FRAMES = 8192
"""The most frames that a plug-in gets at once; Pedalboard's default, so that both give the same bytes."""
MOST_PARAMETERS = 2**16
MOST_CHANNELS = 256


@dataclass(frozen=True)
class ClassRow:
    """A plug-in as its bundle lists it; `class_id` in 32 hexadecimal digits, as in a .vstpreset."""

    name: str
    vendor: str
    version: str
    category: str
    class_id: str

    @property
    def is_instrument(self) -> bool:
        return "Instrument" in self.category.split("|")


@dataclass(frozen=True)
class RawParameter:
    """One parameter as the controller lists it. `step_count` is 0 for a continuous one, else its values less one."""

    id: int
    title: str
    unit: str
    step_count: int
    default: float
    automatable: bool
    read_only: bool


@dataclass(frozen=True)
class Bus:
    channels: int
    is_main: bool
    arrangement: int


Create = Callable[[bytes, abi.Interface], "abi.Remote | None"]
"""Makes an object of a class id, seen by an interface; None when the bundle does not give it."""


class Vst3Plugin:
    """One instance. `row` is what the bundle says of it, `parameters` all of them in the plug-in's order."""

    def __init__(self, create: Create, host: HostApplication, row: ClassRow):
        self.row = row
        self._handler = ComponentHandler()
        component = create(bytes.fromhex(row.class_id), abi.COMPONENT)
        if component is None:
            raise PluginError("it cannot be made: the bundle lists it and does not give it")
        self._component: abi.Remote = component
        if component.initialize(host.address) != abi.OK:
            raise PluginError("it refuses to start")
        processor = component.query(abi.PROCESSOR)
        if processor is None:
            raise PluginError("it does not process sound")
        self._processor = processor
        self._controller = self._find_controller(create, host)
        self._parts: list[abi.Remote] = []
        if self._controller:
            self._controller.set_component_handler(self._handler.address)
            self._connect(self._controller)
            self._show_component_state(self._get(component))
        self.parameters = tuple(self._list_parameters())
        self._ids = {parameter.id for parameter in self.parameters}
        self._pending: dict[int, float] = {}
        self._set: dict[int, float] = {}
        self._active = False
        self._buffers: _Buffers | None = None

    def _find_controller(self, create: Create, host: HostApplication) -> abi.Remote | None:
        """The controller: the component itself, or an object of its own, which starts by itself."""
        same = self._component.query(abi.CONTROLLER)
        self._is_single = same is not None
        if same:
            return same
        class_id = (ctypes.c_uint8 * 16)()
        if self._component.get_controller_class_id(ctypes.addressof(class_id)) != abi.OK:
            return None
        controller = create(bytes(class_id), abi.CONTROLLER)
        if controller and controller.initialize(host.address) != abi.OK:
            raise PluginError("its controller refuses to start")
        return controller

    def _connect(self, controller: abi.Remote) -> None:
        ours, theirs = self._component.query(abi.CONNECTION_POINT), controller.query(abi.CONNECTION_POINT)
        if ours and theirs and ours.address != theirs.address:
            ours.connect(theirs.address)
            theirs.connect(ours.address)
            self._parts += [ours, theirs]

    def _list_parameters(self) -> Iterator[RawParameter]:
        if self._controller is None:
            return
        info = abi.ParameterInfo()
        for index in range(min(self._controller.get_parameter_count(), MOST_PARAMETERS)):
            if self._controller.get_parameter_info(index, ctypes.byref(info)) != abi.OK:
                continue
            can_automate, hidden = info.flags & abi.PARAMETER_CAN_AUTOMATE, info.flags & abi.PARAMETER_HIDDEN
            unchangeable = bool(info.flags & abi.PARAMETER_READ_ONLY or (hidden and not can_automate))
            yield RawParameter(
                info.id,
                abi.text_of(info.title),
                abi.text_of(info.unit),
                max(info.step_count, 0),
                info.default,
                bool(can_automate) and not unchangeable,
                unchangeable,
            )

    # --- parameters ---------------------------------------------------------------------------------------------------

    def get(self, parameter: RawParameter) -> float:
        """The raw value that it has: what was set since the last block, or else what the controller shows."""
        if parameter.id in self._set:
            return self._set[parameter.id]
        return float(self._controller.get_normalized(parameter.id)) if self._controller else parameter.default

    def set(self, parameter: RawParameter, raw: float) -> None:
        """Show a raw value, and send it to the component with the next block."""
        assert self._controller is not None  # there is a parameter
        self._handler.values_changed = False
        self._controller.set_normalized(parameter.id, raw)
        if self._handler.values_changed:
            self._set.clear()
        self._set[parameter.id] = self._pending[parameter.id] = raw

    def _take_edits(self) -> None:
        """What the controller has set by itself travels with the next block too."""
        self._pending |= {id: raw for id, raw in self._handler.edits.items() if id in self._ids}
        self._handler.edits.clear()

    def text(self, parameter: RawParameter, raw: float) -> str:
        """What the controller shows for a raw value."""
        shown = abi.Text()
        if self._controller is None or self._controller.get_text(parameter.id, raw, ctypes.byref(shown)) != abi.OK:
            return ""
        return abi.text_of(shown)

    def raw_of(self, parameter: RawParameter, text: str) -> float | None:
        """The raw value that the controller gives for a text, whatever it is worth; None when it gives none."""
        given, raw = abi.Text(), ctypes.c_double(float("nan"))
        abi.fill_text(given, text)
        if self._controller is None:
            return None
        found = self._controller.get_value_for_text(parameter.id, ctypes.byref(given), ctypes.byref(raw))
        return raw.value if found == abi.OK and 0 <= raw.value <= 1 else None

    # --- state --------------------------------------------------------------------------------------------------------

    def state(self) -> tuple[bytes, bytes]:
        """What the component and the controller remember; empty for one that remembers nothing."""
        return self._get(self._component), self._get(self._controller) if self._controller else b""

    def restore(self, component: bytes, controller: bytes) -> None:
        """Give both halves what `state` gave, or a .vstpreset holds."""
        if component:
            self._put(self._component, component)
            self._show_component_state(component)
        if controller and self._controller:
            self._put(self._controller, controller)
        self._pending.clear()
        self._set.clear()

    def _show_component_state(self, component: bytes) -> None:
        """Tell the controller what the component has, so that it shows that."""
        if component and self._controller:
            with _stream(component) as stream:
                self._controller.set_component_state(stream.address)

    @staticmethod
    def _get(part: abi.Remote) -> bytes:
        with _stream(b"") as stream:
            return bytes(stream.data) if part.get_state(stream.address) == abi.OK else b""

    @staticmethod
    def _put(part: abi.Remote, data: bytes) -> None:
        with _stream(data) as stream:
            part.set_state(stream.address)

    # --- sound --------------------------------------------------------------------------------------------------------

    def buses(self, direction: int) -> list[Bus]:
        """The audio buses of one direction, as they are arranged now."""
        found = []
        for index in range(self._component.get_bus_count(abi.AUDIO, direction)):
            info, arrangement = abi.BusInfo(), ctypes.c_uint64()
            self._component.get_bus_info(abi.AUDIO, direction, index, ctypes.byref(info))
            self._processor.get_bus_arrangement(direction, index, ctypes.byref(arrangement))
            channels = arrangement.value.bit_count() or info.channels
            if not 0 <= channels <= MOST_CHANNELS:
                raise PluginError(f"it has a bus of {channels} channels")
            found.append(Bus(channels, info.kind == abi.MAIN_BUS, arrangement.value))
        return found

    def arrange(self, channels_in: int, channels_out: int) -> bool:
        """Ask for 1 or 2 channels on the first bus in and out; whether the plug-in has them then."""
        self.deactivate()
        wanted = []
        for direction, channels in ((abi.INPUT, channels_in), (abi.OUTPUT, channels_out)):
            now = [bus.arrangement for bus in self.buses(direction)]
            if not now:
                return False
            wanted.append((ctypes.c_uint64 * len(now))({1: abi.MONO, 2: abi.STEREO}[channels], *now[1:]))
        self._processor.set_bus_arrangements(wanted[0], len(wanted[0]), wanted[1], len(wanted[1]))
        return [self.buses(side)[0].channels for side in (abi.INPUT, abi.OUTPUT)] == [channels_in, channels_out]

    def prepare(self, sample_rate: int, sidechain: int | None = None) -> None:
        """Get ready for blocks of up to BLOCK_FRAMES; `sidechain` is the input bus that is fed beside the first."""
        self.deactivate()
        used = {(abi.INPUT, 0), (abi.OUTPUT, 0), (abi.INPUT, sidechain)}
        inputs, outputs = self.buses(abi.INPUT), self.buses(abi.OUTPUT)
        for direction, count in ((abi.INPUT, len(inputs)), (abi.OUTPUT, len(outputs))):
            for index in range(count):
                self._component.activate_bus(abi.AUDIO, direction, index, (direction, index) in used)
        setup = abi.ProcessSetup(abi.OFFLINE, abi.FLOAT32, BLOCK_FRAMES, float(sample_rate))
        refused = self._processor.setup_processing(ctypes.byref(setup))
        if refused not in (abi.OK, abi.NOT_IMPLEMENTED):
            raise PluginError(f"it refuses a sample rate of {sample_rate} Hz")
        if self._component.set_active(1) not in (abi.OK, abi.NOT_IMPLEMENTED):
            raise PluginError(f"it refuses to work at {sample_rate} Hz")
        self._processor.set_processing(1)
        self._active = True
        self._buffers = _Buffers(inputs, outputs, sample_rate)

    def deactivate(self) -> None:
        """Stop work; `prepare` starts it again."""
        if self._active:
            self._processor.set_processing(0)
            self._component.set_active(0)
            self._active = False

    @property
    def latency_frames(self) -> int:
        return int(self._processor.get_latency_frames())

    def process(self, block: np.ndarray, sidechain: tuple[int, np.ndarray] | None = None) -> np.ndarray:
        """What comes out of the first output bus for `block` on the first input bus, late by the latency.

        `sidechain` is an input bus and what it hears, as long as `block`. Raises PluginError when it is refused.
        """
        buffers = self._buffers
        if buffers is None or not self._active:
            raise PluginError("it was not prepared")
        out = np.empty((buffers.outputs[0].shape[0], block.shape[1]), np.float32)
        for begin in range(0, block.shape[1], BLOCK_FRAMES):
            part = slice(begin, min(begin + BLOCK_FRAMES, block.shape[1]))
            inputs = {0: block[:, part]}
            if sidechain:
                inputs[sidechain[0]] = sidechain[1][:, part]
            self._take_edits()
            sent, self._pending = self._pending, {}
            out[:, part] = self._process(buffers, inputs, sent)
        return out

    def _process(self, buffers: _Buffers, inputs: Mapping[int, np.ndarray], sent: dict[int, float]) -> np.ndarray:
        going, coming = ParameterChanges(sent), ParameterChanges()
        try:
            data = buffers.fill(inputs, going, coming)
            if self._processor.process(ctypes.byref(data)) not in (abi.OK, abi.NOT_IMPLEMENTED):
                raise PluginError("it refuses to process")
            self._set.clear()
            if self._controller:
                for id, raw in coming.values().items():
                    self._controller.set_normalized(id, raw)
            return buffers.outputs[0][:, : data.frames]
        finally:
            going.close()
            coming.close()

    def close(self) -> None:
        """End the instance."""
        self.deactivate()
        if len(self._parts) == 2:
            ours, theirs = self._parts
            ours.disconnect(theirs.address)
            theirs.disconnect(ours.address)
        if self._controller:
            self._controller.set_component_handler(None)
        if self._controller and not self._is_single:
            self._controller.terminate()
        self._component.terminate()
        for part in (*self._parts, self._controller, self._processor, self._component):
            if part:
                part.close()


@contextmanager
def _stream(data: bytes) -> Iterator[Stream]:
    stream = Stream(data)
    try:
        yield stream
    finally:
        stream.release()


class _Buffers:
    """Memory for every bus of a plug-in, those that are not used too, and the call's arguments that point to it."""

    def __init__(self, inputs: Sequence[Bus], outputs: Sequence[Bus], sample_rate: int):
        self.inputs = [np.zeros((bus.channels, BLOCK_FRAMES), np.float32) for bus in inputs]
        self.outputs = [np.zeros((bus.channels, BLOCK_FRAMES), np.float32) for bus in outputs]
        self._context = abi.ProcessContext(sample_rate=float(sample_rate))
        self._events = EventList(), EventList()
        self._pointers = [_channel_pointers(memory) for memory in (*self.inputs, *self.outputs)]
        sides = self._pointers[: len(inputs)], self._pointers[len(inputs) :]
        self._sides = tuple((abi.AudioBuffers * len(side))() for side in sides)
        for array, side in zip(self._sides, sides, strict=True):
            for row, pointers in zip(array, side, strict=True):
                row.channels, row.buffers = len(pointers), pointers

    def fill(
        self, inputs: Mapping[int, np.ndarray], going: ParameterChanges, coming: ParameterChanges
    ) -> abi.ProcessData:
        """The arguments for one block."""
        frames = inputs[0].shape[1]
        for bus, memory in enumerate(self.inputs):
            memory[:, :frames] = inputs.get(bus, 0.0)
        for memory in self.outputs:
            memory[:, :frames] = 0.0
        for index, row in enumerate(self._sides[0]):
            row.silence = 0 if index in inputs else (1 << min(row.channels, 63)) - 1
        for row in self._sides[1]:
            row.silence = 0
        return abi.ProcessData(
            abi.OFFLINE,
            abi.FLOAT32,
            frames,
            len(self.inputs),
            len(self.outputs),
            self._sides[0],
            self._sides[1],
            going.address,
            coming.address,
            self._events[0].address,
            self._events[1].address,
            ctypes.pointer(self._context),
        )


def _channel_pointers(memory: np.ndarray) -> ctypes.Array[ctypes.c_void_p]:
    addresses = (memory.ctypes.data + channel * memory.strides[0] for channel in range(memory.shape[0]))
    pointers: ctypes.Array[ctypes.c_void_p] = (ctypes.c_void_p * memory.shape[0])(*addresses)
    return pointers
