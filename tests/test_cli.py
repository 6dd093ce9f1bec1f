"""The command line as a user types it: what goes where, exit codes, and no partial file whatever happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import gbsep
from gbsep.audio import Audio
from gbsep.cli import cli, main

from .helpers import exit_code

RATE = 44100


class Result:
    def __init__(self, code: int, out: str, err: str):
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Call the command in a folder of its own; the result has code, out and err."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Result:
        return Result(exit_code(*arguments), *capsys.readouterr())

    return run


@pytest.fixture
def song(tmp_path: Path, rng: np.random.Generator) -> Path:
    path = tmp_path / "song.wav"
    gbsep.write(path, Audio(0.1 * rng.standard_normal((2, RATE)), RATE))
    return path


def audio_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name != "song.wav"]


def test_a_render_reports_and_lands_in_place(run: Any, song: Path) -> None:
    result = run("render", "song.wav", "--preset", "exp002")
    assert result.code == 0, result.err
    assert "bass" in result.out
    assert "gbsep-out/song/exp002" in result.out
    names = {path.name for path in (song.parent / "gbsep-out/song/exp002").iterdir()}
    assert names == {"bass.wav", "guitar.wav", "render.json"}


def test_json_is_all_that_stdout_holds(run: Any, song: Path) -> None:
    result = run("render", "song.wav", "-p", "exp002", "-p", "exp002_100", "--json")
    objects = [json.loads(line) for line in result.out.splitlines()]
    assert [(one["status"], one["preset"]) for one in objects] == [("ok", "exp002"), ("ok", "exp002_100")]
    assert Path(objects[0]["files"]["bass"]).exists()
    again = run("render", "song.wav", "-p", "exp002", "--json")
    assert json.loads(again.out)["status"] == "skipped"
    assert again.code == 0


def test_overrides_get_a_folder_of_their_own(run: Any, song: Path) -> None:
    assert run("render", "song.wav", "-p", "exp002", "--set", "separate.cutoff_hz=250").code == 0
    record = json.loads(Path("gbsep-out/song/exp002@cutoff_hz=250/render.json").read_text())
    assert record["preset"]["separate"]["cutoff_hz"] == 250
    assert record["overrides"] == {"separate.cutoff_hz": 250}


@pytest.mark.parametrize(
    ("options", "file", "subtype"),
    [
        (["--format", "flac"], "bass.flac", "PCM_24"),
        (["--format", "mp3"], "bass.mp3", "MPEG_LAYER_III"),
        (["--bit-depth", "16"], "bass.wav", "PCM_16"),
        (["--name", "{track} - {stem}"], "song - bass.wav", "FLOAT"),
        (["--start", "0.25", "--duration", "0.5"], "../exp002@0.25s-0.75s/bass.wav", "FLOAT"),
    ],
)
def test_formats_names_and_excerpts(run: Any, song: Path, options: list[str], file: str, subtype: str) -> None:
    result = run("render", "song.wav", "-p", "exp002", *options)
    assert result.code == 0, result.err
    info = soundfile.info(os.path.normpath(f"gbsep-out/song/exp002/{file}"))
    assert info.subtype == subtype
    assert info.frames == (RATE // 2 if "--start" in options else RATE)


def test_a_dry_run_writes_nothing(run: Any, song: Path) -> None:
    result = run("render", "song.wav", "-p", "exp002", "--dry-run")
    assert result.code == 0
    assert "render song.wav -> gbsep-out/song/exp002" in result.out
    assert "bass.wav, guitar.wav, residual.wav (unless silent)" in result.out
    assert not audio_files(song.parent)


def write_bytes(name: str, content: bytes) -> None:
    Path(name).write_bytes(content)


def broken_inputs() -> dict[str, tuple[Any, str]]:
    """A way to break an input, and what is said of it."""

    def tone(name: str, channels: int = 1, **options: Any) -> None:
        soundfile.write(name, np.full((RATE, channels), 0.1), RATE, **options)

    def cut(name: str, **options: Any) -> None:
        tone("whole" + Path(name).suffix, **options)
        write_bytes(name, Path("whole" + Path(name).suffix).read_bytes()[:-5000])

    def lying(name: str) -> None:
        tone(name)
        content = bytearray(Path(name).read_bytes())
        content[40:44] = (10**8).to_bytes(4, "little")
        write_bytes(name, bytes(content))

    noise = {"subtype": "PCM_16"}
    return {
        "missing.wav": (lambda name: None, "no such file"),
        "empty.wav": (lambda name: write_bytes(name, b""), "is empty"),
        "text.wav": (lambda name: write_bytes(name, b"not audio at all\n" * 99), "is no audio"),
        "cut.wav": (lambda name: cut(name), "header promises"),
        "cut.flac": (lambda name: cut(name, **noise), "cut short|cannot be read|ends at"),
        "lying.wav": (lying, "header promises"),
        "zero.wav": (lambda name: soundfile.write(name, np.zeros((0, 1)), RATE), "zero frames"),
        "six.wav": (lambda name: tone(name, 6), "6 channels; gbsep takes mono or stereo"),
        "folder.wav": (lambda name: Path(name).mkdir(), "holds no audio file"),
    }


@pytest.mark.parametrize("name", broken_inputs())
def test_broken_inputs_are_refused_in_planning(run: Any, song: Path, name: str) -> None:
    make, message = broken_inputs()[name]
    if name == "cut.flac":
        samples = np.random.default_rng(0).standard_normal(RATE) * 0.1
        soundfile.write("whole.flac", samples, RATE)
        write_bytes(name, Path("whole.flac").read_bytes()[:-5000])
    else:
        make(name)
    before = set(audio_files(song.parent))
    result = run("render", "song.wav", name, "-p", "exp002")
    assert result.code == 2
    errors = [line for line in result.err.splitlines() if line.startswith("error")]
    assert len(errors) == 1
    assert name in errors[0]
    assert any(part in errors[0] for part in message.split("|")), errors
    assert set(audio_files(song.parent)) == before


def test_not_finite_samples_fail_while_running(run: Any, song: Path) -> None:
    samples = np.zeros((RATE, 1))
    samples[100] = np.inf
    soundfile.write("inf.wav", samples, RATE, subtype="FLOAT")
    result = run("render", "inf.wav", "song.wav", "-p", "exp002")
    assert result.code == 1
    assert "inf.wav" in result.err
    assert "frame 100" in result.err
    assert not Path("gbsep-out/inf").exists()
    assert Path("gbsep-out/song/exp002/bass.wav").exists()


def test_keep_going_leaves_the_broken_ones_out(run: Any, song: Path) -> None:
    result = run("render", "missing.wav", "song.wav", "-p", "exp002", "--keep-going", "--json")
    assert result.code == 1
    assert [json.loads(line)["status"] for line in result.out.splitlines()] == ["ok", "failed"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["render"], "Missing argument"),
        (["rendr"], "No such command 'rendr'"),
        (["render", "song.wav", "--presets", "x"], "No such option"),
        (["render", "song.wav", "-p", "exp02"], "did you mean 'exp002'"),
        (["render", "song.wav", "-p", "exp002", "--set", "nonsense"], "not KEY=VALUE"),
        (["render", "song.wav", "-p", "exp002", "--set", "separate.cutoff_hz=NaN"], "separate.cutoff_hz"),
        (["render", "song.wav", "-p", "exp002", "--set", "separate.cutoff_hz=22050"], "below 22050 Hz"),
        (["render", "song.wav", "-p", "exp002", "--format", "flac", "--bit-depth", "float32"], "flac takes"),
        (["render", "song.wav", "-p", "exp002", "--start", "-1"], "start_s"),
        (["render", "song.wav", "-p", "exp002", "--start", "nan"], "start_s"),
        (["render", "song.wav", "-p", "exp002", "--duration", "0"], "duration_s"),
        (["render", "song.wav", "-p", "exp002", "--seed", "-1"], "seed"),
        (["render", "song.wav", "-p", "exp002", "--out", "song.wav"], "is a file, not a folder"),
        (["presets", "show", "exp03"], "did you mean"),
        (["demo", "--seconds", "-3"], "seconds"),
    ],
)
def test_usage_errors_are_exit_2_and_write_nothing(run: Any, song: Path, arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.code == 2
    assert message in result.err
    assert "Traceback" not in result.err
    assert not audio_files(song.parent)


def test_a_rate_that_a_format_cannot_take(run: Any) -> None:
    soundfile.write("high.wav", np.full(1000, 0.1), 96000)
    result = run("render", "high.wav", "-p", "exp002", "--format", "mp3")
    assert result.code == 2
    assert "sample_rate = 96000 Hz is not allowed" in result.err


def test_foreign_output_needs_overwrite(run: Any, song: Path) -> None:
    target = Path("gbsep-out/song/exp002/bass.wav")
    target.parent.mkdir(parents=True)
    target.write_text("mine")
    refused = run("render", "song.wav", "-p", "exp002")
    assert refused.code == 2
    assert "--overwrite" in refused.err
    assert target.read_text() == "mine"
    assert run("render", "song.wav", "-p", "exp002", "--overwrite").code == 0
    assert soundfile.info(target).frames == RATE


def test_defaults_of_the_user(run: Any, song: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GBSEP_CONFIG", str(song.parent))
    defaults = song.parent / "defaults.json"
    defaults.write_text(json.dumps({"render": {"preset": ["exp002_100"], "out": "stems", "format": "flac"}}))
    assert run("render", "song.wav").code == 0
    assert Path("stems/song/exp002_100/bass.flac").exists()
    assert run("render", "song.wav", "-p", "exp002", "--format", "wav").code == 0
    assert Path("stems/song/exp002/bass.wav").exists()
    for text, message in (
        ('{"rendr": {}}', "no such command; did you mean 'render'"),
        ('{"render": {"formt": "wav"}}', "no such option; did you mean 'format'"),
        ('{"render": []}', "must be a JSON object"),
        ('{"render": {"preset": "exp002"}}', "render.preset: "),
        ('{"render": {"duration": "abc"}}', "render.duration: "),
        ("[]", "a JSON object"),
        ("{", "must be a JSON object"),
    ):
        defaults.write_text(text)
        result = run("render", "song.wav")
        assert result.code == 2
        assert message in result.err


def test_presets_are_listed_shown_and_checked(run: Any, tmp_path: Path) -> None:
    assert "exp002_300" in run("presets", "list", "--all").out
    shown = run("presets", "show", "exp002", "--set", "separate.order=2")
    (tmp_path / "mine.json").write_text(shown.out)
    assert json.loads(shown.out)["separate"]["order"] == 2
    assert run("presets", "validate", "mine.json", "exp002").code == 0
    (tmp_path / "bad.json").write_text(shown.out.replace("cutoff_hz", "cut_off_hz"))
    bad = run("presets", "validate", "mine.json", "bad.json")
    assert bad.code == 2
    assert "did you mean 'cutoff_hz'" in bad.err
    assert json.loads(run("presets", "schema").out)["title"] == "Preset"


def test_the_demo_song_and_its_render(run: Any) -> None:
    assert run("demo", "--seconds", "3").code == 0
    stems = {name: soundfile.read(f"gbsep-demo/{name}.wav")[0] for name in ("mixture", "bass", "guitar")}
    np.testing.assert_array_equal(stems["bass"] + stems["guitar"], stems["mixture"])
    assert run("demo", "--seconds", "3").code == 2
    assert run("demo", "--seconds", "3", "--overwrite").code == 0
    assert run("render", "gbsep-demo/mixture.wav", "-p", "exp002").code == 0


@pytest.mark.parametrize("command", [[], *([name] for name in sorted(cli.commands))])
def test_help_teaches(run: Any, command: list[str]) -> None:
    result = run(*command, "--help")
    assert result.code == 0
    assert "Usage: gbsep" in result.out


def test_help_tells_what_becomes_of_a_command_without_a_preset(run: Any, song: Path) -> None:
    for command in ("render", "watch"):
        assert "[default: what the review chose, or default]" in " ".join(run(command, "--help").out.split())
    for command, more in (("compare", ()), ("sweep", ("--vary", "separate.cutoff_hz=100,200"))):
        assert "Preset; again for more. [required]" in " ".join(run(command, "--help").out.split())
        assert run(command, str(song), *more).code == 2


def test_debug_shows_the_traceback(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(gbsep.GbsepError, match="no preset of this name"):
        main(["presets", "show", "nothing", "--debug"])


@pytest.mark.skipif(os.name == "nt", reason="interrupts a process the POSIX way")
@pytest.mark.parametrize(
    ("end", "songs", "code"), [(signal.SIGINT, 1, 130), (signal.SIGTERM, 1, 143), (signal.SIGTERM, 2, 143)]
)
def test_an_interrupt_leaves_nothing(
    tmp_path: Path, rng: np.random.Generator, end: signal.Signals, songs: int, code: int
) -> None:
    long = [tmp_path / f"{number}.wav" for number in range(songs)]
    for path in long:
        gbsep.write(path, Audio(0.1 * rng.standard_normal((2, 120 * RATE)), RATE))
    out = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-m", "gbsep", "render", *long, "-p", "exp003", "--out", out],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for _ in range(600):
            if out.exists():
                break
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(end)
        try:
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == code, err
    assert ("interrupted" in err) == (code == 130)
    assert not list(out.rglob("*"))


AMID = {
    "a callback": "thing = set()\ncallback = weakref.ref(thing, lambda _: signal.raise_signal(number))\ndel thing",
    "an import that swallows it": "import swallowing",
    "an import that makes another of it": "import turning",
    "a call that makes another of it": "try: signal.raise_signal(number)\nexcept BaseException: raise ValueError",
}
MODULES = {
    "swallowing": "try: signal.raise_signal(number)\nexcept BaseException: pass",
    "turning": "try: signal.raise_signal(number)\nexcept BaseException: raise ImportError from None",
}


@pytest.mark.skipif(os.name == "nt", reason="interrupts a process the POSIX way")
@pytest.mark.parametrize(("end", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("amid", AMID)
def test_no_interrupt_is_lost(tmp_path: Path, end: signal.Signals, code: int, amid: str) -> None:
    head = f"import signal, time, weakref\nnumber = {int(end)}\n"
    for name, body in MODULES.items():
        (tmp_path / f"{name}.py").write_text(head + body)
    script = f"""{head}
