"""Weights: the table of models, found and verified, and the commands about them."""

import hashlib
import os
import re
import shutil
import socket
import threading
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gbsep.cli import main
from gbsep.errors import BackendError, ParameterError, WeightsMissing
from gbsep.models import catalogue, package
from gbsep.models.find import notice
from gbsep.models.verify import CHECKSUM, trust, verify
from gbsep.separation.backend import Context
from gbsep.separation.demucs import backend as demucs
from gbsep.separation.demucs import network as demucs_network
from gbsep.separation.openunmix import backend as openunmix
from gbsep.separation.openunmix.weights import target_of
from gbsep.separation.weights import find, own_models
from gbsep.stemnames import FOUR_STEMS

from .helpers import exit_code
from .networks import edited, random_models, write_openunmix

pytestmark = pytest.mark.usefixtures("models_elsewhere")


# the table


@pytest.mark.parametrize("model", catalogue.MODELS.values(), ids=lambda model: model.name)
def test_published_file_names_carry_their_hash(model):
    if model.sha256:
        assert len(model.sha256) == len(model.files)
        assert all(re.fullmatch("[0-9a-f]{64}", sha256) for sha256 in model.sha256)
        return
    assert all(CHECKSUM.search(Path(file).stem) for file in model.files)
    assert set(FOUR_STEMS) <= set(model.stems)
    if model.weights is not None:
        assert np.shape(model.weights) == (len(model.files), len(model.stems))


def test_demucs_rows_agree_with_the_demucs_package():
    import demucs
    import yaml

    remote = Path(demucs.__file__).parent / "remote"
    published = set(re.findall(r"\w{8}-\w{8}\.th", (remote / "files.txt").read_text()))
    for model in catalogue.MODELS.values():
        if model.backend == "demucs":
            bag = yaml.safe_load((remote / f"{model.name}.yaml").read_text())
            assert set(model.files) <= published
            assert bag["models"] == [file.split("-")[0] for file in model.files]
            assert np.array_equal(bag.get("weights"), model.weights)
            assert bag.get("segment") == model.segment_s


# finding


def test_both_formats_hold_the_same_network(network, folder):
    for save in (random_models.save_hub, random_models.save_legacy):
        built = demucs_network.build(package.load_package(save(network, folder, save.__name__)))
        state = built.state_dict()
        for name, tensor in network.state_dict().items():
            expected = tensor if save is random_models.save_hub else tensor.half().float()
            assert torch.equal(state[name], expected)
        assert built.segment == Fraction(1, 2)


def test_search_order(network, folder, tmp_path, monkeypatch):
    hub = tmp_path / "hub/models--adefossez--HTDemucs"
    snapshot = hub / "snapshots/abc"
    for place in (folder / "given", folder / "environment", catalogue.data_dir(), snapshot):
        place.mkdir(parents=True)
        random_models.save_hub(network, place, "955717e8")
    (hub / "refs").mkdir()
    (hub / "refs/main").write_text("abc")
    monkeypatch.setenv("GBSEP_MODELS", str(folder / "environment"))

    def parent(models_dir=None):
        return find("htdemucs", "demucs", models_dir).files[0].parent

    assert parent(folder / "given") == folder / "given"
    assert parent() == folder / "environment"
    monkeypatch.delenv("GBSEP_MODELS")
    assert parent() == catalogue.data_dir()
    (catalogue.data_dir() / "955717e8.safetensors").unlink()
    assert parent() == snapshot


def test_bag_yaml_and_own_names(network, folder):
    for name in ("one", "two"):
        random_models.save_hub(network, folder, name)
    (folder / "my-bag.v2.yaml").write_text("models: [two, one]\nweights: [[1, 0, 0, 0], [0, 1, 1, 1]]\nsegment: 3\n")
    found = find("my-bag.v2", "demucs", folder)
    assert [file.stem for file in found.files] == ["two", "one"]
    assert (found.weights, found.segment_s) == (((1, 0, 0, 0), (0, 1, 1, 1)), 3.0)
    assert found.licence == catalogue.OWN_LICENCE
    assert find("one", "demucs", folder).digest != found.digest


