"""Read a stem and write its notes down."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from ..audio import Reader, rechunk
from ..errors import BackendError
from ..io.resample import resample
from ..separation.compact.config import Config
from ..separation.compact.spectra import spectrum
from ..separation.compact.tuning import tuning_cents
from ..stemnames import BASS
from . import features, kinds, network, register
from .decode import Decoder
from .line import Line, Note

WEIGHTS = Path(__file__).parent / "notes.safetensors"
PIECE = 2048
"""Frames that are heard at a time."""
QUIETEST_RMS = 1e-4
"""Less than that, where it sounds, is silence: -80 dBFS."""
BLOCK_S = 0.5
GUITAR_UP = 12
"""Semitones by which the pitch axis is moved up for guitars: what was taught on basses then hears an octave higher."""


@lru_cache(2)
def load(path: Path = WEIGHTS) -> Mapping[str, np.ndarray]:
    """Weights as `scripts/train_notes.py export` writes them. Raises BackendError for what are none."""
    from safetensors.numpy import load_file

    try:
        weights = {name: value.astype(np.float32) for name, value in load_file(path).items()}
    except Exception as error:  # safetensors has several kinds, and its own
        raise BackendError(f"{path}: holds no weights ({error}); install gbsep again") from None
    if {name: value.shape for name, value in weights.items()} != network.shapes() | kinds.shapes():
        raise BackendError(f"{path}: holds weights of another network; install gbsep again")
    return {**weights, "gathered": network.gathered()}


def hear(
    reader: Reader,
    stem: str = "bass",
    *,
    quietest: float = QUIETEST_RMS,
    anyway: bool = False,
    tell: Callable[[np.ndarray], str] | None = None,
    weights: Mapping[str, np.ndarray] | None = None,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Line:
    """The notes of a stem. One whose RMS, where it sounds, is below `quietest` has none.

    Notes of a bass that are a guitar's by their register (see `register`) are left out, unless `anyway`. `tell`
    says of what is measured where a note begins how it does, if not the weights' own regression (see `kinds`).

    The sound is read twice, first for its level and its tuning, and never held: notes are all that grows with it.
    Raises what reading the sound raises.
    """
    from scipy.special import expit
    from threadpoolctl import threadpool_limits

    weights = weights or load()
    low = resample(reader, features.SAMPLE_RATE)
    seconds = reader.frames / reader.sample_rate
    up = GUITAR_UP if stem.startswith("guitar") else 0
    with threadpool_limits(1):  # small products: more threads are no faster, and sum in another order
        rms, cents = _first_reading(low)
        if rms < max(quietest, QUIETEST_RMS):
            return Line((), seconds, cents)
        decoder, notes, done = Decoder(tell or partial(kinds.kind_of, weights=weights)), list[Note](), 0
        for wave, last in _pieces(low, features.LEVEL / rms):
            spectra = features.spectra(wave, cents + 100 * up)
            onsets, frames, struck = map(expit, network.logits(weights, spectra, np))
            level_db = _level_db(wave, len(onsets))
            spectra = spectra[network.CONTEXT : network.CONTEXT + len(onsets)]
            notes += decoder.feed(onsets, frames, struck, level_db, spectra, last)
            done += len(onsets)
            progress(min(1.0, done / features.FRAMES_PER_S / max(seconds, 1e-9)))
    notes = [replace(note, midi=note.midi + up) for note in notes if note.onset_s < seconds]
    if not anyway and stem == BASS and register.is_no_bass(len(notes), decoder.low):
        return Line((), seconds, cents, left_out=len(notes))
    return Line(tuple(sorted(notes, key=lambda note: (note.onset_s, note.midi))), seconds, cents)


def _level_db(wave: np.ndarray, frames: int) -> np.ndarray:
    start = features.MARGIN + network.CONTEXT * features.HOP_LENGTH - features.HOP_LENGTH * 2
    total = np.concatenate([[0.0], np.cumsum(np.square(wave[start:], dtype=np.float64))])
    at = np.arange(frames) * features.HOP_LENGTH
    power = (total[at + 4 * features.HOP_LENGTH] - total[at]) / (4 * features.HOP_LENGTH)
    level_db: np.ndarray = 10 * np.log10(power / features.LEVEL**2 + 1e-9)
    return level_db


def _first_reading(low: Reader) -> tuple[float, float]:
    config = replace(Config(), sample_rate=features.SAMPLE_RATE)
    powers = []

    def spectra() -> Iterator[np.ndarray]:
        for block in rechunk(low.blocks(), round(20 * BLOCK_S * features.SAMPLE_RATE)):
            mono = block.mean(axis=0, keepdims=True)
            hop = round(BLOCK_S * features.SAMPLE_RATE)
            padded = np.pad(mono[0], (0, -mono.shape[1] % hop))
            powers.extend(np.square(padded, dtype=np.float64).reshape(-1, hop).mean(axis=1))
            yield spectrum(config, mono)

    cents = tuning_cents(spectra(), config)
    power = np.array(powers)
    loud = power[power > power.max(initial=0) * 1e-3]
    return (float(np.sqrt(loud.mean())) if len(loud) else 0.0), cents


def _pieces(low: Reader, gain: float) -> Iterator[tuple[np.ndarray, bool]]:
    """Waves of PIECE frames with their context and margins on either side, silence around the stem."""
    around = features.MARGIN + network.CONTEXT * features.HOP_LENGTH
    step = PIECE * features.HOP_LENGTH
    kept = np.zeros(around, np.float32)
    left = low.frames
    for block in rechunk(low.blocks(), step):
        left -= block.shape[1]
        kept = np.concatenate([kept, np.float32(gain) * block.mean(axis=0, dtype=np.float32)])
        while len(kept) >= step + 2 * around:
            yield kept[: step - features.HOP_LENGTH + 2 * around], False
            kept = kept[step:]
    kept = np.concatenate([kept, np.zeros(around, np.float32)])
    while len(kept) > step + 2 * around:
        yield kept[: step - features.HOP_LENGTH + 2 * around], False
        kept = kept[step:]
    yield kept, True
