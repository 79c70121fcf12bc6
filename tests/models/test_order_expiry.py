import threading
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy.orm import Session

from models.errors import IllegalTransition
from models.orders.order import Order
from models.orders.order_expiry import expire_orders
from models.storage.database import Database
from tests.databases import make_database_url
from tests.factories import LIFECYCLE, ROOT, make_buyer, make_order, make_product
from tests.models.actions import cancel, pay, refund, update
from tests.models.books import check_books, everything
from tests.models.reading import read_events, read_order, read_product
from tests.models.together import together

pytestmark = pytest.mark.mission("M16")

OVER = timedelta(seconds=-1)
"""A reservation that is over from the start."""


def make_overdue(database: Database, number: int) -> list[Order]:
    """Place some orders of one buyer for one product, whose reservations are over."""
    buyer, product = make_buyer(database), make_product(database, stock=number)
    return [
        make_order(database, buyer=buyer, lines=[(product, 1)], reservation=OVER)
        for _ in range(number)
    ]


def expiries(database: Database, orders: list[Order]) -> list[int]:
    """Count for each order how often it expired."""
    return [
        [event.action for event in read_events(database, order)].count("expire") for order in orders
    ]


def test_an_unpaid_order_returns_its_stock_in_time(database: Database) -> None:
    product = make_product(database, stock=5)
    order = make_order(database, lines=[(product, 3)], reservation=OVER)

    assert expire_orders(database, LIFECYCLE) == 1

    expired = read_order(database, order)
    assert (expired.status, expired.expires_at) == ("expired", None)
    assert read_product(database, product).stock == (5, 0, 5)
    event = read_events(database, order)[-1]
    assert (event.action, event.status, event.actor_id) == ("expire", "expired", None)
    assert expire_orders(database, LIFECYCLE) == 0
    check_books(database)


def test_nothing_else_expires(database: Database) -> None:
    for status in ("pending", "paid", "shipped", "cancelled", "expired", "refunded"):
        reservation = timedelta(minutes=1) if status == "pending" else OVER
        make_order(database, status=status, reservation=reservation)
    make_order(database, lines=[(make_product(database, price=0), 1)], reservation=OVER)
    before = everything(database)

    assert expire_orders(database, LIFECYCLE) == 0
    assert everything(database) == before


def test_an_order_expires_at_its_time(database: Database) -> None:
    order = make_order(database, reservation=timedelta(seconds=0.3))
    assert order.expires_at is not None

    while not expire_orders(database, LIFECYCLE):
        assert datetime.now(UTC) < order.expires_at + timedelta(seconds=5)

    assert read_order(database, order).updated_at >= order.expires_at


def test_payments_of_an_expired_order_can_be_refunded(database: Database) -> None:
    order = make_order(database, paid=100, reservation=OVER)
    expire_orders(database, LIFECYCLE)

    expired = read_order(database, order)
    assert (expired.unapplied.amount, expired.due.amount) == (100, 0)
    event = read_events(database, order)[-1]
    assert (event.action, event.unapplied) == ("expire", expired.unapplied)
    assert refund(database, order).refunded_amount == 100
    check_books(database)


def test_an_overdue_order_paid_before_the_check_does_not_expire(database: Database) -> None:
    order = make_order(database, reservation=OVER)

    pay(database, order)

    assert expire_orders(database, LIFECYCLE) == 0
    assert read_order(database, order).status == "paid"


def test_changing_an_order_does_not_extend_its_time(database: Database) -> None:
    order = make_order(database, reservation=OVER)

    update(database, order, note="Soon!")

    assert expire_orders(database, LIFECYCLE) == 1


def test_all_overdue_orders_expire(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.orders.order_expiry._BATCH", 2)

    for number in (4, 5):
        orders = make_overdue(database, number)
        assert expire_orders(database, LIFECYCLE) == number
        assert expiries(database, orders) == [1] * number

    check_books(database)


def test_an_order_that_cannot_expire_delays_no_other(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.orders.order_expiry._BATCH", 2)
    orders = make_overdue(database, 5)
    # As no release of Concord leaves an order: in a state that cannot expire, but with a deadline.
    for order in orders[:3]:
        change = sqlalchemy.update(Order).where(Order.id == order.id).values(status="cancelled")
        database.transact(partial(Session.execute, statement=change), write=True)

    for _ in range(2):
        with pytest.raises(IllegalTransition):
            expire_orders(database, LIFECYCLE)
        assert expiries(database, orders) == [0, 0, 0, 1, 1]


def test_concurrent_expiry_expires_each_order_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.orders.order_expiry._BATCH", 3)
    orders = make_overdue(database, 10)

    counts = together(*[lambda: expire_orders(database, LIFECYCLE)] * 3)

    assert sum(count for count in counts if isinstance(count, int)) == 10
    assert expiries(database, orders) == [1] * 10
    check_books(database)


def test_an_order_that_is_paid_while_it_expires_is_paid(database: Database) -> None:
    orders = make_overdue(database, 6)

    def pay_all() -> None:
        for order in reversed(orders):
            pay(database, order, order.total_amount)

    paid, first, second = together(
        pay_all,
        lambda: expire_orders(database, LIFECYCLE),
        lambda: expire_orders(database, LIFECYCLE),
    )

    now = [read_order(database, order) for order in orders]
    assert paid is None
    assert isinstance(first, int)
    assert isinstance(second, int)
    assert [order.status for order in now] == ["paid"] * 6
    assert sum(expiries(database, orders)) == first + second
    check_books(database)


def test_a_concurrent_cancellation_and_expiry_release_stock_once(database: Database) -> None:
    orders = make_overdue(database, 4)

    for order in orders:
        together(
            partial(cancel, database, order),
            partial(expire_orders, database, LIFECYCLE),
        )

    assert {read_order(database, order).version for order in orders} == {2}
    check_books(database)


@pytest.mark.postgresql
def test_a_locked_order_expires_next_time(tmp_path: Path) -> None:
    with make_database_url("postgresql", tmp_path) as url:
        database = Database(url)
        held, other = make_overdue(database, 2)
        locked, looked = threading.Event(), threading.Event()

        def hold() -> None:
            def work(session: Session) -> None:
                Order.lock_visible(session, ROOT, held.id)
                locked.set()
                assert looked.wait(5)

            database.transact(work, write=True)

        def look() -> int:
            assert locked.wait(5)
            try:
                return expire_orders(database, LIFECYCLE)
            finally:
                looked.set()

        assert together(hold, look) == [None, 1]
        assert read_order(database, held).status == "pending"
        assert read_order(database, other).status == "expired"
        assert expire_orders(database, LIFECYCLE) == 1
        database.dispose()
