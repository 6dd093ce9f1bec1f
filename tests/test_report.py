"""The report as files and values: what is in it, what it weighs, how loud it plays, and what it never touches."""

from __future__ import annotations

import base64
import io
import json
import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

import gbsep
from gbsep.audio import Audio
from gbsep.errors import OutputError, ParameterError
from gbsep.measure import levels
from gbsep.measure.levels import Levels
from gbsep.report import collect, preview, scripts, write_report
from gbsep.report.page import asset, check_free
from gbsep.report.spectrogram import mel_hz
from gbsep.report.sweep import grid, parse_vary
from gbsep.shelf import review
from gbsep.shelf.review import Review

from .helpers import exit_code

RATE = 44100


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty seconds of noise that peaks above full scale."""
    path = tmp_path_factory.mktemp("song") / "song.wav"
    noise = np.random.default_rng(0).standard_normal((2, 20 * RATE))
    gbsep.write(path, Audio(0.25 * noise, RATE))
    return path


@pytest.fixture(scope="module")
def out(song: Path) -> Path:
    for preset in ("exp002", "exp002_100"):
        gbsep.render(song, preset, song.parent / "out", use_cache=False)
    return song.parent / "out"


def decoded(content: bytes) -> tuple[np.ndarray, int]:
    samples, rate = soundfile.read(io.BytesIO(content), always_2d=True)
    return samples.T, rate


# Sound


def test_the_pieces_of_a_sound_are_the_sound_to_the_frame(out: Path) -> None:
    source = collect(out)[0].renders[0].sources[0]
    truth = soundfile.read(source.file, always_2d=True)[0].T
    gain_db = -6.0
    pieces = [decoded(piece)[0] for piece in preview.chunks(source, gain_db)]
    assert [piece.shape[1] for piece in pieces] == [8 * RATE, 8 * RATE, 4 * RATE]
    assert np.abs(np.concatenate(pieces, axis=1) - truth * 10 ** (gain_db / 20)).max() <= 0.51 / 2**15
    for number, piece in enumerate(pieces):
        np.testing.assert_array_equal(decoded(preview.chunk(source, gain_db, number))[0], piece)


@pytest.mark.parametrize("sample_rate", [4000, 8000, 22050, 96000])
def test_any_rate_becomes_one_that_browsers_play(tmp_path: Path, sample_rate: int, rng: np.random.Generator) -> None:
    gbsep.write(tmp_path / "song.wav", Audio(0.1 * rng.standard_normal((1, 9 * sample_rate)), sample_rate))
    gbsep.render(tmp_path / "song.wav", "exp002", tmp_path / "out", use_cache=False)
    source = collect(tmp_path / "out")[0].sources[0]
    found = [decoded(piece) for piece in preview.chunks(source, 0.0)]
    assert {rate for _, rate in found} == {sample_rate if 8000 <= sample_rate <= 48000 else 48000}
    assert sum(samples.shape[1] / rate for samples, rate in found) == pytest.approx(9.0, abs=1e-3)
    assert len(found) == preview.chunk_count(9.0)


LEVEL = st.builds(
    lambda loudness, crest: Levels(loudness + crest, loudness, loudness), st.floats(-69, 5), st.floats(1, 30)
)


@given(st.lists(LEVEL | st.just(levels.SILENCE), min_size=1, max_size=8))
def test_matched_sounds_are_equally_loud_and_none_clips(measured: list[Levels]) -> None:
    gains = preview.matched_gains(measured)
    audible = [(level, gain) for level, gain in zip(measured, gains, strict=True) if math.isfinite(level.loudness_lufs)]
    for level, gain in audible:
        assert level.peak_dbfs + gain <= preview.HEADROOM_DBFS + 1e-9
        assert gain <= preview.MAX_RAISE_DB
    free = [
        level.loudness_lufs + gain
        for level, gain in audible
        if gain < preview.MAX_RAISE_DB and level.peak_dbfs + gain < preview.HEADROOM_DBFS - 1e-9
    ]
    assert not free or max(free) - min(free) < 1e-9
    loudest = max((level.loudness_lufs + gain for level, gain in audible), default=0.0)
    assert all(loudest >= one - 1e-9 for one in free)


def test_the_loudness_of_what_is_played_is_matched(out: Path) -> None:
    """Measured on the decoded pieces, by BS.1770."""
    song = collect(out)[0]
    gains = preview.matched_gains([source.levels for source in song.sources])
    played = {}
    for source, gain_db in zip(song.sources, gains, strict=True):
        samples = np.concatenate([decoded(piece)[0] for piece in preview.chunks(source, gain_db)], axis=1)
        assert np.abs(samples).max() < 1.0
        if source.levels.peak_dbfs > levels.SILENCE_DBFS:
            played[source] = levels.measure(Audio(samples, RATE).reader()).loudness_lufs
    limited = {source for source, gain_db in zip(song.sources, gains, strict=True) if gain_db == preview.MAX_RAISE_DB}
    free = [loudness for source, loudness in played.items() if source not in limited]
    assert len(free) >= 4
    assert max(free) - min(free) < 0.1


def test_a_spectrogram_shows_a_tone_at_its_pitch_and_its_time(tmp_path: Path) -> None:
    time_s = np.arange(10 * RATE) / RATE
    tone = np.where(time_s < 5, 0.5 * np.sin(2 * np.pi * 440 * time_s), 0.05 * np.sin(2 * np.pi * 3520 * time_s))
    gbsep.write(tmp_path / "song.wav", Audio(tone, RATE))
    gbsep.render(tmp_path / "song.wav", "exp002", tmp_path / "out", use_cache=False)
    (song,) = collect(tmp_path / "out")
    assert song.mixture
    image = np.frombuffer(preview.spectrogram(song.mixture), np.uint8).reshape(preview.N_MELS, -1)
    hz = mel_hz(RATE, preview.N_MELS)
    early, late = (image[:, part].astype(float).mean(1) for part in (slice(20, 280), slice(320, 580)))
    for row, pitch_hz in ((early, 440), (late, 3520)):
        assert abs(hz[row.argmax()] - pitch_hz) <= 1.01 * np.diff(hz)[row.argmax() - 1]
    low_db, high_db = preview.RANGE_DB
    assert (early.max() - late.max()) * (high_db - low_db) / 255 == pytest.approx(20, abs=3)


# The page


def test_small_sound_is_in_the_page_and_large_sound_beside_it(out: Path, tmp_path: Path) -> None:
    whole, split = tmp_path / "whole.html", tmp_path / "split.html"
    assert write_report(whole, "t", collect(out), inline_bytes=10**9) == [whole]
    assert write_report(split, "t", collect(out), inline_bytes=2_000_000) == [split, tmp_path / "split_files"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["split.html", "split_files", "whole.html"]
    inside = dict(re.findall(r'data-asset="([^"]+)">([^<]*)<', whole.read_text(encoding="utf-8")))
    beside = {}
    for path in (tmp_path / "split_files").iterdir():
        name, text = re.fullmatch(r'gbsepAsset\("([^"]+)", "([^"]+)"\);\n', path.read_text()).groups()  # type: ignore[union-attr]
        assert name == path.stem
        beside[name] = text
    inside_split = dict(re.findall(r'data-asset="([^"]+)">([^<]*)<', split.read_text(encoding="utf-8")))
    assert {**beside, **inside_split}.keys() == inside.keys()
    assert all(inside[name] == text for name, text in beside.items())
    assert split.stat().st_size < 2_200_000


def test_equal_renders_give_equal_pages(out: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_report(tmp_path / name / "page.html", "t", collect(out), inline_bytes=10**9)
    assert (tmp_path / "one/page.html").read_bytes() == (tmp_path / "two/page.html").read_bytes()


def test_a_page_names_no_address_and_runs_only_its_own_scripts(out: Path, tmp_path: Path) -> None:
    write_report(tmp_path / "page.html", "<script>t</script>", collect(out), inline_bytes=10**9)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<title>&lt;script&gt;t&lt;/script&gt;</title>" in text
    assert not re.findall(r"https?://(?!www\.w3\.org/(?:2000/svg|1999/xhtml))", text)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', text)
    (nonce,) = set(re.findall(r"'nonce-(\w+)'", policy))
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    running = [tag for tag in re.findall(r"<script[^>]*>", text) if "json" not in tag and "data-asset" not in tag]
    assert running == [f'<script nonce="{nonce}">']


def test_the_page_of_many_songs_brings_each_when_it_is_opened(song: Path, tmp_path: Path) -> None:
    for number in range(3):
        gbsep.render(song, "exp002", tmp_path / "out" / f"album {number}", use_cache=False, duration_s=1.0)
    review.save(tmp_path / "out/album 1/song", Review(status="accepted"))
    songs = collect(tmp_path / "out")
    assert [one.name for one in songs] == ["album 0/song", "album 1/song", "album 2/song"]
    write_report(tmp_path / "page.html", "t", songs, inline_bytes=100_000)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert re.findall(r'data-asset="([^"]+)"', text) == ["0"]
    index = json.loads(re.findall(r'id="report">(.*?)</script>', text)[0])
    assert [one["status"] for one in index["songs"]] == [None, "accepted", None]
    assert {"1.js", "2.js", "1-0-mel.js", "2-2-0.js"} <= {path.name for path in (tmp_path / "page_files").iterdir()}


def test_excerpts_of_one_recording_are_songs_of_their_own(song: Path, tmp_path: Path) -> None:
    gbsep.render(song, "exp002", tmp_path, use_cache=False, start_s=5.0, duration_s=1.0)
    gbsep.render(song, "exp002_100", tmp_path, use_cache=False, start_s=5.0, duration_s=1.0)
    gbsep.render(song, "exp002_300", tmp_path, use_cache=False, start_s=6.0, duration_s=2.0)
    found = {one.name: one for one in collect(tmp_path)}
    assert {name: len(one.renders) for name, one in found.items()} == {"song, 5 to 6 s": 2, "song, 6 to 8 s": 1}
    mixture = found["song, 6 to 8 s"].mixture
    assert mixture
    truth = soundfile.read(song, always_2d=True, start=6 * RATE, frames=2 * RATE)[0].T
    np.testing.assert_allclose(mixture.open(0.0, None).read().samples, truth, atol=1e-6)
    np.testing.assert_allclose(mixture.open(0.5, 1.0).read().samples, truth[:, RATE // 2 : RATE * 3 // 2], atol=1e-6)


def test_a_recording_that_changed_is_not_played_for_the_mixture(song: Path, tmp_path: Path) -> None:
    moved = tmp_path / "song.wav"
    moved.write_bytes(song.read_bytes())
    gbsep.render(moved, "exp002", tmp_path / "out", use_cache=False, duration_s=1.0)
    assert collect(tmp_path / "out")[0].mixture is not None
    gbsep.write(moved, Audio(np.zeros((2, RATE)), RATE))
    (one,) = collect(tmp_path / "out")
    assert one.mixture is None
    assert len(one.sources) == 2
    write_report(tmp_path / "page.html", "t", [one])


@pytest.mark.parametrize("name", ["", "x", "9", "0-99-0", "0-0-99", "0-0", "../0", "0-0-mel/..", "-1", "0--1-mel"])
def test_an_asset_that_is_not_there_is_a_key_error(out: Path, name: str) -> None:
    with pytest.raises(KeyError, match=re.escape(repr(name))):
        asset(collect(out), name, lambda path: None)


def test_nothing_of_the_users_is_replaced(out: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<html>mine</html>")
    with pytest.raises(OutputError, match="--overwrite"):
        write_report(page, "t", collect(out))
    page.unlink()
    write_report(page, "t", collect(out), inline_bytes=1_000_000)
    (tmp_path / "page_files" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="mine.txt: was not written by gbsep"):
        check_free(page, overwrite=False)
    with pytest.raises(OutputError, match="is a folder"):
        check_free(tmp_path / "page_files", overwrite=True)
    with pytest.raises(OutputError, match="html"):
        check_free(tmp_path / "page.wav", overwrite=True)


def test_no_renders_are_said(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "missing"):
        with pytest.raises(OutputError, match="holds no renders"):
            collect(place)


# Sweeps


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("k=100:300:50", [100, 150, 200, 250, 300]),
        ("k=100:290:50", [100, 150, 200, 250]),
        ("k=3:1:-1", [3, 2, 1]),
        ("k=0.1:0.5:0.1", [0.1, 0.2, 0.3, 0.4, 0.5]),
        ("k=1:1:1", [1]),
        ("k=100,100.0,200,100", [100, 200]),
        ("k=1,true,1.0", [1, True]),
        ("k=1,2.5,soft,true", [1, 2.5, "soft", True]),
        ('k=[["bass"]],[]', [[["bass"]], []]),
    ],
)
def test_ranges_and_lists(text: str, values: list[Any]) -> None:
    assert parse_vary(text) == ("k", values)


@given(st.integers(-1000, 1000), st.integers(0, 500), st.integers(1, 50), st.integers(0, 3))
def test_a_range_has_all_its_steps_and_no_rounding(start: int, count: int, step: int, digits: int) -> None:
    scale = 10**digits
    stop = start + count * step
    _, values = parse_vary(f"k={start / scale}:{stop / scale}:{step / scale}")
    assert values == [(start + index * step) / scale for index in range(count + 1)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("separate.cutoff_hz", "KEY=START"),
        ("=1:2:1", "KEY=START"),
        ("k=", "KEY=START"),
        ("k=1:2", "three numbers"),
        ("k=1:2:0", "other than 0"),
        ("k=a:b:c", "three numbers"),
        ("k=1:nan:1", "three numbers"),
        ("k=1:inf:1", "three numbers"),
        ("k=1:5:-1", "leads from 1 to 5: 1"),
        ("k=0:1:0.000001", "at most 10000"),
        ("k=1:2:1e-999999999", "three numbers"),
        ("k=1:1e999999999:1", "three numbers"),
        ("name=a,b", "a key that changes what is heard, and name does not"),
    ],
)
def test_ranges_that_are_none(text: str, reason: str) -> None:
    with pytest.raises(ParameterError, match=re.escape(reason)):
        parse_vary(text)


def test_a_grid_has_every_combination_once() -> None:
    assert len(grid([("a", [1, 2, 3]), ("b", ["x", "y"])])) == 6
    with pytest.raises(ParameterError, match="each key once"):
        grid([("a", [1]), ("a", [2])])


# The commands


def test_compare_renders_and_reports(song: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", song, "-p", "exp002", "-p", "exp002_100", "-o", tmp_path / "o", "--jobs", 1, "--no-cache"]
    assert exit_code(*words, "--json", "--reference", out / "song/exp002") == 0
    told = json.loads(capsys.readouterr().out)
    assert Path(told["report"]) == tmp_path / "o/song/compare.html"
    assert [render["preset"] for render in told["songs"][0]["renders"]] == ["exp002", "exp002_100"]
    assert told["songs"][0]["renders"][1]["figures"]["bass"]["sdr"] > 0
    assert exit_code(*words, "--html", tmp_path / "mine.html") == 0
    assert str(tmp_path / "mine.html") in capsys.readouterr().out
    assert not (tmp_path / "o/batch.json").exists()


def test_presets_without_a_true_stem_are_shown_without_scores(song: Path, out: Path, tmp_path: Path) -> None:
    truth = tmp_path / "truth"
    truth.mkdir()
    (truth / "bass.wav").write_bytes((out / "song/exp002/bass.wav").read_bytes())
    gbsep.render(song, "minus_bass", tmp_path / "out", use_cache=False, duration_s=2.0)
    gbsep.render(song, "exp002_100", tmp_path / "out", use_cache=False, duration_s=2.0)
    (one,) = collect(tmp_path / "out", truth)
    scores = {render.preset: render.figures for render in one.renders}
    assert scores["exp002_100@0s-2s"]["bass"]["sdr"]
    assert "sdr" not in scores["minus_bass@0s-2s"]["minus_bass"]
    assert "paired by name" in next(render.remarks for render in one.renders if render.preset == "minus_bass@0s-2s")[-1]


def test_a_sweep_has_a_folder_for_each_value(song: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vary = ["--vary", "separate.cutoff_hz=100:300:100", "--vary", "separate.order=2,4"]
    assert exit_code("sweep", song, "-p", "exp002", *vary, "-o", tmp_path, "--duration", 1, "--jobs", 1) == 0
    folders = sorted(path.name for path in (tmp_path / "song").iterdir() if path.is_dir() and "@" in path.name)
    assert folders == [
        f"exp002@cutoff_hz={cutoff},order={order}@0s-1s" for cutoff in (100, 200, 300) for order in (2, 4)
    ]
    text = (tmp_path / "song/sweep.html").read_text(encoding="utf-8")
    model = json.loads(base64.b64decode(re.findall(r'data-asset="0">([^<]*)<', text)[0]))
    assert [render["overrides"]["separate.cutoff_hz"] for render in model["renders"]] == [100, 100, 200, 200, 300, 300]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--vary", "separate.cutof_hz=1:2:1"), "did you mean 'cutoff_hz'"),
        (("--vary", "separate.cutoff_hz=1:2"), "three numbers"),
        (("--vary", "separate.cutoff_hz=-5,100"), "cutoff_hz"),
        (("--vary", "separate.cutoff_hz=100:300:1"), "only with --yes"),
        (("--vary", "separate.cutoff_hz=100,200", "--reference", "nowhere"), "no such folder"),
        (("--vary", "separate.cutoff_hz=100,200", "--html", "page.wav"), "html"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_before_anything_is_written(
    song: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], reason: str
) -> None:
    assert exit_code("sweep", song, "-p", "exp002", *words, "-o", tmp_path / "o") == 2
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_compare_takes_one_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("compare", tmp_path, "-p", "exp002") == 2
    assert "gbsep render takes folders" in capsys.readouterr().err
    assert exit_code("compare", tmp_path / "missing.wav", "-p", "exp002") == 2
    assert "missing.wav" in capsys.readouterr().err


def test_a_report_says_what_is_unreviewed_and_what_failed(
    song: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        (tmp_path / "in" / f"{name}.wav").write_bytes(song.read_bytes())
    (tmp_path / "in" / "broken.wav").write_bytes(b"RIFF")
    words = ["--start", 1, "--duration", 1, "-p", "exp002", "-o", tmp_path / "out", "--keep-going", "--jobs", 1]
    assert exit_code("render", tmp_path / "in", *words) == 1
    review.save(tmp_path / "out/a", Review(status="accepted"))
    capsys.readouterr()
    assert exit_code("render", tmp_path / "in", *words) == 1
    assert f"1 unreviewed; gbsep review {tmp_path / 'out'} opens it" in capsys.readouterr().out
    assert json.loads((tmp_path / "out/batch.json").read_text())["unreviewed"] == ["b"]
    assert exit_code("report", tmp_path / "out") == 0
    told = capsys.readouterr().out
    assert f"1 of 2 songs unreviewed; gbsep review {tmp_path / 'out'} opens it" in told
    assert "broken" in told
    assert exit_code("report", tmp_path / "out", "--json") == 0
    songs = {one["name"]: one for one in json.loads(capsys.readouterr().out)["songs"]}
    assert {name: (one["status"], len(one["renders"])) for name, one in songs.items()} == {
        "a": ("accepted", 1),
        "b": (None, 1),
        "broken": (None, 0),
    }
    assert songs["broken"]["failures"]["exp002@1s-2s"]


def test_a_render_without_a_preset_takes_the_one_chosen_in_review(
    song: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    review.save(out / "song", Review(preset="exp002_100"))
    assert exit_code("render", song, "-o", out, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["preset"], told["status"]) == ("exp002_100", "skipped")
    (out / "song" / review.FILE).write_text('{"status": "perfect"}')
    assert exit_code("render", song, "-o", out) == 2
    assert "review.json: status" in capsys.readouterr().err
    (out / "song" / review.FILE).unlink()


def test_modules_of_the_page_become_one_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts, "FOLDER", tmp_path)
    monkeypatch.setattr(scripts, "bundle", scripts.bundle.__wrapped__)
    (tmp_path / "page.mjs").write_text(
        'import { twice } from "./low.mjs";\nconsole.log(twice(21));\n', encoding="utf-8"
    )
    low = tmp_path / "low.mjs"
    low.write_text("export const twice = (x) => 2 * x;\nconst hidden = 1;\n", encoding="utf-8")
    script = scripts.bundle()
    assert "hidden }" not in script
    if node := shutil.which("node"):
        assert subprocess.check_output([node, "-e", script], text=True) == "42\n"
    for text, fault in (
        ('import { twice } from "./page.mjs";\n', "circle"),
        ("export const once = 1;\n", "does not export"),
        ("export default function twice() {}\n", "default"),
        ("export let twice = 1;\n", "let"),
    ):
        low.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=fault):
            scripts.bundle()


def test_every_module_of_the_page_is_in_its_script() -> None:
    script = scripts.bundle()
    for path in scripts.FOLDER.glob("*.mjs"):
        assert f"modules.{path.stem} = " in script
        assert path.read_text(encoding="utf-8").startswith("// @ts-check\n")
