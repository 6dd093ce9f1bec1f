"""Instruments for training: in tune, dying away as strings do, recorded, written and read back."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from gbsep.audio import Audio
from gbsep.errors import AudioFileError, BackendNotInstalled
from gbsep.io.formats import OutputFormat
from gbsep.io.write import write
from gbsep.train import generator, instruments
from gbsep.train.instruments import SAMPLE_RATE, Instrument

from .band import BAND, hz, loudest_hz


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
