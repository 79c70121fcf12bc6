import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import (
    IllegalTransition,
    InvalidLines,
    OrderEmpty,
    QuantityExceeded,
    UnknownProduct,
)
from models.money import Money
from models.orders.order import Order
from models.storage.database import Database
from tests.factories import make_order, make_product
from tests.models.actions import bounce, deliver, expire, pay, reduce, refund, ship, take_back
from tests.models.books import check_books, everything
from tests.models.reading import read_entries, read_events, read_order, read_product
from tests.models.together import together

pytestmark = [pytest.mark.mission("M16"), pytest.mark.mission("M28")]


def test_lines_are_cancelled_one_by_one(database: Database) -> None:
    shirt, mug = make_product(database), make_product(database, price=100)
    order = make_order(database, lines=[(shirt, 3), (mug, 2)])

    fewer = reduce(database, order, [(shirt, 1)], reason="Two are enough.")
    none = reduce(database, order, [(mug, 2)])

    assert (fewer.status, fewer.total) == ("pending", Money(3200, "EUR"))
    assert (none.total, none.due, none.expires_at) == (*[Money(3000, "EUR")] * 2, order.expires_at)
    assert [line.quantity for line in none.lines] == [2, 0]
    assert read_product(database, shirt).stock == (10, 2, 8)
    assert read_product(database, mug).stock == (10, 0, 10)
    first, last = read_events(database, order)[-2:]
    assert (first.action, first.reason) == ("reduce", "Two are enough.")
    assert first.lines == [{"product_id": shirt.id, "quantity": 1}]
    assert last.lines == [{"product_id": mug.id, "quantity": 2}]
    kinds = [(entry.kind, entry.reserved) for entry in read_entries(database, mug)]
    assert kinds[-2:] == [("reservation", 2), ("release", -2)]
    check_books(database)


def test_a_reduction_to_what_was_paid_pays_the_order(database: Database) -> None:
    shirt = make_product(database)
    order = make_order(database, lines=[(shirt, 3)], paid=3100)

    reduced = reduce(database, order, [(shirt, 1)])

    assert (reduced.status, reduced.expires_at, reduced.due.amount) == ("paid", None, 0)
    assert reduced.unapplied.amount == 100
    assert read_events(database, order)[-1].unapplied == Money(100, "EUR")
    assert ship(database, order).status == "shipped"
    check_books(database)


def test_money_for_cancelled_units_can_be_refunded(database: Database) -> None:
    shirt = make_product(database)
    order = make_order(database, status="paid", lines=[(shirt, 3)])

    reduced = reduce(database, order, [(shirt, 2)])

    assert (reduced.status, reduced.unapplied.amount, reduced.due.amount) == ("paid", 3000, 0)
    settled = refund(database, order, 3000)
    assert (settled.status, settled.refunded.amount, settled.balance.applied) == (
        *("paid", 3000),
        1500,
    )
    check_books(database)


def test_the_rest_of_a_partly_shipped_order_is_given_up(database: Database) -> None:
    shirt, mug = make_product(database), make_product(database, price=100)
    order = make_order(database, status="partially_shipped", lines=[(shirt, 3), (mug, 2)])

    closed = reduce(database, order)

    assert (closed.status, closed.total.amount, closed.unapplied.amount) == ("shipped", 1500, 3200)
    assert [line.quantity for line in closed.lines] == [1, 0]
    assert read_product(database, shirt).stock == (9, 0, 9)
    assert read_product(database, mug).stock == (10, 0, 10)
    assert deliver(database, order).status == "delivered"
    assert take_back(database, order).lines[0].returned == 1
    assert refund(database, order).status == "refunded"
    check_books(database)


def test_part_of_the_rest_is_given_up_and_the_other_shipped(database: Database) -> None:
    shirt = make_product(database)
    order = make_order(database, status="partially_shipped", lines=[(shirt, 3)])

    assert reduce(database, order, [(shirt, 1)]).status == "partially_shipped"
    shipped = ship(database, order)

    assert (shipped.status, shipped.lines[0].shipped) == ("shipped", 2)
    check_books(database)


def test_an_earlier_refund_counts_for_the_cancelled_units(database: Database) -> None:
    shirt = make_product(database)
    order = make_order(database, status="paid", lines=[(shirt, 3)])
    refund(database, order, 1000)

    reduced = reduce(database, order, [(shirt, 1)])

    assert (reduced.refunded.amount, reduced.unapplied.amount, reduced.due.amount) == (1000, 500, 0)
    assert reduced.balance.applied == reduced.total_amount == 3000
    check_books(database)


def test_bounced_money_for_cancelled_units_is_no_longer_due(database: Database) -> None:
    shirt = make_product(database)
    order = make_order(database, status="partially_shipped", lines=[(shirt, 3)])
    bounce(database, order, 2000)

    reduced = reduce(database, order, [(shirt, 1)])
    closed = reduce(database, order)

    assert (reduced.due.amount, reduced.unapplied.amount) == (500, 0)
    assert (closed.status, closed.due.amount, closed.unapplied.amount) == ("shipped", 0, 1000)
    check_books(database)


