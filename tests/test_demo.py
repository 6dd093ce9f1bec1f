"""The demo song: its strings are in tune and die away, its stems are the mixture, its rests are silent."""

import numpy as np
import pytest

from gbsep import demo
from gbsep.audio import Audio
from gbsep.errors import OutputError, ParameterError
from gbsep.io.read import read

PARTS = ("bass", "guitar1", "guitar2")


@pytest.fixture(scope="module")
def song():
    return demo.make_demo()


def level(tone, frequency_hz, sample_rate):
    """Amplitude of one partial."""
    window = np.hanning(tone.size)
    turning = np.exp(-2j * np.pi * frequency_hz / sample_rate * np.arange(tone.size))
    return 2 * abs(np.sum(tone * window * turning)) / window.sum()


def pitch_hz(tone, near_hz, sample_rate):
    """Frequency of the fundamental: the top of a parabola through the log spectrum, zero-padded."""
    n_fft = 2**21
    spectrum = np.abs(np.fft.rfft(tone * np.hanning(tone.size), n_fft))
    low, high = (round(near_hz * ratio / sample_rate * n_fft) for ratio in (0.95, 1.05))
    top = low + int(spectrum[low:high].argmax())
    below, peak, above = np.log(spectrum[top - 1 : top + 2])
    return (top + 0.5 * (below - above) / (below - 2 * peak + above)) * sample_rate / n_fft


def midi_hz(pitch):
    return 440.0 * 2 ** ((pitch - 69) / 12)


@pytest.mark.parametrize("sample_rate", [8000, 44100, 96000])
@pytest.mark.parametrize("pitch", [28, 33, 38, 43, 40, 45, 50, 55, 59, 64, 76, 83, 86])
def test_strings_are_in_tune_within_3_cents(rng, pitch, sample_rate):
    tone = demo.pluck(midi_hz(pitch), 2.0, sample_rate, rng, decay_s=6.0, treble_decay_s=0.8)
    assert abs(1200 * np.log2(pitch_hz(tone, midi_hz(pitch), sample_rate) / midi_hz(pitch))) < 3.0


