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
    schema["$defs"] |= effects.pop("$defs")
    schema["$defs"]["Stem"]["properties"]["chain"] = {**effects, "default": []}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
