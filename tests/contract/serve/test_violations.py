"""The violations found in a value are those that make it invalid."""

import pytest

from api.contract.compile.schemas import SchemaNode, Validator, flatten
from tests.contract.serve.hostile import mutations
from tests.our_document import our_document

BUNDLE = our_document().bundle
SCHEMAS: SchemaNode = BUNDLE["components"]["schemas"]
# Only files have no example, as a rule of the lint says; they are not JSON.
JSON_SCHEMAS = [name for name in SCHEMAS if "example" in flatten(BUNDLE, SCHEMAS[name])]
LINES: SchemaNode = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "lines": {"type": "array", "maxItems": 2, "items": {"type": "integer"}},
        "note": {"type": "string", "maxLength": 3, "pattern": "^[a-z]*$"},
        "labels": {"type": "object", "maxProperties": 1, "additionalProperties": {"enum": ["a"]}},
    },
}


@pytest.mark.parametrize("name", JSON_SCHEMAS)
def test_a_value_has_violations_if_and_only_if_invalid(name: str) -> None:
    validator = Validator(BUNDLE, {"$ref": f"#/components/schemas/{name}"})
    for value in mutations(flatten(BUNDLE, SCHEMAS[name])["example"], seed=name):
        violations, _ = validator.violations(value)
        assert bool(violations) is not validator.is_valid(value), value


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"lines": ["a", "b", "c"]}, [("/lines", "maxItems")]),
        ({"note": "ABCD"}, [("/note", "maxLength"), ("/note", "pattern")]),
        ({"labels": {"a": 1, "b": 2}}, [("/labels", "maxProperties")]),
        ({"lines": ["a", "b"]}, [("/lines/0", "type"), ("/lines/1", "type")]),
        (
            {"lines": [1, 2, 3], "note": "A", "x": 1},
            [("/lines", "maxItems"), ("/note", "pattern"), ("", "additionalProperties")],
        ),
    ],
)
def test_an_oversized_value_is_not_entered(value: object, found: list[tuple[str, str]]) -> None:
    violations, _ = Validator(BUNDLE, LINES).violations(value)
    assert [(each.pointer, each.code) for each in violations] == found


@pytest.mark.parametrize(("name", "place"), [("a/b", "/a~1b"), ("a\tb", "")])
def test_only_printable_names_extend_a_pointer(name: str, place: str) -> None:
    inner = {"type": "object", "properties": {"note": {"type": "integer"}}, "required": ["lines"]}
    schema = {"type": "object", "additionalProperties": inner, "properties": {"note": {}}}
    violations, missing = Validator(BUNDLE, schema).violations({name: {"note": "x"}})
    assert [(each.pointer, each.code) for each in violations] == [
        (f"{place}/lines", "required"),
        (f"{place}/note" if place else "", "type"),
    ]
    assert missing == ["lines"]


def test_property_names_match_the_pattern_too() -> None:
    schema: SchemaNode = {
        "type": "object",
        "x-property-names": "^[a-z]+$",
        "properties": {"A": {"type": "integer"}},
    }
    violations, _ = Validator(BUNDLE, schema).violations({"A": 1})
    assert [each.code for each in violations] == ["propertyNames"]


def test_a_declared_message_replaces_the_pattern() -> None:
    schema: SchemaNode = {
        "type": "object",
        "x-property-names": "^[a-z]+$",
        "x-message": "must have names of letters",
        "additionalProperties": {
            "type": "string",
            "pattern": "^[A-Z]+$",
            "x-message": "must shout",
        },
    }
    violations, _ = Validator(BUNDLE, schema).violations({"1": "A", "a": "b"})
    assert [(each.pointer, each.message) for each in violations] == [
        ("/1", "must have names of letters"),
        ("/a", "must shout"),
    ]
