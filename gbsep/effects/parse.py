"""Chains as JSON: one pydantic model for each effect, made from EFFECTS, reads them and gives their JSON Schema.

Reading is strict: an unknown key, a wrong type, NaN or a value outside its range is a PresetError that names the place,
such as `chain[1].branches[0].chain[0].ratio`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from types import GenericAlias
from typing import Annotated, Any, Literal, Union, cast

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    WrapValidator,
    create_model,
    model_validator,
)

from ..arguments import checked
from ..errors import ParameterError, PluginError, PresetError, shown
from ..params import Param
from ..plugins import host
from ..schema import Misplaced, StrictModel, all_problems
from .automation import Automation, automation_schema, dump_automation, parse_automation
from .nodes import Branch, Effect, Node, Parallel, count_effects
from .plugin import ON_FAILURE, SETTING, Plugin
from .table import EFFECTS, MIX_DB, WET, effect_hint

MAX_NESTING = 16
"""Parallel within Parallel."""
MAX_EFFECTS = 64
"""Effects of a chain, with those in its branches: all of them run at once, plug-ins in a process or two each."""
TIMEOUTS = {name: replace(host.TIMEOUT_S, name=name, default=None) for name in ("load_timeout_s", "block_timeout_s")}

AN_EFFECT = 'an effect is an object such as {"effect": "Gain", "gain_db": -3}'
A_BRANCH = 'a branch is an object {"chain": [...], "mix_db": 0}'
BRANCHES = 'a list of one or more {"chain": [...], "mix_db": 0}'


@checked
def parse_chain(items: object, where: str = "chain", folder: Path | None = None) -> tuple[Node, ...]:
    """The chain that a preset's JSON describes, with defaults filled in.

    Paths are relative to `folder`. Raises PresetError with the JSON path (`chain[1].ratio`) and, for a misspelt name,
    the nearest known one.
    """
    kind, adapter = _chain()
    try:
        rows = adapter.validate_python(items, context=_Context(folder or Path()))
    except ValidationError as error:
        (place, reason), *more = ((where + place, reason) for place, reason in all_problems(error, kind, effect_hint))
        raise PresetError("", place, reason, more) from None
    nodes = tuple(row.node() for row in rows)
    if (effects := count_effects(nodes)) > MAX_EFFECTS:
        raise PresetError("", where, f"{effects} effects, and a chain has {MAX_EFFECTS} at most")
    return nodes


def chain_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a chain: an array, with the definitions of its effects in `$defs`."""
    return _chain()[1].json_schema()


def dump_chain(nodes: Iterable[Node]) -> list[dict[str, Any]]:
    """The chain as JSON, every parameter written out; `parse_chain` gives the same chain back."""
    return [_dump(node) for node in nodes]


def _dump(node: Node) -> dict[str, Any]:
    if isinstance(node, Parallel):
        branches = [{"chain": dump_chain(branch.chain), "mix_db": _plain(branch.mix_db)} for branch in node.branches]
        return {"effect": "Parallel", "branches": branches, "wet": _plain(node.wet)}
    if isinstance(node, Effect):
        params = {name: _plain(value) for name, value in node.params.items()}
        return {"effect": node.name, **params, "wet": _plain(node.wet)}
    given = {
        "name": node.plugin or None,
        "state": None if node.state is None else base64.b64encode(node.state).decode(),
        **{key: getattr(node, key) for key in ("path", "vendor", "format", "sidechain", *TIMEOUTS)},
    }
    return {
        "effect": "Plugin",
        **{key: value for key, value in given.items() if value is not None},
        "parameters": {name: _plain(value) for name, value in node.parameters.items()},
        "on_failure": node.on_failure,
        "wet": _plain(node.wet),
    }


def _plain(value: Any) -> Any:
    return dump_automation(value) if isinstance(value, Automation) else value


# --- models -----------------------------------------------------------------------------------------------------------


class _Row(StrictModel):
    model_config = ConfigDict(defer_build=True)


class _EffectRow(_Row):
    """An effect of the table as a preset writes it: `effect`, its parameters, `wet`."""

    def node(self) -> Effect:
        values = {name: getattr(self, name) for name in type(self).model_fields}
        name, wet = values.pop("effect"), values.pop("wet")
        return Effect(name, values, wet)


