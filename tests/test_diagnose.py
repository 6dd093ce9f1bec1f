"""What can be told of stems without the true ones: on tones of known pitch, and on real stems both ways round."""

import json
import math
import re

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

import gbsep
from gbsep.audio import Audio, Reader
from gbsep.cli import cli
from gbsep.errors import AudioError, OutputError, ParameterError
from gbsep.io.read import open_reader, read
from gbsep.io.write import write
from gbsep.measure.diagnose import (
    KINDS,
    Finding,
    clock,
    diagnose,
)
from gbsep.measure.swap import Register, octaves_above, register, swapped
from gbsep.shelf.measured import diagnose_folder
from gbsep.stemnames import ABOVE_BASS_HZ, GUITAR_LOW_HZ

RATE = 44100


def tone(pitch_hz, seconds=2.0, gain=0.3, channels=2, sample_rate=RATE):
    """A plucked string: twelve partials falling by 1/n, notes of half a second."""
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    partials = [np.sin(2 * np.pi * pitch_hz * n * time) / n for n in range(1, 13) if pitch_hz * n < sample_rate / 2]
    samples = gain * np.sum(partials, axis=0) * np.exp(-4 * (time % 0.5))
    return Audio(np.tile(samples, (channels, 1)), sample_rate).reader()


def silence(frames=RATE):
    return Audio(np.zeros((2, frames)), RATE).reader()


def test_a_clock_rounds_before_it_divides():
    times_s = (0, 0.04, 59.94, 59.97, 62.5, 3599.96)
    assert [clock(time_s) for time_s in times_s] == ["0:00.0", "0:00.0", "0:59.9", "1:00.0", "1:02.5", "60:00.0"]


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
    low, high = (0.5 * np.sin(2 * np.pi * hz * time) for hz in (0.6 * GUITAR_LOW_HZ, 1.2 * ABOVE_BASS_HZ))
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
    """A low guitar over a deep rumble: more below GUITAR_LOW_HZ than the bass, but it does not play lower."""
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
    jams = sorted(path for path in data.glob("jams/*") if path.is_dir())
    assert jams
    for jam in jams:
        bass, guitar = (open_reader(jam / f"{name}.flac").read() for name in ("bass", "guitar"))
        for first in range(0, bass.frames - 10 * RATE + 1, 10 * RATE):
            excerpt = slice(first, first + 10 * RATE)
            for bleed in (0.0, 10**-0.5):
                low = Audio(bass.samples[:, excerpt] + bleed * guitar.samples[:, excerpt], RATE).reader()
                high = Audio(guitar.samples[:, excerpt] + bleed * bass.samples[:, excerpt], RATE).reader()
                assert swapped({"bass": low, "other": high}).swapped is False
                assert swapped({"bass": high, "other": low}).swapped is True


# ----------------------------------------------------------------------------------------------------------- findings

SECONDS = 20


def band(rng, low_hz, high_hz, seconds=SECONDS, gain=0.1):
    """Noise between two frequencies, stereo, with independent channels: coherent with nothing."""
    sections = signal.butter(4, (low_hz, high_hz), "band", fs=RATE, output="sos")
    noise = signal.sosfilt(sections, rng.standard_normal((2, seconds * RATE)))
    return (gain * noise / noise.std()).astype(np.float32)


