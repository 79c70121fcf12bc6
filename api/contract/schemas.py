"""OpenAPI 3.0 schemas, compiled once into validators that report where and why, never what.

The dialect of OpenAPI 3.0 is not JSON Schema: `nullable`, boolean `exclusiveMinimum` and integer
formats are translated here to JSON Schema 2020-12, which `jsonschema-rs` compiles. Its regular
expressions are Rust's: linear in the input, and `$` is the end of the text and nothing else.
"""

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import jsonschema_rs

from api.contract.errors import MAX_VIOLATIONS, BodyViolation, ContractViolation
from api.contract.strict_json import INT64_MAX, INT64_MIN

SchemaNode: TypeAlias = dict[str, Any]
"""An object of the contract document: YAML that only this package reads, hence untyped inside."""

_ANNOTATIONS = {"example", "discriminator", "xml", "externalDocs", "deprecated", "readOnly"} | {
    "writeOnly",
    "nullable",
    "exclusiveMinimum",
    "exclusiveMaximum",
}
_INTEGER_RANGES = {"int32": (-(2**31), 2**31 - 1), "int64": (INT64_MIN, INT64_MAX)}
_LONGEST_PATTERN = 80
"""Characters of a pattern that a person may be shown; a longer one explains nothing."""
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_SUBSCHEMAS = ("items", "not", "additionalProperties")
_SUBSCHEMA_LISTS = ("allOf", "anyOf", "oneOf")
_COMPONENTS = "#/components/schemas/"
PROPERTY_NAMES = "x-property-names"
"""The pattern that the names in a map match: OpenAPI 3.0 lacks JSON Schema's `propertyNames`."""
LONGEST_NAME = 512
"""Characters of a name in such a map, whatever its pattern says."""


def resolve(bundle: SchemaNode, node: SchemaNode) -> SchemaNode:
    """Follow a node's `$ref` within the bundle until it is the thing itself."""
    while "$ref" in node:
        target: SchemaNode = bundle
        for name in str(node["$ref"]).removeprefix("#/").split("/"):
            target = target[name]
        node = target
    return node


def flatten(bundle: SchemaNode, schema: SchemaNode) -> SchemaNode:
    """Follow a schema's references and merge its `allOf` into one schema."""
    schema = resolve(bundle, schema)
    if "allOf" not in schema:
        return {"type": "object", **schema} if "properties" in schema else schema
    merged: SchemaNode = {}
    properties: SchemaNode = {}
    own = {key: value for key, value in schema.items() if key != "allOf"}
    for part in [*(flatten(bundle, part) for part in schema["allOf"]), own]:
        merged |= part
        properties |= part.get("properties", {})
    return {"type": "object", **merged, "properties": properties} if properties else merged


class Validator:
    """One compiled schema."""

    def __init__(self, bundle: SchemaNode, schema: SchemaNode) -> None:
        definitions: dict[str, SchemaNode] = {}
        root = _translate(bundle, schema, definitions)
        self._schema: SchemaNode = {**root, "$defs": definitions}
        self._names = frozenset(_property_names(self._schema))
        try:
            self._compiled = jsonschema_rs.Draft202012Validator(
                self._schema,
                validate_formats=True,
                formats={"email": _is_email},
                ignore_unknown_formats=True,
                pattern_options=jsonschema_rs.RegexOptions(),
            )
        except (jsonschema_rs.ValidationError, ValueError) as error:
            place = schema.get("$ref") or schema.get("description") or "without a name"
            reason = str(error).partition("\n")[0]
            raise ContractViolation(f"the schema {place} cannot be compiled: {reason}") from None

    def is_valid(self, value: object) -> bool:
        """Tell whether a value fits, without saying why not."""
        return self._compiled.is_valid(value)

    def faults(self, value: object) -> tuple[list[BodyViolation], list[str]]:
        """Return the violations (at most 50) and the names of absent members."""
        violations: list[BodyViolation] = []
        missing: list[str] = []
        for error in itertools.islice(self._compiled.iter_errors(value), MAX_VIOLATIONS):
            pointer = self._pointer(error.instance_path)
            if error.kind.name == "required":
                pointer = f"{pointer}/{_escape(str(error.kind.value))}"
                missing.append(str(error.kind.value))
            violations.append(BodyViolation(pointer, error.kind.name, self._message(error)))
        return violations, list(dict.fromkeys(missing))

    def scalar_faults(self, value: object) -> Iterator[tuple[str, str]]:
        """Yield code and message of each fault, for values that have no inner places."""
        if self._compiled.is_valid(value):
            return
        for error in self._compiled.iter_errors(value):
            yield error.kind.name, self._message(error)

    def _pointer(self, path: list[str | int]) -> str:
        """Write a JSON Pointer that stops before a member name that only the sender knows."""
        known = itertools.takewhile(lambda part: isinstance(part, int) or part in self._names, path)
        return "".join(f"/{_escape(str(part))}" for part in known)

    def _message(self, error: jsonschema_rs.ValidationError) -> str:
        keyword = error.kind.name
        if keyword in ("additionalProperties", "propertyNames"):
            parent: Any = self._schema
            for part in error.schema_path[:-1]:
                parent = parent[part]
            if keyword == "propertyNames":
                return f"has a member whose name does not match {parent['pattern']}"
            declared = ", ".join(parent.get("properties", {})) or "none"
            return f"has a member that is not declared; declared are: {declared}"
        wanted = getattr(error.kind, "value", None)
        if keyword == "pattern" and len(str(wanted)) > _LONGEST_PATTERN:
            return "must match the declared pattern"
        if keyword in ("type", "enum"):
            options = wanted if isinstance(wanted, list) else [wanted]
            wanted = ", ".join(str(option) for option in options)
        return _MESSAGES.get(keyword, "does not fit the schema").format(wanted)


