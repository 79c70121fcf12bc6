"""State machines come from the contract, and fit the enum of their states or stop the start."""

from typing import Any

import pytest

from api.contract.compile.schemas import SchemaNode
from api.contract.compile.transitions import compile_state_machine
from api.contract.engine_errors import ContractViolation
from models.lifecycle import Lifecycle

ACTIONS: SchemaNode = {
    "open": {"edit": ["open"], "pay": ["open", "paid"]},
    "paid": {},
    "gone": {},
}


def bundle(actions: SchemaNode, **automatic: Any) -> SchemaNode:  # noqa: ANN401 - a part of a document.
    transitions: SchemaNode = {"actions": actions}
    if automatic:
        transitions["automatic"] = automatic
    status = {"type": "string", "enum": ["open", "paid", "gone"], "x-transitions": transitions}
    referring: SchemaNode = {"allOf": [{"$ref": "#/components/schemas/Status"}]}
    return {"components": {"schemas": {"Status": status, "Referring": referring}}}


@pytest.mark.parametrize("name", ["Status", "Referring"])
def test_a_state_machine_is_read_with_its_order(name: str) -> None:
    machine = compile_state_machine(bundle(ACTIONS, open={"lapse": ["gone"]}), name)
    lifecycle = Lifecycle(*machine)
    assert lifecycle.allowed("open") == ("edit", "pay")
    assert lifecycle.allowed("paid") == ()
    assert lifecycle.target("open", "pay", "paid") == "paid"
    assert lifecycle.target("open", "lapse", "gone", automatic=True) == "gone"


def test_automatic_actions_are_optional() -> None:
    assert compile_state_machine(bundle(ACTIONS), "Status").automatic == {}


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"components": {"schemas": {}}}, "needs components/schemas/Status.yaml"),
        ({"components": {"schemas": {"Status": {"enum": ["open"]}}}}, "needs actions"),
        (bundle({"open": {}, "paid": {}}), "the state gone is in only one"),
        (bundle({**ACTIONS, "lost": {}}), "the state lost is in only one"),
        (bundle({**ACTIONS, "paid": {"edit": ["lost"]}}), "the state paid has an action edit"),
        (bundle({**ACTIONS, "paid": {"edit": []}}), "the state paid has an action edit"),
        (bundle(ACTIONS, lost={"lapse": ["gone"]}), "the state lost is in automatic"),
        (bundle(ACTIONS, open={"lapse": ["lost"]}), "the state open has an action lapse"),
        (bundle(ACTIONS, open={"pay": ["paid"]}), "is also automatic"),
    ],
)
def test_a_state_machine_that_differs_from_its_enum_stops_the_start(
    document: SchemaNode, reason: str
) -> None:
    with pytest.raises(ContractViolation, match=reason):
        compile_state_machine(document, "Status")