@pytest.fixture(scope="module")
def band_of_two():
    """A bass whose notes are low for ten seconds and then high, and a guitar."""
    rng = np.random.default_rng(0)
    halves = [band(rng, *edges, SECONDS // 2) for edges in ((42, 90), (130, 250))]
    return {"bass": np.concatenate(halves, axis=1), "guitar": band(rng, 100, 4500)}


def found(mixture, stems, restored_db=None):
    readers = {name: Audio(samples, RATE).reader() for name, samples in stems.items()}
    return diagnose(Audio(mixture, RATE).reader(), readers, restored_db)


def only(findings, kind):
    """The one finding, which is of this kind."""
    assert [finding.kind for finding in findings] == [kind]
    return findings[0]


def gate(start_s, end_s):
    time = np.arange(SECONDS * RATE) / RATE
    return ((time >= start_s) & (time < end_s)).astype(np.float32)


def test_true_stems_have_nothing_wrong(band_of_two):
    assert found(sum(band_of_two.values()), band_of_two) == ()
    assert found(band_of_two["bass"][:, :RATE], {"bass": band_of_two["bass"][:, :RATE]}) == ()


@pytest.mark.parametrize("lost_db", [2.0, 6.0])
@pytest.mark.parametrize("stem", ["bass", "guitar"])
def test_lost_level_is_told_to_a_tenth(band_of_two, stem, lost_db):
    stems = {**band_of_two, stem: band_of_two[stem] * np.float32(10 ** (-lost_db / 20))}
    levels = [one for one in found(sum(band_of_two.values()), stems) if one.kind == "level_lost"]
    assert [one.stem for one in levels] == [stem]
    assert levels[0].value == pytest.approx(lost_db, abs=0.1)
    assert (levels[0].start_s, levels[0].end_s) == (0.0, SECONDS)


def test_restored_level_is_told_as_lost(band_of_two):
    finding = only(found(sum(band_of_two.values()), band_of_two, {"bass": 3.2}), "level_lost")
    assert finding.message == "bass came out 3.2 dB quieter than it is in the mixture"


def test_swapped_stems(band_of_two):
    stems = {"bass": band_of_two["guitar"], "guitar": band_of_two["bass"]}
    swaps = [one for one in found(sum(band_of_two.values()), stems) if one.kind == "swapped"]
    assert [(one.stem, one.partner, one.severity) for one in swaps] == [("bass", "guitar", "error")]
    assert swaps[0].start_s == 0.0
    assert swaps[0].end_s > SECONDS / 2


@given(leak_db=st.floats(-15, -6))
@settings(max_examples=3, deadline=None)
def test_the_gain_of_a_leak_is_told(band_of_two, leak_db):
    gain = np.float32(10 ** (leak_db / 20))
    into_bass = {**band_of_two, "bass": band_of_two["bass"] + gain * band_of_two["guitar"]}
    mixture = sum(band_of_two.values())
    (finding,) = [one for one in found(mixture, into_bass) if one.kind == "bleeding"]
    assert (finding.stem, finding.partner) == ("bass", "guitar")
    assert finding.value == pytest.approx(leak_db, abs=0.3)


def test_bass_in_the_guitar_is_a_leak_and_low_end_left(band_of_two):
    left = np.float32(0.5) * band_of_two["bass"]
    stems = {"bass": band_of_two["bass"] - left, "guitar": band_of_two["guitar"] + left}
    kinds = {one.kind: one for one in found(sum(band_of_two.values()), stems)}
    assert {"bleeding", "low_end_left"} <= set(kinds)
    assert kinds["low_end_left"].value == pytest.approx(-6.0, abs=0.3)
    assert kinds["low_end_left"].end_s <= 12.3  # the second half of the song has no low end


def test_missing_low_end_is_told_where_there_is_some(band_of_two):
    sections = signal.butter(8, 100, "high", fs=RATE, output="sos")
    stems = {**band_of_two, "bass": signal.sosfiltfilt(sections, band_of_two["bass"]).astype(np.float32)}
    (finding,) = [one for one in found(sum(band_of_two.values()), stems) if one.kind == "low_end_missing"]
    assert finding.value > 30
    assert (finding.start_s, finding.severity) == (0.0, "error")
    assert finding.end_s <= 12.3


def test_a_bass_that_thins_out_where_it_is_high(band_of_two):
    thin = band_of_two["bass"] * (1 - np.float32(1 - 10 ** (-8 / 20)) * gate(10, SECONDS))
    stems = {"bass": thin, "guitar": band_of_two["guitar"] + band_of_two["bass"] - thin}
    (finding,) = [one for one in found(sum(band_of_two.values()), stems) if one.kind == "thin_high"]
    assert finding.value == pytest.approx(8.0, abs=0.7)
    assert finding.start_s >= 4.0
    assert finding.end_s == SECONDS


@pytest.mark.parametrize("rate_hz", [0.7, 1.2, 2.0])
def test_a_swelling_bass(band_of_two, rate_hz):
    time = np.arange(SECONDS * RATE) / RATE
    swell = 10 ** (6 * np.sin(2 * np.pi * rate_hz * time) / 20)
    stems = {**band_of_two, "bass": (band_of_two["bass"] * swell).astype(np.float32)}
    swelling = [one for one in found(sum(band_of_two.values()), stems) if one.kind == "swelling"]
    assert [one.stem for one in swelling] == ["bass"]
    assert swelling[0].end_s - swelling[0].start_s > 15
    assert not [one for one in found(stems["bass"] + band_of_two["guitar"], stems) if one.kind == "swelling"]


def test_a_phantom_has_its_place(band_of_two):
    """From 12 s to 18 s nobody plays the bass: what its stem holds there is guitar."""
    rest = gate(12, 18)
    bass = band_of_two["bass"] * (1 - rest)
    leak = np.float32(0.3) * rest * band_of_two["guitar"]
    stems = {"bass": bass + leak, "guitar": band_of_two["guitar"] - leak}
    (finding,) = [one for one in found(bass + band_of_two["guitar"], stems) if one.kind == "phantom"]
    assert (finding.stem, finding.partner) == ("bass", "guitar")
    assert 11.9 < finding.start_s < 14.5
    assert 16.0 < finding.end_s < 18.5
    assert "bass is heard where the mixture has nothing of it" in finding.message


def test_a_loud_residual(band_of_two):
    rng = np.random.default_rng(1)
    third = band(rng, 500, 4000, gain=0.07)
    finding = only(found(sum(band_of_two.values()) + third, band_of_two), "residual_loud")
    level_db = 20 * math.log10(np.linalg.norm(third) / np.linalg.norm(sum(band_of_two.values()) + third))
    assert finding.value == pytest.approx(level_db, abs=0.7)
    assert finding.stem == "residual"
    assert not found(band_of_two["guitar"], {"minus_bass": band_of_two["guitar"] * 0.1})


def test_clipping_offset_and_silence(band_of_two):
    mixture = sum(band_of_two.values())
    top = np.float32(0.7 * np.abs(band_of_two["guitar"]).max())
    finding = only(found(mixture, {**band_of_two, "guitar": np.clip(band_of_two["guitar"], -top, top)}), "clipping")
    assert finding.stem == "guitar"
    offset = np.array([[0.0], [0.01]], np.float32)
    finding = only(found(mixture, {**band_of_two, "guitar": band_of_two["guitar"] + offset}), "dc_offset")
    assert finding.value == pytest.approx(-40.0, abs=0.1)
    finding = only(found(mixture, {"drums": np.zeros_like(mixture)}), "silent")
    assert (finding.stem, finding.value) == ("drums", 200.0)
    assert not found(np.zeros_like(mixture), {"drums": np.zeros_like(mixture)})


@pytest.mark.parametrize("frames", [1, 2, 100, 5000])
@pytest.mark.parametrize("sample_rate", [8000, 48000, 96000])
def test_very_short_and_silent_signals_are_no_fault(frames, sample_rate):
    for samples in (np.zeros((1, frames)), np.full((1, frames), 1e-6)):
        stems = {name: Audio(samples / 2, sample_rate).reader() for name in ("bass", "guitar")}
        assert diagnose(Audio(samples, sample_rate).reader(), stems) == ()


@given(st.lists(st.integers(1, 200_000), min_size=1, max_size=3))
@settings(max_examples=5, deadline=None)
def test_findings_do_not_depend_on_blocks(band_of_two, sizes):
    stems = {"bass": band_of_two["bass"] + np.float32(0.3) * band_of_two["guitar"], "guitar": band_of_two["guitar"]}

    def reader(samples):
        def blocks(_):
            first = 0
            while first < samples.shape[1]:
                for size in sizes:
                    size = max(size, 5000)
                    if first < samples.shape[1]:
                        yield samples[:, first : first + size]
                    first += size

        return Reader(RATE, 2, samples.shape[1], blocks)

    mixture = sum(band_of_two.values())
    pieces = diagnose(reader(mixture), {name: reader(samples) for name, samples in stems.items()})
    whole = found(mixture, stems)
    assert [(one.kind, one.start_s, one.end_s) for one in pieces] == [
        (one.kind, one.start_s, one.end_s) for one in whole
    ]
    assert [one.value for one in pieces] == pytest.approx([one.value for one in whole], rel=1e-3)


def test_every_kind_says_a_sentence():
    for kind in KINDS.values():
        sentence = kind.sentence.format(stem="bass", partner="guitar", value=1.0)
        assert not re.search(r"[{}]", sentence)
        assert kind.serious >= kind.threshold


# ------------------------------------------------------------------------------------------------------------ folders


@pytest.fixture
def folder(tmp_path, band_of_two):
    """A folder of stems from elsewhere: guitar bleeds into the bass."""
    leaked = {**band_of_two, "bass": band_of_two["bass"] + np.float32(0.3) * band_of_two["guitar"]}
    for name, samples in {**leaked, "mixture": sum(band_of_two.values())}.items():
        write(tmp_path / f"{name}.wav", Audio(samples, RATE))
    return tmp_path


def test_a_folder_from_elsewhere(folder, band_of_two):
    stems = {name: read(folder / f"{name}.wav").samples for name in ("bass", "guitar")}
    expected = found(sum(band_of_two.values()), stems)
    assert diagnose_folder(folder) == expected
    assert {"bleeding", "residual_loud"} == {one.kind for one in expected}
    (folder / "mixture.wav").rename(folder.parent / "song.wav")
    assert diagnose_folder(folder, folder.parent / "song.wav") == expected
    assert {one.kind for one in diagnose_folder(folder)} == {"bleeding"}


def test_a_stem_that_is_not_finite_is_told_and_left_out(folder):
    import soundfile

    broken = read(folder / "bass.wav").samples.T.copy()
    broken[3 * RATE] = np.nan
    soundfile.write(folder / "bass.wav", broken, RATE, "FLOAT")
    finding = diagnose_folder(folder)[0]
    assert (finding.kind, finding.stem, finding.value, finding.severity) == ("non_finite", "bass", 3.0, "error")
    assert finding.message == "bass holds NaN or infinity, first at 3.000 s"
    soundfile.write(folder / "guitar.wav", broken, RATE, "FLOAT")
    assert [one.stem for one in diagnose_folder(folder)] == ["bass", "guitar"]


def test_stems_that_do_not_belong_to_the_mixture_are_refused(folder):
    write(folder / "mixture.wav", Audio(np.ones((2, RATE), np.float32), RATE))
    with pytest.raises(AudioError, match=r"bass has frames = 882000, its mixture 44100: give the mixture"):
        diagnose_folder(folder)
    with pytest.raises(OutputError, match="no such folder"):
        diagnose_folder(folder / "nowhere")


def test_a_render_says_what_is_wrong_with_it(folder):
    outcome = gbsep.render(folder / "mixture.wav", "exp002", folder / "out")
    record = json.loads((outcome.folder / "render.json").read_text())
    findings = diagnose_folder(outcome.folder)
    assert [Finding(**told) for told in record["diagnoses"]] == list(findings)
    assert "phantom" not in {one.kind for one in findings}
    write(outcome.files["bass"], Audio(np.zeros((2, SECONDS * RATE), np.float32), RATE))
    assert "silent" in {one.kind for one in diagnose_folder(outcome.folder)}


def test_the_command_lists_findings(folder):
    told = CliRunner().invoke(cli, ["diagnose", str(folder), "--json"], obj={"debug": True}).stdout
    assert [Finding(**one) for one in json.loads(told)] == list(diagnose_folder(folder))
    shown = CliRunner().invoke(cli, ["diagnose", str(folder)], obj={"debug": True}).stdout
    assert "guitar bleeds into bass" in shown
    assert "0:00.0" in shown
