"""OpenAPI 3.0 schemas keep their meaning, and violations never reveal what was sent."""

import json
import re
import time
from pathlib import Path

import pytest

from api.contract.compile.schemas import SchemaNode, Validator
from api.contract.engine_errors import MAX_VIOLATIONS, ContractViolation
from tests.our_document import our_document

FOLDER = Path(__file__).parents[3] / "openapi"
INT32, INT64 = 2**31, 2**63
POINT: SchemaNode = {
    "type": "object",
    "additionalProperties": False,
    "required": ["x"],
    "properties": {"x": {"type": "integer"}, "y": {"type": "integer", "default": 7}},
}
NULLABLE_POINT: SchemaNode = {"nullable": True, "allOf": [{"$ref": "#/components/schemas/Point"}]}
BUNDLE: SchemaNode = {"components": {"schemas": {"Point": POINT}}}


def accepts(schema: SchemaNode, value: object) -> bool:
    return Validator(BUNDLE, schema).is_valid(value)


@pytest.mark.parametrize(
    ("schema", "value", "fits"),
    [
        ({"type": "string", "nullable": True}, None, True),
        ({"type": "string", "nullable": True}, 1, False),
        ({"type": "string"}, None, False),
        ({"type": "string", "enum": ["a"], "nullable": True}, None, True),
        ({"type": "string", "enum": ["a"], "nullable": True}, "b", False),
        (NULLABLE_POINT, None, True),
        (NULLABLE_POINT, {"x": 1}, True),
        (NULLABLE_POINT, {"x": "1"}, False),
        ({"type": "object", "properties": {"p": NULLABLE_POINT}}, {"p": None}, True),
        ({"$ref": "#/components/schemas/Point"}, None, False),
        ({"type": "number", "minimum": 1, "exclusiveMinimum": True}, 1, False),
        ({"type": "number", "minimum": 1, "exclusiveMinimum": True}, 1.01, True),
        ({"type": "number", "minimum": 1, "exclusiveMinimum": False}, 1, True),
        ({"type": "number", "maximum": 1, "exclusiveMaximum": True}, 1, False),
        ({"type": "number", "maximum": 1, "exclusiveMaximum": False}, 1, True),
        ({"type": "integer", "format": "int32"}, INT32 - 1, True),
        ({"type": "integer", "format": "int32"}, INT32, False),
        ({"type": "integer", "format": "int32"}, -INT32, True),
        ({"type": "integer", "format": "int32"}, -INT32 - 1, False),
        ({"type": "integer", "format": "int32", "maximum": 5}, 6, False),
        ({"type": "integer", "format": "int32", "maximum": 2**40}, INT32, False),
        ({"type": "integer", "format": "int64"}, INT64 - 1, True),
        ({"type": "integer", "format": "int64"}, INT64, False),
        ({"type": "integer", "format": "int64"}, float(INT64), False),
        ({"type": "integer", "format": "int64"}, -INT64, True),
        ({"type": "integer", "format": "int64"}, -INT64 - 1, False),
        ({"type": "integer"}, True, False),
        ({"type": "integer"}, 1.0, True),
        ({"type": "integer"}, 1.5, False),
        ({"type": "number", "multipleOf": 0.01}, 19.99, True),
        ({"type": "string", "maxLength": 1}, "\U0001f600", True),
        ({"type": "string", "maxLength": 1}, "ab", False),
    ],
)
def test_schemas_follow_openapi_3_0(schema: SchemaNode, value: object, fits: bool) -> None:  # noqa: FBT001 - a column of the table.
    assert accepts(schema, value) is fits


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("email", ["a@b.example", "a+b@b.example"], ["@", "a", "a@", "a b@c.example", "a@b c"]),
        (
            "date-time",
            ["2026-01-31T12:00:00Z", "2026-01-31T12:00:00.5+02:00"],
            ["2026-01-31", "2026-13-01T00:00:00Z", "2026-01-31T12:00:00", "now"],
        ),
        ("date", ["2028-02-29"], ["2026-02-29", "20260101", "1"]),
        (
            "uuid",
            ["0198c1a2-7b3c-7def-8123-456789abcdef"],
            ["0198c1a27b3c7def8123456789abcdef", "{0198c1a2-7b3c-7def-8123-456789abcdef}", "1"],
        ),
        ("uri", ["https://concord.example/a?b#c", "urn:x:y"], ["/a", "a b", "http://[", ""]),
    ],
)
def test_formats_are_asserted(name: str, good: list[str], bad: list[str]) -> None:
    schema = {"type": "string", "format": name}
    assert [text for text in good if not accepts(schema, text)] == []
    assert [text for text in bad if accepts(schema, text)] == []