class _BranchRow(_Row):
    def branch(self) -> Branch:
        row: Any = self
        return Branch(tuple(inner.node() for inner in row.chain), row.mix_db)


class _ParallelRow(_Row):
    def node(self) -> Parallel:
        row: Any = self
        return Parallel(tuple(inner.branch() for inner in row.branches), row.wet)


class _PluginRow(_Row):
    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": ["name"]}, {"required": ["path"]}]})

    @model_validator(mode="after")
    def _is_named(self) -> _PluginRow:
        row: Any = self
        if row.name is None and row.path is None:
            called = "what the plug-in calls itself, as `gbsep plugins list` has it"
            raise Misplaced("", f"'name' is missing: {called}")
        return self

    def node(self) -> Plugin:
        values = {name: getattr(self, name) for name in type(self).model_fields if name != "effect"}
        content, outside = values.pop("state") or (None, "")
        return Plugin(values.pop("name") or "", state=content, outside=outside, **values)


@cache
def _chain() -> tuple[Any, TypeAdapter[Any]]:
    """The type of a chain in JSON, and what reads it."""
    make: Any = create_model  # its stubs do not know fields that are made at run time
    effects = [
        make(
            spec.name,
            __base__=_EffectRow,
            __doc__=spec.summary,
            effect=(Literal[spec.name], ...),
            **{param.name: _field(param) for param in spec.params},
            wet=_field(WET),
        )
        for spec in EFFECTS.values()
    ]
    branch = make(
        "Branch",
        __base__=_BranchRow,
        __doc__="A chain, and the level at which it is added.",
        chain=("Chain", Field(description=A_BRANCH)),
        mix_db=_field(MIX_DB),
    )
    branches: Any = Annotated[
        GenericAlias(list, Annotated[branch, _formed((Mapping,), A_BRANCH)]),
        Field(min_length=1),
        _formed((list, tuple), BRANCHES, at_least=1),
    ]
    parallel = make(
        "Parallel",
        __base__=_ParallelRow,
        __doc__="Branches that hear the same input, summed.",
        effect=(Literal["Parallel"], ...),
        branches=(branches, Field(description=BRANCHES)),
        wet=_field(WET),
    )
    models = [*effects, parallel, _plugin_model(make)]
    any_model: Any = Union[tuple(models)]  # noqa: UP007
    node: Any = Annotated[
        any_model, Field(discriminator="effect"), BeforeValidator(_named), _formed((Mapping,), AN_EFFECT)
    ]
    chain: Any = Annotated[
        GenericAlias(list, node), WrapValidator(_not_too_deep), _formed((list, tuple), "a chain is a list of effects")
    ]
    branch.model_rebuild(_types_namespace={"Chain": chain})
    return chain, TypeAdapter(chain)


def _plugin_model(make: Any) -> Any:
    text = {"type": "string", "minLength": 1}
    plain, path, state = (Annotated[Any, PlainValidator(read), WithJsonSchema(text)] for read in (_text, _path, _state))
    setting = {"anyOf": [_schema(SETTING), {"type": "boolean"}, {"type": "string"}]}
    settings = {"type": "object", "additionalProperties": setting}
    several = "where several plug-ins have that name"
    return make(
        "Plugin",
        __base__=_PluginRow,
        __doc__="An external plug-in; needs a name, or a path where that is allowed.",
        effect=(Literal["Plugin"], ...),
        name=(plain, Field(None, description="as `gbsep plugins list` has it")),
        vendor=(plain, Field(None, description=several)),
        format=(plain, Field(None, description=f"{several}: VST3 or Audio Unit")),
        path=(path, Field(None, description="of the plug-in's file; needs --allow-plugin-paths")),
        sidechain=(plain, Field(None, description="the stem that the plug-in's side-chain bus hears")),
        state=(state, Field(None, description="base64, or a .vstpreset file in the folder of the preset")),
        parameters=(Annotated[Any, PlainValidator(_settings), WithJsonSchema(settings)], Field({})),
        **{name: (_field(param)[0], Field(None, description=param.allowed)) for name, param in TIMEOUTS.items()},
        on_failure=_field(ON_FAILURE),
        wet=_field(WET),
    )


