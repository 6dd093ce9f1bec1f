"""Checkpoints and configurations of strangers: hostile, damaged, of another kind, in the folders of other tools."""

import hashlib
import json
import os
import pickle
import resource
import shutil
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from gbsep.errors import BackendError, ParameterError
from gbsep.models import catalogue
from gbsep.models.catalogue import data_dir
from gbsep.models.package import load_checkpoint
from gbsep.separation.backend import Context
from gbsep.separation.msst import backend as msst
from gbsep.separation.msst.add import add
from gbsep.separation.msst.config import MAX_SEGMENT_S, read_config
from gbsep.separation.msst.weights import config_of, find_files, own_models
from gbsep.separation.weights import find
from tests.msst import SMALL, random_models


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return random_models.write_checkpoint("tiny_bs_roformer", tmp_path / "here")


def changed(checkpoint: Path, section: str, **values: object) -> Path:
    """The checkpoint's configuration with other values."""
    path = checkpoint.with_suffix(".yaml")
    content = path.read_text()
    document = yaml.load(content, yaml.FullLoader)
    document[section].update(values)
    path.write_text(yaml.dump(document))
    return path


def refused(checkpoint: Path, message: str) -> str:
    """What is said of a checkpoint that must not be used: one line, quickly, and without memory."""
    before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(BackendError, match=message) as caught:
        msst.check(checkpoint, checkpoint.with_suffix(".yaml"))
    assert "\n" not in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000
    assert time.process_time() - begin < 20
    return str(caught.value)


