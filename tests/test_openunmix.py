"""The Open-Unmix backend against the published implementation, torch's own LSTM and transforms, and demucs.wiener."""

import itertools
import json
import os
import shutil
import sys
import tempfile
import types

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gbsep.audio import Audio, join
from gbsep.errors import BackendError, ParameterError, SeparationFailed, WeightsMissing
from gbsep.separation.backend import Context
from gbsep.separation.openunmix import backend as openunmix
from gbsep.separation.openunmix import network as openunmix_network
from gbsep.separation.openunmix.backend import WIENER_FRAMES, Settings, Transform
from gbsep.separation.openunmix.spectra import istft, stft
from gbsep.separation.openunmix.wiener import wiener
from tests.networks import BINS, HIDDEN_SIZE, INPUT_BINS, TARGETS, random_state, write_model


@pytest.fixture(scope="module")
def published():
    """The published package's model module; it needs torchaudio for reading files only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torchaudio", types.ModuleType("torchaudio"))
        yield pytest.importorskip("openunmix.model", reason="parity needs openunmix: pip install --no-deps openunmix")


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """Nothing is read from or left in the user's own folders, and temporary files are where a test can see them."""
    monkeypatch.delenv("GBSEP_MODELS", raising=False)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


@pytest.fixture(params=[0.0, 3.0], ids=["plain", "long memory"])
def states(request):
    """With forget gates held open the LSTM remembers over hundreds of frames."""
    return {target: random_state(seed, forget_bias=request.param) for seed, target in enumerate(TARGETS)}


def published_separator(published, states, **arguments):
    networks = {}
    for target, state in states.items():
        networks[target] = published.OpenUnmix(BINS, 2, len(state["fc1.weight"]), max_bin=INPUT_BINS)
        networks[target].load_state_dict(state, strict=False)
    separator = published.Separator(networks, n_fft=4096, n_hop=1024, **arguments)
    separator.freeze()
    return separator


def ours(tmp_path, states, audio, wanted=TARGETS, **keys):
    if not (tmp_path / "models").exists():
        write_model(tmp_path / "models" / "mine", states)
    context = Context(wanted, models=tmp_path / "models", device="cpu")
    blocks = list(openunmix.run(audio.reader(), Settings(model="mine", **keys), context))
    assert all(block[name].shape[1] > 0 for block in blocks for name in wanted)
    return {name: join(block[name] for block in blocks) for name in wanted}


def relative_error(got, expected):
    return np.linalg.norm(got - expected) / np.linalg.norm(expected)


def noise(rng, frames, channels=2):
    return Audio(rng.normal(0, 0.1, (channels, frames)).astype(np.float32), 44100)


# ------------------------------------------------------------------------------------- parity with the published one


@pytest.mark.parametrize(
    "frames", [2049, 2050, 10_000, WIENER_FRAMES * 1024 - 1, WIENER_FRAMES * 1024, WIENER_FRAMES * 1024 + 77]
)
def test_equals_the_published_separator(published, states, frames, tmp_path, rng):
    audio = noise(rng, frames)
    expected = published_separator(published, states, niter=1)(torch.tensor(audio.samples)[None])[0].numpy()
    got = ours(tmp_path, states, audio)
    assert relative_error(np.stack([got[name] for name in TARGETS]), expected) < 1e-5


@pytest.mark.parametrize("keys", [{"niter": 0}, {"niter": 3}, {"niter": 0, "residual": True}, {"residual": True}])
def test_equals_the_published_separator_for_every_setting(published, keys, tmp_path, rng):
    states = {target: random_state(seed) for seed, target in enumerate(TARGETS)}
    audio = noise(rng, 50_000)
    separator = published_separator(published, states, **{"niter": 1, **keys}).double()
    expected = separator(torch.tensor(audio.samples).double()[None])[0].numpy()[: len(TARGETS)]
    got = ours(tmp_path, states, audio, **keys)
    assert relative_error(np.stack([got[name] for name in TARGETS]), expected) < 1e-5


def test_equals_the_published_separator_on_music(published, data, tmp_path):
    soundfile = pytest.importorskip("soundfile")
    states = {target: random_state(seed) for seed, target in enumerate(TARGETS)}
    samples, _ = soundfile.read(next(data.glob("jams/*/mixture.flac")), frames=400_000, dtype="float32")
    audio = Audio(samples.T, 44100)
    expected = published_separator(published, states, niter=1)(torch.tensor(audio.samples)[None])[0].numpy()
    got = ours(tmp_path, states, audio)
    assert relative_error(np.stack([got[name] for name in TARGETS]), expected) < 1e-5


