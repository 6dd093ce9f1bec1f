"""Butterworth crossover: the bass is what lies below the cut-off, the guitar what lies above.

Zero-phase (the default): forward and backward, so nothing moves in time and the response is the square of the
causal one: -6.02 dB at the cut-off and 12 dB per octave and order. A digital Butterworth low-pass and high-pass
with the same cut-off and order are power complementary, |L|^2 + |H|^2 = 1, so mixture minus bass *is* the zero-phase
high-pass, and the stems add up to the mixture.

Causal: one pass, -3.01 dB and 6 dB per octave and order, like an analogue crossover. The guitar is the causal
high-pass; the phase shift of both makes a difference to the mixture, which stays in the residual.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import scipy
from pydantic import Field

from ..audio import Block, Reader, zip_blocks
from ..effects.butterworth import MAX_ORDER, butterworth_sos, filter_blocks, filter_blocks_zero_phase
from ..stemnames import BASS_AND_GUITAR
from .backend import Context
from .settings import BackendSettings


class Settings(BackendSettings):
    cutoff_hz: float = Field(200.0, gt=0, le=384000, description="where bass and guitar part, Hz")
    order: int = Field(4, ge=1, le=MAX_ORDER, description="order of the Butterworth filter")
    zero_phase: bool = Field(True, description="forward and backward, without phase shift; false is causal")

    def check(self, sample_rate: int) -> None:
        butterworth_sos(self.order, self.cutoff_hz, "lowpass", sample_rate)


def stem_names(settings: Settings, models_dir: Path | None = None) -> tuple[str, ...]:
    return BASS_AND_GUITAR


def identity(settings: Settings, context: Context) -> dict[str, Any]:
    return {"engine": f"scipy {scipy.__version__}", "precision": "float64"}


def run(reader: Reader, settings: Settings, context: Context) -> Iterator[dict[str, Block]]:
    low = butterworth_sos(settings.order, settings.cutoff_hz, "lowpass", reader.sample_rate)
    mixture, source = itertools.tee(reader.blocks())
    done = 0
    if settings.zero_phase:
        pairs = zip_blocks(filter_blocks_zero_phase(source, low), mixture)
        stems = ({"bass": bass, "guitar": block - bass} for bass, block in pairs)
    else:
        high = butterworth_sos(settings.order, settings.cutoff_hz, "highpass", reader.sample_rate)
        pairs = zip(filter_blocks(source, low), filter_blocks(mixture, high), strict=True)
        stems = ({"bass": bass, "guitar": guitar} for bass, guitar in pairs)
    for blocks in stems:
        done += blocks["bass"].shape[1]
        context.progress(done / reader.frames)
        yield {name: blocks[name] for name in context.wanted}
