"""Telemetry is off: libraries that report to their makers are kept from it before they are imported.

The package imports this before anything else, so it holds in every process that gbsep starts (workers of a batch, of a
cluster and of plug-ins, training) and wherever gbsep is a library. A reporter that comes later gets a row here.

- ONNX Runtime looks up a host of its makers and writes a device id and a database below the user's cache folder; only
  the environment, before it is imported, keeps it from that.
- OpenVINO reports through a package of its own, which it does without when that cannot be imported.
- Hugging Face's client sends a word about itself with what it asks for.
"""

from __future__ import annotations

import os
import sys

SILENCE = ("DO_NOT_TRACK", "ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY", "DISABLE_TELEMETRY")
"""Variables that switch reports off; a value that already says so, in whatever words, stays."""

REPORTERS = ("openvino_telemetry",)
"""Packages that do nothing but report: not to be imported."""

_NO = ("", "0", "false", "no", "off")


def tell_nobody() -> None:
    """Switch all reports off, for this process and those it starts."""
    for variable in SILENCE:
        if os.environ.get(variable, "").strip().lower() in _NO:
            os.environ[variable] = "1"
    for package in REPORTERS:
        sys.modules[package] = None  # type: ignore[assignment]
    runtime = sys.modules.get("onnxruntime")
    if runtime is not None:  # too late for the first report, in time for the next
        runtime.disable_telemetry_events()
