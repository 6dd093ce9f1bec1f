"""What lies on disk: nothing finished is lost, and what strangers wrote leads nowhere and breaks nothing."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gbsep
from gbsep import rendering
from gbsep.atomic import write_whole
from gbsep.audio import Audio
from gbsep.cli.common import Time
from gbsep.errors import FolderUnknown, GbsepError, OutputError, ParameterError, PresetError, SmallFileError
from gbsep.io.probe import is_stem
from gbsep.io.tags import marked
from gbsep.preset.load import load_preset
from gbsep.report import collect, write_report
from gbsep.report.page import beside_of
from gbsep.schema import is_plain_name
from gbsep.session.write import write_sessions
from gbsep.shelf import batch as batch_report
from gbsep.shelf import folder as outputs
from gbsep.shelf import record, remote, review
from gbsep.store import folders, smallfiles
from gbsep.store import stemcache as cache
from gbsep.train import finetune, loop

RATE = 44100
POSIX = pytest.mark.skipif(os.name != "posix", reason="pipes and devices of POSIX")


@pytest.fixture
def song(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A second of stereo noise."""
    path = tmp_path / "song.wav"
    gbsep.write(path, Audio(0.1 * rng.standard_normal((2, RATE)).astype(np.float32), RATE))
    return path


@pytest.fixture
def done(song: Path, tmp_path: Path) -> Path:
    """The folder of a finished render in tmp_path/out."""
    folder = gbsep.render(song, "exp002", tmp_path / "out", dry_stems=True).folder
    assert isinstance(folder, Path)
    return folder


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    path = tmp_path / "precious.txt"
    path.write_text("precious")
    return path


def tree(folder: Path) -> dict[str, tuple[int, int, int]]:
    """What is in a folder, and whether it is the same as before."""
    found = {str(path): path.lstat() for path in (folder, *sorted(folder.rglob("*")))}
    return {name: (status.st_ino, status.st_mtime_ns, status.st_size) for name, status in found.items()}


