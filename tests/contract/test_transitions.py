"""State machines come from the contract, and fit the enum of their states or stop the start."""

from typing import Any

import pytest

from api.contract.errors import ContractViolation
from api.contract.schemas import SchemaNode
from api.contract.transitions import compile_lifecycle

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
    lifecycle = compile_lifecycle(bundle(ACTIONS, open={"lapse": ["gone"]}), name)
    assert lifecycle.allowed("open") == ("edit", "pay")
    assert lifecycle.allowed("paid") == ()
    assert lifecycle.target("open", "pay", "paid") == "paid"
    assert lifecycle.target("open", "lapse", "gone", automatic=True) == "gone"


def test_nothing_needs_to_be_automatic() -> None:
    assert compile_lifecycle(bundle(ACTIONS), "Status").automatic == {}


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (bundle({"open": {}, "paid": {}}), "the state gone stands either"),
        (bundle({**ACTIONS, "lost": {}}), "the state lost stands either"),
        (bundle({**ACTIONS, "paid": {"edit": ["lost"]}}), "the state paid has an action edit"),
        (bundle({**ACTIONS, "paid": {"edit": []}}), "the state paid has an action edit"),
        (bundle(ACTIONS, lost={"lapse": ["gone"]}), "the state lost stands in automatic"),
        (bundle(ACTIONS, open={"lapse": ["lost"]}), "the state open has an action lapse"),
        (bundle(ACTIONS, open={"pay": ["paid"]}), "is automatic as well"),
    ],
)
def test_a_state_machine_that_does_not_fit_its_states_stops_the_start(
    document: SchemaNode, reason: str
) -> None:
    with pytest.raises(ContractViolation, match=reason):
        compile_lifecycle(document, "Status")
