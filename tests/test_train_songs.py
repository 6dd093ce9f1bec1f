"""Training on songs of one's own: by name, repeatable to the byte, refused before anything is written."""

from __future__ import annotations

import json
import re
import shutil
import signal
from dataclasses import replace
from fractions import Fraction
from importlib import import_module
from inspect import signature

import numpy as np
import pytest
import torch

from gbsep.audio import Audio
from gbsep.errors import BackendError, OutputError
from gbsep.io.formats import OutputFormat
from gbsep.io.read import read
from gbsep.io.write import write
from gbsep.models.package import Package, load_package
from gbsep.separation.compact import network as compact_network
from gbsep.separation.compact import weights as compact_weights
from gbsep.separation.weights import own_models
from gbsep.store.identity import content_hash
from gbsep.train import finetune, loop, pool

from .band import SMALL
from .helpers import exit_code

HTDEMUCS = {
    "channels": 4, "nfft": 1024, "depth": 4, "bottom_channels": 16, "t_layers": 1, "t_heads": 2, "dconv_comp": 2,
    "samplerate": 8000, "segment": Fraction(1, 1), "num_subbands": 1, "dconv_mode": 1,
}  # fmt: skip


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Folders of gbsep's own for one test."""
    for variable, place in {"HOME": "home", "STATE": "state", "CACHE": "cache", "CONFIG": "config"}.items():
        monkeypatch.setenv(f"GBSEP_{variable}", str(tmp_path / place))
    monkeypatch.delenv("GBSEP_MODELS", raising=False)
    return tmp_path / "home" / "models"


@pytest.fixture
def checkpoint(tmp_path):
    """A small HTDemucs that was never trained, in the hub's format."""
    from demucs.htdemucs import HTDemucs

    torch.manual_seed(0)
    sources = ["drums", "bass", "other", "vocals", "guitar", "piano"]
    arguments = {"sources": sources, **{k: v for k, v in HTDEMUCS.items() if k in signature(HTDemucs).parameters}}
    path = tmp_path / "published.safetensors"
    package = Package(path, "demucs.htdemucs.HTDemucs", (), arguments, {})
    finetune.write_package(path, package, HTDemucs(**arguments).state_dict())
    return path


@pytest.fixture
def embedded(tmp_path):
    """A small network of the embedded kind that was never trained."""
    path = tmp_path / "untrained.safetensors"
    compact_weights.save(path, SMALL, compact_network.new_weights(SMALL, 0))
    return path


@pytest.fixture
def songs(tmp_path, rng):
    folder = tmp_path / "songs"
    (folder / "one").mkdir(parents=True)
    time = np.arange(8000 * 3) / 8000
    for name, pitch in (("bass", 55.0), ("guitar1", 440.0), ("guitar2", 660.0)):
        samples = 0.2 * np.sin(2 * np.pi * pitch * time) + 0.001 * rng.standard_normal((2, len(time)))
        write(folder / "one" / f"{name}.wav", Audio(samples, 8000), OutputFormat())
    return folder


def gbsep(capsys, *words) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    return exit_code(*words), *capsys.readouterr()


def figures_of(told: str) -> tuple[float, float]:
    """The errors at first and at last."""
    first, last = re.search(r"error (\S+).* at first, (\S+).* at last", told).groups()
    return float(first), float(last)


def test_a_demucs_checkpoint_learns_by_name_and_the_original_stays(checkpoint, songs, home, tmp_path, capsys):
    before = checkpoint.read_bytes()
    words = ("--stems", songs, "--out", "mine", "--steps", 24, "--rate", 5e-3, "--batch", 2)
    code, printed, told = gbsep(capsys, "train", "--from", checkpoint, *words)
    assert (code, printed.split()) == (0, [str(home / "mine.safetensors")])
    first, last = figures_of(told)
    assert last < 0.9 * first
    assert checkpoint.read_bytes() == before
    assert not (home / "mine.state").exists()
    made = finetune.demucs_network.build(load_package(home / "mine.safetensors"))
    assert list(made.sources) == ["drums", "bass", "other", "vocals", "guitar", "piano"]
    assert made.segment == Fraction(1, 1)
    assert own_models() == {"mine": "demucs"}
    preset = tmp_path / "six.json"
    preset.write_text(json.dumps({
        "schema_version": 1, "name": "six", "title": "Six",
        "separate": {"backend": "demucs", "model": "mine", "engine": "torch", "shifts": 1},
        "stems": {name: {"from": [name]} for name in ("bass", "guitar")},
    }))  # fmt: skip
    code, _, told = gbsep(capsys, "render", songs / "one" / "bass.wav", "-p", preset, "-o", tmp_path / "out")
    assert (code, "error" in told) == (0, False)
    assert read(tmp_path / "out" / "bass" / "six" / "guitar.wav").frames == 24_000
    code, _, told = gbsep(capsys, "train", "--from", checkpoint, *words)
    assert code == 2
    assert "mine.safetensors: is there already; choose another name" in " ".join(told.split())


