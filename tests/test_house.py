"""Rules of the house: layers, what is imported where, and words that must not drift apart."""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import gbsep
from gbsep.cli import cli
from gbsep.preset.load import preset_names
from gbsep.rendering.run import Options

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "gbsep"

LAYERS = (
    {"errors", "version", "arguments", "privacy", "audio", "params", "schema", "__init__"},
    {"io", "store", "plugins", "effects", "models", "measure", "separation", "shelf"},
    {"preset", "train", "demo"},
    {"rendering"},
    {"batch", "report", "session", "doctor"},
    {"cli", "__main__"},
)
HEAVY = {
    "torch", "librosa", "demucs", "matplotlib", "sklearn", "pedalboard", "openvino", "onnxruntime", "av", "distributed",
    "dask", "fsspec",
}  # fmt: skip
ONLY_IN = {
    "soundfile": {"io"},
    "soxr": {"io"},
    "pyloudnorm": {"measure"},
    "rpp": {"session"},
    "click": {"cli"},
    "rich": {"cli"},
}

MODULES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    """The room of a module: `separation` for all of gbsep/separation/."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path, top_level_only: bool = False) -> Iterator[str]:
    """Dotted names of what a module imports, those of gbsep as `gbsep.<room>`, without what is for type checkers."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside_functions = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        for child in ast.walk(node)
    }
    for_checkers = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in ast.walk(node)
    }
    package = ("gbsep", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(tree):
        if id(node) in for_checkers or (top_level_only and id(node) in inside_functions):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1])
            module = f"{base}.{node.module}" if node.module else base
            yield from ([module] if module != "gbsep" else [f"gbsep.{alias.name}" for alias in node.names])


def layer(name: str) -> int:
    return next(number for number, rooms in enumerate(LAYERS) if name in rooms)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downward(path: Path) -> None:
    own = layer(room(path))
    for name in imports(path):
        if name.startswith("gbsep."):
            other = name.split(".")[1]
            assert layer(other) <= own, f"{path.name} imports {name} from a higher layer"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_libraries_are_imported_where_they_are_needed(path: Path) -> None:
    assert not {name.split(".")[0] for name in imports(path, top_level_only=True)} & HEAVY


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_each_library_has_one_user(path: Path) -> None:
    for library in {name.split(".")[0] for name in imports(path)} & set(ONLY_IN):
        assert room(path) in ONLY_IN[library], f"{path.name} imports {library}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_command_line_prints_or_exits(path: Path) -> None:
    if room(path) == "cli":
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in ("print", "sys.exit", "exit", "os._exit"), f"{path.name}:{node.lineno}"


def test_public_names_have_docstrings() -> None:
    for name in gbsep.__all__:
        if name != "__version__":
            assert inspect.getdoc(getattr(gbsep, name)), name


def test_the_command_line_has_the_defaults_of_the_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GBSEP_MODELS")
    given = cli.commands["render"].make_context("render", ["song.wav"], obj={"debug": False}).params
    given["use_cache"], given["download"] = not given["no_cache"], not given["dry_run"]
    for name, field in Options.__dataclass_fields__.items():
        assert str(field.default) == str(given[name]), name
    assert inspect.signature(gbsep.render).parameters["out"].default == str(given["out"])
    assert inspect.signature(gbsep.render).parameters["preset"].default == "default"


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
