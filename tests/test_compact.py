"""The embedded model: stems add up, whatever the blocks, pieces, rates and levels; its context is what it says."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
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
from gbsep.audio import Audio, Reader, join
from gbsep.errors import BackendError, BackendNotInstalled, SeparationFailed, WeightsMissing
from gbsep.io.read import read
from gbsep.models import catalogue
from gbsep.separation.backend import Context
from gbsep.separation.compact import backend as compact
from gbsep.separation.compact import estimate
from gbsep.separation.compact import song as compact_song
from gbsep.separation.compact import weights as compact_weights
from gbsep.separation.compact.config import config_from
from gbsep.separation.compact.song import LEVEL_S
from gbsep.separation.compact.stream import Network

from .compact import HELD_OUT, SMALL, lively, music, separated

EMBEDDED = catalogue.EMBEDDED_FOLDER / catalogue.EMBEDDED.files[0]


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
    pieces = compact_song.first_pass(whole.reader()).pieces
    assert len(pieces) == 5
    mid = np.float32(gain) * loud.mean(axis=0)
    np.testing.assert_allclose(np.concatenate(pieces, axis=1)[0], mid, rtol=1e-5, atol=1e-7 * gain)


@pytest.mark.parametrize(("minutes", "count"), [(0.5, 4), (2, 5), (10, 6), (30, 6)])
def test_pieces_that_are_looked_at_are_spread_over_the_song(minutes, count):
    frames = round(minutes * 60 * 1000)
    ramp = Audio(np.sin(np.arange(frames) * 2.2)[np.newaxis] * np.linspace(0.9, 1, frames), 1000)
    starts = [piece[0].std() for piece in compact_song.first_pass(ramp.reader()).pieces]
    assert len(starts) == count
    steps = np.diff(starts[:-1] if minutes < 1 else starts)
    np.testing.assert_allclose(steps, steps.mean(), rtol=0.2)
    assert np.ptp(starts) > 0.6 * 0.1 * 2**-0.5


@pytest.mark.parametrize(("at_s", "found"), [(640, 1), (700, 6)])
def test_one_sound_in_a_long_silence_is_looked_at_or_else_the_silence(at_s, found):
    samples = np.zeros((1, 1000 * 60 * 20), np.float32)
    samples[0, 1000 * at_s] = 1.0
    pieces = compact_song.first_pass(Audio(samples, 1000).reader()).pieces
    assert len(pieces) == found
    assert sum(bool(piece.any()) for piece in pieces) == (found == 1)


def test_progress_ends_at_one(rng, monkeypatch):
    monkeypatch.setattr(estimate, "PIECE_S", 0.5)
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
    listed = Path(train.__file__).with_name("CREDITS.md").read_text(encoding="utf-8").splitlines()
    assert card["credits"] == listed[: len(card["credits"])], "what later networks were taught on stands below"
    assert card["held_out"]["sha256"] == hashlib.sha256(HELD_OUT.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["KarissaHobbs_LetsGoFishin", "KevinMacLeod_VibeAce", "SlowMotionDream_excerpt"])
def test_a_plain_song_comes_back_whole_and_without_seams(name, data, monkeypatch):
    song = read(data / "mixes" / f"plain_{name}.flac", 2.0, 8.0)
    config, weights = compact_weights.load(EMBEDDED)
    whole = separated(song, weights, config)
    assert np.isfinite(whole["bass"]).all()
    np.testing.assert_allclose(whole["bass"] + whole["guitar"], song.samples, atol=1e-6)
    monkeypatch.setattr(estimate, "PIECE_S", 2.5)
    np.testing.assert_allclose(separated(song, weights, config)["bass"], whole["bass"], atol=1e-4)


@pytest.mark.parametrize(("mono", "by_db"), [(True, 2.5), (False, 5.0)])
def test_the_held_out_model_beats_every_butterworth_cutoff_on_a_song_it_never_heard(mono, by_db, data):
    from scipy.signal import butter, sosfiltfilt

    song = data / "jams" / "03_bass_pasta_gtr_shiny+gtr_green"
    bass, guitar = (read(song / f"{name}.flac").samples for name in ("bass", "guitar"))
    if mono:
        bass, guitar = (x.mean(axis=0, keepdims=True) for x in (bass, guitar))
    mixture = Audio(bass + guitar, 44100)

    def sdr_db(truth: np.ndarray, made: np.ndarray) -> float:
        return float(10 * np.log10(np.sum(truth**2) / np.sum((made - truth) ** 2)))

    filtered = [
        sdr_db(bass, sosfiltfilt(butter(4, hz, output="sos", fs=44100), mixture.samples))
        for hz in (100, 150, 200, 250, 300, 400, 500)
    ]
    config, weights = compact_weights.load(HELD_OUT)
    assert sdr_db(bass, separated(mixture, weights, config)["bass"]) > max(filtered) + by_db
