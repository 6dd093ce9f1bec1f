"""What is said of a render that is no fault: it stands in render.json as `notes`, in the table and on the page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..measure.others import DRUMS_PER_S
from ..preset.model import Preset, exchanged
from ..separation.backend import Told
from ..stemnames import BASS_AND_GUITAR, GUITAR
from .options import output_format
from .separate import Pairs

SILENT_RESIDUAL_DBFS = -120.0
"""A residual whose peak is below this is what rounding leaves: it is not written."""
SILENT_RESIDUAL = "the residual is silent (below -120 dBFS) and not written: the stems are all of the recording"
DRUMS = "drums heard: the guitar is everything but the bass; exp005 has a guitar of its own"


def may_hold_others(preset: Preset) -> bool:
    """Whether a stem is made with a guitar that is whatever is no bass, as of separators that know no more."""
    terms = {term.removeprefix("-") for stem in preset.stems.values() for term in stem.sources}
    return set(preset.outputs) == set(BASS_AND_GUITAR) and GUITAR in terms


def told_of(preset: Preset, told: Iterable[Told], swaps: Pairs) -> list[Told]:
    """What the separator told, of the preset's stems as they are called after a swap in the review."""
    names = exchanged(swaps)
    made_of = {name: preset.stems[names.get(name, name)].sources for name in preset.stems}
    called = {sources[0]: name for name, sources in made_of.items() if len(sources) == 1}
    return [one.renamed(called) for one in told]


def notes(preset: Preset, is_silent: bool, noises_per_s: float, sample_rate: int) -> Iterator[str]:
    """What there is to say: of a residual that is silent, of instruments that the separator does not know, and of files
    at another sample rate than the recording."""
    if is_silent:
        yield SILENT_RESIDUAL
    if noises_per_s >= DRUMS_PER_S and may_hold_others(preset):
        yield DRUMS
    output = output_format(preset)
    if (rate := output.file_rate(sample_rate)) != sample_rate:
        yield f"the files are at {rate} Hz, {output.container} has no other rate; the recording is at {sample_rate} Hz"
