"""Rules of the house: which way imports go, what is imported where, and how long things may be."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import gbsep
from gbsep.cli import cli
from gbsep.rendering import Options

PACKAGE = Path(__file__).parents[1] / "gbsep"

FLOORS = (
    {"errors", "version"},
    {"arguments", "privacy", "params", "schema", "stemnames", "atomic"},
    {"audio"},
    {"io"},
    {"store"},
    {"plugins"},
    {"models"},
    {"effects"},
    {"measure"},
    {"separation"},
    {"preset"},
    {"shelf"},
    {"train", "demo"},
    {"notes"},
    {"rendering"},
    {"batch", "report", "session", "doctor"},
    {"studio"},
    {"cli"},
    {"__init__", "__main__"},
)
"""Rooms from the ground up. A room imports from floors below its own; neighbours know nothing of each other."""

SIDEWAYS: set[tuple[str, str]] = set()
"""Arrows between neighbours that are wanted all the same."""

SUB_ROOMS = {
    ("plugins", "plugins.worker"): "what both ends of the pipe to a plug-in's process agree on",
    ("separation.guitars", "separation.compact"): "a network of the same kind tells chords from a line",
    ("separation.msst", "separation.demucs"): "HTDemucs trained again is built as any Demucs network",
}
"""Arrows between the rooms inside a room."""

HEAVY = {
    "torch", "librosa", "demucs", "matplotlib", "sklearn", "pedalboard", "openvino", "onnxruntime", "av", "distributed",
    "dask", "fsspec",
}  # fmt: skip
ONLY_IN = {
    "soundfile": {"io"},
    "soxr": {"io"},
    "filelock": {"store"},
    "pyloudnorm": {"measure"},
    "rpp": {"session"},
    "mido": {"notes"},
    "guitarpro": {"notes"},
    "mir_eval": {"notes"},
    "starlette": {"studio"},
    "uvicorn": {"studio"},
    "click": {"cli"},
    "rich": {"cli"},
}

MODULE_LINES = 400
FUNCTION_LINES = 60
REASON = re.compile(r"\bLong because\b")
"""A sentence in the docstring of a longer module says why it is not split."""

TEST_LINES = 600
TESTS = Path(__file__).parent

PRIVATE = re.compile("_[a-z][a-z0-9_]*")
BOUND_BY_TESTS: dict[str, tuple[str, str]] = {
    "batch.cluster": ("_check_versions _results", "a cluster whose members differ or die cannot be had at will"),
    "models.package": ("_fraction", "numbers of a hostile file, one by one"),
    "separation.compact.backend": ("_song", "what is known of a song before it is separated"),
    "separation.compact.network": ("_harmonic_maps", "a map whose entries are known beforehand"),
    "separation.compute": ("_may_have_cuda _may_have_mps", "processors that this machine lacks"),
    "separation.demucs.backend": ("_batch", "how many segments go at once, which changes no result"),
    "separation.demucs.export": ("_export", "an export that fails or takes long"),
    "shelf.remote": ("_system", "that no server is asked"),
    "train.finetune": ("_batch _places", "what a step of training sees"),
    "train.generator": ("_revoiced _snapped _touched _voice", "one sound of a song at a time"),
    "train.instruments": ("_midi_file", "its bytes are a standard's"),
    "train.loop": ("_orthogonal _update", "a step whose result is known in closed form"),
    "train.mixing": ("_driven _playing", "one change of a mixture at a time"),
    "train.objective": ("_ratio_db", "a figure whose value is known in closed form"),
}
"""Private names that tests use, by module, with the reason why what is public will not do."""


def dotted(path: Path) -> str:
    """`io.read` for gbsep/io/read.py, `io` for gbsep/io/__init__.py, `__init__` for that of gbsep."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {dotted(path): path for path in sorted(PACKAGE.rglob("*.py"))}
FACES = {name: path for name, path in MODULES.items() if path.name == "__init__.py" and name != "__init__"}


