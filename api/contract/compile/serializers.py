"""Serializers: from a handler's return value to JSON bytes, as the response schema declares.

A serializer reads the declared properties and no others, so that a column added to a table cannot
leak. An object must have all of them, so that a missing attribute fails in the first test. Only a
dict may omit optional properties, because it is returned as it was received. `allowed_actions` is
the one property that is not an attribute: it follows from the state, as `x-transitions` declares,
and from the attribute that `x-engine-ruled-out` names, if the resource rules out some actions.

Objects are read by generated Python, one function per object of the contract, because code with
literal attribute names takes a third of the time of getters that look names up. For an `id` and an
optional `total` that is itself an object, the function is

    def convert(value):
        if value is None:
            return None
        if type(value) is not dict:
            return {'id': value.id, 'total': inner_1(value.total)}
        row = {}
        row['id'] = value['id']
        if 'total' in value:
            row['total'] = inner_1(value['total'])
        return row
"""

import keyword
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import orjson

from api.contract.compile.schemas import SchemaNode, flatten
from api.contract.compile.transitions import TRANSITIONS, require_actions, state_machine_of
from api.contract.engine_errors import ContractViolation

Convert: TypeAlias = Callable[[Any], object]
Serializer: TypeAlias = Callable[[object], bytes]

_ATTRIBUTE = "x-engine-attribute"
"""Key that names the attribute of a property, if it is not the property's own name."""
_BELOW_SERVER = "x-engine-below-server"
"""Key of a property whose value is a path, to be written below the path of the first server."""
_ALLOWED_ACTIONS = "allowed_actions"
_RULED_OUT = "x-engine-ruled-out"
"""Key that names the attribute with the tuple of actions that a resource itself rules out."""

# Dataclasses pass through unserialized, so that none is written field for field by accident.
_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_PASSTHROUGH_DATACLASS


@dataclass(frozen=True, slots=True)
class _Member:
    """A property: its name, its key in a dict, and the Python that reads it from an object."""

    name: str
    key: str
    attribute: str
    inner: Convert | None
    required: bool


def compile_serializer(
    bundle: SchemaNode, schema: SchemaNode, seen: dict[str, Convert] | None = None
) -> Serializer:
    """Compile a response schema into a function from an object to UTF-8 JSON.

    The function reads attributes of objects (models, dataclasses) and keys of dicts. It writes
    aware times in RFC 3339 format, and UUIDs as strings. `seen` maps references to the converters
    of their components; pass the same dict for all schemas of a bundle to compile each only once.

    Raises:
        ContractViolation: the schema leaves the properties of an object open.
    """
    convert = _compile(bundle, schema, {} if seen is None else seen)
    if convert is None:
        return lambda value: orjson.dumps(value, option=_OPTIONS)
    return lambda value: orjson.dumps(convert(value), option=_OPTIONS)


def _compile(bundle: SchemaNode, schema: SchemaNode, seen: dict[str, Convert]) -> Convert | None:
    """Return a function that converts a value for orjson, or None if orjson takes it as it is."""
    reference = schema.get("$ref")
    if reference in seen:
        return seen[reference]
    schema = flatten(bundle, schema)
    if "oneOf" in schema or "anyOf" in schema:
        raise ContractViolation("a response schema may not use oneOf or anyOf")
    if schema.get("type") == "array":
        inner = _compile(bundle, schema["items"], seen)
        return None if inner is None else _each(inner)
    if schema.get("type") != "object":
        return None
    if reference is not None:
        # A schema that refers to itself calls the converter that is being made here.
        seen[reference] = lambda value: seen[reference](value)  # noqa: PLW0108 - looked up when it is there.
    convert = _compile_object(bundle, schema, seen)
    if reference is not None:
        seen[reference] = convert
    return convert


