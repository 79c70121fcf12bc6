"""Bodies as handlers get them: defaults filled in, and integers that are Python's integers.

JSON Schema counts `1.0` as an integer; a handler must not meet a float where the contract says
integer. A schema without integers and defaults, which is most, costs nothing at all.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import orjson

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
    match schema.get("type"):
        case "integer":
            return lambda value: int(value) if isinstance(value, float) else value
        case "array":
            item = compile_normaliser(bundle, schema["items"], inside)
            return item and (lambda value: value and [item(each) for each in value])
        case "object" if "properties" in schema:
            return _compile_object(bundle, schema["properties"], inside)
        case "object" if isinstance(schema.get("additionalProperties"), dict):
            each = compile_normaliser(bundle, schema["additionalProperties"], inside)
            return each and (
                lambda value: value and {name: each(item) for name, item in value.items()}
            )
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

    fresh = orjson.dumps(defaults)
    converters = tuple(members.items())

    def normalise(value: dict[str, object] | None) -> dict[str, object] | None:
        if value is None:
            return None
        # Each request gets defaults of its own: a list that a handler extends must not grow.
        result: dict[str, object] = orjson.loads(fresh)
        result.update(value)
        for name, convert in converters:
            if name in result:
                result[name] = convert(result[name])
        return result

    return normalise
