"""What the command line says of itself: every help, completion in shells, the list of effects."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from gbsep.cli import cli
from gbsep.cli.helping import MANY_OPTIONS, OPTION_GROUPS
from gbsep.effects import guide
from gbsep.effects.parse import parse_chain
from gbsep.effects.table import EFFECTS

from .helpers import exit_code

WIDTH = 80


def walk(command: click.Command, above: click.Context | None = None, name: str = "gbsep") -> Iterator[click.Context]:
    context = command.context_class(command, info_name=name, parent=above, **command.context_settings)
    yield context
    for name, inner in command.commands.items() if isinstance(command, click.Group) else ():
        yield from walk(inner, context, name)


def helps() -> dict[str, click.Context]:
    return {context.command_path: context for context in walk(cli)}


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))


@pytest.mark.parametrize("path", helps())
def test_a_help_fits_says_all_and_shows_how(path: str) -> None:
    text = click.unstyle(helps()[path].get_help())
    usage, *rest = text.splitlines()
    assert usage.startswith(f"Usage: {path} ")
    assert [line for line in rest if len(line) > WIDTH - 1] == []
    assert [line for line in rest if line.rstrip().endswith("...")] == []
    assert text.isascii()
    examples = [line.strip() for line in rest if line.startswith("  gbsep ")]
    assert examples, "no example"
    assert any(example.startswith(path) for example in examples)


@pytest.mark.parametrize("path", helps())
def test_every_option_says_what_it_is_for(path: str) -> None:
    told = [option for option in helps()[path].command.params if isinstance(option, click.Option)]
    assert [option.name for option in told if not option.hidden and not option.help] == []


def test_commands_stand_in_sections_and_options_in_groups() -> None:
    sections = {section.title: list(section.commands) for section in cli._user_sections}
    assert list(sections) == ["Everyday", "Research", "DAW", "Manage"]
    assert sections["Everyday"] == ["render", "studio", "watch", "compare", "review"]
    assert {name for names in sections.values() for name in names} == set(cli.commands)
    known = {opt for context in helps().values() for option in context.command.params for opt in option.opts}
    assert {name for names in OPTION_GROUPS.values() for name in names} <= known
    titles = [line for line in helps()["gbsep render"].get_help().splitlines() if line and not line.startswith(" ")]
    shown = [click.unstyle(title).rstrip(":") for title in titles[1:]]
    assert shown == ["Options", *OPTION_GROUPS]
    few = [context for context in helps().values() if len(context.command.params) <= MANY_OPTIONS]
    assert all("Expert:" not in context.get_help() for context in few)


def test_a_help_is_plain_in_a_pipe_whatever_the_code_page() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict", "COLUMNS": str(WIDTH)}
    done = subprocess.run([sys.executable, "-m", "gbsep", "render", "--help"], capture_output=True, env=environment)
    assert done.returncode == 0
    assert b"\x1b" not in done.stdout
    assert b"Excerpt:" in done.stdout


def completed(line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """What bash is told to complete the last word of a line with."""
    words = line.split(" ")
    monkeypatch.setenv("_GBSEP_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    assert exit_code() == 0
    return {row.partition(",")[2] for row in capsys.readouterr().out.splitlines()}


@pytest.mark.parametrize(
    ("line", "among"),
    [
        ("gbsep re", {"render", "report", "review"}),
        ("gbsep render -p minus", {"minus_bass", "minus_guitar"}),
        ("gbsep render --out x --preset exp005_", {"exp005_1", "exp005_1_fast"}),
        ("gbsep presets show defa", {"default"}),
        ("gbsep presets new warm --from exp001", {"exp001"}),
        ("gbsep models get htdemucs_6", {"htdemucs_6s"}),
        ("gbsep effects show Comp", {"Compressor"}),
        ("gbsep chain x.wav -p minus_bass --stem m", {"minus_bass"}),
        ("gbsep completion z", {"zsh"}),
        ("gbsep render --dev", {"--device"}),
    ],
)
def test_shells_complete_names(
    line: str, among: set[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert completed(line, monkeypatch, capsys) == among


def test_stems_of_a_preset_that_extends_another_are_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GBSEP_CONFIG", str(tmp_path))
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "mine.json").write_text('{"extends": "default", "stems": {"low": {"from": ["bass"]}}}')
    (tmp_path / "presets" / "circle.json").write_text('{"extends": "circle2"}')
    (tmp_path / "presets" / "circle2.json").write_text('{"extends": "circle"}')
    assert completed("gbsep chain x.wav -p mine --stem ", monkeypatch, capsys) == {"low", "bass", "guitar"}
    assert "bass" in completed("gbsep chain x.wav -p circle --stem ", monkeypatch, capsys)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell_is_one(shell: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert exit_code("completion", shell) == 0
    script = capsys.readouterr().out
    assert "_GBSEP_COMPLETE" in script
    if program := shutil.which(shell):
        path = tmp_path / "script"
        path.write_text(script)
        assert subprocess.run([program, "-n", str(path)]).returncode == 0


def test_completing_loads_nothing_heavy() -> None:
    code = (
        "import os, sys\n"
        "os.environ |= {'_GBSEP_COMPLETE': 'bash_complete', 'COMP_WORDS': 'gbsep render -p ex', 'COMP_CWORD': '3'}\n"
        "from gbsep.cli import main\n"
        "try: main([])\n"
        "except SystemExit: pass\n"
        "print(sorted({'numpy', 'torch', 'scipy', 'pydantic', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr


@pytest.mark.parametrize("name", guide.ALL)
def test_every_effect_is_shown_with_an_example_that_works(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("effects", "show", name.lower()) == 0
    text = capsys.readouterr().out
    assert json.dumps(guide.example(name)) in text
    (node,) = parse_chain([guide.example(name)])
    for param in EFFECTS[name].params if name in EFFECTS else ():
        assert param.name in text
    if name in EFFECTS:
        assert node.name == name
    assert exit_code("effects", "show", name, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["example"]["effect"] == name
    assert {row["name"] for row in told["parameters"]} >= {"wet"}


def test_effects_are_listed_and_a_misspelt_one_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("effects", "list", "--json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["name"] for row in rows] == sorted([*EFFECTS, "Parallel", "Plugin"])
    assert exit_code("effects", "show", "EQ") == 0
    assert "PeakFilter: equalizer" in capsys.readouterr().out
    assert exit_code("effects", "show", "Compresor") == 2
    assert "did you mean 'Compressor'?" in capsys.readouterr().err