@cache
def parsed(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def inside(name: str, kinds: tuple[type[ast.AST], ...]) -> set[int]:
    """Identities of all nodes inside those of some kinds; of an `if`, only inside `if TYPE_CHECKING`."""
    return {
        id(child)
        for node in ast.walk(parsed(name))
        if isinstance(node, kinds) and (not isinstance(node, ast.If) or "TYPE_CHECKING" in ast.unparse(node.test))
        for child in ast.walk(node)
    }


def imported(name: str, *left_out: type[ast.AST], running: bool = True) -> Iterator[tuple[str, str]]:
    """(module, name in it or "") of each import: `gbsep.io.read`, `open`. Modules are named in full.

    Of those that run, if not otherwise said: without what stands below `if TYPE_CHECKING`.
    """
    package = ("gbsep", *MODULES[name].relative_to(PACKAGE).parent.parts)
    skipped = inside(name, (ast.If, *left_out) if running else left_out)
    for node in ast.walk(parsed(name)):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                whole = f"{module}.{alias.name}"
                yield (whole, "") if whole.removeprefix("gbsep.") in MODULES else (module, alias.name)


@cache
def arrows() -> Mapping[str, frozenset[str]]:
    """Modules of gbsep that each module of gbsep imports, inside functions too."""
    return {
        name: frozenset(
            other.removeprefix("gbsep.") for other, _ in imported(name) if other.startswith("gbsep.")
        ) - {name}
        for name in MODULES
    }  # fmt: skip


def room(name: str) -> str:
    return name.split(".")[0]


def sub_room(name: str) -> str:
    """The innermost package of a module: `plugins.worker`; a module at the top is a room of its own."""
    return name if name in FACES or "." not in name else name.rpartition(".")[0]


def grouped(by: Mapping[str, str]) -> dict[str, set[str]]:
    """Arrows between groups of modules, without those inside a group."""
    found: dict[str, set[str]] = {}
    for name, others in arrows().items():
        found.setdefault(by[name], set()).update(by[other] for other in others if by[other] != by[name])
    return found


def floor(name: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if name in rooms)


def test_every_room_has_a_floor() -> None:
    rooms = {room(name) for name in MODULES}
    assert rooms - set().union(*FLOORS) == set()
    assert [name for rooms in FLOORS for name in rooms if FLOORS.index(rooms) != floor(name)] == []


def test_imports_go_downward() -> None:
    crossing = {(room(name), room(other)) for name, others in arrows().items() for other in others}
    upward = {(a, b) for a, b in crossing if floor(b) > floor(a)}
    assert upward == set()


def test_neighbours_import_each_other_only_where_it_is_listed() -> None:
    crossing = {(room(name), room(other)) for name, others in arrows().items() for other in others}
    assert {(a, b) for a, b in crossing if a != b and floor(b) == floor(a)} == SIDEWAYS


def test_rooms_inside_a_room_import_each_other_only_where_it_is_listed() -> None:
    """What lies in a sub-room may import its own room; other arrows are listed."""
    crossing = {(a, b) for a, others in grouped({name: sub_room(name) for name in MODULES}).items() for b in others}
    inner = {(a, b) for a, b in crossing if room(a) == room(b) and not a.startswith(f"{b}.")}
    assert inner == set(SUB_ROOMS)


@pytest.mark.parametrize("grain", [str, sub_room, room])
def test_there_is_no_circle(grain: object) -> None:
    assert callable(grain)
    graph = grouped({name: grain(name) for name in MODULES})
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"circle: {' -> '.join(error.args[1])}")


def test_a_face_holds_no_logic() -> None:
    """The `__init__` of a room says what the room is and imports what it shows."""
    for name in FACES:
        docstring, *rest = parsed(name).body
        assert ast.get_docstring(parsed(name)), name
        assert isinstance(docstring, ast.Expr), name
        for node in rest:
            ok = isinstance(node, (ast.Import, ast.ImportFrom)) or ast.unparse(node).startswith("__all__ =")
            assert ok, f"{name}/__init__.py:{node.lineno}"


def shown(face: str) -> set[str]:
    """The names that a room's face imports to show them."""
    return {
        alias.asname or alias.name
        for node in parsed(face).body
        if isinstance(node, ast.ImportFrom) and node.module != "__future__"
        for alias in node.names
    }


def test_what_a_room_shows_is_imported_from_its_face() -> None:
    """One way to each name: `from ..batch import plan`, not `from ..batch.planning import plan`."""
    around = [
        f"{name}: {what} of {other}"
        for name in MODULES
        for other, what in imported(name)
        if other.startswith("gbsep.") and room(name) != room(other.removeprefix("gbsep."))
        if (face := room(other.removeprefix("gbsep."))) != other.removeprefix("gbsep.")
        if face in FACES and what in shown(face)
    ]
    assert around == []


