"""Schemas of OpenAPI 3.0 mean here what they say there, and faults never tell what was sent."""

import json
import re
import time
from pathlib import Path

import pytest

from api.contract.document import load_document
from api.contract.errors import MAX_VIOLATIONS, ContractViolation
from api.contract.schemas import SchemaNode, Validator

FOLDER = Path(__file__).parents[2] / "openapi"
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
def test_the_dialect_of_openapi_is_kept(schema: SchemaNode, value: object, fits: bool) -> None:  # noqa: FBT001 - a column of the table.
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
def test_a_pattern_that_cannot_be_linear_stops_the_start(pattern: str) -> None:
    with pytest.raises(ContractViolation, match=re.escape(json.dumps(pattern))) as caught:
        Validator(BUNDLE, {"type": "string", "pattern": pattern})
    assert "\n" not in str(caught.value)


def test_unique_items_do_not_take_quadratic_time() -> None:
    validator = Validator(BUNDLE, {"type": "array", "uniqueItems": True, "items": {}})
    began = time.perf_counter()
    assert validator.is_valid(list(range(20_000)))
    assert time.perf_counter() - began < 5


def test_a_schema_that_refers_to_itself_is_compiled() -> None:
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
        ({"type": "object", "additionalProperties": POINT}, {"CANARY": {"x": "CANARY"}}, [""]),
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
def test_faults_say_where_and_why_and_never_what_was_sent(
    schema: SchemaNode, sent: object, pointers: list[str]
) -> None:
    violations, _ = Validator(BUNDLE, schema).faults(sent)
    assert [violation.pointer for violation in violations] == pointers
    assert "CANARY" not in repr(violations)
    assert all(re.fullmatch("[a-z][A-Za-z]*", violation.code) for violation in violations)


def test_absent_members_are_listed_by_the_names_that_a_problem_takes() -> None:
    schema = {"type": "object", "required": ["point"], "properties": {"point": POINT}}
    names = Validator(load_document(FOLDER).bundle, {"$ref": "#/components/schemas/Problem"})
    absent: list[tuple[SchemaNode, str]] = [({}, "/point"), ({"point": {}}, "/point/x")]
    for sent, pointer in absent:
        violations, missing = Validator(BUNDLE, schema).faults(sent)
        assert [violation.pointer for violation in violations] == [pointer]
        found, _ = names.faults({"missing_fields": missing})
        assert [fault for fault in found if fault.pointer.startswith("/missing_fields")] == []


def test_no_more_faults_are_listed_than_an_answer_holds() -> None:
    validator = Validator(BUNDLE, {"type": "array", "items": {"type": "integer"}})
    assert len(validator.faults(["x"] * 1000)[0]) == MAX_VIOLATIONS == 50


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
def test_the_names_in_a_map_fit_their_pattern(value: object, fits: bool) -> None:  # noqa: FBT001 - a column of the table.
    assert accepts(LABELS, value) is fits
    assert accepts({"nullable": True, "allOf": [LABELS]}, value) is fits


@pytest.mark.parametrize("name", ["CANARY!", "x" * 600])
def test_a_name_that_does_not_fit_is_not_repeated(name: str) -> None:
    bundle: SchemaNode = {"components": {"schemas": {"Labels": LABELS}}}
    labels: SchemaNode = {"$ref": "#/components/schemas/Labels"}
    thing: SchemaNode = {"type": "object", "properties": {"labels": labels}}

    (fault,), missing = Validator(bundle, thing).faults({"labels": {name: "b"}})

    assert (fault.pointer, fault.code, missing) == ("/labels", "propertyNames", [])
    assert fault.message == "has a member whose name does not match ^[a-z]+$"


def test_a_value_in_a_map_that_does_not_fit_points_at_the_map() -> None:
    thing: SchemaNode = {"type": "object", "properties": {"labels": LABELS}}
    (fault,), _ = Validator(BUNDLE, thing).faults({"labels": {"canary": "long"}})
    assert (fault.pointer, fault.code) == ("/labels", "maxLength")
