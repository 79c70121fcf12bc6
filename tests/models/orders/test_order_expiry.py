import re
import threading
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy
from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from models.catalogue.product import Product
from models.catalogue.stock_entry import StockEntry
from models.errors import IllegalTransition
from models.events.event import Event
from models.orders.order import Order
from models.orders.order_event import OrderEvent
from models.orders.order_expiry import expire_orders
from models.set_aside import SetAside
from models.storage.database import Database
from tests.databases import make_database_url
from tests.factories import LIFECYCLE, ROOT, make_buyer, make_order, make_product
from tests.models.actions import cancel, expire, expire_overdue, pay, refund, update
from tests.models.books import check_books, everything
from tests.models.feeds import check_replay, read_feed
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

    assert expire_overdue(database) == 1

    expired = read_order(database, order)
    assert (expired.status, expired.expires_at) == ("expired", None)
    assert read_product(database, product).stock == (5, 0, 5)
    event = read_events(database, order)[-1]
    assert (event.action, event.status, event.actor_id) == ("expire", "expired", None)
    assert expire_overdue(database) == 0
    check_books(database)


def test_nothing_else_expires(database: Database) -> None:
    for status in ("pending", "paid", "shipped", "cancelled", "expired", "refunded"):
        reservation = timedelta(minutes=1) if status == "pending" else OVER
        make_order(database, status=status, reservation=reservation)
    make_order(database, lines=[(make_product(database, price=0), 1)], reservation=OVER)
    before = everything(database)

    assert expire_overdue(database) == 0
    assert everything(database) == before


def test_an_order_expires_at_its_time(database: Database) -> None:
    order = make_order(database, reservation=timedelta(seconds=0.3))
    assert order.expires_at is not None

    while not expire_overdue(database):
        assert datetime.now(UTC) < order.expires_at + timedelta(seconds=5)

    assert read_order(database, order).updated_at >= order.expires_at


def test_payments_of_an_expired_order_can_be_refunded(database: Database) -> None:
    order = make_order(database, paid=100, reservation=OVER)
    expire_overdue(database)

    expired = read_order(database, order)
    assert (expired.unapplied.amount, expired.due.amount) == (100, 0)
    event = read_events(database, order)[-1]
    assert (event.action, event.unapplied) == ("expire", expired.unapplied)
    assert refund(database, order).refunded_amount == 100
    check_books(database)


def test_an_overdue_order_paid_before_the_check_does_not_expire(database: Database) -> None:
    order = make_order(database, reservation=OVER)

    pay(database, order)

    assert expire_overdue(database) == 0
    assert read_order(database, order).status == "paid"


def test_changing_an_order_does_not_extend_its_time(database: Database) -> None:
    order = make_order(database, reservation=OVER)

    update(database, order, note="Soon!")

    assert expire_overdue(database) == 1


def test_all_overdue_orders_expire(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.orders.order_expiry._BATCH", 2)

    for number in (4, 5):
        orders = make_overdue(database, number)
        assert expire_overdue(database) == number
        assert expiries(database, orders) == [1] * number

    check_books(database)


def test_an_order_that_cannot_expire_is_set_aside(database: Database) -> None:
    orders = make_overdue(database, 5)
    # As no release of Concord leaves an order: in a state that cannot expire, but with a deadline.
    for order in orders[:3]:
        change = sqlalchemy.update(Order).where(Order.id == order.id).values(status="cancelled")
        database.transact(partial(Session.execute, statement=change), write=True)
    failures: dict[UUID, Exception] = {}
    aside = SetAside[UUID](failures.__setitem__)

    while expire_orders(database, LIFECYCLE, aside):
        pass

    assert expiries(database, orders) == [0, 0, 0, 1, 1]
    assert failures.keys() == {order.id for order in orders[:3]}
    assert {type(failure) for failure in failures.values()} == {IllegalTransition}


def test_orders_expire_together_as_they_do_alone(database: Database) -> None:
    def make() -> Order:
        lines = [(make_product(database), 2), (make_product(database), 3)]
        return make_order(database, lines=lines, paid=100, reservation=OVER, note="Ring.")

    alone, first, second = make(), make(), make()
    expire(database, alone)
    assert expire_overdue(database) == 2

    assert written(database, alone) == written(database, first) == written(database, second)
    check_books(database)
    check_replay(database, read_feed(database))


def written(database: Database, order: Order) -> list[str]:
    """All that is stored of an order and its products, without ids and times."""
    products = [line.product_id for line in order.lines]
    subjects = [f"orders/{order.id}", *(f"products/{each}" for each in products)]
    queries: list[Select[Any]] = [
        select(Order.__table__).where(Order.id == order.id),
        select(OrderEvent.__table__).where(OrderEvent.order_id == order.id),
        select(StockEntry.__table__).where(StockEntry.product_id.in_(products)),
        select(Product.__table__).where(Product.id.in_(products)),
        select(Event.__table__).where(Event.subject.in_(subjects)).order_by(Event.sequence),
    ]

    def read(session: Session) -> list[str]:
        rows = [dict(row) for query in queries for row in session.execute(query).mappings()]
        return sorted(_NAMED.sub("", str(row)) for row in rows)

    return database.transact(read, write=False)


_NAMED = re.compile(r"'(\w*id|sequence|subject|sku|reference)': [^,}]*|datetime\.datetime\([^)]*\)")


def test_concurrent_expiry_expires_each_order_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.orders.order_expiry._BATCH", 3)
    orders = make_overdue(database, 10)

    together(*[lambda: expire_overdue(database)] * 3)

    assert expiries(database, orders) == [1] * 10
    check_books(database)


def test_an_order_that_is_paid_while_it_expires_is_paid(database: Database) -> None:
    orders = make_overdue(database, 6)

    def pay_all() -> None:
        for order in reversed(orders):
            pay(database, order, order.total_amount)

    paid, *_ = together(
        pay_all,
        lambda: expire_overdue(database),
        lambda: expire_overdue(database),
    )

    now = [read_order(database, order) for order in orders]
    assert paid is None
    assert [order.status for order in now] == ["paid"] * 6
    assert set(expiries(database, orders)) <= {0, 1}
    check_books(database)


def test_a_concurrent_cancellation_and_expiry_release_stock_once(database: Database) -> None:
    orders = make_overdue(database, 4)

    for order in orders:
        together(
            partial(cancel, database, order),
            partial(expire_overdue, database),
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
                return expire_overdue(database)
            finally:
                looked.set()

        assert together(hold, look) == [None, 1]
        assert read_order(database, held).status == "pending"
        assert read_order(database, other).status == "expired"
        assert expire_overdue(database) == 1
        database.dispose()
