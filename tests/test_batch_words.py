"""What the words of a batch stand for: folders, links, patterns and manifests."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gbsep
from gbsep import batch
from gbsep.batch import inputs, report
from gbsep.errors import AudioFileError, ParameterError
from gbsep.rendering import Options

from .helpers import posix, write_song


def test_a_folder_stands_for_its_audio_at_any_depth(tmp_path: Path) -> None:
    for name in ("b.wav", "a.FLAC", "x/c.wav", ".hidden.wav", ".trash/d.wav", "gbsep-out/e.wav"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"any")
    (tmp_path / "cover.jpg").write_bytes(b"any")
    requests, left_out, _ = inputs.expand([tmp_path], tmp_path / "gbsep-out")
    assert [Path(asked.input).relative_to(tmp_path).as_posix() for asked in requests] == ["a.FLAC", "b.wav", "x/c.wav"]
    assert left_out == [str(tmp_path / "cover.jpg")]


def test_what_gbsep_made_is_no_input(album: Path) -> None:
    """Also when renders lie among the songs, with the report of their batch."""
    for _ in range(2):
        planned = batch.plan([album], ["exp002"], Options(album))
        assert len(planned.plans) == 8
        assert not planned.left_out
        outcomes = list(batch.run(planned))
        report.write(planned, outcomes, ["gbsep"], 0.0)
    assert {outcome.status for outcome in outcomes} == {"skipped"}


@pytest.mark.parametrize("word", ["**/*.wav", "**", "./**/*", "{folder}/**/*.wav", "{url}/**/*.wav", "{url}/"])
def test_what_gbsep_made_matches_no_pattern(
    album: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, word: str
) -> None:
    """Nor what lies in another output folder, nor the media of a project beside the renders."""
    monkeypatch.chdir(album)
    gbsep.render("1.wav", "exp002", "earlier")
    gbsep.render("1.wav", "exp002", "gbsep-out")
    write_song(album / "earlier/1/media/original.wav")
    write_song(album / "gbsep-out/notes/other.wav")
    write_song(album / "media/9.wav")
    requests, _, _ = inputs.expand([word.format(folder=album, url=album.as_uri())], Path("gbsep-out"))
    found = [Path(asked.input).name for asked in requests]
    remote = "file:" in requests[0].input
    assert sorted(name for name in found if name[0].isdigit()) == [f"{n}.wav" for n in (*range(8), 9)]
    assert set(found) - {f"{n}.wav" for n in range(10)} <= ({"original.wav", "other.wav"} if remote else set())
    stems = list(Path("gbsep-out/1/exp002").glob("*.wav"))
    (refused,), _, made = inputs.expand(["gbsep-out/1/exp002/*.wav"], Path("gbsep-out"))
    assert refused.problem
    assert "stems that gbsep made; name a file itself" in str(refused.problem)
    assert len(made) == len(stems) > 1
    asked, _, _ = inputs.expand(stems, Path("gbsep-out"))
    assert [one.input for one in asked] == [str(path) for path in stems]
    (refused,), _, _ = inputs.expand(["gbsep-out/*/exp002/*.wav"], Path("gbsep-out"))
    assert "all that matches was made by gbsep" in str(refused.problem)


def test_a_folder_that_cannot_be_read_is_named_and_the_others_are_read(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_song(album / "locked" / "8.wav")
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    planned = batch.plan([album], ["exp002"], Options(tmp_path / "out"))
    assert len(planned.plans) == 8
    (refused,) = planned.refused
    assert refused.error == f"{album / 'locked'}: cannot be read: Permission denied"


@posix
def test_links_are_followed_once_and_name_their_songs(tmp_path: Path) -> None:
    write_song(tmp_path / "store" / "SHA256E-7.wav")
    write_song(tmp_path / "more" / "two.wav")
    songs = tmp_path / "songs"
    songs.mkdir()
    (songs / "one.wav").symlink_to(tmp_path / "store" / "SHA256E-7.wav")
    (songs / "again.wav").symlink_to(songs / "one.wav")
    (songs / "linked").symlink_to(tmp_path / "more")
    (tmp_path / "more" / "back").symlink_to(songs)
    planned = batch.plan([songs / "one.wav", songs], ["exp002"], Options(tmp_path / "out"))
    assert not planned.refused
    assert [plan.track for plan in planned.plans] == ["one", "two"]


def test_globs_are_expanded_but_names_go_first(tmp_path: Path) -> None:
    for name in ("a1.wav", "a2.wav", "x/a3.wav", "a4.txt", "odd[1].wav"):
        write_song(tmp_path / name) if name.endswith("wav") else (tmp_path / name).write_text("")
    found, left_out, _ = inputs.expand([f"{tmp_path}/**/a*"], tmp_path / "out")
    assert [Path(asked.input).name for asked in found] == ["a1.wav", "a2.wav", "a3.wav"]
    assert [Path(name).name for name in left_out] == ["a4.txt"]
    (itself,), _, _ = inputs.expand([tmp_path / "odd[1].wav"], tmp_path / "out")
    assert itself.problem is None


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("none*.wav", "nothing matches; check the pattern"),
        ("*.txt", "no audio file matches"),
        ("empty", "the folder holds no audio file"),
        ("missing.wav", "no such file; check the name"),
    ],
)
def test_a_word_that_stands_for_nothing_is_refused(tmp_path: Path, word: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "note.txt").write_text("hello")
    planned = batch.plan([tmp_path / word, write_song(tmp_path / "song.wav")], ["exp002"], Options(tmp_path / "out"))
    assert len(planned.plans) == 1
    assert message in str(planned.refused[0].error)
    assert not (tmp_path / "out").exists()


words = st.text("abcXYZ äß한 .,;'\"-/", min_size=1, max_size=12).map(str.strip).filter(bool)


values = st.one_of(st.integers(-9, 9), st.floats(-1, 1), st.booleans(), words, st.lists(st.integers(0, 9), max_size=2))


rows = st.tuples(words, st.none() | words, st.dictionaries(words, values, max_size=2))


@given(st.lists(rows, min_size=1, max_size=4), st.sampled_from([",", ";", "\t"]))
def test_a_manifest_says_the_same_as_csv_and_as_json_lines(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], delimiter: str
) -> None:
    folder = tmp_path_factory.mktemp("manifest")
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(["input", "preset", "overrides"])
    writer.writerows((name, preset, json.dumps(overrides)) for name, preset, overrides in rows)
    (folder / "a.csv").write_text(text.getvalue(), encoding="utf-8-sig", newline="")
    objects = ({"input": name, "preset": preset, "overrides": overrides} for name, preset, overrides in rows)
    (folder / "b.jsonl").write_text("\n".join(map(json.dumps, objects)))
    wanted = [(str(folder / name), preset, tuple(overrides.items())) for name, preset, overrides in rows]
    for manifest in ("a.csv", "b.jsonl"):
        read = [(asked.input, asked.preset, asked.overrides) for asked in inputs.read_manifest(folder / manifest)]
        assert read == wanted


def test_a_manifest_names_presets_and_overrides_of_its_own(tmp_path: Path) -> None:
    for name in ("songs/a.wav", "songs/b.wav"):
        write_song(tmp_path / name)
    manifest = tmp_path / "songs.csv"
    manifest.write_text(
        "input,preset,overrides\n"
        "songs/a.wav,,\n"
        "songs/a.wav,exp002_100,\n"
        "songs/b.wav,,separate.cutoff_hz=250 separate.order=8\n"
        "songs,exp002_300,\n"
    )
    planned = batch.plan([manifest], ["exp002"], Options(tmp_path / "out"), overrides=[("separate.order", 2)])
    assert not planned.refused
    assert [plan.folder.relative_to(tmp_path / "out").as_posix() for plan in planned.plans] == [
        "a/exp002@order=2",
        "a/exp002_100@order=2",
        "b/exp002@cutoff_hz=250,order=8",
        "a/exp002_300@order=2",
        "b/exp002_300@order=2",
    ]
    assert planned.plans[2].preset.document["separate"]["order"] == 8


def test_a_manifest_names_preset_files_beside_it(tmp_path: Path) -> None:
    write_song(tmp_path / "set" / "a.wav")
    document = {**gbsep.load_preset("exp002").document, "name": "mine"}
    (tmp_path / "set" / "mine.json").write_text(json.dumps(document))
    (tmp_path / "set" / "songs.csv").write_text("input,preset\na.wav,mine.json\na.wav,exp002\n")
    planned = batch.plan([tmp_path / "set" / "songs.csv"], (), Options(tmp_path / "out"))
    assert not planned.refused
    assert [plan.preset.folder for plan in planned.plans] == ["mine", "exp002"]


def test_only_ends_of_lines_end_rows(tmp_path: Path) -> None:
    """Not what else Unicode has for them, which names of files may hold."""
    names = ["a\u2028b.wav", "c\x85d.wav", "e.wav"]
    rows = (json.dumps({"input": name}, ensure_ascii=False) for name in names)
    (tmp_path / "a.jsonl").write_bytes("\r\n".join(rows).encode())
    (tmp_path / "b.csv").write_bytes("\n".join(["input", *names]).encode())
    for manifest in ("a.jsonl", "b.csv"):
        assert [asked.input for asked in inputs.read_manifest(tmp_path / manifest)] == [
            str(tmp_path / name) for name in names
        ]


def test_a_bad_row_is_named_by_its_line(tmp_path: Path) -> None:
    write_song(tmp_path / "a.wav")
    manifest = tmp_path / "songs.jsonl"
    lines = ['{"input": "a.wav"}', '{"input": ', "3", '{"input": "a.wav", "preset": "exp02"}', '{"input": "b.wav"}']
    manifest.write_text(
        "\n".join([*lines, '{"input": "a.wav", "overrides": {"separate.cutof_hz": 1}}', '{"preset": 1}'])
    )
    planned = batch.plan([manifest], ["exp002"], Options(tmp_path / "out"))
    assert len(planned.plans) == 1
    errors = "\n".join(str(outcome.error) for outcome in planned.refused)
    for number, reason in [
        (2, "is not JSON"),
        (3, "is no JSON object"),
        (4, "did you mean 'exp002'"),
        (5, "no such file"),
        (6, "did you mean 'cutoff_hz'"),
        (7, "one must be input"),
    ]:
        assert any(f"line {number}" in line and reason in line for line in errors.splitlines()), errors


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("input,prest\na.wav,x\n", "did you mean 'preset'"),
        ("preset\nexp002\n", "one must be input"),
        ("input\n", "holds no rows"),
        ('input\n"a.wav\n', "line 2 is not CSV: unexpected end"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "songs.csv").write_text(text)
    with pytest.raises((AudioFileError, ParameterError), match=message):
        batch.plan([tmp_path / "songs.csv"], ["exp002"], Options(tmp_path / "out"))


def test_a_json_array_is_no_json_lines(tmp_path: Path) -> None:
    (tmp_path / "songs.jsonl").write_text('[{"input": "a.wav"}]')
    with pytest.raises(AudioFileError, match="one object per line"):
        inputs.read_manifest(tmp_path / "songs.jsonl")
