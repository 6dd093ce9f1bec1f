"""External plug-ins as effects of a chain: what a preset says about one, checked against the plug-in itself.

    {"effect": "Plugin", "name": "ZamCompX2", "parameters": {"threshold_db": -20, "ratio": 4}, "on_failure": "bypass"}

Conventions:

- A plug-in goes by the name that it gives itself and is found by scanning (plugins.host); of several with one name the
  first that is found is used, or the first of the `vendor` and `format` that are given. A `path` names a file instead,
  which loads native code of the preset's choice, so it has to be allowed; so has a `state` from a file outside the
  preset's folder.
- `state` is restored first, then `parameters` are set by their text values; all others keep what the state or the
  plug-in gives them. Numbers may be automated.
- A `sidechain` names the stem that the plug-in's own side-chain bus hears.
- A plug-in that is not on the machine, a parameter or value that it does not have, or a state that is none of its own
  is a mistake in the preset, whatever `on_failure` says. A plug-in that is there and does not work has failed.
  `on_failure` says what becomes of the stem then: "fail" ends its render, "bypass" lets it pass unprocessed from the
  first frame to the last. One that hangs has failed after `load_timeout_s` or, at work, `block_timeout_s`.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from ..errors import ParameterError, PluginError, PluginNotFound, PresetError, nearest
from ..params import FINITE, Param
from ..plugins import host
from .automation import Automation

SETTING = Param("value", low=-FINITE, high=FINITE, automatable=True)
"""A number for a plug-in. Its range is known only to the plug-in itself."""
ON_FAILURE = Param("on_failure", default="fail", kind="choice", choices=("fail", "bypass"))


@dataclass(frozen=True)
class Plugin:
    """A node of a chain; `plugin` is the plug-in's name, empty for the only one in the file `path`.

    `sidechain` is the stem that its side-chain bus hears. Without a timeout that of the host holds. `outside` is the
    path of the state's file when it lies outside the preset's folder, else empty.
    """

    plugin: str
    parameters: Mapping[str, host.Value | Automation]
    state: bytes | None = field(default=None, repr=False)
    path: str | None = None
    vendor: str | None = None
    format: str | None = None
    load_timeout_s: float | None = None
    block_timeout_s: float | None = None
    on_failure: Literal["fail", "bypass"] = "fail"
    wet: float | Automation = 1.0
    outside: str = field(default="", compare=False)
    sidechain: str | None = None
    name = "Plugin"

    @property
    def label(self) -> str:
        """The plug-in's name in messages: its own, or that of its file."""
        return self.plugin or Path(self.path or "").stem


@dataclass(frozen=True)
class PluginReport:
    """How a plug-in of a chain ran, for the record.

    `parameters` are read back from the plug-in before the first frame, all of them; `bypassed` is why it was.
    """

    where: str
    name: str
    class_id: str = ""
    version: str = ""
    latency_frames: int = 0
    parameters: Mapping[str, host.Value] = field(default_factory=dict)
    bypassed: str = ""

    def as_json(self) -> dict[str, Any]:
        """The report as it stands in render.json: without what is not known of a bypassed plug-in."""
        unknown = {"class_id", "version", "latency_frames", "parameters"} if self.bypassed else {"bypassed"}
        return {key: value for key, value in asdict(self).items() if key not in unknown}


def locate(node: Plugin) -> host.PluginInfo:
    """The plug-in on this machine, an effect.

    Raises PluginNotFound, or PluginError when it is there and does not load, or is no effect.
    """
    info = _located(node)
    if not info.is_effect:
        raise PluginNotFound(f"{info.name} is an instrument: no sound goes through it, and a chain takes effects only")
    return info


def _located(node: Plugin) -> host.PluginInfo:
    if node.path is None:
        return host.find(node.plugin, node.vendor, node.format)
    path = Path(node.path)
    if not path.exists():
        raise PluginNotFound(f"no plug-in file {path}")
    try:
        found = _examined(path, node.plugin, host.stamp(path), node.load_timeout_s)
    except PluginError as error:
        raise PluginError(f"{path} does not load: {error}") from None
    except OSError as error:
        raise PluginError(f"{path} cannot be read: {error.strerror or error}") from None
    if found and found[0].reason:
        raise PluginError(f"{path} does not load: {found[0].reason}")
    if len(found) == 1:
        return found[0]
    names = [row.name for row in _listed(path, host.stamp(path), node.load_timeout_s)]
    if not node.plugin and len(names) > 1:
        raise PluginNotFound(f"{path} holds {len(names)} plug-ins; give the `name` of one: {', '.join(names[:16])}")
    raise PluginNotFound(f"{path} holds no plug-in {node.plugin!r}{nearest(node.plugin, names)}")