def test_mono_is_both_channels_and_their_mean_comes_back(published, tmp_path, rng):
    states = {target: random_state(seed) for seed, target in enumerate(TARGETS)}
    audio = noise(rng, 400_000, channels=1)
    both = torch.tensor(audio.samples)[None].expand(1, 2, -1)
    expected = published_separator(published, states, niter=1)(both.contiguous())[0].numpy().mean(1, keepdims=True)
    got = ours(tmp_path, states, audio)
    assert relative_error(np.stack([got[name] for name in TARGETS]), expected) < 1e-5


def test_pieces_without_carried_states_are_visibly_wrong(published, tmp_path, rng):
    """What the tests above would see if a piece began with fresh states: they can tell."""
    states = {target: random_state(seed, forget_bias=3.0) for seed, target in enumerate(TARGETS)}
    separator = published_separator(published, states, niter=0)
    audio = noise(rng, 3 * WIENER_FRAMES * 1024)
    whole = separator(torch.tensor(audio.samples)[None])[0].numpy()
    pieces = torch.tensor(audio.samples).split(WIENER_FRAMES * 1024, dim=1)
    chunked = np.concatenate([separator(piece[None])[0].numpy() for piece in pieces], axis=2)
    got = ours(tmp_path, states, audio, niter=0)
    assert relative_error(np.stack([got[name] for name in TARGETS]), whole) < 1e-5
    assert relative_error(chunked, whole) > 1e-2


# ---------------------------------------------------------------------------------- the parts against what torch has


