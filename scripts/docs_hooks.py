"""What the documentation makes of the code each time it is built, so that it cannot go stale.

A page holds a line such as `{{ effects }}`; MkDocs calls `on_page_markdown`, which puts a part of PARTS in its place.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import click

from gbsep.cli import cli
from gbsep.effects.table import EFFECTS, EffectSpec
from gbsep.params import Param
from gbsep.preset.load import load_preset
from gbsep.preset.names import preset_names
from gbsep.preset.schema import preset_schema
from gbsep.separation.backend import BACKENDS
from gbsep.shelf.record import Record

PLACE = re.compile(r"^\{\{ (\w+) \}\}$", re.M)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill the places of a page. KeyError for one that no part is for."""
    return PLACE.sub(lambda found: PARTS[found[1]](), markdown)


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    head = list(header)
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def code(text: Any) -> str:
    return f"`{text}`"


def commands() -> str:
    """Every command with its options, in the sections of the help, after a table of them."""
    parts = [prose(cli)]
    for title, listed in sections():
        rows = [[f"[{name}](#gbsep-{name})", plain(command.get_short_help_str(200))] for name, command in listed]
        parts.extend([f"**{title}**", table(["command", "what it does"], rows)])
    for title, listed in sections():
        parts.append(f"## {title}")
        for name, command in listed:
            parts.extend(_command(["gbsep", name], command, "###"))
    return "\n\n".join(parts)


def sections() -> list[tuple[str, list[tuple[str, click.Command]]]]:
    """The commands as `gbsep --help` lists them."""
    found = cli.list_sections(click.Context(cli))
    return [(section.title, [pair for pair in section.list_commands() if not pair[1].hidden]) for section in found]


def _command(words: list[str], command: click.Command, marks: str) -> Iterator[str]:
    """Heading, usage, help and options of a command, and below it its subcommands."""
    context = click.Context(command, info_name=" ".join(words))
    yield f"{marks} {' '.join(words)}"
    yield f"```text\n{' '.join([*words, *command.collect_usage_pieces(context)])}\n```"
    yield prose(command)
    groups = [(group.title.lower(), group.options) for group in getattr(command, "option_groups", [])]
    for title, options in groups or [("option", command.get_params(context))]:
        records = [
            record for option in options if (record := option.get_help_record(context)) and option.name != "help"
        ]
        if records:
            yield table([title, "what it does"], [[code(names), plain(text)] for names, text in records])
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from _command([*words, name], inner, f"{marks}#")


def prose(command: click.Command) -> str:
    r"""The help of a command as Markdown; lines that click leaves as they are (after \b) become a block of code."""
    parts = re.split(r"\n\s*\n", inspect.cleandoc(click.unstyle(command.help or "")))
    made = []
    for part in parts:
        lines = part.removeprefix("\b").strip("\n")
        is_code = part.startswith("\b") and not lines.startswith("Exit codes:")
        made.append(f"```text\n{lines}\n```" if is_code else plain(lines))
    return "\n\n".join(made)


