"""Every state and every action: what the contract allows can be done, and nothing else."""

from collections.abc import Callable

import pytest

from models.database import Database
from models.errors import IllegalTransition
from models.order import Order
from models.product import Product
from tests.models.books import check_books, everything
from tests.models.dealing import (
    LIFECYCLE,
    cancel,
    deliver,
    expire,
    make_admin,
    pay,
    refund,
    ship,
    update,
)
from tests.models.shop import STATUSES, make_order, make_product, read_events, read_order

pytestmark = pytest.mark.mission("M16")

Act = Callable[[Database, Order, Product], Order]

WHOLE: dict[str, Act] = {
    "update": lambda database, order, _: update(database, order, note="Ring twice."),
    "pay": lambda database, order, _: pay(database, order),
    "cancel": lambda database, order, _: cancel(database, order),
    "ship": lambda database, order, _: ship(database, order),
    "deliver": lambda database, order, _: deliver(database, order),
    "refund": lambda database, order, _: refund(database, order),
    "expire": lambda database, order, _: expire(database, order),
}
"""Each action, done to all of an order."""

PARTLY: dict[str, Act] = {
    "pay": lambda database, order, _: pay(database, order, 1),
    "ship": lambda database, order, product: ship(database, order, [(product, 1)]),
    "refund": lambda database, order, _: refund(database, order, 1),
}
"""The actions that can be done to a part of an order."""

ENDS = {"pay": "paid", "ship": "shipped", "refund": "refunded"}
"""The states that those lead to when they are done to all of it."""

ALLOWED = {
    status: {**LIFECYCLE.actions[status], **LIFECYCLE.automatic.get(status, {})}
    for status in STATUSES
}
"""For each state all that can happen in it, and where that leads."""

TRANSITIONS = [
    (status, action, target)
    for status, actions in ALLOWED.items()
    for action, targets in actions.items()
    for target in targets
]


def make(database: Database, status: str) -> tuple[Order, Product]:
    """Bring three of a product into a state in which some of the money can still be moved."""
    product = make_product(database)
    return make_order(database, status=status, lines=[(product, 3)], paid=2), product


def test_the_contract_knows_the_actions_that_are_tried_here() -> None:
    assert {action for actions in ALLOWED.values() for action in actions} == set(WHOLE)


@pytest.mark.parametrize(("status", "action", "target"), TRANSITIONS)
def test_what_the_contract_allows_can_be_done(
    database: Database, status: str, action: str, target: str
) -> None:
    order, product = make(database, status)
    partly = action in PARTLY and target != ENDS[action]

    done = (PARTLY if partly else WHOLE)[action](database, order, product)

    assert done.status == read_order(database, order).status == target
    assert done.version == order.version + 1
    assert done.updated_at > order.updated_at
    event = read_events(database, order)[-1]
    assert (event.number, event.action, event.status) == (done.version, action, target)
    assert event.created_at == done.updated_at
    by = None if action == "expire" else make_admin(database).user_id
    assert event.actor_id == by
    check_books(database)


@pytest.mark.parametrize("status", STATUSES)
def test_what_the_contract_does_not_allow_is_refused_and_changes_nothing(
    database: Database, status: str
) -> None:
    order, product = make(database, status)
    make_admin(database)
    before = everything(database)

    for action in WHOLE.keys() - ALLOWED[status].keys():
        with pytest.raises(IllegalTransition) as refused:
            WHOLE[action](database, order, product)
        assert refused.value.extensions == {
            "state": status,
            "allowed_actions": LIFECYCLE.allowed(status),
        }
        assert f"In the state {status} the action {action} is not allowed" in refused.value.detail

    assert everything(database) == before


@pytest.mark.parametrize("status", ["cancelled", "expired"])
def test_an_order_that_was_given_up_stays_so_when_all_is_refunded(
    database: Database, status: str
) -> None:
    order, _ = make(database, status)

    refunded = refund(database, order)

    assert (refunded.status, refunded.refunded_amount) == (status, 2)
    check_books(database)


def test_nobody_can_ask_for_what_happens_by_itself() -> None:
    LIFECYCLE.check("pending", "expire", automatic=True)
    for status in STATUSES:
        with pytest.raises(IllegalTransition):
            LIFECYCLE.check(status, "expire")


def test_the_allowed_actions_are_in_the_order_of_the_contract() -> None:
    assert LIFECYCLE.allowed("paid") == ("update", "ship", "cancel", "refund")
    assert LIFECYCLE.allowed("refunded") == ()


def test_a_refusal_says_what_is_allowed_instead() -> None:
    for status, allowed in (("pending", "update, pay, cancel"), ("refunded", "none")):
        with pytest.raises(IllegalTransition, match=f"allowed are: {allowed}."):
            LIFECYCLE.check(status, "deliver")


def test_an_action_that_cannot_lead_to_a_state_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="pay does not lead from pending to shipped"):
        LIFECYCLE.target("pending", "pay", "shipped")
