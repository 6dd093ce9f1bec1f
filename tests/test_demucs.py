"""Demucs, streamed: equal to demucs.apply.apply_model, only slower networks left out."""

import contextlib
import importlib.util
import itertools
import json
import subprocess
import sys
import tracemalloc
from fractions import Fraction

import numpy as np
import pydantic
import pytest
import torch
import yaml

from gbsep.audio import Audio, Reader
from gbsep.errors import BackendError, BackendNotInstalled, ParameterError, SeparationFailed, WeightsMissing
from gbsep.io.resample import resample, resample_blocks
from gbsep.models import catalogue
from gbsep.models.verify import trust
from gbsep.separation import compute
from gbsep.separation.backend import Context
from gbsep.separation.demucs import backend as demucs
from gbsep.separation.demucs import export as demucs_export
from gbsep.separation.demucs import network as demucs_network
from gbsep.separation.demucs import openvino as demucs_openvino
from gbsep.separation.demucs import transform
from gbsep.separation.inference import torch_forward

from .networks import random_models

SOURCES = random_models.SOURCES
RATE = 44100


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("GBSEP_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("GBSEP_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def transformer(seed=0, **changes):
    from demucs.htdemucs import HTDemucs

    torch.manual_seed(seed)
    small = {
        "channels": 8,
        "depth": 3,
        "nfft": 2048,
        "t_layers": 2,
        "t_heads": 2,
        "bottom_channels": 8,
        "dconv_mode": 3,
    }
    return HTDemucs(**{"sources": SOURCES, "segment": Fraction(1, 2), **small, **changes}).eval()


def hybrid(seed=1, **changes):
    from demucs.hdemucs import HDemucs

    torch.manual_seed(seed)
    small = {"channels": 8, "depth": 5, "nfft": 1024, "norm_groups": 2, "dconv_lstm": 4, "dconv_attn": 9, "segment": 1}
    return HDemucs(**{"sources": SOURCES, **small, **changes}).eval()


def waveform(seed=2, **changes):
    from demucs.demucs import Demucs

    torch.manual_seed(seed)
    small = {"channels": 4, "depth": 4, "norm_starts": 9, "dconv_lstm": 3, "dconv_attn": 9, "segment": 1}
    return Demucs(**{"sources": SOURCES, **small, **changes}).eval()


def write(folder, *networks, name="htdemucs", **bag):
    signatures = [f"sig{index}" for index in range(len(networks))]
    for signature, network in zip(signatures, networks, strict=True):
        random_models.save_hub(network, folder, signature)
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({"models": signatures, **bag}))


def noise(rng, frames, channels=2):
    return (0.1 * rng.standard_normal((channels, frames)) + 0.01).astype(np.float32)


def separate(folder, mixture, wanted=("bass",), seed=0, rate=RATE, **settings):
    settings = demucs.Settings(engine="torch", **settings) if "engine" not in settings else demucs.Settings(**settings)
    context = Context(tuple(wanted), np.random.default_rng(seed), "cpu", folder)
    blocks = list(demucs.run(Audio(mixture, rate).reader(), settings, context))
    return {name: np.concatenate([block[name] for block in blocks], axis=1) for name in wanted}