class Touch:
    """A pickle that makes a file when it is opened."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def test_what_a_checkpoint_would_run_is_not_run(checkpoint: Path, tmp_path: Path) -> None:
    for trap in ({"state": Touch(tmp_path / "touched")}, Touch(tmp_path / "touched")):
        torch.save(trap, checkpoint)
        refused(checkpoint, r"is no readable checkpoint: it asks to run posix\.system and was refused")
        checkpoint.write_bytes(pickle.dumps(trap))
        refused(checkpoint, "is no readable checkpoint")
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    "tag", ["python/object/apply:os.system", "python/object/new:os.system", "python/name:os.system"]
)
def test_what_a_configuration_would_run_is_not_run(checkpoint: Path, tmp_path: Path, tag: str) -> None:
    path = checkpoint.with_suffix(".yaml")
    path.write_text(path.read_text() + f"\nextra: !!{tag} ['touch {tmp_path / 'touched'}']\n")
    refused(checkpoint, "is not YAML: could not determine a constructor for the tag")
    assert not (tmp_path / "touched").exists()
    assert config_of(checkpoint) == path


def test_a_configuration_that_refers_to_itself_is_refused(checkpoint: Path) -> None:
    path = checkpoint.with_suffix(".yaml")
    path.write_text("training: &a [1]\nmodel: [*a, *a]\n")
    refused(checkpoint, "holds a reference")


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("model", {"dim": 10**9}, r"model\.dim input should be less than or equal to 2048, not 1000000000"),
        ("model", {"depth": 10**6}, r"model\.depth input should be less than"),
        ("model", {"num_stems": 10**9}, r"model\.num_stems input should be less than"),
        ("model", {"heads": -1}, r"model\.heads input should be greater than"),
        ("model", {"dim": "256"}, r"model\.dim must be a whole number"),
        ("model", {"freqs_per_bands": [1] * 10**4}, r"model\.freqs_per_bands"),
        ("model", {"freqs_per_bands": [2, 3]}, r"model\.freqs_per_bands must add up to 1025 by stft_n_fft, not to 5"),
        ("model", {"stft_hop_length": 1}, r"model\.stft_hop_length"),
        (
            "model",
            {"mask_estimator_depth": 8, "num_stems": 64, "freqs_per_bands": [5] * 205},
            r"model\.num_stems times bands and mask_estimator_depth makes more than 24000 layers",
        ),
        ("model", {"dmi": 4}, r"model\.dmi unknown key; did you mean 'dim'"),
        ("audio", {"chunk_size": 10**9}, r"audio\.chunk_size"),
        ("audio", {"chunk_size": 2**24}, f"a segment of 16777216 frames is not allowed: 256 to {MAX_SEGMENT_S:g} s"),
        ("audio", {"chunk_size": 1024}, "a segment of 1024 frames is too short for its spectra: at least 1025"),
        ("audio", {"chunk_size": None}, "a segment of 0 frames is not allowed"),
        ("inference", {"overlap_size": 22050}, "segments of 22050 frames every 0 are not allowed"),
        ("training", {"instruments": ["bass"]}, "the network gives 4 stems, but 1 are named: bass"),
        ("training", {"instruments": ["a"] * 4}, "must be 1 to 64 different names"),
        ("training", {"instruments": "bass"}, r"training\.instruments must be a list"),
    ],
)
def test_a_configuration_that_asks_for_too_much_is_refused(
    checkpoint: Path, section: str, values: dict[str, object], message: str
) -> None:
    changed(checkpoint, section, **values)
    refused(checkpoint, message)


def test_an_architecture_that_gbsep_does_not_run_is_named(checkpoint: Path) -> None:
    path = checkpoint.with_suffix(".yaml")
    document = yaml.load(path.read_text(), yaml.FullLoader)
    path.write_text(yaml.dump(document | {"model_type": "bs_rofomer"}))
    refused(checkpoint, "gbsep does not run the architecture 'bs_rofomer'; did you mean 'bs_roformer'")
    path.write_text(yaml.dump({key: value for key, value in document.items() if key != "model_type"}))
    assert read_config(path).architecture == "bs_roformer"
    path.write_text(yaml.dump({**document, "model_type": None, "model": {"x": 1}}))
    refused(checkpoint, "does not say which architecture it is for")


@pytest.mark.parametrize("name", SMALL)
def test_keys_and_shapes_must_be_those_of_the_configuration(tmp_path: Path, name: str) -> None:
    checkpoint = random_models.write_checkpoint(name, tmp_path)
    state = load_checkpoint(checkpoint)
    key = next(key for key in reversed(state) if state[key].dim() > 1)
    torch.save({k: v for k, v in state.items() if k != key}, checkpoint)
    refused(checkpoint, key.replace(".", r"\."))
    torch.save({**state, "one_more": torch.zeros(3)}, checkpoint)
    refused(checkpoint, "one_more")
    torch.save({**state, key: torch.zeros(3, 3, 3)}, checkpoint)
    refused(checkpoint, rf"{key} should be \(.*\), but is \(3, 3, 3\)|{key} should be .* but is")
    torch.save({**state, key: state[key] * np.nan}, checkpoint)
    refused(checkpoint, f"{key} holds NaN or infinity")


@pytest.mark.parametrize("name", ["tiny_bs_roformer", "tiny_htdemucs"])
@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda tensor: tensor.to(torch.complex64), "sparse, complex or quantised"),
        (lambda tensor: tensor.to_sparse(), "sparse, complex or quantised"),
        (lambda tensor: tensor.to(torch.int32), "whole numbers"),
    ],
)
def test_tensors_of_another_kind_are_refused(tmp_path: Path, name: str, made, message: str) -> None:
    path = random_models.write_checkpoint(name, tmp_path)
    state = torch.load(path, weights_only=True)
    torch.save({key: made(tensor) for key, tensor in state.items()}, path)
    refused(path, message)


def test_what_a_training_noted_in_numpys_numbers_is_left_out(checkpoint: Path) -> None:
    state = torch.load(checkpoint, weights_only=True)
    noted = {"best": np.float64(3.5), "count": np.int32(2), "losses": np.arange(3.0), "kinds": np.array(["a"])}
    torch.save({"model_state_dict": state, "optimizer": {"lr": 0.1}, **noted}, checkpoint)
    assert load_checkpoint(checkpoint).keys() == state.keys()
    torch.save({"model_state_dict": {key: tensor.numpy() for key, tensor in state.items()}}, checkpoint)
    refused(checkpoint, "which is no tensor")


def test_safetensors_are_read_whatever_their_suffix(checkpoint: Path, tmp_path: Path) -> None:
    state = torch.load(checkpoint, weights_only=True)
    for name in ("tensors.ckpt", "tensors.safetensors"):
        save_file(state, tmp_path / name)
        assert load_checkpoint(tmp_path / name).keys() == state.keys()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_fill_the_memory_is_refused(checkpoint: Path, zipped: bool) -> None:
    """An empty dictionary is one byte in a pickle, and seventy in memory."""
    swollen = b"\x80\x02" + b"}" * 2**25 + b"."
    if zipped:
        with zipfile.ZipFile(checkpoint, "w") as archive:
            archive.writestr("archive/data.pkl", swollen)
    else:
        checkpoint.write_bytes(swollen)
    refused(checkpoint, r"longer than 8\.4 MB")


def test_a_checkpoint_that_is_cut_short_or_swollen_is_refused(checkpoint: Path) -> None:
    whole = checkpoint.read_bytes()
    for length in (len(whole) // 2, 100, 1):
        checkpoint.write_bytes(whole[:length])
        refused(checkpoint, "is no readable checkpoint")
    big = torch.zeros(1).expand(10**9)
    torch.save({"weight": big}, checkpoint)
    refused(checkpoint, "holds tensors larger than the file itself")
    torch.save({"weight": "text"}, checkpoint)
    refused(checkpoint, "'weight', which is no tensor")
    torch.save([1, 2], checkpoint)
    refused(checkpoint, "is no checkpoint")


# ------------------------------------------------------------------------------------------------------- models add


def test_a_checkpoint_is_added_and_rendered_by_its_name(checkpoint: Path, typed) -> None:
    code, said, complaint = typed("models", "add", str(checkpoint), "--name", "mine")
    assert code == 0, complaint
    assert "mine: bass, drums, guitar, other" in said
    assert {path.name for path in (data_dir() / "mine").iterdir()} == {"mine.ckpt", "mine.yaml"}
    assert "mine" in own_models([data_dir()])
    code, listed, _ = typed("models", "list")
    row = next(line.split() for line in listed.splitlines() if line.split()[:1] == ["mine"])
    assert row[:4] == ["mine", "msst", "bass,", "drums,"]
    assert find("mine", "msst").files[0].name == "mine.ckpt"
    assert typed("models", "add", str(checkpoint), "--name", "mine")[0] == 0
    checkpoint.write_bytes(
        random_models.write_checkpoint("tiny_bs_roformer", checkpoint.parent, 7, "other").read_bytes()
    )
    code, _, complaint = typed("models", "add", str(checkpoint), "--name", "mine")
    assert code == 2
    assert "there already and another file" in " ".join(complaint.split())


def test_a_published_one_goes_under_its_published_name(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    row = catalogue.MODELS["bs_roformer_sw"]
    with pytest.raises(ParameterError, match="a name that no published model has"):
        add(checkpoint, name="bs_roformer_sw")
    known = catalogue.Model(**{**row.__dict__, "sha256": (digest, "0" * 64)})
    monkeypatch.setitem(catalogue.MODELS, "bs_roformer_sw", known)
    added = add(checkpoint)
    assert added.name == "bs_roformer_sw"
    assert [path.name for path in added.files] == ["BS-Rofo-SW-Fixed.ckpt", "BS-Rofo-SW-Fixed.yaml"]
    assert "no licence stated" in added.notes[0]


def test_what_a_file_is_not_is_said_in_a_line(checkpoint: Path, tmp_path: Path, typed) -> None:
    lonely = tmp_path / "lonely.ckpt"
    shutil.copy(checkpoint, lonely)
    onnx, wave, text = tmp_path / "UVR-MDX-NET.onnx", tmp_path / "a.ckpt", tmp_path / "notes.txt"
    onnx.write_bytes(b"\x08\x07\x12\x07pytorch")
    wave.write_bytes(b"RIFF....WAVE")
    text.write_text("hello")
    vr = tmp_path / "vr.pth"
    torch.save({"stg1_low_band_net.enc1.conv.0.weight": torch.zeros(1)}, vr)
    named = tmp_path / "named.ckpt"
    shutil.copy(checkpoint, named)
    named.with_suffix(".yaml").write_text("")
    others = {name: tmp_path / f"{name}.ckpt" for name in ("m4a", "page", "pointer", "nothing", "words", "archive")}
    for file, start in zip(
        others.values(),
        (b"\0\0\0 ftypM4A ", b"<!DOCTYPE html>", b"version https://git-lfs", b"", b"hello", b"PK\3\4 and no more"),
        strict=True,
    ):
        file.write_bytes(start)
    for file, message in (
        (lonely, "has no configuration beside it: name its YAML with --config"),
        (onnx, "is an ONNX network, as UVR's MDX-Net models are"),
        (wave, "is a recording, not a checkpoint"),
        (text, "is no checkpoint by its name"),
        (checkpoint.with_suffix(".yaml"), "is a configuration: name the checkpoint"),
        (vr, "is a network of UVR's VR architecture"),
        (named, "has no configuration beside it (named.yaml is none: it must hold the sections model and training)"),
        (others["m4a"], "is a recording, not a checkpoint"),
        (others["page"], "is a web page, not the checkpoint itself"),
        (others["pointer"], "is the pointer of Git LFS to a file"),
        (others["nothing"], "is empty: fetch it again"),
        (others["words"], "it is neither a PyTorch file nor safetensors"),
        (others["archive"], "it is cut short: fetch it again"),
    ):
        code, _, complaint = typed("models", "add", str(file))
        assert code == 2
        assert message in " ".join(complaint.split())
        assert len(complaint.strip().splitlines()) <= 4
    code, _, complaint = typed("models", "add", str(lonely), "--config", str(checkpoint.with_suffix(".yaml")))
    assert code == 0, complaint
    voices = random_models.write_checkpoint("tiny_bandit", tmp_path)
    code, _, said = typed("models", "add", str(voices))
    assert code == 0
    assert "it gives speech, music: neither bass nor guitar" in said


def test_another_file_under_the_name_leaves_both_as_they_are(checkpoint: Path, tmp_path: Path) -> None:
    add(checkpoint, name="mine")
    other = random_models.write_checkpoint("tiny_scnet", tmp_path / "other")
    (data_dir() / "mine" / "mine.ckpt").unlink()
    with pytest.raises(BackendError, match="mine.yaml is there already and another file"):
        add(other, name="mine")
    assert [path.name for path in (data_dir() / "mine").iterdir()] == ["mine.yaml"]


@pytest.mark.parametrize("name", ["con", "Aux.", "blank ", "../up", ""])
def test_a_name_that_is_no_file_everywhere_is_refused(checkpoint: Path, name: str) -> None:
    with pytest.raises(ParameterError, match="choose another with --name"):
        add(checkpoint, name=name or " ")


def test_a_name_with_a_blank_is_quoted_in_what_to_type(checkpoint: Path, typed) -> None:
    code, said, _ = typed("models", "add", str(checkpoint), "--name", "my model")
    assert code == 0
    assert "--set 'separate.model=my model'" in said


# ------------------------------------------------------------------------------------------- folders of other tools


def test_checkpoints_are_found_where_other_tools_keep_them(tmp_path: Path) -> None:
    small = random_models.write_checkpoint("tiny_bs_roformer", tmp_path / "source")
    config = small.with_suffix(".yaml")

    def place(where: str, yaml_at: str) -> Path:
        target, beside = tmp_path / where, tmp_path / yaml_at
        target.parent.mkdir(parents=True, exist_ok=True)
        beside.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(small, target)
        shutil.copy(config, beside)
        return target

    place("asep/BS-Roformer-SW.ckpt", "asep/BS-Roformer-SW.yaml")
    place("hub/becruily_guitar.ckpt", "hub/config_guitar_becruily.yaml")
    uvr = place("uvr/MDX_Net_Models/a.ckpt", "uvr/MDX_Net_Models/model_data/mdx_c_configs/other.yaml")
    digest = hashlib.md5(uvr.read_bytes()[-10_240_000:]).hexdigest()
    table = {digest: {"config_yaml": "other.yaml", "is_roformer": True}}
    (tmp_path / "uvr/MDX_Net_Models/model_data/model_data.json").write_text(json.dumps(table))
    assert find_files(tmp_path / "asep", "bs_roformer_sw").paths[0].name == "BS-Roformer-SW.ckpt"
    assert find_files(tmp_path / "hub", "mel_guitar_becruily").paths[1].name == "config_guitar_becruily.yaml"
    assert find_files(tmp_path / "uvr", "a").paths[1].name == "other.yaml"
    assert find_files(tmp_path / "uvr/MDX_Net_Models", "a").paths[0] == uvr
    assert own_models([tmp_path / "uvr"]) == {"a"}
    assert find_files(tmp_path / "asep", "nothing").missing == "nothing.ckpt with its .yaml"


def test_a_model_of_splifft_is_read_by_its_own_configuration(tmp_path: Path) -> None:
    folder = tmp_path / "splifft" / "bs_roformer-fruit-sw"
    document = random_models.CHECKPOINTS["tiny_bs_roformer"]
    sizes = {key: document["model"][key] for key in ("dim", "depth", "heads", "dim_head", "mlp_expansion_factor")}
    plain = {**document, "model": {key: value for key, value in document["model"].items() if key != "freqs_per_bands"}}
    random_models.CHECKPOINTS["plain"] = plain
    try:
        made = random_models.write_checkpoint("plain", folder, stem="model")
    finally:
        del random_models.CHECKPOINTS["plain"]
    made.with_suffix(".yaml").unlink()
    bands = {"kind": "fixed"}
    model = {
        "chunk_size": 22050,
        "output_stem_names": ["bass", "drums", "guitar", "other"],
        **sizes,
        "band_config": bands,
    }
    (folder / "config.json").write_text(json.dumps({"model_type": "bs_roformer", "model": model}))
    files = find_files(tmp_path / "splifft", "bs_roformer_sw")
    assert [path.name for path in files.paths] == ["model.ckpt", "config.json"]
    assert msst.check(*files.paths).sources == ("bass", "drums", "guitar", "other")
    assert own_models([tmp_path / "splifft"]) == set()


def test_a_changed_checkpoint_is_refused_until_it_is_accepted(checkpoint: Path) -> None:
    context = Context(("bass",), device="cpu", models=checkpoint.parent)
    settings = msst.Settings(model=checkpoint.stem)
    msst.identity(settings, context)
    other = random_models.write_checkpoint("tiny_bs_roformer", checkpoint.parent.parent, seed=3)
    checkpoint.write_bytes(other.read_bytes())
    with pytest.raises(BackendError, match="has changed since gbsep first used it"):
        msst.identity(settings, context)