def forge(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a render.json and seal it again."""
    path = folder / record.RECORD
    told = json.loads(path.read_text())
    change(told)
    path.write_text(json.dumps(record.sealed(told)))


# Nothing that is finished is lost


def test_an_excerpt_is_another_render(song: Path, done: Path, tmp_path: Path) -> None:
    before = tree(done)
    cut = gbsep.render(song, "exp002", tmp_path / "out", start_s=0.1, duration_s=0.2)
    assert (cut.preset, cut.folder) == ("exp002@0.1s-0.3s", done.with_name("exp002@0.1s-0.3s"))
    assert tree(done) == before
    assert gbsep.render(song, "exp002", tmp_path / "out", start_s=0.1, duration_s=0.2).status == "skipped"
    assert gbsep.render(song, "exp002", tmp_path / "out", dry_stems=True).status == "skipped"
    named = {one.preset for shown in collect(tmp_path / "out") for one in shown.renders}
    assert named == {"exp002", "exp002@0.1s-0.3s"}


def test_the_review_of_an_excerpt_is_its_own(song: Path, done: Path, tmp_path: Path) -> None:
    review.save(done.parent, review.Review().swapped("exp002@0s-0.5s", "bass", "guitar"))
    assert rendering.plan(song, load_preset("exp002"), rendering.Options(tmp_path / "out")).action == "skip"
    options = rendering.Options(tmp_path / "out", duration_s=0.5)
    assert rendering.plan(song, load_preset("exp002"), options).swaps == (("bass", "guitar"),)


@pytest.mark.parametrize(
    ("start_s", "duration_s", "name"),
    [
        (5.0, 5.0, "exp002@5s-10s"),
        (0.1, 0.2, "exp002@0.1s-0.3s"),
        (90, None, "exp002@90s-end"),
        (0.0, 1e-5, "exp002@0s-0.00001s"),
        (1234567.25, 0.5, "exp002@1234567.25s-1234567.75s"),
        (0.0, None, "exp002"),
    ],
)
def test_times_are_their_shortest_exact_decimals(start_s: float, duration_s: float | None, name: str) -> None:
    options = rendering.Options(start_s=start_s, duration_s=duration_s)
    assert rendering.folder_name(load_preset("exp002"), options) == name


def test_times_that_no_record_holds_are_refused(song: Path, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="duration_s = 1e"):
        gbsep.render(song, "exp002", tmp_path / "out", duration_s=1e300)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("1:30", 90), ("0:00.25", 0.25), ("1:02:03.5", 3723.5)])
def test_times_are_typed_as_they_are_said(text: str, seconds: float) -> None:
    assert Time().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "1:", "1:60", "1:2:3:4", "a:30", f"{'9' * 400}:30"])
def test_words_that_are_no_time(typed: Any, song: Path, text: str) -> None:
    code, _, said = typed("render", str(song), "-p", "exp002", "--start", text)
    assert code == 2
    assert "is no time" in said


def test_another_format_leaves_the_files_of_the_first(song: Path, done: Path, tmp_path: Path) -> None:
    wavs = {path.name: path.read_bytes() for path in done.glob("*.wav")}
    mp3 = gbsep.render(song, load_preset("exp002", format="mp3"), tmp_path / "out")
    assert {path.name: path.read_bytes() for path in done.glob("*.wav")} == wavs
    assert {Path(path).suffix for path in mp3.files.values()} == {".mp3"}
    assert gbsep.render(song, load_preset("exp002", format="mp3"), tmp_path / "out").status == "skipped"
    (done / "bass.wav").unlink()  # what was kept may go without a reason to render again
    assert gbsep.render(song, load_preset("exp002", format="mp3"), tmp_path / "out").status == "skipped"
    (done / "guitar.wav").write_bytes(b"mine now")
    gbsep.render(song, load_preset("exp002", format="mp3"), tmp_path / "out", overwrite=True)
    assert [path.name for path in done.glob("*.wav")] == ["guitar.wav"]


def test_another_bit_depth_needs_overwrite(song: Path, done: Path, tmp_path: Path) -> None:
    before = tree(done)
    with pytest.raises(OutputError, match=r"bass.dry.wav is there already with a bit depth of float32; give --overwr"):
        gbsep.render(song, load_preset("exp002", bit_depth="16"), tmp_path / "out")
    assert tree(done) == before
    assert gbsep.render(song, load_preset("exp002", bit_depth="float32"), tmp_path / "out").status != "failed"
    assert gbsep.render(song, load_preset("exp002", bit_depth="16"), tmp_path / "out", overwrite=True).status == "ok"


def test_another_bit_depth_needs_overwrite_after_a_render_in_another_format(
    song: Path, done: Path, tmp_path: Path
) -> None:
    """render.json tells of the last render alone; the files of the one before say themselves what they are."""
    wavs = {path.name: path.read_bytes() for path in done.glob("*.wav")}
    gbsep.render(song, load_preset("exp002", format="mp3"), tmp_path / "out")
    with pytest.raises(OutputError, match=r"is there already with a bit depth of float32; give --overwr"):
        gbsep.render(song, load_preset("exp002", bit_depth="24"), tmp_path / "out")
    assert {path.name: path.read_bytes() for path in done.glob("*.wav")} == wavs
    assert gbsep.render(song, load_preset("exp002", bit_depth="float32"), tmp_path / "out").status == "ok"


@pytest.mark.parametrize("format", ["reaper", "dawproject"])
def test_what_a_project_refers_to_is_not_deleted_without_a_word(
    song: Path, done: Path, tmp_path: Path, format: str
) -> None:
    (project,) = write_sessions(tmp_path / "out", format)
    told = gbsep.render(song, load_preset("exp002", format="flac"), tmp_path / "out", overwrite=True).warnings
    assert not (done / "bass.wav").exists()
    assert any("bass.wav" in warning and str(project.path) in warning for warning in told)


def test_a_page_deletes_nothing_of_others(done: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    songs = collect(tmp_path / "out")
    write_report(page, "page", songs, inline_bytes=0)
    (beside_of(page) / "mine.txt").write_text("mine")
    write_report(page, "page", songs, inline_bytes=0, overwrite=True)
    assert (beside_of(page) / "mine.txt").read_text() == "mine"
    assert list(beside_of(page).glob("*.js"))


def test_stems_are_known_by_what_they_are(song: Path, tmp_path: Path, typed: Any) -> None:
    (tmp_path / "in").mkdir()
    shutil.move(song, tmp_path / "in" / "song.wav")
    for suffix in ("wav", "flac", "mp3"):
        code, _, said = typed("chain", "in/song.wav", "-p", "exp002", "--stem", "bass", "-o", f"in/take.{suffix}")
        assert code == 0, said
        assert is_stem(tmp_path / "in" / f"take.{suffix}")
    code, out, said = typed("render", "in", "-p", "exp002", "--dry-run")
    assert code == 0
    assert "render in/song.wav" in out
    assert "take" not in out
    assert "skipped, stems that gbsep made; name one to render it: in/take.flac, in/take.mp3, in/take.wav" in said
    code, out, _ = typed("render", "in/take.wav", "-p", "exp002", "--dry-run")
    assert (code, "render in/take.wav" in out) == (0, True)


def test_the_software_of_the_recording_is_still_told() -> None:
    assert marked({"software": "REAPER v7"})["software"] == "REAPER v7, gbsep stem"
    assert marked(marked({"software": "REAPER v7"}))["software"] == "REAPER v7, gbsep stem"
    assert marked({})["software"] == "gbsep stem"


def test_a_model_that_came_meanwhile_is_not_replaced_by_a_training(tmp_path: Path) -> None:
    target = tmp_path / "mine.safetensors"
    target.write_text("of another training")
    job = loop.Job({}, {}, lambda weights, step: (None, None), lambda path, weights: path.write_text("new"))
    with pytest.raises(OutputError, match="has come there meanwhile"):
        finetune.finish(job, loop.State({}, {}, {}, {}, {}), target)
    assert target.read_text() == "of another training"


# A stranger's output folder


OUTSIDE = ("../../../precious.txt", "/etc/hostname", "..", "a/../../x", "nul\0byte")


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize(
    "place",
    [
        lambda told, name: told["files"].update({name: {"bytes": 8, "sha256": "0" * 64}}),
        lambda told, name: told["stems"]["bass"].update(file=name),
        lambda told, name: told["stems"]["bass"].update(dry=name),
        lambda told, name: told["residual"].update(file=name),
    ],
    ids=["files", "file", "dry", "residual"],
)
def test_a_record_names_no_file_elsewhere(
    song: Path, done: Path, precious: Path, tmp_path: Path, name: str, place: Callable[[dict[str, Any], str], None]
) -> None:
    forge(done, lambda told: place(told, name))
    assert record.read(done) is None
    options = rendering.Options(tmp_path / "out", overwrite=True)
    for dry_run in (True, False):
        rendering.run(rendering.plan(song, load_preset("exp002"), dataclasses.replace(options, dry_run=dry_run)))
    assert precious.read_text() == "precious"


def staged(done: Path, name: str) -> Path:
    """A complete staging folder beside a render, with its lock."""
    place = done.with_name(f".{done.name}.{outputs.platform.node()}.{name}.partial")
    shutil.copytree(done, place)
    place.with_name(f"{place.name}.lock").touch()
    return place


def test_a_dry_run_changes_nothing_at_all(song: Path, done: Path, tmp_path: Path, typed: Any) -> None:
    staged(done, "0123456789abcdef")
    for name in ("CACHE", "STATE"):
        Path(os.environ[f"GBSEP_{name}"]).mkdir(exist_ok=True)
    watched = (tmp_path, Path(os.environ["GBSEP_CACHE"]))
    before = [tree(folder) for folder in watched]
    for words in ([], ["--overwrite"], ["-p", "exp002_100", "-p", "default"], ["--out", "new/place"]):
        code, _, said = typed("render", str(song), "-p", "exp002", "--out", "out", "--dry-run", *words)
        assert code == 0, said
    assert [tree(folder) for folder in watched] == before


def test_what_a_killed_process_left_replaces_nothing_of_others(song: Path, done: Path, tmp_path: Path) -> None:
    left = staged(done, "0123456789abcdef")
    (done / "bass.wav").write_bytes(b"mine")
    with pytest.raises(OutputError, match="bass.wav was changed"):
        gbsep.render(song, "exp002", tmp_path / "out")
    assert (done / "bass.wav").read_bytes() == b"mine"
    assert not left.exists()


def test_only_names_of_our_own_are_swept(done: Path) -> None:
    left = staged(done, "0")
    outputs.recover(done)
    assert left.exists()


@POSIX
def test_a_staging_folder_that_is_a_link_is_not_followed(done: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(done, mine)
    place = done.with_name(f".{done.name}.{outputs.platform.node()}.0123456789abcdef.partial")
    place.symlink_to(mine)
    place.with_name(f"{place.name}.lock").touch()
    before = tree(mine)
    outputs.recover(done)
    assert tree(mine) == before


@POSIX
def test_links_in_a_render_are_not_followed(song: Path, done: Path, precious: Path, tmp_path: Path) -> None:
    (done / "bass.wav").unlink()
    (done / "bass.wav").symlink_to(precious)
    with pytest.raises(OutputError, match="bass.wav was changed since gbsep wrote it"):
        gbsep.render(song, "exp002", tmp_path / "out")
    gbsep.render(song, "exp002", tmp_path / "out", overwrite=True)
    assert precious.read_text() == "precious"
    assert not (done / "bass.wav").is_symlink()
    shutil.move(done, tmp_path / "moved")
    done.symlink_to(tmp_path / "moved")
    with pytest.raises(OutputError, match="is a link, which a render does not follow"):
        gbsep.render(song, "exp002", tmp_path / "out", overwrite=True)


@POSIX
def test_an_output_folder_that_becomes_a_link_while_rendering(song: Path, done: Path, tmp_path: Path) -> None:
    """What the link leads to is another render, and an empty folder: both stay."""
    out, aside, other = tmp_path / "out", tmp_path / "aside", tmp_path / "other"
    shutil.copytree(out, other)
    (other / "new").mkdir()
    before = tree(other)
    swapped = False

    def swap(stage: str, fraction: float) -> None:
        nonlocal swapped
        if not swapped:
            out.rename(aside)
            out.symlink_to(other)
            swapped = True

    with pytest.raises(GbsepError):
        gbsep.render(song, "exp002", out, overwrite=True, use_cache=False, progress=swap)
    assert swapped
    assert tree(other) == before


@POSIX
def test_a_small_file_is_not_written_through_a_link(precious: Path, tmp_path: Path) -> None:
    for name in (".batch.json.tmp", "batch.json"):
        (tmp_path / name).symlink_to(precious)
    write_whole(tmp_path / "batch.json", "new")
    assert precious.read_text() == "precious"
    assert (tmp_path / "batch.json").read_text() == "new"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".gbsep-")]


@pytest.mark.parametrize(("name", "track"), [("...wav", "...wav"), ("..wav", "..wav"), ("a..wav", "a.")])
def test_a_name_of_dots_lands_in_the_output_folder(song: Path, tmp_path: Path, name: str, track: str) -> None:
    odd = song.rename(song.with_name(name))
    assert gbsep.render(odd, "exp002", tmp_path / "o" / "inner").folder == tmp_path / "o" / "inner" / track / "exp002"
    with pytest.raises(ParameterError, match="track"):
        rendering.plan(odd, load_preset("exp002"), rendering.Options(tmp_path), track="../x")


@pytest.mark.parametrize("track", ["../../elsewhere", "/etc", "\ud800", 3])
def test_the_report_of_a_batch_names_no_song_elsewhere(done: Path, tmp_path: Path, track: Any) -> None:
    row = {"input": "a.wav", "preset": "exp002", "status": "failed", "track": track, "error": "no"}
    told = {"written_by": batch_report.WRITTEN_BY, "renders": [row]}
    (tmp_path / "out" / batch_report.REPORT).write_text(json.dumps(told))
    assert batch_report.read(tmp_path / "out") is None
    assert [song.folder for song in collect(tmp_path / "out")] == [done.parent]


def test_what_is_read_of_a_record_is_what_was_written(done: Path) -> None:
    told = json.loads((done / record.RECORD).read_text())
    found = record.load(done)
    assert {name: stamp.model_dump() for name, stamp in found.files.items()} == told["files"]
    assert found.own_files == [f"{stem}{dry}.wav" for stem in ("bass", "guitar") for dry in ("", ".dry")]
    assert found.preset.document == told["preset"]


def test_records_of_other_versions_are_read(done: Path) -> None:
    def change(told: dict[str, Any]) -> None:
        for key in ("diagnoses", "review", "warnings", "overrides", "null_test"):
            del told[key]
        told["new"] = {"of": "tomorrow"}

    forge(done, change)
    assert record.load(done).diagnoses is None
    assert collect(done.parents[1])


# Small files


PRESET = {"schema_version": 1, "name": "x", "title": "x", "separate": {"backend": "crossover"}, "stems": {}}


def readers(tmp_path: Path) -> dict[str, tuple[str, Callable[[Path], Any]]]:
    """Every door by which a small file comes in: its name, and what reads it from a folder."""
    return {
        "preset": ("p.json", lambda folder: load_preset(folder / "p.json")),
        "record": (record.RECORD, record.load),
        "review": (review.FILE, review.load),
        "batch": (batch_report.REPORT, batch_report.read),
        "json": ("x.json", lambda folder: smallfiles.read_json(folder / "x.json")),
        "yaml": ("x.yaml", lambda folder: smallfiles.read_yaml(folder / "x.yaml")),
        "text": ("x.md", lambda folder: smallfiles.read_text(folder / "x.md")),
    }


@POSIX
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "socket"])
@pytest.mark.parametrize("door", ["preset", "record", "review", "batch", "json", "yaml", "text"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, door: str, kind: str) -> None:
    name, read = readers(tmp_path)[door]
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        import socket

        place = Path("/tmp") / f"gbsep-{os.getpid()}-{door}"  # a socket's name may have 107 bytes
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(place))
        shutil.move(place, path)
    if door == "batch":
        assert read(tmp_path) is None
    else:
        with pytest.raises((SmallFileError, PresetError, OutputError), match="regular file"):
            read(tmp_path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 65 + "1" + "}" * 65, "nested too deeply"),
        ("9" * 5000, "number of 5000 digits"),
        (" " * 20_000_000, "larger than"),
        ("{", "is not JSON"),
    ],
)
def test_bombs_of_json(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(SmallFileError, match=reason):
        smallfiles.read_json(tmp_path / "x.json")


def test_brackets_in_texts_are_no_depth(tmp_path: Path) -> None:
    text = json.dumps({"a": '[{"\\' * 1000, "b": [[]] * 1000})
    (tmp_path / "x.json").write_text(text)
    assert smallfiles.read_json(tmp_path / "x.json") == json.loads(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: &x [1]\nb: *x\n", "a reference"),
        ("[" * 1000, "nested too deeply"),
        ("a: " + "9" * 5000, "digits"),
        ("a: 2020-13-45", "is not YAML"),
        ("a: !!python/object/apply:os.system [ls]", "is not YAML"),
        ("a: [", "is not YAML"),
        ("a" * 100_000, "larger than"),
    ],
)
def test_bombs_of_yaml(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(SmallFileError, match=reason):
        smallfiles.read_yaml(tmp_path / "x.yaml")


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 1000 + "]" * 1000])
def test_values_on_the_command_line_have_bounds(typed: Any, song: Path, value: str) -> None:
    for words in (["render", "--set"], ["sweep", "--vary"]):
        code, _, said = typed(words[0], str(song), "-p", "exp002", words[1], f"separate.cutoff_hz={value}")
        assert code == 2
        assert "Traceback" not in said
        assert "digits" in said or "nested" in said


@pytest.mark.parametrize(
    "text",
    ['{"render": {"out": null}}', '{"render": {"jobs": 1e400}}', '{"render": null}', "[" * 9999, "9" * 5000],
)
def test_defaults_that_are_none_are_told(typed: Any, text: str) -> None:
    config = Path(os.environ["GBSEP_CONFIG"])
    config.mkdir(exist_ok=True)
    (config / "defaults.json").write_text(text)
    code, out, said = typed("presets", "list")
    assert (code, out) == (2, "")
    assert "defaults.json" in said
    assert "Traceback" not in said


# The cache


def cache_folder() -> Path:
    folder = Path(os.environ["GBSEP_CACHE"])
    folder.mkdir(exist_ok=True)
    return folder


def test_what_is_somebody_elses_in_the_cache_stays(song: Path, tmp_path: Path) -> None:
    folder = cache_folder()
    names = [
        "building/house",
        "building/0123456789abcdef",
        "entries/mine",
        "hashes/mine",
        "downloads/mine",
        "uploads/x",
    ]
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "plan.txt").write_text("mine")
    (folder / "entries/.DS_Store").touch()
    (folder / "building/house.lock.txt").touch()
    assert gbsep.render(song, "exp003", tmp_path / "out").status == "ok"
    assert cache.usage(cache.locate()).entries == 1
    assert cache.clear(cache.locate()).entries == 1
    remote.clear()
    assert [(folder / name / "plan.txt").read_text() for name in names] == ["mine"] * len(names)


@POSIX
@pytest.mark.parametrize("name", ["building", "entries", ".lock"])
def test_links_in_the_cache_are_not_followed(song: Path, tmp_path: Path, name: str) -> None:
    mine = tmp_path / "mine"
    (mine / "0123456789abcdef").mkdir(parents=True)
    (mine / "0123456789abcdef.lock").write_text("mine")
    before = tree(mine)
    target = mine if name != ".lock" else mine / "0123456789abcdef.lock"
    (cache_folder() / name).symlink_to(target)
    outcome = gbsep.render(song, "exp003", tmp_path / "out")
    assert any("is a link" in warning for warning in outcome.warnings)
    assert tree(mine) == before


@pytest.mark.parametrize(
    "change",
    [
        {"stems": [None]}, {"stems": {}}, {"stems": []}, {"stems": [{"name": "x", "crc32": 0}]},
        {"sample_rate": 10**300}, {"sample_rate": 0}, {"frames": -1}, {"channels": "2"}, {"format": [1]}, None, [], "x",
    ],
)  # fmt: skip
def test_a_tampered_manifest_is_a_miss(song: Path, tmp_path: Path, change: Any) -> None:
    gbsep.render(song, "exp003", tmp_path / "out")
    (path,) = cache_folder().glob("entries/*/manifest.json")
    told = json.loads(path.read_text())
    path.write_text(json.dumps({**told, **change} if isinstance(change, dict) else change))
    again = gbsep.render(song, "exp003", tmp_path / "out", overwrite=True)
    assert (again.status, again.from_cache, again.warnings) == ("ok", False, ())
    assert gbsep.render(song, "exp003", tmp_path / "out", overwrite=True).from_cache


def test_a_cache_that_cannot_be_written_is_done_without(song: Path, tmp_path: Path) -> None:
    Path(os.environ["GBSEP_CACHE"]).write_text("a file is in the way")
    outcome = gbsep.render(song, "exp003", tmp_path / "out")
    assert (outcome.status, outcome.from_cache) == ("ok", False)
    assert any("the stems are not kept for the next render" in warning for warning in outcome.warnings)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_disk_that_fills_while_the_stems_are_kept(
    song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = gbsep.render(song, "exp003", tmp_path / "plain", use_cache=False)

    def open_full(path: Path, *arguments: Any, **named: Any) -> Any:
        return opened(Path("/dev/full") if path.suffix == ".f32" else path, *arguments, **named)

    opened = Path.open
    monkeypatch.setattr(Path, "open", open_full)
    outcome = gbsep.render(song, "exp003", tmp_path / "out")
    assert any("No space left on device" in warning for warning in outcome.warnings)
    for name, path in plain.files.items():
        assert Path(path).read_bytes() == Path(outcome.files[name]).read_bytes()
    assert not list(cache_folder().glob("building/*"))


def test_a_home_that_nobody_has(song: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GBSEP_CACHE", "~nosuchuser/cache")
    with pytest.raises(FolderUnknown, match="GBSEP_CACHE"):
        folders.cache_folder()


def test_hidden_words_stay_words() -> None:
    """A lone surrogate, of a file's name that is no text, is kept in records."""
    assert is_plain_name("caf\udce9.wav")
    assert not any(map(is_plain_name, ("", ".", "..", "a/b", "a\\b", "a\0", "x" * 256, "\ud800")))


def test_a_record_of_a_name_in_any_bytes_is_read_as_it_was_written(done: Path) -> None:
    told = json.loads((done / record.RECORD).read_text())
    told["input"]["path"] = "/songs/caf\udce9.wav"
    write_whole(done / record.RECORD, json.dumps(record.sealed(told), ensure_ascii=False))
    assert record.load(done).recording.path == "/songs/caf\udce9.wav"
