"""Scores and takes for training: parts in their range, ways of playing, voices."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gbsep.audio import Audio
from gbsep.io.formats import OutputFormat
from gbsep.io.write import write
from gbsep.train import generator, instruments, scores, styles
from gbsep.train.instruments import SAMPLE_RATE, Instrument

from .band import BAND, hz, loudest_hz


@given(st.integers(0, 10_000), st.floats(2, 20), st.integers(0, 2), st.sampled_from(scores.MANNERS))
@settings(max_examples=60, deadline=None)
def test_every_part_stays_in_its_range_and_in_the_song(seed, seconds, guitars, manner):
    song = scores.compose(np.random.default_rng(seed), seconds, guitars, manner)
    assert len(song.parts) == 1 + guitars
    for part, role in zip(song.parts, ["bass", "guitar", "guitar"], strict=False):
        low, high = (instruments.RANGES if manner == "agile" else scores.USUAL_RANGES)[role]
        for note in part:
            assert 0 <= note.start_s < seconds
            assert note.duration_s > 0
            assert low <= note.pitch <= high
            assert all(low <= note.pitch + up <= high and 0 < after <= note.duration_s for after, up in note.then)
            assert 0 < note.velocity <= 1


def test_songs_differ_in_their_playing():
    songs = [scores.compose(np.random.default_rng(seed), 16, 2) for seed in range(40)]
    notes_per_s = [len(song.parts[1]) / 16 for song in songs]
    assert np.quantile(notes_per_s, 0.9) > 4 * max(np.quantile(notes_per_s, 0.1), 0.1)
    assert any(note.mute for song in songs for note in song.parts[1])
    assert any(note.slide_from for song in songs for note in song.parts[0])


@given(st.integers(0, 10_000), st.integers(0, 11), st.sampled_from(list(scores.SCALES)), st.integers(0, 6))
@settings(max_examples=40, deadline=None)
def test_ways_of_playing_in_plain_songs(seed, key, scale, degree):
    rhythm = [(0.0, 1.5), (1.5, 0.5), (2.0, 2.0)]
    tonality = styles.Tonality(key, scores.SCALES[scale])
    bar = styles.Bar(np.random.default_rng(seed), "bass", 8.0, 0, tonality, degree, 0, rhythm, [], 33, 0.8, 0.0, 0,
                     scores.USUAL_RANGES["bass"])  # fmt: skip
    root = tonality.pitch(degree, 33)
    line = styles.BASS_STYLES["quavers"].play(bar)
    starts = [note.start_s for note in line]
    assert starts == sorted(set(starts))
    assert starts[0] == 8.0
    assert line[-1].start_s + line[-1].duration_s <= 12.0
    assert {(note.pitch - root) % 12 for note in line} <= {0, 7, 10}
    chords = styles.GUITAR_STYLES["barre"].play(
        replace(bar, role="guitar", near=52, compass=scores.USUAL_RANGES["guitar"])
    )
    for start, _ in rhythm:
        strings = [note.pitch for note in chords if start <= note.start_s - 8.0 < start + 0.4]
        assert 3 <= len(strings) <= 6
        assert strings == sorted(strings)
        assert 40 <= strings[0] < 52
        assert (strings[0] - root) % 12 == 0
        steps = {(note - key) % 12 for note in strings}
        assert steps <= set(scores.SCALES[scale])


@given(st.integers(0, 10_000), st.integers(0, 2**31 - 1), st.sampled_from(["bass", "guitar"]))
@settings(max_examples=60, deadline=None)
def test_a_run_leaves_its_register_and_mostly_comes_back(seed, voicing, role):
    near, compass = (28, instruments.RANGES["bass"]) if role == "bass" else (69, (38, 86))
    tonality = styles.Tonality(4, scores.SCALES["minor"])
    bars = [
        styles.Bar(np.random.default_rng(seed), role, 4.0 * number, number, tonality, 0, 0, [], [], near, 0.8, 0.0,
                   voicing, compass)
        for number in range(styles.SECTION_BARS)
    ]  # fmt: skip
    pitches = np.array([note.pitch for bar in bars for note in styles.BASS_STYLES["run"].play(bar)])
    away = pitches - near if role == "bass" else near - pitches
    assert away[0] <= 4
    assert away.max() >= 8
    # A quarter of the way to the top in a beat, a note above the line, and the distance to the scale below.
    assert np.abs(np.diff(pitches)).max() <= 13
    assert compass[0] <= pitches.min()
    assert pitches.max() <= compass[1]


def test_agile_songs_leave_the_registers_and_share_riffs_and_silences():
    songs = [scores.compose(np.random.default_rng(seed), 16, 2, "agile") for seed in range(120)]
    bass, guitar = ([note for song in songs for note in song.parts[part]] for part in (0, 1))
    assert max(note.pitch for note in bass) >= 64
    assert min(note.pitch for note in guitar) <= 34
    assert {note.harmonic for note in bass} == {1, 2, 3, 4}
    for field in ("snap", "mute", "then"):
        assert any(getattr(note, field) for note in bass)
    in_unison = 0
    for song in songs:
        one, other = ([(round(note.start_s, 1), note.pitch % 12) for note in part] for part in song.parts[:2])
        in_unison += len(set(one) & set(other)) > 0.4 * max(len(set(one)), 1)
    assert in_unison > 12
    assert np.mean([not song.parts[0] for song in songs]) == pytest.approx(0.11, abs=0.08)
    assert np.mean([not any(song.parts[1:]) for song in songs]) == pytest.approx(0.17, abs=0.1)


def test_parts_play_in_the_styles_that_are_asked_for():
    song = scores.compose(np.random.default_rng(1), 16, 2, "agile", ("slap", "chug", None))
    bass, guitar, other = song.parts
    assert min(note.snap for note in bass) > 0
    assert max(note.pitch for note in guitar if note.mute) <= 41
    assert len(other) > 0


def test_manners_are_shares_of_all(monkeypatch):
    manners: list[str] = []

    def compose(rng, seconds, guitars, manner):
        manners.append(manner)
        return scores.Song(seconds, ((),) * (1 + guitars))

    monkeypatch.setattr(generator, "compose", compose)
    for agile, plain in ((0.0, 0.0), (0.0, 0.6), (0.5, 0.6), (1.0, 0.6)):
        list(islice(generator.takes(1, BAND, 1.0, plain=plain, agile=agile), 200))
        assert np.mean([one == "agile" for one in manners]) == pytest.approx(agile, abs=0.1)
        assert np.mean([one == "plain" for one in manners]) == pytest.approx((1 - agile) * plain, abs=0.1)
        manners.clear()


def test_one_stroke_goes_on_at_its_later_pitches(rng):
    dry = generator.play(rng, (styles.Note(0.0, 2.0, 40, 1.0, then=((1.0, 3.0),)),), BAND[0], 2.0, revoiced=False)
    for at_s, pitch in ((0.1, 40), (1.2, 43)):
        heard = loudest_hz(dry[int(at_s * SAMPLE_RATE) : int((at_s + 0.7) * SAMPLE_RATE)], 40, 300)
        assert 1200 * abs(np.log2(heard / hz(pitch))) < 60


@pytest.mark.parametrize("harmonic", [2, 3, 4])
def test_a_touched_string_sounds_from_its_partial_on(harmonic):
    time = np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE
    tone = sum(np.sin(2 * np.pi * k * hz(40) * time) / k for k in range(1, 13)).astype(np.float32)
    one = Instrument("one", "bass", "string", {40: (tone,)})
    pitch = 40 + 12 * np.log2(harmonic)
    made = generator._touched(one, styles.Note(0.0, 2.0, pitch, 1.0, harmonic=harmonic), 0.0, 2 * SAMPLE_RATE)
    assert len(made) == 2 * SAMPLE_RATE
    assert loudest_hz(made, 30, 1000) == pytest.approx(harmonic * hz(40), rel=1e-3)
    window = np.exp(2j * np.pi * hz(40) * time[: len(made)]) * np.hanning(len(made))
    assert abs(made @ window) < 0.01 * abs(tone[: len(made)] @ window)


def test_a_slapped_string_is_brighter_at_first_and_as_loud():
    tone = BAND[0].tone(np.full(SAMPLE_RATE, 40.0), 1.0)
    made = generator._snapped(np.random.default_rng(0), tone, 1.0)
    assert np.sqrt(np.mean(made**2)) == pytest.approx(np.sqrt(np.mean(tone**2)), rel=1e-3)
    rough = [np.abs(np.diff(one, 2)).max() for one in (made[:200], made[-2000:], tone[-2000:])]
    assert rough[0] > 10 * rough[2]
    assert rough[1] < 2 * rough[2]


def test_notes_sound_when_the_score_says(rng):
    part = (styles.Note(0.5, 0.3, 40, 0.9), styles.Note(1.5, 0.2, 45, 0.9))
    dry = generator.play(rng, part, BAND[0], 3.0)
    assert dry.dtype == np.float32
    assert len(dry) == 3 * SAMPLE_RATE
    at = lambda start, stop: np.abs(dry[int(start * SAMPLE_RATE) : int(stop * SAMPLE_RATE)]).max()  # noqa: E731
    assert at(0, 0.49) == 0
    assert at(0.5, 0.75) > 0.1
    assert at(1.0, 1.49) == 0
    assert at(1.5, 1.65) > 0.1


def test_a_palm_mute_is_shorter_and_darker(rng):
    tail = {}
    for mute in (0.0, 1.0):
        dry = generator.play(np.random.default_rng(0), (styles.Note(0.0, 0.5, 40, 1.0, 0.0, mute),), BAND[0], 1.0)
        tail[mute] = np.sqrt(np.mean(dry[8000:9000] ** 2))
    assert tail[1.0] < 0.1 * tail[0.0]


def test_another_voice_has_the_same_pitch_and_strength_and_other_harmonics():
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    tone = sum(np.sin(2 * np.pi * k * hz(40) * time + k) for k in range(1, 9)).astype(np.float32)
    voice = np.zeros(generator.HARMONICS + 1)
    voice[[2, 5]] = -20.0, 12.0
    made = generator._revoiced(np.random.default_rng(0), tone, 40.0, voice)
    assert made.shape == tone.shape
    assert np.sqrt(np.mean(made**2)) == pytest.approx(np.sqrt(np.mean(tone**2)), rel=1e-3)
    assert loudest_hz(made, 300, 2000) == pytest.approx(5 * hz(40), rel=1e-3)
    window = np.hanning(len(tone))
    partials = np.array([[abs((x * window) @ np.exp(2j * np.pi * k * hz(40) * time)) for k in range(1, 9)]
                         for x in (tone, made)])  # fmt: skip
    change_db = 20 * np.log10(partials[1] / partials[0])
    np.testing.assert_allclose(change_db - change_db[0], voice[1:9] - voice[1], atol=6.0)


def test_voices_differ_and_silence_stays_silent(monkeypatch):
    monkeypatch.setattr(generator, "REVOICED", 1.0)
    voices = [generator._voice(np.random.default_rng(seed)) for seed in range(20)]
    assert np.std(voices, axis=0)[1:].min() > 2
    silence = np.zeros(1000, np.float32)
    assert not generator._revoiced(np.random.default_rng(0), silence, 40.0, voices[0]).any()
    monkeypatch.setattr(generator, "REVOICED", 0.0)
    assert generator._voice(np.random.default_rng(0)) is None


def test_instruments_may_keep_their_voice(monkeypatch):
    kept = next(generator.takes(7, BAND, 2.0, revoiced=False)).stems
    for changed in ("REVOICED", "DAMPED"):
        monkeypatch.setattr(generator, changed, 1.0)
    np.testing.assert_array_equal(next(generator.takes(7, BAND, 2.0, revoiced=False)).stems, kept)
    assert np.any(next(generator.takes(7, BAND, 2.0)).stems != kept)


def test_takes_repeat_and_stay_within_full_scale():
    first, again = (list(islice(generator.takes(7, BAND, 2.0), 16)) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.stems, other.stems)
        assert one.players == other.players
        assert one.stems.shape == (3, 2 * SAMPLE_RATE)
        assert np.isfinite(one.stems).all()
        assert np.abs(one.stems).max() <= 1.0
    assert any(np.any(a.stems != b.stems) for a, b in pairwise(first))
    assert any(not take.stems[1:].any(axis=1).all() for take in first)


def test_phrases_take_the_place_of_a_score(tmp_path, monkeypatch):
    monkeypatch.setattr(generator, "PHRASED", 1.0)
    monkeypatch.setattr(generator, "BARITONE", 0.0)
    time = np.arange(44100) / 44100
    write(tmp_path / "gtr_a.flac", Audio(0.3 * np.sin(2 * np.pi * 333 * time), 44100), OutputFormat("flac"))
    (phrase,) = instruments.phrases(tmp_path)
    assert np.sqrt(np.mean(phrase**2)) == pytest.approx(0.1, rel=1e-3)
    for take in islice(generator.takes(3, BAND, 4.0, [phrase]), 3):
        assert take.players == ("sine_bass", "phrases", "sine_guitar")
        if take.stems[1].any():
            semitones = 12 * np.log2(loudest_hz(take.stems[1], 100, 600) / 333)
            assert abs(semitones - round(semitones)) < 0.1
            assert abs(semitones) < generator.PHRASE_UP + 0.1