def reference(monkeypatch, networks, mixture, shifts, overlap, seed=0, weights=None, segment=None):
    """demucs.apply.apply_model with the same normalisation and the same shifts: (sources, channels, frames)."""
    from demucs import apply

    draws = np.random.default_rng(seed).integers(0, RATE // 2 + 1, (len(networks), shifts)).ravel().tolist()
    monkeypatch.setattr(apply.random, "randint", lambda low, high: draws.pop(0))
    wave = torch.from_numpy(mixture)
    mono = wave.mean(0)
    std = (mono.std() if mixture.shape[1] > 1 else torch.tensor(0.0)) + 1e-8
    with torch.no_grad():
        normalised = ((wave - mono.mean()) / std)[None]
        bag = apply.BagOfModels(networks, weights)
        out = apply.apply_model(bag, normalised, shifts=shifts, overlap=overlap, segment=segment)[0]
    return (out * std + mono.mean()).numpy()


def error(estimate, truth):
    assert estimate.shape == truth.shape
    assert estimate.dtype == np.float32
    return np.abs(estimate - truth).max() / np.abs(truth).max()


@pytest.mark.parametrize(
    ("make", "frames", "shifts", "overlap"),
    [
        (transformer, 1, 0, 0.25),
        (transformer, 2, 1, 0.25),
        (transformer, 5000, 0, 0.25),
        (transformer, 22050, 0, 0.25),
        (transformer, 22051, 1, 0.25),
        (transformer, 70001, 0, 0.0),
        (transformer, 40001, 3, 0.7),
        (hybrid, 1, 1, 0.25),
        (hybrid, 70001, 2, 0.25),
        (waveform, 3000, 2, 0.25),
        (waveform, 70001, 1, 0.5),
    ],
)
def test_equals_apply_model(make, frames, shifts, overlap, folder, rng, monkeypatch):
    network, mixture = make(), noise(rng, frames)
    write(folder, network)
    stems = separate(folder, mixture, ("bass", "other"), shifts=shifts, overlap=overlap)
    truth = reference(monkeypatch, [network], mixture, shifts, overlap)
    for name, stem in stems.items():
        assert error(stem, truth[SOURCES.index(name)]) < 1e-5


def test_a_mixed_bag_equals_apply_model(folder, rng, monkeypatch):
    networks, mixture = [transformer(), hybrid(), waveform()], noise(rng, 60_000)
    weights = [[1.0, 2.0, 0.0, 1.0], [0.0, 1.0, 1.0, 1.0], [0.0, 0.0, 3.0, 2.0]]
    write(folder, *networks, weights=weights)
    stems = separate(folder, mixture, ("vocals", "other"), shifts=2)
    truth = reference(monkeypatch, networks, mixture, 2, 0.25, weights=weights)
    for name, stem in stems.items():
        assert error(stem, truth[SOURCES.index(name)]) < 1e-5


@pytest.mark.parametrize("make", [transformer, hybrid])
def test_a_shorter_segment_equals_apply_model(make, folder, rng, monkeypatch):
    network, mixture = make(), noise(rng, 60_000)
    write(folder, network)
    stem = separate(folder, mixture, shifts=1, segment_s=0.5)["bass"]
    assert error(stem, reference(monkeypatch, [network], mixture, 1, 0.25, segment=0.5)[1]) < 1e-5


def test_mono_is_two_equal_channels(folder, rng, monkeypatch):
    network, mixture = transformer(), noise(rng, 30_000, channels=1)
    write(folder, network)
    truth = reference(monkeypatch, [network], np.repeat(mixture, 2, axis=0), 1, 0.25)[1]
    assert error(separate(folder, mixture)["bass"], truth.mean(axis=0, keepdims=True)) < 1e-5


def test_48_khz_goes_through_our_resampler(folder, rng, monkeypatch):
    network, mixture = transformer(), noise(rng, 60_000)
    write(folder, network)
    stem = separate(folder, mixture, rate=48_000, shifts=0)["bass"]
    at_rate = resample(Audio(mixture, 48_000).reader(), RATE).read().samples
    truth = Audio(reference(monkeypatch, [network], np.array(at_rate), 0, 0.25)[1], RATE)
    back = resample_blocks(truth.reader().blocks(), RATE, 48_000, 2, mixture.shape[1])
    assert error(stem, np.concatenate(list(back), axis=1)) < 1e-5


def test_a_bag_overrides_the_segment(folder, rng, monkeypatch):
    network, mixture = hybrid(), noise(rng, 50_000)
    write(folder, network, segment=0.6)
    network.segment = 0.6
    assert error(separate(folder, mixture)["bass"], reference(monkeypatch, [network], mixture, 1, 0.25)[1]) < 1e-5


# only what is heard is computed


def test_networks_that_are_not_heard_are_not_even_read(folder, rng):
    mixture = noise(rng, 30_000)
    write(folder, *(transformer(seed) for seed in range(4)), weights=np.eye(4).tolist())
    both = separate(folder, mixture, ("bass", "other"))
    for signature in ("sig0", "sig3"):
        (folder / f"{signature}.safetensors").write_bytes(b"not read")
        trust(folder / f"{signature}.safetensors")
    assert np.array_equal(separate(folder, mixture, ("other", "bass"))["bass"], both["bass"])
    with pytest.raises(BackendError, match="no readable Demucs model"):
        separate(folder, mixture, ("drums",))


@pytest.mark.parametrize(
    "network",
    [transformer(), hybrid(), waveform(), hybrid(multi_freqs=[0.25, 0.5], multi_freqs_depth=2, hybrid=False)],
    ids=["transformer", "hybrid", "waveform", "bands"],
)
def test_only_wanted_sources_are_decoded(network, rng):
    mixture = torch.from_numpy(noise(rng, 22050))[None]
    if hasattr(network, "valid_length"):
        mixture = torch.nn.functional.pad(mixture, (0, network.valid_length(22050) - 22050))
    with torch.inference_mode():
        whole = network(mixture)
        demucs_network.decode_only(network, ["vocals", "bass"])
        cut = network(mixture)
    assert network.sources == ["bass", "vocals"]
    assert cut.shape[1] == 2
    assert torch.allclose(cut, whole[:, [1, 3]], rtol=0, atol=1e-6 * whole.abs().max())


@pytest.mark.parametrize("changes", [{"norm_starts": 0}, {"cac": False}])
def test_nothing_is_cut_where_sources_share_a_layer(changes, folder, rng, monkeypatch):
    network, mixture = hybrid(**changes), noise(rng, 30_000)
    write(folder, network)
    stem = separate(folder, mixture, ("other",))["other"]
    assert error(stem, reference(monkeypatch, [network], mixture, 1, 0.25)[2]) < 1e-5


# the same again, and within bounds


def test_same_seed_same_bytes(folder, rng):
    mixture = noise(rng, 60_000)
    write(folder, transformer())
    first, second, other = (separate(folder, mixture, shifts=2, seed=seed)["bass"] for seed in (1, 1, 2))
    assert first.tobytes() == second.tobytes()
    assert not np.array_equal(first, other)


def test_silence_stays_silent(folder):
    write(folder, transformer())
    assert not separate(folder, np.zeros((2, 40_000), np.float32))["bass"].any()


def test_memory_does_not_grow_with_the_track(folder):
    write(folder, waveform(depth=1, dconv_mode=0, resample=False, segment=0.5))

    def peak(seconds):
        block = noise(np.random.default_rng(0), RATE)
        reader = Reader(RATE, 2, seconds * RATE, lambda block_frames: itertools.repeat(block, seconds))
        context = Context(("bass", "other"), np.random.default_rng(0), "cpu", folder)
        tracemalloc.reset_peak()
        frames = sum(out["bass"].shape[1] for out in demucs.run(reader, demucs.Settings(engine="torch"), context))
        assert frames == reader.frames
        return tracemalloc.get_traced_memory()[1]

    peak(1)
    tracemalloc.start()
    short, long = peak(6), peak(24)
    tracemalloc.stop()
    assert long < short + 500_000


def test_out_of_memory_goes_on_with_smaller_batches():
    warnings = []

    class Network(torch.nn.Module):
        def forward(self, mixtures):
            if len(mixtures) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return mixtures[:, None]

    forward = torch_forward(Network(), "cpu", warnings.append)
    mixtures = np.arange(7 * 2 * 5, dtype=np.float32).reshape(7, 2, 5)
    for _ in range(2):
        assert np.array_equal(forward(mixtures)[:, 0], mixtures)
    assert warnings == [
        "cpu has too little memory for 7 segments at once: going on with 3",
        "cpu has too little memory for 3 segments at once: going on with 1",
    ]


def test_out_of_memory_for_one_segment():
    def network(mixtures):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    module = torch.nn.Module()
    module.forward = network
    with pytest.raises(SeparationFailed, match="too little memory for one segment: choose a smaller segment_s"):
        torch_forward(module, "cpu", print)(np.zeros((1, 2, 5), np.float32))


def test_batches_give_what_single_segments_give(folder, rng, monkeypatch):
    mixture = noise(rng, 90_000)
    write(folder, transformer(), hybrid())
    single = separate(folder, mixture, shifts=2)["bass"]
    monkeypatch.setattr(demucs, "_batch", lambda voices, device: 5)
    assert error(separate(folder, mixture, shifts=2)["bass"], single) < 1e-5


def test_values_that_are_not_finite(folder, rng):
    network = transformer()
    with torch.no_grad():
        network.decoder[-1].conv_tr.bias[:] = 3e38
        network.decoder[-1].conv_tr.weight[:] = 3e38
    write(folder, network)
    with pytest.raises(SeparationFailed, match="not finite"):
        separate(folder, noise(rng, 9000))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_while_planning(folder, value):
    network = transformer()
    with torch.no_grad():
        network.decoder[-1].conv_tr.bias[1] = value
    write(folder, network)
    for _ in range(2):
        with pytest.raises(BackendError, match=r"sig0\.safetensors: decoder\..*bias holds NaN or infinity"):
            demucs.identity(demucs.Settings(), Context(("bass",), device="cpu", models=folder))


# refusals


def test_settings_out_of_range():
    for wrong in ({"shifts": -1}, {"overlap": 1.0}, {"segment_s": 0.0}, {"engine": "tpu"}, {"shift": 1}):
        with pytest.raises(pydantic.ValidationError, match=next(iter(wrong))):
            demucs.Settings(**wrong)


def test_a_segment_longer_than_the_transformer_was_trained_on(folder, rng):
    write(folder, transformer())
    with pytest.raises(ParameterError, match=r"segment_s = 1\.0 s is not allowed: htdemucs takes at most 0\.5"):
        separate(folder, noise(rng, 9000), segment_s=1.0)


def test_stems_the_model_does_not_give(folder, rng):
    write(folder, transformer(), name="mine")
    assert demucs.stem_names(demucs.Settings(model="mine"), folder) == tuple(SOURCES)
    assert demucs.stem_names(demucs.Settings(model="htdemucs_6s"))[-2:] == ("guitar", "piano")
    with pytest.raises(ParameterError, match="mine gives drums, bass, other, vocals"):
        separate(folder, noise(rng, 9000), ("guitar",), model="mine")


@pytest.mark.parametrize(
    ("bag", "reason"),
    [
        ({"weights": [[1.0, 0.0]]}, "weights for 2 stems, not for 4"),
        ({"weights": [[1.0, 0.0, 1.0, 1.0]]}, "no network of its bag has a weight for one of bass"),
    ],
)
def test_bags_that_do_not_fit(bag, reason, folder, rng):
    write(folder, transformer(), **bag)
    with pytest.raises(BackendError, match=reason):
        separate(folder, noise(rng, 9000))


def test_networks_that_do_not_belong_together(folder, rng):
    write(folder, transformer(), transformer(sources=["bass", "other", "drums", "vocals"]))
    with pytest.raises(BackendError, match=r"sig1.* separates bass, other"):
        separate(folder, noise(rng, 9000))
    write(folder, transformer(), hybrid(samplerate=22050))
    for path in folder.glob("*.safetensors"):
        trust(path)
    with pytest.raises(BackendError, match="different sample rates"):
        separate(folder, noise(rng, 9000))


# identity


def test_identity_names_what_changes_the_stems(folder, monkeypatch):
    write(folder, transformer())
    context = Context(("bass",), device="cpu", models=folder)
    identity = demucs.identity(demucs.Settings(engine="torch"), context)
    assert identity["engine"] == "torch"
    assert identity["precision"] == "float32"
    assert identity["threads"] == 1
    assert identity["licence"] == catalogue.DEMUCS_LICENCE
    assert json.loads(json.dumps(identity)) == identity
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert demucs.identity(demucs.Settings(engine="torch"), context) == identity | {"threads": 2}
    (folder / "htdemucs.yaml").write_text("models: [sig0]\nsegment: 0.4\n")
    other = demucs.identity(demucs.Settings(engine="torch"), context)
    assert other["weights_sha256"] != identity["weights_sha256"]


def test_identity_loads_torch_only_for_weights_it_has_not_seen(folder):
    write(folder, transformer())
    program = (
        "import sys; from pathlib import Path; from gbsep.separation.backend import Context\n"
        "from gbsep.separation.demucs import backend as demucs\n"
        f"context = Context(('bass',), device='cpu', models=Path({str(folder)!r}))\n"
        "demucs.identity(demucs.Settings(), context); demucs.stem_names(demucs.Settings())\n"
        "print([name for name in ('torch', 'demucs', 'openvino', 'librosa') if name in sys.modules])"
    )
    told = [subprocess.check_output([sys.executable, "-c", program], text=True).strip() for _ in range(2)]
    assert "torch" in told[0]
    assert told[1] == "[]"


def test_missing_weights_are_told_while_planning(folder, monkeypatch):
    monkeypatch.setattr("gbsep.models.find.fetch", lambda name, progress: (_ for _ in ()).throw(OSError("no network")))
    with pytest.raises(WeightsMissing, match="no network"):
        demucs.identity(demucs.Settings(), Context(("bass",), models=folder))


def test_licence_is_told_once(folder, rng):
    write(folder, transformer())
    told = []
    for _ in range(2):
        context = Context(("bass",), device="cpu", models=folder, warn=told.append)
        list(demucs.run(Audio(noise(rng, 100), RATE).reader(), demucs.Settings(engine="torch"), context))
    assert told == [f"htdemucs ({catalogue.MODELS['htdemucs'].limits}): {catalogue.DEMUCS_LICENCE}"]


def test_progress_ends_at_one(folder, rng):
    write(folder, transformer())
    told = []
    context = Context(("bass",), device="cpu", models=folder, progress=told.append)
    list(demucs.run(Audio(noise(rng, 60_000), RATE).reader(), demucs.Settings(engine="torch"), context))
    assert told == sorted(told)
    assert told[-1] == 1.0


# devices and engines


def test_devices(monkeypatch):
    monkeypatch.setattr(compute, "_may_have_cuda", lambda: False)
    monkeypatch.setattr(compute, "_may_have_mps", lambda: False)
    assert compute.pick_device("auto") == compute.pick_device("cpu") == "cpu"
    with pytest.raises(ParameterError, match="one of auto, cpu, cuda, mps"):
        compute.pick_device("gpu")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(BackendError, match="device 'mps' is not available"):
        compute.pick_device("mps")


def test_threads(monkeypatch):
    assert compute.threads() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert compute.threads() >= 1


def test_openvino_that_is_not_there(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendNotInstalled, match=r"pip install 'gbsep\[fast\]'"):
        demucs.identity(demucs.Settings(engine="openvino"), Context(("bass",), device="cpu"))


def test_openvino_gives_torchs_numbers(folder, rng, monkeypatch):
    pytest.importorskip("openvino")
    mixture = noise(rng, 50_000)
    write(folder, transformer(t_layers=1, dconv_mode=0, segment=Fraction(1, 4)))
    slow = separate(folder, mixture, ("bass", "vocals"), engine="torch")
    fast = separate(folder, mixture, ("bass", "vocals"), engine="openvino")
    assert len(list(folder.glob("sig0.*.xml"))) == len(list(folder.glob("sig0.*.bin"))) == 1
    for name in slow:
        assert 0 < error(fast[name], slow[name]) < 1e-5
    monkeypatch.setattr(demucs_export, "_export", lambda *arguments: pytest.fail("exported again"))
    again = separate(folder, mixture, ("bass",), engine="auto")["bass"]
    assert again.tobytes() == fast["bass"].tobytes()


@pytest.mark.parametrize(("n_fft", "frames"), [(4096, 11025), (512, 5000), (256, 256)])
def test_spectra_are_those_of_demucs(rng, n_fft, frames):
    network = transformer(nfft=n_fft)
    mixture = rng.standard_normal((2, frames)).astype(np.float32)
    with torch.inference_mode():
        spectra = network._spec(torch.from_numpy(mixture[np.newaxis]))
        theirs = network._magnitude(spectra)[0].numpy()
        assert np.abs(transform.spectrum(mixture, n_fft) - theirs).max() < 1e-6 * np.abs(theirs).max()
        estimate = rng.standard_normal((3, *theirs.shape)).astype(np.float32)
        waves = network._ispec(network._mask(spectra, torch.from_numpy(estimate[np.newaxis])), frames)[0].numpy()
    assert np.abs(transform.wave(estimate, frames) - waves).max() < 1e-6 * np.abs(waves).max()


def test_a_kept_export_needs_no_torch(folder, rng):
    pytest.importorskip("openvino")
    mixture = noise(rng, 9000)
    write(folder, transformer())
    first = separate(folder, mixture, ("bass",), engine="openvino")["bass"]
    np.save(folder / "mixture.npy", mixture)
    program = (
        "import sys; import numpy as np; from pathlib import Path; from gbsep.audio import Audio\n"
        "from gbsep.separation.backend import Context; from gbsep.separation.demucs import backend as demucs\n"
        f"folder = Path({str(folder)!r}); mixture = np.load(folder / 'mixture.npy')\n"
        "context = Context(('bass',), np.random.default_rng(0), 'cpu', folder)\n"
        f"blocks = demucs.run(Audio(mixture, {RATE}).reader(), demucs.Settings(), context)\n"
        "np.save(folder / 'bass.npy', np.concatenate([block['bass'] for block in blocks], axis=1))\n"
        "print([name for name in ('torch', 'demucs') if name in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "[]"
    assert error(np.load(folder / "bass.npy"), first) < 1e-6


@pytest.mark.parametrize("text", ["", "{}", '{"sources": ["bass"], "sample_rate": 8000, "frames": 1e9, "n_fft": 512}'])
def test_an_export_that_was_changed_is_none(folder, rng, text):
    pytest.importorskip("openvino")
    mixture = noise(rng, 9000)
    write(folder, transformer())
    separate(folder, mixture, ("bass",), engine="openvino")
    (about,), (graph,) = folder.glob("sig0.*.json"), folder.glob("sig0.*.xml")
    assert demucs_openvino.kept(graph).sources == tuple(SOURCES)
    about.write_text(text)
    assert demucs_openvino.kept(graph) is None
    with contextlib.suppress(BackendError):
        trust(about)
    assert demucs_openvino.kept(graph) is None


def test_an_export_takes_the_place_of_another_whole(folder, rng):
    """Another process may be running the old one, whose file must not change under it."""
    pytest.importorskip("openvino")
    mixture = noise(rng, 9000)
    write(folder, transformer())
    separate(folder, mixture, ("bass",), engine="openvino")
    graph = next(folder.glob("sig0.*.xml"))
    before = {part.name: part.stat().st_ino for part in demucs_openvino.parts(graph)}
    held = [part.open("rb") for part in demucs_openvino.parts(graph)]  # or an inode might be given again
    graph.write_text("of something else")
    separate(folder, mixture, ("drums",), engine="openvino")
    assert not {part.stat().st_ino for part in demucs_openvino.parts(graph)} & set(before.values())
    assert not list(folder.glob(".gbsep*"))
    for file in held:
        file.close()


def test_openvino_that_fails_leaves_it_to_torch(folder, rng, monkeypatch):
    pytest.importorskip("openvino")
    mixture = noise(rng, 9000)
    write(folder, transformer())
    monkeypatch.setattr(demucs_export, "_export", lambda *arguments: (_ for _ in ()).throw(RuntimeError("no\nop")))
    told = []
    context = Context(("bass",), np.random.default_rng(0), "cpu", folder, warn=told.append)
    blocks = list(demucs.run(Audio(mixture, RATE).reader(), demucs.Settings(), context))
    assert told[-1] == "OpenVINO cannot run sig0.safetensors, going on with torch: no op"
    assert np.array_equal(blocks[0]["bass"], separate(folder, mixture)["bass"])