@lru_cache(maxsize=256)
def _listed(path: Path, stamp: host.Stamp, load_timeout_s: float | None) -> tuple[Any, ...]:
    return tuple(host.names(path, load_timeout_s))


@lru_cache(maxsize=256)
def _examined(path: Path, name: str, stamp: host.Stamp, load_timeout_s: float | None) -> list[host.PluginInfo]:
    """The plug-in of that name, or the only one of the file, as a list; an empty list where there is none."""
    rows = _listed(path, stamp, load_timeout_s)
    wanted = [row.name for row in rows if row.name == name or (not name and len(rows) == 1)]
    return list(host.examine(path, wanted[:1], load_timeout_s))


def check_plugin(node: Plugin, where: str, allow_path: bool) -> list[str]:
    """Warnings about a plug-in as the scan knows it, or as it is in its file: one that fails, one of several.

    Raises PluginNotFound; PluginError when it does not load and may not be bypassed; ParameterError for a path that
    is not allowed, a parameter that the plug-in does not have, a value that it cannot have; PresetError for a state
    that is damaged or meant for another plug-in or version. `on_failure` covers the PluginError alone.
    """
    if node.path is not None and not allow_path:
        allowed = "a preset may name plug-in files only with --allow-plugin-paths; give a name that was scanned instead"
        raise ParameterError(f"{where}.path", node.path, allowed)
    if node.outside and not allow_path:
        allowed = "a state outside the preset's folder needs --allow-plugin-paths; or put the file beside the preset"
        raise ParameterError(f"{where}.state", node.outside, allowed)
    try:
        info = locate(node)
    except PluginError as error:
        if node.on_failure == "fail" or isinstance(error, PluginNotFound):
            raise type(error)(f"{where}: {error}") from None
        return [bypassed(where, node, error)]
    known = {parameter.name: parameter for parameter in info.parameters}
    if node.sidechain is not None and not info.sidechain:
        allowed = f'{node.label} has no side-chain bus; {{"effect": "Ducker", "sidechain": ...}} follows another stem'
        raise ParameterError(f"{where}.sidechain", node.sidechain, allowed)
    if node.state is not None:
        try:
            host.unpack(node.state, info.class_id, info.version)
        except PluginError as error:
            raise PresetError("", f"{where}.state", f"{node.label} cannot take it: {error}") from None
    for name, value in node.parameters.items():
        here = f"{where}.parameters.{name}"
        if name not in known:
            raise ParameterError(here, value, f"{node.label} has no such parameter{nearest(name, known)}")
        _check_value(here, value, known[name], node.label)
    return [] if node.path is not None else _ambiguity(node, where)


def bypassed(where: str, node: Plugin, error: PluginError) -> str:
    """The message for a plug-in that failed and lets its stem pass."""
    return f"{where}: {node.label} is bypassed: {error}"


def _ambiguity(node: Plugin, where: str) -> list[str]:
    """A warning when another plug-in of the same name could have been meant; a copy of the same one is none."""
    used, *others = host.matching(node.plugin, node.vendor, node.format)
    identity = operator.attrgetter("class_id", "version", "vendor", "format")
    other = [info for info in others if identity(info) != identity(used)]
    if not other:
        return []
    first, *rest = (f"{info.path} ({info.vendor}, {info.version}, {info.format})" for info in (used, *other))
    warning = f"{where}: {len(other) + 1} plug-ins are called {node.label}: {first} is used, not {', '.join(rest)}"
    return [f"{warning}; `vendor`, `format` or the order of the folders can say which"]


def _check_value(where: str, value: host.Value | Automation, parameter: host.PluginParameter, label: str) -> None:
    """Automation passes between the steps of a parameter that has some: the plug-in rounds it."""
    allowed = f"{parameter.allowed} ({label})"
    if not isinstance(value, Automation):
        if not parameter.allows(value):
            raise ParameterError(where, value, f"{parameter.allowed_beside(value)} ({label})", parameter.unit)
        return
    if parameter.low is None:
        raise ParameterError(where, "automated", f"only numbers can be; {allowed}")
    if not parameter.automatable:
        raise ParameterError(where, "automated", f"a fixed value: {label} does not let a host automate it; {allowed}")
    for index, single in enumerate(value.values):
        if not replace(parameter, steps=()).allows(single):
            raise ParameterError(f"{where}.points[{index}]", single, allowed, parameter.unit)


def plugin_files(node: Plugin) -> list[Path]:
    """The shared library that the node loads; none when there is nothing that loads."""
    try:
        return [host.library(locate(node).path)]
    except (PluginError, OSError):
        return []