from gbsep.cli import cli, main
@cli.command()
def rest():
    try:
{textwrap.indent(AMID[amid], " " * 8)}
        time.sleep(60)
    finally: print('tidy')
main(['rest'])
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout) == (code, "tidy\n"), done.stderr
    assert "Traceback" not in done.stderr


def test_a_butterworth_render_loads_neither_torch_nor_librosa(song: Path, tmp_path: Path) -> None:
    script = (
        "import sys\nfrom gbsep.cli import main\n"
        "try: main(['render', sys.argv[1], '-p', 'exp002', '-o', sys.argv[2]])\n"
        "except SystemExit as exit: assert not exit.code\n"
        "print([name for name in ('torch', 'librosa', 'demucs', 'matplotlib', 'numba') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script, song, tmp_path / "out"], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr


def test_help_loads_little(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom gbsep.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('numpy', 'pydantic', 'scipy', 'soundfile', 'rich') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr


def test_presets_of_one_name_do_not_share_a_folder(run: Any, song: Path) -> None:
    document = json.loads(run("presets", "show", "exp002").out)
    for path, cutoff_hz in (("a.json", 100.0), ("b.json", 300.0)):
        document["separate"]["cutoff_hz"] = cutoff_hz
        Path(path).write_text(json.dumps(document))
    result = run("render", "song.wav", "-p", "a.json", "-p", "b.json")
    assert result.code == 2
    assert "2 renders would land in gbsep-out/song/exp002" in result.err
    assert not Path("gbsep-out").exists()


def test_an_error_is_one_line_whatever_the_name(run: Any) -> None:
    result = run("render", "new\nline.wav", "-p", "exp002")
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert "new\\nline.wav" in result.err


def test_names_of_files_do_not_steer_the_terminal(run: Any, song: Path) -> None:
    """A line break, and the sequences that colour a terminal's text and change its title, as letters to be read."""
    name = "new\nline \x1b[31m\x1b]0;title\x07.wav"
    song.rename(song.with_name(name))
    for options in ((), ("--dry-run",), ("--overwrite", "--start", "9")):
        result = run("render", name, "-p", "exp002", *options)
        told = result.out + result.err
        assert not set(told) & {"\x1b", "\x07"}
        assert "new\\nline" in told
    (line,) = run("render", name, "-p", "exp002", "--json").out.splitlines()
    assert json.loads(line)["input"] == name
    (render,) = Path("gbsep-out").rglob("render.json")
    for words in (
        ("evaluate", "gbsep-out", "--reference", str(render.parent)),
        ("diagnose", "gbsep-out"),
        ("log", "gbsep-out", "--log", f"{name}.md"),
        ("report", "gbsep-out", "--html", f"{name}.html"),
    ):
        result = run(*words)
        assert result.code == 0
        assert not set(result.out + result.err) & {"\x1b", "\x07"}
        assert "new\\nline" in result.out