def _compile_object(bundle: SchemaNode, schema: SchemaNode, seen: dict[str, Convert]) -> Convert:
    properties: Mapping[str, SchemaNode] = schema.get("properties", {})
    if not properties:
        return _compile_map(bundle, schema.get("additionalProperties"), seen)
    flat = {name: flatten(bundle, declared) for name, declared in properties.items()}
    inner = {name: _compile(bundle, declared, seen) for name, declared in properties.items()}
    servers = bundle.get("servers") or [{"url": "/"}]
    if base := urlsplit(servers[0]["url"]).path.rstrip("/"):
        inner |= {name: base.__add__ for name in properties if flat[name].get(_BELOW_SERVER)}
    sources = {name: name for name in properties}
    state = next((name for name in properties if TRANSITIONS in flat[name]), None)
    if state is not None and _ALLOWED_ACTIONS in properties:
        names_of_actions = flatten(bundle, flat[_ALLOWED_ACTIONS]["items"])
        machine = state_machine_of(flat[state])
        require_actions(machine, names_of_actions["enum"])
        allowed = {each: tuple(choices) for each, choices in machine.actions.items()}
        inner[_ALLOWED_ACTIONS], sources[_ALLOWED_ACTIONS] = _allow(allowed), state
    reads = {name: _read(key, flat[key]) for name, key in sources.items()}
    if state is not None and _RULED_OUT in flat.get(_ALLOWED_ACTIONS, ()):
        reads[_ALLOWED_ACTIONS] += f", {_read(flat[_ALLOWED_ACTIONS][_RULED_OUT], {})}"
    required = schema.get("required", ())
    return _write(
        [
            _Member(name, key, reads[name], inner[name], required=name in required)
            for name, key in sources.items()
        ]
    )


def _allow(allowed: Mapping[str, tuple[str, ...]]) -> Convert:
    """Return a function from a state and its ruled-out actions, if any, to the allowed actions."""

    @lru_cache(maxsize=1024)
    def convert(state: str, ruled_out: tuple[str, ...] = ()) -> tuple[str, ...]:
        return tuple(each for each in allowed[state] if each not in ruled_out)

    return convert


def _read(name: object, schema: SchemaNode) -> str:
    """Return the Python expression that reads a property from an object.

    Only a valid ASCII identifier is written as code; any other name, such as `in` or `not-before`,
    is written as a string literal.

    Raises:
        ContractViolation: the property's name is not a string, or `x-engine-attribute` is not an
            identifier.
    """
    attribute = schema.get(_ATTRIBUTE, name)
    if not isinstance(name, str) or not isinstance(attribute, str):
        raise ContractViolation(f"the property {name!r} is read from {attribute!r}: not a name")
    # Beyond ASCII, Python treats different spellings of an identifier as equal.
    if attribute.isascii() and attribute.isidentifier() and not keyword.iskeyword(attribute):
        return f"value.{attribute}"
    if _ATTRIBUTE in schema:
        raise ContractViolation(f"the property {name!r} is read from {attribute!r}: not a name")
    return f"getattr(value, {attribute!r})"


def _write(members: Sequence[_Member]) -> Convert:
    """Generate the function that reads these members from an object or a dict."""
    names: dict[str, Any] = {}
    shown, read = [], []
    for index, member in enumerate(members):
        of_object, of_dict = member.attribute, f"value[{member.key!r}]"
        if member.inner is not None:
            names[f"inner_{index}"] = member.inner
            of_object, of_dict = f"inner_{index}({of_object})", f"inner_{index}({of_dict})"
        shown.append(f"{member.name!r}: {of_object}")
        if not member.required:
            read.append(f"    if {member.key!r} in value:")
        read.append(f"{'    ' if member.required else '        '}row[{member.name!r}] = {of_dict}")
    source = [
        "def convert(value):",
        "    if value is None:",
        "        return None",
        "    if type(value) is not dict:",
        f"        return {{{', '.join(shown)}}}",
        "    row = {}",
        *read,
        "    return row",
    ]
    exec(compile("\n".join(source), "<serializer>", "exec"), names)  # noqa: S102 - `_read` lets only names in.
    convert: Convert = names["convert"]
    return convert


def _compile_map(bundle: SchemaNode, values: object, seen: dict[str, Convert]) -> Convert:
    if values is False:
        return lambda value: None if value is None else {}
    inner = _compile(bundle, values, seen) if isinstance(values, dict) else None
    if inner is None:
        return _as_it_is
    return lambda value: value and {name: inner(item) for name, item in value.items()}


def _each(inner: Convert) -> Convert:
    return lambda value: value and [inner(item) for item in value]


def _as_it_is(value: object) -> object:
    return value
