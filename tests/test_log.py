"""The experiment log: what is added, and that nothing else changes."""

from __future__ import annotations

import json
import re
import shutil
import struct
import zlib
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

import gbsep
from gbsep.audio import Audio
from gbsep.cli import cli
from gbsep.errors import OutputError
from gbsep.io.read import open_reader
from gbsep.io.write import write
from gbsep.measure import levels
from gbsep.measure.diagnose import KINDS
from gbsep.measure.figures import COLUMNS
from gbsep.report.log import WORDS, added, escaped, numbers_of, write_log
from gbsep.report.picture import HEIGHT, WIDTH, palette, png, spectrogram_png
from gbsep.report.spectrogram import mel_hz

RATE = 22050
NASTY = "a*b_c [x](y) <i>|`$ 한글 🎸 ‮abc"

PERSONS_LOG = """# Experiment Log (실험 일지)

Words of a person, with a trailing blank  and a | pipe.

## Summary (요약표)
| Exp ID | 날짜 | 사용 기술 | 곡명(소스 유형) | 비고 |
| :---: | :---: | :--- | :---: | :--- |
| **001** | 25.01.09 | htdemucs_6s | 예제 1 | 베이스 성공적 |
| **005-1** | 25.01.16 | Demucs | 예제 2 | 분리 성공 |
---

<details>

### Exp 001: 예제 1
* **개요:** my own words

| another | table |
| :--- | :--- |
| stays | here |

</details>"""


@pytest.fixture(scope="module")
def renders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder with two renders of a song, reviewed."""
    home = tmp_path_factory.mktemp("log")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CONFIG", "CACHE", "HOME", "STATE"):
            patch.setenv(f"GBSEP_{name}", str(home / name.lower()))
        time = np.arange(3 * RATE) / RATE
        rng = np.random.default_rng(0)
        bass = 0.2 * np.sin(2 * np.pi * 55 * time)
        guitar = 0.1 * rng.standard_normal(len(time))
        for name, samples in {"bass": bass, "guitar": guitar, "song": bass + guitar}.items():
            (home / "truth").mkdir(exist_ok=True)
            write(home / "truth" / f"{name}.wav", Audio(samples, RATE))
        (home / "truth" / "song.wav").rename(home / "song.wav")
        for preset in ("exp002", "exp002_100"):
            gbsep.render(home / "song.wav", preset, home / "out")
    review = {
        "schema_version": 1,
        "status": "accepted",
        "preset": "exp002",
        "swap": {},
        "notes": [{"time_s": 1.5, "text": NASTY, "preset": "exp002", "stem": "bass"}],
    }
    (home / "out" / "song" / "review.json").write_text(json.dumps(review))
    return home / "out"


def links(markdown: str) -> list[str]:
    """Where the links and pictures of a document lead."""
    found = []
    for token in MarkdownIt().parse(markdown):
        for child in token.children or []:
            target = child.attrGet("href") or child.attrGet("src")
            if target:
                found.append(str(target))
    return found


def test_a_new_log_has_a_table_and_sections(renders: Path, tmp_path: Path) -> None:
    numbers, written = write_log([renders], tmp_path / "log.md", references=renders.parent / "truth")
    text = (tmp_path / "log.md").read_text()
    assert numbers == ["001", "002"]
    assert text.startswith("# Experiment Log\n")
    table = MarkdownIt().enable("table").render(text)
    assert table.count("<tr>") >= 3
    assert table.count("<h3>") == 2
    assert "bass SDR" in text
    assert "0:01.5 (bass)" in text
    assert written[-1] == tmp_path / "log.md"
    for target in links(text):
        assert (tmp_path / target).resolve().is_file(), target


def test_a_second_run_adds_nothing(renders: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.md"
    write_log([renders], log)
    before, made = log.read_bytes(), sorted(tmp_path.rglob("*"))
    assert write_log([renders, renders / "song"], log) == ([], [])
    assert (log.read_bytes(), sorted(tmp_path.rglob("*"))) == (before, made)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("end", ["", "\n", "\n\n  \n"])
def test_what_a_person_wrote_stays(renders: Path, tmp_path: Path, newline: str, end: str) -> None:
    log = tmp_path / "log.md"
    before = (PERSONS_LOG + end).replace("\n", newline).encode()
    log.write_bytes(before)
    numbers, _ = write_log([renders], log, "ko")
    after = log.read_bytes()
    assert numbers == ["006", "007"]
    cut = before.index("| 분리 성공 |".encode()) + len("| 분리 성공 |".encode())
    assert after.startswith(before[:cut] + f"{newline}| **006** |".encode())
    rest = before[cut:]
    rows = after[cut : after.index(rest[:20], cut)].decode()
    assert [row.count("|") for row in rows.strip().splitlines()] == [6, 6]
    assert after[cut + len(rows.encode()) :].startswith(rest)
    assert after.count(b"\r\n") == (after.count(b"\n") if newline == "\r\n" else 0)
    assert "멜 스펙트로그램".encode() in after


def test_numbers_are_those_of_experiments_and_of_nothing_else(renders: Path, tmp_path: Path) -> None:
    others = """