def test_the_embedded_network_learns_from_songs_and_renders_by_name(embedded, songs, home, tmp_path, capsys):
    before = embedded.read_bytes()
    words = ("--stems", songs, "--out", "mine", "--steps", 30, "--rate", 5e-3, "--batch", 1)
    code, _, told = gbsep(capsys, "train", "--from", embedded, *words)
    assert code == 0
    first, last = figures_of(told)
    assert last < first - 0.5
    assert embedded.read_bytes() == before
    code, listed, _ = gbsep(capsys, "models", "list")
    assert re.search(r"mine +compact +bass, guitar", listed)
    words = ("--set", "separate.model=mine", "-o", tmp_path / "out")
    code, _, told = gbsep(capsys, "render", songs / "one" / "bass.wav", *words)
    assert (code, "error" in told) == (0, False)
    record = json.loads(next((tmp_path / "out").rglob("render.json")).read_text())
    assert content_hash(home / "mine.safetensors") in json.dumps(record)


def test_a_log_is_told_now_and_then_how_far_training_is(embedded, songs, tmp_path, capsys, monkeypatch):
    words = ("train", "--from", embedded, "--stems", songs, "--steps", 4, "--batch", 1, "--out")
    for line_s, expected in ((0.0, ["0%", "25%", "50%", "75%", "100%"]), (600.0, [])):
        monkeypatch.setattr(import_module("gbsep.cli.train"), "LINE_S", line_s)
        code, printed, told = gbsep(capsys, *words, tmp_path / f"{line_s:.0f}.safetensors")
        assert (code, printed.count("\n")) == (0, 1)
        assert [line.split()[-1] for line in told.splitlines() if line.endswith("%")] == expected


def test_a_short_training_repeats_to_the_byte_also_when_interrupted(embedded, songs, tmp_path, capsys, monkeypatch):
    words = ("train", "--from", embedded, "--stems", songs, "--steps", 6, "--batch", 1, "--seed", 5, "--out")
    for name in ("one", "two"):
        assert gbsep(capsys, *words, tmp_path / f"{name}.safetensors")[0] == 0
    steps, ends = loop.train, {3: signal.SIGINT, 5: signal.SIGTERM}

    def interrupted(*args):
        for step, figure in steps(*args):
            if step in ends:
                signal.raise_signal(ends[step])
            yield step, figure

    monkeypatch.setattr(loop, "train", interrupted)
    for last, end in ends.items():
        code, printed, told = gbsep(capsys, *words, tmp_path / "three.safetensors")
        assert (code, printed) == (128 + end, "")
        assert f"interrupted after step {last} of 6; the same command goes on from there" in told
        assert not (tmp_path / "three.safetensors").exists()
    monkeypatch.undo()
    code, _, told = gbsep(capsys, *words[:-3], "--seed", 6, "--out", tmp_path / "three.safetensors")
    assert code == 2
    assert "a training run with other weights, songs or seed" in told
    assert gbsep(capsys, *words, tmp_path / "three.safetensors")[0] == 0
    made = [(tmp_path / f"{name}.safetensors").read_bytes() for name in ("one", "two", "three")]
    assert made[0] == made[1] == made[2]
    assert gbsep(capsys, *words[:-3], "--seed", 6, "--out", tmp_path / "four.safetensors")[0] == 0
    assert (tmp_path / "four.safetensors").read_bytes() != made[0]


