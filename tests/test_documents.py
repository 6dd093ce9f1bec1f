"""The documents say what is so: their commands run, what they show is what is printed, their links lead somewhere."""

from __future__ import annotations

import importlib.util
import itertools
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

import gbsep
from gbsep.cli import cli
from gbsep.effects.table import EFFECTS
from gbsep.preset.names import preset_names

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import docs_blocks  # noqa: E402
import environment  # noqa: E402

DOCUMENTS = {page.relative_to(ROOT).as_posix(): page for page in docs_blocks.documents()}
TRANSLATED = sorted(name for name in DOCUMENTS if name.endswith(".ko.md"))
STORIES = [page.relative_to(ROOT).as_posix() for page in docs_blocks.stories()]
README_LINES = 150
PICTURE_BYTES = 200_000


def text_of(name: str) -> str:
    return DOCUMENTS[name].read_text(encoding="utf-8")


def commands(name: str) -> Iterator[list[str]]:
    """Every `gbsep ...` line in a document's blocks of commands, as words."""
    for block in docs_blocks.blocks(text_of(name)):
        if block.language == "sh":
            for line in block.content.splitlines():
                if line.startswith("gbsep "):
                    words = shlex.split(line, comments=True)
                    yield words[: words.index(">")] if ">" in words else words


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_and_options_exist(name: str) -> None:
    for words in commands(name):
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
                assert value in preset_names() or value == "warm", words


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_block_is_run_or_says_why_not(name: str) -> None:
    for block in docs_blocks.blocks(text_of(name)):
        assert block.language in docs_blocks.KNOWN, block
        assert block.note.split(":")[0] in ("", "not run", "file") or re.fullmatch(r"exits \d+", block.note), block
        assert block.note != "not run:", block
        if block.language == "json":
            json.loads(block.content)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_stand_in_fences(name: str) -> None:
    """What is indented by four spaces is a block as well, which nothing runs."""
    assert re.findall(r"^ {4,}(?:gbsep|python3) .*", re.sub(r"```.*?```", "", text_of(name), flags=re.S), re.M) == []


@pytest.mark.parametrize("name", TRANSLATED)
def test_a_translation_has_the_blocks_of_its_original(name: str) -> None:
    """All but pictures drawn in letters, which follow no command, and the reasons why something is not run."""
    pages = []
    for page in (docs_blocks.english(DOCUMENTS[name]), DOCUMENTS[name]):
        found = docs_blocks.blocks(page.read_text(encoding="utf-8"))
        before = ["", *(block.language for block in found)]
        pages.append([
            (block.language, block.is_run, block.file, block.code, block.content)
            for block, previous in zip(found, before, strict=False)
            if block.language != "text" or previous in docs_blocks.RUN
        ])  # fmt: skip
    assert pages[0] == pages[1]


def test_what_a_user_follows_is_there_in_korean() -> None:
    followed = [name for name in DOCUMENTS if re.match(r"docs/(tutorials|how-to)/|README|docs/index", name)]
    english = {name.removesuffix(".md") for name in followed if not name.endswith(".ko.md")}
    assert english - {name.removesuffix(".ko.md") for name in TRANSLATED} == set()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documents") / "prepared"
    docs_blocks.prepare(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", STORIES)
def test_a_page_runs_and_shows_what_is_printed(name: str, prepared: Path, tmp_path: Path) -> None:
    """`python3 scripts/docs --renew PAGE` writes what is printed now into a page."""
    folder = tmp_path / "page"
    shutil.copytree(prepared, folder)
    for step in docs_blocks.run(DOCUMENTS[name], folder):
        assert step.code == step.block.code, f"{step.block.content}\n{step.output}"
        if step.shown is not None:
            assert docs_blocks.differences(step.shown.content, step.output) == [], step.block.content


def test_an_output_may_differ_in_figures_alone() -> None:
    assert docs_blocks.differences("bass  +0.1 dB\nguitar 3 s\n", "bass    -12.0 dB\nguitar 4.5 s") == []
    assert docs_blocks.differences("bass 1\n...\n", "bass 1\nguitar 2\nresidual 3") == []
    assert docs_blocks.differences("bass 1\n", "bass 1\nguitar 2") != []
    assert docs_blocks.differences("bass ok\n", "bass failed") != []


@pytest.mark.parametrize("name", ["README.md", "README.ko.md"])
def test_a_readme_is_read_in_a_minute(name: str) -> None:
    assert len(text_of(name).splitlines()) <= README_LINES


def test_the_readmes_count_the_effects() -> None:
    assert f"{len(EFFECTS)} effects" in text_of("README.md")
    assert f"이펙트 {len(EFFECTS)}가지" in text_of("README.ko.md")


def test_the_picture_is_small() -> None:
    for picture in (ROOT / "docs" / "pictures").iterdir():
        assert 10_000 < picture.stat().st_size < PICTURE_BYTES, picture


def test_every_variable_is_documented() -> None:
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "gbsep").rglob("*.py"))
    documented = set(re.findall(r"GBSEP_[A-Z_]+[A-Z]", text_of("docs/reference/environment.md")))
    assert documented == set(re.findall(r"(?<!_)GBSEP_[A-Z_]+[A-Z]", sources))


