"""The response schema decides what is sent: everything declared, and nothing else."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from uuid import UUID

import orjson
import pytest

from api.contract.compile.schemas import SchemaNode
from api.contract.compile.serializers import compile_serializer
from api.contract.engine_errors import ContractViolation

TEXT: SchemaNode = {"type": "string"}
POINT: SchemaNode = {
    "type": "object",
    "additionalProperties": False,
    "required": ["x"],
    "properties": {"x": {"type": "integer"}},
}
NODE: SchemaNode = {
    "type": "object",
    "properties": {"id": {"type": "integer"}, "next": {"$ref": "#/components/schemas/Node"}},
}
POINT_REF: SchemaNode = {"$ref": "#/components/schemas/Point"}
BUNDLE: SchemaNode = {"components": {"schemas": {"Point": POINT, "Node": NODE}}}


@dataclass
class Row:
    """What a handler may return: it knows more than it should tell."""

    x: int = 1
    secret: str = "CANARY"
    inner: object = field(default_factory=lambda: SimpleNamespace(x=2, secret="CANARY"))


def sent(schema: SchemaNode, value: object) -> object:
    return orjson.loads(compile_serializer(BUNDLE, schema)(value))


def holder(schema: SchemaNode) -> SchemaNode:
    return {"type": "object", "properties": {"p": schema}}


@pytest.mark.parametrize(
    ("schema", "value", "expected"),
    [
        (POINT, Row(), {"x": 1}),
        (POINT, {"x": 1, "secret": "CANARY"}, {"x": 1}),
        (POINT, SimpleNamespace(x=1, secret="CANARY"), {"x": 1}),
        (POINT_REF, Row(), {"x": 1}),
        ({"type": "object", "properties": {"x": {}, "inner": POINT}}, Row(),
         {"x": 1, "inner": {"x": 2}}),
        ({"type": "array", "items": POINT}, [Row(), {"x": 3, "secret": "CANARY"}],
         [{"x": 1}, {"x": 3}]),
        (holder({"type": "array", "items": POINT_REF}), {"p": (Row(),)}, {"p": [{"x": 1}]}),
        ({"type": "array", "items": {"type": "array", "items": POINT}}, [[Row()], []],
         [[{"x": 1}], []]),
        (holder({**POINT, "nullable": True}), {"p": None}, {"p": None}),
        (holder({**POINT, "nullable": True}), {"p": Row()}, {"p": {"x": 1}}),
        ({**POINT, "nullable": True}, None, None),
        ({"type": "array", "items": {**POINT, "nullable": True}}, [None], [None]),
        (holder({"nullable": True, "allOf": [POINT_REF]}), {"p": Row()}, {"p": {"x": 1}}),
        (holder({"nullable": True, "allOf": [POINT_REF]}), {"p": None}, {"p": None}),
        ({"allOf": [POINT_REF]}, Row(), {"x": 1}),
        ({"allOf": [POINT_REF, holder(TEXT)]}, {"x": 1, "p": "a", "secret": "CANARY"},
         {"x": 1, "p": "a"}),
        ({"properties": {"x": {"type": "integer"}}}, Row(), {"x": 1}),
        ({"type": "object", "additionalProperties": POINT}, {"a": Row()}, {"a": {"x": 1}}),
        ({"$ref": "#/components/schemas/Node"},
         SimpleNamespace(id=1, next=SimpleNamespace(id=2, next=None, secret="CANARY"), z=0),
         {"id": 1, "next": {"id": 2, "next": None}}),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, {"a": 1}, {"a": 1}),
        ({"type": "array", "items": TEXT}, ["a", None], ["a", None]),
    ],
)  # fmt: skip
def test_only_declared_properties_are_sent(
    schema: SchemaNode, value: object, expected: object
) -> None:
    assert sent(schema, value) == expected


@pytest.mark.parametrize("schema", [TEXT, {"type": "integer"}, {"type": "array", "items": TEXT}])
def test_an_undeclared_object_is_refused(schema: SchemaNode) -> None:
    value: object = [Row()] if schema["type"] == "array" else Row()
    with pytest.raises(TypeError):
        compile_serializer(BUNDLE, holder(schema))({"p": value})


@pytest.mark.parametrize("value", [SimpleNamespace(y=1), {"y": 1}, SimpleNamespace()])
def test_a_missing_declared_property_fails(value: object) -> None:
    with pytest.raises((AttributeError, KeyError)):
        compile_serializer(BUNDLE, POINT)(value)


def test_a_missing_property_of_an_inner_object_fails() -> None:
    write = compile_serializer(BUNDLE, {"type": "array", "items": holder(POINT_REF)})
    with pytest.raises((AttributeError, KeyError)):
        write([{"p": {"x": 1}}, {"p": {}}])


def test_times_follow_rfc_3339_and_ids_are_strings() -> None:
    moment = datetime(2026, 1, 31, 12, 0, 0, 5, UTC)
    assert sent(holder({}), {"p": moment}) == {"p": "2026-01-31T12:00:00.000005Z"}
    east = moment.astimezone(timezone(timedelta(hours=2)))
    assert sent(holder({}), {"p": east}) == {"p": "2026-01-31T14:00:00.000005+02:00"}
    assert sent(holder({}), {"p": UUID(int=1)}) == {"p": "00000000-0000-0000-0000-000000000001"}


@pytest.mark.parametrize("value", [Row(), {"secret": "CANARY"}])
def test_an_object_without_properties_is_empty(value: object) -> None:
    closed = {"type": "object", "additionalProperties": False, "properties": {}}
    assert sent(closed, value) == {}


def test_alternatives_stop_the_start() -> None:
    with pytest.raises(ContractViolation, match="oneOf"):
        compile_serializer(BUNDLE, holder({"oneOf": [POINT_REF, TEXT]}))


def test_output_is_compact_utf_8_in_contract_order() -> None:
    schema = {"type": "object", "properties": {"b": {}, "a": {}}}
    assert compile_serializer(BUNDLE, schema)({"a": "é", "b": 1}) == '{"b":1,"a":"é"}'.encode()


STATE: SchemaNode = {
    "type": "string",
    "enum": ["on", "off"],
    "x-transitions": {"actions": {"on": {"stop": ["off"], "skip": ["on"]}, "off": {}}},
}
ACTIONS: SchemaNode = {"type": "array", "items": {"type": "string", "enum": ["skip", "stop"]}}
LAMP: SchemaNode = {
    "type": "object",
    "properties": {"allowed_actions": ACTIONS, "id": {"type": "integer"}, "status": STATE},
}


@pytest.mark.parametrize("make", [dict, SimpleNamespace])
def test_allowed_actions_follow_from_the_state(make: Callable[..., object]) -> None:
    on = {"allowed_actions": ["stop", "skip"], "id": 1, "status": "on"}
    off = {"allowed_actions": [], "id": 2, "status": "off"}
    lamps = [make(id=1, status="on"), make(id=2, status="off", allowed_actions=["lie"])]
    assert sent({"type": "array", "items": LAMP}, lamps) == [on, off]
    referred: SchemaNode = {**LAMP["properties"], "status": {"allOf": [STATE]}}
    assert sent({"properties": referred}, lamps[0]) == on


def test_a_resource_rules_out_actions_that_its_state_allows() -> None:
    ruling: SchemaNode = {**ACTIONS, "x-engine-ruled-out": "no"}
    schema: SchemaNode = {"properties": {"allowed_actions": ruling, "status": STATE}}
    lamp = SimpleNamespace(status="on", no=("skip",))
    assert sent(schema, lamp) == {"allowed_actions": ["stop"], "status": "on"}
    lamp.no = ()
    assert sent(schema, lamp) == {"allowed_actions": ["stop", "skip"], "status": "on"}
    assert sent(schema, {"status": "off"}) == {"allowed_actions": [], "status": "off"}


def test_allowed_actions_without_a_state_are_read() -> None:
    schema: SchemaNode = {"properties": {"allowed_actions": ACTIONS, "status": TEXT}}
    assert sent(schema, {"status": "on", "allowed_actions": ["skip"]}) == {
        "status": "on",
        "allowed_actions": ["skip"],
    }


def test_an_undeclared_action_stops_the_start() -> None:
    few: SchemaNode = {"type": "array", "items": {"type": "string", "enum": ["stop"]}}
    schema: SchemaNode = {"properties": {"allowed_actions": few, "status": STATE}}
    with pytest.raises(ContractViolation, match="the enum of actions lacks skip"):
        compile_serializer(BUNDLE, schema)


@pytest.mark.parametrize("behind_a_reference", [True, False])
def test_a_property_may_come_from_another_attribute(*, behind_a_reference: bool) -> None:
    labels: SchemaNode = {
        "type": "object",
        "additionalProperties": TEXT,
        "x-engine-attribute": "labels",
    }
    bundle: SchemaNode = {"components": {"schemas": {"Metadata": labels}}}
    if behind_a_reference:
        labels = {"$ref": "#/components/schemas/Metadata"}
    write = compile_serializer(bundle, {"properties": {"metadata": labels}})
    thing = SimpleNamespace(labels={"a": "b"}, metadata="CANARY")
    assert orjson.loads(write(thing)) == {"metadata": {"a": "b"}}
    assert orjson.loads(write({"metadata": {"a": "b"}})) == {"metadata": {"a": "b"}}


@pytest.mark.parametrize(
    ("servers", "url"),
    [
        ([], "/files/1"),
        ([{"url": "/"}], "/files/1"),
        ([{"url": "https://a.example/b/c"}, {"url": "/d"}], "/b/c/files/1"),
    ],
)
def test_a_path_may_be_below_the_server(servers: list[SchemaNode], url: str) -> None:
    schema: SchemaNode = {"properties": {"url": {**TEXT, "x-engine-below-server": True}}}
    write = compile_serializer({"servers": servers}, schema)
    assert orjson.loads(write(SimpleNamespace(url="/files/1"))) == {"url": url}
    assert orjson.loads(write({"url": "/files/1"})) == {"url": url}


def test_a_dict_may_lack_only_optional_properties() -> None:
    address = {
        "type": "object",
        "required": ["city"],
        "properties": {"city": {"type": "string"}, "region": {"type": "string"}},
    }
    serialize = compile_serializer({}, address)
    assert serialize({"city": "Ulm"}) == b'{"city":"Ulm"}'
    assert serialize({"region": "Bavaria", "city": "Ulm"}) == b'{"city":"Ulm","region":"Bavaria"}'
    with pytest.raises(KeyError):
        serialize({"region": "Bavaria"})
    with pytest.raises(AttributeError):
        serialize(SimpleNamespace(city="Ulm"))


HOSTILE = (
    *("in", "None", "__class__", "__debug__", "not-before", "a.b", "1", "", " y", "y ", "y\n"),
    *("y; import os", "y)}; raise SystemExit", "'", '"', "'''", "\\", "\\'", "{y}", "#", "a\0b"),
    *("value", "row", "convert", "inner_0", "type", "dict", "getattr", "\ufb01", "\xb5", "\u2028"),
)
"""Names that Python reads otherwise, takes for another, does not read at all, or knows already."""


class Named:
    """An object with attributes of any name."""

    def __getattribute__(self, name: str) -> object:
        return SimpleNamespace(x=name)


@pytest.mark.parametrize("name", HOSTILE)
def test_property_names_are_data_and_never_code(name: str) -> None:
    schema: SchemaNode = {"properties": {"x": {}, name: {}}}
    assert sent(schema, {"x": 0, name: 1, "secret": "CANARY"}) == {"x": 0, name: 1}
    assert sent(schema, {"x": 0}) == {"x": 0}
    assert sent(holder({"properties": {name: POINT}}), {"p": Named()}) == {"p": {name: {"x": name}}}


def test_hostile_names_do_not_interfere() -> None:
    schema: SchemaNode = {"properties": dict.fromkeys(HOSTILE, POINT), "required": HOSTILE}
    row = {name: {"x": number} for number, name in enumerate(HOSTILE)}
    assert sent(schema, row) == row
    assert sent(schema, Named()) == {name: {"x": name} for name in HOSTILE}


@pytest.mark.parametrize("name", ["in", "a.b", "a-b", "", "1", "x; y", "\ufb01", "x\n", 7, None])
def test_an_impossible_attribute_stops_the_start(name: object) -> None:
    with pytest.raises(ContractViolation, match="not a name"):
        compile_serializer(BUNDLE, holder({"x-engine-attribute": name}))


def test_a_property_name_that_is_not_a_string_stops_the_start() -> None:
    with pytest.raises(ContractViolation, match="not a name"):
        compile_serializer(BUNDLE, {"properties": {1: {}}})


def test_an_undeclared_state_fails() -> None:
    with pytest.raises(KeyError):
        compile_serializer(BUNDLE, LAMP)(SimpleNamespace(id=1, status="dim"))


def test_a_dict_without_a_state_has_no_allowed_actions() -> None:
    assert sent(LAMP, {"id": 1, "allowed_actions": ["lie"]}) == {"id": 1}
    with pytest.raises(KeyError):
        compile_serializer(BUNDLE, {**LAMP, "required": ["allowed_actions"]})({"id": 1})


def test_a_schema_may_be_recursive_through_lists_and_maps() -> None:
    tree: SchemaNode = {"$ref": "#/components/schemas/Tree"}
    declared: SchemaNode = {
        "below": {"type": "array", "items": tree},
        "named": {"type": "object", "additionalProperties": tree},
    }
    bundle: SchemaNode = {"components": {"schemas": {"Tree": {"properties": declared}}}}
    leaf = SimpleNamespace(below=[], named=None, secret="CANARY")
    root = SimpleNamespace(below=[leaf], named={"a": leaf, "b": {"below": None}})
    shown: SchemaNode = {"below": [], "named": None}
    assert orjson.loads(compile_serializer(bundle, tree)(root)) == {
        "below": [shown],
        "named": {"a": shown, "b": {"below": None}},
    }
