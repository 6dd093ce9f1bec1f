"""Training: what is rendered is in tune and in place, batches add up, and a run cut in two is the run in one."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections import deque
from dataclasses import replace
from fractions import Fraction
from importlib import import_module
from inspect import signature
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gbsep.audio import Audio
from gbsep.errors import AudioFileError, BackendError, BackendNotInstalled, OutputError, ParameterError
from gbsep.io.formats import OutputFormat
from gbsep.io.read import read
from gbsep.io.resample import resample
from gbsep.io.write import write
from gbsep.models.package import Package, load_package
from gbsep.separation.compact import network as compact_network
from gbsep.separation.compact import weights as compact_weights
from gbsep.separation.compact.config import Config, config_from
from gbsep.separation.weights import own_models
from gbsep.store.identity import content_hash
from gbsep.train import finetune, generator, instruments, loop, mixing, objective, pool, pruning, scores
from gbsep.train.instruments import SAMPLE_RATE, Instrument

from .helpers import exit_code

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


# Instruments


@pytest.mark.parametrize("pitch", [30.0, 41.3, 47.9])
def test_a_tone_is_in_tune_between_the_sampled_pitches(pitch):
    tone = BAND[0].tone(np.full(SAMPLE_RATE, pitch), 1.0)
    assert 1200 * abs(np.log2(loudest_hz(tone, 20, 500) / hz(pitch))) < 3


@pytest.mark.parametrize("bend", [-5.0, 3.3, 12.0])
def test_an_instrument_of_another_size_plays_other_samples_and_stays_in_tune(bend):
    other = replace(BAND[0], bend=bend)
    assert 1200 * abs(np.log2(loudest_hz(other.tone(np.full(SAMPLE_RATE, 41.3), 1.0), 20, 500) / hz(41.3))) < 3
    levels = {pitch: (np.full(200, pitch, np.float32),) for pitch in range(20, 60)}
    one = Instrument("one", "bass", "string", levels, bend)
    assert one.tone(np.full(50, 40.0), 1.0)[10] == round(40 - bend)


def test_a_baritone_is_a_guitar_an_octave_lower(monkeypatch):
    monkeypatch.setattr(generator, "BARITONE", 1.0)
    monkeypatch.setattr(generator, "BENT", 0.0)
    players = [take.players for take in islice(generator.takes(1, BAND, 2.0), 3)]
    assert players == [("sine_guitar",) * 3] * 3


def test_a_slide_arrives_at_its_pitch():
    glide = 40 - 5 * np.exp(-np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE / 0.04)
    tone = BAND[0].tone(glide, 1.0)
    assert loudest_hz(tone[:1000], 20, 300) < 0.95 * hz(40)
    assert 1200 * abs(np.log2(loudest_hz(tone[SAMPLE_RATE:], 20, 500) / hz(40))) < 3


def test_velocity_picks_the_layer():
    layers = tuple(np.full(100, level, np.float32) for level in (0.1, 0.2, 0.3))
    one = Instrument("one", "bass", "string", {40: layers})
    heard = [one.tone(np.full(50, 40.0), velocity)[10] for velocity in (0.0, 0.4, 0.99, 1.0)]
    np.testing.assert_allclose(heard, [0.1, 0.2, 0.3, 0.3], rtol=1e-6)


@pytest.mark.parametrize("role", ["bass", "guitar"])
def test_the_strings_partials_lie_where_a_stiff_string_has_them(role):
    made = instruments.plucked_string(np.random.default_rng(3), role, "a")
    stiffness = 10 ** np.random.default_rng(3).uniform(-5.0, -3.6)
    pitch = sorted(made.notes)[3]
    note = made.notes[pitch][-1][:SAMPLE_RATE]
    f0 = loudest_hz(note, 0.95 * hz(pitch), 1.05 * hz(pitch)) / np.sqrt(1 + stiffness)
    for k in (2, 3, 4):
        wanted = k * f0 * np.sqrt(1 + stiffness * k**2)
        assert 1200 * abs(np.log2(loudest_hz(note, 0.97 * wanted, 1.03 * wanted) / wanted)) < 8


def test_a_string_dies_away_and_its_treble_first():
    note = instruments.plucked_string(np.random.default_rng(5), "bass", "a").notes[28][-1]
    early, late = (np.abs(np.fft.rfft(note[at : at + 8192])) for at in (2000, 40_000))
    split = int(400 / (SAMPLE_RATE / 8192))
    assert np.sum(late**2) < np.sum(early**2)
    assert np.sum(late[split:] ** 2) / np.sum(late**2) < np.sum(early[split:] ** 2) / np.sum(early**2)


def test_recorded_notes_begin_at_their_onset(tmp_path):
    rows = ["file,instrument,family,artic,midi,vel_layer,onset_s"]
    for pitch in range(40, 48):
        for layer in (2, 1):
            note = np.zeros(22050, np.float32)
            note[2205:] = 0.1 * layer
            write(tmp_path / f"{pitch}_{layer}.wav", Audio(note, 44100), OutputFormat())
            rows.append(f"{pitch}_{layer}.wav,axe,guitar,sus,{pitch},{layer},0.05")
    (tmp_path / "index.csv").write_text("\n".join(rows))
    (made,) = instruments.recorded(tmp_path)
    assert (made.name, made.role, made.kind, sorted(made.notes)) == ("axe", "guitar", "recorded", list(range(40, 48)))
    soft, loud = made.notes[40]
    assert len(loud) == pytest.approx(SAMPLE_RATE * 0.45, abs=2)
    np.testing.assert_allclose(soft[1000:3000] * 2, loud[1000:3000], rtol=1e-3)


def test_written_notes_read_back(tmp_path, monkeypatch):
    monkeypatch.setattr(instruments, "NOTE_S", 0.5)
    band = list(instruments.plucked_strings(1, 1))
    instruments.write_notes(tmp_path, band)
    back = instruments.recorded(tmp_path)
    assert [(one.name, one.role, one.kind) for one in back] == [(one.name, one.role, one.kind) for one in band]
    for one, other in zip(back, band, strict=True):
        assert sorted(one.notes) == sorted(other.notes)
        for pitch, layers in other.notes.items():
            for note, wanted in zip(one.notes[pitch], layers, strict=True):
                np.testing.assert_allclose(note, wanted, atol=1e-3 * np.abs(wanted).max() + 1e-3)


def test_a_folder_without_index_is_told(tmp_path):
    with pytest.raises(AudioFileError, match=r"index.csv: no such index"):
        instruments.recorded(tmp_path)


def test_soundfonts_need_fluidsynth(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(BackendNotInstalled, match="fluidsynth"):
        instruments.soundfont(tmp_path / "a.sf2")


@pytest.mark.parametrize(("content", "told"), [(None, "no such soundfont"), (b"RIFF\0\0\0\0WAVE", "no soundfont")])
def test_what_is_no_soundfont_is_told(tmp_path, monkeypatch, content, told):
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/false")
    if content is not None:
        (tmp_path / "a.sf2").write_bytes(content)
    with pytest.raises(AudioFileError, match=rf"a\.sf2: {told}"):
        instruments.soundfont(tmp_path / "a.sf2")


def test_a_folder_without_phrases_is_told(tmp_path):
    with pytest.raises(AudioFileError, match="no phrases here"):
        instruments.phrases(tmp_path)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "no bass and no guitar among the instruments"),
        (["--notes", "nowhere"], "index.csv: no such index"),
        (["--strings", "1", "--phrases", "nowhere"], "no phrases here"),
    ],
)
def test_the_training_script_tells_what_it_lacks(tmp_path, options, told):
    script = Path(__file__).parents[1] / "scripts" / "train.py"
    command = [sys.executable, str(script), "render", str(tmp_path / "pool"), *options]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ran.returncode == 1
    assert told in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not list(tmp_path.iterdir())


def test_the_midi_file_says_what_is_played():
    made = instruments._midi_file(33, [(40, 100), (43, 50)])
    assert made[:14] == b"MThd\0\0\0\6\0\0\0\1\0\xfa"
    assert int.from_bytes(made[18:22], "big") == len(made) - 22
    # 1425 ticks held = 0x8B 0x11, then 75 ticks of silence = 0x4B.
    assert made[22:] == (b"\0\xc0\x21\0\x90\x28\x64\x8b\x11\x80\x28\0\x4b\x90\x2b\x32\x8b\x11\x80\x2b\0\x4b\xff\x2f\0")


def test_a_soundfont_plays_the_pitches_it_is_asked_for(monkeypatch):
    font = "/usr/share/sounds/sf2/FluidR3_GM.sf2"
    if not (shutil.which("fluidsynth") and Path(font).is_file()):
        pytest.skip("needs fluidsynth and the soundfont FluidR3_GM")
    monkeypatch.setattr(instruments, "PROGRAMS", {"bass": [34]})
    (bass,) = instruments.soundfont(Path(font))
    assert (bass.name, bass.role, bass.kind) == ("FluidR3_GM_034", "bass", "soundfont")
    for pitch in (36, 48):
        heard = loudest_hz(bass.notes[pitch][-1][2000:40_000], 0.9 * hz(pitch), 1.1 * hz(pitch))
        assert 1200 * abs(np.log2(heard / hz(pitch))) < 25


# Scores and takes


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
    tonality = scores.Tonality(key, scores.SCALES[scale])
    bar = scores.Bar(np.random.default_rng(seed), "bass", 8.0, 0, tonality, degree, 0, rhythm, [], 33, 0.8, 0.0, 0,
                     scores.USUAL_RANGES["bass"])  # fmt: skip
    root = tonality.pitch(degree, 33)
    line = scores._quavers(bar)
    starts = [note.start_s for note in line]
    assert starts == sorted(set(starts))
    assert starts[0] == 8.0
    assert line[-1].start_s + line[-1].duration_s <= 12.0
    assert {(note.pitch - root) % 12 for note in line} <= {0, 7, 10}
    chords = scores._barre(replace(bar, role="guitar", near=52, compass=scores.USUAL_RANGES["guitar"]))
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
    tonality = scores.Tonality(4, scores.SCALES["minor"])
    bars = [
        scores.Bar(np.random.default_rng(seed), role, 4.0 * number, number, tonality, 0, 0, [], [], near, 0.8, 0.0,
                   voicing, compass)
        for number in range(scores.SECTION_BARS)
    ]  # fmt: skip
    pitches = np.array([note.pitch for bar in bars for note in scores._run(bar)])
    away = pitches - near if role == "bass" else near - pitches
    assert away[0] <= 4
    assert away.max() >= 8
    assert np.abs(np.diff(pitches)).max() <= 11
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
    dry = generator.play(rng, (scores.Note(0.0, 2.0, 40, 1.0, then=((1.0, 3.0),)),), BAND[0], 2.0, revoiced=False)
    for at_s, pitch in ((0.1, 40), (1.2, 43)):
        heard = loudest_hz(dry[int(at_s * SAMPLE_RATE) : int((at_s + 0.7) * SAMPLE_RATE)], 40, 300)
        assert 1200 * abs(np.log2(heard / hz(pitch))) < 60


@pytest.mark.parametrize("harmonic", [2, 3, 4])
def test_a_touched_string_sounds_from_its_partial_on(harmonic):
    time = np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE
    tone = sum(np.sin(2 * np.pi * k * hz(40) * time) / k for k in range(1, 13)).astype(np.float32)
    one = Instrument("one", "bass", "string", {40: (tone,)})
    pitch = 40 + 12 * np.log2(harmonic)
    made = generator._touched(one, scores.Note(0.0, 2.0, pitch, 1.0, harmonic=harmonic), 0.0, 2 * SAMPLE_RATE)
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
    part = (scores.Note(0.5, 0.3, 40, 0.9), scores.Note(1.5, 0.2, 45, 0.9))
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
        dry = generator.play(np.random.default_rng(0), (scores.Note(0.0, 0.5, 40, 1.0, 0.0, mute),), BAND[0], 1.0)
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


# Pools


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pool")
    patch = pytest.MonkeyPatch()
    patch.setattr(pool, "TAKES_PER_SHARD", 4)
    patch.setattr(pool, "TAKE_S", 4.0)
    for number in (0, 1):
        pool.write_shard(folder, number, 5, BAND, SMALL.sample_rate)
    patch.undo()
    return folder


def test_a_pool_holds_what_was_rendered(shard):
    whole = pool.load([shard], SMALL.sample_rate)
    assert whole.stems.shape == (8, 3, 4 * SMALL.sample_rate)
    assert whole.stems.dtype == np.int16
    assert len(whole.players) == 8
    assert set(whole.players[0]) == {"sine_bass", "sine_guitar"}
    take = next(generator.takes(5 * 100_003 + 1, BAND, 4.0))
    wanted = resample(Audio(take.stems[0], SAMPLE_RATE).reader(), SMALL.sample_rate).read().samples[0]
    np.testing.assert_allclose(whole.stems[4, 0] / pool.FULL_SCALE, wanted, atol=1e-4)
    assert len(pool.load([shard], SMALL.sample_rate, shards=1).stems) == 4


def test_a_shard_that_is_there_is_kept(shard):
    path = shard / "0000.npy"
    before = path.stat().st_mtime_ns
    pool.write_shard(shard, 0, 99, BAND, SMALL.sample_rate)
    assert path.stat().st_mtime_ns == before


def test_pools_that_do_not_fit_are_told(shard, tmp_path):
    with pytest.raises(AudioFileError, match=r"rendered at 8000 Hz, the network works at 6000 Hz"):
        pool.load([shard], 6000)
    with pytest.raises(AudioFileError, match="no rendered stems"):
        pool.load([tmp_path], 8000)


def test_finished_songs_become_takes(tmp_path, rng):
    parts = {name: 0.1 * rng.standard_normal((2, 8000 * 20)) for name in ("bass", "guitar1", "guitar2")}
    song = tmp_path / "a song"
    song.mkdir()
    for name, samples in parts.items():
        write(song / f"{name}.wav", Audio(samples, 8000), OutputFormat())
    made = pool.from_songs(tmp_path, SMALL)
    assert made.stems.shape == (2, 3, 128_000)
    flat = made.stems.swapaxes(0, 1).reshape(3, -1)[:, : 8000 * 20] / pool.FULL_SCALE
    gain = np.vdot(flat[0], parts["bass"].mean(0)) / np.vdot(parts["bass"].mean(0), parts["bass"].mean(0))
    np.testing.assert_allclose(flat[0], gain * parts["bass"].mean(0), atol=1e-4)
    np.testing.assert_allclose(flat[1], gain * (parts["guitar1"] + parts["guitar2"]).mean(0), atol=1e-4)
    np.testing.assert_array_equal(made.stems[1, :, 32_000:], made.stems[0, :, :96_000])


def test_a_silent_song_has_nothing_to_teach(tmp_path):
    (tmp_path / "hush").mkdir()
    for name in ("bass", "guitar"):
        write(tmp_path / "hush" / f"{name}.wav", Audio(np.zeros(8000), 8000), OutputFormat())
    with pytest.raises(AudioFileError, match=r"hush: its stems are silent: .*leave it out"):
        pool.from_songs(tmp_path, SMALL)


@pytest.mark.parametrize("cents", [-45, 0, 30])
def test_finished_songs_are_learned_from_in_tune(tmp_path, cents):
    (tmp_path / "a song").mkdir()
    time = np.arange(14 * SMALL.sample_rate) / SMALL.sample_rate
    for name, pitch in (("bass", 57), ("guitar", 73)):
        tone = Audio(0.1 * np.sin(2 * np.pi * hz(pitch + cents / 100) * time), SMALL.sample_rate)
        write(tmp_path / "a song" / f"{name}.wav", tone, OutputFormat())
    stems = pool.from_songs(tmp_path, SMALL).stems[0, :2, : 8 * SMALL.sample_rate] / pool.FULL_SCALE
    loudest = np.abs(np.fft.rfft(stems * np.hanning(stems.shape[1]))).argmax(axis=1) / 8
    np.testing.assert_allclose(1200 * np.log2(loudest / [hz(57), hz(73)]), 0, atol=4)
    np.testing.assert_allclose(np.sqrt(np.mean(stems**2, axis=1)), 0.1 / np.sqrt(2), rtol=0.02)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no songs here"),
        (["bass"], "no guitar"),
        (["guitar"], r"0 files are named bass"),
        (["bass", "guitar"], "equally long"),
    ],
)
def test_songs_that_lack_something_are_told(names, message, tmp_path):
    for number, name in enumerate(names):
        (tmp_path / "a").mkdir(exist_ok=True)
        write(tmp_path / "a" / f"{name}.wav", Audio(np.zeros(100 + number), 8000), OutputFormat())
    with pytest.raises(AudioFileError, match=message):
        pool.from_songs(tmp_path, SMALL)


# Batches


@pytest.fixture(scope="module")
def sources(shard):
    drums = [np.random.default_rng(0).integers(-3000, 3000, 5000).astype(np.int16)]
    return mixing.on_device(pool.load([shard], SMALL.sample_rate), drums, SMALL.sample_rate, "cpu")


def test_a_batch_depends_on_seed_and_step_alone(sources):
    first, again = (mixing.batch(sources, 1, 5, 4, 2.0) for _ in range(2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], mixing.batch(sources, 1, 6, 4, 2.0)[0])
    assert not torch.equal(first[0], mixing.batch(sources, 2, 5, 4, 2.0)[0])


def test_batches_cover_what_they_promise(sources):
    mixture, bass = (
        torch.cat(parts) for parts in zip(*(mixing.batch(sources, 0, n, 64, 1.0) for n in range(6)), strict=True)
    )
    guitar = mixture - bass
    power = lambda x: x.square().sum(dim=1)  # noqa: E731
    assert mixture.shape == bass.shape == (384, 8000)
    assert mixture.isfinite().all()
    assert 0.02 < (power(bass) < 1e-9 * power(mixture)).float().mean() < 0.4
    assert (power(guitar) < 1e-9 * power(mixture)).any()
    both = (power(bass) > 0) & (power(guitar) > 0)
    balance_db = 10 * (power(bass[both]) / power(guitar[both])).log10()
    assert balance_db.quantile(0.05) < -7
    assert balance_db.quantile(0.95) > 7


def test_without_drums_and_guitars_the_mixture_is_the_bass(sources):
    alone = mixing.Sources(sources.stems.clone(), torch.zeros_like(sources.drums), sources.sample_rate)
    alone.stems[:, 1:] = 0
    mixture, bass = mixing.batch(alone, 0, 0, 8, 2.0)
    torch.testing.assert_close(mixture, bass)


def test_drive_adds_harmonics_alone_and_keeps_the_level(monkeypatch):
    monkeypatch.setattr(mixing, "BASS_DRIVEN", 1.0)
    monkeypatch.setattr(mixing, "GUITAR_DRIVEN", 0.0)
    monkeypatch.setattr(mixing, "DRIVE_DB", (20.0, 20.0))
    dry = torch.sin(2 * torch.pi * 700 * torch.arange(8000) / 8000).repeat(4, 3, 1)
    made = mixing._driven(np.random.default_rng(0), dry.clone(), 8000)
    assert torch.equal(made[:, 1:], dry[:, 1:])
    torch.testing.assert_close(made.square().mean(dim=-1), dry.square().mean(dim=-1))
    powers = torch.fft.rfft(made[:, 0]).abs().square()
    harmonics = powers[:, 700::700]
    assert (harmonics[:, 2] > 0.01 * harmonics[:, 0]).all()
    assert (harmonics.sum(dim=1) > 0.999 * powers.sum(dim=1)).all()


def test_finished_songs_are_not_driven(sources, monkeypatch):
    finished = replace(sources, finished=True)
    played = mixing.batch(finished, 0, 0, 2, 1.0)[0]
    monkeypatch.setattr(mixing, "BASS_DRIVEN", 1.0)
    assert torch.equal(mixing.batch(finished, 0, 0, 2, 1.0)[0], played)
    assert not torch.equal(mixing.batch(sources, 0, 0, 2, 1.0)[0], played)


def test_a_side_pauses_in_one_stretch_and_the_other_plays_on(monkeypatch):
    monkeypatch.setattr(mixing, "PAUSE", 1.0)
    playing = mixing._playing(np.random.default_rng(0), (600, 4), 800, 400)
    assert playing.dtype == np.float32
    assert playing.min() == 0
    assert playing.max() == 1
    assert (playing[:, -1] == 1).all()
    bass, first, second = (playing[:, stem] for stem in range(3))
    np.testing.assert_array_equal(first, second)
    rests = [(stem < 0.5).sum(axis=1) for stem in (bass, first)]
    assert ((rests[0] > 0) != (rests[1] > 0)).all()
    assert 1.5 < (rests[0] > 0).sum() / (rests[1] > 0).sum() < 2.7
    for row in (np.minimum(bass, first) < 0.5).astype(int):
        assert (np.diff(row) == 1).sum() <= 1
    monkeypatch.setattr(mixing, "PAUSE", 0.0)
    assert (mixing._playing(np.random.default_rng(0), (9, 4), 8000, 8000) == 1).all()


# Smaller networks

BLOCKY = replace(SMALL, widths=(8, 16, 24), dilations=((1, 1), (2, 2)))


def with_dead_channels(dead: int) -> compact_network.Weights:
    """A network in whose blocks the last `dead` channels never open."""
    weights = compact_network.new_weights(BLOCKY, 0)
    weights["out.weight"] *= 20
    for name, (_, inside) in BLOCKY.blocks.items():
        weights[f"{name}.a.bias"][inside - min(dead, inside - 1) :] = -1e3
    return weights


def test_what_never_sounds_is_left_out_and_nothing_changes(sources):
    mixture, _ = mixing.batch(sources, 0, 0, 2, 1.0)
    weights = with_dead_channels(8)
    channels = pruning.kept_channels(BLOCKY, weights, mixture, 1.0)
    config, smaller = pruning.pruned(BLOCKY, weights, channels)
    assert config.inner == (8, 16, 16, 8, 8)
    assert {name: value.shape for name, value in smaller.items()} == {
        name: value.shape for name, value in compact_network.new_weights(config, 1).items()
    }
    spectra = compact_network.spectrum(BLOCKY, mixture)
    usual, made = (compact_network.bass_spectrum(*one, spectra) for one in ((BLOCKY, weights), (config, smaller)))
    torch.testing.assert_close(made, usual, atol=1e-5, rtol=1e-4)


def test_less_is_kept_of_a_smaller_part_and_the_file_says_so(sources, tmp_path):
    mixture, _ = mixing.batch(sources, 0, 0, 2, 1.0)
    weights = with_dead_channels(0)
    counts = []
    for keep in (0.99, 0.6, 0.01):
        config, smaller = pruning.pruned(BLOCKY, weights, pruning.kept_channels(BLOCKY, weights, mixture, keep))
        counts.append(sum(config.inner))
        compact_weights.save(tmp_path / "a.safetensors", config, smaller)
        assert compact_weights.load(tmp_path / "a.safetensors")[0] == config
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == 5 * pruning.STEP < counts[0]


@pytest.mark.parametrize("keep", [0.0, -1.0, 1.01, float("nan")])
def test_a_part_is_above_zero_and_at_most_one(keep, sources):
    with pytest.raises(ParameterError, match=r"keep.*above 0, at most 1"):
        pruning.kept_channels(BLOCKY, with_dead_channels(0), mixing.batch(sources, 0, 0, 2, 1.0)[0], keep)


def test_a_smaller_network_grows_again_and_computes_what_it_did(sources):
    spectra = compact_network.spectrum(BLOCKY, mixing.batch(sources, 0, 0, 2, 1.0)[0])
    small = replace(BLOCKY, inner=(8, 16, 8, 8, 8))
    weights = compact_network.new_weights(small, 0)
    grown = compact_network.grown(small, weights, BLOCKY, 1)
    usual, made = (compact_network.bass_spectrum(*one, spectra) for one in ((small, weights), (BLOCKY, grown)))
    torch.testing.assert_close(made, usual, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("inner", [[8, 8], [8, 8, 8, 8, 0]])
def test_channels_that_fit_no_blocks_are_refused(inner):
    with pytest.raises(ValueError, match="no shape of a network"):
        config_from({"dilations": [[1, 1], [2, 2]], "inner": inner})


# The loop


def plan(**changes) -> loop.Plan:
    return replace(loop.Plan(6, batch_size=2, excerpt_s=1.0, warmup=2, cooldown=2), **changes)


def job(sources: mixing.Sources, wanted: loop.Plan, **about) -> loop.Job:
    return objective.compact_job(SMALL, compact_network.new_weights(SMALL, 0), sources, wanted, about)


@pytest.mark.parametrize("changes", [{"half": False}, {"half": True}, {"muon": False}])
def test_a_run_cut_in_two_is_the_run_in_one(changes, sources, tmp_path):
    wanted = plan(**changes)
    learnt = job(sources, wanted)
    deque(loop.run(loop.begin(learnt), learnt, wanted, tmp_path / "whole"), 0)
    first = loop.run(loop.opened(learnt, tmp_path / "cut"), learnt, wanted, tmp_path / "cut")
    assert [step for step, _ in islice(first, 3)] == [1, 2, 3]
    first.close()
    second = loop.opened(learnt, tmp_path / "cut")
    assert second.step == 3
    assert [step for step, _ in loop.run(second, learnt, wanted, tmp_path / "cut")] == [4, 5, 6]
    assert (tmp_path / "cut").read_bytes() == (tmp_path / "whole").read_bytes()
    about, step, averages = loop.averages(tmp_path / "whole")
    assert (config_from(about), step) == (SMALL, 6)
    assert {name: value.shape for name, value in averages.items()} == {
        name: value.shape for name, value in learnt.weights.items()
    }


def test_a_run_stops_when_its_time_is_over_and_keeps_its_state(sources, tmp_path):
    learnt = job(sources, plan())
    assert len(list(loop.run(loop.begin(learnt), learnt, plan(), tmp_path / "state", seconds=0))) == 1
    assert loop.averages(tmp_path / "state")[1] == 1


def test_a_state_of_another_run_is_refused(sources, tmp_path):
    path = tmp_path / "state"
    loop.save(loop.begin(job(sources, plan(), songs="a")), path)
    assert loop.opened(job(sources, plan(), songs="a"), path).step == 0
    with pytest.raises(OutputError, match=r"state: is the state of a training run with other weights"):
        loop.opened(job(sources, plan(), songs="b"), path)
    path.write_text("nothing")
    with pytest.raises(OutputError, match=r"state: is no state of a training run"):
        loop.opened(job(sources, plan()), path)


@pytest.mark.parametrize("there", [False, True])
def test_precision_is_what_the_processor_has_arithmetic_for(there, sources, monkeypatch):
    monkeypatch.setattr(objective, "computes_in_bfloat16", lambda device: there)
    weights = {name: value.requires_grad_() for name, value in compact_network.new_weights(SMALL, 0).items()}
    usual, wanted = (job(sources, plan(half=half)).loss(weights, 0)[0].item() for half in (None, there))
    assert usual == wanted
    assert usual != job(sources, plan(half=not there)).loss(weights, 0)[0].item()


def test_the_error_falls(sources):
    wanted = plan(steps=60, batch_size=4, warmup=10, cooldown=10, learning_rate=5e-3, half=False)
    learnt = job(sources, wanted)
    errors = [error for _, error in loop.train(loop.begin(learnt), learnt.loss, wanted)]
    assert np.mean(errors[-15:]) < np.mean(errors[:15]) - 1.0


def test_a_perfect_estimate_reaches_the_floor_and_half_of_the_mixture_minus_six_db(sources, monkeypatch):
    mixture, _ = mixing.batch(sources, 0, 0, 4, 1.0)
    spectra = compact_network.spectrum(SMALL, mixture)
    for estimate, truth, wanted in ((spectra, mixture, objective.FLOOR_DB), (spectra / 2, mixture, -6.02)):
        monkeypatch.setattr(compact_network, "bass_spectrum", lambda *args, estimate=estimate: estimate)
        found = objective.error_db(SMALL, {}, mixture, truth, False)
        np.testing.assert_allclose(found.numpy(), wanted, atol=0.05)


def test_a_second_counts_as_much_as_it_is_loud():
    mixture = torch.ones(1, 400)
    mixture[..., 100:200] = 1e-3
    error = 0.1 * torch.ones_like(mixture)
    error[..., 200:300] = 0
    ratio_db = objective._ratio_db(error, mixture, 100)[0]
    assert ratio_db[0] == pytest.approx(-20, abs=0.2)
    assert ratio_db[1] == pytest.approx(10 * np.log10(0.01 / (objective.QUIET * 0.75)), abs=0.1)
    assert ratio_db[2] == pytest.approx(objective.FLOOR_DB, abs=0.01)


def steps_of(muon: bool, optimisers: dict[str, torch.optim.Optimizer], weights: dict, reference: dict) -> loop.State:
    """Five steps of ours on `weights` and of torch's on `reference`, with equal gradients."""
    state = loop.begin(loop.Job({}, weights, None, None))
    wanted = plan(steps=100, warmup=0, cooldown=0, learning_rate=0.01, weight_decay=0.1, muon=muon)
    for step in range(5):
        gradients = [torch.randn(value.shape) for value in weights.values()]
        for value, gradient in zip(reference.values(), gradients, strict=True):
            value.grad = gradient.clone()
        for optimiser in optimisers.values():
            optimiser.step()
        state.step = step
        loop._update(state, wanted, list(weights), gradients)
    return state


