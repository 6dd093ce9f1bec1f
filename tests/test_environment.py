"""The environment that the scripts make: how much each asks for, and that the demo does without what is large."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """scripts/environment.py as it is with an environment in a folder of the test's, which nobody enters."""
    found = importlib.util.spec_from_file_location("environment_under_test", ROOT / "scripts" / "environment.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    monkeypatch.setattr(module, "FOLDER", tmp_path / "venv")
    monkeypatch.setattr(module, "STAMP", tmp_path / "venv" / "gbsep-installed")
    monkeypatch.setattr(module, "PYTHON", Path(sys.executable))
    return module


@pytest.fixture
def installed(environment: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """Call: install an amount; what was made and given to pip."""
    done: list[str] = []

    def create(folder: Path, **_: object) -> None:
        folder.mkdir(exist_ok=True)
        done.append("made")

    monkeypatch.setattr(environment.venv, "create", create)
    monkeypatch.setattr(environment, "_pip", lambda *words: done.extend(words))

    def install(amount: str) -> list[str]:
        done.clear()
        environment._install(amount)
        return list(done)

    return install


def test_the_demo_gets_what_the_default_needs_and_no_more(installed: Callable[[str], list[str]]) -> None:
    words = installed("demo")
    assert words[0] == "made"
    assert any(word.startswith("onnxruntime") for word in words)
    assert not [word for word in words if word.startswith(("torch", "demucs", "librosa", "mkdocs", "pytest", "av>"))]


def test_an_extra_is_added_without_the_others(environment: ModuleType) -> None:
    texts = ["numpy>=1.26", "torch<2.14,>=2.6", "av>=15; extra == 'av'", "mkdocs<2,>=1.6; extra == 'docs'"]
    assert environment.asked_for(texts) == ["numpy>=1.26"]
    assert environment.asked_for(texts, "docs") == ["numpy>=1.26", "mkdocs<2,>=1.6"]


def test_a_later_script_brings_the_rest_into_the_same_environment(installed: Callable[[str], list[str]]) -> None:
    installed("demo")
    assert "made" not in installed("docs")
    assert f"{ROOT}[dev]" in (rest := installed("dev"))
    assert "made" not in rest
    assert installed("dev") == installed("docs") == installed("demo") == []


def test_other_requirements_make_it_anew(environment: ModuleType, installed: Callable[[str], list[str]]) -> None:
    installed("dev")
    environment.STAMP.write_text("another-hash dev")
    assert installed("demo")[0] == "made"


@pytest.mark.slow
def test_the_default_renders_without_what_is_large(environment: ModuleType, tmp_path: Path) -> None:
    code = f"""
import importlib.abc, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {environment.LARGE!r}:
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Absent())
import gbsep
from gbsep.demo import write_demo
song = write_demo("demo", 4.0)
print(gbsep.render(song["mixture"], "default", "out").status)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "ok\n", done.stderr
