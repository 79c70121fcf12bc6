import pytest

from models.database import Database
from models.errors import (
    Fault,
    InvalidAmount,
    InvalidLines,
    PaymentExceedsDue,
    PaymentRecorded,
    QuantityExceeded,
    RefundExceedsPaid,
    UnknownProduct,
)
from models.money import MAX_AMOUNT, Money
from models.order import Order
from tests.models.books import check_books, everything
from tests.models.dealing import archive_product, cancel, pay, refund, ship
from tests.models.shop import make_order, make_product, read_events, read_order, read_product
from tests.models.together import together

pytestmark = pytest.mark.mission("M16")


def test_payments_add_up_until_the_order_is_paid(database: Database) -> None:
    order = make_order(database)

    steps = [pay(database, order, amount) for amount in (1, 4000, 499)]

    assert [step.status for step in steps] == ["pending", "pending", "paid"]
    assert [step.paid.amount for step in steps] == [1, 4001, 4500]
    assert steps[1].expires_at == order.expires_at
    assert steps[2].expires_at is None
    check_books(database)


def test_no_more_is_paid_than_is_due(database: Database) -> None:
    order = make_order(database, paid=4000)
    before = everything(database)

    with pytest.raises(PaymentExceedsDue) as refused:
        pay(database, order, 501)

    assert refused.value.extensions == {"due": {"amount": 500, "currency": "EUR"}}
    assert everything(database) == before


def test_a_payment_is_recorded_once(database: Database) -> None:
    order, other = make_order(database), make_order(database)
    pay(database, order, 100, method="card", reference="A-1")
    before = everything(database)

    with pytest.raises(PaymentRecorded):
        pay(database, order, 200, method="card", reference="A-1")

    assert everything(database) == before
    pay(database, order, 100, method="cash", reference="A-1")
    pay(database, order, 100, method="card", reference="a-1")
    pay(database, other, 100, method="card", reference="A-1")
    assert read_order(database, order).paid_amount == 300


def test_a_payment_that_comes_twice_at_the_same_moment_is_recorded_once(
    database: Database,
) -> None:
    order = make_order(database)

    results = together(*[lambda: pay(database, order, 100, reference="A-1")] * 4)

    assert (
        sorted(type(result).__name__ for result in results) == ["Order"] + ["PaymentRecorded"] * 3
    )
    assert read_order(database, order).paid_amount == 100
    check_books(database)


def test_payments_at_the_same_moment_never_exceed_what_is_due(database: Database) -> None:
    order = make_order(database)

    results = together(*[lambda: pay(database, order, 1000)] * 8)

    assert sum(isinstance(result, Order) for result in results) == 4
    assert sum(isinstance(result, PaymentExceedsDue) for result in results) == 4
    assert read_order(database, order).paid_amount == 4000
    check_books(database)


@pytest.mark.parametrize("status", ["pending", "cancelled"])
def test_money_moves_in_the_currency_of_the_order_and_is_never_nothing(
    database: Database, status: str
) -> None:
    order = make_order(database, paid=100, status=status)
    before = everything(database)
    moving = pay if status == "pending" else refund

    with pytest.raises(InvalidAmount) as foreign:
        moving(database, order, 10, currency="USD")
    with pytest.raises(InvalidAmount) as nothing:
        moving(database, order, 0)

    assert foreign.value.faults == (Fault("/amount/currency", "must be the currency of the order"),)
    assert nothing.value.faults == (Fault("/amount/amount", "must be at least 1"),)
    assert everything(database) == before


