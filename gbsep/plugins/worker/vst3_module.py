"""What is in a VST3 bundle: its library, loaded, and the plug-ins that it makes.

References: Steinberg, VST 3 API, "VST 3 Module Architecture".
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from pathlib import Path

from ...errors import PluginError
from . import vst3_interfaces as abi
from .loader import library
from .vst3 import ClassRow, Vst3Plugin
from .vst3_objects import HostApplication

EFFECT_CATEGORY = b"Audio Module Class"


class Module:
    """The library of a bundle, loaded into this process for good: few plug-ins survive being unloaded."""

    def __init__(self, bundle: Path):
        try:
            loaded = ctypes.CDLL(str(library(bundle)))
            factory = loaded.GetPluginFactory
            self._enter(loaded, bundle)
        except (OSError, AttributeError) as error:
            raise PluginError(str(error)) from error
        factory.restype = ctypes.c_void_p
        address = factory()
        if not address:
            raise PluginError(f"{bundle.name} gives no list of plug-ins")
        self._factory = abi.Remote(address, abi.FACTORY)
        self._host = HostApplication()
        unicode_factory = self._factory.query(abi.FACTORY_3)
        if unicode_factory:
            unicode_factory.set_host_context(self._host.address)
        self.rows = tuple(self._rows(unicode_factory))

    def _enter(self, loaded: ctypes.CDLL, bundle: Path) -> None:
        if sys.platform == "darwin":
            entered = loaded.bundleEntry(ctypes.c_void_p(_core_foundation_bundle(bundle)))
        else:
            entered = loaded.ModuleEntry(ctypes.c_void_p(loaded._handle)) if hasattr(loaded, "ModuleEntry") else 1
        if not entered & 0xFF:
            raise PluginError(f"{bundle.name} refuses to start")

    def _rows(self, unicode_factory: abi.Remote | None) -> Iterator[ClassRow]:
        about = abi.FactoryInfo()
        self._factory.get_factory_info(ctypes.byref(about))
        company = _text(about.vendor)
        second = self._factory.query(abi.FACTORY_2)
        for index in range(self._factory.count_classes()):
            first, more, wide = abi.ClassInfo(), abi.ClassInfo2(), abi.ClassInfoW()
            if self._factory.get_class_info(index, ctypes.byref(first)) != abi.OK or first.category != EFFECT_CATEGORY:
                continue
            name, vendor, version, category = _text(first.name), "", "", ""
            if second and second.get_class_info_2(index, ctypes.byref(more)) == abi.OK:
                name, vendor, version = _text(more.name), _text(more.vendor), _text(more.version)
                category = _text(more.subcategories)
            if unicode_factory and unicode_factory.get_class_info_unicode(index, ctypes.byref(wide)) == abi.OK:
                name, vendor, version = map(abi.text_of, (wide.name, wide.vendor, wide.version))
                category = _text(wide.subcategories)
            class_id = bytes(first.cid).hex().upper()
            yield ClassRow(name.strip(), (company or vendor).strip(), version.strip(), category.strip(), class_id)

    def create(self, row: ClassRow) -> Vst3Plugin:
        """A new instance that has heard nothing. Raises PluginError."""
        return Vst3Plugin(self._create, self._host, row)

    def _create(self, class_id: bytes, interface: abi.Interface) -> abi.Remote | None:
        made = ctypes.c_void_p()
        self._factory.create_instance(class_id, interface.iid, ctypes.byref(made))
        return abi.Remote(made.value, interface) if made.value else None


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace").replace("�", "?")


def _core_foundation_bundle(bundle: Path) -> int:
    """The CFBundle of a macOS bundle, which its entry function asks for."""
    framework = ctypes.CDLL("/System/Library/Frameworks/CoreFoundation.framework/CoreFoundation")
    framework.CFURLCreateFromFileSystemRepresentation.restype = ctypes.c_void_p
    framework.CFURLCreateFromFileSystemRepresentation.argtypes = (
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.c_long,
        ctypes.c_bool,
    )
    framework.CFBundleCreate.restype = ctypes.c_void_p
    framework.CFBundleCreate.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
    path = str(bundle).encode()
    url = framework.CFURLCreateFromFileSystemRepresentation(None, path, len(path), True)
    return framework.CFBundleCreate(None, url) or 0