def test_without_muon_steps_are_adamws():
    weights = {"a.bias": torch.randn(3), "a.weight": torch.randn(3, 3)}
    reference = {name: value.clone().requires_grad_(True) for name, value in weights.items()}
    groups = [
        {"params": [reference["a.weight"]], "weight_decay": 0.1},
        {"params": [reference["a.bias"]], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.99))
    state = steps_of(False, {"all": optimiser}, weights, reference)
    for name, value in reference.items():
        torch.testing.assert_close(state.weights[name], value.detach())


@pytest.mark.parametrize("shape", [(4, 12), (12, 4), (6, 2, 3, 3)])
def test_muon_makes_kernels_orthogonal_with_the_size_of_adams_steps(shape):
    made = loop._orthogonal(torch.randn(shape, generator=torch.Generator().manual_seed(0))).flatten(1)
    singular = torch.linalg.svdvals(made) / (0.2 * max(made.shape) ** 0.5)
    assert 0.6 < singular.min() <= singular.max() < 1.3
    assert made.square().mean().sqrt() == pytest.approx(0.2, rel=0.25)


def test_the_rate_warms_up_holds_and_runs_out():
    wanted = loop.Plan(100, learning_rate=1.0, warmup=10, cooldown=20)
    rates = [wanted.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert set(rates[10:80]) == {1.0}
    assert rates[90] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(0.05)


@pytest.mark.parametrize("name", ["steps", "batch_size", "excerpt_s"])
def test_a_plan_that_cannot_be_is_refused(name):
    with pytest.raises(ParameterError, match=f"{name} = 0.* at least"):
        plan(**{name: 0})


def test_a_job_leaves_the_weights_it_starts_from(sources):
    start = compact_network.new_weights(SMALL, 3)
    learnt = objective.compact_job(SMALL, start, sources, plan())
    state = loop.begin(learnt)
    next(loop.train(state, learnt.loss, plan()))
    assert not torch.equal(state.weights["in.weight"], start["in.weight"])
    assert torch.equal(start["in.weight"], compact_network.new_weights(SMALL, 3)["in.weight"])


def test_a_shards_description_says_who_plays(shard):
    about = json.loads((shard / "0001.json").read_text())
    assert (about["seed"], about["number"], about["sample_rate"], len(about["players"])) == (5, 1, 8000, 4)


# On songs of one's own


HTDEMUCS = {
    "channels": 4, "nfft": 1024, "depth": 4, "bottom_channels": 16, "t_layers": 1, "t_heads": 2, "dconv_comp": 2,
    "samplerate": 8000, "segment": Fraction(1, 1), "num_subbands": 1, "dconv_mode": 1,
}  # fmt: skip


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Folders of gbsep's own for one test."""
    for variable, place in {"HOME": "home", "STATE": "state", "CACHE": "cache", "CONFIG": "config"}.items():
        monkeypatch.setenv(f"GBSEP_{variable}", str(tmp_path / place))
    monkeypatch.delenv("GBSEP_MODELS", raising=False)
    return tmp_path / "home" / "models"


@pytest.fixture
def checkpoint(tmp_path):
    """A small HTDemucs that was never trained, in the hub's format."""
    from demucs.htdemucs import HTDemucs

    torch.manual_seed(0)
    sources = ["drums", "bass", "other", "vocals", "guitar", "piano"]
    arguments = {"sources": sources, **{k: v for k, v in HTDEMUCS.items() if k in signature(HTDemucs).parameters}}
    path = tmp_path / "published.safetensors"
    package = Package(path, "demucs.htdemucs.HTDemucs", (), arguments, {})
    finetune.write_package(path, package, HTDemucs(**arguments).state_dict())
    return path


@pytest.fixture
def embedded(tmp_path):
    """A small network of the embedded kind that was never trained."""
    path = tmp_path / "untrained.safetensors"
    compact_weights.save(path, SMALL, compact_network.new_weights(SMALL, 0))
    return path


@pytest.fixture
def songs(tmp_path, rng):
    folder = tmp_path / "songs"
    (folder / "one").mkdir(parents=True)
    time = np.arange(8000 * 3) / 8000
    for name, pitch in (("bass", 55.0), ("guitar1", 440.0), ("guitar2", 660.0)):
        samples = 0.2 * np.sin(2 * np.pi * pitch * time) + 0.001 * rng.standard_normal((2, len(time)))
        write(folder / "one" / f"{name}.wav", Audio(samples, 8000), OutputFormat())
    return folder


def gbsep(capsys, *words) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    return exit_code(*words), *capsys.readouterr()


def figures_of(told: str) -> tuple[float, float]:
    """The errors at first and at last."""
    first, last = re.search(r"error (\S+).* at first, (\S+).* at last", told).groups()
    return float(first), float(last)


def test_a_demucs_checkpoint_learns_by_name_and_the_original_stays(checkpoint, songs, home, tmp_path, capsys):
    before = checkpoint.read_bytes()
    words = ("--stems", songs, "--out", "mine", "--steps", 24, "--rate", 5e-3, "--batch", 2)
    code, printed, told = gbsep(capsys, "train", "--from", checkpoint, *words)
    assert (code, printed.split()) == (0, [str(home / "mine.safetensors")])
    first, last = figures_of(told)
    assert last < 0.9 * first
    assert checkpoint.read_bytes() == before
    assert not (home / "mine.state").exists()
    made = finetune.demucs_network.build(load_package(home / "mine.safetensors"))
    assert list(made.sources) == ["drums", "bass", "other", "vocals", "guitar", "piano"]
    assert made.segment == Fraction(1, 1)
    assert own_models() == {"mine": "demucs"}
    preset = tmp_path / "six.json"
    preset.write_text(json.dumps({
        "schema_version": 1, "name": "six", "title": "Six",
        "separate": {"backend": "demucs", "model": "mine", "engine": "torch", "shifts": 1},
        "stems": {name: {"from": [name]} for name in ("bass", "guitar")},
    }))  # fmt: skip
    code, _, told = gbsep(capsys, "render", songs / "one" / "bass.wav", "-p", preset, "-o", tmp_path / "out")
    assert (code, "error" in told) == (0, False)
    assert read(tmp_path / "out" / "bass" / "six" / "guitar.wav").frames == 24_000
    code, _, told = gbsep(capsys, "train", "--from", checkpoint, *words)
    assert code == 2
    assert "mine.safetensors: is there already; choose another name" in " ".join(told.split())


def test_the_embedded_network_learns_from_songs_and_renders_by_name(embedded, songs, home, tmp_path, capsys):
    before = embedded.read_bytes()
    words = ("--stems", songs, "--out", "mine", "--steps", 30, "--rate", 5e-3, "--batch", 1)
    code, _, told = gbsep(capsys, "train", "--from", embedded, *words)
    assert code == 0
    first, last = figures_of(told)
    assert last < first - 0.5
    assert embedded.read_bytes() == before
    code, listed, _ = gbsep(capsys, "models", "list")
    assert re.search(r"mine +compact +bass, guitar", listed)
    words = ("--set", "separate.model=mine", "-o", tmp_path / "out")
    code, _, told = gbsep(capsys, "render", songs / "one" / "bass.wav", *words)
    assert (code, "error" in told) == (0, False)
    record = json.loads(next((tmp_path / "out").rglob("render.json")).read_text())
    assert content_hash(home / "mine.safetensors") in json.dumps(record)


def test_a_log_is_told_now_and_then_how_far_training_is(embedded, songs, tmp_path, capsys, monkeypatch):
    words = ("train", "--from", embedded, "--stems", songs, "--steps", 4, "--batch", 1, "--out")
    for line_s, expected in ((0.0, ["0%", "25%", "50%", "75%", "100%"]), (600.0, [])):
        monkeypatch.setattr(import_module("gbsep.cli.train"), "LINE_S", line_s)
        code, printed, told = gbsep(capsys, *words, tmp_path / f"{line_s:.0f}.safetensors")
        assert (code, printed.count("\n")) == (0, 1)
        assert [line.split()[-1] for line in told.splitlines() if line.endswith("%")] == expected


def test_a_short_training_repeats_to_the_byte_also_when_interrupted(embedded, songs, tmp_path, capsys, monkeypatch):
    words = ("train", "--from", embedded, "--stems", songs, "--steps", 6, "--batch", 1, "--seed", 5, "--out")
    for name in ("one", "two"):
        assert gbsep(capsys, *words, tmp_path / f"{name}.safetensors")[0] == 0
    steps, ends = loop.train, {3: signal.SIGINT, 5: signal.SIGTERM}

    def interrupted(*args):
        for step, figure in steps(*args):
            if step in ends:
                signal.raise_signal(ends[step])
            yield step, figure

    monkeypatch.setattr(loop, "train", interrupted)
    for last, end in ends.items():
        code, printed, told = gbsep(capsys, *words, tmp_path / "three.safetensors")
        assert (code, printed) == (128 + end, "")
        assert f"interrupted after step {last} of 6; the same command goes on from there" in told
        assert not (tmp_path / "three.safetensors").exists()
    monkeypatch.undo()
    code, _, told = gbsep(capsys, *words[:-3], "--seed", 6, "--out", tmp_path / "three.safetensors")
    assert code == 2
    assert "a training run with other weights, songs or seed" in told
    assert gbsep(capsys, *words, tmp_path / "three.safetensors")[0] == 0
    made = [(tmp_path / f"{name}.safetensors").read_bytes() for name in ("one", "two", "three")]
    assert made[0] == made[1] == made[2]
    assert gbsep(capsys, *words[:-3], "--seed", 6, "--out", tmp_path / "four.safetensors")[0] == 0
    assert (tmp_path / "four.safetensors").read_bytes() != made[0]


@pytest.mark.parametrize("other", [{"steps": 9}, {"seed": 9}, {"learning_rate": 0.009}, {"batch_size": 9}])
def test_a_training_on_songs_goes_on_with_what_it_was_begun_with_alone(other, embedded, songs, tmp_path):
    plan = replace(finetune.PLANS["compact"], steps=4)
    begun, changed = (finetune.songs_job("compact", embedded, songs, one) for one in (plan, replace(plan, **other)))
    loop.save(loop.begin(begun), tmp_path / "state")
    assert loop.opened(begun, tmp_path / "state").step == 0
    with pytest.raises(
        OutputError, match="other weights, songs or seed, or with other steps, rate or batch size; remove it"
    ):
        loop.opened(changed, tmp_path / "state")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("out", "a/b", "at most 100 letters, digits and . _ + - only, no folder; or a file that ends in .safetensors"),
        ("out", "", "at most 100 letters, digits and . _ + - only, no folder"),
        ("from", "songs/one/bass.wav", "a weight file ends in .safetensors or .th"),
        ("from", "no/such", "at most 100 letters, digits and . _ + - only, no folder"),
    ],
)
def test_names_that_will_not_do_are_told_by_their_option(option, value, message, songs, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, told = gbsep(capsys, "train", "--stems", songs, f"--{option}", value)
    assert code == 2
    assert f"{option} = {value!r} is not allowed: {message}" in told


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("no folder", "nowhere: no such folder"),
        ("a song itself", "no songs here: a folder for each, with bass.* and guitar.* in it; this is one itself"),
        ("no bass", "one: 0 files are named bass"),
        ("no guitar", "one: no guitar.* and no guitar<N>.* here"),
        ("shorter", "one: the stems are not equally long: bass.wav 16000 frames at 8000 Hz, guitar1.wav 24000 frames"),
        ("no audio", "bass.wav: "),
    ],
)
@pytest.mark.parametrize("kind", ["embedded", "checkpoint"])
def test_songs_that_will_not_do_are_refused_before_anything_is_written(
    kind, broken, message, songs, tmp_path, capsys, request
):
    one = songs / "one"
    if broken == "no folder":
        songs = tmp_path / "nowhere"
    elif broken == "a song itself":
        songs = one
    elif broken == "no bass":
        (one / "bass.wav").unlink()
    elif broken == "no guitar":
        (one / "guitar1.wav").unlink()
        (one / "guitar2.wav").unlink()
    elif broken == "shorter":
        (one / "bass.wav").unlink()
        write(one / "bass.wav", Audio(np.zeros(16_000), 8000), OutputFormat())
    else:
        (one / "bass.wav").write_text("words")
    start = request.getfixturevalue(kind)
    code, printed, told = gbsep(capsys, "train", "--from", start, "--stems", songs, "--out", tmp_path / "a.safetensors")
    assert (code, printed) == (2, "")
    assert message in " ".join(told.split())
    assert not list(tmp_path.glob("a.*"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--steps", "0"], "0 is not in the range 1<=x"),
        (["--minutes", "0"], "0.0 is not in the range x>0"),
        (["--from", "umxl"], "it is a model of openunmix; only those of compact and demucs can learn"),
        (["--from", "nobody"], "no weights for model 'nobody'"),
        (["--from", "gone.safetensors"], "from = 'gone.safetensors' is not allowed: no such file"),
        (["--out", "htdemucs"], "htdemucs is a published model; choose another name"),
        (["--out", "compact"], "compact is a published model; choose another name"),
        (["--out", "a/b"], "letters, digits"),
    ],
)
def test_what_cannot_be_is_refused(words, message, songs, capsys):
    code, printed, told = gbsep(capsys, "train", "--stems", songs, *words)
    assert (code, printed) == (2, "")
    assert message in " ".join(told.split())