@pytest.mark.parametrize(
    "text",
    ["", "[1, 2]", "models: []", "models: ['../x']", "models: [one]\nweights: [[1], [2]]",
     "models: [one]\nweights: [[.nan, 1, 1, 1]]", "models: [one]\nsegment: -1", "a: !!python/object:os.system {}"],
)  # fmt: skip
def test_broken_yaml(network, folder, text):
    random_models.save_hub(network, folder, "one")
    (folder / "bag.yaml").write_text(text)
    with pytest.raises(BackendError, match="is no bag of Demucs models"):
        find("bag", "demucs", folder)


def test_two_files_of_one_signature(folder):
    for name in ("own-00000000.th", "own.th"):
        (folder / name).write_bytes(b"x")
    with pytest.raises(BackendError, match="remove all but one"):
        find("own", "demucs", folder)


def test_openunmix_files(folder):
    for file in catalogue.MODELS["umxhq"].files:
        content = file.encode()
        (folder / file).write_bytes(content)
    with pytest.raises(BackendError, match="as its name says"):
        find("umxhq", "openunmix", folder)
    own = folder / "mine"
    own.mkdir()
    for target in ("bass", "guitar"):
        (own / f"{target}.pth").write_bytes(target.encode())
    found = find("mine", "openunmix", folder)
    assert [target_of(file) for file in found.files] == ["bass", "guitar"]
    assert found.sha256[0] == hashlib.sha256(b"bass").hexdigest()


@pytest.mark.parametrize("name", ["../htdemucs", "a/b", "", ".hidden", "C:\\x"])
def test_names_are_no_paths(name, folder):
    with pytest.raises(ParameterError, match="no folder"):
        find(name, "demucs", folder)


def test_model_of_another_backend():
    with pytest.raises(ParameterError, match="a model of the backend 'openunmix'"):
        find("umxl", "demucs")


def test_missing_weights_say_where_and_how(folder):
    with pytest.raises(WeightsMissing, match=r"blocked.*gbsep models get htdemucs_ft") as caught:
        find("htdemucs_ft", "demucs", folder)
    message = str(caught.value)
    for part in (
        str(folder),
        str(catalogue.data_dir() / "htdemucs_ft"),
        "models--adefossez",
        "--models DIR",
        *catalogue.MODELS["htdemucs_ft"].files,
    ):
        assert part in message
    assert "\n" not in message


def test_without_downloads_nothing_is_said_to_have_failed(folder):
    with pytest.raises(WeightsMissing, match="gbsep models get htdemucs") as caught:
        find("htdemucs", "demucs", folder, download=False)
    assert "failed" not in str(caught.value)


@pytest.mark.parametrize(("backend", "model"), [(demucs, "htdemucs"), (openunmix, "umxl")])
def test_a_plan_without_downloads_fetches_nothing(backend, model, folder, monkeypatch):
    monkeypatch.setattr("gbsep.models.find.fetch", lambda *arguments: pytest.fail("fetched"))
    context = Context(("bass",), device="cpu", models=folder, download=False)
    with pytest.raises(WeightsMissing, match=f"no weights for model '{model}'"):
        backend.identity(backend.Settings(model=model), context)


def test_a_name_server_that_does_not_answer_is_not_waited_for(monkeypatch):
    released = threading.Event()
    monkeypatch.setattr("gbsep.models.fetch._CONNECT_S", 0.05)
    monkeypatch.setattr(socket, "create_connection", lambda *arguments: released.wait(30))
    with pytest.raises(WeightsMissing, match=r"no answer within 0\.05 s"):
        find("htdemucs", "demucs")
    released.set()


def test_misspelt_model(folder):
    with pytest.raises(WeightsMissing, match=r"did you mean 'htdemucs_6s'\? Bring"):
        find("htdemucs6s", "demucs", folder)


