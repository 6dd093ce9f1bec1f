"""Objects that gbsep offers to a VST3 plug-in: streams, messages, the host, queues of changes.

`Local` is the base: it lays the methods of a subclass out as the table of functions that the interface asks for.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable
from ctypes import c_int32, c_void_p
from typing import Any, ClassVar

from .vst3_interfaces import (
    ATTRIBUTES,
    COMPONENT_HANDLER,
    EVENT_LIST,
    FALSE,
    HOST_APPLICATION,
    INTERNAL_ERROR,
    MESSAGE,
    NO_INTERFACE,
    OK,
    PARAMETER_CHANGES,
    RESTART_VALUES_CHANGED,
    SEEK_CURRENT,
    SEEK_END,
    SEEK_SET,
    STREAM,
    UNKNOWN,
    VALUE_QUEUE,
    Interface,
    Method,
    fill_text,
)


class Local:
    """An object that gbsep offers to a plug-in, by one interface; subclasses have a method for each of its functions.

    A method that raises answers with an internal error. The object lives as long as Python or the plug-in holds it.
    """

    interface: ClassVar[Interface]
    _table: ClassVar[Any]
    _held: ClassVar[dict[int, Local]] = {}

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        functions = [method.prototype(_answer(method)) for method in cls.interface.methods]
        cls._functions = functions  # type: ignore[attr-defined]  # keeps them alive
        cls._table = (c_void_p * len(functions))(*(ctypes.cast(function, c_void_p).value for function in functions))

    def __init__(self) -> None:
        self._memory = c_void_p(ctypes.addressof(self._table))
        self.address = ctypes.addressof(self._memory)
        self._references = 1
        Local._held[self.address] = self

    def query_interface(self, iid: int, found: Any) -> int:
        known = ctypes.string_at(iid, 16) in (UNKNOWN.iid, self.interface.iid)
        found[0] = self.address if known else None
        if known:
            self.add_reference()
        return OK if known else NO_INTERFACE

    def add_reference(self) -> int:
        self._references += 1
        return self._references

    def release(self) -> int:
        self._references -= 1
        if self._references <= 0:
            Local._held.pop(self.address, None)
        return max(self._references, 0)


def _answer(method: Method) -> Callable[..., Any]:
    def answer(address: int, *arguments: Any) -> Any:
        try:
            return getattr(Local._held[address], method.name)(*arguments)
        except Exception:
            return INTERNAL_ERROR if method.prototype._restype_ is c_int32 else 0

    return answer


class Stream(Local):
    """Bytes in memory."""

    interface = STREAM

    def __init__(self, data: bytes = b""):
        super().__init__()
        self.data, self.place = bytearray(data), 0

    def read(self, target: int, size: int, done: Any) -> int:
        piece = bytes(self.data[self.place : self.place + max(size, 0)])
        ctypes.memmove(target, piece, len(piece))
        self.place += len(piece)
        if done:
            done[0] = len(piece)
        return OK

    def write(self, source: int, size: int, done: Any) -> int:
        piece = ctypes.string_at(source, max(size, 0))
        if self.place > len(self.data):
            self.data.extend(bytes(self.place - len(self.data)))
        self.data[self.place : self.place + len(piece)] = piece
        self.place += len(piece)
        if done:
            done[0] = len(piece)
        return OK

    def seek(self, offset: int, mode: int, place: Any) -> int:
        base = {SEEK_SET: 0, SEEK_CURRENT: self.place, SEEK_END: len(self.data)}[mode]
        self.place = min(max(base + offset, 0), 2**31)
        if place:
            place[0] = self.place
        return OK

    def tell(self, place: Any) -> int:
        place[0] = self.place
        return OK


class Attributes(Local):
    interface = ATTRIBUTES

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[bytes, Any] = {}

    def set_int(self, name: bytes, value: Any) -> int:
        self.values[name] = value
        return OK

    set_float = set_int

    def get_int(self, name: bytes, value: Any) -> int:
        found = self.values.get(name)
        if not isinstance(found, (int, float)):
            return FALSE
        value[0] = found
        return OK

    get_float = get_int

    def set_string(self, name: bytes, source: int) -> int:
        size = next(n for n in itertools.count() if ctypes.string_at(source + 2 * n, 2) == b"\0\0")
        return self.set_binary(name, source, 2 * size + 2)

    def get_string(self, name: bytes, target: int, size: int) -> int:
        found = self.values.get(name)
        if not isinstance(found, ctypes.Array) or size < 2:
            return FALSE
        data = bytes(found)[: size // 2 * 2 - 2] + b"\0\0"
        ctypes.memmove(target, data, len(data))
        return OK

    def set_binary(self, name: bytes, source: int, size: int) -> int:
        self.values[name] = ctypes.create_string_buffer(ctypes.string_at(source, size), size)
        return OK

    def get_binary(self, name: bytes, data: Any, size: Any) -> int:
        found = self.values.get(name)
        if not isinstance(found, ctypes.Array):
            return FALSE
        data[0], size[0] = ctypes.addressof(found), len(found)
        return OK


class Message(Local):
    interface = MESSAGE

    def __init__(self) -> None:
        super().__init__()
        self.id = ctypes.create_string_buffer(b"")
        self.attributes = Attributes()

    def get_message_id(self) -> int:
        return ctypes.addressof(self.id)

    def set_message_id(self, id: bytes | None) -> None:
        self.id = ctypes.create_string_buffer(id or b"")

    def get_attributes(self) -> int:
        return self.attributes.address

    def release(self) -> int:
        left = super().release()
        if not left:
            self.attributes.release()
        return left


class HostApplication(Local):
    """What a plug-in may know of its host, and the maker of the messages that its two halves send each other."""

    interface = HOST_APPLICATION

    def get_name(self, name: Any) -> int:
        fill_text(name[0], "gbsep")
        return OK

    def create_instance(self, class_id: int, iid: int, made: Any) -> int:
        kinds = {kind.interface.iid: kind for kind in (Message, Attributes)}
        kind = kinds.get(ctypes.string_at(class_id, 16))
        made[0] = kind().address if kind else None
        return OK if kind else FALSE


class ComponentHandler(Local):
    """Where the controller of a plug-in reports what its user does, and what has changed by itself.

    edits: the values that the controller asks to be sent to the component, by parameter id; values_changed: whether
    other parameters than those that were set show other values now.
    """

    interface = COMPONENT_HANDLER

    def __init__(self) -> None:
        super().__init__()
        self.edits: dict[int, float] = {}
        self.values_changed = False

    def begin_edit(self, id: int) -> int:
        return OK

    def perform_edit(self, id: int, value: float) -> int:
        self.edits[id] = value
        return OK

    def end_edit(self, id: int) -> int:
        return OK

    def restart_component(self, flags: int) -> int:
        self.values_changed |= bool(flags & RESTART_VALUES_CHANGED)
        return OK


class ValueQueue(Local):
    """The values of one parameter within a block; the last one counts here, at its first frame."""

    interface = VALUE_QUEUE

    def __init__(self, id: int, value: float | None = None):
        super().__init__()
        self.id, self.value = id, value

    def get_parameter_id(self) -> int:
        return self.id

    def get_point_count(self) -> int:
        return int(self.value is not None)

    def get_point(self, index: int, frame: Any, value: Any) -> int:
        if index or self.value is None:
            return FALSE
        frame[0], value[0] = 0, self.value
        return OK

    def add_point(self, frame: int, value: float, index: Any) -> int:
        self.value = value
        if index:
            index[0] = 0
        return OK


class ParameterChanges(Local):
    """Parameters that change with a block."""

    interface = PARAMETER_CHANGES

    def __init__(self, values: dict[int, float] | None = None):
        super().__init__()
        self.queues = [ValueQueue(id, value) for id, value in (values or {}).items()]

    def values(self) -> dict[int, float]:
        return {queue.id: queue.value for queue in self.queues if queue.value is not None}

    def get_parameter_count(self) -> int:
        return len(self.queues)

    def get_parameter_data(self, index: int) -> int | None:
        return self.queues[index].address if 0 <= index < len(self.queues) else None

    def add_parameter_data(self, id: Any, index: Any) -> int:
        place = next((place for place, queue in enumerate(self.queues) if queue.id == id[0]), len(self.queues))
        if place == len(self.queues):
            self.queues.append(ValueQueue(id[0]))
        if index:
            index[0] = place
        return self.queues[place].address

    def close(self) -> None:
        for local in (*self.queues, self):
            local.release()


class EventList(Local):
    """No notes come in, and those that go out are dropped."""

    interface = EVENT_LIST

    def get_event_count(self) -> int:
        return 0

    def get_event(self, index: int, event: int) -> int:
        return FALSE

    def add_event(self, event: int) -> int:
        return OK
