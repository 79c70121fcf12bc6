import pytest

from models.errors import (
    IllegalTransition,
    InvalidLines,
    QuantityExceeded,
    RefundExceedsPaid,
    UnknownProduct,
)
from models.money import Money
from models.orders.order import Order
from models.storage.database import Database
from tests.factories import make_order, make_product
from tests.models.actions import archive_product, cancel, refund, ship
from tests.models.books import check_books, everything
from tests.models.reading import read_events, read_order, read_product
from tests.models.together import together

pytestmark = [pytest.mark.mission("M16"), pytest.mark.mission("M28")]


def test_refunds_add_up_to_a_full_refund(database: Database) -> None:
    order = make_order(database, status="delivered")

    steps = [refund(database, order, amount) for amount in (1, 4000, 499)]

    assert [step.status for step in steps] == ["delivered", "delivered", "refunded"]
    assert [step.refunded.amount for step in steps] == [1, 4001, 4500]
    check_books(database)


def test_a_refund_without_an_amount_is_the_whole_rest(database: Database) -> None:
    order = make_order(database, status="paid")
    refund(database, order, 500)

    refunded = refund(database, order, reason="It is late.")

    assert (refunded.status, refunded.refunded_amount) == ("refunded", 4500)
    event = read_events(database, order)[-1]
    assert (event.amount, event.reason) == (Money(4000, "EUR"), "It is late.")


def test_refunds_cannot_exceed_payments(database: Database) -> None:
    order = make_order(database, status="paid")
    refund(database, order, 500)
    before = everything(database)

    with pytest.raises(RefundExceedsPaid) as refused:
        refund(database, order, 4001)

    assert refused.value.extensions == {"refundable": {"amount": 4000, "currency": "EUR"}}
    assert everything(database) == before


def test_unpaid_orders_cannot_be_refunded(database: Database) -> None:
    unpaid = make_order(database, status="cancelled")
    free = make_order(database, status="paid", lines=[(make_product(database, price=0), 1)])
    before = everything(database)

    for order in (unpaid, free):
        with pytest.raises(IllegalTransition) as refused:
            refund(database, order)
        assert refused.value.extensions["state"] == order.status

    assert everything(database) == before


def test_a_partly_refunded_order_can_be_shipped(database: Database) -> None:
    order = make_order(database, status="paid")
    refund(database, order, 500)

    assert ship(database, order).status == "shipped"
    check_books(database)


def test_payments_of_a_cancelled_order_can_be_refunded(database: Database) -> None:
    order = make_order(database, status="paid")
    cancel(database, order)

    assert refund(database, order).refunded_amount == 4500
    with pytest.raises(IllegalTransition):
        refund(database, order)
    check_books(database)


def test_restocked_goods_can_be_sold_again(database: Database) -> None:
    shirt, mug = make_product(database), make_product(database)
    order = make_order(database, status="delivered", lines=[(shirt, 3), (mug, 2)])
    archive_product(database, mug)

    refund(database, order, 100, restock=[(mug, 1), (shirt, 2)])
    refunded = refund(database, order, restock=[(shirt, 1)])

    assert [line.returned for line in refunded.lines] == [3, 1]
    assert read_product(database, shirt).stock == (10, 0, 10)
    assert read_product(database, mug).stock == (9, 0, 9)
    check_books(database)


def test_goods_can_be_restocked_once_and_only_after_shipping(database: Database) -> None:
    shirt, mug, other = (make_product(database) for _ in range(3))
    order = make_order(database, status="partially_shipped", lines=[(shirt, 3), (mug, 2)])
    before = everything(database)

    with pytest.raises(QuantityExceeded) as exceeded:
        refund(database, order, 1, restock=[(shirt, 2), (mug, 1)])
    with pytest.raises(UnknownProduct) as unknown:
        refund(database, order, 1, restock=[(other, 1)])
    with pytest.raises(InvalidLines) as repeated:
        refund(database, order, 1, restock=[(shirt, 1), (shirt, 1)])

    assert exceeded.value.violations == {
        "/restock/0/quantity": "must be at most 1",
        "/restock/1/quantity": "must be at most 0",
    }
    assert list(unknown.value.violations) == ["/restock/0/product_id"]
    assert list(repeated.value.violations) == ["/restock/1/product_id"]
    assert everything(database) == before


def test_concurrent_refunds_never_exceed_payments(database: Database) -> None:
    order = make_order(database, status="delivered")

    results = together(*[lambda: refund(database, order, 1000)] * 12)

    assert sum(isinstance(result, Order) for result in results) == 4
    assert sum(isinstance(result, RefundExceedsPaid) for result in results) == 8
    assert read_order(database, order).refunded_amount == 4000
    check_books(database)