def test_incomplete_bag_names_what_is_lacking(network, folder):
    random_models.save_legacy(network, folder, "f7e0c4bc")
    with pytest.raises(WeightsMissing, match=r"no d12395a8\.safetensors"):
        find("htdemucs_ft", "demucs", folder, download=False)


def test_licence_is_shown_once(network, folder):
    random_models.save_hub(network, folder, "955717e8")
    found = find("htdemucs", "demucs", folder)
    assert "commercial use unclear" in notice(found)
    assert notice(found) is None


# verifying


def test_hash_in_the_name(network, folder):
    path = random_models.save_legacy(network, folder, "own")
    verify(path)
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    with pytest.raises(BackendError, match=r"SHA-256 begins with .* as its name says"):
        verify(path)


def test_a_change_after_first_use_is_refused_until_accepted(folder):
    path = folder / "own.safetensors"
    path.write_bytes(b"first")
    first = verify(path)
    stat = path.stat()
    path.write_bytes(b"other")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(BackendError, match="has changed since gbsep first used it"):
        verify(path)
    assert trust(path) == verify(path) == hashlib.sha256(b"other").hexdigest() != first


def test_find_refuses_and_accepts_a_change(network, folder):
    path = random_models.save_hub(network, folder, "own")
    first = find("own", "demucs", folder).digest
    edited(path, klass="another")
    with pytest.raises(BackendError, match=f"has changed .*`gbsep models verify own --models {folder} --accept`"):
        find("own", "demucs", folder)
    assert find("own", "demucs", folder, accept=True) == find("own", "demucs", folder)
    assert find("own", "demucs", folder).digest != first


def test_a_settled_file_is_not_hashed_again(folder, monkeypatch):
    path = folder / "own.pth"
    path.write_bytes(b"weights")
    monkeypatch.setattr("gbsep.store.identity._SETTLED_NS", -(10**18))
    expected = verify(path)
    monkeypatch.setattr("gbsep.models.verify.file_hash", lambda path: pytest.fail("hashed again"))
    assert verify(path) == expected


def test_empty_file(folder):
    (folder / "own.th").touch()
    with pytest.raises(BackendError, match="is empty"):
        find("own", "demucs", folder)


# commands


@pytest.fixture
def command(capsys, monkeypatch):
    """Call `gbsep models ...`: exit code, what it printed, and its complaint."""

    def call(*words):
        return exit_code("models", *words), *capsys.readouterr()

    monkeypatch.setenv("COLUMNS", "400")
    return call


def test_an_unknown_model_may_be_one_of_either_backend(command, folder):
    for word, near in {
        "nix": "known: .*htdemucs.*umxl",
        "umxlq": "did you mean 'umxl'",
        "htdemuc": "'htdemucs'",
    }.items():
        code, _, complaint = command("path", word, "--models", folder)
        assert code == 2
        assert re.search(near, complaint)
        assert re.search(rf"{word}\.safetensors.*{word}/<stem>\.pth", complaint)
        assert "--models DIR or GBSEP_MODELS" in complaint


def test_missing_weights_of_a_published_model_are_no_failed_download(command):
    code, _, complaint = command("path", "umxl")
    assert code == 2
    assert "ailed" not in complaint
    assert str(catalogue.data_dir() / "umxl") in complaint
    code, _, complaint = command("get", "umxl")
    assert code == 2
    assert str(catalogue.data_dir() / "umxl") in complaint


