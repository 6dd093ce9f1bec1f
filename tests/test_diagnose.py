"""What can be told of stems without the true ones: on tones of known pitch, and on real stems both ways round."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gbsep import files
from gbsep.audio import Audio, Reader
from gbsep.diagnose import Register, octaves_above, register, swapped
from gbsep.errors import ParameterError
from gbsep.evidence import HIGH_HZ, LOW_HZ

RATE = 44100


def tone(pitch_hz, seconds=2.0, gain=0.3, channels=2, sample_rate=RATE):
    """A plucked string: twelve partials falling by 1/n, notes of half a second."""
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    partials = [np.sin(2 * np.pi * pitch_hz * n * time) / n for n in range(1, 13) if pitch_hz * n < sample_rate / 2]
    samples = gain * np.sum(partials, axis=0) * np.exp(-4 * (time % 0.5))
    return Audio(np.tile(samples, (channels, 1)), sample_rate).reader()


def silence(frames=RATE):
    return Audio(np.zeros((2, frames)), RATE).reader()


# ----------------------------------------------------------------------------------------------------------- register


@given(
    pitch_hz=st.floats(45, 800),
    sample_rate=st.sampled_from([22050, 44100, 48000, 96000]),
    channels=st.integers(1, 2),
    gain=st.floats(0.01, 1),
)
@settings(max_examples=25, deadline=None)
def test_the_pitch_of_a_note_is_its_fundamental(pitch_hz, sample_rate, channels, gain):
    found = register(tone(pitch_hz, 1.0, gain, channels, sample_rate))
    assert abs(found.pitch_hz - pitch_hz) < 5.0
    quieter = register(tone(pitch_hz, 1.0, 0.3, channels, sample_rate))
    assert found.low_share_db == pytest.approx(quieter.low_share_db, abs=1e-4)


def test_the_pitch_of_a_chord_is_its_lowest_note():
    chord = sum(tone(pitch_hz).read().samples for pitch_hz in (110.0, 164.8, 220.0, 277.2)) / 4
    assert register(Audio(chord, RATE).reader()).pitch_hz == pytest.approx(110, abs=5)


def test_shares_of_sines_are_exact():
    time = np.arange(4 * RATE) / RATE
    low, high = (0.5 * np.sin(2 * np.pi * hz * time) for hz in (0.6 * LOW_HZ, 1.2 * HIGH_HZ))
    found = register(Audio(np.stack([low + high, low + high]), RATE).reader())
    assert found.low_share_db == pytest.approx(10 * math.log10(0.5), abs=0.2)
    assert found.high_share_db == pytest.approx(10 * math.log10(0.5), abs=0.2)


def test_opposite_channels_do_not_cancel():
    samples = tone(55).read().samples * np.array([[1], [-1]])
    assert register(Audio(samples, RATE).reader()) == register(tone(55))


@given(st.lists(st.integers(1, 30_000), min_size=1, max_size=4))
@settings(max_examples=20, deadline=None)
def test_blocks_do_not_matter(sizes):
    samples = tone(70, 3.0).read().samples

    def blocks(_):
        first = 0
        while first < samples.shape[1]:
            for size in sizes:
                if first < samples.shape[1]:
                    yield samples[:, first : first + size]
                first += size

    pieces = register(Reader(RATE, 2, samples.shape[1], blocks))
    whole = register(Audio(samples, RATE).reader())
    assert pieces.pitch_hz == pytest.approx(whole.pitch_hz, rel=1e-4)
    assert pieces.low_share_db == pytest.approx(whole.low_share_db, rel=1e-4)
    assert pieces.high_share_db == pytest.approx(whole.high_share_db, rel=1e-4)


@pytest.mark.parametrize("frames", [1, 2, 100, 8192, RATE])
def test_silence_has_no_register(frames):
    assert register(silence(frames)) is None
    assert register(Audio(np.full((1, frames), 1e-5), RATE).reader()) is None


def test_an_offset_does_not_sound():
    samples = tone(110, 10.0).read().samples
    assert register(Audio(samples + 0.2, RATE).reader()).pitch_hz == pytest.approx(110, abs=5)


# --------------------------------------------------------------------------------------------------------------- swap


@given(
    bass_hz=st.floats(41, 98),
    octaves=st.floats(1, 3),
    gain_db=st.floats(-30, 30),
    other=st.sampled_from(["guitar", "other"]),
)
@settings(max_examples=20, deadline=None)
def test_tones_the_right_way_and_the_wrong_way(bass_hz, octaves, gain_db, other):
    low = tone(bass_hz, gain=0.1)
    high = tone(max(150, bass_hz * 2**octaves), gain=0.1 * 10 ** (gain_db / 20))
    assert swapped({"bass": low, other: high}).swapped is False
    assert swapped({"bass": high, other: low}).swapped is True


@pytest.mark.parametrize(
    ("bass", "other", "named"),
    [(silence(), tone(200), "bass"), (tone(50), silence(), "other"), (silence(),) * 2 + ("bass and other",)],
)
def test_silence_gives_no_verdict(bass, other, named):
    verdict = swapped({"bass": bass, "other": other})
    assert verdict.swapped is None
    assert verdict.reason == f"nothing to be heard in {named}"


def test_the_same_in_both_gives_no_verdict():
    assert swapped({"bass": tone(80), "other": tone(80, gain=0.1)}).swapped is None


def test_a_rumble_under_a_higher_pitch_is_no_bass():
    """A low guitar over a deep rumble: more below LOW_HZ than the bass, but it does not play lower."""
    time = np.arange(2 * RATE) / RATE
    loud = [0.05 * np.sin(2 * np.pi * hz * time) for hz in np.arange(90, 100, 0.5)]
    guitar = Audio(np.sum(loud, axis=0), RATE).reader()
    assert swapped({"bass": tone(61.7), "other": guitar}).swapped is False


def test_signs_that_speak_against_each_other_give_no_verdict():
    """An octave lower, with as much less of its power in the low end."""
    low = Register(55.0, -12.0, -20.0)
    assert octaves_above(low, Register(110.0, 0.0, -20.0)) == pytest.approx(0.0)
    assert octaves_above(low, Register(110.0, -12.0, -20.0)) == -1.0
    assert octaves_above(low, Register(55.0, -12.0, -8.0)) == -1.0
    assert octaves_above(low, Register(55.0, 0.0, -20.0)) == 1.0


def test_the_lower_partner_is_looked_at_and_drums_are_not():
    stems = {"bass": tone(300), "guitar": tone(400), "other": tone(50), "drums": tone(45)}
    verdict = swapped(stems)
    assert (verdict.swapped, verdict.partner) == (True, "other")
    assert swapped({**stems, "other": silence()}).partner == "guitar"


def test_a_verdict_tells_its_evidence_in_json():
    verdict = swapped({"bass": tone(220), "other": tone(55)})
    told = json.loads(json.dumps(verdict.as_dict(), allow_nan=False))
    assert told["swapped"] is True
    assert told["evidence"]["other"]["pitch_hz"] == pytest.approx(55, abs=5)
    assert "2.0 octaves lower" in told["reason"]


@pytest.mark.parametrize("names", [(), ("bass",), ("other",), ("bass", "drums")])
def test_without_two_stems_to_compare_there_is_an_error(names):
    with pytest.raises(ParameterError, match="a swap is between bass and one of guitar, other"):
        swapped({name: silence() for name in names})


def test_ten_seconds_of_real_stems_are_always_told(data):
    """No miss and no false alarm, also with a tenth of each other's power mixed in."""
    jams = sorted(data.glob("jams/*/"))
    assert jams
    for jam in jams:
        bass, guitar = (files.open(jam / f"{name}.flac").read() for name in ("bass", "guitar"))
        for first in range(0, bass.frames - 10 * RATE + 1, 10 * RATE):
            excerpt = slice(first, first + 10 * RATE)
            for bleed in (0.0, 10**-0.5):
                low = Audio(bass.samples[:, excerpt] + bleed * guitar.samples[:, excerpt], RATE).reader()
                high = Audio(guitar.samples[:, excerpt] + bleed * bass.samples[:, excerpt], RATE).reader()
                assert swapped({"bass": low, "other": high}).swapped is False
                assert swapped({"bass": high, "other": low}).swapped is True