def test_the_largest_amount_is_paid_and_refunded_to_the_unit(database: Database) -> None:
    product = make_product(database, price=MAX_AMOUNT // 69431, stock=69431)
    order = make_order(database, lines=[(product, 69431)])

    pay(database, order, MAX_AMOUNT - 1)
    assert pay(database, order, 1).status == "paid"
    refund(database, order, 1)
    assert refund(database, order).refunded == Money(MAX_AMOUNT, "EUR")
    check_books(database)


def test_refunds_add_up_until_all_is_refunded(database: Database) -> None:
    order = make_order(database, status="delivered")

    steps = [refund(database, order, amount) for amount in (1, 4000, 499)]

    assert [step.status for step in steps] == ["delivered", "delivered", "refunded"]
    assert [step.refunded.amount for step in steps] == [1, 4001, 4500]
    check_books(database)


def test_a_refund_without_an_amount_is_all_that_is_left(database: Database) -> None:
    order = make_order(database, status="paid")
    refund(database, order, 500)

    refunded = refund(database, order, reason="It is late.")

    assert (refunded.status, refunded.refunded_amount) == ("refunded", 4500)
    event = read_events(database, order)[-1]
    assert (event.amount, event.reason) == (Money(4000, "EUR"), "It is late.")


def test_no_more_is_refunded_than_was_paid(database: Database) -> None:
    order = make_order(database, status="paid")
    refund(database, order, 500)
    before = everything(database)

    with pytest.raises(RefundExceedsPaid) as refused:
        refund(database, order, 4001)

    assert refused.value.extensions == {"refundable": {"amount": 4000, "currency": "EUR"}}
    assert everything(database) == before


def test_what_was_never_paid_cannot_be_refunded(database: Database) -> None:
    unpaid = make_order(database, status="cancelled")
    free = make_order(database, status="paid", lines=[(make_product(database, price=0), 1)])
    before = everything(database)

    for order in (unpaid, free):
        with pytest.raises(RefundExceedsPaid) as refused:
            refund(database, order)
        assert refused.value.extensions == {"refundable": {"amount": 0, "currency": "EUR"}}

    assert everything(database) == before


def test_an_order_that_was_partly_refunded_is_shipped_all_the_same(database: Database) -> None:
    order = make_order(database, status="paid")
    refund(database, order, 500)

    assert ship(database, order).status == "shipped"
    check_books(database)


def test_what_was_paid_of_a_cancelled_order_is_given_back(database: Database) -> None:
    order = make_order(database, status="paid")
    cancel(database, order)

    assert refund(database, order).refunded_amount == 4500
    with pytest.raises(RefundExceedsPaid):
        refund(database, order)
    check_books(database)


def test_what_comes_back_is_on_sale_again(database: Database) -> None:
    shirt, mug = make_product(database), make_product(database)
    order = make_order(database, status="delivered", lines=[(shirt, 3), (mug, 2)])
    archive_product(database, mug)

    refund(database, order, 100, restock=[(mug, 1), (shirt, 2)])
    refunded = refund(database, order, restock=[(shirt, 1)])

    assert [line.returned for line in refunded.lines] == [3, 1]
    assert read_product(database, shirt).stock == (10, 0, 10)
    assert read_product(database, mug).stock == (9, 0, 9)
    check_books(database)


def test_only_what_was_shipped_and_is_not_back_comes_back(database: Database) -> None:
    shirt, mug, other = (make_product(database) for _ in range(3))
    order = make_order(database, status="partially_shipped", lines=[(shirt, 3), (mug, 2)])
    before = everything(database)

    with pytest.raises(QuantityExceeded) as exceeded:
        refund(database, order, 1, restock=[(shirt, 2), (mug, 1)])
    with pytest.raises(UnknownProduct) as unknown:
        refund(database, order, 1, restock=[(other, 1)])
    with pytest.raises(InvalidLines) as repeated:
        refund(database, order, 1, restock=[(shirt, 1), (shirt, 1)])

    assert exceeded.value.faults == (
        Fault("/restock/0/quantity", "must be at most 1"),
        Fault("/restock/1/quantity", "must be at most 0"),
    )
    assert [fault.pointer for fault in unknown.value.faults] == ["/restock/0/product_id"]
    assert [fault.pointer for fault in repeated.value.faults] == ["/restock/1/product_id"]
    assert everything(database) == before


def test_refunds_at_the_same_moment_never_exceed_what_was_paid(database: Database) -> None:
    order = make_order(database, status="delivered")

    results = together(*[lambda: refund(database, order, 1000)] * 12)

    assert sum(isinstance(result, Order) for result in results) == 4
    assert sum(isinstance(result, RefundExceedsPaid) for result in results) == 8
    assert read_order(database, order).refunded_amount == 4000
    check_books(database)
