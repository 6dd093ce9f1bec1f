"""Notes: what is heard in a stem, and that it may be cut, silent, short or of another kind."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gbsep.audio import Audio, Reader
from gbsep.errors import BackendError
from gbsep.notes import features, register
from gbsep.notes import hear as hearing
from gbsep.notes.compare import compare
from gbsep.notes.hear import hear
from gbsep.notes.line import Line, Note
from gbsep.notes.network import FIRST_MIDI, LAST_MIDI
from gbsep.notes.play import played

RATE = 22050


def line_of(pitches: Iterable[int], apart_s: float = 0.3, first_s: float = 0.1) -> Line:
    notes = [
        Note(first_s + apart_s * number, first_s + apart_s * (number + 0.9), pitch)
        for number, pitch in enumerate(pitches)
    ]
    return Line(tuple(notes), notes[-1].end_s)


def sound_of(line: Line, rate: int = RATE) -> Audio:
    return Audio(np.concatenate([*played(line, rate)], axis=1), rate)


LINE = line_of([28, 28, 35, 40, 33, 33, 45, 38, 31, 43, 36, 40, 28, 30, 32, 33, 35, 47, 50, 38, 26, 23, 25, 28])


@pytest.fixture(scope="module")
def heard() -> Line:
    return hear(sound_of(LINE).reader())


def test_a_played_line_is_told_down_to_low_b(heard: Line) -> None:
    score = compare(LINE, heard)
    assert score.f1 > 0.9, [(note.onset_s, note.midi) for note in heard.notes]
    low = Line(tuple(note for note in LINE.notes if note.midi < 28))
    assert compare(low, Line(tuple(note for note in heard.notes if note.midi < 28))).f1 >= 0.5


def test_a_note_has_a_place_a_length_and_figures(heard: Line) -> None:
    assert heard.seconds == pytest.approx(LINE.seconds + 0.5, abs=0.01)
    onsets = [note.onset_s for note in heard.notes]
    assert onsets == sorted(onsets)
    for note in heard.notes:
        assert 0 <= note.onset_s < note.end_s <= heard.seconds + 0.1
        assert FIRST_MIDI <= note.midi <= LAST_MIDI
        assert 0 < note.strength <= 1
        assert 0 < note.confidence <= 1


def test_it_is_the_same_again_and_in_other_blocks(heard: Line) -> None:
    samples = sound_of(LINE).samples

    def blocks(block_frames: int) -> Iterator[np.ndarray]:
        at = 0
        for size in itertools.cycle([1000, 17, 4096]):
            if at >= samples.shape[1]:
                return
            yield samples[:, at : at + size]
            at += size

    assert hear(Reader(RATE, 1, samples.shape[1], blocks)) == heard


def test_it_is_the_same_in_shorter_pieces(heard: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hearing, "PIECE", 300)
    pieces = hear(sound_of(LINE).reader())
    assert [(note.onset_s, note.midi) for note in pieces.notes] == [(note.onset_s, note.midi) for note in heard.notes]
    assert [note.end_s for note in pieces.notes] == [note.end_s for note in heard.notes]


def test_what_is_held_does_not_grow_with_the_song(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ten minutes no more than a piece and its context is ever in hand."""
    longest = 0
    spectra = hearing.features.spectra

    def watched(wave: np.ndarray, cents: float) -> np.ndarray:
        nonlocal longest
        longest = max(longest, len(wave))
        return spectra(wave, cents)

    monkeypatch.setattr(hearing.features, "spectra", watched)
    tone = sound_of(line_of([28, 33, 38, 43] * 8), 8000).samples
    seconds = 600

    def blocks(block_frames: int) -> Iterator[np.ndarray]:
        left = seconds * 8000
        while left:
            block = tone[:, : min(left, tone.shape[1])]
            left -= block.shape[1]
            yield block

    line = hear(Reader(8000, 1, seconds * 8000, blocks))
    around = 2 * (hearing.features.MARGIN + hearing.network.CONTEXT * hearing.features.HOP_LENGTH)
    assert longest <= (hearing.PIECE + 1) * hearing.features.HOP_LENGTH + around
    assert len(line.notes) == pytest.approx(32 * seconds * 8000 / tone.shape[1], rel=0.1)


@pytest.mark.parametrize("rate", [8000, 44100, 96000])
def test_any_rate_will_do(rate: int) -> None:
    line = line_of([28, 33, 40, 35, 31, 38])
    assert compare(line, hear(sound_of(line, rate).reader())).f1 > 0.9


