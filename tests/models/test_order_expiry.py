import threading
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from models.database import Database
from models.errors import IllegalTransition
from models.order import Order
from models.order_expiry import expire_orders
from tests.databases import make_database_url
from tests.models.books import check_books, everything
from tests.models.dealing import LIFECYCLE, cancel, pay, refund, update
from tests.models.people import ROOT
from tests.models.shop import (
    make_buyer,
    make_order,
    make_product,
    read_events,
    read_order,
    read_product,
)
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


def test_an_order_that_is_not_paid_in_time_gives_its_stock_back(database: Database) -> None:
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


def test_an_order_expires_when_its_time_is_over(database: Database) -> None:
    order = make_order(database, reservation=timedelta(seconds=0.3))
    assert order.expires_at is not None

    while not expire_orders(database, LIFECYCLE):
        assert datetime.now(UTC) < order.expires_at + timedelta(seconds=5)

    assert read_order(database, order).updated_at >= order.expires_at


def test_what_was_paid_of_an_expired_order_is_given_back(database: Database) -> None:
    order = make_order(database, paid=100, reservation=OVER)
    expire_orders(database, LIFECYCLE)

    with pytest.raises(IllegalTransition):
        pay(database, order)
    assert refund(database, order).refunded_amount == 100
    check_books(database)


def test_an_order_that_is_paid_before_anybody_looked_does_not_expire(database: Database) -> None:
    order = make_order(database, reservation=OVER)

    pay(database, order)

    assert expire_orders(database, LIFECYCLE) == 0
    assert read_order(database, order).status == "paid"


def test_changing_an_order_does_not_give_it_more_time(database: Database) -> None:
    order = make_order(database, reservation=OVER)

    update(database, order, note="Soon!")

    assert expire_orders(database, LIFECYCLE) == 1


def test_as_many_expire_as_are_overdue(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.order_expiry._BATCH", 2)

    for number in (4, 5):
        orders = make_overdue(database, number)
        assert expire_orders(database, LIFECYCLE) == number
        assert expiries(database, orders) == [1] * number

    check_books(database)


def test_two_that_look_at_the_same_moment_expire_each_order_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.order_expiry._BATCH", 3)
    orders = make_overdue(database, 10)

    counts = together(*[lambda: expire_orders(database, LIFECYCLE)] * 3)

    assert sum(count for count in counts if isinstance(count, int)) == 10
    assert expiries(database, orders) == [1] * 10
    check_books(database)


def test_an_order_is_either_paid_or_expired_when_both_come_at_once(database: Database) -> None:
    orders = make_overdue(database, 6)

    def pay_all() -> int:
        paid = 0
        for order in reversed(orders):
            try:
                pay(database, order)
            except IllegalTransition:
                continue
            paid += 1
        return paid

    paid, first, second = together(
        pay_all,
        lambda: expire_orders(database, LIFECYCLE),
        lambda: expire_orders(database, LIFECYCLE),
    )

    now = [read_order(database, order) for order in orders]
    assert isinstance(paid, int)
    assert isinstance(first, int)
    assert isinstance(second, int)
    assert paid + first + second == 6
    assert sum(order.status == "paid" for order in now) == paid
    assert sum(order.status == "expired" for order in now) == first + second
    assert expiries(database, orders) == [int(order.status == "expired") for order in now]
    check_books(database)


def test_an_order_is_given_up_once_when_it_is_cancelled_at_that_moment(
    database: Database,
) -> None:
    orders = make_overdue(database, 4)

    for order in orders:
        together(
            partial(cancel, database, order),
            partial(expire_orders, database, LIFECYCLE),
        )

    assert {read_order(database, order).version for order in orders} == {2}
    check_books(database)


@pytest.mark.postgresql
def test_an_order_that_somebody_is_changing_is_left_for_the_next_time(tmp_path: Path) -> None:
    with make_database_url("postgresql", tmp_path) as url:
        database = Database(url)
        held, other = make_overdue(database, 2)
        locked, looked = threading.Event(), threading.Event()

        def hold() -> None:
            def work(session: Session) -> None:
                Order.changeable_by(session, ROOT, held.id)
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