def test_the_list_shows_own_models_and_what_has_changed(command, network, folder):
    random_models.save_hub(network, folder, "part")
    random_models.save_hub(network, folder, "alone")
    random_models.save_legacy(network, folder, "old")
    random_models.save_hub(network, folder, "955717e8")
    (folder / "mybag.yaml").write_text("models: [part]\n")
    write_openunmix(folder, "mine")
    save_file({"x": torch.zeros(1)}, folder / "small.safetensors", {"config": "{}"})
    (folder / "broken.safetensors").write_bytes(b"x" * 20)
    assert own_models(folder) == {
        "alone": "demucs", "broken": "demucs", "mine": "openunmix", "mybag": "demucs", "old": "demucs",
        "small": "compact",
    }  # fmt: skip
    with (folder / "alone.safetensors").open("ab") as file:
        verify(folder / "alone.safetensors")
        file.write(b"more")
    code, listed, _ = command("list", "--models", folder)
    assert code == 0
    rows = {line.split()[0]: " ".join(line.split()) for line in reversed(listed.splitlines()) if line.strip()}
    assert rows["mybag"].startswith(f"mybag demucs {', '.join(random_models.SOURCES)}")
    assert rows["mine"].startswith("mine openunmix bass, drums, other, vocals")
    assert "not here" in rows["umxl"]
    assert rows["small"].startswith("small compact bass, guitar")
    assert "broken.safetensors is no readable Demucs model" in " ".join(listed.split())
    assert "alone.safetensors has changed since gbsep first used it" in " ".join(listed.split())
    assert "SHA-256" not in listed


def test_a_render_records_the_hash_of_every_file(network, folder):
    path = random_models.save_hub(network, folder, "own")
    context = Context(("bass",), device="cpu", models=folder)
    told = demucs.identity(demucs.Settings(model="own", engine="torch"), context)
    assert told["weights"] == {"own.safetensors": hashlib.sha256(path.read_bytes()).hexdigest()}


@pytest.mark.parametrize(
    ("group", "variables"), [("models", ["MODELS", "HOME", "STATE"]), ("cache", ["CACHE", "CACHE_SIZE"])]
)
def test_help_names_the_variables(capsys, group, variables):
    with pytest.raises(SystemExit):
        main([group, "--help"])
    printed = capsys.readouterr().out
    assert all(f"GBSEP_{variable} " in printed for variable in variables)


# The model inside gbsep


def test_the_embedded_model_is_checked_against_its_card(tmp_path, monkeypatch):
    found = find("compact", "compact", tmp_path)
    assert found.sha256 == (catalogue.card()["sha256"],)
    assert found.licence == catalogue.card()["licence"]
    for suffix in (".json", ".safetensors"):
        shutil.copy(catalogue.EMBEDDED_FOLDER / f"compact{suffix}", tmp_path)
    for module in ("catalogue", "find"):
        monkeypatch.setattr(f"gbsep.models.{module}.EMBEDDED_FOLDER", tmp_path)
    assert find("compact", "compact").digest == found.digest
    with (tmp_path / "compact.safetensors").open("ab") as file:
        file.write(b"more")
    with pytest.raises(BackendError, match=r"compact\.safetensors is damaged: its SHA-256 .* install gbsep again"):
        find("compact", "compact")


def test_a_file_in_a_folder_of_models_does_not_hide_the_embedded_one(folder):
    save_file({"x": torch.zeros(1)}, folder / "compact.safetensors", {"config": "{}"})
    assert find("compact", "compact", folder).files[0].parent == catalogue.EMBEDDED_FOLDER
    assert "compact" not in own_models(folder)


def test_the_list_tells_credits_and_quality_of_the_embedded_model(command):
    code, listed, _ = command("list")
    assert code == 0
    median = next(row for row in catalogue.card()["held_out"]["quality"] if row["song"] == "median")
    assert f"median SDR, {median['fold']}: bass {median['bass_sdr_db']:.1f} dB" in listed
    assert catalogue.EMBEDDED.licence in listed
    assert all(line in listed for line in catalogue.card()["credits"] if line.startswith("- "))


def test_nothing_of_the_embedded_model_is_downloaded(command):
    code, _, complaint = command("get", "compact")
    assert code == 2
    assert "it is inside gbsep, there is nothing to download" in complaint
    code, printed, _ = command("path", "compact")
    assert code == 0
    assert printed.strip().endswith("compact.safetensors")
