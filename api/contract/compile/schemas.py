"""OpenAPI 3.0 schemas, compiled once into validators that never reveal the invalid value.

The dialect of OpenAPI 3.0 is not JSON Schema: `nullable`, boolean `exclusiveMinimum` and integer
formats are translated to JSON Schema 2020-12, which `jsonschema-rs` compiles. Patterns use Rust's
regular expressions: they run in linear time, and `$` matches only at the end of the text.
"""

import re
from contextlib import suppress
from functools import cached_property
from typing import Any, TypeAlias

import jsonschema_rs

from api.contract.compile.violations import MESSAGE, Check, Finder, missing_name
from api.contract.engine_errors import MAX_VIOLATIONS, ContractViolation, Violation
from api.contract.strict_json import INT64_MAX, INT64_MIN

SchemaNode: TypeAlias = dict[str, Any]
"""An object of the contract document: YAML that only this package reads, hence untyped."""

_ANNOTATIONS = {"example", "discriminator", "xml", "externalDocs", "deprecated", "readOnly"} | {
    "writeOnly",
    "nullable",
    "exclusiveMinimum",
    "exclusiveMaximum",
}
_INTEGER_RANGES = {"int32": (-(2**31), 2**31 - 1), "int64": (INT64_MIN, INT64_MAX)}
# Blanks, and invisible marks such as those that reverse the direction of writing.
_AROUND = (
    " \t\xa0\xad\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u202f"
    "\u2060\u2066\u2067\u2068\u2069\u3000\ufeff"
)
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
SUBSCHEMAS = ("items", "not", "additionalProperties")
SUBSCHEMA_LISTS = ("allOf", "anyOf", "oneOf")
_COMPONENTS = "#/components/schemas/"
PROPERTY_NAMES = "x-property-names"
"""Key of the pattern for a map's names, because OpenAPI 3.0 lacks `propertyNames`."""
LONGEST_NAME = 512
"""Maximum length of a name in a map with `x-property-names`, in characters."""


def resolve(bundle: SchemaNode, node: SchemaNode) -> SchemaNode:
    """Follow a node's `$ref` within the bundle until it is resolved."""
    while "$ref" in node:
        target: SchemaNode = bundle
        for name in str(node["$ref"]).removeprefix("#/").split("/"):
            target = target[name]
        node = target
    return node


def flatten(bundle: SchemaNode, schema: SchemaNode) -> SchemaNode:
    """Resolve a schema's references, and merge its `allOf` into one schema."""
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


class _Enough(Exception):
    """The caller has as many violations as it asked for."""


class Validator:
    """A compiled schema."""

    def __init__(self, bundle: SchemaNode, schema: SchemaNode) -> None:
        self._definitions: dict[str, SchemaNode] = {}
        self._schema = _translate(bundle, schema, self._definitions)
        try:
            self._compiled = self._compile(self._schema)
        except (jsonschema_rs.ValidationError, ValueError) as error:
            place = schema.get("$ref") or schema.get("description") or "without a name"
            reason = str(error).partition("\n")[0]
            raise ContractViolation(f"the schema {place} cannot be compiled: {reason}") from None

    def is_valid(self, value: object) -> bool:
        """Return whether a value is valid, without collecting violations."""
        return self._compiled.is_valid(value)

    def violations(self, value: object) -> tuple[list[Violation], list[str]]:
        """Return the violations (at most 50) and the names of missing members."""
        violations = self._find(value, MAX_VIOLATIONS)
        missing = filter(None, map(missing_name, violations))
        return violations, list(dict.fromkeys(missing))

    def violation(self, value: object) -> Violation | None:
        """Return the first violation; None if the value is valid."""
        return next(iter(self._find(value, 1)), None)

    def _find(self, value: object, most: int) -> list[Violation]:
        found: list[Violation] = []

        def note(violation: Violation) -> None:
            found.append(violation)
            if len(found) == most:
                raise _Enough

        if not self._compiled.is_valid(value):
            with suppress(_Enough):
                self._finder.find(value, note)
        return found

    @cached_property
    def _finder(self) -> Finder:
        definitions: dict[str, Finder] = {}
        for name, schema in self._definitions.items():
            definitions[name] = Finder(schema, definitions, self._compile_check)
        return Finder(self._schema, definitions, self._compile_check)

    def _compile_check(self, schema: SchemaNode) -> Check:
        return self._compile(schema).is_valid

    def _compile(self, schema: SchemaNode) -> jsonschema_rs.Draft202012Validator:
        return jsonschema_rs.Draft202012Validator(
            {**schema, "$defs": self._definitions},
            validate_formats=True,
            formats={"email": _is_email},
            ignore_unknown_formats=True,
            pattern_options=jsonschema_rs.RegexOptions(),
        )


