import contextlib
from functools import partial
from uuid import UUID

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

from models.errors import (
    InvalidLines,
    NotFound,
    QuantityExceeded,
    UnknownProduct,
    VersionMismatch,
)
from models.orders.order import Order
from models.orders.order_event import OrderEvent
from models.orders.order_reading import view_order
from models.orders.order_view import OrderView
from models.storage.database import Database
from models.storage.identifiers import new_id
from models.storage.page import Page
from tests.factories import LIFECYCLE, Person, make_admin, make_buyer, make_order, make_product
from tests.models.actions import archive_product, cancel, deliver, pay, refund, ship, update
from tests.models.books import check_books, everything
from tests.models.reading import read_events, read_order, read_product
from tests.models.together import together

pytestmark = pytest.mark.mission("M16")

ADDRESS = {"name": "Alice", "line1": "Hauptstr. 1", "city": "Ulm", "country": "DE"}


def test_users_see_their_own_orders_and_administrators_all(database: Database) -> None:
    alice, bob, admin = make_buyer(database), make_buyer(database), make_admin(database)
    order = make_order(database, buyer=alice)

    def view(actor: Person, order_id: UUID) -> OrderView:
        read = partial(view_order, actor=actor, order_id=order_id)
        return database.read(read)

    def change(actor: Person, order_id: UUID) -> Order:
        read = partial(Order.lock_visible, actor=actor, order_id=order_id)
        return database.transact(read, write=True)

    for read in (view, change):
        for actor in (alice, admin):
            assert [line.quantity for line in read(actor, order.id).lines] == [3]
        for actor, order_id in ((bob, order.id), (admin, new_id())):
            with pytest.raises(NotFound):
                read(actor, order_id)


def test_another_users_order_costs_the_same_as_a_missing_one(database: Database) -> None:
    alice, bob = make_buyer(database), make_buyer(database)
    order = make_order(database, buyer=alice)

    def statements(actor: Person, order_id: UUID) -> int:
        sent: list[str] = []

        def read(session: Session) -> None:
            connection = session.connection()
            event.listen(connection, "before_cursor_execute", lambda *call: sent.append(call[2]))
            with contextlib.suppress(NotFound):
                view_order(connection, actor, order_id)

        database.transact(read)
        return len(sent)

    assert statements(bob, order.id) == statements(bob, new_id()) == 1
    assert statements(alice, order.id) == 2


def test_details_can_be_changed_before_shipping(database: Database) -> None:
    order = make_order(database, note="First", metadata={"a": "1"})

    update(database, order, shipping_address=ADDRESS)
    first = read_order(database, order)
    update(database, order, note=None, metadata={})
    second = read_order(database, order)

    assert (first.note, first.shipping_address, first.labels) == ("First", ADDRESS, {"a": "1"})
    assert (second.note, second.shipping_address, second.labels) == (None, ADDRESS, {})
    assert [event.action for event in read_events(database, order)] == ["create"] + ["update"] * 2


def test_one_of_updates_to_one_version_succeeds(database: Database) -> None:
    alice = make_buyer(database)
    order = make_order(database, buyer=alice)

    def note(text: str) -> None:
        def work(session: Session) -> None:
            found = Order.lock_visible(session, alice, order.id)
            found.require_version(frozenset({1}))
            found.update(session, LIFECYCLE, {"note": text}, by=alice)

        database.transact(work, write=True)

    results = together(*(lambda text=text: note(text) for text in "ABCDEF"))

    assert (
        sorted(type(result).__name__ for result in results)
        == ["NoneType"] + ["VersionMismatch"] * 5
    )
    assert read_order(database, order).version == 2
    check_books(database)


def test_a_change_requires_a_known_version(database: Database) -> None:
    order = make_order(database)

    order.require_version(None)
    order.require_version(frozenset({1, 7}))
    for versions in (frozenset({2}), frozenset[int]()):
        with pytest.raises(VersionMismatch):
            order.require_version(versions)


