"""What the embedded model makes of stereo: a place helps it, and a bass without one does it no harm."""

from __future__ import annotations

import numpy as np
import pytest

from gbsep import demo
from gbsep.audio import Audio
from gbsep.models import catalogue
from gbsep.separation.compact import weights as compact_weights

from .compact import separated

RATE = 44100


@pytest.fixture(scope="module")
def model():
    return compact_weights.load(catalogue.EMBEDDED_FOLDER / catalogue.EMBEDDED.files[0])


@pytest.fixture(scope="module")
def stems():
    """Twelve seconds of a bass and of two guitars, (frames,) each."""
    made = demo.make_demo(12.0)[1]
    return {name: made[name].samples.mean(axis=0) for name in ("bass", "guitar")}


def panned(wave, left, right):
    return np.stack([left * wave, right * wave])


def sdr_db(model, bass, guitar):
    config, weights = model
    made = separated(Audio(np.float32(bass + guitar), RATE), weights, config)["bass"]
    return float(10 * np.log10(np.sum(bass**2) / np.sum((made - bass) ** 2)))


def sdr_by_channel_db(model, bass, guitar):
    """The least SDR of the channels, each a song of its own."""
    return min(sdr_db(model, bass[[channel]], guitar[[channel]]) for channel in (0, 1))


def test_one_guitar_aside_leaves_the_bass_all_but_alone(model, stems):
    """It is in both channels, in another measure: one taken from the other is a bass, which the network reads."""
    assert sdr_db(model, panned(stems["bass"], 1, 1), panned(stems["guitar"], 1.3, 0.3)) > 20


def test_guitars_left_and_right_help_to_tell_the_bass_between_them(model):
    """To geometry both at once are a bass in the middle; what the network knows of its power decides."""
    made = demo.make_demo(12.0)[1]
    wide = [made[name].samples for name in ("bass", "guitar")]
    assert sdr_db(model, *wide) > sdr_db(model, *(one.mean(axis=0, keepdims=True) for one in wide)) + 5


@pytest.mark.parametrize("louder", [0.7, 1.6])
@pytest.mark.parametrize("bass_in_phase", [True, False])
def test_guitar_and_bass_in_opposite_phase_come_apart(bass_in_phase, louder, model, stems):
    """One of mid and side has the bass alone and the other the guitar, whichever is louder."""
    phase = 1 if bass_in_phase else -1
    bass, guitar = panned(stems["bass"], 0.4, 0.4 * phase), panned(stems["guitar"], 0.4, -0.4 * phase)
    loud = louder * np.sqrt(np.sum(bass**2) / np.sum(guitar**2))
    assert sdr_db(model, bass, loud * guitar) > 20


def test_channels_that_are_not_in_time_are_heard_one_by_one(model, stems):
    late = RATE // 500

    def delayed(wave):
        return np.stack([wave, np.pad(wave, (late, 0))[:-late]])

    bass, guitar = (delayed(stems[name]) for name in ("bass", "guitar"))
    assert sdr_db(model, bass, guitar) > sdr_by_channel_db(model, bass, guitar) - 0.5


def test_a_bass_that_moves_is_heard_in_each_channel(model, stems):
    after = np.arange(len(stems["bass"])) > len(stems["bass"]) // 2
    bass = np.where(after, panned(stems["bass"], 0.3, 0.9), panned(stems["bass"], 0.9, 0.3))
    guitar = panned(stems["guitar"], 0.7, 0.7)
    assert sdr_db(model, bass, guitar) > sdr_by_channel_db(model, bass, guitar) - 0.5
