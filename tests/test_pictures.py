"""Spectrograms of renders are made once: by content, bounded, and whatever is wrong with what is kept."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gbsep
from gbsep.audio import Audio
from gbsep.report import collect, preview, spectrogram, write_report
from gbsep.report.log import write_log
from gbsep.report.picture import HEIGHT
from gbsep.report.spectrogram import N_FFT
from gbsep.store import pictures
from gbsep.store.folders import cache_folder

RATE = 22050
KEY = "0" * 64


@pytest.fixture
def rendered(tmp_path: Path, rng: np.random.Generator) -> Path:
    gbsep.write(tmp_path / "song.wav", Audio(0.1 * rng.standard_normal((2, 2 * RATE)), RATE))
    gbsep.render(tmp_path / "song.wav", "exp002", tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A number for each spectrogram that is computed."""
    calls: list[int] = []
    for name, compute in (("mel_db", preview.mel_db), ("spectrogram_png", preview.spectrogram_png)):

        def counted(*arguments: Any, compute: Any = compute) -> Any:
            calls.append(1)
            return compute(*arguments)

        monkeypatch.setattr(preview, name, counted)
    return calls


def test_a_report_and_a_log_are_computed_once(rendered: Path, made: list[int], tmp_path: Path) -> None:
    write_report(tmp_path / "one.html", "one", collect(rendered))
    assert len(made) == 3
    first = (tmp_path / "one.html").read_text()
    write_report(tmp_path / "one.html", "one", collect(rendered))
    assert len(made) == 3
    assert (tmp_path / "one.html").read_text() == first
    _, files = write_log([rendered], tmp_path / "log.md")
    assert len(made) == 6
    pngs = [path.read_bytes() for path in files if path.suffix == ".png"]
    _, files = write_log([rendered], tmp_path / "other.md")
    assert len(made) == 6
    assert [path.read_bytes() for path in files if path.suffix == ".png"] == pngs


def test_sound_is_cut_and_encoded_once(rendered: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Pieces of the page and previews of the log; a piece that is missing among those kept is cut at its place."""
    encoded: list[str] = []
    encode = preview.encoded

    def counted(*arguments: Any) -> bytes:
        encoded.append(arguments[2].container)
        return encode(*arguments)

    monkeypatch.setattr(preview, "encoded", counted)
    monkeypatch.setattr(preview, "CHUNK_S", 1)
    (song,) = collect(rendered)
    first = [list(preview.chunks(source, -3.0)) for source in song.sources]
    assert encoded == ["flac"] * 6
    folder = cache_folder() / "previews"
    kept = sorted(folder.iterdir())
    assert len(kept) == 6
    for path in kept[::2]:
        path.unlink()
    assert [list(preview.chunks(source, -3.0)) for source in song.sources] == first
    assert len(encoded) == 9
    assert [preview.chunk(song.sources[1], -3.0, number) for number in range(2)] == first[1]
    assert len(encoded) == 9
    assert preview.chunk(song.sources[1], -2.0, 0) != first[1][0]
    assert len(encoded) == 10
    previews = []
    for name in ("log", "other"):
        _, files = write_log([rendered], tmp_path / f"{name}.md")
        previews.append([path.read_bytes() for path in files if path.suffix == ".mp3"])
    assert previews[0] == previews[1]
    assert encoded[10:] == ["mp3"] * 3
    assert pictures.usage(cache_folder(), "previews")[0] == 10
    pictures.clear(cache_folder())
    assert pictures.usage(cache_folder(), "previews") == (0, 0)


@pytest.mark.parametrize("rate", [8000, 44100, 96000])
def test_the_bands_are_librosas(rate: int) -> None:
    """To the last bit: a spectrogram that is kept stays true. The page and the log load no librosa for them."""
    import librosa

    for bands in (preview.N_MELS, HEIGHT):
        high_hz = min(16000.0, rate / 2)
        theirs = librosa.filters.mel(sr=rate, n_fft=N_FFT, n_mels=bands, fmin=30.0, fmax=high_hz, norm=None)
        np.testing.assert_array_equal(spectrogram.mel_bank(rate, bands), theirs)
        centres = librosa.mel_frequencies(bands + 2, fmin=30.0, fmax=high_hz)[1:-1]
        np.testing.assert_allclose(spectrogram.mel_hz(rate, bands), centres, rtol=1e-12)


def test_pages_load_neither_torch_nor_librosa(rendered: Path) -> None:
    script = """
        import sys
        from gbsep.__main__ import main
        for words in (["report", "out"], ["log", "out", "--log", "log.md"], ["compare", "song.wav", "-p", "exp002"]):
            sys.argv[1:] = words
            try:
                main()
            except SystemExit as ended:
                assert not ended.code, (words, ended.code)
        assert not {"torch", "librosa", "numba"} & sys.modules.keys()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=rendered.parent, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (rendered / "report.html").is_file()


def test_another_content_is_another_picture(rendered: Path, made: list[int]) -> None:
    (song,) = collect(rendered)
    mixture = next(source for source in song.sources if source.kind == "mixture")
    before = preview.spectrogram(mixture)
    assert mixture.file is not None
    (again,) = collect(rendered)
    assert preview.spectrogram(again.sources[0]) == before
    assert len(made) == 1
    stem = next(source for source in song.sources if source.kind == "stem")
    assert any(preview.spectrogram(stem))
    assert stem.file is not None
    gbsep.write(stem.file, Audio(np.zeros((2, 2 * RATE), np.float32), RATE))
    assert not any(preview.spectrogram(stem))


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"\0" * 32 + b"x\x9cKLJ\x06\x00\x02M\x01'"])
def test_what_is_damaged_is_made_anew(content: bytes) -> None:
    assert pictures.kept(KEY, lambda: b"abc") == b"abc"
    assert pictures.kept(KEY, lambda: b"never") == b"abc"
    (cache_folder() / "pictures" / KEY).write_bytes(content)
    assert pictures.kept(KEY, lambda: b"anew") == b"anew"
    assert pictures.kept(KEY, lambda: b"never") == b"anew"


def test_no_link_is_followed_and_nothing_need_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GBSEP_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "cache" / "pictures").symlink_to(tmp_path / "elsewhere")
    assert pictures.kept(KEY, lambda: b"one") == b"one"
    assert list((tmp_path / "elsewhere").iterdir()) == []
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GBSEP_CACHE", str(tmp_path / "file"))
    assert pictures.kept(KEY, lambda: b"two") == b"two"


def test_what_was_used_least_recently_goes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GBSEP_CACHE", str(tmp_path))
    monkeypatch.setitem(pictures.MOST_BYTES, "pictures", 1000)
    monkeypatch.setattr(pictures, "SWEEP_EVERY", 1)
    keys = [f"{number:064x}" for number in range(40)]
    for key in keys:
        pictures.kept(key, key.encode)
        pictures.kept(keys[0], lambda: b"never")
    count, size = pictures.usage(tmp_path)
    assert 0 < count < 40
    assert size <= 1000
    assert pictures.kept(keys[0], lambda: b"gone") == keys[0].encode()
    assert pictures.kept(keys[1], lambda: b"gone") == b"gone"
    pictures.clear(tmp_path)
    assert pictures.usage(tmp_path) == (0, 0)