def test_an_order_is_shipped_in_parts(database: Database) -> None:
    shirt, mug = make_product(database), make_product(database)
    order = make_order(database, status="paid", lines=[(shirt, 3), (mug, 2)])

    steps = [
        ship(database, order, [(shirt, 1)]),
        ship(database, order, [(mug, 2), (shirt, 1)]),
        ship(database, order),
    ]

    assert [step.status for step in steps] == ["partially_shipped"] * 2 + ["shipped"]
    assert [[line.shipped for line in step.lines] for step in steps] == [[1, 0], [2, 2], [3, 2]]
    assert read_product(database, shirt).stock == (7, 0, 7)
    assert read_product(database, mug).stock == (8, 0, 8)
    shipments = [event for event in read_events(database, order) if event.action == "ship"]
    assert [event.lines for event in shipments] == [
        [{"product_id": shirt.id, "quantity": 1}],
        [{"product_id": mug.id, "quantity": 2}, {"product_id": shirt.id, "quantity": 1}],
        [{"product_id": shirt.id, "quantity": 1}],
    ]
    assert {(event.carrier, event.tracking_number) for event in shipments} == {("DHL", "JD0146")}
    check_books(database)


def test_no_more_than_the_rest_is_shipped(database: Database) -> None:
    shirt, mug = make_product(database), make_product(database)
    order = make_order(database, status="partially_shipped", lines=[(shirt, 3), (mug, 2)])
    before = everything(database)

    with pytest.raises(QuantityExceeded) as refused:
        ship(database, order, [(mug, 2), (shirt, 3)])

    assert refused.value.violations == {"/lines/1/quantity": "must be at most 2"}
    assert everything(database) == before


def test_a_shipment_names_each_product_once(database: Database) -> None:
    shirt, other = make_product(database), make_product(database)
    order = make_order(database, status="paid", lines=[(shirt, 3)])
    before = everything(database)

    with pytest.raises(UnknownProduct) as unknown:
        ship(database, order, [(shirt, 1), (other, 1)])
    with pytest.raises(InvalidLines) as repeated:
        ship(database, order, [(shirt, 1), (shirt, 1)])

    assert list(unknown.value.violations) == ["/lines/1/product_id"]
    assert list(repeated.value.violations) == ["/lines/1/product_id"]
    assert everything(database) == before


def test_archived_products_are_still_shipped_and_released(database: Database) -> None:
    product = make_product(database)
    paid = make_order(database, status="paid", lines=[(product, 2)])
    pending = make_order(database, lines=[(product, 3)])
    archive_product(database, product)

    ship(database, paid)
    cancel(database, pending)

    assert read_product(database, product).stock == (8, 0, 8)
    check_books(database)


def test_the_timeline_is_complete_and_paged(database: Database) -> None:
    alice, product = make_buyer(database), make_product(database, price=100)
    order = make_order(database, buyer=alice, lines=[(product, 3)])
    pay(database, order, 100, method="cash", reference="till 1")
    pay(database, order)
    ship(database, order)
    deliver(database, order)
    refund(database, order, 50, restock=[(product, 1)], reason="A stain.")

    def page(after: list[int] | None) -> Page[OrderEvent]:
        return database.transact(
            lambda s: OrderEvent.page(s, order.id, after=after, limit=4), write=False
        )

    first, second = page(None), page([4])
    events = [*first.items, *second.items]

    assert (first.next_key, second.next_key) == ([4], None)
    assert [(event.number, event.action, event.status) for event in events] == [
        (1, "create", "pending"),
        (2, "pay", "pending"),
        (3, "pay", "paid"),
        (4, "ship", "shipped"),
        (5, "deliver", "delivered"),
        (6, "refund", "delivered"),
    ]
    admin = make_admin(database).user_id
    assert [event.actor_id for event in events] == [alice.user_id] + [admin] * 5
    assert [event.money for event in events] == [None, 100, 200, None, None, 50]
    assert [event.amount and event.amount.currency for event in events] == [
        *(None, "EUR", "EUR"),
        *(None, None, "EUR"),
    ]
    assert (events[1].method, events[1].reference) == ("cash", "till 1")
    assert events[5].reason == "A stain."
    assert events[5].lines == [{"product_id": product.id, "quantity": 1}]
