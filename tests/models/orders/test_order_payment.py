import pytest

from models.errors import (
    BounceExceedsPayment,
    IllegalTransition,
    InvalidAmount,
    PaymentRecorded,
    UnknownPayment,
)
from models.money import MAX_AMOUNT, Money
from models.orders.order import Order
from models.storage.database import Database
from tests.factories import make_order, make_product
from tests.models.actions import bounce, pay, refund, ship
from tests.models.books import check_books, everything
from tests.models.reading import read_events, read_order, read_product
from tests.models.together import together

pytestmark = [pytest.mark.mission("M16"), pytest.mark.mission("M28")]


def test_payments_add_up_until_the_order_is_paid(database: Database) -> None:
    order = make_order(database)

    steps = [pay(database, order, amount) for amount in (1, 4000, 499)]

    assert [step.status for step in steps] == ["pending", "pending", "paid"]
    assert [step.paid.amount for step in steps] == [1, 4001, 4500]
    assert steps[1].expires_at == order.expires_at
    assert steps[2].expires_at is None
    check_books(database)


def test_money_beyond_the_amount_due_is_unapplied(database: Database) -> None:
    order = make_order(database, paid=4000)

    much = pay(database, order, 501)
    again = pay(database, order, 4500)

    assert (much.status, much.paid, much.unapplied.amount) == ("paid", Money(4501, "EUR"), 1)
    assert (again.status, again.paid, again.unapplied.amount) == ("paid", Money(9001, "EUR"), 4501)
    events = read_events(database, order)[-2:]
    assert [(each.amount, each.unapplied) for each in events] == [
        (Money(501, "EUR"), Money(1, "EUR")),
        (Money(4500, "EUR"), Money(4501, "EUR")),
    ]
    part = refund(database, order, 4502)
    assert (part.status, part.unapplied.amount, part.refunded.amount) == ("paid", 0, 4502)
    check_books(database)


def test_an_unapplied_refund_leaves_a_free_order_paid(database: Database) -> None:
    free = make_order(database, status="paid", lines=[(make_product(database, price=0), 1)])

    pay(database, free, 5)

    assert refund(database, free).status == "paid"
    check_books(database)


@pytest.mark.parametrize("status", ["cancelled", "refunded"])
def test_late_money_waits_for_a_refund(database: Database, status: str) -> None:
    order = make_order(database, status=status, paid=100)
    held = order.balance.held

    late = pay(database, order, 4500)

    assert (late.status, late.unapplied.amount, late.due.amount) == (status, held + 4500, 0)
    assert refund(database, order).unapplied.amount == 0
    check_books(database)


def test_an_expired_order_revives_when_it_is_paid_in_full(database: Database) -> None:
    product = make_product(database, stock=5)
    order = make_order(database, status="expired", lines=[(product, 3)], paid=100)
    refund(database, order, 40)

    assert order.unapplied.amount == 100
    assert pay(database, order, 4439).status == "expired"
    revived = pay(database, order, 2)

    assert (revived.status, revived.unapplied.amount, revived.due.amount) == ("paid", 1, 0)
    assert revived.refunded.amount == 40
    assert read_product(database, product).stock == (5, 3, 2)
    assert ship(database, order).status == "shipped"
    check_books(database)


def test_an_expired_order_whose_stock_is_gone_waits_for_a_refund(database: Database) -> None:
    product = make_product(database, stock=3)
    order = make_order(database, status="expired", lines=[(product, 3)])
    make_order(database, lines=[(product, 1)])

    late = pay(database, order)

    assert (late.status, late.unapplied.amount) == ("expired", 4500)
    assert read_product(database, product).stock == (3, 1, 2)
    check_books(database)


def test_all_payments_together_stay_within_the_largest_amount(database: Database) -> None:
    order = make_order(database)
    pay(database, order, MAX_AMOUNT)
    before = everything(database)

    with pytest.raises(InvalidAmount) as refused:
        pay(database, order, 1)

    assert list(refused.value.violations) == ["/amount/amount"]
    assert everything(database) == before


