"""Bodies as handlers get them: defaults filled in, and integers that are Python's integers.

JSON Schema counts `1.0` as an integer; a handler must not meet a float where the contract says
integer. A schema without integers and defaults, which is most, costs nothing at all.
"""

import copy
from collections.abc import Callable
from typing import Any, TypeAlias

from api.contract.errors import ContractViolation
from api.contract.schemas import SchemaNode, flatten

Normalise: TypeAlias = Callable[[Any], Any]


def compile_normaliser(
    bundle: SchemaNode, schema: SchemaNode, inside: tuple[str, ...] = ()
) -> Normalise | None:
    """Compile a request schema to a function on valid bodies; None when it would change nothing.

    Raises:
        ContractViolation: the schema refers to itself, so that its bodies have no bounded depth.
    """
    reference = schema.get("$ref")
    if reference is not None:
        if reference in inside:
            raise ContractViolation(f"the request schema {reference} refers to itself")
        inside = (*inside, reference)
    schema = flatten(bundle, schema)
    normalise = _compile(bundle, schema, inside)
    return normalise and (lambda value: None if value is None else normalise(value))


def _compile(bundle: SchemaNode, schema: SchemaNode, inside: tuple[str, ...]) -> Normalise | None:
    match schema.get("type"):
        case "integer":
            return lambda value: int(value) if isinstance(value, float) else value
        case "array":
            item = compile_normaliser(bundle, schema["items"], inside)
            return item and (lambda value: [item(each) for each in value])
        case "object" if "properties" in schema:
            return _compile_object(bundle, schema["properties"], inside)
        case "object" if isinstance(schema.get("additionalProperties"), dict):
            each = compile_normaliser(bundle, schema["additionalProperties"], inside)
            return each and (lambda value: {name: each(item) for name, item in value.items()})
    return None


def _compile_object(
    bundle: SchemaNode, properties: SchemaNode, inside: tuple[str, ...]
) -> Normalise | None:
    members: dict[str, Normalise] = {}
    defaults: dict[str, object] = {}
    for name, declared in properties.items():
        member = compile_normaliser(bundle, declared, inside)
        if member is not None:
            members[name] = member
        flat = flatten(bundle, declared)
        if "default" in flat:
            defaults[name] = flat["default"]
    if not members and not defaults:
        return None

    def normalise(value: dict[str, object]) -> dict[str, object]:
        # Each request gets defaults of its own: a list that a handler extends must not grow.
        result = {**copy.deepcopy(defaults), **value}
        for name in members.keys() & result.keys():
            result[name] = members[name](result[name])
        return result

    return normalise
