"""Ensembles: what several separators give, put together, and `best`, which takes the first that is here."""

import json
from pathlib import Path

import numpy as np
import pytest

import gbsep
from gbsep.audio import Audio, Reader
from gbsep.errors import ParameterError, PresetError, WeightsMissing
from gbsep.preset.load import load_preset
from gbsep.separation.backend import Context, parse_settings, separate
from gbsep.separation.ensemble import backend as ensemble
from gbsep.separation.ensemble.spectra import combined
from tests.msst import random_models
from tests.networks import write_demucs

RATE = 44100
LOW, HIGH = {"backend": "crossover", "cutoff_hz": 150.0}, {"backend": "crossover", "cutoff_hz": 400.0}


def noise(frames: int = 60000, channels: int = 2, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal((channels, frames))).astype(np.float32)


def made(samples: np.ndarray, **settings: object) -> dict[str, np.ndarray]:
    stems = separate(Audio(samples, RATE), "ensemble", device="cpu", **settings).stems
    return {name: stem.samples for name, stem in stems.items()}


def reader_of(samples: np.ndarray) -> Reader:
    return Audio(samples, RATE).reader()


def test_an_ensemble_of_two_is_their_mean() -> None:
    samples = noise(150_001)
    parts = [separate(Audio(samples, RATE), **part).stems["bass"].samples.astype(np.float64) for part in (LOW, HIGH)]
    got = made(samples, of=[LOW, HIGH])
    np.testing.assert_allclose(got["bass"], (parts[0] + parts[1]) / 2, atol=1e-6)
    weighted = made(samples, of=[LOW, HIGH], weights={"bass": [3.0, 1.0]})
    np.testing.assert_allclose(weighted["bass"], 0.75 * parts[0] + 0.25 * parts[1], atol=1e-6)
    np.testing.assert_allclose(weighted["guitar"], got["guitar"], atol=1e-7)


def test_a_member_without_a_weight_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from gbsep.separation import crossover

    asked = []
    run = crossover.run

    def watched(reader, settings, context):
        asked.append((settings.cutoff_hz, context.wanted))
        return run(reader, settings, context)

    monkeypatch.setattr(crossover, "run", watched)
    made(noise(5000), of=[LOW, HIGH], weights={"bass": [1, 0], "guitar": [0, 1]})
    assert asked == [(150.0, ("bass",)), (400.0, ("guitar",))]
    asked.clear()
    made(noise(5000), of=[LOW, HIGH], weights={"bass": [1, 0]}, wanted=["bass"])
    assert asked == [(150.0, ("bass",))]


@pytest.mark.parametrize("how", ["median_spectrum", "max_spectrum", "min_spectrum"])
@pytest.mark.parametrize("frames", [1, 700, 50_000, 300_000])
def test_spectra_of_equal_members_are_the_member(how: str, frames: int) -> None:
    samples = noise(frames)
    members = [(reader_of(samples), 1.0)] * 3
    blocks = [stems["bass"] for stems in combined({"bass": members}, how)]
    np.testing.assert_allclose(np.concatenate(blocks, axis=1), samples, atol=1e-6)


def test_spectra_choose_bin_by_bin() -> None:
    time_s = np.arange(80_000) / RATE
    low, high = (np.sin(2 * np.pi * hertz * time_s)[np.newaxis].astype(np.float32) for hertz in (200, 3000))
    members = [(reader_of(low + 0.1 * high), 1.0), (reader_of(0.2 * low + high), 1.0)]
    inside = slice(8000, -8000)
    for how, wanted in (("max_spectrum", low + high), ("min_spectrum", 0.2 * low + 0.1 * high)):
        got = np.concatenate([stems["x"] for stems in combined({"x": members}, how)], axis=1)
        assert np.abs(got - wanted)[:, inside].max() < 0.02
    three = [*members, (reader_of(0.7 * low + 0.3 * high), 1.0)]
    got = np.concatenate([stems["x"] for stems in combined({"x": three}, "median_spectrum")], axis=1)
    assert np.abs(got - (0.7 * low + 0.3 * high))[:, inside].max() < 0.02


