"""Every state and every action: what the contract allows can be done, and nothing else."""

from collections.abc import Callable

import pytest

from models.catalogue.product import Product
from models.errors import IllegalTransition
from models.orders.order import Order
from models.storage.database import Database
from tests.factories import LIFECYCLE, STATUSES, make_admin, make_order, make_product
from tests.models.actions import (
    bounce,
    cancel,
    deliver,
    expire,
    pay,
    reduce,
    refund,
    ship,
    take_back,
    update,
)
from tests.models.books import check_books, everything
from tests.models.reading import read_events, read_order

pytestmark = pytest.mark.mission("M16")

Act = Callable[[Database, Order, Product], Order]

WHOLE: dict[str, Act] = {
    "update": lambda database, order, _: update(database, order, note="Ring twice."),
    "pay": lambda database, order, _: pay(database, order),
    "cancel": lambda database, order, _: cancel(database, order),
    "ship": lambda database, order, _: ship(database, order),
    "deliver": lambda database, order, _: deliver(database, order),
    "refund": lambda database, order, _: refund(database, order),
    "return": lambda database, order, _: take_back(database, order),
    "reduce": lambda database, order, _: reduce(database, order),
    "bounce": lambda database, order, _: bounce(database, order),
    "expire": lambda database, order, _: expire(database, order),
}
"""Each action, done to all of an order."""

PARTLY: dict[str, Act] = {
    "pay": lambda database, order, _: pay(database, order, 1),
    "ship": lambda database, order, product: ship(database, order, [(product, 1)]),
    "refund": lambda database, order, _: refund(database, order, 1),
    "bounce": lambda database, order, _: bounce(database, order, 1),
    "reduce": lambda database, order, product: reduce(database, order, [(product, 1)]),
}
"""The actions that can be done to a part of an order."""

ENDS = {
    "pay": "paid",
    "ship": "shipped",
    "refund": "refunded",
    "bounce": "pending",
    "reduce": "shipped",
}
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
    """Bring three of a product into a state in which some of the money can still be moved.

    The goods of a refunded order were shipped, so they can be returned.
    """
    product = make_product(database)
    if status == "refunded":
        order = make_order(database, status="shipped", lines=[(product, 3)], paid=2)
        return refund(database, order), product
    return make_order(database, status=status, lines=[(product, 3)], paid=2), product


def test_the_contract_has_exactly_the_tested_actions() -> None:
    assert {action for actions in ALLOWED.values() for action in actions} == set(WHOLE)


@pytest.mark.parametrize(("status", "action", "target"), TRANSITIONS)
def test_allowed_actions_succeed(database: Database, status: str, action: str, target: str) -> None:
    order, product = make(database, status)
    if status == "refunded" or (status, action, target) == ("paid", "bounce", "paid"):
        order = pay(database, order, 5)
    if (status, action, target) == ("pending", "reduce", "paid"):
        order = pay(database, order, 3000)
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
def test_disallowed_actions_are_refused_and_change_nothing(database: Database, status: str) -> None:
    order, product = make(database, status)
    make_admin(database)
    before = everything(database)

    for action in WHOLE.keys() - ALLOWED[status].keys():
        with pytest.raises(IllegalTransition) as refused:
            WHOLE[action](database, order, product)
        assert refused.value.extensions == {
            "state": status,
            "allowed_actions": tuple(
                each for each in LIFECYCLE.allowed(status) if each not in order.ruled_out
            ),
        }
        assert f"The state {status} does not allow the action {action}" in refused.value.detail

    assert everything(database) == before


@pytest.mark.parametrize("status", ["cancelled", "expired"])
def test_a_refunded_order_stays_cancelled_or_expired(database: Database, status: str) -> None:
    order, _ = make(database, status)

    refunded = refund(database, order)

    assert (refunded.status, refunded.refunded_amount) == (status, 2)
    check_books(database)


def test_automatic_actions_cannot_be_requested() -> None:
    LIFECYCLE.check("pending", "expire", automatic=True)
    for status in STATUSES:
        with pytest.raises(IllegalTransition):
            LIFECYCLE.check(status, "expire")


def test_allowed_actions_are_in_contract_order() -> None:
    assert LIFECYCLE.allowed("paid") == (
        *("update", "pay", "ship", "cancel", "reduce", "refund", "bounce"),
    )
    assert LIFECYCLE.allowed("refunded") == ("pay", "refund", "return", "bounce")


def test_a_refusal_names_the_allowed_actions() -> None:
    for status, allowed in (
        ("pending", "update, pay, cancel, reduce, bounce"),
        ("refunded", "pay, refund, return, bounce"),
    ):
        with pytest.raises(IllegalTransition, match=f"it allows: {allowed}."):
            LIFECYCLE.check(status, "deliver")


def test_an_action_with_an_impossible_target_is_a_bug() -> None:
    with pytest.raises(ValueError, match="pay does not lead from pending to shipped"):
        LIFECYCLE.target("pending", "pay", "shipped")
