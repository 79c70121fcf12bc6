"""Normalisation of valid values: defaults, integers, UUIDs and date-times.

JSON Schema accepts `1.0` as an integer, but a handler must not receive a float where the contract
says integer. Most schemas need no work at all.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

import orjson

from api.contract.compile.schemas import SchemaNode, flatten
from api.contract.engine_errors import ContractViolation

Normalise: TypeAlias = Callable[[Any], Any]

_DATE_TIME = re.compile(r"(.{17})([0-9]{2})(?:\.([0-9]+))?(.+)")
_EARLIEST, _LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def read_date_time(text: str) -> datetime:
    """Return the instant of a valid date-time (RFC 3339, section 5.6), in UTC.

    Fractions are rounded up to a microsecond, so that comparisons with stored times stay exact. A
    leap second is the start of the next minute. Times beyond the years 1 to 9999 in UTC become the
    first or last instant of these years.
    """
    start, second, fraction, offset = _DATE_TIME.fullmatch(text.upper()).groups("0")  # type: ignore[union-attr]  # The text is valid.
    microseconds = -(-int(fraction) * 10**6 // 10 ** len(fraction))
    try:
        minute = datetime.fromisoformat(f"{start}00{offset}").astimezone(UTC)
        return minute + timedelta(seconds=int(second), microseconds=microseconds)
    except (ValueError, OverflowError):
        return _EARLIEST if text.startswith("000") else _LATEST


TYPED: Mapping[object, Callable[[str], object]] = {"uuid": UUID, "date-time": read_date_time}
"""Formats of strings that handlers receive as objects."""


def compile_normaliser(
    bundle: SchemaNode, schema: SchemaNode, inside: tuple[str, ...] = ()
) -> Normalise | None:
    """Compile a request schema into a function on valid bodies; None if there is nothing to do.

    Raises:
        ContractViolation: the schema refers to itself, so its bodies have no maximum depth.
    """
    reference = schema.get("$ref")
    if reference is not None:
        if reference in inside:
            raise ContractViolation(f"the request schema {reference} refers to itself")
        inside = (*inside, reference)
    schema = flatten(bundle, schema)
    match schema.get("type"):
        case "integer":
            return lambda value: int(value) if isinstance(value, float) else value
        case "string" if schema.get("format") in TYPED:
            convert = TYPED[schema["format"]]
            return lambda value: value and convert(value)
        case "array":
            item = compile_normaliser(bundle, schema["items"], inside)
            return item and (lambda value: value and [item(each) for each in value])
        case "object" if "properties" in schema:
            return _compile_object(bundle, schema["properties"], inside)
        case "object" if isinstance(schema.get("additionalProperties"), dict):
            each = compile_normaliser(bundle, schema["additionalProperties"], inside)
            return each and (
                lambda value: value and {name: each(item) for name, item in value.items()}
            )
    return None


def _compile_object(
    bundle: SchemaNode, properties: SchemaNode, inside: tuple[str, ...]
) -> Normalise | None:
    members: dict[str, Normalise] = {}
    defaults: dict[str, object] = {}
    for name, declared in properties.items():
        member = compile_normaliser(bundle, declared, inside)
        if member is not None:
            members[name] = member
        flat = flatten(bundle, declared)
        if "default" in flat:
            defaults[name] = flat["default"]
    if not members and not defaults:
        return None

    fresh = orjson.dumps(defaults)
    converters = tuple(members.items())

    def normalise(value: dict[str, object] | None) -> dict[str, object] | None:
        if value is None:
            return None
        # Each request gets its own copy of the defaults, so that a handler may extend a list.
        result: dict[str, object] = orjson.loads(fresh)
        result.update(value)
        for name, convert in converters:
            if name in result:
                result[name] = convert(result[name])
        return result

    return normalise