def test_progress_runs_over_all_members() -> None:
    seen: list[float] = []
    settings = parse_settings("ensemble", {"of": [LOW, {"backend": "nmf", "n_iterations": 2}]})
    context = Context(("bass",), device="cpu", progress=seen.append)
    for _ in ensemble.run(reader_of(noise(30000)), settings, context):
        pass
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"of": []}, "of .*at least 1 item"),
        ({"of": [{"backend": "crosover"}]}, "did you mean 'crossover'"),
        ({"of": [{"cutoff_hz": 3.0}]}, "must name a backend"),
        ({"of": [{"backend": "crossover", "cutof_hz": 3.0}]}, "did you mean 'cutoff_hz'"),
        ({"of": [LOW], "weights": {"bass": [1, 2]}}, "must be 1 numbers"),
        ({"of": [LOW], "weights": {"bass": [0]}}, "not all 0"),
        ({"of": [LOW], "how": "meen"}, "how"),
        ({"of": [LOW], "how": "first", "weights": {"bass": [1]}}, "mean nothing where the first"),
    ],
)
def test_what_is_wrong_with_an_ensemble_is_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        parse_settings("ensemble", settings)


def test_weights_of_a_stem_that_none_gives_are_named() -> None:
    with pytest.raises(ParameterError, match="no member gives this stem; did you mean 'guitar'"):
        made(noise(100), of=[LOW, HIGH], weights={"gitar": [1, 2]})


def test_the_first_of_the_users_own_models_that_is_here_is_taken() -> None:
    settings = parse_settings("ensemble", {"how": "first", "of": [{"backend": "msst", "model": "elsewhere"}, LOW]})
    assert ensemble.stem_names(settings) == ("bass", "guitar")
    said = ensemble.identity(settings, Context(("bass",), device="cpu"))
    assert said["took"] == "crossover"
    settings = parse_settings("ensemble", {"how": "first", "of": [{"backend": "msst", "model": "elsewhere"}]})
    with pytest.raises(WeightsMissing, match="elsewhere"):
        ensemble.stem_names(settings)


def test_what_the_first_gave_before_is_not_separated_again(typed, monkeypatch: pytest.MonkeyPatch) -> None:
    from gbsep.separation import nmf

    gbsep.write("song.wav", Audio(noise(30000), RATE))
    stems = {"bass": {"from": ["bass"]}}
    small = {"backend": "nmf", "n_iterations": 2, "n_components": 4, "n_fft": 1024}
    alone, first = {**small, "seed": 0}, {"backend": "ensemble", "how": "first", "of": [small], "seed": 0}
    for name, document in (("alone", alone), ("first", first)):
        preset = {"schema_version": 1, "name": name, "title": name, "separate": document, "stems": stems}
        Path(f"{name}.json").write_text(json.dumps(preset))
        code, printed, complaint = typed("render", "song.wav", "-p", f"{name}.json", "--json")
        assert code == 0, complaint
        folder = Path(json.loads(printed)["folder"])
        monkeypatch.setattr(nmf, "run", lambda *arguments: pytest.fail("separated again"))
    alone_bass, first_bass = (gbsep.read(folder.parent / name / "bass.wav").samples for name in ("alone", "first"))
    np.testing.assert_array_equal(alone_bass, first_bass)


def test_ensembles_in_ensembles_have_an_end() -> None:
    inner: dict[str, object] = dict(LOW)
    for _ in range(2):
        inner = {"backend": "ensemble", "of": [inner]}
    parse_settings("ensemble", {"of": [inner]})
    with pytest.raises(ParameterError, match="3 deep"):
        parse_settings("ensemble", {"of": [{"backend": "ensemble", "of": [inner]}]})