def test_the_smallest_way_to_install_names_what_is_required() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^dependencies = \[(.*?)^\]", project, re.M | re.S)
    assert listed is not None
    required = {re.split(r"[^\w-]", text)[0] for text in re.findall(r'"([^"]+)"', listed[1])}
    block = next(one for one in docs_blocks.blocks(text_of("docs/how-to/install.md")) if "--no-deps" in one.content)
    words = shlex.split(block.content.replace("\\\n", " ").splitlines()[1])
    assert {re.split(r"[^\w-]", word)[0] for word in words[2:]} == required - set(environment.LARGE)


def test_every_exit_code_is_documented() -> None:
    told = re.findall(r"\b(\d+) [a-z]", cli.callback.__globals__["__doc__"].split("Exit codes:")[1])
    assert set(told) <= set(re.findall(r"^\| (\d+) \|", text_of("docs/reference/exit-codes.md"), re.M))


def test_every_public_name_of_the_package_is_documented() -> None:
    told = set(re.findall(r"^::: gbsep\.(\w+)$", text_of("docs/reference/python.md"), re.M))
    assert set(gbsep.__all__) - {"__version__"} == told


def test_the_table_of_presets_names_every_family() -> None:
    table = text_of("docs/reference/presets.md")
    for family in {re.sub(r"_\d{3,4}(_\w+)?$", "", name) for name in preset_names()}:
        assert f"`{family}`" in table, family


# The site


@pytest.fixture(scope="module")
def hooks() -> Any:
    pytest.importorskip("mkdocs", reason="no mkdocs: pip install gbsep[docs]")
    import docs_hooks

    return docs_hooks


def test_generated_pages_hold_all_that_there_is(hooks: Any) -> None:
    assert all(f"\n### gbsep {name}\n" in hooks.commands() for name in cli.commands)
    assert all(f"\n## {name}\n" in hooks.effects() for name in EFFECTS)
    assert all(f"| `{param.name}` |" in hooks.effects() for spec in EFFECTS.values() for param in spec.params)
    assert all(f"## {name}\n" in hooks.presets() for name in preset_names())
    assert all(key in hooks.preset_format() for key in ("`limit_db`", "`cutoff_hz`", "`on_failure`", "`mix_db`"))
    assert all(key in hooks.record() for key in ("`null_test`", "`restored_gain_db`", "`fingerprint`"))


def test_every_generated_part_has_its_place(hooks: Any) -> None:
    places = [place for name in DOCUMENTS for place in hooks.PLACE.findall(text_of(name))]
    assert sorted(places) == sorted(hooks.PARTS)


@pytest.fixture(scope="module")
def site() -> Path:
    """The built documentation; the build is strict, so it ends with 1 for a link or an anchor that leads nowhere."""
    missing = [name for name in ("mkdocs", "material", "mkdocs_static_i18n", "mkdocstrings")
               if importlib.util.find_spec(name) is None]  # fmt: skip
    if missing:
        pytest.skip(f"no {', '.join(missing)}: pip install gbsep[docs]")
    done = subprocess.run([sys.executable, ROOT / "scripts" / "docs"], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    return ROOT / "build" / "docs"


@pytest.mark.slow
def test_the_site_is_built_whole_and_in_both_languages(site: Path) -> None:
    assert "Ducker" in (site / "reference" / "effects.html").read_text(encoding="utf-8")
    assert "첫" in (site / "ko" / "tutorials" / "first-song.html").read_text(encoding="utf-8")
    assert "apply_chain" in (site / "reference" / "python.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_page_asks_nothing_of_any_host(site: Path) -> None:
    api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install gbsep[dev]")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium: install it (apt-get install chromium) to open the site for real")
    asked: list[str] = []
    with api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path)
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        for place in ("index.html", "ko/index.html", "reference/commands.html"):
            page.goto((site / place).as_uri())
            page.wait_for_load_state("networkidle")
            assert page.locator("h1").first.is_visible()
        browser.close()
    assert asked
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []


def anchors(text: str) -> set[str]:
    """Names by which headings are linked to, as GitHub makes them."""
    bare = re.sub(r"```.*?```", "", text, flags=re.S)
    headings = re.findall(r"^#+ (.+)$", bare, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", [name for name in DOCUMENTS if not name.startswith("docs/")])
def test_links_lead_somewhere(name: str) -> None:
    """Those of documents beside the site, which the strict build does not see."""
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(name)):
        if "://" not in link:
            place, _, anchor = link.partition("#")
            target = (DOCUMENTS[name].parent / place).resolve() if place else DOCUMENTS[name]
            assert target.exists(), link
            assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), link
