"""What the network of notes is taught on: scores as they are heard, excerpts with their notes where they sound."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

from gbsep.notes import features, hear, kinds, network
from gbsep.notes.line import KINDS
from gbsep.train import generator, instruments
from gbsep.train.scores import Note

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import train_kinds
import train_notes


def test_slurs_are_notes_and_bends_of_less_than_a_semitone_are_none() -> None:
    part = [Note(1.0, 2.0, 40, 0.5, then=((0.5, 2.0), (1.0, 2.3))), Note(4.0, 1.0, 30, 0.5, slide_from=-2.0)]
    rows = train_notes.heard(part)
    assert [(round(onset, 2), round(end, 2), midi) for onset, end, midi, *_ in rows] == [
        (1.0, 1.52, 40),
        (1.52, 3.0, 42),
        (4.0, 5.0, 30),
    ]
    assert [train_notes.KINDS[row[4]] for row in rows] == ["plucked", "slurred", "slid"]


def test_a_dead_note_is_short() -> None:
    ((onset, end, _, _, kind),) = train_notes.heard([Note(0.0, 1.0, 30, 0.5, mute=1.0, snap=0.3)])
    assert end - onset < 0.4
    assert train_notes.KINDS[kind] == "dead"


def test_a_take_knows_its_score() -> None:
    band = list(instruments.plucked_strings(3, 1))
    take = next(generator.takes(1, band, 4.0))
    assert len(take.parts) == 1 + generator.GUITARS
    onsets = [note.start_s for note in take.parts[0]]
    assert onsets
    assert max(onsets) < 4.0


def test_the_notes_of_an_excerpt_are_where_they_sound() -> None:
    """One loud click a note: the excerpt, however moved and bent, has its clicks at the notes' frames."""
    rate, seconds = features.SAMPLE_RATE, 12
    stems = np.zeros((1, 3, seconds * rate), np.int16)
    at_s = np.arange(0.5, seconds, 0.5)
    for onset in (at_s * rate).astype(int):
        stems[0, 0, onset : onset + 40] = 20000
    notes = [np.array([(onset, onset + 0.2, 40, 0.8, 0) for onset in at_s], np.float32)]
    for seed in itertools.islice((n for n in range(40) if _keeps_bass(n, stems, notes)), 6):
        wave, rows = train_notes.excerpt(np.random.default_rng(seed), stems, notes, [], 200)
        loud = np.abs(wave)
        for onset in rows[:, 0]:
            sample = round(onset * features.HOP_LENGTH + features.MARGIN)
            if 2000 < sample < len(wave) - 2000:
                inside = loud[sample - 300 : sample + 400].max()
                assert inside > 0.5 * loud.max(), (seed, onset)


def _keeps_bass(seed: int, stems: np.ndarray, notes: list) -> bool:
    _, rows = train_notes.excerpt(np.random.default_rng(seed), stems, notes, [], 200)
    return len(rows) == len(notes[0])


def test_the_network_is_the_same_in_torch() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    weights = {name: train_notes.first_weights(rng, name, shape) for name, shape in network.shapes().items()}
    heard = rng.random((2 * network.CONTEXT + 5, len(features.WINDOWS), features.BINS)).astype(np.float32)
    gathered = network.gathered()
    own = network.logits({**weights, "gathered": gathered}, heard, np)
    tensors = {name: torch.from_numpy(value) for name, value in {**weights, "gathered": gathered}.items()}
    other = network.logits(tensors, torch.from_numpy(heard)[None], torch)
    for one, two in zip(own, other, strict=True):
        assert one.shape[0] == 5
        assert np.allclose(one, two[0].numpy(), atol=1e-4)


def test_a_partial_lies_at_its_pitch() -> None:
    time_s = np.arange(features.SAMPLE_RATE) / features.SAMPLE_RATE
    for midi in (40, 52, 69):
        wave = 0.1 * np.sin(2 * np.pi * 440 * 2 ** ((midi - 69) / 12) * time_s).astype(np.float32)
        heard = features.spectra(wave)[:, 0].mean(axis=0)
        bin_ = int(np.argmax(heard))
        assert features.LOWEST_MIDI + bin_ / features.BINS_PER_SEMITONE == pytest.approx(midi, abs=0.4)


def test_kinds_are_learned_from_what_is_measured() -> None:
    rng = np.random.default_rng(1)
    wanted = rng.integers(0, 2, 400)
    figures = rng.normal(0, 1, (400, kinds.MEASURES)) * rng.uniform(0.1, 50, kinds.MEASURES) + 7
    figures[:, 3] += 200 * wanted
    slopes, offsets = train_kinds.fitted(figures, wanted)
    assert np.mean(np.argmax(figures @ slopes + offsets, axis=1) == wanted) > 0.97


def test_a_rare_kind_must_be_surer() -> None:
    weights = {"kind.w": np.zeros((kinds.MEASURES, len(KINDS))), "kind.b": np.zeros(len(KINDS))}
    for above, told in ((kinds.SURER - 0.1, "plucked"), (kinds.SURER + 0.1, "slurred")):
        weights["kind.b"][1] = above
        assert kinds.kind_of(np.ones(kinds.MEASURES), weights) == told


def test_what_ships_never_tells_a_slide_from_nowhere() -> None:
    weights = hear.load()
    slid = KINDS.index(train_kinds.UNTOLD)
    assert weights["kind.b"][slid] < -1000


def test_a_note_is_measured_at_either_end_of_a_sound() -> None:
    rng = np.random.default_rng(2)
    frames = 5
    pitches = rng.random((2, frames, network.PITCHES))
    spectra = rng.random((frames, len(features.WINDOWS), features.BINS))
    struck = rng.random((frames, len(KINDS)))
    for frame in (0, frames - 1):
        for pitch in (0, network.PITCHES - 1):
            found = kinds.measures(*pitches, struck, rng.random((frames, 1)), spectra, frame, pitch)
            assert found.shape == (kinds.MEASURES,)
            assert np.all(np.isfinite(found))
