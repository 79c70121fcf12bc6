"""From what a handler returns to JSON bytes: the response schema decides what goes out.

A serializer reads exactly the declared properties and no others, so that a column added to a
table cannot leak. The object must have all of them: one that it lacks fails in the first test.
Only a dict may lack what is not required, because it is sent back as it was received.
Only `allowed_actions` is nobody's attribute: it follows from the state, as `x-transitions` says.
"""

import operator
from collections.abc import Callable, Mapping
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
        # A schema that refers to itself calls the converter that is being made.
        return lambda value: seen[reference](value)  # noqa: PLW0108 - looked up when it is there.
    schema = flatten(bundle, schema)
    if "oneOf" in schema or "anyOf" in schema:
        raise ContractViolation("a response schema may not use oneOf or anyOf")
    if schema.get("type") == "array":
        inner = _compile(bundle, schema["items"], seen)
        return None if inner is None else _each(inner)
    if schema.get("type") != "object":
        return None
    if reference is not None:
        seen[reference] = _as_it_is
    convert = _compile_object(bundle, schema, seen)
    if reference is not None:
        seen[reference] = convert
    return convert


def _compile_object(bundle: SchemaNode, schema: SchemaNode, seen: dict[str, Convert]) -> Convert:
    properties: Mapping[str, SchemaNode] = schema.get("properties", {})
    if not properties:
        return _compile_map(bundle, schema.get("additionalProperties"), seen)
    flat = {name: flatten(bundle, declared) for name, declared in properties.items()}
    nested = [
        (name, inner)
        for name, declared in properties.items()
        if (inner := _compile(bundle, declared, seen)) is not None
    ]
    keys = {name: name for name in properties}
    attributes = {name: str(flat[name].get(_ATTRIBUTE, name)) for name in properties}
    state = next((name for name in properties if TRANSITIONS in flat[name]), None)
    if state is not None and _ALLOWED_ACTIONS in properties:
        names_of_actions = flatten(bundle, flat[_ALLOWED_ACTIONS]["items"])
        lifecycle = lifecycle_of(flat[state])
        require_actions(lifecycle, names_of_actions["enum"])
        nested.append((_ALLOWED_ACTIONS, lifecycle.allowed))
        keys[_ALLOWED_ACTIONS], attributes[_ALLOWED_ACTIONS] = state, attributes[state]
    names = tuple(properties)
    by_key = _getter(operator.itemgetter, tuple(keys.values()))
    by_attribute = _getter(operator.attrgetter, tuple(attributes.values()))
    may_lack = frozenset(properties) - frozenset(schema.get("required", ()))

    def convert(value: object) -> dict[str, object] | None:
        if value is None:
            return None
        if type(value) is dict and not may_lack <= value.keys():
            sent = (name for name in names if keys[name] in value or name not in may_lack)
            row = {name: value[keys[name]] for name in sent}
        else:
            get = by_key if type(value) is dict else by_attribute
            row = dict(zip(names, get(value), strict=True))
        for name, inner in nested:
            if name in row:
                row[name] = inner(row[name])
        return row

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


def _getter(
    make: Callable[..., Callable[[Any], Any]], names: tuple[str, ...]
) -> Callable[[Any], tuple[object, ...]]:
    get = make(*names)
    # With one name the operator module's getters return the value instead of a tuple of one.
    return get if len(names) > 1 else lambda value: (get(value),)
