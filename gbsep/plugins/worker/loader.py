"""Why the operating system will not load a plug-in, in the loader's own words.

A VST3 plug-in is a bundle: a folder with one shared library for each platform, `Contents/x86_64-linux/Name.so` or
`Contents/MacOS/Name`. Audio Unit `.component` bundles are laid out as on macOS.

References: Steinberg, "VST 3 Plug-in Format Structure"; System V ABI, the ELF header; Apple, "Mach-O Runtime
Architecture".
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from pathlib import Path

ELF_MACHINES = {3: "i386", 8: "mips", 20: "ppc", 21: "ppc64", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv"}
MACH_MACHINES = {0x01000007: "x86_64", 0x0100000C: "arm64", 7: "i386"}
ENTRY_POINT = "GetPluginFactory"
"""The function every VST3 library exports."""


def library(bundle: Path) -> Path:
    """The shared library in `bundle` that this machine would load; FileNotFoundError says what is there instead.

    A file that is no bundle stands for itself, so that more can be said about it.
    """
    if bundle.is_file():
        return bundle
    folder = "MacOS" if sys.platform == "darwin" else f"{platform.machine()}-linux"
    contents = bundle / "Contents"
    pattern = "*" if sys.platform == "darwin" else "*.so"
    found = sorted(path for path in (contents / folder).glob(pattern) if path.is_file())
    if found:
        named = [path for path in found if path.stem == bundle.stem]
        if not named and sys.platform != "darwin":
            holds = ", ".join(path.name for path in found)
            raise FileNotFoundError(
                f"the bundle has been renamed: it holds {holds} and needs {bundle.stem}.so; "
                f"call it {found[0].stem}{bundle.suffix} again"
            )
        return (named or found)[0]
    others = sorted(path.name for path in contents.glob("*") if path.is_dir() and path.name != "Resources")
    if others and folder not in others:
        raise FileNotFoundError(f"wrong architecture: it holds {', '.join(others)}, and this machine needs {folder}")
    raise FileNotFoundError(f"not a plug-in: no shared library in {contents / folder}")


def architectures(file: Path) -> tuple[str, ...]:
    """The processors that the executable format of `file` names; empty when it is none that is known here."""
    with open(file, "rb") as stream:
        head = stream.read(4096)
    if head[:4] == b"\x7fELF" and len(head) >= 20:
        machine = struct.unpack_from("<H" if head[5] == 1 else ">H", head, 18)[0]
        return (ELF_MACHINES.get(machine, f"ELF machine {machine}"),)
    if head[:4] in (b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe") and len(head) >= 8:
        return (_mach_machine(struct.unpack_from("<I", head, 4)[0]),)
    if head[:4] == b"\xca\xfe\xba\xbe" and len(head) >= 8:
        count = min(struct.unpack_from(">I", head, 4)[0], (len(head) - 8) // 20)
        return tuple(_mach_machine(struct.unpack_from(">I", head, 8 + 20 * index)[0]) for index in range(count))
    return ("Windows",) if head[:2] == b"MZ" else ()


def _mach_machine(cpu_type: int) -> str:
    return f"macOS {MACH_MACHINES.get(cpu_type, cpu_type)}"


def check_loadable(bundle: Path) -> None:
    """Load the library of `bundle` into this process, as a plug-in host would, before any of its functions is called.

    Raises OSError with the reason: "missing library", "wrong architecture", "too new a C library", "damaged file",
    "not a plug-in", "not a bundle", each followed by what the loader said or what is expected. Runs the library's
    static constructors, so call it in a worker only.
    """
    if not os.path.exists(bundle):
        raise OSError(f"{bundle} does not exist")
    file = library(bundle)
    _check_whole(file)
    try:
        loaded = ctypes.CDLL(str(file))
    except OSError as error:
        raise OSError(f"{_kind(file, str(error))}: {error}") from error
    except UnicodeDecodeError as error:  # the loader quotes names from the file
        raise OSError(f"damaged file: {error.object.decode('utf-8', 'backslashreplace')}") from error
    if bundle.suffix == ".vst3" and not hasattr(loaded, ENTRY_POINT):
        raise OSError(f"not a plug-in: {file.name} does not export {ENTRY_POINT}")
    if bundle == file:
        place = f"{bundle.name}/Contents/{platform.machine()}-linux/{bundle.stem}.so"
        raise OSError(
            f"not a bundle: it is a bare shared library; a VST3 plug-in is a folder with the library at {place}"
        )


def _check_whole(file: Path) -> None:
    """A 64-bit ELF file that ends before its last table, the section headers; loading it would raise SIGBUS."""
    with open(file, "rb") as stream:
        head = stream.read(64)
    if head[:6] == b"\x7fELF\x02\x01" and len(head) == 64:
        (tables_at,) = struct.unpack_from("<Q", head, 0x28)
        entry_size, entries = struct.unpack_from("<HH", head, 0x3A)
        if tables_at + entry_size * entries > file.stat().st_size:
            raise OSError(f"damaged file: {file} is truncated")


def _kind(file: Path, said: str) -> str:
    here = f"macOS {platform.machine()}" if sys.platform == "darwin" else platform.machine()
    built_for = architectures(file)
    if not built_for:
        return "not a plug-in"
    if here not in built_for:
        return f"wrong architecture, built for {', '.join(built_for)} and not for {here}"
    if "GLIBC" in said and "not found" in said:
        return "too new a C library"
    if "cannot open shared object file" in said or "Library not loaded" in said:
        return "missing library"
    return "cannot be loaded"