def test_a_bounced_payment_is_due_again(database: Database) -> None:
    order = make_order(database)
    pay(database, order, 4000, reference="A")
    pay(database, order, 500, reference="B")

    bounced = bounce(database, order, reference="A", reason="Charged back.")

    assert (bounced.status, bounced.paid.amount, bounced.due.amount) == ("pending", 500, 4000)
    assert bounced.expires_at is not None
    event = read_events(database, order)[-1]
    assert (event.method, event.reference, event.reason) == ("card", "A", "Charged back.")
    assert event.amount == Money(4000, "EUR")
    with pytest.raises(BounceExceedsPayment):
        bounce(database, order, reference="A")
    paid = pay(database, order, 4001)
    assert (paid.status, paid.due.amount, paid.unapplied.amount) == ("paid", 0, 1)
    check_books(database)


def test_a_bounce_after_the_shipment_is_owed(database: Database) -> None:
    product = make_product(database)
    order = make_order(database, status="partially_shipped", lines=[(product, 3)])

    bounced = bounce(database, order)

    assert (bounced.status, bounced.due.amount) == ("partially_shipped", 4500)
    assert set(bounced.ruled_out) == {"ship", "refund", "bounce"}
    with pytest.raises(IllegalTransition) as refused:
        ship(database, order)
    assert refused.value.extensions["allowed_actions"] == ("pay", "reduce", "return")
    assert pay(database, order).due.amount == 0
    assert ship(database, order).status == "shipped"
    check_books(database)


def test_a_doubled_payment_that_bounces_costs_the_order_nothing(database: Database) -> None:
    order = make_order(database, status="paid")
    pay(database, order, 4500, reference="again")

    bounced = bounce(database, order, reference="again")

    assert (bounced.status, bounced.unapplied.amount, bounced.due.amount) == ("paid", 0, 0)
    check_books(database)


def test_only_what_is_left_of_a_payment_bounces(database: Database) -> None:
    order = make_order(database)
    pay(database, order, 4500, reference="A")
    refund(database, order, 4000)
    before = everything(database)

    with pytest.raises(BounceExceedsPayment) as refused:
        bounce(database, order, 501, reference="A")
    with pytest.raises(UnknownPayment) as unknown:
        bounce(database, order, reference="B")

    assert refused.value.extensions == {"remaining": {"amount": 500, "currency": "EUR"}}
    assert list(unknown.value.violations) == ["/reference"]
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


def test_concurrent_copies_of_a_payment_are_recorded_once(database: Database) -> None:
    order = make_order(database)

    results = together(*[lambda: pay(database, order, 100, reference="A-1")] * 4)

    assert (
        sorted(type(result).__name__ for result in results) == ["Order"] + ["PaymentRecorded"] * 3
    )
    assert read_order(database, order).paid_amount == 100
    check_books(database)


def test_payments_at_the_same_moment_are_all_recorded(database: Database) -> None:
    order = make_order(database)

    results = together(*[lambda: pay(database, order, 1000)] * 8)

    assert all(isinstance(result, Order) for result in results)
    paid = read_order(database, order)
    assert (paid.status, paid.paid.amount, paid.unapplied.amount) == ("paid", 8000, 3500)
    check_books(database)


@pytest.mark.parametrize("status", ["pending", "cancelled"])
def test_amounts_are_positive_and_in_the_currency_of_the_order(
    database: Database, status: str
) -> None:
    order = make_order(database, paid=100, status=status)
    before = everything(database)
    moving = pay if status == "pending" else refund

    with pytest.raises(InvalidAmount) as foreign:
        moving(database, order, 10, currency="USD")
    with pytest.raises(InvalidAmount) as nothing:
        moving(database, order, 0)

    assert foreign.value.violations == {"/amount/currency": "must be the currency of the order"}
    assert nothing.value.violations == {"/amount/amount": "must be at least 1"}
    assert everything(database) == before


def test_the_largest_amount_is_exact(database: Database) -> None:
    product = make_product(database, price=MAX_AMOUNT // 69431, stock=69431)
    order = make_order(database, lines=[(product, 69431)])

    pay(database, order, MAX_AMOUNT - 1)
    assert pay(database, order, 1).status == "paid"
    refund(database, order, 1)
    assert refund(database, order).refunded == Money(MAX_AMOUNT, "EUR")
    check_books(database)