def test_a_bag_names_its_networks(songs, checkpoint, tmp_path, capsys):
    folder = tmp_path / "bags"
    folder.mkdir()
    for name in ("a", "b"):
        shutil.copy(checkpoint, folder / f"{name}.safetensors")
    (folder / "both.yaml").write_text("models: [a, b]")
    code, _, told = gbsep(capsys, "train", "--from", "both", "--models", folder, "--stems", songs)
    assert code == 2
    assert re.search(r"it is a bag of 2 networks; name one of its files: \S+a.safetensors, \S+b.safetensors", told)


def test_truth_goes_to_the_guitar_or_to_other():
    assert finetune._places(["drums", "bass", "other", "guitar"]) == (1, 3)
    assert finetune._places(["drums", "bass", "other", "vocals"]) == (1, 2)
    with pytest.raises(BackendError, match="no place for bass and guitar"):
        finetune._places(["vocals", "other"])


def test_batches_for_demucs_hold_the_stems_in_their_places(songs):
    wanted = loop.Plan(1, batch_size=3, excerpt_s=1.0)
    truth = finetune._batch(pool.song_stems(songs), wanted, 0, (1, 3), 4, 8000)
    assert truth.shape == (3, 4, 2, 8000)
    assert not truth[:, [0, 2]].any()
    for one in truth:
        spectrum = np.abs(np.fft.rfft(one[:, 0]))
        assert spectrum[1].argmax() == 55
        assert spectrum[3].argmax() in (440, 660)
        assert one.sum(axis=0).std() == pytest.approx(1.0, rel=1e-2)
