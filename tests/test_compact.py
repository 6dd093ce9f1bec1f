"""The embedded model: stems add up, whatever the blocks, pieces, rates and levels; its context is what it says."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gbsep
from gbsep import train
from gbsep.audio import Audio, Reader, ahead, join
from gbsep.errors import BackendError, BackendNotInstalled, SeparationFailed, WeightsMissing
from gbsep.io.read import read
from gbsep.models import catalogue
from gbsep.separation.backend import Context
from gbsep.separation.compact import backend as compact
from gbsep.separation.compact import graph as compact_graph
from gbsep.separation.compact import network as compact_network
from gbsep.separation.compact import (
    rests,
    timbre,
)
from gbsep.separation.compact import weights as compact_weights
from gbsep.separation.compact.config import Config, config_from
from gbsep.separation.compact.graph import Network, Stream
from gbsep.separation.compact.song import LEVEL_S
from gbsep.separation.compact.tuning import tuned, tuning_cents

EMBEDDED = catalogue.EMBEDDED_FOLDER / catalogue.EMBEDDED.files[0]

HELD_OUT = Path(__file__).parents[1] / "training" / "fold_a.safetensors"
"""Trained without the instruments of two of the jams."""

SMALL = Config(n_fft=256, hop_length=64, bins=80, pitches=48, bins_per_octave=12, gathered=3, harmonics=4,
               widths=(4, 4, 6), dilations=((1, 1), (2, 2), (4, 4), (2, 1)), projected=2, head=4)  # fmt: skip


def lively(config: Config = SMALL, seed: int = 0) -> compact_network.Weights:
    """Untrained weights whose output hangs on everything the network sees."""
    weights = compact_network.new_weights(config, seed)
    weights["out.weight"] *= 20
    return weights


def music(frames: int, channels: int, rng: np.random.Generator, sample_rate: int = 8000) -> Audio:
    time = np.arange(frames) / sample_rate
    tones = sum(np.sin(2 * np.pi * hz * time + hz) for hz in (55, 110, 165, 440, 880)) / 10
    return Audio(tones + 0.02 * rng.standard_normal((channels, frames)), sample_rate)


def separated(
    audio: Audio, weights: compact_network.Weights, config: Config = SMALL, shifts: int = 1
) -> dict[str, np.ndarray]:
    blocks = list(compact.separate(audio.reader(), config, weights, shifts=shifts))
    return {name: join(block[name] for block in blocks) for name in ("bass", "guitar")}


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
    found = compact_graph.spectrum(SMALL, x)
    np.testing.assert_allclose(found, spectra.numpy().swapaxes(1, 2), atol=1e-6)
    np.testing.assert_allclose(compact_graph.waves(SMALL, found, length), x, atol=1e-5)


def test_waves_of_any_spectra_are_torchs(rng):
    parts = rng.standard_normal((2, 2, 40, SMALL.bins)).astype(np.float32)
    spectra, length = parts[0] + 1j * parts[1], 39 * SMALL.hop_length
    wanted = compact_network.waves(SMALL, torch.from_numpy(spectra.swapaxes(1, 2).copy()), length)
    found = compact_graph.waves(SMALL, spectra, length)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-4)


def test_reading_between_bins_is_linear_interpolation(rng):
    values, places = rng.standard_normal(20), rng.uniform(-3, 22, 200)
    read = compact_network.interpolation(places, 20) @ values
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
    assert tuning_cents([compact_graph.spectrum(Config(), notes.astype(np.float32))], Config()) == pytest.approx(
        cents, abs=4
    )


def test_the_tuning_is_librosas(rng):
    import librosa

    for cents in (-40, -20, 0, 15, 35):
        notes = chord(cents, rng)
        found = tuning_cents([compact_graph.spectrum(Config(), notes.astype(np.float32))], Config())
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
        assert tuning_cents([compact_graph.spectrum(Config(), np.float32([sound, sound]))], Config()) == 0
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


# What the network can see


@pytest.mark.parametrize("config", [SMALL, replace(SMALL, taps=5)])
def test_an_output_depends_on_its_context_and_no_more(config, rng):
    weights = lively(config)
    frames, middle = 4 * config.context, 2 * config.context
    spectra = torch.randn(1, config.n_fft // 2 + 1, frames, dtype=torch.complex64)
    spectra.requires_grad_(True)
    # A perturbation instead of a gradient: features are taken outside the graph.
    with torch.no_grad():
        usual = compact_network.bass_spectrum(config, weights, spectra)
        changed = spectra.clone()
        changed[..., middle] *= 3j
        moved = (compact_network.bass_spectrum(config, weights, changed) - usual).abs().amax(dim=(0, 1)) > 0
    reached = np.flatnonzero(moved.numpy())
    assert middle in reached
    assert reached.min() >= middle - config.context
    assert reached.max() <= middle + config.context
    assert reached.max() - reached.min() > config.context / 2


@pytest.mark.parametrize(
    "larger",
    [
        replace(SMALL, gathered=5),
        replace(SMALL, widths=(5, 8, 10), head=7),
        replace(SMALL, dilations=(*SMALL.dilations, (4, 1), (1, 2))),
    ],
)
def test_a_grown_network_computes_what_it_did(larger):
    weights, spectra = lively(), torch.randn(1, SMALL.n_fft // 2 + 1, 50, dtype=torch.complex64)
    grown = compact_network.grown(SMALL, weights, larger, 1)
    assert {name: one.shape for name, one in grown.items()} == {
        name: one.shape for name, one in compact_network.new_weights(larger, 0).items()
    }
    usual = compact_network.bass_spectrum(SMALL, weights, spectra)
    torch.testing.assert_close(compact_network.bass_spectrum(larger, grown, spectra), usual, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "other", [replace(SMALL, taps=5), replace(SMALL, widths=(3, 4, 6)), replace(SMALL, dilations=((2, 2), (1, 1)))]
)
def test_a_network_does_not_grow_into_another(other):
    with pytest.raises(ValueError, match=r"grows by|would shrink"):
        compact_network.grown(SMALL, lively(), other, 0)


@given(steps=st.lists(st.integers(1, 12), min_size=0, max_size=4), end=st.integers(1, 40), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize(
    "config",
    [
        *(replace(SMALL, taps=taps) for taps in (1, 3, 5)),
        replace(SMALL, inner=(2, 3, 8, 5, 4, 6, 1), bins=128, gathered=12),
    ],
)
def test_a_song_fed_piece_by_piece_comes_out_as_training_has_the_whole(config, steps, end, seed):
    weights, least = lively(config), config.context // 4
    rng = np.random.default_rng(seed)
    for value in weights.values():
        if not value.any():
            value += 0.1 * torch.from_numpy(rng.standard_normal(value.shape).astype(np.float32))
    edges = np.cumsum([0, *(4 * (least + step) for step in steps), end])
    parts = rng.standard_normal((2, edges[-1], config.n_fft // 2 + 1)).astype(np.float32)
    spectra = parts[0] + 1j * parts[1]
    stream = Stream(Network(config, weights, 1))
    behind, made = 0, []
    for start, stop in pairwise(edges):
        last = bool(stop == edges[-1])
        made.append(stream.feed(spectra[start:stop], last))
        behind += int(stop - start) - len(made[-1])
        assert behind == 0 if last else 0 < behind <= config.context
    with torch.inference_mode():
        whole = compact_network.bass_spectrum(config, weights, torch.from_numpy(spectra.T.copy())[None])
    np.testing.assert_allclose(np.concatenate(made), whole[0].numpy().T, atol=1e-4, rtol=1e-5)


def test_pieces_meet_where_the_whole_would_be(rng, monkeypatch):
    audio, weights = music(30_000, 2, rng), lively()
    whole = separated(audio, weights)
    monkeypatch.setattr(compact, "PIECE_S", 0.5)
    pieces = separated(audio, weights)
    np.testing.assert_allclose(pieces["bass"], whole["bass"], atol=1e-5)


@pytest.mark.parametrize("shifts", [1, 2, 4])
def test_mono_is_the_networks_mean_estimate_of_the_plain_signal_and_of_later_ones(shifts, rng):
    audio, weights, hop = music(9000, 1, rng), lively(), SMALL.hop_length
    before = SMALL.n_fft
    after = before + -(audio.frames + 2 * before) % SMALL.grid_frames
    reading = compact._first_reading(audio.reader())
    pieces = [compact_graph.spectrum(SMALL, compact._centred(piece)) for piece in reading.pieces]
    heard = tuned(SMALL, tuning_cents(pieces, SMALL))
    song = compact._song(reading, Network(heard, weights, 1))
    level, offset = (of(0, audio.frames, audio.sample_rate) for of in (song.level, song.offset))
    plain = torch.tensor(np.pad((audio.samples - offset[:1]) / level, ((0, 0), (before, after))))
    spectra = compact_network.spectrum(SMALL, plain)[..., :-1]
    total = torch.zeros_like(spectra[:, : SMALL.bins])
    with torch.inference_mode():
        for late in (number * hop // shifts for number in range(shifts)):
            later = torch.nn.functional.pad(plain, (late, 0))[:, : plain.shape[1]]
            estimate = compact_network.bass_spectrum(heard, weights, compact_network.spectrum(SMALL, later)[..., :-1])
            again = compact_network.waves(SMALL, estimate, plain.shape[1] - hop + late)[:, late:]
            total += compact_network.spectrum(SMALL, again)[:, : SMALL.bins]
    mixture, mean = (one[0].numpy().T for one in (spectra[:, : SMALL.bins], total / shifts))
    settled = rests.rests_settled(mixture, rests.lows_kept(SMALL, mixture, mean))
    made = timbre.by_timbre(mixture, settled, song.timbres)
    wanted = compact_graph.waves(SMALL, made[None], plain.shape[1])[:, before:-after] * level
    np.testing.assert_allclose(separated(audio, weights, shifts=shifts)["bass"], wanted, atol=1e-5)


@pytest.mark.parametrize("half", [False, True])
def test_training_goes_on_where_a_separation_was_before(half):
    compact_network._harmonic_maps.cache_clear()
    separated(Audio(np.ones((1, 3000)), 8000), lively())
    weights = {name: value.requires_grad_(True) for name, value in lively().items()}
    spectra = torch.randn(2, SMALL.n_fft // 2 + 1, 20, dtype=torch.complex64)
    compact_network.bass_spectrum(SMALL, weights, spectra, half).abs().sum().backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in weights.values())


def test_pieces_meet_whatever_the_shifts(rng, monkeypatch):
    audio, weights = music(30_000, 2, rng), lively()
    whole = separated(audio, weights, shifts=3)
    monkeypatch.setattr(compact, "PIECE_S", 0.5)
    np.testing.assert_allclose(separated(audio, weights, shifts=3)["bass"], whole["bass"], atol=1e-5)


def test_half_precision_computes_nearly_the_same():
    weights, spectra = lively(), torch.randn(2, SMALL.n_fft // 2 + 1, 40, dtype=torch.complex64)
    with torch.no_grad():
        whole, half = (compact_network.bass_spectrum(SMALL, weights, spectra, half) for half in (False, True))
    assert (whole - half).abs().mean() < 0.05 * whole.abs().mean()


@pytest.mark.parametrize("margin", [1, 5, 12])
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6))
@settings(max_examples=20, deadline=None)
def test_margins_hold_what_is_around(margin, sizes):
    edges = np.cumsum([0, *sizes])
    whole = np.arange(1, edges[-1] + 1)
    padded = np.pad(whole, margin)
    made = list(compact._with_margins(iter([whole[start:stop] for start, stop in pairwise(edges)]), margin))
    assert len(made) == len(sizes)
    for (block, inside), start, stop in zip(made, edges, edges[1:], strict=False):
        np.testing.assert_array_equal(block, padded[start : stop + 2 * margin])
        np.testing.assert_array_equal(block[inside], whole[start:stop])


def test_blocks_made_ahead_are_the_same_in_their_order():
    made: list[int] = []

    def blocks():
        for number in range(5):
            made.append(number)
            yield np.full((1, 2), number)

    seen = []
    for block in ahead(blocks()):
        seen.append(int(block[0, 0]))
        assert len(made) <= len(seen) + 1
    assert seen == list(range(5))
    assert list(ahead([])) == []


def test_what_goes_wrong_ahead_is_raised_and_leaving_early_ends_it():
    def blocks():
        try:
            yield np.zeros((1, 1))
            raise SeparationFailed("no more")
        finally:
            ended.set()

    ended, source = threading.Event(), ahead(blocks())
    next(source)
    with pytest.raises(SeparationFailed, match="no more"):
        next(source)
    assert ended.is_set()
    before = threading.active_count()
    source = ahead(np.zeros((1, 1)) for _ in range(9))
    next(source)
    source.close()
    assert threading.active_count() == before


def two_players(frames: int) -> list[np.ndarray]:
    parts = np.random.default_rng(0).standard_normal((2, 2, frames, 80)).astype(np.float32)
    return [real + 1j * imaginary for real, imaginary in parts]


@pytest.mark.parametrize("resting", ["bass", "guitar"])
def test_what_rests_gives_its_trace_to_the_other(resting):
    bass, guitar = two_players(200)
    rest = bass if resting == "bass" else guitar
    rest[50:150] *= np.float32(10 ** ((rests.SHUT_DB - 1) / 20))
    settled = rests.rests_settled(bass + guitar, bass)
    inside = slice(50 + rests.REST_FRAMES, 150 - rests.REST_FRAMES)
    wanted = np.zeros_like(bass) if resting == "bass" else bass + guitar
    np.testing.assert_allclose(settled[inside], wanted[inside], atol=1e-6)
    for outside in (slice(0, 50 - rests.REST_FRAMES), slice(150 + rests.REST_FRAMES, 200)):
        np.testing.assert_allclose(settled[outside], bass[outside], atol=1e-6)


def test_a_quiet_player_is_left_alone():
    bass, guitar = two_players(60)
    guitar *= np.float32(10 ** ((rests.OPEN_DB + 1) / 20))
    np.testing.assert_allclose(rests.rests_settled(bass + guitar, bass), bass, atol=1e-6)


@pytest.mark.parametrize("playing", [True, False])
def test_what_is_surely_low_is_the_basss_while_it_plays(playing):
    config = Config()
    mixture = np.concatenate(two_players(60), axis=1)[:, np.arange(config.bins) % 160]
    bass = mixture * np.float32(0.5 if playing else 0.1)
    made = rests.lows_kept(config, mixture, bass)
    low, high = (int(edge * config.n_fft / config.sample_rate) for edge in rests.LOW_HZ)
    np.testing.assert_array_equal(made[:, : low + 1], (mixture if playing else bass)[:, : low + 1])
    np.testing.assert_array_equal(made[:, high + 1 :], bass[:, high + 1 :])


# The contract


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("sample_rate", [4000, 8000, 11025, 44100, 192000])
@pytest.mark.parametrize("frames", [1, 2, 777, 20_000])
def test_stems_have_the_mixtures_shape_and_sum_to_it(channels, sample_rate, frames, rng):
    audio = music(frames, channels, rng, sample_rate)
    stems = separated(audio, lively())
    for stem in stems.values():
        assert stem.dtype == np.float32
        assert stem.shape == audio.samples.shape
        assert np.isfinite(stem).all()
    np.testing.assert_allclose(stems["bass"] + stems["guitar"], audio.samples, atol=1e-6)


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=8))
@settings(max_examples=10, deadline=None)
def test_the_readers_blocks_do_not_matter(sizes):
    audio = music(sum(sizes), 2, np.random.default_rng(1), 11025)
    edges = np.cumsum([0, *sizes])

    def ragged(block_frames):
        for start, stop in pairwise(edges):
            for at in range(start, stop, block_frames):
                yield audio.samples[:, at : min(at + block_frames, stop)]

    reader = Reader(audio.sample_rate, 2, audio.frames, ragged)
    weights = lively()
    made = join(stems["bass"] for stems in compact.separate(reader, SMALL, weights))
    np.testing.assert_allclose(made, separated(audio, weights)["bass"], atol=1e-6)


@pytest.mark.parametrize("gain", [1e-20, 1e-4, 0.1, 3.0, 1e30])
def test_stems_scale_with_the_mixture(gain, rng):
    audio, weights = Audio(music(12_000, 2, rng).samples * np.float32([[1], [0.8]]), 8000), lively()
    louder = Audio(audio.samples * np.float32(gain), audio.sample_rate)
    np.testing.assert_allclose(separated(louder, weights)["bass"] / gain, separated(audio, weights)["bass"], atol=2e-5)


def test_mono_is_a_stereo_file_with_equal_channels(rng):
    audio, weights = music(12_000, 1, rng), lively()
    both = Audio(np.repeat(audio.samples, 2, axis=0), audio.sample_rate)
    left, right = separated(both, weights)["bass"]
    np.testing.assert_allclose(left, separated(audio, weights)["bass"][0], atol=1e-6)
    np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("offset", [(0.3, 0.3), (0.3, 0.0), (-0.1, 0.2)])
def test_a_constant_offset_stays_with_the_guitar(offset, rng):
    audio, weights = music(20_000, 2, rng), lively()
    moved = Audio(audio.samples + np.float32(offset)[:, np.newaxis], audio.sample_rate)
    np.testing.assert_allclose(separated(moved, weights)["bass"], separated(audio, weights)["bass"], atol=5e-4)


def test_a_channel_turned_round_turns_its_bass_round(rng):
    audio, weights = music(20_000, 2, rng), lively()
    turned = Audio(audio.samples * np.float32([[1], [-1]]), audio.sample_rate)
    bass = separated(audio, weights)["bass"] * np.float32([[1], [-1]])
    np.testing.assert_allclose(separated(turned, weights)["bass"], bass, atol=1e-4)


def test_silence_stays_silent():
    stems = separated(Audio(np.zeros((2, 50_000)), 44100), lively())
    assert not stems["bass"].any()
    assert not stems["guitar"].any()


@pytest.mark.parametrize("kind", ["dc", "noise", "square", "denormal", "click"])
def test_hostile_sound_gives_finite_stems_that_are_no_louder_than_the_filter_allows(kind, rng):
    frames = 20_000
    samples = {
        "dc": np.ones((2, frames)),
        "noise": rng.uniform(-1, 1, (2, frames)),
        "square": np.sign(np.sin(np.arange(frames) * 0.05))[None].repeat(2, 0),
        "denormal": np.full((2, frames), 1e-40),
        "click": np.eye(2, frames, 9000),
    }[kind]
    stems = separated(Audio(samples, 44100), lively())
    assert np.isfinite(stems["bass"]).all()
    assert np.abs(stems["bass"]).max() <= 50 * np.abs(samples).max() + 1e-30


@pytest.mark.parametrize("offset", [0.0, 0.01, -0.3])
def test_silence_before_and_after_a_song_stays_silent_whatever_its_offset(offset, rng):
    song = music(40_000, 2, rng).samples + np.float32(offset)
    stems = separated(Audio(np.pad(song, ((0, 0), (40_000, 40_000))), 8000), lively())
    for stem in stems.values():
        assert not stem[:, :30_000].any()
        assert not stem[:, -30_000:].any()


@pytest.mark.parametrize("gain_db", [-15.0, -35.0])
def test_a_quiet_passage_comes_apart_as_a_loud_one_does(gain_db, rng):
    part, gain = music(80_000, 2, rng).samples, np.float32(10 ** (gain_db / 20))
    both = separated(Audio(np.concatenate([gain * part, part], axis=1), 8000), lively())["bass"]
    wanted = separated(Audio(part, 8000), lively())["bass"]
    far = 8000 * (LEVEL_S + 1)
    for made, true in ((both[:, : 80_000 - far] / gain, wanted[:, :-far]), (both[:, 80_000 + far :], wanted[:, far:])):
        assert np.std(made - true) < 0.1 * np.std(true)


@pytest.mark.parametrize("gain", [1e-20, 1.0, 1e10])
@pytest.mark.parametrize("hiss", [0.0, 1e-4])
def test_what_is_hardly_heard_is_not_looked_at(gain, hiss, rng):
    loud = music(40 * 8000, 2, rng).samples
    tail = hiss * rng.standard_normal((2, 160 * 8000))
    whole = Audio(np.float32(gain) * np.concatenate([loud, tail], axis=1), 8000)
    pieces = compact._first_reading(whole.reader()).pieces
    assert len(pieces) == 5
    mid = np.float32(gain) * loud.mean(axis=0)
    np.testing.assert_allclose(np.concatenate(pieces, axis=1)[0], mid, rtol=1e-5, atol=1e-7 * gain)


@pytest.mark.parametrize(("minutes", "count"), [(0.5, 4), (2, 5), (10, 6), (30, 6)])
def test_pieces_that_are_looked_at_are_spread_over_the_song(minutes, count):
    frames = round(minutes * 60 * 1000)
    ramp = Audio(np.sin(np.arange(frames) * 2.2)[np.newaxis] * np.linspace(0.9, 1, frames), 1000)
    starts = [piece[0].std() for piece in compact._first_reading(ramp.reader()).pieces]
    assert len(starts) == count
    steps = np.diff(starts[:-1] if minutes < 1 else starts)
    np.testing.assert_allclose(steps, steps.mean(), rtol=0.2)
    assert np.ptp(starts) > 0.6 * 0.1 * 2**-0.5


@pytest.mark.parametrize(("at_s", "found"), [(640, 1), (700, 6)])
def test_one_sound_in_a_long_silence_is_looked_at_or_else_the_silence(at_s, found):
    samples = np.zeros((1, 1000 * 60 * 20), np.float32)
    samples[0, 1000 * at_s] = 1.0
    pieces = compact._first_reading(Audio(samples, 1000).reader()).pieces
    assert len(pieces) == found
    assert sum(bool(piece.any()) for piece in pieces) == (found == 1)


def test_progress_ends_at_one(rng, monkeypatch):
    monkeypatch.setattr(compact, "PIECE_S", 0.5)
    told: list[float] = []
    list(compact.separate(music(12_000, 1, rng).reader(), SMALL, lively(), told.append))
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert len(told) >= 3


def test_broken_weights_are_told(rng):
    weights = lively()
    weights["in.bias"][0] = torch.nan
    with pytest.raises(SeparationFailed, match="NaN or infinity"):
        separated(music(9000, 2, rng), weights)


# Weights on disk


def test_weights_come_back_rounded_to_half_precision(tmp_path):
    weights = lively()
    compact_weights.save(tmp_path / "a.safetensors", SMALL, weights)
    config, loaded = compact_weights.load(tmp_path / "a.safetensors")
    assert config == SMALL
    for name, value in weights.items():
        np.testing.assert_allclose(loaded[name], value, rtol=1e-3, atol=1e-4)
        assert loaded[name].dtype == np.float32


def test_saving_twice_gives_equal_bytes(tmp_path):
    for name in "ab":
        compact_weights.save(tmp_path / name, SMALL, lively())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_weights_can_be_read_by_whoever_may_read_new_files(tmp_path):
    (tmp_path / "usual").touch()
    compact_weights.save(tmp_path / "a", SMALL, lively())
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize(
    "change",
    [
        {"n_fft": 2**16}, {"n_fft": 255}, {"hop_length": 1}, {"hop_length": 256}, {"hop_length": 60}, {"bins": 129},
        {"lowest_hz": 3999.0}, {"lowest_hz": True}, {"lowest_hz": "x"}, {"taps": 2}, {"pitches": 46}, {"head": 0},
        {"gathered": 4096}, {"widths": [4, 4]}, {"widths": 4}, {"dilations": 5}, {"dilations": []}, {"inner": [1]},
        {"sample_rate": 8000.0},
    ],
)  # fmt: skip
def test_a_shape_that_cannot_work_is_refused_by_the_name_of_what_is_wrong(change):
    whole = json.loads(json.dumps(asdict(SMALL)))
    assert config_from(whole) == SMALL
    with pytest.raises(ValueError, match=f"{next(iter(change))} .* is no shape of a network"):
        config_from({**whole, **change})


@pytest.mark.parametrize(
    "wrong", ["text", "empty", "no config", "a list", "integers", "nested", "NaN", "other shapes", "silly config"]
)
def test_files_that_are_no_weights_are_refused(wrong, tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "a.safetensors"
    if wrong == "text":
        path.write_text("not weights")
    elif wrong == "empty":
        path.write_bytes(b"")
    elif wrong == "no config":
        save_file({"a": torch.zeros(1)}, path)
    elif wrong == "a list":
        save_file({"a": torch.zeros(1)}, path, metadata={"config": "[1]"})
    elif wrong == "integers":
        whole = {name: value.int() for name, value in lively().items()}
        save_file(whole, path, metadata={"config": json.dumps(asdict(SMALL))})
    elif wrong == "nested":
        save_file({"a": torch.zeros(1)}, path, metadata={"config": "[" * 100_000})
    elif wrong == "NaN":
        compact_weights.save(path, SMALL, {**lively(), "in.bias": torch.full_like(lively()["in.bias"], torch.nan)})
    elif wrong == "other shapes":
        compact_weights.save(path, SMALL, lively(replace(SMALL, head=5)))
    else:
        save_file({"a": torch.zeros(1)}, path, metadata={"config": '{"n_fft": 99999999}'})
    with pytest.raises(BackendError, match=r"a\.safetensors"):
        compact_weights.load(path)


def test_a_model_of_ones_own_is_found_by_name_and_runs(tmp_path, rng, monkeypatch):
    compact_weights.save(tmp_path / "mine.safetensors", SMALL, lively())
    settings_, context = compact.Settings(model="mine", shifts=2), Context(wanted=("bass",), models=tmp_path)
    assert len(compact.identity(settings_, context)["weights_sha256"]) == 64
    audio = music(9000, 2, rng)
    made = list(compact.run(audio.reader(), settings_, context))
    assert [set(block) for block in made] == [{"bass"}]
    _, weights = compact_weights.load(tmp_path / "mine.safetensors")
    np.testing.assert_array_equal(made[0]["bass"], separated(audio, weights, shifts=2)["bass"])


def test_an_unknown_model_is_told_with_the_places(tmp_path):
    with pytest.raises(WeightsMissing, match=r"nobody.*looked in.*nobody\.safetensors.*--models"):
        compact.identity(compact.Settings(model="nobody"), Context(wanted=("bass",), models=tmp_path))


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_runtime_that_does_not_load_is_told(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(BackendNotInstalled, match="ONNX Runtime does not load .*force-reinstall onnx onnxruntime"):
        Network(SMALL, lively(), 1)
    unread = Reader(8000, 1, 8000, lambda block_frames: pytest.fail("the song was read for nothing"))
    with pytest.raises(BackendNotInstalled):
        list(compact.separate(unread, SMALL, lively()))


# The model that is shipped


def test_a_render_by_the_default_preset_does_without_torch(tmp_path, rng):
    gbsep.write(tmp_path / "song.wav", music(20_000, 2, rng, 44100))
    code = "import sys, gbsep; gbsep.render('song.wav', use_cache=False); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert (tmp_path / "gbsep-out" / "song" / "default" / "bass.wav").exists()


def test_the_card_describes_the_shipped_file():
    card = json.loads(EMBEDDED.with_suffix(".json").read_text())
    assert card["sha256"] == hashlib.sha256(EMBEDDED.read_bytes()).hexdigest()
    config, _ = compact_weights.load(EMBEDDED)
    assert config_from(card["config"]) == config
    assert EMBEDDED.stat().st_size < 20_000_000
    assert {"licence", "seed", "steps", "final_error_db", "instruments", "credits", "quality"} <= set(card)
    assert card["licence"] == catalogue.EMBEDDED.licence
    assert card["credits"] == Path(train.__file__).with_name("CREDITS.md").read_text(encoding="utf-8").splitlines()
    assert card["held_out"]["sha256"] == hashlib.sha256(HELD_OUT.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["KarissaHobbs_LetsGoFishin", "KevinMacLeod_VibeAce", "SlowMotionDream_excerpt"])
def test_a_plain_song_comes_back_whole_and_without_seams(name, data, monkeypatch):
    song = read(data / "mixes" / f"plain_{name}.flac", 2.0, 8.0)
    config, weights = compact_weights.load(EMBEDDED)
    whole = separated(song, weights, config)
    assert np.isfinite(whole["bass"]).all()
    np.testing.assert_allclose(whole["bass"] + whole["guitar"], song.samples, atol=1e-6)
    monkeypatch.setattr(compact, "PIECE_S", 2.5)
    np.testing.assert_allclose(separated(song, weights, config)["bass"], whole["bass"], atol=1e-4)


@pytest.mark.parametrize(("mono", "by_db"), [(True, 2.5), (False, 5.0)])
def test_the_held_out_model_beats_every_butterworth_cutoff_on_a_song_it_never_heard(mono, by_db, data):
    from scipy.signal import butter, sosfiltfilt

    song = data / "jams" / "03_bass_pasta_gtr_shiny+gtr_green"
    bass, guitar = (read(song / f"{name}.flac").samples for name in ("bass", "guitar"))
    if mono:
        bass, guitar = (x.mean(axis=0, keepdims=True) for x in (bass, guitar))
    mixture = Audio(bass + guitar, 44100)

    def sdr_db(truth: np.ndarray, estimate: np.ndarray) -> float:
        return float(10 * np.log10(np.sum(truth**2) / np.sum((estimate - truth) ** 2)))

    filtered = [
        sdr_db(bass, sosfiltfilt(butter(4, hz, output="sos", fs=44100), mixture.samples))
        for hz in (100, 150, 200, 250, 300, 400, 500)
    ]
    config, weights = compact_weights.load(HELD_OUT)
    assert sdr_db(bass, separated(mixture, weights, config)["bass"]) > max(filtered) + by_db
