"""Checkpoints of the Music-Source-Separation-Training family: parity, streaming, what is computed and what is said."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch

import gbsep
from gbsep.audio import Audio, Reader
from gbsep.errors import BackendNotInstalled, ParameterError, WeightsMissing
from gbsep.models.package import load_checkpoint
from gbsep.separation.backend import Context, separate
from gbsep.separation.msst import backend as msst
from gbsep.separation.msst import network as networks
from gbsep.separation.msst.config import read_config
from gbsep.separation.msst.segments import Cut
from tests.msst import SMALL, random_models

RATE = 44100


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    for name in SMALL:
        random_models.write_checkpoint(name, folder)
    return folder


def noise(frames: int, channels: int = 2, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal((channels, frames))).astype(np.float32)


def stems_of(samples: np.ndarray, models: Path, rate: int = RATE, **settings: object) -> dict[str, np.ndarray]:
    made = separate(Audio(samples, rate), "msst", models=models, device="cpu", **settings)
    return {name: stem.samples for name, stem in made.stems.items()}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SMALL)
def test_stems_are_those_of_pymss(models: Path, name: str) -> None:
    from pymss import MSSeparator

    checkpoint = models / f"{name}.ckpt"
    theirs = MSSeparator(
        model_type=random_models.CHECKPOINTS[name]["model_type"],
        model_path=str(checkpoint),
        config_path=str(checkpoint.with_suffix(".yaml")),
        device="cpu",
        store_dirs={},
        logger=logging.getLogger("pymss"),
        inference_params={},
    )
    for frames in (30000, 61234):
        samples = noise(frames)
        expected = theirs.separate(samples, pbar=False)
        ours = stems_of(samples, models, model=name)
        assert set(ours) == {stem.lower() for stem in expected}
        for stem, wanted in expected.items():
            assert np.abs(wanted).max() > 1e-3
            np.testing.assert_allclose(ours[stem.lower()], wanted.T, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in SMALL if "mel_band" not in name])
def test_a_stem_alone_is_what_it_is_among_all(models: Path, name: str) -> None:
    samples = noise(30000)
    everything = stems_of(samples, models, model=name)
    last = list(everything)[-1]
    alone = stems_of(samples, models, model=name, wanted=[last])
    assert set(alone) == {last}
    np.testing.assert_allclose(alone[last], everything[last], atol=2e-6)


def test_networks_of_stems_that_nobody_asks_for_are_cut(models: Path) -> None:
    config = read_config(models / "tiny_bs_roformer.yaml")
    path = models / "tiny_bs_roformer.ckpt"
    network = networks.build(config, path, load_checkpoint(path))
    whole = sum(tensor.numel() for tensor in network.parameters())
    networks.keep_only(network, config, [0])
    assert len(network.mask_estimators) == 1
    assert sum(tensor.numel() for tensor in network.parameters()) < whole / 2


def test_a_target_comes_with_the_rest_of_the_mixture(models: Path) -> None:
    samples = noise(30000)
    for rate in (RATE, 48000):
        made = stems_of(samples, models, rate, model="tiny_mel_band_roformer")
        assert list(made) == ["guitar", "other"]
        np.testing.assert_allclose(made["guitar"] + made["other"], samples, atol=1e-6)


def test_mono_is_the_mean_of_two_equal_channels(models: Path) -> None:
    samples = noise(30000, 1)
    mono = stems_of(samples, models, model="tiny_bs_roformer", wanted=["bass"])["bass"]
    both = stems_of(np.repeat(samples, 2, axis=0), models, model="tiny_bs_roformer", wanted=["bass"])["bass"]
    assert mono.shape == (1, 30000)
    np.testing.assert_allclose(mono, both.mean(axis=0, keepdims=True), atol=1e-6)


def test_a_seed_repeats_and_shifts_change(models: Path) -> None:
    samples = noise(30000)
    one, same, other = (
        stems_of(samples, models, model="tiny_bs_roformer", wanted=["bass"], shifts=2, seed=seed)["bass"]
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    plain = stems_of(samples, models, model="tiny_bs_roformer", wanted=["bass"])["bass"]
    assert np.abs(one - other).max() > 1e-6 < np.abs(one - plain).max()
    assert np.corrcoef(one.ravel(), plain.ravel())[0, 1] > 0.5


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(
    ("frames", "length", "step"), [(1000, 256, 128), (5000, 1000, 100), (300, 512, 256), (1, 64, 16)]
)
@pytest.mark.parametrize("shift", [0, 37])
def test_segments_add_up_to_the_signal(frames: int, length: int, step: int, shift: int, plain: bool) -> None:
    signal = np.random.default_rng(1).standard_normal((2, frames)).astype(np.float32)

    def take(start: int, count: int) -> np.ndarray:
        assert count >= 0
        padded = np.pad(signal, ((0, 0), (2 * length, 2 * length)))
        return padded[:, start + 2 * length : start + 2 * length + count]

    cut = Cut(frames, length, step, shift, plain)
    total = np.zeros((2, frames))
    for start in cut.starts():
        piece, weights = cut.piece(take, start), cut.weights(start)
        assert piece.shape == (2, length)
        begin, end = max(0, start), min(frames, start + len(weights))
        total[:, begin:end] += piece[:, begin - start : end - start] * weights[begin - start : end - start]
    # Where all windows are 0 at once, the tools of the family have silence; that is one sample at the most.
    assert (np.abs(total - signal).max(axis=0) > 1e-5).sum() <= 1


def test_memory_does_not_grow_with_the_song(models: Path) -> None:
    import tracemalloc

    torch.set_num_threads(1)
    settings = msst.Settings(model="tiny_scnet", overlap=0.0)
    peaks = []
    for frames in (200_000, 400_000, 1_600_000):
        block = noise(20_000)

        def blocks(count: int, frames: int = frames, block: np.ndarray = block):
            for _ in range(frames // 20_000):
                yield block

        context = Context(("bass",), device="cpu", models=models)
        tracemalloc.start()
        made = sum(block["bass"].shape[1] for block in msst.run(Reader(RATE, 2, frames, blocks), settings, context))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert made == frames
    assert peaks[2] < 1.2 * peaks[1] + 200_000


def test_only_fitting_segments_are_taken(models: Path) -> None:
    with pytest.raises(ParameterError, match=r"segment_s = 2\.0 s is not allowed: mdx23c takes segments of"):
        stems_of(noise(1000), models, model="tiny_mdx23c", segment_s=2.0)
    made = stems_of(noise(30000), models, model="tiny_bs_roformer", segment_s=0.6, overlap=0.1, wanted=["bass"])
    assert made["bass"].shape == (2, 30000)


def test_bfloat16_is_near_float32(models: Path) -> None:
    samples = noise(30000)
    exact = stems_of(samples, models, model="tiny_bs_roformer", wanted=["bass"])["bass"]
    rough = stems_of(samples, models, model="tiny_bs_roformer", wanted=["bass"], precision="bfloat16")["bass"]
    assert 0 < np.abs(rough - exact).max() < 0.03 * np.abs(exact).max()


def test_without_pymss_core_the_extra_is_named(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = networks.importlib.util.find_spec
    missing = lambda name, *rest: None if name == "pymss_core" else find_spec(name, *rest)  # noqa: E731
    monkeypatch.setattr(networks.importlib.util, "find_spec", missing)
    context = Context(("bass",), device="cpu", models=models)
    with pytest.raises(BackendNotInstalled, match=r"bs_roformer needs pymss-core: pip install 'gbsep\[msst\]'"):
        msst.identity(msst.Settings(model="tiny_bs_roformer"), context)
    assert msst.identity(msst.Settings(model="tiny_htdemucs"), context)["architecture"] == "htdemucs"


def test_containers_and_prefixes_are_opened(models: Path, tmp_path: Path) -> None:
    expected = load_checkpoint(models / "tiny_scnet.ckpt")
    for container in ("state", "state_dict", "model_state_dict"):
        path = random_models.write_checkpoint("tiny_scnet", tmp_path, stem=container, container=container)
        assert load_checkpoint(path).keys() == expected.keys()
    prefixed = tmp_path / "prefixed.pt"
    torch.save({f"module.{key}": tensor for key, tensor in expected.items()}, prefixed)
    assert load_checkpoint(prefixed).keys() == expected.keys()
    from safetensors.torch import save_file

    save_file(expected, tmp_path / "tensors.safetensors")
    assert load_checkpoint(tmp_path / "tensors.safetensors").keys() == expected.keys()


def test_a_preset_renders_what_it_gives(models: Path, tmp_path: Path, typed, monkeypatch: pytest.MonkeyPatch) -> None:
    """roformer_sw with a small network in place of the published one, by the name that audio-separator gives it."""
    random_models.write_checkpoint("tiny_six_stems", tmp_path / "asep", stem="BS-Roformer-SW")
    monkeypatch.setenv("GBSEP_MODELS", str(tmp_path / "asep"))
    gbsep.write("song.wav", Audio(noise(60000), RATE))
    code, printed, complaint = typed("render", "song.wav", "-p", "roformer_sw", "--json")
    assert code == 0, complaint
    folder = Path(json.loads(printed)["folder"])
    record = json.loads((folder / "render.json").read_text())
    assert record["separation"]["architecture"] == "bs_roformer"
    assert list(record["separation"]["weights"]) == ["BS-Roformer-SW.ckpt", "BS-Roformer-SW.yaml"]
    assert {"bass.wav", "guitar.wav", "residual.wav"} <= {path.name for path in folder.iterdir()}
    assert any("no licence stated" in warning for warning in record["warnings"])
    code, printed, _ = typed("render", "song.wav", "-p", "roformer_sw", "--json", "--set", "stems.bass.chain=[]")
    assert code == 0
    assert json.loads(printed)["from_cache"] is True


def test_a_published_one_that_is_nowhere_says_how_to_get_it(tmp_path: Path) -> None:
    context = Context(("bass",), device="cpu", models=tmp_path, download=False)
    with pytest.raises(WeightsMissing, match="Run `gbsep models get bs_roformer_sw` where there is a network"):
        msst.identity(msst.Settings(), context)
