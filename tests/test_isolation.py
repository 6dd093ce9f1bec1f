"""One song's trouble is one song's: whatever is wrong with one, the others are rendered."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gbsep
from gbsep import batch, rendering
from gbsep.audio import Audio
from gbsep.errors import AudioFileError, ParameterError, unexpected
from gbsep.io.probe import look
from gbsep.rendering import Options


@pytest.fixture
def song(tmp_path: Path, rng: np.random.Generator) -> Path:
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "good.wav"
    gbsep.write(path, Audio(0.1 * rng.standard_normal((2, 22050)), 44100))
    return path


def copied(song: Path, name: str | bytes) -> str:
    path = os.path.join(os.fsencode(song.parent), os.fsencode(name))
    try:
        with open(path, "wb") as file:
            file.write(song.read_bytes())
    except OSError as error:
        pytest.skip(f"this disk takes no such name: {error}")
    return os.fsdecode(path)


def rows(out: str) -> dict[str, dict[str, Any]]:
    return {row["track"]: row for row in map(json.loads, out.splitlines())}


def test_a_library_that_breaks_on_one_song_is_that_songs_failure(
    typed: Any, song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied(song, "bad.wav")

    def breaks(path: Path, *arguments: Any) -> Any:
        if Path(path).name == "bad.wav":
            raise RuntimeError("libsomething: internal")
        return look(path, *arguments)

    monkeypatch.setattr("gbsep.io.read.look", breaks)
    code, out, err = typed("render", "in", "-p", "exp002", "--keep-going", "--json")
    found = rows(out)
    assert (code, found["good"]["status"], found["bad"]["status"]) == (1, "ok", "failed")
    asked = "unexpected RuntimeError: libsomething: internal; please report it, with what --debug shows"
    assert found["bad"]["error"] == asked
    assert "Traceback" not in err
    code, _, err = typed("render", "in", "-p", "exp002", "--debug")
    assert code == 2
    assert "in breaks" in err


def test_an_error_that_nobody_foresaw_in_a_render_is_that_songs_failure(
    typed: Any, song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, where a single separation is done."""

    def breaks(*arguments: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(rendering, "run", breaks)
    code, out, _ = typed("render", "in", "-p", "exp002", "--json")
    told = "there is not enough memory; try fewer --jobs, or a machine that has more"
    assert (code, json.loads(out)["error"]) == (1, told)


def test_names_in_any_bytes_are_rendered(typed: Any, song: Path) -> None:
    source = copied(song, b"caf\xe9.wav")
    code, out, err = typed("render", "in", "-p", "exp002", "--json")
    assert code == 0
    assert rows(out)["caf%E9"]["input"] == os.path.relpath(source)
    assert "warning: the name of the file is not in UTF-8; in names that gbsep makes it is caf%E9" in err
    record = json.loads(Path("gbsep-out/caf%E9/exp002/render.json").read_text())
    assert record["input"]["path"] == source
    assert json.loads(Path("gbsep-out/batch.json").read_text())["counts"]["ok"] == 2
    again = typed("render", source, "-p", "exp002", "--json")
    assert json.loads(again[1])["status"] == "skipped"


@pytest.mark.parametrize("name", ["...wav", "..flac", "-dash.wav", ".hidden.wav"])
def test_a_strange_name_lands_inside_the_output(typed: Any, song: Path, name: str) -> None:
    source = copied(song, name)
    code, _, err = typed("render", "--out", "o/inner", "-p", "exp002", "--", source)
    assert (code, err) == (0, "")
    found = {path.parent.parent.parent for path in song.parents[1].rglob("render.json")}
    assert found == {song.parents[1] / "o" / "inner"}


def test_letters_that_a_template_cannot_take_are_replaced_and_told(typed: Any, song: Path) -> None:
    copied(song, "What's Up?.wav")
    code, out, err = typed("render", "in", "-p", "exp002", "--name", "{track} - {stem}", "--json")
    assert code == 0
    assert Path(rows(out)["What's Up?"]["files"]["bass"]).name == "What's Up_ - bass.wav"
    assert 'warning: not every system takes "What\'s Up?" in the name of a file: the files say' in err


@pytest.mark.parametrize("template", ["{stem:>1000000000}", "{stem!r:9}", "{track:x}{stem}", "{stem}" + "x" * 10**6])
def test_templates_that_would_not_end_are_refused(song: Path, template: str) -> None:
    with pytest.raises(ParameterError, match="^name = "):
        gbsep.render(song, "exp002", song.parent / "out", name=template)


@pytest.mark.parametrize("track", ["..", "../x", "/x", "a/../../b", "a\0b"])
def test_a_track_never_leads_outside(song: Path, track: str) -> None:
    with pytest.raises(ParameterError, match="the name of a folder in the output folder"):
        rendering.plan(song, gbsep.load_preset("exp002"), Options(song.parent / "out"), track)


def test_a_link_to_itself_and_rows_that_name_nothing_fail_alone(typed: Any, song: Path) -> None:
    (song.parent / "l.wav").symlink_to("l.wav")
    words = ["in/l.wav", "a\0b.wav", "a\ud800.wav", "http://[", "x" * 5000 + ".wav"]
    requests = [{"input": word} for word in ["in/good.wav", *words]]
    requests += [{"input": "in/good.wav", "preset": "a\0b"}, {"input": "in/good.wav", "preset": "\ud800.json"}]
    Path("m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in requests) + "[" * 100_000 + "\n")
    code, out, err = typed("render", "m.jsonl", "-p", "exp002", "--keep-going", "--json")
    statuses = [json.loads(line)["status"] for line in out.splitlines()]
    assert (code, statuses) == (1, ["ok"] + ["failed"] * 8)
    assert "unexpected" not in err
    assert err.count("error: ") == 8
    report = json.loads(Path("gbsep-out/batch.json").read_text())
    assert report["counts"] == {"ok": 1, "skipped": 0, "failed": 8}


def test_a_manifest_that_cannot_have_that_name_is_told(tmp_path: Path) -> None:
    for name in ("a\0.csv", "a\ud800.jsonl"):
        with pytest.raises(AudioFileError):
            batch.plan([name], ["exp002"], Options(tmp_path / "out"))


@pytest.mark.parametrize("start", [1e308, float("inf"), float("nan"), -1.0])
def test_an_excerpt_has_figures_of_a_recording(song: Path, start: float) -> None:
    for name in ("start_s", "duration_s"):
        with pytest.raises(ParameterError, match=f"^{name} = "):
            gbsep.render(song, "exp002", song.parent / "out", **{name: start})


def test_a_package_that_is_missing_is_named() -> None:
    error = ModuleNotFoundError("No module named 'soxr.x'", name="soxr.x")
    assert unexpected(error) == "the package 'soxr' is not installed, which this needs; gbsep doctor says how to get it"
