"""Rules for schemas: everything is bounded and closed, with a valid example."""

import re
from collections.abc import Iterator

from api.contract.compile.published import WEBHOOKS
from api.contract.compile.request_bodies import JSON_MEDIA_TYPE
from api.contract.compile.schemas import SchemaNode, Validator, resolve
from tests.contract.walk import (
    Finding,
    components,
    holders,
    is_file,
    is_upload_form,
    schemas,
    schemas_sent,
)

OPEN_OBJECTS = {
    "Problem": "RFC 9457, section 3.2: problems have members of their own kinds",
    "OpenApiDocument": "its own specification says what is in it",
}
SPARSE_OBJECTS = {
    "Problem": "members of other kinds of error are absent",
    "Violation": "a violation has a pointer, or else a parameter",
    "Address": "it is kept and answered as it was sent",
}
INTEGER_LIMITS = {"int32": 2**31, "int64": 2**63}
LARGEST_DOUBLE = 1.7976931348623157e308


def strings_are_bounded(bundle: SchemaNode) -> Iterator[Finding]:
    for place, schema in schemas(bundle):
        if schema.get("type") == "string" and "enum" not in schema:
            if "maxLength" not in schema:
                yield Finding(place, "has no maxLength")
            if not {"format", "pattern"} & set(schema):
                yield Finding(place, "has neither format nor pattern: any text would do")


def integers_are_bounded(bundle: SchemaNode) -> Iterator[Finding]:
    for place, schema in schemas(bundle):
        if schema.get("type") == "integer":
            limit = INTEGER_LIMITS.get(schema.get("format", ""))
            if limit is None:
                yield Finding(place, "has the format of neither 32 nor 64 bits")
            elif not {"minimum", "maximum"} <= set(schema):
                yield Finding(place, "lacks minimum or maximum")
            elif schema["minimum"] < -limit or schema["maximum"] >= limit:
                yield Finding(place, f"goes beyond {schema['format']}")


def numbers_are_bounded(bundle: SchemaNode) -> Iterator[Finding]:
    for place, schema in schemas(bundle):
        if schema.get("type") == "number":
            if schema.get("format") not in ("float", "double"):
                yield Finding(place, "has the format of neither float nor double")
            bounds = [schema.get("minimum"), schema.get("maximum")]
            if any(bound is None or abs(bound) > LARGEST_DOUBLE for bound in bounds):
                yield Finding(place, "lacks a finite minimum or maximum")


def arrays_are_bounded(bundle: SchemaNode) -> Iterator[Finding]:
    for place, schema in schemas(bundle):
        if schema.get("type") == "array" and not {"items", "maxItems"} <= set(schema):
            yield Finding(place, "lacks items or maxItems")


def schemas_have_one_type(bundle: SchemaNode) -> Iterator[Finding]:
    """`nullable` beside anything but `type` means nothing in OpenAPI 3.0.3."""
    for place, schema in schemas(bundle):
        if "type" not in schema and not {"allOf", "oneOf", "anyOf"} & set(schema):
            yield Finding(place, "has no type")
        if "nullable" in schema and "type" not in schema:
            yield Finding(place, "is nullable without a type")


def objects_are_closed(bundle: SchemaNode) -> Iterator[Finding]:
    """A map is closed when its values have a schema and their number is bounded."""
    for place, schema in schemas(bundle):
        if schema.get("type") == "object":
            others = schema.get("additionalProperties")
            is_map = isinstance(others, dict) and "maxProperties" in schema
            if others is not False and not is_map and not _is_one_of(place, OPEN_OBJECTS):
                yield Finding(place, "takes any member")


def request_objects_are_closed(bundle: SchemaNode) -> Iterator[Finding]:
    """No exception here: a member that is misspelt must not be passed over in silence."""
    for place, schema in schemas_sent(bundle, by_client=True):
        if schema.get("type") == "object" and schema.get("additionalProperties", True) is True:
            yield Finding(place, "takes any member from a client")


def properties_have_examples(bundle: SchemaNode) -> Iterator[Finding]:
    for place, schema in schemas(bundle):
        needs_none = place.endswith("/items") or is_file(schema) or is_upload_form(bundle, schema)
        # The example of a webhook's whole body shows the objects in it.
        is_shown = place.startswith(WEBHOOKS) and "properties" in schema
        if "example" not in schema and not needs_none and not is_shown:
            yield Finding(place, "has no example")


def parameters_and_headers_have_examples(bundle: SchemaNode) -> Iterator[Finding]:
    for place, holder in holders(bundle):
        is_media_type = "/content/" in place
        if not is_media_type and not {"example", "examples"} & set(holder):
            yield Finding(place, "has no example")


def bodies_have_examples(bundle: SchemaNode) -> Iterator[Finding]:
    """The example of a schema is enough; problems need examples of their kinds."""
    for place, holder in holders(bundle):
        if "/content/" not in place:
            continue
        if place.endswith("application/problem+json"):
            if not holder.get("examples"):
                yield Finding(place, "has no named example of a problem")
            continue
        schema = resolve(bundle, holder["schema"])
        is_raw = is_file(schema) and not place.endswith(JSON_MEDIA_TYPE)
        needs_none = is_raw or is_upload_form(bundle, schema)
        if "example" not in {**schema, **holder} and not needs_none:
            yield Finding(place, "has no example")


