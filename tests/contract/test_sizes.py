"""How large a body can be and still be valid, from the bounds of its schema."""

import pytest

from api.contract.schemas import SchemaNode
from api.contract.sizes import is_too_large, largest_body

BUNDLE: SchemaNode = {
    "components": {"schemas": {"Name": {"type": "string", "maxLength": 10}}},
}
NAME: SchemaNode = {"$ref": "#/components/schemas/Name"}


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
        (NAME, 122),
        ({"type": "array", "items": NAME, "maxItems": 3}, 371),
        (closed(a=NAME), 2 + 12 + 4 + 122),
        ({"allOf": [closed(a=NAME)]}, 2 + 12 + 4 + 122),
        ({"type": "integer"}, 512),
        ({"type": "string"}, None),
        ({"type": "array", "items": NAME}, None),
        ({"type": "object", "properties": {"a": NAME}}, None),
        (closed(a={"type": "string"}), None),
        (MAP, 2 + 3 * (12 * 512 + 4 + 122)),
        ({**MAP, "additionalProperties": {"type": "string"}}, None),
        ({**MAP, "additionalProperties": True}, None),
        ({name: MAP[name] for name in MAP if name != "maxProperties"}, None),
        ({name: MAP[name] for name in MAP if name != "x-property-names"}, None),
        ({}, None),
    ],
)
def test_bounds_add_up(schema: SchemaNode, largest: int | None) -> None:
    assert largest_body(BUNDLE, schema) == largest


def test_the_longest_spelling_of_a_valid_value_fits() -> None:
    spelled = '{"\\u0061":"' + "\\ud83d\\ude00" * 10 + '"}'
    largest = largest_body(BUNDLE, closed(a=NAME))
    assert largest is not None
    assert len(spelled) <= largest


def test_white_space_does_not_count_and_small_texts_are_let_pass() -> None:
    assert not is_too_large(b'"a"' + b" " * 10**6, 100)
    assert not is_too_large(b"a" * 65_536, 100)
    assert is_too_large(b"a" * 65_537, 100)
    assert not is_too_large(b"a" * 10**6, None)
