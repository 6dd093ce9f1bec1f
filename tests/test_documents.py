"""The documents say what is so: commands and options in both READMEs exist, and every preset is named."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path

import click
import pytest

from gbsep.cli import cli
from gbsep.preset.names import preset_names

ROOT = Path(__file__).parents[1]


def commands(document: Path) -> list[list[str]]:
    """Every `gbsep ...` line in the document's code blocks, as words."""
    blocks = re.findall(r"```[a-z]*\n(.*?)```", document.read_text(encoding="utf-8"), flags=re.S)
    lines = [line.removeprefix("$ ").strip() for block in blocks for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("gbsep ")]


READMES = ("README.md", "README.ko.md")


@pytest.mark.parametrize("name", READMES)
def test_commands_in_the_readme_exist(name: str) -> None:
    found = commands(ROOT / name)
    assert len(found) >= 5
    for words in found:
        command: click.Command = cli
        rest = words[1:]
        while isinstance(command, click.Group):
            assert rest, words
            assert rest[0] in command.commands, words
            command = command.commands[rest.pop(0)]
        known = {opt for option in command.params for opt in option.opts}
        for word in rest:
            if word.startswith("-") and len(word) > 1:
                assert word.split("=")[0] in known | {"--help"}, f"{word} in {words}"
        for flag, value in itertools.pairwise(rest):
            if flag in ("-p", "--preset") and not value.endswith(".json"):
                assert value in preset_names(), words


def test_both_readmes_show_the_same_commands() -> None:
    english, korean = (commands(ROOT / name) for name in READMES)
    assert english == korean


def test_the_readme_names_every_preset_and_backend() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    families = {re.sub(r"_\d{3,4}(_\w+)?$", "", name) for name in preset_names()}
    for name in families:
        assert f"`{name}`" in text, name
