"""From what a handler returns to JSON bytes: the response schema decides what goes out.

A serializer reads exactly the declared properties and no others, so that a column added to a
table cannot leak. The object must have all of them: one that it lacks fails in the first test.
Only a dict may lack what is not required, because it is sent back as it was received.
Only `allowed_actions` is nobody's attribute: it follows from the state, as `x-transitions` says.

What reads an object is Python that is written here, a function for every object of the contract:
code that names its attributes takes a third of the time of getters that are told their names. For
an `id`, and a `total` that is an object itself and need not be there, it is

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
from typing import Any, TypeAlias

import orjson

from api.contract.errors import ContractViolation
from api.contract.schemas import SchemaNode, flatten
from api.contract.transitions import TRANSITIONS, lifecycle_of, require_actions

Convert: TypeAlias = Callable[[Any], object]
Serializer: TypeAlias = Callable[[object], bytes]

_ATTRIBUTE = "x-engine-attribute"
"""The attribute that a property is read from, where it cannot have the property's name."""
_ALLOWED_ACTIONS = "allowed_actions"

# What is not converted here is not to be written by accident, field for field.
_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_PASSTHROUGH_DATACLASS


@dataclass(frozen=True, slots=True)
class _Member:
    """One property: its name, its key in a dict, the Python that reads it of an object."""

    name: str
    key: str
    attribute: str
    inner: Convert | None
    required: bool


def compile_serializer(bundle: SchemaNode, schema: SchemaNode) -> Serializer:
    """Compile a response schema to a function from an object to its JSON in UTF-8.

    Objects may be read by attribute (models, dataclasses) or, if they are dicts, by key. Aware
    times become RFC 3339 and UUIDs their text.

    Raises:
        ContractViolation: the schema leaves open which properties an object has.
    """
    convert = _compile(bundle, schema, {})
    if convert is None:
        return lambda value: orjson.dumps(value, option=_OPTIONS)
    return lambda value: orjson.dumps(convert(value), option=_OPTIONS)


def _compile(bundle: SchemaNode, schema: SchemaNode, seen: dict[str, Convert]) -> Convert | None:
    """Return how to convert a value for orjson, or None when it can go as it is."""
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
        # A schema that refers to itself calls the converter that is being made.
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
    sources = {name: name for name in properties}
    state = next((name for name in properties if TRANSITIONS in flat[name]), None)
    if state is not None and _ALLOWED_ACTIONS in properties:
        names_of_actions = flatten(bundle, flat[_ALLOWED_ACTIONS]["items"])
        lifecycle = lifecycle_of(flat[state])
        require_actions(lifecycle, names_of_actions["enum"])
        allowed = {each: lifecycle.allowed(each) for each in lifecycle.actions}
        inner[_ALLOWED_ACTIONS], sources[_ALLOWED_ACTIONS] = allowed.__getitem__, state
    required = schema.get("required", ())
    return _write(
        [
            _Member(name, key, _read(key, flat[key]), inner[name], required=name in required)
            for name, key in sources.items()
        ]
    )


def _read(name: object, schema: SchemaNode) -> str:
    """Return the Python that reads a property of an object.

    A name of the contract becomes code only if it cannot be anything but a name; any other, such
    as `in` or `not-before`, is written as a string.

    Raises:
        ContractViolation: the property's name is no text, or nothing has the attribute's name.
    """
    attribute = schema.get(_ATTRIBUTE, name)
    if not isinstance(name, str) or not isinstance(attribute, str):
        raise ContractViolation(f"the property {name!r} is read from {attribute!r}: not a name")
    # Beyond ASCII Python takes two spellings of a name for one.
    if attribute.isascii() and attribute.isidentifier() and not keyword.iskeyword(attribute):
        return f"value.{attribute}"
    if _ATTRIBUTE in schema:
        raise ContractViolation(f"the property {name!r} is read from {attribute!r}: not a name")
    return f"getattr(value, {attribute!r})"


def _write(members: Sequence[_Member]) -> Convert:
    """Write the function that reads these members of an object or of a dict."""
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
