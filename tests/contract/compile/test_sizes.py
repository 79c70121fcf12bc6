"""The size of the largest valid body, computed from the bounds of its schema."""

import pytest

from api.contract.compile.request_bodies import largest_body
from api.contract.compile.schemas import SchemaNode

BUNDLE: SchemaNode = {
    "components": {"schemas": {"Name": {"type": "string", "maxLength": 10}}},
}
NAME: SchemaNode = {"$ref": "#/components/schemas/Name"}
NAME_BYTES = 64 + 12 * 10 + 2
MAP: SchemaNode = {
    "type": "object",
    "maxProperties": 3,
    "additionalProperties": NAME,
    "x-property-names": "^[a-z]+$",
}


def closed(**properties: SchemaNode) -> SchemaNode:
    return {"type": "object", "additionalProperties": False, "properties": properties}


@pytest.mark.parametrize(
    ("schema", "largest"),
    [
        (NAME, NAME_BYTES),
        ({"type": "array", "items": NAME, "maxItems": 3}, 64 + 2 + 3 * (NAME_BYTES + 1)),
        (closed(a=NAME), 64 + 2 + 12 + 4 + NAME_BYTES),
        ({"allOf": [closed(a=NAME)]}, 64 + 2 + 12 + 4 + NAME_BYTES),
        ({"type": "integer"}, 64 + 512),
        ({"type": "string", "enum": ["a", "bcd"]}, 64 + 12 * 3 + 2),
        ({"type": "string"}, None),
        ({"type": "array", "items": NAME}, None),
        ({"type": "object", "properties": {"a": NAME}}, None),
        (closed(a={"type": "string"}), None),
        (MAP, 64 + 2 + 3 * (12 * 512 + 4 + NAME_BYTES)),
        ({**MAP, "additionalProperties": {"type": "string"}}, None),
        ({**MAP, "additionalProperties": True}, None),
        ({name: MAP[name] for name in MAP if name != "maxProperties"}, None),
        ({name: MAP[name] for name in MAP if name != "x-property-names"}, None),
        ({}, None),
    ],
)
def test_sizes_add_up(schema: SchemaNode, largest: int | None) -> None:
    assert largest_body(BUNDLE, schema) == largest


def test_the_longest_spelling_of_a_valid_value_fits() -> None:
    spelled = '{\n    "\\u0061": "' + "\\ud83d\\ude00" * 10 + '"\n}\n'
    largest = largest_body(BUNDLE, closed(a=NAME))
    assert largest is not None
    assert len(spelled) <= largest
