"""Audio Units, through Pedalboard: the same face as `vst3.Vst3Plugin`, as far as Pedalboard can show it.

Side chains and layouts other than mono to mono and stereo to stereo are out of reach there. An instance that has heard
nothing is made by having Pedalboard load it anew, as it sends noise through a plug-in the first time. Pedalboard leaves
out what comes before the latency has passed; here it comes as silence, as from any plug-in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ...errors import PluginError
from .vst3 import BLOCK_FRAMES, Bus, ClassRow, RawParameter
from .vst3_interfaces import INPUT, MONO, STEREO


class AudioUnitModule:
    """What is in an Audio Unit bundle; `rows` as of `Module`. `kind` is Pedalboard's class for such plug-ins."""

    def __init__(self, bundle: Path, kind: Any = None):
        import pedalboard

        self._path, self._kind = str(bundle), kind or getattr(pedalboard, "AudioUnitPlugin", None)
        if self._kind is None:
            raise PluginError("Audio Units work on macOS only")
        try:
            self._names = self._kind.get_plugin_names_for_file(self._path)
        except (OSError, ImportError, ValueError, RuntimeError) as error:
            raise PluginError(str(error)) from error

    @property
    def rows(self) -> tuple[ClassRow, ...]:
        return tuple(ClassRow(name, "", "", "", "") for name in self._names)

    def create(self, row: ClassRow) -> PedalboardPlugin:
        return PedalboardPlugin(self._kind, self._path, row.name)


class PedalboardPlugin:
    def __init__(self, kind: Any, path: str, name: str):
        from pedalboard_native import ExternalPluginReloadType

        try:
            # Pedalboard reads each parameter at 1001 places when it makes one known by name; none is needed here.
            bare = type(kind.__name__, (kind,), {"_get_parameters": lambda self: {}})
            self._plugin = bare(path, plugin_name=name)
        except (OSError, ImportError, ValueError, RuntimeError) as error:
            raise PluginError(str(error)) from error
        self._plugin._reload_type = ExternalPluginReloadType.PersistsAudioOnReset
        plugin = self._plugin
        self.row = ClassRow(name, plugin.manufacturer_name, plugin.version, plugin.category, plugin.identifier)
        self._native = list(plugin._parameters)
        self.parameters = tuple(
            RawParameter(
                index,
                native.name,
                native.label or "",
                max(native.num_steps - 1, 0) if native.is_discrete else 0,
                native.default_raw_value,
                native.is_automatable,
                False,
            )
            for index, native in enumerate(self._native)
        )
        self._channels, self._sample_rate = 0, 0

    def get(self, parameter: RawParameter) -> float:
        return float(self._live(parameter).raw_value)

    def set(self, parameter: RawParameter, raw: float) -> None:
        self._live(parameter).raw_value = raw

    def text(self, parameter: RawParameter, raw: float) -> str:
        return str(self._live(parameter).get_text_for_raw_value(raw))

    def raw_of(self, parameter: RawParameter, text: str) -> float | None:
        raw = float(self._live(parameter).get_raw_value_for_text(text))
        return raw if 0 <= raw <= 1 else None

    def _live(self, parameter: RawParameter) -> Any:
        return self._plugin._parameters[parameter.id]

    def state(self) -> tuple[bytes, bytes]:
        return bytes(self._plugin.raw_state), b""

    def restore(self, component: bytes, controller: bytes) -> None:
        if component:
            self._plugin.raw_state = component

    def buses(self, direction: int) -> list[Bus]:
        if direction == INPUT and self._plugin.is_instrument:
            return []
        channels = self._channels or 2
        return [Bus(channels, True, {1: MONO, 2: STEREO}[channels])]

    def arrange(self, channels_in: int, channels_out: int) -> bool:
        """Try it: Pedalboard says no otherwise only when it processes."""
        if channels_in != channels_out:
            return False
        try:
            self._plugin.process(np.zeros((channels_in, 512), np.float32), 44100)
        except ValueError:
            return False
        self._channels = channels_in
        return True

    def prepare(self, sample_rate: int, sidechain: int | None = None) -> None:
        self._sample_rate = sample_rate
        self._plugin.reset()

    def deactivate(self) -> None:
        """Pedalboard does that by itself."""

    @property
    def latency_frames(self) -> int:
        return int(self._plugin.reported_latency_samples)

    def process(self, block: np.ndarray, sidechain: object = None) -> np.ndarray:
        # Pedalboard takes the layout from the first array, and cannot tell channels from frames in a short one.
        made = self._plugin.process(block, self._sample_rate, buffer_size=BLOCK_FRAMES, reset=False)
        missing = block.shape[1] - made.shape[1]
        return np.pad(made, ((0, 0), (missing, 0))) if missing else made

    def close(self) -> None:
        del self._plugin