def test_members_are_cached_each_for_itself(tmp_path: Path, typed) -> None:
    gbsep.write("song.wav", Audio(noise(40000), RATE))
    nmf = {"backend": "nmf", "n_iterations": 2, "n_components": 4, "n_fft": 1024}
    preset = {
        "schema_version": 1,
        "name": "both",
        "title": "Two of them",
        "separate": {"backend": "ensemble", "of": [nmf, {**nmf, "n_iterations": 3}], "seed": 0},
        "stems": {"bass": {"from": ["bass"]}, "minus": {"from": ["mixture", "-bass"]}},
    }
    Path("both.json").write_text(json.dumps(preset))
    code, printed, complaint = typed("render", "song.wav", "-p", "both.json", "--json")
    assert code == 0, complaint
    entries = list((tmp_path / "cache").rglob("manifest.json")) or list(Path().rglob("manifest.json"))
    from gbsep.store import stemcache

    entries = list((stemcache.locate().folder / "entries").iterdir())
    assert len(entries) == 3
    folder = Path(json.loads(printed)["folder"])
    stems = {path.stem: gbsep.read(path).samples for path in folder.glob("*.wav")}
    np.testing.assert_allclose(stems["bass"] + stems["minus"], gbsep.read("song.wav").samples, atol=1e-6)
    code, printed, _ = typed("render", "song.wav", "-p", "both.json", "--json", "--set", "separate.how=max_spectrum")
    assert code == 0
    assert json.loads(printed)["from_cache"] is False
    assert len(list((stemcache.locate().folder / "entries").iterdir())) == 4


def demucs_two(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    write_demucs(folder, "htdemucs_ft", seed=1)
    bag = {"models": ["00000001"] * 4, "weights": [[float(row == column) for column in range(4)] for row in range(4)]}
    (folder / "htdemucs_ft.yaml").write_text(json.dumps(bag))
    write_demucs(folder, "htdemucs_6s", ("drums", "bass", "other", "vocals", "guitar", "piano"), seed=2)


@pytest.mark.parametrize(
    ("here", "took", "said"),
    [
        ("sw", "bs_roformer_sw", "separated by bs_roformer_sw"),
        (
            "demucs",
            "htdemucs_ft with htdemucs_6s",
            "separated by htdemucs_ft with htdemucs_6s: bs_roformer_sw is not here",
        ),
        (
            "nothing",
            "compact",
            "separated by compact: bs_roformer_sw is not here; htdemucs_ft with htdemucs_6s is not here",
        ),
        ("broken", "compact", "bs_roformer_sw cannot be used ("),
        ("uninstalled", "compact", "separated by compact: bs_roformer_sw is not installed"),
    ],
)
def test_best_says_what_it_took(
    here: str, took: str, said: str, tmp_path: Path, typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gbsep.separation.msst import network as networks

    models = tmp_path / "models"
    models.mkdir()
    if here in ("sw", "broken", "uninstalled"):
        random_models.write_checkpoint("tiny_six_stems", models, stem="BS-Roformer-SW")
    if here == "sw":
        demucs_two(models)
    if here == "demucs":
        demucs_two(models)
    if here == "broken":
        (models / "BS-Roformer-SW.ckpt").write_bytes(b"nothing of the kind")
    if here == "uninstalled":
        find_spec = networks.importlib.util.find_spec
        missing = lambda name, *rest: None if name == "pymss_core" else find_spec(name, *rest)  # noqa: E731
        monkeypatch.setattr(networks.importlib.util, "find_spec", missing)
    monkeypatch.setenv("GBSEP_MODELS", str(models))
    gbsep.write("song.wav", Audio(noise(30000), RATE))
    code, printed, complaint = typed("render", "song.wav", "-p", "best", "--json")
    assert code == 0, complaint
    record = json.loads((Path(json.loads(printed)["folder"]) / "render.json").read_text())
    assert record["separation"]["took"] == took
    assert any(said in warning for warning in record["warnings"])
    assert set(record["stems"]) == {"bass", "guitar"}


def test_shipped_presets_of_checkpoints_are_what_they_say() -> None:
    assert load_preset("roformer_sw").wanted == ("bass", "guitar")
    assert load_preset("best").wanted == ("bass", "guitar")
    with pytest.raises(PresetError, match="separate"):
        load_preset("best", [("separate.how", "worst")])