class Validators:
    """The validators of one document, each schema compiled once however often it stands there."""

    def __init__(self, bundle: SchemaNode) -> None:
        self._bundle = bundle
        self._compiled: dict[str, Validator] = {}

    def of(self, schema: SchemaNode) -> Validator:
        """Return the validator of a schema of the document."""
        key = repr(schema)
        if key not in self._compiled:
            self._compiled[key] = Validator(self._bundle, schema)
        return self._compiled[key]

    def component(self, name: str) -> Validator:
        """Return the validator of a schema that is a component of the document."""
        return self.of({"$ref": f"{_COMPONENTS}{name}"})


def _is_email(text: str) -> bool:
    """Tell whether a text has the shape of an address, in any alphabet (RFC 6531).

    Which of these are good addresses is for the models to say; the ready-made check is for ASCII
    alone and would lock out people who have others.
    """
    return _EMAIL.fullmatch(text) is not None


_MESSAGES: Mapping[str, str] = {
    "required": "is required",
    "type": "must be of type {}",
    "enum": "must be one of: {}",
    "const": "must be {}",
    "pattern": "must match the pattern {}",
    "format": "must be a valid {}",
    "minLength": "must have at least {} characters",
    "maxLength": "must have at most {} characters",
    "minItems": "must have at least {} items",
    "maxItems": "must have at most {} items",
    "minProperties": "must have at least {} members",
    "maxProperties": "must have at most {} members",
    "uniqueItems": "must not repeat an item",
    "minimum": "must be at least {}",
    "maximum": "must be at most {}",
    "exclusiveMinimum": "must be greater than {}",
    "exclusiveMaximum": "must be less than {}",
    "multipleOf": "must be a multiple of {}",
}


def _translate(
    bundle: SchemaNode, schema: SchemaNode, definitions: dict[str, SchemaNode]
) -> SchemaNode:
    """Turn an OpenAPI 3.0 schema into JSON Schema 2020-12, collecting what it refers to."""
    if "$ref" in schema:
        name = str(schema["$ref"]).removeprefix(_COMPONENTS)
        if name not in definitions:
            definitions[name] = {}
            definitions[name] = _translate(bundle, resolve(bundle, schema), definitions)
        return {"$ref": f"#/$defs/{name}"}
    result = {
        key: value
        for key, value in schema.items()
        if key not in _ANNOTATIONS and not key.startswith("x-")
    }
    if PROPERTY_NAMES in schema:
        pattern = schema[PROPERTY_NAMES]
        result["propertyNames"] = {"pattern": pattern, "maxLength": LONGEST_NAME}
    for key in _SUBSCHEMAS:
        if isinstance(result.get(key), dict):
            result[key] = _translate(bundle, result[key], definitions)
    for key in _SUBSCHEMA_LISTS:
        if key in result:
            result[key] = [_translate(bundle, item, definitions) for item in result[key]]
    if "properties" in result:
        result["properties"] = {
            name: _translate(bundle, item, definitions)
            for name, item in result["properties"].items()
        }
    _translate_bounds(schema, result)
    return _with_null(result) if schema.get("nullable") else result


def _translate_bounds(schema: SchemaNode, result: SchemaNode) -> None:
    for bound in ("minimum", "maximum"):
        keyword = f"exclusive{bound.capitalize()}"
        if schema.get(keyword):
            result[keyword] = result.pop(bound)
    if result.get("type") == "integer" and result.get("format") in _INTEGER_RANGES:
        low, high = _INTEGER_RANGES[result.pop("format")]
        result["minimum"] = max(low, result.get("minimum", low))
        result["maximum"] = min(high, result.get("maximum", high))


def _with_null(schema: SchemaNode) -> SchemaNode:
    if "type" not in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    result = {**schema, "type": [schema["type"], "null"]}
    if "enum" in schema and None not in schema["enum"]:
        result["enum"] = [*schema["enum"], None]
    return result


def _property_names(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        yield from node.get("properties", ())
        for child in node.values():
            yield from _property_names(child)
    elif isinstance(node, list):
        for child in node:
            yield from _property_names(child)


def _escape(name: str) -> str:
    """Escape a member name for a JSON Pointer (RFC 6901, section 3)."""
    return name.replace("~", "~0").replace("/", "~1")