# --- values -----------------------------------------------------------------------------------------------------------


@dataclass
class _Context:
    """What validators need beside the value: the folder of the preset, and how many chains lie around it."""

    folder: Path
    depth: int = 0


def _context(info: ValidationInfo) -> _Context:
    return cast("_Context", info.context)


def _field(param: Param) -> tuple[Any, Any]:
    """A parameter as a field of a pydantic model."""
    kind = Annotated[Any, PlainValidator(partial(_value, param)), WithJsonSchema(_schema(param))]
    return kind, Field(... if param.default is None else param.default, description=param.allowed)


def _schema(param: Param) -> dict[str, Any]:
    return {"anyOf": [param.schema, automation_schema(param)]} if param.automatable else param.schema


def _value(param: Param, value: Any, info: ValidationInfo) -> Any:
    """A value, or a lane of automation, that a parameter takes."""
    try:
        if isinstance(value, Mapping):
            return parse_automation(value, param)
        fixed = param.check(value)
    except ParameterError as error:
        reason = f"{shown(error.value)} is not allowed: {error.allowed}"
        raise Misplaced(error.name.removeprefix(param.name), reason) from None
    return str(_context(info).folder / str(fixed)) if param.kind == "path" else fixed


def _settings(value: Any, info: ValidationInfo) -> dict[str, Any]:
    """Values for parameters of a plug-in, which alone knows them and their ranges."""
    if not isinstance(value, Mapping):
        raise Misplaced("", f"an object of names and values, not {_kind(value)}")
    return {str(name): _setting(str(name), setting, info) for name, setting in value.items()}


def _setting(name: str, value: Any, info: ValidationInfo) -> Any:
    if not name.isprintable():
        raise Misplaced("", f"{shown(name)} cannot be the name of a parameter")
    if isinstance(value, (bool, str)):
        return value
    try:
        return _value(SETTING, value, info)
    except Misplaced as error:
        raise Misplaced(f".{name}{error.place}", error.reason) from None


def _text(value: Any) -> str | None:
    if value is not None and not (isinstance(value, str) and value):
        raise Misplaced("", f"a text, not {_kind(value) if value != '' else 'an empty one'}")
    return value


def _path(value: Any, info: ValidationInfo) -> str | None:
    path = _text(value)
    return None if path is None else str(_context(info).folder / path)


def _state(value: Any, info: ValidationInfo) -> tuple[bytes, str] | None:
    """The state of a plug-in, and its file when that lies outside the preset's folder."""
    text, folder = _text(value), _context(info).folder
    if text is None:
        return None
    try:
        content, file = host.read_state(text, folder), host.state_file(text, folder)
        return content, text if file and not file.is_relative_to(folder.resolve()) else ""
    except (PluginError, OSError, ValueError) as error:
        raise Misplaced("", str(error)) from None


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _formed(kinds: tuple[type, ...], form: str, at_least: int = 0) -> BeforeValidator:
    """Refuses a value that is of none of the kinds, or has too few elements, with the form that it should have."""

    def check(value: Any) -> Any:
        if not any(isinstance(value, kind) for kind in kinds):
            raise Misplaced("", f"{form}, not {_kind(value)}")
        if len(value) < at_least:
            raise Misplaced("", f"{form}, not an empty one")
        return dict(value) if isinstance(value, Mapping) else list(value)

    return BeforeValidator(check)


def _named(value: dict[str, Any]) -> dict[str, Any]:
    if "effect" not in value:
        raise Misplaced("", f"'effect' is missing: {AN_EFFECT}")
    if not isinstance(value["effect"], str):
        raise Misplaced(".effect", f"the name of an effect, not {_kind(value['effect'])}")
    return value


def _not_too_deep(value: Any, read: Callable[[Any], Any], info: ValidationInfo) -> Any:
    context = _context(info)
    context.depth += 1
    try:
        if context.depth > MAX_NESTING + 1:
            raise Misplaced("", f"Parallel is nested more than {MAX_NESTING} deep")
        return read(value)
    finally:
        context.depth -= 1