@pytest.mark.parametrize("frames", [1, WIENER_FRAMES, 2 * WIENER_FRAMES + 1])
@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_the_lstm_over_pieces_is_torchs_bidirectional_one(frames, layers, rng):
    state = random_state(1, layers=layers, forget_bias=3.0)
    network = openunmix_network.build(state, BINS)
    spectra = torch.tensor(rng.normal(size=(2, BINS, frames)), dtype=torch.complex64)
    with tempfile.TemporaryFile() as file:
        features = openunmix.Rows(file, HIDDEN_SIZE)
        openunmix.compute_features(network, spectra.split(WIENER_FRAMES, dim=2), features)
        got = features.read(0, frames)

    whole = torch.nn.LSTM(HIDDEN_SIZE, HIDDEN_SIZE // 2, layers, bidirectional=True).requires_grad_(False)
    whole.load_state_dict({name[5:]: value for name, value in state.items() if name.startswith("lstm.")})

    def norm(name, x):
        mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        return (x - mean) / (variance + 1e-5).sqrt() * state[f"{name}.weight"] + state[f"{name}.bias"]

    x = (spectra.abs()[:, :INPUT_BINS] + state["input_mean"][:, None]) * state["input_scale"][:, None]
    x = torch.tanh(norm("bn1", x.flatten(0, 1).T @ state["fc1.weight"].T))
    expected = torch.relu(norm("bn2", torch.cat([x, whole(x)[0]], 1) @ state["fc2.weight"].T))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@given(
    frames=st.integers(2049, 700_000),
    cuts=st.lists(st.integers(1, 100_000), min_size=1, max_size=5),
    hop_length=st.sampled_from([512, 1024, 1500]),
)
@settings(max_examples=10, deadline=None)
def test_transforms_are_torchs(frames, cuts, hop_length):
    samples = np.random.default_rng(frames).normal(size=(2, frames)).astype(np.float32)
    edges = list(itertools.takewhile(lambda edge: edge < frames, itertools.accumulate(itertools.cycle(cuts))))
    transform = Transform(44100, 4096, hop_length)
    pieces = list(stft(np.split(samples, edges, axis=1), transform))
    window = torch.hann_window(4096)
    expected = torch.stft(torch.tensor(samples), 4096, hop_length, window=window, return_complex=True)
    torch.testing.assert_close(torch.cat(pieces, 2), expected)
    assert all(piece.shape[2] == WIENER_FRAMES for piece in pieces[:-1])

    got = join(istft(pieces, transform, frames))
    expected = torch.istft(expected, 4096, hop_length, window=window, length=frames).numpy()
    np.testing.assert_allclose(got, expected, atol=1e-5)
    np.testing.assert_allclose(got, samples, atol=1e-5)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("niter", [0, 1, 3])
@pytest.mark.parametrize("frames", [1, 7, WIENER_FRAMES])
def test_the_filter_is_the_published_one(niter, residual, frames, rng):
    from demucs.wiener import wiener as published

    mixture = torch.tensor(rng.normal(size=(2, 33, frames)) + 1j * rng.normal(size=(2, 33, frames))) * 30
    mixture[:, 3] = 0
    magnitudes = torch.tensor(rng.uniform(size=(4, 2, 33, frames))) * mixture.abs()
    stacked = torch.view_as_real(mixture.permute(2, 1, 0).contiguous()).clone()
    expected = published(magnitudes.permute(3, 2, 1, 0), stacked, niter, residual=residual)
    expected = torch.view_as_complex(expected.permute(4, 2, 1, 0, 3).contiguous())[:4]
    got = wiener(magnitudes, mixture, niter, residual)
    torch.testing.assert_close(got.to(torch.complex128), expected, rtol=1e-5, atol=1e-5)


def test_filtered_sources_sum_to_the_mixture(rng):
    mixture = torch.tensor(rng.normal(size=(2, 65, 50)) + 1j * rng.normal(size=(2, 65, 50)))
    magnitudes = torch.tensor(rng.uniform(size=(4, 2, 65, 50))) * mixture.abs()
    torch.testing.assert_close(wiener(magnitudes, mixture, 1).sum(0), mixture.to(torch.complex64), rtol=1e-3, atol=1e-3)


# -------------------------------------------------------------------------------------------------------- the backend


@pytest.fixture
def plain():
    return {target: random_state(seed) for seed, target in enumerate(TARGETS)}


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("frames", [1, 2, 1024, 2048])
def test_the_shortest_tracks_are_finite(plain, frames, channels, tmp_path, rng):
    got = ours(tmp_path, plain, noise(rng, frames, channels))
    assert all(stem.shape == (channels, frames) and np.isfinite(stem).all() for stem in got.values())


@pytest.mark.parametrize("niter", [0, 1, 2])
def test_silence_stays_silent(plain, niter, tmp_path):
    got = ours(tmp_path, plain, Audio(np.zeros((2, 400_000), np.float32), 44100), niter=niter)
    assert all(not stem.any() for stem in got.values())


def test_what_is_not_wanted_changes_nothing_and_runs_repeat(plain, tmp_path, rng):
    audio = noise(rng, 400_000)
    everything = ours(tmp_path, plain, audio)
    again = ours(tmp_path, plain, audio, wanted=("bass",))
    assert list(again) == ["bass"]
    np.testing.assert_array_equal(again["bass"], everything["bass"])


def test_other_sample_rates_are_resampled_there_and_back(plain, tmp_path, rng):
    soxr = pytest.importorskip("soxr")
    audio = Audio(rng.normal(0, 0.1, (2, 100_000)).astype(np.float32), 48000)
    at_rate = soxr.resample(audio.samples.T, 48000, 44100, "VHQ").T
    expected = ours(tmp_path, plain, Audio(at_rate, 44100))
    got = ours(tmp_path, plain, audio)
    for name in TARGETS:
        back = soxr.resample(expected[name].T, 44100, 48000, "VHQ").T[:, :100_000]
        assert got[name].shape == audio.samples.shape
        assert relative_error(got[name][:, 2000:-2000], back[:, 2000 : 100_000 - 2000]) < 1e-3


def test_a_stem_that_is_no_target_is_refused(plain, tmp_path, rng):
    with pytest.raises(ParameterError, match=r"stem = 'drum'.*did you mean 'drums'"):
        ours(tmp_path, plain, noise(rng, 1000), wanted=("drum",))


def test_one_target_alone_is_not_given_the_whole_mixture(tmp_path, rng):
    alone, audio = {"bass": random_state(2)}, noise(rng, 10_000)
    with pytest.raises(ParameterError, match="residual = False is not allowed: mine has one target"):
        ours(tmp_path, alone, audio, wanted=("bass",))
    stem = ours(tmp_path, alone, audio, wanted=("bass",), residual=True)["bass"]
    assert relative_error(stem, audio.samples) > 0.1


def test_too_little_room_for_temporary_files_is_told_at_once(plain, tmp_path, rng, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=1000))
    with pytest.raises(SeparationFailed, match=r"GB of temporary files are needed.*TMPDIR"):
        ours(tmp_path, plain, noise(rng, 10_000))


def test_progress_rises_to_one(plain, tmp_path, rng):
    write_model(tmp_path / "models" / "mine", plain)
    seen = []
    context = Context(("bass",), models=tmp_path / "models", progress=seen.append, device="cpu")
    for _ in openunmix.run(noise(rng, 400_000).reader(), Settings(model="mine"), context):
        pass
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert len(seen) == 2 * (len(TARGETS) * (2 + 2 * 3) + 1)


def test_nothing_is_left_on_disk_when_a_run_is_abandoned(plain, tmp_path, rng):
    write_model(tmp_path / "models" / "mine", plain)
    context = Context(("bass",), models=tmp_path / "models", device="cpu")
    blocks = openunmix.run(noise(rng, 700_000).reader(), Settings(model="mine"), context)
    next(blocks)
    assert not list((tmp_path / "temporary").iterdir()) or os.name == "nt"  # unnamed: not even kill -9 leaves them
    blocks.close()
    assert not list((tmp_path / "temporary").iterdir())


