"""The binary interface of VST3 in ctypes: structures, interfaces, and how an object of a plug-in is called.

A VST3 object is a pointer to a pointer to a table of functions, each of which gets the object as its first argument.
`Remote` calls an object of the plug-in; what gbsep offers to a plug-in is in vst3_objects.py. The layout is that of
Linux and macOS (64 bits, natural alignment, class ids in big-endian order), where gbsep hosts plug-ins.

Reference: Steinberg, VST 3 API, `pluginterfaces/base` and `pluginterfaces/vst`.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from ctypes import POINTER, c_char, c_char_p, c_double, c_int16, c_int32, c_int64, c_uint8, c_uint32, c_uint64, c_void_p
from functools import partial
from typing import Any, NamedTuple

OK, FALSE, INVALID, NOT_IMPLEMENTED, INTERNAL_ERROR, NO_INTERFACE = 0, 1, 2, 3, 4, -1
"""Results of calls."""

AUDIO, INPUT, OUTPUT, MAIN_BUS = 0, 0, 1, 0
OFFLINE, FLOAT32 = 2, 0
SEEK_SET, SEEK_CURRENT, SEEK_END = 0, 1, 2
MONO, STEREO = 1 << 19, 3
"""Speaker arrangements: one bit for each speaker."""
AMBISONIC = (15 << 20) | (0xFFF << 38)
"""The bits of ambisonic channels up to the third order."""
PARAMETER_CAN_AUTOMATE, PARAMETER_READ_ONLY, PARAMETER_HIDDEN = 1, 2, 1 << 4
RESTART_VALUES_CHANGED = 1 << 2
TEXT_UNITS = 128

Text = c_int16 * TEXT_UNITS
"""UTF-16, ended by a zero: `String128`."""


def text_of(units: Any) -> str:
    """A zero-ended UTF-16 array as text; what is no UTF-16 becomes a question mark."""
    return bytes(units).decode("utf-16-le", "replace").partition("\0")[0].replace("�", "?")


def fill_text(units: Any, text: str) -> None:
    """Write `text` to a UTF-16 array, cut to its length, with a zero at the end."""
    data = text.encode("utf-16-le", "replace")[: 2 * (len(units) - 1)]
    ctypes.memset(units, 0, ctypes.sizeof(units))
    ctypes.memmove(units, data, len(data))


class FactoryInfo(ctypes.Structure):
    _fields_ = (("vendor", c_char * 64), ("url", c_char * 256), ("email", c_char * 128), ("flags", c_int32))


class ClassInfo(ctypes.Structure):
    _fields_ = (("cid", c_uint8 * 16), ("cardinality", c_int32), ("category", c_char * 32), ("name", c_char * 64))


class ClassInfo2(ctypes.Structure):
    _fields_ = (
        *ClassInfo._fields_,
        ("flags", c_uint32),
        ("subcategories", c_char * 128),
        ("vendor", c_char * 64),
        ("version", c_char * 64),
        ("sdk_version", c_char * 64),
    )


class ClassInfoW(ctypes.Structure):
    _fields_ = (
        ("cid", c_uint8 * 16),
        ("cardinality", c_int32),
        ("category", c_char * 32),
        ("name", c_int16 * 64),
        ("flags", c_uint32),
        ("subcategories", c_char * 128),
        ("vendor", c_int16 * 64),
        ("version", c_int16 * 64),
        ("sdk_version", c_int16 * 64),
    )


class BusInfo(ctypes.Structure):
    _fields_ = (
        ("media", c_int32),
        ("direction", c_int32),
        ("channels", c_int32),
        ("name", Text),
        ("kind", c_int32),
        ("flags", c_uint32),
    )


class ParameterInfo(ctypes.Structure):
    _fields_ = (
        ("id", c_uint32),
        ("title", Text),
        ("short_title", Text),
        ("unit", Text),
        ("step_count", c_int32),
        ("default", c_double),
        ("unit_id", c_int32),
        ("flags", c_int32),
    )


class ProcessSetup(ctypes.Structure):
    _fields_ = (
        ("mode", c_int32),
        ("sample_size", c_int32),
        ("most_frames", c_int32),
        ("sample_rate", c_double),
    )


class AudioBuffers(ctypes.Structure):
    _fields_ = (("channels", c_int32), ("silence", c_uint64), ("buffers", POINTER(c_void_p)))


class ProcessContext(ctypes.Structure):
    """What a host says about tempo and place; all flags are off here but the sample rate, which always counts."""

    _fields_ = (
        ("state", c_uint32),
        ("sample_rate", c_double),
        ("project_frames", c_int64),
        ("system_time_ns", c_int64),
        ("continuous_frames", c_int64),
        ("music", c_double * 4),
        ("tempo", c_double),
        ("signature", c_int32 * 2),
        ("chord", c_int16 * 2),
        ("smpte", c_int32),
        ("frame_rate", c_uint32 * 2),
        ("clock", c_int32),
    )


class ProcessData(ctypes.Structure):
    _fields_ = (
        ("mode", c_int32),
        ("sample_size", c_int32),
        ("frames", c_int32),
        ("input_count", c_int32),
        ("output_count", c_int32),
        ("inputs", POINTER(AudioBuffers)),
        ("outputs", POINTER(AudioBuffers)),
        ("input_changes", c_void_p),
        ("output_changes", c_void_p),
        ("input_events", c_void_p),
        ("output_events", c_void_p),
        ("context", POINTER(ProcessContext)),
    )


class Method(NamedTuple):
    name: str
    prototype: Any


class Interface(NamedTuple):
    iid: bytes
    methods: tuple[Method, ...]


def _method(name: str, *arguments: Any, result: Any = c_int32) -> Method:
    return Method(name, ctypes.CFUNCTYPE(result, c_void_p, *arguments))


def _interface(iid: tuple[int, int, int, int], *methods: Method, base: Interface | None = None) -> Interface:
    return Interface(struct.pack(">4I", *iid), (base.methods if base else ()) + methods)


UNKNOWN = _interface(
    (0x00000000, 0x00000000, 0xC0000000, 0x00000046),
    _method("query_interface", c_void_p, POINTER(c_void_p)),
    _method("add_reference", result=c_uint32),
    _method("release", result=c_uint32),
)
FACTORY = _interface(
    (0x7A4D811C, 0x52114A1F, 0xAED9D2EE, 0x0B43BF9F),
    _method("get_factory_info", POINTER(FactoryInfo)),
    _method("count_classes"),
    _method("get_class_info", c_int32, POINTER(ClassInfo)),
    _method("create_instance", c_char_p, c_char_p, POINTER(c_void_p)),
    base=UNKNOWN,
)
FACTORY_2 = _interface(
    (0x0007B650, 0xF24B4C0B, 0xA464EDB9, 0xF00B2ABB),
    _method("get_class_info_2", c_int32, POINTER(ClassInfo2)),
    base=FACTORY,
)
FACTORY_3 = _interface(
    (0x4555A2AB, 0xC1234E57, 0x9B122910, 0x36878931),
    _method("get_class_info_unicode", c_int32, POINTER(ClassInfoW)),
    _method("set_host_context", c_void_p),
    base=FACTORY_2,
)
COMPONENT = _interface(
    (0xE831FF31, 0xF2D54301, 0x928EBBEE, 0x25697802),
    _method("initialize", c_void_p),
    _method("terminate"),
    _method("get_controller_class_id", c_void_p),
    _method("set_io_mode", c_int32),
    _method("get_bus_count", c_int32, c_int32),
    _method("get_bus_info", c_int32, c_int32, c_int32, POINTER(BusInfo)),
    _method("get_routing_info", c_void_p, c_void_p),
    _method("activate_bus", c_int32, c_int32, c_int32, c_uint8),
    _method("set_active", c_uint8),
    _method("set_state", c_void_p),
    _method("get_state", c_void_p),
    base=UNKNOWN,
)
PROCESSOR = _interface(
    (0x42043F99, 0xB7DA453C, 0xA569E79D, 0x9AAEC33D),
    _method("set_bus_arrangements", POINTER(c_uint64), c_int32, POINTER(c_uint64), c_int32),
    _method("get_bus_arrangement", c_int32, c_int32, POINTER(c_uint64)),
    _method("can_process_sample_size", c_int32),
    _method("get_latency_frames", result=c_uint32),
    _method("setup_processing", POINTER(ProcessSetup)),
    _method("set_processing", c_uint8),
    _method("process", POINTER(ProcessData)),
    _method("get_tail_frames", result=c_uint32),
    base=UNKNOWN,
)
CONTROLLER = _interface(
    (0xDCD7BBE3, 0x7742448D, 0xA874AACC, 0x979C759E),
    _method("initialize", c_void_p),
    _method("terminate"),
    _method("set_component_state", c_void_p),
    _method("set_state", c_void_p),
    _method("get_state", c_void_p),
    _method("get_parameter_count"),
    _method("get_parameter_info", c_int32, POINTER(ParameterInfo)),
    _method("get_text", c_uint32, c_double, POINTER(Text)),
    _method("get_value_for_text", c_uint32, POINTER(Text), POINTER(c_double)),
    _method("to_plain", c_uint32, c_double, result=c_double),
    _method("to_normalized", c_uint32, c_double, result=c_double),
    _method("get_normalized", c_uint32, result=c_double),
    _method("set_normalized", c_uint32, c_double),
    _method("set_component_handler", c_void_p),
    _method("create_view", c_char_p, result=c_void_p),
    base=UNKNOWN,
)
CONNECTION_POINT = _interface(
    (0x70A4156F, 0x6E6E4026, 0x989148BF, 0xAA60D8D1),
    _method("connect", c_void_p),
    _method("disconnect", c_void_p),
    _method("notify", c_void_p),
    base=UNKNOWN,
)
STREAM = _interface(
    (0xC3BF6EA2, 0x30994752, 0x9B6BF990, 0x1EE33E9B),
    _method("read", c_void_p, c_int32, POINTER(c_int32)),
    _method("write", c_void_p, c_int32, POINTER(c_int32)),
    _method("seek", c_int64, c_int32, POINTER(c_int64)),
    _method("tell", POINTER(c_int64)),
    base=UNKNOWN,
)
MESSAGE = _interface(
    (0x936F033B, 0xC6C047DB, 0xBB0882F8, 0x13C1E613),
    _method("get_message_id", result=c_void_p),
    _method("set_message_id", c_char_p, result=None),
    _method("get_attributes", result=c_void_p),
    base=UNKNOWN,
)
ATTRIBUTES = _interface(
    (0x1E5F0AEB, 0xCC7F4533, 0xA2544011, 0x38AD5EE4),
    _method("set_int", c_char_p, c_int64),
    _method("get_int", c_char_p, POINTER(c_int64)),
    _method("set_float", c_char_p, c_double),
    _method("get_float", c_char_p, POINTER(c_double)),
    _method("set_string", c_char_p, c_void_p),
    _method("get_string", c_char_p, c_void_p, c_uint32),
    _method("set_binary", c_char_p, c_void_p, c_uint32),
    _method("get_binary", c_char_p, POINTER(c_void_p), POINTER(c_uint32)),
    base=UNKNOWN,
)
HOST_APPLICATION = _interface(
    (0x58E595CC, 0xDB2D4969, 0x8B6AAF8C, 0x36A664E5),
    _method("get_name", POINTER(Text)),
    _method("create_instance", c_void_p, c_void_p, POINTER(c_void_p)),
    base=UNKNOWN,
)
COMPONENT_HANDLER = _interface(
    (0x93A0BEA3, 0x0BD045DB, 0x8E890B0C, 0xC1E46AC6),
    _method("begin_edit", c_uint32),
    _method("perform_edit", c_uint32, c_double),
    _method("end_edit", c_uint32),
    _method("restart_component", c_int32),
    base=UNKNOWN,
)
PARAMETER_CHANGES = _interface(
    (0xA4779663, 0x0BB64A56, 0xB44384A8, 0x466FEB9D),
    _method("get_parameter_count"),
    _method("get_parameter_data", c_int32, result=c_void_p),
    _method("add_parameter_data", POINTER(c_uint32), POINTER(c_int32), result=c_void_p),
    base=UNKNOWN,
)
VALUE_QUEUE = _interface(
    (0x01263A18, 0xED074F6F, 0x98C9D356, 0x4686F9BA),
    _method("get_parameter_id", result=c_uint32),
    _method("get_point_count"),
    _method("get_point", c_int32, POINTER(c_int32), POINTER(c_double)),
    _method("add_point", c_int32, c_double, POINTER(c_int32)),
    base=UNKNOWN,
)
EVENT_LIST = _interface(
    (0x3A2C4214, 0x346349FE, 0xB2C4F397, 0xB9695A44),
    _method("get_event_count"),
    _method("get_event", c_int32, c_void_p),
    _method("add_event", c_void_p),
    base=UNKNOWN,
)


class Remote:
    """An object of the plug-in at `address`; each method of its interface is an attribute that calls it.

    Holds the reference that it is given, until `close`.
    """

    def __init__(self, address: int, interface: Interface):
        self.address = address
        table = ctypes.cast(address, POINTER(POINTER(c_void_p)))[0]
        for place, method in enumerate(interface.methods):
            setattr(self, method.name, partial(method.prototype(table[place]), address))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        raise AttributeError(name)

    def query(self, interface: Interface) -> Remote | None:
        """The same object by another of its interfaces; None when it has no such."""
        found = c_void_p()
        if self.query_interface(interface.iid, ctypes.byref(found)) != OK or not found.value:
            return None
        return Remote(found.value, interface)

    def close(self) -> None:
        """Give the reference back."""
        if self.address:
            self.release()
            self.address = 0
