"""The JSON Schema of presets, for editors: made from the models that read them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Union

from pydantic import Field, create_model

from ..effects.chain import chain_schema
from ..separation.backend import BACKENDS
from .model import Document, Seed


def preset_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a preset, with every backend's settings and every effect's parameters."""
    model: Any = create_model  # its stubs do not know types that are made at run time
    by_backend = [
        model(
            f"{name.capitalize()}Settings", __base__=row.load().Settings, backend=(Literal[name], ...), seed=(Seed, 0)
        )
        for name, row in BACKENDS.items()
    ]
    separate: Any = Annotated[Union[tuple(by_backend)], Field(discriminator="backend")]  # noqa: UP007
    schema = model("Preset", __base__=Document, separate=(separate, ...)).model_json_schema()
    effects = chain_schema()
    definitions = schema.pop("$defs") | effects.pop("$defs")
    stem = definitions["Stem"]
    stem["properties"]["chain"] = {**effects, "default": []}
    stem["required"].remove("from")
    schema["required"] = [key for key in schema["required"] if key not in ("schema_version", "title")]
    changes = _changes(schema, definitions, [row.__name__ for row in by_backend])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Preset",
        "if": {"type": "object", "required": ["extends"]},
        "then": {"$ref": "#/$defs/Changes"},
        "else": {"$ref": "#/$defs/Preset"},
        "$defs": {**definitions, "Preset": _without_name(schema), "Changes": changes},
    }


def _without_name(schema: dict[str, Any]) -> dict[str, Any]:
    """A preset in a file has the name of the file."""
    return {**schema, "required": [key for key in schema["required"] if key != "name"]}


def _changes(schema: dict[str, Any], definitions: dict[str, Any], settings: list[str]) -> dict[str, Any]:
    """The schema of a preset that extends another one, and gives what differs from it."""
    backends = [{**definitions[name], "required": []} for name in settings]
    stems = {"anyOf": [{"$ref": "#/$defs/Stem"}, {"type": "null"}]}
    properties = {
        "extends": {"type": "string", "minLength": 1, "description": "the name of the preset that this one changes"},
        **schema["properties"],
        "separate": {"anyOf": backends},
        "stems": {**schema["properties"]["stems"], "minProperties": 0, "additionalProperties": stems},
    }
    if patterns := schema["properties"]["stems"].get("patternProperties"):
        properties["stems"]["patternProperties"] = dict.fromkeys(patterns, stems)
        properties["stems"]["additionalProperties"] = False
    return {**schema, "title": "Changes", "properties": properties, "required": ["extends"]}