@pytest.mark.parametrize("other", [{"steps": 9}, {"seed": 9}, {"learning_rate": 0.009}, {"batch_size": 9}])
def test_a_training_on_songs_goes_on_with_what_it_was_begun_with_alone(other, embedded, songs, tmp_path):
    plan = replace(finetune.PLANS["compact"], steps=4)
    begun, changed = (finetune.songs_job("compact", embedded, songs, one) for one in (plan, replace(plan, **other)))
    loop.save(loop.begin(begun), tmp_path / "state")
    assert loop.opened(begun, tmp_path / "state").step == 0
    with pytest.raises(
        OutputError, match="other weights, songs or seed, or with other steps, rate or batch size; remove it"
    ):
        loop.opened(changed, tmp_path / "state")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("out", "a/b", "at most 100 letters, digits and . _ + - only, no folder; or a file that ends in .safetensors"),
        ("out", "", "at most 100 letters, digits and . _ + - only, no folder"),
        ("from", "songs/one/bass.wav", "a weight file ends in .safetensors or .th"),
        ("from", "no/such", "at most 100 letters, digits and . _ + - only, no folder"),
    ],
)
def test_names_that_will_not_do_are_told_by_their_option(option, value, message, songs, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, told = gbsep(capsys, "train", "--stems", songs, f"--{option}", value)
    assert code == 2
    assert f"{option} = {value!r} is not allowed: {message}" in told


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("no folder", "nowhere: no such folder"),
        ("a song itself", "no songs here: a folder for each, with bass.* and guitar.* in it; this is one itself"),
        ("no bass", "one: 0 files are named bass"),
        ("no guitar", "one: no guitar.* and no guitar<N>.* here"),
        ("shorter", "one: the stems are not equally long: bass.wav 16000 frames at 8000 Hz, guitar1.wav 24000 frames"),
        ("no audio", "bass.wav: "),
    ],
)
@pytest.mark.parametrize("kind", ["embedded", "checkpoint"])
def test_songs_that_will_not_do_are_refused_before_anything_is_written(
    kind, broken, message, songs, tmp_path, capsys, request
):
    one = songs / "one"
    if broken == "no folder":
        songs = tmp_path / "nowhere"
    elif broken == "a song itself":
        songs = one
    elif broken == "no bass":
        (one / "bass.wav").unlink()
    elif broken == "no guitar":
        (one / "guitar1.wav").unlink()
        (one / "guitar2.wav").unlink()
    elif broken == "shorter":
        (one / "bass.wav").unlink()
        write(one / "bass.wav", Audio(np.zeros(16_000), 8000), OutputFormat())
    else:
        (one / "bass.wav").write_text("words")
    start = request.getfixturevalue(kind)
    code, printed, told = gbsep(capsys, "train", "--from", start, "--stems", songs, "--out", tmp_path / "a.safetensors")
    assert (code, printed) == (2, "")
    assert message in " ".join(told.split())
    assert not list(tmp_path.glob("a.*"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--steps", "0"], "0 is not in the range 1<=x"),
        (["--minutes", "0"], "0.0 is not in the range x>0"),
        (["--from", "umxl"], "it is a model of openunmix; only those of compact and demucs can learn"),
        (["--from", "nobody"], "no weights for model 'nobody'"),
        (["--from", "gone.safetensors"], "from = 'gone.safetensors' is not allowed: no such file"),
        (["--out", "htdemucs"], "htdemucs is a published model; choose another name"),
        (["--out", "compact"], "compact is a published model; choose another name"),
        (["--out", "a/b"], "letters, digits"),
    ],
)
def test_what_cannot_be_is_refused(words, message, songs, capsys):
    code, printed, told = gbsep(capsys, "train", "--stems", songs, *words)
    assert (code, printed) == (2, "")
    assert message in " ".join(told.split())


def test_a_bag_names_its_networks(songs, checkpoint, tmp_path, capsys):
    folder = tmp_path / "bags"
    folder.mkdir()
    for name in ("a", "b"):
        shutil.copy(checkpoint, folder / f"{name}.safetensors")
    (folder / "both.yaml").write_text("models: [a, b]")
    code, _, told = gbsep(capsys, "train", "--from", "both", "--models", folder, "--stems", songs)
    assert code == 2
    assert re.search(r"it is a bag of 2 networks; name one of its files: \S+a.safetensors, \S+b.safetensors", told)


def test_truth_goes_to_the_guitar_or_to_other():
    assert finetune._places(["drums", "bass", "other", "guitar"]) == (1, 3)
    assert finetune._places(["drums", "bass", "other", "vocals"]) == (1, 2)
    with pytest.raises(BackendError, match="no place for bass and guitar"):
        finetune._places(["vocals", "other"])


def test_batches_for_demucs_hold_the_stems_in_their_places(songs):
    wanted = loop.Plan(1, batch_size=3, excerpt_s=1.0)
    truth = finetune._batch(pool.song_stems(songs), wanted, 0, (1, 3), 4, 8000)
    assert truth.shape == (3, 4, 2, 8000)
    assert not truth[:, [0, 2]].any()
    for one in truth:
        spectrum = np.abs(np.fft.rfft(one[:, 0]))
        assert spectrum[1].argmax() == 55
        assert spectrum[3].argmax() in (440, 660)
        assert one.sum(axis=0).std() == pytest.approx(1.0, rel=1e-2)
