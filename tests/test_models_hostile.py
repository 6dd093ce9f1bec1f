"""Files of weights that are hostile or broken run nothing and are refused."""

import json
import os
import pickle
import struct
import zipfile
from fractions import Fraction

import pytest
import torch
from safetensors.torch import save_file

from gbsep.errors import BackendError
from gbsep.models import package
from gbsep.separation.demucs import network as demucs_network

from .networks import edited, random_models

pytestmark = pytest.mark.usefixtures("models_elsewhere")


def with_arguments(network, folder, **changes):
    path = random_models.save_hub(network, folder, "own")
    kwargs = {key: random_models._encode(value) for key, value in {**network._init_args_kwargs[1], **changes}.items()}
    return edited(path, kwargs=json.dumps(kwargs))


class _Canary:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_a_class_outside_the_list_is_neither_built_nor_imported(network, folder, tmp_path):
    canary = tmp_path / "canary"
    path = random_models.save_hub(network, folder, "own")
    edited(path, klass="subprocess.Popen", args=json.dumps([["touch", str(canary)]]), kwargs="{}")
    with pytest.raises(BackendError, match=r"names the class 'subprocess\.Popen'; gbsep builds only"):
        package.load_package(path)
    assert not canary.exists()


@pytest.mark.parametrize(
    "klass", ["os.system", "demucs.apply.BagOfModels", "HTDemucs", "demucs.htdemucs.nn.Linear", ""]
)
def test_other_classes(network, folder, klass):
    with pytest.raises(BackendError, match="names the class"):
        package.load_package(edited(random_models.save_hub(network, folder, "own"), klass=klass))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("load", [package.load_package, package.load_state])
def test_a_malicious_pickle_runs_nothing(folder, tmp_path, zipped, load):
    canary = tmp_path / "canary"
    path = folder / "own.th"
    evil = {"klass": _Canary(f"touch {canary}"), "args": (), "kwargs": {}, "state": {}}
    torch.save(evil, path, _use_new_zipfile_serialization=zipped)
    refused = rf"asks to run {os.system.__module__}\.system and was refused"
    for protocol, reason in {None: refused, 2: refused, 4: "is no readable"}.items():
        if protocol:
            path.write_bytes(pickle.dumps(evil, protocol))
        with pytest.raises(BackendError, match=reason) as caught:
            load(path)
        message = str(caught.value)
        assert "weights_only" not in message
        assert "\n" not in message
        assert message.count(str(path)) == 1
    assert not canary.exists()


def test_a_package_cannot_build_its_class_while_it_is_read(network, folder):
    class Built:
        def __reduce__(self):
            return type(network), (random_models.SOURCES,)

    path = folder / "own.th"
    torch.save({"klass": Built(), "args": (), "kwargs": {}, "state": {}}, path)
    with pytest.raises(BackendError, match="is no readable Demucs model"):
        package.load_package(path)


@pytest.mark.parametrize("numbers", [("1e999999999",), ("1/0",), (10**10, 1), (-1, 2), ([1], 2), (1, "2e9")])
def test_only_small_fractions_are_read(numbers):
    assert package._fraction("39/5") == package._fraction(39, 5) == Fraction(39, 5)
    with pytest.raises(ValueError, match="no fraction of small whole numbers"):
        package._fraction(*numbers)


@pytest.mark.parametrize("save", [random_models.save_hub, random_models.save_legacy])
@pytest.mark.parametrize("keep", [0, 4, 2000, -1])
def test_truncated_files(network, folder, save, keep):
    path = save(network, folder, "own")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BackendError, match="is no readable Demucs model") as caught:
        package.load_package(path)
    assert "\n" not in str(caught.value)


def test_a_header_longer_than_the_file(folder):
    path = folder / "own.safetensors"
    path.write_bytes(struct.pack("<Q", 10**11) + b"{}")
    with pytest.raises(BackendError, match="is no readable Demucs model"):
        package.load_package(path)


def test_metadata_is_needed(folder):
    save_file({"x": torch.zeros(3)}, folder / "own.safetensors")
    with pytest.raises(BackendError, match="its metadata lacks args, klass, kwargs"):
        package.load_package(folder / "own.safetensors")


def test_a_compressed_archive_cannot_grow(folder):
    path = folder / "own.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"0" * 10**7)
    with pytest.raises(BackendError, match="larger than the file itself"):
        package.load_state(path)


def test_tensors_cannot_be_larger_than_the_file(folder):
    torch.save({"x": torch.zeros(1).expand(10**9)}, folder / "own.pth")
    with pytest.raises(BackendError, match="tensors larger than the file itself"):
        package.load_state(folder / "own.pth")


def test_a_state_holds_tensors_only(folder):
    torch.save({"x": torch.zeros(2), "y": "text"}, folder / "own.pth")
    with pytest.raises(BackendError, match="'y', which is no tensor"):
        package.load_state(folder / "own.pth")
    torch.save({"x": torch.arange(2.0)}, folder / "good.pth", _use_new_zipfile_serialization=False)
    assert package.load_state(folder / "good.pth")["x"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"channels": 10**9}, "channels = 1000000000 must be a number from 1 to 512"),
        ({"nfft": 2**40}, "nfft"),
        ({"depth": 10**6}, "depth"),
        ({"segment": 1e12}, "segment"),
        ({"segment": float("nan")}, "segment"),
        ({"t_layers": "5"}, "t_layers = '5' must be a number"),
        ({"t_layers": True}, "t_layers"),
        ({"audio_channels": 1}, "audio_channels"),
        ({"sources": ["bass"] * 4}, "different names"),
        ({"sources": [f"s{i}" for i in range(10**4)]}, "1 to 32"),
        ({"t_sparse_self_attn": True}, "not supported"),
        ({"multi_freqs": [0.1] * 100}, "at most 8 numbers"),
        ({"t_heads": 3}, r"impossible HTDemucs: .*\(AssertionError\)"),
        ({"channels": 512, "growth": 4, "depth": 8}, "should be .* by the arguments, but is"),
        ({"channels": 16}, "should be .* by the arguments, but is"),
        ({"t_layers": 0}, "should be nothing by the arguments, but is"),
    ],
)
def test_arguments_are_checked_before_anything_is_built(network, folder, changes, reason):
    with pytest.raises(BackendError, match=reason) as caught:
        demucs_network.build(package.load_package(with_arguments(network, folder, **changes)))
    assert "\n" not in str(caught.value)


def test_quantised_weights_are_refused(network, folder):
    path = edited(random_models.save_hub(network, folder, "own"), structure="{}")
    with pytest.raises(BackendError, match="quantised"):
        package.load_package(path)
