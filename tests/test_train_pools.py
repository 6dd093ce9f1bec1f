"""Pools of takes and batches from them: what was rendered is in them, and they depend on the seed alone."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from gbsep.audio import Audio
from gbsep.errors import AudioFileError
from gbsep.io.formats import OutputFormat
from gbsep.io.resample import resample
from gbsep.io.write import write
from gbsep.train import generator, mixing, pool
from gbsep.train.instruments import SAMPLE_RATE

from .band import BAND, SMALL, hz

# Pools


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


def test_a_shards_description_says_who_plays(shard):
    about = json.loads((shard / "0001.json").read_text())
    assert (about["seed"], about["number"], about["sample_rate"], len(about["players"])) == (5, 1, 8000, 4)
