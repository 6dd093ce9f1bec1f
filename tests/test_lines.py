"""Lines that sound alone stay with one instrument, and nothing else is touched."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gbsep import demo
from gbsep.audio import Audio, join
from gbsep.models import catalogue
from gbsep.separation.compact import backend as compact
from gbsep.separation.compact import lines
from gbsep.separation.compact import weights as compact_weights
from gbsep.separation.compact.config import Config
from gbsep.separation.compact.spectra import spectrum

CONFIG = Config()
RATE = CONFIG.sample_rate
E1, E2, G4, E5 = 28, 40, 67, 76
MINOR = [pitch for pitch in range(E1, E5 + 1) if (pitch - E1) % 12 in (0, 2, 3, 5, 7, 8, 10)]
CLIMB = [pitch for pitch in MINOR if pitch <= G4]
FALL = [pitch for pitch in MINOR if pitch >= E2][::-1]


def hz(pitch: float) -> float:
    return 440.0 * 2 ** ((pitch - 69) / 12)


def plucked(pitches: list[int], note_s: float, instrument: demo.Instrument) -> np.ndarray:
    """A line of the demo's strings, each note ended by the next."""
    rng = np.random.default_rng(0)
    notes = [
        demo.pluck(hz(pitch), note_s, 22050, rng, instrument.decay_s, instrument.treble_decay_s,
                   instrument.pick_position, instrument.brightness_hz)
        for pitch in pitches
    ]  # fmt: skip
    return 0.1 * np.concatenate(notes)


@pytest.mark.parametrize("note_s", [0.25, 0.5])
@pytest.mark.parametrize(("stem", "pitches"), [("bass", CLIMB), ("guitar", FALL)])
def test_a_line_that_leaves_its_register_keeps_its_energy(stem, pitches, note_s):
    line = plucked(pitches, note_s, demo.BASS if stem == "bass" else demo.GUITAR1)
    config, weights = compact_weights.load(catalogue.EMBEDDED_FOLDER / catalogue.EMBEDDED.files[0])
    made = join(block[stem] for block in compact.separate(Audio(line, 22050).reader(), config, weights))[0]
    assert np.vdot(made, line) > 0.95 * np.vdot(line, line)


def spectra(pitches: list[float], note_s: float = 0.3) -> np.ndarray:
    """Of a line of eight equal partials."""
    time = np.arange(int(note_s * RATE)) / RATE
    tones = [sum(np.sin(2 * np.pi * k * hz(pitch) * time) for k in range(1, 9)) for pitch in pitches]
    return spectrum(CONFIG, np.concatenate(tones)[np.newaxis].astype(np.float32))[0, :, : CONFIG.bins]


def by_register(mixture: np.ndarray, frames: int) -> np.ndarray:
    """An estimate that gives the first so many frames to the bass and the others to the guitar."""
    return mixture * (np.arange(len(mixture)) < frames)[:, np.newaxis].astype(np.float32)


def test_a_climb_is_the_basss_from_where_no_guitar_plays():
    mixture = spectra([float(pitch) for pitch in range(28, 60)])
    made = lines.assign_lines(CONFIG, mixture, by_register(mixture, len(mixture) // 2))
    assert np.sum(abs(made - mixture) ** 2) < 0.01 * np.sum(abs(mixture) ** 2)


def test_a_fall_is_the_guitars_from_where_no_bass_plays():
    mixture = spectra([float(pitch) for pitch in range(76, 44, -1)])
    bass = mixture - by_register(mixture, len(mixture) // 2)
    assert np.sum(abs(lines.assign_lines(CONFIG, mixture, bass)) ** 2) < 0.01 * np.sum(abs(mixture) ** 2)


def test_a_leap_ends_a_line():
    mixture = spectra([30.0] * 10 + [52.0] * 10)
    bass = by_register(mixture, len(mixture) // 2)
    made = lines.assign_lines(CONFIG, mixture, bass)
    np.testing.assert_array_equal(made[-60:], bass[-60:])


def test_chords_and_two_players_are_left_as_they_are(rng):
    line = spectra([float(pitch) for pitch in range(28, 60)])
    chord = line + spectra([float(pitch) + 3.5 for pitch in range(28, 60)]) + spectra([67.0] * 32)
    for mixture, bass in ((chord, by_register(chord, len(chord) // 2)), (line, 0.5 * line)):
        np.testing.assert_array_equal(lines.assign_lines(CONFIG, mixture, bass), bass)


def test_a_frame_depends_on_the_margin_alone():
    pitches = [float(pitch) for pitch in (*range(28, 67), *range(67, 28, -1))]
    mixture = np.concatenate([spectra(pitches, 0.25)] * 3)
    bass = mixture * (np.sin(np.arange(len(mixture)) / 90) > -0.3)[:, np.newaxis].astype(np.float32)
    whole = lines.assign_lines(CONFIG, mixture, bass)
    assert np.any(whole != bass)
    part = slice(50, 1750)
    cut = lines.assign_lines(CONFIG, mixture[part], bass[part])
    inside = slice(lines.MARGIN, -lines.MARGIN)
    assert len(cut[inside]) > 20
    np.testing.assert_array_equal(cut[inside], whole[part][inside])


def test_short_frames_and_silence_are_left_as_they_are():
    silence = np.zeros((50, CONFIG.bins), np.complex64)
    assert not lines.assign_lines(CONFIG, silence, silence).any()
    assert lines.assign_lines(CONFIG, silence[:0], silence[:0]).shape == (0, CONFIG.bins)
    mixture = spectra([30.0, 50.0])
    assert lines.assign_lines(replace(CONFIG, n_fft=256), mixture, mixture) is mixture