def examples_are_valid(bundle: SchemaNode) -> Iterator[Finding]:
    for place, schema in schemas(bundle):
        for name in ("example", "default"):
            if name in schema and not Validator(bundle, schema).is_valid(schema[name]):
                yield Finding(place, f"has an invalid {name}")
    for place, holder in holders(bundle):
        examples = [resolve(bundle, node)["value"] for node in holder.get("examples", {}).values()]
        if "example" in holder:
            examples.append(holder["example"])
        # JSON that is read raw is an object for clients.
        is_raw = place.endswith(JSON_MEDIA_TYPE) and is_file(resolve(bundle, holder["schema"]))
        validator = Validator(bundle, {"type": "object"} if is_raw else holder["schema"])
        if not all(map(validator.is_valid, examples)):
            yield Finding(place, "has an invalid example")


def required_properties_exist(bundle: SchemaNode) -> Iterator[Finding]:
    for place, schema in schemas(bundle):
        for name in schema.get("required", ()):
            if name not in schema.get("properties", {}):
                yield Finding(place, f"requires {name}, which it does not declare")


def response_properties_are_required(bundle: SchemaNode) -> Iterator[Finding]:
    for place, schema in schemas_sent(bundle, by_client=False):
        if _is_one_of(place, {**OPEN_OBJECTS, **SPARSE_OBJECTS}):
            continue
        for name in schema.get("properties", {}):
            if name not in schema.get("required", ()):
                yield Finding(place, f"may lack {name}; let it be null instead")


def responses_have_no_alternatives(bundle: SchemaNode) -> Iterator[Finding]:
    """Generated clients turn them into types that nobody can use."""
    for place, schema in schemas_sent(bundle, by_client=False):
        for keyword in ("oneOf", "anyOf", "not"):
            if keyword in schema:
                yield Finding(place, f"has {keyword}")


def secrets_are_never_answered(bundle: SchemaNode) -> Iterator[Finding]:
    for place, schema in schemas(bundle):
        if schema.get("format") == "password" and not schema.get("writeOnly"):
            yield Finding(place, "is a password and not writeOnly")
    for place, schema in schemas_sent(bundle, by_client=False):
        if schema.get("writeOnly"):
            yield Finding(place, "is writeOnly and stands in a response")


def resources_have_the_same_properties(bundle: SchemaNode) -> Iterator[Finding]:
    """`UserCreate` and `UserUpdate` name what `User` has, and what is only written.

    A list of parts is made of what the parts are made of: `OrderLineCreate` for `OrderLine`. What
    is stored in a normal form is made of another spelling: `NewPersonName` for `PersonName`.
    """
    declared = bundle["components"]["schemas"]
    for name, schema in declared.items():
        resource = re.fullmatch(r"(\w+)(?:Create|Update)", name)
        if resource is None or resource[1] not in declared:
            continue
        known = declared[resource[1]]["properties"]
        for property_name, node in schema["properties"].items():
            same = known.get(property_name)
            if (
                same != node
                and not resolve(bundle, node).get("writeOnly")
                and not _makes_the_parts_of(node, same)
                and not _is_spelling_of(node, same)
            ):
                place = f"components/schemas/{name}/properties/{property_name}"
                yield Finding(place, f"is not as in {resource[1]}")


def pages_have_one_shape(bundle: SchemaNode) -> Iterator[Finding]:
    for place, schema in components(bundle, "schemas"):
        if not place.endswith("Page"):
            continue
        properties = schema.get("properties", {})
        if list(properties) != ["items", "next_cursor"]:
            yield Finding(place, "is not {items, next_cursor}")
        elif properties["items"].get("type") != "array":
            yield Finding(place, "has items that are no array")
        elif not _is_string_or_null(properties["next_cursor"]):
            yield Finding(place, "has a next_cursor that is not a string or null")


def _is_spelling_of(made: SchemaNode, known: SchemaNode | None) -> bool:
    """Tell whether they are the schemas `New{X}` and `X`."""
    before, slash, name = str((known or {}).get("$ref")).rpartition("/")
    return made == {"$ref": f"{before}{slash}New{name}"}


def _makes_the_parts_of(made: SchemaNode, known: SchemaNode | None) -> bool:
    """Tell whether both are lists of the same length, of `{X}Create` and of `X`."""
    if known is None or made.get("type") != "array" or known.get("type") != "array":
        return False
    bounds = [(each.get("minItems"), each.get("maxItems")) for each in (made, known)]
    made_of, known_of = (str(each.get("items", {}).get("$ref")) for each in (made, known))
    return bounds[0] == bounds[1] and made_of == f"{known_of}Create"


def _is_one_of(place: str, names: dict[str, str]) -> bool:
    parts = place.split("/")
    return parts[:2] == ["components", "schemas"] and parts[2] in names


def _is_string_or_null(schema: SchemaNode) -> bool:
    return schema.get("type") == "string" and schema.get("nullable") is True