class Validators:
    """The validators of a document, which compile each distinct schema once."""

    def __init__(self, bundle: SchemaNode) -> None:
        self._bundle = bundle
        self._compiled: dict[str, Validator] = {}

    def of(self, schema: SchemaNode) -> Validator:
        """Return the validator for a schema of the document."""
        key = repr(schema)
        if key not in self._compiled:
            self._compiled[key] = Validator(self._bundle, schema)
        return self._compiled[key]

    def component(self, name: str) -> Validator:
        """Return the validator for a component schema of the document."""
        return self.of({"$ref": f"{_COMPONENTS}{name}"})


def _is_email(text: str) -> bool:
    """Return whether a text looks like an email address in any alphabet (RFC 6531).

    The models decide which addresses are acceptable. The validator's built-in check is limited to
    ASCII and would exclude people whose addresses are not. Blanks and invisible marks around the
    address are ignored, because people often copy them along.
    """
    return _EMAIL.fullmatch(text.strip(_AROUND)) is not None


def _translate(
    bundle: SchemaNode, schema: SchemaNode, definitions: dict[str, SchemaNode]
) -> SchemaNode:
    """Translate an OpenAPI 3.0 schema to JSON Schema 2020-12, and collect its definitions."""
    if "$ref" in schema:
        name = str(schema["$ref"]).removeprefix(_COMPONENTS)
        if name not in definitions:
            definitions[name] = {}
            definitions[name] = _translate(bundle, resolve(bundle, schema), definitions)
        return {"$ref": f"#/$defs/{name}"}
    result = {
        key: value
        for key, value in schema.items()
        if key not in _ANNOTATIONS and (key == MESSAGE or not key.startswith("x-"))
    }
    if PROPERTY_NAMES in schema:
        pattern = schema[PROPERTY_NAMES]
        result["propertyNames"] = {"pattern": pattern, "maxLength": LONGEST_NAME}
    for key in SUBSCHEMAS:
        if isinstance(result.get(key), dict):
            result[key] = _translate(bundle, result[key], definitions)
    for key in SUBSCHEMA_LISTS:
        if key in result:
            result[key] = [_translate(bundle, item, definitions) for item in result[key]]
    if "properties" in result:
        result["properties"] = {
            name: _translate(bundle, item, definitions)
            for name, item in result["properties"].items()
        }
    _translate_bounds(schema, result)
    return with_null(result) if schema.get("nullable") else result


def _translate_bounds(schema: SchemaNode, result: SchemaNode) -> None:
    translate_exclusive_bounds(schema, result)
    if result.get("type") == "integer" and result.get("format") in _INTEGER_RANGES:
        low, high = _INTEGER_RANGES[result.pop("format")]
        result["minimum"] = max(low, result.get("minimum", low))
        result["maximum"] = min(high, result.get("maximum", high))


def translate_exclusive_bounds(schema: SchemaNode, result: SchemaNode) -> None:
    """Write the exclusive bounds of an OpenAPI 3.0 schema as in JSON Schema 2020-12."""
    for bound in ("minimum", "maximum"):
        keyword = f"exclusive{bound.capitalize()}"
        if schema.get(keyword):
            result[keyword] = result.pop(bound)


def with_null(schema: SchemaNode) -> SchemaNode:
    """Let a schema of JSON Schema 2020-12 allow null, as `nullable` does in OpenAPI 3.0."""
    if "type" not in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    result = {**schema, "type": [schema["type"], "null"]}
    if "enum" in schema and None not in schema["enum"]:
        result["enum"] = [*schema["enum"], None]
    return result