@pytest.mark.parametrize("sample_rate", [22050, 44100])
@pytest.mark.parametrize("pitch", [28, 45, 64])
def test_partials_die_away_in_their_time(rng, pitch, sample_rate):
    """The fundamental falls by 60 dB in decay_s (a high one a little sooner), the one at 2 kHz in treble_decay_s."""
    f0 = midi_hz(pitch)
    tone = demo.pluck(f0, 2.0, sample_rate, rng, decay_s=4.0, treble_decay_s=1.0)
    early, late = tone[: sample_rate // 2], tone[sample_rate // 2 : sample_rate]
    treble_hz = f0 * round(demo.TREBLE_HZ / f0)
    assert 20 * np.log10(level(late, f0, sample_rate) / level(early, f0, sample_rate)) == pytest.approx(-7.5, rel=0.1)
    fall_db = 20 * np.log10(level(late, treble_hz, sample_rate) / level(early, treble_hz, sample_rate))
    assert fall_db == pytest.approx(-30.0, rel=0.1)


def test_pick_position_silences_its_harmonic(rng):
    """Plucked at a quarter of its length, a string has almost no fourth partial."""
    tone = demo.pluck(220.0, 1.0, 44100, rng, pick_position=0.25)
    assert level(tone, 880.0, 44100) < 0.05 * level(tone, 660.0, 44100)


def test_a_soft_pluck_is_darker():
    bright, dark = (demo.pluck(110.0, 1.0, 44100, np.random.default_rng(0), brightness_hz=b) for b in (4000.0, 500.0))
    ratio = [level(tone, 2200.0, 44100) / level(tone, 110.0, 44100) for tone in (bright, dark)]
    assert ratio[0] > 3 * ratio[1]


def test_the_song_is_a_minute_in_stereo(song):
    mixture, stems = song
    assert set(stems) == {"bass", "guitar", "guitar1", "guitar2"}
    assert all(repr(audio) == "Audio(2 channels, 2646000 frames, 44100 Hz)" for audio in (mixture, *stems.values()))


def test_stems_sum_to_the_mixture_to_the_last_bit(song):
    mixture, stems = song
    bass, guitar1, guitar2 = (stems[name].samples for name in PARTS)
    assert np.array_equal(mixture.samples, bass + stems["guitar"].samples)
    assert np.array_equal(mixture.samples, (guitar2 + bass) + guitar1)
    assert np.array_equal(stems["guitar"].samples, guitar1 + guitar2)


def test_every_file_survives_24_bit(song):
    mixture, stems = song
    for audio in (mixture, *stems.values()):
        steps = audio.samples.astype(np.float64) * 2**23
        assert np.array_equal(steps, np.round(steps))
        assert np.abs(audio.samples).max() < 0.9


def test_parts_are_of_like_level_and_each_has_its_place(song):
    _, stems = song
    rms = {name: np.sqrt(np.mean(np.square(stems[name].samples, dtype=np.float64), axis=1)) for name in PARTS}
    overall = [np.linalg.norm(rms[name]) for name in PARTS]
    assert max(overall) < 2.5 * min(overall)
    assert rms["bass"][0] == pytest.approx(rms["bass"][1])
    assert rms["guitar1"][0] > 1.5 * rms["guitar1"][1]
    assert rms["guitar2"][1] > 1.5 * rms["guitar2"][0]


def pitches(bars):
    return [12 * (int(s[-1]) + 1) + demo.PITCH_CLASSES[s[:-1]] for bar in bars for s in bar[3].split() if s not in ".-"]


def played_bars(line_number):
    return [any(symbol not in ".-" for symbol in bar[line_number].split()) for bar in demo.SONG]


@pytest.mark.parametrize(("name", "line_number"), [("guitar1", 1), ("bass", 2), ("guitar2", 3)])
def test_a_part_sounds_where_it_plays_and_is_silent_where_it_rests(song, name, line_number):
    stem = song[1][name]
    bars = np.array_split(stem.samples, len(demo.SONG), axis=1)
    plays = played_bars(line_number)
    for number, bar in enumerate(bars):
        if plays[number]:
            assert np.sqrt(np.mean(bar**2)) > 1e-3, number
        elif number and plays[number - 1]:
            assert not bar[:, bar.shape[1] // 2 : -1000].any(), number  # the room has died away; a note may come early
        else:
            assert not bar[:, :-1000].any(), number


def test_the_bass_breaks_off_and_the_lead_climbs():
    assert played_bars(2)[12:16] == [False] * 4
    assert pitches(demo.SONG[16:19]) == [pitch + 12 for pitch in pitches(demo.SONG[8:11])]


def test_a_seed_repeats_and_another_differs():
    same = [demo.make_demo(6.0, 22050, seed=1) for _ in range(2)]
    other, _ = demo.make_demo(6.0, 22050, seed=2)
    assert same[0][0].samples.tobytes() == same[1][0].samples.tobytes()
    for name in same[0][1]:
        assert same[0][1][name].samples.tobytes() == same[1][1][name].samples.tobytes()
    assert not np.array_equal(same[0][0].samples, other.samples)


@pytest.mark.parametrize(("seconds", "sample_rate"), [(0.1, 8000), (12.3, 8000), (3.0, 192000)])
def test_any_length_and_rate(seconds, sample_rate):
    mixture, stems = demo.make_demo(seconds, sample_rate)
    assert mixture.frames == round(seconds * sample_rate)
    assert np.array_equal(mixture.samples, stems["bass"].samples + stems["guitar"].samples)


def test_a_longer_song_begins_again():
    """Bar 24 is bar 0 once more: the palm-muted guitar alone."""
    _, stems = demo.make_demo(66.0, 8000)
    again = slice(61 * 8000, 64 * 8000)
    assert stems["guitar1"].samples[:, again].any()
    assert not stems["bass"].samples[:, again].any()
    assert not stems["guitar2"].samples[:, again].any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seconds": 0.0}, r"seconds = 0.0 s is not allowed: from 0.1 to 300 s"),
        ({"seconds": float("nan")}, r"seconds = nan s is not allowed"),
        ({"seed": -1}, r"seed = -1 is not allowed: 0 or a positive"),
        ({"sample_rate": 4000}, r"sample_rate = 4000 Hz is not allowed: from 8000 to 192000 Hz"),
    ],
)
def test_impossible_songs_are_refused(arguments, message):
    with pytest.raises(ParameterError, match=message):
        demo.make_demo(**arguments)


def test_written_files_are_the_song(tmp_path):
    mixture, stems = demo.make_demo(2.0, 8000)
    paths = demo.write_demo(tmp_path / "song", 2.0, 8000)
    assert {path.name for path in (tmp_path / "song").iterdir()} == {f"{name}.wav" for name in ("mixture", *stems)}
    for name, audio in {"mixture": mixture, **stems}.items():
        decoded = read(paths[name])
        assert isinstance(decoded, Audio)
        assert np.array_equal(decoded.samples, audio.samples)


def test_files_in_the_way_are_left_alone(tmp_path):
    (tmp_path / "guitar2.wav").write_text("mine")
    with pytest.raises(OutputError, match=r"guitar2\.wav: is there already"):
        demo.write_demo(tmp_path, 0.1, 8000)
    assert [path.name for path in tmp_path.iterdir()] == ["guitar2.wav"]
    assert read(demo.write_demo(tmp_path, 0.1, 8000, overwrite=True)["guitar2"]).frames == 800


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OutputError, match=r"file.song: cannot be made: "):
        demo.write_demo(tmp_path / "file" / "song", 0.1, 8000)