def test_a_bounced_order_is_paid_when_it_is_reduced_to_its_money(database: Database) -> None:
    shirt = make_product(database)
    order = make_order(database, status="paid", lines=[(shirt, 3)])
    assert bounce(database, order, 1500).status == "pending"

    reduced = reduce(database, order, [(shirt, 1)])

    assert (reduced.status, reduced.due.amount, reduced.unapplied.amount) == ("paid", 0, 0)
    check_books(database)


def test_what_is_left_of_an_order_can_be_free(database: Database) -> None:
    shirt, sample = make_product(database), make_product(database, price=0)
    order = make_order(database, lines=[(shirt, 1), (sample, 1)], paid=100)

    reduced = reduce(database, order, [(shirt, 1)])

    assert (reduced.status, reduced.total.amount, reduced.unapplied.amount) == ("paid", 0, 100)
    assert refund(database, order).status == "paid"
    check_books(database)


def test_a_reduced_order_revives_with_what_is_left(database: Database) -> None:
    shirt, mug = make_product(database), make_product(database, price=100)
    order = make_order(database, lines=[(shirt, 3), (mug, 2)])
    reduce(database, order, [(shirt, 1), (mug, 2)])
    expire(database, order)

    revived = pay(database, order, 3000)

    assert (revived.status, revived.unapplied.amount) == ("paid", 0)
    assert read_product(database, mug).stock == (10, 0, 10)
    check_books(database)


@pytest.mark.parametrize("status", ["pending", "paid"])
def test_an_order_cannot_be_emptied(database: Database, status: str) -> None:
    shirt, mug = make_product(database), make_product(database)
    order = make_order(database, status=status, lines=[(shirt, 1), (mug, 2)])
    before = everything(database)

    for lines in (None, [(shirt, 1), (mug, 2)]):
        with pytest.raises(OrderEmpty):
            reduce(database, order, lines)

    assert everything(database) == before


def test_a_single_unit_cannot_be_given_up(database: Database) -> None:
    shirt = make_product(database)
    order = make_order(database, lines=[(shirt, 2)])

    single = reduce(database, order, [(shirt, 1)])

    assert "reduce" in single.ruled_out
    with pytest.raises(IllegalTransition) as refused:
        reduce(database, order, [(shirt, 1)])
    assert refused.value.extensions["allowed_actions"] == ("update", "pay", "cancel")


def test_only_unshipped_units_can_be_cancelled(database: Database) -> None:
    shirt, mug, other = (make_product(database) for _ in range(3))
    order = make_order(database, status="partially_shipped", lines=[(shirt, 3), (mug, 2)])
    before = everything(database)

    with pytest.raises(QuantityExceeded) as exceeded:
        reduce(database, order, [(shirt, 3), (mug, 2)])
    with pytest.raises(UnknownProduct) as unknown:
        reduce(database, order, [(other, 1)])
    with pytest.raises(InvalidLines) as repeated:
        reduce(database, order, [(shirt, 1), (shirt, 1)])

    assert exceeded.value.violations == {"/lines/0/quantity": "must be at most 2"}
    assert list(unknown.value.violations) == ["/lines/0/product_id"]
    assert list(repeated.value.violations) == ["/lines/1/product_id"]
    assert everything(database) == before


def test_units_are_either_shipped_or_cancelled(database: Database) -> None:
    shirt = make_product(database)
    order = make_order(database, status="paid", lines=[(shirt, 9)])

    works = [
        lambda: ship(database, order, [(shirt, 1)]),
        lambda: reduce(database, order, [(shirt, 1)]),
    ]
    results = together(*works * 6)

    assert sum(isinstance(result, Order) for result in results) == 9
    now = read_order(database, order)
    assert now.status == "shipped"
    assert now.lines[0].quantity == now.lines[0].shipped
    check_books(database)


@given(st.tuples(*[st.integers(0, 9)] * 6))
def test_a_lower_total_moves_money_and_loses_none(amounts: tuple[int, ...]) -> None:
    applied, refunded, bounced, unpaid, surplus, cut = amounts
    paid = applied + refunded + bounced
    order = Order(
        status="pending" if unpaid else "paid",
        currency="EUR",
        total_amount=paid + unpaid,
        paid_amount=paid,
        refunded_amount=refunded,
        bounced_amount=bounced,
        unapplied_amount=0 if unpaid or bounced else surplus,
        unapplied_refunded_amount=0,
    )
    was = order.balance
    cut = min(cut, was.total_amount)

    order.lower_total(was.total_amount - cut)

    now = order.balance
    assert (now.paid, now.refunded, now.held) == (was.paid, was.refunded, was.held)
    assert now.total_amount == was.total_amount - cut
    assert 0 <= now.refunded_amount + now.bounced_amount <= now.paid_amount <= now.total_amount
    assert 0 <= now.due.amount <= was.due.amount
    assert now.unapplied.amount == 0 or now.due.amount == 0
    # Earlier refunds count for what was cancelled; the rest is no longer due, or can be refunded.
    saved = now.unapplied.amount - was.unapplied.amount + was.due.amount - now.due.amount
    assert saved == min(cut, unpaid) + max(0, cut - unpaid - refunded)