def defined(name: str) -> set[str]:
    """The names that a module binds outside its functions and classes."""
    below = {
        id(child)
        for node in ast.walk(parsed(name))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda))
        for child in ast.walk(node)
        if child is not node
    }
    found: set[str] = set()
    for node in ast.walk(parsed(name)):
        if id(node) in below:
            continue
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


def test_what_is_imported_is_there() -> None:
    """Also below `if TYPE_CHECKING` and inside functions, where a name that is gone would be missed only in use."""
    known = {f"gbsep.{name}" for name in MODULES} | {"gbsep"}
    missing = [
        f"{name}: {what} of {other}"
        for name in MODULES
        for other, what in imported(name, running=False)
        if other.split(".")[0] == "gbsep"
        if other not in known
        or (what and what not in defined(other.removeprefix("gbsep.").replace("gbsep", "__init__")))
    ]
    assert missing == []


def test_private_names_stay_in_their_module() -> None:
    found = {
        f"{name}: {what} of {other}"
        for name in MODULES
        for other, what in imported(name)
        if other.startswith("gbsep.") and (what or other.rpartition(".")[2]).startswith("_")
        if not re.fullmatch("__[a-z]+__", what)
    }
    assert found == set()


def bound_by_tests(path: Path) -> Iterator[str]:
    """The private names of gbsep that a file of tests uses: `train.loop._update`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "gbsep":
            for alias in node.names:
                whole = f"{node.module}.{alias.name}".removeprefix("gbsep.")
                if whole in MODULES:
                    modules[alias.asname or alias.name] = whole
                elif PRIVATE.fullmatch(alias.name):
                    yield whole
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and PRIVATE.fullmatch(node.attr):
            if node.value.id in modules:
                yield f"{modules[node.value.id]}.{node.attr}"
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("setattr"):
            target, *more = [
                argument.value if isinstance(argument, ast.Constant) else modules.get(ast.unparse(argument))
                for argument in node.args[:2]
            ]
            dotted_name = f"{target}.{more[0]}" if more and target in MODULES else str(target).removeprefix("gbsep.")
            if dotted_name.rpartition(".")[0] in MODULES and PRIVATE.fullmatch(dotted_name.rpartition(".")[2]):
                yield dotted_name


def test_tests_use_private_names_only_where_it_is_listed() -> None:
    found = {name for path in TESTS.rglob("*.py") for name in bound_by_tests(path)}
    assert found == {f"{module}.{name}" for module, (names, _) in BOUND_BY_TESTS.items() for name in names.split()}


def test_heavy_libraries_are_imported_where_they_are_needed() -> None:
    at_once = {
        (name, other.split(".")[0])
        for name in MODULES
        for other, _ in imported(name, ast.FunctionDef, ast.AsyncFunctionDef)
    }
    assert {(name, library) for name, library in at_once if library in HEAVY} == set()


def test_each_library_has_one_user() -> None:
    used = {(room(name), other.split(".")[0]) for name in MODULES for other, _ in imported(name)}
    assert {(user, library) for user, library in used if user not in ONLY_IN.get(library, {user})} == set()


def test_only_the_command_line_prints_or_exits() -> None:
    ending = ("print", "sys.exit", "exit", "os._exit")
    found = [
        f"{name}:{node.lineno}"
        for name in MODULES
        if room(name) != "cli"
        for node in ast.walk(parsed(name))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ending
    ]
    assert found == []


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_a_long_module_says_why() -> None:
    """A short one says no such thing."""
    long = {name for name, path in MODULES.items() if lines(path) > MODULE_LINES}
    saying = {name for name in MODULES if REASON.search(ast.get_docstring(parsed(name)) or "")}
    assert saying == long


def test_no_script_of_the_page_is_long() -> None:
    assert [path.name for path in PACKAGE.rglob("*.mjs") if lines(path) > MODULE_LINES] == []


def test_no_file_of_tests_is_long() -> None:
    """Nor has one a reason to be: a subject that grows is split."""
    assert {path.name for path in TESTS.rglob("*.py") if lines(path) > TEST_LINES} == set()


def test_functions_are_short() -> None:
    long = {
        f"{name}.{node.name}"
        for name in MODULES
        for node in ast.walk(parsed(name))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        if (node.end_lineno or node.lineno) - node.lineno + 1 > FUNCTION_LINES
    }
    assert long == set()


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