def plain(text: str) -> str:
    """Text as Markdown that says the same: braces, stars and angle brackets as they are, but for those in code."""
    parts = " ".join(text.split()).split("`")
    parts[::2] = [re.sub(r"([<>*_{}\[\]])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)


def effects() -> str:
    """Every effect with its parameters, after a list of them."""
    listed = ", ".join(f"[{name}](#{name.lower()})" for name in EFFECTS)
    return "\n\n".join([listed, *map(_effect, EFFECTS.values())])


def _effect(spec: EffectSpec) -> str:
    notes = [f"{spec.summary[:1].upper()}{spec.summary[1:]}."]
    if not spec.streams:
        notes.append("It needs the whole stem at once, so its memory grows with the song.")
    if spec.sample_rates:
        notes.append(f"It works at {', '.join(f'{rate}' for rate in spec.sample_rates)} Hz.")
    rows = [_parameter(param) for param in spec.params]
    header = ["parameter", "range", "unit", "default", "automation"]
    return f"## {spec.name}\n\n{' '.join(notes)}" + (f"\n\n{table(header, rows)}" if rows else "")


def _parameter(param: Param) -> list[str]:
    if param.kind in ("float", "int"):
        span = f"{param.low:g} to {param.high:g}" + (", whole numbers" if param.kind == "int" else "")
        span += ", below half the sample rate" if param.cutoff else ""
    else:
        span = param.allowed
    default = "required" if param.default is None else json.dumps(_short(param.default))
    return [code(param.name), span, param.unit, default, "yes" if param.automatable else ""]


def _short(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def presets() -> str:
    """Every preset that comes with gbsep."""
    parts = []
    for preset in map(load_preset, preset_names()):
        stems = ", ".join(code(stem) for stem in preset.stems)
        parts.append(f"## {preset.name}\n\n**{plain(preset.title)}.** {plain(preset.description)}")
        parts.append(f"Backend [{preset.backend}](../explanation/backends.md); stems {stems}.")
    return "\n\n".join(parts)


RESTORES = {"NoRestore": "none", "MixtureFit": "mixture_fit", "Loudness": "loudness", "Peak": "peak"}


def preset_format() -> str:
    """Every key of a preset."""
    definitions = preset_schema()["$defs"]
    settings = {name: f"Settings of {name}" for name in BACKENDS}

    def described(heading: str, name: str, about: Mapping[str, str] | None = None) -> str:
        text = definitions[name].get("description", "")
        return "\n\n".join(filter(None, [f"### {heading}", plain(text), keys(definitions[name], about)]))

    parts = [
        "## The whole\n\n" + keys(definitions["Preset"]),
        "## Changes to another preset\n\nA preset that extends another one gives what differs, key by key.\n\n"
        + keys(definitions["Changes"]),
        "## separate\n\nThe backend and its settings. Each takes `seed` as well.",
        *(
            described(heading, f"{name.capitalize()}Settings", told(BACKENDS[name].load().Settings))
            for name, heading in settings.items()
        ),
        "## stems\n\nAn object: each stem of the render by its name.\n\n" + keys(definitions["Stem"]),
        "## restore\n\nHow the level of a stem is restored, before its chain.",
        *(described(heading, name) for name, heading in RESTORES.items()),
        "## output\n\nHow the files are written.\n\n" + keys(definitions["Output"]),
        "## chain\n\nA list of [effects](effects.md), each with its own parameters, and these:",
        *(described(name, name) for name in ("Parallel", "Branch", "Plugin")),
    ]
    labels = {f"{name.capitalize()}Settings": heading for name, heading in settings.items()}
    return linked("\n\n".join(parts), {**labels, **RESTORES, "Stem": "stems", "Output": "output"})


def record() -> str:
    """Every key of render.json."""
    schema = Record.model_json_schema(mode="validation")
    parts = ["## The whole\n\n" + keys(schema)]
    for name, inner in sorted(schema["$defs"].items()):
        parts.append("\n\n".join(filter(None, [f"## {name}", plain(inner.get("description", "")), keys(inner)])))
    return linked("\n\n".join(parts), {})


def keys(schema: dict[str, Any], about: Mapping[str, str] | None = None) -> str:
    """The keys of an object in a JSON Schema, as a table; `about` says more of those that have no description."""
    required = set(schema.get("required", []))
    rows = [
        [code(name), kind(inner), default_of(name, inner, required),
         plain(inner.get("description") or (about or {}).get(name, ""))]
        for name, inner in schema.get("properties", {}).items()
    ]  # fmt: skip
    return table(["key", "value", "default", "what it is"], rows)


def told(model: type) -> dict[str, str]:
    """What the docstring of a model says of its keys, each in a paragraph that begins with its name and a colon."""
    text = inspect.cleandoc(model.__doc__ or "")
    return {found[1]: found[2] for found in re.finditer(r"^(\w+): (.*(?:\n(?!\w+: ).+)*)", text, re.M)}


def linked(text: str, labels: Mapping[str, str]) -> str:
    """Names of definitions in the tables as links to where they are told; `labels` are headings by other names."""

    def link(found: re.Match[str]) -> str:
        label = labels.get(found[1], found[1])
        return f"[{label}](#{label.lower().replace(' ', '-')})"

    return re.sub("\u27e6(\\w+)\u27e7", link, text)


def default_of(name: str, inner: dict[str, Any], required: set[str]) -> str:
    if name in required:
        return "required"
    return code(json.dumps(inner["default"])) if "default" in inner else ""


def kind(inner: dict[str, Any]) -> str:
    """The values that a part of a JSON Schema allows, in words."""
    if "$ref" in inner:
        return f"\u27e6{inner['$ref'].rsplit('/', 1)[-1]}\u27e7"
    if "const" in inner:
        return code(json.dumps(inner["const"]))
    if "enum" in inner:
        return ", ".join(code(json.dumps(value)) for value in inner["enum"])
    for several in ("anyOf", "oneOf"):
        if several in inner:
            return " or ".join(dict.fromkeys(kind(part) for part in inner[several]))
    if inner.get("type") == "array":
        items = inner.get("items", {})
        return "list" if len(items.get("oneOf", items.get("anyOf", []))) > 4 else f"list of {kind(items)}"
    if inner.get("type") == "object":
        values = inner.get("additionalProperties")
        values = values if isinstance(values, dict) else next(iter(inner.get("patternProperties", {}).values()), {})
        return f"object of {kind(values)}" if values else "object"
    if inner.get("type") in ("number", "integer"):
        return _number(inner)
    if "type" not in inner and isinstance(inner.get("default", ""), str):
        return "text"
    return {"string": "text", "boolean": "true or false", "null": "null"}.get(inner.get("type", ""), "any")


def _number(inner: dict[str, Any]) -> str:
    low, high = inner.get("minimum"), inner.get("maximum", inner.get("exclusiveMaximum"))
    word = "whole number" if inner["type"] == "integer" else "number"
    if low is not None and high is not None and abs(high) < 1e9:
        return f"{word}, {low:g} to {high:g}"
    return f"{word} from {low:g}" if low is not None and abs(low) < 1e9 else word


PARTS: Mapping[str, Callable[[], str]] = {
    "commands": commands,
    "effects": effects,
    "presets": presets,
    "preset_format": preset_format,
    "record": record,
}
