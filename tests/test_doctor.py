"""gbsep doctor: what is wrong with an installation is found and comes with a next step."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from pathlib import Path

import pytest

from gbsep import doctor
from gbsep.cli import main


@pytest.fixture(autouse=True)
def no_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.host, "plugins", list)


def states() -> dict[str, doctor.Check]:
    return {check.subject: check for check in doctor.examine()}


def test_this_installation_is_sound(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--json"])
    found = {row["subject"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert [row for row in found.values() if row["state"] == "problem"] == []
    assert ended.value.code == 0
    assert found["numpy"]["detail"] == importlib.metadata.version("numpy")
    assert found["htdemucs_6s"]["state"] == "missing"
    assert found["htdemucs_6s"]["next_step"] == "gbsep models get htdemucs_6s"


def test_what_is_missing_or_too_old_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name in ("openvino", "soxr"):
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.0" if name == "scipy" else real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    found = states()
    assert (found["openvino"].state, found["openvino"].next_step) == ("missing", "pip install 'gbsep[fast]'")
    assert (found["soxr"].state, found["soxr"].next_step) == ("problem", "pip install 'soxr>=0.5'")
    assert found["scipy"].state == "problem"
    assert found["scipy"].detail == "1.0, where >=1.11 is needed"


def test_a_smaller_installation_is_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name in ("torch", "demucs", "librosa"):
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    found = states()
    assert {found[name].state for name in ("torch", "demucs", "librosa")} == {"missing"}
    assert found["torch"].detail == "not installed; for Demucs, Open-Unmix and training"
    assert found["torch"].next_step.startswith("pip install 'torch")


def test_the_folder_of_the_configuration_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GBSEP_CONFIG", str(tmp_path))
    assert states()["configuration"].detail.startswith(f"{tmp_path}, ")


def test_a_runtime_that_does_not_load_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    assert states()["ONNX Runtime"].state == "ok"
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    found = states()["ONNX Runtime"]
    assert (found.state, found.next_step) == ("problem", "pip install --force-reinstall onnx onnxruntime")


def test_a_folder_that_is_a_file_and_a_full_disk_are_problems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GBSEP_STATE", str(tmp_path / "file" / "state"))
    assert "cannot be written to" in states()["state"].detail
    monkeypatch.setattr(doctor, "LOW_SPACE_BYTES", 10**18)
    assert states()["cache"].next_step == "free some space, or name another folder in GBSEP_CACHE"


def test_damaged_weights_are_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GBSEP_MODELS", str(tmp_path))
    (tmp_path / "htdemucs_6s.yaml").write_text("models: ['../../etc/passwd']\n")
    check = states()["htdemucs_6s"]
    assert (check.state, check.next_step) == ("problem", "gbsep models verify htdemucs_6s")
