"""Parameters are read strictly by type, style and explode, and say what is wrong with them."""

import pytest

from api.contract.compile.parameters import (
    Parameter,
    QueryParameters,
    Value,
    compile_parameter,
    decode_headers,
    decode_path,
)
from api.contract.compile.schemas import SchemaNode, Validators, flatten
from api.contract.engine_errors import ContractViolation, InvalidParameters

INTEGER: SchemaNode = {"type": "integer", "format": "int64"}
INTEGERS: SchemaNode = {"type": "array", "items": INTEGER, "maxItems": 3}
TEXT: SchemaNode = {"type": "string"}
TEXTS: SchemaNode = {"type": "array", "items": TEXT}
REFUSED = "refused"
ID = "0198c1a2-7b3c-7def-8123-456789abcdef"


def parameter(schema: SchemaNode, place: str = "query", **more: object) -> Parameter:
    declared = {"name": "p", "in": place, "schema": flatten({}, schema), **more}
    return compile_parameter(declared, Validators({}))


def query(declared: Parameter, text: str) -> Value:
    """Return the value of `p` in a query, or the word for its refusal."""
    try:
        return QueryParameters({"p": declared}).decode(text.encode("latin-1"))["p"]
    except InvalidParameters:
        return REFUSED


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        ({"type": "boolean"}, "true", True),
        ({"type": "boolean"}, "false", False),
        *(({"type": "boolean"}, text, REFUSED) for text in ("True", "1", "0", "", "yes", " true")),
        (INTEGER, "0", 0),
        (INTEGER, "-7", -7),
        (INTEGER, "%37", 7),
        (INTEGER, "9223372036854775807", 2**63 - 1),
        (INTEGER, "-9223372036854775808", -(2**63)),
        (INTEGER, "9223372036854775808", REFUSED),
        (INTEGER, "-9223372036854775809", REFUSED),
        *((INTEGER, text, REFUSED) for text in ("", "+1", "%2B1", "01", "1_000", "1.0", "1e3")),
        *((INTEGER, text, REFUSED) for text in ("%D9%A1", "%EF%BC%91", "0x1", "%201", "1%0A")),
        (INTEGER, "9" * 5000, REFUSED),
        ({"type": "number"}, "1.5e-3", 0.0015),
        *(({"type": "number"}, text, REFUSED) for text in ("nan", "inf", "1e999", "1_0", ".5")),
        (TEXT, "a+b%2Bc", "a b+c"),
        (TEXT, "%C3%A9", "é"),
        (TEXT, "", ""),
        (TEXT, "a=b", "a=b"),
        *((TEXT, text, REFUSED) for text in ("%", "%4", "%zz", "%FF", "%ED%A0%80", "%00", "%0A")),
        ({**TEXT, "enum": ["a"]}, "CANARY", REFUSED),
        ({**INTEGER, "nullable": True}, "", REFUSED),
        ({"allOf": [INTEGER]}, "5", 5),
        ({**TEXT, "format": "uuid"}, ID.upper(), ID),
        *(({**TEXT, "format": "uuid"}, text, REFUSED) for text in (ID[1:], f"%7B{ID}%7D")),
    ],
)
def test_a_value_is_decoded_strictly(schema: SchemaNode, text: str, value: Value) -> None:
    read = query(parameter(schema), f"p={text}")
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("schema", "declared", "text", "value"),
    [
        (INTEGERS, {}, "p=1&p=2", [1, 2]),
        (INTEGERS, {}, "p=1", [1]),
        (INTEGERS, {}, "p=1,2", REFUSED),
        (INTEGERS, {}, "p=1&p=x", REFUSED),
        (INTEGERS, {}, "p=1&p=2&p=3&p=4", REFUSED),
        (INTEGERS, {"style": "form", "explode": True}, "p=1&p=2", [1, 2]),
        (INTEGERS, {"explode": False}, "p=1,2", [1, 2]),
        (INTEGERS, {"explode": False}, "p=1,2&p=3", REFUSED),
        (INTEGERS, {"explode": False}, "p=1,,2", REFUSED),
        (INTEGERS, {"explode": False}, "p=1,2,3,4", REFUSED),
        (TEXTS, {"explode": False}, "p=a%2Cb,c", ["a,b", "c"]),
        (TEXTS, {"explode": False}, "p=a+b,c%20d", ["a b", "c d"]),
        (INTEGERS, {"style": "spaceDelimited", "explode": False}, "p=1%202", [1, 2]),
        (INTEGERS, {"style": "spaceDelimited", "explode": False}, "p=1+2", [1, 2]),
        (INTEGERS, {"style": "pipeDelimited", "explode": False}, "p=1|2", [1, 2]),
        (INTEGERS, {"style": "pipeDelimited", "explode": False}, "p=1%7C2", [1, 2]),
    ],
)
def test_an_array_is_decoded_by_style_and_explode(
    schema: SchemaNode, declared: dict[str, object], text: str, value: Value
) -> None:
    assert query(parameter(schema, "query", **declared), text) == value


