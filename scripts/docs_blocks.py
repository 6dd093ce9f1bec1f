"""Blocks of code in the documents: found, run in order in a folder of their own, and their outputs compared or renewed.

A page is a story: its `sh` and `python` blocks run one after the other in one folder, where some files lie already
(`prepare`). Of a `sh` block every line is one command. What a command prints stands in the `text` block that follows
right after it, with any figures; a line of three dots stands for any lines. A comment before a block says more:

    <!-- not run: it runs until it is stopped -->     why a block is not run
    <!-- file: mine.json -->                          the block is this file, for the commands that follow
    <!-- exits 1 -->                                  how its last command ends

A Korean page has the blocks of the English one, which are run there.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUN = ("sh", "python")
KNOWN = (*RUN, "text", "json", "csv", "markdown")
FENCE = re.compile(r"(?:^<!-- (?P<note>[^\n]*?) -->\n\n?)?^```(?P<language>[^\n]*)\n(?P<content>.*?)^```$", re.M | re.S)
TIMEOUT_S = 500
SONGS = (("one", 12, 0), ("two", 6, 1), ("three", 6, 2))
"""Demo songs: name, seconds, seed."""


@dataclass(frozen=True)
class Block:
    """A fenced block: where its content begins and ends in the page, and the note in the comment before it."""

    language: str
    content: str
    note: str
    start: int
    end: int

    @property
    def is_run(self) -> bool:
        return self.language in RUN and not self.note.startswith("not run: ")

    @property
    def file(self) -> str:
        return self.note.removeprefix("file: ") if self.note.startswith("file: ") else ""

    @property
    def code(self) -> int:
        return int(self.note.removeprefix("exits ")) if self.note.startswith("exits ") else 0


@dataclass(frozen=True)
class Step:
    """A block that was run: how it ended, what it printed, and the block of its output, if the page shows it."""

    block: Block
    code: int
    output: str
    shown: Block | None


def documents() -> list[Path]:
    """The documents whose blocks hold: READMEs and everything below docs/, English before Korean."""
    others = [ROOT / name for name in ("README.md", "README.ko.md", "CONTRIBUTING.md", "training/README.md")]
    return [*others, *sorted((ROOT / "docs").rglob("*.md"))]


def english(page: Path) -> Path:
    """The page that a page translates; an English one is its own."""
    return page.with_name(page.name.replace(".ko.md", ".md"))


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return [
        Block(found["language"], found["content"], found["note"] or "", found.start("content"), found.end("content"))
        for found in FENCE.finditer(text)
    ]


def stories() -> list[Path]:
    """The pages with something to run."""
    pages = [page for page in documents() if page == english(page)]
    return [page for page in pages if any(block.is_run for block in blocks(page.read_text(encoding="utf-8")))]


def prepare(folder: Path) -> None:
    """Files that a page may speak of: a song, an album, true stems."""
    from gbsep.demo import write_demo

    parts = {name: write_demo(folder / name, seconds, seed=seed) for name, seconds, seed in SONGS}
    (folder / "stems").mkdir()
    (folder / "album").mkdir()
    for number, files in enumerate(parts.values(), 1):
        shutil.copy(files["mixture"], folder / "album" / f"{number:02}.wav")
    for stem in ("bass", "guitar"):
        shutil.copy(parts["one"][stem], folder / "stems")
    shutil.copy(parts["one"]["mixture"], folder / "song.wav")
    for name in parts:
        shutil.rmtree(folder / name)


def run(page: Path, folder: Path) -> list[Step]:
    """Run a page's blocks in a folder, one after the other, in one process of their own."""
    home = folder.parent / f"{folder.name}-home"
    places = {f"GBSEP_{name}": str(home / name.lower()) for name in ("CONFIG", "CACHE", "HOME", "STATE", "MODELS")}
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, **places, "COLUMNS": "110", "PYTHONIOENCODING": "utf-8", "PYTHONPATH": paths}
    results = home / "results.jsonl"
    home.mkdir()
    done = subprocess.run(
        [sys.executable, __file__, str(page), str(results)],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr)
    found = blocks(page.read_text(encoding="utf-8"))
    steps = []
    for line in results.read_text(encoding="utf-8").splitlines():
        number, code, output = json.loads(line)
        following = found[number + 1] if number + 1 < len(found) else None
        shown = following if following is not None and following.language == "text" else None
        steps.append(Step(found[number], code, output, shown))
    return steps