def test_the_end_of_a_pattern_is_the_end_of_the_text() -> None:
    for text in ("abc\n", "abc\r\n", "abc\n\n", "\nabc", "ab\nc"):
        assert not accepts({"type": "string", "pattern": "^[a-z]+$"}, text)


def steps(schema: SchemaNode, length: int) -> float:
    """The least time in seconds that a text of this length takes, of several tries."""
    validator, text = Validator(BUNDLE, schema), "a" * length + "!"
    times = []
    for _ in range(5):
        began = time.perf_counter()
        validator.is_valid(text)
        times.append(time.perf_counter() - began)
    return min(times)


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|aa)+$", "^(a|a?)+$", "^([a-z]+)*x$"])
def test_patterns_take_linear_time(pattern: str) -> None:
    # With backtracking, thirty letters take seconds and 10,000 take longer than the sun will shine.
    assert steps({"type": "string", "pattern": pattern}, 10_000) < 1


@pytest.mark.parametrize("pattern", [r"^(?=a)b$", r"^(a)\1$", "^(?<!a)b$"])
def test_a_nonlinear_pattern_stops_the_start(pattern: str) -> None:
    with pytest.raises(ContractViolation, match=re.escape(json.dumps(pattern))) as caught:
        Validator(BUNDLE, {"type": "string", "pattern": pattern})
    assert "\n" not in str(caught.value)


def test_unique_items_do_not_take_quadratic_time() -> None:
    validator = Validator(BUNDLE, {"type": "array", "uniqueItems": True, "items": {}})
    began = time.perf_counter()
    assert validator.is_valid(list(range(20_000)))
    assert time.perf_counter() - began < 5


def test_a_recursive_schema_is_compiled() -> None:
    tree: SchemaNode = {
        "type": "object",
        "properties": {"next": {"$ref": "#/components/schemas/Tree"}, "id": {"type": "integer"}},
    }
    validator = Validator({"components": {"schemas": {"Tree": tree}}}, tree)
    assert validator.is_valid({"id": 1, "next": {"id": 2}})
    assert not validator.is_valid({"id": 1, "next": {"id": "2"}})


@pytest.mark.parametrize(
    ("schema", "sent", "pointers"),
    [
        (POINT, {"x": "CANARY"}, ["/x"]),
        (POINT, {"x": 1, "CANARY": 2}, [""]),
        (POINT, ["CANARY"], [""]),
        ({"type": "object", "properties": {"p": POINT}}, {"p": {"x": 1, "CANARY": 2}}, ["/p"]),
        ({"type": "array", "items": POINT}, [{"x": 1}, {"x": "CANARY"}], ["/1/x"]),
        ({"type": "object", "additionalProperties": POINT}, {"k": {"x": "CANARY"}}, ["/k/x"]),
        ({"type": "object", "properties": {"p": NULLABLE_POINT}}, {"p": {"x": "CANARY"}}, ["/p"]),
        ({"type": "object", "properties": {"a/b~c": {"type": "integer"}}}, {"a/b~c": "CANARY"},
         ["/a~1b~0c"]),
        ({"type": "string", "enum": ["a"]}, "CANARY", [""]),
        ({"type": "string", "pattern": "^a{2}$"}, "CANARY", [""]),
        ({"type": "array", "uniqueItems": True, "items": {}}, ["CANARY", "CANARY"], [""]),
        ({"not": {"type": "string"}}, "CANARY", [""]),
        ({"oneOf": [POINT, {"type": "integer"}]}, {"CANARY": 1}, [""]),
    ],
)  # fmt: skip
def test_violations_have_places_and_reasons_but_no_values(
    schema: SchemaNode, sent: object, pointers: list[str]
) -> None:
    violations, _ = Validator(BUNDLE, schema).violations(sent)
    assert [violation.pointer for violation in violations] == pointers
    assert "CANARY" not in repr(violations)
    assert all(re.fullmatch("[a-z][A-Za-z]*", violation.code) for violation in violations)


