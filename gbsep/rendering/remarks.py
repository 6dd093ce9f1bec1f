"""What is said of a render that is no fault: it stands in render.json as `notes`, in the table and on the page."""

from __future__ import annotations

from collections.abc import Iterator

from ..measure.others import DRUMS_PER_S
from ..preset.model import Preset
from ..stemnames import BASS_AND_GUITAR, GUITAR

SILENT_RESIDUAL_DBFS = -120.0
"""A residual whose peak is below this is what rounding leaves: it is not written."""
SILENT_RESIDUAL = "the residual is silent (below -120 dBFS) and not written: the stems are all of the recording"
DRUMS = "drums heard: the guitar is everything but the bass; exp005 has a guitar of its own"


def may_hold_others(preset: Preset) -> bool:
    """Whether a stem is made with a guitar that is whatever is no bass, as of separators that know no more."""
    terms = {term.removeprefix("-") for stem in preset.stems.values() for term in stem.sources}
    return set(preset.outputs) == set(BASS_AND_GUITAR) and GUITAR in terms


def notes(preset: Preset, is_silent: bool, noises_per_s: float) -> Iterator[str]:
    """What there is to say: of a residual that is silent, and of instruments that the separator does not know."""
    if is_silent:
        yield SILENT_RESIDUAL
    if noises_per_s >= DRUMS_PER_S and may_hold_others(preset):
        yield DRUMS
