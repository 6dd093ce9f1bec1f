"""What the compact network can see, and that pieces meet where the whole would be."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gbsep.audio import Audio, ahead
from gbsep.errors import SeparationFailed
from gbsep.separation.compact import backend as compact
from gbsep.separation.compact import estimate, rests, timbre
from gbsep.separation.compact import network as compact_network
from gbsep.separation.compact import song as compact_song
from gbsep.separation.compact import spectra as compact_spectra
from gbsep.separation.compact.config import Config
from gbsep.separation.compact.places import Places
from gbsep.separation.compact.stream import Network, Stream
from gbsep.separation.compact.tuning import tuned, tuning_cents

from .compact import SMALL, lively, music, separated


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
        replace(SMALL, passes=2),
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
    "other",
    [
        replace(SMALL, taps=5),
        replace(SMALL, widths=(3, 4, 6)),
        replace(SMALL, dilations=((2, 2), (1, 1))),
        replace(SMALL, passes=2, gathered=5),
    ],
)
def test_a_network_does_not_grow_into_another(other):
    with pytest.raises(ValueError, match=r"grows only in|would shrink|grow in anything else"):
        compact_network.grown(SMALL, lively(), other, 0)


@given(steps=st.lists(st.integers(1, 12), min_size=0, max_size=4), end=st.integers(1, 40), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize(
    "config",
    [
        *(replace(SMALL, taps=taps) for taps in (1, 3, 5)),
        replace(SMALL, inner=(2, 3, 8, 5, 4, 6, 1), bins=128, gathered=12),
        replace(SMALL, passes=2),
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
    stream = Stream(Network(config, weights, 1), again=True)
    behind, made = 0, []
    for start, stop in pairwise(edges):
        last = bool(stop == edges[-1])
        made.append(stream.feed(spectra[start:stop], last))
        behind += int(stop - start) - len(made[-1])
        assert behind == 0 if last else 0 < behind <= config.context + (config.passes - 1) * (config.context + 3)
    with torch.inference_mode():
        whole = compact_network.bass_spectrum(config, weights, torch.from_numpy(spectra.T.copy())[None])
    # A second pass takes logarithms of what is left, which may be next to nothing.
    near = 1e-4 if config.passes == 1 else 2e-3
    np.testing.assert_allclose(np.concatenate(made), whole[0].numpy().T, atol=near, rtol=1e-5)


def test_a_network_of_two_passes_gives_the_mean_of_both_or_the_first_alone(rng):
    config = replace(SMALL, passes=2)
    weights, heard = lively(config), torch.from_numpy(rng.standard_normal((1, config.n_fft // 2 + 1, 96))).cfloat()
    with torch.inference_mode():
        first, second = compact_network.bass_spectra(config, weights, heard)
        mean = compact_network.bass_spectrum(config, weights, heard)
    assert (first - second).abs().max() > 0.01
    torch.testing.assert_close(mean - first, compact_network.SECOND * (second - first))
    once = Stream(Network(config, weights, 1)).feed(heard[0].numpy().T, last=True)
    np.testing.assert_allclose(once, first[0].numpy().T, atol=1e-4)


@pytest.mark.parametrize(
    ("heard", "places", "again"), [(1, None, True), (1, Places(0.0, (20.0,), 1.0), False), (2, None, False)]
)
def test_a_song_is_heard_again_where_places_do_not_help(heard, places, again, rng, monkeypatch):
    """And only there: two channels, or what places refine, take their time already."""
    config = replace(SMALL, passes=2)
    weights, audio = lively(config), music(30_000, 2, rng)
    first = {name: value for name, value in weights.items() if not name.startswith(compact_network.AGAIN)}
    learn = compact._song
    monkeypatch.setattr(compact, "_song", lambda *given: replace(learn(*given), heard=heard, places=places))
    twice, once = separated(audio, weights, config), separated(audio, first)
    assert np.array_equal(twice["bass"], once["bass"]) == (not again)


@pytest.mark.parametrize("passes", [1, 2])
def test_pieces_meet_where_the_whole_would_be(passes, rng, monkeypatch):
    config = replace(SMALL, passes=passes)
    audio, weights = music(30_000, 2, rng), lively(config)
    whole = separated(audio, weights, config)
    monkeypatch.setattr(estimate, "PIECE_S", 0.5)
    pieces = separated(audio, weights, config)
    np.testing.assert_allclose(pieces["bass"], whole["bass"], atol=1e-5)


@pytest.mark.parametrize("shifts", [1, 2, 4])
def test_mono_is_the_networks_mean_estimate_of_the_plain_signal_and_of_later_ones(shifts, rng):
    audio, weights, hop = music(9000, 1, rng), lively(), SMALL.hop_length
    before = SMALL.n_fft
    after = before + -(audio.frames + 2 * before) % SMALL.grid_frames
    reading = compact_song.first_pass(audio.reader())
    pieces = [compact_spectra.spectrum(SMALL, compact_song.centred(piece)) for piece in reading.pieces]
    heard = tuned(SMALL, tuning_cents(pieces, SMALL))
    song = compact._song(reading, Network(heard, weights, 1), partial(estimate.settle_bass, heard))
    level, offset = (of(0, audio.frames, audio.sample_rate) for of in (song.level, song.offset))
    plain = torch.tensor(np.pad((audio.samples - offset[:1]) / level, ((0, 0), (before, after))))
    spectra = compact_network.spectrum(SMALL, plain)[..., :-1]
    total = torch.zeros_like(spectra[:, : SMALL.bins])
    with torch.inference_mode():
        for late in (number * hop // shifts for number in range(shifts)):
            later = torch.nn.functional.pad(plain, (late, 0))[:, : plain.shape[1]]
            bass = compact_network.bass_spectrum(heard, weights, compact_network.spectrum(SMALL, later)[..., :-1])
            again = compact_network.waves(SMALL, bass, plain.shape[1] - hop + late)[:, late:]
            total += compact_network.spectrum(SMALL, again)[:, : SMALL.bins]
    mixture, mean = (one[0].numpy().T for one in (spectra[:, : SMALL.bins], total / shifts))
    settled = rests.settle_rests(mixture, rests.keep_lows(SMALL, mixture, mean))
    made = timbre.refine_by_timbre(mixture, settled, song.timbres)
    wanted = compact_spectra.waves(SMALL, made[None], plain.shape[1])[:, before:-after] * level
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
    monkeypatch.setattr(estimate, "PIECE_S", 0.5)
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
    made = list(estimate.with_margins(iter([whole[start:stop] for start, stop in pairwise(edges)]), margin))
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
    settled = rests.settle_rests(bass + guitar, bass)
    inside = slice(50 + rests.REST_FRAMES, 150 - rests.REST_FRAMES)
    wanted = np.zeros_like(bass) if resting == "bass" else bass + guitar
    np.testing.assert_allclose(settled[inside], wanted[inside], atol=1e-6)
    for outside in (slice(0, 50 - rests.REST_FRAMES), slice(150 + rests.REST_FRAMES, 200)):
        np.testing.assert_allclose(settled[outside], bass[outside], atol=1e-6)


def test_a_quiet_player_is_left_alone():
    bass, guitar = two_players(60)
    guitar *= np.float32(10 ** ((rests.OPEN_DB + 1) / 20))
    np.testing.assert_allclose(rests.settle_rests(bass + guitar, bass), bass, atol=1e-6)


@pytest.mark.parametrize("playing", [True, False])
def test_what_is_surely_low_is_the_basss_while_it_plays(playing):
    config = Config()
    mixture = np.concatenate(two_players(60), axis=1)[:, np.arange(config.bins) % 160]
    bass = mixture * np.float32(0.5 if playing else 0.1)
    made = rests.keep_lows(config, mixture, bass)
    low, high = (int(edge * config.n_fft / config.sample_rate) for edge in rests.LOW_HZ)
    np.testing.assert_array_equal(made[:, : low + 1], (mixture if playing else bass)[:, : low + 1])
    np.testing.assert_array_equal(made[:, high + 1 :], bass[:, high + 1 :])


def test_a_network_moves_to_other_pitches_and_more_bins() -> None:
    weights = lively()
    there = replace(SMALL, lowest_hz=2 * SMALL.lowest_hz, bins=SMALL.bins + 40)
    moved = compact_network.moved(SMALL, weights, there)
    assert {name: tuple(one.shape) for name, one in moved.items()} == compact_network.shapes(there)
    assert torch.equal(moved["out.bin"][:, :, : SMALL.bins], weights["out.bin"])
    assert torch.equal(moved["out.bin"][:, :, -1], weights["out.bin"][:, :, -1])
    with pytest.raises(ValueError, match="moves only"):
        compact_network.moved(SMALL, weights, replace(there, head=2 * SMALL.head))