def test_silence_has_no_notes() -> None:
    assert hear(Audio(np.zeros((2, RATE), np.float32), RATE).reader()).notes == ()


def test_one_frame_has_no_notes() -> None:
    assert hear(Audio(np.full((1, 1), 0.5, np.float32), RATE).reader()).notes == ()


def test_noise_has_hardly_any_notes() -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal((1, 20 * RATE)).astype(np.float32)
    assert len(hear(Audio(noise, RATE).reader()).notes) <= 2


def test_what_bleed_leaves_is_no_line() -> None:
    sound = sound_of(line_of([28, 33, 40, 35]))
    quiet = Audio(0.001 * sound.samples, RATE)
    assert hear(quiet.reader()).notes
    assert hear(quiet.reader(), quietest=0.01).notes == ()


def test_the_level_does_not_matter(heard: Line) -> None:
    quiet = Audio(0.03 * sound_of(LINE).samples, RATE)
    assert compare(heard, hear(quiet.reader())).f1 > 0.95


def test_a_song_tuned_higher_is_told_so() -> None:
    sharp = Audio(sound_of(replace(LINE, cents=30.0)).samples, RATE)
    line = hear(sharp.reader())
    assert line.cents == pytest.approx(30, abs=8)
    assert compare(LINE, line).f1 > 0.9


def test_a_guitar_is_heard_an_octave_higher() -> None:
    line = line_of([52, 57, 64, 69, 76, 60, 67])
    assert compare(line, hear(sound_of(line).reader(), "guitar")).f1 > 0.7


def test_a_guitar_is_no_bass() -> None:
    guitar = sound_of(line_of([52, 57, 64, 55, 60, 48, 52, 57, 59, 60, 47, 55]))
    line = hear(guitar.reader())
    assert line.notes == ()
    assert line.left_out >= 8
    assert len(hear(guitar.reader(), anyway=True).notes) == line.left_out
    assert hear(guitar.reader(), "guitar").left_out == 0


def test_a_bass_without_its_low_end_is_one_still(heard: Line) -> None:
    from scipy.signal import butter, sosfilt

    thin = sosfilt(butter(4, 110, "highpass", fs=RATE, output="sos"), sound_of(LINE).samples).astype(np.float32)
    assert compare(heard, hear(Audio(thin, RATE).reader())).f1 > 0.8


def test_an_octave_below_a_chord_is_no_low_note() -> None:
    spectra = np.zeros((10, features.BINS), np.float32)
    first = features.BINS_PER_SEMITONE * (28 - features.LOWEST_MIDI)

    def partials(*numbers: int) -> np.ndarray:
        made = spectra.copy()
        made[:, [round(first + 36 * np.log2(number)) for number in numbers]] = 0.8
        return made

    assert register.only_a_bass(28, partials(1, 2, 3))
    assert register.only_a_bass(28, partials(2, 3, 4, 5, 6, 7))
    assert not register.only_a_bass(28, partials(2, 3, 4, 6, 8))
    assert not register.only_a_bass(40, partials(1, 2, 3))


def test_a_note_without_a_stroke_is_slurred() -> None:
    """A string that goes on at another pitch, beside one that is struck anew."""
    rng = np.random.default_rng(2)
    seconds, rate = 8.0, RATE
    time_s = np.arange(int(seconds * rate)) / rate
    pitch = 33.0 + 2.0 * np.clip((time_s % 0.8 - 0.4) / 0.03, 0, 1)
    phase = 2 * np.pi * np.cumsum(440 * 2 ** ((pitch - 69) / 12)) / rate
    age_s = time_s % 0.8
    decays = [np.exp(-age_s * 0.6 * number) / number * np.sin(number * phase) for number in range(1, 20)]
    wave = 0.2 * np.sum(decays, axis=0) + 1e-4 * rng.standard_normal(len(time_s))
    notes = hear(Audio(wave[np.newaxis].astype(np.float32), rate).reader()).notes
    struck = [note.kind for note in notes if note.midi == 33]
    slurred = [note.kind for note in notes if note.midi == 35]
    assert slurred.count("slurred") > len(slurred) / 2
    assert struck.count("plucked") > len(struck) / 2


def test_weights_that_are_none_are_told(tmp_path: Path) -> None:
    wrong = tmp_path / "notes.safetensors"
    wrong.write_bytes(b"no weights")
    with pytest.raises(BackendError, match="install gbsep again"):
        hearing.load(wrong)