def test_missing_members_are_listed_by_name() -> None:
    schema = {"type": "object", "required": ["point"], "properties": {"point": POINT}}
    names = Validator(our_document().bundle, {"$ref": "#/components/schemas/Problem"})
    absent: list[tuple[SchemaNode, str]] = [({}, "/point"), ({"point": {}}, "/point/x")]
    for sent, pointer in absent:
        violations, missing = Validator(BUNDLE, schema).violations(sent)
        assert [violation.pointer for violation in violations] == [pointer]
        found, _ = names.violations({"missing_fields": missing})
        assert [
            violation for violation in found if violation.pointer.startswith("/missing_fields")
        ] == []


def test_the_number_of_listed_violations_is_bounded() -> None:
    validator = Validator(BUNDLE, {"type": "array", "items": {"type": "integer"}})
    assert len(validator.violations(["x"] * 1000)[0]) == MAX_VIOLATIONS == 50


LABELS: SchemaNode = {
    "type": "object",
    "maxProperties": 2,
    "additionalProperties": {"type": "string", "maxLength": 3},
    "x-property-names": "^[a-z]+$",
}


@pytest.mark.parametrize(
    ("value", "fits"),
    [
        ({}, True),
        ({"a": "b", "c" * 512: "d"}, True),
        ({"c" * 513: "d"}, False),
        ({"A": "b"}, False),
        ({"a\n": "b"}, False),
        ({"": "b"}, False),
    ],
)
def test_names_in_a_map_match_their_pattern(value: object, fits: bool) -> None:  # noqa: FBT001 - a column of the table.
    assert accepts(LABELS, value) is fits
    assert accepts({"nullable": True, "allOf": [LABELS]}, value) is fits


@pytest.mark.parametrize(
    ("name", "pointer"),
    [
        ("season!", "/labels/season!"),
        ("a/b~ü", "/labels/a~1b~0ü"),
        ("", "/labels/"),
        *((name, "/labels") for name in ("X" * 65, "a\n", "a\x9f", "a\u202e")),
    ],
)
def test_an_invalid_name_in_a_map_is_pointed_at_if_printable(name: str, pointer: str) -> None:
    bundle: SchemaNode = {"components": {"schemas": {"Labels": LABELS}}}
    labels: SchemaNode = {"$ref": "#/components/schemas/Labels"}
    thing: SchemaNode = {"type": "object", "properties": {"labels": labels}}

    (violation,), missing = Validator(bundle, thing).violations({"labels": {name: "b"}})

    assert (violation.pointer, violation.code, missing) == (pointer, "propertyNames", [])
    subject = "a member whose name" if pointer == "/labels" else "a name that"
    assert violation.message == f"has {subject} does not match ^[a-z]+$"


def test_an_invalid_value_in_a_map_is_pointed_at() -> None:
    thing: SchemaNode = {"type": "object", "properties": {"labels": LABELS}}
    (violation,), _ = Validator(BUNDLE, thing).violations({"labels": {"season": "long"}})
    assert (violation.pointer, violation.code) == ("/labels/season", "maxLength")