@pytest.mark.parametrize(
    ("declared", "schema"),
    [
        ({"style": "deepObject"}, {"type": "object", "properties": {}}),
        ({}, {"type": "object", "properties": {}}),
        ({}, {"type": "array", "items": INTEGERS}),
    ],
)
def test_an_undecodable_parameter_stops_the_start(
    declared: dict[str, object], schema: SchemaNode
) -> None:
    with pytest.raises(ContractViolation, match="p "):
        parameter(schema, "query", **declared)


def test_omitted_parameters_have_their_defaults() -> None:
    limit = parameter({**INTEGER, "default": 25})
    assert query(limit, "") == 25
    assert query(limit, "p=3") == 3
    assert query(parameter(INTEGER), "") is None
    assert query(parameter(INTEGER, required=True), "") == REFUSED


def test_a_default_array_is_not_shared_by_requests() -> None:
    tags = parameter({**TEXTS, "default": []})
    first = query(tags, "")
    assert isinstance(first, list)
    first.append("of the first request")
    assert query(tags, "") == []


def test_all_violations_of_a_query_are_reported_at_once() -> None:
    declared = QueryParameters({"a": parameter(INTEGER), "b": parameter(INTEGER, required=True)})
    with pytest.raises(InvalidParameters) as caught:
        declared.decode(b"a=x&CANARY=1&b=1&b=2")
    assert [violation.code for violation in caught.value.violations] == [
        "unknown",
        "type",
        "repeated",
    ]
    assert "CANARY" not in repr(caught.value.violations)


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        (INTEGERS, "1,2", [1, 2]),
        (INTEGERS, "1, 2 ,3", [1, 2, 3]),
        (INTEGER, "5", 5),
        (TEXT, "a,b", "a,b"),
        (TEXT, "a+b%20c", "a+b%20c"),
    ],
)
def test_headers_are_lists_and_are_not_percent_encoded(
    schema: SchemaNode, text: str, value: Value
) -> None:
    assert decode_headers({"x-p": parameter(schema, "header")}, {"x-p": text})["p"] == value


@pytest.mark.mission("M4")
@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        (INTEGER, "7", 7),
        (INTEGER, "x", REFUSED),
        ({**INTEGER, "minimum": 1}, "0", REFUSED),
        ({**TEXT, "format": "uuid"}, ID.upper(), ID),
        ({**TEXT, "format": "uuid"}, "0198c1a27b3c7def8123456789abcdef", REFUSED),
        ({**TEXT, "pattern": "^[a-z]+(/[a-z]+)*$"}, "avatars/ada", "avatars/ada"),
        ({**TEXT, "pattern": "^[a-z]+(/[a-z]+)*$"}, "../etc", REFUSED),
        (INTEGERS, "1,2", [1, 2]),
    ],
)  # fmt: skip
def test_an_invalid_path_value_is_none(schema: SchemaNode, text: str, value: Value) -> None:
    decoded = decode_path([parameter(schema, "path", required=True)], [text])
    assert decoded == (None if value == REFUSED else {"p": value})
