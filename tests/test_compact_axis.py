"""The transform and the pitch axis of the compact network, and the tuning of a song."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gbsep.audio import Audio
from gbsep.io.read import read
from gbsep.separation.compact import axis as compact_axis
from gbsep.separation.compact import backend as compact
from gbsep.separation.compact import network as compact_network
from gbsep.separation.compact import spectra as compact_spectra
from gbsep.separation.compact import weights as compact_weights
from gbsep.separation.compact.config import Config
from gbsep.separation.compact.tuning import tuning_cents

from .compact import HELD_OUT, SMALL, separated

# The transform and the pitch axis


def test_spectra_are_scipys(rng):
    from scipy.signal import stft

    x = rng.standard_normal(4000)
    made = compact_network.spectrum(SMALL, torch.tensor(x, dtype=torch.float32)[None])[0].numpy()
    _, _, wanted = stft(x, window="hann", nperseg=SMALL.n_fft, noverlap=SMALL.n_fft - SMALL.hop_length, padded=False)
    assert made.shape[1] == wanted.shape[1]
    np.testing.assert_allclose(made, wanted, atol=1e-5)


def test_a_sine_of_amplitude_one_reads_half_in_its_bin():
    bin_hz = SMALL.sample_rate / SMALL.n_fft
    wave = torch.sin(2 * torch.pi * 20 * bin_hz * torch.arange(4096) / SMALL.sample_rate)
    spectrum = compact_network.spectrum(SMALL, wave[None].float())[0].abs()
    assert spectrum[20, 30].item() == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("length", [1, 63, 64, 1000, 4096])
def test_waves_undo_spectra_with_torch_and_without(length, rng):
    x = rng.standard_normal((2, length)).astype(np.float32)
    spectra = compact_network.spectrum(SMALL, torch.from_numpy(x))
    np.testing.assert_allclose(compact_network.waves(SMALL, spectra, length).numpy(), x, atol=1e-5)
    found = compact_spectra.spectrum(SMALL, x)
    np.testing.assert_allclose(found, spectra.numpy().swapaxes(1, 2), atol=1e-6)
    np.testing.assert_allclose(compact_spectra.waves(SMALL, found, length), x, atol=1e-5)


def test_waves_of_any_spectra_are_torchs(rng):
    parts = rng.standard_normal((2, 2, 40, SMALL.bins)).astype(np.float32)
    spectra, length = parts[0] + 1j * parts[1], 39 * SMALL.hop_length
    wanted = compact_network.waves(SMALL, torch.from_numpy(spectra.swapaxes(1, 2).copy()), length)
    found = compact_spectra.waves(SMALL, spectra, length)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-4)


def test_reading_between_bins_is_linear_interpolation(rng):
    values, places = rng.standard_normal(20), rng.uniform(-3, 22, 200)
    read = compact_axis.interpolation(places, 20) @ values
    np.testing.assert_allclose(read, np.interp(places, np.arange(20), values, left=0, right=0), atol=1e-12)


@given(st.floats(60, 400), st.integers(1, 6))
@settings(max_examples=30, deadline=None)
def test_a_harmonic_is_gathered_to_its_pitch_and_laid_back_at_its_frequency(pitch_hz, h):
    config = Config()
    gather, _, spread = compact_network._harmonic_maps(config, "cpu")
    bin_hz = config.sample_rate / config.n_fft
    bins = torch.exp(-((torch.arange(config.n_fft // 2) - h * pitch_hz / bin_hz) ** 2) / 2)
    seen = (gather @ bins).reshape(config.gathered, config.pitches)[h - 1]
    pitch = int(seen.argmax())
    one_step = 2 ** (1 / config.bins_per_octave)
    slack = one_step * (1 + 0.5 * bin_hz / (h * pitch_hz))
    found_hz = config.lowest_hz * one_step**pitch
    assert pitch_hz / slack <= found_hz <= pitch_hz * slack
    lit = torch.zeros(config.harmonics, config.pitches)
    lit[h - 1, pitch] = 1.0
    laid = torch.sparse.mm(spread, lit.reshape(-1, 1)).flatten()
    if laid.any():
        reached_hz = int(laid.argmax()) * bin_hz
        assert abs(reached_hz - h * found_hz) <= max(bin_hz, 0.03 * h * found_hz)


# Tuning


def chord(cents: float, rng: np.random.Generator, seconds: float = 4.0) -> np.ndarray:
    """Four notes of a guitar, one after the other, that ring on, `cents` sharp of A = 440 Hz; mid and side (2, n)."""
    time, wave = np.arange(round(seconds * 8000)) / 8000, 0.0
    for number, pitch in enumerate(rng.integers(40, 65, 4)):
        hz, since = 440 * 2 ** ((pitch - 69 + cents / 100) / 12), time - number * seconds / 5
        wave += sum(np.sin(2 * np.pi * hz * h * since + h) / h for h in range(1, 9)) * (since > 0) * np.exp(-since)
    return np.stack([wave, 0.3 * wave]) + 1e-3 * rng.standard_normal((2, len(time)))


@settings(deadline=None, max_examples=30)
@given(cents=st.integers(-45, 45), seed=st.integers(0, 2**32 - 1), level_db=st.floats(-120, 120))
def test_the_tuning_of_a_song_is_found_at_any_level(cents, seed, level_db):
    notes = chord(cents, np.random.default_rng(seed)) * 10 ** (level_db / 20)
    assert tuning_cents([compact_spectra.spectrum(Config(), notes.astype(np.float32))], Config()) == pytest.approx(
        cents, abs=4
    )


def test_the_tuning_is_librosas(rng):
    import librosa

    for cents in (-40, -20, 0, 15, 35):
        notes = chord(cents, rng)
        found = tuning_cents([compact_spectra.spectrum(Config(), notes.astype(np.float32))], Config())
        assert found == pytest.approx(100 * librosa.estimate_tuning(y=notes[0], sr=8000), abs=6)


def test_what_has_no_pitch_has_no_tuning(rng):
    time = np.arange(40_000) / 8000
    hits = rng.standard_normal(len(time)) * np.exp(-30 * (time % 0.5))
    for sound in (
        np.zeros_like(time),
        np.ones_like(time),
        rng.standard_normal(len(time)),
        hits,
        np.eye(1, len(time))[0],
    ):
        assert tuning_cents([compact_spectra.spectrum(Config(), np.float32([sound, sound]))], Config()) == 0
    assert tuning_cents([], Config()) == 0


def test_a_song_in_another_tuning_is_separated_as_well_as_one_in_tune(data, monkeypatch):
    song = data / "jams" / "04_bass_pbf_gtr_black+gtr_emily"
    bass, guitar = (read(song / f"{one}.flac").samples.mean(axis=0) for one in ("bass", "guitar"))
    config, weights = compact_weights.load(HELD_OUT)

    def sdr_db(cents: float) -> float:
        mixture = Audio(bass + guitar, round(44100 * 2 ** (cents / 1200)))
        error = separated(mixture, weights, config)["bass"][0] - bass
        return float(10 * np.log10(np.square(bass).sum() / np.square(error).sum()))

    in_tune, *off = map(sdr_db, (0, -50, 20, 40))
    assert min(off) > in_tune - 0.3
    monkeypatch.setattr(compact, "tuning_cents", lambda pieces, config: 0.0)
    assert np.mean(off) > np.mean([sdr_db(cents) for cents in (-50, 20, 40)]) + 0.5
