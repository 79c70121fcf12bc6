"""Orders are found by what a customer can read out, and followed by their changes (MISSION M30)."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import product as combinations
from pathlib import Path
from threading import Event
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.orm import Session

from models.orders.order import Order
from models.orders.order_list import OrderFilter
from models.storage.base import utcnow
from models.storage.database import Database
from models.storage.filtering import FEW
from tests.databases import make_database_url
from tests.factories import LIFECYCLE, Person, make_admin, make_buyer, make_order, make_product
from tests.models.actions import cancel
from tests.models.reading import read_events, read_orders

pytestmark = pytest.mark.mission("M30")

MINUTE = timedelta(minutes=1)


def found(database: Database, by: Person, question: str, **filters: object) -> list[UUID]:
    wanted = OrderFilter(question=question, **filters)  # type: ignore[arg-type]  # which is what the tests give
    return [order.id for order in read_orders(database, by=by, wanted=wanted).items]


@pytest.mark.parametrize("few", [-1, FEW])
def test_an_order_is_found_by_id_reference_and_tracking_number(
    database: Database, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr("models.storage.filtering.FEW", few)
    alice, bob = make_buyer(database), make_buyer(database)
    order = make_order(database, status="shipped", buyer=alice)
    make_order(database, status="shipped", buyer=alice)
    events = read_events(database, order)
    (reference,) = (event.reference for event in events if event.reference)
    (tracking,) = {event.tracking_number for event in events if event.tracking_number}
    names = [str(order.id), str(order.id).upper()[:-2], order.id.hex, reference]
    for name, by in combinations(names, (make_admin(database), alice, bob)):
        assert found(database, by, name) == ([] if by is bob else [order.id])
    assert order.id in found(database, alice, tracking)
    assert found(database, alice, names[0], statuses=["pending"]) == []
    assert found(database, alice, names[0], statuses=["shipped"]) == [order.id]
    assert found(database, alice, f"{reference}x") == found(database, alice, "%") == []
    assert len(found(database, alice, str(order.id)[:3])) == 2


def update_copy(database: Database, copy: dict[UUID, int], since: datetime | None = None) -> None:
    """Make one pass over the orders that changed, and note their versions."""
    after: list[Any] | None = None
    shown: list[tuple[UUID, int]] = []
    by, wanted = make_admin(database), OrderFilter(updated_from=since)
    while True:
        page = read_orders(database, by=by, wanted=wanted, sort="updated_at", after=after, limit=3)
        shown += [(order.id, order.version) for order in page.items]
        after = page.next_key
        if after is None:
            break
    assert len(shown) == len(set(shown))
    for order_id, version in shown:
        copy[order_id] = max(version, copy.get(order_id, 0))


def test_a_copy_follows_orders_that_change_meanwhile(database: Database) -> None:
    product, buyer, admin = (
        make_product(database, stock=100),
        make_buyer(database),
        make_admin(database),
    )
    orders = [make_order(database, buyer=buyer, lines=[(product, 1)]) for _ in range(12)]
    copy: dict[UUID, int] = {}

    def change(order: Order) -> None:
        cancel(database, order)
        make_order(database, buyer=buyer, lines=[(product, 1)])

    with ThreadPoolExecutor(3) as pool:
        changes = [pool.submit(change, order) for order in orders]
        started = utcnow()
        update_copy(database, copy)
        while not all(each.done() for each in changes):
            since, started = started - MINUTE, utcnow()
            update_copy(database, copy, since)
        for each in changes:
            each.result()
    update_copy(database, copy, started - MINUTE)

    everything = read_orders(database, by=admin).items
    assert copy == {order.id: order.version for order in everything}
    assert len(copy) == 24


# SQLite has one writer at a time, so no change is visible before an earlier one.
@pytest.mark.postgresql
@pytest.mark.timeout(60)
def test_a_copy_has_changes_that_are_committed_late(tmp_path: Path) -> None:
    with make_database_url("postgresql", tmp_path) as url:
        database = Database(url)
        late, soon, admin = make_order(database), make_order(database), make_admin(database)
        is_changed, is_read = Event(), Event()
        copy: dict[UUID, int] = {}

        def cancel_slowly(session: Session) -> None:
            order = Order.lock_visible(session, admin, late.id)
            order.cancel(session, LIFECYCLE, by=admin)
            session.flush()
            is_changed.set()
            is_read.wait(20)

        with ThreadPoolExecutor(1) as pool:
            slowly = pool.submit(database.transact, cancel_slowly, write=True)
            assert is_changed.wait(20)
            newest = cancel(database, soon).updated_at
            started = utcnow()
            update_copy(database, copy)
            is_read.set()
            slowly.result()

        assert copy == {late.id: 1, soon.id: 2}
        # Whoever goes on from the newest change never sees the one that was committed after it.
        update_copy(database, copy, newest)
        assert copy == {late.id: 1, soon.id: 2}
        update_copy(database, copy, started - MINUTE)
        assert copy == {late.id: 2, soon.id: 2}
        database.dispose()


def test_orders_are_listed_from_the_time_of_their_last_change(database: Database) -> None:
    first, second = make_order(database), make_order(database)
    admin, between = make_admin(database), utcnow()
    assert read_orders(database, by=admin, wanted=OrderFilter(updated_from=between)).items == []
    cancel(database, first)
    for sort in ("updated_at", "-updated_at", "total", "created_at"):
        for statuses in (None, ["cancelled"]):
            wanted = OrderFilter(statuses, updated_from=between)
            page = read_orders(database, by=admin, wanted=wanted, sort=sort)
            assert [order.id for order in page.items] == [first.id]
    newest = read_orders(database, by=admin, sort="-updated_at", limit=2).items
    assert [order.id for order in newest] == [first.id, second.id]