def test_identity_tells_weights_apart(plain, tmp_path):
    write_model(tmp_path / "models" / "mine", plain)
    write_model(tmp_path / "others" / "mine", {**plain, "bass": random_state(9)})
    keys = [
        openunmix.identity(Settings(model="mine"), Context(("bass",), models=tmp_path / place, device="cpu"))
        for place in ("models", "models", "others")
    ]
    assert keys[0] == keys[1] != keys[2]
    json.dumps(keys)


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(WeightsMissing, match="mine"):
        openunmix.identity(Settings(model="mine"), Context(("bass",), models=tmp_path))


def test_damaged_weights_are_refused_while_planning_and_good_ones_read_once(plain, tmp_path, monkeypatch):
    def plan(name):
        return openunmix.identity(Settings(model=name), Context(("bass",), models=tmp_path, device="cpu"))

    write_model(tmp_path / "good", plain)
    first = plan("good")
    plain["bass"]["bn1.weight"][0] = torch.nan
    write_model(tmp_path / "nan", plain)
    for _ in range(2):
        with pytest.raises(BackendError, match=r"bass-\w+\.pth: bn1\.weight holds NaN"):
            plan("nan")
    plain["bass"] = {name: tensor[:1] for name, tensor in plain["bass"].items() if tensor.ndim}
    write_model(tmp_path / "shape", plain)
    with pytest.raises(BackendError, match=r"bass-\w+\.pth: not an Open-Unmix network"):
        plan("shape")
    (tmp_path / "short").mkdir()
    (tmp_path / "short" / "bass.pth").write_bytes(b"PK")
    with pytest.raises(BackendError, match=r"bass\.pth is no readable state dict"):
        plan("short")
    monkeypatch.setattr("gbsep.separation.openunmix.backend.load_state", lambda path: pytest.fail("read again"))
    assert plan("good") == first


# ------------------------------------------------------------------------------------------------------ bad networks


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("fc1.weight"), "fc1.weight"),
        (lambda state: state.pop("lstm.bias_hh_l1_reverse"), "lstm.bias_hh_l1_reverse is missing"),
        (lambda state: state.update({"fc1.weight": torch.zeros(0, 10)}), "even hidden size"),
        (lambda state: state.update({"fc1.weight": torch.zeros(2**14, 2)}), "even hidden size"),
        (lambda state: state.update({"fc1.weight": torch.zeros(7)}), "even hidden size"),
        (lambda state: state.update({"fc3.weight": torch.zeros(2 * BINS, 3)}), "fc3.weight is torch.float32"),
        (lambda state: state.update({"output_mean": torch.zeros(100)}), "output_mean"),
        (
            lambda state: state.update({"bn2.bias": torch.zeros(HIDDEN_SIZE, dtype=torch.int64)}),
            "bn2.bias is torch.int64",
        ),
        (lambda state: state["bn1.weight"].fill_(torch.nan), "bn1.weight holds NaN"),
        (lambda state: state["bn1.running_var"].fill_(-1), "negative variance"),
        (lambda state: [state.pop(name) for name in list(state) if "lstm" in name], "0 LSTM layers"),
        (
            lambda state: state.update({f"lstm.weight_ih_l{layer}": torch.zeros(1) for layer in range(40)}),
            "1 to 16 layers",
        ),
    ],
)
def test_networks_that_are_none_are_refused(plain, change, message, tmp_path, rng):
    change(plain["bass"])
    with pytest.raises(BackendError, match=rf"bass-\w+\.pth: .*{message}"):
        ours(tmp_path, plain, noise(rng, 1000))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nfft": 2**30}, "out of range"),
        ({"nhop": 0}, "out of range"),
        ({"nhop": 4096}, "out of range"),
        ({"sample_rate": 1e30}, "out of range"),
        ({"sample_rate": float("nan")}, "not Open-Unmix's description"),
        ({"nfft": "many"}, "not Open-Unmix's description"),
        ({"nb_channels": 1}, "only stereo"),
        ({"nfft": 2048}, "for 1025 bins"),
    ],
)
def test_descriptions_that_make_no_sense_are_refused(plain, change, message, tmp_path, rng):
    separator = {"sample_rate": 44100, "nfft": 4096, "nhop": 1024, "nb_channels": 2} | change
    write_model(tmp_path / "models" / "mine", plain, separator)
    with pytest.raises(BackendError, match=message):
        ours(tmp_path, plain, noise(rng, 1000))


def test_weights_that_overflow_are_an_error(plain, tmp_path, rng):
    plain["bass"]["fc3.weight"] *= 1e38
    plain["bass"]["output_scale"] *= 1e30
    with pytest.raises(SeparationFailed, match="NaN or infinite"):
        ours(tmp_path, plain, noise(rng, 10_000))
