"""Handlers get bodies with their defaults, and values of the types that the contract says."""

from datetime import UTC, datetime
from uuid import UUID

import orjson
import pytest

from api.contract.compile.normalisers import compile_normaliser, read_date_time
from api.contract.compile.schemas import SchemaNode
from api.contract.engine_errors import ContractViolation

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
def test_defaults_are_filled_in_and_integers_normalised(
    schema: SchemaNode, sent: object, handed_over: object
) -> None:
    # The text tells 1 from 1.0, which compare as equal.
    assert orjson.dumps(normalised(schema, sent), option=orjson.OPT_SORT_KEYS) == orjson.dumps(
        handed_over
    )


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31t12:00:00.5z", datetime(2026, 1, 31, 12, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-01-31T12:00:00+05:45", datetime(2026, 1, 31, 6, 15, tzinfo=UTC)),
        ("2026-01-31T12:00:00-00:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00:00.000001Z", datetime(2026, 1, 31, 12, 0, 0, 1, tzinfo=UTC)),
        ("2026-01-31T12:00:00.000000001Z", datetime(2026, 1, 31, 12, 0, 0, 1, tzinfo=UTC)),
        ("2026-01-31T12:00:59.999999999Z", datetime(2026, 1, 31, 12, 1, tzinfo=UTC)),
        ("2016-12-31T23:59:60.5Z", datetime(2017, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)),
        ("0000-12-31T00:00:00Z", datetime.min.replace(tzinfo=UTC)),
        ("0001-01-01T00:00:00+00:01", datetime.min.replace(tzinfo=UTC)),
        ("9999-12-31T23:59:59-00:01", datetime.max.replace(tzinfo=UTC)),
        ("9999-12-31T23:59:59.9999999Z", datetime.max.replace(tzinfo=UTC)),
    ],
)
def test_a_date_time_is_an_instant_in_utc(text: str, instant: datetime) -> None:
    assert (read_date_time(text), read_date_time(text).tzinfo) == (instant, UTC)


def test_uuids_and_date_times_arrive_as_objects() -> None:
    name, at = "0198C1A2-7B3C-7DEF-8123-456789ABCDEF", "2026-01-31t13:00:00+01:00"
    schema: SchemaNode = {
        "type": "object",
        "properties": {
            "id": {"type": "string", "format": "uuid"},
            "at": {"type": "array", "items": {"type": "string", "format": "date-time"}},
            "until": {"type": "string", "format": "date-time", "nullable": True},
        },
    }
    assert normalised(schema, {"id": name, "at": [at], "until": None}) == {
        "id": UUID(name),
        "at": [datetime(2026, 1, 31, 12, tzinfo=UTC)],
        "until": None,
    }


@pytest.mark.mission("M25")
def test_a_default_is_not_shared_by_requests() -> None:
    tags = {"type": "array", "items": {"type": "string"}, "default": []}
    normalise = compile_normaliser(BUNDLE, {"type": "object", "properties": {"tags": tags}})
    assert normalise is not None
    normalise({})["tags"].append("of the first request")
    assert normalise({}) == {"tags": []}


def test_an_identity_normaliser_costs_nothing() -> None:
    texts = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "boolean"}}}
    assert compile_normaliser(BUNDLE, texts) is None


def test_parsed_values_are_not_modified() -> None:
    body = {"x": 1.0}
    assert normalised(POINT, body) == {"x": 1, "y": 7}
    assert body == {"x": 1.0}


def test_a_recursive_request_schema_stops_the_start() -> None:
    with pytest.raises(ContractViolation, match="Tree"):
        compile_normaliser(BUNDLE, {"$ref": "#/components/schemas/Tree"})
