"""The public functions take anything: what makes no sense is one of gbsep's errors, or a TypeError with a sentence."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gbsep
from gbsep.audio import Audio
from gbsep.effects.builtin import Builtin, render_whole
from gbsep.effects.butterworth import butterworth_sos
from gbsep.effects.chain import check_chain, parse_chain
from gbsep.effects.table import EFFECTS
from gbsep.errors import ParameterError, PresetError
from gbsep.params import SAMPLE_RATE
from gbsep.preset.load import load_preset
from gbsep.preset.overrides import parse_override
from gbsep.report.sweep import grid, parse_vary
from gbsep.separation.compute import MISSING, versions

HOUSE = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gbsep.read(3), r"^path must be str or Path, not int \(3\)$"),
        (lambda: gbsep.render("a.wav", 3.5), "^preset must be str or Path or Mapping of str or Preset, not float"),
        (lambda: gbsep.render("a.wav", "exp002", "out", name=b"x"), "^name must be str, not bytes"),
        (lambda: gbsep.load_preset("exp002", [("a",)]), "^overrides must be Iterable of tuple of str, not list"),
        (lambda: gbsep.apply_chain("a.wav", []), "^audio must be Audio, not str"),
        (lambda: gbsep.Stems("x", {}, "nmf", {}), "^mixture must be Audio, not str"),
    ],
)
def test_a_wrong_type_is_a_sentence_that_names_the_argument(call: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call()


@pytest.mark.parametrize("rate", [1, 999, 768_001, 1_400_000, 10_000_000, 2**31, 2**70, 0, -1])
def test_no_effect_meets_a_rate_at_which_it_takes_the_process_down(rate: int) -> None:
    """Reverb is a segmentation fault at 1.4 MHz, and a division by zero at 1 Hz."""
    nodes = parse_chain([{"effect": "Reverb"}])
    samples = np.zeros((1, 9000), np.float32)
    for call in (
        lambda: check_chain(nodes, rate),
        lambda: Builtin("Reverb", {}, rate, 8192),
        lambda: render_whole("PitchShift", {"semitones": 1.0}, samples, rate),
        lambda: butterworth_sos(2, 0.1, "lowpass", rate),
    ):
        with pytest.raises(ParameterError, match="^sample_rate = .* a whole number from 1000 to 768000 Hz"):
            call()


def test_every_effect_lives_at_the_ends_of_the_rates() -> None:
    """In a process of its own, so that a crash is a failure of this test alone."""
    code = (
        "import numpy as np, gbsep\nfrom gbsep.effects.table import EFFECTS\nfrom gbsep.params import SAMPLE_RATE\n"
        "for rate in (int(SAMPLE_RATE.low), int(SAMPLE_RATE.high)):\n"
        "    for spec in EFFECTS.values():\n"
        "        if spec.sample_rates or spec.name in ('Convolution', 'Ducker'): continue\n"
        "        node = {'effect': spec.name} | {p.name: 100.0 for p in spec.params if p.cutoff}\n"
        "        node |= {'mode': 'lowpass'} if spec.name == 'Butterworth' else {}\n"
        "        gbsep.apply_chain(gbsep.Audio(np.full((2, 9000), 0.1), rate), [node])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=HOUSE)
    assert (done.returncode, done.stderr) == (0, "")
    assert {"Reverb", "Delay"} <= set(EFFECTS)
    assert SAMPLE_RATE.check(44100) == 44100


def document(**stems: Any) -> dict[str, Any]:
    separate = {"backend": "crossover"}
    return {"schema_version": 1, "name": "z", "title": "t", "separate": separate, "stems": stems}


@pytest.mark.parametrize(
    ("stems", "where"),
    [
        ({"bass": {"from": ["-bass"]}}, "takes away only"),
        ({"bass": {"from": ["mixture", "-bass"]}}, "'bass' is a complement of the mixture"),
        ({"bass": {"from": ["mixture", "-guitar"]}, "guitar": {"from": ["mixture", "-bass"]}}, "'guitar' is a compl"),
        ({f"s{number}": {"from": ["bass"]} for number in range(2000)}, "stems: "),
        ({"bass": {"from": ["bass"] * 2000}}, "stems.bass.from"),
    ],
)
def test_stems_that_cannot_be_made_are_refused_by_the_preset(stems: dict[str, Any], where: str) -> None:
    with pytest.raises(PresetError, match=where):
        load_preset(document(**stems))


def test_an_output_that_is_only_taken_away_is_separated(tmp_path: Path, rng: np.random.Generator) -> None:
    """It has the name of a stem, and is asked for by a stem that is no complement."""
    song = tmp_path / "a.wav"
    gbsep.write(song, Audio(0.1 * rng.standard_normal((1, 8820)), 44100))
    made = gbsep.render(song, document(bass={"from": ["guitar", "-bass"]}), tmp_path / "out")
    whole = gbsep.separate(gbsep.read(song), "crossover")
    wanted = whole.stems["guitar"].samples - whole.stems["bass"].samples
    np.testing.assert_allclose(gbsep.read(made.files["bass"]).samples, wanted, atol=1e-6)


def test_numbers_and_nests_without_a_bound() -> None:
    for text in ("separate.cutoff_hz=" + "9" * 5000, "a=" + "[" * 100_000):
        with pytest.raises(PresetError, match="--set"):
            parse_override(text)
    with pytest.raises(PresetError, match="key path"):
        load_preset("exp002", [("stems.bass.chain[" + "9" * 5000 + "]", 1)])
    with pytest.raises(PresetError):
        load_preset("exp002", [("separate.cutoff_hz", 10**5000)])
    nest: Any = []
    for _ in range(5000):
        nest = [nest]
    with pytest.raises(PresetError, match="nested too deeply"):
        load_preset(document(bass={"from": ["bass"], "chain": nest}))


def test_variations_have_a_bound() -> None:
    ranges = [(key, list(range(1000))) for key in "abc"]
    with pytest.raises(ParameterError, match="1000000000 combinations"):
        grid(ranges)
    for text in ("a=0:1e999999:1e999998", "a=9e99:9e99:1", "a=" + "9" * 5000 + ":1:-1", "a=sNaN:1:1"):
        with pytest.raises(ParameterError, match="^vary = "):
            parse_vary(text)


def test_a_package_that_is_not_there_is_recorded_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert versions("numpy", "no-such-package") == {
        "numpy": importlib.metadata.version("numpy"),
        "no-such-package": MISSING,
    }


def test_a_render_without_torch(tmp_path: Path, rng: np.random.Generator) -> None:
    """Neither torch nor demucs is there: the record says so, and presets that need them say what is missing."""
    gbsep.write(tmp_path / "a.wav", Audio(0.1 * rng.standard_normal((2, 8820)), 44100))
    code = (
        "import importlib.metadata as m, sys\n"
        "real = m.Distribution.from_name\n"
        "def from_name(name):\n"
        "    if name in ('torch', 'demucs'): raise m.PackageNotFoundError(name)\n"
        "    return real(name)\n"
        "m.Distribution.from_name = staticmethod(from_name)\n"
        "class Gone:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'demucs'): raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Gone())\n"
        "from gbsep.cli import main\nmain(sys.argv[1:])"
    )
    words = [sys.executable, "-c", code, "render", str(tmp_path / "a.wav"), "-o", str(tmp_path / "out")]
    done = subprocess.run(words, capture_output=True, text=True, cwd=HOUSE)
    assert (done.returncode, done.stderr) == (0, "")
    record = json.loads((tmp_path / "out" / "a" / "default" / "render.json").read_text())
    assert record["versions"]["torch"] == record["versions"]["demucs"] == "missing"