| Port | what |
| ---: | :--- |
| 9999 | code |

```
| Exp ID | of an example |
| --- | --- |
| 8888 | in a fence |
### Exp 7777: neither
```

| 6666 | no table |

  ## Exp 041: has no row
~~~ python
## Exp 5555: in a fence too
~~~~
``` a fence that does not end"""
    assert numbers_of(PERSONS_LOG + others) == [1, 5, 1, 41]
    log = tmp_path / "log.md"
    log.write_text(others)
    assert write_log([renders / "song" / "exp002"], log)[0] == ["042"]


def test_rows_do_not_go_into_an_example() -> None:
    table = "| Exp ID | mine |\n| --- | --- |\n"
    text = added(f"```\n{table}```\n\n{table}", [["1", "2"]], ["new"], WORDS["en"])
    assert text.startswith(f"```\n{table}```\n\n{table}| 1 | 2 |\n")


def test_a_note_of_several_lines_keeps_them(renders: Path, tmp_path: Path) -> None:
    shutil.copytree(renders, tmp_path / "out")
    kept = tmp_path / "out" / "song" / "review.json"
    review = json.loads(kept.read_text())
    review["notes"] = [{"time_s": 59.97, "text": "one <b>\n\ntwo*", "preset": None, "stem": None}]
    kept.write_text(json.dumps(review))
    write_log([tmp_path / "out"], tmp_path / "log.md")
    text = (tmp_path / "log.md").read_text()
    assert "    * 1:00.0: one &lt;b&gt;<br>two\\*\n" in text


def test_only_new_renders_are_added(renders: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.md"
    assert write_log([renders / "song" / "exp002"], log)[0] == ["001"]
    first = log.read_text()
    assert write_log([renders], log)[0] == ["002"]
    second = log.read_text()
    assert set(first.splitlines()) <= set(second.splitlines())
    assert len(re.findall("<!-- gbsep experiment", second)) == 2
    assert sorted(numbers_of(second)) == [1, 1, 2, 2]


def test_numbers_do_not_go_back_to_those_whose_files_are_there(renders: Path, tmp_path: Path) -> None:
    write_log([renders], tmp_path / "log.md")
    (tmp_path / "log.md").unlink()
    assert write_log([renders], tmp_path / "log.md")[0] == ["003", "004"]


@given(st.text(st.characters(blacklist_categories=("Cs",)), min_size=1, max_size=40))
@settings(max_examples=150, deadline=None)
def test_names_are_text_and_nothing_else(name: str) -> None:
    html = MarkdownIt().enable("table").render(f"| head | two |\n| --- | --- |\n| x{escaped(name)}x | b |\n")
    cells = re.findall(r"<td>(.*?)</td>", html, flags=re.S)
    assert len(cells) == 2
    assert not re.search(r"<(?!/?td)", cells[0])
    inline = MarkdownIt().parseInline(f"x{escaped(name)}x")[0].children
    assert {token.type for token in inline} <= {"text", "text_special"}


def test_names_from_outside_do_no_harm(renders: Path, tmp_path: Path) -> None:
    place = tmp_path / NASTY.replace("/", "") / "out"
    place.mkdir(parents=True)
    shutil.copytree(renders / "song", place / "so*n_g <b>| x")
    write_log([place], tmp_path / "log (1).md")
    text = (tmp_path / "log (1).md").read_text()
    html = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    assert "<b>" not in html
    assert "<i>" not in html
    assert "so*n_g &lt;b&gt;| x" in html
    assert links(text)
    for target in links(text):
        assert (tmp_path / unquote(target)).resolve().is_file(), target


def test_previews_are_of_one_loudness(renders: Path, tmp_path: Path) -> None:
    _, written = write_log([renders / "song" / "exp002"], tmp_path / "log.md")
    previews = [path for path in written if path.suffix == ".mp3"]
    loudness = [levels.measure(open_reader(path)).loudness_lufs for path in previews]
    assert len(previews) == 3
    assert max(loudness) - min(loudness) < 1.0
    assert max(levels.measure(open_reader(path)).peak_dbfs for path in previews) < 0.0


def test_every_finding_has_its_korean_sentence() -> None:
    assert set(WORDS["ko"].findings) == set(KINDS)
    for sentence in WORDS["ko"].findings.values():
        assert not re.search("[{}]", sentence.format(stem="bass", partner="guitar", value=1.0))


def test_every_heading_in_words_is_korean() -> None:
    english = {name for name, column in COLUMNS.items() if re.fullmatch("[A-Z][a-z ]+", column.label)}
    assert "note_f1" in english
    assert english <= set(WORDS["ko"].columns)


def test_rows_fit_the_table_they_are_added_to() -> None:
    text = "| Exp ID | mine |\n| --- | --- |\n\nend"
    assert added(text, [["1", "2", "3"]], ["new"], WORDS["en"]).startswith(
        "| Exp ID | mine |\n| --- | --- |\n| 1 | 2 |\n\nend\n"
    )


def test_logs_that_are_none_are_refused(renders: Path, tmp_path: Path) -> None:
    (tmp_path / "log.md").write_bytes("실험".encode("cp949"))
    with pytest.raises(OutputError, match="is not UTF-8 text: save it as UTF-8"):
        write_log([renders], tmp_path / "log.md")
    with pytest.raises(OutputError, match="holds no renders"):
        write_log([tmp_path], tmp_path / "new.md")


def test_the_command(renders: Path, tmp_path: Path) -> None:
    arguments = ["log", str(renders), "--log", str(tmp_path / "log.md"), "--language", "ko"]
    told = json.loads(CliRunner().invoke(cli, [*arguments, "--json"], obj={"debug": True}).stdout)
    assert told["added"] == ["001", "002"]
    assert all(Path(file).is_file() for file in told["files"])
    assert "nothing new" in CliRunner().invoke(cli, arguments, obj={"debug": True}).stdout


# ------------------------------------------------------------------------------------------------------------ pictures


def chunks(picture: bytes) -> dict[bytes, bytes]:
    """The parts of a PNG file by their names, their check sums checked."""
    found, at = {}, 8
    while at < len(picture):
        size = int.from_bytes(picture[at : at + 4], "big")
        name, data = picture[at + 4 : at + 8], picture[at + 8 : at + 8 + size]
        assert zlib.crc32(name + data) == int.from_bytes(picture[at + 8 + size : at + 12 + size], "big")
        found[name] = data
        at += 12 + size
    return found


def test_pictures_are_png_files() -> None:
    points = np.arange(6, dtype=np.uint8).reshape(2, 3)
    picture = chunks(png(points, palette()))
    assert list(picture) == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
    assert struct.unpack(">IIBBBBB", picture[b"IHDR"]) == (3, 2, 8, 3, 0, 0, 0)
    assert zlib.decompress(picture[b"IDAT"]) == bytes([0, 0, 1, 2, 0, 3, 4, 5])
    assert picture[b"PLTE"] == palette().tobytes()


def test_a_tone_is_a_line_at_its_height() -> None:
    time = np.arange(2 * 44100) / 44100
    picture = spectrogram_png(Audio(0.05 * np.sin(2 * np.pi * 440 * time), 44100).reader())
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    rows = np.frombuffer(zlib.decompress(chunks(picture)[b"IDAT"]), np.uint8).reshape(HEIGHT, WIDTH + 1)[:, 1:]
    lowest_hz = mel_hz(44100, HEIGHT)[::-1]
    assert lowest_hz[rows[:, WIDTH // 2].argmax()] == pytest.approx(440, rel=0.05)
    assert np.all(np.diff(palette().astype(int).sum(axis=1)) >= 0)  # lighter is louder
