"""Rules for generated clients: names, signatures and hosts."""

from collections.abc import Iterator

from api.contract.compile.published import WEBHOOKS
from api.contract.compile.schemas import SchemaNode, resolve
from tests.contract.walk import Finding, components, operations, schemas


def enums_are_named(bundle: SchemaNode) -> Iterator[Finding]:
    """A generator has no name for the type of an enum that is no component of its own.

    In webhooks, a narrowed enum has a title, and clients need no type for null alone.
    """
    named = {place for place, _ in components(bundle, "schemas")}
    for place, schema in schemas(bundle):
        is_named = place in named or (place.startswith(WEBHOOKS) and "title" in schema)
        if "enum" in schema and schema["enum"] != [None] and not is_named:
            yield Finding(place, "has an enum without a name; make it a component")


def values_of_maps_are_named(bundle: SchemaNode) -> Iterator[Finding]:
    """openapi-generator looks up the name of the type of a map's values, and warns without one."""
    for place, schema in schemas(bundle):
        values = schema.get("additionalProperties")
        if isinstance(values, dict) and "$ref" not in values:
            yield Finding(place, "is a map to values without a name; make them a component")


def headers_have_no_enums(bundle: SchemaNode) -> Iterator[Finding]:
    """An enum is another type in each response that has the header; a pattern is none."""
    for operation in operations(bundle):
        for response in operation.responses.values():
            for name, node in response.get("headers", {}).items():
                if "enum" in resolve(bundle, resolve(bundle, node)["schema"]):
                    yield Finding(operation.place, f"sends an enum in {name}")


def request_ids_come_last(bundle: SchemaNode) -> Iterator[Finding]:
    """Parameters are the arguments of a client's function, where few callers pass a request ID."""
    for operation in operations(bundle):
        if [each["name"] for each in operation.parameters[-1:]] != ["X-Request-ID"]:
            yield Finding(operation.place, "does not take X-Request-ID after all else")


def parameters_are_not_types(bundle: SchemaNode) -> Iterator[Finding]:
    """openapi-generator names a type for a parameter, which languages have already."""
    for operation in operations(bundle):
        for parameter in operation.parameters:
            if parameter["name"].lower() in {"file", "date", "list", "map", "object", "string"}:
                yield Finding(operation.place, f"has a parameter {parameter['name']}")


def problems_have_known_codes(bundle: SchemaNode) -> Iterator[Finding]:
    """Clients tell the kinds of error apart by `code`, so it is an enum."""
    code = resolve(bundle, bundle["components"]["schemas"]["Problem"]["properties"]["code"])
    if "enum" not in code:
        yield Finding("components/schemas/Problem/properties/code", "is no enum")
