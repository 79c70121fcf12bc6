"""How large a valid body can be: the bounds of its schema, added up.

White space aside, no text longer than that can be valid, so that it need not be parsed to be
refused. Parsing holds the interpreter, and with it every other request, for as long as it takes.
"""

from api.contract.schemas import LONGEST_NAME, PROPERTY_NAMES, SchemaNode, flatten

_LONGEST_SCALAR = 512
"""Characters of a number, a boolean or null, with digits to spare."""
_ESCAPED = 12
"""Bytes of a character that is written as two escapes: `\\ud83d\\ude00`."""
_SMALL = 65_536
"""Bytes that are not worth a second look whatever the schema says."""
_WHITE_SPACE = b" \t\r\n"


def largest_body(bundle: SchemaNode, schema: SchemaNode) -> int | None:
    """Return the bytes that a valid body can have besides white space; None if there is no bound.

    The schema must not refer to itself.
    """
    schema = flatten(bundle, schema)
    match schema.get("type"):
        case "string":
            length = schema.get("maxLength")
            return None if length is None else _ESCAPED * int(length) + 2
        case "array":
            item, count = largest_body(bundle, schema["items"]), schema.get("maxItems")
            return None if item is None or count is None else (item + 1) * int(count) + 2
        case "object":
            return _largest_object(bundle, schema)
        case None:
            return None
    return _LONGEST_SCALAR


def _largest_object(bundle: SchemaNode, schema: SchemaNode) -> int | None:
    if PROPERTY_NAMES in schema:
        return _largest_map(bundle, schema)
    if schema.get("additionalProperties") is not False:
        return None
    total = 2
    for name, declared in schema.get("properties", {}).items():
        value = largest_body(bundle, declared)
        if value is None:
            return None
        total += _ESCAPED * len(name) + len('"":,') + value
    return total


def _largest_map(bundle: SchemaNode, schema: SchemaNode) -> int | None:
    """Add up a map, the names of which the validator bounds because their pattern is given."""
    values, count = schema.get("additionalProperties"), schema.get("maxProperties")
    value = largest_body(bundle, values) if isinstance(values, dict) else None
    if value is None or count is None:
        return None
    return (_ESCAPED * LONGEST_NAME + len('"":,') + value) * int(count) + 2


def is_too_large(text: bytes, largest: int | None) -> bool:
    """Tell whether a text is too large to be valid, without reading what it says."""
    if largest is None or len(text) <= max(largest, _SMALL):
        return False
    return len(text.translate(None, _WHITE_SPACE)) > max(largest, _SMALL)
