"""Handlers get bodies with their defaults, and integers where the contract says integer."""

import orjson
import pytest

from api.contract.errors import ContractViolation
from api.contract.normalisers import compile_normaliser
from api.contract.schemas import SchemaNode

POINT: SchemaNode = {
    "type": "object",
    "additionalProperties": False,
    "required": ["x"],
    "properties": {"x": {"type": "integer"}, "y": {"type": "integer", "default": 7}},
}
NULLABLE_POINT: SchemaNode = {"nullable": True, "allOf": [{"$ref": "#/components/schemas/Point"}]}
TREE: SchemaNode = {
    "type": "object",
    "properties": {
        "children": {"type": "array", "items": {"$ref": "#/components/schemas/Tree"}},
    },
}
BUNDLE: SchemaNode = {"components": {"schemas": {"Point": POINT, "Tree": TREE}}}


def normalised(schema: SchemaNode, value: object) -> object:
    normalise = compile_normaliser(BUNDLE, schema)
    return normalise(value) if normalise else value


@pytest.mark.parametrize(
    ("schema", "sent", "handed_over"),
    [
        (POINT, {"x": 1}, {"x": 1, "y": 7}),
        (POINT, {"x": 1.0, "y": -2.0}, {"x": 1, "y": -2}),
        (POINT, {"x": 1, "y": 0}, {"x": 1, "y": 0}),
        ({"type": "array", "items": POINT}, [{"x": 1.0}], [{"x": 1, "y": 7}]),
        ({"type": "object", "properties": {"p": POINT}}, {"p": {"x": 1}}, {"p": {"x": 1, "y": 7}}),
        ({"type": "object", "properties": {"p": POINT}}, {}, {}),
        ({"type": "integer", "nullable": True}, None, None),
        ({**POINT, "nullable": True}, None, None),
        ({"type": "array", "items": {**POINT, "nullable": True}}, [None], [None]),
        (NULLABLE_POINT, None, None),
        (NULLABLE_POINT, {"x": 1.0}, {"x": 1, "y": 7}),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, {"a": 1.0}, {"a": 1}),
    ],
)
def test_defaults_are_filled_in_and_integers_are_integers(
    schema: SchemaNode, sent: object, handed_over: object
) -> None:
    # The text tells 1 from 1.0, which compare as equal.
    assert orjson.dumps(normalised(schema, sent), option=orjson.OPT_SORT_KEYS) == orjson.dumps(
        handed_over
    )


@pytest.mark.mission("M25")
def test_a_default_is_not_shared_by_requests() -> None:
    tags = {"type": "array", "items": {"type": "string"}, "default": []}
    normalise = compile_normaliser(BUNDLE, {"type": "object", "properties": {"tags": tags}})
    assert normalise is not None
    normalise({})["tags"].append("of the first request")
    assert normalise({}) == {"tags": []}


def test_a_schema_that_changes_nothing_costs_nothing() -> None:
    texts = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "boolean"}}}
    assert compile_normaliser(BUNDLE, texts) is None


def test_what_was_parsed_is_not_changed() -> None:
    body = {"x": 1.0}
    assert normalised(POINT, body) == {"x": 1, "y": 7}
    assert body == {"x": 1.0}


def test_a_request_schema_that_refers_to_itself_stops_the_start() -> None:
    with pytest.raises(ContractViolation, match="Tree"):
        compile_normaliser(BUNDLE, {"$ref": "#/components/schemas/Tree"})