def _run_here(page: Path, results: Path) -> None:
    """What the process of `run` does."""
    for number, block in enumerate(blocks(page.read_text(encoding="utf-8"))):
        if block.file:
            Path(block.file).write_text(block.content, encoding="utf-8")
        elif block.is_run:
            code, output = _run_block(block)
            with results.open("a", encoding="utf-8") as file:
                file.write(json.dumps([number, code, output]) + "\n")


def _run_block(block: Block) -> tuple[int, str]:
    """How the last command of a block ends, and what all of them print."""
    if block.language == "python":
        return _call(lambda: exec(compile(block.content, "page", "exec"), {"__name__": "__main__"}))
    code, outputs = 0, []
    for line in block.content.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        if words[0] != "gbsep":
            raise ValueError(f"only gbsep is run: {line}")
        target = words.index(">") if ">" in words else len(words)
        code, output = _call(lambda given=words[1:target]: _gbsep(given))
        if target < len(words) and not code:
            Path(words[target + 1]).write_text(output, encoding="utf-8")
        else:
            outputs.append(output)
        if code:
            break
    return code, "\n".join(filter(None, outputs))


def _gbsep(words: list[str]) -> None:
    from gbsep.cli.command import main

    main(words)


def _call(what: Callable[[], None]) -> tuple[int, str]:
    """Exit code and output, also that of processes which a call starts."""
    code, kept = 0, [os.dup(1), os.dup(2)]
    with tempfile.TemporaryFile() as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
        try:
            what()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, old in zip((1, 2), kept, strict=True):
                os.dup2(old, number)
                os.close(old)
        file.seek(0)
        text = file.read().decode("utf-8", "replace").replace(str(Path.cwd()), "~")
        lines = [line.rstrip() for line in text.splitlines()]
    return code, "\n".join(lines).strip("\n")


def differences(shown: str, output: str) -> list[str]:
    """Where an output is not as a page shows it: figures may differ, and so may spaces and rules in a table.

    Lines may come in another order, for songs that are rendered side by side do; not where dots stand for some.
    """
    wanted, got = (list(filter(None, map(_skeleton, text.splitlines()))) for text in (shown, output))
    pattern = "".join(r"(?:.*\n)*" if line == "..." else _dotted(line) + r"\n" for line in wanted)
    if sorted(wanted) == sorted(got) or re.fullmatch(pattern, "".join(f"{line}\n" for line in got)):
        return []
    return list(difflib.unified_diff(wanted, got, "page", "output", lineterm="", n=0))


def _dotted(line: str) -> str:
    return r".*".join(map(re.escape, line.split("...")))


def _skeleton(line: str) -> str:
    """A line without its figures, with single spaces; of one that tells how far a batch is, that it does."""
    if re.search(r"\(\d+ of \d+(?:, [^)]*)?\)$", line):
        return "progress"
    line = re.sub(r"-{2,}|[─━]+", " ", line)
    line = re.sub(r"[-+]?\d+(?:[.:]\d+)*", "0", line)
    return " ".join(re.sub(r"(?:0 h )?0 min 0 s|0 min", "0 s", line).split())


def renew(page: Path, folder: Path) -> bool:
    """Write what the commands of a page print now into it and its translation; whether anything changed.

    A block stays where only a figure differs, and where its dots still hold.
    """
    new: dict[int, str] = {}
    for step in run(page, folder):
        if step.code != step.block.code:
            sys.exit(f"{page}: exit code {step.code} of\n{step.block.content}\n{step.output}")
        if step.shown is not None and differences(step.shown.content, step.output):
            new[blocks(page.read_text(encoding="utf-8")).index(step.shown)] = f"{step.output}\n"
    for place in (page, page.with_name(f"{page.stem}.ko.md")):
        if new and place.is_file():
            text = place.read_text(encoding="utf-8")
            for number, block in reversed(list(enumerate(blocks(text)))):
                text = text[: block.start] + new.get(number, block.content) + text[block.end :]
            place.write_text(text, encoding="utf-8")
    return bool(new)


if __name__ == "__main__":
    _run_here(Path(sys.argv[1]), Path(sys.argv[2]))
