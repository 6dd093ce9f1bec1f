"""A small network and a band of two sines, for the tests of training."""

import numpy as np

from gbsep.separation.compact.config import Config
from gbsep.train.instruments import SAMPLE_RATE, Instrument

SMALL = Config(n_fft=256, hop_length=64, bins=80, pitches=48, bins_per_octave=12, gathered=3, harmonics=4,
               widths=(8, 8, 8), projected=4, head=8)  # fmt: skip


def hz(pitch: float) -> float:
    return 440.0 * 2 ** ((pitch - 69) / 12)


def loudest_hz(x: np.ndarray, low: float, high: float) -> float:
    """The strongest frequency of a windowed signal between two limits."""
    spectrum = np.abs(np.fft.rfft(x * np.hanning(len(x)), 2**18))
    at = np.fft.rfftfreq(2**18, 1 / SAMPLE_RATE)
    band = (at > low) & (at < high)
    return float(at[band][spectrum[band].argmax()])


def sine(role: str, pitches: range) -> Instrument:
    time = np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE
    notes = {p: (np.sin(2 * np.pi * hz(p) * time).astype(np.float32),) for p in pitches}
    return Instrument(f"sine_{role}", role, "string", notes)


BAND = [sine("bass", range(26, 58, 4)), sine("guitar", range(40, 88, 4))]
