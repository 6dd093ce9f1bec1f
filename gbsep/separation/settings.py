"""The base of every backend's settings."""

from __future__ import annotations

from ..schema import StrictModel


class BackendSettings(StrictModel):
    """Settings of one backend, as they stand in a preset's "separate" beside "backend" and "seed"."""

    def check(self, sample_rate: int) -> None:
        """Raise ParameterError when these settings cannot work on a mixture of `sample_rate` Hz."""
